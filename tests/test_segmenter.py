"""The Segmenter: sizes, batches, refusals, and what a user may get wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import Exporter
from hypothesis import given
from hypothesis import strategies as st

from isa_deploy import EngineError, InputError, Segmenter
from isa_deploy.errors import BackendUnavailableError, ManifestError
from isa_deploy.manifest import ResizeSpec
from isa_deploy.runtime.preprocess import fit_size, network_size, parse_resize, scaled_box


@pytest.fixture(scope="module")
def scene(golden: Path) -> np.ndarray:
    picture = cv2.imread(str(golden / "scene_0.png"))
    assert picture is not None
    return picture


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_folder_its_graph_and_its_manifest_open_the_same(streets_onnx: Path, scene: np.ndarray, backend: str) -> None:
    answers = []
    for path in (streets_onnx, streets_onnx / "model.onnx", streets_onnx / "model.json"):
        with Segmenter.open(path, backend=backend) as segmenter:
            assert segmenter.backend_name == backend
            answers.append(segmenter.segment(scene))
    assert all(np.array_equal(answer, answers[0]) for answer in answers)
    assert answers[0].dtype == np.uint8
    assert answers[0].shape == scene.shape[:2]


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (240, 1), (37, 53), (300, 200)])
def test_labels_have_the_frames_size_whatever_the_network_sees(streets_onnx: Path, size: tuple[int, int]) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    for resize in ("none", (64, 128), "test"):
        with Segmenter.open(streets_onnx, backend="onnxruntime", resize=resize) as segmenter:
            assert segmenter.segment(frame).shape == size


def test_a_batch_equals_its_frames_and_a_fixed_batch_is_filled_up(exported: Exporter, scene: np.ndarray) -> None:
    frames = [np.ascontiguousarray(scene[y : y + 64, :128]) for y in (0, 40, 120)]
    folder = exported("isanet_r18w16_streets", shape_nhw=(2, 64, 128), confidence=True)
    with Segmenter.open(folder, backend="onnxruntime", resize="none") as fixed:
        batch = fixed.segment_batch(frames)
        alone = [fixed.segment(frame) for frame in frames]
    for first, second in zip(batch, alone, strict=True):
        assert np.array_equal(first, second)


def test_a_view_that_is_not_contiguous_is_a_frame_too(streets_onnx: Path, scene: np.ndarray) -> None:
    with Segmenter.open(streets_onnx, backend="openvino", resize="none") as segmenter:
        mirrored = scene[:, ::-1]
        assert np.array_equal(segmenter.segment(mirrored), segmenter.segment(mirrored.copy()))


def test_an_answer_is_the_callers_own(streets_onnx: Path, scene: np.ndarray) -> None:
    """An engine that hands out its own buffer would overwrite the first answer with the second."""
    with Segmenter.open(streets_onnx, backend="openvino", resize="none") as segmenter:
        first = segmenter.segment(scene)
        kept = first.copy()
        segmenter.segment(255 - scene)
        assert np.array_equal(first, kept)


def test_a_frame_that_a_fixed_graph_cannot_take_says_what_to_do(exported: Exporter, scene: np.ndarray) -> None:
    folder = exported("isanet_r18w16_streets", shape_nhw=(2, 64, 128), confidence=True)
    with (
        Segmenter.open(folder, backend="onnxruntime") as segmenter,
        pytest.raises(InputError, match=r"takes 64x128 only, .* 256x512 .* --resize 64x128, or export without --shape"),
    ):
        segmenter.segment(scene)
    with Segmenter.open(folder, backend="onnxruntime", resize=(64, 128)) as segmenter:
        assert segmenter.segment(scene).shape == (256, 512)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.zeros((4, 4), np.uint8), r"H x W x 3, not uint8 of shape \(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\)"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
    ],
)
def test_what_is_no_frame_is_refused(streets_onnx: Path, frame: np.ndarray, message: str) -> None:
    with (
        Segmenter.open(streets_onnx, backend="onnxruntime") as segmenter,
        pytest.raises(InputError, match=message),
    ):
        segmenter.segment(frame)


def test_a_batch_of_two_sizes_is_refused(streets_onnx: Path, scene: np.ndarray) -> None:
    with (
        Segmenter.open(streets_onnx, backend="onnxruntime") as segmenter,
        pytest.raises(InputError, match="frames of one size"),
    ):
        segmenter.segment_batch([scene, scene[:100]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "tensorflow"}, "backend 'tensorflow' is none of: auto, tensorrt, openvino, onnxruntime"),
        ({"precision": "fp64"}, "precision 'fp64'"),
        ({"device": "tpu"}, "device 'tpu'"),
        ({"resize": "512"}, "resize '512' is none of"),
        ({"resize": (0, 5)}, "resize '0x5' is none of"),
        ({"backend": "openvino", "device": 0}, "openvino runs on the CPU"),
        ({"backend": "onnxruntime", "precision": "bf16"}, "graph's own type, fp32"),
    ],
)
def test_an_argument_that_makes_no_sense_is_named(streets_onnx: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Segmenter.open(streets_onnx, **options)  # type: ignore[arg-type]


def test_float16_is_never_asked_of_openvino(exported: Exporter, scene: np.ndarray) -> None:
    folder = exported("isanet_r18w16_streets", precision="fp16")
    with Segmenter.open(folder, backend="openvino") as segmenter:
        segmenter.segment(scene)
        assert segmenter.precision in ("fp32", "bf16")
        for pool in segmenter._backend._pools.values():  # type: ignore[attr-defined]
            hint = pool.compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
            assert hint in ("f32", "bf16")


def test_a_missing_path_and_a_folder_without_a_graph_say_so(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no such file or folder; export one"):
        Segmenter.open(tmp_path / "nothing.onnx")
    with pytest.raises(EngineError, match=r"holds no model\.onnx"):
        Segmenter.open(tmp_path)
    (tmp_path / "a.txt").write_bytes(b"x")
    with pytest.raises(EngineError, match=r"'\.txt' is no engine"):
        Segmenter.open(tmp_path / "a.txt")
    (tmp_path / "a.plan").write_bytes(b"x")
    with pytest.raises(ManifestError, match=r"has no manifest a\.json beside it"):
        Segmenter.open(tmp_path / "a.plan")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_graph_that_a_library_refuses_is_one_line(streets_onnx: Path, tmp_path: Path, backend: str) -> None:
    import onnx

    model = onnx.load(streets_onnx / "model.onnx")
    model.graph.node[5].op_type = "Convolve"
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(EngineError, match=r"model\.onnx") as caught:
        Segmenter.open(tmp_path, backend=backend).segment(np.zeros((8, 8, 3), np.uint8))
    assert "\n" not in str(caught.value)


def test_a_machine_without_an_engine_library_is_told_what_to_install(
    streets_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BackendUnavailableError, match=r"pip install 'isa-deploy\[cpu\]'"):
        Segmenter.open(streets_onnx)


sides = st.tuples(st.integers(1, 4000), st.integers(1, 4000))


@given(frame=sides)
def test_a_fitted_frame_touches_its_box_and_keeps_its_ratio(frame: tuple[int, int]) -> None:
    height, width = fit_size(frame, (2048, 1024))
    assert max(height, width) <= 2048
    assert min(height, width) <= 1024
    factor = min(2048 / max(frame), 1024 / min(frame))
    assert abs(height - max(frame[0] * factor, 1)) <= 0.5
    assert abs(width - max(frame[1] * factor, 1)) <= 0.5


def test_the_augmentations_sizes_are_mmsegmentations(golden_index: dict[str, object]) -> None:
    cases = [case for case in golden_index["cases"] if case["kind"] == "tta"]  # type: ignore[attr-defined, index]
    assert cases
    for case in cases:
        frame = tuple(case["inputs"][0]["size"])
        for augmentation in case["augmentations"]:
            made = fit_size(frame, scaled_box(frame, augmentation["ratio"]))
            assert list(made) == augmentation["img_shape"]


def test_resize_rules() -> None:
    spec = ResizeSpec(scale_wh=(2048, 1024), keep_ratio=True)
    assert network_size((1080, 1920), "test", spec) == (1024, 1820)
    assert network_size((1080, 1920), "none", spec) == (1080, 1920)
    assert network_size((1080, 1920), "test", None) == (1080, 1920)
    assert network_size((1080, 1920), (5, 6), spec) == (5, 6)
    stretched = ResizeSpec(scale_wh=(512, 300), keep_ratio=False)
    assert network_size((1080, 1920), "test", stretched) == (300, 512)
    assert parse_resize("512X1024") == (512, 1024)
    for text in ("", "x", "0x5", "5x", "-5x5", "99999x5", "5x5x5"):
        with pytest.raises(InputError):
            parse_resize(text)


def changed_copy(folder: Path, into: Path, **changes: Any) -> Path:
    """A copy of an artefact whose manifest, in the graph and beside it, says something else."""
    import onnx

    from isa_deploy.manifest import METADATA_KEY

    shutil.copytree(folder, into)
    record = json.loads((folder / "model.json").read_text())
    for place, value in changes.items():
        target = record
        *path, last = place.split("__")
        for key in path:
            target = target[key]
        target[last] = value
    model = onnx.load(folder / "model.onnx")
    (entry,) = [entry for entry in model.metadata_props if entry.key == METADATA_KEY]
    entry.value = json.dumps(record)
    onnx.save(model, into / "model.onnx")
    (into / "model.json").write_text(json.dumps(record))
    return into


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input__name": "picture"}, "the graph has no input 'picture', .*it has image"),
        ({"outputs__labels": "masks"}, "the graph has no output 'masks'"),
        ({"outputs__labels": "logits", "outputs__logits": "labels"}, "output 'logits' is float32 .* describes uint8"),
        ({"classes__names": ["a", "b"], "classes__palette_rgb": [[0, 0, 0], [1, 1, 1]]}, "describes .* of 2 classes"),
        ({"outputs__logits_stride": 4}, "gave logits of 2x3 where its manifest promises 4x6"),
    ],
)
def test_a_manifest_of_another_graph_is_refused(
    streets_onnx: Path, tmp_path: Path, changes: dict[str, Any], message: str, backend: str
) -> None:
    folder = changed_copy(streets_onnx, tmp_path / "changed", **changes)
    with pytest.raises(EngineError, match=message):
        Segmenter.open(folder, backend=backend, resize="none").segment(np.zeros((16, 24, 3), np.uint8))


def test_a_model_json_from_the_future_or_of_another_graph_is_refused(streets_onnx: Path, tmp_path: Path) -> None:
    for change, message in ((("format_version", 2), "upgrade isa-deploy"), (("precision", "fp16"), "another graph")):
        folder = tmp_path / str(change[1])
        shutil.copytree(streets_onnx, folder)
        record = json.loads((folder / "model.json").read_text())
        record[change[0]] = change[1]
        (folder / "model.json").write_text(json.dumps(record))
        for path in (folder, folder / "model.json"):
            with pytest.raises(ManifestError, match=message):
                Segmenter.open(path)


def test_logits_that_are_not_finite_never_become_a_mask(streets_onnx: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(streets_onnx / "model.onnx")
    (bias,) = [tensor for tensor in model.graph.initializer if tensor.name == "decode_head.conv_seg.bias"]
    values = onnx.numpy_helper.to_array(bias).copy()
    values[3] = np.nan
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    onnx.save(model, tmp_path / "model.onnx")
    with (
        Segmenter.open(tmp_path, backend="onnxruntime") as segmenter,
        pytest.raises(EngineError, match="not finite: its file is damaged"),
    ):
        segmenter.segment(np.zeros((16, 24, 3), np.uint8))


def test_a_closed_segmenter_says_so_and_closing_twice_is_harmless(streets_onnx: Path) -> None:
    for backend in ("onnxruntime", "openvino"):
        segmenter = Segmenter.open(streets_onnx, backend=backend)
        segmenter.close()
        segmenter.close()
        with pytest.raises(EngineError, match="closed"):
            segmenter.segment(np.zeros((8, 8, 3), np.uint8))


def test_a_frame_of_too_many_pixels_is_refused_before_any_allocation(streets_onnx: Path) -> None:
    with (
        Segmenter.open(streets_onnx, backend="onnxruntime", resize=(65536, 65536)) as segmenter,
        pytest.raises(InputError, match=r"comes to 65536x65536, .* use a smaller --resize"),
    ):
        segmenter.segment(np.zeros((8, 8, 3), np.uint8))

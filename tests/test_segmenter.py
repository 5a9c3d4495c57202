"""The Segmenter: sizes, batches, refusals, and what a user may get wrong."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Exporter
from hypothesis import given
from hypothesis import strategies as st

from isa_deploy import EngineError, InputError, Segmenter
from isa_deploy.errors import BackendUnavailableError
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
        ({"backend": "tensorflow"}, "backend 'tensorflow' is none of: auto, openvino, onnxruntime"),
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
        for request in segmenter._backend._requests.values():  # type: ignore[attr-defined]
            hint = request.get_compiled_model().get_property("INFERENCE_PRECISION_HINT").to_string()
            assert hint in ("f32", "bf16")


def test_a_missing_path_and_a_folder_without_a_graph_say_so(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no such file or folder; export one"):
        Segmenter.open(tmp_path / "nothing.onnx")
    with pytest.raises(EngineError, match=r"holds no model\.onnx"):
        Segmenter.open(tmp_path)
    (tmp_path / "a.plan").write_bytes(b"x")
    with pytest.raises(EngineError, match=r"'\.plan' is no engine"):
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

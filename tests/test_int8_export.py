"""An int8 export from frames to files, alone and beside other precisions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

pytest.importorskip("torch", reason="exports from torch: pip install 'isa-deploy[export]'")

from isa_deploy.cli.export import read_int8_options
from isa_deploy.errors import EngineError, ExportError, InputError, ParityError
from isa_deploy.export.activation_ranges import METHODS, TensorHistogram
from isa_deploy.export.int8_options import Int8Options
from isa_deploy.export.int8_search import Int8Choice, LayerFinding, RangeFinding
from isa_deploy.export.pipeline import calibration_journal, export
from isa_deploy.export.quantisation import convolutions
from isa_deploy.export.several import check_cost, export_several
from isa_deploy.runtime.images import read_image, write_png
from isa_deploy.runtime.segmenter import Segmenter

STREETS = Path(__file__).resolve().parents[1] / "models" / "streets"


@pytest.fixture(scope="module")
def calib(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten drawn scenes."""
    folder = tmp_path_factory.mktemp("frames")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(STREETS))
        from streetscenes.scene import draw_scene
    for seed in range(10):
        write_png(folder / f"{seed}.png", draw_scene(seed, 128, 256)[0])
    return folder


@pytest.fixture
def ckpt(golden: Path) -> Path:
    return golden / "isanet_r18w16_streets.pth"


def quick_choice(
    model: onnx.ModelProto,
    histograms: Mapping[str, TensorHistogram],
    frames_hwc: Sequence[np.ndarray[Any, Any]],
    budget: float,
    progress: Callable[[str], None],
) -> Int8Choice:
    """In the place of the search, which tries 40 graphs; test_int8_search.py has it."""
    names = convolutions(model)
    threshold_of = {name: METHODS["percentile 99.99"](each) for name, each in histograms.items()}
    ends = {names[0]: "the first", names[-1]: "the last"}
    layers = tuple(LayerFinding(name, 0.01, 0.1, 2.0, 1.0, ends.get(name, "")) for name in names)
    ranges = (RangeFinding("percentile 99.99", 0.2, 0.99, 0.002),)
    return Int8Choice("percentile 99.99", threshold_of, tuple(ends), 0.2, 0.99, budget, len(frames_hwc), ranges, layers)


@pytest.fixture
def quick(streets_onnx: Path, golden: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The traced graph from another test, one picture to prove on, and no search.  Gives the types that were traced."""
    traced: list[str] = []

    def trace(graph: object, shape_nhw: object, kind: str, opset: int | None = None) -> ir.Model:
        traced.append(kind)
        return ir.load(streets_onnx / "model.onnx")

    picture = read_image(golden / "scene_0.png")
    monkeypatch.setattr("isa_deploy.export.pipeline.trace", trace)
    monkeypatch.setattr("isa_deploy.export.proof_frames.bundled_frames", lambda: [("scene", picture)])
    monkeypatch.setattr("isa_deploy.export.int8.choose_int8", quick_choice)
    return traced


def test_an_int8_export_is_proven_and_tells_how_it_was_made(
    quick: list[str], ckpt: Path, calib: Path, golden: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    result = export(
        ckpt, tmp_path / "engine", precision="int8", int8=Int8Options(calib, frames=10), progress=said.append
    )
    assert quick == ["fp32"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["engine"]
    assert any(line.startswith("int8: 10 frames are few") for line in said)
    assert "int8: calibration, 10 of 10 frames" in said
    spec = result.manifest.quantisation
    assert spec is not None
    assert (spec.rest, spec.ranges, spec.frames, spec.layers) == ("fp32", "percentile 99.99", 10, 36)
    assert spec.kept == ("backbone/stem/0/Conv", "head/conv_seg/Conv")
    assert [(each.stage, each.gated) for each in result.report.comparisons] == [
        ("onnxruntime int8", True),
        ("openvino int8", True),
    ]
    assert all(each.label_agreement > 0.95 for each in result.report.comparisons)
    record = json.loads((tmp_path / "engine" / "report.json").read_text())
    assert record["int8"]["ranges"] == "percentile 99.99"
    assert len(record["int8"]["layers"]) == 38
    assert record["command"].endswith("--int8 --calib FRAMES --calib-frames 10")
    page = (tmp_path / "engine" / "report.html").read_text()
    assert "What became int8" in page
    assert "head/in_conv/conv/Conv" in page
    with Segmenter.open(tmp_path / "engine", backend="openvino", precision="fp32") as segmenter:
        assert segmenter.precision == "int8"
        assert segmenter.segment(read_image(golden / "scene_0.png")).shape == (256, 512)


def test_an_interrupted_calibration_goes_on_where_it_stopped(
    quick: list[str], ckpt: Path, calib: Path, tmp_path: Path
) -> None:
    def interrupt(line: str) -> None:
        if line.startswith("int8: calibration, 10 of"):
            raise KeyboardInterrupt

    options = Int8Options(calib, frames=10)
    with pytest.raises(KeyboardInterrupt):
        export(ckpt, tmp_path / "engine", precision="int8", int8=options, progress=interrupt)
    journal = calibration_journal(tmp_path / "engine")
    assert sorted(path.name for path in tmp_path.iterdir()) == [journal.name] == ["engine-calibration.npz"]
    said: list[str] = []
    export(ckpt, tmp_path / "engine", precision="int8", int8=options, progress=said.append)
    counted = [line for line in said if line.startswith("int8: calibration, ")]
    assert counted == ["int8: calibration, 10 of 10 frames"]
    assert not journal.exists()


def test_int8_without_frames_is_refused(ckpt: Path, calib: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="give both or neither"):
        export(ckpt, tmp_path / "engine", precision="int8")
    with pytest.raises(ExportError, match="give both or neither"):
        export(ckpt, tmp_path / "engine", int8=Int8Options(calib))
    with pytest.raises(InputError, match="3 calibration frames are too few"):
        export(ckpt, tmp_path / "engine", precision="int8", int8=Int8Options(calib, frames=3))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def labelled(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("labelled")
    for kind, suffix in (("images", ""), ("labels", "_gt")):
        (root / kind).mkdir()
        for number in (0, 3):
            (root / kind / f"{number}.png").symlink_to(golden / f"scene_{number}{suffix}.png")
    return root


@pytest.fixture
def quick_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isa_deploy.export.precision_timing.MAX_ROUNDS", 3)


def test_several_precisions_lie_side_by_side_and_are_compared(
    quick: list[str], quick_times: None, ckpt: Path, calib: Path, labelled: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "engine"
    options = Int8Options(calib, frames=10, max_miou_drop=2.0)
    result = export_several(ckpt, folder, ["fp32", "int8"], int8=options, truth=labelled, command="isa-export ...")
    assert sorted(path.name for path in folder.iterdir()) == ["fp32", "int8", "report.html", "report.json"]
    assert [each.manifest.precision for each in result.exports.values()] == ["fp32", "int8"]
    record = json.loads((folder / "report.json").read_text())
    assert record["kind"] == "precisions"
    assert record["command"] == "isa-export ..."
    rows = {(row.combination.candidate.name, row.combination.backend): row for row in result.comparison.rows}
    assert rows["fp32", "openvino"].agreement > 0.9999
    int8 = rows["int8", "openvino"]
    assert 0.97 < int8.agreement < 1
    assert int8.cost is not None
    assert result.comparison.truth_frames == 2
    with pytest.raises(EngineError, match=r"holds several exports \(fp32, int8\); give one of these folders"):
        Segmenter.open(folder)

    with pytest.raises(ParityError, match=r"costs .* points of mIoU on .*labelled.*, and -5 are allowed"):
        check_cost(result.comparison, result.exports["int8"], -5, labelled)
    assert sorted(path.name for path in folder.iterdir()) == ["fp32", "int8-failed", "report.html", "report.json"]
    assert sorted(path.name for path in (folder / "int8-failed").iterdir()) == ["report.html", "report.json"]


def test_a_folder_without_label_maps_is_refused_before_anything_is_exported(
    ckpt: Path, calib: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="images"):
        export_several(ckpt, tmp_path / "engine", ["fp32", "int8"], int8=Int8Options(calib), truth=calib)
    with pytest.raises(ExportError, match="two or more different ones"):
        export_several(ckpt, tmp_path / "engine", ["fp32", "fp32"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("wanted", "options", "message"),
    [
        (False, {"calib": Path("x")}, "belong to --int8"),
        (False, {"rest": "fp16"}, "belong to --int8"),
        (False, {"max_miou_drop": 0.0}, "belong to --int8"),
        (True, {}, "--int8 needs frames to calibrate with"),
        (True, {"calib": Path("x"), "rest": "bf16"}, "--rest 'bf16' is neither fp32 nor fp16"),
    ],
)
def test_int8_options_that_make_no_sense_are_refused(wanted: bool, options: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"calib": None, "frames": None, "max_miou_drop": None, "rest": None} | options
    with pytest.raises(InputError, match=message):
        read_int8_options(wanted, **given)


def test_int8_options_have_defaults() -> None:
    assert read_int8_options(False, None, None, None, None) is None
    assert read_int8_options(True, Path("x"), None, None, None) == Int8Options(Path("x"), 256, 0.5, "fp32")
    assert read_int8_options(True, Path("x"), 9, 0.0, "fp16") == Int8Options(Path("x"), 9, 0.0, "fp16")

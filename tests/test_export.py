"""isa-export as its user meets it: what it leaves, what it refuses, what it exits with."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Exporter

from isa_deploy.errors import ExportError, InputError, ParityError
from isa_deploy.export import pipeline, publishing
from isa_deploy.export.graph import Normalisation, build_graph
from isa_deploy.export.parity import StageComparison, compare_labels, judge
from isa_deploy.export.pipeline import export, make_manifest
from isa_deploy.export.precision import cast_network, fold_batch_norms
from isa_deploy.export.proof_frames import bundled_frames
from isa_deploy.models.checkpoint import build_network, read_checkpoint

COMMAND = [sys.executable, "-c", "from isa_deploy.cli.export import main; main()"]


def isa_export(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False)


def test_the_command_writes_a_proven_folder_and_says_how_to_get_a_plan(golden: Path, tmp_path: Path) -> None:
    shutil.copy(golden / "isanet_r18w16_streets.pth", tmp_path / "r18_streets.pth")
    done = isa_export("--ckpt", "r18_streets.pth", "--fp16", "--shape", "1x65x97", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "r18_streets"
    assert sorted(path.name for path in folder.iterdir()) == [
        "model.json",
        "model.onnx",
        "report.html",
        "report.json",
    ]
    assert "plan:   none, TensorRT is not installed; where TensorRT and a card are: " in done.stdout
    assert "isa-export r18_streets/model.onnx --plan" in done.stdout
    assert "of the labels equal the checkpoint's" in done.stdout
    assert json.loads((folder / "report.json").read_text())["passed"] is True
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r18_streets", "r18_streets.pth"]


@pytest.mark.parametrize(("to_rgb", "mean"), [(True, (3.0, 2.0, 1.0)), (False, (3.0, 2.0, 1.0))])
def test_the_graphs_mean_is_in_the_order_of_its_bgr_input(
    golden: Path, to_rgb: bool, mean: tuple[float, float, float]
) -> None:
    """Whatever order the network wants: swapping the channels is the graph's own affair."""
    checkpoint = read_checkpoint(golden / "isanet_r18w16_streets.pth")
    changed = dataclasses.replace(checkpoint, mean_rgb=(1.0, 2.0, 3.0), to_rgb=to_rgb)
    assert make_manifest(changed, "fp32", (None, None, None), False).input.mean == mean


@pytest.mark.parametrize("to_rgb", [True, False])
def test_a_graph_equals_mmsegmentations_preprocessing_in_either_channel_order(golden: Path, to_rgb: bool) -> None:
    checkpoint = dataclasses.replace(read_checkpoint(golden / "isanet_r18w16_streets.pth"), to_rgb=to_rgb)
    network = build_network(checkpoint)
    spec = make_manifest(checkpoint, "fp32", (None, None, None), False).input
    graph = build_graph(network, Normalisation(spec.mean, spec.std, to_rgb), "fp32", ("labels", "logits"), None)
    frame = np.random.default_rng(0).integers(0, 256, (64, 72, 3), dtype=np.uint8)
    picture = frame.astype(np.float32)
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    if to_rgb:
        picture = (picture[:, :, ::-1] - np.float32(mean)) / np.float32(std)
    else:
        picture = (picture - np.float32(mean[::-1])) / np.float32(std[::-1])
    with torch.inference_mode():
        wanted = network(torch.from_numpy(picture.transpose(2, 0, 1).copy())[None])
        made = graph(torch.from_numpy(frame)[None])[1]
    torch.testing.assert_close(made, wanted, atol=1e-3, rtol=1e-4)


def test_a_checkpoint_without_names_takes_its_data_sets(golden: Path) -> None:
    checkpoint = read_checkpoint(golden / "isanet_r18w16_streets.pth")
    nameless = dataclasses.replace(checkpoint, classes=tuple(f"class_{i}" for i in range(19)), palette=())
    classes = make_manifest(nameless, "fp32", (None, None, None), False).classes
    assert classes.names[:2] == ("road", "sidewalk")
    assert classes.palette_rgb[0] == (128, 64, 128)
    unknown = make_manifest(dataclasses.replace(nameless, dataset=None), "fp32", (None, None, None), False)
    assert unknown.classes.names[0] == "class_0"


def test_an_export_that_is_not_its_checkpoint_exits_1_and_leaves_only_the_report(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The epsilon of the batch norms wrong when they are folded: a bug that a loose gate lets through."""

    def wrong_fold(network: torch.nn.Module) -> torch.nn.Module:
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eps = 1e-2
        return fold_batch_norms(network)

    monkeypatch.setattr("isa_deploy.export.graph.fold_batch_norms", wrong_fold)
    with pytest.raises(ParityError, match=r"onnxruntime fp32 on .* see .*engine-failed.report\.html"):
        export(golden / "isanet_r18w16_streets.pth", tmp_path / "engine", shape_nhw=(1, 64, 128))
    assert [path.name for path in tmp_path.iterdir()] == ["engine-failed"]
    assert sorted(path.name for path in (tmp_path / "engine-failed").iterdir()) == ["report.html", "report.json"]
    report = json.loads((tmp_path / "engine-failed" / "report.json").read_text())
    assert report["passed"] is False


def test_a_parity_error_is_exit_code_1(golden: Path, tmp_path: Path) -> None:
    done = isa_export(
        *("--ckpt", golden / "isanet_r18w16_streets.pth", "--out", "engine", "--shape", "1x64x64"),
        *("--bf16", "--min-agreement", "1"),
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("isa-export: error: the export does not equal its checkpoint: ")
    assert not (tmp_path / "engine").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ckpt", "missing.pth"], "missing.pth"),
        (["--ckpt", "GOLDEN/img_64x128.png"], "is a PNG image, not a checkpoint"),
        (["--ckpt", "GOLDEN/tiny_r50_whole_0x.pth", "--int8"], "--int8 needs frames to calibrate with; give --calib"),
        (
            ["--ckpt", "GOLDEN/tiny_r50_whole_0x.pth", "--fp32", "--int8", "--calib", "none"],
            "none: no such file or fol",
        ),
        (["--ckpt", "GOLDEN/tiny_r50_whole_0x.pth", "--shape", "1x512"], "shape '1x512' is not BATCHxHEIGHTxWIDTH"),
        (["--ckpt", "GOLDEN/tiny_r50_whole_0x.pth", "--frames", "missing.png"], "missing.png"),
        (["--ckpt", "GOLDEN/tiny_r50_whole_0x.pth", "--out", "file/engine"], "file"),
        (["--nonsense"], "nonsense"),
    ],
)
def test_what_cannot_be_exported_exits_2_in_one_line_and_leaves_nothing(
    golden: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "file").write_text("")
    done = isa_export(*(part.replace("GOLDEN", str(golden)) for part in arguments), cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save({"meta": {}, "state_dict": Payload()}, tmp_path / "evil.pth")
    done = isa_export("--ckpt", "evil.pth", cwd=tmp_path)
    assert done.returncode == 2
    assert "system" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["evil.pth"]


def test_a_file_whose_hash_is_not_its_names_is_refused_unless_allowed(golden: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "isanet_r18_streets-01234567.pth"
    shutil.copy(golden / "isanet_r18w16_streets.pth", wrong)
    done = isa_export("--ckpt", wrong, "--shape", "1x64x64", cwd=tmp_path)
    assert done.returncode == 2
    assert "--allow-hash-mismatch" in done.stderr
    allowed = isa_export("--ckpt", wrong, "--shape", "1x64x64", "--allow-hash-mismatch", cwd=tmp_path)
    assert allowed.returncode == 0, allowed.stderr
    assert "01234567" in allowed.stdout + allowed.stderr


def test_an_interrupted_export_exits_130_and_leaves_nothing(golden: Path, tmp_path: Path) -> None:
    arguments = [*COMMAND, "--ckpt", str(golden / "tiny_r50_whole_0x.pth"), "--out", "engine"]
    process = subprocess.Popen(arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith("tracing ISANet R50-D8")
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing(golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pipeline, "save_onnx", full)
    monkeypatch.setattr(pipeline, "trace", lambda *_: None)
    with pytest.raises(InputError, match="the disk is full"):
        export(golden / "isanet_r18w16_streets.pth", tmp_path / "engine", shape_nhw=(1, 64, 64))
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_export_stays_when_a_later_one_fails(exported: Exporter, golden: Path, tmp_path: Path) -> None:
    folder = tmp_path / "engine"
    shutil.copytree(exported("isanet_r18w16_streets"), folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ParityError):
        export(
            golden / "isanet_r18w16_streets.pth",
            folder,
            precision="bf16",
            shape_nhw=(1, 64, 64),
            min_agreement=1.0,
        )
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_slide_frame_too_large_for_one_graph_is_refused_before_any_work(golden: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="without --shape, the runtime then cuts the windows"):
        export(golden / "tiny_r50_slide_0x_legacy.pth", tmp_path / "engine", shape_nhw=(1, 20000, 20000))


def test_the_bundled_frames_exercise_the_padding() -> None:
    sizes = [frame.shape[:2] for _, frame in bundled_frames()]
    assert any(height % 64 and width % 64 for height, width in sizes)
    assert len(sizes) >= 2


def comparison(**changes: object) -> StageComparison:
    fields: dict[str, object] = {
        "stage": "onnxruntime fp32",
        "precision": "fp32",
        "gated": True,
        "frame": "a.png",
        "label_agreement": 1.0,
        "iou_per_class": {},
        "logits_max_abs": 1e-5,
        "differing": 0,
        "differing_certain": 0,
        "seconds": 0.1,
    }
    return StageComparison(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_agreement": 0.9994}, "99.9400% of the labels agree"),
        ({"differing_certain": 1}, "1 labels differ where the right answer is certain"),
        ({"logits_max_abs": 2e-3}, "logits differ by 2.00e-03"),
        ({"logits_max_abs": float("nan")}, "not finite"),
        ({"gated": False}, "no stage could be run"),
    ],
)
def test_each_way_to_fail_is_told(changes: dict[str, object], message: str) -> None:
    (failure,) = judge([comparison(**changes)], 0.9995, 1e-3, 2e-3)
    assert message in failure
    assert judge([comparison()], 0.9995, 1e-3, 2e-3) == []


def test_iou_between_label_maps_is_counted_per_class() -> None:
    first = np.array([[0, 0, 1, 1]], np.uint8)
    second = np.array([[0, 1, 1, 2]], np.uint8)
    assert compare_labels(first, second, ["a", "b", "c", "d"]) == {"a": 1 / 2, "b": 1 / 3, "c": 0.0}
    assert compare_labels(first, first, ["x", "x", "y", "z"]) == {"x (0)": 1.0, "x (1)": 1.0}


def test_an_unfolded_batch_norm_is_never_cast() -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.SyncBatchNorm(4))
    with pytest.raises(ValueError, match="1 batch norms are not folded, the first is 1"):
        cast_network(fold_batch_norms(network), "fp16")
    with pytest.raises(ValueError, match="does not follow a convolution"):
        fold_batch_norms(torch.nn.Sequential(torch.nn.ReLU(), torch.nn.BatchNorm2d(4)))


def test_folding_changes_no_answer() -> None:
    torch.manual_seed(0)
    conv, norm = torch.nn.Conv2d(3, 8, 3, bias=False), torch.nn.BatchNorm2d(8)
    norm.running_mean.normal_()  # type: ignore[union-attr]
    norm.running_var.uniform_(0.1, 3)  # type: ignore[union-attr]
    norm.weight.data.normal_()
    norm.bias.data.normal_()
    network = torch.nn.Sequential(conv, norm).eval()
    picture = torch.randn(1, 3, 9, 9)
    with torch.no_grad():
        before = network(picture)
        after = fold_batch_norms(network)(picture)
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)


def test_a_new_export_appears_in_one_step_and_is_readable_by_others(tmp_path: Path) -> None:
    work = tmp_path / ".work"
    work.mkdir(mode=0o700)
    for name in ("a", "b", "unwanted"):
        (work / name).write_text(name)
    publishing.publish(work, tmp_path / "engine", ("a", "b"))
    assert sorted(path.name for path in (tmp_path / "engine").iterdir()) == ["a", "b"]
    assert (tmp_path / "engine").stat().st_mode & 0o500 == 0o500
    assert not work.exists()


def test_a_move_that_fails_brings_the_earlier_export_back(tmp_path: Path) -> None:
    work, folder = tmp_path / ".work", tmp_path / "engine"
    for place, text in ((work, "new"), (folder, "old")):
        place.mkdir()
        (place / "a").write_text(text)
    with pytest.raises(InputError, match="no such file"):
        publishing.publish(work, folder, ("a", "missing"))
    assert [path.name for path in folder.iterdir()] == ["a"]
    assert (folder / "a").read_text() == "old"


def test_files_that_the_new_ones_make_wrong_go_and_come_back_where_a_move_fails(tmp_path: Path) -> None:
    work, folder = tmp_path / ".work", tmp_path / "engine"
    for place, names in ((work, ("a",)), (folder, ("a", "model.plan", "photo"))):
        place.mkdir()
        for name in names:
            (place / name).write_text(place.name)
    with pytest.raises(InputError, match="no such file"):
        publishing.publish(work, folder, ("a", "missing"), ("model.plan",))
    assert sorted(path.name for path in folder.iterdir()) == ["a", "model.plan", "photo"]
    (work / "a").write_text("new")
    publishing.publish(work, folder, ("a",), ("model.plan", "plan-report.json"))
    assert sorted(path.name for path in folder.iterdir()) == ["a", "photo"]
    assert (folder / "a").read_text() == "new"


def test_a_failed_exports_report_goes_beside_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "engine").mkdir()
    monkeypatch.chdir(tmp_path / "engine")
    assert publishing.failed_folder(Path()) == tmp_path / "engine-failed"
    assert publishing.failed_folder(Path("../engine")).resolve() == tmp_path / "engine-failed"
    assert publishing.failed_folder(Path("other")) == Path("other-failed")


def test_an_export_again_takes_the_plan_of_the_earlier_graph_away(golden: Path, tmp_path: Path) -> None:
    for name in ("model.plan", "plan-report.html", "timing.cache", "notes.txt"):
        (tmp_path / name).write_text("of the earlier graph")
    export(golden / "isanet_r18w16_streets.pth", tmp_path, shape_nhw=(1, 64, 128))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model.json",
        "model.onnx",
        "notes.txt",
        "report.html",
        "report.json",
        "timing.cache",
    ]


def test_a_terminated_export_leaves_nothing(golden: Path, tmp_path: Path) -> None:
    arguments = [*COMMAND, "--ckpt", str(golden / "isanet_r18w16_streets.pth"), "--out", "engine"]
    process = subprocess.Popen(arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("tracing")
    process.terminate()
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == []

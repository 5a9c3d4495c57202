"""isa-export building plans, as its user meets it: what it leaves, what it says, what it exits with.

Over the stand-in (tests/standin), and over the real TensorRT-RTX where the test says so.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Exporter
from plan_commands import PLAN_FILES, Command, Environment, command_line, contents, names
from rtx_fixtures import Export, Graphs, rtx_environment
from tiny_checkpoints import save, tiny_0x

from isa_deploy.errors import BackendUnavailableError, InputError
from isa_deploy.export import plan_export
from isa_deploy.export.graph_answers import GraphAnswers, check_engines
from isa_deploy.export.plan_export import find_place
from isa_deploy.export.tensorrt import BuiltPlan, PlanOptions
from isa_deploy.manifest import EngineSpec, Manifest, read_manifest
from isa_deploy.runtime.images import read_image
from isa_deploy.runtime.segmenter import Segmenter

pytest_plugins = ("standin_fixtures", "plan_fixtures")

EXPORT_FILES = {"model.onnx", "model.json", "report.json", "report.html"}
ALL_FILES = EXPORT_FILES | PLAN_FILES | {"timing.cache"}


@pytest.fixture
def frames(golden: Path) -> tuple[str, str]:
    """One small picture to prove on."""
    return "--frames", str(golden / "img_64x128.png")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def engine_of(folder: Path) -> EngineSpec:
    spec = read_manifest(folder / "model.json").engine
    assert spec is not None
    return spec


def ranges_of(folder: Path) -> list[list[str]]:
    """The plan's profiles as NxHxW: smallest, best, largest."""
    return [
        ["x".join(map(str, shape)) for shape in (each.min_nhw, each.opt_nhw, each.max_nhw)]
        for each in engine_of(folder).profiles
    ]


def left_by(process_report: Path) -> dict[str, Any]:
    """What the stand-in of another process noted."""
    noted: dict[str, Any] = json.loads(process_report.read_text())
    return noted


# the way it is meant

WITHOUT_TORCH = """
import builtins, sys
genuine = builtins.__import__
def guarded(name, *rest, **named):
    top, who = name.split(".")[0], sys._getframe(1).f_globals.get("__name__", "")
    # the stand-in parses with onnx; what is tried here is isa_deploy
    if top in ("torch", "onnxscript", "onnx_ir") or (top == "onnx" and who.split(".")[0] == "isa_deploy"):
        raise ModuleNotFoundError(f"No module named {name!r}, asked for by {who}", name=name)
    return genuine(name, *rest, **named)
builtins.__import__ = guarded
for name in ("torch", "onnxscript", "onnx_ir"):
    sys.modules[name] = None
from isa_deploy.cli.export import main
main()
"""


def test_the_command_builds_and_proves_a_plan_beside_its_graph_without_torch_and_onnx(
    graph_folder: Path, gpu_environment: Environment, tmp_path: Path
) -> None:
    graph_before = (graph_folder / "model.onnx").read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(graph_folder), "--plan"],
        env=gpu_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert names(graph_folder) == ALL_FILES
    assert names(graph_folder.parent) == {"engine"}
    assert (graph_folder / "model.onnx").read_bytes() == graph_before

    out = done.stdout.splitlines()
    agreement = [line for line in out if "of the labels equal those of the graph in ONNX Runtime" in line]
    assert len(agreement) == 2, "one line for each of the bundled pictures"
    assert all(line.startswith("TensorRT 10.16.1.11 fp16 on street_") and ": 100.0000%" in line for line in agreement)
    assert out[-2].startswith(f"plan:   {graph_folder / 'model.plan'} (")
    assert out[-1] == f"report: {graph_folder / 'plan-report.html'}"
    err = done.stderr.splitlines()
    assert err[0] == "building with TensorRT 10.16.1.11, which can take minutes"
    assert "built 100%" in err
    assert not any("warning" in line or "error" in line for line in err), done.stderr

    spec = engine_of(graph_folder)
    assert (spec.builder, spec.builder_version, spec.compute_capability) == ("tensorrt", "10.16.1.11", "8.9")
    assert spec.onnx_sha256 == sha256(graph_folder / "model.onnx")
    assert spec.plan_sha256 == sha256(graph_folder / "model.plan")
    assert not spec.hardware_compatible
    assert not spec.version_compatible
    assert ranges_of(graph_folder) == [
        ["1x64x64", "1x256x512", "1x256x512"],
        ["1x64x64", "1x512x256", "1x512x256"],
    ]
    assert spec.layer_precisions["Half"] > 50
    assert spec.layer_precisions["UInt8"] >= 1

    report = json.loads((graph_folder / "plan-report.json").read_text())
    assert report["passed"] is True
    assert report["manifest"] == json.loads((graph_folder / "model.json").read_text())
    assert report["environment"]["tensorrt"] == "10.16.1.11"
    assert report["environment"]["torch"] == "not installed"
    assert "model.onnx --plan" in report["command"]

    noted = left_by(tmp_path / "standin.json")
    assert noted["violations"] == []
    assert noted["live_allocations"] == []
    assert noted["live_handles"] == []


def test_the_guard_of_that_test_would_see_torch_and_onnx() -> None:
    for line in ("import torch", "import isa_deploy.export.onnx"):
        script = WITHOUT_TORCH.replace("from isa_deploy.cli.export import main\nmain()", line)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert "ModuleNotFoundError" in done.stderr, line


def test_another_folder_gets_the_plan_and_the_graphs_keeps_what_it_had(
    graph_folder: Path, gpu: Any, isa: Command, frames: tuple[str, str], tmp_path: Path
) -> None:
    before = contents(graph_folder)
    out = tmp_path / "deep" / "plans"
    done = isa("export", graph_folder / "model.onnx", "--plan", "--out", out, *frames)
    assert done.code == 0, done.err
    assert names(out) == PLAN_FILES | {"timing.cache"}
    assert contents(graph_folder) == before
    with Segmenter.open(out) as segmenter:
        assert segmenter.backend_name == "tensorrt"


def test_a_graph_of_another_name_gives_its_name_to_its_plan(
    graph_folder: Path, gpu: Any, isa: Command, frames: tuple[str, str]
) -> None:
    (graph_folder / "model.onnx").rename(graph_folder / "streets.onnx")
    done = isa("export", graph_folder / "streets.onnx", *frames)  # GRAPH alone means --plan
    assert done.code == 0, done.err
    assert names(graph_folder) - EXPORT_FILES == {
        "streets.onnx",
        "streets.plan",
        "streets.json",
        "plan-report.json",
        "plan-report.html",
        "timing.cache",
    }
    assert "streets.onnx --plan" in json.loads((graph_folder / "plan-report.json").read_text())["command"]
    with Segmenter.open(graph_folder / "streets.plan") as segmenter:
        assert segmenter.backend_name == "tensorrt"


def test_a_windowed_model_gets_a_plan_of_its_window_that_is_proven(
    rtx_graph: Graphs, gpu: Any, isa: Command, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the bundled ones are not resized; they would be cut into hundreds of this model's tiny windows
    small = [("small.png", read_image(golden / "img_129x257.png"))]
    monkeypatch.setattr("isa_deploy.export.proof_frames.bundled_frames", lambda: small)
    folder = tmp_path / "slide"
    shutil.copytree(rtx_graph(Export("tiny_r50_slide_0x_legacy", shared=True)), folder)
    done = isa("export", folder, "--plan")
    assert done.code == 0, done.err
    assert ranges_of(folder) == [["1x24x24", "1x97x97", "1x97x97"]]
    assert done.out.count("of the labels equal those of the graph") == 2  # the frame, and one window of it


def test_a_fixed_graph_has_no_ranges_and_takes_none(
    exported: Exporter, gpu: Any, isa: Command, frames: tuple[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "fixed"
    shutil.copytree(exported("isanet_r18w16_streets", shape_nhw=(2, 64, 128), confidence=True), folder)
    before = contents(folder)
    done = isa("export", folder, "--plan", "--max-shape", "2x64x256", "--min-shape", "2x64x64", *frames)
    assert done.code == 2
    assert "change the width, which the export fixed to 128" in done.complaint
    assert contents(folder) == before
    done = isa("export", folder, "--plan", *frames)
    assert done.code == 0, done.err
    assert ranges_of(folder) == []
    report = json.loads((folder / "plan-report.json").read_text())
    assert report["comparisons"][0]["confidence_max_abs"] <= 0.5 / 255 + 1e-6  # of rounding to a byte


# from a checkpoint


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The smallest checkpoint there is, alone in a folder."""
    (tmp_path / "trained").mkdir()
    return save(tiny_0x(), tmp_path / "trained" / "tiny.pth")


def test_fp16_builds_the_plan_too_where_a_card_is_and_not_otherwise(
    checkpoint: Path, gpu: Any, isa: Command, frames: tuple[str, str], tmp_path: Path
) -> None:
    line = ("export", "--ckpt", checkpoint, "--fp16", "--shape", "1x64x128", "--min-agreement", "0.5", *frames)
    done = isa(*line, "--out", tmp_path / "a")
    assert done.code == 0, done.err
    assert names(tmp_path / "a") == ALL_FILES
    assert f"graph:  {tmp_path / 'a' / 'model.onnx'}" in done.out
    assert f"plan:   {tmp_path / 'a' / 'model.plan'}" in done.out

    gpu.knobs.device_count = 0
    done = isa(*line, "--out", tmp_path / "b")
    assert done.code == 0, done.err
    assert names(tmp_path / "b") == EXPORT_FILES
    (told,) = [line for line in done.out.splitlines() if line.startswith("plan:")]
    missing = "plan:   none, this machine has no NVIDIA GPU that CUDA sees; where TensorRT and a card are: "
    assert told == f"{missing}isa-export {tmp_path / 'b' / 'model.onnx'} --plan"


@pytest.mark.parametrize("options", [("--fp16", "--no-plan"), ()], ids=["--no-plan", "float32"])
def test_no_plan_is_built_that_nobody_wants(
    checkpoint: Path, gpu: Any, isa: Command, frames: tuple[str, str], tmp_path: Path, options: tuple[str, ...]
) -> None:
    line = ("export", "--ckpt", checkpoint, "--shape", "1x64x128", "--min-agreement", "0.5", *frames)
    done = isa(*line, *options, "--out", tmp_path / "a")
    assert done.code == 0, done.err
    assert names(tmp_path / "a") == EXPORT_FILES
    assert "plan:" not in done.out
    assert not gpu.calls["build_serialized_network"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--plan",), "TensorRT is not installed; pip install 'isa-deploy[tensorrt]'"),
        (("--target", "rtx"), "TensorRT-RTX is not installed; pip install 'isa-deploy[rtx]'"),
        (("--max-shape", "1x64x128"), "TensorRT is not installed"),
    ],
)
def test_a_wanted_plan_that_cannot_be_had_is_said_before_the_tracing(
    checkpoint: Path, isa: Command, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    done = isa("export", "--ckpt", checkpoint, "--fp16", "--out", tmp_path / "a", *options)  # without the stand-in
    assert done.code == 2
    assert done.complaint == done.err.strip(), "and nothing else"
    assert words in done.complaint
    assert not (tmp_path / "a").exists()


# arguments


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--no-plan",), "--no-plan with a GRAPH leaves nothing to do"),
        (("--no-plan", "--max-shape", "1x64x64"), "--no-plan and options of the plan exclude each other"),
        (("--fp16",), "--int8, --shape and --confidence belong to --ckpt"),
        (("--ckpt", "a.pth"), "give either --ckpt CHECKPOINT"),
        (("--target", "cpu"), "target 'cpu' is none of: auto, tensorrt, rtx"),
        (("--device", "4"), "device 4 is no GPU of this machine, which has 1"),
        (("--workspace", "0"), "Invalid value for '--workspace'"),
        (("--frames", "nowhere.png"), "nowhere.png"),
        (("--min-shape", "1x64x64"), "--min-shape and --opt-shape need --max-shape"),
        (("--max-shape", "64x64"), "shape '64x64' is not BATCHxHEIGHTxWIDTH"),
        (("--max-shape", "1x0x64"), "shape '1x0x64' is not"),
        (("--max-shape", "1x64x64", "--min-shape", "1x128x64"), "height 128 to 64 with 64 as the best is no range"),
        (("--max-shape", "1x64x64", "--opt-shape", "1x65x64"), "height 16 to 64 with 65 as the best is no range"),
        (("--max-shape", "1x64x64", "--max-shape", "1x64x64"), "hold the same one twice"),
        (
            ("--max-shape", "1x64x64", "--max-shape", "1x96x96", "--min-shape", "1x8x8"),
            "1 --min-shape, 0 --opt-shape and 2 --max-shape do not pair up",
        ),
        (("--max-shape", "4x64x64", "--min-shape", "2x64x64"), "the smallest batch is 2; give --min-shape 1xHxW"),
        (("--compute-capability", "8.9", "--target", "tensorrt"), "builds for the card that is there"),
        (("--compute-capability", "sm_89"), "compute capability 'sm_89' is not MAJOR.MINOR; give for example 8.9"),
        (("--compute-capability", "8"), "compute capability '8' is not"),
        (("--compute-capability", "8.99"), "compute capability '8.99' is not"),
        (("--compute-capability", ""), "compute capability '' is not"),
        (("--compute-capability", "8.7"), "has no target '8.7'; it has 7.5, 8.0, 8.6, 8.9, 12.0, 12.1"),
        (("--target", "rtx", "--hardware-compatible"), "has no --hardware-compatible"),
    ],
)
def test_wrong_arguments_end_in_one_line_before_the_build(
    graph_folder: Path, gpu: Any, isa: Command, options: tuple[str, ...], words: str
) -> None:
    before = contents(graph_folder)
    done = isa("export", graph_folder, *options)
    assert done.code == 2
    assert words in " ".join(done.err.split())
    assert "Traceback" not in done.err
    assert contents(graph_folder) == before
    assert not gpu.calls["parse"]


@pytest.mark.parametrize(
    ("options", "ranges"),
    [
        (("--max-shape", "2x64x128"), [["1x16x32", "2x64x128", "2x64x128"]]),
        (
            ("--max-shape", "4x256x512", "--opt-shape", "1x128x256", "--min-shape", "1x64x64"),
            [["1x64x64", "1x128x256", "4x256x512"]],
        ),
        (
            ("--max-shape", "1x64x128", "--max-shape", "1x128x64", "--min-shape", "1x8x8", "--min-shape", "1x9x9"),
            [["1x8x8", "1x64x128", "1x64x128"], ["1x9x9", "1x128x64", "1x128x64"]],
        ),
    ],
)
def test_ranges_are_those_that_were_asked_for(
    graph_folder: Path, gpu: Any, isa: Command, options: tuple[str, ...], ranges: list[list[str]]
) -> None:
    gpu.knobs.device_count = 0  # TensorRT-RTX builds without a card
    done = isa("export", graph_folder, "--target", "rtx", *options)
    assert done.code == 0, done.err
    assert ranges_of(graph_folder) == ranges


def test_pictures_that_no_range_holds_are_proven_at_the_best_size(graph_folder: Path, gpu: Any, isa: Command) -> None:
    done = isa("export", graph_folder, "--plan", "--max-shape", "1x96x192", "--opt-shape", "1x64x128")
    assert done.code == 0, done.err
    assert "at 64x128" in done.err
    assert done.out.count(": 100.0000% of the labels") == 2
    with Segmenter.open(graph_folder, resize="none") as segmenter:
        assert segmenter.segment(np.zeros((96, 192, 3), np.uint8)).shape == (96, 192)
        with pytest.raises(InputError, match="1x24x48 to 1x96x192"):
            segmenter.segment(np.zeros((97, 192, 3), np.uint8))


@pytest.mark.parametrize(
    ("text", "capability"), [("8.9", "8.9"), ("89", "8.9"), ("12.0", "12.0"), ("120", "12.0"), ("7.5", "7.5")]
)
def test_a_card_that_is_not_here_is_named_either_way(
    graph_folder: Path, gpu: Any, isa: Command, text: str, capability: str
) -> None:
    gpu.knobs.device_count = 0
    done = isa("export", graph_folder, "--compute-capability", text)  # which only TensorRT-RTX can
    assert done.code == 0, done.err
    assert names(graph_folder) == EXPORT_FILES | PLAN_FILES, "TensorRT-RTX has no timing cache"
    spec = engine_of(graph_folder)
    assert (spec.builder, spec.builder_version) == ("tensorrt_rtx", "1.7.1.116")
    assert spec.compute_capability == capability
    assert spec.layer_precisions == {}
    why = "this machine has no NVIDIA GPU that CUDA sees; run isa-export --plan on a machine with a card of compute"
    assert f"not run: the plan ({why} capability {capability} to have it proven)" in done.out
    report = json.loads((graph_folder / "plan-report.json").read_text())
    assert report["passed"] is None
    assert report["not_run"].startswith(why)


def test_rtx_without_a_named_card_is_for_every_card_and_is_proven_here(
    graph_folder: Path, gpu: Any, isa: Command, frames: tuple[str, str]
) -> None:
    done = isa("export", graph_folder, "--target", "rtx", *frames)
    assert done.code == 0, done.err
    assert engine_of(graph_folder).compute_capability is None
    assert "TensorRT-RTX 1.7.1.116 fp16 on img_64x128.png: 100.0000%" in done.out
    assert "every card from compute capability 8.0 on" in isa("info", graph_folder).out


def test_a_plan_for_another_card_than_this_machines_is_not_run(graph_folder: Path, gpu: Any, isa: Command) -> None:
    done = isa("export", graph_folder, "--target", "rtx", "--compute-capability", "12.0")
    assert done.code == 0, done.err
    assert (
        "this machine's card is Stand-in GPU (compute capability 8.9); run isa-export --plan on a card of" in done.out
    )
    assert not gpu.calls["deserialize_cuda_engine"]


def test_options_reach_the_manifest_and_the_builder(
    graph_folder: Path, gpu: Any, isa: Command, frames: tuple[str, str]
) -> None:
    line = ("--hardware-compatible", "--version-compatible", "--workspace", "64", "--max-shape", "1x64x128")
    done = isa("export", graph_folder, *line, *frames)
    assert done.code == 0, done.err
    spec = engine_of(graph_folder)
    assert spec.hardware_compatible
    assert spec.version_compatible
    assert spec.compute_capability == "8.9"
    header = (graph_folder / "model.plan").read_bytes()[:2000]
    assert b'"hardware_compatible": true, "version_compatible": true' in header
    command = json.loads((graph_folder / "plan-report.json").read_text())["command"]
    for option in ("--hardware-compatible", "--version-compatible", "--workspace 64", "--max-shape 1x64x128"):
        assert option in command


# the timing cache


def test_the_next_build_starts_from_what_the_last_one_measured(
    graph_folder: Path, gpu: Any, isa: Command, frames: tuple[str, str]
) -> None:
    cache = graph_folder / "timing.cache"
    assert isa("export", graph_folder, *frames).code == 0
    first = cache.read_bytes()
    assert isa("export", graph_folder, "--max-shape", "1x96x192", *frames).code == 0
    second = cache.read_bytes()
    assert len(second) > len(first), "a build of other ranges adds to the measurements"
    assert isa("export", graph_folder, "--max-shape", "1x96x192", *frames).code == 0
    assert cache.read_bytes() == second, "a build that knows everything adds nothing"


@pytest.mark.parametrize("foreign", [b"rubbish", b"", None], ids=["rubbish", "empty", "another version's"])
def test_a_foreign_timing_cache_is_a_warning_at_most_and_is_replaced(
    graph_folder: Path, gpu: Any, isa: Command, frames: tuple[str, str], foreign: bytes | None
) -> None:
    cache = graph_folder / "timing.cache"
    if foreign is None:
        gpu.knobs.tensorrt_version = "10.15.0.1"
        assert isa("export", graph_folder, *frames).code == 0
        foreign = cache.read_bytes()
        gpu.knobs.tensorrt_version = "10.16.1.11"
    cache.write_bytes(foreign)
    done = isa("export", graph_folder, *frames)
    assert done.code == 0, done.err
    warned = f"isa-export: warning: the timing cache of {len(foreign)} bytes is not of TensorRT 10.16.1.11" in done.err
    assert warned is bool(foreign)
    assert b"10.16.1.11" in cache.read_bytes()


# a plan that is not its graph


@pytest.fixture
def another_graph(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function that makes the builder build something else from now on: the classes are exchanged."""

    def spoil() -> None:
        import onnx
        from onnx import numpy_helper

        genuine = plan_export.build_plan

        def build(library: Any, content: bytes, manifest: Manifest, *rest: Any, **options: Any) -> BuiltPlan:
            model = onnx.load_from_string(content)
            classes = len(manifest.classes.names)
            changed = 0
            for each in model.graph.initializer:
                if each.dims and each.dims[0] == classes:
                    rolled = np.roll(numpy_helper.to_array(each), 1, axis=0)
                    each.CopyFrom(numpy_helper.from_array(rolled, each.name))
                    changed += 1
            assert changed
            return genuine(library, model.SerializeToString(), manifest, *rest, **options)

        monkeypatch.setattr(plan_export, "build_plan", build)

    return spoil


def test_a_plan_that_is_not_its_graph_is_not_kept_and_its_report_is(
    graph_folder: Path, gpu: Any, isa: Command, frames: tuple[str, str], another_graph: Callable[[], None]
) -> None:
    before = contents(graph_folder)
    another_graph()
    done = isa("export", graph_folder, *frames)
    assert done.code == 1
    failed = graph_folder.parent / "engine-failed"
    assert "error: the plan does not equal the graph in ONNX Runtime: " in done.complaint
    assert f"of the labels agree, 99.00% are wanted; see {failed / 'plan-report.html'}" in done.complaint
    assert "--min-agreement to accept it" in done.complaint
    assert "earlier build" not in done.complaint
    assert contents(graph_folder) == before
    assert names(graph_folder.parent) == {"engine", "engine-failed"}
    assert names(failed) == {"plan-report.json", "plan-report.html"}
    assert json.loads((failed / "plan-report.json").read_text())["passed"] is False


def test_an_earlier_plan_stays_and_is_told_and_a_good_one_removes_the_bad_report(
    graph_folder: Path,
    gpu: Any,
    isa: Command,
    frames: tuple[str, str],
    another_graph: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert isa("export", graph_folder, *frames).code == 0
    before = contents(graph_folder)
    with monkeypatch.context() as spoiled:
        genuine = plan_export.build_plan
        another_graph()
        done = isa("export", graph_folder, *frames)
        assert done.code == 1
        assert f"({graph_folder / 'model.plan'} is of an earlier build)" in done.complaint
        assert contents(graph_folder) == before
        done = isa("export", graph_folder, "--min-agreement", "0", *frames)
        assert done.code == 0, done.err
        assert contents(graph_folder)["model.plan"] != before["model.plan"]
        assert names(graph_folder.parent) == {"engine"}
        done = isa("export", graph_folder, *frames)
        assert names(graph_folder.parent) == {"engine", "engine-failed"}
        spoiled.setattr(plan_export, "build_plan", genuine)
        assert isa("export", graph_folder, *frames).code == 0
    assert names(graph_folder.parent) == {"engine"}


def test_a_new_folder_that_gets_no_plan_is_not_left_empty(
    graph_folder: Path, gpu: Any, isa: Command, frames: tuple[str, str], another_graph: Callable[[], None]
) -> None:
    another_graph()
    out = graph_folder.parent / "out"
    assert isa("export", graph_folder, "--out", out, *frames).code == 1
    assert names(graph_folder.parent) == {"engine", "out-failed"}


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_what_the_proof_needs_is_asked_for_before_the_build(
    graph_folder: Path, gpu: Any, isa: Command, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    assert list(check_engines("bf16")) == ["openvino"], "ONNX Runtime has no bfloat16 convolution on a CPU"
    for name in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    place = find_place("tensorrt", 0)
    manifest = read_manifest(graph_folder / "model.json").model_copy(update={"precision": precision})
    monkeypatch.setattr(plan_export, "read_onnx_manifest", lambda path: manifest)
    needed = {"fp16": "ONNX Runtime; pip install onnxruntime", "bf16": "OpenVINO; pip install openvino"}
    with pytest.raises(BackendUnavailableError, match=needed[precision]):
        plan_export.export_plan(graph_folder / "model.onnx", place=place, options=PlanOptions())
    assert not gpu.calls["parse"]


def test_a_bfloat16_graph_answers_in_openvino(exported: Exporter, golden: Path) -> None:
    frame_hwc = read_image(golden / "img_64x128.png")
    with GraphAnswers(exported("isanet_r18w16_streets", precision="bf16") / "model.onnx") as answers:
        assert answers.name == "the graph in OpenVINO in float32"
        assert answers.answer(frame_hwc, (64, 128)).labels_hw.shape == (64, 128)


# the real TensorRT-RTX, without a card

OPEN_IT = """
import sys
from types import SimpleNamespace
from pathlib import Path
sys.path.insert(0, sys.argv[1])  # genuine cuda-python
from isa_deploy.errors import EngineError
from isa_deploy.manifest import read_manifest
from isa_deploy.runtime.backends.cuda import load_cuda
from isa_deploy.runtime.backends.tensorrt_engine import SharedEngine
from isa_deploy.runtime.backends.tensorrt_library import load_tensorrt
load_cuda().cudaGetDeviceCount()
plan = Path(sys.argv[2])
spec = read_manifest(plan.with_suffix(".json")).engine
card = SimpleNamespace(title="no card", index=0)
data = plan.read_bytes()
for content in (data, data[: len(data) // 2], b"", b"\\0" * 100_000, b"text" * 1000):
    try:
        SharedEngine(content, plan, spec, load_tensorrt("tensorrt_rtx"), card, False)
        print("opened")
    except EngineError as error:
        print(error, flush=True)
"""


def test_the_real_rtx_builds_for_a_card_that_is_not_here_and_knows_its_plan_again(
    graph_folder: Path, rtx_folder: Path
) -> None:
    done = subprocess.run(
        command_line("export", graph_folder, "--plan", "--target", "rtx", "--compute-capability", "8.9"),
        env=rtx_environment(rtx_folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert names(graph_folder) == EXPORT_FILES | PLAN_FILES
    assert "not run: the plan (" in done.stdout
    assert "run isa-export --plan on a machine with a card of compute capability 8.9 to have it proven)" in done.stdout
    spec = engine_of(graph_folder)
    assert (spec.builder, spec.compute_capability) == ("tensorrt_rtx", "8.9")
    assert spec.builder_version.startswith("1.7.")
    assert spec.onnx_sha256 == sha256(graph_folder / "model.onnx")
    assert spec.plan_sha256 == sha256(graph_folder / "model.plan")
    assert len(spec.profiles) == 2
    assert json.loads((graph_folder / "plan-report.json").read_text())["network"]["layers"] > 100

    cuda = rtx_folder.parent / "cuda-13"
    if torch.cuda.is_available():
        pytest.skip("this machine has a card, on which the plan is simply opened: make gpu does that")
    if not cuda.is_dir():
        pytest.skip(f"the built plan is not opened: {cuda} is not there; python tests/genuine/fetch.py fetches it")
    opened = subprocess.run(
        [sys.executable, "-c", OPEN_IT, str(cuda), str(graph_folder / "model.plan")],
        env=rtx_environment(rtx_folder),
        capture_output=True,
        text=True,
        check=False,
    )
    whole, half, empty, zeros, text = opened.stdout.splitlines()
    assert "cudaError 35" in whole, opened.stderr
    assert "Serialization" not in whole, "everything but the card was right"
    for answer in (half, zeros, text):
        assert "Serialization" in answer
    for answer in (whole, half, empty, zeros, text):
        assert f"it is of tensorrt_rtx {spec.builder_version} for compute capability 8.9" in answer

"""The GPU suite's own logic, over the stand-in for TensorRT and CUDA: what runs, what is recorded, how it ends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ("standin_fixtures",)

ROOT = Path(__file__).resolve().parents[1]
SUITE = ROOT / "benchmarks" / "gpu"
sys.path.insert(0, str(ROOT / "benchmarks"))

from gpu import wheels  # noqa: E402
from gpu.flops import count_gflop, roofline_ms  # noqa: E402
from gpu.runner import run_step  # noqa: E402
from gpu.scale import SCALES  # noqa: E402
from gpu.steps import Step, load_step, steps_of  # noqa: E402
from gpu.targets import held_against  # noqa: E402
from gpu.timing import alternate, ratio, summary  # noqa: E402
from gpu.wheelhouse import install  # noqa: E402

Environment = Callable[..., dict[str, str]]
Exporter = Callable[..., Path]


@pytest.fixture(scope="session")
def graphs(exported: Exporter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained golden model as the suite's demo graphs: exporting them in every test would take a minute."""
    folder = tmp_path_factory.mktemp("graphs")
    shutil.copytree(exported("isanet_r18w16_streets"), folder / "demo-fp32")
    shutil.copytree(exported("isanet_r18w16_streets", precision="fp16"), folder / "demo-fp16")
    return folder


def suite(environment: dict[str, str], out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in its quick scale, without wheels."""
    command = [sys.executable, str(SUITE), "--quick", "--out", str(out), "--wheels", str(out / "none"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def result(out: Path) -> dict[str, Any]:
    """The one result that the command wrote."""
    (path,) = out.glob("*.json")
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_a_run_writes_one_file_named_by_the_device_in_which_all_that_could_run_passed(
    gpu_environment: Environment, graphs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = suite(gpu_environment(device_name="NVIDIA H200 SXM/5"), out, "--models", str(graphs))
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in out.iterdir()] == ["gpu-nvidia-h200-sxm-5-quick.json"]
    record = result(out)
    assert (record["format_version"], record["device"], record["scale"]) == (1, "NVIDIA H200 SXM/5", "quick")
    steps = record["steps"]
    assert list(steps) == [step.name for step in steps_of(SCALES["quick"])]
    not_run = {name: step["reason"] for name, step in steps.items() if step["status"] != "passed"}
    assert set(not_run) == {"native demo-fp16", "onnxruntime_cuda demo-fp16", "torch_compile demo-fp16"}
    assert "TENSORRT_INCLUDE_DIR and TENSORRT_LIB_DIR must be set" in not_run["native demo-fp16"]
    assert all(steps[name]["status"] == "not run" for name in not_run)
    assert "CUDA provider" in not_run["onnxruntime_cuda demo-fp16"]
    assert "sees no GPU" in not_run["torch_compile demo-fp16"]

    figures = {name: step["figures"] for name, step in steps.items()}
    assert figures["environment"]["device"]["compute_capability"] == "8.9"
    assert figures["plan demo-fp16"]["tensorrt"]["label_agreement"] > 0.99
    assert figures["plan demo-fp16"]["tensorrt_rtx"]["label_agreement"] > 0.99
    assert figures["parity demo-fp16"]["agreement_percent"] > 99.5
    assert abs(figures["parity demo-fp16"]["miou_difference"]) < 0.1
    assert figures["graphs demo-fp16"] == {"captured": True, "warning": None, "bare_engine_captured": True}
    assert figures["device_frames demo-fp16"]["agreement"] == {"packed": 1, "pitched": 1}
    assert set(figures["rates demo-fp16"]["left_out"]) == {"onnxruntime cuda", "torch"}
    assert figures["rates demo-fp16"]["agreement_percent"] == {"with": "plan", "plan": 100, "plan, frame buffer": 100}
    for way in ("plain_frames", "frame_buffers"):
        assert figures["video demo-fp16"][way]["frames_per_s"] > 0
        assert figures["video demo-fp16"][way]["host_cpu_ms"] > 0
    taken = figures["memory demo-fp16"]["taken_mib"]
    assert taken["fourth_frame"] == taken["after_all_frames"] > taken["closed"]
    assert any(row["measured"] is not None and row["met"] is not None for row in record["targets"])


def test_without_a_gpu_it_ends_with_2_and_one_line_and_writes_nothing(
    gpu_environment: Environment, tmp_path: Path
) -> None:
    done = suite(gpu_environment(device_count=0), tmp_path / "out")
    assert done.returncode == 2
    (line,) = (done.stdout + done.stderr).splitlines()
    assert line.startswith("make gpu: no GPU here: ")
    assert not list((tmp_path / "out").iterdir())


def test_a_step_that_fails_is_recorded_with_its_error_and_the_rest_goes_on(
    gpu_environment: Environment, graphs: Path, tmp_path: Path
) -> None:
    only = ("--only", "export_model", "plan", "graphs")
    done = suite(gpu_environment(refuse_op="Conv"), tmp_path / "out", "--models", str(graphs), *only)
    assert done.returncode == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["gpu-stand-in-gpu-quick-partial.json"]
    steps = result(tmp_path / "out")["steps"]
    assert steps["plan demo-fp16"]["status"] == "failed"
    assert "ExportError" in steps["plan demo-fp16"]["reason"]
    assert "Conv" in steps["plan demo-fp16"]["reason"]
    assert steps["graphs demo-fp16"]["status"] == "not run"
    assert "no plan of demo-fp16" in steps["graphs demo-fp16"]["reason"]
    assert steps["video demo-fp16"]["reason"] == "left out by --only"
    assert "failed       plan demo-fp16" in done.stdout


def test_where_no_plan_can_be_had_the_other_ways_are_measured_all_the_same(
    gpu_environment: Environment, tmp_path: Path
) -> None:
    """Here there are no other ways either, which is said for each."""
    outcome = run_step(Step("rates", "demo-fp16", 60), "quick", tmp_path, gpu_environment(), 60)
    assert outcome.status == "not run"
    assert outcome.reason is not None
    for words in ("no plan of demo-fp16", "no graph of demo-fp16", "sees no GPU"):
        assert words in outcome.reason


def test_an_engine_that_refuses_to_be_captured_is_recorded_with_the_warning(
    gpu_environment: Environment, graphs: Path, tmp_path: Path
) -> None:
    shutil.copytree(graphs, tmp_path / "models")
    environment = gpu_environment(refuse_capture=True)
    for module in ("export_model", "plan", "graphs"):
        outcome = run_step(Step(module, "demo-fp16", 60), "quick", tmp_path, environment, 60)
        assert outcome.status == "passed", outcome
    assert outcome.figures["captured"] is False
    assert "CUDA graph" in outcome.figures["warning"]


def test_a_library_that_does_not_list_the_card_and_refuses_it_fails_nothing(
    gpu_environment: Environment, graphs: Path, tmp_path: Path
) -> None:
    shutil.copytree(graphs, tmp_path / "models")
    environment = gpu_environment(compute_capability="9.0", refuse_op="Conv")
    environment["PYTHONPATH"] = os.pathsep.join([str(_without_tensorrt(tmp_path)), environment["PYTHONPATH"]])
    run_step(Step("export_model", "demo-fp16", 60), "quick", tmp_path, environment, 60)
    outcome = run_step(Step("plan", "demo-fp16", 60), "quick", tmp_path, environment, 60)
    assert outcome.status == "not run", outcome
    assert outcome.reason is not None
    assert "lists no compute capability 9.0" in outcome.reason
    assert "Conv" in outcome.reason


def _without_tensorrt(tmp_path: Path) -> Path:
    """A folder before the stand-in's in which ``tensorrt`` cannot be loaded; the RTX one can."""
    package = tmp_path / "path" / "tensorrt"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('not for this test')\n")
    return package.parent


def test_steps_that_the_deadline_does_not_reach_are_recorded_so(
    gpu_environment: Environment, graphs: Path, tmp_path: Path
) -> None:
    started = time.monotonic()
    done = suite(gpu_environment(), tmp_path / "out", "--models", str(graphs), "--deadline", "6")
    assert time.monotonic() - started < 6 + 10  # ending processes and writing takes the rest
    assert done.returncode == 1
    steps = result(tmp_path / "out")["steps"]
    assert list(steps) == [step.name for step in steps_of(SCALES["quick"])]
    assert steps["torch_compile demo-fp16"] == {
        "status": "not reached",
        "reason": "the suite's time ended before it",
        "seconds": 0.0,
        "figures": {},
    }


def test_a_step_over_its_own_budget_fails(gpu_environment: Environment, tmp_path: Path) -> None:
    outcome = run_step(Step("environment", "", 0.05), "quick", tmp_path, gpu_environment(), 60)
    assert (outcome.status, outcome.reason) == ("failed", "took longer than its 0.05 s")


def test_a_step_that_dies_without_a_word_is_recorded_with_how_it_ended(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os\nos.abort()\n")
    outcome = run_step(Step("environment", "", 30), "quick", tmp_path, {"PYTHONPATH": str(tmp_path)}, 60)
    assert outcome.status == "failed"
    assert outcome.reason is not None
    assert "SIGABRT" in outcome.reason


@pytest.mark.parametrize("module", ["export_model", "plan", "parity", "rates", "video"])
def test_a_step_whose_package_is_missing_is_not_run_and_says_which(
    gpu_environment: Environment, tmp_path: Path, module: str
) -> None:
    (tmp_path / "pydantic.py").write_text("raise ModuleNotFoundError('gone', name='pydantic')\n")
    environment = gpu_environment()
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environment["PYTHONPATH"]])
    outcome = run_step(Step(module, "demo-fp16", 60), "quick", tmp_path, environment, 60)
    assert (outcome.status, outcome.reason) == ("not run", "needs the package pydantic, which is not installed here")


def test_every_step_of_every_scale_has_a_module() -> None:
    sys.path.insert(0, str(ROOT / "models" / "streets"))
    for scale in SCALES.values():
        for step in steps_of(scale):
            assert callable(load_step(step.module).run)


def h200_steps() -> dict[str, Any]:
    """Figures as the steps record them."""
    ways = {"plan": {"median_ms": 6.1, "p99_ms": 7.0}}
    video = {"share_of_engine": 0.96, "host_cpu_ms": 0.3}
    return {
        "rates r50-fp16": {"figures": {"ways": ways, "times_the_plan": {"onnxruntime cuda": 1.4, "torch": 2}}},
        "torch_compile r50-fp16": {"figures": {"times_the_plan": {"compiled": 0.9}}},
        "video r50-fp16": {"figures": {"plain_frames": video}},
        "parity demo-fp16": {"figures": {"agreement_percent": 99.79, "miou_difference": -0.05}},
    }


def test_targets_are_met_missed_or_unknown() -> None:
    rows = {row["what"]: row["met"] for row in held_against(h200_steps(), "NVIDIA H200", "r50-fp16")}
    assert rows == {
        "r50-fp16: host to host, ms, H200": True,
        "r50-fp16: onnxruntime cuda, times the plan's time": True,
        "r50-fp16: compiled, times the plan's time": False,
        "r101-fp16: host to host, ms, H200": None,
        "video, plain frames: share of the engine's rate, H200": True,
        "video, plain frames: host CPU ms a frame, H200": False,
        "video, frame buffers: share of the engine's rate, H200": None,
        "video, frame buffers: host CPU ms a frame, H200": None,
        "float16 plan: labels as in float32, percent": False,
        "float16 plan: mIoU apart from float32, points": True,
    }


def test_speed_targets_of_an_h200_judge_no_other_card() -> None:
    rows = held_against(h200_steps(), "NVIDIA L4", "r50-fp16")
    assert all(row["met"] is None for row in rows if row["what"].endswith("H200"))
    assert any(row["met"] is not None for row in rows)


def test_times_are_taken_in_turn_and_told_as_median_and_99th_percentile() -> None:
    calls: list[str] = []
    times = alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2, warm_up=1)
    assert calls == ["a", "b", "a", "b", "a", "b"]
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 2, "b": 2}
    assert summary([number / 1e3 for number in range(1, 102)]) == {"median_ms": 51.0, "p99_ms": 100.0}
    assert ratio({"a": [2.0, 9.0, 4.0], "b": [1.0, 1.0, 2.0]}, "a", "b") == 2


def test_the_operations_of_an_r50_are_those_that_the_roofline_was_drawn_with() -> None:
    gflop = count_gflop(50, (512, 1024))
    assert gflop == pytest.approx(599.5, abs=0.1)
    assert roofline_ms(gflop, "NVIDIA H200") == pytest.approx(0.76, abs=0.005)
    assert roofline_ms(gflop, "NVIDIA L4") is None


def write_wheel(folder: Path, name: str, tag: str) -> Path:
    """A wheel with one module of 5000 bytes."""
    path = folder / f"{name}-1.0-{tag}.whl"
    information = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", "HERE = True\n" + "#" * 5000)
        wheel.writestr(f"{information}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{information}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        wheel.writestr(f"{information}/RECORD", "")
    return path


def test_wheels_that_were_split_for_transport_are_joined_and_installed(tmp_path: Path) -> None:
    folder = tmp_path / "wheels"
    folder.mkdir()
    whole = write_wheel(folder, "isa_probe", "py3-none-any").read_bytes()
    wheels.split(folder, 500)  # more than ten parts: their order is that of their numbers
    assert not list(folder.glob("*.whl"))
    assert len(list(folder.glob("*.part*"))) == -(-len(whole) // 500) > 10
    paths, told = install(folder, tmp_path / "work")
    assert told == {"isa_probe-1.0-py3-none-any.whl": "installed"}
    assert (paths[0] / "isa_probe.py").is_file()


def test_a_wheel_for_another_python_costs_the_others_nothing(tmp_path: Path) -> None:
    write_wheel(tmp_path, "isa_probe", "py3-none-any")
    write_wheel(tmp_path, "isa_other", "cp27-cp27m-win32")
    paths, told = install(tmp_path, tmp_path / "work")
    assert told["isa_probe-1.0-py3-none-any.whl"] == "installed"
    assert "not a supported wheel" in told["isa_other-1.0-cp27-cp27m-win32.whl"]
    assert [path for path in paths if (path / "isa_probe.py").is_file()]


def test_a_folder_without_wheels_installs_nothing(tmp_path: Path) -> None:
    assert install(tmp_path, tmp_path / "work") == ([], {})

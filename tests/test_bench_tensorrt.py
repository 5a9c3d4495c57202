"""isa-bench with a plan, over the stand-in: what a GPU tells is told, and what it does not is not made up."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from isa_deploy.bench import frame_split
from isa_deploy.bench.timed_calls import TimedSegmenter
from isa_deploy.runtime.backends.base import DeviceTimes

if TYPE_CHECKING:
    from tensorrt_plans import Open, Plans, UInt8

pytest.importorskip("av", reason="needs PyAV: pip install 'isa-deploy[video]'")
pytest_plugins = ("standin_fixtures", "tensorrt_plans")

Environment = Callable[..., dict[str, str]]


def bench(environment: dict[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    start = [sys.executable, "-c", "from isa_deploy.cli.bench import main; main()"]
    line = [*start, *map(str, arguments)]
    return subprocess.run(line, env=environment, capture_output=True, text=True, check=False)


def test_a_plan_beside_its_graph_in_onnx_runtime(
    gpu_environment: Environment, plan: Plans, graph: Plans, tmp_path: Path
) -> None:
    folder = tmp_path / "engine"
    folder.mkdir()
    for file in (plan("streets"), plan("streets").with_suffix(".json"), graph("streets") / "model.onnx"):
        shutil.copy(file, folder)
    engine = folder / "model.plan"
    out = tmp_path / "record.json"
    arguments = ["--compare", "onnxruntime", "--shape", "64x96", "--rounds", "2", "--out", out]
    done = bench(gpu_environment(upload_ms=3.0, execute_ms=5.0, download_ms=2.0), engine, *arguments)
    assert done.returncode == 0, done.stderr
    (shape,) = json.loads(out.read_text())["shapes"]
    on_gpu, on_cpu = shape["results"]
    assert (on_gpu["facts"]["library"], on_cpu["facts"]["library"]) == ("tensorrt", "onnxruntime")
    assert on_gpu["peak_share"] is None
    assert on_cpu["peak_share"] > 0
    assert on_gpu["gflop_per_s"] > 0
    stages = {stage["name"]: stage for stage in shape["split"]["stages"]}
    assert [stages[name]["ms"] for name in ("upload", "engine", "download")] == [3, 5, 2]
    assert list(stages).index("upload") < list(stages).index("engine") < list(stages).index("download")
    assert stages["host"]["ms"] >= 0
    assert stages["labels"]["how"] == "none: in the graph"
    assert "not separable" not in done.stdout
    assert "its peak is not measured" in done.stdout


def test_a_plan_alone_has_no_operations_to_count_and_nothing_to_compare(
    gpu_environment: Environment, plan: Plans, tmp_path: Path
) -> None:
    for file in (plan("streets"), plan("streets").with_suffix(".json")):
        shutil.copy(file, tmp_path)
    engine = tmp_path / "model.plan"
    done = bench(gpu_environment(), engine, "--shape", "64x96", "--rounds", "1", "--schedule", "throughput")
    assert done.returncode == 0, done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("64x96 "))
    assert "unknown" in row
    assert "GFLOP unknown: the plan's graph" in done.stdout
    refused = bench(gpu_environment(), engine, "--compare", "openvino")
    assert refused.returncode == 2
    assert "runs the graph, which is not beside the plan" in refused.stderr


def test_what_the_device_leaves_of_a_calls_time_is_the_hosts(
    gpu: Any, opened: Open, frames: list[UInt8], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu.knobs.upload_ms, gpu.knobs.execute_ms, gpu.knobs.download_ms = 0.003, 0.005, 0.002
    monkeypatch.setattr(frame_split, "_median_ms", lambda call, items: 20.0)
    split = frame_split.split_frame(opened(resize=(64, 96)), (64, 96), None)
    stages = {stage.name: stage.ms for stage in split.stages}
    assert stages["host"] == pytest.approx(20.0 - 0.010)


def test_a_frame_in_windows_takes_the_time_of_all_its_calls(gpu: Any, opened: Open, golden: Path) -> None:
    segmenter = opened("slide")
    gpu.knobs.upload_ms, gpu.knobs.execute_ms, gpu.knobs.download_ms = 3, 5, 2
    frame = np.asarray(cv2.imread(str(golden / "img_129x257.png")), np.uint8)
    wanted = segmenter.segment(frame)
    timed = TimedSegmenter(segmenter, segmenter._backend)
    for _ in range(2):  # the times of one frame are not the next one's
        answers: list[UInt8] = []
        times = timed.times(lambda watched, answers=answers: answers.append(watched.segment(frame)))
        assert times == DeviceTimes(
            upload_ms=4 * 3, compute_ms=4 * 5, download_ms=4 * 2
        )  # eight windows in batches of two
        assert np.array_equal(answers[0], wanted)


def test_a_size_that_the_plan_was_not_built_for_is_one_line(gpu_environment: Environment, plan: Plans) -> None:
    done = bench(gpu_environment(), plan("streets"), "--shape", "1000x1000", "--rounds", "1")
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert "1000x1000" in line

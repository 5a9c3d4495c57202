"""isa-infer with a plan, over the stand-in, each run in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import cv2
import pytest

from isa_deploy.runtime.video import VideoReader
from isa_deploy.runtime.video_writer import VideoWriter

if TYPE_CHECKING:
    from tensorrt_plans import Plans, UInt8

pytest.importorskip("av", reason="needs PyAV: pip install 'isa-deploy[video]'")
pytest_plugins = ("standin_fixtures", "tensorrt_plans")

Environment = Callable[..., dict[str, str]]


def command(engine: Path, *arguments: str | Path) -> list[str]:
    start = [sys.executable, "-c", "from isa_deploy.cli.infer import main; main()", "--engine", str(engine)]
    return [*start, "--resize", "none", *map(str, arguments)]


def run(command_line: list[str], environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command_line, env=environment, capture_output=True, text=True, timeout=120, check=False)


def left_behind(tmp_path: Path) -> dict[str, Any]:
    """What the stand-in of the last process tells."""
    report: dict[str, Any] = json.loads((tmp_path / "standin.json").read_text())
    return report


def make_video(path: Path, frames: list[UInt8], count: int) -> Path:
    with VideoWriter(path, Fraction(1, 1000)) as writer:
        for number in range(count):
            writer.write(frames[number % len(frames)], number * 40)
    return path


def labels_in(path: Path) -> list[UInt8]:
    """A label video's frames."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


@pytest.fixture
def video(tmp_path: Path, frames: list[UInt8]) -> Path:
    return make_video(tmp_path / "a.mp4", frames, 11)


def test_images_and_a_video_equal_onnx_runtimes(
    gpu_environment: Environment, plan: Plans, graph: Plans, frames: list[UInt8], video: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "b.png"
    cv2.imwrite(str(picture), frames[4])
    options = [video, picture, "--labels", "--out"]
    done = run(command(plan("streets"), *options, tmp_path / "plan"), gpu_environment())
    assert done.returncode == 0, done.stderr
    report = left_behind(tmp_path)
    assert report["violations"] == report["live_allocations"] == report["live_handles"] == []
    assert report["calls"]["cudaGraphLaunch"] >= 8  # the video's frames ran as graphs, on two slots
    wanted = run(command(graph("streets"), *options, tmp_path / "onnx", "--backend", "onnxruntime"))
    assert wanted.returncode == 0, wanted.stderr
    names = [
        sorted(str(each.relative_to(tmp_path / out)) for each in (tmp_path / out).rglob("*"))
        for out in ("plan", "onnx")
    ]
    assert names[0] == names[1]
    ours, theirs = (labels_in(tmp_path / out / "a_labels.mkv") for out in ("plan", "onnx"))
    assert len(ours) == len(theirs) == 11
    for labels, same in zip(ours, theirs, strict=True):
        assert (labels == same).mean() > 0.9995


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"device_count": 0}, "no NVIDIA GPU that CUDA sees"),
        ({"device_memory": 1 << 20}, "out of device memory"),
        ({"lose_device": 3}, "could not finish its work (cudaErrorIllegalAddress"),
        ({"fail_execute": 2}, "failed on a frame"),
    ],
)
def test_what_fails_is_one_line_and_code_2_and_leaves_no_half_of_a_result(
    gpu_environment: Environment, plan: Plans, video: Path, tmp_path: Path, knobs: dict[str, Any], message: str
) -> None:
    done = run(command(plan("half"), video, "--out", tmp_path / "out"), gpu_environment(refuse_capture=True, **knobs))
    assert done.returncode == 2, done.stderr
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert left_behind(tmp_path)["violations"] == []
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interruption_breaks_no_rule_and_leaves_whole_files(
    gpu_environment: Environment, plan: Plans, frames: list[UInt8], tmp_path: Path, number: signal.Signals
) -> None:
    source = make_video(tmp_path / "long.mp4", frames, 1500)
    out = tmp_path / "out"
    line = command(plan("streets"), source, "--labels", "--stats", "--out", out)
    with subprocess.Popen(
        line, env=gpu_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for _ in range(1200):
            # some frames are in the file
            if any(each.stat().st_size > 2000 for each in out.glob(".isa-*.mkv")) or process.poll() is not None:
                break
            time.sleep(0.05)
        os.kill(process.pid, number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    report = left_behind(tmp_path)
    assert report["violations"] == report["live_allocations"] == report["live_handles"] == []
    assert {each.name for each in out.iterdir()} == {"long_overlay.mp4", "long_labels.mkv", "stats.jsonl"}
    with VideoReader(out / "long_overlay.mp4") as reader:
        whole = len(list(reader))
    assert 3 <= whole < 1500
    labels = labels_in(out / "long_labels.mkv")
    assert len(labels) == whole
    assert all(each.shape == (64, 96) for each in labels)

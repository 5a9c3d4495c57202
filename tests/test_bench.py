"""isa-bench as a user meets it: the table, the record, bad usage, interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isa_deploy.bench.race import MIN_ROUNDS
from isa_deploy.cli import bench as cli

pytest.importorskip("openvino", reason="measures in OpenVINO: pip install 'isa-deploy[cpu]'")
pytest.importorskip("onnxruntime", reason="measures in ONNX Runtime: pip install 'isa-deploy[cpu]'")

COMMAND = [sys.executable, "-c", "from isa_deploy.cli.bench import main; main()"]


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """isa-bench in this process, for what ends before anything is measured: exit code, stdout, stderr."""

    def main(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["isa-bench", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as leaving:
            cli.main()
        out, err = capfd.readouterr()
        assert isinstance(leaving.value.code, int)
        return leaving.value.code, out, err

    return main


def bench(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    words = [str(argument) for argument in arguments]
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def measured(
    streets_onnx: Path, golden: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """One run of everything, tiny: what it printed, and its record."""
    out = tmp_path_factory.mktemp("bench") / "record.json"
    comparison = ["--compare", "torch,onnxruntime,openvino", "--ckpt", golden / "isanet_r18w16_streets.pth"]
    shapes = ["--shape", "32x64", "--shape", "2x32x64"]
    done = bench(streets_onnx, "--backend", "openvino", *comparison, *shapes, "--rounds", "2", "--out", out)
    assert done.returncode == 0, done.stderr
    return done, json.loads(out.read_text())


def test_the_table_has_a_row_for_each_contestant_and_shape(
    measured: tuple[subprocess.CompletedProcess[str], dict[str, Any]],
) -> None:
    done, _ = measured
    lines = done.stdout.splitlines()
    for shape in ("32x64", "2x32x64"):
        at = next(index for index, line in enumerate(lines) if line.startswith(f"{shape} "))
        assert "openvino" in lines[at]
        assert "1.00 x" in lines[at]
        assert "torch fp32 eager" in lines[at + 1]
        assert "onnxruntime fp32" in lines[at + 2]
    assert max(map(len, lines)) <= 100
    header = next(line for line in lines if line.startswith("shape"))
    for name in ("median ms", "max ms", "frames/s", "GFLOP/s", "of peak", "MiB"):
        assert name in header
    for stage in ("decode", "preprocess", "upload", "engine", "download", "labels", "colour", "encode"):
        assert stage in done.stdout


def test_the_record_has_what_the_table_is_made_of(
    measured: tuple[subprocess.CompletedProcess[str], dict[str, Any]],
) -> None:
    _, record = measured
    assert (record["format"], record["format_version"]) == ("isa-bench", 1)
    assert record["environment"]["cores"] >= 1
    assert "openvino" in record["environment"]
    assert record["model"]["checkpoint"] == "isanet_r18w16_streets.pth"
    one, two = record["shapes"]
    assert (one["shape_nhw"], two["shape_nhw"]) == ([1, 32, 64], [2, 32, 64])
    assert one["gflop_per_frame"] == two["gflop_per_frame"] > 0
    for shape in (one, two):
        assert shape["rounds"] == 2
        assert {peak["precision"] for peak in shape["peaks"]} >= {"fp32"}
        for result in shape["results"]:
            assert len(result["turns"]) == 2
            assert result["calls"] == sum(len(turn["calls_s"]) for turn in result["turns"])
            assert result["median_ms"] > 0
            assert result["peak_share"] > 0
            frames = shape["shape_nhw"][0] * result["calls"]
            assert frames == sum(turn["frames"] for turn in result["turns"])
        assert shape["results"][0]["speed_to_first"] == [1, 1, 1]
    assert two["split"] is None
    stages = {stage["name"]: stage for stage in one["split"]["stages"]}
    assert list(stages) == ["decode", "preprocess", "upload", "engine", "download", "labels", "colour", "encode"]
    assert stages["upload"]["ms"] == 0
    assert stages["engine"]["ms"] > 0
    assert any("one frame a call" in note for note in record["notes"])


def test_backends_that_turn_out_the_same_are_measured_once(
    measured: tuple[subprocess.CompletedProcess[str], dict[str, Any]],
) -> None:
    _, record = measured
    for shape in record["shapes"]:
        libraries = [result["facts"]["library"] for result in shape["results"]]
        assert libraries == ["openvino", "torch", "onnxruntime"]
    assert any("asked for twice" in note for note in record["notes"])


@pytest.mark.skipif(sys.platform != "linux", reason="the growth of memory is read from /proc")
def test_each_contestant_has_memory_of_its_own(
    measured: tuple[subprocess.CompletedProcess[str], dict[str, Any]],
) -> None:
    _, record = measured
    openvino, torch, _ = record["shapes"][0]["results"]
    # torch alone is larger than the whole process of one that has no torch
    assert torch["growth_mib"] > 50
    assert 0 < openvino["growth_mib"] < openvino["peak_mib"]
    assert abs(openvino["facts"]["before_mib"] - torch["facts"]["before_mib"]) < 20


def test_a_video_of_another_size_is_split_with_its_resize(streets_onnx: Path, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs PyAV: pip install 'isa-deploy[video]'")
    from isa_deploy.bench.clip import drawn_frames, write_clip

    clip = tmp_path / "drive.mp4"
    write_clip(clip, drawn_frames(5, 48, 64))
    out = tmp_path / "record.json"
    arguments = ["--shape", "32x64", "--video", clip, "--schedule", "throughput", "--seconds", "0.01", "--out", out]
    done = bench(streets_onnx, "--backend", "onnxruntime", *arguments)
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    (shape,) = record["shapes"]
    assert shape["rounds"] == MIN_ROUNDS
    assert shape["results"][0]["facts"]["in_flight"] > 1
    split = shape["split"]
    assert (split["clip"], split["frame_hw"], split["network_hw"]) == ("drive.mp4", [48, 64], [32, 64])
    stages = {stage["name"]: stage for stage in split["stages"]}
    assert stages["preprocess"]["how"] == "resize"
    assert stages["preprocess"]["ms"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "0"], "--rounds 0: give 1 or more"),
        (["--rounds", "3", "--seconds", "3"], "give one of them"),
        (["--seconds", "nan"], "--seconds nan"),
        (["--seconds", "-1"], "--seconds -1"),
        (["--shape", "512"], "shape '512'"),
        (["--shape", "999999x999999"], "shape '999999x999999'"),
        (["--backend", "caffe"], "backend 'caffe' is none of"),
        (["--backend", "tensorrt"], "TensorRT runs plans"),
        (["--compare", "caffe"], "--compare 'caffe' is none of"),
        (["--compare", "torch"], "name it with --ckpt"),
        (["--compare", "torch", "--ckpt", "none.pth"], "none.pth: no such file"),
        (["--ckpt", "none.pth"], "--compare torch"),
        (["--precision", "fp7"], "precision 'fp7'"),
        (["--device", "abacus"], "device 'abacus'"),
        (["--schedule", "hurry"], "schedule 'hurry'"),
        (["--video", "none.mp4"], "none.mp4"),
        (["--out", "none/record.json"], "there is no folder none"),
        (["--out", "."], "is a folder"),
    ],
)
def test_bad_usage_is_one_line(run: Run, streets_onnx: Path, arguments: list[str], message: str) -> None:
    code, out, err = run(streets_onnx, *arguments)
    assert code == 2
    lines = [line for line in err.splitlines() if "error" in line]
    assert len(lines) == 1
    assert message in lines[0]
    assert out == ""
    assert "Traceback" not in err


def test_a_path_that_is_no_engine_is_refused(run: Run, tmp_path: Path, golden: Path) -> None:
    for path in (tmp_path, tmp_path / "none", golden / "scene_0.png"):
        code, _, err = run(path)
        assert code == 2
        assert len(err.splitlines()) == 1
        assert str(path) in err


@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
def test_an_interruption_leaves_no_file_and_no_process(streets_onnx: Path, tmp_path: Path) -> None:
    out = tmp_path / "record.json"
    words = [str(streets_onnx), "--shape", "32x64", "--seconds", "600", "--out", str(out)]
    with subprocess.Popen([*COMMAND, *words], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "measuring" in line:
                break
        children = _children(process.pid)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait() == 130
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


def _children(pid: int) -> list[int]:
    if sys.platform != "linux":
        return []
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

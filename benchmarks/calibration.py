"""What collecting statistics for INT8 costs: its time against that of the frames alone, and its peak of memory.

    python benchmarks/calibration.py --engine out/r50/model.onnx --size 512x1024 --frames 2

The same frames run through ONNX Runtime in float32, and then through the collection, each in a process of its own,
because the figure of memory is a process's.  The tensors are those that INT8 needs: what convolutions and matrix
products read, and what they write.  The target: at most three times the frames' own time, in bounded memory.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import machine

from isa_deploy.bench.memory import peak_mib
from isa_deploy.export.calibration import collect
from isa_deploy.export.calibration_frames import CalibrationSet

RESULT = Path(__file__).resolve().parent / "results" / "calibration.json"
QUANTISED = ("Conv", "Gemm", "MatMul")


def drawn(size_hw: tuple[int, int], count: int) -> CalibrationSet:
    """Frames of smooth noise."""
    rng = np.random.default_rng(0)
    height, width = size_hw
    coarse = rng.integers(0, 256, (count, height // 16, width // 16, 3), dtype=np.uint8)
    frames = [np.ascontiguousarray(each.repeat(16, axis=0).repeat(16, axis=1)) for each in coarse]
    digests = tuple(hashlib.sha256(str(each.shape).encode() + each.tobytes()).digest() for each in frames)
    names = tuple(f"drawn {index}" for index in range(count))
    return CalibrationSet(names, (size_hw,) * count, (), "0" * 64, digests, lambda start: iter(frames[start:]))


def tensors_of(engine: Path) -> list[str]:
    """What quantised operations read and write, without weights and inputs."""
    graph = onnx.load(str(engine), load_external_data=False).graph
    computed = {name for node in graph.node for name in node.output}
    near = [name for node in graph.node if node.op_type in QUANTISED for name in (*node.input, *node.output)]
    return [name for name in dict.fromkeys(near) if name in computed]


def clocks() -> tuple[float, float]:
    """Seconds of the wall's clock, and of all cores for this process: others share this machine's."""
    return time.perf_counter(), time.process_time()


def a_frame(marks: list[tuple[float, float]]) -> dict[str, object]:
    """Seconds a frame, between marks that were set after each."""
    (first, first_cpu), (last, last_cpu), frames = marks[0], marks[-1], len(marks) - 1
    return {"s_per_frame": (last - first) / frames, "cpu_s_per_frame": (last_cpu - first_cpu) / frames}


def measure_plain(engine: Path, frames: CalibrationSet) -> dict[str, object]:
    """Seconds a frame of ONNX Runtime as it comes, and peak memory."""
    session = ort.InferenceSession(str(engine), providers=["CPUExecutionProvider"])
    marks = []
    for frame_hwc in [frames.frame(0), *frames.frames()]:  # the first is not timed
        session.run(["logits"], {session.get_inputs()[0].name: frame_hwc[None]})
        marks.append(clocks())
    return {**a_frame(marks), "peak_mib": peak_mib()}


def measure_collect(engine: Path, frames: CalibrationSet) -> dict[str, object]:
    """Seconds a frame of the collection, journal included, without the first one, and in all; and peak memory."""
    marks = [clocks()]
    tensors = tensors_of(engine)
    with tempfile.TemporaryDirectory() as folder:
        histograms = collect(
            engine,
            tensors,
            frames,
            Path(folder) / "journal.npz",
            lambda done, total: marks.append(clocks()),
        )
    return {
        **a_frame(marks[2:]),
        "s_in_all": marks[-1][0] - marks[0][0],
        "tensors": len(tensors),
        "values_per_frame": sum(histogram.values for histogram in histograms.values()) // len(frames),
        "peak_mib": peak_mib(),
    }


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", type=Path, required=True)
    parser.add_argument("--size", default="512x1024")
    parser.add_argument("--frames", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--part", choices=("plain", "collect"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    height, _, width = options.size.partition("x")
    if options.part:
        frames = drawn((int(height), int(width)), max(options.frames, 2))
        print(json.dumps((measure_plain if options.part == "plain" else measure_collect)(options.engine, frames)))
        return
    record: dict[str, object] = {"machine": machine(), "engine": options.engine.parent.name, "size": options.size}
    figures = {}
    for part in ("plain", "collect"):
        command = [sys.executable, __file__, "--engine", str(options.engine), "--size", options.size]
        command += ["--frames", str(options.frames), "--part", part]
        figures[part] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        print(part, figures[part])
    record |= figures | {"frames": options.frames}
    for name in ("s_per_frame", "cpu_s_per_frame"):
        record[f"ratio_{name}"] = round(figures["collect"][name] / figures["plain"][name], 3)
        print(f"ratio_{name}", record[f"ratio_{name}"])
    options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

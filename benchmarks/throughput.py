"""Frames a second with frames given ahead, against one by one and against the bare engine, in one run.

    python benchmarks/throughput.py --engine out/streets --sizes 256x512 512x1024 --out results.json

Each round runs, in turn, a number of frames through: Segmenter.segment; Segmenter.submit with as many frames under way
as the engine takes, in both schedules; and the bare engine, given frames as fast as it takes them, in both
schedules.  Medians of the rounds' rates and of the ratios within a round; alternating, so that a machine whose speed
drifts does not decide.  Uint8 frames in host memory to uint8 labels in host memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import machine

from isa_deploy.runtime.backends.base import Pending
from isa_deploy.runtime.segmenter import PendingLabels, Segmenter

UInt8 = npt.NDArray[np.uint8]
Way = Callable[[Sequence[UInt8]], None]

SCHEDULES = ("latency", "throughput")


def one_by_one(segmenter: Segmenter) -> Way:
    """Each frame's labels before the next frame."""

    def run(frames: Sequence[UInt8]) -> None:
        for frame in frames:
            segmenter.segment(frame)

    return run


def ahead(segmenter: Segmenter) -> Way:
    """As many frames under way as the engine takes, and one whose labels are made."""

    def run(frames: Sequence[UInt8]) -> None:
        under_way: deque[PendingLabels] = deque()
        for frame in frames:
            under_way.append(segmenter.submit(frame))
            if len(under_way) > segmenter.capacity:
                under_way.popleft().result()
        for pending in under_way:
            pending.result()

    return run


def bare(segmenter: Segmenter) -> Way:
    """The engine alone, on the output that the Segmenter asks of it: never idle, and nothing made of its answers."""
    backend = segmenter._backend
    outputs = segmenter.manifest.outputs
    wanted = [outputs.labels if backend.fast_argmax else outputs.logits]

    def run(frames: Sequence[UInt8]) -> None:
        under_way: list[Pending] = [backend.start(frame[None], wanted) for frame in frames]
        for pending in under_way:
            pending.wait()

    return run


def measure(engine: Path, backend: str, size_hw: tuple[int, int], rounds: int, count: int) -> dict[str, object]:
    """Medians for one frame size."""
    random = np.random.default_rng(0)
    frames = [random.integers(0, 256, (*size_hw, 3), dtype=np.uint8) for _ in range(min(count, 4))]
    frames = [frames[number % len(frames)] for number in range(count)]
    memory: dict[str, int] = {}
    ways: dict[str, Way] = {}
    capacities = {}
    with ExitStack() as stack:
        for schedule in SCHEDULES:
            before = psutil.Process().memory_info().rss
            segmenter = stack.enter_context(Segmenter.open(engine, backend=backend, resize="none", schedule=schedule))
            if schedule == "latency":
                ways["segment, latency"] = one_by_one(segmenter)
            ways[f"submit, {schedule}"] = ahead(segmenter)
            ways[f"bare engine, {schedule}"] = bare(segmenter)
            ways[f"submit, {schedule}"](frames)
            memory[schedule] = (psutil.Process().memory_info().rss - before) >> 20
            capacities[schedule] = segmenter.capacity
            name = f"{segmenter.manifest.architecture}, {segmenter.backend_name} {segmenter.precision}"
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, run in ways.items():
                begun = time.perf_counter()
                run(frames)
                rates[way].append(count / (time.perf_counter() - begun))

    def ratio(one: str, other: str) -> float:
        return round(statistics.median(a / b for a, b in zip(rates[one], rates[other], strict=True)), 3)

    return {
        "engine": name,
        "size_hw": list(size_hw),
        "rounds": rounds,
        "frames_a_round": count,
        "capacity": capacities,
        "memory_mib_opened_and_run": memory,
        "frames_per_s": {way: round(statistics.median(values), 3) for way, values in rates.items()},
        "lowest_and_highest": {way: [round(min(values), 3), round(max(values), 3)] for way, values in rates.items()},
        "submit_over_segment_latency": ratio("submit, latency", "segment, latency"),
        "submit_throughput_over_submit_latency": ratio("submit, throughput", "submit, latency"),
        "bare_throughput_over_bare_latency": ratio("bare engine, throughput", "bare engine, latency"),
        "submit_over_bare": {name: ratio(f"submit, {name}", f"bare engine, {name}") for name in SCHEDULES},
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", type=Path, required=True)
    parser.add_argument("--sizes", nargs="+", default=["256x512", "512x1024"], metavar="HxW")
    parser.add_argument("--backends", nargs="+", default=["openvino", "onnxruntime"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--frames", type=int, default=12, help="of a round")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    for backend in arguments.backends:
        for text in arguments.sizes:
            height, width = (int(side) for side in text.split("x"))
            row = measure(arguments.engine, backend, (height, width), arguments.rounds, arguments.frames)
            rows.append(row)
            print(json.dumps(row), flush=True)
    record = {"what": "frames given ahead, uint8 frames in, uint8 labels out", "machine": machine(), "rows": rows}
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

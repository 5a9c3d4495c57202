"""Frames a second of an exported model against torch float32 eager of the same checkpoint, in one run.

    python benchmarks/frame_rate.py --ckpt r50.pth --engine out/r50 --sizes 512x1024 1024x2048 --out results.json

Each round runs, in turn: torch (network, resize, argmax, as mmsegmentation does), the bare engine, and
Segmenter.segment, on a uint8 frame in host memory to uint8 labels in host memory.  Medians and the ratios
of one round's times; alternating, so that a machine whose speed drifts does not decide.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import machine

from isa_deploy.export.reference import Reference
from isa_deploy.models.checkpoint import build_network, read_checkpoint
from isa_deploy.runtime.segmenter import Segmenter


def timed(run: Callable[[], object]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def measure(reference: Reference, segmenter: Segmenter, size_hw: tuple[int, int], rounds: int) -> dict[str, object]:
    """Medians in milliseconds and median ratios for one frame size."""
    frame = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    backend = segmenter._backend
    labels = [segmenter.manifest.outputs.labels]
    ways: dict[str, Callable[[], object]] = {
        "torch fp32 eager": lambda: reference.full_logits(frame, size_hw)[0].argmax(1).to(torch.uint8),
        "bare engine": lambda: backend.start(frame[None], labels).wait(),
        "Segmenter.segment": lambda: segmenter.segment(frame),
    }
    for run in ways.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            times[name].append(timed(run))
    engine, torch_times, ours = times["bare engine"], times["torch fp32 eager"], times["Segmenter.segment"]
    return {
        "size_hw": list(size_hw),
        "rounds": rounds,
        "median_ms": {name: round(statistics.median(values) * 1e3, 2) for name, values in times.items()},
        "speedup_over_torch": round(statistics.median(t / s for t, s in zip(torch_times, ours, strict=True)), 3),
        "share_of_bare_engine": round(statistics.median(e / s for e, s in zip(engine, ours, strict=True)), 4),
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ckpt", type=Path, required=True)
    parser.add_argument("--engine", type=Path, required=True)
    parser.add_argument("--sizes", nargs="+", default=["512x1024"], metavar="HxW")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    checkpoint = read_checkpoint(arguments.ckpt)
    rows = []
    with Segmenter.open(
        arguments.engine, backend=arguments.backend, precision=arguments.precision, resize="none"
    ) as segmenter:
        reference = Reference(build_network(checkpoint), checkpoint)
        label = f"{segmenter.backend_name} {segmenter.precision}"
        for text in arguments.sizes:
            height, width = (int(side) for side in text.split("x"))
            row = measure(reference, segmenter, (height, width), arguments.rounds)
            rows.append(row)
            medians = row["median_ms"]
            assert isinstance(medians, dict)
            print(
                f"{segmenter.manifest.architecture} {text}: torch {medians['torch fp32 eager']:.0f} ms, "
                f"{label} {medians['bare engine']:.1f} ms, Segmenter {medians['Segmenter.segment']:.1f} ms "
                f"({1e3 / medians['Segmenter.segment']:.2f} frames/s): {row['speedup_over_torch']:.2f} x torch, "
                f"{row['share_of_bare_engine']:.1%} of the bare engine"
            )
    record = {
        "what": f"{checkpoint.config.name}, {label}, uint8 frame in, uint8 labels out",
        "machine": machine(),
        "rows": rows,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

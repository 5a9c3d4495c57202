"""How fast pixels are counted by ground truth and label: the ways that were tried for ``ConfusionMatrix.add``.

    python benchmarks/confusion.py

One core, 1024 x 2048.  Three cases: 19 classes with most labels right, 150 classes with fewer right and shorter runs,
and noise, which no trick with equal neighbours survives.  The ways take turns, so that a busy machine slows all of
them; times are the thread's own.  All ways that give the whole matrix are compared before they are timed.  Prints a
table and writes ``benchmarks/results/confusion.json``.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from isa_deploy.evaluate.confusion import ConfusionMatrix

UInt8 = npt.NDArray[np.uint8]
Way = Callable[[], npt.NDArray[Any] | None]

HEIGHT, WIDTH = 1024, 2048
TURNS = 15
RUNS = 3
WANTED_MS = 3.0
RESULTS = Path(__file__).parent / "results" / "confusion.json"
# classes, how far the two pictures' logits differ, cells of the grid that the logits are drawn on
CASES = {"19 classes, regions": (19, 0.03, (8, 16)), "150 classes, regions": (150, 0.08, (16, 32))}
NOISE = "150 classes, noise"


def main() -> None:
    cv2.setNumThreads(1)
    rows = []
    for case, classes, truth_hw, labels_hw in cases():
        right = float((truth_hw == labels_hw)[truth_hw != 255].mean())
        ways = ways_to_count(truth_hw, labels_hw, classes)
        for way, run in ways.items():
            counts = run()
            assert counts is None or (counts == by_bincount(truth_hw, labels_hw)[:, : counts.shape[1]]).all(), way
        print(f"{case}: {right:.1%} right, {changes(truth_hw, labels_hw):.1%} of the pixels begin a run")
        print(f"  {'way':58} {'least ms':>8} {'median ms':>9}")
        for way, runs_ms in take_turns(ways).items():
            least, median = float(runs_ms.min()), float(np.median(runs_ms))
            rows.append({"case": case, "way": way, "least_ms": round(least, 3), "median_ms": round(median, 3)})
            print(f"  {way:58} {least:8.2f} {median:9.2f}")
    record = {
        "shape_hw": [HEIGHT, WIDTH],
        "turns": TURNS,
        "runs_in_a_turn": RUNS,
        "wanted_ms": WANTED_MS,
        "environment": environment(),
        "ways": rows,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {RESULTS}")


def cases() -> list[tuple[str, int, UInt8, UInt8]]:
    """Name, classes, ground truth with 5 % void, labels."""
    made = []
    for name, (classes, difference, grid_hw) in CASES.items():
        truth_hw, labels_hw = (regions(classes, difference, grid_hw, seed) for seed in (1, 2))
        made.append((name, classes, truth_hw, labels_hw))
    noise = np.random.default_rng(3).integers(0, 150, (2, HEIGHT, WIDTH), dtype=np.uint8)
    made.append((NOISE, 150, noise[0], noise[1]))
    for _, _, truth_hw, _ in made:
        truth_hw[-HEIGHT // 20 :] = 255
    return made


def regions(classes: int, difference: float, grid_hw: tuple[int, int], seed: int) -> UInt8:
    """Regions with smooth borders, as a network's resized logits give them; other seeds move the borders."""
    shared, own = np.random.default_rng(0), np.random.default_rng(seed)
    best = np.full((HEIGHT, WIDTH), -np.inf, dtype=np.float32)
    labels_hw = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    for label in range(classes):
        grid = shared.standard_normal(grid_hw) + difference * own.standard_normal(grid_hw)
        logits = cv2.resize(grid.astype(np.float32), (WIDTH, HEIGHT))
        labels_hw[logits > best] = label
        np.maximum(best, logits, out=best)
    return labels_hw


def changes(truth_hw: UInt8, labels_hw: UInt8) -> float:
    truth, labels = truth_hw.reshape(-1), labels_hw.reshape(-1)
    return float(((truth[1:] != truth[:-1]) | (labels[1:] != labels[:-1])).mean())


def ways_to_count(truth_hw: UInt8, labels_hw: UInt8, classes: int) -> dict[str, Way]:
    matrix = ConfusionMatrix(classes)

    def ours() -> None:
        matrix.add(truth_hw, labels_hw)

    return {
        "ConfusionMatrix.add (isa_deploy): cv2.calcHist": ours,
        "cv2.calcHist, in strips of 2^18 pixels": lambda: by_strips(truth_hw, labels_hw, classes),
        "numpy.bincount of truth * 256 + label": lambda: by_bincount(truth_hw, labels_hw),
        "numpy.bincount of interleaved bytes read as uint16": lambda: by_interleaved(truth_hw, labels_hw),
        "runs: numpy.bincount with their lengths": lambda: by_runs(truth_hw, labels_hw),
        "blocks of 8 equal pixels once, cv2.calcHist of the others": lambda: by_blocks(truth_hw, labels_hw, classes),
        "right labels in one dimension, cv2.calcHist of the others": lambda: by_agreement(truth_hw, labels_hw, classes),
        "three areas by numpy.bincount (no matrix, as IoUMetric)": lambda: three_areas(truth_hw, labels_hw, classes),
    }


def histogram(truth: UInt8, labels: UInt8, classes: int, mask: UInt8 | None = None) -> npt.NDArray[np.int64]:
    counts = cv2.calcHist([truth, labels], [0, 1], mask, [256, classes], [0, 256, 0, classes])
    return counts.reshape(256, classes).astype(np.int64)


def by_strips(truth_hw: UInt8, labels_hw: UInt8, classes: int) -> npt.NDArray[np.int64]:
    truths, labels = truth_hw.reshape(-1, 1, 1 << 18), labels_hw.reshape(-1, 1, 1 << 18)
    counts = np.zeros((256, classes), dtype=np.int64)
    for truth, label in zip(truths, labels, strict=True):
        counts += histogram(truth, label, classes)
    return counts


def by_bincount(truth_hw: UInt8, labels_hw: UInt8) -> npt.NDArray[np.int64]:
    index = truth_hw.astype(np.uint16) << 8
    index |= labels_hw
    return np.bincount(index.reshape(-1), minlength=1 << 16).reshape(256, 256)


def by_interleaved(truth_hw: UInt8, labels_hw: UInt8) -> npt.NDArray[np.int64]:
    index = cv2.merge([labels_hw, truth_hw]).view("<u2")
    return np.bincount(index.reshape(-1), minlength=1 << 16).reshape(256, 256)


def by_runs(truth_hw: UInt8, labels_hw: UInt8) -> npt.NDArray[Any]:
    truth, labels = truth_hw.reshape(-1), labels_hw.reshape(-1)
    begins = np.ones(truth.size, dtype=bool)
    np.not_equal(truth[1:], truth[:-1], out=begins[1:])
    begins[1:] |= labels[1:] != labels[:-1]
    starts = np.flatnonzero(begins)
    index = truth[starts].astype(np.int64) * 256 + labels[starts]
    return np.bincount(index, np.diff(starts, append=truth.size), minlength=1 << 16).reshape(256, 256)


def by_blocks(truth_hw: UInt8, labels_hw: UInt8, classes: int) -> npt.NDArray[np.int64]:
    truth, labels = truth_hw.reshape(-1), labels_hw.reshape(-1)
    differs = np.zeros(truth.size, dtype=bool)
    np.not_equal(truth[1:], truth[:-1], out=differs[1:])
    differs[1:] |= labels[1:] != labels[:-1]
    differs[::8] = False  # a block may begin anew
    mixed = differs.view(np.uint64) != 0
    counts = 8 * histogram(truth[::8].copy(), labels[::8].copy(), classes, (~mixed).view(np.uint8))
    others = np.flatnonzero(mixed)
    if others.size:
        counts += histogram(eights(truth, others), eights(labels, others), classes)
    return counts


def by_agreement(truth_hw: UInt8, labels_hw: UInt8, classes: int) -> npt.NDArray[np.int64]:
    truth, labels = truth_hw.reshape(-1), labels_hw.reshape(-1)
    others = np.flatnonzero(truth.view(np.uint64) != labels.view(np.uint64))
    counts = np.zeros((256, classes), dtype=np.int64)
    right = single(truth)
    if others.size:
        truth, labels = eights(truth, others), eights(labels, others)
        right -= single(truth)
        counts += histogram(truth, labels, classes)
    np.einsum("ii->i", counts[:classes])[:] += right[:classes]
    return counts


def single(values: UInt8) -> npt.NDArray[np.int64]:
    return cv2.calcHist([values], [0], None, [256], [0, 256]).reshape(-1).astype(np.int64)


def eights(values: UInt8, blocks: npt.NDArray[np.intp]) -> UInt8:
    return values.view(np.uint64)[blocks].view(np.uint8)


def three_areas(truth_hw: UInt8, labels_hw: UInt8, classes: int) -> None:
    counted = truth_hw != 255
    truth, labels = truth_hw[counted], labels_hw[counted]
    for values in (labels[labels == truth], labels, truth):
        np.bincount(values, minlength=classes)


def take_turns(ways: dict[str, Way]) -> dict[str, npt.NDArray[np.float64]]:
    """Milliseconds of the calling thread for each way: turns x runs in a row."""
    runs_ms = {name: np.zeros((TURNS, RUNS)) for name in ways}
    for turn in range(TURNS):
        for name, way in ways.items():
            for run in range(RUNS):
                start = time.thread_time()
                way()
                runs_ms[name][turn, run] = (time.thread_time() - start) * 1e3
    return runs_ms


def environment() -> dict[str, str]:
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        fields = dict(line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line)
        cpu = {name.strip(): value.strip() for name, value in fields.items()}.get("model name", cpu)
    return {"cpu": cpu, "opencv": cv2.__version__, "numpy": np.__version__, "threads": "1"}


if __name__ == "__main__":
    main()

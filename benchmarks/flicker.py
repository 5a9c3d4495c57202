"""What temporal smoothing (``isa-infer --smooth N``) does to a video's flicker and to its accuracy.

    python benchmarks/flicker.py --engine engines/streets

Drives are drawn whose true labels are known in every frame (``models/streets/streetscenes``), the engine labels each
frame, and those labels go through the smoother for each N.  Void pixels are left out everywhere.

- flicker: of the pixels whose truth is the same in two neighbouring frames, the share whose label changes;
- accuracy and mIoU: against the truth, over all frames (the classes that occur);
- edges: the accuracy on pixels whose truth is another one than a frame before, where a majority comes late.

The camera drives, or it stands while the traffic moves.

Prints a table and writes ``benchmarks/results/flicker.json``.  Drawn streets move as a drive does, and are cleaner than
a camera's: the figures compare the N with each other, and say less about a real camera's flicker.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "models" / "streets"))
from machine import machine
from streetscenes import VOID, Scene

from isa_deploy.runtime.segmenter import Segmenter
from isa_deploy.runtime.smoothing import Smoother

UInt8 = npt.NDArray[np.uint8]

RESULTS = Path(__file__).parent / "results" / "flicker.json"
FIRST_SEED = 980_000  # far from those that the model is trained and measured on
FRAMES_COUNTED = (1, 3, 5, 7)
COST_HW = (1024, 2048)


@dataclass
class Score:
    """Counts over all frames of all drives."""

    still: int = 0
    flickering: int = 0
    moved: int = 0
    moved_right: int = 0
    confusion: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((256, 256), np.int64))

    def add(self, labels_hw: UInt8, truth_hw: UInt8, before: tuple[UInt8, UInt8] | None) -> None:
        """``before``: the labels and the truth of the frame before."""
        seen = truth_hw != VOID
        pairs = truth_hw[seen].astype(np.int64) * 256 + labels_hw[seen]
        self.confusion += np.bincount(pairs, minlength=256 * 256).reshape(256, 256)
        if before is None:
            return
        labels_before, truth_before = before
        both = seen & (truth_before != VOID)
        still, moved = both & (truth_hw == truth_before), both & (truth_hw != truth_before)
        self.still += int(still.sum())
        self.flickering += int((still & (labels_hw != labels_before)).sum())
        self.moved += int(moved.sum())
        self.moved_right += int((moved & (labels_hw == truth_hw)).sum())

    def figures(self) -> dict[str, float]:
        right = np.diag(self.confusion)
        union = self.confusion.sum(0) + self.confusion.sum(1) - right
        present = self.confusion.sum(1) > 0
        return {
            "flicker": round(self.flickering / self.still, 5),
            "accuracy": round(float(right.sum() / self.confusion.sum()), 5),
            "miou": round(float((right[present] / union[present]).mean()), 5),
            "edge_accuracy": round(self.moved_right / max(1, self.moved), 5),
        }


def draw(seed: int, fps: int, frames: int, size_hw: tuple[int, int], stands: bool) -> Iterator[tuple[UInt8, UInt8]]:
    """The pictures and labels of a drive, or of a camera that stands while the traffic moves."""
    scene = Scene(seed, travel=frames / fps * 12)  # metres; the fastest camera drives 12 m/s
    if stands:
        scene.world = replace(scene.world, camera=replace(scene.world.camera, speed=0.0))
    for number in range(frames):
        yield scene.render(*size_hw, number / fps)


def measure(
    segmenter: Segmenter, fps: int, stands: bool, drives: int, frames: int, size_hw: tuple[int, int]
) -> dict[str, object]:
    scores = {count: Score() for count in FRAMES_COUNTED}
    for seed in range(FIRST_SEED, FIRST_SEED + drives):
        smoothers = {count: Smoother(count) for count in FRAMES_COUNTED}
        before: dict[int, tuple[UInt8, UInt8]] = {}
        for frame_hwc, truth_hw in draw(seed, fps, frames, size_hw, stands):
            raw_hw = segmenter.segment(frame_hwc)
            for count, smoother in smoothers.items():
                labels_hw = smoother.add(raw_hw)
                scores[count].add(labels_hw, truth_hw, before.get(count))
                before[count] = labels_hw, truth_hw
    return {
        "camera": camera_name(stands),
        "fps": fps,
        "smooth": {str(count): score.figures() for count, score in scores.items()},
    }


def camera_name(stands: bool) -> str:
    return "stands" if stands else "drives"


def cost_ms(count: int) -> float:
    """Milliseconds of one thread for a frame of :data:`COST_HW` with labels in patches that move."""
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 19, (COST_HW[0] // 32, COST_HW[1] // 32), dtype=np.uint8)
    labels_hw = patches.repeat(32, axis=0).repeat(32, axis=1)
    smoother, times = Smoother(count), []
    for number in range(count + 12):
        moved_hw = np.roll(labels_hw, 3 * number, axis=1)
        started = time.thread_time()
        smoother.add(moved_hw)
        times.append(time.thread_time() - started)
    return round(float(np.median(times[count:])) * 1e3, 2)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", type=Path, required=True)
    parser.add_argument("--fps", type=int, nargs="+", default=[15, 30])
    parser.add_argument("--drives", type=int, default=6)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--size", default="256x512", metavar="HxW")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    height, width = (int(side) for side in arguments.size.split("x"))
    with Segmenter.open(arguments.engine, resize="none") as segmenter:
        rows = []
        print(f"{'camera':7} {'fps':>4} {'N':>3} {'flicker':>9} {'accuracy':>9} {'mIoU':>9} {'edges':>9}")
        for stands, fps in [(False, fps) for fps in arguments.fps] + [(True, arguments.fps[0])]:
            row = measure(segmenter, fps, stands, arguments.drives, arguments.frames, (height, width))
            rows.append(row)
            smoothed = row["smooth"]
            assert isinstance(smoothed, dict)
            for count, each in smoothed.items():
                print(
                    f"{camera_name(stands):7} {fps:4} {count:>3} {each['flicker']:9.3%} {each['accuracy']:9.3%} "
                    f"{each['miou']:9.3%} {each['edge_accuracy']:9.3%}",
                    flush=True,
                )
        engine = f"{segmenter.manifest.architecture}, {segmenter.backend_name} {segmenter.precision}"
    record = {
        "what": "isa-infer --smooth N on drawn drives",
        "engine": engine,
        "size_hw": [height, width],
        "drives": arguments.drives,
        "frames_a_drive": arguments.frames,
        "machine": machine(),
        "rows": rows,
        "cost_ms_at_1024x2048": {str(count): cost_ms(count) for count in FRAMES_COUNTED},
    }
    print("cost at 1024x2048, ms of one thread:", record["cost_ms_at_1024x2048"])
    arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()

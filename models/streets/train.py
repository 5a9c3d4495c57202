#!/usr/bin/env python3
"""Trains the streets demo model on drawn scenes and measures it on scenes it never saw.

python models/streets/train.py                        # the model as shipped, into this folder
python models/streets/train.py --iterations 20 --out /some/folder
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

# A thread that waits for its sibling must sleep, not spin: the scenes are drawn on the same two cores, and
# with spinning threads an iteration takes twice as long.  OpenMP reads this when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import cv2
import torch
from recipe.balance import balanced_weights
from recipe.batches import StreamConfig, batch_stream
from recipe.checkpoint_file import write_checkpoint
from recipe.scores import measure
from recipe.training import Progress, TrainingConfig, train

from isa_deploy.models.isanet import AuxiliaryConfig, ISANet, ISANetConfig
from isa_deploy.models.resnet import BackboneConfig

NETWORK = ISANetConfig(
    num_classes=19,
    backbone=BackboneConfig(depth=18, stem_channels=16, base_channels=16),
    channels=64,
    isa_channels=32,
    auxiliary=AuxiliaryConfig(channels=32),
)
NAME = "isanet_r18w16_streets"
ITERATIONS = 3000
FIRST_UNSEEN_SEED = 900_000
"""Training counts its seeds up from 0 and never comes near."""
WEIGHING_SEEDS = range(100)


def show(progress: Progress) -> None:
    """One line of progress on standard output."""
    print(
        f"iteration {progress.iteration}  loss {progress.loss:.4f}  "
        f"{progress.wall_seconds:.0f} s, of one core {progress.cpu_seconds:.0f} s",
        flush=True,
    )


def run(iterations: int, scenes: int, size_hw: tuple[int, int], out: Path) -> None:
    """Trains, measures, and writes the checkpoint and ``card.json`` into ``out``."""
    started = time.perf_counter()
    cv2.setNumThreads(1)
    torch.set_num_threads(2)
    torch.manual_seed(0)
    net = ISANet(NETWORK)
    height, width = size_hw
    weights = balanced_weights(WEIGHING_SEEDS, (height // 2, width // 2))
    training = replace(TrainingConfig(iterations), class_weights=weights)
    stream = StreamConfig(crop_hw=size_hw)
    batches = batch_stream(stream)
    train(net, batches, training, show)
    del batches  # ends the drawing process, so that its time is counted
    trained = time.perf_counter()
    clock = os.times()

    seeds = range(FIRST_UNSEEN_SEED, FIRST_UNSEEN_SEED + scenes)
    scores = measure(net, seeds, size_hw)
    path = out / f"{NAME}.pth"
    digest = write_checkpoint(path, net, training, size_hw)
    card = {
        "checkpoint": path.name,
        "sha256": digest,
        "bytes": path.stat().st_size,
        "network": NETWORK.name,
        "iterations": iterations,
        "crops_per_iteration": stream.batch,
        "crop_hw": list(size_hw),
        "training_seeds": [0, iterations],
        "unseen_seeds": [seeds.start, seeds.stop],
        "miou": round(100 * scores.miou, 2),
        "pixel_accuracy": round(100 * scores.pixel_accuracy, 2),
        "iou": {name: None if math.isnan(iou) else round(100 * iou, 2) for name, iou in scores.iou.items()},
        "training_minutes": round((trained - started) / 60, 1),
        "training_core_minutes": round(sum(clock[:4]) / 60, 1),
        "torch": torch.__version__,
    }
    (out / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    print(f"mIoU {card['miou']} %, pixel accuracy {card['pixel_accuracy']} % on {scenes} unseen scenes")
    print(path)


def main() -> int:
    """The command; 0, or 2 where the output folder cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=ITERATIONS, help="of 4 crops each (default: %(default)s)")
    parser.add_argument("--scenes", type=int, default=50, help="unseen scenes to measure on (default: %(default)s)")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 512), metavar=("H", "W"), help="of crop and scene")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder (default: this one)")
    options = parser.parse_args()
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        run(options.iterations, options.scenes, tuple(options.size), options.out)
    except OSError as error:
        print(f"cannot write into {options.out}: {error}; choose another folder with --out", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Trains the streets demo model on drawn scenes and measures it on scenes that it never saw."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Annotated

# A thread that waits for its sibling must sleep, not spin: the scenes are drawn on the same two cores, and
# with spinning threads an iteration takes twice as long.  OpenMP reads this when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import cv2
import torch
import typer
from recipe.balance import balanced_weights
from recipe.batches import StreamConfig, batch_stream
from recipe.checkpoint_file import write_checkpoint
from recipe.scores import Scores, measure
from recipe.training import Progress, TrainingConfig, train

from isa_deploy.cli.run import make_app, run
from isa_deploy.files import make_folder, replacing
from isa_deploy.models.isanet import AuxiliaryConfig, ISANet, ISANetConfig
from isa_deploy.models.resnet import BackboneConfig

NAME = "isanet_r18w16_streets"
NETWORK = ISANetConfig(
    num_classes=19,
    backbone=BackboneConfig(depth=18, stem_channels=16, base_channels=16),
    channels=64,
    isa_channels=32,
    auxiliary=AuxiliaryConfig(channels=32),
)
ITERATIONS = 3000
THREADS = 2
WEIGHING_SEEDS = range(100)
FIRST_UNSEEN_SEED = 900_000
"""Training counts its seeds up from 0, one an iteration, and stops long before."""

app = make_app()


@app.command()
def main(
    iterations: Annotated[
        int, typer.Option(min=1, max=FIRST_UNSEEN_SEED, help="Training steps of 4 crops each.")
    ] = ITERATIONS,
    scenes: Annotated[int, typer.Option(min=1, help="Unseen scenes to measure on.")] = 50,
    size: Annotated[tuple[int, int], typer.Option(help="Height and width of crops and scenes, pixels.")] = (256, 512),
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint and card.json.")] = Path(__file__).parent,
) -> None:
    """Train the streets demo model on drawn scenes and measure it on scenes that it never saw.

    Without options this makes the checkpoint that ships, in under 45 minutes on two cores.
    """
    make_folder(out)
    cv2.setNumThreads(1)
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    net = ISANet(NETWORK)
    height, width = size
    started = time.perf_counter()
    training = TrainingConfig(iterations, class_weights=balanced_weights(WEIGHING_SEEDS, (height // 2, width // 2)))
    batches = batch_stream(StreamConfig(crop_hw=size))
    train(net, batches, training, show)
    del batches  # ends the drawing process; only then is its time counted
    wall_minutes, core_minutes = (time.perf_counter() - started) / 60, sum(os.times()[:4]) / 60

    seeds = range(FIRST_UNSEEN_SEED, FIRST_UNSEEN_SEED + scenes)
    scores = measure(net, seeds, size)
    path = out / f"{NAME}.pth"
    card = {
        "checkpoint": path.name,
        "sha256": write_checkpoint(path, net, training, size),
        "bytes": path.stat().st_size,
        "network": NETWORK.name,
        "iterations": iterations,
        "crop_hw": size,
        "training_seeds": [0, iterations - 1],
        "unseen_seeds": [seeds[0], seeds[-1]],
        **percentages(scores),
        "training_minutes": round(wall_minutes, 1),
        "training_core_minutes": round(core_minutes, 1),
    }
    with replacing(out / "card.json") as temporary:
        temporary.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    print(f"mIoU {card['miou']} %, pixel accuracy {card['pixel_accuracy']} % on {scenes} unseen scenes")
    print(path)


def show(progress: Progress) -> None:
    """Prints one line."""
    print(
        f"iteration {progress.iteration}  loss {progress.loss:.4f}  "
        f"{progress.wall_seconds:.0f} s, of one core {progress.cpu_seconds:.0f} s",
        flush=True,
    )


def percentages(scores: Scores) -> dict[str, object]:
    """The scores as the card has them: percent with two decimals, null for a class that does not occur."""
    return {
        "miou": round(100 * scores.miou, 2),
        "pixel_accuracy": round(100 * scores.pixel_accuracy, 2),
        "iou": {name: None if math.isnan(iou) else round(100 * iou, 2) for name, iou in scores.iou.items()},
    }


if __name__ == "__main__":
    run(app, "train.py")

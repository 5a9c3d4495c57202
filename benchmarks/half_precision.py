"""What half precision costs the demo model: labels against float32's, and mIoU, on scenes it never saw.

    python benchmarks/half_precision.py

The graph of each precision runs as a torch module on the CPU, which rounds after every operation as a GPU
does and sums in float32; a plan on a card is `make gpu`'s to measure.  The targets: 99.8 % of the labels
equal and mIoU within 0.1 points.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "models" / "streets"))
from machine import machine
from recipe.scores import confusion_matrix, scores_of
from streetscenes import draw_scene

from isa_deploy.export.graph import Normalisation, build_graph
from isa_deploy.export.pipeline import make_manifest
from isa_deploy.export.precision import FloatPrecision
from isa_deploy.models.checkpoint import build_network, read_checkpoint

ROOT = Path(__file__).resolve().parent.parent
STREETS = ROOT / "models" / "streets"
CHECKPOINT = STREETS / "isanet_r18w16_streets.pth"
RESULT = ROOT / "benchmarks" / "results" / "half_precision.json"
SIZE_HW = (256, 512)
SCENES = 50
PRECISIONS: tuple[FloatPrecision, ...] = ("fp32", "fp16", "bf16")


def labels_of(precision: FloatPrecision, frames: list[npt.NDArray[np.uint8]]) -> list[npt.NDArray[np.uint8]]:
    """The labels of each frame (uint8 H x W x 3 BGR) by the graph of a precision, uint8 H x W."""
    checkpoint = read_checkpoint(CHECKPOINT)
    spec = make_manifest(checkpoint, precision, (None, None, None), False).input
    normalisation = Normalisation(spec.mean, spec.std, swap_channels=checkpoint.to_rgb)
    graph = build_graph(build_network(checkpoint), normalisation, precision, ("labels", "logits"), None)
    made = []
    with torch.inference_mode():
        for frame in frames:
            made.append(np.asarray(graph(torch.from_numpy(frame)[None])[0][0].numpy(), np.uint8))
    return made


def main() -> None:
    """Measure, print and record."""
    first = int(json.loads((STREETS / "card.json").read_text(encoding="utf-8"))["unseen_seeds"][0])
    drawn = [draw_scene(seed, *SIZE_HW) for seed in range(first, first + SCENES)]
    classes = len(read_checkpoint(CHECKPOINT).classes)
    labels = {precision: labels_of(precision, [frame for frame, _ in drawn]) for precision in PRECISIONS}
    record: dict[str, object] = {"machine": machine(), "scenes": SCENES, "size_hw": list(SIZE_HW)}
    for precision in PRECISIONS:
        confusion = np.zeros((classes, classes), np.int64)
        for (_, truth), made in zip(drawn, labels[precision], strict=True):
            confusion += confusion_matrix(truth, made, classes)
        same = [float((a == b).mean()) for a, b in zip(labels[precision], labels["fp32"], strict=True)]
        figures = {
            "agreement_percent": round(100 * float(np.mean(same)), 4),
            "least_agreement_percent": round(100 * min(same), 4),
            "miou_percent": round(100 * scores_of(confusion).miou, 3),
        }
        record[precision] = figures
        print(f"{precision}: {figures}")
    RESULT.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""What each precision costs in accuracy, on drawn scenes that neither training nor calibration saw.

    python benchmarks/int8_accuracy.py
    python benchmarks/int8_accuracy.py --ckpt tests/golden/isanet_r18w16_streets.pth --out results.json

Exports the checkpoint in float32, float16 and int8 (isa-export's own way, search and all, with scenes of the training's
seeds to calibrate on), and runs each on this CPU over the 50 unseen scenes: mIoU and pixel accuracy against the drawn
label maps, and the share of labels that are those of the checkpoint in torch.  bfloat16 runs where the CPU has it.
OpenVINO computes a float16 file in float32, so its row shows what the weights lost.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "models" / "streets"))
from machine import machine
from streetscenes.scene import draw_scene

from isa_deploy.evaluate.confusion import ConfusionMatrix
from isa_deploy.evaluate.metrics import scores
from isa_deploy.export.int8_options import Int8Options
from isa_deploy.export.int8_words import choice_lines
from isa_deploy.export.pipeline import export
from isa_deploy.export.precision import Precision
from isa_deploy.export.precision_engines import Candidate, combinations, find_bf16, open_engine
from isa_deploy.export.reference import Reference
from isa_deploy.models.checkpoint import build_network, read_checkpoint
from isa_deploy.runtime.images import write_png

ROOT = Path(__file__).resolve().parents[1]
SIZE_HW = (256, 512)
UNSEEN = range(900_000, 900_050)
CALIBRATION = range(5_000, 5_128)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ckpt", type=Path, default=ROOT / "models" / "streets" / "isanet_r18w16_streets.pth")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "int8_accuracy.json")
    arguments = parser.parse_args()
    scenes = [draw_scene(seed, *SIZE_HW) for seed in UNSEEN]
    checkpoint = read_checkpoint(arguments.ckpt)
    reference = Reference(build_network(checkpoint), checkpoint)
    answers = [reference.answer(frame, SIZE_HW).labels_hw for frame, _ in scenes]
    classes = len(checkpoint.classes)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        calib = folder / "calibration"
        calib.mkdir()
        for seed in CALIBRATION:
            write_png(calib / f"{seed}.png", draw_scene(seed, *SIZE_HW)[0])
        candidates = []
        chosen: list[str] = []
        precisions: tuple[Precision, ...] = ("fp32", "fp16", "int8")
        for precision in precisions:
            options = Int8Options(calib, frames=len(CALIBRATION)) if precision == "int8" else None
            made = export(arguments.ckpt, folder / precision, precision=precision, int8=options)
            candidates.append(Candidate(precision, precision, made.onnx, made.onnx.stat().st_size / 1e6))
            if made.int8 is not None:
                chosen = choice_lines(made.int8)
        print("\n".join(chosen))
        matrix = ConfusionMatrix(classes)
        for (_, truth), labels in zip(scenes, answers, strict=True):
            matrix.add(truth, labels)
        own = scores(matrix.counts_tl)
        rows = [{"name": "the checkpoint in torch", "miou": 100 * own.miou, "accuracy": 100 * own.aacc}]
        skipped: dict[str, str] = {}
        for combination in combinations(candidates, skipped, find_bf16()):
            engine = open_engine(combination)
            matrix = ConfusionMatrix(classes)
            equal = []
            for (frame, truth), answer in zip(scenes, answers, strict=True):
                labels = engine.segment(frame)
                matrix.add(truth, labels)
                equal.append(float((labels == answer).mean()))
            engine.close()
            found = scores(matrix.counts_tl)
            rows.append(
                {
                    "name": combination.name,
                    "megabytes": round(combination.candidate.megabytes, 2),
                    "miou": 100 * found.miou,
                    "lost": 100 * (own.miou - found.miou),
                    "accuracy": 100 * found.aacc,
                    "equal_labels": 100 * float(np.mean(equal)),
                }
            )
            print(
                f"{combination.name}: mIoU {100 * found.miou:.2f} ({100 * (own.miou - found.miou):+.2f} lost), "
                f"{100 * np.mean(equal):.2f} % of the labels equal"
            )
    record = {
        "machine": machine(),
        "checkpoint": arguments.ckpt.name,
        "sha256": checkpoint.sha256,
        "scenes": [UNSEEN.start, UNSEEN.stop - 1],
        "calibration": [CALIBRATION.start, CALIBRATION.stop - 1],
        "rows": rows,
        "skipped": skipped,
        "chosen": chosen,
    }
    arguments.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()

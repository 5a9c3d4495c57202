"""How busy an evaluation keeps the engine, and what counting costs beside it.

    python benchmarks/evaluation.py --engine demo-out/engine --out benchmarks/results/evaluation.json

Street scenes of 1024 x 2048 are drawn and written as PNG into a temporary folder in the layout of Cityscapes.  In turn,
in each round, on the same pictures:

- the engine alone: pictures that are decoded already, as many under way as it takes, labels taken and dropped;
- ``evaluate``: reading, engine and confusion matrix overlapping, as isa-eval runs it;
- one after the other: read, segment, count, next;
- the confusion matrix alone, on the labels of the first.

Medians of the rounds and of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "models" / "streets"))
from machine import machine
from streetscenes import draw_scene

from isa_deploy.evaluate.confusion import ConfusionMatrix
from isa_deploy.evaluate.dataset import Dataset
from isa_deploy.evaluate.datasets import open_dataset
from isa_deploy.evaluate.evaluation import Evaluation, evaluate
from isa_deploy.evaluate.prediction import Pending, PlainPredictor
from isa_deploy.runtime.images import read_image, write_png
from isa_deploy.runtime.segmenter import Segmenter

UInt8 = npt.NDArray[np.uint8]

FIRST_SEED = 991_000
"""Far from the seeds that the model was trained, measured and shown on."""

TOWN = "drawntown"


def draw_data_set(root: Path, pictures: int, size_hw: tuple[int, int]) -> Dataset:
    """Scenes as Cityscapes' validation split, their truth as train ids."""
    for number in range(pictures):
        frame_hwc, truth_hw = draw_scene(FIRST_SEED + number, *size_hw)
        stem = f"{TOWN}_{number:06}_000000"
        for below, ending, picture in (
            ("leftImg8bit", "leftImg8bit", frame_hwc),
            ("gtFine", "gtFine_labelTrainIds", truth_hw),
        ):
            folder = root / below / "val" / TOWN
            folder.mkdir(parents=True, exist_ok=True)
            write_png(folder / f"{stem}_{ending}.png", picture)
    return open_dataset("cityscapes", root)


def engine_alone(predictor: PlainPredictor, frames: list[UInt8]) -> tuple[list[UInt8], float]:
    """The labels of frames, and the seconds that they took."""
    begun = time.perf_counter()
    labels: list[UInt8] = []
    under_way: deque[Pending[UInt8]] = deque()
    for frame_hwc in frames:
        under_way.append(predictor.submit(frame_hwc))
        if len(under_way) > predictor.capacity:
            labels.append(under_way.popleft().result())
    labels += [pending.result() for pending in under_way]
    return labels, time.perf_counter() - begun


def one_after_the_other(segmenter: Segmenter, dataset: Dataset, classes: int) -> float:
    """Seconds to read, segment and count with nothing at the same time."""
    begun = time.perf_counter()
    matrix = ConfusionMatrix(classes)
    for sample in dataset.listing().samples:
        matrix.add(dataset.read_truth(sample), segmenter.segment(read_image(sample.image)))
    return time.perf_counter() - begun


def counting_alone(truths: list[UInt8], labels: list[UInt8], classes: int) -> float:
    """Seconds of the confusion matrix."""
    matrix = ConfusionMatrix(classes)
    begun = time.perf_counter()
    for truth_hw, labels_hw in zip(truths, labels, strict=True):
        matrix.add(truth_hw, labels_hw)
    return time.perf_counter() - begun


def measure(segmenter: Segmenter, dataset: Dataset, rounds: int) -> dict[str, object]:
    """The record of all rounds."""
    predictor = PlainPredictor(segmenter)
    listing = dataset.listing()
    frames = [read_image(sample.image) for sample in listing.samples]
    truths = [dataset.read_truth(sample) for sample in listing.samples]
    predictor.submit(frames[0]).result()  # warms up
    seconds: dict[str, list[float]] = {"engine alone": [], "evaluate": [], "one after the other": [], "counting": []}
    evaluations: list[Evaluation] = []
    for _ in range(rounds):
        labels, alone_s = engine_alone(predictor, frames)
        evaluations.append(evaluate(predictor, dataset, listing, keep_worst=0))
        seconds["engine alone"].append(alone_s)
        seconds["evaluate"].append(evaluations[-1].seconds)
        seconds["one after the other"].append(one_after_the_other(segmenter, dataset, predictor.classes))
        seconds["counting"].append(counting_alone(truths, labels, predictor.classes))
        print({name: round(values[-1], 3) for name, values in seconds.items()}, flush=True)

    def ratio(name: str, to: str) -> float:
        pairs = zip(seconds[name], seconds[to], strict=True)
        return round(statistics.median(one / other for one, other in pairs), 4)

    timings = [evaluation.timings for evaluation in evaluations]
    return {
        "rounds": rounds,
        "pictures": len(frames),
        "classes": predictor.classes,
        "miou_per_cent": round(evaluations[0].scores.miou * 100, 2),
        "frames_per_second": {
            name: round(len(frames) / statistics.median(values), 3)
            for name, values in seconds.items()
            if name != "counting"
        },
        "evaluate's rate to the engine's alone": ratio("engine alone", "evaluate"),
        "one after the other's rate to the engine's alone": ratio("engine alone", "one after the other"),
        "counting's share of the engine's time": ratio("counting", "engine alone"),
        "seconds within evaluate": {
            name: round(statistics.median(getattr(times, name) for times in timings), 4)
            for name in ("engine_wait_s", "reading_wait_s", "counting_wait_s", "reading_s", "counting_s")
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", type=Path, required=True, help="what isa-export wrote, of Cityscapes' classes")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--schedule", default="latency")
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--size", default="1024x2048", help="HxW")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="JSON record")
    arguments = parser.parse_args()
    height, width = (int(side) for side in arguments.size.split("x"))
    with (
        tempfile.TemporaryDirectory() as folder,
        Segmenter.open(
            arguments.engine, backend=arguments.backend, resize="none", schedule=arguments.schedule
        ) as segmenter,
    ):
        dataset = draw_data_set(Path(folder), arguments.pictures, (height, width))
        record = {
            "machine": machine(),
            "backend": segmenter.backend_name,
            "precision": segmenter.precision,
            "schedule": arguments.schedule,
            "size_hw": [height, width],
            **measure(segmenter, dataset, arguments.rounds),
        }
    print(json.dumps(record, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""What tiles do to the labels: by how wide a halo, by the tile's size, by the way of merging; and what they cost.

    python benchmarks/tiling.py --engine demo-out/engine --out benchmarks/results/tiling.json

The pictures are sheets of drawn street scenes (rows of 512 x 1024 scenes, every second one mirrored so that edges meet)
and wide single scenes, both with their true labels.  For each way of cutting a picture:

- agreement with the labels of the whole picture in one pass, which ISANet's global attention sees at once;
- the same in the band within 16 pixels of a seam, and elsewhere;
- mIoU against the truth, of the whole pass and of the tiles;
- the share of pixels that the network sees more than once.

``--rate HxW`` also times a picture in tiles against the bare engine's time for as many tiles, alternately.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "models" / "streets"))
from machine import machine
from streetscenes import draw_scene

from isa_deploy.runtime.backends.base import Pending
from isa_deploy.runtime.segmenter import Segmenter
from isa_deploy.runtime.tiled import TilePlan, plan_tiles, segment_tiled
from isa_deploy.runtime.tiling import Tiling

UInt8 = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]

BAND = 16
"""Pixels on each side of a seam: two cells of the head's stride."""

FIRST_SEED = 985_000
"""Far from the seeds that the model was trained, measured and shown on."""


OFFSET = (211, 307)
"""What is cut off a sheet: the borders of its scenes must not be those of tiles."""


def sheet(seed: int, rows: int, cols: int) -> tuple[UInt8, UInt8]:
    """Scenes of 512 x 1024 in a grid: picture and true labels.  Neighbours are mirrored, so that edges meet."""
    pictures, truths = [], []
    for row in range(rows):
        drawn = [draw_scene(seed + row * cols + col, 512, 1024) for col in range(cols)]
        turned = [(p[:, ::-1], t[:, ::-1]) if col % 2 else (p, t) for col, (p, t) in enumerate(drawn)]
        pictures.append(np.concatenate([p for p, _ in turned], axis=1))
        truths.append(np.concatenate([t for _, t in turned], axis=1))
    top, left = OFFSET
    picture, truth = (np.ascontiguousarray(np.concatenate(parts)[top:, left:]) for parts in (pictures, truths))
    return picture, truth


def near_seams(plan: TilePlan) -> Bools:
    """Which pixels lie within BAND pixels of a border between two blocks of tiles, H x W."""
    near_hw = np.zeros(plan.size_hw, dtype=np.bool_)
    for start, _ in plan.grid.rows.blocks[1:]:
        near_hw[max(start - BAND, 0) : start + BAND] = True
    for start, _ in plan.grid.cols.blocks[1:]:
        near_hw[:, max(start - BAND, 0) : start + BAND] = True
    return near_hw


def mean_iou(confusion: npt.NDArray[np.int64]) -> float:
    """mIoU in per cent of a confusion matrix [truth, label] over the classes that occur in either."""
    hit = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - hit
    return float(np.mean(hit[union > 0] / union[union > 0]) * 100)


def confusion(truth_hw: UInt8, labels_hw: UInt8, classes: int) -> npt.NDArray[np.int64]:
    """Counts [truth, label]; pixels without a truth (255) are left out."""
    known = truth_hw < classes
    pairs = truth_hw[known].astype(np.int64) * classes + labels_hw[known]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def compare(segmenter: Segmenter, pictures: list[tuple[UInt8, UInt8]]) -> list[dict[str, object]]:
    """A record for the whole pass and for each way of cutting."""
    classes = len(segmenter.manifest.classes.names)
    whole = [segmenter.segment(picture) for picture, _ in pictures]
    matrix = sum((confusion(t, w, classes) for (_, t), w in zip(pictures, whole, strict=True)), start=np.int64(0))
    records: list[dict[str, object]] = [{"mode": "whole", "miou": round(mean_iou(np.asarray(matrix)), 2)}]
    ways = [Tiling("tiles", (side, side), halo) for side in (512, 1024) for halo in (0, 8, 16, 32, 64, 96, 128, 192)]
    ways += [Tiling("blend", (side, side), halo) for side in (512, 1024) for halo in (32, 64, 128)]
    ways += [Tiling("slide", (side, side), halo) for side in (512, 1024) for halo in (64, 128)]
    for tiling in ways:
        same = near = near_same = pixels = seen = 0
        matrix = np.zeros((classes, classes), dtype=np.int64)
        for (picture, truth), reference in zip(pictures, whole, strict=True):
            plan = plan_tiles(segmenter, (picture.shape[0], picture.shape[1]), tiling)
            labels = segment_tiled(segmenter, picture, tiling)
            equal, band = labels == reference, near_seams(plan)
            same += int(equal.sum())
            near += int(band.sum())
            near_same += int(equal[band].sum())
            pixels += equal.size
            seen += plan.blocks * plan.grid.window_hw[0] * plan.grid.window_hw[1]
            matrix += confusion(truth, labels, classes)
        assert tiling.tile_hw is not None
        record: dict[str, object] = {
            "mode": tiling.mode,
            "tile": tiling.tile_hw[0],
            "halo": tiling.halo,
            "agreement": round(same / pixels * 100, 3),
            "agreement_at_seams": round(near_same / near * 100, 3),
            "agreement_elsewhere": round((same - near_same) / (pixels - near) * 100, 3),
            "miou": round(mean_iou(matrix), 2),
            "pixels_computed": round(seen / pixels, 3),
        }
        print(record, flush=True)
        records.append(record)
    return records


def rate(segmenter: Segmenter, size_hw: tuple[int, int], rounds: int) -> dict[str, object]:
    """A picture in tiles against the bare engine on as many tiles, alternately: medians and ratios."""
    rows, cols = (-(-(side + cut) // scene) for side, cut, scene in zip(size_hw, OFFSET, (512, 1024), strict=True))
    picture = np.ascontiguousarray(sheet(FIRST_SEED, rows, cols)[0][: size_hw[0], : size_hw[1]])
    tiling = Tiling("tiles")
    plan = plan_tiles(segmenter, size_hw, tiling)
    assert plan.tiling.batch is not None
    assert plan.tiling.tile_hw is not None
    height, width = plan.grid.window_hw
    tile = np.ascontiguousarray(picture[:height, :width])
    batch_nhwc = np.stack([tile] * plan.tiling.batch)
    calls = -(-plan.blocks // plan.tiling.batch)

    def bare(output: str) -> None:
        pending: list[Pending] = []
        for _ in range(calls):
            if len(pending) == segmenter.capacity:
                pending.pop(0).wait()
            pending.append(segmenter._backend.start(batch_nhwc, [output]))
        for each in pending:
            each.wait()

    outputs = segmenter.manifest.outputs
    ways: dict[str, Callable[[], object]] = {
        "tiles": lambda: segment_tiled(segmenter, picture, tiling),
        "bare engine, labels": lambda: bare(outputs.labels),
        "bare engine, logits": lambda: bare(outputs.logits),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, run in ways.items():
            begun = time.perf_counter()
            run()
            if number:  # the first warms up
                times[name].append(time.perf_counter() - begun)
    found: dict[str, object] = {
        "size_hw": list(size_hw),
        "tiles": plan.blocks,
        "tile_hw": list(plan.tiling.tile_hw),
        "batch": plan.tiling.batch,
        "rounds": rounds,
        "median_s": {name: round(statistics.median(values), 3) for name, values in times.items()},
    }
    for name in ("bare engine, labels", "bare engine, logits"):
        pairs = zip(times["tiles"], times[name], strict=True)
        found[f"ratio to {name}"] = round(statistics.median(a / b for a, b in pairs), 4)
    print(found, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", type=Path, required=True, help="what isa-export wrote")
    parser.add_argument("--rate", help="time a picture of this size, HxW, instead of comparing labels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--schedule", default="latency")
    parser.add_argument("--out", type=Path, help="JSON record")
    arguments = parser.parse_args()
    with Segmenter.open(arguments.engine, resize="none", schedule=arguments.schedule) as segmenter:
        record: dict[str, object] = {"machine": machine(), "backend": segmenter.backend_name}
        record["precision"] = segmenter.precision
        if arguments.rate:
            height, width = (int(side) for side in arguments.rate.split("x"))
            record["rate"] = rate(segmenter, (height, width), arguments.rounds)
        else:
            sheets = [sheet(FIRST_SEED + 100 * number, 3, 3) for number in range(2)]
            wide = [draw_scene(FIRST_SEED + 1000 + number, 1024, 3072) for number in range(2)]
            record["band_pixels"] = BAND
            record["sheets"] = {
                "pictures": len(sheets),
                "size_hw": list(sheets[0][1].shape),
                "ways": compare(segmenter, sheets),
            }
            record["wide"] = {
                "pictures": len(wide),
                "size_hw": list(wide[0][1].shape),
                "ways": compare(segmenter, wide),
            }
    if arguments.out:
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()

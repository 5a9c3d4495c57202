"""The record of an evaluation: what the table and the page show, and what stands in ``eval.json``.

``eval.json`` holds these keys; none is ever missing.  Scores are fractions, 0 to 1, unrounded; one that does not exist
(a class that never occurs) is the string ``"nan"``, because JSON has no such number.

``format``, ``format_version``
    "isa-eval" and 1.  A higher number means that a key changed its meaning or went away; new keys may come at any time.
``made_at``, ``isa_deploy``, ``command``
    ISO 8601 in UTC; the version; what was run.
``engine``
    ``path``, ``backend``, ``precision`` (what it computes in), ``device``, ``resize`` ("test", "none" or "HxW").
``model``
    ``architecture``, ``precision`` (of the file), ``mode`` ("whole" or "slide"), ``checkpoint`` (file name),
    ``checkpoint_sha256``.
``dataset``
    ``key`` (what ``--dataset`` takes), ``title``, ``root``, ``split``, ``pictures`` (images that have labels),
    ``images_without_labels`` and ``labels_without_images`` (names).
``classes``
    The names, in the order of the labels.
``ways``
    One for each way that the pictures went through the network, two with ``--tiling``, the tiled one last:

    ``name``, ``how``
        "as tested" ("unresized" or "resized" with another ``--resize``), "multi-scale and flip" or "tiled"; the way in
        words.
    ``miou``, ``macc``, ``aacc``
        As mmsegmentation's IoUMetric.
    ``classes``
        One for each class: ``name``, ``iou``, ``acc``, ``truth_pixels``, ``predicted_pixels`` (where the truth is not
        void) and ``correct_pixels``.
    ``counts_tl``
        The confusion matrix in pixels: a row for each class of the truth and a last one for truth outside the
        classes, a column for each predicted class.
    ``left_out``
        Names of the pictures that could not be used, to the reason.
    ``pictures``
        One for each picture: ``name``, ``image``, ``truth`` (files), ``height``, ``width``, ``miou``, ``aacc``,
        ``void_pixels`` (not counted), ``outside_pixels`` (truth outside the classes).
    ``seconds``
        Times: ``total`` (wall clock), and the fields of :class:`~isa_deploy.evaluate.evaluation.Timings`.
``tiling_difference``
    What the last way of two has more than the first: ``miou``, ``macc``, ``aacc``, ``iou`` (a number for each class);
    null where there is one way.
``published``
    The model card's figure beside ours: ``card``, ``figure`` ("mIoU" or "mIoU, multi-scale and flip"), ``per_cent``,
    ``ours_per_cent`` (both rounded to two decimals) and ``caveats`` (why the two are not quite the same measure); null
    where there is none.
``published_note``
    Why there is no published figure; empty where there is one.
``environment``
    Processor, cores, memory and library versions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from isa_deploy.evaluate.dataset import Listing
from isa_deploy.evaluate.evaluation import Evaluation, PictureResult
from isa_deploy.evaluate.metrics import percent
from isa_deploy.manifest import Manifest
from isa_deploy.pages.texts import json_text

__all__ = ["FORMAT_VERSION", "EngineFacts", "Published", "Record", "Way", "counted", "record_json", "time_words"]

FORMAT_VERSION = 1


@dataclass(frozen=True)
class EngineFacts:
    """What ran: the path that was given, and what the Segmenter says of itself."""

    path: str
    backend: str
    precision: str
    device: str
    resize: str


@dataclass(frozen=True)
class Way:
    """A way that the pictures went through the network, and what came of it.

    ``name``: "as tested", "unresized", "resized", "multi-scale and flip" or "tiled"; ``how``: the same in words, with
    its numbers.
    """

    name: str
    how: str
    evaluation: Evaluation


@dataclass(frozen=True)
class Published:
    """The model card's figure for a checkpoint and a data set.

    ``per_cent``: as published, two decimals.  ``caveats``: why ours is not quite the same measure, each a clause.
    """

    card: str
    figure: str
    per_cent: float
    caveats: tuple[str, ...]


@dataclass(frozen=True)
class Record:
    """All that is shown and written; see the module.

    ``ways``: one, or the usual one and the tiled one.  ``published_note``: why ``published`` is None; else "".
    """

    made_at: str
    isa_deploy: str
    command: str
    engine: EngineFacts
    manifest: Manifest
    dataset_key: str
    dataset_title: str
    root: str
    split: str
    listing: Listing
    classes: tuple[str, ...]
    ways: tuple[Way, ...]
    published: Published | None
    published_note: str
    environment: dict[str, object]

    @property
    def subject(self) -> str:
        """What was evaluated, for a headline: "Cityscapes (val)", or the name of a folder of one's own."""
        if self.dataset_key == "folder":
            return Path(self.root).resolve().name
        return f"{self.dataset_title} ({self.split})"

    @property
    def usual(self) -> Way:
        """The way that the published figure, the pictures and the first column are of."""
        return self.ways[0]

    @property
    def tiled(self) -> Way | None:
        """The same pictures in tiles, where that was asked for."""
        return self.ways[1] if len(self.ways) > 1 else None

    @property
    def ours_per_cent(self) -> float:
        """Our mIoU as mmsegmentation prints it, beside :attr:`published`."""
        return percent(self.usual.evaluation.scores.miou)


def counted(count: int, thing: str) -> str:
    """ "1 picture", "2 pictures", "1,234 pictures"."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def time_words(evaluation: Evaluation) -> str:
    """How long it took, and whether the engine was what it waited for."""
    seconds = max(evaluation.seconds, 1e-9)
    timings = evaluation.timings
    return (
        f"{counted(len(evaluation.pictures), 'picture')} in {evaluation.seconds:.1f} s, "
        f"{evaluation.frames_per_second:.2f} pictures/s; of the time "
        f"{timings.engine_wait_s / seconds:.0%} with the engine, "
        f"{timings.reading_wait_s / seconds:.0%} waiting for pictures to be read, "
        f"{timings.counting_wait_s / seconds:.0%} for the counting"
    )


def record_json(record: Record) -> str:
    """The text of ``eval.json``; its keys are this module's docstring."""
    manifest = record.manifest
    return json_text(
        {
            "format": "isa-eval",
            "format_version": FORMAT_VERSION,
            "made_at": record.made_at,
            "isa_deploy": record.isa_deploy,
            "command": record.command,
            "engine": asdict(record.engine),
            "model": {
                "architecture": manifest.architecture,
                "precision": manifest.precision,
                "mode": manifest.inference.mode,
                "checkpoint": manifest.source.file,
                "checkpoint_sha256": manifest.source.sha256,
            },
            "dataset": {
                "key": record.dataset_key,
                "title": record.dataset_title,
                "root": record.root,
                "split": record.split,
                "pictures": len(record.listing.samples),
                "images_without_labels": list(record.listing.images_without_labels),
                "labels_without_images": list(record.listing.labels_without_images),
            },
            "classes": list(record.classes),
            "ways": [_way(way, record.classes) for way in record.ways],
            "tiling_difference": _tiling_difference(record),
            "published": None if record.published is None else _published(record, record.published),
            "published_note": record.published_note,
            "environment": record.environment,
        }
    )


def _way(way: Way, names: tuple[str, ...]) -> dict[str, Any]:
    evaluation = way.evaluation
    scores = evaluation.scores
    counts_tl = evaluation.counts_tl
    return {
        "name": way.name,
        "how": way.how,
        "miou": scores.miou,
        "macc": scores.macc,
        "aacc": scores.aacc,
        "classes": [
            {
                "name": name,
                "iou": scores.iou[label],
                "acc": scores.acc[label],
                "truth_pixels": int(counts_tl[label].sum()),
                "predicted_pixels": int(counts_tl[:, label].sum()),
                "correct_pixels": int(counts_tl[label, label]),
            }
            for label, name in enumerate(names)
        ],
        "counts_tl": _rows(counts_tl),
        "left_out": dict(evaluation.left_out),
        "pictures": [_picture(result) for result in evaluation.pictures],
        "seconds": {"total": evaluation.seconds, **asdict(evaluation.timings)},
    }


def _rows(counts_tl: npt.NDArray[np.int64]) -> list[list[int]]:
    return [[int(count) for count in row] for row in counts_tl]


def _picture(result: PictureResult) -> dict[str, Any]:
    height, width = result.size_hw
    return {
        "name": result.name,
        "image": str(result.image),
        "truth": str(result.truth),
        "height": height,
        "width": width,
        "miou": result.scores.miou,
        "aacc": result.scores.aacc,
        "void_pixels": result.void,
        "outside_pixels": result.outside,
    }


def _tiling_difference(record: Record) -> dict[str, Any] | None:
    if record.tiled is None:
        return None
    usual, tiled = record.usual.evaluation.scores, record.tiled.evaluation.scores
    return {
        "miou": tiled.miou - usual.miou,
        "macc": tiled.macc - usual.macc,
        "aacc": tiled.aacc - usual.aacc,
        "iou": [after - before for before, after in zip(usual.iou, tiled.iou, strict=True)],
    }


def _published(record: Record, published: Published) -> dict[str, Any]:
    return {
        "card": published.card,
        "figure": published.figure,
        "per_cent": published.per_cent,
        "ours_per_cent": record.ours_per_cent,
        "caveats": list(published.caveats),
    }

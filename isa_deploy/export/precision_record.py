"""The comparison of several precisions as ``report.json`` of the folder that holds them.

It holds these keys; none is ever missing, and a number that is not finite (the IoU of a class that never occurs) is
the string ``"nan"``, because JSON has none:

``format_version``
    1.
``kind``
    "precisions", which a single export's ``report.json`` does not have.
``headline``
    The outcome in a sentence.
``reference``
    Whose labels everything is compared with, in words.
``frames``, ``pixels``, ``truth_frames``, ``outside``
    How many frames and pixels were compared, how many of the frames have a label map, and how many pixels of those
    label maps have a label that is no class and not void.
``reference_truth``
    The checkpoint's own scores on the label maps: ``shown_miou`` (the mean IoU of the classes that the label maps show,
    0 to 1), ``miou``, ``macc``, ``aacc`` (as mmsegmentation computes them), ``iou`` and ``acc`` (a number for each
    class, in the order of the manifest).  Null without label maps.
``rows``
    For each combination of a file and an engine: ``name``; ``candidate``, ``precision`` and ``megabytes`` of the file
    (10**6 bytes); ``backend``; ``computes_in`` (what it was told) and ``runs_in`` (what it told); ``agreement`` (share
    of equal labels); ``differing`` (pixels); ``against_reference`` and ``against_truth`` (scores as above, the latter
    null without label maps); ``cost`` (the checkpoint's own ``shown_miou`` less this one's, or null);
    ``flips`` (the most frequent: ``reference`` and ``label`` (names), ``pixels``, ``share_of_flips``,
    ``share_of_class``); ``ms`` (median) and ``samples_ms``; ``speed`` (how many times as fast as the fastest float32,
    or null);
    ``on_front`` (whether no other is as fast and as accurate and better in one).
``timed``
    ``frames`` that the speeds are of, their ``height`` and ``width``.
``worst``
    The frames of the least agreement, at most four: ``frame``, ``height``, ``width``, ``combination`` (which
    agrees least), ``agreement`` (by name).
``skipped``
    Combinations that did not run, to the reason.
``environment``, ``command``, ``manifest``
    Versions and processor, as text; what makes these exports; the manifest of the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isa_deploy.evaluate.metrics import Scores
from isa_deploy.export.pareto import Point, front
from isa_deploy.export.precision_comparison import PrecisionComparison, PrecisionRow, shown_miou
from isa_deploy.export.precision_words import baseline, precision_verdict
from isa_deploy.pages.texts import json_text

__all__ = ["pareto_points", "precision_json"]

FORMAT_VERSION = 1


def precision_json(comparison: PrecisionComparison, environment: Mapping[str, str], command: str) -> str:
    """The text of ``report.json``; its keys are this module's docstring."""
    height, width = comparison.timed_hw
    on_front = {point.name for point in front(pareto_points(comparison))}
    return json_text(
        {
            "format_version": FORMAT_VERSION,
            "kind": "precisions",
            "headline": precision_verdict(comparison).headline.replace("\u00a0", " "),
            "reference": comparison.reference_name,
            "frames": comparison.frames,
            "pixels": comparison.pixels,
            "truth_frames": comparison.truth_frames,
            "outside": comparison.outside,
            "reference_truth": _scores(comparison.reference_truth),
            "rows": [_row(comparison, row, row.combination.name in on_front) for row in comparison.rows],
            "timed": {"frames": comparison.timed_frames, "height": height, "width": width},
            "worst": [
                {
                    "frame": each.name,
                    "height": each.reference_hw.shape[0],
                    "width": each.reference_hw.shape[1],
                    "combination": each.combination,
                    "agreement": each.agreement,
                }
                for each in comparison.worst
            ],
            "skipped": comparison.skipped,
            "environment": dict(environment),
            "command": command,
            "manifest": comparison.manifest.model_dump(mode="json"),
        }
    )


def pareto_points(comparison: PrecisionComparison) -> list[Point]:
    """Each row's time and mIoU in per cent: on the label maps where there are any, else against the checkpoint."""
    return [
        Point(
            row.combination.name,
            row.timing.ms,
            100 * shown_miou(row.against_truth or row.against_reference),
            row.combination.candidate.precision
            if row.combination.precision in ("auto", "fp32") or row.combination.candidate.precision == "int8"
            else row.combination.precision,
        )
        for row in comparison.rows
    ]


def _row(comparison: PrecisionComparison, row: PrecisionRow, on_front: bool) -> dict[str, Any]:
    plain = baseline(comparison)
    names = comparison.manifest.classes.names
    return {
        "name": row.combination.name,
        "candidate": row.combination.candidate.name,
        "precision": row.combination.candidate.precision,
        "megabytes": row.combination.candidate.megabytes,
        "backend": row.combination.backend,
        "computes_in": row.combination.precision,
        "runs_in": row.runs_in,
        "agreement": row.agreement,
        "differing": row.differing,
        "against_reference": _scores(row.against_reference),
        "against_truth": _scores(row.against_truth),
        "cost": row.cost,
        "flips": [
            {
                "reference": names[each.reference],
                "label": names[each.label],
                "pixels": each.pixels,
                "share_of_flips": each.share_of_flips,
                "share_of_class": each.share_of_class,
            }
            for each in row.flips
        ],
        "ms": row.timing.ms,
        "samples_ms": list(row.timing.samples_ms),
        "speed": None if plain is None else plain.timing.ms / row.timing.ms,
        "on_front": on_front,
    }


def _scores(found: Scores | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "shown_miou": shown_miou(found),
        "miou": found.miou,
        "macc": found.macc,
        "aacc": found.aacc,
        "iou": list(found.iou),
        "acc": list(found.acc),
    }

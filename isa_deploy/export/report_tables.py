"""A proof's figures as a reader wants them: by stage, by class, and as a record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from isa_deploy.export.parity import FramePictures, ParityReport, StageComparison
from isa_deploy.export.report_pictures import FrameFigures
from isa_deploy.export.report_words import failed, percent
from isa_deploy.manifest import Manifest

__all__ = [
    "ClassIoU",
    "ClassTable",
    "StageSummary",
    "class_rows",
    "frame_lines",
    "legend",
    "proof_record",
    "shown_stage",
    "summaries",
]


def proof_record(report: ParityReport, pictures: Sequence[FramePictures]) -> dict[str, Any]:
    """A comparison as both reports' JSON have it, "passed" to "skipped" of :mod:`isa_deploy.export.report`."""
    return {
        "passed": report.passed,
        "failures": list(report.failures),
        "threshold": report.threshold,
        "margin": report.margin,
        "logits_tolerance": report.logits_tolerance,
        "frames": [
            {"frame": each.frame, "height": each.reference_hw.shape[0], "width": each.reference_hw.shape[1]}
            for each in pictures
        ],
        "stages": [asdict(stage) for stage in summaries(report)],
        "comparisons": [asdict(comparison) for comparison in report.comparisons],
        "skipped": report.skipped,
    }


@dataclass(frozen=True)
class StageSummary:
    """One stage over all its frames; the fields are those of ``stages`` in ``report.json``."""

    stage: str
    precision: str
    gated: bool
    passed: bool | None
    label_agreement_min: float
    label_agreement_mean: float
    differing: int
    differing_certain: int
    logits_max_abs: float | None
    iou_min: dict[str, float]
    seconds: float


def summaries(report: ParityReport) -> list[StageSummary]:
    """The stages in the order they ran, each over all frames."""
    by_stage: dict[str, list[StageComparison]] = {}
    for comparison in report.comparisons:
        by_stage.setdefault(comparison.stage, []).append(comparison)
    result = []
    for stage, comparisons in by_stage.items():
        logits = [each.logits_max_abs for each in comparisons if each.logits_max_abs is not None]
        iou_min: dict[str, float] = {}
        for each in comparisons:
            for name, iou in each.iou_per_class.items():
                iou_min[name] = min(iou, iou_min.get(name, 1.0))
        gated = comparisons[0].gated
        result.append(
            StageSummary(
                stage=stage,
                precision=comparisons[0].precision,
                gated=gated,
                passed=not any(failed(report, each) for each in comparisons) if gated else None,
                label_agreement_min=min(each.label_agreement for each in comparisons),
                label_agreement_mean=sum(each.label_agreement for each in comparisons) / len(comparisons),
                differing=sum(each.differing for each in comparisons),
                differing_certain=sum(each.differing_certain for each in comparisons),
                # max() loses a NaN that is not the first; numpy's does not
                logits_max_abs=float(np.max(logits)) if logits else None,
                iou_min=iou_min,
                seconds=sum(each.seconds for each in comparisons),
            )
        )
    return result


@dataclass(frozen=True)
class ClassIoU:
    """A class whose label maps differ somewhere: its least IoU by stage, None where it did not occur."""

    name: str
    colour: str
    iou: dict[str, float | None]


@dataclass(frozen=True)
class ClassTable:
    """Classes by what became of them; ``worst`` is the least IoU of each stage, below 1."""

    changed: tuple[ClassIoU, ...]
    unchanged: tuple[str, ...]
    worst: dict[str, float]


def class_rows(report: ParityReport, stages: Sequence[StageSummary]) -> ClassTable:
    """Classes that differ somewhere, the worst first, and the names of those that differ nowhere."""
    colours = dict(zip(report.manifest.classes.names, report.manifest.classes.palette_rgb, strict=True))
    changed, unchanged = [], []
    for name in dict.fromkeys(name for stage in stages for name in stage.iou_min):
        iou = {stage.stage: stage.iou_min.get(name) for stage in stages}
        if all(value is None or value >= 1 for value in iou.values()):
            unchanged.append(name)
        else:
            changed.append(ClassIoU(name, _css(colours.get(name, (0, 0, 0))), iou))
    changed.sort(key=lambda row: min(value for value in row.iou.values() if value is not None))
    worst = {stage.stage: min(stage.iou_min.values(), default=1.0) for stage in stages}
    return ClassTable(tuple(changed), tuple(unchanged), {stage: iou for stage, iou in worst.items() if iou < 1})


def shown_stage(stages: Sequence[StageSummary]) -> str | None:
    """The stage whose labels are shown: the first that broke, or the last of those that decide."""
    for stage in stages:
        if stage.passed is False:
            return stage.stage
    deciding = [stage.stage for stage in stages if stage.gated] or [stage.stage for stage in stages]
    return deciding[-1] if deciding else None


def frame_lines(report: ParityReport, figures: Sequence[FrameFigures]) -> dict[str, str]:
    """Each pictured frame's agreement by stage, in a line."""
    lines = {}
    for each in figures:
        parts = [
            f"{comparison.stage}: {percent(comparison.label_agreement)}"
            for comparison in report.comparisons
            if comparison.frame == each.frame
        ]
        lines[each.frame] = ", ".join(parts)
    return lines


def legend(manifest: Manifest, pictures: Sequence[FramePictures]) -> list[tuple[str, str]]:
    """Names and CSS colours of the classes that any label map of the pictures shows."""
    present: set[int] = set()
    for picture in pictures:
        for labels_hw in (picture.reference_hw, *picture.stage_labels_hw.values()):
            present.update(int(label) for label in np.unique(labels_hw))
    return [
        (name, _css(colour))
        for label, (name, colour) in enumerate(zip(manifest.classes.names, manifest.classes.palette_rgb, strict=True))
        if label in present
    ]


def _css(colour_rgb: tuple[int, int, int]) -> str:
    red, green, blue = colour_rgb
    return f"#{red:02x}{green:02x}{blue:02x}"

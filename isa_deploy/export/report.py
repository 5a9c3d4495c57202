"""The proof of an export on paper: ``report.json`` for machines and ``report.html`` for people.

``report.json`` holds these keys; none is ever missing, and a number that is not finite (logits that broke)
is the string ``"nan"``, ``"inf"`` or ``"-inf"``, because JSON has none:

``format_version``
    1.
``passed``, ``failures``
    Whether the export equals its checkpoint, and if not, a sentence for each comparison that failed.
``threshold``, ``margin``, ``logits_tolerance``
    What was asked: the least share of equal labels (0 to 1); how far apart the checkpoint's two best logits
    must be for it to count as certain; the largest difference of logits, null where it does not decide.
``frames``
    ``frame`` (name), ``height`` and ``width`` (pixels) of each.
``stages``
    In the order they ran, over all frames: ``stage``, ``precision``, ``gated`` (whether it decides),
    ``passed`` (null where it does not decide), ``label_agreement_min`` and ``label_agreement_mean`` (0 to 1),
    ``differing`` and ``differing_certain`` (pixels), ``logits_max_abs`` (null where there were none),
    ``iou_min`` (class to least intersection over union, 0 to 1, for classes that occur), ``seconds``.
``comparisons``
    One for each stage and frame, with the fields of :class:`~isa_deploy.export.parity.StageComparison`.
``skipped``
    Stages that did not run, to the reason.
``environment``
    Versions and processor, as text.
``command``
    What makes this export again.
``manifest``
    The manifest, as in ``model.json``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from isa_deploy.export.parity import FramePictures, ParityReport, StageComparison
from isa_deploy.export.report_pictures import FrameFigures, frame_figures
from isa_deploy.export.report_words import failed, figure, model_facts, percent, remade_command, verdict
from isa_deploy.files import replacing
from isa_deploy.manifest import Manifest

__all__ = ["HTML_FILE", "JSON_FILE", "report_html", "report_json", "write_report"]

FORMAT_VERSION = 1
JSON_FILE = "report.json"
HTML_FILE = "report.html"
_TEMPLATE = "report.html.j2"


def write_report(
    report: ParityReport, pictures: Sequence[FramePictures], folder: Path, command: str | None = None
) -> None:
    """Write ``report.json`` and ``report.html`` into an existing folder, each whole or not at all.

    ``command`` is what the user ran; without it both files show one that makes the same export.  Raises
    :class:`~isa_deploy.errors.InputError` where a file cannot be written.
    """
    for name, text in (
        (JSON_FILE, report_json(report, pictures, command)),
        (HTML_FILE, report_html(report, pictures, command)),
    ):
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")


def report_json(report: ParityReport, pictures: Sequence[FramePictures], command: str | None = None) -> str:
    """The text of ``report.json``; its keys are this module's docstring."""
    record = {
        "format_version": FORMAT_VERSION,
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
        "environment": report.environment,
        "command": command or remade_command(report),
        "manifest": report.manifest.model_dump(mode="json"),
    }
    return json.dumps(_finite(record), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def report_html(report: ParityReport, pictures: Sequence[FramePictures], command: str | None = None) -> str:
    """The text of ``report.html``: one file that needs no other, no script and no network.

    Names of classes, frames and files are somebody else's: everything is escaped, and the page's own policy
    forbids scripts and whatever is not inside it.
    """
    stages = summaries(report)
    figures = frame_figures(pictures, report.manifest.classes.palette_rgb, _shown_stage(stages))
    return _template().render(
        report=report,
        manifest=report.manifest,
        verdict=verdict(report, pictures),
        stages=stages,
        grid=_grid(report, stages),
        classes=class_rows(report, stages),
        legend=_legend(report.manifest, pictures),
        figures=figures,
        left_out=len(pictures) - len(figures),
        frame_lines=_frame_lines(report, figures),
        model=model_facts(report.manifest),
        command=command or remade_command(report),
    )


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


def _shown_stage(stages: Sequence[StageSummary]) -> str | None:
    """The stage whose labels are shown: the first that broke, or the last of those that decide."""
    for stage in stages:
        if stage.passed is False:
            return stage.stage
    deciding = [stage.stage for stage in stages if stage.gated] or [stage.stage for stage in stages]
    return deciding[-1] if deciding else None


@dataclass(frozen=True)
class _Cell:
    comparison: StageComparison
    failed: bool


def _grid(report: ParityReport, stages: Sequence[StageSummary]) -> list[tuple[str, list[_Cell | None]]]:
    cells = {(each.frame, each.stage): _Cell(each, failed(report, each)) for each in report.comparisons}
    frames = dict.fromkeys(each.frame for each in report.comparisons)
    return [(frame, [cells.get((frame, stage.stage)) for stage in stages]) for frame in frames]


def _frame_lines(report: ParityReport, figures: Sequence[FrameFigures]) -> dict[str, str]:
    lines = {}
    for each in figures:
        parts = [
            f"{comparison.stage}: {percent(comparison.label_agreement)}"
            for comparison in report.comparisons
            if comparison.frame == each.frame
        ]
        lines[each.frame] = ", ".join(parts)
    return lines


def _legend(manifest: Manifest, pictures: Sequence[FramePictures]) -> list[tuple[str, str]]:
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


def _finite(value: Any) -> Any:
    """``value`` with every float that JSON cannot say replaced by its name."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _template() -> jinja2.Template:
    source = Path(__file__).with_name(_TEMPLATE).read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["percent"] = percent
    environment.filters["figure"] = figure
    return environment.from_string(source)

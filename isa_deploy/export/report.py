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
``int8``
    Null, or what an int8 graph was chosen by, on ``frames`` calibration frames: ``ranges`` (the way), ``points`` of
    mIoU lost as estimated, ``budget`` (points allowed), ``agreement`` (share of equal labels), ``tried_ranges`` and
    ``layers`` with the fields of :class:`~isa_deploy.export.int8_search.RangeFinding` and
    :class:`~isa_deploy.export.int8_search.LayerFinding`.
``environment``
    Versions and processor, as text.
``command``
    What makes this export again.
``manifest``
    The manifest, as in ``model.json``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from isa_deploy.export.int8_search import Int8Choice
from isa_deploy.export.int8_words import choice_record
from isa_deploy.export.parity import FramePictures, ParityReport, StageComparison
from isa_deploy.export.report_files import render_page
from isa_deploy.export.report_pictures import frame_figures
from isa_deploy.export.report_tables import (
    StageSummary,
    class_rows,
    frame_lines,
    legend,
    proof_record,
    shown_stage,
    summaries,
)
from isa_deploy.export.report_words import THE_CHECKPOINT, failed, model_facts, remade_command, verdict
from isa_deploy.pages.texts import json_text, write_texts

__all__ = ["HTML_FILE", "JSON_FILE", "report_html", "report_json", "write_report"]

FORMAT_VERSION = 1
JSON_FILE = "report.json"
HTML_FILE = "report.html"


def write_report(
    report: ParityReport,
    pictures: Sequence[FramePictures],
    folder: Path,
    command: str | None = None,
    choice: Int8Choice | None = None,
) -> None:
    """Write ``report.json`` and ``report.html`` into an existing folder, each whole or not at all.

    ``command`` is what the user ran; without it both files show one that makes the same export.  ``choice``: what was
    chosen for an int8 graph.  Raises
    :class:`~isa_deploy.errors.InputError` where a file cannot be written.
    """
    write_texts(
        folder,
        {
            JSON_FILE: report_json(report, pictures, command, choice),
            HTML_FILE: report_html(report, pictures, command, choice),
        },
    )


def report_json(
    report: ParityReport,
    pictures: Sequence[FramePictures],
    command: str | None = None,
    choice: Int8Choice | None = None,
) -> str:
    """The text of ``report.json``; its keys are this module's docstring."""
    return json_text(
        {
            "format_version": FORMAT_VERSION,
            **proof_record(report, pictures),
            "int8": None if choice is None else choice_record(choice),
            "environment": report.environment,
            "command": command or remade_command(report),
            "manifest": report.manifest.model_dump(mode="json"),
        }
    )


def report_html(
    report: ParityReport,
    pictures: Sequence[FramePictures],
    command: str | None = None,
    choice: Int8Choice | None = None,
) -> str:
    """The text of ``report.html``: one file that needs no other, no script and no network.

    Names of classes, frames and files are somebody else's: everything is escaped, and the page's own policy
    forbids scripts and whatever is not inside it.
    """
    stages = summaries(report)
    figures = frame_figures(pictures, report.manifest.classes.palette_rgb, shown_stage(stages), THE_CHECKPOINT)
    return render_page(
        "report.html.j2",
        {
            "report": report,
            "manifest": report.manifest,
            "sides": THE_CHECKPOINT,
            "verdict": verdict(report, pictures),
            "stages": stages,
            "grid": _grid(report, stages),
            "classes": class_rows(report, stages),
            "choice": choice,
            "legend": legend(report.manifest, pictures),
            "figures": figures,
            "left_out": len(pictures) - len(figures),
            "frame_lines": frame_lines(report, figures),
            "model": model_facts(report.manifest),
            "environment": [(name, value, False) for name, value in report.environment.items()],
            "command": command or remade_command(report),
        },
    )


@dataclass(frozen=True)
class _Cell:
    comparison: StageComparison
    failed: bool


def _grid(report: ParityReport, stages: Sequence[StageSummary]) -> list[tuple[str, list[_Cell | None]]]:
    cells = {(each.frame, each.stage): _Cell(each, failed(report, each)) for each in report.comparisons}
    frames = dict.fromkeys(each.frame for each in report.comparisons)
    return [(frame, [cells.get((frame, stage.stage)) for stage in stages]) for frame in frames]

"""The comparison of several precisions on paper: ``report.json`` for machines and ``report.html`` for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from isa_deploy.evaluate.metrics import Scores
from isa_deploy.evaluate.metrics import percent as rounded_percent
from isa_deploy.export.pareto import front, pareto_svg
from isa_deploy.export.parity import FramePictures
from isa_deploy.export.precision_comparison import Flip, PrecisionComparison, WorstFrame, shown_miou
from isa_deploy.export.precision_record import pareto_points, precision_json
from isa_deploy.export.precision_words import (
    baseline,
    basis_words,
    cost_points,
    headline_row,
    points_words,
    precision_verdict,
    speed_words,
)
from isa_deploy.export.publishing import REPORT_FILES
from isa_deploy.export.report_files import render_page
from isa_deploy.export.report_pictures import MAX_CHARACTERS, FrameFigures, frame_figures
from isa_deploy.export.report_tables import legend
from isa_deploy.export.report_words import Sides, model_facts, percent
from isa_deploy.pages.texts import write_texts
from isa_deploy.runtime.palette import PaletteRGB

__all__ = ["precision_html", "write_precision_report"]

MAX_CLASSES = 40
"""Rows of a table of classes on the page; JSON has all."""


def write_precision_report(
    comparison: PrecisionComparison, folder: Path, environment: Mapping[str, str], command: str
) -> None:
    """Write ``report.json`` and ``report.html`` into an existing folder, each whole or not at all.

    ``environment``: of :func:`isa_deploy.export.parity.environment`; ``command``: what makes these exports.  Raises
    :class:`~isa_deploy.errors.InputError` where a file cannot be written.
    """
    texts = (
        precision_json(comparison, environment, command),
        precision_html(comparison, environment, command),
    )
    write_texts(folder, dict(zip(REPORT_FILES, texts, strict=True)))


def precision_html(comparison: PrecisionComparison, environment: Mapping[str, str], command: str) -> str:
    """The text of ``report.html``: one file that needs no other, no script and no network.

    Names of classes, frames and files are somebody else's: everything is escaped, and the page's own policy
    forbids scripts and whatever is not inside it.
    """
    manifest = comparison.manifest
    truth = comparison.reference_truth
    points = pareto_points(comparison)
    sides = Sides(subject="export", yardstick="the checkpoint", engine=comparison.reference_name)
    pictures, figures = _worst_figures(comparison.worst, manifest.classes.palette_rgb, sides)
    leading = headline_row(comparison)
    return render_page(
        "precisions.html.j2",
        {
            "comparison": comparison,
            "manifest": manifest,
            "verdict": precision_verdict(comparison),
            "basis": basis_words(comparison),
            "speed": speed_words(comparison),
            # every name in it is escaped where it is made
            "picture": Markup(
                pareto_svg(
                    points,
                    "mIoU on the label maps" if truth else "mIoU against the checkpoint’s labels",
                    None if truth is None else ("the checkpoint itself", 100 * shown_miou(truth)),
                )
            ),
            "rows": _rows(comparison, {point.name for point in front(points)}),
            "reference_miou": None if truth is None else f"{rounded_percent(shown_miou(truth)):.2f}\u00a0%",
            "flips": [
                _Flips(row.combination.name, row is leading, row.differing, _flip_rows(comparison, row.flips))
                for row in comparison.rows
                if row.flips
            ],
            "unflipped": [row.combination.name for row in comparison.rows if not row.flips],
            "columns": [row.combination.name for row in comparison.rows],
            "likeness": _likeness(comparison),
            "accuracy": None if truth is None else _accuracy(comparison, truth),
            "legend": legend(manifest, pictures),
            "figures": figures,
            "left_out": comparison.frames - len(figures),
            "frame_lines": {
                each.name: ", ".join(f"{name}: {percent(share)}" for name, share in each.agreement.items())
                for each in comparison.worst
            },
            "model": model_facts(manifest),
            "environment": [(name, value, False) for name, value in environment.items()],
            "command": command,
        },
    )


@dataclass(frozen=True)
class _Row:
    """A row of the table of combinations, in words; None where there is no such figure."""

    name: str
    runs_in: str
    on_front: bool
    megabytes: str
    ms: str
    spread: str
    speed: str | None
    agreement: str
    differing: int
    likeness: str
    miou: str | None
    cost: str | None


def _rows(comparison: PrecisionComparison, on_front: set[str]) -> list[_Row]:
    plain = baseline(comparison)
    rows = []
    for row in comparison.rows:
        cost = cost_points(comparison, row)
        ms = row.timing.ms
        rows.append(
            _Row(
                name=row.combination.name,
                runs_in=row.runs_in,
                on_front=row.combination.name in on_front,
                megabytes=f"{row.combination.candidate.megabytes:.3g}\u00a0MB",
                ms=f"{ms:.3g}\u00a0ms",
                spread=f"{min(row.timing.samples_ms):.3g} to {max(row.timing.samples_ms):.3g}",
                speed=None if plain is None else f"{plain.timing.ms / ms:.2f}\u00a0×",
                agreement=percent(row.agreement),
                differing=row.differing,
                likeness=percent(shown_miou(row.against_reference)),
                miou=None if row.against_truth is None else _rounded(shown_miou(row.against_truth)),
                # what is lost is shown as what it is: fewer points
                cost=None if cost is None else points_words(-cost if cost else 0.0),
            )
        )
    return rows


@dataclass(frozen=True)
class _FlipRow:
    reference: str
    reference_colour: str
    label: str
    label_colour: str
    pixels: int
    share_of_flips: str
    share_of_class: str


@dataclass(frozen=True)
class _Flips:
    """A combination's most frequent flips; ``open``: unfolded on the page."""

    name: str
    open: bool
    differing: int
    rows: list[_FlipRow]


def _flip_rows(comparison: PrecisionComparison, flips: Sequence[Flip]) -> list[_FlipRow]:
    names, colours = _names_and_colours(comparison)
    return [
        _FlipRow(
            names[each.reference],
            colours[each.reference],
            names[each.label],
            colours[each.label],
            each.pixels,
            f"{100 * each.share_of_flips:.1f}\u00a0%",
            f"{100 * each.share_of_class:.2g}\u00a0%",
        )
        for each in flips
    ]


@dataclass(frozen=True)
class _Cell:
    """A figure in words, with a second line, marked where it is the worst of its column."""

    words: str
    small: str | None
    worst: bool


@dataclass(frozen=True)
class _ClassRow:
    name: str
    colour: str
    own: str | None
    cells: list[_Cell | None]


@dataclass(frozen=True)
class _ClassTable:
    """The worst classes, how many more have a row in JSON alone, and the names of those that are equal everywhere."""

    rows: list[_ClassRow]
    more: int
    equal: list[str]


def _likeness(comparison: PrecisionComparison) -> _ClassTable:
    """IoU against the checkpoint's labels: the classes that differ, worst first."""
    names, colours = _names_and_colours(comparison)
    iou_rc = [row.against_reference.iou for row in comparison.rows]
    worst = [min((each for each in of_row if math.isfinite(each)), default=1.0) for of_row in iou_rc]
    least: dict[int, float] = {}
    equal = []
    for label in range(len(names)):
        finite = [of_row[label] for of_row in iou_rc if math.isfinite(of_row[label])]
        if finite and min(finite) < 1:
            least[label] = min(finite)
        elif finite:
            equal.append(names[label])
    order = sorted(least, key=least.__getitem__)
    rows = [
        _ClassRow(
            names[label],
            colours[label],
            None,
            [
                _Cell(percent(of_row[label]), None, of_row[label] == worst_one < 1)
                if math.isfinite(of_row[label])
                else None
                for of_row, worst_one in zip(iou_rc, worst, strict=True)
            ],
        )
        for label in order[:MAX_CLASSES]
    ]
    return _ClassTable(rows, len(order) - len(rows), equal)


def _accuracy(comparison: PrecisionComparison, truth: Scores) -> _ClassTable:
    """IoU on the label maps with the differences to the checkpoint's own: the largest loss first."""
    names, colours = _names_and_colours(comparison)
    scored = [row.against_truth for row in comparison.rows if row.against_truth is not None]
    points_rc = [
        [round(rounded_percent(found.iou[label]) - rounded_percent(truth.iou[label]), 2) for label in range(len(names))]
        for found in scored
    ]
    lowest = [min((each for each in of_row if math.isfinite(each)), default=0.0) for of_row in points_rc]
    # a class that the truth and the checkpoint never show can still be answered by a precision: its own is nan then
    present = [label for label in range(len(names)) if any(math.isfinite(found.iou[label]) for found in scored)]

    def loss(label: int) -> float:
        return min((of_row[label] for of_row in points_rc if math.isfinite(of_row[label])), default=0.0)

    order = sorted(present, key=loss)
    rows = []
    for label in order[:MAX_CLASSES]:
        cells = [
            _Cell(
                _rounded(found.iou[label]),
                points_words(of_row[label]) if math.isfinite(of_row[label]) else None,
                of_row[label] == lowest_one < 0,
            )
            if math.isfinite(found.iou[label])
            else None
            for found, of_row, lowest_one in zip(scored, points_rc, lowest, strict=True)
        ]
        own = _rounded(truth.iou[label]) if math.isfinite(truth.iou[label]) else None
        rows.append(_ClassRow(names[label], colours[label], own, list(cells)))
    return _ClassTable(rows, len(order) - len(rows), [])


def _worst_figures(
    worst: Sequence[WorstFrame], palette_rgb: PaletteRGB, sides: Sides
) -> tuple[list[FramePictures], list[FrameFigures]]:
    """The frames with the labels of the combination that agrees least, as many as the page has room for."""
    pictures: list[FramePictures] = []
    figures: list[FrameFigures] = []
    room = MAX_CHARACTERS
    for each in worst:
        picture = FramePictures(each.name, each.frame_hwc, each.reference_hw, {each.combination: each.labels_hw})
        made = frame_figures([picture], palette_rgb, each.combination, sides)
        room -= sum(len(figure.uri) for one in made for figure in one.figures)
        if room < 0:
            break
        if made:
            pictures.append(picture)
            figures += made
    return pictures, figures


def _names_and_colours(comparison: PrecisionComparison) -> tuple[Sequence[str], list[str]]:
    classes = comparison.manifest.classes
    return classes.names, [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in classes.palette_rgb]


def _rounded(share: float) -> str:
    return f"{rounded_percent(share):.2f}\u00a0%"

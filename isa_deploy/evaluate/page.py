"""An evaluation on a page for people: one file that needs no other, no script and no network.

Names of classes, pictures and files are somebody else's: everything is escaped, and the page's own policy forbids
scripts and whatever is not inside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from isa_deploy.evaluate.metrics import percent
from isa_deploy.evaluate.page_pictures import PictureFigures, picture_figures
from isa_deploy.evaluate.record import Record, counted, time_words
from isa_deploy.pages.rendering import load_template

if TYPE_CHECKING:
    import jinja2

__all__ = ["Mistake", "load_page", "most_mistaken", "page_html"]

TEMPLATE = "report.html.j2"
MAX_NAMES = 20  # of a list; all stand in the JSON file
MAX_MISTAKES = 12


@dataclass(frozen=True)
class Mistake:
    """Pixels of one class of the truth that were taken for another; ``share`` of that class's pixels, 0 to 1."""

    truth: str
    predicted: str
    pixels: int
    share: float


@dataclass(frozen=True)
class _ClassRow:
    name: str
    colour: str
    iou: float
    acc: float
    tiled_iou: float | None


@dataclass(frozen=True)
class _Names:
    """A list of names, the first of them shown."""

    title: str
    shown: tuple[tuple[str, str], ...]  # name, reason or ""
    more: int


def load_page() -> jinja2.Template:
    """The page's template.  Raises :class:`BackendUnavailableError` where jinja2 is not installed."""
    filters: dict[str, Callable[..., str]] = {"percent": _per_cent, "width": _width, "points": _points}
    return load_template(Path(__file__).parent, TEMPLATE, filters, extra="eval")


def page_html(template: jinja2.Template, record: Record) -> str:
    """The text of ``eval.html``; ``template`` is :func:`load_page`'s."""
    evaluation = record.usual.evaluation
    figures = picture_figures(evaluation.worst, record.manifest.classes.palette_rgb)
    rows = _class_rows(record)
    return template.render(
        record=record,
        usual=record.usual,
        tiled=record.tiled,
        counted=counted,
        rows=rows,
        absent=[row.name for row in rows if math.isnan(row.iou)],
        mistakes=most_mistaken(record),
        figures=figures,
        without_room=len(evaluation.worst) - len(figures),
        legend=_legend(record, figures),
        not_counted=_not_counted(record),
        outside=sum(result.outside for result in evaluation.pictures),
        model=_model_facts(record),
        environment=[(name, _words(value), False) for name, value in record.environment.items()],
    )


def most_mistaken(record: Record) -> list[Mistake]:
    """The pairs of classes that cost most pixels, most first; what was predicted where the truth is another class."""
    classes = len(record.classes)
    counts_tl = record.usual.evaluation.counts_tl[:classes].copy()
    totals_t = counts_tl.sum(axis=1)
    np.fill_diagonal(counts_tl, 0)
    order = np.argsort(-counts_tl, axis=None, kind="stable")[:MAX_MISTAKES]
    found = []
    for truth, predicted in (divmod(int(place), classes) for place in order):
        pixels = int(counts_tl[truth, predicted])
        if pixels:
            share = pixels / int(totals_t[truth])
            found.append(Mistake(record.classes[truth], record.classes[predicted], pixels, share))
    return found


def _class_rows(record: Record) -> list[_ClassRow]:
    scores = record.usual.evaluation.scores
    tiled = record.tiled.evaluation.scores.iou if record.tiled is not None else None
    return [
        _ClassRow(
            name,
            _css(record.manifest.classes.palette_rgb[label]),
            scores.iou[label],
            scores.acc[label],
            None if tiled is None else tiled[label],
        )
        for label, name in enumerate(record.classes)
    ]


def _legend(record: Record, figures: list[PictureFigures]) -> list[tuple[str, str]]:
    """Names and CSS colours of the classes that the shown pictures have, in truth or prediction."""
    present: set[int] = set()
    for each in figures:
        for labels_hw in (each.picture.truth_hw, each.picture.labels_hw):
            present.update(int(label) for label in np.unique(labels_hw))
    colours = map(_css, record.manifest.classes.palette_rgb)
    both = enumerate(zip(record.classes, colours, strict=True))
    return [(name, colour) for label, (name, colour) in both if label in present]


def _not_counted(record: Record) -> list[_Names]:
    listing = record.listing
    lists = [
        ("Images without labels", [(name, "") for name in listing.images_without_labels]),
        ("Labels without images", [(name, "") for name in listing.labels_without_images]),
        *((f"Could not be used ({way.name})", list(way.evaluation.left_out.items())) for way in record.ways),
    ]
    return [
        _Names(f"{title}: {len(names):,}", tuple(names[:MAX_NAMES]), max(0, len(names) - MAX_NAMES))
        for title, names in lists
        if names
    ]


def _model_facts(record: Record) -> list[tuple[str, str, bool]]:
    """What was run on what, as (name, words, whether it is code to be set in a fixed-width face)."""
    manifest, engine = record.manifest, record.engine
    facts = [
        ("Data set", record.subject, False),
        ("Its folder", record.root, True),
        ("Architecture", manifest.architecture, False),
        ("Checkpoint", manifest.source.file, False),
        ("Checkpoint’s SHA-256", manifest.source.sha256, True),
        ("Engine", engine.path, True),
        ("Precision of the file", manifest.precision, False),
        ("Computed by", f"{engine.backend}, {engine.precision}, {engine.device}", False),
        ("Size that the network sees", f"--resize {engine.resize}", False),
    ]
    for way in record.ways:
        facts.append((way.name.capitalize(), way.how, False))
        facts.append((f"Time, {way.name}", time_words(way.evaluation), False))
    facts.append(("isa-deploy", f"{record.isa_deploy}, {record.made_at}", False))
    return facts


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _css(colour_rgb: tuple[int, int, int]) -> str:
    red, green, blue = colour_rgb
    return f"#{red:02x}{green:02x}{blue:02x}"


def _per_cent(score: float) -> str:
    return f"{percent(score):.2f}"


def _width(score: float) -> str:
    """The length of a bar, as CSS takes it."""
    return f"{100 * score:.2f}%" if math.isfinite(score) else "0"


def _points(after: float, before: float) -> str:
    """The difference of two scores as they are shown."""
    difference = percent(after) - percent(before)
    return "nan" if math.isnan(difference) else f"{difference + 0.0:+.2f}"

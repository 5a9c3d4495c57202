"""An evaluation on a terminal: the table that mmsegmentation prints, and what belongs to it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from isa_deploy.evaluate.metrics import percent
from isa_deploy.evaluate.record import Record, counted, time_words

__all__ = ["print_record"]

WIDTH = 100  # in a pipe or a file
MIN_WIDTH = 80  # all columns and some of a name; a terminal that has less breaks the lines

NEVER = "absent: not in the mean"
NOT_IN_TRUTH = "not in the truth"
TILES_ALONE = "predicted in tiles alone"
USUAL_ALONE = "not predicted in tiles"


def print_record(record: Record, console: Console | None = None) -> None:
    """Print a row for each class, the means, the published figure and the times.

    Scores are in per cent, rounded to two decimals as mmsegmentation's IoUMetric does; one that does not exist is nan.
    ``console``: standard output unless given; below 80 columns a given one cuts the table's lines off.
    """
    if console is None:
        console = Console(highlight=False)
        console.width = max(console.width, MIN_WIDTH) if console.is_terminal else WIDTH
    for number, line in enumerate(_heading(record)):
        console.print(Text(_printable(line), style="bold" if number == 0 else ""), soft_wrap=True)
    console.print()
    console.print(_classes(record))
    console.print()
    console.print(_means(record))
    console.print()
    for line in _footnotes(record):
        console.print(Text(_printable(line)), soft_wrap=True)


def _heading(record: Record) -> Iterator[str]:
    pictures = counted(len(record.usual.evaluation.pictures), "picture")
    yield f"{record.subject}, {pictures}"
    manifest, engine = record.manifest, record.engine
    yield f"{manifest.architecture} of {manifest.source.file}; {engine.backend} {engine.precision}, {engine.device}"
    for way in record.ways:
        yield f"{way.name}: {way.how}"


def _classes(record: Record) -> RenderableType:
    table = _table("class", "IoU", "Acc", *(["IoU tiled", "difference"] if record.tiled else []))
    scores = record.usual.evaluation.scores
    tiled_ious = scores.iou if record.tiled is None else record.tiled.evaluation.scores.iou
    notes = [_note(*each) for each in zip(scores.iou, scores.acc, tiled_ious, strict=True)]
    if any(notes):
        table.add_column("", no_wrap=True)
    for label, name in enumerate(record.classes):
        cells = [_per_cent(scores.iou[label]), _per_cent(scores.acc[label])]
        if record.tiled is not None:
            tiled_iou = record.tiled.evaluation.scores.iou[label]
            cells += [_per_cent(tiled_iou), _difference(scores.iou[label], tiled_iou)]
        table.add_row(Text(_printable(name)), *cells, *([Text(notes[label], style="dim")] if any(notes) else []))
    return table


def _note(iou: float, acc: float, tiled_iou: float) -> str:
    # a class that one of two ways predicts by mistake is in the mean of that way, as 0
    if math.isnan(iou):
        return NEVER if math.isnan(tiled_iou) else TILES_ALONE
    if math.isnan(acc):
        return USUAL_ALONE if math.isnan(tiled_iou) else NOT_IN_TRUTH
    return ""


def _means(record: Record) -> RenderableType:
    usual = record.usual.evaluation.scores
    if record.tiled is None:
        table = _table("", "", headed=False)
        for name, score in (("mIoU", usual.miou), ("mAcc", usual.macc), ("aAcc", usual.aacc)):
            table.add_row(name, _per_cent(score))
        return table
    tiled = record.tiled.evaluation.scores
    table = _table("", record.usual.name, record.tiled.name, "difference")
    for name, before, after in (
        ("mIoU", usual.miou, tiled.miou),
        ("mAcc", usual.macc, tiled.macc),
        ("aAcc", usual.aacc, tiled.aacc),
    ):
        table.add_row(name, _per_cent(before), _per_cent(after), _difference(before, after))
    return table


def _table(first: str, *others: str, headed: bool = True) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=headed)
    # names give way where there is little room, numbers never
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _footnotes(record: Record) -> Iterator[str]:
    published = record.published
    if published is None:
        yield record.published_note
    else:
        ours = record.ours_per_cent
        caveats = f" ({'; '.join(published.caveats)})" if published.caveats else ""
        yield (
            f"Published: {published.per_cent:.2f} {published.figure} of {published.card}; ours {ours:.2f}, "
            f"{ours - published.per_cent:+.2f}{caveats}"
        )
    for way in record.ways:
        yield f"{way.name}: {time_words(way.evaluation)}"


def _per_cent(score: float) -> str:
    return f"{percent(score):.2f}"


def _difference(before: float, after: float) -> str:
    """Between the two as they are shown, so that the row adds up."""
    difference = percent(after) - percent(before)
    return "nan" if math.isnan(difference) else f"{difference + 0.0:+.2f}"


def _printable(text: str) -> str:
    """Names of files and of classes are somebody else's: an escape would reach the terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)

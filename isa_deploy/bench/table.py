"""The record on a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from isa_deploy.bench.contestants import shape_words
from isa_deploy.bench.frame_split import FrameSplit
from isa_deploy.bench.record import Record, Result

__all__ = ["print_record"]

WIDTH = 100  # in a pipe or a file
BUSY = 0.25  # of the cores


def print_record(record: Record, console: Console | None = None) -> None:
    """Print the table of results, and under it where a frame's time goes and what the figures are."""
    if console is None:
        console = Console(highlight=False)
        if not console.is_terminal:
            console = Console(highlight=False, width=WIDTH)
    console.print(_heading(record))
    console.print(_results(record))
    for shape in record.shapes:
        if shape.split is not None:
            console.print(_split(shape.split, shape.results[0]))
    for line in _footnotes(record):
        console.print(Text(line, style="dim"))


def _heading(record: Record) -> RenderableType:
    environment = record.environment
    where = f"{environment['processor'] or 'an unnamed processor'}, {environment['cores']} cores"
    what = "one call after another" if record.schedule == "latency" else "as many calls at once as the engine takes"
    model = f"{record.model['architecture']} {record.model['precision']}"
    return Group(Text(_printable(f"{model}, {record.model['path']}"), style="bold"), Text(f"{where}; {what}"), Text(""))


def _results(record: Record) -> Table:
    tells_energy = any(result.energy_j_per_frame for shape in record.shapes for result in shape.results)
    tails = {result.tail.kind for shape in record.shapes for result in shape.results}
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("shape", no_wrap=True)
    table.add_column("contestant", no_wrap=True)
    names = [
        "median ms",
        f"{'/'.join(sorted(tails, reverse=True))} ms",
        "frames/s",
        "speed",
        "GFLOP/s",
        "of peak",
        "MiB",
    ]
    for name in [*names, *(["J/frame"] if tells_energy else [])]:
        table.add_column(name, justify="right", no_wrap=True)
    for number, shape in enumerate(record.shapes):
        if number:
            table.add_row()
        for place, result in enumerate(shape.results):
            table.add_row(
                shape_words(shape.shape_nhw) if place == 0 else "",
                result.facts.name,
                *_cells(result, mixed_tails=len(tails) > 1),
                *([_energy(result)] if tells_energy else []),
            )
    return table


def _cells(result: Result, mixed_tails: bool) -> Iterator[str]:
    yield _number(result.median_ms)
    yield _number(result.tail.value) + (f" {result.tail.kind}" if mixed_tails else "")
    yield _number(result.frames_per_s)
    yield f"{result.speed_to_first[0]:.2f} x"
    yield "unknown" if result.gflop_per_s is None else _number(result.gflop_per_s)
    yield "-" if result.peak_share is None else f"{result.peak_share:.0%}"
    yield "-" if result.peak_mib is None else f"{result.peak_mib:.0f}"


def _energy(result: Result) -> str:
    total = sum(result.energy_j_per_frame.values())
    return _number(total) if result.energy_j_per_frame else "-"


def _split(split: FrameSplit, first: Result) -> RenderableType:
    size = f"{split.network_hw[0]}x{split.network_hw[1]}"
    clip = f"{split.clip}, {split.frame_hw[0]}x{split.frame_hw[1]}"
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("", no_wrap=True)
    known = [stage.ms for stage in split.stages if stage.ms is not None]
    total = sum(known)
    for stage in split.stages:
        table.add_column(stage.name, justify="right", no_wrap=True)
    table.add_column("sum", justify="right", no_wrap=True)
    cells = ["-" if stage.ms is None else _number(stage.ms) for stage in split.stages]
    shares = ["" if stage.ms is None else f"{stage.ms / total:.1%}" for stage in split.stages]
    table.add_row("ms", *cells, _number(total))
    table.add_row("share", *shares, "")
    reasons = [Text(f"{stage.name}: {stage.how}", style="dim") for stage in split.stages if stage.ms is None]
    title = f"A frame's way, each step by itself: {_printable(clip)}; {size} in {first.facts.name}"
    return Group(Text(""), Text(title, style="bold"), table, *reasons)


def _footnotes(record: Record) -> Iterator[str]:
    yield ""
    for shape in record.shapes:
        counts = sorted({result.calls for result in shape.results})
        calls = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
        gflop = "" if shape.gflop_per_frame is None else f", {_number(shape.gflop_per_frame)} GFLOP a frame"
        yield f"{shape_words(shape.shape_nhw)}: {shape.rounds} rounds in turns, {calls} calls each{gflop}"
        for peak in shape.peaks:
            rate = f"{_number(peak.gflop_per_s)} GFLOP/s"
            yield f"  peak {peak.precision}: {rate} in the same rounds ({peak.what}; {peak.library})"
        for result in shape.results[1:]:
            _, least, most = result.speed_to_first
            yield f"  {result.facts.name}: {least:.2f} to {most:.2f} x the speed of {shape.results[0].facts.name}"
    if any(result.tail.kind == "max" for shape in record.shapes for result in shape.results):
        yield "max: the slowest call; a p99 takes 100 calls (more --rounds or --seconds)"
    load, cores = record.environment.get("load_average"), record.environment["cores"]
    if isinstance(load, float) and isinstance(cores, int) and load > cores * BUSY:
        yield f"the machine was busy with other things before: a load of {load:g} on {cores} cores"
    yield "MiB: the most memory of each contestant's own process"
    if record.energy_meters:
        yield f"J/frame: of {', '.join(record.energy_meters)}, all that runs there included"
    else:
        yield "energy: not told by this machine"
    yield from record.notes


def _number(value: float) -> str:
    """Three digits and more: 0.123, 1.23, 12.3, 123, 1234; and 0."""
    if value == 0:
        return "0"
    for limit, digits in ((1, 3), (10, 2), (100, 1)):
        if abs(value) < limit:
            return f"{value:.{digits}f}"
    return f"{value:.0f}"


def _printable(text: str) -> str:
    """Names of files and of models are somebody else's: an escape would reach the terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)

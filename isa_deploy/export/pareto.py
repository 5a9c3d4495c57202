"""Accuracy against time as a picture: an SVG that stands inside a page, without script, in the page's own colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

__all__ = ["Point", "front", "pareto_svg"]

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 74, 26, 22, 58
LOG_ABOVE = 4.0
"""The times are on a logarithmic scale where the largest is more than this many times the smallest."""

LEAST_SPAN = 0.2
"""Of the vertical axis, in per cent: smaller differences are not blown up to fill the picture."""

TICKS = 5
LETTER = 7.6  # mean width of a letter of the labels, 13 units high, in a wide face
LINE = 17
APART = 20  # between two labels side by side
MARK = 6.5

KINDS = ("fp32", "fp16", "bf16", "int8")
"""Each has a shape and a colour of its own; any other is drawn as the first."""

# Okabe and Ito's colours, told apart by every kind of colour vision; lighter ones of the same hues on dark pages
STYLE = """\
.pareto { display: block; width: 100%; min-width: 42rem; height: auto; }
.pareto { --k0: #171a1f; --k1: #0072b2; --k2: #9a5b00; --k3: #00785a; }
@media (prefers-color-scheme: dark) { .pareto { --k0: #e8ebef; --k1: #56b4e9; --k2: #e69f00; --k3: #35c79a; } }
@media print { .pareto { --k0: #000; --k1: #0072b2; --k2: #9a5b00; --k3: #00785a; } }
.pareto text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
.pareto text { fill: var(--ink); paint-order: stroke; stroke: var(--card); stroke-width: 4px; stroke-linejoin: round; }
.pareto text.tick { fill: var(--soft); font-variant-numeric: tabular-nums; }
.pareto .grid { stroke: var(--line); } .pareto .axis { stroke: var(--soft); }
.pareto .front { fill: none; stroke: var(--soft); stroke-width: 2; } .pareto .beyond { stroke-dasharray: 2 5; }
.pareto .level { stroke: var(--soft); stroke-dasharray: 7 4; }
.pareto .leader { stroke: var(--soft); stroke-width: .8; }
.pareto .k0 { stroke: var(--k0); fill: var(--k0); } .pareto .k1 { stroke: var(--k1); fill: var(--k1); }
.pareto .k2 { stroke: var(--k2); fill: var(--k2); } .pareto .k3 { stroke: var(--k3); fill: var(--k3); }
.pareto .mark { stroke-width: 2; } .pareto .hollow { fill: var(--card); }
"""


@dataclass(frozen=True)
class Point:
    """One way of running a model: milliseconds a frame (above 0), mIoU in per cent, a precision of :data:`KINDS`."""

    name: str
    ms: float
    miou: float
    kind: str


def front(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats: none is as fast and as accurate, and better in one of the two.

    The fastest first, so that the accuracy rises with the time.  Points that are equal in both stand together.
    """
    kept: list[Point] = []
    for point in sorted(points, key=lambda each: (each.ms, -each.miou)):
        same = bool(kept) and (kept[-1].ms, kept[-1].miou) == (point.ms, point.miou)
        if not kept or point.miou > kept[-1].miou or same:
            kept.append(point)
    return kept


def pareto_svg(points: Sequence[Point], miou_title: str, level: tuple[str, float] | None = None) -> str:
    """The picture as an ``<svg>`` element, every name escaped; "" where no point has finite coordinates.

    Points of the front are filled and joined by a step line, the others hollow.  ``miou_title``: of the vertical axis;
    ``level``: a name and an mIoU in per cent that is drawn as a line across.  The colours are the CSS variables
    ``--ink``, ``--soft``, ``--line`` and ``--card`` of the page.
    """
    drawn = [each for each in points if math.isfinite(each.ms) and each.ms > 0 and math.isfinite(each.miou)]
    if not drawn:
        return ""
    if level is not None and not math.isfinite(level[1]):
        level = None
    x_axis = _time_axis([each.ms for each in drawn])
    y_axis = _miou_axis([each.miou for each in drawn] + ([] if level is None else [level[1]]))
    best = front(drawn)
    parts = [
        f'<svg class="pareto" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="pareto-title pareto-words">',
        f'<title id="pareto-title">{escape(miou_title)} against milliseconds a frame</title>',
        f'<desc id="pareto-words">{escape(_words(drawn, best))}</desc>',
        f"<style>\n{STYLE}</style>",
        *_axes(x_axis, y_axis, miou_title),
    ]
    taken = [(x - MARK, y - MARK, x + MARK, y + MARK) for x, y in ((x_axis.at(p.ms), y_axis.at(p.miou)) for p in drawn)]
    steps = [(x_axis.at(each.ms), y_axis.at(each.miou)) for each in best]
    taken += _step_boxes(steps)
    if level is not None:
        name, y = escape(level[0]), y_axis.at(level[1])
        parts.append(f'<line class="level" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
        width = LETTER * len(level[0])
        box = (WIDTH - RIGHT - width - 4, y - LINE - 1, WIDTH - RIGHT - 4, y - 2)
        taken += [box, (LEFT, y - 1, WIDTH - RIGHT, y + 1)]
        parts.append(f'<text class="tick" x="{box[2]:.1f}" y="{y - 6:.1f}" text-anchor="end">{name}</text>')
    parts += _front_lines(steps)
    on_front = set(best)
    # the fastest first: where labels must give way, it is the same ones every time
    labels = [
        _label(each.name, x_axis.at(each.ms), y_axis.at(each.miou), taken)
        for each in sorted(drawn, key=lambda point: (point.ms, -point.miou, point.name))
    ]
    parts += [leader for leader, _ in labels]
    parts += [_mark(x_axis.at(each.ms), y_axis.at(each.miou), each.kind, each in on_front) for each in drawn]
    parts += [text for _, text in labels]
    return "\n".join([*filter(None, parts), "</svg>"])


@dataclass(frozen=True)
class _Axis:
    """From values to places: ``low`` is drawn at ``start``, ``high`` at ``end``; ticks with their words."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool
    ticks: tuple[tuple[float, str], ...]

    def at(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def _time_axis(times: Sequence[float]) -> _Axis:
    low, high = min(times), max(times)
    if high > LOG_ABOVE * low:
        low, high = low / 1.25, high * 1.25
        ticks = []
        for exponent in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
            ticks += [factor * 10.0**exponent for factor in (1, 2, 5)]
        inside = [each for each in ticks if low <= each <= high]
        return _Axis(low, high, LEFT, WIDTH - RIGHT, True, tuple((each, f"{each:g}") for each in inside))
    high *= 1.12
    return _Axis(0.0, high, LEFT, WIDTH - RIGHT, False, _linear_ticks(0.0, high))


def _miou_axis(values: Sequence[float]) -> _Axis:
    low, high = min(values), max(values)
    margin = max(high - low, LEAST_SPAN) * 0.14
    if high - low < LEAST_SPAN:
        middle = (low + high) / 2
        low, high = middle - LEAST_SPAN / 2, middle + LEAST_SPAN / 2
    low, high = low - margin, high + margin
    return _Axis(low, high, HEIGHT - BOTTOM, TOP, False, _linear_ticks(low, high))


def _linear_ticks(low: float, high: float) -> tuple[tuple[float, str], ...]:
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple((number * step, f"{number * step:.{digits}f}") for number in range(first, last + 1))


def _axes(x_axis: _Axis, y_axis: _Axis, miou_title: str) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value, words in y_axis.ticks:
        y = y_axis.at(value)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 9}" y="{y + 4.5:.1f}" text-anchor="end">{words}</text>')
    for value, words in x_axis.ticks:
        x = x_axis.at(value)
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{bottom + 20}" text-anchor="middle">{words}</text>')
    scale = ", logarithmic" if x_axis.logarithmic else ""
    middle = (TOP + bottom) / 2
    parts += [
        f'<path class="axis" fill="none" d="M{LEFT} {TOP}V{bottom}H{right}"/>',
        f'<text x="{(LEFT + right) / 2:g}" y="{HEIGHT - 12}" text-anchor="middle">'
        f"milliseconds a frame{scale} (left is faster)</text>",
        f'<text transform="translate(17 {middle:g}) rotate(-90)" text-anchor="middle">{escape(miou_title)}, %</text>',
    ]
    return parts


_Box = tuple[float, float, float, float]


def _front_lines(places: Sequence[tuple[float, float]]) -> list[str]:
    """The steps between the points; dotted, what the first and the last reach beyond them."""
    path = f"M{places[0][0]:.1f} {places[0][1]:.1f}"
    path += "".join(f"H{x:.1f}V{y:.1f}" for x, y in places[1:])
    first, last = places[0], places[-1]
    return [
        f'<path class="front" d="{path}"/>',
        f'<path class="front beyond" d="M{first[0]:.1f} {HEIGHT - BOTTOM}V{first[1]:.1f}"/>',
        f'<path class="front beyond" d="M{last[0]:.1f} {last[1]:.1f}H{WIDTH - RIGHT}"/>',
    ]


def _step_boxes(places: Sequence[tuple[float, float]]) -> list[_Box]:
    """Where the front's lines run, for the labels to keep off."""
    boxes = [(x0, y0 - 1, x1, y0 + 1) for (x0, y0), (x1, _) in pairwise(places)]
    boxes += [(x1 - 1, y1, x1 + 1, y0) for (_, y0), (x1, y1) in pairwise(places)]
    first, last = places[0], places[-1]
    boxes.append((first[0] - 1, first[1], first[0] + 1, HEIGHT - BOTTOM))
    boxes.append((last[0], last[1] - 1, WIDTH - RIGHT, last[1] + 1))
    return boxes


def _mark(x: float, y: float, kind: str, filled: bool) -> str:
    number = KINDS.index(kind) if kind in KINDS else 0
    style = f"mark k{number}{'' if filled else ' hollow'}"
    if number == 0:
        return f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="{MARK - 1}"/>'
    shapes = {1: ((-1, -1), (1, -1), (1, 1), (-1, 1)), 2: ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0))}
    corners = shapes.get(number, ((0, -1.2), (1.2, 0.95), (-1.2, 0.95)))
    side = MARK - 1.5
    places = " ".join(f"{x + dx * side:.1f},{y + dy * side:.1f}" for dx, dy in corners)
    return f'<polygon class="{style}" points="{places}"/>'


def _label(name: str, x: float, y: float, taken: list[_Box]) -> tuple[str, str]:
    """A point's name where it covers least of what is in ``taken``, which it joins, and the line to it or ""."""
    width = LETTER * len(name)
    offsets = [step * LINE * sign for step in range(9) for sign in (1, -1)]
    places = []
    for dy in offsets:
        for left in (x + MARK + 5, x - MARK - 5 - width, x - width / 2):
            centred = left == x - width / 2
            if centred and abs(dy) < LINE:
                continue
            box = (left, y + dy - LINE / 2, left + width, y + dy + LINE / 2)
            outside = box[0] < LEFT + 2 or box[2] > WIDTH - 4 or box[1] < TOP - 12 or box[3] > HEIGHT - BOTTOM - 2
            places.append((outside, sum(_overlap(box, other) for other in taken), abs(dy), box))
    *_, box = min(places, key=lambda each: each[:3])
    taken.append((box[0] - APART, box[1], box[2] + APART, box[3]))
    middle = (box[1] + box[3]) / 2
    leader = ""
    if abs(middle - y) > LINE * 0.9:
        end_x = min(max(x, box[0]), box[2])
        end_y = box[1] if middle > y else box[3]
        leader = f'<line class="leader" x1="{x:.1f}" y1="{y:.1f}" x2="{end_x:.1f}" y2="{end_y:.1f}"/>'
    return leader, f'<text x="{box[0]:.1f}" y="{middle + 4.5:.1f}">{escape(name)}</text>'


def _overlap(box: _Box, other: _Box) -> float:
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    return width * height if width > 0 and height > 0 else 0.0


def _words(points: Sequence[Point], best: Sequence[Point]) -> str:
    told = "; ".join(f"{each.name}: {each.ms:.3g} ms, {each.miou:.2f} %" for each in points)
    return f"{told}. No other beats: {', '.join(each.name for each in best)}."

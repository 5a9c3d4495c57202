"""A comparison of precisions in words: what is gained, what it costs, and on how much that was found."""

from __future__ import annotations

import math

from isa_deploy.evaluate.metrics import percent as rounded_percent
from isa_deploy.export.precision_comparison import PrecisionComparison, PrecisionRow, shown_miou
from isa_deploy.export.report_words import Verdict, percent

__all__ = ["baseline", "basis_words", "cost_points", "headline_row", "points_words", "precision_verdict", "speed_words"]

FEW_FRAMES = 50
"""Of fewer frames it is said that they are few: a class that one of them shows decides its own IoU."""


def baseline(comparison: PrecisionComparison) -> PrecisionRow | None:
    """What speeds are related to: the fastest engine of the float32 file in float32; None where none ran."""
    plain = [row for row in comparison.rows if row.combination.is_plain_fp32]
    return min(plain, key=lambda row: row.timing.ms, default=None)


def headline_row(comparison: PrecisionComparison) -> PrecisionRow | None:
    """The fastest of all; None where nothing ran."""
    return min(comparison.rows, key=lambda row: row.timing.ms, default=None)


def cost_points(comparison: PrecisionComparison, row: PrecisionRow) -> float | None:
    """The mIoU that a row loses on the label maps, in percentage points of mIoUs as they are printed (two digits).

    None where there are no label maps.
    """
    if comparison.reference_truth is None or row.against_truth is None:
        return None
    return round(
        rounded_percent(shown_miou(comparison.reference_truth)) - rounded_percent(shown_miou(row.against_truth)), 2
    )


def precision_verdict(comparison: PrecisionComparison) -> Verdict:
    """What a reader wants to know first: how much faster the fastest is than float32, and what that costs."""
    fastest, plain = headline_row(comparison), baseline(comparison)
    if fastest is None:
        return Verdict("Nothing was compared", "No precision could be run on this machine.")
    if plain is None:
        headline = f"{fastest.combination.short_name} is the fastest here and {_price(comparison, fastest)}"
        sentence = f"{fastest.combination.name} takes {_ms(fastest)} a frame. float32 itself could not be run."
    elif fastest is plain:
        headline = "Nothing is faster than fp32 on this machine"
        sentence = f"{plain.combination.name} takes {_ms(plain)} a frame."
    else:
        factor = plain.timing.ms / fastest.timing.ms
        headline = (
            f"{fastest.combination.short_name} is {factor:.3g}\u00a0× as fast as {plain.combination.short_name} "
            f"and {_price(comparison, fastest)}"
        )
        sentence = (
            f"{fastest.combination.name} takes {_ms(fastest)} a frame, and {percent(fastest.agreement)} of its labels "
            f"are those of {comparison.reference_name}. {plain.combination.name} takes {_ms(plain)}."
        )
    return Verdict(headline, sentence)


def basis_words(comparison: PrecisionComparison) -> str:
    """What the accuracy was found on."""
    of = f"Accuracy is of {_counted(comparison.frames, 'frame')}"
    if comparison.reference_truth is None:
        truth = "without label maps: what a precision costs in accuracy can only be told with them"
    elif comparison.truth_frames == comparison.frames:
        truth = "with their label maps" if comparison.frames > 1 else "with its label map"
    else:
        truth = f"{comparison.truth_frames:,} of them with a label map"
    few = comparison.frames if comparison.reference_truth is None else comparison.truth_frames
    chance = " So few frames leave differences of tenths of a point to chance." if few < FEW_FRAMES else ""
    return f"{of}, {truth}.{chance}"


def speed_words(comparison: PrecisionComparison) -> str:
    """What the speeds were measured on."""
    height, width = comparison.timed_hw
    calls = max((len(row.timing.samples_ms) for row in comparison.rows), default=0)
    return (
        f"Speeds are of few calls: the median of {calls} of each, on {_counted(comparison.timed_frames, 'frame')} of "
        f"{height}\u00a0×\u00a0{width} pixels (height × width), one frame at a time, all of them in turns on this "
        "machine’s processor. isa-bench measures for longer."
    )


def points_words(points: float) -> str:
    """A difference of percentages with its sign."""
    return f"{points:+.2f}".replace("-", "−") if math.isfinite(points) else "not a number"


def _price(comparison: PrecisionComparison, row: PrecisionRow) -> str:
    cost = cost_points(comparison, row)
    if cost is None or not math.isfinite(cost):
        return f"gives {percent(row.agreement)} of the checkpoint’s labels"
    if cost == 0:
        return "costs no mIoU"
    return f"costs {cost:.2f} points of mIoU" if cost > 0 else f"gains {-cost:.2f} points of mIoU"


def _ms(row: PrecisionRow) -> str:
    return f"{row.timing.ms:.3g}\u00a0ms"


def _counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"

"""Figures from samples, as pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["FOR_P99", "Tail", "median", "pair_ratios", "percentile", "tail"]

FOR_P99 = 100
"""Of fewer samples the 99th percentile lies between the two slowest: it is their maximum that is then told."""


@dataclass(frozen=True)
class Tail:
    """What the slow calls take: the 99th percentile, or the maximum of fewer than :data:`FOR_P99` samples."""

    kind: Literal["p99", "max"]
    value: float


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which ``percent`` (0 to 100) of the values lie, linear between neighbours (numpy's default).

    Raises ValueError where there are no values, or ``percent`` is outside of its range.
    """
    if not values or not 0 <= percent <= 100:
        raise ValueError(f"percentile {percent} of {len(values)} values")
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two in the middle.  Raises ValueError where there are none."""
    return percentile(values, 50)


def tail(values: Sequence[float]) -> Tail:
    """The slow end of the values.  Raises ValueError where there are none."""
    if len(values) < FOR_P99:
        return Tail("max", percentile(values, 100))
    return Tail("p99", percentile(values, 99))


def pair_ratios(values: Sequence[float], firsts: Sequence[float]) -> list[float]:
    """``value / first`` of each round.  Raises ValueError where the lengths differ."""
    return [value / first for value, first in zip(values, firsts, strict=True)]

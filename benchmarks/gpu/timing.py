"""Times of several ways of doing one thing, taken in turn, so that a clock that drifts decides nothing."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

__all__ = ["Times", "alternate", "ratio", "summary"]

Times = dict[str, list[float]]
"""Seconds by way, one for each round."""


def alternate(ways: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 3) -> Times:
    """Run all ways once a round, in their order, after ``warm_up`` runs of each."""
    for run in ways.values():
        for _ in range(warm_up):
            run()
    times: Times = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            started = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - started)
    return times


def summary(seconds: list[float]) -> dict[str, float]:
    """Median and 99th percentile in milliseconds."""
    ordered = sorted(seconds)
    p99 = ordered[min(len(ordered) - 1, round(0.99 * (len(ordered) - 1)))]
    return {"median_ms": round(statistics.median(ordered) * 1e3, 4), "p99_ms": round(p99 * 1e3, 4)}


def ratio(times: Times, slow: str, fast: str) -> float:
    """How many times longer ``slow`` took than ``fast``: the median of the rounds' ratios."""
    return round(statistics.median(a / b for a, b in zip(times[slow], times[fast], strict=True)), 4)

"""How old frames are when they are shown: over the last seconds, and over a whole run in memory that does not grow."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

__all__ = ["AgeSummary", "FrameAges"]

RECENT_S = 5.0  # long enough for a steady figure, short enough to see a change
MAX_RECENT = 5000  # a bound, above any rate at which pictures are shown

# bins of a run's ages, each 2 % wider than the one before: 0.1 ms to 100 s
SHORTEST_S = 1e-4
BIN_RATIO = 1.02
BINS = math.ceil(math.log(100 / SHORTEST_S, BIN_RATIO)) + 1


@dataclass(frozen=True)
class AgeSummary:
    """``frames`` shown, ``per_s`` of them a second, and the ``median_s``, ``p99_s`` and ``max_s`` of their ages."""

    frames: int
    per_s: float
    median_s: float
    p99_s: float
    max_s: float

    def __str__(self) -> str:
        return f"age {self.median_s * 1e3:.0f} ms (p99 {self.p99_s * 1e3:.0f} ms)"


class FrameAges:
    """Ages in seconds, from a frame's arrival to when it is shown.  Times are of one clock that never goes back."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, float]] = deque(maxlen=MAX_RECENT)
        self._counts = [0] * BINS
        self._frames = 0
        self._max_s = 0.0
        self._begun_s: float | None = None
        self._last_s = 0.0

    def add(self, now_s: float, age_s: float) -> None:
        """A frame of this age was shown now."""
        self._recent.append((now_s, age_s))
        self._counts[min(BINS - 1, max(0, round(math.log(max(age_s, SHORTEST_S) / SHORTEST_S, BIN_RATIO))))] += 1
        self._frames += 1
        self._max_s = max(self._max_s, age_s)
        self._begun_s = now_s if self._begun_s is None else self._begun_s
        self._last_s = now_s

    def recent(self, now_s: float) -> AgeSummary | None:
        """The last seconds, exactly; None where nothing was shown in them."""
        while self._recent and self._recent[0][0] < now_s - RECENT_S:
            self._recent.popleft()
        if not self._recent or self._begun_s is None:
            return None
        ages = sorted(age for _, age in self._recent)
        seconds = min(RECENT_S, now_s - self._begun_s)
        return AgeSummary(
            frames=len(ages),
            per_s=len(ages) / seconds if seconds > 0 else 0.0,
            median_s=ages[(len(ages) - 1) // 2],
            p99_s=ages[math.ceil(0.99 * len(ages)) - 1],
            max_s=ages[-1],
        )

    def whole(self) -> AgeSummary | None:
        """The whole run, median and p99 within 1 %; None where nothing was shown."""
        if self._begun_s is None:
            return None
        seconds = self._last_s - self._begun_s
        return AgeSummary(
            frames=self._frames,
            per_s=(self._frames - 1) / seconds if seconds > 0 else 0.0,
            median_s=self._quantile(0.5),
            p99_s=self._quantile(0.99),
            max_s=self._max_s,
        )

    def _quantile(self, share: float) -> float:
        wanted = math.ceil(share * self._frames)
        seen = 0
        for index, count in enumerate(self._counts):
            seen += count
            if seen >= wanted:
                return SHORTEST_S * BIN_RATIO**index
        raise AssertionError("a share is at most 1")

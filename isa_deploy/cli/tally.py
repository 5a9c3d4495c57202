"""What a run of isa-infer has done, and how long it waited for the engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["Tally"]

T = TypeVar("T")


@dataclass
class Tally:
    """What was done so far.

    ``engine_s``: seconds inside the Segmenter, which are fewer than the engine's own where it works meanwhile;
    ``total_s``: from the first file on.  ``tiles``: of the pictures that were cut, also of those not finished.
    """

    images: int = 0
    videos: int = 0
    frames: int = 0
    tiles: int = 0
    failed: int = 0
    engine_s: float = 0.0
    total_s: float = 0.0

    def engine(self, call: Callable[[], T]) -> T:
        """The answer of a call into the Segmenter, whose time is counted."""
        begun = time.perf_counter()
        answer = call()
        self.engine_s += time.perf_counter() - begun
        return answer

    def __str__(self) -> str:
        done = " and ".join(
            f"{count} {thing}{'s' if count != 1 else ''}"
            for count, thing in ((self.images, "image"), (self.videos, "video"))
            if count
        )
        parts = [
            f"{count} {thing}{'s' if count != 1 else ''}"
            for count, thing in ((self.frames, "frame"), (self.tiles, "tile"))
            if count
        ]
        text = f"{', '.join([*([done] if done else []), *parts]) or 'nothing'} in {self.total_s:.1f} s"
        rates = [f"{self.frames / self.total_s:.2f} frames/s"] if self.frames and not self.tiles else []
        if self.frames or self.tiles:
            rates.append(f"{self.engine_s / self.total_s:.0%} of the time waiting for the engine")
            text += f": {', '.join(rates)}"
        if self.failed:
            text += f"; {self.failed} input{'s' if self.failed != 1 else ''} could not be used"
        return text

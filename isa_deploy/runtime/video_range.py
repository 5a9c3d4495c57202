"""Which frames of a video are wanted: from when to when, every which one, how many a second."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from isa_deploy.errors import InputError

__all__ = ["EVERYTHING", "FrameChooser", "VideoRange"]


@dataclass(frozen=True)
class VideoRange:
    """A part of a video; as it stands, all of it.

    ``start_s``, ``end_s``: seconds from the file's beginning, the frames from the first on and before the
    second, None for the file's end.  ``every``: of those, the first and each ``every``-th after it.
    ``rate``: of those, the first of each ``1 / rate`` seconds, None for all: by the timestamps, so that an
    uneven video comes out as even as it can.  Raises :class:`InputError` for a range that holds nothing.
    """

    start_s: Fraction = Fraction(0)
    end_s: Fraction | None = None
    every: int = 1
    rate: Fraction | None = None

    def __post_init__(self) -> None:
        if self.start_s < 0:
            raise InputError(f"a start at {float(self.start_s):g} s: a video begins at 0")
        if self.end_s is not None and self.end_s <= self.start_s:
            raise InputError(
                f"an end at {float(self.end_s):g} s is not after the start at {float(self.start_s):g} s: "
                "there is no frame between them"
            )
        if self.every < 1:
            raise InputError(f"every {self.every}th frame: take 1 (all) or more")
        if self.rate is not None and self.rate <= 0:
            raise InputError(f"a rate of {float(self.rate):g} frames/s: it must be above 0")

    @property
    def is_cut(self) -> bool:
        """Whether it begins later or ends earlier than the file."""
        return self.start_s > 0 or self.end_s is not None

    def expected_rate(self, frame_rate: Fraction | None) -> Fraction | None:
        """The frames/s that are left of a video's, None where nobody knows."""
        if frame_rate is None:
            return self.rate
        thinned = frame_rate / self.every
        return thinned if self.rate is None else min(thinned, self.rate)


EVERYTHING = VideoRange()


class FrameChooser:
    """Says of each frame of a range in turn whether ``every`` and ``rate`` want it."""

    def __init__(self, wanted: VideoRange) -> None:
        self._wanted = wanted
        self._seen = 0
        self._begun_s: Fraction | None = None
        self._slot = -1

    def takes(self, time_s: Fraction) -> bool:
        """``time_s``: the frame's time, seconds; it rises from call to call."""
        number, self._seen = self._seen, self._seen + 1
        if number % self._wanted.every:
            return False
        if self._wanted.rate is None:
            return True
        if self._begun_s is None:
            self._begun_s = time_s
        slot = math.floor((time_s - self._begun_s) * self._wanted.rate)
        if slot <= self._slot:
            return False
        self._slot = slot
        return True

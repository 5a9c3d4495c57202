"""What isa-infer's options about videos mean."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from isa_deploy.errors import InputError
from isa_deploy.runtime.smoothing import MAX_SMOOTHED
from isa_deploy.runtime.video_range import EVERYTHING, VideoRange

__all__ = ["VideoOptions", "parse_video_options"]

# the digits are bounded: nobody's video lasts longer, and no number here becomes a huge one
_TIME = re.compile(r"(?:(?:(?P<hours>\d{1,4}):)?(?P<minutes>\d{1,4}):)?(?P<seconds>\d{1,7}(?:\.\d{0,9})?|\.\d{1,9})")
_RATE = re.compile(r"(?P<above>\d{1,7}(?:\.\d{0,6})?|\.\d{1,6})(?:/(?P<below>\d{1,7}))?")
MAX_RATE = 1000


@dataclass(frozen=True)
class VideoOptions:
    """``range``: the frames that are taken.  ``smooth``: frames whose classes are counted together, 1 for none.
    ``batch``: whether the videos are taken side by side.
    """

    range: VideoRange = EVERYTHING
    smooth: int = 1
    batch: bool = False


def parse_video_options(
    *, every: int, start: str | None, end: str | None, fps: str | None, smooth: int, batch: bool
) -> VideoOptions:
    """The options as they were typed.  Raises :class:`InputError` where one makes no sense."""
    if every < 1:
        raise InputError(f"--every {every}: take 1 (all frames) or more")
    if not 1 <= smooth <= MAX_SMOOTHED:
        raise InputError(f"--smooth {smooth}: take 1 (off) to {MAX_SMOOTHED} frames")
    start_s = Fraction(0) if start is None else _parse_time("--start", start)
    end_s = None if end is None else _parse_time("--end", end)
    if end_s is not None and end_s <= start_s:
        after = "0" if start is None else f"--start {start}"
        raise InputError(f"--end {end} is not after {after}: there is no frame between them; give a later end")
    rate = None if fps is None else _parse_rate(fps)
    return VideoOptions(VideoRange(start_s, end_s, every, rate), smooth, batch)


def _parse_time(option: str, text: str) -> Fraction:
    """Seconds, exactly as written."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise InputError(f"{option} {text}: no time; write seconds (75.5), M:SS (1:15.5) or H:MM:SS (0:01:15.5)")
    hours, minutes, seconds = match["hours"], match["minutes"], Fraction(match["seconds"])
    if minutes is not None and (seconds >= 60 or (hours is not None and int(minutes) >= 60)):
        raise InputError(f"{option} {text}: after a colon stand less than 60 minutes or seconds; write M:SS or H:MM:SS")
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + seconds


def _parse_rate(text: str) -> Fraction:
    match = _RATE.fullmatch(text.strip())
    below = 1 if match is None or match["below"] is None else int(match["below"])
    if match is None or below == 0:
        raise InputError(f"--fps {text}: no rate; write frames a second, such as 5, 2.5 or 30000/1001")
    rate = Fraction(match["above"]) / below
    if not 0 < rate <= MAX_RATE:
        raise InputError(f"--fps {text}: take more than 0 and up to {MAX_RATE} frames a second")
    return rate

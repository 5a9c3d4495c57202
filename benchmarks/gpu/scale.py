"""How much the suite measures: the real thing, or a quick try of its own logic."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SCALES", "Scale"]

Size = tuple[int, int]


@dataclass(frozen=True)
class Scale:
    """Sizes in pixels (height, width) and counts.

    ``demo_hw``: frames of the demo model; ``frame_hw``: of the full-size networks.  ``scenes``: unseen scenes of
    the parity step.  ``rounds``: alternated rounds of a rate; ``frames``: of a video, ``video_rounds`` times.
    ``full_size``: whether R50 and R101 are measured; else the demo model stands in their place.
    """

    demo_hw: Size
    frame_hw: Size
    scenes: int
    rounds: int
    frames: int
    video_rounds: int
    full_size: bool


SCALES = {
    "full": Scale((256, 512), (1024, 2048), scenes=50, rounds=200, frames=300, video_rounds=5, full_size=True),
    "quick": Scale((64, 128), (64, 128), scenes=2, rounds=5, frames=6, video_rounds=2, full_size=False),
}

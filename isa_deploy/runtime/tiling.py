"""Pure functions from sizes to windows."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Span", "WindowGrid", "slide_grid", "slide_spans"]

Span = tuple[int, int]
"""A window's first pixel and the pixel after its last, along one axis."""


def slide_spans(length: int, crop: int, stride: int) -> tuple[Span, ...]:
    """mmsegmentation's sliding windows along one axis of ``length`` pixels.

    ``max(length - crop + stride - 1, 0) // stride + 1`` windows start every ``stride`` pixels; the last
    one is moved back so that it ends at the border, and a picture smaller than the crop is one window of
    its own size (``EncoderDecoder.slide_inference``, mmsegmentation 1.2.2).  Raises ValueError for sizes
    below 1 and for a stride longer than the crop, which would leave gaps.
    """
    if length < 1 or crop < 1 or stride < 1:
        raise ValueError(f"length {length}, crop {crop} and stride {stride} must be at least 1")
    if stride > crop:
        raise ValueError(f"a stride of {stride} leaves gaps between windows of {crop}")
    spans = []
    for i in range(max(length - crop + stride - 1, 0) // stride + 1):
        stop = min(i * stride + crop, length)
        spans.append((max(stop - crop, 0), stop))
    return tuple(spans)


@dataclass(frozen=True)
class WindowGrid:
    """Windows of one size, at every crossing of a row span and a column span."""

    rows: tuple[Span, ...]
    cols: tuple[Span, ...]

    @property
    def window_hw(self) -> tuple[int, int]:
        """Height and width of every window."""
        return self.rows[0][1] - self.rows[0][0], self.cols[0][1] - self.cols[0][0]

    def windows(self) -> list[tuple[Span, Span]]:
        """All windows in reading order, each as its row span and its column span."""
        return [(row, col) for row in self.rows for col in self.cols]


def slide_grid(frame_hw: tuple[int, int], crop_hw: tuple[int, int], stride_hw: tuple[int, int]) -> WindowGrid:
    """The windows of mmsegmentation's slide inference over a frame."""
    return WindowGrid(
        slide_spans(frame_hw[0], crop_hw[0], stride_hw[0]), slide_spans(frame_hw[1], crop_hw[1], stride_hw[1])
    )

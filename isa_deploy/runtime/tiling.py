"""Pure functions from sizes to windows, and from windows to the pixels that each decides.

All ways of cutting a picture are windows of one size in a grid, and a weight for each pixel of each window:

- ``slide``: mmsegmentation's windows, every one with the same weight;
- ``tiles``: the weight is 1 inside and 0 in a border, the halo, whose labels are thrown away;
- ``blend``: the weight falls to 0 towards the window's edge, and overlapping windows fade into each other.

The weights are a product of one factor an axis, so each axis is cut by itself (:class:`AxisCut`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from isa_deploy.errors import InputError

__all__ = [
    "AxisCut",
    "Block",
    "Span",
    "TileGrid",
    "Tiling",
    "WindowGrid",
    "cut_axis",
    "slide_grid",
    "slide_spans",
]

Span = tuple[int, int]
"""A window's first pixel and the pixel after its last, along one axis."""

Size = tuple[int, int]

CutMode: TypeAlias = Literal["slide", "tiles", "blend"]


@dataclass(frozen=True)
class Tiling:
    """How a picture goes through the network.

    ``mode``: "whole" (as the model was tested), "slide" (overlapping windows, their logits averaged), "tiles"
    (their borders thrown away) or "blend" (overlapping windows that fade into each other).  In all but "whole" the
    network sees the picture's own pixels: there is no test scale.
    ``tile_hw``: height and width of a window in pixels, borders included; None: the model's crop or fixed
    frame, else 1024 x 1024.  ``halo``: pixels that a tile throws away on each side, and half of what
    neighbours overlap; None: the model's own stride with "slide", else 64 for tiles of 1024 or more and a quarter
    of the side, at most 128, for smaller ones.
    ``batch``: windows in one call of the engine; None: what suits the backend.

    Raises :class:`InputError` for numbers that make no sense.
    """

    mode: Literal["whole", "slide", "tiles", "blend"] = "tiles"
    tile_hw: Size | None = None
    halo: int | None = None
    batch: int | None = None

    def __post_init__(self) -> None:
        if self.mode not in ("whole", "slide", "tiles", "blend"):
            raise InputError(f"tiling '{self.mode}' is none of: whole, slide, tiles, blend")
        if self.tile_hw is not None and min(self.tile_hw) < 1:
            raise InputError(f"a tile of {self.tile_hw[0]}x{self.tile_hw[1]} has no pixels")
        if self.halo is not None and self.halo < 0:
            raise InputError(f"a halo of {self.halo} pixels: it must be 0 or more")
        if self.tile_hw is not None and self.halo is not None and 2 * self.halo >= min(self.tile_hw):
            raise InputError(
                f"a halo of {self.halo} pixels on both sides leaves nothing of a tile of "
                f"{self.tile_hw[0]}x{self.tile_hw[1]}; use a smaller halo or a larger tile"
            )
        if self.batch is not None and self.batch < 1:
            raise InputError(f"a batch of {self.batch} tiles: it must be 1 or more")


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


@dataclass(frozen=True)
class AxisCut:
    """One axis of a picture, cut.

    ``windows``: where the network looks; they are of one length and rise.  ``blocks``: as many spans, which
    partition the axis; the labels of block ``i`` are complete when windows ``0`` to ``i`` were seen.
    ``mode``, ``overlap``: how the windows' weights come about (:meth:`weights`).
    """

    windows: tuple[Span, ...]
    blocks: tuple[Span, ...]
    mode: CutMode
    overlap: int

    @property
    def length(self) -> int:
        """Pixels of the axis."""
        return self.blocks[-1][1]

    @property
    def window(self) -> int:
        """Pixels of a window."""
        return self.windows[0][1] - self.windows[0][0]

    def windows_of(self, block: int) -> range:
        """The windows that have a say in a block's labels."""
        if self.mode == "tiles":
            return range(block, block + 1)
        first = block
        while first and self.windows[first - 1][1] > self.blocks[block][0]:
            first -= 1
        return range(first, block + 1)

    def weights(self, window: int) -> npt.NDArray[np.float64]:
        """The weight of each pixel of a window, 0 to 1; it is divided by the sum over all windows."""
        if self.mode == "slide":
            return np.ones(self.window)
        start, _stop = self.windows[window]
        if self.mode == "tiles":
            kept = self.blocks[window]
            inside = np.zeros(self.window)
            inside[kept[0] - start : kept[1] - start] = 1
            return inside
        # flanks of a raised cosine, as wide as the usual overlap: those of two neighbours add up to 1
        pixel = np.arange(self.window) + 0.5
        edge = np.minimum(pixel, self.window - pixel)
        weights: npt.NDArray[np.float64] = np.sin(np.pi / 2 * np.minimum(edge / max(self.overlap, 1), 1)) ** 2
        return weights


def cut_axis(length: int, window: int, overlap: int, mode: CutMode) -> AxisCut:
    """Cut an axis of ``length`` pixels into windows of ``window`` pixels that overlap by ``overlap`` at least.

    The windows are :func:`slide_spans`'s: the last one is moved back to the border, and overlaps by more.  With
    "tiles" the border between two neighbours' blocks is the middle of what they share, so a pixel of a block is at
    least ``overlap // 2`` pixels from its window's edge, unless that edge is the picture's.  Raises ValueError for
    sizes that make no sense.
    """
    if not 0 <= overlap < window:
        raise ValueError(f"windows of {window} pixels cannot overlap by {overlap}")
    windows = slide_spans(length, window, window - overlap)
    borders = [
        (after[0] + before[1]) // 2 if mode == "tiles" else after[0] for before, after in itertools.pairwise(windows)
    ]
    edges = [0, *borders, length]
    return AxisCut(windows, tuple(itertools.pairwise(edges)), mode, overlap)


@dataclass(frozen=True)
class Block:
    """A rectangle of a picture whose labels are finished at once.  ``index`` counts in reading order."""

    index: int
    rows: Span
    cols: Span


@dataclass(frozen=True)
class TileGrid:
    """A picture, cut: as many blocks as windows, in reading order; the blocks partition it."""

    rows: AxisCut
    cols: AxisCut

    @property
    def size_hw(self) -> Size:
        """Height and width of the picture."""
        return self.rows.length, self.cols.length

    @property
    def window_hw(self) -> Size:
        """Height and width of every window."""
        return self.rows.window, self.cols.window

    @property
    def blocks(self) -> int:
        """How many blocks, and windows, there are."""
        return len(self.rows.blocks) * len(self.cols.blocks)

    def block(self, index: int) -> Block:
        """A block by its index.  Raises IndexError where there is none."""
        if not 0 <= index < self.blocks:
            raise IndexError(f"block {index} of {self.blocks}")
        row, col = divmod(index, len(self.cols.blocks))
        return Block(index, self.rows.blocks[row], self.cols.blocks[col])

    def windows_wanted(self, row: int, undone: Sequence[Sequence[bool]]) -> list[int]:
        """The columns of the windows of a row of windows that an undone block needs.

        ``undone[block row][block column]`` for the whole grid.
        """
        rows = [block for block in range(row, len(self.rows.blocks)) if row in self.rows.windows_of(block)]
        wanted = set[int]()
        for block in rows:
            for col, is_undone in enumerate(undone[block]):
                if is_undone:
                    wanted.update(self.cols.windows_of(col))
        return sorted(wanted)

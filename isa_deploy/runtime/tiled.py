"""Pictures of any size through the network: windows in, labels out, block by block.

The picture is read from the top, once; only the rows of pixels of one row of windows and the logits of the rows of
windows that overlap are in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from isa_deploy.errors import InputError
from isa_deploy.runtime.assemble import LogitsGrid, labels_from_logits
from isa_deploy.runtime.preprocess import check_frame
from isa_deploy.runtime.resample import AxisMap, weigh_windows
from isa_deploy.runtime.segmenter import Segmenter
from isa_deploy.runtime.tiling import AxisCut, Block, TileGrid, Tiling, cut_axis

__all__ = ["TILE", "PictureRows", "TilePlan", "plan_tiles", "segment_tiled", "tile_labels"]

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Size = tuple[int, int]

_Answer = TypeVar("_Answer", covariant=True)

TILE = 1024
"""Side of a tile in pixels where neither the caller nor the model names one (benchmarks/tiling.py)."""

LARGE_TILE, LARGE_TILE_HALO, SMALL_TILE_HALO = 1024, 64, 128
"""Measured (benchmarks/results/tiling.json): at these halos the labels at the seams agree with those of the whole
picture as often as the labels elsewhere.  Tiles of 1024 reach that at 64 pixels, tiles of 512 at 128; crops of 769
come to mmsegmentation's own stride of 513 with 128."""

DEVICE_BATCH = 4
"""Tiles at once where the backend names no number."""


MAX_BAND_BYTES = 1 << 30
"""What the rows of pixels of one row of windows may take: 1024 rows of 349,525 pixels.  A file of a few bytes can claim
a picture that is low and millions of pixels wide."""


class PictureRows(Protocol):
    """A picture that is read from the top, in the colour order of the segmenter's manifest."""

    @property
    def size_hw(self) -> Size:
        """Height and width."""

    def read_rows(self, start: int, stop: int) -> UInt8:
        """Some rows, uint8 (stop - start) x W x 3.  Asked for in rising order, each at most once, some not at all."""


@dataclass(frozen=True)
class TilePlan:
    """How one picture is cut for one engine; made by :func:`plan_tiles`.

    ``grid``: windows and blocks.  ``tiling``: the :class:`Tiling` with everything decided.
    """

    grid: TileGrid
    tiling: Tiling

    @property
    def size_hw(self) -> Size:
        """Height and width of the picture."""
        return self.grid.size_hw

    @property
    def blocks(self) -> int:
        """How many blocks there are; as many as windows."""
        return self.grid.blocks

    def block(self, index: int) -> Block:
        """A block by its index.  Raises IndexError where there is none."""
        return self.grid.block(index)


def plan_tiles(segmenter: Segmenter, size_hw: Size, tiling: Tiling) -> TilePlan:
    """Cut a picture of a size for an engine.

    Raises :class:`InputError` for "whole", which cuts nothing, for tiles that the engine cannot take, and for a row of
    them that would not fit into memory.
    """
    if tiling.mode == "whole":
        raise InputError("tiling 'whole' cuts nothing; use slide, tiles or blend")
    if min(size_hw) < 1:
        raise InputError(f"a picture of {size_hw[0]}x{size_hw[1]} has no pixels")
    manifest = segmenter.manifest
    fixed, crop_hw = manifest.frame_hw, manifest.inference.crop_hw
    if manifest.inference.windows_in_graph:
        crop_hw = None  # the graph takes its whole frame as one window
    tile_hw = tiling.tile_hw or fixed or crop_hw or (TILE, TILE)
    if fixed is not None and crop_hw is None:
        if tile_hw != fixed:
            raise InputError(
                f"tiles of {tile_hw[0]}x{tile_hw[1]}: this engine takes {fixed[0]}x{fixed[1]} only; leave --tile away"
            )
        if size_hw[0] < fixed[0] or size_hw[1] < fixed[1]:
            raise InputError(
                f"a picture of {size_hw[0]}x{size_hw[1]} is smaller than the {fixed[0]}x{fixed[1]} that this engine "
                "takes; use --tiling whole, or export without --shape"
            )
    if crop_hw is not None and (tile_hw[0] > crop_hw[0] or tile_hw[1] > crop_hw[1]):
        raise InputError(
            f"tiles of {tile_hw[0]}x{tile_hw[1]} are larger than this model's crop of {crop_hw[0]}x{crop_hw[1]}; "
            "use the crop or less"
        )
    halo = tiling.halo
    strides = manifest.inference.stride_hw
    overlap_hw: Size
    if halo is None and tiling.mode == "slide" and strides is not None and tile_hw == crop_hw:
        overlap_hw = tile_hw[0] - strides[0], tile_hw[1] - strides[1]
        halo = min(overlap_hw) // 2
    else:
        halo = _halo(min(tile_hw)) if halo is None else halo
        overlap_hw = 2 * halo, 2 * halo
    decided = Tiling(tiling.mode, tile_hw, halo, tiling.batch or _batch(segmenter, tile_hw))  # checks halo and tile
    rows, cols = (
        cut_axis(length, side, overlap, tiling.mode)
        for length, side, overlap in zip(size_hw, tile_hw, overlap_hw, strict=True)
    )
    plan = TilePlan(TileGrid(rows, cols), decided)
    segmenter.check_window(plan.grid.window_hw)
    band_bytes = plan.grid.window_hw[0] * size_hw[1] * 3
    if band_bytes > MAX_BAND_BYTES:
        raise InputError(
            f"a picture of {size_hw[0]}x{size_hw[1]}: a row of tiles takes {band_bytes >> 20} MiB, more than "
            f"{MAX_BAND_BYTES >> 20}; use lower tiles (--tile), or cut the picture into narrower ones"
        )
    return plan


def tile_labels(
    segmenter: Segmenter, picture: PictureRows, plan: TilePlan, done: Callable[[int], bool] = lambda index: False
) -> Iterator[tuple[Block, UInt8]]:
    """The labels of a picture, uint8 h x w for one block after the other, in reading order.

    Blocks for which ``done`` is true are left out, and what only they need is neither read nor computed.
    Raises as :meth:`Segmenter.segment`, and what the picture raises.
    """
    assert plan.tiling.batch is not None
    grid = plan.grid
    columns = len(grid.cols.blocks)
    undone = [
        [not done(row * columns + col) for col in range(columns)]  # asked once, before the caller changes his mind
        for row in range(len(grid.rows.blocks))
    ]
    batches = _batches(_windows(picture, grid, undone), plan.tiling.batch)
    if plan.tiling.mode == "tiles" and segmenter.prefers_graph_labels:
        # a tile's labels are its own: nothing has to be merged
        for window, labels_hw in _answers(batches, segmenter.submit_graph_labels, segmenter.capacity):
            if undone[window.row][window.col]:
                yield _kept(grid, window, labels_hw)
        return
    merger = _Merger(segmenter, grid)
    for window, logits_chw in _answers(batches, segmenter.submit_logits, segmenter.capacity):
        merger.add(window, logits_chw)
        if undone[window.row][window.col]:
            yield merger.block(window)


def segment_tiled(segmenter: Segmenter, frame_hwc: npt.NDArray[Any], tiling: Tiling) -> UInt8:
    """The labels of a frame that is in memory (uint8, H x W x 3), uint8 H x W.

    Raises as :meth:`Segmenter.segment` and :func:`plan_tiles`.
    """
    frame = check_frame(frame_hwc)
    if tiling.mode == "whole":
        return segmenter.segment(frame)
    picture = _Frame(frame)
    labels_hw = np.empty(picture.size_hw, dtype=np.uint8)
    for block, part_hw in tile_labels(segmenter, picture, plan_tiles(segmenter, picture.size_hw, tiling)):
        labels_hw[slice(*block.rows), slice(*block.cols)] = part_hw
    return labels_hw


@dataclass(frozen=True)
class _Frame:
    frame_hwc: UInt8

    @property
    def size_hw(self) -> Size:
        return int(self.frame_hwc.shape[0]), int(self.frame_hwc.shape[1])

    def read_rows(self, start: int, stop: int) -> UInt8:
        return self.frame_hwc[start:stop]


@dataclass(frozen=True)
class _Window:
    """A window of the grid with its pixels, uint8 h x w x 3, C-contiguous."""

    row: int
    col: int
    image_hwc: UInt8


def _halo(side: int) -> int:
    return LARGE_TILE_HALO if side >= LARGE_TILE else min(SMALL_TILE_HALO, side // 4)


def _batch(segmenter: Segmenter, tile_hw: Size) -> int:
    return segmenter.largest_window_batch(*tile_hw) or DEVICE_BATCH


def _windows(picture: PictureRows, grid: TileGrid, undone: list[list[bool]]) -> Iterator[_Window]:
    """The windows that undone blocks need, in reading order.  Rows of pixels that windows share are read once."""
    width = grid.size_hw[1]
    band_hwc = np.empty((0, width, 3), dtype=np.uint8)
    top = 0
    for row, (start, stop) in enumerate(grid.rows.windows):
        wanted = grid.windows_wanted(row, undone)
        if not wanted:
            continue
        kept = band_hwc[max(start - top, 0) :]
        first = max(start, top + len(band_hwc))
        read = picture.read_rows(first, stop)
        band_hwc = np.concatenate([kept, read]) if len(kept) else read
        top = start
        for col in wanted:
            left, right = grid.cols.windows[col]
            yield _Window(row, col, np.ascontiguousarray(band_hwc[:, left:right]))


def _batches(windows: Iterator[_Window], size: int) -> Iterator[list[_Window]]:
    batch: list[_Window] = []
    for window in windows:
        batch.append(window)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


class _Pending(Protocol[_Answer]):
    def result(self) -> Sequence[_Answer]: ...


def _answers(
    batches: Iterator[list[_Window]], submit: Callable[[list[UInt8]], _Pending[_Answer]], capacity: int
) -> Iterator[tuple[_Window, _Answer]]:
    """What the engine makes of each window, in their order, with as many batches under way as it takes."""
    under_way: deque[tuple[list[_Window], _Pending[_Answer]]] = deque()
    for batch in batches:
        under_way.append((batch, submit([window.image_hwc for window in batch])))
        # one more than the engine takes: the oldest is done by now, and the engine works while it is merged
        if len(under_way) > capacity:
            windows, pending = under_way.popleft()
            yield from zip(windows, pending.result(), strict=True)
    for windows, pending in under_way:
        yield from zip(windows, pending.result(), strict=True)


def _kept(grid: TileGrid, window: _Window, labels_hw: UInt8) -> tuple[Block, UInt8]:
    """The block that a tile decides, and its part of the tile's labels."""
    block = grid.block(window.row * len(grid.cols.blocks) + window.col)
    top, left = grid.rows.windows[window.row][0], grid.cols.windows[window.col][0]
    (y0, y1), (x0, x1) = block.rows, block.cols
    return block, labels_hw[y0 - top : y1 - top, x0 - left : x1 - left]


class _Merger:
    """Windows' logits, until the blocks that need them are made."""

    def __init__(self, segmenter: Segmenter, grid: TileGrid) -> None:
        self._grid = grid
        self._window_maps = segmenter.logits_maps(grid.window_hw)
        self._maps: dict[tuple[int, int], AxisMap] = {}
        self._logits: dict[tuple[int, int], Float32] = {}
        self._row = 0

    def add(self, window: _Window, logits_chw: Float32) -> None:
        """Take a window's logits, float32 C x h x w.  Windows come in reading order."""
        if window.row != self._row:
            self._row = window.row
            first = self._grid.rows.windows_of(window.row)[0]
            self._logits = {place: logits for place, logits in self._logits.items() if place[0] >= first}
            self._maps = {key: made for key, made in self._maps.items() if key[0] == 1}  # columns come again
        if self._grid.rows.mode == "tiles":
            self._logits.clear()  # no tile has a say beyond its own block
        self._logits[window.row, window.col] = logits_chw

    def block(self, window: _Window) -> tuple[Block, UInt8]:
        """The block that is complete with a window, and its labels."""
        grid = self._grid
        rows, cols = grid.rows.windows_of(window.row), grid.cols.windows_of(window.col)
        logits_chw = np.concatenate(
            [np.concatenate([self._logits[row, col] for col in cols], axis=2) for row in rows], axis=1
        )
        by_row, by_col = self._map(0, window.row), self._map(1, window.col)
        block = grid.block(window.row * len(grid.cols.blocks) + window.col)
        return block, labels_from_logits(LogitsGrid(logits_chw, by_row, by_col))

    def _map(self, axis: int, block: int) -> AxisMap:
        made = self._maps.get((axis, block))
        if made is None:
            cut: AxisCut = (self._grid.rows, self._grid.cols)[axis]
            numbers = cut.windows_of(block)
            made = weigh_windows(
                [cut.windows[number] for number in numbers],
                [cut.weights(number) for number in numbers],
                self._window_maps[axis],
                cut.blocks[block],
            )
            self._maps[axis, block] = made
        return made

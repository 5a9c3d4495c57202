"""From a frame's size to what the network is shown, and from its logits back to the frame."""

from __future__ import annotations

from isa_deploy.errors import InputError
from isa_deploy.manifest import Manifest
from isa_deploy.runtime.preprocess import ResizeRule, network_size
from isa_deploy.runtime.resample import AxisMap, average_windows, bilinear
from isa_deploy.runtime.tiling import Span, WindowGrid, slide_grid

__all__ = ["Geometry", "Size"]

Size = tuple[int, int]

AXIS_MAPS_KEPT = 16

MAX_NETWORK_PIXELS = 64 << 20
"""8192 x 8192: an R50 needs about 60 GB of activations for it."""


class Geometry:
    """The sizes, windows and maps of one engine.

    ``manifest``: what the engine is; ``resize``: at which size it is shown a frame.
    """

    def __init__(self, manifest: Manifest, resize: ResizeRule) -> None:
        self._manifest = manifest
        self._resize: ResizeRule = resize
        self._axis_maps: dict[tuple[int, ...], AxisMap] = {}

    @property
    def cuts_windows(self) -> bool:
        """Whether sliding windows are cut outside of the graph (they are inside where the frame is fixed)."""
        inference = self._manifest.inference
        return inference.mode == "slide" and not inference.windows_in_graph

    def graph_covers(self, frame_hw: Size) -> bool:
        """Whether the graph sees the whole of a frame of this size at once."""
        crop_hw = self._manifest.inference.crop_hw
        one_window = crop_hw is not None and frame_hw[0] <= crop_hw[0] and frame_hw[1] <= crop_hw[1]
        return one_window or not self.cuts_windows

    def shown_size(self, frame_hw: Size) -> Size:
        """The size at which the network sees a frame.  Raises :class:`InputError` where it cannot take that."""
        size_hw = network_size(frame_hw, self._resize, self._manifest.input.resize)
        self.check_size(frame_hw, size_hw)
        return size_hw

    def check_size(self, frame_hw: Size, size_hw: Size) -> None:
        """Raise :class:`InputError` where the network cannot be shown a frame of one size at another."""
        if size_hw[0] * size_hw[1] > MAX_NETWORK_PIXELS:
            raise InputError(
                f"a frame of {frame_hw[0]}x{frame_hw[1]} comes to {size_hw[0]}x{size_hw[1]}, more than "
                f"{MAX_NETWORK_PIXELS >> 20} million pixels in one pass; use a smaller --resize"
            )
        fixed = self._manifest.frame_hw
        if fixed is None or self.cuts_windows or size_hw == fixed:
            return
        raise InputError(
            f"this engine takes {fixed[0]}x{fixed[1]} only, and the frame of {frame_hw[0]}x{frame_hw[1]} comes to "
            f"{size_hw[0]}x{size_hw[1]}; use --resize {fixed[0]}x{fixed[1]}, or export without --shape"
        )

    def check_window(self, window_hw: Size) -> None:
        """Raise :class:`InputError` where the graph cannot take a picture of this size in one pass."""
        height, width = window_hw
        if height * width > MAX_NETWORK_PIXELS:
            raise InputError(
                f"a window of {height}x{width} is more than {MAX_NETWORK_PIXELS >> 20} million pixels in one pass; "
                "use a smaller one"
            )
        fixed = self._manifest.frame_hw
        if fixed is not None and window_hw != fixed:
            raise InputError(
                f"this engine takes {fixed[0]}x{fixed[1]} only, not windows of {height}x{width}; "
                "use its size, or export without --shape"
            )

    def windows(self, size_hw: Size) -> WindowGrid:
        """The windows that cover a frame of the size that the network is shown."""
        inference = self._manifest.inference
        if inference.mode == "whole":
            return _one_window(size_hw)
        assert inference.crop_hw is not None
        assert inference.stride_hw is not None
        return slide_grid(size_hw, inference.crop_hw, inference.stride_hw)

    def frame_maps(self, size_hw: Size, frame_hw: Size) -> tuple[AxisMap, AxisMap]:
        """The maps of rows and columns: windows' logits to the network's size, then to the frame's."""
        windows = self.windows(size_hw)
        return (
            self._axis_map(windows.rows, size_hw[0], frame_hw[0]),
            self._axis_map(windows.cols, size_hw[1], frame_hw[1]),
        )

    def call_maps(self, size_hw: Size) -> tuple[AxisMap, AxisMap]:
        """The maps of rows and columns from the logits of one call of the graph to the pixels it was given.

        The logits of a graph that cuts windows itself are theirs, side by side.
        """
        if not self.cuts_windows:
            return self.frame_maps(size_hw, size_hw)
        window = _one_window(size_hw)
        return (
            self._axis_map(window.rows, size_hw[0], size_hw[0]),
            self._axis_map(window.cols, size_hw[1], size_hw[1]),
        )

    def _axis_map(self, spans: tuple[Span, ...], length: int, frame: int) -> AxisMap:
        key = (*(edge for span in spans for edge in span), length, frame)
        made = self._axis_maps.get(key)
        if made is None:
            stride = self._manifest.outputs.logits_stride
            align = self._manifest.inference.align_corners
            made = average_windows(spans, -(-(spans[0][1] - spans[0][0]) // stride), length, align)
            if frame != length:
                made = bilinear(length, frame, align).after(made)
            if len(self._axis_maps) >= AXIS_MAPS_KEPT:
                self._axis_maps.pop(next(iter(self._axis_maps)))
            self._axis_maps[key] = made
        return made


def _one_window(size_hw: Size) -> WindowGrid:
    return WindowGrid(((0, size_hw[0]),), ((0, size_hw[1]),))

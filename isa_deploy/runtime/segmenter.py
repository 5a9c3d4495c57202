"""The Segmenter: an opened engine and everything round it, from frames to label maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from isa_deploy.errors import EngineError, InputError
from isa_deploy.manifest import Manifest
from isa_deploy.runtime.assemble import LogitsGrid, labels_from_logits, labels_from_softmax_mean
from isa_deploy.runtime.backends.base import Backend, DeviceBackend, Finished, Pending
from isa_deploy.runtime.backends.device_array import DeviceArray
from isa_deploy.runtime.opening import open_backend
from isa_deploy.runtime.preprocess import (
    ResizeRule,
    check_frame,
    fit_size,
    network_size,
    parse_resize,
    resize_frame,
    scaled_box,
)
from isa_deploy.runtime.resample import AxisMap, average_windows, bilinear
from isa_deploy.runtime.tiling import WindowGrid, slide_grid

__all__ = ["PendingLabels", "Segmenter"]

UInt8 = npt.NDArray[np.uint8]

Frame = npt.NDArray[Any]
"""A frame as a caller has it: OpenCV's own annotations do not say uint8.  It is checked, never converted."""

Size = tuple[int, int]

AXIS_MAPS_KEPT = 16

MAX_NETWORK_PIXELS = 64 << 20
"""8192 x 8192: an R50 needs about 60 GB of activations for it."""


class Segmenter:
    """Frames in, label maps out, with mmsegmentation's semantics.

    Open one with :meth:`Segmenter.open`; it is a context manager.  One Segmenter serves one thread at a
    time; open a second for a second thread.

    ``manifest`` says what the model is (``manifest.classes.names``, ``manifest.classes.palette_rgb``);
    ``backend_name``, ``precision`` and ``device`` what it runs in and on.
    """

    def __init__(self, backend: Backend, manifest: Manifest, resize: ResizeRule = "test") -> None:
        self.manifest = manifest
        self.resize: ResizeRule = resize
        self._backend = backend
        self._closed = False
        self._axis_maps: dict[tuple[int, ...], AxisMap] = {}

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        backend: str = "auto",
        device: str | int = "auto",
        precision: str = "auto",
        resize: str | Size = "test",
        allow_engine_code: bool = False,
    ) -> Segmenter:
        """Open an artefact folder, its ``model.onnx``, its ``model.plan`` or its ``model.json``.

        ``backend``: "auto", "tensorrt", "openvino" or "onnxruntime".  ``device``: "auto", "cpu", "cuda" or a
        GPU's number.  ``precision``: "auto", "fp32" or "bf16" (what OpenVINO computes in).  ``resize``: "test"
        (the model's own test scale), "none" (frames as they are) or (height, width) in pixels.
        ``allow_engine_code``: whether a version-compatible plan may run the code for this processor that it
        carries; say True only for plans of people you trust.

        Raises :class:`EngineError` or :class:`ManifestError` for a file that cannot be used,
        :class:`BackendUnavailableError` where no library can run it, :class:`InputError` for an argument
        that makes no sense.
        """
        rule = parse_resize("x".join(map(str, resize)) if isinstance(resize, tuple) else str(resize))
        opened, manifest = open_backend(Path(path), backend, str(device), precision, allow_engine_code)
        return cls(opened, manifest, rule)

    @property
    def backend_name(self) -> str:
        """The backend that runs the engine: "tensorrt", "openvino" or "onnxruntime"."""
        return self._backend.name

    @property
    def precision(self) -> str:
        """What the arithmetic runs in: "fp32", "fp16" or "bf16"."""
        return self._backend.precision

    @property
    def device(self) -> str:
        """What the engine runs on, in words."""
        return self._backend.device

    def segment(self, frame_hwc: Frame) -> UInt8:
        """The labels of a frame (uint8, H x W x 3, in the manifest's colour order), uint8 H x W.

        Raises :class:`InputError` for a frame that is none, or that the graph cannot take, and
        :class:`EngineError` where the engine fails.
        """
        return self.segment_batch([frame_hwc])[0]

    def segment_batch(self, frames_hwc: Sequence[Frame]) -> list[UInt8]:
        """The labels of several frames of one size, in one call of the engine where it can.

        Raises as :meth:`segment`, and :class:`InputError` where the frames' sizes differ.
        """
        frames = [check_frame(frame) for frame in frames_hwc]
        if not frames:
            return []
        if len({frame.shape for frame in frames}) > 1:
            raise InputError(f"a batch needs frames of one size, not {sorted({f.shape[:2] for f in frames})}")
        frame_hw = _size(frames[0])
        images = [self._prepare(frame) for frame in frames]
        if self._backend.fast_argmax and self._graph_labels_fit(images[0], frame_hw):
            (labels_nhw,) = self._run(images, [self.manifest.outputs.labels])
            return [np.asarray(labels, dtype=np.uint8) for labels in labels_nhw]
        return [labels_from_logits(grid) for grid in self._grids(images, frame_hw)]

    def submit(self, frame_hwc: Frame) -> PendingLabels:
        """Give a frame to the engine without waiting for its labels.

        A GPU then copies the next frame up while it computes this one; other engines answer at once, and
        the call takes as long as :meth:`segment`.  Wait for the answers in the order of the frames.  A frame
        of :meth:`frame_buffer` must not change before its answer was waited for; others may.  Raises as
        :meth:`segment`.
        """
        frame = check_frame(frame_hwc)
        image = self._prepare(frame)
        single = self.manifest.input.shape_nhw[0] in (None, 1)
        if not (single and self._backend.fast_argmax and self._graph_labels_fit(image, _size(frame))):
            return PendingLabels(Finished([self.segment(frame)[None]]))
        self._check_open()
        return PendingLabels(self._backend.start(np.ascontiguousarray(image)[None], [self.manifest.outputs.labels]))

    def frame_buffer(self, height: int, width: int) -> UInt8:
        """Memory for a frame, uint8 H x W x 3, that a GPU reads without a copy through other memory.

        Fill it (``buffer[:] = frame``, or decode into it) and give it to :meth:`segment` or :meth:`submit`.
        """
        self._check_open()
        return self._backend.frame_buffer((height, width, 3))

    def segment_on_device(self, frame: Any) -> DeviceArray:
        """The labels of a frame that lies on the GPU, left there: uint8 H x W, or N x H x W for a batch.

        ``frame``: uint8 H x W x 3 or N x H x W x 3 in the manifest's colour order, with
        ``__cuda_array_interface__`` or DLPack (pycuda, CuPy, torch, NVDEC surfaces).  The result carries both.
        Raises :class:`InputError` where the engine does not run on a GPU here, or where the labels need
        more than the graph (a test scale, windows cut outside of it), and as :meth:`segment`.
        """
        self._check_open()
        backend = self._backend
        if not isinstance(backend, DeviceBackend):
            raise InputError(
                f"backend {backend.name} takes frames in the host's memory; open a TensorRT plan for frames on the GPU"
            )
        frames = backend.read_device_frames(frame)
        n, *size = frames.shape[:3]
        frame_hw = size[0], size[1]
        size_hw = network_size(frame_hw, self.resize, self.manifest.input.resize)
        self._check_size(frame_hw, size_hw)
        if size_hw != frame_hw or not self._graph_covers(frame_hw):
            raise InputError(
                f"a frame of {frame_hw[0]}x{frame_hw[1]} on the GPU needs a resize or windows outside of the graph; "
                'open the engine with resize="none", or export with --shape'
            )
        fixed = self.manifest.input.shape_nhw[0]
        if fixed not in (None, n):
            raise InputError(f"this engine takes {fixed} frames at once, not {n}; export without a batch in --shape")
        (labels,) = backend.run_on_device(frames, [self.manifest.outputs.labels])
        return labels if frames.batched else labels.first()

    def segment_with_confidence(self, frame_hwc: Frame) -> tuple[UInt8, UInt8]:
        """The labels of a frame and the softmax of the winning class x 255, both uint8 H x W.

        Raises as :meth:`segment`.
        """
        frame = check_frame(frame_hwc)
        frame_hw = _size(frame)
        image = self._prepare(frame)
        outputs = self.manifest.outputs
        if self._graph_labels_fit(image, frame_hw) and outputs.confidence is not None:
            labels_nhw, confidence_nhw = self._run([image], [outputs.labels, outputs.confidence])
            return np.asarray(labels_nhw[0], np.uint8), np.asarray(confidence_nhw[0], np.uint8)
        return labels_from_softmax_mean(self._grids([image], frame_hw))

    def segment_multi_scale(
        self,
        frame_hwc: Frame,
        ratios: Sequence[float] = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75),
        flip: bool = True,
    ) -> UInt8:
        """The labels of a frame by mmsegmentation's test-time augmentation, uint8 H x W.

        The frame is scaled by each of ``ratios`` and, with ``flip``, also mirrored; the softmaxes at the
        frame's size are averaged (SegTTAModel).  The scales are of the frame, not of the test scale, as
        in mmsegmentation's ``tta_pipeline``.  Raises as :meth:`segment`.
        """
        frame = check_frame(frame_hwc)
        frame_hw = _size(frame)
        grids: list[LogitsGrid] = []
        if not ratios or not all(0 < ratio <= 16 for ratio in ratios):
            raise InputError(f"ratios {tuple(ratios)} must be one or more numbers above 0 and up to 16")
        for ratio in ratios:
            size_hw = fit_size(frame_hw, scaled_box(frame_hw, ratio))
            self._check_size(frame_hw, size_hw)
            image = resize_frame(frame, size_hw)
            grids += self._grids([image], frame_hw)
            if flip:
                (mirrored,) = self._grids([np.ascontiguousarray(image[:, ::-1])], frame_hw)
                grids.append(_mirror(mirrored))
        labels, _ = labels_from_softmax_mean(grids)
        return labels

    def segment_with_logits(self, frame_hwc: Frame) -> tuple[UInt8, npt.NDArray[np.float32]]:
        """The labels of a frame, uint8 H x W, and the logits they came from, float32 C x h x w.

        The labels are the graph's own wherever it can give the frame's, whichever way is the faster one.

        The logits are at the head's stride of the size that the network was shown; for a slide model they
        are the windows' side by side in one grid.  Raises as :meth:`segment`.
        """
        frame = check_frame(frame_hwc)
        frame_hw = _size(frame)
        image = self._prepare(frame)
        if self._graph_labels_fit(image, frame_hw):
            outputs = self.manifest.outputs
            labels_nhw, logits_nchw = self._run([image], [outputs.labels, outputs.logits])
            return np.asarray(labels_nhw[0], np.uint8), np.asarray(logits_nchw[0], np.float32)
        (grid,) = self._grids([image], frame_hw)
        return labels_from_logits(grid), grid.logits_chw

    def logits_grid(self, frame_hwc: Frame) -> LogitsGrid:
        """The logits of a frame and how they become its labels.  Raises as :meth:`segment`."""
        frame = check_frame(frame_hwc)
        (grid,) = self._grids([self._prepare(frame)], _size(frame))
        return grid

    def close(self) -> None:
        """Give the engine's memory back.  Closing twice is harmless."""
        if not self._closed:
            self._closed = True
            self._backend.close()

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _cuts_windows(self) -> bool:
        """Whether sliding windows are this class's work (they are the graph's where the frame is fixed)."""
        inference = self.manifest.inference
        return inference.mode == "slide" and not inference.windows_in_graph

    def _prepare(self, frame_hwc: UInt8) -> UInt8:
        """The frame at the size that the network is shown."""
        frame_hw = _size(frame_hwc)
        size_hw = network_size(frame_hw, self.resize, self.manifest.input.resize)
        self._check_size(frame_hw, size_hw)
        return resize_frame(frame_hwc, size_hw)

    def _graph_labels_fit(self, image_hwc: UInt8, frame_hw: Size) -> bool:
        """Whether the graph's own labels are the frame's: no windows to merge, no second resize."""
        return _size(image_hwc) == frame_hw and self._graph_covers(frame_hw)

    def _graph_covers(self, frame_hw: Size) -> bool:
        """Whether the graph sees the whole of a frame of this size at once."""
        crop_hw = self.manifest.inference.crop_hw
        one_window = crop_hw is not None and frame_hw[0] <= crop_hw[0] and frame_hw[1] <= crop_hw[1]
        return one_window or not self._cuts_windows

    def _check_size(self, frame_hw: Size, size_hw: Size) -> None:
        if size_hw[0] * size_hw[1] > MAX_NETWORK_PIXELS:
            raise InputError(
                f"a frame of {frame_hw[0]}x{frame_hw[1]} comes to {size_hw[0]}x{size_hw[1]}, more than "
                f"{MAX_NETWORK_PIXELS >> 20} million pixels in one pass; use a smaller --resize"
            )
        fixed = self.manifest.frame_hw
        if fixed is None or self._cuts_windows or size_hw == fixed:
            return
        raise InputError(
            f"this engine takes {fixed[0]}x{fixed[1]} only, and the frame of {frame_hw[0]}x{frame_hw[1]} comes to "
            f"{size_hw[0]}x{size_hw[1]}; use --resize {fixed[0]}x{fixed[1]}, or export without --shape"
        )

    def _run(self, images: Sequence[UInt8], outputs: Sequence[str]) -> list[npt.NDArray[np.generic]]:
        """The engine on frames of one size, in batches of the graph's own where that is fixed."""
        self._check_open()
        fixed = self.manifest.input.shape_nhw[0]
        if len(images) == 1 and fixed in (None, 1):
            return self._backend.start(np.ascontiguousarray(images[0])[None], outputs).wait()
        step = fixed or self._backend.largest_batch(*_size(images[0])) or len(images)
        pending = []
        for start in range(0, len(images), step):
            part = list(images[start : start + step])
            wanted = len(part)
            part += [part[-1]] * (step - wanted) if fixed else []
            pending.append((self._backend.start(np.stack(part), outputs), wanted))
        parts = [[array[:wanted] for array in each.wait()] for each, wanted in pending]
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("this Segmenter is closed; open another")

    def _grids(self, images: Sequence[UInt8], frame_hw: Size) -> list[LogitsGrid]:
        """The logits of each image of one size, with their maps to the frame's size."""
        size_hw = _size(images[0])
        windows = self._windows(size_hw)
        rows, cols = self._maps(windows, size_hw, frame_hw)
        if not self._cuts_windows:
            cells_hw = rows.inputs, cols.inputs
            return [LogitsGrid(logits, rows, cols) for logits in self._run_logits(images, cells_hw)]
        return [LogitsGrid(self._window_logits(image, windows), rows, cols) for image in images]

    def window_counts(self, size_hw: Size) -> tuple[int, int]:
        """Rows and columns of windows that cover a frame of the size that the network is shown."""
        windows = self._windows(size_hw)
        return len(windows.rows), len(windows.cols)

    def _windows(self, size_hw: Size) -> WindowGrid:
        inference = self.manifest.inference
        if inference.mode == "whole":
            return WindowGrid(((0, size_hw[0]),), ((0, size_hw[1]),))
        assert inference.crop_hw is not None
        assert inference.stride_hw is not None
        return slide_grid(size_hw, inference.crop_hw, inference.stride_hw)

    def _run_logits(self, images: Sequence[UInt8], cells_hw: Size) -> list[npt.NDArray[np.float32]]:
        """The logits of each image, float32 C x h x w, of the size that the manifest promises and finite."""
        (made,) = self._run(images, [self.manifest.outputs.logits])
        logits_nchw = np.asarray(made, np.float32)
        if logits_nchw.shape[2:] != cells_hw:
            raise EngineError(
                f"the engine gave logits of {logits_nchw.shape[2]}x{logits_nchw.shape[3]} where its manifest promises "
                f"{cells_hw[0]}x{cells_hw[1]}; export the model again"
            )
        if not np.isfinite(logits_nchw).all():
            raise EngineError(
                "the engine gave logits that are not finite: its file is damaged, or its type's range is too small for "
                "this model; export it again, in float32"
            )
        return list(logits_nchw)

    def _window_logits(self, image_hwc: UInt8, windows: WindowGrid) -> npt.NDArray[np.float32]:
        """The logits of every window, side by side: C x (rows * h) x (columns * w).

        A row of windows at a time, which a GPU takes in batches.
        """
        stride = self.manifest.outputs.logits_stride
        grid_rows = []
        for y0, y1 in windows.rows:
            cells_hw = -(-(y1 - y0) // stride), -(-(windows.cols[0][1] - windows.cols[0][0]) // stride)
            row = self._run_logits([image_hwc[y0:y1, x0:x1] for x0, x1 in windows.cols], cells_hw)
            grid_rows.append(np.concatenate(row, axis=2))
        return np.concatenate(grid_rows, axis=1)

    def _maps(self, windows: WindowGrid, size_hw: Size, frame_hw: Size) -> tuple[AxisMap, AxisMap]:
        """The maps of both axes: windows to the network's size, then to the frame's."""
        rows = self._axis_map(windows.rows, size_hw[0], frame_hw[0])
        cols = self._axis_map(windows.cols, size_hw[1], frame_hw[1])
        return rows, cols

    def _axis_map(self, spans: tuple[tuple[int, int], ...], length: int, frame: int) -> AxisMap:
        key = (*(edge for span in spans for edge in span), length, frame)
        made = self._axis_maps.get(key)
        if made is None:
            stride = self.manifest.outputs.logits_stride
            align = self.manifest.inference.align_corners
            made = average_windows(spans, -(-(spans[0][1] - spans[0][0]) // stride), length, align)
            if frame != length:
                made = bilinear(length, frame, align).after(made)
            if len(self._axis_maps) >= AXIS_MAPS_KEPT:
                self._axis_maps.pop(next(iter(self._axis_maps)))
            self._axis_maps[key] = made
        return made


class PendingLabels:
    """The labels of a frame that is on its way; made by :meth:`Segmenter.submit`."""

    def __init__(self, pending: Pending) -> None:
        self._pending = pending

    def result(self) -> UInt8:
        """The labels, uint8 H x W, once they are there.  Raises :class:`EngineError` where the engine failed."""
        labels_nhw = self._pending.wait()[0]
        return np.asarray(labels_nhw[0], dtype=np.uint8)


def _size(frame_hwc: UInt8) -> Size:
    return int(frame_hwc.shape[0]), int(frame_hwc.shape[1])


def _mirror(grid: LogitsGrid) -> LogitsGrid:
    """A grid whose frame is mirrored left to right, by reading its column map backwards."""
    cols = grid.cols
    return LogitsGrid(grid.logits_chw, grid.rows, AxisMap(cols.inputs, cols.index[::-1], cols.weight[::-1]))

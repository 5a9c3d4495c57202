"""The Segmenter: an opened engine and everything round it, from frames to label maps."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from isa_deploy.errors import EngineError, InputError
from isa_deploy.manifest import Manifest
from isa_deploy.runtime.assemble import LogitsGrid, labels_from_logits, labels_from_softmax_mean
from isa_deploy.runtime.backends.base import Arrays, Backend, DeviceBackend
from isa_deploy.runtime.backends.device_array import DeviceArray
from isa_deploy.runtime.geometry import Geometry, Size
from isa_deploy.runtime.opening import open_backend
from isa_deploy.runtime.pending import Call, Calls, PendingBatch, PendingLabels, PendingLogits
from isa_deploy.runtime.preprocess import (
    ResizeRule,
    check_frame,
    fit_size,
    network_size,
    parse_resize,
    resize_frame,
    scaled_box,
)
from isa_deploy.runtime.resample import AxisMap

if TYPE_CHECKING:
    from isa_deploy.runtime.tiling import Tiling

__all__ = ["MULTI_SCALE_RATIOS", "PendingBatch", "PendingLabels", "PendingLogits", "PendingMultiScale", "Segmenter"]

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

Frame = npt.NDArray[Any]
"""A frame as a caller has it: OpenCV's own annotations do not say uint8.  It is checked, never converted."""

MULTI_SCALE_RATIOS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
"""The scales of mmsegmentation's ``tta_pipeline`` (configs/_base_/datasets, version 1.2.2)."""


class Segmenter:
    """Frames in, label maps out, with mmsegmentation's semantics.

    Open one with :meth:`Segmenter.open`; it is a context manager.  One Segmenter serves one thread at a
    time; open a second for a second thread.

    :meth:`segment` gives a frame's labels.  :meth:`submit` gives the frame to the engine and answers at once, so that
    the engine works while the caller reads the next frame or draws the last one::

        under_way = deque()
        for frame in frames:
            under_way.append(segmenter.submit(frame))
            if len(under_way) > segmenter.capacity:  # the engine is full: there is time for the oldest
                show(under_way.popleft().result())
        for pending in under_way:
            show(pending.result())

    The engine takes :attr:`capacity` calls; then :meth:`submit` waits, and :meth:`try_submit` says None.  A frame
    must not change before its result was taken.  Results may be taken in any order, late, or never.

    ``manifest`` says what the model is (``manifest.classes.names``, ``manifest.classes.palette_rgb``);
    ``backend_name``, ``precision`` and ``device`` what it runs in and on.
    """

    def __init__(self, backend: Backend, manifest: Manifest, resize: ResizeRule = "test") -> None:
        self.manifest = manifest
        self.resize: ResizeRule = resize
        self._backend = backend
        self._geometry = Geometry(manifest, resize)
        self._closed = False

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        backend: str = "auto",
        device: str | int = "auto",
        precision: str = "auto",
        resize: str | Size = "test",
        schedule: str = "latency",
        allow_engine_code: bool = False,
    ) -> Segmenter:
        """Open an artefact folder, its ``model.onnx``, its ``model.plan`` or its ``model.json``.

        ``backend``: "auto", "tensorrt", "openvino" or "onnxruntime".  ``device``: "auto", "cpu", "cuda" or a
        GPU's number.  ``precision``: "auto", "fp32" or "bf16" (what OpenVINO computes in,
        beside what is int8).  ``resize``: "test" (the model's own test scale), "none" (frames as they are) or
        (height, width) in pixels.
        ``schedule``: "latency" (all cores on one frame, the next one lies ready) or "throughput" (several frames at
        once where that is faster, each of which takes longer and needs its own memory).
        ``allow_engine_code``: whether a version-compatible plan may run the code for this processor that it
        carries; say True only for plans of people you trust.

        Raises :class:`EngineError` or :class:`ManifestError` for a file that cannot be used,
        :class:`BackendUnavailableError` where no library can run it, :class:`InputError` for an argument
        that makes no sense.
        """
        rule = parse_resize("x".join(map(str, resize)) if isinstance(resize, tuple) else str(resize))
        opened, manifest = open_backend(Path(path), backend, str(device), precision, schedule, allow_engine_code)
        return cls(opened, manifest, rule)

    @property
    def backend_name(self) -> str:
        """The backend that runs the engine: "tensorrt", "openvino" or "onnxruntime"."""
        return self._backend.name

    @property
    def precision(self) -> str:
        """What the arithmetic runs in: "fp32", "fp16", "bf16", or "int8" where the convolutions do."""
        return self._backend.precision

    @property
    def device(self) -> str:
        """What the engine runs on, in words."""
        return self._backend.device

    @property
    def capacity(self) -> int:
        """How many calls the engine takes before :meth:`submit` waits, 1 or more.

        A frame is one call; one that is cut into windows is several.
        """
        return self._backend.capacity

    def largest_batch(self, height: int, width: int) -> int | None:
        """How many frames of a size are worth giving to :meth:`segment_batch` at once; None: as many as there are."""
        return self.largest_window_batch(*network_size((height, width), self.resize, self.manifest.input.resize))

    def segment(self, frame_hwc: Frame, tiling: Tiling | None = None) -> UInt8:
        """The labels of a frame (uint8, H x W x 3, in the manifest's colour order), uint8 H x W.

        ``tiling``: how a large frame is cut (:class:`isa_deploy.runtime.tiling.Tiling`); None: as the model was
        tested.  Raises :class:`InputError` for a frame that is none, or that the graph cannot take, and
        :class:`EngineError` where the engine fails.
        """
        if tiling is not None:
            from isa_deploy.runtime.tiled import segment_tiled

            return segment_tiled(self, frame_hwc, tiling)
        return self.submit(frame_hwc).result()

    def segment_batch(self, frames_hwc: Sequence[Frame]) -> list[UInt8]:
        """The labels of several frames of one size, in one call of the engine where it can.

        Raises as :meth:`segment`, and :class:`InputError` where the frames' sizes differ.
        """
        return self.submit_batch(frames_hwc).result()

    def submit(self, frame_hwc: Frame) -> PendingLabels:
        """Give a frame to the engine without waiting for its labels.

        Waits while the engine is full; a frame in several windows waits until the last of them is taken.
        The frame must not change before its result was taken (a GPU copies frames at once, except those of
        :meth:`frame_buffer`).  Raises as :meth:`segment`; where the engine fails, that may be from
        :meth:`PendingLabels.result`.
        """
        calls, finish = self._start_labels([check_frame(frame_hwc)])
        return PendingLabels(calls, lambda arrays: finish(arrays)[0])

    def try_submit(self, frame_hwc: Frame) -> PendingLabels | None:
        """:meth:`submit` where the engine has room for a call, and None, at once, where it is full."""
        frame = check_frame(frame_hwc)
        self._check_open()
        return self.submit(frame) if self._backend.has_room() else None

    def submit_batch(self, frames_hwc: Sequence[Frame]) -> PendingBatch:
        """:meth:`submit` for several frames of one size, in one call of the engine where it can.

        Raises as :meth:`segment_batch`.
        """
        frames = [check_frame(frame) for frame in frames_hwc]
        if not frames:
            return PendingBatch(Calls(()), lambda _: [])
        _check_one_size(frames)
        return PendingBatch(*self._start_labels(frames))

    def submit_logits(self, images_hwc: Sequence[Frame]) -> PendingLogits:
        """:meth:`submit_batch` for the logits of images (uint8, H x W x 3, of one size) as they are.

        There is no resize and there are no windows: the graph sees each image whole.  :meth:`logits_maps` says
        how the logits become the images'.  Raises :class:`InputError` for a size that the graph cannot take, and
        :class:`EngineError` as :meth:`submit`.
        """
        images = [check_frame(image) for image in images_hwc]
        if not images:
            return PendingLogits(Calls(()), lambda _: [])
        _check_one_size(images)
        self.check_window(_size(images[0]))
        rows, cols = self.logits_maps(_size(images[0]))
        calls = self._start(images, [self.manifest.outputs.logits])
        return PendingLogits(calls, partial(_checked_logits, cells_hw=(rows.inputs, cols.inputs)))

    def submit_graph_labels(self, images_hwc: Sequence[Frame]) -> PendingBatch:
        """:meth:`submit_logits` for the graph's own labels of images as they are, uint8 H x W each."""
        images = [check_frame(image) for image in images_hwc]
        if not images:
            return PendingBatch(Calls(()), lambda _: [])
        _check_one_size(images)
        self.check_window(_size(images[0]))
        return PendingBatch(self._start(images, [self.manifest.outputs.labels]), _graph_labels)

    @property
    def prefers_graph_labels(self) -> bool:
        """Whether the graph's own labels come sooner than its logits and the argmax here; so it is on a GPU."""
        return self._backend.fast_argmax

    def gives_graph_labels(self, frame_hw: Size) -> bool:
        """Whether the labels of frames of a size (height, width) are the graph's own.

        Otherwise they are made here, of its logits.  Raises :class:`InputError` for a size that cannot be taken.
        """
        shown_hw = self._geometry.shown_size(frame_hw)
        return self.prefers_graph_labels and shown_hw == frame_hw and self._geometry.graph_covers(frame_hw)

    def check_window(self, window_hw: Size) -> None:
        """Raise :class:`InputError` where :meth:`submit_logits` cannot take images of a size (height, width)."""
        self._geometry.check_window(window_hw)

    def largest_window_batch(self, height: int, width: int) -> int | None:
        """How many images of a size are worth giving to :meth:`submit_logits` at once; None: as many as there are."""
        return self.manifest.input.shape_nhw[0] or self._backend.largest_batch(height, width)

    def logits_maps(self, window_hw: Size) -> tuple[AxisMap, AxisMap]:
        """The maps of rows and columns from the logits of :meth:`submit_logits` to the pixels of an image."""
        return self._geometry.call_maps(window_hw)

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
        if self._geometry.shown_size(frame_hw) != frame_hw or not self._geometry.graph_covers(frame_hw):
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
            labels_nhw, confidence_nhw = self._start([image], [outputs.labels, outputs.confidence]).wait()
            return np.asarray(labels_nhw[0], np.uint8), np.asarray(confidence_nhw[0], np.uint8)
        return labels_from_softmax_mean(self._grids([image], frame_hw))

    def segment_multi_scale(
        self,
        frame_hwc: Frame,
        ratios: Sequence[float] = MULTI_SCALE_RATIOS,
        flip: bool = True,
        flip_pairs: Sequence[tuple[int, int]] = (),
    ) -> UInt8:
        """The labels of a frame by mmsegmentation's test-time augmentation, uint8 H x W.

        The frame is scaled by each of ``ratios`` and, with ``flip``, also mirrored; the softmaxes at the
        frame's size are averaged (SegTTAModel).  The scales are of the frame, not of the test scale, as
        in mmsegmentation's ``tta_pipeline``.

        ``flip_pairs``: classes that change places in a mirror, such as a left and a right arm; the mirrored
        predictions' channels of each pair are exchanged before they are averaged.  That is the practice of human
        parsing (LIP); SegTTAModel itself exchanges nothing, as here where there are no pairs.

        Raises as :meth:`segment`, and :class:`InputError` for ratios or pairs that make no sense.
        """
        return self.submit_multi_scale(frame_hwc, ratios, flip, flip_pairs).result()

    def submit_multi_scale(
        self,
        frame_hwc: Frame,
        ratios: Sequence[float] = MULTI_SCALE_RATIOS,
        flip: bool = True,
        flip_pairs: Sequence[tuple[int, int]] = (),
    ) -> PendingMultiScale:
        """:meth:`segment_multi_scale` without waiting for the labels.

        All scales and mirror images are given to the engine, which waits until it took the last of them; each is
        scaled while it computes those before.  The averaging is left to :meth:`PendingMultiScale.result`: give the
        engine the next frame first.  Until then a frame holds its logits of all scales at the head's stride.
        """
        frame = check_frame(frame_hwc)
        frame_hw = _size(frame)
        if not ratios or not all(0 < ratio <= 16 for ratio in ratios):
            raise InputError(f"ratios {tuple(ratios)} must be one or more numbers above 0 and up to 16")
        mirrored_classes = _exchanged(len(self.manifest.classes.names), flip_pairs)
        sizes_hw = [fit_size(frame_hw, scaled_box(frame_hw, ratio)) for ratio in ratios]
        for size_hw in sizes_hw:
            self._geometry.check_size(frame_hw, size_hw)  # of all, before the engine works for nothing
        views: list[_View] = []
        for size_hw in sizes_hw:
            image = resize_frame(frame, size_hw)
            views.append(_View(*self._start_grids([image], frame_hw)))
            if flip:
                calls, finish = self._start_grids([np.ascontiguousarray(image[:, ::-1])], frame_hw)
                views.append(_View(calls, partial(_mirrored_back, finish=finish, classes=mirrored_classes)))
        return PendingMultiScale(views)

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
            labels_nhw, logits_nchw = self._start([image], [outputs.labels, outputs.logits]).wait()
            return np.asarray(labels_nhw[0], np.uint8), np.asarray(logits_nchw[0], np.float32)
        (grid,) = self._grids([image], frame_hw)
        return labels_from_logits(grid), grid.logits_chw

    def logits_grid(self, frame_hwc: Frame) -> LogitsGrid:
        """The logits of a frame and how they become its labels.  Raises as :meth:`segment`."""
        frame = check_frame(frame_hwc)
        (grid,) = self._grids([self._prepare(frame)], _size(frame))
        return grid

    def close(self) -> None:
        """Give the engine's memory back.  Closing twice is harmless.

        Waits for what the engine is at.  Results that were not taken can still be, on a CPU; on a GPU those that are
        still there are lost, and :meth:`PendingLabels.result` raises :class:`EngineError`.
        """
        if not self._closed:
            self._closed = True
            self._backend.close()

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def window_counts(self, size_hw: Size) -> tuple[int, int]:
        """Rows and columns of windows that cover a frame of the size that the network is shown."""
        windows = self._geometry.windows(size_hw)
        return len(windows.rows), len(windows.cols)

    def _prepare(self, frame_hwc: UInt8) -> UInt8:
        """The frame at the size that the network is shown."""
        return resize_frame(frame_hwc, self._geometry.shown_size(_size(frame_hwc)))

    def _graph_labels_fit(self, image_hwc: UInt8, frame_hw: Size) -> bool:
        """Whether the graph's own labels are the frame's: no windows to merge, no second resize."""
        return _size(image_hwc) == frame_hw and self._geometry.graph_covers(frame_hw)

    def _start_labels(self, frames: Sequence[UInt8]) -> tuple[Calls, Callable[[Arrays], list[UInt8]]]:
        """Give frames of one size to the engine; what waits for them, and what makes labels of the answer."""
        frame_hw = _size(frames[0])
        images = [self._prepare(frame) for frame in frames]
        if self.gives_graph_labels(frame_hw):
            return self._start(images, [self.manifest.outputs.labels]), _graph_labels
        calls, finish = self._start_grids(images, frame_hw)
        return calls, lambda arrays: [labels_from_logits(grid) for grid in finish(arrays)]

    def _grids(self, images: Sequence[UInt8], frame_hw: Size) -> list[LogitsGrid]:
        """The logits of each image of one size, with their maps to the frame's size."""
        calls, finish = self._start_grids(images, frame_hw)
        return finish(calls.wait())

    def _start_grids(
        self, images: Sequence[UInt8], frame_hw: Size
    ) -> tuple[Calls, Callable[[Arrays], list[LogitsGrid]]]:
        size_hw = _size(images[0])
        maps = self._geometry.frame_maps(size_hw, frame_hw)
        outputs = [self.manifest.outputs.logits]
        if not self._geometry.cuts_windows:
            return self._start(images, outputs), partial(_grids_of_calls, maps=maps)
        windows = self._geometry.windows(size_hw)
        calls: list[Call] = []
        for image_hwc in images:
            for top, bottom in windows.rows:  # a row of windows at a time, which a GPU takes in batches
                row = [image_hwc[top:bottom, left:right] for left, right in windows.cols]
                calls += self._start(row, outputs).calls
        return Calls(calls), partial(_grids_of_windows, maps=maps, counts=(len(windows.rows), len(windows.cols)))

    def _start(self, images: Sequence[UInt8], outputs: Sequence[str]) -> Calls:
        """Give images of one size to the engine, in batches of the graph's own where that is fixed."""
        self._check_open()
        fixed = self.manifest.input.shape_nhw[0]
        step = fixed or self._backend.largest_batch(*_size(images[0])) or len(images)
        calls = []
        for start in range(0, len(images), step):
            part = list(images[start : start + step])
            wanted = len(part)
            part += [part[-1]] * (step - wanted) if fixed else []
            image_nhwc = np.ascontiguousarray(part[0])[None] if len(part) == 1 else np.stack(part)
            calls.append(Call(self._backend.start(image_nhwc, outputs), wanted))
        return Calls(calls)

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("this Segmenter is closed; open another")


@dataclass(frozen=True)
class _View:
    """A scale of a frame, perhaps mirrored: the engine's calls for it, and what makes its grid of their answers."""

    calls: Calls
    finish: Callable[[Arrays], list[LogitsGrid]]


class PendingMultiScale:
    """The labels of a frame, uint8 H x W; made by :meth:`Segmenter.submit_multi_scale`."""

    def __init__(self, views: Sequence[_View]) -> None:
        self._views = views
        self._labels_hw: UInt8

    def done(self) -> bool:
        """Whether the engine is done with it, so that :meth:`result` waits for nothing more."""
        return all(view.calls.done() for view in self._views)

    def result(self, timeout_s: float | None = None) -> UInt8:
        """The labels, once they are there; the same array every time.

        Raises as :meth:`PendingLabels.result`.
        """
        if self._views:
            deadline = None if timeout_s is None else time.monotonic() + timeout_s
            grids: list[LogitsGrid] = []
            for view in self._views:
                left = None if deadline is None else max(deadline - time.monotonic(), 0)
                grids += view.finish(view.calls.wait(left))
            self._labels_hw, _ = labels_from_softmax_mean(grids)
            self._views = ()
        return self._labels_hw


def _size(frame_hwc: UInt8) -> Size:
    return int(frame_hwc.shape[0]), int(frame_hwc.shape[1])


def _check_one_size(frames: Sequence[UInt8]) -> None:
    if len({frame.shape for frame in frames}) > 1:
        raise InputError(f"a batch needs frames of one size, not {sorted({_size(frame) for frame in frames})}")


def _graph_labels(arrays: Arrays) -> list[UInt8]:
    (labels_nhw,) = arrays
    return [np.asarray(labels_hw, dtype=np.uint8) for labels_hw in labels_nhw]


def _checked_logits(arrays: Arrays, cells_hw: Size) -> list[Float32]:
    """The logits of each image, float32 C x h x w, of the size that the manifest promises and finite."""
    (made,) = arrays
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


def _grids_of_calls(arrays: Arrays, maps: tuple[AxisMap, AxisMap]) -> list[LogitsGrid]:
    """A grid for each image that the graph saw whole."""
    rows, cols = maps
    return [LogitsGrid(logits_chw, rows, cols) for logits_chw in _checked_logits(arrays, (rows.inputs, cols.inputs))]


def _grids_of_windows(arrays: Arrays, maps: tuple[AxisMap, AxisMap], counts: tuple[int, int]) -> list[LogitsGrid]:
    """A grid for each image that was cut: the logits of its windows side by side, C x (rows * h) x (columns * w)."""
    down, across = counts
    rows, cols = maps
    cells_hw = rows.inputs // down, cols.inputs // across
    logits_chw = _checked_logits(arrays, cells_hw)
    grids = []
    for start in range(0, len(logits_chw), down * across):
        windows = logits_chw[start : start + down * across]
        bands = [np.concatenate(windows[row * across : (row + 1) * across], axis=2) for row in range(down)]
        grids.append(LogitsGrid(np.concatenate(bands, axis=1), rows, cols))
    return grids


def _mirrored_back(
    arrays: Arrays, finish: Callable[[Arrays], list[LogitsGrid]], classes: Sequence[int] | None
) -> list[LogitsGrid]:
    """The grids of mirrored images as those of the images: columns read backwards, channels in the order given."""
    back = []
    for grid in finish(arrays):
        logits_chw = grid.logits_chw if classes is None else grid.logits_chw[list(classes)]
        cols = AxisMap(grid.cols.inputs, grid.cols.index[::-1], grid.cols.weight[::-1])
        back.append(LogitsGrid(logits_chw, grid.rows, cols))
    return back


def _exchanged(classes: int, pairs: Sequence[tuple[int, int]]) -> list[int] | None:
    """For each class the one whose channel a mirrored prediction has for it; None where each has its own."""
    if not pairs:
        return None
    named = [label for pair in pairs for label in pair]
    if len(set(named)) != len(named) or not all(0 <= label < classes for label in named):
        raise InputError(
            f"flip_pairs {tuple(pairs)}: each class may be in one pair once, and must be one of this model's {classes}"
        )
    order = list(range(classes))
    for one, other in pairs:
        order[one], order[other] = other, one
    return order

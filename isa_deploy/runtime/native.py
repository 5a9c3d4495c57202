"""The C++ runtime (libisa) from Python: the same labels as :class:`isa_deploy.Segmenter`, through its C interface.

For programs that embed both, and to hold one against the other.  The library is built with ``make cpp`` or
``cmake -S runtime`` (docs/cpp.md); no wheel carries it.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from isa_deploy.errors import (
    BackendUnavailableError,
    EngineError,
    EngineIncompatibleError,
    InputError,
    IsaError,
    ManifestError,
)
from isa_deploy.runtime.palette import PaletteRGB, checked_frame, checked_labels, checked_palette
from isa_deploy.runtime.preprocess import check_frame
from isa_deploy.runtime.tiling import Tiling

__all__ = ["NativeLibrary", "NativeSegmenter"]

UInt8 = npt.NDArray[np.uint8]
Frame = npt.NDArray[Any]

LIBRARY_VARIABLE = "ISA_LIBRARY"
"""The environment variable that names libisa.so, where it is not on the system's search path."""

ERRORS: dict[int, type[Exception]] = {
    1: InputError,
    2: ManifestError,
    3: EngineError,
    4: EngineIncompatibleError,
    5: BackendUnavailableError,
    6: MemoryError,
}
"""isa_status to exception; any other is a defect of the library."""

BGR = 1
MODES = {"whole": 0, "slide": 1, "tiles": 2, "blend": 3}


class _Pixels(ctypes.Structure):
    """isa_frame and isa_picture, which differ in what may be done with the data."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("row_stride", ctypes.c_ssize_t),
        ("height", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("order", ctypes.c_int32),
    )


class _Labels(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("row_stride", ctypes.c_ssize_t),
        ("height", ctypes.c_int32),
        ("width", ctypes.c_int32),
    )


class _OpenOptions(ctypes.Structure):
    _fields_ = (
        ("struct_size", ctypes.c_size_t),
        ("backend", ctypes.c_char_p),
        ("device", ctypes.c_char_p),
        ("precision", ctypes.c_char_p),
        ("resize", ctypes.c_char_p),
        ("schedule", ctypes.c_char_p),
        ("cache_dir", ctypes.c_char_p),
        ("backend_dir", ctypes.c_char_p),
        ("threads", ctypes.c_int32),
        ("allow_engine_code", ctypes.c_int32),
    )


class _SegmentOptions(ctypes.Structure):
    _fields_ = (
        ("struct_size", ctypes.c_size_t),
        ("tiling", ctypes.c_int32),
        ("tile_height", ctypes.c_int32),
        ("tile_width", ctypes.c_int32),
        ("halo", ctypes.c_int32),
        ("batch", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
    )


class _ModelInfo(ctypes.Structure):
    _fields_ = (
        ("struct_size", ctypes.c_size_t),
        ("architecture", ctypes.c_char_p),
        ("precision", ctypes.c_char_p),
        ("backend", ctypes.c_char_p),
        ("device", ctypes.c_char_p),
        ("num_classes", ctypes.c_int32),
        ("order", ctypes.c_int32),
        ("class_names", ctypes.POINTER(ctypes.c_char_p)),
        ("palette_rgb", ctypes.POINTER(ctypes.c_uint8)),
        ("fixed_batch", ctypes.c_int32),
        ("fixed_height", ctypes.c_int32),
        ("fixed_width", ctypes.c_int32),
        ("crop_height", ctypes.c_int32),
        ("crop_width", ctypes.c_int32),
        ("stride_height", ctypes.c_int32),
        ("stride_width", ctypes.c_int32),
    )


class NativeLibrary:
    """libisa, loaded."""

    def __init__(self, path: str | Path | None = None) -> None:
        """Load the library at ``path``; None: at ``$ISA_LIBRARY``, else wherever the system looks for libisa.so.0.

        Raises :class:`BackendUnavailableError` where it is not there or is none.
        """
        wanted = str(path) if path is not None else os.environ.get(LIBRARY_VARIABLE, "libisa.so.0")
        try:
            self._c = ctypes.CDLL(wanted)
            self._c.isa_last_error.restype = ctypes.c_char_p
            self._c.isa_version.restype = ctypes.c_char_p
            self._c.isa_close.restype = None
            self._c.isa_close.argtypes = [ctypes.c_void_p]
            pointer, size = ctypes.c_void_p, ctypes.c_size_t
            for name, arguments in (
                ("isa_open", [ctypes.c_char_p, pointer, pointer]),
                ("isa_open_memory", [pointer, size, ctypes.c_char_p, size, pointer, pointer]),
                ("isa_info", [pointer, pointer]),
                ("isa_segment_batch", [pointer, pointer, size, pointer, pointer]),
                ("isa_colorize", [pointer, pointer, size, pointer]),
                ("isa_overlay", [pointer, pointer, pointer, size, ctypes.c_double, pointer]),
            ):
                function = getattr(self._c, name)
                function.restype, function.argtypes = ctypes.c_int32, arguments
        except (OSError, AttributeError) as error:
            raise BackendUnavailableError(
                f"the C++ runtime cannot be loaded ({error}); build it (docs/cpp.md) and set {LIBRARY_VARIABLE} to its "
                "libisa.so"
            ) from None

    @property
    def version(self) -> str:
        """The library's version, "0.1.0"."""
        return str(self._c.isa_version().decode())

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of isa.h that returns a status.  Raises what the status stands for."""
        status = getattr(self._c, name)(*arguments)
        if status:
            message = self._c.isa_last_error().decode("utf-8", "replace")
            raise ERRORS.get(status, IsaError)(message)

    def close_segmenter(self, handle: ctypes.c_void_p) -> None:
        """isa_close."""
        self._c.isa_close(handle)

    def colorize(self, labels_hw: UInt8, palette_rgb: PaletteRGB, out: UInt8 | None = None) -> UInt8:
        """As :func:`isa_deploy.colorize`, with the same bytes."""
        checked_labels(labels_hw)
        colours = np.ascontiguousarray(checked_palette(palette_rgb))
        picture = _checked_out(out, (*labels_hw.shape, 3))
        labels_hw = _rows(labels_hw)
        labels, made = _labels(labels_hw), _pixels(picture)
        self.call("isa_colorize", ctypes.byref(labels), colours.ctypes.data, len(colours), ctypes.byref(made))
        return picture

    def overlay(
        self,
        frame_hwc: Frame,
        labels_hw: UInt8,
        palette_rgb: PaletteRGB,
        alpha: float = 0.5,
        out: UInt8 | None = None,
    ) -> UInt8:
        """As :func:`isa_deploy.overlay`, with the same bytes."""
        checked_labels(labels_hw)
        checked_frame(frame_hwc, labels_hw)
        colours = np.ascontiguousarray(checked_palette(palette_rgb))
        picture = _checked_out(out, (*labels_hw.shape, 3))
        frame_hwc, labels_hw = _rows(frame_hwc), _rows(labels_hw)
        frame, labels, made = _pixels(frame_hwc), _labels(labels_hw), _pixels(picture)
        self.call(
            "isa_overlay",
            ctypes.byref(frame),
            ctypes.byref(labels),
            colours.ctypes.data,
            len(colours),
            alpha,
            ctypes.byref(made),
        )
        return picture


class NativeSegmenter:
    """An engine that the C++ runtime opened.  One thread at a time; a context manager.

    ``class_names``, ``palette_rgb`` (uint8 C x 3), ``backend_name``, ``precision`` and ``device`` say what was opened.
    """

    def __init__(
        self,
        path: str | Path,
        library: NativeLibrary | None = None,
        *,
        backend: str = "auto",
        device: str | int = "auto",
        precision: str = "auto",
        resize: str | tuple[int, int] = "test",
        schedule: str = "latency",
        cache_dir: str | Path | None = None,
        backend_dir: str | Path | None = None,
        threads: int = 0,
    ) -> None:
        """Open an artefact folder or a file of one, as :meth:`isa_deploy.Segmenter.open` does.

        ``cache_dir``: where OpenVINO keeps compiled models; ``backend_dir``: where the libisa_BACKEND.so files are, if
        not beside the library; ``threads``: cores for the engine, 0 for its own choice.  Raises what
        :meth:`isa_deploy.Segmenter.open` raises.
        """
        self._library = library or NativeLibrary()
        rule = "x".join(map(str, resize)) if isinstance(resize, tuple) else resize
        options = _OpenOptions(
            ctypes.sizeof(_OpenOptions),
            backend.encode(),
            str(device).encode(),
            precision.encode(),
            rule.encode(),
            schedule.encode(),
            None if cache_dir is None else os.fsencode(cache_dir),
            None if backend_dir is None else os.fsencode(backend_dir),
            threads,
            0,
        )
        self._handle = ctypes.c_void_p()
        self._library.call("isa_open", os.fsencode(path), ctypes.byref(options), ctypes.byref(self._handle))
        self._free = weakref.finalize(self, self._library.close_segmenter, self._handle)  # where nobody closes it
        self._free.atexit = False
        info = _ModelInfo(struct_size=ctypes.sizeof(_ModelInfo))
        self._library.call("isa_info", self._handle, ctypes.byref(info))
        count = info.num_classes
        self.class_names = tuple(name.decode() for name in info.class_names[:count])
        self.palette_rgb: UInt8 = np.array(info.palette_rgb[: 3 * count], np.uint8).reshape(count, 3)
        self.backend_name = info.backend.decode()
        self.precision = info.precision.decode()
        self.device = info.device.decode()

    def segment(self, frame_hwc: Frame, tiling: Tiling | None = None, out: UInt8 | None = None) -> UInt8:
        """The labels of a frame (uint8, H x W x 3, in the manifest's colour order), uint8 H x W.

        ``out``: where they go, uint8 H x W.  Raises as :meth:`isa_deploy.Segmenter.segment`.
        """
        frame = check_frame(frame_hwc)
        labels_hw = _checked_out(out, frame.shape[:2])
        self._segment([frame], [labels_hw], tiling)
        return labels_hw

    def segment_batch(self, frames_hwc: Sequence[Frame], tiling: Tiling | None = None) -> list[UInt8]:
        """The labels of several frames of one size.  Raises as :meth:`isa_deploy.Segmenter.segment_batch`."""
        frames = [check_frame(frame) for frame in frames_hwc]
        answers = [np.empty(frame.shape[:2], np.uint8) for frame in frames]
        self._segment(frames, answers, tiling)
        return answers

    def _segment(self, frames: Sequence[UInt8], answers: Sequence[UInt8], tiling: Tiling | None) -> None:
        if not self._handle:
            raise EngineError("this NativeSegmenter is closed; open another")
        rows = [_rows(frame) for frame in frames]
        given = [_pixels(frame, order=0) for frame in rows]
        wanted = [_labels(labels_hw) for labels_hw in answers]
        cut = tiling or Tiling("whole")
        tile_hw = cut.tile_hw or (0, 0)
        halo = -1 if cut.halo is None else cut.halo
        size = ctypes.sizeof(_SegmentOptions)
        options = _SegmentOptions(size, MODES[cut.mode], *tile_hw, halo, cut.batch or 0)
        self._library.call(
            "isa_segment_batch",
            self._handle,
            (_Pixels * len(given))(*given),
            len(given),
            ctypes.byref(options),
            (_Labels * len(wanted))(*wanted),
        )

    def close(self) -> None:
        """Give the engine's memory back.  Closing twice is harmless."""
        self._handle = ctypes.c_void_p()
        self._free()

    def __enter__(self) -> NativeSegmenter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _side_by_side(array: UInt8) -> bool:
    """Whether the pixels of each row lie side by side and no rows overlap, as isa.h describes pictures."""
    pixel = (3, 1) if array.ndim == 3 else (1,)
    return array.strides[1:] == pixel and abs(array.strides[0]) >= pixel[0] * array.shape[1]


def _rows(array: UInt8) -> UInt8:
    """Pixels to read: the array itself where isa.h can describe it, else a copy."""
    return array if _side_by_side(array) else array.copy()


def _checked_out(out: UInt8 | None, shape: tuple[int, ...]) -> UInt8:
    """Memory to write: ``out``, or new where there is none.  Raises :class:`InputError` where ``out`` does not fit."""
    if out is None:
        return np.empty(shape, np.uint8)
    if out.dtype != np.uint8 or out.shape != shape or not out.flags.writeable or not _side_by_side(out):
        raise InputError(
            f"out of dtype {out.dtype} and shape {out.shape}: pass a writeable uint8 array of shape {shape}, the "
            "pixels of a row side by side"
        )
    return out


def _pixels(picture_hwc: UInt8, order: int = BGR) -> _Pixels:
    height, width = picture_hwc.shape[:2]
    return _Pixels(picture_hwc.ctypes.data, picture_hwc.strides[0], height, width, order)


def _labels(labels_hw: UInt8) -> _Labels:
    return _Labels(labels_hw.ctypes.data, labels_hw.strides[0], *labels_hw.shape)

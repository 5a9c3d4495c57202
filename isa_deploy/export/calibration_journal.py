"""What calibration has collected so far, in a file: written whole after each frame, so that an interrupted run goes on.

Read as untrusted: every array has to have the shape and type that is expected before anything is allocated for it.
"""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from isa_deploy.export.activation_ranges import BINS, TensorHistogram
from isa_deploy.export.calibration_frames import CalibrationSet
from isa_deploy.files import os_errors, replacing

__all__ = ["CalibrationJournal"]

MAX_CHANNELS = 1 << 16

JOURNAL_VERSION = b"isa-deploy calibration 1"

Arrays = dict[str, npt.NDArray[Any]]
Histograms = dict[str, TensorHistogram]


class CalibrationJournal:
    """The histograms of one graph's tensors over the first frames of a set, in the file ``path``."""

    def __init__(self, path: Path, graph: bytes, tensors: Sequence[str], frames: CalibrationSet) -> None:
        """``graph``: the ONNX file's bytes; ``tensors``: their names, in the order of the file's arrays."""
        self.path = path
        self._tensors = tuple(tensors)
        self._frames = len(frames)
        self._key = _key(graph, self._tensors, frames)

    def read(self, note: Callable[[str], None] | None) -> tuple[int, Histograms] | None:
        """How many frames are in it, and their histograms; None where there is nothing to go on with.

        ``note`` is told where there is a file that is damaged, or of something else.  Raises
        :class:`~isa_deploy.errors.InputError` where the system does not let it be read.
        """
        with os_errors(self.path, "read the calibration so far"):
            if not self.path.exists():
                return None
            try:
                with zipfile.ZipFile(self.path) as archive:
                    return self._contents(archive)
            except _UnusableJournalError as error:
                reason = str(error)
            except (zipfile.BadZipFile, ValueError, KeyError, EOFError, RuntimeError):
                reason = "it is damaged"
        if note is not None:
            note(f"{self.path}: {reason}; calibrating from the first frame")
        return None

    def write(self, done: int, histogram_of: Mapping[str, TensorHistogram]) -> None:
        """Replace the file by the histograms of ``done`` frames.  Raises :class:`~isa_deploy.errors.InputError`."""
        histograms = [histogram_of[name] for name in self._tensors]
        sums = [np.zeros(0) if each.channel_sums is None else each.channel_sums for each in histograms]
        arrays: Arrays = {
            "key": np.frombuffer(self._key, np.uint8),
            "done": np.array([done], np.int64),
            "counts": np.stack([each.counts for each in histograms]),
            "values": np.array([each.values for each in histograms], np.int64),
            "ranges": np.array([[each.top, each.least, each.most] for each in histograms], np.float64),
            "channels": np.array([len(each) for each in sums], np.int64),
            "channel_sums": np.concatenate(sums),
        }
        with replacing(self.path) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    def _contents(self, archive: zipfile.ZipFile) -> tuple[int, Histograms]:
        tensors = len(self._tensors)
        if _stored(archive, "key", (32,), np.uint8).tobytes() != self._key:
            raise _UnusableJournalError("it is of another graph, other tensors or other frames")
        done = int(_stored(archive, "done", (1,), np.int64)[0])
        counts = _stored(archive, "counts", (tensors, BINS), np.float64)
        ranges = _stored(archive, "ranges", (tensors, 3), np.float64)
        values = _stored(archive, "values", (tensors,), np.int64)
        channels = _stored(archive, "channels", (tensors,), np.int64)
        sane = 1 <= done <= self._frames and bool(
            np.isfinite(counts).all() and (counts >= 0).all() and np.isfinite(ranges).all()
        )
        sane = sane and bool((values > 0).all())
        if not sane or (channels < 0).any() or (channels > MAX_CHANNELS).any():
            raise _UnusableJournalError("it is damaged")
        sums = _stored(archive, "channel_sums", (int(channels.sum()),), np.float64)
        histograms = Histograms()
        for index, (name, part) in enumerate(zip(self._tensors, np.split(sums, np.cumsum(channels)[:-1]), strict=True)):
            top, least, most = (float(value) for value in ranges[index])
            if top and math.frexp(top)[0] != 0.5:
                raise _UnusableJournalError("it is damaged")
            histograms[name] = TensorHistogram(
                int(values[index]), counts[index], top, least, most, part if len(part) else None
            )
        return done, histograms


class _UnusableJournalError(Exception):
    pass


def _key(data: bytes, names: Sequence[str], frames: CalibrationSet) -> bytes:
    """What the figures are of, 32 bytes."""
    parts = [JOURNAL_VERSION, str(BINS).encode(), hashlib.sha256(data).digest(), frames.fingerprint.encode()]
    parts += [name.encode() for name in names]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()


def _stored(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> npt.NDArray[Any]:
    """An array of the file, which has to be of this shape and type: nothing is allocated for any other."""
    member = archive.getinfo(f"{name}.npy")
    expected = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        expected, {"shape": shape, "fortran_order": False, "descr": np.lib.format.dtype_to_descr(np.dtype(dtype))}
    )
    header = expected.getvalue()
    size = len(header) + math.prod(shape) * np.dtype(dtype).itemsize
    if member.compress_type != zipfile.ZIP_STORED or member.file_size != size or member.compress_size != size:
        raise _UnusableJournalError("it is damaged")
    data = archive.read(member)
    if not data.startswith(header):
        raise _UnusableJournalError("it is damaged")
    return np.frombuffer(data, dtype, offset=len(header)).reshape(shape)

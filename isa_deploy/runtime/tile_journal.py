"""Finished blocks of labels on the disk, so that a run that was killed goes on where it ended.

A file that only grows: a header that says for what it was begun, then one record a block, each with a checksum.  A
record that was being written when the process died is cut off by the next one that opens the file.
"""

from __future__ import annotations

import errno
import json
import os
import struct
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from isa_deploy.errors import InputError
from isa_deploy.files import os_errors
from isa_deploy.runtime.tiling import Span, TileGrid

__all__ = ["Fingerprint", "TileJournal", "file_fingerprint"]

UInt8 = npt.NDArray[np.uint8]

Fingerprint = Mapping[str, object]
"""What a journal was begun for, as JSON can hold it; another one makes its blocks worthless."""

SAMPLE_BYTES = 1 << 16

_MAGIC = b"isa-deploy tiles 1\n"
_HEADER = struct.Struct("<II")  # length and CRC-32 of the fingerprint's JSON
_RECORD = struct.Struct("<4sIIIII")  # mark, block, height, width, bytes, CRC-32 of all that and of the data
_MARK = b"tile"
MAX_FINGERPRINT_BYTES = 1 << 20
COMPRESSION = 1  # zlib's fastest: a few milliseconds a block, and labels become a fiftieth


def file_fingerprint(path: Path) -> dict[str, object]:
    """What tells a file from another and from a changed one, without reading all of it.

    Path, size, time of change, and a CRC-32 of 64 KiB each of its start, middle and end.  Raises
    :class:`InputError` where it cannot be read.
    """
    with os_errors(path, "read"), path.open("rb") as file:
        status = os.fstat(file.fileno())
        checksum = 0
        for at in (0, status.st_size // 2, max(status.st_size - SAMPLE_BYTES, 0)):
            file.seek(at)
            checksum = zlib.crc32(file.read(SAMPLE_BYTES), checksum)
        return {
            "path": str(path.resolve()),
            "bytes": status.st_size,
            "modified_ns": status.st_mtime_ns,
            "sample": checksum,
        }


class TileJournal:
    """The finished blocks of one picture; a context manager that keeps the file for this process alone.

    A file of the same fingerprint is gone on with, any other is begun anew, and so is every one with ``fresh``.
    ``resumed``: how many blocks were there.  ``replaced``: whether those of another fingerprint were given up.
    Leaving the ``with`` keeps the file; :meth:`remove` is for a result that is complete.

    Raises :class:`InputError` where the file cannot be made or another process has it.
    """

    def __init__(self, path: Path, grid: TileGrid, fingerprint: Fingerprint, *, fresh: bool = False) -> None:
        self._path = path
        self._grid = grid
        self._places: dict[int, int] = {}
        self.replaced = False
        with os_errors(path, "open the list of finished tiles"):
            self._handle = _open_alone(path)
        try:
            with os_errors(path, "read the list of finished tiles"):
                self._take_over(json.dumps(fingerprint, sort_keys=True).encode(), fresh)
        except BaseException:
            os.close(self._handle)
            raise
        self.resumed = len(self._places)
        self._closed = False

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, block: int) -> bool:
        return block in self._places

    def add(self, block: int, labels_hw: UInt8) -> None:
        """Append a block's labels, uint8 h x w.

        Raises :class:`InputError` where the disk is full; the blocks so far can then still be gone on with.
        """
        height, width = labels_hw.shape
        data = zlib.compress(np.ascontiguousarray(labels_hw).tobytes(), COMPRESSION)
        checksum = zlib.crc32(data, zlib.crc32(_RECORD.pack(_MARK, block, height, width, len(data), 0)))
        record = _RECORD.pack(_MARK, block, height, width, len(data), checksum) + data
        try:
            with os_errors(self._path, "write the finished tiles"):
                _write_all(self._handle, record, self._end)
        except InputError as error:
            raise InputError(
                f"{error}; the same command then goes on after the {len(self)} tiles that are done"
            ) from error
        self._places[block] = self._end
        self._end += len(record)

    def labels(self, block: int) -> UInt8:
        """A block's labels, uint8 h x w.  Raises KeyError for one that is not there."""
        with os_errors(self._path, "read the finished tiles"):
            found = self._record(self._places[block], os.fstat(self._handle).st_size)
        if found is None:
            raise InputError(f"{self._path}: changed while it was in use; run the command again with --fresh")
        _, labels_hw, _ = found
        return labels_hw

    def region(self, rows: Span, cols: Span) -> UInt8:
        """The labels of a rectangle of the picture, uint8 h x w.  Raises KeyError where a block of it is missing."""
        region_hw = np.empty((rows[1] - rows[0], cols[1] - cols[0]), dtype=np.uint8)
        columns = len(self._grid.cols.blocks)
        for row, (top, bottom) in enumerate(self._grid.rows.blocks):
            if bottom <= rows[0] or top >= rows[1]:
                continue
            for col, (left, right) in enumerate(self._grid.cols.blocks):
                if right <= cols[0] or left >= cols[1]:
                    continue
                labels_hw = self.labels(row * columns + col)
                y0, y1 = max(top, rows[0]), min(bottom, rows[1])
                x0, x1 = max(left, cols[0]), min(right, cols[1])
                region_hw[y0 - rows[0] : y1 - rows[0], x0 - cols[0] : x1 - cols[0]] = labels_hw[
                    y0 - top : y1 - top, x0 - left : x1 - left
                ]
        return region_hw

    def remove(self) -> None:
        """Remove the file: the result is complete."""
        with os_errors(self._path, "remove the list of finished tiles"):
            if os.name == "posix":  # while nobody else can have it
                self._path.unlink(missing_ok=True)
                self.close()
            else:
                self.close()
                self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Leave the file to others.  Closing twice is harmless."""
        if not self._closed:
            self._closed = True
            os.close(self._handle)

    def __enter__(self) -> TileJournal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take_over(self, fingerprint: bytes, fresh: bool) -> None:
        size = os.fstat(self._handle).st_size
        start = _MAGIC + _HEADER.pack(len(fingerprint), zlib.crc32(fingerprint)) + fingerprint
        same = _read(self._handle, 0, len(start)) == start
        if same and not fresh:
            self._end = len(start)
            while (found := self._record(self._end, size)) is not None:
                block, _, length = found
                self._places[block] = self._end
                self._end += length
        else:
            self.replaced = size > 0 and not same
            self._end = 0
            os.ftruncate(self._handle, 0)
            _write_all(self._handle, start, 0)
            self._end = len(start)
        os.ftruncate(self._handle, self._end)

    def _record(self, at: int, size: int) -> tuple[int, UInt8, int] | None:
        """Block, labels and length of a record; None where there is no whole one of a block of this picture."""
        head = _read(self._handle, at, _RECORD.size)
        if len(head) < _RECORD.size:
            return None
        mark, block, height, width, length, checksum = _RECORD.unpack(head)
        if mark != _MARK or block >= self._grid.blocks or at + _RECORD.size + length > size:
            return None
        place = self._grid.block(block)
        if (height, width) != (place.rows[1] - place.rows[0], place.cols[1] - place.cols[0]):
            return None
        if length > height * width + height * width // 1000 + 64:  # more than zlib makes of as many bytes
            return None
        data = _read(self._handle, at + _RECORD.size, length)
        if zlib.crc32(data, zlib.crc32(_RECORD.pack(mark, block, height, width, length, 0))) != checksum:
            return None
        try:
            raw = zlib.decompressobj().decompress(data, height * width)
        except zlib.error:
            return None
        if len(raw) != height * width:
            return None
        return block, np.frombuffer(raw, dtype=np.uint8).reshape(height, width), _RECORD.size + length


def _open_alone(path: Path) -> int:
    while True:
        handle = os.open(
            path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0), 0o666
        )
        try:
            _lock(handle)
        except OSError as error:
            os.close(handle)
            if error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                raise
            raise InputError(
                f"{path}: another isa-infer is at work on this picture; wait for it, or give another --out"
            ) from None
        # the one who had it may have removed it since it was opened here
        if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
            return handle
        os.close(handle)


def _lock(handle: int) -> None:
    """Raises OSError where another process has it.  The system drops the lock with the process."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(handle, 1 << 30, os.SEEK_SET)  # a byte that nobody reads: Windows' locks forbid reading
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _read(handle: int, at: int, size: int) -> bytes:
    os.lseek(handle, at, os.SEEK_SET)
    parts = []
    while size > 0 and (part := os.read(handle, size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _write_all(handle: int, data: bytes, at: int) -> None:
    os.lseek(handle, at, os.SEEK_SET)
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]

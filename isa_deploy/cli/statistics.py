"""The shares of the classes in each frame, as JSON lines or Parquet."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt

from isa_deploy.cli.sources import Source
from isa_deploy.errors import BackendUnavailableError, InputError
from isa_deploy.files import Replacement, os_errors

__all__ = ["ClassShares", "InputStatistics", "Statistics", "count_labels", "open_statistics"]

UInt8 = npt.NDArray[np.uint8]
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Rows = npt.NDArray[np.void]
"""Of fields frame (int64, -1 for an image), time_s (float64) and shares (float64, one for each column)."""

UNLABELLED = "unlabelled"
SPOOLED_BYTES = 1 << 20  # of one input, in memory; more goes to a nameless file beside the results
ROWS_AT_ONCE = 4096  # written together; a row group of Parquet
COUNTED_PIXELS = 1 << 24  # np.bincount widens what it counts to eight bytes


class ClassShares:
    """The columns of the statistics: the classes by name, in the order of the labels, and what has no class.

    Classes of one name are counted together.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.columns = tuple(dict.fromkeys((*names, UNLABELLED)))
        position = {name: index for index, name in enumerate(self.columns)}
        self._column = np.full(256, position[UNLABELLED])
        self._column[: len(names)] = [position[name] for name in names]

    def of(self, class_pixels: Int64) -> Float64:
        """The part of the pixels that each column has; they add up to 1.  ``class_pixels``: 256 counts."""
        pixels = np.bincount(self._column, weights=class_pixels, minlength=len(self.columns))
        return np.asarray(pixels / max(1, int(class_pixels.sum())), np.float64)


def count_labels(labels_hw: UInt8) -> Int64:
    """How many pixels have each label: 256 counts."""
    labels = labels_hw.reshape(-1)
    counts = np.zeros(256, np.int64)
    for start in range(0, labels.size, COUNTED_PIXELS):
        counts += np.bincount(labels[start : start + COUNTED_PIXELS], minlength=256)
    return counts


class _Format(Protocol):
    """Writes rows to a file that exists once the first were written."""

    def write(self, input_name: str, columns: tuple[str, ...], rows: Rows) -> None: ...

    def close(self) -> None:
        """Complete the file.  Closing twice is harmless."""


class Statistics:
    """A row for each frame, under a temporary name until the end.

    At the end, and on Ctrl-C, the rows so far get the file's name; on any other exception they are gone.
    Without a row no file is made.  Several inputs may be under way at once; each has its rows together, in the
    order in which they were done.
    """

    def __init__(self, path: Path, replacement: Replacement, file: _Format) -> None:
        self.path = path
        self._replacement = replacement
        self._file = file

    def __enter__(self) -> Statistics:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with os_errors(self.path, "write"):
                self._file.close()
            if (kind is None or issubclass(kind, KeyboardInterrupt)) and self._replacement.temporary.exists():
                self._replacement.commit()
        finally:
            self._replacement.discard()

    @contextmanager
    def one_input(self, source: Source, class_names: tuple[str, ...]) -> Iterator[InputStatistics]:
        """Rows written inside stay only if the input is done or interrupted: one that fails leaves none."""
        with os_errors(self.path, "write"):
            spool = tempfile.SpooledTemporaryFile(SPOOLED_BYTES, dir=str(self.path.parent))  # noqa: SIM115  closed below
        try:
            rows = InputStatistics(self.path, spool, ClassShares(class_names))
            try:
                yield rows
            except KeyboardInterrupt:
                self._take(source, rows)
                raise
            self._take(source, rows)
        finally:
            with suppress(OSError):  # of a full disk: what is still to be written nobody wants any more
                spool.close()

    def _take(self, source: Source, rows: InputStatistics) -> None:
        with os_errors(self.path, "write"):
            for part in rows.parts():
                self._file.write(str(source.path), rows.shares.columns, part)


class InputStatistics:
    """The rows of one input, kept apart until it is done."""

    def __init__(self, path: Path, spool: IO[bytes], shares: ClassShares) -> None:
        self.shares = shares
        self._path = path
        self._spool = spool
        self._dtype = np.dtype([("frame", "<i8"), ("time_s", "<f8"), ("shares", "<f8", (len(shares.columns),))])

    def write(self, class_pixels: Int64, frame: int | None = None, time_s: float = 0.0) -> None:
        """Append a row; ``frame`` is None for an image.  Raises :class:`InputError` where it cannot be written."""
        row = np.zeros(1, self._dtype)
        row["frame"], row["time_s"] = -1 if frame is None else frame, time_s
        row["shares"] = self.shares.of(class_pixels)
        with os_errors(self._path, "write"):
            self._spool.write(row.tobytes())

    def parts(self) -> Iterator[Rows]:
        """All rows, in their order."""
        self._spool.seek(0)
        while True:
            data = self._spool.read(ROWS_AT_ONCE * self._dtype.itemsize)
            if not data:
                return
            yield np.frombuffer(data, self._dtype)


def open_statistics(out: Path, stats_format: str) -> Statistics:
    """``stats.jsonl`` or ``stats.parquet`` in a folder.

    JSON lines: ``{"input": PATH, "frame": 0, "time_s": 0.0, "shares": {"road": 0.41, ...}}``, the classes present.
    Parquet: columns ``input``, ``frame`` and ``time_s`` (null for images) and ``share_NAME`` for every class, 0 where
    it is absent, so that ``pandas.read_parquet(path).filter(like="share_")`` is a table of numbers.  In both
    ``frame`` is the frame's number in the results and ``time_s`` when it is shown in the input.

    Raises :class:`InputError` for another format, and :class:`BackendUnavailableError` where pyarrow is not
    installed.
    """
    if stats_format == "jsonl":
        path = out / "stats.jsonl"
        replacement = Replacement(path)
        return Statistics(path, replacement, _JsonLines(replacement.temporary))
    if stats_format == "parquet":
        path = out / "stats.parquet"
        replacement = Replacement(path)
        return Statistics(path, replacement, _Parquet(replacement.temporary))
    raise InputError(f"--stats-format {stats_format}: none of: jsonl, parquet")


class _JsonLines:
    def __init__(self, temporary: Path) -> None:
        self._temporary = temporary
        self._file: IO[str] | None = None

    def write(self, input_name: str, columns: tuple[str, ...], rows: Rows) -> None:
        if self._file is None:
            self._file = self._temporary.open("w", encoding="utf-8", errors="backslashreplace")
        for row in rows:
            is_image = row["frame"] < 0
            record = {
                "input": input_name,
                "frame": None if is_image else int(row["frame"]),
                "time_s": None if is_image else round(float(row["time_s"]), 6),
                "shares": {
                    name: round(float(share), 6) for name, share in zip(columns, row["shares"], strict=True) if share
                },
            }
            self._file.write(json.dumps(record, ensure_ascii=False) + "\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class _Parquet:
    """Row groups of :data:`ROWS_AT_ONCE`, however many inputs they come from."""

    def __init__(self, temporary: Path) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise BackendUnavailableError(
                f"--stats-format parquet needs pyarrow ({error}); install it: pip install 'isa-deploy[parquet]'"
            ) from None
        self._pa, self._pq = pa, pq
        self._temporary = temporary
        self._writer: Any = None
        self._columns: tuple[str, ...] = ()
        self._waiting: list[Any] = []

    def write(self, input_name: str, columns: tuple[str, ...], rows: Rows) -> None:
        pa = self._pa
        self._columns = columns
        is_image = rows["frame"] < 0
        # a name that is no UTF-8 is written as JSON lines have it
        name = input_name.encode("utf-8", "backslashreplace").decode()
        arrays = [
            pa.array([name] * len(rows), pa.string()),
            pa.array(rows["frame"], pa.int64(), mask=is_image),
            pa.array(rows["time_s"], pa.float64(), mask=is_image),
            *(pa.array(np.ascontiguousarray(share), pa.float64()) for share in rows["shares"].T),
        ]
        self._waiting.append(pa.record_batch(arrays, schema=self._schema()))
        if sum(batch.num_rows for batch in self._waiting) >= ROWS_AT_ONCE:
            self._flush()

    def close(self) -> None:
        if self._waiting:
            self._flush()
        if self._writer is not None:
            self._writer.close()

    def _flush(self) -> None:
        if self._writer is None:
            self._writer = self._pq.ParquetWriter(str(self._temporary), self._schema(), compression="zstd")
        waiting, self._waiting = self._waiting, []
        self._writer.write_table(self._pa.Table.from_batches(waiting))

    def _schema(self) -> Any:
        pa = self._pa
        fields = [("input", pa.string()), ("frame", pa.int64()), ("time_s", pa.float64())]
        return pa.schema([*fields, *((f"share_{name}", pa.float64()) for name in self._columns)])

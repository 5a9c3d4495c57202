"""What isa-infer writes: pictures of frames, and the share of each class, in files that are whole or absent."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
import numpy.typing as npt

from isa_deploy.cli.sources import Source
from isa_deploy.errors import InputError
from isa_deploy.files import Replacement, os_errors
from isa_deploy.manifest import ClassesSpec
from isa_deploy.runtime.images import write_png
from isa_deploy.runtime.legend import draw_legend
from isa_deploy.runtime.palette import colorize, overlay
from isa_deploy.runtime.video import VideoFrame, VideoReader
from isa_deploy.runtime.video_writer import VideoWriter

__all__ = [
    "STATS_FILE",
    "FrameSink",
    "Product",
    "StatsFile",
    "class_shares",
    "open_sink",
    "products",
    "refuse_overwriting",
    "result_path",
]

UInt8 = npt.NDArray[np.uint8]

STATS_FILE = "stats.jsonl"


@dataclass(frozen=True)
class Product:
    """A kind of picture made of a frame (H x W x 3, BGR) and its labels (H x W).

    ``name`` ends the names of its files.  ``exact``: every pixel counts, so a video's are PNGs.
    """

    name: str
    draw: Callable[[UInt8, UInt8], UInt8]
    exact: bool = False


def products(classes: ClassesSpec, alpha: float, *, legend: bool, mask: bool, labels: bool) -> list[Product]:
    """The overlay, and the other pictures that are wanted."""
    palette_rgb = np.array(classes.palette_rgb, dtype=np.uint8)

    def draw_overlay(frame_hwc: UInt8, labels_hw: UInt8) -> UInt8:
        return overlay(frame_hwc, labels_hw, palette_rgb, alpha)

    def draw_overlay_with_legend(frame_hwc: UInt8, labels_hw: UInt8) -> UInt8:
        picture = draw_overlay(frame_hwc, labels_hw)
        return draw_legend(picture, labels_hw, classes.names, palette_rgb, out=picture)

    def draw_mask(frame_hwc: UInt8, labels_hw: UInt8) -> UInt8:
        return colorize(labels_hw, palette_rgb)

    def draw_labels(frame_hwc: UInt8, labels_hw: UInt8) -> UInt8:
        return labels_hw

    wanted = [Product("overlay", draw_overlay_with_legend if legend else draw_overlay)]
    if mask:
        wanted.append(Product("mask", draw_mask))
    if labels:
        wanted.append(Product("labels", draw_labels, exact=True))
    return wanted


def result_path(product: Product, source: Source, out: Path) -> Path:
    """The file of a product: a PNG of an image, a video of a video, or its folder of PNGs where it is exact."""
    suffix = ".png" if source.kind == "image" else "" if product.exact else ".mp4"
    return out / f"{source.name}_{product.name}{suffix}"


def refuse_overwriting(sources: Sequence[Source], wanted: Sequence[Product], out: Path) -> None:
    """Raise :class:`InputError` where a result would have the name of an input."""
    inputs = {source.path.resolve() for source in sources}
    for source in sources:
        for product in wanted:
            path = result_path(product, source, out)
            if path.resolve() in inputs:
                raise InputError(f"{path}: is an input and would be replaced by a result; choose another --out")


class FrameSink(Protocol):
    """Takes one product of a video, frame by frame, inside a ``with``.

    At the end, and on Ctrl-C, what was written stays; on any other exception nothing does.
    """

    def __enter__(self) -> FrameSink: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def write(self, picture: UInt8, frame: VideoFrame) -> None:
        """Raises :class:`InputError` where the file cannot be written."""


def open_sink(product: Product, source: Source, reader: VideoReader, out: Path) -> FrameSink:
    """Where a product of a video goes: a video, or a folder of PNGs where it is exact."""
    path = result_path(product, source, out)
    return _PngFolder(path) if product.exact else _Video(VideoWriter.like(path, reader))


class _Video:
    def __init__(self, writer: VideoWriter) -> None:
        self._writer = writer

    def __enter__(self) -> _Video:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)

    def write(self, picture: UInt8, frame: VideoFrame) -> None:
        self._writer.write(picture, frame.pts)


class _PngFolder:
    """PNGs named by the frame's number, 000000.png onwards."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._replacement = Replacement(path)

    def __enter__(self) -> _PngFolder:
        with os_errors(self._path, "write the folder"):
            if self._path.exists() and not self._is_ours():
                raise InputError(
                    f"{self._path}: holds something else than numbered PNGs and would be replaced; move it away"
                )
            self._replacement.temporary.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and not issubclass(kind, KeyboardInterrupt):
            self._replacement.discard()
            return
        try:
            with os_errors(self._path, "replace the folder"):
                if self._path.exists():
                    shutil.rmtree(self._path)
            self._replacement.commit()
        finally:
            self._replacement.discard()

    def write(self, picture: UInt8, frame: VideoFrame) -> None:
        write_png(self._replacement.temporary / f"{frame.index:06d}.png", picture)

    def _is_ours(self) -> bool:
        return self._path.is_dir() and all(re.fullmatch(r"\d{6,}\.png", each.name) for each in self._path.iterdir())


class StatsFile:
    """JSON lines, one for each frame, under a temporary name until the end.

    At the end, and on Ctrl-C, the lines so far get the file's name; on any other exception they are gone.
    """

    def __init__(self, path: Path) -> None:
        self._replacement = Replacement(path)

    def __enter__(self) -> StatsFile:
        with os_errors(self._replacement.path, "write"):
            self._file = self._replacement.temporary.open("w", encoding="utf-8", errors="backslashreplace")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with os_errors(self._replacement.path, "write"):
                self._file.close()
            if kind is None or issubclass(kind, KeyboardInterrupt):
                self._replacement.commit()
        finally:
            self._replacement.discard()

    @contextmanager
    def one_input(self) -> Iterator[None]:
        """Lines written inside stay only if the input is done or interrupted: one that fails leaves none."""
        with os_errors(self._replacement.path, "write"):
            self._file.flush()
            start = self._file.tell()
        try:
            yield
        except InputError:
            with os_errors(self._replacement.path, "write"):
                self._file.seek(start)
                self._file.truncate()
            raise

    def write(self, source: Source, frame: VideoFrame | None, shares: dict[str, float]) -> None:
        """Append a line; ``frame`` is None for an image.  Raises :class:`InputError` where it cannot be written."""
        record = {
            "input": str(source.path),
            "frame": None if frame is None else frame.index,
            "time_s": None if frame is None else round(frame.time_s, 6),
            "shares": {name: round(share, 6) for name, share in shares.items()},
        }
        with os_errors(self._replacement.path, "write"):
            self._file.write(json.dumps(record, ensure_ascii=False) + "\n")


def class_shares(labels_hw: UInt8, names: tuple[str, ...]) -> dict[str, float]:
    """The part of the pixels that each class present has, by name, in the order of the labels; they add up to 1.

    Classes of one name are counted together, and labels without a name as ``"unlabelled"``.
    """
    pixels = np.bincount(labels_hw.ravel(), minlength=256)
    shares: dict[str, float] = {}
    for label in np.flatnonzero(pixels):
        name = names[label] if label < len(names) else "unlabelled"
        shares[name] = shares.get(name, 0.0) + float(pixels[label]) / labels_hw.size
    return shares

"""What isa-infer writes: pictures of frames, and where they go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from isa_deploy.cli.sources import Source
from isa_deploy.errors import InputError
from isa_deploy.manifest import ClassesSpec
from isa_deploy.runtime.frame_writer import FrameWriter
from isa_deploy.runtime.label_video import LabelVideoWriter
from isa_deploy.runtime.legend import draw_legend
from isa_deploy.runtime.palette import colorize, overlay
from isa_deploy.runtime.video import VideoReader
from isa_deploy.runtime.video_writer import VideoWriter

__all__ = ["Product", "open_writer", "products", "refuse_overwriting", "result_path"]

UInt8 = npt.NDArray[np.uint8]


class Draw(Protocol):
    """Makes a picture of a frame (H x W x 3, BGR) and its labels (H x W)."""

    def __call__(self, frame_hwc: UInt8, labels_hw: UInt8, out: UInt8 | None = None) -> UInt8:
        """``out``: an array of the picture's shape that may receive it."""


@dataclass(frozen=True)
class Product:
    """A kind of picture.

    ``name`` ends the names of its files.  ``exact``: it is the labels themselves and every pixel counts, so a
    video of them is lossless.
    """

    name: str
    draw: Draw
    exact: bool = False


def products(classes: ClassesSpec, alpha: float, *, legend: bool, mask: bool, labels: bool) -> list[Product]:
    """The overlay, and the other pictures that are wanted."""
    palette_rgb = np.array(classes.palette_rgb, dtype=np.uint8)

    def draw_overlay(frame_hwc: UInt8, labels_hw: UInt8, out: UInt8 | None = None) -> UInt8:
        return overlay(frame_hwc, labels_hw, palette_rgb, alpha, out)

    def draw_overlay_with_legend(frame_hwc: UInt8, labels_hw: UInt8, out: UInt8 | None = None) -> UInt8:
        picture = draw_overlay(frame_hwc, labels_hw, out)
        return draw_legend(picture, labels_hw, classes.names, palette_rgb, out=picture)

    def draw_mask(frame_hwc: UInt8, labels_hw: UInt8, out: UInt8 | None = None) -> UInt8:
        return colorize(labels_hw, palette_rgb, out)

    def draw_labels(frame_hwc: UInt8, labels_hw: UInt8, out: UInt8 | None = None) -> UInt8:
        return labels_hw

    wanted = [Product("overlay", draw_overlay_with_legend if legend else draw_overlay)]
    if mask:
        wanted.append(Product("mask", draw_mask))
    if labels:
        wanted.append(Product("labels", draw_labels, exact=True))
    return wanted


def result_path(product: Product, source: Source, out: Path) -> Path:
    """The file of a product: a PNG of an image, a video of a video."""
    suffix = ".png" if source.kind == "image" else ".mkv" if product.exact else ".mp4"
    return out / f"{source.name}_{product.name}{suffix}"


def refuse_overwriting(sources: Sequence[Source], wanted: Sequence[Product], out: Path) -> None:
    """Raise :class:`InputError` where a result would have the name of an input."""
    inputs = {source.path.resolve() for source in sources}
    for source in sources:
        for product in wanted:
            path = result_path(product, source, out)
            if path.resolve() in inputs:
                raise InputError(f"{path}: is an input and would be replaced by a result; choose another --out")


def open_writer(product: Product, source: Source, reader: VideoReader, out: Path) -> FrameWriter:
    """What writes a product of a video."""
    path = result_path(product, source, out)
    return LabelVideoWriter.like(path, reader) if product.exact else VideoWriter.like(path, reader)

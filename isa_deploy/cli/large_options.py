"""What the command line says about pictures in tiles."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast

from isa_deploy.errors import InputError
from isa_deploy.runtime.images import MAX_PIXELS
from isa_deploy.runtime.raster_reader import MAX_RASTER_PIXELS
from isa_deploy.runtime.raster_values import ValueRange, parse_value_range
from isa_deploy.runtime.tiling import Tiling

__all__ = ["LargeOptions", "parse_large_options"]

OPENCV_PIXELS = 1 << 30
"""The most that OpenCV decodes, which reads pictures as a whole (CV_IO_MAX_IMAGE_PIXELS)."""

MODES = ("auto", "whole", "slide", "tiles", "blend")


@dataclass(frozen=True)
class LargeOptions:
    """How pictures are cut, read and written.

    ``cut``: "never" (as a whole), "large" (those that :meth:`LargePictures.takes` finds to be maps or large) or
    "always".  ``tiling``: how those that are cut are cut.  ``max_pixels`` and ``max_whole_pixels``: larger ones are
    refused, cut and as a whole.
    """

    cut: Literal["never", "large", "always"]
    tiling: Tiling
    large_format: Literal["tiff", "png"]
    max_pixels: int
    max_whole_pixels: int
    value_range: ValueRange | None
    seams: bool
    fresh: bool


def parse_large_options(
    *,
    tiling: str,
    tile: str | None,
    halo: int | None,
    tile_batch: str,
    large_format: str,
    max_pixels: int | None,
    value_range: str | None,
    seams: bool,
    fresh: bool,
    resize: str,
) -> LargeOptions:
    """The options of isa-infer as it got them; ``max_pixels`` is in millions.

    Raises :class:`InputError` for values that make no sense, and for options that contradict each other.
    """
    if tiling not in MODES:
        raise InputError(f"--tiling {tiling}: none of: {', '.join(MODES)}")
    if large_format not in ("tiff", "png"):
        raise InputError(f"--large-format {large_format}: none of: tiff, png")
    of_tiles = {
        "--tile": tile is not None,
        "--halo": halo is not None,
        "--tile-batch": tile_batch != "auto",
        "--large-format": large_format != "tiff",
        "--value-range": value_range is not None,
        "--seams": seams,
        "--fresh": fresh,
    }
    given = [name for name, is_given in of_tiles.items() if is_given]
    resizes = resize not in ("test", "none")
    if tiling == "whole" and given:
        raise InputError(f"{given[0]} is for pictures in tiles; use --tiling tiles, or leave it away")
    if resizes and (given or tiling not in ("auto", "whole")):
        option = f"--tiling {tiling}" if tiling not in ("auto", "whole") else given[0]
        raise InputError(f"--resize {resize} and {option}: tiles are never resized; leave one of them away")
    never = tiling == "whole" or (tiling == "auto" and resizes)
    mode = cast(Literal["slide", "tiles", "blend"], "tiles" if tiling in ("auto", "whole") else tiling)
    return LargeOptions(
        cut="never" if never else "large" if tiling == "auto" else "always",
        tiling=Tiling(mode, None if tile is None else _parse_tile(tile), halo, _parse_batch(tile_batch)),
        large_format=cast(Literal["tiff", "png"], large_format),
        max_pixels=MAX_RASTER_PIXELS if max_pixels is None else max_pixels * 1_000_000,
        max_whole_pixels=MAX_PIXELS if max_pixels is None else min(max_pixels * 1_000_000, OPENCV_PIXELS),
        value_range=None if value_range is None else parse_value_range(value_range),
        seams=seams,
        fresh=fresh,
    )


def _parse_tile(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text.strip().lower())
    if found is None:
        raise InputError(f"--tile {text}: write HEIGHTxWIDTH in pixels, such as 1024x1024")
    return int(found[1]), int(found[2])


def _parse_batch(text: str) -> int | None:
    if text == "auto":
        return None
    if re.fullmatch(r"[1-9]\d{0,3}", text) is None:
        raise InputError(f"--tile-batch {text}: auto, or a number of tiles from 1 to 9999")
    return int(text)

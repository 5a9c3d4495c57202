"""From ``--shape`` to what an engine is given, checked before anything is opened."""

from __future__ import annotations

from collections.abc import Sequence

from isa_deploy.bench.contestants import Shape
from isa_deploy.errors import InputError
from isa_deploy.manifest import MAX_SIDE, Manifest
from isa_deploy.runtime.geometry import MAX_NETWORK_PIXELS
from isa_deploy.runtime.preprocess import network_size

__all__ = ["choose_shapes", "parse_shape"]

MAX_BATCH = 1024
MAX_DIGITS = 6  # of one number: Python refuses to read thousands of digits, with an exception of its own


def parse_shape(text: str) -> tuple[int | None, int, int]:
    """``HxW`` or ``NxHxW``; the first is None where it is not said.  Raises :class:`InputError` for anything else."""
    parts = text.lower().split("x")
    if len(parts) not in (2, 3) or not all(p.isascii() and p.isdecimal() and len(p) <= MAX_DIGITS for p in parts):
        raise InputError(f"shape '{text}' is neither HEIGHTxWIDTH nor FRAMESxHEIGHTxWIDTH; give one such as 512x1024")
    *batch, height, width = (int(part) for part in parts)
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE) or height * width > MAX_NETWORK_PIXELS:
        raise InputError(
            f"shape '{text}': sides can be 1 to {MAX_SIDE}, and their product up to {MAX_NETWORK_PIXELS >> 20} million"
        )
    if batch and not 1 <= batch[0] <= MAX_BATCH:
        raise InputError(f"shape '{text}': 1 to {MAX_BATCH} frames in one call can be measured")
    return batch[0] if batch else None, height, width


def choose_shapes(
    texts: Sequence[str], manifest: Manifest, clip_hw: tuple[int, int] | None = None
) -> tuple[Shape, ...]:
    """The shapes to measure; without any, the one that the engine was made for.

    That is its fixed size, the best size of a plan's first profile, the size at which it is shown frames of ``clip_hw``
    (height, width), the model's test scale or windows, or 512 x 1024.
    Raises :class:`InputError` for a shape that is none, or that the engine cannot take.
    """
    fixed_n = manifest.input.shape_nhw[0]
    shapes: list[Shape] = []
    for text in texts:
        wanted_n, height, width = parse_shape(text)
        batch = wanted_n or fixed_n or 1
        _check(text, (batch, height, width), manifest)
        shapes.append((batch, height, width))
    if not shapes:
        shapes.append((fixed_n or 1, *_natural_size(manifest, clip_hw)))
    return tuple(dict.fromkeys(shapes))


def _check(text: str, shape: Shape, manifest: Manifest) -> None:
    batch, height, width = shape
    fixed_n, fixed_hw = manifest.input.shape_nhw[0], manifest.frame_hw
    cut = manifest.inference.mode == "slide" and not manifest.inference.windows_in_graph
    if fixed_hw not in (None, (height, width)) and not cut:
        assert fixed_hw is not None
        raise InputError(
            f"shape '{text}': this engine takes {fixed_hw[0]}x{fixed_hw[1]} only; give that, or export without --shape"
        )
    if fixed_n not in (None, batch):
        raise InputError(
            f"shape '{text}': this engine takes {fixed_n} frames a call, not {batch}; give {fixed_n}x{height}x{width}"
        )
    if batch * height * width > MAX_NETWORK_PIXELS:
        raise InputError(
            f"shape '{text}': {batch} frames of {height}x{width} are more than {MAX_NETWORK_PIXELS >> 20} million "
            "pixels in one call; give fewer"
        )


def _natural_size(manifest: Manifest, clip_hw: tuple[int, int] | None) -> tuple[int, int]:
    if manifest.frame_hw is not None:
        return manifest.frame_hw
    if manifest.engine is not None and manifest.engine.profiles:
        _, height, width = manifest.engine.profiles[0].opt_nhw
        return height, width
    if clip_hw is not None:
        return network_size(clip_hw, "test", manifest.input.resize)
    if manifest.input.resize is not None:
        # the box has no orientation where the ratio is kept; pictures lie on their side
        width, height = manifest.input.resize.scale_wh
        return (min(width, height), max(width, height)) if manifest.input.resize.keep_ratio else (height, width)
    return manifest.inference.crop_hw or (512, 1024)

"""Which sizes of frames a plan takes: optimisation profiles, by default and as the user wants them."""

from __future__ import annotations

from collections.abc import Sequence

from isa_deploy.errors import InputError
from isa_deploy.manifest import Manifest, ResizeSpec, ShapeRange

__all__ = ["check_profiles", "default_profiles", "make_range"]

MAX_BATCH = 1024
MAX_SIDE = 65536
MAX_PROFILES = 64  # what a manifest holds

FRAME_HW = (1024, 2048)
"""What a model without a test scale is built for."""

LONGEST_CAMERA = 2.5
"""Ratio of a picture's sides above which a test scale is no camera's picture but a bound: ADE20K's
2048 x 512 box, where a photograph of 4:3 comes to 683 x 512."""

SizeNHW = tuple[int, int, int]


def default_profiles(manifest: Manifest) -> tuple[ShapeRange, ...]:
    """The profiles of a plan where the user names none; empty where every side is fixed.

    Fixed sides stay.  A free batch is 1.  Free height and width:

    - sliding windows that the runtime cuts: best and largest is the window, the smallest a quarter of it a
      side, for a frame that is smaller than a window is one window of its own size;
    - a test scale that does not keep the ratio: every frame comes to that size, which is best and largest;
    - a test scale that keeps it: frames come to fit the box, whose orientation does not count.  With short
      side S and long side L a landscape has height <= S and width <= L, a portrait the reverse.  One range
      for both would reach L x L, four times the memory of any real frame for ADE20K's 2048 x 512; so there
      are two profiles, landscape first, and one where the box is square.  The smallest side is S / 4, for
      frames of other ratios than the box's and for a smaller --resize.  Best is the box itself, or 4:3 with
      the short side S where the box is longer than any camera's picture;
    - no test scale: as if it were 2048 x 1024, keeping the ratio.
    """
    n, h, w = manifest.input.shape_nhw
    batch = n or 1
    if h is not None and w is not None:
        return () if n is not None else (ShapeRange(min_nhw=(1, h, w), opt_nhw=(1, h, w), max_nhw=(1, h, w)),)
    if manifest.inference.crop_hw is not None:
        return (_up_to(batch, manifest.inference.crop_hw),)
    resize = manifest.input.resize or ResizeSpec(scale_wh=(FRAME_HW[1], FRAME_HW[0]), keep_ratio=True)
    if not resize.keep_ratio:
        return (_up_to(batch, (resize.scale_wh[1], resize.scale_wh[0])),)
    short, long = min(resize.scale_wh), max(resize.scale_wh)
    best = long if long <= LONGEST_CAMERA * short else round(short * 4 / 3)
    least = max(short // 4, 1)
    landscape = ShapeRange(min_nhw=(batch, least, least), opt_nhw=(batch, short, best), max_nhw=(batch, short, long))
    portrait = ShapeRange(min_nhw=(batch, least, least), opt_nhw=(batch, best, short), max_nhw=(batch, long, short))
    return (landscape,) if short == long else (landscape, portrait)


def _up_to(batch: int, size_hw: tuple[int, int]) -> ShapeRange:
    """From a quarter of a size a side to the size itself, which is the best."""
    height, width = size_hw
    return ShapeRange(
        min_nhw=(batch, max(height // 4, 1), max(width // 4, 1)),
        opt_nhw=(batch, height, width),
        max_nhw=(batch, height, width),
    )


def make_range(min_nhw: SizeNHW, opt_nhw: SizeNHW, max_nhw: SizeNHW) -> ShapeRange:
    """A profile from the user's three sizes.  Raises :class:`InputError` for sides out of order or out of bounds."""
    for what, size, least, most in zip(
        ("batch", "height", "width"), zip(min_nhw, opt_nhw, max_nhw, strict=True), (1,) * 3, _BOUNDS, strict=True
    ):
        low, best, high = size
        if not least <= low <= best <= high <= most:
            raise InputError(
                f"{what} {low} to {high} with {best} as the best is no range; give min <= opt <= max, {least} to {most}"
            )
    return ShapeRange(min_nhw=min_nhw, opt_nhw=opt_nhw, max_nhw=max_nhw)


_BOUNDS = (MAX_BATCH, MAX_SIDE, MAX_SIDE)


def check_profiles(manifest: Manifest, profiles: Sequence[ShapeRange]) -> tuple[ShapeRange, ...]:
    """The profiles to build with: the wanted ones where they suit the graph, else the defaults.

    A graph with every side fixed needs none and gets none.  Raises :class:`InputError` for a range that
    differs from a fixed side, is too large, or stands there twice.
    """
    if len(profiles) > MAX_PROFILES:
        raise InputError(f"{len(profiles)} shape ranges are too many; give at most {MAX_PROFILES}")
    for profile in profiles:
        make_range(profile.min_nhw, profile.opt_nhw, profile.max_nhw)
        for what, fixed, *sides in zip(
            ("batch", "height", "width"),
            manifest.input.shape_nhw,
            profile.min_nhw,
            profile.opt_nhw,
            profile.max_nhw,
            strict=True,
        ):
            if fixed is not None and any(side != fixed for side in sides):
                raise InputError(
                    f"shapes {profile} change the {what}, which the export fixed to {fixed}; give {fixed} there, "
                    "or export again without --shape"
                )
    if len(set(profiles)) < len(profiles):
        raise InputError(f"{len(profiles)} shape ranges hold the same one twice; give each once")
    if None not in manifest.input.shape_nhw:
        return ()
    return tuple(profiles) or default_profiles(manifest)

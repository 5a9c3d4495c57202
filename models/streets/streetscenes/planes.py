"""Flat things that stand along or across the street, and the textures of the built ones.  Metres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streetscenes.colours import any_colour, smooth_noise, to_bytes
from streetscenes.labels import Picture

__all__ = ["Plane", "Texture", "facade", "fence", "hedge", "wall"]

PLASTERS = (
    (150, 165, 185),
    (120, 140, 165),
    (95, 110, 150),
    (165, 170, 172),
    (110, 115, 120),
    (140, 175, 200),
    (70, 85, 125),
)
BRICKS = ((130, 140, 150), (85, 100, 140), (150, 155, 155), (100, 105, 105))


@dataclass(frozen=True)
class Texture:
    """A picture uint8 BGR, and a mask uint8 (1 where it is opaque) or None where it is opaque all over."""

    frame_hwc: Picture
    mask_hw: Picture | None = None

    def lit(self, factor: float) -> Texture:
        """The same in another light: the picture times ``factor``."""
        return Texture(to_bytes(self.frame_hwc * factor), self.mask_hw)


@dataclass(frozen=True)
class Plane:
    """A vertical rectangle that stands on the ground, from (x0, z0) to (x1, z1), ``height`` metres high.

    Along the street x0 = x1, and the texture's left is the near end; across it z0 = z1.  All of it has
    ``label``, or its pixels have those of ``labels_hw`` (of the texture's size, NOTHING where one sees
    through).
    """

    x0: float
    x1: float
    z0: float
    z1: float
    height: float
    texture: Texture
    label: int
    labels_hw: Picture | None = None

    @property
    def across(self) -> bool:
        """Whether it faces the camera."""
        return self.z0 == self.z1


def texture_size(length: float, height: float, pixels_per_metre: float) -> tuple[int, int]:
    """Rows and columns of a texture, at least 8 of each."""
    return max(8, int(height * pixels_per_metre)), max(8, int(length * pixels_per_metre))


def one_of(rng: np.random.RandomState, colours: tuple[tuple[int, int, int], ...]) -> npt.NDArray[np.float32]:
    return np.array(colours[rng.randint(len(colours))], np.float32)


def facade(rng: np.random.RandomState, length: float, height: float) -> Texture:
    """Plaster with rows of windows, half of the houses with a shop front."""
    ppm = 5
    h, w = texture_size(length, height, ppm)
    base = one_of(rng, PLASTERS)
    out = np.tile(base + rng.randn(3).astype(np.float32) * 12, (h, w, 1))
    out += (smooth_noise(rng, h, w, 4)[..., None] - 0.5) * 30 + rng.randn(h, w, 1).astype(np.float32) * 5
    # one window in each cell of pitch_x x pitch_y metres
    pitch_x, pitch_y = rng.uniform(2.2, 4.0), rng.uniform(2.8, 3.6)
    x = np.arange(w) / ppm
    y = (h - 1 - np.arange(h)) / ppm
    in_column = ((x % pitch_x) > pitch_x * 0.28) & ((x % pitch_x) < pitch_x * rng.uniform(0.62, 0.82))
    in_row = ((y % pitch_y) > pitch_y * 0.3) & ((y % pitch_y) < pitch_y * rng.uniform(0.68, 0.85))
    in_row &= y < height - 0.5
    cells = (int(height / pitch_y) + 2, int(length / pitch_x) + 2)
    brightness = rng.uniform(0.35, 1.2, cells).astype(np.float32)
    brightness = brightness[(y / pitch_y).astype(int)][:, (x / pitch_x).astype(int)]
    window = in_row[:, None] & in_column[None]
    glass = np.array([92, 80, 66], np.float32) * brightness[..., None]
    out[window] = glass[window]
    if rng.rand() < 0.5:
        shop = (y < 2.8) & (y > 0.4)
        out[shop] = out[shop] * 0.25 + np.array(any_colour(rng, 30, 160), np.float32) * 0.6
    return Texture(to_bytes(out))


def hedge(rng: np.random.RandomState, length: float, height: float) -> Texture:
    """Leaves with an uneven upper edge."""
    h, w = texture_size(length, height, 9)
    leaves = smooth_noise(rng, h, w, 5) * 0.7 + rng.rand(h, w).astype(np.float32) * 0.6
    green = np.array([42, 105, 68], np.float32) * rng.uniform(0.6, 1.1)
    out = green * (0.4 + 0.8 * leaves)[..., None]
    top = smooth_noise(rng, 8, w, 4)[3] * h * 0.35
    return Texture(to_bytes(out), (np.arange(h)[:, None] >= top[None]).astype(np.uint8))


def wall(rng: np.random.RandomState, length: float, height: float) -> Texture:
    """Bricks, four by eight pixels each, in a running bond."""
    h, w = texture_size(length, height, 9)
    base = one_of(rng, BRICKS)
    out = np.tile(base, (h, w, 1)) + (smooth_noise(rng, h, w, 5)[..., None] - 0.5) * 40
    out[::4] *= 0.82
    for row in range(0, h, 4):
        out[row : row + 4, (row // 4 % 2) * 4 :: 8] *= 0.86
    out[:2] *= 1.15
    return Texture(to_bytes(out + rng.randn(h, w, 1) * 5))


def fence(rng: np.random.RandomState, length: float, height: float) -> Texture:
    """Bars, and a rail above and below."""
    h, w = texture_size(length, height, 12)
    colour = np.array(any_colour(rng, 40, 200), np.float32)
    out = np.tile(colour, (h, w, 1)) + rng.randn(h, w, 1) * 8
    mask = np.zeros((h, w), np.uint8)
    mask[:, ::4] = 1
    mask[:, 1::4] = 1
    mask[2:5] = 1
    mask[-6:-3] = 1
    out[:, 1::4] *= 0.8
    return Texture(to_bytes(out), mask)

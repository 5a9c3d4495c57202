"""Random colours and textures.  Colours are blue, green, red from 0 to 255, as OpenCV has them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from streetscenes.labels import Picture

__all__ = ["Colour", "Floats", "any_colour", "dimmed", "smooth_noise", "to_bytes", "vehicle_paint"]

Colour = Sequence[float]
Floats = npt.NDArray[np.float32]

PAINTS: tuple[Colour, ...] = (
    (30, 30, 32),
    (225, 225, 225),
    (150, 150, 155),
    (90, 90, 95),
    (40, 40, 150),
    (130, 60, 30),
    (60, 90, 50),
    (40, 110, 170),
    (20, 20, 110),
)


def to_bytes(values: npt.NDArray[np.floating]) -> Picture:
    """Floats to bytes of the same shape: clipped to 0..255, the fraction cut off."""
    out: Picture = np.clip(values, 0, 255).astype(np.uint8)
    return out


def smooth_noise(rng: np.random.RandomState, height: int, width: int, cells: int) -> Floats:
    """A cloudy float32 height x width picture, mostly 0..1, of ``cells`` random values from top to bottom."""
    columns = max(2, int(cells * width / max(height, 1)) + 2)
    coarse = rng.rand(max(2, cells), columns).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def any_colour(rng: np.random.RandomState, low: float = 20, high: float = 235) -> Colour:
    """Any colour with each channel in ``low``..``high``."""
    return [float(c) for c in rng.uniform(low, high, 3)]


def vehicle_paint(rng: np.random.RandomState) -> Colour:
    """A colour that cars are sold in, slightly varied."""
    base = PAINTS[rng.randint(len(PAINTS))]
    return [float(np.clip(c + rng.randn() * 14, 5, 250)) for c in base]


def dimmed(colour: Colour, factor: float) -> Colour:
    """The colour times ``factor``, each channel at most 255."""
    return [float(min(255, c * factor)) for c in colour]

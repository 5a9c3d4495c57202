"""What stands along a street: lamps, traffic lights and signs, trees and bushes.  Sizes in metres."""

from __future__ import annotations

import numpy as np

from streetscenes.colours import Colour, Floats, dimmed, smooth_noise, to_bytes
from streetscenes.labels import POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN, VEGETATION
from streetscenes.sprites import Sprite

__all__ = ["bush", "street_lamp", "traffic_light", "traffic_sign", "tree"]

WHITE: Colour = (235, 238, 238)
LIGHTS: tuple[Colour, ...] = ((40, 40, 235), (40, 190, 240), (110, 220, 60))
"""Red, amber and green, from the top."""


def street_lamp(rng: np.random.RandomState) -> Sprite:
    """A mast with an arm to one side."""
    s = Sprite(2.0, rng.uniform(5.5, 8), 20)
    grey = dimmed([120, 120, 118], rng.uniform(0.5, 1.2))
    s.line(1, 0, 1, s.height - 0.2, 0.14, grey, POLE)
    s.line(1, s.height - 0.2, 1.8 if rng.rand() < 0.5 else 0.2, s.height - 0.1, 0.12, grey, POLE)
    return s


def traffic_light(rng: np.random.RandomState) -> Sprite:
    """A mast with three lights, one of them on."""
    s = Sprite(1.0, 4.0, 30)
    s.line(0.5, 0, 0.5, 3.6, 0.13, (90, 92, 92), POLE)
    s.box(0.27, 2.75, 0.73, 3.95, (28, 30, 30), TRAFFIC_LIGHT)
    on = rng.randint(3)
    for i, colour in enumerate(LIGHTS):
        s.disc(0.5, 3.73 - i * 0.38, 0.15, 0.15, colour if i == on else dimmed(colour, 0.28))
    return s


def prohibition(s: Sprite, y: float) -> None:
    s.disc(0.55, y, 0.45, 0.45, (40, 35, 200), TRAFFIC_SIGN)
    s.disc(0.55, y, 0.31, 0.31, WHITE)


def warning(s: Sprite, y: float) -> None:
    s.polygon([(0.05, y - 0.38), (1.05, y - 0.38), (0.55, y + 0.47)], (40, 35, 205), TRAFFIC_SIGN)
    s.polygon([(0.25, y - 0.27), (0.85, y - 0.27), (0.55, y + 0.25)], WHITE)


def crossing(s: Sprite, y: float) -> None:
    s.box(0.1, y - 0.45, 1.0, y + 0.45, (190, 95, 25), TRAFFIC_SIGN)
    s.polygon([(0.3, y - 0.25), (0.8, y - 0.25), (0.55, y + 0.3)], WHITE)


def direction(s: Sprite, y: float) -> None:
    s.disc(0.55, y, 0.45, 0.45, (195, 95, 25), TRAFFIC_SIGN)
    s.line(0.55, y - 0.25, 0.55, y + 0.25, 0.1, WHITE)


def priority(s: Sprite, y: float) -> None:
    s.polygon([(0.55, y - 0.47), (1.02, y), (0.55, y + 0.47), (0.08, y)], WHITE, TRAFFIC_SIGN)
    s.polygon([(0.55, y - 0.33), (0.88, y), (0.55, y + 0.33), (0.22, y)], (30, 190, 235))


SIGNS = (prohibition, warning, crossing, direction, priority)


def traffic_sign(rng: np.random.RandomState) -> Sprite:
    """One of five signs on a mast."""
    s = Sprite(1.1, rng.uniform(2.6, 3.4), 34)
    y = s.height - 0.5
    s.line(0.55, 0, 0.55, y, 0.1, (130, 132, 132), POLE)
    SIGNS[rng.randint(len(SIGNS))](s, y)
    return s


def pixel_grid(s: Sprite) -> tuple[Floats, Floats]:
    """Row and column of each pixel of a sprite, float32."""
    rows, columns = s.labels_hw.shape
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    return y, x


def tree(rng: np.random.RandomState) -> Sprite:
    """A trunk and a ragged crown."""
    height = rng.uniform(4, 9)
    width = height * rng.uniform(0.55, 0.9)
    s = Sprite(width, height, 14)
    rows, columns = s.labels_hw.shape
    s.line(width / 2, 0, width / 2, height * 0.6, 0.32, (45, 62, 78), VEGETATION)
    green = np.array([45, 105, 70], np.float32) * rng.uniform(0.55, 1.15) + rng.randn(3) * 8
    clumps = smooth_noise(rng, rows, columns, 9)
    leaves = rng.rand(rows, columns).astype(np.float32)
    y, x = pixel_grid(s)
    radius = ((x / columns - 0.5) / 0.5) ** 2 + ((y / rows - 0.37) / 0.37) ** 2
    crown = radius + 0.5 * (clumps - 0.5) + 0.25 * (leaves - 0.5) < 0.9
    colour = green[None, None] * (0.55 + 0.6 * clumps + 0.45 * leaves - 0.35 * y / rows)[..., None]
    s.frame_hwc[crown] = to_bytes(colour)[crown]
    s.labels_hw[crown] = VEGETATION
    return s


def bush(rng: np.random.RandomState) -> Sprite:
    """A low, wide heap of leaves."""
    height = rng.uniform(0.7, 1.6)
    s = Sprite(height * rng.uniform(1.2, 2.4), height, 26)
    rows, columns = s.labels_hw.shape
    clumps = smooth_noise(rng, rows, columns, 6)
    y, x = pixel_grid(s)
    heap = ((x / columns - 0.5) / 0.5) ** 2 + ((y / rows - 1) / 1.0) ** 2 + 0.5 * (clumps - 0.5) < 0.9
    green = np.array([45, 110, 75], np.float32) * (0.5 + 0.9 * clumps)[..., None] * rng.uniform(0.6, 1.1)
    s.frame_hwc[heap] = to_bytes(green + rng.randn(rows, columns, 1) * 14)[heap]
    s.labels_hw[heap] = VEGETATION
    return s

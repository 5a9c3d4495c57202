"""People, and the two-wheelers that some of them ride.  Sizes in metres."""

from __future__ import annotations

import numpy as np

from streetscenes.colours import Colour, any_colour, dimmed, vehicle_paint
from streetscenes.labels import BICYCLE, MOTORCYCLE, PERSON, RIDER
from streetscenes.sprites import Sprite

__all__ = ["bicycle", "motorcycle", "pedestrian"]

SKINS: tuple[Colour, ...] = ((120, 150, 205), (90, 120, 175), (55, 75, 110))
BICYCLE_FRAME = (
    (0.36, 0.35, 0.8, 0.38),
    (0.8, 0.38, 1.25, 0.82),
    (0.36, 0.35, 0.68, 0.85),
    (0.68, 0.85, 1.25, 0.82),
    (0.8, 0.38, 0.66, 0.9),
    (1.42, 0.35, 1.22, 0.95),
)
"""The tubes of a bicycle seen from its side, each x0, y0, x1, y1."""


def walking_legs(s: Sprite, rng: np.random.RandomState, x: float, foot: float, hip: float, colour: Colour) -> None:
    stride = rng.uniform(0.02, 0.2)
    s.line(x - 0.08, hip, x - 0.08 - stride, foot + 0.04, 0.16, colour, PERSON)
    s.line(x + 0.08, hip, x + 0.08 + stride, foot + 0.04, 0.16, colour, PERSON)


def upper_body(
    s: Sprite,
    rng: np.random.RandomState,
    x: float,
    foot: float,
    height: float,
    width: float,
    look: tuple[Colour, Colour],
    label: int,
) -> None:
    """Trunk, arms and head of somebody ``height`` tall; ``look`` is the colour of skin and of clothes."""
    skin, clothes = look
    hip, neck = foot + height * 0.48, foot + height * 0.82
    trunk = [
        (x - width * 0.4, hip - 0.05),
        (x - width * 0.5, neck),
        (x + width * 0.5, neck),
        (x + width * 0.4, hip - 0.05),
    ]
    s.polygon(trunk, clothes, label)
    s.line(x - width * 0.5, neck - 0.05, x - width * 0.62, hip, 0.12, dimmed(clothes, 0.8), label)
    s.line(x + width * 0.5, neck - 0.05, x + width * 0.62, hip, 0.12, dimmed(clothes, 0.8), label)
    s.disc(x, foot + height * 0.92, 0.13, height * 0.08, skin, label)
    s.disc(x, foot + height * 0.965, 0.13, height * 0.045, any_colour(rng, 10, 90), label)


def looks(rng: np.random.RandomState) -> tuple[Colour, Colour, Colour]:
    """Colours of skin, clothes and trousers."""
    return SKINS[rng.randint(len(SKINS))], any_colour(rng, 15, 235), any_colour(rng, 15, 130)


def pedestrian(rng: np.random.RandomState) -> Sprite:
    """Somebody on foot."""
    height = rng.uniform(1.45, 1.9)
    s = Sprite(0.95, height, 44)
    x, foot = 0.475, 0.0
    skin, clothes, trousers = looks(rng)
    walking_legs(s, rng, x, foot, foot + height * 0.48, trousers)
    upper_body(s, rng, x, foot, height, 0.5, (skin, clothes), PERSON)
    return s.shaded(rng, 8)


def rider(s: Sprite, rng: np.random.RandomState, x: float, foot: float, height: float, width: float) -> None:
    """Somebody sitting on what is drawn already."""
    skin, clothes, trousers = looks(rng)
    hip = foot + height * 0.48
    seat = [(x - 0.2, hip - 0.35), (x - 0.22, hip), (x + 0.22, hip), (x + 0.2, hip - 0.35)]
    s.polygon(seat, trousers, RIDER)
    upper_body(s, rng, x, foot, height, width, (skin, clothes), RIDER)


def bicycle_from_side(rng: np.random.RandomState, *, ridden: bool) -> Sprite:
    colour = any_colour(rng, 10, 220)
    s = Sprite(1.8, 1.95 if ridden else 1.1, 44)
    for x in (0.36, 1.42):
        s.disc(x, 0.35, 0.34, 0.34, (40, 40, 40), BICYCLE)
        s.disc(x, 0.35, 0.27, 0.27, (118, 118, 115))
        s.disc(x, 0.35, 0.05, 0.05, (40, 40, 40))
    for x0, y0, x1, y1 in BICYCLE_FRAME:
        s.line(x0, y0, x1, y1, 0.07, colour, BICYCLE)
    s.line(1.1, 1.0, 1.3, 0.98, 0.06, (30, 30, 30), BICYCLE)
    s.line(0.55, 0.95, 0.78, 0.95, 0.08, (25, 25, 25), BICYCLE)
    if ridden:
        rider(s, rng, 0.8, 0.35, 1.55, 0.42)
        s.line(0.75, 0.85, 0.95, 0.42, 0.15, (60, 50, 45), RIDER)
        s.line(0.9, 1.45, 1.2, 1.02, 0.11, (90, 110, 150), RIDER)
    return s.shaded(rng, 8)


def bicycle_from_behind(rng: np.random.RandomState, *, ridden: bool) -> Sprite:
    colour = any_colour(rng, 10, 220)
    s = Sprite(0.8, 1.95 if ridden else 1.1, 44)
    s.box(0.36, 0, 0.46, 0.72, (35, 35, 35), BICYCLE)
    s.line(0.41, 0.6, 0.41, 1.0, 0.09, colour, BICYCLE)
    s.line(0.12, 1.0, 0.7, 1.0, 0.07, (40, 40, 40), BICYCLE)
    if ridden:
        rider(s, rng, 0.41, 0.35, 1.55, 0.46)
        s.line(0.3, 0.8, 0.28, 0.35, 0.14, (60, 50, 45), RIDER)
        s.line(0.52, 0.8, 0.54, 0.42, 0.14, (60, 50, 45), RIDER)
    return s.shaded(rng, 8)


def bicycle(rng: np.random.RandomState, *, ridden: bool, from_side: float) -> Sprite:
    """A bicycle, seen from its side with the probability ``from_side`` and along the street otherwise."""
    draw = bicycle_from_side if rng.rand() < from_side else bicycle_from_behind
    return draw(rng, ridden=ridden)


def motorcycle_from_side(rng: np.random.RandomState, *, ridden: bool) -> Sprite:
    colour = vehicle_paint(rng)
    s = Sprite(2.1, 1.8 if ridden else 1.25, 42)
    for x in (0.38, 1.7):
        s.disc(x, 0.34, 0.34, 0.34, (22, 22, 22), MOTORCYCLE)
        s.disc(x, 0.34, 0.15, 0.15, (125, 125, 125))
    tank = [(0.4, 0.4), (0.35, 0.85), (0.9, 0.8), (1.4, 0.95), (1.6, 0.7), (1.2, 0.25), (0.7, 0.25)]
    s.polygon(tank, colour, MOTORCYCLE)
    s.polygon([(0.15, 0.8), (0.2, 0.92), (0.95, 0.9), (0.95, 0.76)], (25, 25, 25), MOTORCYCLE)
    s.line(1.7, 0.34, 1.38, 1.1, 0.1, (110, 110, 110), MOTORCYCLE)
    if ridden:
        rider(s, rng, 0.85, 0.35, 1.42, 0.48)
        s.line(0.85, 0.8, 1.15, 0.4, 0.18, (45, 40, 40), RIDER)
        s.line(0.95, 1.35, 1.35, 1.05, 0.13, (50, 45, 45), RIDER)
    return s.shaded(rng, 8)


def motorcycle_from_behind(rng: np.random.RandomState, *, ridden: bool) -> Sprite:
    colour = vehicle_paint(rng)
    s = Sprite(0.95, 1.8 if ridden else 1.25, 42)
    s.box(0.37, 0, 0.58, 0.7, (22, 22, 22), MOTORCYCLE)
    s.polygon([(0.2, 0.45), (0.25, 1.0), (0.7, 1.0), (0.75, 0.45)], colour, MOTORCYCLE)
    s.box(0.37, 0.78, 0.58, 0.92, (35, 30, 200) if rng.rand() < 0.5 else (230, 235, 240))
    s.line(0.05, 1.08, 0.9, 1.08, 0.08, (45, 45, 45), MOTORCYCLE)
    if ridden:
        rider(s, rng, 0.475, 0.38, 1.4, 0.52)
        s.box(0.14, 0.4, 0.28, 0.85, (45, 40, 40), RIDER)
        s.box(0.67, 0.4, 0.81, 0.85, (45, 40, 40), RIDER)
    return s.shaded(rng, 8)


def motorcycle(rng: np.random.RandomState, *, ridden: bool, from_side: float) -> Sprite:
    """A motorcycle, seen from its side with the probability ``from_side`` and along the street otherwise."""
    draw = motorcycle_from_side if rng.rand() < from_side else motorcycle_from_behind
    return draw(rng, ridden=ridden)

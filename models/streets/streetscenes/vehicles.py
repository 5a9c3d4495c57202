"""Vehicles on four wheels and more, each as an end (front or rear) and a side.  Sizes in metres."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np

from streetscenes.colours import Colour, any_colour, dimmed, vehicle_paint
from streetscenes.labels import BUS, CAR, TRAIN, TRUCK
from streetscenes.sprites import Sprite

__all__ = ["KINDS", "End", "VehicleKind"]

LINE_PAINTS: tuple[Colour, ...] = ((40, 190, 235), (45, 45, 205), (200, 110, 40), (230, 230, 230), (70, 160, 60))
HEADLAMP: Colour = (225, 235, 240)


class End(Enum):
    """Which end of a vehicle one sees."""

    FRONT = "front"
    REAR = "rear"


def lamps(end: End, rear: Colour) -> Colour:
    """White in front, ``rear`` behind."""
    return HEADLAMP if end is End.FRONT else rear


def line_paint(rng: np.random.RandomState) -> Colour:
    """One of a transport company's colours, for its buses and trams."""
    return [float(c) for c in LINE_PAINTS[rng.randint(len(LINE_PAINTS))]]


def car_end(rng: np.random.RandomState, paint: Colour, end: End) -> Sprite:
    s = Sprite(1.85, 1.5, 40)
    s.box(0.08, 0, 0.38, 0.4, (18, 18, 18), CAR)
    s.box(1.47, 0, 1.77, 0.4, (18, 18, 18), CAR)
    body = [(0.02, 0.25), (0.02, 0.75), (0.14, 0.95), (1.71, 0.95), (1.83, 0.75), (1.83, 0.25)]
    s.polygon(body, paint, CAR)
    s.polygon([(0.16, 0.9), (0.36, 1.47), (1.49, 1.47), (1.69, 0.9)], dimmed(paint, 0.85), CAR)
    s.polygon([(0.26, 0.95), (0.42, 1.4), (1.43, 1.4), (1.59, 0.95)], (70, 58, 48))
    s.box(0.06, 0.62, 0.36, 0.8, lamps(end, (35, 30, 190)))
    s.box(1.49, 0.62, 1.79, 0.8, lamps(end, (35, 30, 190)))
    s.box(0.65, 0.45, 1.2, 0.58, (215, 215, 215))
    s.box(0.1, 0.25, 1.75, 0.36, dimmed(paint, 0.5))
    return s.shaded(rng)


def car_side(rng: np.random.RandomState, paint: Colour) -> Sprite:
    s = Sprite(4.3, 1.5, 18)
    s.polygon([(0.05, 0.3), (0.05, 0.8), (1, 0.92), (3.3, 0.95), (4.2, 0.8), (4.25, 0.3)], paint, CAR)
    s.polygon([(0.6, 0.9), (1.15, 1.46), (2.75, 1.46), (3.5, 0.9)], dimmed(paint, 0.9), CAR)
    s.polygon([(0.85, 0.95), (1.25, 1.38), (2.65, 1.38), (3.2, 0.95)], (72, 60, 50))
    s.box(1.9, 0.95, 2.0, 1.4, dimmed(paint, 0.8))
    for x in (0.85, 3.4):
        s.disc(x, 0.33, 0.33, 0.33, (18, 18, 18), CAR)
        s.disc(x, 0.33, 0.17, 0.17, (130, 130, 130))
    return s.shaded(rng)


def bus_end(rng: np.random.RandomState, paint: Colour, end: End) -> Sprite:
    s = Sprite(2.55, 3.1, 30)
    s.box(0.15, 0, 0.6, 0.5, (16, 16, 16), BUS)
    s.box(1.95, 0, 2.4, 0.5, (16, 16, 16), BUS)
    s.box(0.03, 0.3, 2.52, 3.07, paint, BUS)
    s.box(0.2, 1.35, 2.35, 2.5, (62, 50, 42))
    s.box(0.5, 2.62, 2.05, 2.95, (25, 150, 220) if end is End.FRONT else (40, 40, 40))
    s.box(0.12, 0.7, 0.5, 0.95, lamps(end, (35, 30, 200)))
    s.box(2.05, 0.7, 2.43, 0.95, lamps(end, (35, 30, 200)))
    s.box(0.03, 1.08, 2.52, 1.2, dimmed(paint, 0.6))
    return s.shaded(rng)


def bus_side(rng: np.random.RandomState, paint: Colour) -> Sprite:
    s = Sprite(11, 3.1, 10)
    s.box(0.05, 0.3, 10.95, 3.07, paint, BUS)
    for i in range(7):
        s.box(0.5 + i * 1.5, 1.4, 1.75 + i * 1.5, 2.55, (66, 54, 46))
    s.box(0.05, 0.95, 10.95, 1.15, dimmed(paint, 0.6))
    for x in (2.2, 8.2):
        s.disc(x, 0.45, 0.48, 0.48, (16, 16, 16), BUS)
    return s.shaded(rng)


def truck_end(rng: np.random.RandomState, paint: Colour, end: End) -> Sprite:
    s = Sprite(2.5, 3.5, 30)
    s.box(0.15, 0, 0.65, 0.9, (20, 20, 20), TRUCK)
    s.box(1.85, 0, 2.35, 0.9, (20, 20, 20), TRUCK)
    s.box(0.1, 0.55, 2.4, 1.0, (45, 45, 48), TRUCK)
    cargo = any_colour(rng, 130, 240)
    if end is End.FRONT:
        s.box(0.15, 0.6, 2.35, 2.9, paint, TRUCK)
        s.box(0.35, 1.7, 2.15, 2.6, (62, 52, 46))
        s.box(0.3, 0.75, 0.65, 1.0, HEADLAMP)
        s.box(1.85, 0.75, 2.2, 1.0, HEADLAMP)
        s.box(0.03, 2.7, 2.47, 3.47, cargo, TRUCK)
    else:
        s.box(0.03, 1.0, 2.47, 3.47, cargo, TRUCK)
        s.line(1.25, 1.0, 1.25, 3.45, 0.05, (60, 60, 60))
        for x in (0.4, 0.85, 1.65, 2.1):
            s.line(x, 1.1, x, 3.4, 0.04, dimmed(cargo, 0.75))
        s.box(0.15, 0.7, 0.5, 0.88, (35, 30, 190))
        s.box(2.0, 0.7, 2.35, 0.88, (35, 30, 190))
    return s.shaded(rng)


def truck_side(rng: np.random.RandomState, paint: Colour) -> Sprite:
    s = Sprite(8.5, 3.5, 11)
    cargo = any_colour(rng, 130, 240)
    s.box(0.03, 1.0, 6.4, 3.47, cargo, TRUCK)
    s.box(6.5, 0.6, 8.4, 2.9, paint, TRUCK)
    s.box(7.2, 1.7, 8.2, 2.5, (66, 54, 46))
    s.box(0.03, 0.6, 8.4, 1.0, (45, 45, 48), TRUCK)
    for x in (1.2, 2.3, 7.2):
        s.disc(x, 0.48, 0.48, 0.48, (18, 18, 18), TRUCK)
    return s.shaded(rng)


def tram_end(rng: np.random.RandomState, paint: Colour, end: End) -> Sprite:
    s = Sprite(2.6, 4.2, 30)
    body = [(0.05, 0.2), (0.05, 2.6), (0.35, 3.5), (2.25, 3.5), (2.55, 2.6), (2.55, 0.2)]
    s.polygon(body, (215, 220, 222), TRAIN)
    s.polygon([(0.05, 0.2), (0.05, 1.35), (2.55, 1.35), (2.55, 0.2)], paint)
    s.polygon([(0.25, 1.5), (0.45, 2.75), (2.15, 2.75), (2.35, 1.5)], (52, 42, 36))
    s.box(0.7, 2.95, 1.9, 3.25, (20, 140, 220))
    for x in (0.3, 2.0):
        s.box(x, 0.75, x + 0.3, 1.0, (230, 235, 240) if end is End.FRONT else (35, 30, 200))
    pantograph = (60, 60, 60)
    s.line(0.7, 3.5, 1.3, 4.1, 0.06, pantograph, TRAIN)
    s.line(1.3, 4.1, 1.9, 3.5, 0.06, pantograph, TRAIN)
    s.line(0.6, 4.12, 2.0, 4.12, 0.06, pantograph, TRAIN)
    return s.shaded(rng)


def tram_side(rng: np.random.RandomState, paint: Colour) -> Sprite:
    s = Sprite(24, 3.5, 8)
    s.box(0.05, 0.2, 23.9, 3.45, (215, 220, 222), TRAIN)
    s.box(0.05, 0.2, 23.9, 1.35, paint)
    for i in range(12):
        s.box(0.6 + i * 1.95, 1.55, 2.2 + i * 1.95, 2.75, (56, 46, 40))
    return s.shaded(rng)


@dataclass(frozen=True)
class VehicleKind:
    """How one kind of vehicle is drawn, how long it is and how far behind it the next may begin, metres."""

    end: Callable[[np.random.RandomState, Colour, End], Sprite]
    side: Callable[[np.random.RandomState, Colour], Sprite]
    paint: Callable[[np.random.RandomState], Colour]
    length: float
    room: float


KINDS: dict[str, VehicleKind] = {
    "car": VehicleKind(car_end, car_side, vehicle_paint, 4.3, 5),
    "bus": VehicleKind(bus_end, bus_side, line_paint, 11, 13),
    "truck": VehicleKind(truck_end, truck_side, vehicle_paint, 8.5, 10),
    "tram": VehicleKind(tram_end, tram_side, line_paint, 24, 27),
}
"""By name; the order is that of the traffic's shares."""

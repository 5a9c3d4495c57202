"""Who is on the street: vehicles driving and parked, two-wheelers, people."""

from __future__ import annotations

import numpy as np

from streetscenes.people import bicycle, motorcycle, pedestrian
from streetscenes.vehicles import KINDS, End
from streetscenes.world import Camera, Mover, Standing, Street

__all__ = ["add_passers_by", "add_traffic"]


def vehicle(rng: np.random.RandomState, kind: str, x: float, z: float, end: End, speed: float) -> Mover:
    """A vehicle of which one sees ``end``."""
    shape = KINDS[kind]
    paint = shape.paint(rng)
    near, side = shape.end(rng, paint, end), shape.side(rng, paint)
    return Mover(x, z, speed, near, side.mirrored() if end is End.FRONT else side, shape.length)


def add_traffic(rng: np.random.RandomState, street: Street, camera: Camera) -> list[Mover]:
    """Lane by lane, then two-wheelers at the kerb, then parked cars; the right side drives our way."""
    movers: list[Mover] = []
    for side in (1, -1):
        for lane in range(street.lanes):
            movers += queue(rng, street, camera, side, lane)
        for _ in range(rng.randint(0, 4)):
            x = side * (street.road - rng.uniform(0.6, 1.3))
            draw = bicycle if rng.rand() < 0.5 else motorcycle
            z, speed = rng.uniform(6, 60), side * rng.uniform(3, 6)
            movers.append(Mover(x, z, speed, draw(rng, ridden=True, from_side=0.3)))
        if rng.rand() < 0.5:
            z = rng.uniform(4, 20)
            while z < street.end:
                if rng.rand() < 0.7:
                    kind = "car" if rng.rand() < 0.9 else "truck"
                    end = End.FRONT if rng.rand() < 0.5 else End.REAR
                    movers.append(vehicle(rng, kind, side * (street.road - 0.2), z, end, 0.0))
                z += rng.uniform(6, 11)
    return movers


def queue(rng: np.random.RandomState, street: Street, camera: Camera, side: int, lane: int) -> list[Mover]:
    """One lane's vehicles, all at the same speed; the camera's own lane is sometimes free ahead."""
    movers: list[Mover] = []
    inner = street.lanes == 2 and lane == 0
    x = side * (street.lane * (lane + 0.5) if street.lanes == 2 else street.road * 0.45)
    ours = side == 1 and abs(x - camera.x) < 1.6
    z = rng.uniform(9, 24) if ours else rng.uniform(3, 20)
    speed = camera.speed * rng.uniform(0.8, 1.1) if side > 0 else -camera.speed * rng.uniform(0.5, 1)
    shares = [0.2, 0.05, 0.05, 0.7] if street.tram and inner else [0.6, 0.16, 0.16, 0.08]
    first = True
    while z < street.end:
        kind = list(KINDS)[rng.choice(len(KINDS), p=shares)]
        if kind == "tram" and not inner and street.lanes == 2:
            kind = "bus"
        if not (ours and first and rng.rand() < 0.2):
            end = End.FRONT if side < 0 else End.REAR
            movers.append(vehicle(rng, kind, x + rng.randn() * 0.15, z, end, speed))
        first = False
        z += KINDS[kind].room + rng.uniform(3, 28)
    return movers


def add_passers_by(rng: np.random.RandomState, street: Street) -> tuple[list[Mover], list[Standing]]:
    """People on the pavements and crossing, parked two-wheelers, and waiting ones with their riders."""
    movers: list[Mover] = []
    parked: list[Standing] = []
    for _ in range(rng.randint(4, 13)):
        side = rng.choice([-1, 1])
        x = side * (street.road + rng.uniform(0.4, street.walk - 0.2))
        z, speed = rng.uniform(4, 60), rng.choice([-1.3, 1.3, 0])
        movers.append(Mover(x, z, speed, pedestrian(rng)))
    if rng.rand() < 0.3:
        for _ in range(rng.randint(1, 4)):
            x, z = rng.uniform(-street.road, street.road), rng.uniform(9, 40)
            movers.append(Mover(x, z, 0.0, pedestrian(rng)))
    for _ in range(rng.randint(0, 6)):
        side = rng.choice([-1, 1])
        x = side * (street.road + rng.uniform(0.5, 1.4))
        draw = bicycle if rng.rand() < 0.55 else motorcycle
        z = rng.uniform(4, 50)
        parked.append(Standing(x, z, draw(rng, ridden=False, from_side=0.75)))
    for _ in range(rng.randint(0, 3)):
        side = rng.choice([-1, 1])
        draw = bicycle if rng.rand() < 0.6 else motorcycle
        x, z = side * (street.road - rng.uniform(0.4, 1.2)), rng.uniform(5, 30)
        movers.append(Mover(x, z, 0.0, draw(rng, ridden=True, from_side=0.6)))
    return movers, parked

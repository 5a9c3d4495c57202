"""What lines the street: houses, walls, fences and hedges, and the furniture of the pavement."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from streetscenes.furniture import bush, street_lamp, traffic_light, traffic_sign, tree
from streetscenes.labels import BUILDING, FENCE, VEGETATION, WALL
from streetscenes.planes import Plane, Texture, facade, fence, hedge, wall
from streetscenes.world import Standing, Street

__all__ = ["furnish", "line_with_buildings"]

SIGNS = (-1, 1)
"""The sign of x on the left (side 0) and on the right (side 1)."""

HOUSE_DEPTH = 9.0

ENCLOSURES: dict[int, tuple[Callable[[np.random.RandomState, float, float], Texture], int]] = {
    1: (wall, WALL),
    2: (fence, FENCE),
    3: (hedge, VEGETATION),
    4: (fence, FENCE),
}
"""What closes a plot off, by the kind of plot; 0 and 5 are houses."""


def house(
    rng: np.random.RandomState, x: float, sign: int, z: float, length: float, height: float, sun: float
) -> list[Plane]:
    """A long facade at ``x`` along the street, and the wall across it at the near end."""
    front = facade(rng, length, height).lit(sun)
    gable = facade(rng, HOUSE_DEPTH, height).lit(0.8)
    return [
        Plane(x, x, z, z + length, height, front, BUILDING),
        Plane(x, x + sign * HOUSE_DEPTH, z, z, height, gable, BUILDING),
    ]


def line_with_buildings(
    rng: np.random.RandomState, street: Street, sun: tuple[float, float]
) -> tuple[list[Plane], list[Standing]]:
    """Plot after plot on both sides; and the trees behind those that are not built up."""
    planes: list[Plane] = []
    standing: list[Standing] = []
    for side, sign in enumerate(SIGNS):
        z = -12.0
        while z < street.end:
            length = rng.uniform(8, 26)
            x = sign * (street.edge(side) + rng.uniform(0, 1.2))
            kind = rng.choice(6, p=[0.52, 0.13, 0.1, 0.1, 0.09, 0.06])
            if kind in ENCLOSURES:
                # The height of each enclosure is drawn, and one of them used.
                heights = {
                    1: rng.uniform(1.2, 3),
                    2: rng.uniform(1, 2.2),
                    3: rng.uniform(1.5, 3.5),
                    4: rng.uniform(1, 2),
                }
                texture, label = ENCLOSURES[kind]
                height = heights[kind]
                planes.append(Plane(x, x, z, z + length, height, texture(rng, length, height).lit(sun[side]), label))
                behind = x + sign * rng.uniform(5, 14)
                if rng.rand() < 0.55:
                    planes += house(rng, behind, sign, z, length, rng.uniform(5, 14), sun[side])
                standing += [
                    Standing(x + sign * rng.uniform(2, 5), z + rng.uniform(0, length), tree(rng))
                    for _ in range(rng.randint(1, 4))
                ]
            else:
                planes += house(rng, x, sign, z, length, rng.uniform(6, 22), sun[side])
            z += length + (rng.uniform(1, 6) if rng.rand() < 0.3 else 0)
    return planes, standing


def furnish(rng: np.random.RandomState, street: Street) -> list[Standing]:
    """Lamps, signs, lights and trees along both kerbs, and bushes and trees on the green strips."""
    standing: list[Standing] = []
    trees = [tree(rng) for _ in range(5)]
    for side, sign in enumerate(SIGNS):
        kerb = street.road + 0.5
        z = rng.uniform(2, 14)
        avenue = rng.rand() < 0.45
        while z < street.end:
            which = rng.rand()
            x = sign * (kerb + rng.uniform(0, 0.4))
            if which < 0.3:
                standing.append(Standing(x, z, street_lamp(rng)))
            elif which < 0.55:
                standing.append(Standing(x, z, traffic_sign(rng)))
            elif which < 0.72:
                standing.append(Standing(x, z, traffic_light(rng)))
            elif avenue:
                standing.append(Standing(x + sign * 0.6, z, trees[rng.randint(len(trees))]))
            z += rng.uniform(3.5, 13)
        if street.strips[side] > 1:
            z = rng.uniform(0, 10)
            while z < street.end:
                x = sign * (street.road + street.walk + rng.uniform(0.6, street.strips[side]))
                plant = bush(rng) if rng.rand() < 0.6 else trees[rng.randint(len(trees))]
                standing.append(Standing(x, z, plant))
                z += rng.uniform(3, 14)
    return standing

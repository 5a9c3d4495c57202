"""A seed to a world.

All of it is drawn from one generator, so the order of the draws is part of the definition: another order is
another world for the same seed.  ``RandomState`` is the generator whose stream NumPy promises never to change.
"""

from __future__ import annotations

import numpy as np

from streetscenes.colours import Floats, any_colour, smooth_noise, vehicle_paint
from streetscenes.labels import BUILDING, VEGETATION
from streetscenes.roadside import furnish, line_with_buildings
from streetscenes.traffic import add_passers_by, add_traffic
from streetscenes.world import SIGHT, Camera, Ground, Hood, Light, Silhouette, Street, World

__all__ = ["build_world"]


def build_world(seed: int, travel: float = 0.0) -> World:
    """The world of ``seed`` (0..2^32 - 1), long enough for a camera that drives ``travel`` metres."""
    rng = np.random.RandomState(seed)
    end = SIGHT + travel
    road = rng.uniform(3.6, 7.5)
    walk = rng.uniform(1.8, 4.5)
    lanes = 1 if road < 5.2 else 2
    camera = Camera(
        x=road * (0.5 if lanes == 1 else rng.choice([0.25, 0.72])) + rng.randn() * 0.25,
        height=rng.uniform(1.25, 1.75),
        focal=rng.uniform(0.68, 0.95),
        horizon=rng.uniform(0.38, 0.47),
        shift=rng.uniform(-0.06, 0.06),
        speed=rng.uniform(5, 12),
    )
    sun = rng.uniform(0.72, 1.12, 2)
    gain = rng.uniform(0.72, 1.18)
    tint = 1 + rng.randn(3).astype(np.float32) * 0.045
    gamma = rng.uniform(0.85, 1.2)
    fog = rng.uniform(90, 600)
    blur = rng.uniform(0, 0.75)
    noise = rng.uniform(0, 3.2)
    hood = Hood(share=rng.uniform(0.07, 0.14) if rng.rand() < 0.75 else 0.0, colour=vehicle_paint(rng))
    tram = rng.rand() < 0.38 and lanes == 2
    overcast = rng.rand() < 0.5
    zenith = np.array([205, 205, 205] if overcast else [235, 175, 110], np.float32)
    light = Light(
        zenith=zenith * rng.uniform(0.8, 1.1),
        horizon=np.array([228, 228, 226] if overcast else [240, 222, 200], np.float32),
        clouds=smooth_noise(rng, 64, 128, 4) * (0.5 if overcast else 1),
        sun=(sun[0], sun[1]),
        fog=fog,
        gain=gain,
        tint=tint,
        gamma=gamma,
        blur=blur,
        noise=noise,
    )
    ground = lay_ground(rng)
    strips = tuple(rng.uniform(1.5, 5) if rng.rand() < 0.5 else 0.0 for _ in range(2))
    crossings = tuple(z for z in rng.uniform(8, end, 1 + int(end / 90)) if rng.rand() < 0.6)
    street = Street(road, walk, lanes, tram, (strips[0], strips[1]), crossings, end)
    planes, standing = line_with_buildings(rng, street, light.sun)
    standing += furnish(rng, street)
    movers = add_traffic(rng, street, camera)
    more_movers, parked = add_passers_by(rng, street)
    return World(
        seed=seed,
        street=street,
        camera=camera,
        hood=hood,
        light=light,
        ground=ground,
        planes=tuple(planes),
        standing=tuple(standing + parked),
        movers=tuple(movers + more_movers),
        skyline=tuple(draw_skyline(rng)),
    )


def lay_ground(rng: np.random.RandomState) -> Ground:
    """The ground's colours and textures; the order of the arguments is the order of the draws."""

    def grain() -> Floats:
        return (smooth_noise(rng, 256, 256, 40) - 0.5) + 0.6 * (rng.rand(256, 256).astype(np.float32) - 0.5)

    def shade(colour: tuple[int, int, int], low: float, high: float, spread: float) -> Floats:
        base = np.array(colour, np.float32) * rng.uniform(low, high) + rng.randn(3) * spread
        return np.asarray(base, np.float32)

    return Ground(
        grain=grain(),
        blades=grain(),
        stains=smooth_noise(rng, 256, 256, 9) - 0.5,
        asphalt=shade((96, 94, 92), 0.65, 1.3, 3),
        pavement=shade((148, 150, 155), 0.75, 1.2, 6),
        grass=shade((60, 122, 98), 0.7, 1.2, 6),
    )


def draw_skyline(rng: np.random.RandomState) -> list[Silhouette]:
    """Houses and trees in turn by chance, from the picture's left to its right."""
    skyline: list[Silhouette] = []
    left = -0.1
    while left < 1.1:
        width = rng.uniform(0.05, 0.2)
        if rng.rand() < 0.5:
            house = Silhouette(left, width, rng.uniform(0.03, 0.13), BUILDING, any_colour(rng, 120, 175))
            skyline.append(house)
        else:
            skyline.append(Silhouette(left, width, rng.uniform(0.02, 0.07), VEGETATION, (72, 110, 88)))
        left += width * rng.uniform(0.5, 1.1)
    return skyline

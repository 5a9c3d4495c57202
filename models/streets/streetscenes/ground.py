"""The ground below the horizon, pixel by pixel: each one's place on the street says what it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streetscenes.colours import Floats, to_bytes
from streetscenes.labels import ROAD, SIDEWALK, TERRAIN
from streetscenes.view import Canvas, View
from streetscenes.world import Ground, Street

__all__ = ["draw_ground"]

ASPHALT, PAVEMENT, KERB, GRASS, RAIL, PAINT = range(6)
"""The materials; rows of the table of their colours."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class GroundMap:
    """For each pixel, in metres: ``ahead`` of the camera (rows x 1), ``x``, its distance ``off`` the middle, ``z``."""

    ahead: Floats
    x: Floats
    off: Floats
    z: Floats

    def texture(self, texture: Floats, per_metre: float) -> Floats:
        """A 256 x 256 texture repeated over the ground with ``per_metre`` of its pixels to the metre."""
        rows = (self.z * per_metre).astype(np.int32) & 255
        columns = (self.x * per_metre).astype(np.int32) & 255
        out: Floats = texture[rows, columns]
        return out


def road_paint(at: GroundMap, street: Street) -> Mask:
    """Where the road is painted white: lanes, edges and crossings."""
    dash = (at.z % 9.0) < 4.0
    white: Mask = (at.off < 0.08) & (dash | (street.lanes == 2))
    if street.lanes == 2:
        white |= (np.abs(at.off - street.lane) < 0.08) & dash
    white |= np.abs(at.off - (street.road - 0.3)) < 0.06
    for z in street.crossings:
        white |= (np.abs(at.z - z) < 1.6) & ((at.x % 1.1) < 0.55) & (at.off < street.road - 0.4)
    white &= at.off < street.road
    return white


def tram_rails(at: GroundMap, street: Street) -> Mask:
    """Two rails in each inner lane, where there is a tram."""
    rails: Mask = np.zeros(at.x.shape, bool)
    if street.tram:
        for rail in (0.72, 2.16):
            rails |= np.abs(at.off - street.lane * 0.5 - (rail - 1.44)) < 0.05
    return rails


def draw_ground(canvas: Canvas, view: View, street: Street, ground: Ground) -> None:
    """Paints every row below the horizon."""
    first_row = int(np.floor(view.v0)) + 1
    rows = np.arange(first_row, canvas.height, dtype=np.float32)
    columns = np.arange(canvas.width, dtype=np.float32)
    # the rows next to the horizon would lie hundreds of metres off
    ahead = (view.focal * view.y / np.maximum(rows - view.v0, 0.35))[:, None]
    x = (columns[None] - view.u0) * ahead / view.focal + view.x
    at = GroundMap(ahead, x, np.abs(x), ahead + view.z)

    # Far off, where one pixel spans many of the texture's, its grain is faded out or it would flicker.
    fade = np.clip(14 / ahead, 0, 1)
    grain = at.texture(ground.grain, 7) * fade
    stains = at.texture(ground.stains, 2)
    grey = grain * 46 + stains * 26
    material = np.full(x.shape, ASPHALT, np.uint8)
    labels = np.full(x.shape, ROAD, np.uint8)

    walk = at.off > street.road
    joints = ((at.z % 1.2) < 0.08) | ((at.x % 1.2) < 0.08)
    slabs = (joints * np.clip(9 / ahead, 0, 1)).astype(np.float32)
    grey = np.where(walk, grain * 26 + stains * 22 - slabs * 26, grey)
    material[walk] = PAVEMENT
    material[walk & (at.off < street.road + 0.25)] = KERB
    labels[walk] = SIDEWALK

    edge = street.road + street.walk
    strip = np.where(x < 0, np.float32(street.strips[0]), np.float32(street.strips[1]))
    green = ((at.off > edge) & (strip > 1)) | (at.off > edge + strip + 1.6)
    grey = np.where(green, at.texture(ground.blades, 11) * fade * 70 + stains * 50, grey)
    material[green] = GRASS
    labels[green] = TERRAIN

    rails = tram_rails(at, street)
    material[rails] = RAIL
    grey[rails] = 0
    white = road_paint(at, street)
    material[white] = PAINT
    grey[white] = grain[white] * 50

    table = [ground.asphalt, ground.pavement, ground.pavement * 1.14, ground.grass, np.full(3, 62), np.full(3, 205)]
    colour = np.stack(table).astype(np.float32)[material]
    colour += grey[..., None]
    keep = np.exp(-ahead / view.fog).astype(np.float32)[..., None]
    haze = view.haze.astype(np.float32)
    canvas.frame_hwc[first_row:] = to_bytes(colour * keep + haze * (1 - keep))
    canvas.labels_hw[first_row:] = labels

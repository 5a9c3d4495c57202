"""The records of a world: a straight street in metres, x to the right, y up, z forward.

The camera starts at z = 0 over x = ``Camera.x``; the middle of the street is x = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from streetscenes.colours import Colour, Floats
from streetscenes.planes import Plane
from streetscenes.sprites import Sprite

__all__ = ["SIGHT", "Camera", "Ground", "Hood", "Light", "Mover", "Silhouette", "Standing", "Street", "World"]

SIGHT = 150.0
"""Metres ahead of the camera beyond which nothing is drawn."""


@dataclass(frozen=True)
class Street:
    """Measures in metres: ``road`` half the carriageway's width, ``walk`` the width of each pavement.

    ``strips`` the widths of green left and right behind it, 0 for none; ``lanes`` in each direction;
    ``tram`` whether there are rails; ``crossings`` the z of zebra crossings; ``end`` the last z that is
    furnished.
    """

    road: float
    walk: float
    lanes: int
    tram: bool
    strips: tuple[float, float]
    crossings: tuple[float, ...]
    end: float

    @property
    def lane(self) -> float:
        """Width of one lane."""
        return self.road / self.lanes

    def edge(self, side: int) -> float:
        """Distance of the houses' line from the middle; ``side`` 0 is left, 1 right."""
        return self.road + self.walk + self.strips[side]


@dataclass(frozen=True)
class Camera:
    """``x`` and ``height`` in metres, ``speed`` in m/s; ``focal`` in picture widths.

    ``horizon`` the horizon's row as a share of the picture's height; ``shift`` how far the vanishing
    point lies from the middle column, in picture widths.
    """

    x: float
    height: float
    focal: float
    horizon: float
    shift: float
    speed: float


@dataclass(frozen=True)
class Hood:
    """The bonnet of the camera's car: its height as a share of the picture's, 0 where none is seen."""

    share: float
    colour: Colour


@dataclass(frozen=True)
class Light:
    """``zenith`` and ``horizon`` the sky's colours; ``clouds`` float32, 0..1; ``sun`` on left and right facades.

    ``fog`` the metres over which contrast falls to 1/e.  Then what the camera makes of it: ``gain``,
    ``tint`` (a factor a channel) and ``gamma``; ``blur`` and ``noise`` are deviations, in pixels and in
    grey levels.
    """

    zenith: Floats
    horizon: Floats
    clouds: Floats
    sun: tuple[float, float]
    fog: float
    gain: float
    tint: Floats
    gamma: float
    blur: float
    noise: float


@dataclass(frozen=True)
class Ground:
    """Base colours, and float32 256 x 256 textures around 0 that repeat over the ground."""

    asphalt: Floats
    pavement: Floats
    grass: Floats
    grain: Floats
    blades: Floats
    stains: Floats


@dataclass(frozen=True)
class Standing:
    """A sprite whose foot stands at (x, 0, z)."""

    x: float
    z: float
    sprite: Sprite


@dataclass(frozen=True)
class Mover:
    """Something at (x, 0, z) at time 0 that moves along the street at ``speed`` m/s (negative: towards us).

    ``end`` is its near end; a vehicle has a ``side`` too, ``length`` metres long.
    """

    x: float
    z: float
    speed: float
    end: Sprite
    side: Sprite | None = None
    length: float = 0.0


@dataclass(frozen=True)
class Silhouette:
    """Houses or trees on the horizon: left edge and width in picture widths, height in picture heights."""

    left: float
    width: float
    height: float
    label: int
    colour: Colour


@dataclass(frozen=True)
class World:
    """All there is in one scene."""

    seed: int
    street: Street
    camera: Camera
    hood: Hood
    light: Light
    ground: Ground
    planes: tuple[Plane, ...]
    standing: tuple[Standing, ...]
    movers: tuple[Mover, ...]
    skyline: tuple[Silhouette, ...]

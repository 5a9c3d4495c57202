"""A scene and its pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import cv2
import numpy as np

from streetscenes.building import build_world
from streetscenes.colours import dimmed, to_bytes
from streetscenes.ground import draw_ground
from streetscenes.labels import BUILDING, NOTHING, SKY, VOID, Picture
from streetscenes.planes import Plane, Texture
from streetscenes.view import Canvas, View
from streetscenes.world import SIGHT, Hood, Light, Mover, Silhouette, World

__all__ = ["Scene", "draw_scene", "draw_video"]


class Scene:
    """A street, and a camera that drives along it.  The same seed is the same street.

    ``seed``: 0..2^32 - 1.  ``travel``: metres the camera is to drive; another value is another street.
    """

    def __init__(self, seed: int, travel: float = 0.0) -> None:
        self.world: World = build_world(seed, travel)

    def render(self, height: int, width: int, time: float = 0.0) -> tuple[Picture, Picture]:
        """The picture uint8 height x width x 3 (BGR) at ``time`` seconds, and its labels uint8 height x width.

        The labels are Cityscapes' train ids 0..18 and VOID.
        """
        world = self.world
        camera = world.camera
        view = View(
            focal=camera.focal * width,
            u0=(0.5 + camera.shift) * width,
            v0=camera.horizon * height,
            x=camera.x,
            y=camera.height,
            z=time * camera.speed,
            haze=world.light.horizon * 0.95,
            fog=world.light.fog,
        )
        canvas = Canvas(np.empty((height, width, 3), np.uint8), np.empty((height, width), np.uint8))
        draw_sky(canvas, view, world.light, world.skyline)
        draw_ground(canvas, view, world.street, world.ground)
        for draw in back_to_front(world, view, time):
            draw(canvas)
        draw_hood(canvas, world.hood)
        noise_seed = (world.seed * 7919 + round(time * 1000)) % 2**31
        return exposed(canvas.frame_hwc, world.light, noise_seed), canvas.labels_hw


def draw_scene(seed: int, height: int = 256, width: int = 512) -> tuple[Picture, Picture]:
    """One picture of the scene ``seed`` and its labels, as :meth:`Scene.render` gives them."""
    return Scene(seed).render(height, width)


def draw_video(
    seed: int, frames: int, height: int = 256, width: int = 512, fps: float = 15.0
) -> Iterator[tuple[Picture, Picture]]:
    """The pictures and labels of one drive, ``fps`` a second."""
    # 12 m/s is the fastest camera
    scene = Scene(seed, travel=frames / fps * 12)
    for i in range(frames):
        yield scene.render(height, width, i / fps)


def draw_sky(canvas: Canvas, view: View, light: Light, skyline: tuple[Silhouette, ...]) -> None:
    """Sky and clouds down to the horizon, and the skyline on it."""
    height, width = canvas.height, canvas.width
    bottom = int(np.ceil(view.v0)) + 1
    down = np.linspace(0, 1, bottom, dtype=np.float32)[:, None, None]
    sky = light.zenith * (1 - down) + light.horizon * down
    clouds = cv2.resize(light.clouds, (width, bottom), interpolation=cv2.INTER_LINEAR)[..., None]
    canvas.frame_hwc[:bottom] = to_bytes(sky + np.clip(clouds - 0.45, 0, 1) * (250 - sky) * 1.2)
    canvas.labels_hw[:bottom] = SKY
    for far in skyline:
        left, right = int(far.left * width), int((far.left + far.width) * width)
        top = int(view.v0 - far.height * height)
        colour = to_bytes(0.55 * np.array(far.colour) + 0.45 * view.haze).tolist()
        if far.label == BUILDING:
            cv2.rectangle(canvas.frame_hwc, (left, top), (right, bottom), colour, -1)
            cv2.rectangle(canvas.labels_hw, (left, top), (right, bottom), far.label, -1)
        else:
            centre = ((left + right) // 2, bottom)
            axes = ((right - left) // 2 + 1, bottom - top)
            cv2.ellipse(canvas.frame_hwc, centre, axes, 0, 180, 360, colour, -1)
            cv2.ellipse(canvas.labels_hw, centre, axes, 0, 180, 360, far.label, -1)


def back_to_front(world: World, view: View, time: float) -> list[Callable[[Canvas], None]]:
    """What draws each thing in sight, the farthest first (the painter's way)."""
    horizon = view.z + SIGHT
    drawings: list[tuple[float, Callable[[Canvas], None]]] = []
    for plane in world.planes:
        if plane.z1 > view.z + 0.8 and plane.z0 < horizon:
            distance = plane.z0 if plane.across else (max(plane.z0, view.z) + plane.z1) / 2
            drawings.append((distance, partial(view.draw_plane, plane=plane)))
    for thing in world.standing:
        if view.z + 1.5 < thing.z < horizon:
            drawings.append((thing.z, partial(view.draw_sprite, sprite=thing.sprite, x=thing.x, z=thing.z)))
    for mover in world.movers:
        z = mover.z + mover.speed * time
        if view.z + 0.5 - mover.length < z < horizon:
            drawings.append((z, partial(draw_mover, view=view, mover=mover, z=z)))
    drawings.sort(key=lambda drawing: -drawing[0])
    return [draw for _, draw in drawings]


def draw_mover(canvas: Canvas, view: View, mover: Mover, z: float) -> None:
    """A mover whose near end is at ``z``: first the side that faces the camera, then its end."""
    if mover.side is not None:
        half = mover.end.width / 2
        x = mover.x - half if mover.x > view.x else mover.x + half
        side = mover.side
        texture = Texture(side.frame_hwc)
        plane = Plane(x, x, z, z + mover.length, side.height, texture, NOTHING, side.labels_hw)
        view.draw_plane(canvas, plane)
    if z > view.z + 1.5:
        view.draw_shadow(canvas, mover.end.width, mover.x, z)
        view.draw_sprite(canvas, mover.end, mover.x, z)


def draw_hood(canvas: Canvas, hood: Hood) -> None:
    """The bonnet of the camera's own car along the lower edge, labelled VOID."""
    if not hood.share:
        return
    centre = (canvas.width // 2, int(canvas.height * 1.02))
    axes = (int(canvas.width * 0.62), int(canvas.height * (hood.share + 0.02)))
    cv2.ellipse(canvas.frame_hwc, centre, axes, 0, 180, 360, hood.colour, -1)
    inner = (axes[0], int(axes[1] * 0.75))
    cv2.ellipse(canvas.frame_hwc, centre, inner, 0, 180, 360, dimmed(hood.colour, 0.75), -1)
    cv2.ellipse(canvas.labels_hw, centre, axes, 0, 180, 360, VOID, -1)


def exposed(frame_hwc: Picture, light: Light, noise_seed: int) -> Picture:
    """What the camera makes of the picture: a little blur, its tone curve, and noise."""
    rng = np.random.RandomState(noise_seed)
    if light.blur > 0.25:
        frame_hwc = np.asarray(cv2.GaussianBlur(frame_hwc, (3, 3), light.blur), np.uint8)
    level = np.arange(256, dtype=np.float32) / 255
    curve = np.clip(255 * light.gain * level[:, None] ** light.gamma * light.tint, 0, 255)
    out = np.asarray(cv2.LUT(frame_hwc, curve.astype(np.uint8).reshape(1, 256, 3)), np.uint8)
    if light.noise > 0.3:
        grain = np.empty(frame_hwc.shape, np.int16)
        cv2.setRNGSeed(int(rng.randint(2**31 - 1)))
        # Only blue is noisy.  No camera is like that; but a seed's picture is to stay what it was.
        deviation = np.array([[light.noise], [0], [0], [0]], np.float64)
        cv2.randn(grain, np.zeros_like(deviation), deviation)
        out = np.asarray(cv2.add(out, grain, dtype=cv2.CV_8U), np.uint8)
    return out

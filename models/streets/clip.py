#!/usr/bin/env python3
"""Draws the demo's input: a clip of a drive down a street, or single scenes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Annotated

import cv2
import typer
from streetscenes import draw_scene, draw_video

from isa_deploy.cli.run import make_app, run
from isa_deploy.files import make_folder
from isa_deploy.runtime.images import write_png
from isa_deploy.runtime.video_writer import VideoWriter

CLIP_SEED = 960_001
FIRST_STILL_SEED = 970_000
"""Both far from the seeds that the model is trained (0 and up) and measured on (900000 and up).

The clip's was picked from forty: many classes, no bonnet, and a street that the model does well on.
"""

app = make_app()


@app.command()
def main(
    out: Annotated[Path, typer.Option(help="The MP4 file to write; with --stills, the folder.")],
    stills: Annotated[int, typer.Option(min=0, help="Write this many PNG pictures of different scenes instead.")] = 0,
    seconds: Annotated[float, typer.Option(min=0.1, max=60, help="Length of the clip.")] = 4.0,
    fps: Annotated[int, typer.Option(min=1, max=60, help="Frames a second.")] = 15,
    size: Annotated[tuple[int, int], typer.Option(help="Height and width, pixels.")] = (512, 1024),
    seed: Annotated[int | None, typer.Option(min=0, max=2**31, help="Of the clip, or of the first still.")] = None,
) -> None:
    """Draw the demo's input: a clip of a drive down a street, or with --stills N single scenes."""
    cv2.setNumThreads(1)
    if stills:
        write_stills(out, FIRST_STILL_SEED if seed is None else seed, stills, size)
    else:
        write_clip(out, CLIP_SEED if seed is None else seed, max(1, round(seconds * fps)), fps, size)
    print(out)


def write_clip(path: Path, seed: int, frames: int, fps: int, size_hw: tuple[int, int]) -> None:
    """An H.264 clip of one drive.  Raises :class:`IsaError` where it cannot be written."""
    make_folder(path.parent)
    with VideoWriter(path, time_base=Fraction(1, fps), frame_rate=Fraction(fps)) as writer:
        for i, (frame_hwc, _) in enumerate(draw_video(seed, frames, *size_hw, fps=fps)):
            writer.write(frame_hwc, i)


def write_stills(folder: Path, first_seed: int, count: int, size_hw: tuple[int, int]) -> None:
    """PNG pictures of ``count`` scenes.  Raises :class:`IsaError` where they cannot be written."""
    make_folder(folder)
    for seed in range(first_seed, first_seed + count):
        frame_hwc, _ = draw_scene(seed, *size_hw)
        write_png(folder / f"street_{seed}.png", frame_hwc)


if __name__ == "__main__":
    run(app, "clip.py")

"""The pictures that a proof is made on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from isa_deploy.errors import InputError
from isa_deploy.manifest import Manifest
from isa_deploy.runtime.images import read_image
from isa_deploy.runtime.preprocess import ResizeRule, network_size, resize_frame

__all__ = ["bundled_frames", "proof_frames"]

PROOF_FLOATS = 1 << 29
"""The reference holds maps of the frame's size for every class: at most this many floats, 2 GiB."""


def proof_frames(frames: Sequence[str | Path], manifest: Manifest) -> list[tuple[str, npt.NDArray[np.uint8]]]:
    """The pictures to prove on, at the size that the network is shown: the user's, or the bundled ones.

    The user's come to the model's test scale.  The bundled ones stay as they are: they are small, and one
    has sides that are no multiple of 8, so that the padding, the cropping and the resize are all proven
    without minutes of waiting.  Where the graph takes one size only, all come to that.  A slide model whose
    windows the runtime cuts is proven on a single window too, which shows the graph's own labels.
    Raises :class:`InputError` for a picture that cannot be read or is too large.
    """
    rule: ResizeRule = manifest.frame_hw or ("test" if frames else "none")
    named = [(Path(frame).name, read_image(Path(frame))) for frame in frames] if frames else bundled_frames()
    shown = []
    for name, frame in named:
        size = network_size((frame.shape[0], frame.shape[1]), rule, manifest.input.resize)
        if size[0] * size[1] * len(manifest.classes.names) > PROOF_FLOATS:
            raise InputError(
                f"{name}: {size[0]}x{size[1]} pixels in {len(manifest.classes.names)} classes are too many to prove; "
                "give a smaller picture to --frames"
            )
        shown.append((name, resize_frame(frame, size)))
    crop = manifest.inference.crop_hw
    if crop is not None and not manifest.inference.windows_in_graph:
        name, frame = shown[0]
        shown.append((f"{name}, one window", np.ascontiguousarray(frame[: crop[0], : crop[1]])))
    return shown


def bundled_frames() -> list[tuple[str, npt.NDArray[np.uint8]]]:
    """The drawn street scenes that ship with the package, BGR."""
    folder = Path(__file__).parent / "frames"
    found = [(path.name, read_image(path)) for path in sorted(folder.glob("*.jpg"))]
    if not found:
        raise InputError(f"{folder}: the bundled frames are missing; install isa-deploy again, or give --frames")
    return found

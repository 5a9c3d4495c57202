"""An engine that costs nothing: each 8 x 8 cell gets the class that its mean brightness names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from isa_deploy.manifest import ClassesSpec, InferenceSpec, InputSpec, Manifest, OutputsSpec, SourceSpec
from isa_deploy.runtime.segmenter import Segmenter

CLASSES = 8
STRIDE = 8


class CheapBackend:
    """Answers before it is asked for; ``calls`` counts."""

    name = "cheap"
    precision = "fp32"
    device = "none"
    fast_argmax = False
    capacity = 2

    def __init__(self) -> None:
        self.calls = 0

    def has_room(self) -> bool:
        return True

    def start(self, image_nhwc: npt.NDArray[np.uint8], outputs: Sequence[str]) -> Answer:
        self.calls += len(image_nhwc)
        return Answer([cheap_logits(image_nhwc) for _ in outputs])

    def largest_batch(self, height: int, width: int) -> int | None:
        return 2

    def frame_buffer(self, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        return np.empty(shape, dtype=np.uint8)

    def close(self) -> None:
        pass


class Answer:
    """What was asked for."""

    def __init__(self, arrays: list[npt.NDArray[Any]]) -> None:
        self._arrays = arrays

    def done(self) -> bool:
        return True

    def wait(self, timeout_s: float | None = None) -> list[npt.NDArray[Any]]:
        return self._arrays


def cheap_logits(image_nhwc: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """float32 N x 8 x h x w: the nearer the cell's brightness to the class's, the larger."""
    cells = image_nhwc[:, ::STRIDE, ::STRIDE].mean(axis=3, dtype=np.float32)
    steps = np.arange(CLASSES, dtype=np.float32)[None, :, None, None]
    return -np.abs(cells[:, None] * np.float32(CLASSES / 256) - 0.5 - steps)


def cheap_manifest(**changes: Any) -> Manifest:
    """Of a whole model that takes frames of any size."""
    fields: dict[str, Any] = {
        "format_version": 1,
        "architecture": "cheap",
        "precision": "fp32",
        "source": SourceSpec(file="cheap.pth", sha256="0" * 64, layout="state_dict"),
        "input": InputSpec(
            name="image",
            colour_order="BGR",
            shape_nhw=(None, None, None),
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
            resize=None,
        ),
        "inference": InferenceSpec(
            mode="whole", crop_hw=None, stride_hw=None, align_corners=False, windows_in_graph=False
        ),
        "classes": ClassesSpec(
            names=tuple(f"class {label}" for label in range(CLASSES)),
            palette_rgb=tuple((label * 30, 255 - label * 30, 7) for label in range(CLASSES)),
        ),
        "outputs": OutputsSpec(labels="labels", logits="logits", logits_stride=STRIDE, confidence=None),
    }
    return Manifest(**(fields | changes))


def cheap_segmenter(**changes: Any) -> Segmenter:
    """A real Segmenter over a :class:`CheapBackend`."""
    return Segmenter(CheapBackend(), cheap_manifest(**changes), "none")

"""The models that the suite measures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gpu.scale import Scale

__all__ = ["MODELS", "Model", "frame_size"]

STREETS = Path(__file__).resolve().parents[2] / "models" / "streets"


@dataclass(frozen=True)
class Model:
    """A network and the type it is exported in.  ``depth``: of a network with random weights, None for the demo."""

    precision: Literal["fp32", "fp16"]
    depth: int | None

    @property
    def trained(self) -> Path:
        """The demo model's checkpoint."""
        return STREETS / "isanet_r18w16_streets.pth"


MODELS = {
    "demo-fp32": Model("fp32", None),
    "demo-fp16": Model("fp16", None),
    "r50-fp16": Model("fp16", 50),
    "r101-fp16": Model("fp16", 101),
}


def frame_size(name: str, scale: Scale) -> tuple[int, int]:
    """Height and width of the frames that a model is measured on."""
    return scale.demo_hw if MODELS[name].depth is None else scale.frame_hw

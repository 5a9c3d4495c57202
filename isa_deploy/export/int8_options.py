"""What a user says of an int8 export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["CALIBRATION_FRAMES", "MAX_MIOU_DROP", "Int8Options", "Int8Rest"]

Int8Rest = Literal["fp32", "fp16"]
"""What an int8 graph's other nodes may be in.  ONNX Runtime's quantiser takes no bfloat16 graph; on a CPU that has it,
OpenVINO computes the rest of a float32 one in bfloat16."""

CALIBRATION_FRAMES = 256
MAX_MIOU_DROP = 0.5


@dataclass(frozen=True)
class Int8Options:
    """How to make an int8 graph.

    ``calib``: a folder of pictures or a video; ``frames``: of it, at most; ``max_miou_drop``: points of mIoU that may
    be lost; ``rest``: the type of all that is not int8.
    """

    calib: Path
    frames: int = CALIBRATION_FRAMES
    max_miou_drop: float = MAX_MIOU_DROP
    rest: Int8Rest = "fp32"

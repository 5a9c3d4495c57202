"""What an export is compared with: somebody who knows the right answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["AnswerSource", "ReferenceAnswer"]


@dataclass(frozen=True)
class ReferenceAnswer:
    """The right answer for one frame.

    ``labels_hw``: uint8 at the frame's size.  ``margin_hw``: float32, by how much the best logit there
    exceeds the second.  ``confidence_hw``: float32, the winning class's softmax.  ``logits``: float32 logits
    at the head's stride, windows x C x h x w.
    """

    labels_hw: npt.NDArray[np.uint8]
    margin_hw: npt.NDArray[np.float32]
    confidence_hw: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32]


class AnswerSource(Protocol):
    """The checkpoint in torch, or a graph that was proven to equal it.  ``name``: in words, for reports."""

    @property
    def name(self) -> str: ...

    def answer(self, frame_hwc: npt.NDArray[np.uint8], size_hw: tuple[int, int]) -> ReferenceAnswer:
        """The answer for a frame (uint8 H x W x 3 BGR) that the network is shown at ``size_hw``."""

    def noise(self, frame_hwc: npt.NDArray[np.uint8], size_hw: tuple[int, int]) -> float:
        """How far two float32 kernels differ on this frame: the largest difference of the logits."""

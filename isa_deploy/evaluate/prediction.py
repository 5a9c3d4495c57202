"""The ways from a picture to its labels that are measured: as the model was tested, in tiles, at several scales.

All take pictures as :func:`isa_deploy.runtime.images.read_image` gives them, BGR, and put them into the engine's order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from isa_deploy.manifest import Manifest
from isa_deploy.runtime.segmenter import MULTI_SCALE_RATIOS, Segmenter
from isa_deploy.runtime.tiling import Tiling

__all__ = ["MultiScalePredictor", "Pending", "PlainPredictor", "Predictor", "TiledPredictor"]

UInt8 = npt.NDArray[np.uint8]

Answer = TypeVar("Answer", covariant=True)


class Pending(Protocol[Answer]):
    """An answer that is on its way."""

    def result(self) -> Answer:
        """The answer, once it is there.  Raises what :meth:`Predictor.submit` raises."""


class Predictor(Protocol):
    """Pictures in, labels out.

    ``classes``: how many classes there are; every label is below.  ``capacity``: how many pictures are worth having
    under way before the oldest one's labels are taken, 1 or more.  One thread uses it.
    """

    @property
    def classes(self) -> int: ...

    @property
    def capacity(self) -> int: ...

    def submit(self, frame_hwc: UInt8) -> Pending[UInt8]:
        """Give a picture (uint8, H x W x 3, BGR) to the engine; its labels come as uint8 H x W.

        The picture must not change before its labels were taken.  Raises
        :class:`isa_deploy.errors.InputError` for a picture of a size that the engine cannot take, and
        :class:`isa_deploy.errors.EngineError` where the engine fails, here or when the labels are taken.
        """


class PlainPredictor:
    """Each picture as the model was tested: :meth:`Segmenter.submit`."""

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter

    @property
    def classes(self) -> int:
        """How many classes the model has."""
        return len(self._segmenter.manifest.classes.names)

    @property
    def capacity(self) -> int:
        """As many pictures as the engine takes calls."""
        return self._segmenter.capacity

    def submit(self, frame_hwc: UInt8) -> Pending[UInt8]:
        """As :meth:`Predictor.submit`."""
        return self._segmenter.submit(_in_colour_order(frame_hwc, self._segmenter.manifest))


class TiledPredictor:
    """Each picture cut into windows, at its own size: :func:`isa_deploy.runtime.tiled.segment_tiled`.

    A picture's windows keep the engine busy, so one picture is under way; its labels are there when
    :meth:`submit` comes back.
    """

    def __init__(self, segmenter: Segmenter, tiling: Tiling) -> None:
        self._segmenter = segmenter
        self._tiling = tiling

    @property
    def classes(self) -> int:
        """How many classes the model has."""
        return len(self._segmenter.manifest.classes.names)

    @property
    def capacity(self) -> int:
        """1."""
        return 1

    def submit(self, frame_hwc: UInt8) -> Pending[UInt8]:
        """As :meth:`Predictor.submit`."""
        image = _in_colour_order(frame_hwc, self._segmenter.manifest)
        return _Ready(self._segmenter.segment(image, self._tiling))


class MultiScalePredictor:
    """Each picture at several scales and mirrored: :meth:`Segmenter.submit_multi_scale`, where the arguments are told.

    ``flip_pairs`` are the data set's (:attr:`isa_deploy.evaluate.dataset.Dataset.flip_pairs`).  While one picture's
    probabilities are averaged, the engine has the largest scales of the next: the ratios are taken in rising order.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        ratios: Sequence[float] = MULTI_SCALE_RATIOS,
        flip: bool = True,
        flip_pairs: Sequence[tuple[int, int]] = (),
    ) -> None:
        self._segmenter = segmenter
        self._ratios = tuple(sorted(ratios))
        self._flip = flip
        self._flip_pairs = tuple(flip_pairs)

    @property
    def classes(self) -> int:
        """How many classes the model has."""
        return len(self._segmenter.manifest.classes.names)

    @property
    def capacity(self) -> int:
        """1: a picture is many calls, and holds the logits of all."""
        return 1

    def submit(self, frame_hwc: UInt8) -> Pending[UInt8]:
        """As :meth:`Predictor.submit`."""
        image = _in_colour_order(frame_hwc, self._segmenter.manifest)
        return self._segmenter.submit_multi_scale(image, self._ratios, self._flip, self._flip_pairs)


@dataclass(frozen=True)
class _Ready:
    """Labels that are there."""

    labels_hw: UInt8

    def result(self) -> UInt8:
        return self.labels_hw


def _in_colour_order(frame_hwc: UInt8, manifest: Manifest) -> UInt8:
    """A BGR picture in the order of the manifest's input; itself where that is BGR."""
    if manifest.input.colour_order == "BGR":
        return frame_hwc
    return np.asarray(cv2.cvtColor(frame_hwc, cv2.COLOR_BGR2RGB), dtype=np.uint8)

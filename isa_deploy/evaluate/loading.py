"""Pictures and their true labels, read ahead of their use by threads of their own."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import cycle
from types import TracebackType

import numpy as np
import numpy.typing as npt

from isa_deploy.errors import InputError
from isa_deploy.evaluate.dataset import VOID, Dataset, Sample
from isa_deploy.runtime.images import read_image
from isa_deploy.runtime.pipeline import Ahead

__all__ = ["Loaded", "Loading", "Unusable"]

UInt8 = npt.NDArray[np.uint8]

DEPTH = 2
"""Pictures of one reader that exist and were not taken: one lies ready while the next is read."""

CORES_PER_READER, MOST_READERS = 4, 4
"""Decoding a PNG of 1024 x 2048 takes one core some 50 ms: one reader is ahead of an engine on a few cores, a GPU
wants several."""


@dataclass(frozen=True)
class Loaded:
    """A sample's picture, uint8 H x W x 3 BGR, and its truth, uint8 H x W with 255 for void."""

    sample: Sample
    frame_hwc: UInt8
    truth_hw: UInt8


@dataclass(frozen=True)
class Unusable:
    """A sample that cannot be used, and why, in one line."""

    sample: Sample
    reason: str


class Loading(Iterator["Loaded | Unusable"]):
    """The samples of a data set in their order, read ahead.  A context manager: its threads live while it lasts.

    Each of ``readers`` threads has every n-th sample and runs :data:`DEPTH` of its own ahead.  None: one thread for
    each four cores, at most four.  A picture or truth that cannot be read, or whose sizes differ, comes as
    :class:`Unusable`; any other exception of a thread comes out of :func:`next` in the place of its sample.
    ``outside_allowed`` False makes truth at or above ``classes`` (other than void) a reason too.
    """

    def __init__(
        self,
        dataset: Dataset,
        samples: Sequence[Sample],
        classes: int,
        *,
        outside_allowed: bool = True,
        readers: int | None = None,
    ) -> None:
        self._dataset = dataset
        self._classes = classes
        self._outside_allowed = outside_allowed
        number = min(readers or _readers(), len(samples)) or 1
        self._seconds = [0.0] * number
        self._starved_s = 0.0
        self._readers = [Ahead(self._read(index, samples[index::number]), DEPTH) for index in range(number)]
        self._turns = cycle(self._readers)
        self._threads = ExitStack()

    @property
    def reading_s(self) -> float:
        """Seconds that the threads were reading, added up; complete when the block has ended."""
        return sum(self._seconds)

    @property
    def starved_s(self) -> float:
        """Seconds that whoever takes the samples waited for the next one to be read."""
        return self._starved_s

    def __enter__(self) -> Loading:
        for reader in self._readers:
            self._threads.enter_context(reader)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.__exit__(kind, error, trace)

    def __next__(self) -> Loaded | Unusable:
        # the samples were dealt in turn, so the first reader without one has the end
        begun = time.perf_counter()
        try:
            return next(next(self._turns))
        finally:
            self._starved_s += time.perf_counter() - begun

    def _read(self, reader: int, samples: Sequence[Sample]) -> Iterator[Loaded | Unusable]:
        for sample in samples:
            begun = time.perf_counter()
            try:
                loaded: Loaded | Unusable = self._load(sample)
            except InputError as error:
                loaded = Unusable(sample, str(error))
            self._seconds[reader] += time.perf_counter() - begun
            yield loaded
            del loaded  # or it would be held while the next one is read

    def _load(self, sample: Sample) -> Loaded:
        frame_hwc = read_image(sample.image)
        truth_hw = self._dataset.read_truth(sample)
        height, width = frame_hwc.shape[:2]
        if truth_hw.shape != (height, width):
            raise InputError(
                f"{sample.image} is {height}x{width}, its labels {sample.truth} are "
                f"{truth_hw.shape[0]}x{truth_hw.shape[1]} (height x width); pair it with labels of its own size"
            )
        if not self._outside_allowed:
            outside = (truth_hw >= self._classes) & (truth_hw != VOID)
            if outside.any():
                raise InputError(
                    f"{sample.truth}: {int(outside.sum())} pixels are labelled outside of the {self._classes} classes, "
                    f"the first with {int(truth_hw[outside][0])}; mark them as void"
                )
        return Loaded(sample, frame_hwc, truth_hw)


def _readers() -> int:
    return max(1, min(MOST_READERS, (os.cpu_count() or 1) // CORES_PER_READER))

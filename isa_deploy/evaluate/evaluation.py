"""A data set through an engine into a confusion matrix: reading, engine and counting overlap.

Threads read pictures ahead (:mod:`isa_deploy.evaluate.loading`), the calling thread talks to the engine, and one thread
counts behind.  All hold a bounded number of pictures.  What comes out depends on the pictures and the engine alone, not
on which thread was the faster one.
"""

from __future__ import annotations

import heapq
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from isa_deploy.errors import InputError
from isa_deploy.evaluate.confusion import ConfusionMatrix
from isa_deploy.evaluate.dataset import Dataset, Listing, Sample
from isa_deploy.evaluate.loading import Loaded, Loading, Unusable
from isa_deploy.evaluate.metrics import Scores, scores
from isa_deploy.evaluate.prediction import Pending, Predictor
from isa_deploy.runtime.pipeline import Behind

__all__ = ["MOST_WORST", "Evaluation", "PictureResult", "Timings", "WorstPicture", "evaluate"]

UInt8 = npt.NDArray[np.uint8]
Int64 = npt.NDArray[np.int64]

T = TypeVar("T")

COUNTING_DEPTH = 2
"""Pictures that wait to be counted.  Counting is faster than any engine, so more would never wait."""

MOST_WORST = 48
"""The most pictures that are kept to be shown: 1 GiB at THUMBNAIL_SIDE squared."""

THUMBNAIL_SIDE = 2048
"""Pictures whose longer side has more pixels are kept smaller."""


@dataclass(frozen=True)
class PictureResult:
    """What one picture gave.

    ``size_hw``: height and width.  ``scores``: of this picture's pixels alone, nan for classes that neither its truth
    nor its labels have.  ``void``: pixels without truth.  ``outside``: pixels whose truth is no class.
    """

    name: str
    image: Path
    truth: Path
    size_hw: tuple[int, int]
    scores: Scores
    void: int
    outside: int


@dataclass(frozen=True)
class WorstPicture:
    """A picture to look at: ``frame_hwc`` uint8 BGR, ``truth_hw`` and ``labels_hw`` uint8, all of one size.

    The longer side is at most 2048 pixels: larger pictures are kept smaller, their labels by the nearest pixel.
    """

    result: PictureResult
    frame_hwc: UInt8
    truth_hw: UInt8
    labels_hw: UInt8


@dataclass(frozen=True)
class Timings:
    """Where the time went, in seconds.

    The calling thread's: ``engine_wait_s`` (giving pictures to the engine and taking labels, which for some engines
    are finished there), ``reading_wait_s`` (the engine had nothing because no picture was read yet),
    ``counting_wait_s`` (labels waited because the counting was behind).  The other threads' own, which overlap those:
    ``reading_s`` (pictures and truth, all reading threads added up), ``counting_s`` (confusion matrix and scores),
    ``handing_on_s`` (what was done with the labels besides).
    """

    engine_wait_s: float
    reading_wait_s: float
    counting_wait_s: float
    reading_s: float
    counting_s: float
    handing_on_s: float


@dataclass(frozen=True)
class Evaluation:
    """A data set's result.

    ``counts_tl``: int64 (classes + 1) x classes, as :class:`ConfusionMatrix`.  ``pictures``: one each that was used, in
    the order of the samples.  ``left_out``: the names of the others, in that order, to why.  ``worst``: those with the
    lowest mIoU, the lowest first; of equal ones the earlier sample.  ``seconds``: wall clock from the first picture's
    reading to the last one's counting.
    """

    counts_tl: Int64
    scores: Scores
    pictures: tuple[PictureResult, ...]
    left_out: dict[str, str]
    worst: tuple[WorstPicture, ...]
    seconds: float
    timings: Timings

    @property
    def engine_wait_s(self) -> float:
        """:attr:`Timings.engine_wait_s`."""
        return self.timings.engine_wait_s

    @property
    def frames_per_second(self) -> float:
        """Pictures used a second of wall clock."""
        return len(self.pictures) / max(self.seconds, 1e-9)


def evaluate(
    predictor: Predictor,
    dataset: Dataset,
    listing: Listing,
    *,
    keep_worst: int = 12,
    limit: int | None = None,
    strict: bool = False,
    on_labels: Callable[[Sample, UInt8], None] | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Evaluation:
    """Every sample of a listing through the engine, counted against its truth.

    ``keep_worst``: how many of the worst pictures are kept, 0 to 48.  ``limit``: only so many samples, from the first.
    ``on_labels``: called with each sample's labels (uint8 H x W) in the order of the samples, in the counting thread.
    ``progress``: called in the calling thread with the samples that the engine is done with, and their number.

    A sample that cannot be read, whose picture and truth differ in size, or whose size the engine cannot take, is left
    out and named in the result.  ``strict``: the first such sample is an error, and so is one with truth outside
    of the classes, a picture without labels and labels without a picture.

    Raises :class:`InputError` for those, where no sample at all can be used, and for numbers that make no sense;
    :class:`isa_deploy.errors.EngineError` where the engine fails; and what the callbacks raise.  No thread of this is
    left in any case, also after a Ctrl-C.
    """
    if limit is not None and limit < 1:
        raise InputError(f"a limit of {limit} pictures: it must be 1 or more")
    if not 0 <= keep_worst <= MOST_WORST:
        raise InputError(f"{keep_worst} worst pictures to keep: it must be 0 to {MOST_WORST}")
    if dataset.classes is not None and len(dataset.classes) != predictor.classes:
        raise InputError(
            f"{dataset.title} has {len(dataset.classes)} classes and the engine {predictor.classes}; "
            "use the engine of a model that was trained on this data set"
        )
    if strict:
        _check_complete(listing)
    samples = listing.samples[:limit]
    if not samples:
        raise InputError(f"{dataset.title}: no picture has labels, so nothing can be measured; check the folder")
    begun = time.perf_counter()
    run = _Run(len(samples), strict, progress)
    counting = _Counting(predictor.classes, keep_worst, on_labels)
    with (
        Loading(dataset, samples, predictor.classes, outside_allowed=not strict) as loading,
        Behind(counting.count, COUNTING_DEPTH) as behind,
    ):
        run.through(predictor, loading, behind)
    if not counting.pictures:
        first = run.left_out[samples[0].name]
        raise InputError(f"none of {len(samples)} pictures could be used: {first}")
    return Evaluation(
        counts_tl=counting.matrix.counts_tl,
        scores=scores(counting.matrix.counts_tl),
        pictures=tuple(counting.pictures),
        left_out={sample.name: run.left_out[sample.name] for sample in samples if sample.name in run.left_out},
        worst=counting.worst.sorted(),
        seconds=time.perf_counter() - begun,
        timings=Timings(
            engine_wait_s=run.engine_wait_s,
            reading_wait_s=loading.starved_s,
            counting_wait_s=run.counting_wait_s,
            reading_s=loading.reading_s,
            counting_s=counting.counting_s,
            handing_on_s=counting.handing_on_s,
        ),
    )


@dataclass(frozen=True)
class _Predicted:
    loaded: Loaded
    labels_hw: UInt8


class _Run:
    """What the calling thread does: pictures to the engine, labels to the counting thread."""

    def __init__(self, samples: int, strict: bool, progress: Callable[[int, int], None]) -> None:
        self._samples = samples
        self._strict = strict
        self._progress = progress
        self._done = 0
        self.left_out: dict[str, str] = {}
        self.engine_wait_s = 0.0
        self.counting_wait_s = 0.0

    def through(self, predictor: Predictor, loading: Loading, behind: Behind[_Predicted]) -> None:
        """All pictures; as many under way as the predictor takes, and one more while the oldest's labels are taken."""
        under_way: deque[tuple[Loaded, Pending[UInt8]]] = deque()
        for item in loading:
            if isinstance(item, Unusable):
                self._leave_out(item.sample, item.reason)
                continue
            pending = self._engine(item.sample, partial(predictor.submit, item.frame_hwc))
            if pending is not None:
                under_way.append((item, pending))
            if len(under_way) > predictor.capacity:
                self._take(*under_way.popleft(), behind)
        while under_way:
            self._take(*under_way.popleft(), behind)

    def _take(self, loaded: Loaded, pending: Pending[UInt8], behind: Behind[_Predicted]) -> None:
        labels_hw = self._engine(loaded.sample, pending.result)
        if labels_hw is None:
            return
        begun = time.perf_counter()
        behind.put(_Predicted(loaded, labels_hw))
        self.counting_wait_s += time.perf_counter() - begun
        self._count_one()

    def _engine(self, sample: Sample, work: Callable[[], T]) -> T | None:
        """What the engine answers; None where it cannot take the sample, which is left out."""
        begun = time.perf_counter()
        try:
            return work()
        except InputError as error:
            self._leave_out(sample, str(error))
            return None
        finally:
            self.engine_wait_s += time.perf_counter() - begun

    def _leave_out(self, sample: Sample, reason: str) -> None:
        if self._strict:
            raise InputError(f"{sample.name}: {reason}; leave --strict away to go on") from None
        self.left_out[sample.name] = reason
        self._count_one()

    def _count_one(self) -> None:
        self._done += 1
        self._progress(self._done, self._samples)


class _Counting:
    """What the counting thread does with each picture, in the order of the samples."""

    def __init__(self, classes: int, keep_worst: int, on_labels: Callable[[Sample, UInt8], None] | None) -> None:
        self.matrix = ConfusionMatrix(classes)
        self.pictures: list[PictureResult] = []
        self.worst = _Worst(keep_worst)
        self.counting_s = 0.0
        self.handing_on_s = 0.0
        self._on_labels = on_labels

    def count(self, predicted: _Predicted) -> None:
        begun = time.perf_counter()
        loaded, labels_hw = predicted.loaded, predicted.labels_hw
        sample, truth_hw = loaded.sample, loaded.truth_hw
        counts_tl = self.matrix.add(truth_hw, labels_hw)
        assert sample.truth is not None  # it was read
        result = PictureResult(
            name=sample.name,
            image=sample.image,
            truth=sample.truth,
            size_hw=(int(truth_hw.shape[0]), int(truth_hw.shape[1])),
            scores=scores(counts_tl),
            void=truth_hw.size - int(counts_tl.sum()),
            outside=int(counts_tl[-1].sum()),
        )
        self.pictures.append(result)
        counted = time.perf_counter()
        self.worst.offer(result, loaded.frame_hwc, truth_hw, labels_hw)
        if self._on_labels is not None:
            self._on_labels(sample, labels_hw)
        self.counting_s += counted - begun
        self.handing_on_s += time.perf_counter() - counted


class _Worst:
    """The pictures with the lowest mIoU of those that were offered, ``keep`` at most."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._offered = 0
        # the best one kept stands first; no two have the same number, so pictures themselves are never compared
        self._heap: list[tuple[float, int, WorstPicture]] = []

    def offer(self, result: PictureResult, frame_hwc: UInt8, truth_hw: UInt8, labels_hw: UInt8) -> None:
        self._offered += 1
        rank = (-result.scores.miou, -self._offered)
        if self._keep == 0 or math.isnan(result.scores.miou):
            return  # nothing of it was measured
        if len(self._heap) == self._keep:
            if rank < self._heap[0][:2]:
                return
            heapq.heappop(self._heap)
        picture = WorstPicture(result, _thumbnail(frame_hwc), _fewer_labels(truth_hw), _fewer_labels(labels_hw))
        heapq.heappush(self._heap, (*rank, picture))

    def sorted(self) -> tuple[WorstPicture, ...]:
        """The lowest mIoU first, of equal ones the one that was offered first."""
        return tuple(picture for _, _, picture in sorted(self._heap, key=lambda entry: entry[:2], reverse=True))


def _thumbnail(frame_hwc: UInt8) -> UInt8:
    size_hw = _thumbnail_size(frame_hwc)
    if size_hw == frame_hwc.shape[:2]:
        return frame_hwc
    return np.asarray(cv2.resize(frame_hwc, size_hw[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _fewer_labels(labels_hw: UInt8) -> UInt8:
    size_hw = _thumbnail_size(labels_hw)
    if size_hw == labels_hw.shape:
        return labels_hw
    return np.asarray(cv2.resize(labels_hw, size_hw[::-1], interpolation=cv2.INTER_NEAREST_EXACT), dtype=np.uint8)


def _thumbnail_size(picture: UInt8) -> tuple[int, int]:
    height, width = int(picture.shape[0]), int(picture.shape[1])
    share = min(THUMBNAIL_SIDE / max(height, width), 1.0)
    return max(round(height * share), 1), max(round(width * share), 1)


def _check_complete(listing: Listing) -> None:
    """Raise :class:`InputError` where a picture lacks labels or labels lack a picture."""
    for names, lack in (
        (listing.images_without_labels, "pictures without labels"),
        (listing.labels_without_images, "labels without a picture"),
    ):
        if names:
            raise InputError(f"{len(names)} {lack}, the first {names[0]}; without --strict they are left out")

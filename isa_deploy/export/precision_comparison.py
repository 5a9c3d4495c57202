"""Several precisions of one checkpoint compared: what each costs in accuracy, and what it gains in speed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isa_deploy.errors import EngineError, InputError
from isa_deploy.evaluate.confusion import ConfusionMatrix
from isa_deploy.evaluate.metrics import Scores, scores
from isa_deploy.export.precision_engines import Combination, EnginePool, LabelEngine, open_engine
from isa_deploy.export.precision_timing import Timing, time_in_turns
from isa_deploy.manifest import Manifest

__all__ = [
    "Flip",
    "PrecisionComparison",
    "PrecisionRow",
    "TruthFrame",
    "WorstFrame",
    "compare_precisions",
    "shown_miou",
]

UInt8 = npt.NDArray[np.uint8]
Int64 = npt.NDArray[np.int64]

TOP_FLIPS = 12
WORST_FRAMES = 4
TIMED_FRAMES = 3

CHUNK_BYTES = 256 << 20
"""Frames, and every engine's labels of them, that are in memory at once.  An engine that had to be closed for want of
memory is opened once for as many frames as these."""


@dataclass(frozen=True)
class TruthFrame:
    """A frame (uint8 H x W x 3 BGR, as the network is shown it) and its label map, uint8 H x W, 255 void."""

    name: str
    frame_hwc: UInt8
    truth_hw: UInt8 | None


@dataclass(frozen=True)
class Flip:
    """Pixels that the checkpoint calls ``reference`` and the precision calls ``label`` (both class indices).

    ``share_of_flips``: of all pixels that differ; ``share_of_class``: of those that the checkpoint calls so.
    """

    reference: int
    label: int
    pixels: int
    share_of_flips: float
    share_of_class: float


@dataclass(frozen=True)
class PrecisionRow:
    """One combination over all frames.

    ``runs_in``: the type of its arithmetic, as the engine tells it.  ``agreement``: share of the labels that are
    the checkpoint's.  ``against_reference``: scores with the checkpoint's labels for truth.  ``against_truth``: with
    the label maps, None where there are none.  ``cost``: by how much the mIoU there (:func:`shown_miou`) is
    less than the checkpoint's own, 0 to 1, negative where it is more.  ``flips``: the most frequent of ``differing``
    pixels.
    """

    combination: Combination
    runs_in: str
    agreement: float
    differing: int
    against_reference: Scores
    against_truth: Scores | None
    cost: float | None
    flips: tuple[Flip, ...]
    timing: Timing


@dataclass(frozen=True)
class WorstFrame:
    """A frame on which some combination agrees little with the checkpoint.

    ``combination``: the name of the one that agrees least; ``labels_hw``: its labels; ``agreement``: every
    combination's share of equal labels, by name.
    """

    name: str
    frame_hwc: UInt8
    reference_hw: UInt8
    labels_hw: UInt8
    combination: str
    agreement: dict[str, float]


@dataclass(frozen=True)
class PrecisionComparison:
    """All combinations on the same frames.

    ``rows``: in the order of the combinations.  ``reference_truth``: the checkpoint's own scores on the label maps,
    None where there are none.  ``frames``, ``pixels``: how many were compared; ``truth_frames``: of them with a label
    map; ``outside``: pixels of the label maps whose label is no class and not void.  ``worst``: worst first.
    ``timed_frames`` of ``timed_hw`` pixels were timed.  ``skipped``: combination to why it has no row.
    """

    manifest: Manifest
    reference_name: str
    rows: tuple[PrecisionRow, ...]
    reference_truth: Scores | None
    frames: int
    pixels: int
    truth_frames: int
    outside: int
    worst: tuple[WorstFrame, ...]
    timed_frames: int
    timed_hw: tuple[int, int]
    skipped: dict[str, str]


def compare_precisions(
    reference: Callable[[UInt8], UInt8],
    reference_name: str,
    wanted: Sequence[Combination],
    skipped: Mapping[str, str],
    frames: Iterable[TruthFrame],
    manifest: Manifest,
    progress: Callable[[str], None],
    *,
    open_one: Callable[[Combination], LabelEngine] = open_engine,
) -> PrecisionComparison:
    """Run every combination on every frame and compare it with the checkpoint, and with the truth where there is one.

    ``reference``: a frame to the checkpoint's labels in float32, uint8 H x W.  ``wanted`` and ``skipped``: of
    :func:`~isa_deploy.export.precision_engines.combinations`.  ``frames`` is iterated once, some frames at a time
    (:data:`CHUNK_BYTES`), and each must have arrays of its own.  ``progress`` is told each step in a line.  A
    combination whose engine cannot be opened, or fails, is skipped.

    Raises :class:`InputError` where there is no frame, a label map is not of its frame's size, or a frame cannot be
    taken.
    """
    if len({each.name for each in wanted}) != len(wanted):
        raise ValueError(f"combinations of one name: {[each.name for each in wanted]}")
    classes = len(manifest.classes.names)
    tallies = {each: _Tally(classes) for each in wanted}
    failed: dict[Combination, str] = {}
    seen = _Seen(classes)
    pool = EnginePool(open_one)
    try:
        for chunk in _chunks(frames, 5 + len(wanted)):
            progress(f"precisions: {reference_name}, {_frames_words(seen.frames, chunk)}")
            references = [seen.add(each, reference(each.frame_hwc)) for each in chunk]
            labels: dict[Combination, list[UInt8]] = {}
            for each in wanted:
                if each in failed:
                    continue
                progress(f"precisions: {each.name}, {_frames_words(seen.frames - len(chunk), chunk)}")
                try:
                    engine = pool.get(each)
                    labels[each] = [engine.segment(one.frame_hwc) for one in chunk]
                    tallies[each].runs_in = engine.precision
                except EngineError as error:
                    failed[each] = str(error)
                    pool.drop(each)
                    labels.pop(each, None)
                    continue
                tallies[each].add(chunk, references, labels[each])
            seen.keep_worst(chunk, references, labels)
        if not seen.frames:
            raise InputError("there is no frame to compare the precisions on; give at least one")
        timings = time_in_turns(pool, wanted, seen.timed, failed, progress)
    finally:
        pool.close()
    reference_truth = seen.truth_scores()
    return PrecisionComparison(
        manifest=manifest,
        reference_name=reference_name,
        rows=tuple(tallies[each].row(each, timings[each], reference_truth) for each in wanted if each not in failed),
        reference_truth=reference_truth,
        frames=seen.frames,
        pixels=seen.pixels,
        truth_frames=seen.truth_frames,
        outside=int(seen.truth.counts_tl[-1].sum()),
        worst=_without(seen.worst, {each.name for each in failed}),
        timed_frames=len(seen.timed),
        timed_hw=seen.timed[0].shape[:2],
        skipped={**skipped, **{each.name: reason for each, reason in failed.items()}},
    )


def shown_miou(found: Scores) -> float:
    """The mean IoU of the classes that the truth shows, 0 to 1; nan where it shows none.

    mmsegmentation's mean (``found.miou``) takes in every class that is answered anywhere.  One that the truth does not
    show has IoU 0 there, so on few frames a single stray pixel moves that mean by whole points, and of two precisions
    the better one may have the lower.  Where the truth shows every class the two means are one.
    """
    # the accuracy of a class exists where the truth shows it
    shown = [iou for iou, acc in zip(found.iou, found.acc, strict=True) if math.isfinite(acc)]
    return float(np.mean(shown)) if shown else math.nan


class _Tally:
    """What one combination has answered so far."""

    def __init__(self, classes: int) -> None:
        self.runs_in = ""
        self._reference = ConfusionMatrix(classes)
        self._truth = ConfusionMatrix(classes)

    def add(self, chunk: Sequence[TruthFrame], references: Sequence[UInt8], labels: Sequence[UInt8]) -> None:
        for frame, reference_hw, labels_hw in zip(chunk, references, labels, strict=True):
            self._reference.add(reference_hw, labels_hw)
            if frame.truth_hw is not None:
                self._truth.add(frame.truth_hw, labels_hw)

    def row(self, combination: Combination, timing: Timing, reference_truth: Scores | None) -> PrecisionRow:
        counts_tl = self._reference.counts_tl
        equal, total = int(np.trace(counts_tl)), int(counts_tl.sum())
        against_truth = None if reference_truth is None else scores(self._truth.counts_tl)
        return PrecisionRow(
            combination=combination,
            runs_in=self.runs_in,
            agreement=equal / total,
            differing=total - equal,
            against_reference=scores(counts_tl),
            against_truth=against_truth,
            cost=None
            if reference_truth is None or against_truth is None
            else shown_miou(reference_truth) - shown_miou(against_truth),
            flips=_flips(counts_tl),
            timing=timing,
        )


class _Seen:
    """What all combinations share: the frames that went by, and the checkpoint's answers to them."""

    def __init__(self, classes: int) -> None:
        self.frames = 0
        self.pixels = 0
        self.truth_frames = 0
        self.truth = ConfusionMatrix(classes)
        self.timed: list[UInt8] = []
        self.worst: list[WorstFrame] = []

    def add(self, frame: TruthFrame, reference_hw: UInt8) -> UInt8:
        """Count a frame with the checkpoint's labels of it, which are given back."""
        shape_hw = frame.frame_hwc.shape[:2]
        if frame.truth_hw is not None:
            if frame.truth_hw.shape != shape_hw:
                raise InputError(
                    f"{frame.name}: the label map is {'x'.join(map(str, frame.truth_hw.shape))} and the frame "
                    f"{'x'.join(map(str, shape_hw))}; give label maps of their frames' size"
                )
            self.truth.add(frame.truth_hw, reference_hw)
            self.truth_frames += 1
        self.frames += 1
        self.pixels += reference_hw.size
        # one size, because a median over several would be no frame's
        if len(self.timed) < TIMED_FRAMES and (not self.timed or self.timed[0].shape == frame.frame_hwc.shape):
            self.timed.append(frame.frame_hwc)
        return reference_hw

    def truth_scores(self) -> Scores | None:
        """The checkpoint's own; None without label maps, and where all that they show is void."""
        return scores(self.truth.counts_tl) if self.truth.counts_tl[:-1].any() else None

    def keep_worst(
        self, chunk: Sequence[TruthFrame], references: Sequence[UInt8], labels: Mapping[Combination, Sequence[UInt8]]
    ) -> None:
        """Keep the frames of the least agreement, of these and those before."""
        for number, (frame, reference_hw) in enumerate(zip(chunk, references, strict=True)):
            agreement = {each.name: float((of[number] == reference_hw).mean()) for each, of in labels.items()}
            if not agreement or min(agreement.values()) == 1:
                continue
            least = min(labels, key=lambda each: agreement[each.name])
            self.worst.append(
                WorstFrame(frame.name, frame.frame_hwc, reference_hw, labels[least][number], least.name, agreement)
            )
            self.worst.sort(key=lambda each: min(each.agreement.values()))
            del self.worst[WORST_FRAMES:]


def _chunks(frames: Iterable[TruthFrame], bytes_per_pixel: int) -> Iterator[list[TruthFrame]]:
    chunk: list[TruthFrame] = []
    room = CHUNK_BYTES
    for frame in frames:
        chunk.append(frame)
        room -= frame.frame_hwc.shape[0] * frame.frame_hwc.shape[1] * bytes_per_pixel
        if room <= 0:
            yield chunk
            chunk, room = [], CHUNK_BYTES
    if chunk:
        yield chunk


def _flips(counts_tl: Int64) -> tuple[Flip, ...]:
    flipped_tl = counts_tl[:-1].copy()
    of_class = flipped_tl.sum(axis=1)
    np.fill_diagonal(flipped_tl, 0)
    total = int(flipped_tl.sum())
    order = np.argsort(-flipped_tl, axis=None, kind="stable")[:TOP_FLIPS]
    found = []
    for reference, label in zip(*np.unravel_index(order, flipped_tl.shape), strict=True):
        pixels = int(flipped_tl[reference, label])
        if pixels:
            found.append(Flip(int(reference), int(label), pixels, pixels / total, pixels / int(of_class[reference])))
    return tuple(found)


def _without(worst: Sequence[WorstFrame], failed: set[str]) -> tuple[WorstFrame, ...]:
    """Without combinations that failed later on."""
    return tuple(
        WorstFrame(
            each.name,
            each.frame_hwc,
            each.reference_hw,
            each.labels_hw,
            each.combination,
            {name: share for name, share in each.agreement.items() if name not in failed},
        )
        for each in worst
        if each.combination not in failed
    )


def _frames_words(before: int, chunk: Sequence[TruthFrame]) -> str:
    first, last = before + 1, before + len(chunk)
    return f"frame {first}" if first == last else f"frames {first} to {last}"

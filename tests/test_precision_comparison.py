"""Several precisions are compared on the same frames, with the figures of a naive calculation, in bounded memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from cheap_engine import CLASSES, cheap_manifest
from hypothesis import given
from hypothesis import strategies as st

from isa_deploy.errors import BackendUnavailableError, EngineError, InputError
from isa_deploy.evaluate.metrics import Scores
from isa_deploy.export import precision_comparison, precision_timing
from isa_deploy.export.pareto import Point, front
from isa_deploy.export.precision_comparison import (
    TOP_FLIPS,
    WORST_FRAMES,
    PrecisionComparison,
    TruthFrame,
    compare_precisions,
    shown_miou,
)
from isa_deploy.export.precision_engines import (
    Candidate,
    Combination,
    EnginePool,
    LabelEngine,
    available_bytes,
    combinations,
    open_engine,
)
from isa_deploy.export.precision_timing import MAX_ROUNDS, MIN_ROUNDS, WARM_UP, time_in_turns

UInt8 = npt.NDArray[np.uint8]
VOID = 255


def silent(line: str) -> None:
    """Tell nobody."""


def candidate(precision: str) -> Candidate:
    return Candidate(precision, precision, Path(f"{precision}/model.onnx"), 4.2)


FP32 = Combination(candidate("fp32"), "onnxruntime", "auto")
INT8 = Combination(candidate("int8"), "openvino", "fp32")
BF16 = Combination(candidate("fp32"), "openvino", "bf16")


def labels_of(frame_hwc: UInt8) -> UInt8:
    """A stand-in for the checkpoint: the first channel is the label."""
    return frame_hwc[:, :, 0].copy()


class StandIn:
    """Answers the checkpoint's labels, with those of some pixels moved on by one: where the second channel says so."""

    precision = "fp32"

    def __init__(self, moved_below: int, calls: list[str] | None = None, name: str = "") -> None:
        self.moved_below = moved_below
        self.closed = False
        self._calls = calls
        self._name = name

    def segment(self, frame_hwc: UInt8) -> UInt8:
        if self._calls is not None:
            self._calls.append(self._name)
        labels_hw = labels_of(frame_hwc)
        moved = frame_hwc[:, :, 1] < self.moved_below
        labels_hw[moved] = (labels_hw[moved] + frame_hwc[:, :, 2][moved]) % CLASSES
        return labels_hw

    def close(self) -> None:
        self.closed = True


MOVED = {FP32: 0, INT8: 60, BF16: 9}


def stand_in(combination: Combination) -> LabelEngine:
    return StandIn(MOVED[combination])


def some_frames(count: int, truth: Callable[[int], bool] = lambda number: True, seed: int = 7) -> Iterator[TruthFrame]:
    rng = np.random.default_rng(seed)
    for number in range(count):
        frame_hwc = rng.integers(0, CLASSES, (12, 20, 3), dtype=np.uint8)
        frame_hwc[:, :, 1] = rng.integers(0, 256, (12, 20))
        truth_hw = rng.choice(np.array([*range(CLASSES), 200, VOID], dtype=np.uint8), (12, 20))
        right = rng.random((12, 20)) < 0.7
        truth_hw[right] = frame_hwc[:, :, 0][right]
        truth_hw[truth_hw == CLASSES - 1] = VOID  # answered here and there, and never true
        yield TruthFrame(f"frame {number}", frame_hwc, truth_hw if truth(number) else None)


def compare(frames: Iterator[TruthFrame], wanted: Sequence[Combination] = (FP32, INT8, BF16)) -> PrecisionComparison:
    return compare_precisions(
        labels_of, "the stand-in", wanted, {"left": "why"}, frames, cheap_manifest(), silent, open_one=stand_in
    )


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision_timing, "MAX_ROUNDS", 2)


def naive_iou(pairs: Counter[tuple[int, int]]) -> tuple[list[float], float]:
    """IoU a class of (truth, label) counts without void, and its mean over the classes of the truth."""
    iou, shown = [], []
    for label in range(CLASSES):
        both = pairs[label, label]
        either = sum(count for pair, count in pairs.items() if label in pair)
        iou.append(both / either if either else math.nan)
        if any(truth == label for truth, _ in pairs):
            shown.append(iou[-1])
    return iou, sum(shown) / len(shown) if shown else math.nan


def count_pairs(truths: Sequence[UInt8], labels: Sequence[UInt8]) -> Counter[tuple[int, int]]:
    pairs: Counter[tuple[int, int]] = Counter()
    for truth_hw, labels_hw in zip(truths, labels, strict=True):
        for truth, label in zip(truth_hw.ravel().tolist(), labels_hw.ravel().tolist(), strict=True):
            if truth != VOID:
                pairs[truth, label] += 1
    return pairs


@pytest.mark.parametrize("chunk_bytes", [1, 5000, 1 << 28], ids=["one by one", "in chunks", "at once"])
def test_the_figures_are_those_of_a_naive_calculation(chunk_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision_comparison, "CHUNK_BYTES", chunk_bytes)
    found = compare(some_frames(9, truth=lambda number: number % 3 != 1))
    frames = list(some_frames(9, truth=lambda number: number % 3 != 1))
    references = [labels_of(each.frame_hwc) for each in frames]
    with_truth = [number for number, each in enumerate(frames) if each.truth_hw is not None]
    truths = [frames[number].truth_hw for number in with_truth]
    own_iou, own_miou = naive_iou(count_pairs(truths, [references[number] for number in with_truth]))
    assert found.reference_truth is not None
    assert found.reference_truth.iou == pytest.approx(own_iou, abs=1e-12, nan_ok=True)
    assert (found.frames, found.truth_frames, found.pixels) == (9, 6, 9 * 240)
    assert found.outside == sum(int((each == 200).sum()) for each in truths)
    assert found.skipped == {"left": "why"}
    assert [row.combination for row in found.rows] == [FP32, INT8, BF16]
    for row in found.rows:
        labels = [stand_in(row.combination).segment(each.frame_hwc) for each in frames]
        pairs = count_pairs(references, labels)
        iou, _ = naive_iou(pairs)
        assert row.against_reference.iou == pytest.approx(iou, abs=1e-12, nan_ok=True)
        differing = sum(count for (truth, label), count in pairs.items() if truth != label)
        assert row.differing == differing
        assert row.agreement == pytest.approx(1 - differing / found.pixels, abs=1e-12)
        truth_iou, truth_miou = naive_iou(count_pairs(truths, [labels[number] for number in with_truth]))
        assert row.against_truth is not None
        assert row.against_truth.iou == pytest.approx(truth_iou, abs=1e-12, nan_ok=True)
        assert row.cost == pytest.approx(own_miou - truth_miou, abs=1e-12)
        flips = sorted((count for (truth, label), count in pairs.items() if truth != label), reverse=True)
        assert [flip.pixels for flip in row.flips] == flips[:TOP_FLIPS]
        for flip in row.flips:
            assert pairs[flip.reference, flip.label] == flip.pixels
            of_class = sum(count for (truth, _), count in pairs.items() if truth == flip.reference)
            assert flip.share_of_flips == pytest.approx(flip.pixels / differing)
            assert flip.share_of_class == pytest.approx(flip.pixels / of_class)


def test_equal_labels_have_no_flips_no_cost_and_no_worst_frame() -> None:
    found = compare(some_frames(3), [FP32])
    (row,) = found.rows
    assert (row.agreement, row.differing, row.flips, row.cost) == (1.0, 0, (), 0.0)
    assert found.worst == ()


def test_without_label_maps_there_is_no_cost() -> None:
    found = compare(some_frames(3, truth=lambda number: False))
    assert found.reference_truth is None
    assert all(row.against_truth is None and row.cost is None for row in found.rows)


def test_label_maps_of_void_alone_are_no_truth() -> None:
    void_hw = np.full((12, 20), VOID, dtype=np.uint8)
    found = compare(TruthFrame(each.name, each.frame_hwc, void_hw) for each in some_frames(2))
    assert found.reference_truth is None
    assert all(row.cost is None for row in found.rows)


def test_a_stray_pixel_of_a_class_that_the_truth_does_not_show_leaves_the_mean_alone() -> None:
    clean = Scores(iou=(0.8, 0.6, math.nan), acc=(0.9, 0.7, math.nan), miou=0.7, macc=0.8, aacc=0.8)
    stray = Scores(iou=(0.8, 0.6, 0.0), acc=(0.9, 0.7, math.nan), miou=1.4 / 3, macc=0.8, aacc=0.8)
    assert shown_miou(clean) == shown_miou(stray) == pytest.approx(0.7)
    assert math.isnan(shown_miou(Scores((math.nan,), (math.nan,), math.nan, math.nan, math.nan)))


def test_the_worst_frames_are_those_of_the_least_agreement_and_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision_comparison, "CHUNK_BYTES", 5000)
    found = compare(some_frames(20))
    shares = {}
    for each in some_frames(20):
        shares[each.name] = float((stand_in(INT8).segment(each.frame_hwc) == labels_of(each.frame_hwc)).mean())
    least = sorted(shares.values())[:WORST_FRAMES]
    assert [min(each.agreement.values()) for each in found.worst] == least
    for worst in found.worst:
        assert worst.combination == INT8.name
        assert worst.agreement[INT8.name] == shares[worst.name]
        assert set(worst.agreement) == {FP32.name, INT8.name, BF16.name}
        assert float((worst.labels_hw == worst.reference_hw).mean()) == shares[worst.name]


def test_frames_are_taken_from_the_iterator_as_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision_comparison, "CHUNK_BYTES", 1)
    taken: list[int] = []
    answered: list[int] = []

    def frames() -> Iterator[TruthFrame]:
        for number, each in enumerate(some_frames(6)):
            taken.append(number)
            yield each

    def reference(frame_hwc: UInt8) -> UInt8:
        answered.append(len(taken))
        return labels_of(frame_hwc)

    compare_precisions(reference, "it", [FP32], {}, frames(), cheap_manifest(), silent, open_one=stand_in)
    assert answered == [1, 2, 3, 4, 5, 6]


def test_an_engine_that_cannot_be_opened_or_fails_is_skipped_with_its_reason() -> None:
    class Failing(StandIn):
        def segment(self, frame_hwc: UInt8) -> UInt8:
            raise EngineError("int8: the engine failed")

    failing = Failing(0)

    def open_one(combination: Combination) -> LabelEngine:
        if combination is BF16:
            raise BackendUnavailableError("OpenVINO is not installed")
        return failing if combination is INT8 else StandIn(0)

    found = compare_precisions(
        labels_of, "it", [FP32, INT8, BF16], {}, some_frames(3), cheap_manifest(), silent, open_one=open_one
    )
    assert [row.combination for row in found.rows] == [FP32]
    assert found.skipped == {INT8.name: "int8: the engine failed", BF16.name: "OpenVINO is not installed"}
    assert failing.closed


def test_an_engine_that_fails_later_has_no_row_and_no_frame_among_the_worst() -> None:
    class FailingLate(StandIn):
        answers = 5

        def segment(self, frame_hwc: UInt8) -> UInt8:
            self.answers -= 1
            if self.answers < 0:
                raise EngineError("out of memory")
            return super().segment(frame_hwc)

    def open_one(combination: Combination) -> LabelEngine:
        return FailingLate(200) if combination is INT8 else stand_in(combination)

    found = compare_precisions(
        labels_of, "it", [FP32, INT8, BF16], {}, some_frames(4), cheap_manifest(), silent, open_one=open_one
    )
    assert [row.combination for row in found.rows] == [FP32, BF16]
    assert found.skipped == {INT8.name: "out of memory"}
    assert all(INT8.name not in (each.combination, *each.agreement) for each in found.worst)


def test_every_engine_is_closed_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[StandIn] = []

    def open_one(combination: Combination) -> LabelEngine:
        opened.append(StandIn(0))
        return opened[-1]

    def broken() -> Iterator[TruthFrame]:
        yield from some_frames(1)
        raise InputError("frame 2: cannot be read")

    monkeypatch.setattr(precision_comparison, "CHUNK_BYTES", 1)
    with pytest.raises(InputError, match="frame 2"):
        compare_precisions(labels_of, "it", [FP32, INT8], {}, broken(), cheap_manifest(), silent, open_one=open_one)
    assert len(opened) == 2
    assert all(each.closed for each in opened)


def test_no_frame_at_all_is_refused() -> None:
    with pytest.raises(InputError, match="no frame"):
        compare(iter(()))


def test_a_label_map_of_another_size_is_refused_by_name() -> None:
    frame = next(some_frames(1))
    wrong = TruthFrame("street.png", frame.frame_hwc, np.zeros((20, 12), np.uint8))
    with pytest.raises(InputError, match=r"street.png: the label map is 20x12 and the frame 12x20"):
        compare(iter([wrong]))


def test_the_engines_take_turns_and_each_warms_up_before_it_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision_timing, "MAX_ROUNDS", 3)
    calls: list[str] = []
    names = {FP32: "A", INT8: "B", BF16: "C"}
    pool = EnginePool(lambda combination: StandIn(0, calls, names[combination]), lambda: None)
    ticks = iter(range(10_000))
    frames = [each.frame_hwc for each in some_frames(2)]
    timings = time_in_turns(pool, list(names), frames, {}, silent, clock=lambda: next(ticks) / 1000)
    first = "".join(name * (WARM_UP + 2) for name in "ABC")
    later = "".join(name * (1 + 2) for name in "ABC")
    assert "".join(calls) == first + later + later
    assert all(timing.samples_ms == pytest.approx([1.0] * 6) for timing in timings.values())


def test_the_median_is_of_all_calls_and_slow_machines_get_fewer_rounds() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision_timing, "MAX_ROUNDS", MAX_ROUNDS)
        pool = EnginePool(lambda combination: StandIn(0), lambda: None)
        now = [0.0]

        def clock() -> float:
            now[0] += 7.0
            return now[0]

        timings = time_in_turns(pool, [FP32], [next(some_frames(1)).frame_hwc], {}, silent, clock)
    assert timings[FP32].samples_ms == (7000.0,) * MIN_ROUNDS
    assert precision_timing.Timing((9.0, 1.0, 2.0)).ms == 2.0


def test_only_frames_of_one_size_are_timed() -> None:
    small, *others = some_frames(4)
    large = TruthFrame("large", np.zeros((24, 40, 3), np.uint8), None)
    assert compare(iter([small, large, others[0]])).timed_frames == 2
    found = compare(iter([small, large, *others]))
    assert (found.timed_frames, found.timed_hw) == (3, (12, 20))


def test_where_memory_runs_short_the_engine_used_longest_ago_is_closed() -> None:
    free = [1300]
    opened: dict[Combination, list[StandIn]] = {}

    class Heavy(StandIn):
        def close(self) -> None:
            super().close()
            free[0] += 400

    def open_one(combination: Combination) -> LabelEngine:
        free[0] -= 400
        opened.setdefault(combination, []).append(Heavy(0))
        return opened[combination][-1]

    pool = EnginePool(open_one, lambda: free[0])
    pool.get(FP32)
    pool.get(INT8)  # leaves 500, and a third would leave 100: a quarter of 1300 must stay free
    assert pool.is_open(FP32)
    pool.get(FP32)
    pool.get(BF16)
    assert not pool.is_open(INT8)
    assert opened[INT8][0].closed
    pool.get(INT8)
    assert len(opened[INT8]) == 2
    pool.close()
    assert free[0] == 1300


def test_the_memory_that_is_left_is_known_here_or_not_asked_for() -> None:
    left = available_bytes()
    assert left is None or left > 1 << 20


def test_each_file_runs_where_it_shows_something_and_the_rest_has_a_reason() -> None:
    files = [candidate(precision) for precision in ("fp32", "fp16", "bf16", "int8")]
    skipped: dict[str, str] = {}
    with_bf16 = [each.name for each in combinations(files, skipped, has_bf16=True)]
    assert with_bf16 == [
        "fp32 on ONNX Runtime",
        "fp32 on OpenVINO",
        "fp32 on OpenVINO, computed in bf16",
        "fp16 on OpenVINO, computed in fp32",
        "bf16 on OpenVINO",
        "int8 on ONNX Runtime",
        "int8 on OpenVINO, rest fp32",
        "int8 on OpenVINO, rest bf16",
    ]
    assert set(skipped) == {"bf16 on ONNX Runtime"}
    skipped = {}
    without = [each.name for each in combinations(files, skipped, has_bf16=False)]
    assert "bf16 on OpenVINO, computed in fp32" in without
    assert set(skipped) == {
        "bf16 on ONNX Runtime",
        "fp32 on OpenVINO, computed in bf16",
        "bf16 on OpenVINO",
        "int8 on OpenVINO, rest bf16",
    }
    assert not set(skipped) & set(without)


def test_real_engines_of_one_file_agree_with_one_another(streets_onnx: Path, golden: Path) -> None:
    import cv2

    from isa_deploy.manifest import read_manifest

    frame_hwc = np.asarray(cv2.imread(str(golden / "img_65x97.png"), cv2.IMREAD_COLOR), dtype=np.uint8)
    file = Candidate("fp32", "fp32", streets_onnx / "model.onnx", 3.3)
    wanted = [Combination(file, "onnxruntime", "auto"), Combination(file, "openvino", "fp32")]
    with EnginesOf(wanted[0]) as engine:
        found = compare_precisions(
            engine.segment,
            "ONNX Runtime",
            wanted,
            {},
            iter([TruthFrame("img", frame_hwc, None)]),
            read_manifest(streets_onnx / "model.json"),
            silent,
        )
    assert found.skipped == {}
    assert [row.runs_in for row in found.rows] == ["fp32", "fp32"]
    assert found.rows[0].agreement == 1
    assert found.rows[1].agreement > 0.999
    assert all(row.timing.ms > 0 for row in found.rows)


class EnginesOf:
    """An engine for the length of a block."""

    def __init__(self, combination: Combination) -> None:
        self._engine = open_engine(combination)

    def __enter__(self) -> LabelEngine:
        return self._engine

    def __exit__(self, *error: object) -> None:
        self._engine.close()


points = st.lists(
    st.builds(
        Point,
        name=st.uuids().map(str),
        ms=st.integers(1, 12).map(float),
        miou=st.integers(0, 12).map(float),
        kind=st.just("fp32"),
    ),
    max_size=12,
)


def beats(one: Point, other: Point) -> bool:
    return one.ms <= other.ms and one.miou >= other.miou and (one.ms < other.ms or one.miou > other.miou)


@given(points)
def test_the_front_is_every_point_that_no_other_beats(given_points: list[Point]) -> None:
    wanted = [each for each in given_points if not any(beats(other, each) for other in given_points)]
    found = front(given_points)
    assert sorted(found, key=lambda each: each.name) == sorted(wanted, key=lambda each: each.name)
    assert [each.ms for each in found] == sorted(each.ms for each in found)
    assert [each.miou for each in found] == sorted(each.miou for each in found)

"""A data set through an engine: what is counted, what is left out, and threads that overlap and always end."""

from __future__ import annotations

import _thread
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from cheap_engine import CLASSES, STRIDE, cheap_segmenter

from isa_deploy.errors import EngineError, InputError
from isa_deploy.evaluate import loading
from isa_deploy.evaluate.confusion import ConfusionMatrix
from isa_deploy.evaluate.dataset import Listing, Sample
from isa_deploy.evaluate.evaluation import MOST_WORST, Evaluation, evaluate
from isa_deploy.evaluate.loading import DEPTH, Loading
from isa_deploy.evaluate.metrics import scores
from isa_deploy.evaluate.prediction import Pending, PlainPredictor, TiledPredictor
from isa_deploy.runtime.images import read_image, write_png
from isa_deploy.runtime.segmenter import Segmenter
from isa_deploy.runtime.tiling import Tiling

UInt8 = npt.NDArray[np.uint8]

HEIGHT, WIDTH = 40, 56
STEP = 256 // CLASSES


@dataclass
class Folder:
    """A data set of PNG files: pictures in one folder, truth in another, numbered."""

    root: Path
    samples: list[Sample] = field(default_factory=list)
    classes: tuple[str, ...] | None = None
    key: str = "folder"
    title: str = "a folder"
    flip_pairs: tuple[tuple[int, int], ...] = ()
    reads: int = 0

    def add(self, frame_hwc: UInt8, truth_hw: UInt8) -> Sample:
        name = f"town/{len(self.samples):03}"
        stem = name.replace("/", "_")
        sample = Sample(name, self.root / f"{stem}.png", self.root / f"{stem}_labels.png")
        assert sample.truth is not None
        write_png(sample.image, frame_hwc)
        write_png(sample.truth, truth_hw)
        self.samples.append(sample)
        return sample

    def images(self) -> tuple[Sample, ...]:
        return tuple(self.samples)

    def listing(self) -> Listing:
        return Listing(tuple(self.samples), (), ())

    def read_truth(self, sample: Sample) -> UInt8:
        assert sample.truth is not None
        self.reads += 1
        return np.ascontiguousarray(read_image(sample.truth)[..., 0])


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert own_threads() == []


def own_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name in ("isa-ahead", "isa-behind")]


def picture(label_hw: UInt8) -> UInt8:
    """What the cheap engine sees as those labels: H x W of classes, each 8 x 8 cell of one."""
    return np.repeat((label_hw * STEP + STEP // 2)[..., None], 3, axis=2).astype(np.uint8)


def flat(label: int, height: int = HEIGHT, width: int = WIDTH) -> UInt8:
    return np.full((height, width), label, np.uint8)


def drawn(seed: int) -> tuple[UInt8, UInt8]:
    """A random picture and a truth that is often, not always, what the engine says of it; some of it void."""
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, CLASSES, (HEIGHT // STRIDE, WIDTH // STRIDE), dtype=np.uint8)
    labels = np.kron(cells, np.ones((STRIDE, STRIDE), np.uint8))
    truth = np.where(rng.random(labels.shape) < 0.3, rng.integers(0, CLASSES, labels.shape), labels)
    truth[rng.random(labels.shape) < 0.1] = 255
    return picture(labels), truth.astype(np.uint8)


def fill(folder: Folder, pictures: int) -> Folder:
    for seed in range(pictures):
        folder.add(*drawn(seed))
    return folder


def run(folder: Folder, predictor: Any = None, **options: Any) -> Evaluation:
    return evaluate(predictor or PlainPredictor(cheap_segmenter()), folder, folder.listing(), **options)


def outcome(evaluation: Evaluation) -> Any:
    """All that must not depend on timing."""
    worst = [(w.result.name, w.frame_hwc.tobytes(), w.labels_hw.tobytes()) for w in evaluation.worst]
    return evaluation.counts_tl.tolist(), repr(evaluation.pictures), list(evaluation.left_out.items()), worst


# ------------------------------------------------------------------- what is counted


def test_the_result_is_what_one_picture_after_the_other_gives(folder: Folder) -> None:
    fill(folder, 7)
    evaluation = run(folder)
    matrix, segmenter = ConfusionMatrix(CLASSES), cheap_segmenter()
    for sample, result in zip(folder.samples, evaluation.pictures, strict=True):
        truth = folder.read_truth(sample)
        own = matrix.add(truth, segmenter.segment(read_image(sample.image)))
        assert (result.name, result.image, result.truth) == (sample.name, sample.image, sample.truth)
        assert repr(result.scores) == repr(scores(own))
        assert result.size_hw == (HEIGHT, WIDTH)
        assert result.void == int((truth == 255).sum()) > 0
        assert result.outside == 0
    np.testing.assert_array_equal(evaluation.counts_tl, matrix.counts_tl)
    assert repr(evaluation.scores) == repr(scores(matrix.counts_tl))
    assert 0.3 < evaluation.scores.miou < 0.9
    assert evaluation.left_out == {}


def test_the_trained_models_labels_are_counted_as_those_of_mmsegmentation(golden: Path, streets_onnx: Path) -> None:
    samples = [Sample(f"scene_{n}", golden / f"scene_{n}.png", golden / f"scene_{n}_gt.png") for n in range(3)]
    folder = Folder(golden, samples)
    with Segmenter.open(streets_onnx, precision="fp32") as segmenter:
        evaluation = run(folder, PlainPredictor(segmenter))
    matrix = ConfusionMatrix(19)
    with np.load(golden / "streets.npz") as wanted:
        for number, sample in enumerate(samples):
            matrix.add(folder.read_truth(sample), wanted[f"labels_{number}"])
    np.testing.assert_array_equal(evaluation.counts_tl, matrix.counts_tl)


@pytest.mark.parametrize("readers", [1, 2, 3, 16])
def test_the_result_does_not_depend_on_which_thread_is_the_faster_one(
    folder: Folder, readers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, 9)
    assert folder.samples[4].truth is not None
    folder.samples[4].truth.write_bytes(b"no picture")
    expected = outcome(run(folder, keep_worst=4))
    rng = random.Random(readers)
    pauses = [rng.choice([0, 0, 0.004]) for _ in range(400)]
    read_truth, count = folder.read_truth, ConfusionMatrix.add

    def slowly_read(sample: Sample) -> UInt8:
        time.sleep(pauses.pop())
        return read_truth(sample)

    def slowly_count(matrix: ConfusionMatrix, *pictures: UInt8) -> Any:
        time.sleep(pauses.pop())
        return count(matrix, *pictures)

    monkeypatch.setattr(folder, "read_truth", slowly_read)
    monkeypatch.setattr(ConfusionMatrix, "add", slowly_count)
    monkeypatch.setattr(loading, "_readers", lambda: readers)
    for _ in range(3):
        assert outcome(run(folder, keep_worst=4)) == expected


def test_a_limit_takes_the_first_samples(folder: Folder) -> None:
    fill(folder, 5)
    assert [result.name for result in run(folder, limit=2).pictures] == ["town/000", "town/001"]
    assert len(run(folder, limit=99).pictures) == 5


def test_labels_are_handed_on_in_the_order_of_the_samples(folder: Folder) -> None:
    fill(folder, 6)
    seen: list[tuple[str, bytes]] = []
    run(folder, on_labels=lambda sample, labels_hw: seen.append((sample.name, labels_hw.tobytes())))
    segmenter = cheap_segmenter()
    assert seen == [(sample.name, segmenter.segment(read_image(sample.image)).tobytes()) for sample in folder.samples]


def test_progress_counts_used_and_unused_samples_one_by_one(folder: Folder) -> None:
    fill(folder, 5)
    folder.samples[2].image.write_bytes(b"")
    said: list[tuple[int, int]] = []
    run(folder, progress=lambda done, of: said.append((done, of)))
    assert said == [(done, 5) for done in range(1, 6)]


def test_tiles_can_be_measured_too(folder: Folder) -> None:
    fill(folder, 3)
    segmenter = cheap_segmenter()
    tiled = run(folder, TiledPredictor(segmenter, Tiling("tiles", (32, 32), 8)))
    assert tiled.scores.miou > 0.3
    assert len(tiled.pictures) == 3


def test_times_are_told_for_each_part(folder: Folder) -> None:
    fill(folder, 3)
    evaluation = run(folder)
    times = evaluation.timings
    waits = times.engine_wait_s + times.reading_wait_s + times.counting_wait_s
    assert 0 < waits <= evaluation.seconds
    assert min(times.reading_s, times.counting_s, evaluation.engine_wait_s) > 0
    assert evaluation.frames_per_second == pytest.approx(3 / evaluation.seconds)


# ------------------------------------------------------------------- what is left out


def spoil(folder: Folder) -> dict[str, str]:
    """Makes four of eight samples unusable, each in its way; what their reasons say."""
    fill(folder, 8)
    folder.samples[1].image.write_bytes(b"no picture")
    truth = folder.samples[3].truth
    assert truth is not None
    write_png(truth, flat(0, HEIGHT, WIDTH + 1))
    folder.samples[4].image.unlink()
    other = folder.samples[6].truth
    assert other is not None
    other.write_bytes(other.read_bytes()[:50])
    return {
        "town/001": r"town_001\.png",
        "town/003": f"is {HEIGHT}x{WIDTH}.*are {HEIGHT}x{WIDTH + 1}",
        "town/004": r"town_004\.png",
        "town/006": r"town_006_labels\.png",
    }


def test_samples_that_cannot_be_used_are_left_out_and_named_in_order(folder: Folder) -> None:
    reasons = spoil(folder)
    evaluation = run(folder)
    assert list(evaluation.left_out) == list(reasons)
    for name, pattern in reasons.items():
        assert re.search(pattern, evaluation.left_out[name])
        assert "\n" not in evaluation.left_out[name]
    assert [result.name for result in evaluation.pictures] == ["town/000", "town/002", "town/005", "town/007"]
    used = [folder.samples[number] for number in (0, 2, 5, 7)]
    alone = run(Folder(folder.root, used))
    np.testing.assert_array_equal(evaluation.counts_tl, alone.counts_tl)


def test_strict_stops_at_the_first_sample_that_cannot_be_used(folder: Folder) -> None:
    spoil(folder)
    with pytest.raises(InputError, match=r"^town/001: .*leave --strict away to go on$"):
        run(folder, strict=True)
    assert len(run(folder, strict=True, limit=1).pictures) == 1


def test_where_nothing_can_be_used_the_first_reason_is_told(folder: Folder) -> None:
    fill(folder, 3)
    for sample in folder.samples:
        sample.image.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"^none of 3 pictures could be used: .*town_000\.png"):
        run(folder)


def test_a_listing_without_samples_is_refused(folder: Folder) -> None:
    with pytest.raises(InputError, match="no picture has labels"):
        run(folder)


def test_truth_outside_of_the_classes_is_counted_for_each_picture_and_strict_refuses_it(folder: Folder) -> None:
    fill(folder, 2)
    frame, truth = drawn(5)
    truth[:3, :4] = CLASSES
    truth[0, 9] = 254
    folder.add(frame, truth)
    evaluation = run(folder)
    assert [result.outside for result in evaluation.pictures] == [0, 0, 13]
    assert evaluation.counts_tl[-1].sum() == 13
    assert evaluation.pictures[2].void == int((truth == 255).sum())
    with pytest.raises(InputError, match=r"^town/002: .*13 pixels are labelled outside of the 8 classes.*with 8"):
        run(folder, strict=True)


@pytest.mark.parametrize(
    ("listing", "message"),
    [
        (Listing((), ("a", "b"), ()), r"^2 pictures without labels, the first a;"),
        (Listing((), (), ("c",)), r"^1 labels without a picture, the first c;"),
    ],
)
def test_strict_refuses_a_listing_with_something_missing(folder: Folder, listing: Listing, message: str) -> None:
    fill(folder, 1)
    incomplete = Listing(tuple(folder.samples), listing.images_without_labels, listing.labels_without_images)
    predictor = PlainPredictor(cheap_segmenter())
    assert len(evaluate(predictor, folder, incomplete).pictures) == 1
    with pytest.raises(InputError, match=message):
        evaluate(predictor, folder, incomplete, strict=True)
    assert folder.reads == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0}, "a limit of 0"),
        ({"keep_worst": -1}, "-1 worst"),
        ({"keep_worst": MOST_WORST + 1}, f"{MOST_WORST + 1} worst"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(folder: Folder, options: dict[str, int], message: str) -> None:
    fill(folder, 1)
    with pytest.raises(InputError, match=message):
        run(folder, **options)


def test_a_data_set_of_another_number_of_classes_is_refused(folder: Folder) -> None:
    fill(folder, 1)
    folder.classes = ("one", "two")
    with pytest.raises(InputError, match="a folder has 2 classes and the engine 8"):
        run(folder)


# ------------------------------------------------------------------- the worst pictures


def test_the_worst_are_those_with_the_lowest_miou_the_lowest_first_and_the_earlier_of_equals(folder: Folder) -> None:
    for wrong in (0, 20, 40, 10, 40, 0, 30):  # columns that are not what the engine says
        truth = flat(2)
        truth[:, :wrong] = 3
        folder.add(picture(flat(2)), truth)
    evaluation = run(folder, keep_worst=3)
    assert [worst.result.name for worst in evaluation.worst] == ["town/002", "town/004", "town/006"]
    by_name = {result.name: result for result in evaluation.pictures}
    for worst in evaluation.worst:
        sample = folder.samples[int(worst.result.name[-3:])]
        assert worst.result is by_name[worst.result.name]
        np.testing.assert_array_equal(worst.frame_hwc, read_image(sample.image))
        np.testing.assert_array_equal(worst.truth_hw, folder.read_truth(sample))
        np.testing.assert_array_equal(worst.labels_hw, flat(2))
    assert run(folder, keep_worst=0).worst == ()
    assert [worst.result.name[-1] for worst in run(folder).worst] == ["2", "4", "6", "1", "3", "0", "5"]


def test_a_picture_that_is_all_void_is_counted_and_is_not_among_the_worst(folder: Folder) -> None:
    folder.add(picture(flat(1)), flat(255))
    folder.add(picture(flat(1)), flat(1))
    evaluation = run(folder)
    assert evaluation.pictures[0].void == HEIGHT * WIDTH
    assert [worst.result.name for worst in evaluation.worst] == ["town/001"]
    assert evaluation.scores.miou == 1.0


@pytest.mark.parametrize("size_hw", [(16, 4096), (6144, 8)])
def test_large_pictures_are_kept_smaller(folder: Folder, size_hw: tuple[int, int]) -> None:
    labels = flat(1, *size_hw)
    labels[: size_hw[0] // 2, : size_hw[1] // 2] = 6
    folder.add(picture(labels), labels)
    (worst,) = run(folder).worst
    assert max(worst.truth_hw.shape) == 2048
    assert worst.frame_hwc.shape == (*worst.truth_hw.shape, 3)
    assert worst.labels_hw.shape == worst.truth_hw.shape
    assert set(np.unique(worst.truth_hw)) == {1, 6}
    assert worst.result.size_hw == size_hw
    height, width = worst.truth_hw.shape
    assert width / height == pytest.approx(size_hw[1] / size_hw[0], rel=0.2)


# ------------------------------------------------------------------- threads


@dataclass
class Ready:
    answer: Callable[[], UInt8]

    def result(self) -> UInt8:
        return self.answer()


class Script:
    """A predictor that does as it is told when it has been given the n-th picture, and when its labels are taken."""

    classes = CLASSES

    def __init__(self, on_submit: Callable[[int], None], on_result: Callable[[int], None], capacity: int = 2) -> None:
        self.capacity = capacity
        self._on_submit, self._on_result = on_submit, on_result
        self._given = 0
        self.under_way = 0
        self.most_under_way = 0

    def submit(self, frame_hwc: UInt8) -> Pending[UInt8]:
        number, self._given = self._given, self._given + 1
        self._on_submit(number)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        return Ready(lambda: self._take(number, frame_hwc))

    def _take(self, number: int, frame_hwc: UInt8) -> UInt8:
        self.under_way -= 1
        self._on_result(number)
        return np.zeros(frame_hwc.shape[:2], np.uint8)


def nothing(number: int) -> None:
    pass


def raising(error: BaseException, at: int) -> Callable[[int], None]:
    def act(number: int) -> None:
        if number == at:
            raise error

    return act


@pytest.mark.parametrize("capacity", [1, 2, 5])
def test_the_engine_is_given_as_many_pictures_as_it_takes_and_one_more(folder: Folder, capacity: int) -> None:
    predictor = Script(nothing, nothing, capacity)
    run(fill(folder, 9), predictor)
    assert predictor.most_under_way == capacity + 1


@pytest.mark.parametrize("readers", [1, 3])
def test_pictures_are_read_while_the_engine_works_and_only_so_many(
    folder: Folder, readers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, 12)
    monkeypatch.setattr(loading, "_readers", lambda: readers)
    changed = threading.Condition()
    begun = [0]
    read_truth = folder.read_truth

    def counted(sample: Sample) -> UInt8:
        with changed:
            begun[0] += 1
            changed.notify_all()
        return read_truth(sample)

    monkeypatch.setattr(folder, "read_truth", counted)

    def wait_for_the_readers(number: int) -> None:
        most = min(number + 1 + DEPTH * readers, 12)
        with changed:  # they come so far while this thread stands here for the engine, and no farther
            assert changed.wait_for(lambda: begun[0] >= most, timeout=30)
            assert begun[0] == most

    run(folder, Script(wait_for_the_readers, nothing))


def test_pictures_are_counted_while_the_engine_works(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(folder, 4)
    counted = threading.Event()
    add = ConfusionMatrix.add

    def tell(matrix: ConfusionMatrix, *pictures: UInt8) -> Any:
        counted.set()
        return add(matrix, *pictures)

    monkeypatch.setattr(ConfusionMatrix, "add", tell)

    def wait_for_the_first(number: int) -> None:
        if number == 1:  # its labels are not there before those of the first are counted
            assert counted.wait(30)

    assert len(run(folder, Script(nothing, wait_for_the_first)).pictures) == 4


@pytest.mark.parametrize("where", ["submit", "result"])
@pytest.mark.parametrize("error", [EngineError("the engine failed"), KeyboardInterrupt(), MemoryError()])
def test_what_the_engine_raises_comes_out_and_the_threads_end(folder: Folder, error: BaseException, where: str) -> None:
    fill(folder, 9)
    act = raising(error, at=3)
    with pytest.raises(type(error)):
        run(folder, Script(act, nothing) if where == "submit" else Script(nothing, act))
    assert own_threads() == []


@pytest.mark.parametrize("where", ["submit", "result"])
def test_a_picture_whose_size_the_engine_cannot_take_is_left_out(folder: Folder, where: str) -> None:
    fill(folder, 6)
    act = raising(InputError("the graph takes 64x64"), at=2)
    script = Script(act, nothing) if where == "submit" else Script(nothing, act)
    evaluation = run(folder, script)
    assert evaluation.left_out == {"town/002": "the graph takes 64x64"}
    assert len(evaluation.pictures) == 5
    script = Script(act, nothing) if where == "submit" else Script(nothing, act)
    with pytest.raises(InputError, match="town/002: the graph takes 64x64; leave --strict away"):
        run(folder, script, strict=True)


@pytest.mark.parametrize("error", [RuntimeError("a bug"), InputError("the folder is full"), KeyboardInterrupt()])
@pytest.mark.parametrize("at", [0, 4, 8])
def test_what_is_done_with_the_labels_may_raise_and_the_threads_end(
    folder: Folder, error: BaseException, at: int
) -> None:
    fill(folder, 9)

    def fail(sample: Sample, labels_hw: UInt8) -> None:
        if sample.name == f"town/{at:03}":
            raise error

    with pytest.raises(type(error)):
        run(folder, on_labels=fail)
    assert own_threads() == []


def test_an_error_in_a_reader_that_is_no_input_comes_out_and_the_threads_end(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, 9)
    read_truth = folder.read_truth

    def fail(sample: Sample) -> UInt8:
        if sample.name == "town/003":
            raise RuntimeError("a bug")
        return read_truth(sample)

    monkeypatch.setattr(folder, "read_truth", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        run(folder)
    assert own_threads() == []


def test_a_ctrl_c_while_the_engine_waits_for_a_picture_ends_all_threads(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, 6)
    read_truth = folder.read_truth

    def interrupting(sample: Sample) -> UInt8:
        if sample.name == "town/003":
            _thread.interrupt_main()
            time.sleep(0.05)
        return read_truth(sample)

    monkeypatch.setattr(folder, "read_truth", interrupting)
    with pytest.raises(KeyboardInterrupt):
        run(folder)
    assert own_threads() == []


def test_a_progress_that_raises_ends_all_threads(folder: Folder) -> None:
    def fail(done: int, of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(fill(folder, 5), progress=fail)
    assert own_threads() == []


def test_reading_can_be_left_early_and_the_threads_end(folder: Folder) -> None:
    fill(folder, 9)
    with Loading(folder, folder.samples, CLASSES, readers=2) as items:
        assert next(items).sample is folder.samples[0]
        assert next(items).sample is folder.samples[1]
    assert own_threads() == []
    assert folder.reads <= 2 + 2 * DEPTH
    assert items.reading_s > 0

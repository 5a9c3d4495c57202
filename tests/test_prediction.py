"""Ways from a picture to its labels: what the engine is given and when, and what is made of its answers."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from cheap_engine import STRIDE, Answer, CheapBackend, cheap_logits, cheap_manifest, cheap_segmenter
from hypothesis import given
from hypothesis import strategies as st

from isa_deploy.errors import InputError
from isa_deploy.evaluate.prediction import MultiScalePredictor, PlainPredictor, Predictor, TiledPredictor
from isa_deploy.manifest import ClassesSpec, InputSpec
from isa_deploy.runtime.assemble import LogitsGrid, labels_from_softmax_mean
from isa_deploy.runtime.resample import bilinear
from isa_deploy.runtime.segmenter import Segmenter
from isa_deploy.runtime.tiling import Tiling

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

RATIOS = (0.5, 1.0, 1.5)

GROUND, LEFT_ARM, RIGHT_ARM = 0, 1, 2


def stripes(height: int = 64, width: int = 96) -> UInt8:
    """Every cell of another brightness, none the same when mirrored; the three channels differ."""
    ramp = np.arange(height * width, dtype=np.uint32).reshape(height, width) * 37 // 64 % 200
    return np.stack([ramp, ramp + 20, ramp + 55], axis=2).astype(np.uint8)


# ------------------------------------------------------------------- left and right under the mirror


class ArmsBackend(CheapBackend):
    """Bright cells are an arm: the left one in the left half of what the engine sees, else the right one."""

    def start(self, image_nhwc: UInt8, outputs: Sequence[str]) -> Answer:
        bright = image_nhwc[:, ::STRIDE, ::STRIDE, 0] > 128
        left = np.arange(bright.shape[2]) < bright.shape[2] / 2
        logits = np.zeros((len(bright), 3, *bright.shape[1:]), np.float32)
        logits[:, GROUND] = np.where(bright, 0, 9)
        # a little surer of left than of right, so that what is averaged unexchanged is wrong and no tie
        logits[:, LEFT_ARM] = np.where(bright & left, 9.5, 0)
        logits[:, RIGHT_ARM] = np.where(bright & ~left, 9, 0)
        return Answer([logits for _ in outputs])


def arms() -> Segmenter:
    classes = ClassesSpec(names=("ground", "left arm", "right arm"), palette_rgb=((0, 0, 0), (9, 9, 9), (99, 99, 99)))
    return Segmenter(ArmsBackend(), cheap_manifest(classes=classes), "none")


def test_with_flip_pairs_a_mirrored_arm_counts_for_the_other_side() -> None:
    frame = np.zeros((64, 128, 3), np.uint8)
    frame[16:48, 16:32] = frame[16:48, 96:112] = 255
    predictor = MultiScalePredictor(arms(), (1.0,), flip_pairs=((LEFT_ARM, RIGHT_ARM),))
    labels = predictor.submit(frame).result()
    assert (labels[20:44, 20:28] == LEFT_ARM).all()
    assert (labels[20:44, 100:108] == RIGHT_ARM).all()
    assert (labels[:8] == GROUND).all()
    # and without them, as SegTTAModel does it, the two halves agree on one arm: the exchange is what tells them apart
    unexchanged = MultiScalePredictor(arms(), (1.0,)).submit(frame).result()
    assert (unexchanged[20:44, 100:108] == LEFT_ARM).all()


def test_flip_pairs_change_nothing_where_nothing_is_mirrored() -> None:
    frame = np.zeros((64, 128, 3), np.uint8)
    frame[16:48, 16:32] = frame[16:48, 96:112] = 255
    pairs = ((LEFT_ARM, RIGHT_ARM),)
    with_pairs = arms().segment_multi_scale(frame, RATIOS, flip=False, flip_pairs=pairs)
    np.testing.assert_array_equal(with_pairs, arms().segment_multi_scale(frame, RATIOS, flip=False))


@pytest.mark.parametrize("pairs", [((0, 3),), ((-1, 0),), ((0, 1), (1, 2)), ((2, 2),)])
def test_flip_pairs_that_make_no_sense_are_refused(pairs: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(InputError, match="one pair once, and must be one of this model's 3"):
        arms().segment_multi_scale(stripes(), flip_pairs=pairs)


# ------------------------------------------------------------------- what the engine is given, and when


class LoggedBackend(CheapBackend):
    """Keeps what it was given, and in which order calls came and answers were waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[UInt8] = []
        self.log: list[str] = []

    def start(self, image_nhwc: UInt8, outputs: Sequence[str]) -> Answer:
        self.images.append(image_nhwc[0])
        self.log.append("start")
        log = self.log

        class Logged(Answer):
            def wait(self, timeout_s: float | None = None) -> list[npt.NDArray[Any]]:
                log.append("wait")
                return super().wait(timeout_s)

        return Logged([cheap_logits(image_nhwc) for _ in outputs])


def test_all_scales_and_mirrors_are_given_to_the_engine_before_any_answer_is_waited_for() -> None:
    backend = LoggedBackend()
    predictor = MultiScalePredictor(Segmenter(backend, cheap_manifest(), "none"))
    first = predictor.submit(stripes())
    second = predictor.submit(stripes())
    assert backend.log == ["start"] * 24
    np.testing.assert_array_equal(first.result(), second.result())
    assert backend.log == ["start"] * 24 + ["wait"] * 24


def test_the_largest_scales_are_given_last_so_that_the_engine_is_busy_while_the_picture_before_is_averaged() -> None:
    backend = LoggedBackend()
    MultiScalePredictor(Segmenter(backend, cheap_manifest(), "none"), (1.5, 0.5, 1.0)).submit(stripes())
    assert [image.shape[1] for image in backend.images] == [48, 48, 96, 96, 144, 144]


def test_multi_scale_answers_stay_the_same_when_asked_again() -> None:
    pending = cheap_segmenter().submit_multi_scale(stripes(), RATIOS)
    assert pending.done()
    labels = pending.result(timeout_s=30)
    assert pending.result() is labels
    assert pending.done()
    np.testing.assert_array_equal(labels, cheap_segmenter().segment_multi_scale(stripes(), RATIOS))


def test_a_size_that_the_graph_cannot_take_is_refused_before_the_engine_works() -> None:
    backend = LoggedBackend()
    segmenter = Segmenter(backend, cheap_manifest(input=input_spec("BGR", (1, 64, 96))), "none")
    with pytest.raises(InputError):
        segmenter.submit_multi_scale(stripes(), (1.0, 1.5))
    assert backend.log == []


def input_spec(order: Any, shape_nhw: tuple[int | None, int | None, int | None]) -> InputSpec:
    black = (0.0, 0.0, 0.0)
    return InputSpec(
        name="image", colour_order=order, shape_nhw=shape_nhw, mean=black, std=(1.0, 1.0, 1.0), resize=None
    )


def predictors(segmenter: Segmenter) -> list[Predictor]:
    return [
        PlainPredictor(segmenter),
        TiledPredictor(segmenter, Tiling("tiles", (64, 96), 16)),
        MultiScalePredictor(segmenter, (1.0,), flip=False),
    ]


@pytest.mark.parametrize("way", range(3))
@pytest.mark.parametrize("order", ["BGR", "RGB"])
def test_pictures_come_in_bgr_and_the_engine_sees_them_in_its_own_order(order: Any, way: int) -> None:
    backend = LoggedBackend()
    segmenter = Segmenter(backend, cheap_manifest(input=input_spec(order, (None, None, None))), "none")
    predictor = predictors(segmenter)[way]
    frame = stripes()
    before = frame.copy()
    predictor.submit(frame).result()
    np.testing.assert_array_equal(backend.images[0], frame if order == "BGR" else frame[..., ::-1])
    np.testing.assert_array_equal(frame, before)


def test_predictors_give_the_segmenters_own_labels() -> None:
    segmenter = cheap_segmenter()
    frame = stripes(200, 300)
    tiling = Tiling("blend", (64, 96), 16)
    plain, tiled = PlainPredictor(segmenter), TiledPredictor(segmenter, tiling)
    multi_scale = MultiScalePredictor(segmenter, RATIOS)
    np.testing.assert_array_equal(plain.submit(frame).result(), segmenter.segment(frame))
    np.testing.assert_array_equal(tiled.submit(frame).result(), segmenter.segment(frame, tiling))
    np.testing.assert_array_equal(multi_scale.submit(frame).result(), segmenter.segment_multi_scale(frame, RATIOS))
    assert plain.capacity == segmenter.capacity
    assert {predictor.classes for predictor in (plain, tiled, multi_scale)} == {8}


def test_multi_scale_given_ahead_to_a_real_engine_gives_what_it_gives_alone(golden: Path, streets_onnx: Path) -> None:
    picture = cv2.imread(str(golden / "scene_0.png"))
    assert picture is not None
    frames = [np.ascontiguousarray(picture[64 * n : 64 * n + 64, :96]).astype(np.uint8) for n in range(3)]
    with Segmenter.open(streets_onnx, resize="none") as segmenter:
        predictor = MultiScalePredictor(segmenter, RATIOS)
        alone = [segmenter.segment_multi_scale(frame, RATIOS) for frame in frames]
        assert len({labels.tobytes() for labels in alone}) == len(frames)  # a mix-up would show
        under_way = [predictor.submit(frame) for frame in frames]
        for pending, labels in zip(under_way, alone, strict=True):
            np.testing.assert_array_equal(pending.result(), labels)


# ------------------------------------------------------------------- averaging


@given(
    st.integers(1, 70), st.integers(1, 90), st.integers(1, 6), st.lists(st.integers(1, 16), min_size=1, max_size=4),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_the_mean_of_softmaxes_is_that_of_whole_maps(
    height: int, width: int, classes: int, cells: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    grids, probabilities = [], np.zeros((classes, height, width))
    for side in cells:
        logits = rng.normal(size=(classes, side, side + 1)).astype(np.float32) * 4
        rows, cols = bilinear(side, height, False), bilinear(side + 1, width, False)
        grids.append(LogitsGrid(logits, rows, cols))
        full = np.einsum("hi,cij,wj->chw", rows.dense(), logits, cols.dense(), dtype=np.float64)
        shares = np.exp(full - full.max(axis=0))
        probabilities += shares / shares.sum(axis=0) / len(cells)
    labels, confidence = labels_from_softmax_mean(grids)
    best = np.sort(probabilities, axis=0)
    decided = best[-1] - best[-2] > 1e-4 if classes > 1 else np.ones((height, width), np.bool_)
    np.testing.assert_array_equal(labels[decided], probabilities.argmax(axis=0)[decided])
    assert np.abs(confidence - best[-1] * 255).max() <= 0.51


def peak_of_averaging(grids: Sequence[LogitsGrid]) -> int:
    """The most bytes that averaging held, the two maps that it gives apart."""
    height, width = grids[0].frame_hw
    tracemalloc.start()
    try:
        labels_from_softmax_mean(grids)
        return tracemalloc.get_traced_memory()[1] - 2 * height * width
    finally:
        tracemalloc.stop()


def test_averaging_twelve_predictions_holds_less_than_one_map_and_does_not_grow_with_the_height() -> None:
    classes, width = 20, 256
    peaks = {}
    for height in (512, 1024):
        rows, cols = bilinear(height // 8, height, False), bilinear(width // 8, width, False)
        logits = np.zeros((classes, height // 8, width // 8), np.float32)
        peaks[height] = peak_of_averaging([LogitsGrid(logits, rows, cols)] * 12)
    assert peaks[1024] < 1.25 * peaks[512]  # what a height adds are the maps' own indices
    assert peaks[1024] < classes * 1024 * width * 4

"""Pictures in tiles: the labels that every way of cutting gives, and what is read and computed for them."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cheap_engine import cheap_segmenter
from conftest import Exporter

from isa_deploy import InputError, Segmenter, Tiling
from isa_deploy.runtime.tiled import plan_tiles, segment_tiled, tile_labels
from isa_deploy.runtime.tiling import Block

Mode = Literal["slide", "tiles", "blend"]


@pytest.fixture(scope="module")
def scene(golden: Path) -> np.ndarray:
    picture = cv2.imread(str(golden / "scene_0.png"))
    assert picture is not None
    return np.ascontiguousarray(picture[:200, :300])


class RecordedRows:
    """A picture that notes which rows were asked for."""

    def __init__(self, picture_hwc: np.ndarray) -> None:
        self.picture_hwc = picture_hwc
        self.size_hw = picture_hwc.shape[0], picture_hwc.shape[1]
        self.read: list[tuple[int, int]] = []

    def read_rows(self, start: int, stop: int) -> np.ndarray:
        self.read.append((start, stop))
        return self.picture_hwc[start:stop]


def naive_logits(segmenter: Segmenter, picture_hwc: np.ndarray, tiling: Tiling) -> np.ndarray:
    """The weighted mean of the windows' logits, window by window at full size with torch: C x H x W."""
    grid = plan_tiles(segmenter, picture_hwc.shape[:2], tiling).grid
    align = segmenter.manifest.inference.align_corners
    total = np.zeros((len(segmenter.manifest.classes.names), *picture_hwc.shape[:2]))
    weight = np.zeros(picture_hwc.shape[:2])
    for i, rows in enumerate(grid.rows.windows):
        for j, cols in enumerate(grid.cols.windows):
            window = np.ascontiguousarray(picture_hwc[slice(*rows), slice(*cols)])
            (logits,) = segmenter.submit_logits([window]).result()
            wide = F.interpolate(torch.from_numpy(logits)[None], window.shape[:2], mode="bilinear", align_corners=align)
            share = grid.rows.weights(i)[:, None] * grid.cols.weights(j)[None]
            total[:, slice(*rows), slice(*cols)] += wide[0].numpy() * share
            weight[slice(*rows), slice(*cols)] += share
    return total / weight


@pytest.mark.parametrize("mode", ["slide", "tiles", "blend"])
@pytest.mark.parametrize("name", ["isanet_r18w16_streets", "tiny_r50_slide_0x_legacy"])
def test_labels_are_those_of_the_weighted_mean_of_the_windows_logits(
    exported: Exporter, scene: np.ndarray, name: str, mode: Mode
) -> None:
    tiling = Tiling(mode, (96, 80), 12)
    with Segmenter.open(exported(name), backend="onnxruntime", resize="none") as segmenter:
        logits = naive_logits(segmenter, scene, tiling)
        labels = segmenter.segment(scene, tiling)
    best = np.sort(logits, axis=0)
    decided = best[-1] - best[-2] > 1e-4
    assert decided.mean() > 0.99
    np.testing.assert_array_equal(labels[decided], logits.argmax(axis=0)[decided])


@pytest.mark.parametrize("size", [(64, 128), (129, 257), (97, 97), (40, 200)])
def test_slide_over_a_slide_model_is_what_it_does_by_itself(exported: Exporter, scene: np.ndarray, size: Any) -> None:
    picture = np.ascontiguousarray(scene[: size[0], : size[1]])
    with Segmenter.open(exported("tiny_r50_slide_0x_legacy"), backend="onnxruntime", resize="none") as segmenter:
        np.testing.assert_array_equal(segmenter.segment(picture, Tiling("slide")), segmenter.segment(picture))


@pytest.mark.parametrize("mode", ["slide", "tiles", "blend"])
def test_blocks_that_are_done_are_left_out_and_the_others_stay_the_same(
    streets_onnx: Path, scene: np.ndarray, mode: Mode
) -> None:
    with Segmenter.open(streets_onnx, backend="onnxruntime") as segmenter:
        plan = plan_tiles(segmenter, (200, 300), Tiling(mode, (64, 64), 8))
        everything = list(tile_labels(segmenter, RecordedRows(scene), plan))
        assert [block.index for block, _ in everything] == list(range(plan.blocks))
        rest = list(tile_labels(segmenter, RecordedRows(scene), plan, lambda index: index % 5 != 3))
        assert [block.index for block, _ in rest] == list(range(3, plan.blocks, 5))
        for block, labels in rest:
            np.testing.assert_array_equal(labels, everything[block.index][1])
        later = RecordedRows(scene)
        last = list(tile_labels(segmenter, later, plan, lambda index: index < plan.blocks - 1))
        np.testing.assert_array_equal(last[0][1], everything[-1][1])
    first_row = plan.grid.rows.windows_of(len(plan.grid.rows.blocks) - 1)[0]
    assert later.read[0][0] == plan.grid.rows.windows[first_row][0]


def test_nothing_is_read_or_computed_for_a_picture_that_is_done(streets_onnx: Path, scene: np.ndarray) -> None:
    picture = RecordedRows(scene)
    with Segmenter.open(streets_onnx, backend="onnxruntime") as segmenter:
        plan = plan_tiles(segmenter, (200, 300), Tiling("tiles", (64, 64), 8))
    # closed: an engine call would raise
    assert list(tile_labels(segmenter, picture, plan, lambda index: True)) == []
    assert picture.read == []


@pytest.mark.parametrize("mode", ["slide", "tiles", "blend"])
def test_every_row_of_the_picture_is_read_once_from_the_top(streets_onnx: Path, scene: np.ndarray, mode: Mode) -> None:
    picture = RecordedRows(scene)
    with Segmenter.open(streets_onnx, backend="onnxruntime") as segmenter:
        plan = plan_tiles(segmenter, (200, 300), Tiling(mode, (64, 64), 8))
        blocks: list[tuple[Block, np.ndarray]] = list(tile_labels(segmenter, picture, plan))
    edges = [0]
    for start, stop in picture.read:
        assert start == edges[-1]
        edges.append(stop)
    assert edges[-1] == 200
    assert max(stop - start for start, stop in picture.read) <= 64
    assert all(labels.shape == (b.rows[1] - b.rows[0], b.cols[1] - b.cols[0]) for b, labels in blocks)


def test_batches_of_tiles_give_the_same_labels(streets_onnx: Path, exported: Exporter, scene: np.ndarray) -> None:
    with Segmenter.open(streets_onnx, backend="onnxruntime") as segmenter:
        alone = segmenter.segment(scene, Tiling("tiles", (64, 128), 8, batch=1))
        together = segmenter.segment(scene, Tiling("tiles", (64, 128), 8, batch=5))
    folder = exported("isanet_r18w16_streets", shape_nhw=(2, 64, 128), confidence=True)
    with Segmenter.open(folder, backend="onnxruntime") as fixed:
        plan = plan_tiles(fixed, (200, 300), Tiling("tiles", halo=8))
        assert plan.tiling == Tiling("tiles", (64, 128), 8, 2)
        of_two = fixed.segment(scene, Tiling("tiles", halo=8))
    assert (alone == together).mean() > 0.9999
    assert (alone == of_two).mean() > 0.9999


def test_a_graph_that_is_quick_with_its_labels_gives_the_same_tiles(
    streets_onnx: Path, scene: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Segmenter.open(streets_onnx, backend="onnxruntime") as segmenter:
        merged = segmenter.segment(scene, Tiling("tiles", (64, 96), 8))
        monkeypatch.setattr(segmenter._backend, "fast_argmax", True)
        monkeypatch.setattr(segmenter, "submit_logits", None)
        kept = segmenter.segment(scene, Tiling("tiles", (64, 96), 8, batch=2))
    assert (merged == kept).mean() > 0.9999


def test_a_fixed_slide_graph_is_one_tile_of_its_own_frame(exported: Exporter, scene: np.ndarray) -> None:
    folder = exported("tiny_r50_slide_0x_legacy", shape_nhw=(1, 129, 257))
    with Segmenter.open(folder, backend="onnxruntime", resize="none") as segmenter:
        plan = plan_tiles(segmenter, (200, 300), Tiling("tiles"))
        assert plan.tiling.tile_hw == (129, 257)
        labels = segmenter.segment(scene, Tiling("tiles", halo=16))
        corner = segmenter.segment(np.ascontiguousarray(scene[:129, :257]))
    block = plan_tiles(segmenter, (200, 300), Tiling("tiles", halo=16)).block(0)
    inside = slice(*block.rows), slice(*block.cols)
    assert (labels[inside] == corner[inside]).mean() > 0.9999


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (200, 1), (63, 65)])
@pytest.mark.parametrize("mode", ["slide", "tiles", "blend"])
def test_a_picture_smaller_than_a_tile_is_one_window_of_its_own_size(
    streets_onnx: Path, scene: np.ndarray, size: tuple[int, int], mode: Mode
) -> None:
    picture = np.ascontiguousarray(scene[: size[0], : size[1]])
    with Segmenter.open(streets_onnx, backend="onnxruntime", resize="none") as segmenter:
        plan = plan_tiles(segmenter, size, Tiling(mode, (512, 512)))
        assert plan.blocks == 1
        np.testing.assert_array_equal(segmenter.segment(picture, Tiling(mode, (512, 512))), segmenter.segment(picture))


def test_whole_is_what_the_segmenter_does_anyway(streets_onnx: Path, scene: np.ndarray) -> None:
    with Segmenter.open(streets_onnx, backend="onnxruntime", resize=(64, 96)) as segmenter:
        np.testing.assert_array_equal(segment_tiled(segmenter, scene, Tiling("whole")), segmenter.segment(scene))
        with pytest.raises(InputError, match="cuts nothing"):
            plan_tiles(segmenter, (200, 300), Tiling("whole"))


def test_tiles_that_the_engine_cannot_take_are_refused(exported: Exporter, streets_onnx: Path) -> None:
    with Segmenter.open(exported("tiny_r50_slide_0x_legacy"), backend="onnxruntime") as slide:
        assert plan_tiles(slide, (500, 500), Tiling("tiles")).tiling.tile_hw == (97, 97)
        with pytest.raises(InputError, match="larger than this model's crop of 97x97"):
            plan_tiles(slide, (500, 500), Tiling("tiles", (128, 97)))
    with Segmenter.open(exported("tiny_r50_slide_0x_legacy", shape_nhw=(1, 129, 257)), backend="onnxruntime") as fixed:
        with pytest.raises(InputError, match="takes 129x257 only"):
            plan_tiles(fixed, (500, 500), Tiling("tiles", (128, 128)))
        with pytest.raises(InputError, match="smaller than the 129x257"):
            plan_tiles(fixed, (128, 500), Tiling("tiles"))
    with Segmenter.open(streets_onnx, backend="onnxruntime") as segmenter:
        with pytest.raises(InputError, match="million pixels"):
            plan_tiles(segmenter, (100_000, 100_000), Tiling("tiles", (60_000, 60_000)))
        with pytest.raises(InputError, match="leaves nothing"):
            plan_tiles(segmenter, (5000, 5000), Tiling("tiles", halo=512))


def test_a_row_of_tiles_that_would_fill_the_memory_is_refused_before_it_is_read() -> None:
    segmenter = cheap_segmenter()
    with pytest.raises(InputError, match=r"1000x4000000: a row of tiles takes 11444 MiB.*use lower tiles \(--tile\)"):
        plan_tiles(segmenter, (1000, 4_000_000), Tiling("tiles"))
    assert plan_tiles(segmenter, (1000, 4_000_000), Tiling("tiles", (64, 1024), 16)).blocks
    assert plan_tiles(segmenter, (300_000, 300_000), Tiling("tiles")).blocks


@pytest.mark.parametrize(("mode", "most"), [("tiles", 2), ("blend", 2 * 8 + 2)])
def test_only_the_logits_that_a_block_may_still_need_are_kept(mode: Mode, most: int) -> None:
    alive: set[int] = set()
    counts: list[int] = []
    segmenter = cheap_segmenter()
    submit = segmenter.submit_logits

    class Watched:
        def __init__(self, images: Sequence[np.ndarray]) -> None:
            self.pending = submit(images)

        def result(self) -> list[np.ndarray]:
            found = [logits.copy() for logits in self.pending.result()]
            for logits in found:
                alive.add(id(logits))
                weakref.finalize(logits, alive.discard, id(logits))
            return found

    segmenter.submit_logits = Watched  # type: ignore[method-assign, assignment]
    picture = RecordedRows(np.zeros((256, 512, 3), np.uint8))
    plan = plan_tiles(segmenter, picture.size_hw, Tiling(mode, (80, 80), 8, batch=1))
    assert len(plan.grid.cols.windows) == 8
    for _ in tile_labels(segmenter, picture, plan):
        counts.append(len(alive))
    assert max(counts) <= most

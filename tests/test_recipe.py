"""The recipe of the demo model: what it trains on, how, and what it writes."""

from __future__ import annotations

import hashlib
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

STREETS = Path(__file__).resolve().parents[1] / "models" / "streets"
sys.path.insert(0, str(STREETS))

from recipe.balance import balanced_weights  # noqa: E402
from recipe.batches import SceneBatches, StreamConfig, augment, normalise, random_scale_and_crop  # noqa: E402
from recipe.scores import confusion_matrix, predict, scores_of  # noqa: E402
from recipe.training import Progress, TrainingConfig, learning_rate, segmentation_loss, train  # noqa: E402
from streetscenes import CLASSES, PALETTE, VOID, draw_scene  # noqa: E402

from isa_deploy.models.checkpoint import build_network, read_checkpoint  # noqa: E402
from isa_deploy.models.isanet import AuxiliaryConfig, ISANet, ISANetConfig  # noqa: E402
from isa_deploy.models.resnet import BackboneConfig  # noqa: E402

DEMO = ISANetConfig(19, BackboneConfig(18, 16, 16), 64, 32, auxiliary=AuxiliaryConfig(32))
TINY = ISANetConfig(19, BackboneConfig(18, 8, 4), 8, 4, (2, 2), dropout=0.0, auxiliary=AuxiliaryConfig(8))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch on one thread: faster for tiny arithmetic, and the same numbers however many cores there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# ----------------------------------------------------------------------------------------- what it trains on


def test_batches_are_the_same_each_time_and_differ_from_one_to_the_next() -> None:
    config = StreamConfig(crop_hw=(32, 64), pool=3)
    first, second, third = itertools.islice(SceneBatches(config), 3)
    again = next(iter(SceneBatches(config)))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(second[0], first[0])
    assert not torch.equal(second[0], third[0])
    images_nchw, labels_nhw = first
    assert (images_nchw.shape, images_nchw.dtype) == ((4, 3, 32, 64), torch.float32)
    assert (labels_nhw.shape, labels_nhw.dtype) == ((4, 32, 64), torch.int64)


@pytest.mark.parametrize("scale", [0.5, 0.8, 1.0, 1.3, 2.0])
def test_scaling_and_cropping_keep_labels_on_their_pixels(scale: float) -> None:
    _, labels_hw = draw_scene(1, 64, 128)
    frame_hwc = np.repeat(labels_hw[:, :, None], 3, axis=2)
    config = StreamConfig(crop_hw=(48, 128), scale_range=(scale, scale))
    frame, labels = random_scale_and_crop(np.random.RandomState(0), frame_hwc, labels_hw, config)
    assert labels.shape == (48, 128)
    drawn = labels != VOID
    # pixels between two classes are mixed in the frame, so compare inside the larger areas
    inside = cv2.erode((cv2.Laplacian(labels, cv2.CV_16S) == 0).astype(np.uint8), np.ones((5, 5))) > 0
    agree = frame[:, :, 0][drawn & inside] == labels[drawn & inside]
    assert agree.size > 100
    assert agree.mean() > 0.95


def test_augmentation_mirrors_the_frame_together_with_its_labels() -> None:
    labels_hw = np.zeros((32, 64), np.uint8)
    labels_hw[:, :20] = 5
    frame_hwc = np.repeat(labels_hw[:, :, None] * 40, 3, axis=2)
    sides = set()
    for seed in range(40):
        frame, labels = augment(
            np.random.RandomState(seed), frame_hwc, labels_hw, StreamConfig((32, 64), scale_range=(1, 1))
        )
        assert labels.shape == (32, 64)
        left_is_five = bool(labels[0, 0] == 5)
        assert (frame[0, 0, 0] > frame[0, -1, 0]) == left_is_five
        sides.add(left_is_five)
    assert sides == {True, False}


def test_normalising_turns_bgr_into_red_green_blue_around_zero() -> None:
    frame_hwc = np.zeros((1, 1, 3), np.uint8)
    frame_hwc[0, 0] = (104, 116, 124)
    image_chw = normalise(frame_hwc)
    expected = [(124 - 123.675) / 58.395, (116 - 116.28) / 57.12, (104 - 103.53) / 57.375]
    assert image_chw[:, 0, 0].tolist() == pytest.approx(expected, abs=1e-5)


def test_rare_classes_weigh_more_and_the_mean_pixel_weighs_one() -> None:
    seeds, size_hw = range(6), (48, 96)
    weights = np.array(balanced_weights(seeds, size_hw))
    labels = np.concatenate([draw_scene(seed, *size_hw)[1].ravel() for seed in seeds])
    assert weights[labels[labels != VOID]].mean() == pytest.approx(1, abs=1e-6)
    assert weights[CLASSES.index("bicycle")] > 2 * weights[CLASSES.index("road")]


# ----------------------------------------------------------------------------------------- how it trains


def test_the_learning_rate_warms_up_and_goes_down_to_nothing() -> None:
    config = TrainingConfig(1000, peak_rate=0.01, warm_up=100)
    rates = [learning_rate(i, config) for i in range(1000)]
    assert rates[0] == pytest.approx(1e-4)
    assert max(rates) == rates[99] == pytest.approx(0.01)
    assert rates[:100] == sorted(rates[:100])
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert 0 < rates[-1] < 1e-4


@pytest.mark.parametrize("stride", [2, 8])
def test_the_loss_looks_at_the_labels_around_each_cells_centre_and_never_at_void(stride: int) -> None:
    labels_nhw = torch.full((1, 32, 32), VOID)
    half = stride // 2
    labels_nhw[:, half - 1 :: stride, half::stride] = 3
    logits_nchw = torch.zeros(1, 19, 4, 4)
    logits_nchw[:, 3] = 50
    assert float(segmentation_loss(logits_nchw, labels_nhw, stride, (0, 1), None)) == pytest.approx(0, abs=1e-6)
    assert torch.isnan(segmentation_loss(logits_nchw, labels_nhw, stride, (1, 1), None))  # all void


@pytest.mark.usefixtures("one_thread")
def test_training_fits_both_heads() -> None:
    torch.manual_seed(0)
    net = ISANet(TINY)
    images_nchw = torch.randn(2, 3, 64, 64)
    images_nchw[:, :, :, 32:] += 2
    labels_nhw = torch.zeros(2, 64, 64, dtype=torch.int64)
    labels_nhw[:, :, 32:] = CLASSES.index("car")
    reports: list[Progress] = []
    batches = itertools.repeat((images_nchw, labels_nhw))
    before = {name: p.clone() for name, p in net.named_parameters()}
    train(net, batches, TrainingConfig(30, peak_rate=0.02, warm_up=2), reports.append, report_every=10)
    assert [report.iteration for report in reports] == [10, 20, 30]
    assert reports[-1].loss < 0.5 * reports[0].loss
    assert [name for name, p in net.named_parameters() if torch.equal(p, before[name])] == []


# ----------------------------------------------------------------------------------------- how it measures


def test_scores_are_intersection_over_union_without_void() -> None:
    truth_hw = np.array([[0, 0, 0, 1], [1, 1, VOID, VOID]], np.uint8)
    labels_hw = np.array([[0, 0, 1, 1], [1, 0, 5, 0]], np.uint8)
    scores = scores_of(confusion_matrix(truth_hw, labels_hw, len(CLASSES)))
    assert scores.iou["road"] == pytest.approx(2 / 4)
    assert scores.iou["sidewalk"] == pytest.approx(2 / 4)
    assert np.isnan(scores.iou["pole"])
    assert scores.miou == pytest.approx(0.5)
    assert scores.pixel_accuracy == pytest.approx(4 / 6)


@pytest.mark.usefixtures("one_thread")
def test_predictions_of_the_golden_model_are_mmsegmentations(golden: Path) -> None:
    net = build_network(read_checkpoint(golden / "isanet_r18w16_streets.pth"))
    expected = np.load(golden / "streets.npz")
    frame_hwc = cv2.imread(str(golden / "scene_0.png"))
    assert (predict(net, frame_hwc.astype(np.uint8)) == expected["labels_0"]).mean() > 0.9995


# ----------------------------------------------------------------------------------------- what it writes


def recipe(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(STREETS / "train.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def assert_is_the_demo_model(path: Path, size_hw: tuple[int, int]) -> None:
    raw = torch.load(path, weights_only=True)
    assert set(raw) == {"meta", "state_dict"}
    ISANet(DEMO).load_state_dict(raw["state_dict"])
    assert all(t.dtype in (torch.float32, torch.int64) for t in raw["state_dict"].values())

    checkpoint = read_checkpoint(path)
    assert checkpoint.layout == "mmseg-0.x"
    assert checkpoint.config == replace(DEMO, auxiliary=None)
    assert checkpoint.classes == CLASSES
    assert checkpoint.palette == PALETTE
    assert checkpoint.test.mode == "whole"
    assert checkpoint.test.scale_wh == size_hw[::-1]
    assert checkpoint.test.keep_ratio
    assert checkpoint.mean_rgb == (123.675, 116.28, 103.53)
    assert checkpoint.std_rgb == (58.395, 57.12, 57.375)
    assert checkpoint.to_rgb
    assert checkpoint.assumptions == ()


def test_the_recipe_writes_a_checkpoint_as_mmsegmentation_does_and_its_card(tmp_path: Path) -> None:
    out = tmp_path / "new"
    done = recipe("--iterations", "2", "--scenes", "1", "--size", "64", "128", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["card.json", "isanet_r18w16_streets.pth"]
    path = out / "isanet_r18w16_streets.pth"
    assert_is_the_demo_model(path, (64, 128))
    card = json.loads((out / "card.json").read_text())
    assert card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert card["iterations"] == 2
    assert f"mIoU {card['miou']} %" in done.stdout


def test_the_recipe_says_in_one_line_that_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    done = recipe("--iterations", "1", "--out", str(tmp_path / "file"))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


# ----------------------------------------------------------------------------------------- what ships


def test_the_shipped_checkpoint_is_the_one_on_the_card() -> None:
    card = json.loads((STREETS / "card.json").read_text())
    path = STREETS / card["checkpoint"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == card["sha256"]
    assert_is_the_demo_model(path, (256, 512))


@pytest.mark.usefixtures("one_thread")
def test_the_shipped_model_segments_a_scene_that_it_never_saw() -> None:
    card = json.loads((STREETS / "card.json").read_text())
    net = build_network(read_checkpoint(STREETS / card["checkpoint"]))
    frame_hwc, truth_hw = draw_scene(card["unseen_seeds"][1] + 1, 256, 512)
    scores = scores_of(confusion_matrix(truth_hw, predict(net, frame_hwc), len(CLASSES)))
    assert scores.pixel_accuracy > 0.85


def test_the_readme_has_the_cards_figures() -> None:
    card = json.loads((STREETS / "card.json").read_text())
    readme = (STREETS / "README.md").read_text()
    assert f"| {card['miou']:.2f} % |" in readme
    assert f"| {card['pixel_accuracy']:.2f} % |" in readme
    header = [
        cell.strip() for line in readme.splitlines() if line.startswith(("| road", "| sky")) for cell in line.split("|")
    ]
    assert [cell for cell in header if cell] == list(card["iou"])

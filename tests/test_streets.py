"""The drawn street scenes: the demo's pictures, and what its model is trained on."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

STREETS = Path(__file__).resolve().parents[1] / "models" / "streets"
sys.path.insert(0, str(STREETS))

from streetscenes import CLASSES, PALETTE, VOID, Scene, draw_scene, draw_video  # noqa: E402

from isa_deploy.runtime.video import VideoReader  # noqa: E402

GOLDEN_SEED = 950_000
"""The golden pictures scene_0 to scene_5 are the scenes of this seed and the next five."""


@pytest.mark.parametrize("k", range(6))
def test_a_seed_draws_the_scene_that_it_drew_when_the_golden_pictures_were_made(golden: Path, k: int) -> None:
    frame_hwc, labels_hw = draw_scene(GOLDEN_SEED + k, 256, 512)
    golden_frame = cv2.imread(str(golden / f"scene_{k}.png"))
    golden_labels = cv2.imread(str(golden / f"scene_{k}_gt.png"), cv2.IMREAD_GRAYSCALE)
    # Not to the bit: another OpenCV or another CPU may round an interpolated pixel the other way.
    assert (labels_hw == golden_labels).mean() > 0.999
    # The golden pictures were drawn with less of the camera's noise, which is in the blue channel alone.
    assert np.abs(frame_hwc.astype(int) - golden_frame)[:, :, 1:].mean() < 0.1


def test_the_same_seed_and_time_is_the_same_picture_however_it_was_reached() -> None:
    scene = Scene(3)
    scene.render(64, 128, 2.0)
    again = scene.render(64, 128, 0.7)
    for got, expected in zip(again, Scene(3).render(64, 128, 0.7), strict=True):
        assert np.array_equal(got, expected)


def test_another_seed_is_another_street() -> None:
    assert (draw_scene(1, 64, 128)[1] != draw_scene(2, 64, 128)[1]).mean() > 0.1


def test_labels_are_train_ids_or_void_and_all_classes_occur() -> None:
    seen: set[int] = set()
    for seed in range(12):
        seen |= set(np.unique(draw_scene(seed, 96, 192)[1]).tolist())
    assert seen == {*range(len(CLASSES)), VOID}


@pytest.mark.parametrize("size_hw", [(33, 65), (97, 211), (64, 64), (120, 40)])
def test_a_picture_has_the_size_that_was_asked_for(size_hw: tuple[int, int]) -> None:
    frame_hwc, labels_hw = draw_scene(5, *size_hw)
    assert (frame_hwc.shape, frame_hwc.dtype) == ((*size_hw, 3), np.uint8)
    assert (labels_hw.shape, labels_hw.dtype) == (size_hw, np.uint8)


def test_void_is_the_bonnet_at_the_lower_edge_and_nothing_else() -> None:
    for seed in range(6):
        scene = Scene(seed)
        _, labels_hw = scene.render(96, 192)
        rows = np.flatnonzero((labels_hw == VOID).any(axis=1))
        if scene.world.hood.share:
            assert rows.max() == 95
            assert rows.min() > 96 * 0.8
        else:
            assert rows.size == 0


def test_what_is_near_hides_what_is_far() -> None:
    """The sky is behind everything: no sky below the horizon's row."""
    for seed in range(6):
        scene = Scene(seed)
        _, labels_hw = scene.render(128, 256)
        horizon = int(np.ceil(scene.world.camera.horizon * 128)) + 1
        assert not (labels_hw[horizon:] == CLASSES.index("sky")).any()


def test_a_video_moves_a_little_from_frame_to_frame_and_much_in_a_second() -> None:
    labels = [labels_hw for _, labels_hw in draw_video(13, 16, 128, 256, fps=15)]
    step = np.mean([(a != b).mean() for a, b in itertools.pairwise(labels)])
    assert 0 < step < 0.1
    assert (labels[0] != labels[-1]).mean() > 1.5 * step


def test_the_palette_has_one_colour_for_each_class() -> None:
    assert len(set(PALETTE)) == len(PALETTE) == len(CLASSES) == 19


def clip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(STREETS / "clip.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_clip_writes_a_video_of_the_length_and_size_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "new" / "demo.mp4"
    done = clip("--out", str(path), "--seconds", "0.5", "--fps", "10", "--size", "64", "128")
    assert done.returncode == 0, done.stderr
    with VideoReader(path) as reader:
        assert reader.size_hw == (64, 128)
        assert [round(frame.time_s, 6) for frame in reader] == [0.0, 0.1, 0.2, 0.3, 0.4]


def test_clip_writes_stills_of_different_scenes(tmp_path: Path) -> None:
    done = clip("--out", str(tmp_path), "--stills", "2", "--size", "64", "128")
    assert done.returncode == 0, done.stderr
    pictures = [cv2.imread(str(path)) for path in sorted(tmp_path.glob("*.png"))]
    assert [picture.shape for picture in pictures] == [(64, 128, 3)] * 2
    assert not np.array_equal(*pictures)


def test_clip_says_in_one_line_that_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    done = clip("--out", str(tmp_path / "file" / "demo.mp4"))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1

"""The endless stream of training batches: scenes drawn on the fly, some of them shown a second time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from streetscenes import VOID, Picture, Scene
from torch.utils.data import DataLoader, IterableDataset

__all__ = ["MEAN_RGB", "STD_RGB", "StreamConfig", "batch_stream", "normalise"]

MEAN_RGB = (123.675, 116.28, 103.53)
STD_RGB = (58.395, 57.12, 57.375)
"""ImageNet's mean and deviation of 8-bit pixels, the numbers of every mmsegmentation config."""

Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class StreamConfig:
    """What a training batch is made of.

    ``crop_hw`` pixels; ``batch`` crops, half of them new and half from the ``pool`` last drawn pictures;
    ``first_seed`` the seed of the first scene (one new scene for each two new crops, counted upwards);
    ``scale_range`` of the random resize, which half of the crops get.
    """

    crop_hw: tuple[int, int] = (256, 512)
    batch: int = 4
    pool: int = 256
    first_seed: int = 0
    scale_range: tuple[float, float] = (0.75, 1.5)


def normalise(frame_hwc: Picture) -> torch.Tensor:
    """BGR uint8 H x W x 3 to the network's float32 3 x H x W: RGB, minus the mean, over the deviation."""
    rgb = frame_hwc[:, :, ::-1].astype(np.float32)
    scaled = (rgb - np.array(MEAN_RGB, np.float32)) / np.array(STD_RGB, np.float32)
    return torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1)))


def random_scale_and_crop(
    rng: np.random.RandomState, frame_hwc: Picture, labels_hw: Picture, config: StreamConfig
) -> tuple[Picture, Picture]:
    """The picture resized by a random factor, then cut or padded (frame 0, labels void) to ``crop_hw``."""
    h, w = config.crop_hw
    scale = rng.uniform(*config.scale_range)
    size_wh = (max(1, round(labels_hw.shape[1] * scale)), max(1, round(labels_hw.shape[0] * scale)))
    frame = cv2.resize(frame_hwc, size_wh, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    labels = cv2.resize(labels_hw, size_wh, interpolation=cv2.INTER_NEAREST)
    top = rng.randint(max(0, size_wh[1] - h) + 1)
    left = rng.randint(max(0, size_wh[0] - w) + 1)
    frame, labels = frame[top : top + h, left : left + w], labels[top : top + h, left : left + w]
    out_frame = np.zeros((h, w, 3), np.uint8)
    out_labels = np.full((h, w), VOID, np.uint8)
    y, x = rng.randint(h - labels.shape[0] + 1), rng.randint(w - labels.shape[1] + 1)
    out_frame[y : y + labels.shape[0], x : x + labels.shape[1]] = frame
    out_labels[y : y + labels.shape[0], x : x + labels.shape[1]] = labels
    return out_frame, out_labels


def distort_colours(rng: np.random.RandomState, frame_hwc: Picture) -> Picture:
    """Random brightness, contrast and saturation, mild: the scenes vary their light themselves."""
    gain, offset = rng.uniform(0.8, 1.2), rng.uniform(-16, 16)
    out = frame_hwc.astype(np.float32) * np.float32(gain) + np.float32(offset)
    grey = out.mean(axis=2, keepdims=True)
    out = grey + (out - grey) * np.float32(rng.uniform(0.75, 1.25))
    return np.asarray(np.clip(out, 0, 255), np.uint8)


def augment(
    rng: np.random.RandomState, frame_hwc: Picture, labels_hw: Picture, config: StreamConfig
) -> tuple[Picture, Picture]:
    """One crop of ``crop_hw``: scaled (half of the time), mirrored (half), colours changed (half)."""
    if rng.rand() < 0.5:
        frame_hwc, labels_hw = random_scale_and_crop(rng, frame_hwc, labels_hw, config)
    if rng.rand() < 0.5:
        frame_hwc, labels_hw = frame_hwc[:, ::-1], labels_hw[:, ::-1]
    if rng.rand() < 0.5:
        frame_hwc = distort_colours(rng, frame_hwc)
    return frame_hwc, labels_hw


class SceneBatches(IterableDataset[Batch]):
    """Endless batches, the same ones for the same config.

    Each is float32 N x 3 x h x w and int64 N x h x w.  For one process only: its pool is its state.
    """

    def __init__(self, config: StreamConfig) -> None:
        super().__init__()
        self.config = config

    def __iter__(self) -> Iterator[Batch]:
        cv2.setNumThreads(1)
        config = self.config
        rng = np.random.RandomState(config.first_seed)
        pool: list[tuple[Picture, Picture]] = []
        seed = config.first_seed
        while True:
            fresh: list[tuple[Picture, Picture]] = []
            while len(fresh) < (config.batch + 1) // 2:
                # Half of drawing a scene is making its world, so each world is seen at two moments.
                scene = Scene(seed)
                seed += 1
                fresh += [scene.render(*config.crop_hw), scene.render(*config.crop_hw, rng.uniform(0.5, 4.0))]
            fresh = fresh[: (config.batch + 1) // 2]
            pool = (pool + fresh)[-config.pool :]
            shown = fresh + [pool[rng.randint(len(pool))] for _ in range(config.batch - len(fresh))]
            crops = [augment(rng, frame, labels, config) for frame, labels in shown]
            yield (
                torch.stack([normalise(frame) for frame, _ in crops]),
                torch.from_numpy(np.stack([labels for _, labels in crops]).astype(np.int64)),
            )


def batch_stream(config: StreamConfig) -> Iterator[Batch]:
    """Batches drawn ahead by one worker process."""
    return iter(DataLoader(SceneBatches(config), batch_size=None, num_workers=1, prefetch_factor=8))

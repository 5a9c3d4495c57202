"""Miniature data sets in the official layouts: names, folders and encodings as their makers give them.

Every builder takes frames (uint8 H x W x 3, BGR) and truths (uint8 H x W, train ids, 255 = void), writes one split
below ``root`` and returns the samples' names in the order of the frames, as ``Sample.name`` spells them.  A truth that
is None gets no label file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

UInt8 = npt.NDArray[np.uint8]
Truths = Sequence[UInt8 | None]

CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The label id of each of the 19 train ids."""

COCOSTUFF_GAPS = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
"""The ids from 0 to 181 that no class of COCO-Stuff has."""


def drawn_scene(seed: int, classes: int, size_hw: tuple[int, int] = (48, 64), void: bool = True) -> tuple[UInt8, UInt8]:
    """A frame and its truth: rectangles of random classes over one another, each class in a brightness of its own.

    The brightness of class k of n is in the middle of the k-th of n equal steps from 0 to 255, so that a stand-in
    engine that reads brightness can be right.  ``void``: one rectangle of 255.
    """
    rng = np.random.default_rng(seed)
    height, width = size_hw
    truth = np.full(size_hw, rng.integers(classes), dtype=np.uint8)
    for label in [*rng.integers(classes, size=6), *([255] if void else [])]:
        top, left = rng.integers(height - 4), rng.integers(width - 4)
        truth[top : top + rng.integers(4, height // 2), left : left + rng.integers(4, width // 2)] = label
    steps = (np.arange(256) * 256 + 128) // classes
    frame = np.minimum(steps, 255).astype(np.uint8)[truth]
    return np.repeat(frame[..., None], 3, axis=2), truth


def build_cityscapes(
    root: Path, frames: Sequence[UInt8], truths: Truths, form: str = "labelIds", split: str = "val"
) -> tuple[str, ...]:
    """``form``: "labelIds" (as published; void is id 0), "labelTrainIds" (made by cityscapesScripts), or "both"."""
    ids = np.zeros(256, dtype=np.uint8)
    ids[: len(CITYSCAPES_IDS)] = CITYSCAPES_IDS
    names = []
    for number, (frame, truth) in enumerate(zip(frames, truths, strict=True)):
        city = ("frankfurt", "lindau", "munster")[number % 3]
        name = f"{city}/{city}_{number:06d}_000019"
        names.append(name)
        write_picture(root / "leftImg8bit" / split / f"{name}_leftImg8bit.png", frame)
        if truth is not None:
            stem = root / "gtFine" / split / name
            if form in ("labelIds", "both"):
                write_picture(stem.with_name(f"{stem.name}_gtFine_labelIds.png"), ids[truth])
            if form in ("labelTrainIds", "both"):
                write_picture(stem.with_name(f"{stem.name}_gtFine_labelTrainIds.png"), truth)
            # published beside them, and not labels
            write_picture(stem.with_name(f"{stem.name}_gtFine_color.png"), np.dstack([truth] * 3))
            write_picture(stem.with_name(f"{stem.name}_gtFine_instanceIds.png"), ids[truth].astype(np.uint16) * 1000)
    return tuple(names)


def build_ade20k(root: Path, frames: Sequence[UInt8], truths: Truths, split: str = "val") -> tuple[str, ...]:
    """ADEChallengeData2016: 0 is void, the classes are 1 to 150."""
    folder = {"val": "validation", "train": "training"}[split]
    names = []
    for number, (frame, truth) in enumerate(zip(frames, truths, strict=True), start=1):
        name = f"ADE_{split}_{number:08d}"
        names.append(name)
        write_picture(root / "images" / folder / f"{name}.jpg", frame)
        if truth is not None:
            write_picture(root / "annotations" / folder / f"{name}.png", _from_one(truth))
    return tuple(names)


def build_voc(root: Path, frames: Sequence[UInt8], truths: Truths, split: str = "val") -> tuple[str, ...]:
    """VOCdevkit/VOC2012 below ``root``: palette PNGs, and the split's list of names."""
    base = root / "VOCdevkit" / "VOC2012"
    names = []
    for number, (frame, truth) in enumerate(zip(frames, truths, strict=True)):
        name = f"2007_{number:06d}"
        names.append(name)
        write_picture(base / "JPEGImages" / f"{name}.jpg", frame)
        if truth is not None:
            write_palette_png(base / "SegmentationClass" / f"{name}.png", truth)
    write_names(base / "ImageSets" / "Segmentation" / f"{split}.txt", names)
    return tuple(names)


def build_context(root: Path, frames: Sequence[UInt8], truths: Truths, split: str = "val") -> tuple[str, ...]:
    """VOCdevkit/VOC2010 below ``root``: truths are those of 60 classes, 0 the background.

    What context59 sees of them is one less, and void for the background.
    """
    base = root / "VOCdevkit" / "VOC2010"
    names = []
    for number, (frame, truth) in enumerate(zip(frames, truths, strict=True)):
        name = f"2008_{number:06d}"
        names.append(name)
        write_picture(base / "JPEGImages" / f"{name}.jpg", frame)
        if truth is not None:
            write_picture(base / "SegmentationClassContext" / f"{name}.png", truth)
    write_names(base / "ImageSets" / "SegmentationContext" / f"{split}.txt", names)
    return tuple(names)


def build_cocostuff(
    root: Path, frames: Sequence[UInt8], truths: Truths, form: str = "labelTrainIds", split: str = "val"
) -> tuple[str, ...]:
    """``form``: "labelTrainIds" (mmsegmentation's converted files) or "stuffthingmaps" (as published, with gaps)."""
    ids = np.full(256, 255, dtype=np.uint8)
    ids[:171] = [raw for raw in range(182) if raw not in COCOSTUFF_GAPS]
    names = []
    for number, (frame, truth) in enumerate(zip(frames, truths, strict=True)):
        name = f"{number * 37 + 139:012d}"
        names.append(name)
        write_picture(root / "images" / f"{split}2017" / f"{name}.jpg", frame)
        if truth is not None:
            labels = root / "annotations" / f"{split}2017"
            if form == "labelTrainIds":
                write_picture(labels / f"{name}_labelTrainIds.png", truth)
            else:
                write_picture(labels / f"{name}.png", ids[truth])
    return tuple(names)


def build_lip(
    root: Path, frames: Sequence[UInt8], truths: Truths, split: str = "val", listed: bool = True
) -> tuple[str, ...]:
    """The archives unpacked side by side; ``listed``: with the list of names that comes with the pictures."""
    pictures, labels = root / "TrainVal_images", root / "TrainVal_parsing_annotations"
    names = []
    for number, (frame, truth) in enumerate(zip(frames, truths, strict=True)):
        name = f"{100034 + number}_{483681 + number}"
        names.append(name)
        write_picture(pictures / f"{split}_images" / f"{name}.jpg", frame)
        if truth is not None:
            write_picture(labels / f"{split}_segmentations" / f"{name}.png", truth)
    if listed:
        write_names(pictures / f"{split}_id.txt", names)
    return tuple(names)


def build_folder(root: Path, frames: Sequence[UInt8], truths: Truths, suffix: str = ".png") -> tuple[str, ...]:
    """``images/`` and ``labels/``, every second sample one folder deeper."""
    names = []
    for number, (frame, truth) in enumerate(zip(frames, truths, strict=True)):
        name = f"drive/frame_{number:03d}" if number % 2 else f"frame_{number:03d}"
        names.append(name)
        write_picture(root / "images" / f"{name}{suffix}", frame)
        if truth is not None:
            write_picture(root / "labels" / f"{name}.png", truth)
    return tuple(names)


def write_picture(path: Path, picture: npt.NDArray[np.integer[Any]]) -> None:
    """By the suffix; uint8 or uint16, H x W or H x W x 3 (BGR).  JPEG as good as it gets."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 100] if path.suffix == ".jpg" else []):
        raise OSError(f"{path}: OpenCV did not write it")


def write_palette_png(path: Path, labels_hw: UInt8) -> None:
    """A PNG whose indices are the labels, in the colours of the PASCAL VOC devkit's colour map."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(labels_hw)
    picture.putpalette(_voc_colours().tobytes())
    picture.save(path)


def write_names(path: Path, names: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")


def _from_one(truth_hw: UInt8) -> UInt8:
    """Classes from 1, void as 0."""
    return np.where(truth_hw == 255, 0, truth_hw + 1).astype(np.uint8)


def _voc_colours() -> UInt8:
    """uint8 256 x 3: bits 0, 3 and 6 of an index are red's highest bits, 1, 4 and 7 green's, 2, 5 blue's."""
    index = np.arange(256)[:, None]
    channel = np.arange(3)[None, :]
    colours = np.zeros((256, 3), dtype=np.int64)
    for step in range(3):
        colours |= (index >> (3 * step + channel) & 1) << (7 - step)
    return colours.astype(np.uint8)

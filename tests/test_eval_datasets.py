"""Data sets in their official layouts: what is found, what the numbers in label files mean, and what is refused."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from miniature_datasets import (
    COCOSTUFF_GAPS,
    build_ade20k,
    build_cityscapes,
    build_cocostuff,
    build_context,
    build_folder,
    build_lip,
    build_voc,
    drawn_scene,
    write_names,
    write_palette_png,
    write_picture,
)
from PIL import Image

from isa_deploy.errors import InputError
from isa_deploy.evaluate.class_names import class_names
from isa_deploy.evaluate.dataset import Dataset
from isa_deploy.evaluate.datasets import DATASETS, check_classes, open_dataset
from isa_deploy.evaluate.file_pairs import files_below
from isa_deploy.evaluate.label_files import read_indices, without_zero

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Layout:
    key: str
    classes: int
    build: Callable[..., tuple[str, ...]]
    options: dict[str, Any]
    id: str


LAYOUTS = [
    Layout("cityscapes", 19, build_cityscapes, {"form": "labelIds"}, "cityscapes-labelIds"),
    Layout("cityscapes", 19, build_cityscapes, {"form": "labelTrainIds"}, "cityscapes-labelTrainIds"),
    Layout("cityscapes", 19, build_cityscapes, {"form": "both"}, "cityscapes-both"),
    Layout("ade20k", 150, build_ade20k, {}, "ade20k"),
    Layout("voc", 21, build_voc, {}, "voc"),
    Layout("context60", 60, build_context, {}, "context60"),
    Layout("cocostuff", 171, build_cocostuff, {"form": "labelTrainIds"}, "cocostuff-labelTrainIds"),
    Layout("cocostuff", 171, build_cocostuff, {"form": "stuffthingmaps"}, "cocostuff-stuffthingmaps"),
    Layout("lip", 20, build_lip, {"listed": True}, "lip-listed"),
    Layout("lip", 20, build_lip, {"listed": False}, "lip"),
    Layout("folder", 8, build_folder, {}, "folder"),
    Layout("folder", 8, build_folder, {"suffix": ".jpg"}, "folder-jpg"),
]
every_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.id)


def scenes(classes: int, count: int = 3) -> tuple[list[UInt8], list[UInt8]]:
    drawn = [drawn_scene(seed, classes) for seed in range(count)]
    return [frame for frame, _ in drawn], [truth for _, truth in drawn]


def built(layout: Layout, root: Path, missing: int | None = None) -> tuple[Dataset, tuple[str, ...], list[UInt8]]:
    frames, truths = scenes(layout.classes)
    given_truths = [None if number == missing else truth for number, truth in enumerate(truths)]
    names = layout.build(root, frames, given_truths, **layout.options)
    return open_dataset(layout.key, root), names, truths


def truths_by_name(dataset: Dataset) -> dict[str, UInt8]:
    return {sample.name: dataset.read_truth(sample) for sample in dataset.listing().samples}


# -- what every data set does


@every_layout
def test_truth_is_in_train_ids_under_the_official_names(layout: Layout, tmp_path: Path) -> None:
    dataset, names, truths = built(layout, tmp_path)
    listing = dataset.listing()
    assert [sample.name for sample in listing.samples] == sorted(names)
    assert listing.images_without_labels == listing.labels_without_images == ()
    read = truths_by_name(dataset)
    for name, truth in zip(names, truths, strict=True):
        assert read[name].dtype == np.uint8
        assert read[name].flags.c_contiguous
        np.testing.assert_array_equal(read[name], truth)
    assert all(sample.image.is_file() for sample in listing.samples)


@every_layout
def test_a_picture_without_labels_is_named_and_still_a_picture(layout: Layout, tmp_path: Path) -> None:
    dataset, names, _ = built(layout, tmp_path, missing=1)
    listing = dataset.listing()
    assert listing.images_without_labels == (names[1],)
    assert listing.labels_without_images == ()
    assert [sample.name for sample in listing.samples] == sorted({names[0], names[2]})
    pictures = {sample.name: sample for sample in dataset.images()}
    assert sorted(pictures) == sorted(names)
    assert pictures[names[1]].truth is None
    with pytest.raises(InputError, match="has no label file"):
        dataset.read_truth(pictures[names[1]])


@every_layout
def test_labels_without_a_picture_are_named(layout: Layout, tmp_path: Path) -> None:
    dataset, names, _ = built(layout, tmp_path)
    (gone,) = [sample for sample in dataset.images() if sample.name == names[0]]
    gone.image.unlink()
    listing = dataset.listing()
    assert listing.labels_without_images == (names[0],)
    assert listing.images_without_labels == ()
    assert names[0] not in {sample.name for sample in (*listing.samples, *dataset.images())}


@pytest.mark.parametrize("key", DATASETS)
def test_an_empty_folder_is_refused_with_what_was_looked_for(key: str, tmp_path: Path) -> None:
    dataset = open_dataset(key, tmp_path)
    for look in (dataset.listing, dataset.images):
        with pytest.raises(InputError, match=r"no picture; looked for .*; check --root and --split") as raised:
            look()
        assert str(tmp_path) in str(raised.value)
        assert "\n" not in str(raised.value)


@every_layout
def test_pictures_without_any_labels_are_refused_with_both_places(layout: Layout, tmp_path: Path) -> None:
    frames, truths = scenes(layout.classes)
    layout.build(tmp_path, frames, [None for _ in truths], **layout.options)
    dataset = open_dataset(layout.key, tmp_path)
    assert len(dataset.images()) == 3
    with pytest.raises(InputError, match=r"3 pictures and 0 label files, and none belong together; looked for .*\.png"):
        dataset.listing()


@pytest.mark.parametrize("key", [key for key in DATASETS if key != "folder"])
def test_classes_are_those_of_the_data_set(key: str, tmp_path: Path) -> None:
    counts = {"cityscapes": 19, "ade20k": 150, "voc": 21, "context59": 59, "context60": 60, "cocostuff": 171, "lip": 20}
    dataset = open_dataset(key, tmp_path)
    assert dataset.classes is not None
    assert dataset.key == key
    assert len(dataset.classes) == len(set(dataset.classes)) == counts[key]


def test_the_order_of_classes_is_mmsegmentations() -> None:
    # of Pascal Context the order by name, which mmsegmentation has from 0.20 on
    names = class_names("context60")
    assert names == ("background", *sorted(names[1:]))
    assert class_names("context59") == names[1:]
    # COCO's 80 things in the order of their ids, then 91 kinds of stuff by name
    stuff = class_names("cocostuff")
    assert (stuff[0], stuff[11], stuff[79], stuff[80], stuff[170]) == (
        "person",
        "stop sign",
        "toothbrush",
        "banner",
        "wood",
    )
    assert list(stuff[80:]) == sorted(stuff[80:])


def test_an_unknown_data_set_a_missing_root_and_a_strange_split_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no data set 'kitti'; choose one of cityscapes, .*folder"):
        open_dataset("kitti", tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        open_dataset("cityscapes", tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no split '../val'"):
        open_dataset("cityscapes", tmp_path, "../val")
    with pytest.raises(InputError, match="a plain folder has no split 'test'"):
        open_dataset("folder", tmp_path, "test")


# -- Cityscapes


def test_cityscapes_ids_become_the_train_ids_of_cityscapesscripts(tmp_path: Path) -> None:
    from cityscapesscripts.helpers.labels import labels

    write_picture(tmp_path / "leftImg8bit/val/ulm/ulm_000000_000019_leftImg8bit.png", np.zeros((16, 16, 3), np.uint8))
    ids = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_picture(tmp_path / "gtFine/val/ulm/ulm_000000_000019_gtFine_labelIds.png", ids)
    truth = truths_by_name(open_dataset("cityscapes", tmp_path))["ulm/ulm_000000_000019"].ravel()
    official = {label.id: label.trainId for label in labels if label.id >= 0}
    assert {number: int(truth[number]) for number in official} == official
    # no label's number: neither a class nor void, so that it is counted as outside
    assert all(19 <= truth[number] < 255 for number in range(len(official), 255))
    assert truth[255] == 255


def test_cityscapes_train_ids_are_preferred_picture_by_picture(tmp_path: Path) -> None:
    frames, truths = scenes(19)
    names = build_cityscapes(tmp_path, frames, truths, form="labelIds")
    made = np.full_like(truths[1], 7)
    write_picture(tmp_path / "gtFine" / "val" / f"{names[1]}_gtFine_labelTrainIds.png", made)
    read = truths_by_name(open_dataset("cityscapes", tmp_path))
    np.testing.assert_array_equal(read[names[0]], truths[0])
    np.testing.assert_array_equal(read[names[1]], made)


def test_cityscapes_test_split_has_pictures_and_no_truth(tmp_path: Path) -> None:
    frames, truths = scenes(19)
    names = build_cityscapes(tmp_path, frames, [None for _ in truths], split="test")
    dataset = open_dataset("cityscapes", tmp_path, "test")
    assert [(sample.name, sample.truth) for sample in dataset.images()] == [(name, None) for name in sorted(names)]


# -- ADE20K, Pascal Context: 0 is void


def test_reduce_zero_label_is_mmsegmentations() -> None:
    labels = np.arange(256, dtype=np.uint8)[None]
    expected = labels.copy()
    expected[expected == 0] = 255
    expected = expected - 1
    expected[expected == 254] = 255
    np.testing.assert_array_equal(without_zero(labels), expected)


def test_ade20k_is_found_in_its_archives_folder(tmp_path: Path) -> None:
    frames, truths = scenes(150)
    for split in ("val", "train"):
        names = build_ade20k(tmp_path / "ADEChallengeData2016", frames, truths, split=split)
        assert set(truths_by_name(open_dataset("ade20k", tmp_path, split))) == set(names)


def test_context59_is_context60_with_its_background_void(tmp_path: Path) -> None:
    frames, truths = scenes(60)
    names = build_context(tmp_path, frames, truths)
    read = truths_by_name(open_dataset("context59", tmp_path))
    for name, truth in zip(names, truths, strict=True):
        np.testing.assert_array_equal(read[name], np.where((truth == 0) | (truth == 255), 255, truth - 1))


# -- Pascal VOC and lists of splits


def test_voc_reads_palette_indices_not_colours(tmp_path: Path) -> None:
    truth = np.arange(256, dtype=np.uint8).reshape(16, 16)
    (name,) = build_voc(tmp_path, [np.zeros((16, 16, 3), np.uint8)], [truth])
    (sample,) = open_dataset("voc", tmp_path).listing().samples
    assert sample.truth is not None
    with Image.open(sample.truth) as picture:
        assert picture.mode == "P"
        assert picture.convert("RGB").getpixel((15, 0)) == (192, 128, 128)  # the person of the devkit
    np.testing.assert_array_equal(truths_by_name(open_dataset("voc", tmp_path))[name], truth)


@pytest.mark.parametrize("below", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_voc_root_is_any_of_its_folders(below: str, tmp_path: Path) -> None:
    frames, truths = scenes(21)
    names = build_voc(tmp_path, frames, truths)
    assert set(truths_by_name(open_dataset("voc", tmp_path / below))) == set(names)


def test_a_list_chooses_and_names_what_is_missing(tmp_path: Path) -> None:
    frames, truths = scenes(21)
    names = build_voc(tmp_path, frames, truths)
    lists = tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    # as Windows writes it; blanks and empty lines do not matter
    (lists / "val.txt").write_bytes(b"\xef\xbb\xbf" + f"{names[2]} \r\n\r\n{names[0]}\r\n2999_000001\r\n".encode())
    listing = open_dataset("voc", tmp_path).listing()
    assert [sample.name for sample in listing.samples] == [names[0], names[2]]
    assert listing.images_without_labels == listing.labels_without_images == ("2999_000001",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "list of the split is empty"),
        (b"2007_1\n../2007_2\n", r"line 2 is '../2007_2'"),
        (b"2007_1 1\n", r"line 1 is '2007_1 1'"),
        (b"2007_1\n2007_2\n2007_1\n", "line 3 gives '2007_1' a second time"),
        (b"2007_1\n\xff\xfe", "byte 7 is no UTF-8 text"),
        (b"a" * ((16 << 20) + 1), "more than 16 MiB"),
    ],
    ids=["empty", "folder", "two words", "twice", "bytes", "long"],
)
def test_a_list_that_is_none_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    frames, truths = scenes(21)
    build_voc(tmp_path, frames, truths)
    (tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        open_dataset("voc", tmp_path).listing()


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    frames, truths = scenes(21)
    build_voc(tmp_path, frames, truths)
    with pytest.raises(InputError, match=r"trainval\.txt: cannot read the list of the split: there is no such file"):
        open_dataset("voc", tmp_path, "trainval").listing()


# -- COCO-Stuff


def test_cocostuff_ids_with_gaps_become_171_train_ids(tmp_path: Path) -> None:
    write_picture(tmp_path / "images/val2017/000000000139.jpg", np.zeros((16, 16, 3), np.uint8))
    write_picture(tmp_path / "annotations/val2017/000000000139.png", np.arange(256, dtype=np.uint8).reshape(16, 16))
    (truth,) = truths_by_name(open_dataset("cocostuff", tmp_path)).values()
    numbers = truth.ravel()
    kept = [number for number in range(182) if number not in COCOSTUFF_GAPS]
    assert numbers[kept].tolist() == list(range(171))
    # places in mmsegmentation's table: stop sign, bench, toothbrush, the first and the last stuff
    assert numbers[[12, 14, 89, 91, 181]].tolist() == [11, 13, 79, 80, 170]
    outside = [*COCOSTUFF_GAPS, *range(182, 255)]
    assert all(171 <= numbers[number] < 255 for number in outside)
    assert numbers[255] == 255


def test_cocostuff_converted_files_are_preferred_and_the_archives_folder_found(tmp_path: Path) -> None:
    frames, truths = scenes(171)
    names = build_cocostuff(tmp_path / "coco_stuff164k", frames, truths, form="stuffthingmaps")
    made = np.full_like(truths[0], 99)
    write_picture(tmp_path / "coco_stuff164k/annotations/val2017" / f"{names[0]}_labelTrainIds.png", made)
    read = truths_by_name(open_dataset("cocostuff", tmp_path))
    assert set(read) == set(names)
    np.testing.assert_array_equal(read[names[0]], made)
    np.testing.assert_array_equal(read[names[1]], truths[1])


# -- LIP


def test_lip_says_which_labels_change_places_in_a_mirror(tmp_path: Path) -> None:
    dataset = open_dataset("lip", tmp_path)
    assert dataset.classes is not None
    pairs = [(dataset.classes[left], dataset.classes[right]) for left, right in dataset.flip_pairs]
    assert pairs == [("Left-arm", "Right-arm"), ("Left-leg", "Right-leg"), ("Left-shoe", "Right-shoe")]
    assert {pair for name in class_names("lip") if name.startswith("Left") for pair in pairs if name in pair} == set(
        pairs
    )
    assert all(open_dataset(key, tmp_path).flip_pairs == () for key in DATASETS if key != "lip")


def test_lip_is_found_side_by_side_and_in_the_archives_folders(tmp_path: Path) -> None:
    frames, truths = scenes(20)
    names = build_lip(tmp_path, frames, truths)
    pictures, labels = tmp_path / "TrainVal_images", tmp_path / "TrainVal_parsing_annotations"
    assert set(truths_by_name(open_dataset("lip", tmp_path))) == set(names)
    # an archive inside of a folder of its own name
    for folder in (pictures, labels):
        inner = folder / folder.name
        inner.mkdir()
        for child in [child for child in folder.iterdir() if child != inner]:
            child.rename(inner / child.name)
    assert set(truths_by_name(open_dataset("lip", tmp_path))) == set(names)
    # as mmsegmentation arranges it
    (pictures / pictures.name / "val_images").rename(tmp_path / "val_images")
    (labels / labels.name / "val_segmentations").rename(tmp_path / "val_segmentations")
    assert set(truths_by_name(open_dataset("lip", tmp_path))) == set(names)


def test_lip_list_beside_the_pictures_chooses(tmp_path: Path) -> None:
    frames, truths = scenes(20)
    names = build_lip(tmp_path, frames, truths)
    write_names(tmp_path / "TrainVal_images" / "val_id.txt", names[:2])
    dataset = open_dataset("lip", tmp_path)
    listing = dataset.listing()
    assert [sample.name for sample in listing.samples] == sorted(names[:2])
    assert listing.images_without_labels == listing.labels_without_images == ()
    assert [sample.name for sample in dataset.images()] == sorted(names[:2])


# -- a plain folder


def test_hidden_files_and_other_files_are_no_pictures(tmp_path: Path) -> None:
    frames, truths = scenes(8)
    names = build_folder(tmp_path, frames, truths)
    for path in (
        "images/._frame_000.png",
        "images/.cache/a.png",
        "labels/.cache/a.png",
        "images/notes.txt",
        "labels/x.txt",
    ):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(b"")
    listing = open_dataset("folder", tmp_path).listing()
    assert [sample.name for sample in listing.samples] == sorted(names)
    assert listing.images_without_labels == listing.labels_without_images == ()


def test_two_pictures_of_one_name_are_refused(tmp_path: Path) -> None:
    frames, truths = scenes(8)
    build_folder(tmp_path, frames, truths)
    write_picture(tmp_path / "images" / "frame_000.jpg", frames[0])
    with pytest.raises(InputError, match=r"frame_000\.png: frame_000\.jpg in the same folder has the same name"):
        open_dataset("folder", tmp_path).listing()


def test_endings_are_read_in_any_case(tmp_path: Path) -> None:
    frames, truths = scenes(8)
    (name, *_) = build_folder(tmp_path, frames, truths)
    (tmp_path / "images" / f"{name}.png").rename(tmp_path / "images" / f"{name}.PNG")
    assert name in truths_by_name(open_dataset("folder", tmp_path))


def test_cityscapes_train_ids_in_capitals_are_train_ids(tmp_path: Path) -> None:
    frames, truths = scenes(19)
    (name, *_) = build_cityscapes(tmp_path, frames, truths, form="labelTrainIds")
    file = tmp_path / "gtFine" / "val" / f"{name}_gtFine_labelTrainIds.png"
    file.rename(file.with_suffix(".PNG"))
    np.testing.assert_array_equal(truths_by_name(open_dataset("cityscapes", tmp_path))[name], truths[0])


def test_links_are_followed_out_of_the_root_and_not_in_circles(tmp_path: Path) -> None:
    frames, truths = scenes(8)
    names = build_folder(tmp_path / "elsewhere", frames, truths)
    root = tmp_path / "root"
    root.mkdir()
    (root / "images").symlink_to(tmp_path / "elsewhere" / "images")
    (root / "labels").symlink_to(tmp_path / "elsewhere" / "labels")
    assert set(truths_by_name(open_dataset("folder", root))) == set(names)
    (tmp_path / "elsewhere" / "images" / "again").symlink_to(tmp_path / "elsewhere" / "images")
    with pytest.raises(InputError, match=r"images/again: this link leads back"):
        open_dataset("folder", root).listing()


def test_a_broken_link_is_a_sample_that_cannot_be_read(tmp_path: Path) -> None:
    frames, truths = scenes(8)
    (name, *_) = build_folder(tmp_path, frames, truths)
    label = tmp_path / "labels" / f"{name}.png"
    label.unlink()
    label.symlink_to(tmp_path / "gone.png")
    dataset = open_dataset("folder", tmp_path)
    (sample,) = [sample for sample in dataset.listing().samples if sample.name == name]
    with pytest.raises(InputError, match="cannot read the labels: there is no such file"):
        dataset.read_truth(sample)


def test_a_listing_does_not_depend_on_the_order_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, truths = scenes(8)
    build_folder(tmp_path, frames, truths)
    dataset = open_dataset("folder", tmp_path)
    before = dataset.listing()
    scan = os.scandir

    class Backwards:
        def __init__(self, folder: Path) -> None:
            self._entries = list(scan(folder))[::-1]

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self._entries

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(os, "scandir", Backwards)
    assert dataset.listing() == before


def test_labels_outside_of_the_classes_are_handed_on(tmp_path: Path) -> None:
    truth = np.array([[0, 7, 8, 200, 254, 255]], dtype=np.uint8)
    (name,) = build_folder(tmp_path, [np.zeros((1, 6, 3), np.uint8)], [truth])
    np.testing.assert_array_equal(truths_by_name(open_dataset("folder", tmp_path))[name], truth)


# -- label files


def png(
    rows: list[bytes], width: int, depth: int, kind: int, between: bytes = b"", claimed: int | None = None
) -> bytes:
    """A PNG made of its chunks: ``rows`` as packed, ``claimed`` the height that the header gives."""
    height = len(rows) if claimed is None else claimed
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    palette = chunk(b"PLTE", bytes(range(3)) * (1 << min(depth, 8))) if kind == 3 else b""
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + palette + between + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("kind", [0, 3], ids=["grey", "palette"])
@pytest.mark.parametrize(
    ("depth", "row", "numbers"),
    [
        (1, b"\xb0", [1, 0, 1, 1]),
        (2, b"\x1b", [0, 1, 2, 3]),
        (4, b"\x01\x2f", [0, 1, 2, 15]),
        (8, b"\x00\x01\x12\xff", [0, 1, 18, 255]),
    ],
)
def test_numbers_are_read_from_any_depth(kind: int, depth: int, row: bytes, numbers: list[int], tmp_path: Path) -> None:
    path = tmp_path / "labels.png"
    # a transparent colour changes no number
    transparent = chunk(b"tRNS", b"\0\0" if kind == 0 else b"\0\xff")
    for between in (b"", transparent):
        path.write_bytes(png([row, row], 4, depth, kind, between))
        labels = read_indices(path)
        assert labels.dtype == np.uint8
        assert labels.tolist() == [numbers, numbers]


@given(
    labels=st.integers(1, 40).flatmap(
        lambda width: st.lists(st.binary(min_size=width, max_size=width), min_size=1, max_size=8)
    ),
    palette=st.booleans(),
    optimise=st.booleans(),
)
def test_what_pillow_writes_is_read(
    labels: list[bytes], palette: bool, optimise: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    written = np.array([list(row) for row in labels], dtype=np.uint8)
    path = tmp_path_factory.getbasetemp() / "written.png"
    if palette:
        write_palette_png(path, written)
    else:
        Image.fromarray(written).save(path, optimize=optimise)
    with Image.open(path) as picture:
        np.testing.assert_array_equal(read_indices(path), np.array(picture))
    np.testing.assert_array_equal(read_indices(path), written)


def test_sixteen_bits_hold_labels_and_void(tmp_path: Path) -> None:
    path = tmp_path / "labels.png"
    write_picture(path, np.array([[0, 18, 255, 65535]], dtype=np.uint16))
    assert read_indices(path).tolist() == [[0, 18, 255, 255]]
    write_picture(path, np.array([[0, 26001, 255, 65535]], dtype=np.uint16))
    with pytest.raises(InputError, match=r"labels\.png: holds the number 26001; labels are 0 to 255, and 65535"):
        read_indices(path)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((3,), "holds RGB colours; labels are class indices"), ((4,), "holds RGB colours and alpha")],
)
def test_colours_are_no_labels(shape: tuple[int, ...], message: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.png"
    write_picture(path, np.zeros((4, 4, *shape), dtype=np.uint8))
    with pytest.raises(InputError, match=message):
        read_indices(path)
    Image.new("LA", (4, 4)).save(path)
    with pytest.raises(InputError, match="holds grey and alpha"):
        read_indices(path)


def test_a_file_that_is_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.png"
    write_palette_png(path, drawn_scene(0, 21)[1])
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"labels\.png: "):
            read_indices(path)


@pytest.mark.parametrize("kind", [0, 3], ids=["grey", "palette"])
def test_pixels_that_end_early_are_no_zeros(kind: int, tmp_path: Path) -> None:
    path = tmp_path / "labels.png"
    path.write_bytes(png([b"\x05\x05"] * 3, 2, 8, kind, claimed=4))
    with pytest.raises(InputError, match="pixels cannot be read"):
        read_indices(path)


@pytest.mark.parametrize("at", [16, 45, 60], ids=["header", "palette", "pixels"])
def test_a_damaged_file_is_refused(at: int, tmp_path: Path) -> None:
    path = tmp_path / "labels.png"
    path.write_bytes(png([bytes(range(8))] * 8, 8, 4, 3))
    data = bytearray(path.read_bytes())
    data[at] ^= 0x55
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        read_indices(path)


def test_a_header_of_terabytes_is_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "labels.png"
    path.write_bytes(png([b"\0"], 2**31 - 1, 8, 0, claimed=2**31 - 1))
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(InputError, match=r"2147483647x2147483647 is .* million pixels, more than the 268 million"):
        read_indices(path)
    path.write_bytes(png([b"\0" * 10] * 10, 10, 8, 0))
    with pytest.raises(InputError, match="10x10"):
        read_indices(path, max_pixels=99)


def test_only_the_header_at_the_start_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "labels.png"
    header = struct.pack(">IIBBBBB", 3, 3, 8, 0, 0, 0, 0)
    whole = png([b"\0\1"] * 2, 2, 8, 0)
    second = png([b"\0\1"] * 2, 2, 8, 0, between=chunk(b"IHDR", header))
    disguised = whole[:8] + chunk(b"tEXt", header) + whole[8:]
    for data in (second, disguised):
        path.write_bytes(data)
        with pytest.raises(InputError, match="its header is not its start"):
            read_indices(path)


def test_other_formats_and_other_things_are_no_labels(tmp_path: Path) -> None:
    encoded = io.BytesIO()
    Image.new("L", (4, 4)).save(encoded, "JPEG")
    path = tmp_path / "labels.png"
    for content, message in (
        (encoded.getvalue(), "a JPEG file; labels are class indices in a PNG"),
        (b"", "the file is empty"),
        (b"labels", "not an image"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_indices(path)
    with pytest.raises(InputError, match="this is a folder"):
        read_indices(tmp_path)
    with pytest.raises(InputError, match="there is no such file"):
        read_indices(tmp_path / "gone.png")
    with pytest.raises(InputError, match="no ordinary file"):
        read_indices(Path(os.devnull))


# -- folders


def test_a_link_to_itself_is_a_file_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "b.png").symlink_to("b.png")
    assert sorted(files_below(tmp_path, ".png")) == ["a", "b"]


def test_folders_without_end_are_refused(tmp_path: Path) -> None:
    tmp_path.joinpath(*["d"] * 70).mkdir(parents=True)
    with pytest.raises(InputError, match="more than 64 folders in one another"):
        files_below(tmp_path, ".png")


# -- classes of an engine


def test_the_same_classes_in_other_letters_fit(tmp_path: Path) -> None:
    for key in DATASETS:
        dataset = open_dataset(key, tmp_path)
        if dataset.classes is not None:
            check_classes(dataset, [f" {name.strip().upper()} " for name in dataset.classes], Path("model.onnx"))


def test_a_plain_folder_takes_any_classes(tmp_path: Path) -> None:
    check_classes(open_dataset("folder", tmp_path), ["cat", "dog"], Path("model.onnx"))


def test_other_classes_are_refused_with_both_lists(tmp_path: Path) -> None:
    lip, cityscapes = open_dataset("lip", tmp_path), open_dataset("cityscapes", tmp_path)
    with pytest.raises(InputError, match=r"^model\.onnx: the engine has 19 classes where LIP has 20") as raised:
        check_classes(lip, class_names("cityscapes"), Path("model.onnx"))
    assert ", ".join(class_names("cityscapes")) in str(raised.value)
    assert ", ".join(class_names("lip")) in str(raised.value)
    swapped = [*class_names("cityscapes")]
    swapped[3], swapped[4] = swapped[4], swapped[3]
    with pytest.raises(InputError, match="the engine has fence as class 3 where Cityscapes has wall") as raised:
        check_classes(cityscapes, swapped, Path("model.onnx"))
    assert ", ".join(swapped) in str(raised.value)
    assert ", ".join(class_names("cityscapes")) in str(raised.value)


def test_a_name_with_control_characters_stays_on_the_line(tmp_path: Path) -> None:
    with pytest.raises(InputError) as raised:
        check_classes(open_dataset("lip", tmp_path), ["a\nb\x1b[2J"], Path("model.onnx"))
    assert "'a\\nb\\x1b[2J'" in str(raised.value)
    assert "\n" not in str(raised.value)

"""Names and colours of data sets equal those that mmsegmentation itself writes into checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from isa_deploy.errors import InputError
from isa_deploy.runtime.datasets import dataset_palette, distinct_palette


@pytest.mark.parametrize(
    ("names", "classes", "first", "last"),
    [
        (["CityscapesDataset", "cityscapes", "Cityscapes", " city-scapes"], 19, "road", "bicycle"),
        (["ADE20KDataset", "ade20k", "ADE20K", "ade"], 150, "wall", "flag"),
        (["PascalVOCDataset", "voc", "VOC2012", "pascal_voc12_aug", "voc12aug"], 21, "background", "tvmonitor"),
    ],
)
def test_a_data_set_answers_to_its_names(names: list[str], classes: int, first: str, last: str) -> None:
    palettes = [dataset_palette(name) for name in names]
    assert len(set(palettes)) == 1
    palette = palettes[0]
    assert palette is not None
    assert len(palette.names) == len(palette.palette_rgb) == classes
    assert (palette.names[0], palette.names[-1]) == (first, last)
    assert len(set(palette.names)) == classes


@pytest.mark.parametrize("name", ["", "coco", "PascalContextDataset", "cityscapes\0", "../cityscapes"])
def test_an_unknown_data_set_has_no_palette(name: str) -> None:
    assert dataset_palette(name) is None


def test_voc_colours_follow_the_bitmap_formula() -> None:
    """Bit k of the label's base-8 digits, lowest digit first, is bit 7 - digit of channel k (VOC devkit)."""
    palette = dataset_palette("PascalVOCDataset")
    assert palette is not None
    for label, colour in enumerate(palette.palette_rgb):
        expected = tuple(sum((label >> (3 * i + channel) & 1) << (7 - i) for i in range(8)) for channel in range(3))
        assert colour == expected, palette.names[label]


def test_colours_are_bytes() -> None:
    for name in ("cityscapes", "ade20k", "voc"):
        palette = dataset_palette(name)
        assert palette is not None
        assert all(0 <= channel <= 255 for colour in palette.palette_rgb for channel in colour)


@pytest.mark.parametrize("file", ["tiny_r101_ade_1x.pth", "tiny_r50_whole_1x.pth", "tiny_r50_slide_0x_legacy.pth"])
def test_palettes_equal_those_in_mmsegmentations_checkpoints(golden: Path, file: str) -> None:
    pytest.importorskip("torch", reason="checkpoints are read with torch: pip install 'isa-deploy[export]'")
    from isa_deploy.models.torch_file import open_torch_file

    with (golden / file).open("rb") as stream:
        meta: Any = open_torch_file(stream, file).root["meta"]  # type: ignore[index]
    names, colours = (
        (meta["CLASSES"], meta["PALETTE"])
        if "CLASSES" in meta
        else (meta["dataset_meta"]["classes"], meta["dataset_meta"]["palette"])
    )
    palette = dataset_palette("ade20k" if "ade" in file else "cityscapes")
    assert palette is not None
    assert palette.names == tuple(names)
    assert palette.palette_rgb == tuple(tuple(colour) for colour in colours)


def test_distinct_colours_are_distinct_stable_and_nested() -> None:
    colours = distinct_palette(256)
    assert len(set(colours)) == 256
    assert (0, 0, 0) not in colours  # void's
    assert colours[:4] == ((255, 255, 255), (218, 0, 255), (0, 255, 36), (0, 145, 255))
    for n in (1, 2, 19, 150):
        assert distinct_palette(n) == colours[:n]


def test_the_first_colours_are_far_apart() -> None:
    colours = [(0, 0, 0), *distinct_palette(19)]
    least = min(
        sum(abs(a - b) for a, b in zip(one, other, strict=True))
        for i, one in enumerate(colours)
        for other in colours[:i]
    )
    assert least >= 100


@pytest.mark.parametrize("n", [0, -1, 257])
def test_a_palette_of_an_impossible_size_is_refused(n: int) -> None:
    with pytest.raises(InputError, match=f"{n} colours"):
        distinct_palette(n)


def test_the_data_file_is_plain_json_with_one_class_a_line() -> None:
    data = Path(__file__).parents[1] / "isa_deploy" / "runtime" / "palettes.json"
    records: list[Any] = json.loads(data.read_text(encoding="utf-8"))
    assert [record["dataset_type"] for record in records] == ["CityscapesDataset", "ADE20KDataset", "PascalVOCDataset"]

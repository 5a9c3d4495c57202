"""Class names and colours of the data sets that published ISANet checkpoints were trained on.

They stand as data in ``palettes.json``: Cityscapes (19 classes), ADE20K (150) and Pascal VOC 2012 (21),
spelled exactly as mmsegmentation's ``CityscapesDataset``, ``ADE20KDataset`` and ``PascalVOCDataset`` spell
them (ADE20K's ``"bed "`` ends in a space there and here).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from isa_deploy.errors import InputError

__all__ = ["Palette", "dataset_palette", "distinct_palette"]

MAX_COLOURS = 256  # a label is one byte
_DATA = Path(__file__).with_name("palettes.json")
_LEVELS = 8  # of each channel, among which distinct_palette chooses: 8 ** 3 = 512 candidates for 256 colours


@dataclass(frozen=True)
class Palette:
    """Names of the classes by label, and their colours (RGB, 0 to 255); both have the same length."""

    names: tuple[str, ...]
    palette_rgb: tuple[tuple[int, int, int], ...]


def dataset_palette(name: str) -> Palette | None:
    """The classes of a data set, or None where the name is not one of the three.

    ``name`` is mmsegmentation's ``dataset_type`` (``"CityscapesDataset"``) or a plain name (``"cityscapes"``,
    ``"ade20k"``, ``"voc"``, ``"pascal_voc12_aug"``); case, spaces, dashes and underscores do not matter.
    """
    return _palettes().get(_key(name))


def distinct_palette(n: int) -> tuple[tuple[int, int, int], ...]:
    """``n`` well separated colours (RGB), the same on every machine, for a model that brings none.

    Each colour is the one farthest from black (which void is drawn in) and from all before it, so a palette
    of n is the beginning of one of n + 1.  The distance is the integer form of CompuPhase's low-cost
    approximation of perceived difference (T. Riemersma, "Colour metric", 2012): integers, because a rounding
    that differs between machines would change the choice.

    Raises :class:`InputError` where ``n`` is not in 1 to 256.
    """
    if not 1 <= n <= MAX_COLOURS:
        raise InputError(f"a palette of {n} colours: a label is one byte, so ask for 1 to {MAX_COLOURS}")
    return _distinct_colours()[:n]


@cache
def _palettes() -> dict[str, Palette]:
    palettes: dict[str, Palette] = {}
    for record in json.loads(_DATA.read_text(encoding="utf-8")):
        palette = Palette(
            names=tuple(name for name, _ in record["classes"]),
            palette_rgb=tuple((red, green, blue) for _, (red, green, blue) in record["classes"]),
        )
        for name in (record["dataset_type"], *record["also_called"]):
            palettes[_key(name)] = palette
    return palettes


def _key(name: str) -> str:
    return re.sub(r"[\s_-]", "", name.casefold())


@cache
def _distinct_colours() -> tuple[tuple[int, int, int], ...]:
    levels = np.arange(_LEVELS, dtype=np.int64) * 255 // (_LEVELS - 1)
    candidates = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    chosen = [np.zeros(3, dtype=np.int64)]
    nearest = np.full(len(candidates), np.iinfo(np.int64).max)
    for _ in range(MAX_COLOURS):
        nearest = np.minimum(nearest, _squared_difference(candidates, chosen[-1]))
        chosen.append(candidates[np.argmax(nearest)])
    return tuple((int(red), int(green), int(blue)) for red, green, blue in chosen[1:])


def _squared_difference(colours: np.ndarray, colour: np.ndarray) -> np.ndarray:
    mean_red = (colours[:, 0] + colour[0]) // 2
    red, green, blue = ((colours - colour) ** 2).T
    difference: np.ndarray = ((512 + mean_red) * red >> 8) + 4 * green + ((767 - mean_red) * blue >> 8)
    return difference

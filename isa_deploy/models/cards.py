"""The 16 published checkpoints as data: what OpenMMLab says of each, and how mmsegmentation tests it.

The data stand in ``cards.toml``.  A checkpoint without a config text is read with the settings of its card.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["ModelCard", "find_card", "load_cards"]

_DATA = Path(__file__).with_name("cards.toml")
_DOWNLOADS = "https://download.openmmlab.com/mmsegmentation/v0.5/isanet"


@dataclass(frozen=True)
class ModelCard:
    """One published checkpoint.

    ``dataset`` is its title, ``dataset_type`` mmsegmentation's class of it.  ``crop_hw`` is the training
    crop; in mode "slide" it is the window too, every ``stride_hw`` pixels.  ``scale_wh`` is the box (width,
    height) that a picture is fitted into at test time, keeping its ratio.  ``miou`` and ``miou_ms_flip``
    are in per cent, ``train_memory_gb`` is for training, ``fps`` for one V100 at test time.
    """

    name: str
    file: str
    dataset: str
    dataset_type: str
    num_classes: int
    depth: int
    crop_hw: tuple[int, int]
    iterations: int
    train_memory_gb: float
    fps: float
    miou: float
    miou_ms_flip: float
    mode: Literal["whole", "slide"]
    stride_hw: tuple[int, int] | None
    align_corners: bool
    scale_wh: tuple[int, int]

    @property
    def sha8(self) -> str:
        """The first 8 hex digits of the file's SHA-256, which its name ends in."""
        return self.file[-len("01234567.pth") : -len(".pth")]

    @property
    def url(self) -> str:
        """Where OpenMMLab keeps the file.  Nothing here downloads it."""
        folder = re.sub(r"_\d{8}_\d{6}-[0-9a-f]{8}\.pth$", "", self.file)
        return f"{_DOWNLOADS}/{folder}/{self.file}"


@cache
def load_cards() -> tuple[ModelCard, ...]:
    """All cards, in the order of ``cards.toml``."""
    data: dict[str, Any] = tomllib.loads(_DATA.read_text(encoding="utf-8"))
    return tuple(_card(record, data) for record in data["cards"])


def find_card(key: str) -> ModelCard | None:
    """The card of a file name, of a SHA-256 (or its first 8 hex digits) or of a config name; None without."""
    for card in load_cards():
        if key in (card.file, card.name) or (re.fullmatch(r"[0-9a-f]{8,64}", key) and key.startswith(card.sha8)):
            return card
    return None


def _card(record: dict[str, Any], data: dict[str, Any]) -> ModelCard:
    dataset = data["datasets"][record["dataset"]]
    height, width = record["crop_hw"]
    test = data["tests"][f"{record['dataset']}-{height}x{width}"]
    return ModelCard(
        name=record["name"],
        file=record["file"],
        dataset=dataset["title"],
        dataset_type=dataset["dataset_type"],
        num_classes=dataset["num_classes"],
        depth=record["depth"],
        crop_hw=(height, width),
        iterations=record["iterations"],
        train_memory_gb=record["train_memory_gb"],
        fps=record["fps"],
        miou=record["miou"],
        miou_ms_flip=record["miou_ms_flip"],
        mode=test["mode"],
        stride_hw=tuple(test["stride_hw"]) if "stride_hw" in test else None,
        align_corners=test["align_corners"],
        scale_wh=tuple(test["scale_wh"]),
    )

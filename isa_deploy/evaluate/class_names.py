"""The classes of the data sets, in the order of their labels, spelled as mmsegmentation spells them.

``classes.json`` holds those that the runtime has no palette of, from the ``METAINFO`` of mmsegmentation 1.x
(``PascalContextDataset``, ``COCOStuffDataset``, ``LIPDataset``).
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from isa_deploy.runtime.datasets import dataset_palette

__all__ = ["class_names"]

_DATA = Path(__file__).with_name("classes.json")


@cache
def class_names(key: str) -> tuple[str, ...]:
    """``key``: "cityscapes", "ade20k", "voc", "context59", "context60", "cocostuff" or "lip".

    KeyError for another, which no user can name.
    """
    if key == "context59":
        return class_names("context60")[1:]  # without the background
    palette = dataset_palette(key)
    if palette is not None:
        return palette.names
    return tuple(json.loads(_DATA.read_text(encoding="utf-8"))[key])

"""COCO-Stuff 164k: ``images/val2017/*.jpg`` and ``annotations/val2017``.

Where mmsegmentation's converter made ``*_labelTrainIds.png`` of a picture, that is read; else the published map of
things and stuff (``stuffthingmaps``: ``*.png``), whose ids have gaps.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from isa_deploy.evaluate.class_names import class_names
from isa_deploy.evaluate.dataset import FileDataset, UInt8
from isa_deploy.evaluate.file_pairs import FilePairs, files_below, first_folder, places
from isa_deploy.evaluate.label_files import read_indices, translated

__all__ = ["cocostuff"]

PUBLISHED_IDS = 182
GAPS = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
"""Ids of no class: one less than those that COCO-Stuff's ``labels.txt``, where 0 is unlabeled, gives to classes that
COCO dropped."""

OUTSIDE = 254  # of the 171 classes, and not void

_TRAIN_IDS = "_labelTrainIds"


def cocostuff(root: Path, split: str) -> FileDataset:
    """COCO-Stuff 164k below ``root`` or its folder coco_stuff164k; 255 is void, as published."""
    bases = (root, root / "coco_stuff164k")
    images = [base / "images" / f"{split}2017" for base in bases]
    labels = [base / "annotations" / f"{split}2017" for base in bases]

    def find() -> FilePairs:
        files = files_below(first_folder(labels), ".png")
        converted = {name[: -len(_TRAIN_IDS)]: path for name, path in files.items() if name.endswith(_TRAIN_IDS)}
        published = {name: path for name, path in files.items() if not name.endswith(_TRAIN_IDS)}
        return FilePairs(
            images=files_below(first_folder(images), ".jpg"),
            labels={**published, **converted},
            images_looked_for=places(images, "*.jpg"),
            labels_looked_for=places(labels, f"*{_TRAIN_IDS}.png or *.png"),
        )

    return FileDataset("cocostuff", "COCO-Stuff 164k", class_names("cocostuff"), find, _read_labels)


def _read_labels(path: Path) -> UInt8:
    labels_hw = read_indices(path)
    return labels_hw if path.stem.endswith(_TRAIN_IDS) else translated(labels_hw, _TRAIN_ID_OF)


def _train_id_of() -> UInt8:
    # what no class has is counted as outside: a gap becomes such a number, and those above the ids are
    table = np.arange(256, dtype=np.uint8)
    table[:PUBLISHED_IDS] = OUTSIDE
    kept = [number for number in range(PUBLISHED_IDS) if number not in GAPS]
    table[kept] = np.arange(len(kept))
    return table


_TRAIN_ID_OF = _train_id_of()

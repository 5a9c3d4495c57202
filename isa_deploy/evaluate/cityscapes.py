"""Cityscapes: ``leftImg8bit/SPLIT/CITY/*_leftImg8bit.png`` and ``gtFine/SPLIT/CITY/*_gtFine_labelIds.png``.

Where cityscapesScripts made ``*_gtFine_labelTrainIds.png`` of a picture, that is read, as mmsegmentation does; else the
published label ids are translated.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from isa_deploy.evaluate.class_names import class_names
from isa_deploy.evaluate.dataset import VOID, FileDataset, UInt8
from isa_deploy.evaluate.file_pairs import FilePairs, files_below
from isa_deploy.evaluate.label_files import read_indices, translated

__all__ = ["LABEL_IDS", "cityscapes"]

LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The label id of each train id, 0 to 18, after cityscapesScripts' ``helpers/labels.py``."""

PUBLISHED_IDS = 34  # 0 to 33; -1, the licence plate, is not drawn

_IMAGE, _TRAIN_IDS, _IDS = "_leftImg8bit.png", "_gtFine_labelTrainIds.png", "_gtFine_labelIds.png"


def cityscapes(root: Path, split: str) -> FileDataset:
    """Cityscapes below ``root``; of the split "test" no truth was published."""
    images, labels = root / "leftImg8bit" / split, root / "gtFine" / split

    def find() -> FilePairs:
        return FilePairs(
            images=files_below(images, _IMAGE),
            labels={**files_below(labels, _IDS), **files_below(labels, _TRAIN_IDS)},
            images_looked_for=str(images / "CITY" / f"*{_IMAGE}"),
            labels_looked_for=f"{labels / 'CITY' / f'*{_TRAIN_IDS}'} or *{_IDS}",
        )

    return FileDataset("cityscapes", "Cityscapes", class_names("cityscapes"), find, _read_labels)


def _read_labels(path: Path) -> UInt8:
    labels_hw = read_indices(path)
    # in any case, as it was found
    return labels_hw if path.name.lower().endswith(_TRAIN_IDS.lower()) else translated(labels_hw, _TRAIN_ID_OF)


def _train_id_of() -> UInt8:
    # a number that no label has stays what it is: above the train ids, so that it is counted as outside of them
    table = np.arange(256, dtype=np.uint8)
    table[:PUBLISHED_IDS] = VOID
    table[list(LABEL_IDS)] = np.arange(len(LABEL_IDS))
    return table


_TRAIN_ID_OF = _train_id_of()

"""LIP (Look Into Person): ``val_images/*.jpg`` and ``val_segmentations/*.png``, 20 parts of people and clothes."""

from __future__ import annotations

from pathlib import Path

from isa_deploy.evaluate.class_names import class_names
from isa_deploy.evaluate.dataset import FileDataset
from isa_deploy.evaluate.file_pairs import FilePairs, files_below, first_folder, only, places
from isa_deploy.evaluate.label_files import read_indices
from isa_deploy.evaluate.split_list import read_split_list

__all__ = ["FLIP_PAIRS", "lip"]

FLIP_PAIRS = ((14, 15), (16, 17), (18, 19))
"""Left and right arm, leg and shoe: of a mirrored picture the other one."""

_IMAGES, _LABELS = "TrainVal_images", "TrainVal_parsing_annotations"


def lip(root: Path, split: str) -> FileDataset:
    """LIP below ``root``: side by side as mmsegmentation has it, or in the folders that the archives unpack to.

    Where the list of the split (``val_id.txt``) lies beside the pictures or in ``root``, its names alone count.
    """
    above = [root, root / _IMAGES, root / _IMAGES / _IMAGES]
    images = [folder / f"{split}_images" for folder in above]
    labels = [folder / f"{split}_segmentations" for folder in (root, root / _LABELS, root / _LABELS / _LABELS)]
    lists = [folder / f"{split}_id.txt" for folder in above]

    def find() -> FilePairs:
        image_files = files_below(first_folder(images), ".jpg")
        label_files = files_below(first_folder(labels), ".png")
        listed = next((read_split_list(path) for path in lists if path.is_file()), ())
        return FilePairs(
            images=only(image_files, listed) if listed else image_files,
            labels=only(label_files, listed) if listed else label_files,
            images_looked_for=places(images, "*.jpg"),
            labels_looked_for=places(labels, "*.png"),
            listed=listed,
        )

    return FileDataset("lip", "LIP", class_names("lip"), find, read_indices, FLIP_PAIRS)

"""ADE20K (ADEChallengeData2016): ``images/validation/*.jpg`` and ``annotations/validation/*.png``, classes from 1."""

from __future__ import annotations

from pathlib import Path

from isa_deploy.evaluate.class_names import class_names
from isa_deploy.evaluate.dataset import FileDataset, UInt8
from isa_deploy.evaluate.file_pairs import FilePairs, files_below, first_folder, places
from isa_deploy.evaluate.label_files import read_indices, without_zero

__all__ = ["ade20k"]

_FOLDERS = {"val": "validation", "train": "training"}


def ade20k(root: Path, split: str) -> FileDataset:
    """ADE20K below ``root`` or its folder ADEChallengeData2016; 0 is void (``reduce_zero_label``)."""
    folder = _FOLDERS.get(split, split)
    bases = (root, root / "ADEChallengeData2016")
    images = [base / "images" / folder for base in bases]
    labels = [base / "annotations" / folder for base in bases]

    def find() -> FilePairs:
        return FilePairs(
            images=files_below(first_folder(images), ".jpg"),
            labels=files_below(first_folder(labels), ".png"),
            images_looked_for=places(images, "*.jpg"),
            labels_looked_for=places(labels, "*.png"),
        )

    return FileDataset("ade20k", "ADE20K", class_names("ade20k"), find, _read_labels)


def _read_labels(path: Path) -> UInt8:
    return without_zero(read_indices(path))

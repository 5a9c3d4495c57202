"""Folders of the PASCAL VOC devkit, which list their splits: VOC 2012, and Pascal Context inside of VOC 2010."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from isa_deploy.evaluate.class_names import class_names
from isa_deploy.evaluate.dataset import FileDataset
from isa_deploy.evaluate.file_pairs import FilePairs, files_below, first_folder, only, places
from isa_deploy.evaluate.label_files import read_indices
from isa_deploy.evaluate.split_list import read_split_list

__all__ = ["devkit_finder", "voc"]


def voc(root: Path, split: str) -> FileDataset:
    """Pascal VOC 2012 below ``root``: palette PNGs, whose indices are the labels; 255 is void, as published."""
    find = devkit_finder(root, "VOC2012", labels="SegmentationClass", lists="Segmentation", split=split)
    return FileDataset("voc", "Pascal VOC 2012", class_names("voc"), find, read_indices)


def devkit_finder(root: Path, year: str, labels: str, lists: str, split: str) -> Callable[[], FilePairs]:
    """Looks for ``JPEGImages``, ``LABELS`` and ``ImageSets/LISTS/SPLIT.txt`` in ``YEAR``, with or without VOCdevkit.

    ``root`` may be that folder itself.  The finder raises :class:`InputError` where the pictures are there and the
    list is missing or cannot be used.
    """
    bases = (root / year, root / "VOCdevkit" / year, root)
    pictures = [base / "JPEGImages" for base in bases]

    def find() -> FilePairs:
        folder = first_folder(pictures)
        label_folder = folder.with_name(labels)
        names = read_split_list(folder.parent / "ImageSets" / lists / f"{split}.txt") if folder.is_dir() else ()
        return FilePairs(
            images=only(files_below(folder, ".jpg"), names),
            labels=only(files_below(label_folder, ".png"), names),
            images_looked_for=places(pictures, "*.jpg"),
            labels_looked_for=str(label_folder / "*.png"),
            listed=names,
        )

    return find

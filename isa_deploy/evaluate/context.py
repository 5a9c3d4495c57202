"""Pascal Context: pictures of VOC 2010 with 59 classes, and 0 for the background.

The label files are those of mmsegmentation's converter: ``SegmentationClassContext/*.png``.
"""

from __future__ import annotations

from pathlib import Path

from isa_deploy.evaluate.class_names import class_names
from isa_deploy.evaluate.dataset import FileDataset, UInt8
from isa_deploy.evaluate.label_files import read_indices, without_zero
from isa_deploy.evaluate.voc import devkit_finder

__all__ = ["context59", "context60"]

_LABELS, _LISTS = "SegmentationClassContext", "SegmentationContext"


def context60(root: Path, split: str) -> FileDataset:
    """The background is the first of 60 classes."""
    find = devkit_finder(root, "VOC2010", _LABELS, _LISTS, split)
    return FileDataset("context60", "Pascal Context (60)", class_names("context60"), find, read_indices)


def context59(root: Path, split: str) -> FileDataset:
    """The background is void (``reduce_zero_label``)."""
    find = devkit_finder(root, "VOC2010", _LABELS, _LISTS, split)
    return FileDataset("context59", "Pascal Context (59)", class_names("context59"), find, _read_labels)


def _read_labels(path: Path) -> UInt8:
    return without_zero(read_indices(path))

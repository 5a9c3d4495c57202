"""A plain folder: ``images/`` and ``labels/``, of the same names below them, with the classes of the engine."""

from __future__ import annotations

from pathlib import Path

from isa_deploy.evaluate.dataset import FileDataset
from isa_deploy.evaluate.file_pairs import FilePairs, files_below
from isa_deploy.evaluate.label_files import read_indices
from isa_deploy.runtime.images import IMAGE_SUFFIXES

__all__ = ["folder"]


def folder(root: Path) -> FileDataset:
    """``root/images/**`` in any format that is read, ``root/labels/**.png`` with the labels themselves; 255 is void."""
    images, labels = root / "images", root / "labels"

    def find() -> FilePairs:
        endings = sorted(IMAGE_SUFFIXES)
        return FilePairs(
            images=files_below(images, *endings),
            labels=files_below(labels, ".png"),
            images_looked_for=f"{images / '**'} ({', '.join(endings)})",
            labels_looked_for=str(labels / "**" / "*.png"),
        )

    return FileDataset("folder", "folder", None, find, read_indices)

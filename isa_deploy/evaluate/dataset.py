"""What an evaluation asks of a data set: which pictures there are, which have truth, and that truth.

A data set is files in folders.  :class:`FileDataset` is the one implementation; a layout (``cityscapes``, ``voc``, ...)
says where the files are and what the numbers in a label file mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from isa_deploy.errors import InputError
from isa_deploy.evaluate.file_pairs import FilePairs

__all__ = ["VOID", "Dataset", "FileDataset", "Listing", "Sample", "UInt8"]

UInt8 = npt.NDArray[np.uint8]

VOID = 255
"""The label of pixels that count nowhere, as mmsegmentation's ``ignore_index``."""


@dataclass(frozen=True)
class Sample:
    """A picture and, where there is one, its label file.

    ``name`` is unique in its data set: a path below the split without its ending, with ``/``
    (``"frankfurt/frankfurt_000000_000294"``).
    """

    name: str
    image: Path
    truth: Path | None


@dataclass(frozen=True)
class Listing:
    """The samples that have both files, sorted by name, and the names that lack one of them.

    A name that a split's list gives and that has neither file stands in both tuples.
    """

    samples: tuple[Sample, ...]
    images_without_labels: tuple[str, ...]
    labels_without_images: tuple[str, ...]


class Dataset(Protocol):
    """One split of a data set.

    ``key`` is its name on the command line, ``title`` its name in print.  ``classes``: their names by label; None
    where the data set brings none and those of the engine hold.  ``flip_pairs``: labels that change places when
    a picture is mirrored.
    """

    @property
    def key(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def classes(self) -> tuple[str, ...] | None: ...

    @property
    def flip_pairs(self) -> tuple[tuple[int, int], ...]: ...

    def images(self) -> tuple[Sample, ...]:
        """All pictures of the split, sorted by name; ``truth`` is None where there is no label file.

        Raises :class:`InputError` where there is no picture.
        """
        ...

    def listing(self) -> Listing:
        """The samples with both files, and what lacks one.

        Raises :class:`InputError` where not one sample has both, naming what was looked for.
        """
        ...

    def read_truth(self, sample: Sample) -> UInt8:
        """The labels of a sample: uint8 H x W, 255 = void; a label may be outside of the classes.

        Raises :class:`InputError` where the file is missing, broken or no label picture, and where the sample has
        none.
        """
        ...


@dataclass(frozen=True)
class FileDataset:
    """A :class:`Dataset` of ``find``, which looks for the files, and ``read_labels``, which reads a label file."""

    key: str
    title: str
    classes: tuple[str, ...] | None
    find: Callable[[], FilePairs]
    read_labels: Callable[[Path], UInt8]
    flip_pairs: tuple[tuple[int, int], ...] = ()

    def images(self) -> tuple[Sample, ...]:
        pairs = self.find()
        if not pairs.images:
            raise InputError(self._nothing("no picture", pairs.images_looked_for))
        return tuple(Sample(name, image, pairs.labels.get(name)) for name, image in sorted(pairs.images.items()))

    def listing(self) -> Listing:
        pairs = self.find()
        if not pairs.images and not pairs.labels:
            raise InputError(self._nothing("no picture", pairs.images_looked_for))
        names = sorted({*pairs.listed, *pairs.images, *pairs.labels})
        samples = tuple(
            Sample(name, pairs.images[name], pairs.labels[name])
            for name in names
            if name in pairs.images and name in pairs.labels
        )
        if not samples:
            found = f"{len(pairs.images)} pictures and {len(pairs.labels)} label files, and none belong together"
            raise InputError(self._nothing(found, f"{pairs.images_looked_for}, {pairs.labels_looked_for}"))
        return Listing(
            samples,
            images_without_labels=tuple(name for name in names if name not in pairs.labels),
            labels_without_images=tuple(name for name in names if name not in pairs.images),
        )

    def read_truth(self, sample: Sample) -> UInt8:
        if sample.truth is None:
            raise InputError(f"{sample.image}: the picture has no label file; evaluate pictures that have one")
        return self.read_labels(sample.truth)

    def _nothing(self, found: str, looked_for: str) -> str:
        return f"{self.title}: {found}; looked for {looked_for}; check --root and --split"

"""Labels as the Cityscapes server and its evaluator want them.

One PNG a picture, one channel, with the data set's own label ids in place of the 19 that networks are trained on.
The evaluator (``cityscapesscripts/evaluation/evalPixelLevelSemanticLabeling.py``, ``getPrediction``) looks through the
results folder, whatever its subfolders, for ``CITY_SEQUENCE_FRAME*.png`` and refuses a picture for which there is not
exactly one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from isa_deploy.errors import InputError
from isa_deploy.evaluate.cityscapes import LABEL_IDS
from isa_deploy.files import os_errors, result_folder
from isa_deploy.runtime.images import write_png
from isa_deploy.runtime.palette import checked_labels

__all__ = ["SubmissionWriter"]

UInt8 = npt.NDArray[np.uint8]

FILE_NAME = "{picture}_pred_labelIds.png"

_IDS = np.array(LABEL_IDS, dtype=np.uint8)
# CITY_SEQUENCE_FRAME, the digits as Cityscapes has them
_PICTURE = re.compile(r"([A-Za-z][A-Za-z-]*_[0-9]{6}_[0-9]{6})")


class SubmissionWriter:
    """Writes label pictures into a results folder; a context manager that closes itself.

    A folder with the results of another run is refused by the picture: what the evaluator would find twice is an error
    here, unless ``overwrite`` is set and the other file is one of the same name.
    """

    def __init__(self, folder: Path, overwrite: bool) -> None:
        """Make the folder where it is missing.  Raises :class:`InputError` where it cannot be made, read or written."""
        self.folder = folder
        self.overwrite = overwrite
        self._stack = ExitStack()
        self._stack.enter_context(result_folder(folder))
        try:
            self._present = _pictures_in(folder)
        except BaseException:
            self._stack.close()
            raise
        self._written: set[str] = set()

    def check(self, names: Sequence[str]) -> None:
        """Raise :class:`InputError` where :meth:`write` would refuse one of these names, before any is predicted."""
        pictures: set[str] = set()
        for name in names:
            picture, path = self._place(name)
            if picture in pictures:
                raise InputError(f"{name}: two pictures of one data set have this name; rename one")
            pictures.add(picture)
            self._check_alone(picture, path)

    def write(self, name: str, labels_hw: UInt8) -> Path:
        """Write a picture's labels, whole or not at all, and return the file.

        ``name`` is the picture's: ``frankfurt/frankfurt_000000_000294``, of which the last part counts.
        ``labels_hw`` is uint8 H x W, 0 to 18.  Raises :class:`InputError` for another name or label, and
        where the folder has a result for this picture already.
        """
        picture, path = self._place(name)
        self._check_alone(picture, path)
        checked_labels(labels_hw)
        if labels_hw.max() >= len(LABEL_IDS):
            raise InputError(
                f"{name}: label {labels_hw.max()}; a submission needs the 19 train ids of Cityscapes, 0 to 18"
            )
        write_png(path, _IDS[labels_hw])
        self._written.add(picture)
        return path

    def close(self) -> None:
        """Remove the folder again, if it was made here and nothing is in it."""
        self._stack.close()

    def __enter__(self) -> SubmissionWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _place(self, name: str) -> tuple[str, Path]:
        match = _PICTURE.fullmatch(name.rpartition("/")[2])
        if match is None:
            raise InputError(
                f"{name}: no name of a Cityscapes picture; a submission needs CITY_SEQUENCE_FRAME with six digits "
                "each, such as frankfurt_000000_000294"
            )
        return match[1], self.folder / FILE_NAME.format(picture=match[1])

    def _check_alone(self, picture: str, path: Path) -> None:
        if picture in self._written:
            raise InputError(f"{path}: written already; two pictures of one data set have this name, rename one")
        for other in self._present.get(picture, ()):
            if other != path:
                raise InputError(
                    f"{other}: a result for {picture} too, and the evaluator wants exactly one; remove it, "
                    "or choose another folder"
                )
            if not self.overwrite:
                raise InputError(f"{path}: exists; pass --overwrite, or choose another folder")


def _pictures_in(folder: Path) -> dict[str, list[Path]]:
    """What the evaluator would find in the folder and below it, by picture."""
    found: dict[str, list[Path]] = {}
    with os_errors(folder, "read the folder"):
        for path in sorted(folder.rglob("*.png")):
            match = _PICTURE.match(path.name)
            if match is not None:
                found.setdefault(match[1], []).append(path)
    return found

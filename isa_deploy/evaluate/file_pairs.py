"""Files that belong together by their names: a picture below one folder, its label file below another."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from isa_deploy.errors import InputError
from isa_deploy.files import os_errors

__all__ = ["FilePairs", "files_below", "first_folder", "only", "places"]

MAX_DEPTH = 64
"""Folders in one another, far more than any data set has."""


@dataclass(frozen=True)
class FilePairs:
    """The pictures and the label files of a split, each by its sample's name.

    ``..._looked_for``: the places and endings in words, for an error.  ``listed``: the names that a split's list
    gives, where there is one; no other is in ``images`` and ``labels`` then.
    """

    images: Mapping[str, Path]
    labels: Mapping[str, Path]
    images_looked_for: str
    labels_looked_for: str
    listed: tuple[str, ...] = ()


def first_folder(candidates: Sequence[Path]) -> Path:
    """The first that is a folder; the first of all where none is."""
    return next((folder for folder in candidates if folder.is_dir()), candidates[0])


def places(candidates: Sequence[Path], pattern: str) -> str:
    """What was looked for, in words: ``"A/*.jpg or B/*.jpg"``."""
    return " or ".join(str(folder / pattern) for folder in candidates)


def files_below(folder: Path, *endings: str) -> dict[str, Path]:
    """The files in ``folder`` and its folders whose names end so (in any case), by their path below it less the ending.

    Names have ``/`` between their parts.  Links are followed, wherever they lead; what begins with a dot is left out,
    with all that is below it.  Empty where there is no such folder.  Raises :class:`InputError` where a folder cannot
    be read, where a link leads back to a folder that it is in, and where two files have one name.
    """
    found: dict[str, Path] = {}
    if not folder.is_dir():
        return found
    for path, relative in _walk(folder, "", frozenset()):
        ending = next((ending for ending in endings if relative.lower().endswith(ending.lower())), None)
        # an ending alone leaves no name
        if ending is None or len(path.name) == len(ending):
            continue
        name = relative[: -len(ending)]
        if name in found:
            raise InputError(f"{path}: {found[name].name} in the same folder has the same name; remove one of them")
        found[name] = path
    return found


def only(files: Mapping[str, Path], names: Sequence[str]) -> dict[str, Path]:
    """Those of ``files`` that are among ``names``."""
    return {name: files[name] for name in names if name in files}


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return False  # a link that leads to itself: like one that leads nowhere, a file that cannot be read


def _walk(folder: Path, prefix: str, above: frozenset[tuple[int, int]]) -> Iterator[tuple[Path, str]]:
    with os_errors(folder, "read the folder"):
        status = folder.stat()
        this = (status.st_dev, status.st_ino)
        if this in above:
            raise InputError(f"{folder}: this link leads back to a folder that it is in; remove it")
        if len(above) > MAX_DEPTH:
            raise InputError(f"{folder}: more than {MAX_DEPTH} folders in one another; give the folder of the data set")
        with os.scandir(folder) as entries:
            visible = sorted((entry.name, _is_folder(entry)) for entry in entries if not entry.name.startswith("."))
    for name, is_folder in visible:
        if is_folder:
            yield from _walk(folder / name, f"{prefix}{name}/", above | {this})
        else:
            yield folder / name, prefix + name

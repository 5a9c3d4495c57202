"""What a command line names as input: images, folders, globs and videos, each with a name for its results."""

from __future__ import annotations

import glob
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from isa_deploy.errors import InputError
from isa_deploy.files import os_errors
from isa_deploy.runtime.images import IMAGE_SUFFIXES
from isa_deploy.runtime.live_source import LiveSource, parse_live_source
from isa_deploy.runtime.raster_reader import RASTER_SUFFIXES
from isa_deploy.runtime.video import VIDEO_SUFFIXES

__all__ = ["Source", "find_sources", "live_source"]

PICTURE_SUFFIXES = IMAGE_SUFFIXES | RASTER_SUFFIXES


@dataclass(frozen=True)
class Source:
    """One input file.  ``name`` is what its results are named after; no other source has it."""

    path: Path
    kind: Literal["image", "video"]
    name: str


def find_sources(arguments: Sequence[str]) -> list[Source]:
    """The files that arguments stand for, in their order, each once.

    A folder stands for the images directly in it, and a glob (``*``, ``?``, ``[..]``, ``**`` for any depth)
    for the images and videos that match it, both sorted.  Results are named after the file's stem; where
    several files share it, after the whole file name, and where they share that, with the folder's name
    before it.

    Raises :class:`InputError` where an argument is missing, holds nothing to read or is of no known kind,
    and where two files would have results of one name.
    """
    paths: dict[Path, Path] = {}
    for argument in arguments:
        for path in _expand(argument):
            paths.setdefault(path.resolve(), path)
    named = _named(list(paths.values()))
    return [Source(path, _kind(path) or "image", name) for path, name in named]


def live_source(argument: str) -> LiveSource:
    """The camera that an argument names.  Raises :class:`InputError` where it names none."""
    return parse_live_source(argument)


def _expand(argument: str) -> Iterator[Path]:
    if not argument:
        raise InputError("an INPUT is empty (an unset variable?); name a file, a folder or a glob")
    path = Path(argument)
    with os_errors(path, "look for it"):
        if path.is_dir():
            images = _images_in(path)
            if not images:
                raise InputError(f"{path}: this folder holds no image ({_list(PICTURE_SUFFIXES)}); name another")
            yield from images
        elif path.exists():
            if _kind(path) is None:
                raise InputError(
                    f"{path}: '{path.suffix}' is neither an image ({_list(PICTURE_SUFFIXES)}) nor a video "
                    f"({_list(VIDEO_SUFFIXES)}); convert it, or give it the right ending"
                )
            yield path
        elif "://" in argument:  # not repeated: it may hold a password
            raise InputError(f"{argument.partition('://')[0]}://: an address is a camera's; add --live, or name a file")
        elif glob.has_magic(argument):
            matches = [found for match in sorted(glob.glob(argument, recursive=True)) for found in _matched(match)]  # noqa: PTH207  Path.glob takes no absolute pattern
            if not matches:
                raise InputError(f"{argument}: no image and no video matches; check the pattern")
            yield from matches
        else:
            raise InputError(f"{path}: no such file or folder; check the path")


def _matched(match: str) -> list[Path]:
    path = Path(match)
    if path.is_dir():
        return _images_in(path)
    return [path] if _kind(path) else []


def _images_in(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        # a leading dot: hidden, or an unfinished file of ours
        if path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def _kind(path: Path) -> Literal["image", "video"] | None:
    suffix = path.suffix.lower()
    if suffix in PICTURE_SUFFIXES:
        return "image"
    return "video" if suffix in VIDEO_SUFFIXES else None


def _list(suffixes: frozenset[str]) -> str:
    return ", ".join(sorted(suffixes))


_NAMES: tuple[Callable[[Path], str], ...] = (
    lambda path: path.stem,
    lambda path: path.name,
    lambda path: f"{path.resolve().parent.name}_{path.name}",
)


def _named(paths: list[Path]) -> list[tuple[Path, str]]:
    """Each path with the first of its candidate names that no other path has."""
    level = dict.fromkeys(paths, 0)
    while True:
        sharing: defaultdict[str, list[Path]] = defaultdict(list)
        for path in paths:
            # folded: some file systems take A.png and a.png for one file
            sharing[_NAMES[level[path]](path).casefold()].append(path)
        clashes = [group for group in sharing.values() if len(group) > 1]
        if not clashes:
            return [(path, _NAMES[level[path]](path)) for path in paths]
        for first, second, *others in clashes:
            if all(level[path] == len(_NAMES) - 1 for path in (first, second, *others)):
                raise InputError(
                    f"{first} and {second}: their results would have one name; run the command once for each, "
                    "with another --out"
                )
            for path in (first, second, *others):
                level[path] = min(level[path] + 1, len(_NAMES) - 1)

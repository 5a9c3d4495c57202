"""The text file in which a data set lists the samples of a split, one name a line."""

from __future__ import annotations

import re
from pathlib import Path

from isa_deploy.errors import InputError
from isa_deploy.files import os_errors

__all__ = ["read_split_list"]

MAX_BYTES = 16 << 20
"""Of a list; the longest of the data sets read here has 30462 names of some 15 letters."""

_NAME = re.compile(r"[\w-][\w.-]*")


def read_split_list(path: Path) -> tuple[str, ...]:
    """The names in the file's order; blanks round them and empty lines do not matter.

    Raises :class:`InputError` where the file cannot be read, is no UTF-8, is empty or too long, where a line is no
    plain name, and where a name stands there twice.
    """
    with os_errors(path, "read the list of the split"), path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise InputError(
            f"{path}: more than {MAX_BYTES >> 20} MiB, which is no list of a split; check --root and --split"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is no UTF-8 text; save the list as plain text") from None
    names: dict[str, None] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        name = line.strip()
        if not name:
            continue
        if _NAME.fullmatch(name) is None:
            raise InputError(
                f"{path}: line {number} is {name[:80]!r}; write one name of a sample a line, without a folder"
            )
        if name in names:
            raise InputError(f"{path}: line {number} gives {name!r} a second time; list every sample once")
        names[name] = None
    if not names:
        raise InputError(f"{path}: the list of the split is empty; check --split")
    return tuple(names)

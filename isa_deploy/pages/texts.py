"""Records as JSON text, and texts into files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from isa_deploy.errors import InputError
from isa_deploy.files import Replacement, os_errors

__all__ = ["check_places", "json_text", "write_texts"]


def json_text(record: Mapping[str, Any]) -> str:
    """``record`` as JSON text that UTF-8 can say.

    A number that is not finite is the string "nan", "inf" or "-inf".  Names of files need not be text: what no encoding
    can say of them becomes an escape, which a reader of JSON turns back.
    """
    text = json.dumps(_finite(dict(record)), indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace").decode("utf-8") + "\n"


def check_places(folder: Path, names: Iterable[str]) -> None:
    """Raise :class:`InputError` where a folder stands in the place of a file that :func:`write_texts` would write."""
    for name in names:
        path = folder / name
        with os_errors(path, "write"):
            is_folder = path.is_dir() and not path.is_symlink()  # a link to a folder can be replaced
        if is_folder:
            raise InputError(f"{path}: a folder has the name of a file to be written; move it or choose another place")


def write_texts(folder: Path, texts: Mapping[str, str]) -> None:
    """Write texts by file name into an existing folder, each whole or not at all.

    All are written, under temporary names, before the first is put in its place; they are put there in their order, so
    that the last one's presence says that all are there.  Raises :class:`InputError` where the system refuses.
    """
    replacements = [Replacement(folder / name) for name in texts]
    try:
        for replacement, text in zip(replacements, texts.values(), strict=True):
            with os_errors(replacement.path, "write"):
                # names of files need not be text
                replacement.temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
        for replacement in replacements:
            replacement.commit()
    finally:
        for replacement in replacements:
            replacement.discard()


def _finite(value: Any) -> Any:
    """``value`` with every float that JSON cannot say replaced by its name."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(float(value))
    return value

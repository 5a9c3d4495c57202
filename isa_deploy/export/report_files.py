"""A report's two files: the page from its template, and the record as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from isa_deploy.export.report_words import figure, percent
from isa_deploy.files import replacing

__all__ = ["json_text", "render_page", "write_texts"]


def render_page(template: str, context: Mapping[str, Any]) -> str:
    """The page of a template in this folder, with everything that ``context`` holds escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["percent"] = percent
    environment.filters["figure"] = figure
    return environment.get_template(template).render(context)


def json_text(record: Mapping[str, Any]) -> str:
    """``record`` as JSON text; a number that is not finite is the string "nan", "inf" or "-inf"."""
    return json.dumps(_finite(dict(record)), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_texts(folder: Path, texts: Mapping[str, str]) -> None:
    """Write texts by file name into an existing folder, each whole or not at all.

    Raises :class:`~isa_deploy.errors.InputError` where one cannot be written.
    """
    for name, text in texts.items():
        with replacing(folder / name) as temporary:
            # names of files need not be text
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def _finite(value: Any) -> Any:
    """``value`` with every float that JSON cannot say replaced by its name."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value

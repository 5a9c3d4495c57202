"""The pages of an export: the templates of this folder with the words that proofs are written in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isa_deploy.export.report_words import figure, percent
from isa_deploy.pages.rendering import load_template

__all__ = ["render_page"]


def render_page(template: str, context: Mapping[str, Any]) -> str:
    """The page of a template in this folder, with everything that ``context`` holds escaped.

    Raises :class:`~isa_deploy.errors.BackendUnavailableError` where jinja2 is not installed.
    """
    filters = {"percent": percent, "figure": figure}
    return load_template(Path(__file__).parent, template, filters, extra="export").render(context)

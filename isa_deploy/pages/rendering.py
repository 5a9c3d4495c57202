"""Templates of pages: those of a room, over the frame, the style and the parts that stand in this folder."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from isa_deploy.errors import BackendUnavailableError

if TYPE_CHECKING:
    import jinja2

__all__ = ["load_template"]

SHARED_TEMPLATES = Path(__file__).parent


def load_template(
    folder: Path, name: str, filters: Mapping[str, Callable[..., object]], *, extra: str
) -> jinja2.Template:
    """The template ``name`` of ``folder``.

    It may extend ``report_page.html.j2`` (blocks: title, style, main) and import ``report_parts.html.j2``.  Whatever it
    is rendered with is escaped; control characters and those that change the direction of text are shown as
    ``\\x1b`` or ``\\u202e``; a name that it was not given is an error.  ``extra``: the extra of isa-deploy that brings
    jinja2, named by the :class:`BackendUnavailableError` that is raised where it is not installed.
    """
    try:
        import jinja2
    except ImportError:
        raise BackendUnavailableError(f"jinja2 is not installed; pip install 'isa-deploy[{extra}]'") from None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader((folder, SHARED_TEMPLATES)),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_visible,
    )
    environment.filters.update(filters)
    return environment.get_template(name)


def _visible(value: object) -> object:
    """What a template is about to print, before it is escaped; markup, such as a macro's, has been here already."""
    if hasattr(value, "__html__"):
        return value
    text = str(value)
    return text if text.isprintable() else "".join(map(_visible_character, text))


def _visible_character(each: str) -> str:
    # to a page a line's end is a space, and other spaces (Zs) are spaces
    if each.isprintable() or each in "\n\t" or unicodedata.category(each) == "Zs":
        return each
    return each.encode("unicode_escape").decode("ascii")

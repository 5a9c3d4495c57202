"""What all pages share: the frame, pictures inside the page, records as JSON, files that appear together."""

from __future__ import annotations

import base64
import json
import math
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("jinja2", reason="the pages need jinja2: pip install 'isa-deploy[eval]'")

from isa_deploy.errors import BackendUnavailableError, InputError
from isa_deploy.pages.figures import dimmed, jpeg_figure, shown_wh
from isa_deploy.pages.rendering import load_template
from isa_deploy.pages.texts import check_places, json_text, write_texts

PAGE = """
{% extends "report_page.html.j2" %}
{% block title %}{{ title }}{% endblock %}
{% block style %}.mine { color: red; }{% endblock %}
{% block main %}<p>{{ title | loud }}</p>{% endblock %}
"""


def write_page(folder: Path) -> Path:
    (folder / "mine.html.j2").write_text(PAGE)
    return folder


def test_a_page_of_any_folder_has_the_shared_frame_and_a_style_of_its_own(tmp_path: Path) -> None:
    template = load_template(write_page(tmp_path), "mine.html.j2", {"loud": str.upper}, extra="eval")
    page = template.render(title="<b>a</b>")
    assert "<title>&lt;b&gt;a&lt;/b&gt;</title>" in page
    assert "<p>&lt;B&gt;A&lt;/B&gt;</p>" in page
    assert "default-src 'none'" in page
    style = page[page.index("<style>") : page.index("</style>")]
    assert ":root" in style
    assert style.rstrip().endswith(".mine { color: red; }")


def test_a_name_that_a_page_was_not_given_is_an_error(tmp_path: Path) -> None:
    import jinja2

    template = load_template(write_page(tmp_path), "mine.html.j2", {"loud": str.upper}, extra="eval")
    with pytest.raises(jinja2.UndefinedError):
        template.render()


def test_a_page_shows_control_characters_and_leaves_spaces_lines_and_markup_alone(tmp_path: Path) -> None:
    parts = "{% macro item(text) %}\n<li>{{ text }}</li>\n{% endmacro %}"
    (tmp_path / "parts.j2").write_text(parts)
    (tmp_path / "mine.j2").write_text('{% import "parts.j2" as parts %}{{ parts.item(text) }}<a title="{{ text }}">')
    template = load_template(tmp_path, "mine.j2", {}, extra="eval")
    item = "1\u00a0ms\n<é\\>"
    assert template.render(text=item) == '<li>1\u00a0ms\n&lt;é\\&gt;</li>\n<a title="1\u00a0ms\n&lt;é\\&gt;">'
    assert template.render(text=Path("\x1b\x9b\u2066\u200f\u2028\udce9\0")) == (
        r"""<li>\x1b\x9b\u2066\u200f\u2028\udce9\x00</li>
<a title="\x1b\x9b\u2066\u200f\u2028\udce9\x00">"""
    )


@pytest.mark.parametrize("extra", ["eval", "export"])
def test_without_jinja2_the_extra_that_brings_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(
        BackendUnavailableError, match=rf"^jinja2 is not installed; pip install 'isa-deploy\[{extra}\]'$"
    ):
        load_template(write_page(tmp_path), "mine.html.j2", {}, extra=extra)


def test_json_has_no_number_that_json_does_not_know_and_every_name_comes_back() -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")  # what a file may be called
    record = {"a": (math.nan, np.float64("inf"), 0.1), name: {"b": -math.inf, "é": "ü"}}
    text = json_text(record)
    text.encode("utf-8")
    assert json.loads(text, parse_constant=pytest.fail) == {"a": ["nan", "inf", 0.1], name: {"b": "-inf", "é": "ü"}}
    assert "ü" in text


def test_texts_appear_together_and_the_last_one_last(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / "b").mkdir()  # no file can take its place
    (tmp_path / "b" / "kept").write_text("")
    with pytest.raises(InputError, match="b: cannot put the new file in place"):
        write_texts(tmp_path, {"b": "new", "a": "new"})
    assert (tmp_path / "a").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}
    with pytest.raises(InputError, match="cannot write"):
        write_texts(tmp_path, {"a": "new", "absent/c": "new"})
    assert (tmp_path / "a").read_text() == "old"
    write_texts(tmp_path, {"a": "né\n", "c": b"caf\xe9".decode("utf-8", "surrogateescape")})
    assert (tmp_path / "a").read_bytes() == "né\n".encode()
    assert (tmp_path / "c").read_text() == "caf\\udce9"
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "c"}


def test_a_folder_in_a_texts_place_is_found_beforehand(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / "b").mkdir()
    (tmp_path / "c").symlink_to(tmp_path / "b")  # a link is replaced, whatever it leads to
    check_places(tmp_path, ["a", "c", "absent"])
    check_places(tmp_path / "absent", ["a"])
    with pytest.raises(InputError, match="b: a folder has the name of a file to be written"):
        check_places(tmp_path, ["a", "b"])
    write_texts(tmp_path, {"a": "new", "c": "new"})
    assert (tmp_path / "c").read_text() == "new"


def test_a_figure_is_the_picture_as_jpeg_with_its_colours_at_full_resolution() -> None:
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[:, ::2] = (0, 225, 255)  # columns of one pixel
    figure = jpeg_figure(picture, "under it", "instead of it", 95)
    assert (figure.width, figure.height, figure.caption, figure.alt) == (30, 20, "under it", "instead of it")
    head, _, data = figure.uri.partition(",")
    assert head == "data:image/jpeg;base64"
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert np.abs(decoded.astype(int) - picture).max() < 24


@pytest.mark.parametrize("shape", [(0, 4, 3), (4, 4, 2)])
def test_what_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="JPEG"):
        jpeg_figure(np.zeros(shape, np.uint8), "", "", 90)


@given(height=st.integers(1, 30_000), width=st.integers(1, 30_000))
def test_pictures_are_shown_inside_their_box_with_their_ratio_and_never_enlarged(height: int, width: int) -> None:
    shown = shown_wh(height, width, (640, 960))
    assert 1 <= shown[0] <= min(width, 640)
    assert 1 <= shown[1] <= min(height, 960)
    if width <= 640 and height <= 960:
        assert shown == (width, height)
    else:
        assert shown[0] == 640 or shown[1] == 960
        shrink = min(640 / width, 960 / height)
        assert shown[0] == pytest.approx(max(1, width * shrink), abs=0.5)
        assert shown[1] == pytest.approx(max(1, height * shrink), abs=0.5)


def test_a_dimmed_picture_is_darker_than_any_highlight() -> None:
    assert dimmed(np.full((2, 2, 3), 255, np.uint8)).max() < 100

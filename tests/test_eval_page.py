"""The page, the table and the record of an evaluation say what the numbers say, whatever names they are given."""

from __future__ import annotations

import base64
import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from cheap_engine import cheap_manifest
from rich.console import Console

pytest.importorskip("jinja2", reason="the page needs jinja2: pip install 'isa-deploy[eval]'")

from isa_deploy.evaluate.dataset import Listing, Sample
from isa_deploy.evaluate.evaluation import Evaluation, PictureResult, Timings, WorstPicture
from isa_deploy.evaluate.metrics import scores
from isa_deploy.evaluate.page import load_page, most_mistaken, page_html
from isa_deploy.evaluate.page_pictures import MAX_WH, error_share, picture_figures
from isa_deploy.evaluate.record import EngineFacts, Published, Record, Way, record_json
from isa_deploy.evaluate.table import print_record
from isa_deploy.manifest import ClassesSpec
from isa_deploy.pages.figures import HIGHLIGHT_BGR

UInt8 = npt.NDArray[np.uint8]

NAMES = ("road", "wall", "sky", "train")
PALETTE = ((128, 64, 128), (102, 102, 156), (70, 130, 180), (0, 80, 100))
VOID = 255

COUNTS_TL = np.array(
    [
        [90, 10, 0, 0],
        [30, 50, 0, 0],
        [1, 0, 99, 0],
        [0, 0, 0, 0],  # never true, never predicted
        [0, 5, 0, 0],  # outside the classes
    ],
    dtype=np.int64,
)
TILED_TL = np.array(
    [[80, 20, 0, 0], [30, 50, 0, 0], [0, 0, 100, 0], [0, 0, 0, 0], [0, 5, 0, 0]],
    dtype=np.int64,
)


def a_worst_picture(name: str, size_hw: tuple[int, int] = (40, 60), wrong: int = 30) -> WorstPicture:
    """Road everywhere, with a strip of void on the left and ``wrong`` pixels of the bottom row taken for sky."""
    truth = np.zeros(size_hw, np.uint8)
    truth[:, :10] = VOID
    labels = np.zeros(size_hw, np.uint8)
    labels[-1, size_hw[1] - wrong :] = 2
    frame = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    return WorstPicture(a_result(name, size_hw), frame, truth, labels)


def a_result(name: str, size_hw: tuple[int, int] = (40, 60)) -> PictureResult:
    image, truth = Path(f"{name}.png"), Path(f"{name}_labels.png")
    return PictureResult(name, image, truth, size_hw, scores(COUNTS_TL), void=7, outside=5)


def an_evaluation(counts_tl: npt.NDArray[np.int64] = COUNTS_TL, names: tuple[str, ...] = ("a/b",)) -> Evaluation:
    return Evaluation(
        counts_tl=counts_tl,
        scores=scores(counts_tl),
        pictures=tuple(a_result(name) for name in names),
        left_out={},
        worst=tuple(a_worst_picture(name) for name in names),
        seconds=2.0,
        timings=Timings(1.5, 0.25, 0.0, 0.5, 0.1, 0.0),
    )


def a_record(**changes: Any) -> Record:
    samples = (Sample("a/b", Path("b.png"), Path("b_labels.png")),)
    fields: dict[str, Any] = {
        "made_at": "2026-01-02T03:04:05+00:00",
        "isa_deploy": "0.1.0",
        "command": "isa-eval --engine model.onnx",
        "engine": EngineFacts("model.onnx", "openvino", "bf16", "cpu", "test"),
        "manifest": cheap_manifest(classes=ClassesSpec(names=NAMES, palette_rgb=PALETTE)),
        "dataset_key": "cityscapes",
        "dataset_title": "Cityscapes",
        "root": "/data",
        "split": "val",
        "listing": Listing(samples, (), ()),
        "classes": NAMES,
        "ways": (Way("as tested", "in one pass", an_evaluation()),),
        "published": None,
        "published_note": "No published figure: not known",
        "environment": {"processor": "A processor", "flags": ["avx2", "amx_bf16"], "cores": 2},
    }
    return Record(**(fields | changes))


def tiled_record() -> Record:
    usual = a_record().ways[0]
    return a_record(ways=(usual, Way("tiled", "tiles, 64x64", replace(an_evaluation(TILED_TL), worst=()))))


class _Page(HTMLParser):
    """The page's elements, its tables as rows of cells, and its text as a reader sees it."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.html = page_html(load_page(), record)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self._in: list[str] = []
        self.feed(self.html)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag in ("td", "th", "style", "title"):
            self._in.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._in and self._in[-1] == tag:
            self._in.pop()

    def handle_data(self, data: str) -> None:
        if self._in and self._in[-1] in ("td", "th"):
            self.rows[-1][-1] += data.strip()
        if not self._in or self._in[-1] not in ("style", "title"):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def printed(record: Record, width: int = 100) -> str:
    text = io.StringIO()
    print_record(record, Console(file=text, width=width, highlight=False))
    return text.getvalue()


def row_of(page: _Page, name: str) -> list[str]:
    return next(row for row in page.rows if row[0] == name)


def test_the_page_shows_each_class_as_mmsegmentation_counts_it() -> None:
    page = _Page(a_record())
    assert row_of(page, "road") == ["road", "", "68.70", "90.00"]  # 90 / (100 + 121 - 90)
    assert row_of(page, "wall") == ["wall", "", "52.63", "62.50"]  # 50 / (80 + 65 - 50): 5 outside are predicted
    assert row_of(page, "sky") == ["sky", "", "99.00", "99.00"]
    assert row_of(page, "train") == ["train", "", "nan", "nan"]
    assert row_of(page, "Mean (mIoU, mAcc)") == ["Mean (mIoU, mAcc)", "", "73.44", "83.83"]
    assert row_of(page, "All pixels (aAcc)") == ["All pixels (aAcc)", "", "", "85.36"]
    assert "73.44 mIoU on Cityscapes (val)" in page.text
    assert "“nan” does not occur in truth or prediction and is left out of the mean" in page.text
    widths = [re.findall(r"width: ([\d.]+%?)", each["style"] or "") for each in page.all("span") if "bar" in str(each)]
    assert widths == [["68.70%"], ["52.63%"], ["99.00%"], ["0"]]


def test_the_page_shows_what_tiling_costs_class_by_class() -> None:
    page = _Page(tiled_record())
    assert row_of(page, "road") == ["road", "", "68.70", "61.54", "-7.16", "90.00"]
    assert row_of(page, "sky") == ["sky", "", "99.00", "100.00", "+1.00", "99.00"]
    assert row_of(page, "train") == ["train", "", "nan", "nan", "nan", "nan"]
    assert "In tiles (tiles, 64x64): 69.72 mIoU (-3.72)" in page.text


def test_the_page_names_the_mistakes_that_cost_most() -> None:
    record = a_record()
    assert [(each.truth, each.predicted, each.pixels) for each in most_mistaken(record)] == [
        ("wall", "road", 30),
        ("road", "wall", 10),
        ("sky", "road", 1),
    ]
    page = _Page(record)
    assert ["wall", "road", "30", "37.50 %"] in page.rows


def test_the_published_figure_stands_beside_ours_with_what_sets_them_apart() -> None:
    published = Published("isanet_r50", "mIoU", 78.49, ("ours over 1 of 500 pictures",))
    page = _Page(a_record(published=published, published_note=""))
    assert "Published for this checkpoint (isanet_r50): 78.49 mIoU; ours is -5.05." in page.text
    assert "Not quite the same measure: ours over 1 of 500 pictures." in page.text
    table = printed(a_record(published=published, published_note=""))
    assert "Published: 78.49 mIoU of isanet_r50; ours 73.44, -5.05 (ours over 1 of 500 pictures)" in table
    assert "No published figure: not known." in _Page(a_record()).text
    assert "No published figure: not known" in printed(a_record())


def test_the_page_holds_names_as_text_and_loads_nothing() -> None:
    hostile = '<script>alert("1")</script>'
    classes = (hostile, *NAMES[1:])
    evaluation = replace(an_evaluation(names=(hostile,)), left_out={hostile: hostile})
    record = a_record(
        classes=classes,
        manifest=cheap_manifest(
            classes=ClassesSpec(names=classes, palette_rgb=PALETTE), architecture=hostile, precision="fp32"
        ),
        ways=(Way("as tested", hostile, evaluation),),
        listing=Listing((), (hostile,), (hostile,)),
        root=hostile,
        command=hostile,
        published_note=hostile,
        environment={hostile: hostile},
    )
    page = _Page(record)
    assert page.all("script") == []
    assert page.text.count(hostile) >= 8
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert all((image["src"] or "").startswith("data:image/jpeg;base64,") for image in page.all("img"))
    assert not page.all("link")
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_the_page_shows_what_a_name_would_hide() -> None:
    hostile, seen = "a\x1b[2J\u202egnp", r"a\x1b[2J\u202egnp"
    classes = (hostile, *NAMES[1:])
    page = _Page(
        a_record(
            classes=classes,
            manifest=cheap_manifest(classes=ClassesSpec(names=classes, palette_rgb=PALETTE)),
            ways=(Way("as tested", "how", replace(an_evaluation(names=(hostile,)), left_out={hostile: hostile})),),
            root=hostile,
        )
    )
    assert row_of(page, seen)[2] == "68.70"
    assert {attributes["alt"] for attributes in page.all("img") if seen in (attributes["alt"] or "")}
    assert f"{seen}: {seen}" in page.text
    assert all(each.isprintable() or each == "\n" for each in page.html)


def test_long_lists_of_names_are_cut_on_the_page_and_whole_in_the_record() -> None:
    names = tuple(f"city/picture_{number:03d}" for number in range(1234))
    record = a_record(listing=Listing((), names, ()))
    page = _Page(record)
    assert "Images without labels: 1,234" in page.text
    assert "Labels without images" not in page.text
    assert "city/picture_019" in page.text
    assert "city/picture_020" not in page.text
    assert "and 1,214 more, in eval.json" in page.text
    assert json.loads(record_json(record))["dataset"]["images_without_labels"] == list(names)


def test_truth_outside_the_classes_is_said() -> None:
    assert "5 pixels of the truth are neither a class nor void" in _Page(a_record()).text
    inside = replace(an_evaluation(), pictures=(replace(a_result("a"), outside=0),))
    assert "What was not counted" not in _Page(a_record(ways=(Way("as tested", "how", inside),))).text


def test_wrong_pixels_are_yellow_by_their_share_and_void_is_never_wrong() -> None:
    picture = a_worst_picture("a", size_hw=(4 * MAX_WH[1], 4 * MAX_WH[0]), wrong=1200)
    wide = replace(picture, labels_hw=np.where(np.arange(4 * MAX_WH[0]) < 10, 2, picture.labels_hw).astype(np.uint8))
    assert error_share(wide) == pytest.approx(1200 / (wide.truth_hw.size - 10 * wide.truth_hw.shape[0]))
    (figures,) = picture_figures([wide], PALETTE)
    captions = [figure.caption for figure in figures.figures]
    assert captions[:3] == ["The picture", "The truth; void is grey", "The prediction"]
    assert captions[3] == "Wrong, yellow: 0.0% of the counted pixels"
    shown = [_decoded(figure.uri) for figure in figures.figures]
    assert {picture.shape for picture in shown} == {(MAX_WH[1], MAX_WH[0], 3)}
    # red above blue is yellow; one wrong row of the four in a small pixel is a quarter of it
    yellow = shown[3][:, :, 2].astype(int) - shown[3][:, :, 0]
    assert yellow[-1, -200:].mean() == pytest.approx((HIGHLIGHT_BGR[2] - HIGHLIGHT_BGR[0]) / 4, abs=12)
    assert np.abs(yellow[:-8]).mean() < 2  # neither right pixels nor void
    assert np.abs(shown[1][:, 0].astype(int) - 90).max() < 24  # and grey in the truth


def test_the_page_stays_small_and_says_what_it_left_out() -> None:
    pictures = [a_worst_picture(str(number)) for number in range(6)]
    one = sum(len(figure.uri) for figure in picture_figures(pictures[:1], PALETTE)[0].figures)
    kept = picture_figures(pictures, PALETTE, max_characters=3 * one)
    assert [each.picture.result.name for each in kept] == ["0", "1", "2"]
    large = [a_worst_picture(str(number), (512, 1024)) for number in range(12)]
    evaluation = replace(an_evaluation(), worst=tuple(large))
    page = _Page(a_record(ways=(Way("as tested", "how", evaluation),)))
    assert len(page.html) < 4_200_000
    shown = len(page.all("img")) // 4
    assert 0 < shown < 12
    assert f"{12 - shown} more pictures left out to keep this page small" in page.text


def test_the_table_says_which_classes_do_not_occur_and_which_are_only_predicted() -> None:
    counts_tl = COUNTS_TL.copy()
    table = printed(a_record())
    assert re.search(r"^train +nan +nan +absent: not in the mean", table, re.MULTILINE)
    assert re.search(r"^road +68\.70 +90\.00 *$", table, re.MULTILINE)
    counts_tl[0, 3] = 4
    table = printed(a_record(ways=(Way("as tested", "how", an_evaluation(counts_tl)),)))
    assert re.search(r"^train +0\.00 +nan +not in the truth", table, re.MULTILINE)
    assert "75% with the engine, 12% waiting for pictures to be read" in table


def test_the_table_holds_the_difference_of_the_numbers_that_it_shows() -> None:
    table = printed(tiled_record())
    assert re.search(r"^road +68\.70 +90\.00 +61\.54 +-7\.16", table, re.MULTILINE)
    assert re.search(r"^mIoU +73\.44 +69\.72 +-3\.72", table, re.MULTILINE)
    assert re.search(r"^aAcc +85\.36 +82\.14 +-3\.22", table, re.MULTILINE)


@pytest.mark.parametrize("width", [20, 80])
def test_a_narrow_terminal_costs_the_table_no_digit(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tiled_record().classes
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm"), ("COLUMNS", str(width))):
        monkeypatch.setenv(name, value)
    for classes in (names, ("r" * 200, *names[1:])):
        record = replace(tiled_record(), classes=classes)
        print_record(record)
        wide, narrow = printed(record, 300), re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
        numbers = [word for word in wide.split() if re.fullmatch(r"[+-]?\d+\.\d+", word)]
        assert len(numbers) > 12
        assert [word for word in narrow.split() if word in set(numbers)] == numbers
        assert "IoU    Acc  IoU tiled  difference" in narrow
        assert "nan         nan  absent: not in the mean" in narrow
        assert classes[0] in "".join(re.findall(r"^(\w+)", narrow, re.MULTILINE))


def test_the_table_says_that_a_class_is_in_one_ways_mean_alone() -> None:
    tiled_tl = COUNTS_TL.copy()
    tiled_tl[0, 3] = 4  # train, which the truth has not
    ways = (Way("as tested", "how", an_evaluation()), Way("tiled", "how", an_evaluation(tiled_tl)))
    for ordered, note in ((ways, "predicted in tiles alone"), (ways[::-1], "not predicted in tiles")):
        lines = printed(a_record(ways=ordered)).splitlines()
        assert next(line for line in lines if line.startswith("train ")).rstrip().endswith(note)


def test_names_cannot_move_the_terminals_cursor_or_its_colours() -> None:
    hostile = "\x1b[31mred[bold]"
    classes = (hostile, *NAMES[1:])
    table = printed(a_record(classes=classes, dataset_title=hostile))
    assert "\x1b" not in table
    assert "[31mred[bold]" in table


def test_the_record_is_json_that_any_reader_takes() -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")  # what a file may be called
    record = a_record(ways=(Way("as tested", "how", replace(an_evaluation(), left_out={name: "no"})),))
    text = record_json(record)
    text.encode("utf-8")

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    document = json.loads(text, parse_constant=refuse)
    assert list(document["ways"][0]["left_out"]) == [name]
    never = {"iou": "nan", "acc": "nan", "truth_pixels": 0, "predicted_pixels": 0, "correct_pixels": 0}
    assert document["ways"][0]["classes"][3] == {"name": "train", **never}
    assert document["ways"][0]["counts_tl"] == COUNTS_TL.tolist()
    assert document["tiling_difference"] is None
    assert document["published"] is None
    assert document["published_note"]
    tiled = json.loads(record_json(tiled_record()))["tiling_difference"]
    assert tiled["iou"][0] == 80 / 130 - 90 / 131
    assert tiled["iou"][3] == "nan"
    assert math.isclose(tiled["aacc"], 230 / 280 - 239 / 280)


def test_every_key_of_the_record_is_described() -> None:
    import isa_deploy.evaluate.record as module

    described = set(re.findall(r"``(\w+)``", module.__doc__ or ""))
    document = json.loads(record_json(tiled_record()))
    used = set(document) | {key for name in ("engine", "model", "dataset") for key in document[name]}
    used |= set(document["ways"][0]) | set(document["ways"][0]["classes"][0]) | set(document["ways"][0]["pictures"][0])
    assert used <= described


def _decoded(uri: str) -> UInt8:
    data = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"), validate=True)
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), np.uint8)

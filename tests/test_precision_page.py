"""The page that compares precisions says what the figures say, holds whatever names it is given, and stands alone."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("jinja2", reason="the report needs jinja2: pip install 'isa-deploy[export]'")

from cheap_engine import CLASSES, cheap_manifest
from hypothesis import given, settings
from hypothesis import strategies as st

from isa_deploy.errors import InputError
from isa_deploy.evaluate.metrics import Scores
from isa_deploy.export.pareto import HEIGHT, KINDS, WIDTH, Point, pareto_svg
from isa_deploy.export.precision_comparison import Flip, PrecisionComparison, PrecisionRow, WorstFrame
from isa_deploy.export.precision_engines import Candidate, Combination
from isa_deploy.export.precision_page import MAX_CLASSES, precision_html, write_precision_report
from isa_deploy.export.precision_record import precision_json
from isa_deploy.export.precision_timing import Timing
from isa_deploy.manifest import ClassesSpec, Manifest

NAN = math.nan
COMMAND = "isa-export --ckpt cheap.pth --int8 --calib frames/"
ENVIRONMENT = {"isa-deploy": "0.1.0", "processor": "A processor @ 2.50GHz"}


def of_iou(iou: float, **changes: float) -> Scores:
    """Scores of the same IoU for every class but those that ``changes`` names ("c3")."""
    values = tuple(changes.get(f"c{label}", iou) for label in range(CLASSES))
    acc = tuple(NAN if math.isnan(value) else 0.9 for value in values)
    finite = [value for value in values if not math.isnan(value)]
    return Scores(values, acc, sum(finite) / len(finite), 0.9, 0.9)


def row(
    precision: str, backend: str, hint: str, ms: float, agreement: float, truth: Scores | None, **changes: Any
) -> PrecisionRow:
    fields: dict[str, Any] = {
        "combination": Combination(Candidate(precision, precision, Path("model.onnx"), 3.31), backend, hint),
        "runs_in": "fp32",
        "agreement": agreement,
        "differing": round((1 - agreement) * 1000),
        "against_reference": of_iou(1.0) if agreement == 1 else of_iou(0.97, c3=0.51, c5=NAN),
        "against_truth": truth,
        "cost": None if truth is None else 0.6337 - truth.miou,
        "flips": () if agreement == 1 else (Flip(3, 1, 12, 0.6, 0.031), Flip(0, 2, 8, 0.4, 0.002)),
        "timing": Timing((ms * 0.9, ms, ms * 1.2)),
    }
    return PrecisionRow(**(fields | changes))


def a_comparison(truth: bool = True, **changes: Any) -> PrecisionComparison:
    own = of_iou(0.6337)
    frame_hwc = np.full((40, 60, 3), 200, np.uint8)
    reference_hw = np.zeros((40, 60), np.uint8)
    labels_hw = reference_hw.copy()
    labels_hw[:4] = 3
    int8 = "int8 on OpenVINO, rest fp32"
    fields: dict[str, Any] = {
        "manifest": cheap_manifest(),
        "reference_name": "the checkpoint in torch, float32",
        "rows": (
            row("fp32", "onnxruntime", "auto", 150.0, 1.0, own if truth else None),
            row("fp32", "openvino", "fp32", 136.0, 1.0, own if truth else None),
            row("int8", "onnxruntime", "auto", 140.0, 0.98, of_iou(0.6310) if truth else None),
            row("int8", "openvino", "fp32", 40.0, 0.975, of_iou(0.6306, c2=0.5) if truth else None),
        ),
        "reference_truth": own if truth else None,
        "frames": 6,
        "pixels": 14400,
        "truth_frames": 6 if truth else 0,
        "outside": 0,
        "worst": (WorstFrame("street.png", frame_hwc, reference_hw, labels_hw, int8, {int8: 0.9, "fp32": 1.0}),),
        "timed_frames": 3,
        "timed_hw": (40, 60),
        "skipped": {"int8 on OpenVINO, rest bf16": "this CPU has neither AMX nor AVX512-BF16"},
    }
    return PrecisionComparison(**(fields | changes))


class _Page(HTMLParser):
    """The page's elements, and its text as a reader sees it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._silent = False
        self.feed(text)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._silent = tag == "style"
        self.text += " " if tag == "small" else ""

    def handle_endtag(self, tag: str) -> None:
        self._silent = False
        self.text += " " if tag in ("td", "th", "li", "p", "text", "small", "h1") else ""

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(comparison: PrecisionComparison) -> _Page:
    return _Page(precision_html(comparison, ENVIRONMENT, COMMAND))


def headline(comparison: PrecisionComparison) -> str:
    found = re.search(r"<h1>(.*?)</h1>", precision_html(comparison, ENVIRONMENT, COMMAND))
    assert found is not None
    return found[1].replace("\u00a0", " ")


def test_the_first_thing_said_is_what_is_gained_and_what_it_costs() -> None:
    # the mean of 63.06 seven times and 50.00 once is 61.43
    assert headline(a_comparison()) == "int8 is 3.4 × as fast as fp32 and costs 1.94 points of mIoU"
    text = page_of(a_comparison()).text
    assert (
        "int8 on OpenVINO, rest fp32 takes 40 ms a frame, and 97.50 % of its labels are those of the checkpoint" in text
    )
    assert "fp32 on OpenVINO takes 136 ms." in text


def test_without_label_maps_no_cost_is_claimed() -> None:
    comparison = a_comparison(truth=False)
    assert headline(comparison) == "int8 is 3.4 × as fast as fp32 and gives 97.50 % of the checkpoint’s labels"
    text = page_of(comparison).text
    assert "without label maps: what a precision costs in accuracy can only be told with them" in text
    assert "points of mIoU" not in text
    assert "on the label maps" not in text


@pytest.mark.parametrize(
    ("iou", "words"),
    [(0.6337, "costs no mIoU"), (0.63366, "costs no mIoU"), (0.64, "gains 0.63 points of mIoU")],
)
def test_a_precision_that_costs_nothing_or_gains_is_said_to(iou: float, words: str) -> None:
    comparison = a_comparison()
    fast = replace(comparison.rows[3], against_truth=of_iou(iou))
    assert headline(replace(comparison, rows=(*comparison.rows[:3], fast))).endswith(words)


def test_where_float32_is_fastest_nothing_is_said_to_be_gained() -> None:
    comparison = a_comparison()
    assert headline(replace(comparison, rows=comparison.rows[:3])) == "Nothing is faster than fp32 on this machine"


def test_where_float32_did_not_run_no_speed_is_related_to_it() -> None:
    comparison = a_comparison(rows=a_comparison().rows[2:])
    assert headline(comparison).startswith("int8 is the fastest here and costs")
    assert "float32 itself could not be run." in page_of(comparison).text
    assert json.loads(precision_json(comparison, {}, ""))["rows"][0]["speed"] is None


def test_a_comparison_of_nothing_is_still_a_page() -> None:
    text = page_of(a_comparison(rows=(), worst=())).text
    assert "Nothing was compared" in text
    assert "Not run here: int8 on OpenVINO, rest bf16 (this CPU has neither AMX nor AVX512-BF16)" in text


def test_how_little_speed_and_accuracy_were_found_on_is_said() -> None:
    text = page_of(a_comparison()).text
    assert "Speeds are of few calls: the median of 3 of each, on 3 frames of 40 × 60 pixels (height × width)" in text
    assert "Accuracy is of 6 frames, with their label maps. So few frames leave differences of tenths" in text
    assert "So few" not in page_of(a_comparison(frames=500, truth_frames=500)).text
    assert "500 frames, 20 of them with a label map. So few" in page_of(a_comparison(frames=500, truth_frames=20)).text


def test_every_row_shows_its_figures_and_the_front_is_named() -> None:
    text = page_of(a_comparison()).text
    assert "int8 on OpenVINO, rest fp32 on the front 3.31 MB 40 ms 36 to 48 3.40 × 97.50 % 25 differ" in text
    assert (
        "fp32 on OpenVINO on the front 3.31 MB 136 ms 122 to 163 1.00 × 100 % none differ 100 % 63.37 % +0.00" in text
    )
    assert "fp32 on ONNX Runtime 3.31 MB 150 ms" in text
    assert "−1.94 points" in text


def test_the_classes_that_lose_most_come_first_and_are_marked() -> None:
    comparison = a_comparison()
    text = precision_html(comparison, ENVIRONMENT, COMMAND)
    names = comparison.manifest.classes.names
    accuracy = text[text.index("Class by class, on the label maps") : text.index("against the checkpoint</h2>")]
    shown = re.findall(r"</span>([^<]+)</th>", accuracy)
    assert shown[0] == names[2]
    assert len(shown) == CLASSES
    assert "−13.37 <span" in accuracy
    likeness = text[text.index("against the checkpoint</h2>") :]
    assert re.findall(r"</span>([^<]+)</th>", likeness)[0] == names[3]
    assert f"100 % everywhere: {names[5]}." in likeness  # shown by the float32 rows alone
    assert likeness.count('class="flag">worst') == 2


def test_a_long_list_of_classes_is_cut_and_counted() -> None:
    count = MAX_CLASSES + 7
    names = tuple(f"class {number}" for number in range(count))
    manifest = cheap_manifest(classes=ClassesSpec(names=names, palette_rgb=((1, 2, 3),) * count))
    scored = Scores((0.5,) * count, (0.5,) * count, 0.5, 0.5, 0.5)
    rows = tuple(replace(each, against_reference=scored, against_truth=scored) for each in a_comparison().rows)
    text = page_of(a_comparison(manifest=manifest, rows=rows, reference_truth=scored)).text
    assert text.count("7 more classes are in report.json.") == 2


def test_flips_are_shown_from_the_checkpoints_class_to_the_precisions() -> None:
    comparison = a_comparison()
    names = comparison.manifest.classes.names
    page = page_of(comparison)
    assert f"{names[3]} {names[1]} 12 60.0 % 3.1 %" in page.text
    assert "No label differs: fp32 on ONNX Runtime; fp32 on OpenVINO." in page.text
    # the headline's is unfolded
    assert ["open" in each for each in page.all("details")] == [False, True]


def test_the_worst_frames_are_shown_with_the_labels_of_what_agrees_least() -> None:
    page = page_of(a_comparison())
    assert "The export’s labels (int8 on OpenVINO, rest fp32)" in page.text
    assert "60 × 40 · int8 on OpenVINO, rest fp32: 90.00 %, fp32: 100 %" in page.text
    assert "The pictures of 5 more frames are left out" in page.text
    assert len(page.all("img")) == 4
    assert page_of(a_comparison(worst=())).all("img") == []


def test_the_pictures_of_large_noisy_frames_leave_the_page_small() -> None:
    rng = np.random.default_rng(0)
    zeros = np.zeros((480, 640), np.uint8)
    worst = tuple(
        WorstFrame(f"f{number}", rng.integers(0, 256, (480, 640, 3), np.uint8), zeros, zeros + 1, "int8", {"int8": 0.0})
        for number in range(4)
    )
    text = precision_html(a_comparison(worst=worst), ENVIRONMENT, COMMAND)
    assert len(text) < 3_000_000
    shown = re.findall(r"<h3>(.*?)</h3>", text)
    assert 1 <= len(shown) < 4
    assert shown == [f"f{number}" for number in range(len(shown))]


def test_label_maps_with_other_labels_are_told() -> None:
    assert "1,234 pixels of the label maps have a label that is no class" in page_of(a_comparison(outside=1234)).text


def test_names_are_escaped_wherever_they_stand() -> None:
    evil = "<script>alert('x')</script>\"><img src=x onerror=alert(1)></svg>"
    comparison = a_comparison()
    manifest = comparison.manifest.model_copy(
        update={
            "architecture": evil,
            "source": comparison.manifest.source.model_copy(update={"file": evil}),
            "classes": ClassesSpec(names=(evil,) * CLASSES, palette_rgb=comparison.manifest.classes.palette_rgb),
        }
    )
    rows = tuple(
        replace(
            each,
            runs_in=evil,
            combination=replace(each.combination, candidate=replace(each.combination.candidate, name=evil)),
        )
        for each in comparison.rows
    )
    worst = (replace(comparison.worst[0], name=evil, combination=evil, agreement={evil: 0.9}),)
    text = precision_html(
        a_comparison(manifest=manifest, rows=rows, worst=worst, reference_name=evil, skipped={evil: evil}),
        {evil: evil},
        evil,
    )
    page = _Page(text)
    assert page.text.count(evil) >= 20
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "form", "a", "base", "foreignobject", "image", "use"}
    assert all((image["src"] or "").startswith("data:image/jpeg;base64,") for image in page.all("img"))
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert len(page.all("svg")) == 1


def test_the_page_needs_nothing_from_outside_and_forbids_it() -> None:
    text = precision_html(a_comparison(), ENVIRONMENT, COMMAND)
    for outside in ("http://", "https://", "url(", "@import", "href"):
        assert outside not in text
    policies = [meta["content"] for meta in _Page(text).all("meta") if "http-equiv" in meta]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_the_json_has_its_documented_keys_and_numbers() -> None:
    comparison = a_comparison()
    record = json.loads(precision_json(comparison, ENVIRONMENT, COMMAND), parse_constant=lambda word: pytest.fail(word))
    assert list(record) == [
        "format_version",
        "kind",
        "headline",
        "reference",
        "frames",
        "pixels",
        "truth_frames",
        "outside",
        "reference_truth",
        "rows",
        "timed",
        "worst",
        "skipped",
        "environment",
        "command",
        "manifest",
    ]
    assert record["headline"] == headline(comparison)
    assert [each["on_front"] for each in record["rows"]] == [False, True, False, True]
    assert record["rows"][3]["speed"] == pytest.approx(3.4)
    assert record["rows"][3]["cost"] == comparison.rows[3].cost
    assert record["rows"][3]["against_reference"]["iou"][5] == "nan"
    assert record["rows"][3]["samples_ms"] == [36.0, 40.0, 48.0]
    assert record["rows"][3]["flips"][0] == {
        "reference": comparison.manifest.classes.names[3],
        "label": comparison.manifest.classes.names[1],
        "pixels": 12,
        "share_of_flips": 0.6,
        "share_of_class": 0.031,
    }
    assert record["worst"][0]["height"] == 40
    assert Manifest.from_json(json.dumps(record["manifest"]), "report.json") == comparison.manifest
    assert json.loads(precision_json(a_comparison(truth=False), {}, ""))["reference_truth"] is None


def test_both_files_are_written_and_nothing_else(tmp_path: Path) -> None:
    write_precision_report(a_comparison(), tmp_path, ENVIRONMENT, COMMAND)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    with pytest.raises(InputError, match="nowhere"):
        write_precision_report(a_comparison(), tmp_path / "nowhere", ENVIRONMENT, COMMAND)


def drawn(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def marks(svg: str) -> list[ElementTree.Element]:
    return [each for each in drawn(svg).iter() if "mark" in (each.get("class") or "").split()]


def ticks(svg: str, anchor: str) -> list[float]:
    found = [each for each in drawn(svg).iter("text") if each.get("class") == "tick"]
    return [float(each.text or "nan") for each in found if each.get("text-anchor") == anchor]


def test_the_picture_fills_the_marks_of_the_front_and_gives_each_precision_a_shape() -> None:
    points = [
        Point(kind, 10.0 + number, miou, kind)
        for number, (kind, miou) in enumerate(zip(KINDS, (60, 61, 59, 62), strict=True))
    ]
    found = marks(pareto_svg(points, "mIoU"))
    assert ["hollow" in (each.get("class") or "") for each in found] == [False, False, True, False]
    corners = [len((each.get("points") or "").split()) for each in found]
    assert corners == [0, 4, 4, 3]
    assert len({each.get("class", "").split()[1] for each in found}) == 4


def test_the_front_is_a_line_of_steps() -> None:
    points = [
        Point("a", 10, 60, "int8"),
        Point("b", 20, 61, "bf16"),
        Point("c", 30, 63, "fp32"),
        Point("d", 30, 60, ""),
    ]
    (line,) = [each for each in drawn(pareto_svg(points, "mIoU")).iter("path") if each.get("class") == "front"]
    path = line.get("d") or ""
    assert re.fullmatch(r"M[\d.]+ [\d.]+(H[\d.]+V[\d.]+){2}", path)
    across = [float(each) for each in re.findall(r"[MH]([\d.]+)", path)]
    up = [float(each) for each in re.findall(r"[ V]([\d.]+)", path)]
    assert across == sorted(across)
    assert up == sorted(up, reverse=True)  # higher in the picture is less


def test_times_far_apart_are_drawn_on_a_logarithmic_scale() -> None:
    near = pareto_svg([Point("a", 10, 60, "fp32"), Point("b", 39, 61, "int8")], "mIoU")
    far = pareto_svg([Point("a", 10, 60, "fp32"), Point("b", 41, 61, "int8")], "mIoU")
    assert "logarithmic" not in near
    assert min(ticks(near, "middle")) == 0
    assert "milliseconds a frame, logarithmic" in far
    assert ticks(far, "middle") == [10, 20, 50]


def test_differences_too_small_to_matter_are_not_blown_up() -> None:
    svg = pareto_svg([Point("a", 10, 63.37, "fp32"), Point("b", 9, 63.36, "int8")], "mIoU", ("the checkpoint", 63.37))
    heights = [float(each.get("cy") or (each.get("points") or "").split()[0].split(",")[1]) for each in marks(svg)]
    assert abs(heights[0] - heights[1]) < HEIGHT / 10
    assert "the checkpoint" in svg


def test_no_point_no_picture_and_what_is_not_finite_is_left_out() -> None:
    assert pareto_svg([], "mIoU") == ""
    assert pareto_svg([Point("a", NAN, 60, "fp32"), Point("b", 5, NAN, "fp32")], "mIoU") == ""
    assert len(marks(pareto_svg([Point("a", 5, 60, "fp32"), Point("b", 0, 61, "fp32")], "mIoU", ("own", NAN)))) == 1


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.floats(1e-3, 1e6), st.floats(0, 100), st.sampled_from(KINDS), st.text(max_size=30)),
        min_size=1,
        max_size=10,
    )
)
def test_any_points_make_a_picture_with_every_mark_inside(
    values: Sequence[tuple[float, float, str, str]],
) -> None:
    # what no XML can say is no name of a file or an engine
    points = [Point(re.sub(r"[^\x20-\ud7ff]", "?", name), ms, miou, kind) for ms, miou, kind, name in values]
    svg = pareto_svg(points, "mIoU", ("own", 50.0))
    found = marks(svg)
    assert len(found) == len(points)
    for each in found:
        for place in (each.get("points") or f"{each.get('cx')},{each.get('cy')}").split():
            x, y = map(float, place.split(","))
            assert 0 < x < WIDTH
            assert 0 < y < HEIGHT
    texts = {each.text or "" for each in drawn(svg).iter("text")}
    assert {each.name for each in points} <= texts


def labels_boxes(svg: str) -> list[tuple[float, float, float, float]]:
    found = [each for each in drawn(svg).iter("text") if each.get("class") is None and each.get("text-anchor") is None]
    return [
        (x, y - 12, x + 7.6 * len(each.text or ""), y + 4)
        for each in found
        for x, y in [(float(each.get("x") or 0), float(each.get("y") or 0))]
    ]


def test_names_of_points_close_together_do_not_cover_one_another() -> None:
    names = ["fp32 on OpenVINO", "fp16 on OpenVINO, computed in fp32", "fp32 on ONNX Runtime", "bf16 on OpenVINO"]
    points = [Point(name, 40.0 + number / 2, 63.37, "fp32") for number, name in enumerate(names)]
    points += [Point("int8 on OpenVINO, rest fp32", 20, 62.9, "int8"), Point("int8 on ONNX Runtime", 44, 62.9, "int8")]
    boxes = labels_boxes(pareto_svg(points, "mIoU", ("the checkpoint itself", 63.37)))
    assert len(boxes) == len(points)
    for number, one in enumerate(boxes):
        assert one[0] > 0
        assert one[2] < WIDTH
        for other in boxes[:number]:
            assert min(one[2], other[2]) <= max(one[0], other[0]) or min(one[3], other[3]) <= max(one[1], other[1])

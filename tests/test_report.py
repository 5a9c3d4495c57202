"""The proof's pages say what the numbers say, hold whatever names they are given, and stand alone."""

from __future__ import annotations

import base64
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("jinja2", reason="the report needs jinja2: pip install 'isa-deploy[export]'")
pytest.importorskip("torch", reason="the proof needs torch: pip install 'isa-deploy[export]'")

from isa_deploy.errors import InputError
from isa_deploy.export.parity import FramePictures, ParityReport, StageComparison, compare_labels
from isa_deploy.export.report import report_html, report_json, write_report
from isa_deploy.export.report_pictures import MAX_WH, frame_figures
from isa_deploy.export.report_words import percent, remade_command
from isa_deploy.manifest import (
    ClassesSpec,
    InferenceSpec,
    InputSpec,
    Manifest,
    OutputsSpec,
    ResizeSpec,
    SourceSpec,
)
from isa_deploy.pages.figures import HIGHLIGHT_BGR
from isa_deploy.runtime.datasets import dataset_palette

STREETS = dataset_palette("cityscapes")
assert STREETS is not None
ONNXRUNTIME, OPENVINO, OPENVINO_BF16 = "onnxruntime fp32", "openvino fp32", "openvino bf16"


def a_manifest(**changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "format_version": 1,
        "architecture": "ISANet R18-D8 w16",
        "precision": "fp32",
        "source": SourceSpec(file="isanet_r18w16_streets.pth", sha256="3c" * 32, layout="mmseg-0.x"),
        "input": InputSpec(
            name="image",
            colour_order="BGR",
            shape_nhw=(None, None, None),
            mean=(103.53, 116.28, 123.675),
            std=(57.375, 57.12, 58.395),
            resize=ResizeSpec(scale_wh=(512, 256), keep_ratio=True),
        ),
        "inference": InferenceSpec(
            mode="whole", crop_hw=None, stride_hw=None, align_corners=False, windows_in_graph=False
        ),
        "classes": ClassesSpec(names=STREETS.names, palette_rgb=STREETS.palette_rgb),
        "outputs": OutputsSpec(labels="labels", logits="logits", logits_stride=8, confidence=None),
    }
    return Manifest(**(fields | changes))


def compare(
    picture: FramePictures, stage: str, names: tuple[str, ...], gated: bool, logits: float | None
) -> StageComparison:
    labels_hw = picture.stage_labels_hw[stage]
    differing = int((labels_hw != picture.reference_hw).sum())
    return StageComparison(
        stage=stage,
        precision=stage.split()[-1],
        gated=gated,
        frame=picture.frame,
        label_agreement=1 - differing / labels_hw.size,
        iou_per_class=compare_labels(labels_hw, picture.reference_hw, names),
        logits_max_abs=logits,
        differing=differing,
        differing_certain=0,
        seconds=0.042,
    )


def a_proof(golden: Path, wrong_pixels: int = 0, names: tuple[str, ...] = STREETS.names) -> Any:
    """A report and its pictures: real frames and labels, and stages with pixels changed on their borders."""
    labels = np.load(golden / "streets.npz")
    pictures, comparisons = [], []
    for number in range(3):
        frame_hwc = cv2.imread(str(golden / f"scene_{number}.png"), cv2.IMREAD_COLOR)
        reference_hw = labels[f"labels_{number}"]
        openvino_hw, bf16_hw = reference_hw.copy(), reference_hw.copy()
        border = np.argwhere(reference_hw[:, 1:] != reference_hw[:, :-1])
        for y, x in border[:: max(1, len(border) // wrong_pixels)][:wrong_pixels] if wrong_pixels else []:
            openvino_hw[y, x] = reference_hw[y, x + 1]
        for y, x in border[:: len(border) // 150]:
            bf16_hw[y, x] = reference_hw[y, x + 1]
        picture = FramePictures(
            f"scene_{number}.png",
            frame_hwc,
            reference_hw,
            {ONNXRUNTIME: reference_hw.copy(), OPENVINO: openvino_hw, OPENVINO_BF16: bf16_hw},
        )
        pictures.append(picture)
    for stage, gated, logits in ((ONNXRUNTIME, True, 4.2e-6), (OPENVINO, True, 9.7e-6), (OPENVINO_BF16, False, 0.31)):
        comparisons += [compare(picture, stage, names, gated, logits) for picture in pictures]
    failures = tuple(
        f"{each.stage} on {each.frame}: {each.label_agreement:.4%} of the labels agree, 99.95% are wanted"
        for each in comparisons
        if each.gated and each.label_agreement < 0.9995
    )
    classes = ClassesSpec(names=names, palette_rgb=STREETS.palette_rgb)
    report = ParityReport(
        manifest=a_manifest(classes=classes),
        environment={"isa-deploy": "0.1.0", "processor": "A processor @ 2.50GHz", "torch": "2.13.0+cpu"},
        comparisons=tuple(comparisons),
        threshold=0.9995,
        margin=2e-3,
        logits_tolerance=1e-3,
        passed=not failures,
        failures=failures,
        skipped={"onnxruntime bf16": "ONNX Runtime's CPU has no bfloat16 convolution"},
    )
    return report, pictures


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

    def handle_endtag(self, tag: str) -> None:
        self._silent = False

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def picture_of(uri: str | None) -> np.ndarray:
    assert uri is not None
    data = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"), validate=True)
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return picture


def least_of(stage: dict[str, Any]) -> str:
    return percent(min(stage["iou_min"].values())).replace("\u00a0", " ")


def yellow(picture: np.ndarray) -> int:
    return int((np.abs(picture.astype(int) - HIGHLIGHT_BGR).max(axis=2) < 60).sum())


def test_a_passed_proof_says_so_first_and_in_words(golden: Path) -> None:
    page = _Page(report_html(*a_proof(golden, wrong_pixels=5)))
    assert "✓ The export equals its checkpoint" in page.text
    # 5 of 131072 pixels: cut, not rounded, so not 100 %
    assert "At least 99.9961 % of the labels" in page.text
    assert "15 of 786,432 compared labels differ, none of them where the checkpoint is certain" in page.text
    assert "✗" not in page.text


def test_an_equal_export_is_called_equal_without_a_percentage(golden: Path) -> None:
    page = _Page(report_html(*a_proof(golden)))
    assert "Every label is the checkpoint’s, on 3 frames, in onnxruntime fp32 and openvino fp32." in page.text


def test_a_failed_proof_names_the_stage_that_broke_and_every_failure(golden: Path) -> None:
    report, pictures = a_proof(golden, wrong_pixels=400)
    page = _Page(report_html(report, pictures))
    assert "✗ The export does not equal its checkpoint" in page.text
    assert "openvino fp32 is the first stage that does not equal the checkpoint" in page.text
    assert "onnxruntime fp32 still agreed with it" in page.text
    assert len(report.failures) == 3
    assert all(failure in page.text for failure in report.failures)
    assert page.text.count("✗ failed") == 3


def test_a_stage_that_only_informs_cannot_fail(golden: Path) -> None:
    report, pictures = a_proof(golden)
    assert min(each.label_agreement for each in report.comparisons if each.stage == OPENVINO_BF16) < 0.9995
    stages = json.loads(report_json(report, pictures))["stages"]
    assert [(stage["stage"], stage["passed"]) for stage in stages] == [
        (ONNXRUNTIME, True),
        (OPENVINO, True),
        (OPENVINO_BF16, None),
    ]
    assert "✗" not in _Page(report_html(report, pictures)).text


def test_a_proof_without_any_stage_is_still_a_page(golden: Path) -> None:
    report, pictures = a_proof(golden)
    for picture in pictures:
        picture.stage_labels_hw.clear()
    report = replace(report, comparisons=(), passed=False, failures=("no stage could be run",))
    page = _Page(report_html(report, pictures))
    assert "Nothing was proven" in page.text
    assert "no stage could be run" in page.text
    assert len(page.all("img")) == 6  # frame and checkpoint


def test_a_stage_with_some_frames_only_is_shown_as_not_run(golden: Path) -> None:
    report, pictures = a_proof(golden)
    report = replace(report, comparisons=report.comparisons[:-1])
    del pictures[2].stage_labels_hw[OPENVINO_BF16]
    assert "not run" in _Page(report_html(report, pictures)).text


def test_names_are_escaped_wherever_they_stand(golden: Path) -> None:
    evil = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"
    report, pictures = a_proof(golden, wrong_pixels=400, names=(evil, *STREETS.names[1:]))
    manifest = report.manifest.model_copy(
        update={"architecture": evil, "source": report.manifest.source.model_copy(update={"file": evil})}
    )
    report = replace(
        report,
        manifest=manifest,
        environment={evil: evil},
        skipped={evil: evil},
        failures=(evil,),
        comparisons=tuple(replace(each, frame=evil, stage=evil) for each in report.comparisons[:1])
        + report.comparisons[1:],
    )
    pictures[0] = replace(pictures[0], frame=evil, stage_labels_hw={evil: pictures[0].reference_hw})
    text = report_html(report, pictures, command=evil)
    page = _Page(text)
    assert page.text.count(evil) >= 8
    assert page.all("script") == []
    assert all(set(image) == {"src", "width", "height", "alt"} for image in page.all("img"))
    assert all((image["src"] or "").startswith("data:image/jpeg;base64,") for image in page.all("img"))
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "form", "a", "base"}
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)


def test_the_page_needs_nothing_from_outside_and_forbids_it(golden: Path) -> None:
    text = report_html(*a_proof(golden, wrong_pixels=5))
    assert "http://" not in text
    assert "https://" not in text
    assert "url(" not in text
    policies = [meta["content"] for meta in _Page(text).all("meta") if "http-equiv" in meta]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_every_picture_has_words_and_a_size(golden: Path) -> None:
    page = _Page(report_html(*a_proof(golden, wrong_pixels=5)))
    images = page.all("img")
    # frame, checkpoint, the deciding stage, its differences, those of the other stage that differs
    assert len(images) == 3 * 5
    assert len(page.all("figcaption")) == len(images)
    for image in images:
        height, width = picture_of(image["src"]).shape[:2]
        assert (image["width"], image["height"]) == (str(width), str(height))
        assert image["alt"]


def test_the_class_table_shows_the_least_iou_and_marks_the_worst(golden: Path) -> None:
    report, pictures = a_proof(golden, wrong_pixels=5)
    page = _Page(report_html(report, pictures))
    stages = json.loads(report_json(report, pictures))["stages"]
    for stage in stages[1:]:
        of_stage = [each.iou_per_class for each in report.comparisons if each.stage == stage["stage"]]
        for name, least in stage["iou_min"].items():
            assert least == min(iou[name] for iou in of_stage if name in iou)
        assert f"{least_of(stage)} worst" in page.text
    assert page.text.count(" worst") == 2 + 1  # and once in the caption


def test_a_lone_pixel_of_a_large_frame_is_visible_in_its_picture() -> None:
    reference_hw = np.zeros((1024, 2048), dtype=np.uint8)
    frame_hwc = np.full((1024, 2048, 3), 255, dtype=np.uint8)
    for y, x in ((0, 0), (1023, 2047), (511, 1000), (333, 777)):
        labels_hw = reference_hw.copy()
        labels_hw[y, x] = 1
        pictures = [FramePictures("frame", frame_hwc, reference_hw, {"stage": labels_hw})]
        figure = frame_figures(pictures, STREETS.palette_rgb, "stage")[0].figures[3]
        picture = picture_of(figure.uri)
        assert picture.shape[1] <= MAX_WH[0]
        assert yellow(picture) >= 4
        assert "1 pixel differs" in figure.caption


def test_equal_labels_leave_the_difference_picture_dark() -> None:
    labels_hw = np.zeros((64, 96), dtype=np.uint8)
    pictures = [FramePictures("frame", np.full((64, 96, 3), 255, np.uint8), labels_hw, {"stage": labels_hw})]
    figure = frame_figures(pictures, STREETS.palette_rgb, "stage")[0].figures[3]
    assert picture_of(figure.uri).max() < 128
    assert "nowhere" in figure.caption


@pytest.mark.parametrize("shape_hw", [(1, 1), (1, 4000), (4000, 1), (3000, 500)])
def test_frames_of_any_shape_become_pictures(shape_hw: tuple[int, int]) -> None:
    labels_hw = np.zeros(shape_hw, dtype=np.uint8)
    pictures = [FramePictures("frame", np.zeros((*shape_hw, 3), np.uint8), labels_hw, {"stage": labels_hw})]
    for figure in frame_figures(pictures, STREETS.palette_rgb, "stage")[0].figures:
        assert figure.width <= MAX_WH[0]
        assert figure.height <= MAX_WH[1]


def test_the_labels_shown_are_of_the_stage_that_decides_or_broke(golden: Path) -> None:
    for wrong_pixels, shown in ((0, OPENVINO), (400, OPENVINO)):
        page = _Page(report_html(*a_proof(golden, wrong_pixels)))
        assert page.text.count(f"The export’s labels ({shown})") == 3
        assert f"The export’s labels ({OPENVINO_BF16})" not in page.text
    report, pictures = a_proof(golden)
    first_broke = tuple(
        replace(each, label_agreement=0.5) if each.stage == ONNXRUNTIME else each for each in report.comparisons
    )
    page = _Page(report_html(replace(report, comparisons=first_broke, passed=False), pictures))
    assert page.text.count(f"The export’s labels ({ONNXRUNTIME})") == 3
    assert "Already onnxruntime fp32, the first stage, does not equal" in page.text


def test_a_proof_of_many_noisy_frames_stays_under_3_mb_and_keeps_the_worst() -> None:
    rng = np.random.default_rng(0)
    pictures = []
    for number in range(12):
        frame_hwc = rng.integers(0, 256, (320, 640, 3), dtype=np.uint8)
        reference_hw = np.zeros((320, 640), dtype=np.uint8)
        labels_hw = reference_hw.copy()
        labels_hw[:number] = 1
        pictures.append(FramePictures(f"frame {number}", frame_hwc, reference_hw, {"stage": labels_hw}))
    comparisons = tuple(compare(picture, "stage", STREETS.names, True, None) for picture in pictures)
    report = ParityReport(a_manifest(), {}, comparisons, 0.5, 1e-3, None, True, (), {})
    text = report_html(report, pictures)
    assert len(text.encode()) < 3_000_000
    shown = re.findall(r"<h3>(.*?)</h3>", text)
    assert 1 <= len(shown) < 12
    assert shown == [f"frame {number}" for number in range(12 - len(shown), 12)]
    assert f"The pictures of {12 - len(shown)} more frames are left out" in _Page(text).text


def test_the_json_has_its_documented_keys_and_numbers(golden: Path) -> None:
    report, pictures = a_proof(golden, wrong_pixels=5)
    record = json.loads(report_json(report, pictures))
    assert list(record) == [
        "format_version",
        "passed",
        "failures",
        "threshold",
        "margin",
        "logits_tolerance",
        "frames",
        "stages",
        "comparisons",
        "skipped",
        "int8",
        "environment",
        "command",
        "manifest",
    ]
    assert record["frames"][0] == {"frame": "scene_0.png", "height": 256, "width": 512}
    openvino = record["stages"][1]
    assert openvino["stage"] == OPENVINO
    assert openvino["differing"] == 15
    assert math.isclose(openvino["label_agreement_min"], 1 - 5 / (256 * 512))
    assert len(record["comparisons"]) == 9
    assert Manifest.from_json(json.dumps(record["manifest"]), "report.json") == report.manifest


def test_logits_that_are_not_finite_are_said_in_both_files(golden: Path) -> None:
    report, pictures = a_proof(golden)
    broken = replace(report.comparisons[1], logits_max_abs=math.nan)
    report = replace(report, comparisons=(report.comparisons[0], broken, *report.comparisons[2:]), passed=False)
    record = json.loads(report_json(report, pictures), parse_constant=lambda word: pytest.fail(word))
    assert record["comparisons"][1]["logits_max_abs"] == "nan"
    assert record["stages"][0]["logits_max_abs"] == "nan"
    assert record["stages"][0]["passed"] is False
    assert "logits within not finite" in _Page(report_html(report, pictures)).text


def test_both_files_are_written_and_nothing_else(golden: Path, tmp_path: Path) -> None:
    report, pictures = a_proof(golden)
    write_report(report, pictures, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))


def test_a_folder_that_is_not_there_is_one_line(golden: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere") as caught:
        write_report(*a_proof(golden), tmp_path / "nowhere")
    assert "\n" not in str(caught.value)


def test_the_model_is_described_in_words() -> None:
    slide = a_manifest(
        precision="fp16",
        input=InputSpec(
            name="image", colour_order="RGB", shape_nhw=(1, 1024, 2048), mean=(1, 2, 3), std=(4, 5, 6), resize=None
        ),
        inference=InferenceSpec(
            mode="slide", crop_hw=(769, 769), stride_hw=(513, 513), align_corners=True, windows_in_graph=True
        ),
    )
    report = ParityReport(slide, {}, (), 0.99, 1e-3, None, False, (), {})
    text = _Page(report_html(report, [])).text
    assert "uint8 RGB, 1 frame at once, 1024 × 2048 pixels" in text
    assert "mean 1, 2, 3 and std 4, 5, 6 (RGB)" in text
    assert "windows of 769 × 769 every 513 × 513 pixels" in text
    assert "corners aligned" in text
    assert slide.source.sha256 in text


def test_the_command_makes_the_same_export_again() -> None:
    usual = ParityReport(a_manifest(), {}, (), 0.9995, 1e-3, None, False, (), {})
    assert remade_command(usual) == "isa-export --ckpt isanet_r18w16_streets.pth"
    manifest = a_manifest(
        precision="bf16",
        source=SourceSpec(file="my model.pth", sha256="0" * 64, layout="mmseg-1.x"),
        input=a_manifest().input.model_copy(update={"shape_nhw": (None, 512, 1024)}),
        outputs=OutputsSpec(labels="labels", logits="logits", logits_stride=8, confidence="confidence"),
    )
    assert remade_command(replace(usual, manifest=manifest, threshold=0.9)) == (
        "isa-export --ckpt 'my model.pth' --bf16 --shape 1x512x1024 --confidence --min-agreement 0.9"
    )


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (1.0, "100 %"),
        (0.9999999, "99.9999 %"),
        (0.99996, "99.9960 %"),
        (0.9995, "99.95 %"),
        (0.99949, "99.94 %"),
        (0.5, "50.00 %"),
        (0.0, "0.00 %"),
        (math.nan, "not a number"),
    ],
)
def test_a_share_is_cut_so_that_only_all_is_100_percent(share: float, words: str) -> None:
    assert percent(share).replace("\u00a0", " ") == words

"""A plan's pages say what was built, what it was compared with and what came out, and stand alone."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("jinja2", reason="the report needs jinja2: pip install 'isa-deploy[export]'")

from isa_deploy.errors import InputError
from isa_deploy.export.parity import FramePictures, ParityReport, StageComparison, compare_labels, judge
from isa_deploy.export.plan_layers import LayerSummary
from isa_deploy.export.plan_network import NetworkSummary
from isa_deploy.export.plan_profiles import default_profiles
from isa_deploy.export.plan_report import (
    MAX_LINES,
    PLAN_REPORT_FILES,
    PlanReport,
    plan_report_html,
    plan_report_json,
    write_plan_report,
)
from isa_deploy.manifest import (
    ClassesSpec,
    EngineSpec,
    InferenceSpec,
    InputSpec,
    Manifest,
    OutputsSpec,
    ResizeSpec,
    ShapeRange,
    SourceSpec,
)
from isa_deploy.runtime.backends.signature import TensorSpec
from isa_deploy.runtime.datasets import dataset_palette

STREETS = dataset_palette("cityscapes")
assert STREETS is not None

CARD = "NVIDIA H200 (compute capability 9.0)"
STAGE = "TensorRT 11.4.0.106 fp16"
THRESHOLD, MARGIN = 0.99, 2e-3

KEYS = [
    "format_version",
    "source",
    "not_run",
    "passed",
    "failures",
    "threshold",
    "margin",
    "logits_tolerance",
    "frames",
    "stages",
    "comparisons",
    "skipped",
    "card",
    "plan_bytes",
    "build_seconds",
    "network",
    "engine_layers",
    "warnings",
    "environment",
    "command",
    "manifest",
]


def a_manifest(names: tuple[str, ...] = STREETS.names, **engine: Any) -> Manifest:
    """The plan's manifest; ``engine`` replaces fields of its engine."""
    plain = Manifest(
        format_version=1,
        architecture="ISANet R18-D8 w16",
        precision="fp16",
        source=SourceSpec(file="isanet_r18w16_streets.pth", sha256="3c" * 32, layout="mmseg-0.x"),
        input=InputSpec(
            name="image",
            colour_order="BGR",
            shape_nhw=(None, None, None),
            mean=(103.53, 116.28, 123.675),
            std=(57.375, 57.12, 58.395),
            resize=ResizeSpec(scale_wh=(512, 256), keep_ratio=True),
        ),
        inference=InferenceSpec(
            mode="whole", crop_hw=None, stride_hw=None, align_corners=False, windows_in_graph=False
        ),
        classes=ClassesSpec(names=names, palette_rgb=STREETS.palette_rgb),
        outputs=OutputsSpec(labels="labels", logits="logits", logits_stride=8, confidence=None),
    )
    fields: dict[str, Any] = {
        "builder": "tensorrt",
        "builder_version": "11.4.0.106",
        "compute_capability": "9.0",
        "onnx_sha256": "a1" * 32,
        "plan_sha256": "b2" * 32,
        "hardware_compatible": False,
        "version_compatible": False,
        "profiles": default_profiles(plain),
        "layer_precisions": {"Half": 190, "Float": 12},
    }
    return plain.model_copy(update={"engine": EngineSpec(**(fields | engine))})


NETWORK = NetworkSummary(
    266,
    {"image": TensorSpec("uint8", (None, None, None, 3))},
    {"labels": TensorSpec("uint8", (None, None, None)), "logits": TensorSpec("float32", (None, 19, None, None))},
)
LAYERS = LayerSummary(
    202,
    {"CaskConvolution": 61, "gemm": 23, "Reformat": 18},
    {"Half": 190, "Float": 12, "UInt8": 2},
    (("sm90_xmma_fprop_implicit_gemm_f16f16_f16f16_f16_nhwckrsc_nhwc_tilesize128x128x64_warpgroupsize1x1x1", 21),),
)


def compare(picture: FramePictures, names: tuple[str, ...], logits: float | None) -> StageComparison:
    labels_hw = picture.stage_labels_hw[STAGE]
    differing = int((labels_hw != picture.reference_hw).sum())
    return StageComparison(
        stage=STAGE,
        precision="fp16",
        gated=True,
        frame=picture.frame,
        label_agreement=1 - differing / labels_hw.size,
        iou_per_class=compare_labels(labels_hw, picture.reference_hw, names),
        logits_max_abs=logits,
        differing=differing,
        differing_certain=0,
        seconds=0.004,
    )


def a_report(proof: ParityReport | None = None, **changes: Any) -> PlanReport:
    report = PlanReport(
        manifest=a_manifest(),
        source=None if proof is None else "the graph in ONNX Runtime",
        proof=proof,
        not_run="this machine has no card; run isa-export --plan on one with a card to have it proven"
        if proof is None
        else None,
        card=None if proof is None else CARD,
        network=NETWORK,
        layers=None if proof is None else LAYERS,
        plan_bytes=5_321_728,
        build_seconds=83.4,
        warnings=("Detected layernorm nodes in FP16.",),
        environment={"isa-deploy": "0.1.0", "torch": "not installed", "tensorrt": "11.4.0.106"},
    )
    return replace(report, **changes)


def a_proven_plan(
    golden: Path, wrong_pixels: int = 0, names: tuple[str, ...] = STREETS.names
) -> tuple[PlanReport, list[FramePictures]]:
    """A report and its pictures: real frames and labels, and a plan with pixels changed on their borders."""
    labels = np.load(golden / "streets.npz")
    pictures = []
    for number in range(2):
        frame_hwc = cv2.imread(str(golden / f"scene_{number}.png"), cv2.IMREAD_COLOR)
        reference_hw = labels[f"labels_{number}"]
        plan_hw = reference_hw.copy()
        border = np.argwhere(reference_hw[:, 1:] != reference_hw[:, :-1])
        for y, x in border[:: max(1, len(border) // wrong_pixels)][:wrong_pixels] if wrong_pixels else []:
            plan_hw[y, x] = reference_hw[y, x + 1]
        pictures.append(FramePictures(f"scene_{number}.png", frame_hwc, reference_hw, {STAGE: plan_hw}))
    comparisons = tuple(compare(picture, names, 0.0123) for picture in pictures)
    failures = tuple(judge(comparisons, THRESHOLD, None, MARGIN))
    proof = ParityReport(a_manifest(), {}, comparisons, THRESHOLD, MARGIN, None, not failures, failures, {})
    return a_report(proof, manifest=a_manifest(names)), pictures


def changed_engine(report: PlanReport, **engine: Any) -> PlanReport:
    return replace(report, manifest=a_manifest(**engine))


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
        self.text += " " if tag in ("td", "th", "li", "p") else ""

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(report: PlanReport, pictures: list[FramePictures] | None = None) -> _Page:
    return _Page(plan_report_html(report, pictures or []))


def command_of(report: PlanReport) -> str:
    command: str = json.loads(plan_report_json(report, []))["command"]
    return command


def test_a_plan_that_equals_its_graph_says_so_first_and_on_what(golden: Path) -> None:
    page = page_of(*a_proven_plan(golden))
    assert "✓ The plan equals the graph in ONNX Runtime" in page.text
    assert f"Every label is the graph’s, on 2 frames, on {CARD} with TensorRT 11.4.0.106." in page.text
    assert "✗" not in page.text


def test_an_agreement_is_cut_and_never_rounded_to_100_percent(golden: Path) -> None:
    report, pictures = a_proven_plan(golden, wrong_pixels=1)
    page = page_of(report, pictures)
    # 1 of 131072 pixels
    assert "At least 99.9992 % of the labels are the graph’s on every one of 2 frames" in page.text
    assert "2 of 262,144 compared labels differ, none of them where the graph is certain" in page.text
    before_classes = page.text[: page.text.index("Class by class")]
    assert "100 %" not in before_classes
    assert "100.00" not in page.text


def test_a_plan_that_differs_names_every_failure_and_the_worst_frame(golden: Path) -> None:
    report, pictures = a_proven_plan(golden, wrong_pixels=2000)
    assert report.proof is not None
    page = page_of(report, pictures)
    assert "✗ The plan does not equal the graph in ONNX Runtime" in page.text
    assert f"2 of 2 frames failed on {CARD}" in page.text
    assert len(report.proof.failures) == 2
    assert all(failure in page.text for failure in report.proof.failures)
    assert page.text.count("✗ failed") == 2
    assert json.loads(plan_report_json(report, pictures))["passed"] is False


def test_a_plan_that_was_not_run_says_why_and_shows_no_comparison() -> None:
    page = page_of(a_report())
    assert "○ Built, not run here" in page.text
    assert "This machine has no card; run isa-export --plan on one with a card to have it proven." in page.text
    for absent in ("✓", "✗", "Frame by frame", "Class by class", "The frames", "Certain"):
        assert absent not in page.text
    assert page.all("img") == []
    assert "Its layers, types and tactics are read from the running engine, and it was not run here." in page.text


def test_a_plan_that_could_not_be_opened_has_proven_nothing() -> None:
    skipped = {STAGE: "the driver is too old"}
    proof = ParityReport(a_manifest(), {}, (), THRESHOLD, MARGIN, None, False, ("no stage could be run",), skipped)
    page = page_of(a_report(proof))
    assert "✗ Built, and nothing was proven" in page.text
    assert f"{STAGE}: the driver is too old." in page.text


@pytest.mark.parametrize(
    ("source", "yardstick", "caption"),
    [
        ("the graph in ONNX Runtime", "the graph", "The graph’s labels (ONNX Runtime)"),
        ("the graph in OpenVINO in float32", "the graph", "The graph’s labels (OpenVINO in float32)"),
        ("the checkpoint in torch", "the checkpoint", "The checkpoint’s labels (torch)"),
    ],
)
def test_the_words_name_what_it_was_compared_with(golden: Path, source: str, yardstick: str, caption: str) -> None:
    report, pictures = a_proven_plan(golden, wrong_pixels=5)
    text = plan_report_html(replace(report, source=source), pictures)
    page = _Page(text)
    assert f"The plan equals {source}" in page.text
    assert f"The plan’s labels against those of {source}." in page.text
    assert f"pixels where {yardstick}’s two best logits" in page.text
    assert f"Intersection over union between {yardstick}’s label map and {STAGE}’s" in page.text
    assert page.text.count(caption) == 2
    assert page.text.count(f"The plan’s labels ({STAGE})") == 2
    alts = " ".join(image["alt"] or "" for image in page.all("img"))
    assert f"{yardstick}'s labels" in alts
    assert f"between {yardstick} and {STAGE}" in alts
    if yardstick == "the graph":
        assert "the checkpoint" not in page.text + alts


def test_a_comparison_without_pictures_is_still_a_page(golden: Path) -> None:
    report, _ = a_proven_plan(golden, wrong_pixels=5)
    page = page_of(report)
    assert page.all("img") == []
    assert "10 compared labels differ" in page.text
    assert "Frame by frame" in page.text
    assert "The frames" not in page.text


def test_each_frame_has_its_figures_and_its_worst_class(golden: Path) -> None:
    report, pictures = a_proven_plan(golden, wrong_pixels=5)
    assert report.proof is not None
    page = page_of(report, pictures)
    for each in report.proof.comparisons:
        worst = min(each.iou_per_class, key=each.iou_per_class.__getitem__)
        row = page.text[page.text.index(f"{each.frame} 99.9961") :]
        assert row.startswith(f"{each.frame} 99.9961 % 5 0 0.0123 ")
        assert worst in row[: row.index(worst) + len(worst)][:80]


def test_the_confidence_has_a_column_where_the_graph_gives_one(golden: Path) -> None:
    report, pictures = a_proven_plan(golden)
    assert report.proof is not None
    assert "Confidence by" not in page_of(report, pictures).text
    comparisons = tuple(replace(each, confidence_max_abs=0.0078) for each in report.proof.comparisons)
    page = page_of(replace(report, proof=replace(report.proof, comparisons=comparisons)), pictures)
    assert "Confidence by" in page.text
    assert page.text.count("0.0078") == 2


def test_what_was_built_is_told_in_full(golden: Path) -> None:
    report, pictures = a_proven_plan(golden)
    text = page_of(replace(report, graph_file="streets.onnx"), pictures).text
    for words in (
        "Built with TensorRT 11.4.0.106",
        "Built in 1 min 23 s",
        f"This machine’s card {CARD}",
        "Compute capability 9.0: the plan runs on cards of this kind only",
        "Hardware-compatible no",
        "Version-compatible no: it runs with TensorRT 11.4.0 only",
        "Size 5.1 MiB (5,321,728 bytes)",
        "Built from streets.onnx",
        "a1" * 32,
        "b2" * 32,
        "1 1 × 64 × 64 1 × 256 × 512 1 × 256 × 512",
        "2 1 × 64 × 64 1 × 512 × 256 1 × 512 × 256",
        "266 layers before the build",
        "image input uint8 any × any × any × 3",
        "labels output uint8 any × any × any",
        "logits output float32 any × 19 × any × any",
        "202 layers after fusion",
        "CaskConvolution 61",
        "Half 190",
        LAYERS.tactics[0][0],
        "Detected layernorm nodes in FP16.",
        "tensorrt 11.4.0.106",
    ):
        assert words in text, words


def test_a_version_compatible_plan_warns_of_the_code_that_it_carries() -> None:
    text = page_of(changed_engine(a_report(), version_compatible=True)).text
    assert "yes: it runs with TensorRT 11.4.0 and later versions of 11" in text
    assert "carries code for the host’s processor" in text
    assert "--allow-engine-code" in text
    assert "--allow-engine-code" not in page_of(a_report()).text


def test_a_plan_for_every_card_says_so() -> None:
    anywhere = changed_engine(a_report(), builder="tensorrt_rtx", builder_version="1.7.1.116", compute_capability=None)
    text = page_of(anywhere).text
    assert "Built with TensorRT-RTX 1.7.1.116" in text
    assert "any from 8.0 on: the plan runs on every card from Ampere on" in text
    assert "This machine’s card none" in text
    hardware = page_of(changed_engine(a_report(), hardware_compatible=True)).text
    assert "built on 9.0; the plan runs on every card from Ampere (8.0) on" in hardware


def test_a_fixed_size_is_told_instead_of_ranges() -> None:
    manifest = a_manifest(profiles=())
    fixed = manifest.model_copy(
        update={"input": manifest.input.model_copy(update={"shape_nhw": (1, 512, 1024), "resize": None})}
    )
    text = page_of(replace(a_report(), manifest=fixed)).text
    assert "Every frame is 1 × 512 × 1024 (frames × height × width), fixed by the export." in text
    assert "Smallest" not in text


def test_ranges_of_windows_are_called_windows() -> None:
    manifest = a_manifest()
    slide = InferenceSpec(
        mode="slide", crop_hw=(256, 256), stride_hw=(128, 128), align_corners=False, windows_in_graph=False
    )
    text = page_of(replace(a_report(), manifest=manifest.model_copy(update={"inference": slide}))).text
    assert "these are sizes of windows" in text


def test_names_are_escaped_wherever_they_stand(golden: Path) -> None:
    evil = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"
    report, pictures = a_proven_plan(golden, wrong_pixels=2000, names=(evil, *STREETS.names[1:]))
    assert report.proof is not None
    manifest = report.manifest.model_copy(
        update={"architecture": evil, "source": report.manifest.source.model_copy(update={"file": evil})}
    )
    pictures[0] = replace(pictures[0], frame=evil)
    comparisons = (replace(report.proof.comparisons[0], frame=evil), *report.proof.comparisons[1:])
    report = replace(
        report,
        manifest=manifest,
        source=evil,
        card=evil,
        proof=replace(report.proof, comparisons=comparisons, failures=(evil,), skipped={evil: evil}),
        network=NetworkSummary(1, {evil: TensorSpec(evil, (1,))}, {evil: TensorSpec("uint8", ())}),
        layers=LayerSummary(3, {evil: 1}, {evil: 2}, ((evil, 3),)),
        warnings=(evil,),
        environment={evil: evil},
        graph_file=evil,
    )
    page = page_of(report, pictures)
    assert page.text.count(evil) >= 18
    assert page.all("script") == []
    assert all(set(image) == {"src", "width", "height", "alt"} for image in page.all("img"))
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "form", "a", "base"}
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    unrun = page_of(replace(report, proof=None, source=None, not_run=evil))
    assert unrun.all("script") == unrun.all("img") == []


def test_the_page_needs_nothing_from_outside_and_forbids_it(golden: Path) -> None:
    text = plan_report_html(*a_proven_plan(golden, wrong_pixels=5))
    for outside in ("http://", "https://", "url(", "@import"):
        assert outside not in text
    policies = [meta["content"] for meta in _Page(text).all("meta") if "http-equiv" in meta]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_long_lists_are_bounded_on_the_page_and_whole_in_the_json(golden: Path) -> None:
    report, pictures = a_proven_plan(golden)
    assert report.proof is not None
    many = 5000
    report = replace(
        report,
        warnings=(*(f"warning {number}" for number in range(many)), "w" * 100_000),
        layers=LayerSummary(
            many,
            {f"kind {number}": 1 for number in range(many)},
            {f"type {number}": 1 for number in range(many)},
            tuple((f"tactic {number}", 1) for number in range(many)),
        ),
        network=NetworkSummary(
            many,
            NETWORK.inputs,
            {f"output {number}": TensorSpec("uint8", (1,)) for number in range(many)},
        ),
        proof=replace(report.proof, passed=False, failures=tuple(f"failure {number}" for number in range(many))),
    )
    text = page_of(report, pictures).text
    for name in ("warning", "kind", "type", "tactic", "failure"):
        assert f"{name} {MAX_LINES - 1} " in text
        assert f"{name} {MAX_LINES} " not in text
    assert f"{many - MAX_LINES} more in plan-report.json" in text
    assert len(text) < 20_000
    record = json.loads(plan_report_json(report, pictures))
    assert len(record["warnings"]) == many + 1
    assert len(record["failures"]) == len(record["engine_layers"]["tactics"]) == many
    assert len(record["network"]["outputs"]) == many


def test_one_long_warning_is_cut_on_the_page() -> None:
    text = page_of(a_report(warnings=("w" * 100_000,))).text
    assert "www…" in text
    assert len(text) < 10_000


def test_the_json_has_its_documented_keys_and_numbers(golden: Path) -> None:
    report, pictures = a_proven_plan(golden, wrong_pixels=5)
    record = json.loads(plan_report_json(report, pictures))
    assert list(record) == KEYS
    assert record["format_version"] == 1
    assert record["source"] == "the graph in ONNX Runtime"
    assert record["not_run"] is None
    assert record["passed"] is True
    assert record["threshold"] == THRESHOLD
    assert record["frames"][0] == {"frame": "scene_0.png", "height": 256, "width": 512}
    assert record["stages"][0]["differing"] == 10
    assert math.isclose(record["stages"][0]["label_agreement_min"], 1 - 5 / (256 * 512))
    assert len(record["comparisons"]) == 2
    assert record["card"] == CARD
    assert record["plan_bytes"] == 5_321_728
    assert record["build_seconds"] == 83.4
    assert record["network"]["inputs"] == {"image": {"dtype": "uint8", "shape": [None, None, None, 3]}}
    assert record["engine_layers"]["types"] == LAYERS.types
    assert record["engine_layers"]["tactics"] == [{"name": LAYERS.tactics[0][0], "layers": 21}]
    assert Manifest.from_json(json.dumps(record["manifest"]), "plan-report.json") == report.manifest


def test_the_json_of_a_plan_that_was_not_run_misses_nothing() -> None:
    record = json.loads(plan_report_json(a_report(), []))
    assert list(record) == KEYS
    assert record["not_run"].startswith("this machine has no card")
    nulls = ("source", "passed", "threshold", "margin", "logits_tolerance", "card", "engine_layers")
    assert [record[key] for key in nulls] == [None] * len(nulls)
    assert record["failures"] == record["frames"] == record["stages"] == record["comparisons"] == []


def test_every_key_of_the_json_is_documented() -> None:
    from isa_deploy.export import plan_report

    assert plan_report.__doc__ is not None
    for key in KEYS:
        assert f"``{key}``" in plan_report.__doc__


def test_numbers_that_are_not_finite_are_said_in_both_files(golden: Path) -> None:
    report, pictures = a_proven_plan(golden)
    assert report.proof is not None
    comparisons = (replace(report.proof.comparisons[0], logits_max_abs=math.nan), *report.proof.comparisons[1:])
    proof = replace(report.proof, comparisons=comparisons, passed=False)
    report = replace(report, proof=proof, build_seconds=math.inf)
    record = json.loads(plan_report_json(report, pictures), parse_constant=lambda word: pytest.fail(word))
    assert record["comparisons"][0]["logits_max_abs"] == "nan"
    assert record["build_seconds"] == "inf"
    text = page_of(report, pictures).text
    assert "1 of 2 frames failed" in text
    assert text.count("not finite") == 2


def test_both_files_are_written_and_nothing_else(golden: Path, tmp_path: Path) -> None:
    report, pictures = a_proven_plan(golden)
    write_plan_report(report, pictures, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(PLAN_REPORT_FILES)
    assert (tmp_path / "plan-report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    json.loads((tmp_path / "plan-report.json").read_text(encoding="utf-8"))


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere") as caught:
        write_plan_report(a_report(), [], tmp_path / "nowhere")
    assert "\n" not in str(caught.value)


def test_the_command_builds_the_same_plan_again() -> None:
    report = a_report()
    assert command_of(report) == "isa-export model.onnx --plan"
    assert command_of(replace(report, graph_file="my model.onnx")) == "isa-export 'my model.onnx' --plan"
    rtx = {"builder": "tensorrt_rtx", "builder_version": "1.7.1.116"}
    assert command_of(changed_engine(report, **rtx, compute_capability=None)) == (
        "isa-export model.onnx --plan --target rtx"
    )
    assert command_of(changed_engine(report, **rtx, compute_capability="8.9")) == (
        "isa-export model.onnx --plan --target rtx --compute-capability 8.9"
    )
    assert command_of(
        replace(changed_engine(report, hardware_compatible=True, version_compatible=True), workspace_bytes=512 << 20)
    ) == ("isa-export model.onnx --plan --workspace 512 --hardware-compatible --version-compatible")
    ranges = (
        ShapeRange(min_nhw=(1, 64, 64), opt_nhw=(1, 256, 512), max_nhw=(2, 256, 512)),
        ShapeRange(min_nhw=(4, 8, 8), opt_nhw=(4, 8, 8), max_nhw=(4, 8, 8)),
    )
    assert command_of(changed_engine(report, profiles=ranges)) == (
        "isa-export model.onnx --plan --min-shape 1x64x64 --opt-shape 1x256x512 --max-shape 2x256x512 "
        "--min-shape 4x8x8 --opt-shape 4x8x8 --max-shape 4x8x8"
    )
    proof = ParityReport(a_manifest(), {}, (), 0.9, MARGIN, None, False, (), {})
    assert command_of(replace(report, proof=proof, source="the graph in ONNX Runtime")) == (
        "isa-export model.onnx --plan --min-agreement 0.9"
    )
    assert command_of(replace(report, proof=replace(proof, threshold=THRESHOLD))) == "isa-export model.onnx --plan"


def test_the_report_is_written_without_torch_and_onnx() -> None:
    code = """
import importlib.abc, sys
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "onnx", "onnxscript", "onnxruntime", "openvino"}:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)
sys.meta_path.insert(0, Blocker())
sys.path.insert(0, sys.argv[1])
import test_plan_report
print(len(test_plan_report.plan_report_html(test_plan_report.a_report(), [])))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 5000

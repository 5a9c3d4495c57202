"""Which plans are opened, and which are refused by whom: our own checks first, TensorRT where only it can tell.

Over the stand-in (tests/standin), whose runtime counts what it is given.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plan_commands import Command, Folders, edit_manifest, names

from isa_deploy.errors import (
    BackendUnavailableError,
    EngineError,
    EngineIncompatibleError,
    InputError,
    IsaError,
    ManifestError,
)
from isa_deploy.manifest import read_manifest
from isa_deploy.runtime.opening import find_engine
from isa_deploy.runtime.plan import check_library, fits_card, plan_manifest, version_numbers
from isa_deploy.runtime.segmenter import Segmenter

pytest_plugins = ("standin_fixtures", "plan_fixtures")

FRAME_HWC = np.zeros((64, 128, 3), np.uint8)


@pytest.fixture
def plan(built_plan: Path) -> Path:
    """The plan of these tests; of those that run plans it is another one."""
    return built_plan


def refused(path: Path, gpu: Any, error: type[IsaError], *words: str, seen: int = 0, **options: Any) -> str:
    """Opening fails with this very error and these words, on one line, after TensorRT saw ``seen`` plans."""
    before = gpu.calls["deserialize_cuda_engine"]
    with pytest.raises(IsaError) as caught:
        Segmenter.open(path, **options)
    message = str(caught.value)
    assert type(caught.value) is error, message
    for word in words:
        assert word in message, message
    assert "\n" not in message
    assert gpu.calls["deserialize_cuda_engine"] == before + seen, "TensorRT was given the plan"
    assert gpu.live_allocations() == []
    return message


def runs(path: Path, **options: Any) -> None:
    with Segmenter.open(path, resize="none", **options) as segmenter:
        assert segmenter.backend_name == "tensorrt"
        assert segmenter.segment(FRAME_HWC).shape == (64, 128)


def test_a_plan_as_it_was_built_is_opened_and_gives_the_graphs_labels(plan: Path, gpu: Any, golden: Path) -> None:
    import cv2

    frame_hwc = cv2.imread(str(golden / "scene_0.png"))
    with (
        Segmenter.open(plan) as segmenter,
        Segmenter.open(plan.with_suffix(".onnx"), backend="onnxruntime") as graph,
    ):
        assert segmenter.precision == "fp16"
        assert segmenter.device == "cuda:0 (Stand-in GPU)"
        assert np.array_equal(segmenter.segment(frame_hwc), graph.segment(frame_hwc))
    assert gpu.calls["deserialize_cuda_engine"] == 1
    assert gpu.live_allocations() == []


# the file itself


def test_a_plan_of_0_bytes_is_refused_with_the_line_that_builds_it(plan: Path, gpu: Any) -> None:
    plan.write_bytes(b"")
    refused(plan, gpu, EngineError, "has 0 bytes", f"isa-export {plan.with_suffix('.onnx')} --plan")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda data: data[: len(data) // 2], id="truncated"),
        pytest.param(lambda data: data[:-1], id="without its last byte"),
        pytest.param(lambda data: data + b"\0", id="longer by one byte"),
        pytest.param(lambda data: bytes([data[0] ^ 1]) + data[1:], id="with one other bit"),
        pytest.param(lambda data: b"\x7fELF" + b"\0" * 4096, id="another file altogether"),
    ],
)
def test_a_plan_that_is_not_the_manifests_never_reaches_tensorrt(plan: Path, gpu: Any, change: Any) -> None:
    plan.write_bytes(change(plan.read_bytes()))
    refused(plan, gpu, EngineError, str(plan), "not the plan that model.json describes", "SHA-256")


def test_a_plan_of_another_build_is_refused_although_tensorrt_would_take_it(
    plan: Path, gpu: Any, planned_once: Folders
) -> None:
    other = planned_once("--hardware-compatible") / "model.plan"
    shutil.copy(other, plan)
    refused(plan, gpu, EngineError, "SHA-256")


def test_a_plan_is_refused_when_the_graph_beside_it_has_changed(plan: Path, gpu: Any) -> None:
    graph = plan.with_suffix(".onnx")
    graph.write_bytes(graph.read_bytes() + b"\0")
    refused(plan, gpu, EngineIncompatibleError, "built from another graph than model.onnx", "--plan")
    graph.unlink()
    runs(plan)  # nothing there to hold it against


def test_a_plan_that_cannot_be_read_is_an_error_with_the_systems_reason(plan: Path, gpu: Any) -> None:
    plan.unlink()
    plan.symlink_to(plan.with_name("nowhere"))
    refused(plan, gpu, EngineError, "no such file")


def test_a_truncated_plan_without_a_record_is_explained_by_tensorrts_own_words(plan: Path, gpu: Any) -> None:
    edit_manifest(plan, remove=True)
    plan.write_bytes(plan.read_bytes()[:1000])
    words = ("Serialization", "its manifest does not say by what it was built", "TensorRT 10.16.1.11 on Stand-in GPU")
    refused(plan, gpu, EngineIncompatibleError, *words, seen=1)


# the manifest


def test_a_plan_without_a_manifest_is_refused_with_where_to_get_it(plan: Path, gpu: Any) -> None:
    plan.with_suffix(".json").unlink()
    refused(plan, gpu, ManifestError, "has no manifest model.json beside it", "the export's model.json")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format_version": 99}'])
def test_a_plan_with_a_broken_manifest_is_refused(plan: Path, gpu: Any, text: str) -> None:
    plan.with_suffix(".json").write_text(text)
    refused(plan, gpu, ManifestError, "model.json")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("builder", "tensorflow"),
        ("builder_version", "10"),
        ("builder_version", "10.16.1.11; rm -rf /"),
        ("compute_capability", "sm_89"),
        ("plan_sha256", "0"),
        ("version_compatible", "no"),
        ("profiles", [{"min_nhw": [2, 8, 8], "opt_nhw": [1, 8, 8], "max_nhw": [1, 8, 8]}]),
        ("unknown", 1),
    ],
)
def test_an_engine_record_that_breaks_a_rule_is_refused_by_its_field(
    plan: Path, gpu: Any, field: str, value: Any
) -> None:
    edit_manifest(plan, **{field: value})
    refused(plan, gpu, ManifestError, f"manifest field engine.{field}")


def test_a_plan_of_another_tool_from_our_graph_runs_with_the_exports_manifest(plan: Path, gpu: Any) -> None:
    edit_manifest(plan, remove=True)
    assert plan_manifest(plan).engine is None
    runs(plan)


# the library


@pytest.mark.parametrize("version", ["10.16.2.3", "10.17.0.1", "10.12.0.36", "11.4.0.106", "20.16.1.11"])
def test_a_plan_of_another_version_is_refused_with_both_versions(plan: Path, gpu: Any, version: str) -> None:
    gpu.knobs.tensorrt_version = version
    words = ("was built with tensorrt 10.16.1.11", f"this is tensorrt {version}", "--plan")
    refused(plan, gpu, EngineIncompatibleError, *words)


def test_another_build_number_is_refused(plan: Path, gpu: Any) -> None:
    gpu.knobs.tensorrt_version = "10.16.1.12"
    words = ("was built with tensorrt 10.16.1.11", "this is tensorrt 10.16.1.12")
    refused(plan, gpu, EngineIncompatibleError, *words)


def test_a_version_that_says_less_is_left_to_tensorrt_and_explained(plan: Path, gpu: Any) -> None:
    gpu.knobs.tensorrt_version = "10.16.1"  # JetPack writes three numbers, pip four
    words = (
        "TensorRT 10.16.1 on Stand-in GPU (compute capability 8.9) refuses the plan",
        "expecting library version 10.16.1 got 10.16.1.11",
        "it is of tensorrt 10.16.1.11 for compute capability 8.9",
    )
    refused(plan, gpu, EngineIncompatibleError, *words, seen=1)


def test_a_record_that_names_the_other_library_is_refused_by_its_version(plan: Path, gpu: Any) -> None:
    edit_manifest(plan, builder="tensorrt_rtx")
    words = ("was built with tensorrt_rtx 10.16.1.11", "this is tensorrt_rtx 1.7.1.116")
    refused(plan, gpu, EngineIncompatibleError, *words)


def test_a_record_that_lies_about_the_library_is_seen_through_by_tensorrt(plan: Path, gpu: Any) -> None:
    edit_manifest(plan, builder="tensorrt_rtx", builder_version="1.7.1.116")
    words = ("Magic tag does not match", "TensorRT-RTX 1.7.1.116 on", "it is of tensorrt_rtx 1.7.1.116")
    refused(plan, gpu, EngineIncompatibleError, *words, seen=1)


def test_one_library_never_takes_the_others_plan(plan: Path) -> None:
    spec = plan_manifest(plan).engine
    assert spec is not None
    check_library(plan, spec, "tensorrt", "10.16.1.11")
    with pytest.raises(EngineIncompatibleError, match=r"with tensorrt 10\.16\.1\.11 and this is tensorrt_rtx 1\.7"):
        check_library(plan, spec, "tensorrt_rtx", "1.7.1.116")
    with pytest.raises(EngineIncompatibleError):
        check_library(plan, spec, "tensorrt_rtx", "10.16.1.11")


def test_a_plan_without_its_library_names_the_line_that_installs_it(
    plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BackendUnavailableError, match=r"TensorRT is not installed; pip install 'isa-deploy\[tensorrt"):
        Segmenter.open(plan)  # without the stand-in


def test_versions_are_numbers_and_not_text() -> None:
    assert version_numbers("10.9.0") < version_numbers("10.16.0")
    assert version_numbers("10.16.1.post1") == (10, 16, 1)
    with pytest.raises(EngineError, match="does not begin with numbers"):
        version_numbers("unknown")


# code for the host


@pytest.fixture
def portable(planned_once: Folders, tmp_path: Path) -> Path:
    """A version-compatible plan."""
    shutil.copytree(planned_once("--version-compatible"), tmp_path / "portable")
    return tmp_path / "portable" / "model.plan"


def test_code_for_the_host_runs_only_where_it_is_allowed(portable: Path, gpu: Any) -> None:
    words = ("carries code that runs on this machine's processor", "--allow-engine-code")
    refused(portable, gpu, EngineError, *words)
    runs(portable, allow_engine_code=True)
    refused(portable, gpu, EngineError, *words)  # what was allowed once is not allowed for ever


def test_isa_infer_asks_for_the_permission_and_isa_info_says_so(
    portable: Path, gpu: Any, isa: Command, golden: Path, tmp_path: Path
) -> None:
    line = ("infer", golden / "img_64x128.png", "--engine", portable, "--out", tmp_path / "out")
    done = isa(*line)
    assert done.code == 2
    assert "allow it with --allow-engine-code" in done.complaint
    assert not (tmp_path / "out").exists()
    done = isa(*line, "--allow-engine-code")
    assert done.code == 0, done.err
    assert names(tmp_path / "out") == {"img_64x128_overlay.png"}
    done = isa("info", portable)
    assert "for that version and later ones of 10.x and compute capability 8.9" in done.out
    assert "carries code for the host; opening it needs --allow-engine-code" in done.out


def test_a_manifest_that_hides_the_code_does_not_let_it_run(portable: Path, gpu: Any) -> None:
    edit_manifest(portable, version_compatible=False)
    refused(portable, gpu, EngineIncompatibleError, "engine host code is not allowed", seen=1)
    edit_manifest(portable, remove=True)
    refused(portable, gpu, EngineIncompatibleError, "engine host code is not allowed", seen=1)


@pytest.mark.parametrize("version", ["10.16.1.12", "10.16.2.3", "10.99.0.1"])
def test_a_version_compatible_plan_runs_with_later_versions(portable: Path, gpu: Any, version: str) -> None:
    gpu.knobs.tensorrt_version = version
    runs(portable, allow_engine_code=True)


@pytest.mark.parametrize("version", ["10.16.0.5", "10.12.0.36", "11.4.0.106"])
def test_a_version_compatible_plan_is_refused_by_earlier_ones_and_by_another_major(
    portable: Path, gpu: Any, version: str
) -> None:
    gpu.knobs.tensorrt_version = version
    words = ("was built with tensorrt 10.16.1.11", f"this is tensorrt {version}")
    refused(portable, gpu, EngineIncompatibleError, *words, allow_engine_code=True)


# the card


@pytest.mark.parametrize("card", ["8.6", "8.0", "9.0", "12.0", "7.5"])
def test_a_plan_for_another_card_is_refused_with_both(plan: Path, gpu: Any, card: str) -> None:
    gpu.knobs.compute_capability = card
    words = ("built for compute capability 8.9", f"this card is Stand-in GPU (compute capability {card})", "--plan")
    refused(plan, gpu, EngineIncompatibleError, *words)


def test_a_hardware_compatible_plan_runs_from_ampere_on(planned_once: Folders, gpu: Any) -> None:
    portable = planned_once("--hardware-compatible") / "model.plan"
    for card in ("8.0", "8.9", "12.0"):
        gpu.knobs.compute_capability = card
        runs(portable)
    gpu.knobs.compute_capability = "7.5"
    refused(portable, gpu, EngineIncompatibleError, "compute capability 8.0 or later", "(compute capability 7.5)")


def test_a_record_that_lies_about_the_card_is_seen_through_by_tensorrt(plan: Path, gpu: Any) -> None:
    edit_manifest(plan, compute_capability="9.0")
    gpu.knobs.compute_capability = "9.0"
    refused(plan, gpu, EngineIncompatibleError, "expecting compute 9.0 got compute 8.9", seen=1)


@pytest.mark.parametrize(
    ("built_for", "compatible", "card", "fits"),
    [
        ("8.9", False, "8.9", True),
        ("8.9", False, "9.0", False),
        ("8.9", True, "10.0", True),
        ("8.9", True, "7.5", False),
        ("7.5", True, "7.5", True),
        (None, False, "8.0", True),
        (None, False, "12.0", True),
        (None, False, "7.5", False),
    ],
)
def test_cards_are_compared_by_number(built_for: str | None, compatible: bool, card: str, fits: bool) -> None:
    assert fits_card(built_for, compatible, card) is fits


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"device_count": 0}, "no NVIDIA GPU that CUDA sees"),
        ({"driver_too_old": True}, "driver is missing or too old"),
    ],
)
def test_a_plan_without_a_card_or_a_driver_is_refused_with_what_to_do(
    plan: Path, gpu: Any, knobs: dict[str, Any], words: str
) -> None:
    for name, value in knobs.items():
        setattr(gpu.knobs, name, value)
    refused(plan, gpu, BackendUnavailableError, words, "run the graph (.onnx) on the CPU")


def test_a_number_that_no_card_has_is_refused(plan: Path, gpu: Any) -> None:
    refused(plan, gpu, InputError, "device 3 is no GPU", device="3")


# which engine a path means


@pytest.mark.parametrize("name", ["", "model.json"])
def test_a_folder_is_its_plan_where_a_card_is(plan: Path, gpu: Any, name: str) -> None:
    path = plan.parent / name
    assert find_engine(path) == plan
    assert find_engine(path, device="cuda") == plan
    with Segmenter.open(path) as segmenter:
        assert segmenter.backend_name == "tensorrt"


@pytest.mark.parametrize("name", ["", "model.json"])
def test_a_folder_is_its_graph_where_no_card_is(plan: Path, gpu: Any, name: str) -> None:
    gpu.knobs.device_count = 0
    with Segmenter.open(plan.parent / name) as segmenter:
        assert segmenter.backend_name != "tensorrt"


def test_a_folder_is_its_graph_where_tensorrt_is_not_installed(plan: Path) -> None:
    with Segmenter.open(plan.parent) as segmenter:  # without the stand-in
        assert segmenter.backend_name != "tensorrt"


@pytest.mark.parametrize(
    ("options", "backend"),
    [
        ({"device": "cpu"}, "openvino"),
        ({"backend": "onnxruntime"}, "onnxruntime"),
        ({"backend": "openvino"}, "openvino"),
    ],
)
def test_a_folder_with_a_plan_is_its_graph_for_who_asks_for_another_engine(
    plan: Path, gpu: Any, options: dict[str, str], backend: str
) -> None:
    with Segmenter.open(plan.parent, **options) as segmenter:
        assert segmenter.backend_name == backend
    assert not gpu.calls["deserialize_cuda_engine"]


def test_a_folder_with_only_a_plan_is_the_plan_or_an_explanation(plan: Path, gpu: Any) -> None:
    plan.with_suffix(".onnx").unlink()
    runs(plan.parent)
    refused(plan.parent, gpu, InputError, "a plan runs on a GPU, not on device cpu", device="cpu")
    refused(plan.parent, gpu, InputError, "onnxruntime cannot run a plan", backend="onnxruntime")
    gpu.knobs.device_count = 0
    refused(plan.parent, gpu, BackendUnavailableError, "no NVIDIA GPU")


def test_a_folder_whose_plan_has_no_manifest_is_its_graph(plan: Path, gpu: Any) -> None:
    plan.with_suffix(".json").unlink()
    assert find_engine(plan.parent) == plan.with_suffix(".onnx")
    with Segmenter.open(plan.parent) as segmenter:
        assert segmenter.backend_name != "tensorrt"


def test_a_folder_whose_plan_has_no_record_is_its_graph_unless_tensorrt_is_asked_for(plan: Path, gpu: Any) -> None:
    edit_manifest(plan, remove=True)
    assert find_engine(plan.parent) == plan.with_suffix(".onnx")
    runs(plan.parent, backend="tensorrt")


def test_a_folders_plan_that_does_not_fit_is_refused_and_not_passed_over(plan: Path, gpu: Any) -> None:
    gpu.knobs.compute_capability = "9.0"
    refused(plan.parent, gpu, EngineIncompatibleError, "built for compute capability 8.9")


def test_a_graph_is_never_run_by_tensorrt_as_it_is(plan: Path, gpu: Any) -> None:
    graph = plan.with_suffix(".onnx")
    refused(graph, gpu, InputError, f"TensorRT runs plans; build one with isa-export {graph}", backend="tensorrt")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_plan_has_one_precision(plan: Path, gpu: Any, precision: str) -> None:
    refused(plan, gpu, InputError, "computes in its own type, fp16", precision=precision)


def test_isa_info_tells_a_plan_and_both_proofs(plan: Path, isa: Command, gpu: Any) -> None:
    spec = read_manifest(plan.with_suffix(".json")).engine
    assert spec is not None
    for path in (plan, plan.parent, plan.with_suffix(".json")):
        out = isa("info", path).out
        assert "engine       tensorrt 10.16.1.11, for that version and compute capability 8.9" in out
        assert spec.plan_sha256 in out
        assert spec.onnx_sha256 in out
        assert "plan takes   1x64x64 to 1x256x512" in out
        assert "Half" in out
        assert "allow-engine-code" not in out
        assert f"proof       passed: {plan.with_name('report.html')}" in out
        assert f"plan proof  passed: {plan.with_name('plan-report.html')}" in out
    assert not gpu.calls["deserialize_cuda_engine"], "isa-info runs nothing"
    edit_manifest(plan, plan_sha256="0" * 64)
    told = isa("info", plan).out
    assert f"plan proof  none: {plan} is not the plan that its manifest describes" in told
    content = plan.read_bytes() + b"more"
    plan.write_bytes(content)
    edit_manifest(plan, plan_sha256=hashlib.sha256(content).hexdigest())
    assert "plan proof" not in isa("info", plan).out  # that report is of another plan
    plan.with_name("plan-report.json").write_text("{}")
    done = isa("info", plan)
    assert done.code == 2
    assert "plan-report.json: is not a report of isa-export" in done.complaint

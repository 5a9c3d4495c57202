"""Plans built for real, by TensorRT-RTX, which needs no GPU for that (tests/rtx_fixtures.py)."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import threading
import traceback
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper
from rtx_fixtures import Export, Graphs, Plans, read_graph, rtx_environment

from isa_deploy.errors import ExportError, InputError
from isa_deploy.export.plan_profiles import make_range
from isa_deploy.export.tensorrt import BuiltPlan, PlanOptions, build_failure, build_plan, targets
from isa_deploy.manifest import Manifest, ShapeRange
from isa_deploy.runtime.backends.signature import TensorSpec
from isa_deploy.runtime.backends.tensorrt_library import TensorRTLibrary
from isa_deploy.runtime.backends.tensorrt_log import TensorRTLog, make_error_recorder, make_logger

DEMO = "isanet_r18w16_streets"
DEMO_FREE = Export(DEMO, shared=True)


@dataclass(frozen=True)
class Case:
    """An export and what its plan is made from.

    ``layers``: of the parsed network, and so of TensorRT's ONNX parser as much as of the graph.
    """

    export: Export
    classes: int
    layers: range
    logits_hw: tuple[int, int] | None = None

    def __str__(self) -> str:
        return str(self.export)


CASES = [
    Case(DEMO_FREE, 19, range(240, 320)),
    Case(Export(DEMO, "fp16", shared=True), 19, range(240, 320)),
    Case(Export(DEMO, "bf16", shared=True), 19, range(240, 320)),
    Case(Export(DEMO, "fp32", (2, 64, 128), confidence=True, shared=True), 19, range(100, 180), (8, 16)),
    Case(Export("tiny_r50_whole_0x", "fp32", shared=True), 19, range(300, 380)),
    Case(Export("tiny_r50_whole_0x", "fp16"), 19, range(300, 380)),
    Case(Export("tiny_r50_whole_0x", "bf16", (1, 64, 128)), 19, range(180, 260), (8, 16)),
    Case(Export("tiny_r50_slide_0x_legacy", "fp32", (1, 129, 257), shared=True), 19, range(480, 580)),
    Case(Export("tiny_r50_slide_0x_legacy", "fp16", (1, 129, 257)), 19, range(480, 580)),
    Case(Export("tiny_r50_slide_0x_legacy", "fp32", shared=True), 19, range(300, 380)),
    Case(Export("tiny_r101_ade_1x", "fp32", shared=True), 150, range(420, 520)),
    Case(Export("tiny_r101_ade_1x", "fp16", (1, 64, 128)), 150, range(300, 420), (8, 16)),
    Case(Export("tiny_r101_ade_1x", "bf16", (1, 64, 128)), 150, range(300, 420), (8, 16)),
    Case(Export("full_r50", "fp16", (1, 64, 128)), 19, range(180, 260), (8, 16)),
    Case(Export("full_r101", "fp16", (1, 64, 128)), 19, range(300, 420), (8, 16)),
]

TARGET_BITS = {"7.5": 1, "8.0": 2, "8.6": 4, "8.9": 8, "12.0": 16, "12.1": 32, None: 126}
"""What TensorRT-RTX 1.7.1 writes into a plan's header for a target; None: Ampere and everything later."""


def check_header(library: TensorRTLibrary, plan: bytes, compute_capability: str | None) -> None:
    """A plan of TensorRT-RTX begins with its mark, its length, the version that built it and its targets."""
    mark, _, length, *version = struct.unpack_from("<4s4xQQ4B", plan)
    assert mark == b"vtrt"
    assert length == len(plan)
    assert ".".join(map(str, version)) == library.version
    assert plan[32] == TARGET_BITS[compute_capability]


def check_tensors(built: BuiltPlan, manifest: Manifest, case: Case) -> None:
    n, h, w = manifest.input.shape_nhw
    wanted = {"labels": TensorSpec("uint8", (n, h, w))}
    if manifest.outputs.confidence is not None:
        wanted["confidence"] = TensorSpec("uint8", (n, h, w))
    assert built.network.inputs == {"image": TensorSpec("uint8", (n, h, w, 3))}
    outputs = dict(built.network.outputs)
    logits = outputs.pop("logits")
    assert outputs == wanted
    assert logits.dtype == "float32"
    assert logits.shape[:2] == (n, case.classes)
    if case.logits_hw is not None:
        assert logits.shape[2:] == case.logits_hw
    assert (None in logits.shape) == (None in manifest.input.shape_nhw)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_plan_is_built_without_a_gpu(
    rtx_library: TensorRTLibrary, rtx_graph: Graphs, rtx_plan: Plans, case: Case
) -> None:
    manifest, onnx_bytes = read_graph(rtx_graph(case.export))
    built = rtx_plan(case.export)
    check_header(rtx_library, built.plan, "8.9")
    check_tensors(built, manifest, case)
    assert built.network.layers in case.layers
    assert bool(built.profiles) == (None in case.export.shape_nhw)
    assert built.timing_cache is None
    assert built.warnings == ()
    # the weights are in it, in the type of the graph: a plan of float32 weights would be twice as large
    assert 0.9 * len(onnx_bytes) < len(built.plan) < 1.3 * len(onnx_bytes) + 20e6


@pytest.mark.parametrize("compute_capability", ["12.0", None])
def test_a_plan_is_for_the_card_that_was_named_or_for_all(
    rtx_library: TensorRTLibrary, rtx_plan: Plans, compute_capability: str | None
) -> None:
    built = rtx_plan(DEMO_FREE, compute_capability)
    check_header(rtx_library, built.plan, compute_capability)


def test_the_targets_are_those_that_the_library_names(rtx_library: TensorRTLibrary) -> None:
    assert set(targets(rtx_library)) == set(TARGET_BITS) - {None}
    assert targets(TensorRTLibrary(rtx_library.module, "tensorrt", "11.4")) == ()


def test_a_build_tells_how_far_it_is_and_never_goes_back(rtx_library: TensorRTLibrary, rtx_graph: Graphs) -> None:
    manifest, onnx_bytes = read_graph(rtx_graph(DEMO_FREE))
    told: list[tuple[str, float]] = []
    build_plan(
        rtx_library, onnx_bytes, manifest, PlanOptions(), progress=lambda phase, part: told.append((phase, part))
    )
    parts = [part for _, part in told]
    assert len(told) > 2
    assert all(phase for phase, _ in told)
    assert parts == sorted(parts)
    assert 0 <= parts[0] < 1
    assert parts[-1] == 1


def test_a_progress_that_fails_stops_the_build_and_surfaces(rtx_library: TensorRTLibrary, rtx_graph: Graphs) -> None:
    manifest, onnx_bytes = read_graph(rtx_graph(DEMO_FREE))
    parts: list[float] = []

    def fail(phase: str, part: float) -> None:
        parts.append(part)
        raise ZeroDivisionError(phase)

    with pytest.raises(ZeroDivisionError):
        build_plan(rtx_library, onnx_bytes, manifest, PlanOptions(), progress=fail)
    assert len(parts) == 1


def test_what_prepares_the_building_thread_runs_in_it_and_its_failure_surfaces(
    rtx_library: TensorRTLibrary, rtx_graph: Graphs
) -> None:
    manifest, onnx_bytes = read_graph(rtx_graph(DEMO_FREE))

    def fail() -> None:
        raise LookupError(threading.current_thread().name)

    with pytest.raises(LookupError, match="tensorrt-build"):
        build_plan(rtx_library, onnx_bytes, manifest, PlanOptions(), prepare_thread=fail)


CTRL_C = """
import sys, time
from pathlib import Path
from isa_deploy.export import tensorrt
from isa_deploy.export.plan_profiles import make_range
from isa_deploy.export.tensorrt import PlanOptions, build_plan
from isa_deploy.manifest import read_manifest
from isa_deploy.runtime.backends.tensorrt_library import load_tensorrt
folder = Path(sys.argv[1])
build = tensorrt._build
def build_and_tell(*arguments):
    built = build(*arguments)
    print("built to the end", flush=True)
    return built
tensorrt._build = build_and_tell
# many profiles: a build of half a minute
profiles = tuple(make_range((1, 32, 32), (1, 64, 64 + 8 * i), (1, 64, 64 + 8 * i)) for i in range(40))
manifest = read_manifest(folder / "model.json")
try:
    build_plan(load_tensorrt("tensorrt_rtx"), (folder / "model.onnx").read_bytes(), manifest,
               PlanOptions(profiles), progress=lambda phase, part: print(part, flush=True))
except KeyboardInterrupt:
    print("interrupted", flush=True)
    assert not {"torch", "onnx"} & set(sys.modules)
"""


def test_ctrl_c_stops_a_build(rtx_folder: Path, rtx_graph: Graphs) -> None:
    command = [sys.executable, "-c", CTRL_C, str(rtx_graph(DEMO_FREE))]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=rtx_environment(rtx_folder)
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        os.kill(process.pid, signal.SIGINT)
        rest, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert 0 <= float(first) < 1
    assert rest.splitlines()[-1] == "interrupted"
    assert "built to the end" not in rest


def operators(*nodes: onnx.NodeProto) -> bytes:
    """A model with our input and labels around some nodes."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 8, 8, 3])],
        [helper.make_tensor_value_info("labels", TensorProto.UINT8, [1, 8, 8])],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("nowhere", 1)]
    return helper.make_model(graph, opset_imports=opsets).SerializeToString()


CAST = helper.make_node("Cast", ["image"], ["t0"], to=TensorProto.FLOAT, name="input/Cast")


def teleports(count: int) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Teleport", [f"t{i}"], [f"t{i + 1}"], name=f"head/{i}", domain="nowhere") for i in range(count)
    ]


@pytest.fixture
def build_bytes(rtx_library: TensorRTLibrary, rtx_graph: Graphs) -> Any:
    """A function that builds from other bytes than the demo model's, with its manifest, and gives the error."""
    manifest, _ = read_graph(rtx_graph(DEMO_FREE))

    def build(onnx_bytes: bytes) -> str:
        with pytest.raises(ExportError) as caught:
            build_plan(rtx_library, onnx_bytes, manifest, PlanOptions(compute_capability="8.9"))
        message = str(caught.value)
        assert "\n" not in message
        assert rtx_library.title in message
        return message

    return build


def test_an_operator_that_the_builder_refuses_is_named_with_its_node(build_bytes: Any) -> None:
    unique = helper.make_node("Unique", ["t0"], ["labels"], name="head/Unique")
    assert "node 1 'head/Unique' (Unique): not supported" in build_bytes(operators(CAST, unique))


def test_every_refused_operator_is_named(build_bytes: Any) -> None:
    message = build_bytes(operators(CAST, *teleports(2)))
    assert "node 1 'head/0' (Teleport): " in message
    assert "node 2 'head/1' (Teleport): " in message
    assert "Plugin not found" in message


def test_very_many_refused_operators_are_counted(build_bytes: Any) -> None:
    message = build_bytes(operators(CAST, *teleports(31)))
    assert message.count("(Teleport)") == 20
    assert "and 11 more" in message


@pytest.mark.parametrize("onnx_bytes", [b"", b"hello world" * 100], ids=["empty", "text"])
def test_bytes_without_a_graph_are_refused_though_the_parser_takes_them(build_bytes: Any, onnx_bytes: bytes) -> None:
    assert f"finds no graph in the ONNX file of {len(onnx_bytes)} bytes" in build_bytes(onnx_bytes)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(build_bytes: Any, rtx_graph: Graphs, share: float) -> None:
    _, whole = read_graph(rtx_graph(DEMO_FREE))
    assert "cannot read the ONNX file: " in build_bytes(whole[: int(len(whole) * share)])


def altered(manifest: Manifest, part: str, **changes: Any) -> Manifest:
    record = json.loads(manifest.to_json())
    record[part].update(changes)
    return Manifest.from_json(json.dumps(record), "altered")


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("input", {"name": "frame"}, "no input 'frame'"),
        ("input", {"shape_nhw": [1, 64, 128]}, r"input 'image' is \?x\?x\?x3, and its manifest describes 1x64x128x3"),
        ("outputs", {"labels": "classes"}, "no output 'classes'"),
        ("outputs", {"labels": "logits"}, "output 'logits' is float32"),
        ("outputs", {"confidence": "share"}, "no output 'share'"),
        ("classes", {"names": ["a"], "palette_rgb": [[0, 0, 0]]}, "of 1 classes"),
    ],
)
def test_a_graph_that_is_not_its_manifests_is_refused(
    rtx_library: TensorRTLibrary, rtx_graph: Graphs, part: str, changes: dict[str, Any], message: str
) -> None:
    manifest, onnx_bytes = read_graph(rtx_graph(DEMO_FREE))
    with pytest.raises(ExportError, match=message):
        build_plan(rtx_library, onnx_bytes, altered(manifest, part, **changes), PlanOptions())


def test_a_workspace_that_does_not_suffice_says_so_in_the_librarys_words(
    rtx_library: TensorRTLibrary, rtx_graph: Graphs
) -> None:
    manifest, onnx_bytes = read_graph(rtx_graph(DEMO_FREE))
    with pytest.raises(ExportError, match=r"within workspace limit.*raise --workspace above 1048576 bytes") as caught:
        build_plan(rtx_library, onnx_bytes, manifest, PlanOptions(workspace_bytes=1 << 20))
    assert "catchCudaError" not in str(caught.value)  # what follows every error where there is no driver


def test_a_failed_build_frees_the_builder_while_its_exception_lives(
    rtx_library: TensorRTLibrary, rtx_graph: Graphs
) -> None:
    manifest, _ = read_graph(rtx_graph(DEMO_FREE))
    with pytest.raises(ExportError) as caught:
        build_plan(rtx_library, b"", manifest, PlanOptions())
    frames = {frame.f_code.co_name: frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)}
    held = [name for frame in frames.values() for name, each in frame.f_locals.items() if type(each).__name__ in MADE]
    assert "_build" in frames
    assert held == []


MADE = ("Builder", "IBuilderConfig", "INetworkDefinition", "OnnxParser")


def test_a_shape_that_the_library_refuses_is_named(
    rtx_library: TensorRTLibrary, rtx_graph: Graphs, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, onnx_bytes = read_graph(rtx_graph(DEMO_FREE))
    # not in order, which no ShapeRange of ours can be: it is the library's check that is asked
    wrong = ShapeRange.model_construct(min_nhw=(1, 128, 64), opt_nhw=(1, 64, 64), max_nhw=(1, 64, 64))
    monkeypatch.setattr("isa_deploy.export.tensorrt.check_profiles", lambda manifest, profiles: profiles)
    with pytest.raises(ExportError, match=r"refuses shapes .*MIN<=OPT<=MAX"):
        build_plan(rtx_library, onnx_bytes, manifest, PlanOptions((wrong,)))


def test_several_profiles_are_built(rtx_library: TensorRTLibrary, rtx_graph: Graphs) -> None:
    manifest, onnx_bytes = read_graph(rtx_graph(DEMO_FREE))
    one = make_range((1, 32, 32), (1, 64, 128), (2, 64, 128))
    two = make_range((1, 32, 32), (1, 128, 64), (2, 128, 64))
    built = build_plan(rtx_library, onnx_bytes, manifest, PlanOptions((one, two)))
    assert built.profiles == (one, two)
    alone = build_plan(rtx_library, onnx_bytes, manifest, PlanOptions((one,)))
    assert len(alone.plan) < len(built.plan)


OPTIONS: list[tuple[PlanOptions, str]] = [
    (PlanOptions(hardware_compatible=True), "has no --hardware-compatible"),
    (PlanOptions(compute_capability="9.0"), r"no target '9.0'; it has 7.5, 8.0, 8.6, 8.9, 12.0"),
    (PlanOptions(compute_capability="SM89"), "no target 'SM89'"),
    (PlanOptions(workspace_bytes=0), "workspace of 0 bytes"),
]


@pytest.mark.parametrize(("options", "message"), OPTIONS, ids=[message for _, message in OPTIONS])
def test_an_option_that_cannot_be_met_is_refused_before_the_build(
    rtx_library: TensorRTLibrary, rtx_graph: Graphs, options: PlanOptions, message: str
) -> None:
    manifest, _ = read_graph(rtx_graph(DEMO_FREE))
    with pytest.raises(InputError, match=message):
        build_plan(rtx_library, b"", manifest, options)


def test_a_timing_cache_is_refused_where_nothing_is_measured(rtx_library: TensorRTLibrary, rtx_graph: Graphs) -> None:
    manifest, _ = read_graph(rtx_graph(DEMO_FREE))
    with pytest.raises(InputError, match="no timing cache"):
        build_plan(rtx_library, b"", manifest, PlanOptions(), timing_cache=b"x")


def test_plain_tensorrt_builds_for_the_card_that_is_there(rtx_library: TensorRTLibrary, rtx_graph: Graphs) -> None:
    manifest, _ = read_graph(rtx_graph(DEMO_FREE))
    plain = TensorRTLibrary(rtx_library.module, "tensorrt", "11.4.0.106")
    with pytest.raises(InputError, match=r"builds for the card that is there, not for compute capability 8.9"):
        build_plan(plain, b"", manifest, PlanOptions(compute_capability="8.9"))


@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")
def test_a_timing_cache_comes_back_and_one_that_is_refused_only_warns(
    rtx_library: TensorRTLibrary, rtx_graph: Graphs
) -> None:
    """TensorRT-RTX still has TensorRT's calls for it, so what ``tensorrt`` is asked for can be asked of it.

    It measures nothing, and refuses its own cache as well.
    """
    manifest, onnx_bytes = read_graph(rtx_graph(DEMO_FREE))
    plain = TensorRTLibrary(rtx_library.module, "tensorrt", rtx_library.version)
    one = PlanOptions((make_range((1, 32, 32), (1, 32, 64), (1, 32, 64)),))
    first = build_plan(plain, onnx_bytes, manifest, one)
    assert first.timing_cache
    assert "Failed to deserialize timing cache" not in "".join(first.warnings)
    junk = build_plan(plain, onnx_bytes, manifest, one, timing_cache=b"junk" * 10)
    assert junk.timing_cache
    assert "Failed to deserialize timing cache" in "".join(junk.warnings)


@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")
def test_the_librarys_warnings_come_back_each_once(rtx_library: TensorRTLibrary, rtx_graph: Graphs) -> None:
    manifest, onnx_bytes = read_graph(rtx_graph(DEMO_FREE))
    plain = TensorRTLibrary(rtx_library.module, "tensorrt", rtx_library.version)
    options = PlanOptions((make_range((1, 32, 32), (1, 32, 64), (1, 32, 64)),), hardware_compatible=True)
    for _ in range(2):  # the second build has a log of its own and the process's one logger
        built = build_plan(plain, onnx_bytes, manifest, options)
        assert [each for each in built.warnings if "setHardwareCompatibilityLevel" in each] == [
            "setHardwareCompatibilityLevel() is unsupported in TensorRT-RTX."
        ]
        assert not any("logger" in each for each in built.warnings)


def test_out_of_memory_says_what_was_asked_for_and_what_to_reduce(rtx_library: TensorRTLibrary) -> None:
    """TensorRT's own words, of a build on a card that was too small, through its real recorder and logger."""
    log = TensorRTLog()
    module: Any = rtx_library.module
    recorder = make_error_recorder(module, log)
    logger = make_logger(module, log)
    logger.log(
        module.ILogger.WARNING,
        "Requested amount of GPU memory (15485030400 bytes) could not be allocated. There may not be enough "
        "free memory for allocation to succeed.",
    )
    recorder.report_error(module.ErrorCodeTRT.FAILED_ALLOCATION, "User allocator:\n no luck")
    recorder.report_error(
        module.ErrorCodeTRT.INVALID_STATE, "Could not find any implementation for node {ForeignNode[a...b]}."
    )
    message = str(build_failure(rtx_library, PlanOptions(), log, "could not build the plan"))
    assert "the GPU's memory did not suffice" in message
    assert "15485030400 bytes" in message
    assert "User allocator: no luck" in message
    assert "reduce --max-shape or --workspace" in message
    assert "\n" not in message


def test_the_error_recorder_answers_the_library(rtx_library: TensorRTLibrary) -> None:
    module: Any = rtx_library.module
    log = TensorRTLog()
    recorder = make_error_recorder(module, log)
    code = module.ErrorCodeTRT.FAILED_ALLOCATION
    # the base's own methods go through C++, as TensorRT's calls do: what it looks for has other names in part
    base = module.IErrorRecorder
    for number in range(150):
        base.report_error(recorder, code, f"error {number}")
    assert (base.num_errors(recorder), base.has_overflowed(recorder)) == (100, True)
    assert (base.get_error_code(recorder, 1), base.get_error_desc(recorder, 1)) == (code, "error 1")
    assert log.out_of_memory is not None
    base.clear(recorder)
    assert (base.num_errors(recorder), base.has_overflowed(recorder)) == (0, False)


def test_there_is_one_logger_and_it_forgets_logs_that_nobody_keeps(rtx_library: TensorRTLibrary) -> None:
    module: Any = rtx_library.module
    first, second = TensorRTLog(), TensorRTLog()
    logger = make_logger(module, first)
    assert make_logger(module, second) is logger
    logger.log(module.ILogger.ERROR, "once")
    assert (first.reason(), second.reason()) == ("once", "once")
    gone = weakref.ref(first)
    del first
    assert gone() is None
    logger.log(module.ILogger.ERROR, "twice")
    assert second.reason() == "once; twice"

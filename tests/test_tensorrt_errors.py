"""What goes wrong with a plan, over the stand-in: opening, memory, executions, a lost GPU."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest

from isa_deploy import EngineError, InputError, Segmenter
from isa_deploy.errors import BackendUnavailableError, EngineIncompatibleError, ManifestError
from isa_deploy.runtime.backends.cuda import Cuda, load_cuda
from isa_deploy.runtime.backends.tensorrt_engine import SharedEngine
from isa_deploy.runtime.backends.tensorrt_library import load_tensorrt
from isa_deploy.runtime.opening import find_engine

if TYPE_CHECKING:
    from tensorrt_plans import Open, Plans, References, UInt8

pytest_plugins = ("standin_fixtures", "tensorrt_plans")

pytestmark = pytest.mark.usefixtures("nothing_left")

MIB = 1 << 20


@pytest.fixture
def folder(plan: Plans, tmp_path: Path) -> Path:
    """A folder of one's own with model.plan and model.json."""
    return copy_of(plan("streets"), tmp_path / "plan")


def copy_of(plan: Path, folder: Path) -> Path:
    folder.mkdir()
    for name in ("model.plan", "model.json"):
        shutil.copy(plan.with_name(name), folder / name)
    return folder


def foreign(folder: Path) -> Path:
    """The folder's plan as another tool would have built it: its manifest tells nothing of an engine."""
    record = json.loads((folder / "model.json").read_text())
    record["engine"] = None
    (folder / "model.json").write_text(json.dumps(record))
    return folder


@pytest.mark.parametrize(
    ("knobs", "device", "error", "message"),
    [
        ({"device_count": 0}, "auto", BackendUnavailableError, r"no NVIDIA GPU that CUDA sees; run the graph"),
        (
            {"driver_too_old": True},
            "auto",
            BackendUnavailableError,
            r"too old for CUDA 13.5 .the driver has 11.4.; inst",
        ),
        ({}, 1, InputError, r"device 1 is no GPU of this machine, which has 1 .0 to 0."),
        ({"device_count": 2}, 2, InputError, r"device 2 is no GPU of this machine, which has 2 .0 to 1."),
        (
            {"compute_capability": "9.0"},
            "cuda",
            EngineIncompatibleError,
            r"was built for compute capability 8.9 and this card is Stand-in GPU .compute capability 9.0.; build it",
        ),
        (
            {"tensorrt_version": "10.12.0.36"},
            "auto",
            EngineIncompatibleError,
            r"was built with tensorrt 10.16.1.11 and this is tensorrt 10.12.0.36; build it again here: isa-export",
        ),
        (
            {"device_memory": 1000},
            "auto",
            EngineError,
            r"out of device memory while the plan was loaded .*could not be al",
        ),
    ],
    ids=["no GPU", "old driver", "device 1", "device 2", "card", "version", "memory"],
)
def test_a_machine_that_cannot_run_a_plan_is_told(
    gpu: Any, plan: Plans, knobs: dict[str, Any], device: Any, error: type[Exception], message: str
) -> None:
    path = plan("streets")
    for name, value in knobs.items():
        setattr(gpu.knobs, name, value)
    with pytest.raises(error, match=message) as raised:
        Segmenter.open(path, device=device)
    assert "\n" not in str(raised.value)
    assert gpu.live_allocations() == gpu.live_handles() == []  # while the exception is still held


def test_a_second_gpu_is_taken_where_it_is_named(
    gpu: Any, opened: Open, reference: References, frames: list[UInt8]
) -> None:
    gpu.knobs.device_count = 2
    segmenter = opened(device=1)
    assert segmenter.device == "cuda:1 (Stand-in GPU)"
    assert np.array_equal(segmenter.segment(frames[0]), reference("streets").labels(frames[0]))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda plan: plan[:-100], r"is not the plan that model.json describes \(truncated, or of another build\)"),
        (lambda plan: plan[:40] + b"x" + plan[41:], "its SHA-256 differs; copy both again, or build it again"),
        (lambda plan: b"", "the plan has 0 bytes; build it again"),
    ],
)
def test_a_damaged_plan_is_refused_before_tensorrt_sees_it(
    gpu: Any, folder: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    path = folder / "model.plan"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(EngineError, match=message):
        Segmenter.open(path)
    assert gpu.calls["deserialize_cuda_engine"] == 0


@pytest.mark.parametrize("damage", [lambda plan: plan[:-100], lambda plan: b"ftrt" + plan[4:]])
def test_what_tensorrt_refuses_is_told_in_its_words(folder: Path, damage: Callable[[bytes], bytes]) -> None:
    path = foreign(folder) / "model.plan"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        EngineIncompatibleError,
        match=r"TensorRT 10.16.1.11 on Stand-in GPU .compute capability 8.9. refuses the plan .*Serialization.*its "
        r"manifest does not say by what it was built; build it again",
    ):
        Segmenter.open(path)


def test_a_plan_of_another_tool_without_a_record_opens(
    gpu: Any, folder: Path, reference: References, frames: list[UInt8]
) -> None:
    with Segmenter.open(foreign(folder), backend="tensorrt", resize="none") as segmenter:
        assert np.array_equal(segmenter.segment(frames[0]), reference("streets").labels(frames[0]))


def test_a_plan_without_a_manifest_or_beside_another_graph_is_refused(folder: Path, graph: Plans) -> None:
    shutil.copy(graph("streets") / "model.onnx", folder / "model.onnx")
    Segmenter.open(folder / "model.plan").close()
    (folder / "model.onnx").write_bytes((graph("half") / "model.onnx").read_bytes())
    with pytest.raises(EngineIncompatibleError, match=r"built from another graph than model.onnx .* changed since"):
        Segmenter.open(folder / "model.plan")
    (folder / "model.json").unlink()
    with pytest.raises(ManifestError, match=r"has no manifest model.json beside it"):
        Segmenter.open(folder / "model.plan")


def test_code_of_a_version_compatible_plan_runs_only_where_it_is_allowed(
    gpu: Any, plan: Plans, tmp_path: Path, scene: UInt8
) -> None:
    path = plan("portable")
    gpu.knobs.tensorrt_version = "10.17.0.5"  # a later one
    with pytest.raises(EngineError, match=r"carries code that runs on this machine's processor.* --allow-engine-code"):
        Segmenter.open(path)
    assert gpu.calls["deserialize_cuda_engine"] == 0
    with Segmenter.open(path, resize="none", allow_engine_code=True) as segmenter:
        segmenter.segment(scene[:64, :128])
    unsaid = foreign(copy_of(path, tmp_path / "unsaid"))  # TensorRT itself is told no
    with pytest.raises(EngineIncompatibleError, match="engine host code is not allowed"):
        Segmenter.open(unsaid / "model.plan")


def test_a_hardware_compatible_plan_runs_on_other_cards_from_ampere_on(gpu: Any, plan: Plans, scene: UInt8) -> None:
    path = plan("ampere")
    gpu.knobs.compute_capability = "12.0"
    with Segmenter.open(path, resize="none") as segmenter:
        segmenter.segment(scene[:64, :128])
    gpu.knobs.compute_capability = "7.5"
    with pytest.raises(EngineIncompatibleError, match=r"was built for compute capability 8.0 or later and this card"):
        Segmenter.open(path)


def test_a_driver_that_tensorrt_itself_cannot_use_is_told(gpu: Any, folder: Path) -> None:
    cuda = Cuda(load_cuda(), 0)
    gpu.knobs.driver_too_old = True
    with pytest.raises(
        BackendUnavailableError, match=r"TensorRT 10.16.1.11 cannot use the GPU .CUDA initiali|cannot use"
    ):
        SharedEngine(b"", folder / "model.plan", None, load_tensorrt("tensorrt"), cuda, False)


def change_outputs(model: onnx.ModelProto) -> None:
    labels = next(each for each in model.graph.output if each.name == "labels")
    node = next(each for each in model.graph.node if "labels" in each.output)
    labels.type.tensor_type.elem_type = onnx.TensorProto.INT32
    next(each for each in node.attribute if each.name == "to").i = onnx.TensorProto.INT32


def add_output(model: onnx.ModelProto) -> None:
    model.graph.node.append(onnx.helper.make_node("Cast", ["labels"], ["more"], to=onnx.TensorProto.INT64))
    sides = [each.dim_value or each.dim_param for each in model.graph.output[0].type.tensor_type.shape.dim][:3]
    model.graph.output.append(onnx.helper.make_tensor_value_info("more", onnx.TensorProto.INT64, sides))


def drop_logits(model: onnx.ModelProto) -> None:
    model.graph.output.remove(next(each for each in model.graph.output if each.name == "logits"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_outputs, "output 'labels' is int32 .* manifest describes uint8 with 3 axes; export the model again"),
        (add_output, "more is int64, which none of ours is; build it from our graph"),
        (drop_logits, "has no output 'logits', which its manifest names"),
    ],
)
def test_a_plan_with_other_outputs_is_refused(
    gpu: Any, plan: Plans, tmp_path: Path, change: Callable[[Any], None], message: str
) -> None:
    folder = foreign(copy_of(plan("fixed"), tmp_path / "other"))
    import standin.plan as plans  # after the fixture put the stand-in there

    built = plans.read_plan((folder / "model.plan").read_bytes())
    model = onnx.load_from_string(built.onnx)
    change(model)
    record = {name: getattr(built, name) for name in built.__dataclass_fields__}
    (folder / "model.plan").write_bytes(plans.write_plan(plans.Plan(**{**record, "onnx": model.SerializeToString()})))
    with pytest.raises(EngineError, match=message):
        Segmenter.open(folder / "model.plan")
    gc.collect()
    assert gpu.live_handles() == []


def test_a_frame_outside_of_every_profile_names_them(opened: Open, reference: References, scene: UInt8) -> None:
    segmenter = opened()
    for size in ((15, 40), (256, 511 + 2), (200, 40)):
        frame = np.zeros((*size, 3), np.uint8)
        words = (
            rf"1x{size[0]}x{size[1]} \(batch x height x width\) are outside .*: 1x64x64 to 1x256x512, 1x16x16 to 3x128"
        )
        with pytest.raises(InputError, match=words):
            segmenter.segment(frame)
        with pytest.raises(InputError, match="outside"):
            segmenter.submit(frame)
    frame = np.ascontiguousarray(scene[:64, :64])
    assert np.array_equal(segmenter.segment(frame), reference("streets").labels(frame))


def test_too_little_memory_for_the_activations_leaves_smaller_frames_working(
    gpu: Any, opened: Open, reference: References, scene: UInt8, frames: list[UInt8]
) -> None:
    segmenter = opened()
    wanted = reference("streets").labels(frames[0])
    answer = segmenter.submit(frames[0])  # outstanding: its answer is not lost
    used = 24 * 1024 * MIB - free_bytes()
    gpu.knobs.device_memory = used + 500_000
    with pytest.raises(
        EngineError,
        match=r"out of device memory on GPU 0: 2 MiB more are needed for the activations of 1x256x512 frames, and 1 of "
        r"its \d+ MiB are free; use a smaller --resize, or end other programs",
    ):
        segmenter.segment(scene)
    assert np.array_equal(answer.result(), wanted)
    for _ in range(3):
        assert np.array_equal(segmenter.segment(frames[0]), wanted)
    gpu.knobs.device_memory = 24 * 1024 * MIB
    assert np.array_equal(segmenter.segment(scene), reference("streets").labels(scene))


def free_bytes() -> int:
    return Cuda(load_cuda(), 0).free_bytes()[0]


def test_too_little_memory_for_the_buffers_leaves_smaller_frames_working(
    gpu: Any, opened: Open, reference: References, scene: UInt8, frames: list[UInt8]
) -> None:
    segmenter = opened()
    segmenter.segment(np.ascontiguousarray(scene[:128, :512]))  # scratch memory for what comes
    segmenter._backend._lanes.popitem()[1].retire()  # and no other shape whose buffers could give way
    wide = np.ascontiguousarray(scene[:100, :500])
    held = (gpu.device_bytes, len(gpu.live_allocations()), len(gpu.live_handles()))
    used = 24 * 1024 * MIB - free_bytes()
    for spare in (10_000, 160_000, 210_000):  # before the input, before the first and before the second output
        gpu.knobs.device_memory = used + spare
        with pytest.raises(EngineError, match=r"needed for frames of 1x100x500 and their results, ") as told:
            segmenter.segment(wide)
        # all that was taken is given back, while the exception is still held
        assert (gpu.device_bytes, len(gpu.live_allocations()), len(gpu.live_handles())) == held
        assert told
    gpu.knobs.device_memory = used + 210_000
    assert np.array_equal(segmenter.segment(frames[0]), reference("streets").labels(frames[0]))
    gpu.knobs.device_memory = 24 * 1024 * MIB
    assert np.array_equal(segmenter.segment(wide), reference("streets").labels(wide))


def test_the_buffers_of_other_shapes_give_way_to_a_frame_that_lacks_memory(
    gpu: Any, opened: Open, reference: References, scene: UInt8, frames: list[UInt8]
) -> None:
    segmenter = opened()
    large = np.ascontiguousarray(scene[:128, :512])
    waiting = [segmenter.submit(large) for _ in range(2)]
    wide = np.ascontiguousarray(scene[:100, :500])
    gpu.knobs.device_memory = 24 * 1024 * MIB - free_bytes() + 10_000
    assert np.array_equal(segmenter.segment(wide), reference("streets").labels(wide))
    for answer in waiting:  # taken off before their buffers went
        assert np.array_equal(answer.result(), reference("streets").labels(large))


def test_they_give_way_to_a_frame_on_the_gpu_as_well(
    gpu: Any, opened: Open, reference: References, scene: UInt8
) -> None:
    segmenter = opened()
    large, wide = np.ascontiguousarray(scene[:128, :512]), np.ascontiguousarray(scene[:100, :500])
    waiting = [segmenter.submit(large) for _ in range(2)]
    address = gpu.allocate(wide.tobytes())
    interface = {"version": 3, "shape": wide.shape, "typestr": "|u1", "data": (address, False), "stream": None}
    gpu.knobs.device_memory = 24 * 1024 * MIB - free_bytes() + 10_000
    labels = segmenter.segment_on_device(SimpleNamespace(__cuda_array_interface__=interface))
    assert gpu.read(labels.address, wide[:, :, 0].size) == reference("streets").labels(wide).tobytes()
    for answer in waiting:
        assert np.array_equal(answer.result(), reference("streets").labels(large))
    del labels
    gpu.free(address)


def test_too_little_page_locked_memory_leaves_nothing_running(
    gpu: Any, opened: Open, reference: References, frames: list[UInt8]
) -> None:
    segmenter = opened()
    buffer = segmenter.frame_buffer(64, 96)
    buffer[:] = frames[0]
    gpu.knobs.pinned_memory = buffer.nbytes + 100
    with pytest.raises(EngineError, match=r"the host has no 1 MiB of memory left that can be page-locked; end other"):
        segmenter.segment(buffer)
    buffer[:] = frames[1]  # nothing reads it
    with pytest.raises(EngineError, match="page-locked"):
        segmenter.frame_buffer(300, 300)
    gpu.knobs.pinned_memory = 8 * 1024 * MIB
    assert np.array_equal(segmenter.segment(buffer), reference("streets").labels(frames[1]))


@pytest.mark.filterwarnings("ignore:.*CUDA graph:RuntimeWarning")
@pytest.mark.parametrize("which", [1, 2, 3])
def test_an_execution_that_fails_is_told_and_the_next_frame_works(
    gpu: Any, opened: Open, reference: References, frames: list[UInt8], which: int
) -> None:
    """The first is plain, the second in a capture, which then is left; the third is the plain one after it."""
    gpu.knobs.refuse_capture = which == 3
    segmenter = opened()
    buffer = segmenter.frame_buffer(64, 96)
    gpu.fail_execute_in(which)
    told = []
    for frame in frames:
        buffer[:] = frame
        under_way = segmenter.submit(frame) if told else None
        try:
            labels = segmenter.segment(buffer)
        except EngineError as error:
            told.append(str(error))
            buffer[:] = 0  # the caller's again
        else:
            assert np.array_equal(labels, reference("streets").labels(frame))
        if under_way is not None:
            assert np.array_equal(under_way.result(), reference("streets").labels(frame))
    assert len(told) == (0 if which == 2 else 1)
    assert all("TensorRT 10.16.1.11 failed on a frame (IExecutionContext::enqueueV3" in each for each in told)


@pytest.mark.parametrize("lost_as", ["cudaErrorIllegalAddress", "cudaErrorLaunchFailure"])
@pytest.mark.parametrize("when", [1, 2, 3])
def test_a_lost_gpu_is_told_and_closing_raises_nothing(
    gpu: Any, plan: Plans, frames: list[UInt8], when: int, lost_as: str
) -> None:
    path = plan("streets")
    gpu.knobs.lost_as = lost_as
    words = (
        rf"the GPU could not .* \({lost_as}: .*\); after such an error a process cannot use the GPU again: start ano"
    )
    with Segmenter.open(path, resize="none") as segmenter:
        segmenter.segment(frames[0])
        under_way = [segmenter.submit(frame) for frame in frames[:2]]
        gpu.lose_device_in(when)
        under_way.append(segmenter.submit(frames[2]) if when > 1 else under_way[0])
        with pytest.raises(EngineError, match=words):
            [pending.result() for pending in under_way]
        for use in (segmenter.segment, lambda frame: segmenter.submit(frame).result()):
            with pytest.raises(EngineError, match=words):
                use(frames[3])
        with pytest.raises(EngineError, match=words):
            segmenter.frame_buffer(64, 96)
    with pytest.raises(BackendUnavailableError, match=rf"CUDA cannot look for GPUs \({lost_as}: .*\); see nvidia-smi"):
        Segmenter.open(path)


LASTING = [
    "cudaErrorAssert",
    "cudaErrorContextIsDestroyed",
    "cudaErrorECCUncorrectable",
    "cudaErrorHardwareStackError",
    "cudaErrorIllegalAddress",
    "cudaErrorIllegalInstruction",
    "cudaErrorInvalidAddressSpace",
    "cudaErrorInvalidPc",
    "cudaErrorLaunchFailure",
    "cudaErrorLaunchTimeout",
    "cudaErrorMisalignedAddress",
    "cudaErrorNvlinkUncorrectable",
    "cudaErrorUnknown",
]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        *(
            (error, "; after such an error a process cannot use the GPU again: start another, and see")
            for error in LASTING
        ),
        ("cudaErrorInvalidValue", "; open the engine again, and see nvidia-smi and the system's log if it returns"),
    ],
)
def test_only_after_an_error_that_lasts_another_process_is_advised(
    gpu: Any, opened: Open, reference: References, frames: list[UInt8], error: str, words: str
) -> None:
    segmenter = opened()
    segmenter.segment(frames[0])
    gpu.knobs.fail_call, gpu.knobs.fail_call_as = "cudaMemcpyAsync", error
    with pytest.raises(EngineError, match=rf"^the GPU could not copy a frame or its labels \({error}: [^;]*\){words}"):
        segmenter.segment(frames[0])
    assert last_error() == "cudaSuccess"
    gpu.knobs.fail_call = ""
    assert np.array_equal(segmenter.segment(frames[1]), reference("streets").labels(frames[1]))


def last_error() -> str:
    cuda = load_cuda()
    return cuda.cudaGetErrorName(cuda.cudaGetLastError()[0])[1].decode()


@pytest.mark.parametrize("call", ["cudaStreamCreateWithFlags", "cudaSetDevice", "cudaMemGetInfo"])
def test_too_little_memory_for_what_cuda_itself_needs_is_told_as_such(gpu: Any, plan: Plans, call: str) -> None:
    path = plan("streets")
    use = free_bytes if call == "cudaMemGetInfo" else lambda: Segmenter.open(path)
    gpu.knobs.fail_call, gpu.knobs.fail_call_as = call, "cudaErrorMemoryAllocation"
    with pytest.raises(
        EngineError,
        match=r"^out of device memory on GPU 0: it could not .* \(cudaErrorMemoryAllocation: .*\); use a sm",
    ):
        use()
    assert last_error() == "cudaSuccess"


def test_bindings_without_a_driver_to_load_are_no_crash(gpu: Any, folder: Path, graph: Plans) -> None:
    gpu.knobs.no_driver_library = True
    with pytest.raises(
        BackendUnavailableError,
        match=r"look for GPUs .Failed to dlopen .*; install the NVIDIA driver, or run the graph",
    ):
        Segmenter.open(folder / "model.plan")
    shutil.copy(graph("streets") / "model.onnx", folder / "model.onnx")
    assert find_engine(folder) == folder / "model.onnx"


def test_looking_for_an_engine_makes_nothing_on_any_gpu(gpu: Any, folder: Path, graph: Plans) -> None:
    shutil.copy(graph("streets") / "model.onnx", folder / "model.onnx")
    gpu.knobs.device_count = 2
    for device, engine in (("auto", "plan"), ("cuda", "plan"), ("1", "plan"), ("2", "onnx")):
        assert find_engine(folder, device=device).name == f"model.{engine}"
    assert set(gpu.calls) == set()


def test_a_gpu_that_is_lost_half_way_through_a_new_shape_gives_everything_back(
    gpu: Any, plan: Plans, frames: list[UInt8]
) -> None:
    path = plan("streets")
    with Segmenter.open(path, resize="none") as segmenter:
        gpu.lose_device_in(1)
        with pytest.raises(EngineError, match="after such an error a process cannot use the GPU again"):
            segmenter.segment(frames[0])

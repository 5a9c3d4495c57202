"""TensorRT plans on an NVIDIA GPU.

A frame's way: host memory, page-locked memory, the GPU (its own stream), the engine (another), the wanted
outputs back (a third).  Each shape has up to two slots, so that the next frame is copied up while this one is
computed.  Each slot has a context, buffers and a CUDA graph of its own: a captured graph holds the
addresses, and changing the context it was captured from would be undefined (NVIDIA's best practices for
CUDA graphs).  Contexts run one after the other on one stream, so they share one piece of scratch memory.
"""

from __future__ import annotations

import gc
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from isa_deploy.errors import EngineError, InputError
from isa_deploy.manifest import Manifest
from isa_deploy.runtime.backends.base import Arrays, DeviceTimes, UInt8
from isa_deploy.runtime.backends.cuda import Cuda, DeviceMemory, Graph, PinnedMemory, load_cuda
from isa_deploy.runtime.backends.device_array import DeviceArray, DeviceFrames, read_device_frames
from isa_deploy.runtime.backends.signature import check_signature
from isa_deploy.runtime.backends.tensorrt_api import IExecutionContext
from isa_deploy.runtime.backends.tensorrt_engine import ONE_AT_A_TIME, EngineTensor, SharedEngine, share_engine
from isa_deploy.runtime.backends.tensorrt_library import installed_libraries, load_tensorrt
from isa_deploy.runtime.backends.tensorrt_slot import PendingFrames, Slot, Steps, shape_words
from isa_deploy.runtime.plan import check_card, check_code, check_library, read_plan

__all__ = ["TensorRTBackend"]

SLOTS = 2
SHAPES_KEPT = 4
"""Shapes whose buffers and graphs are kept; a video has one, a folder of photographs many."""

CAPTURE_TRIES = 3
"""A capture also fails where another library of the process synchronises the device meanwhile."""

ALIGNMENT = 256
"""What TensorRT asks of every address (setTensorAddress); cudaMalloc gives it."""

Shape = tuple[int, ...]


class TensorRTBackend:
    """One plan, with contexts of its own.  The engine itself is shared with other Segmenters of the plan."""

    name = "tensorrt"
    fast_argmax = True

    _shared: SharedEngine | None = None  # until it is open, and from when it is closed

    def __init__(self, path: Path, manifest: Manifest, device: str, allow_engine_code: bool) -> None:
        """Open a plan.

        ``device``: "cuda" or a GPU's number.  Raises :class:`BackendUnavailableError` where TensorRT,
        cuda-python, a driver or a GPU is missing, :class:`EngineIncompatibleError` where the plan is for
        another library or card, and :class:`EngineError` where it is refused for another reason.
        """
        spec = manifest.engine
        if spec is not None:
            check_code(path, spec, allow_engine_code)
            library = load_tensorrt(spec.builder)
            check_library(path, spec, library.name, library.version)
        else:
            libraries = installed_libraries()
            library = libraries[0] if libraries else load_tensorrt("tensorrt")
        self._cuda = Cuda(load_cuda(), 0 if device == "cuda" else int(device))
        if spec is not None:
            check_card(path, spec, self._cuda.compute_capability, self._cuda.title)
        plan = read_plan(path, manifest)
        with self._cuda.current():
            shared = share_engine(plan, path, spec, library, self._cuda, allow_engine_code)
        del plan
        tensors = shared.tensors
        check_signature(
            path,
            manifest,
            {name: each.spec for name, each in tensors.items() if each.is_input},
            {name: each.spec for name, each in tensors.items() if not each.is_input},
        )
        for each in tensors.values():
            if each.spec.dtype not in ("uint8", "float32"):
                raise EngineError(
                    f"{path}: {each.name} is {each.spec.dtype}, which none of ours is; build it from our graph"
                )
        self.precision = manifest.precision
        self.device = f"cuda:{self._cuda.index} ({self._cuda.name})"
        with self._cuda.current():
            self._upload = self._cuda.stream()
            self._compute = self._cuda.stream()
            self._download = self._cuda.stream()
        self._scratch: DeviceMemory | None = None
        self._lanes: OrderedDict[Shape, _Lane] = OrderedDict()
        self._told_of_capture = False
        self._shared = shared

    @property
    def capacity(self) -> int:
        """See :class:`isa_deploy.runtime.backends.base.Backend`.  Frames of another shape have slots of their own."""
        return SLOTS

    def has_room(self) -> bool:
        """See :class:`isa_deploy.runtime.backends.base.Backend`."""
        return sum(lane.under_way() for lane in self._lanes.values()) < SLOTS

    def start(self, image_nhwc: UInt8, outputs: Sequence[str]) -> PendingFrames:
        """See :class:`isa_deploy.runtime.backends.base.Backend`.

        Frames in memory of :meth:`frame_buffer` are copied to the GPU from where they lie, others through
        page-locked memory first.
        """
        with self._cuda.current():
            slot = self._slot(image_nhwc.shape, _Lane.next_slot)
            return self._send(slot, image_nhwc, _page_locked(slot, image_nhwc), outputs, slot.steps)

    def time_call(self, image_nhwc: UInt8, outputs: Sequence[str]) -> tuple[Arrays, DeviceTimes]:
        """See :class:`isa_deploy.runtime.backends.base.TimedBackend`.

        The copies between the caller's memory and page-locked memory are the host's, and in no part.
        """
        with self._cuda.current(), ExitStack() as held:
            slot = self._slot(image_nhwc.shape, _Lane.next_slot)
            pinned = _page_locked(slot, image_nhwc)
            begun, *ends = (held.enter_context(closing(self._cuda.timed_event())) for _ in range(4))
            steps = Steps(*ends)
            self._drain()
            begun.record(self._upload)
            pending = self._send(slot, image_nhwc, pinned, outputs, steps)
            # whatever comes, the slot must not keep events that are closed, and nothing may run on it
            held.callback(pending.give_up)
            held.callback(self._drain)
            arrays = pending.wait()
            return arrays, DeviceTimes(
                upload_ms=steps.uploaded.ms_since(begun),
                compute_ms=steps.computed.ms_since(steps.uploaded),
                download_ms=steps.downloaded.ms_since(steps.computed),
            )

    def _send(self, slot: Slot, image_nhwc: UInt8, pinned: int, outputs: Sequence[str], steps: Steps) -> PendingFrames:
        """Give a slot's way to the GPU: frames at a page-locked address, the engine, the outputs back."""
        hosts = {name: slot.host_output(name) for name in outputs}
        with ExitStack() as undo:
            # a frame that is given up half way must leave nothing running on its slot, nor on its own memory
            undo.callback(self._drain)
            self._upload.upload(slot.input.address, pinned, image_nhwc.nbytes)
            steps.uploaded.record(self._upload)
            self._compute.wait(steps.uploaded)
            self._enqueue(slot)
            steps.computed.record(self._compute)
            self._download.wait(steps.computed)
            for name, host in hosts.items():
                self._download.download(host.address, slot.outputs[name].address, host.size)
            steps.downloaded.record(self._download)
            slot.pending = PendingFrames(slot, tuple(outputs), image_nhwc, steps.downloaded)
            undo.pop_all()
        return slot.pending

    def run_on_device(self, frames: DeviceFrames, outputs: Sequence[str]) -> list[DeviceArray]:
        """The wanted outputs for frames that lie on this GPU, left there.

        Frames that are packed and aligned to 256 bytes are read where they lie; others are packed by one
        copy on the GPU.  When this returns, the results are there for every stream.  Raises as
        :meth:`start`.
        """
        with self._cuda.current():
            return self._run_on_device(frames, outputs)

    def _run_on_device(self, frames: DeviceFrames, outputs: Sequence[str]) -> list[DeviceArray]:
        slot = self._slot(frames.shape, _Lane.direct_slot)
        lane = self._lane(frames.shape)
        given: dict[str, DeviceMemory] = {}
        with ExitStack() as undo:
            for name in outputs:
                given[name] = self._cuda.allocate(slot.outputs[name].size, "a result on the GPU")
                undo.callback(given[name].close)
            undo.callback(self._drain)
            if frames.stream is not None:
                self._compute.wait_for_stream(frames.stream)
            address = frames.address
            if not frames.packed or address % ALIGNMENT:
                row = frames.shape[2] * 3
                self._compute.gather(slot.input.address, address, frames.pitch, row, frames.shape[0] * frames.shape[1])
                address = slot.input.address
            addresses = {name: memory.address for name, memory in {**slot.outputs, **given}.items()}
            slot.set_addresses({self._engine.input_name: address, **addresses})
            self._execute(slot.context)
            # nothing is downloaded here: the event that the host waits for asleep is free for the whole
            slot.steps.downloaded.record(self._compute)
            slot.steps.downloaded.synchronize()
            undo.pop_all()
        dtypes = {name: np.dtype(each.spec.dtype) for name, each in lane.specs.items()}
        return [DeviceArray(given[name], lane.shapes[name], dtypes[name], self._cuda.index) for name in outputs]

    def read_device_frames(self, frame: Any) -> DeviceFrames:
        """See :class:`isa_deploy.runtime.backends.base.DeviceBackend`."""
        with self._cuda.current():
            return read_device_frames(frame, self._compute.address, self._cuda)

    def largest_batch(self, height: int, width: int) -> int | None:
        """See :class:`isa_deploy.runtime.backends.base.Backend`."""
        return self._engine.largest_batch(height, width)

    def frame_buffer(self, shape: Shape) -> UInt8:
        """Page-locked memory, given back when no array refers to it any more."""
        with self._cuda.current():
            memory = self._cuda.pin(int(np.prod(shape)))
        view: UInt8 = np.asarray(memory).reshape(shape)
        return view

    def close(self) -> None:
        """Give all memory back.  Answers that were not waited for are lost."""
        # the engine has to live until the last of its contexts is gone
        engine, self._shared = self._shared, None
        if engine is None:
            return
        with ExitStack() as kept:
            with suppress(EngineError):  # a GPU that is lost cannot be made current
                kept.enter_context(self._cuda.current())
            self._drain()
            for lane in self._lanes.values():
                lane.close()
            self._lanes.clear()
            if self._scratch is not None:
                self._scratch.close()
            for stream in (self._upload, self._compute, self._download):
                stream.close()
            del engine  # on its GPU, where nobody else has it

    def __del__(self) -> None:
        # for whoever forgets to close: in the right order, which the parts' own finalizers do not know
        self.close()

    def _drain(self) -> None:
        """Let everything come to its end, that memory in use can go."""
        try:
            for stream in (self._upload, self._compute, self._download):
                stream.synchronize()
        except EngineError:
            # the GPU is lost, so nothing runs on it; whoever waits for an answer is told
            pass

    @property
    def _engine(self) -> SharedEngine:
        if self._shared is None:
            raise EngineError("this engine is closed; open another")
        return self._shared

    def _lane(self, shape: Shape) -> _Lane:
        """The buffers for an input shape, the ones used last kept."""
        lane = self._lanes.get(shape)
        if lane is not None:
            self._lanes.move_to_end(shape)
            return lane
        profile = self._engine.profile_for(shape)
        if profile is None:
            ranges = ", ".join(_range_words(each) for each in self._engine.profiles)
            raise InputError(
                f"frames of {shape_words(shape)} (batch x height x width) are outside of what this plan was built "
                f"for: {ranges}; use --resize, or build it with --min-shape and --max-shape that hold them"
            )
        while len(self._lanes) >= SHAPES_KEPT:
            _, oldest = self._lanes.popitem(last=False)
            oldest.retire()
        lane = self._lanes[shape] = _Lane(self, shape, profile)
        return lane

    def _slot(self, shape: Shape, take: Callable[[_Lane], Slot]) -> Slot:
        """A slot of a shape's, as ``take`` takes it.

        Where the card's memory does not suffice, the buffers of other shapes go, and it is tried once more.
        """
        try:
            return take(self._lane(shape))
        except EngineError:
            others = [each for key, each in self._lanes.items() if key != shape]
            if not others:
                raise
            for lane in others:
                lane.retire()
            self._lanes = OrderedDict((key, each) for key, each in self._lanes.items() if key == shape)
        return take(self._lane(shape))

    def make_context(self, shape: Shape, profile: int) -> IExecutionContext:
        """A context with its profile and input shape, and scratch memory that suffices.

        Raises :class:`EngineError` where TensorRT refuses, or the GPU has not enough memory.
        """
        engine = self._engine
        context = engine.create_context()
        if not context.set_optimization_profile_async(profile, self._compute.address):
            raise EngineError(f"TensorRT refused profile {profile}: {engine.log.reason()}")
        self._compute.synchronize()
        if not context.set_input_shape(engine.input_name, shape):
            raise EngineError(f"TensorRT refused frames of {shape_words(shape)}: {engine.log.reason()}")
        engine.log.clear()
        try:
            missing = context.infer_shapes()
        except RuntimeError as error:  # for what TensorRT calls a negative answer
            raise EngineError(
                f"TensorRT cannot tell the shapes ({engine.log.reason()}); build the plan again"
            ) from error
        if missing:
            raise EngineError(f"the plan leaves the shapes of {', '.join(missing)} open; build it from our graph")
        needed = context.update_device_memory_size_for_shapes()
        if not needed and engine.log.errors:  # 0 is also how it says that it failed
            raise EngineError(f"TensorRT cannot tell the memory it needs: {engine.log.reason()}; build the plan again")
        if self._scratch is None or self._scratch.size < needed:
            self._grow_scratch(needed, shape)
        assert self._scratch is not None
        context.set_device_memory(self._scratch.address, self._scratch.size)
        return context

    def _grow_scratch(self, needed: int, shape: Shape) -> None:
        """Larger scratch memory, for all contexts.  Their graphs hold the old address: they are dropped."""
        self._compute.synchronize()
        if self._scratch is not None:
            self._scratch.close()
            self._scratch = None
        try:
            self._scratch = self._cuda.allocate(needed, f"the activations of {shape_words(shape)} frames")
        except BaseException:
            # the contexts there are have no memory to work in any more; they are made anew when needed
            for lane in self._lanes.values():
                lane.retire()
            self._lanes.clear()
            raise
        for lane in self._lanes.values():
            lane.move_scratch(self._scratch)

    @property
    def cuda(self) -> Cuda:
        """The GPU."""
        return self._cuda

    def output_tensors(self) -> list[EngineTensor]:
        """The engine's outputs; each needs an address, whether it is wanted or not."""
        return [each for each in self._engine.tensors.values() if not each.is_input]

    def output_shape(self, context: IExecutionContext, name: str, shape: Shape) -> Shape:
        """An output's shape for the context's input.  Raises :class:`EngineError` where it stays open."""
        sides = tuple(int(side) for side in context.get_tensor_shape(name))
        if any(side < 0 for side in sides):
            raise EngineError(f"the plan's output {name} has the shape {sides} for frames of {shape_words(shape)}")
        return sides

    @property
    def input_name(self) -> str:
        """The name of the engine's input."""
        return self._engine.input_name

    def _enqueue(self, slot: Slot) -> None:
        """The engine on a slot's frames: plainly at first, which readies its kernels, then as a CUDA graph."""
        if slot.graph is None and slot.warm and slot.refused_captures < CAPTURE_TRIES:
            slot.graph = self._capture(slot)
        if slot.graph is not None:
            slot.graph.launch(self._compute)
        else:
            self._execute(slot.context)
            slot.warm = True

    def _execute(self, context: IExecutionContext) -> None:
        engine = self._engine
        engine.log.clear()
        if not context.execute_async_v3(self._compute.address):
            if engine.log.out_of_memory is not None:
                raise EngineError(
                    f"{engine.library.title} ran out of device memory on a frame ({engine.log.out_of_memory}); use a "
                    "smaller --resize, or end other programs"
                )
            raise EngineError(
                f"{engine.library.title} failed on a frame ({engine.log.reason()}); open the engine again, and "
                "build the plan again if it returns"
            )

    def _capture(self, slot: Slot) -> Graph | None:
        graph = None
        if self._engine.can_capture(slot.context, self._compute.address):
            with ONE_AT_A_TIME, _no_collection():
                graph = self._compute.capture(lambda: slot.context.execute_async_v3(self._compute.address))
        if graph is None:
            slot.refused_captures += 1
            if slot.refused_captures == CAPTURE_TRIES and not self._told_of_capture:
                self._told_of_capture = True
                warnings.warn(
                    f"{self._engine.library.title} cannot put this engine into a CUDA graph; frames run without one, "
                    "which costs the host more time for each",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return graph


class _Lane:
    """Everything for frames of one shape: slots for frames of the host's, and one for frames on the GPU."""

    def __init__(self, backend: TensorRTBackend, shape: Shape, profile: int) -> None:
        # no cycle: the backend goes, and closes, when its user lets go of it
        self._backend: TensorRTBackend = weakref.proxy(backend)
        self._shape = shape
        self._profile = profile
        self.specs = {each.name: each for each in backend.output_tensors()}
        self.shapes: dict[str, Shape] = {}
        self._slots: list[Slot] = []  # the one that was used last is last
        self._direct: Slot | None = None

    def next_slot(self) -> Slot:
        """A slot that is free, or a new one, or the one that was used first, its answer taken off it."""
        slot = next((each for each in self._slots if each.pending is None), None)
        if slot is None and len(self._slots) < SLOTS:
            self._slots.append(self._make_slot())
            return self._slots[-1]
        slot = slot or self._slots[0]
        if slot.pending is not None:
            slot.pending.collect()
        self._slots.remove(slot)
        self._slots.append(slot)
        return slot

    def under_way(self) -> int:
        """How many slots' frames the GPU is not done with."""
        return sum(slot.pending is not None and not slot.pending.done() for slot in self._slots)

    def direct_slot(self) -> Slot:
        """The slot for frames that lie on the GPU: its addresses change, so it is never captured."""
        if self._direct is None:
            self._direct = self._make_slot()
        return self._direct

    def move_scratch(self, scratch: DeviceMemory) -> None:
        """Work in other scratch memory from now on."""
        for slot in self._all_slots():
            slot.drop_graph()
            slot.context.set_device_memory(scratch.address, scratch.size)

    def retire(self) -> None:
        """Take the answers off, then give the buffers back."""
        for slot in self._all_slots():
            if slot.pending is not None:
                slot.pending.collect()
        self.close()

    def close(self) -> None:
        """Give the buffers back.  Nothing runs on them any more; answers that were not taken are lost."""
        for slot in self._all_slots():
            slot.close()
        self._slots.clear()
        self._direct = None

    def _all_slots(self) -> list[Slot]:
        return self._slots if self._direct is None else [*self._slots, self._direct]

    def _make_slot(self) -> Slot:
        backend = self._backend
        context = backend.make_context(self._shape, self._profile)
        self.shapes = {name: backend.output_shape(context, name, self._shape) for name in self.specs}
        return Slot(backend.cuda, context, backend.input_name, self._shape, self.shapes, self.specs)


@contextmanager
def _no_collection() -> Iterator[None]:
    """No garbage collection: one that frees memory of the GPU's would void a capture."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _pinned_address(array: UInt8) -> int | None:
    """Where an array lies, if that is a frame buffer of ours in one piece; else None."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, PinnedMemory) and array.flags.c_contiguous:
        return int(array.__array_interface__["data"][0])
    return None


def _page_locked(slot: Slot, image_nhwc: UInt8) -> int:
    """The page-locked address of frames: where they lie, or that of a copy in the slot."""
    pinned = _pinned_address(image_nhwc)
    if pinned is None:
        np.copyto(slot.image_nhwc, image_nhwc)
        pinned = slot.pinned_address
    return pinned


def _range_words(profile: tuple[Shape, ...]) -> str:
    least, _, most = profile
    if least == most:
        return shape_words(least)
    return f"{shape_words(least)} to {shape_words(most)}"

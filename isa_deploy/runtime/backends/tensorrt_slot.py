"""Everything that one frame, or one batch, needs on its way through a plan: a context and its buffers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isa_deploy.errors import EngineError
from isa_deploy.runtime.backends.base import Arrays, UInt8
from isa_deploy.runtime.backends.cuda import Cuda, DeviceMemory, Event, Graph, PinnedMemory
from isa_deploy.runtime.backends.tensorrt_api import IExecutionContext
from isa_deploy.runtime.backends.tensorrt_engine import EngineTensor

__all__ = ["PendingFrames", "Slot", "Steps", "shape_words"]

Shape = tuple[int, ...]

POLL_S = 0.0005
"""Between two looks at an event: CUDA has no wait for it that ends after a time."""


@dataclass(frozen=True)
class Steps:
    """The events that stand behind a frame's steps, for the next step to wait for."""

    uploaded: Event
    computed: Event
    downloaded: Event


class Slot:
    """A context with addresses that do not change: one frame's, or one batch's."""

    def __init__(
        self,
        cuda: Cuda,
        context: IExecutionContext,
        input_name: str,
        shape: Shape,
        output_shapes: dict[str, Shape],
        specs: dict[str, EngineTensor],
    ) -> None:
        self._cuda = cuda
        self.context = context
        self.graph: Graph | None = None
        self.warm = False
        self.refused_captures = 0
        self.pending: PendingFrames | None = None
        self._shape = shape
        self._output_shapes = output_shapes
        self._dtypes = {name: np.dtype(each.spec.dtype) for name, each in specs.items()}
        self._pinned_input: PinnedMemory | None = None
        self._pinned_outputs: dict[str, PinnedMemory] = {}
        self.outputs: dict[str, DeviceMemory] = {}
        purpose = f"frames of {shape_words(shape)} and their results"
        with ExitStack() as undo:
            self.input = cuda.allocate(int(np.prod(shape)), purpose)
            undo.callback(self.input.close)
            for name, sides in output_shapes.items():
                memory = cuda.allocate(int(np.prod(sides)) * self._dtypes[name].itemsize, purpose)
                self.outputs[name] = memory
                undo.callback(memory.close)
            events: list[Event] = []
            for make in (cuda.event, cuda.event, cuda.waited_event):
                events.append(make())
                undo.callback(events[-1].close)
            self.steps = Steps(*events)
            outputs = {name: memory.address for name, memory in self.outputs.items()}
            self.set_addresses({input_name: self.input.address, **outputs})
            self._held = undo.pop_all()

    def set_addresses(self, addresses: Mapping[str, int]) -> None:
        """Where the context reads its input and writes its outputs."""
        for name, address in addresses.items():
            if not self.context.set_tensor_address(name, address):
                raise EngineError(f"TensorRT refused the address {address:#x} for {name}; build the plan again")

    @property
    def image_nhwc(self) -> UInt8:
        """Page-locked memory for the frames, uint8 N x H x W x 3."""
        if self._pinned_input is None:
            self._pinned_input = self._cuda.pin(int(np.prod(self._shape)))
        view: UInt8 = np.asarray(self._pinned_input).reshape(self._shape)
        return view

    @property
    def pinned_address(self) -> int:
        """Where :attr:`image_nhwc` lies."""
        assert self._pinned_input is not None
        return self._pinned_input.address

    def host_output(self, name: str) -> PinnedMemory:
        """Page-locked memory for an output, made when it is first wanted."""
        memory = self._pinned_outputs.get(name)
        if memory is None:
            memory = self._pinned_outputs[name] = self._cuda.pin(self.outputs[name].size)
        return memory

    def array(self, name: str) -> npt.NDArray[np.generic]:
        """What came back of an output, as an array of the caller's own."""
        flat: npt.NDArray[np.uint8] = np.asarray(self._pinned_outputs[name])
        return flat.copy().view(self._dtypes[name]).reshape(self._output_shapes[name])

    def drop_graph(self) -> None:
        """Forget the captured graph; the next frame runs plainly and the one after captures again."""
        if self.graph is not None:
            self.graph.close()
        self.graph = None
        self.warm = False

    def close(self) -> None:
        """Give everything back."""
        if self.pending is not None:
            self.pending.give_up()
        self.drop_graph()
        self._held.close()
        for host_memory in self._pinned_outputs.values():
            host_memory.close()
        if self._pinned_input is not None:
            self._pinned_input.close()
        del self.context


class PendingFrames:
    """Frames on their way through the GPU."""

    def __init__(self, slot: Slot, outputs: tuple[str, ...], image_nhwc: UInt8, downloaded: Event) -> None:
        self._slot: Slot | None = slot
        self._downloaded = downloaded
        self._outputs = outputs
        self._image_nhwc: UInt8 | None = image_nhwc  # the copy up may read it where it lies
        self._arrays: Arrays | None = None

    def done(self) -> bool:
        """See :class:`isa_deploy.runtime.backends.base.Pending`."""
        if self._slot is None:
            return True
        try:
            return self._downloaded.passed()
        except EngineError:
            return True  # which :meth:`wait` says

    def wait(self, timeout_s: float | None = None) -> Arrays:
        """See :class:`isa_deploy.runtime.backends.base.Pending`."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while deadline is not None and not self.done():
            if time.monotonic() >= deadline:
                raise TimeoutError(f"the GPU was not done with these frames after {timeout_s} s; wait again")
            time.sleep(POLL_S)
        self.collect()
        if self._arrays is None:
            raise EngineError("the engine was closed before this frame was done; open another")
        return self._arrays

    def collect(self) -> None:
        """Take the answer off the slot, so that another frame can use it."""
        slot = self._slot
        if slot is None:
            return
        self._downloaded.synchronize()
        self._arrays = [slot.array(name) for name in self._outputs]
        self._let_go(slot)

    def give_up(self) -> None:
        """The slot is going away; an answer that was not taken is lost."""
        if self._slot is not None:
            self._let_go(self._slot)

    def _let_go(self, slot: Slot) -> None:
        slot.pending = None
        self._slot = None
        self._image_nhwc = None


def shape_words(shape: Shape) -> str:
    """``1x512x1024``: batch, height and width of an input's shape."""
    return "x".join(str(side) for side in shape[:3])

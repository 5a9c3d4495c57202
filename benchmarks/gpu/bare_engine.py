"""A plan's engine with nothing round it: no copies, no labels taken; what trtexec would measure."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from isa_deploy.runtime.backends.cuda import Cuda, DeviceMemory, Graph, load_cuda
from isa_deploy.runtime.backends.tensorrt_engine import SharedEngine, share_engine
from isa_deploy.runtime.backends.tensorrt_library import load_tensorrt
from isa_deploy.runtime.plan import plan_manifest, read_plan

__all__ = ["BareEngine"]


class BareEngine:
    """The engine for frames of one shape, on GPU 0, launched as a CUDA graph where that works.

    ``captured``: whether it does.
    """

    def __init__(self, path: Path, shape_nhwc: tuple[int, int, int, int]) -> None:
        manifest = plan_manifest(path)
        assert manifest.engine is not None
        library = load_tensorrt(manifest.engine.builder)
        self._cuda = cuda = Cuda(load_cuda(), 0)
        plan = read_plan(path, manifest)
        self._shared: SharedEngine = share_engine(plan, path, manifest.engine, library, cuda, False)
        self._stream = cuda.stream()
        self._context = context = self._shared.create_context()
        profile = self._shared.profile_for(shape_nhwc)
        if profile is None or not context.set_optimization_profile_async(profile, self._stream.address):
            raise RuntimeError(f"no profile of {path.name} takes frames of {shape_nhwc}")
        self._stream.synchronize()
        if not context.set_input_shape(self._shared.input_name, shape_nhwc) or context.infer_shapes():
            raise RuntimeError(f"{path.name} refuses frames of {shape_nhwc}")
        scratch = cuda.allocate(context.update_device_memory_size_for_shapes(), "the bare engine")
        context.set_device_memory(scratch.address, scratch.size)
        self._memory: list[DeviceMemory] = [scratch]
        for name, tensor in self._shared.tensors.items():
            sides = tuple(int(side) for side in context.get_tensor_shape(name))
            memory = cuda.allocate(int(np.prod(sides)) * np.dtype(tensor.spec.dtype).itemsize, "the bare engine")
            if not context.set_tensor_address(name, memory.address):
                raise RuntimeError(f"{path.name} refuses an address for {name}")
            self._memory.append(memory)
        self._execute()  # a graph is captured after one plain run
        self._stream.synchronize()
        self._graph: Graph | None = None
        if self._shared.can_capture(context, self._stream.address):
            self._graph = self._stream.capture(lambda: context.execute_async_v3(self._stream.address))
        self.captured = self._graph is not None

    def run(self, frames: int) -> None:
        """The engine so many times, one after the other; then wait."""
        for _ in range(frames):
            if self._graph is not None:
                self._graph.launch(self._stream)
            else:
                self._execute()
        self._stream.synchronize()

    def close(self) -> None:
        """Give everything back."""
        self._stream.synchronize()
        if self._graph is not None:
            self._graph.close()
        del self._context
        for memory in self._memory:
            memory.close()
        self._stream.close()

    def _execute(self) -> None:
        if not self._context.execute_async_v3(self._stream.address):
            raise RuntimeError(f"the engine failed: {self._shared.log.reason()}")

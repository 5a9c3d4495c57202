"""Frames that lie on the GPU: the same labels as from host memory, left on the GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gpu.context import StepContext
from gpu.not_run import NotRunError
from gpu.scenes import clip
from gpu.torch_ways import need_torch_cuda
from gpu.zoo import frame_size
from isa_deploy.runtime.backends.cuda import Cuda, DeviceMemory, load_cuda
from isa_deploy.runtime.backends.device_array import DeviceArray
from isa_deploy.runtime.segmenter import Segmenter

__all__ = ["run"]

UInt8 = npt.NDArray[np.uint8]

GAP = 256
"""Bytes between the rows of the pitched frame."""


class PitchedFrame:
    """A frame in device memory of our own, its rows a gap apart, as decoders leave them."""

    def __init__(self, memory: DeviceMemory, height: int, width: int, pitch: int) -> None:
        self.memory = memory
        self.__cuda_array_interface__ = {
            "version": 3,
            "shape": (height, width, 3),
            "typestr": "|u1",
            "data": (memory.address, False),
            "strides": (pitch, 3, 1),
            "stream": None,
        }


def run(context: StepContext) -> None:
    """Compare with labels from host memory: packed, pitched, and where torch has CUDA its tensors by DLPack."""
    plan = context.plan(context.model)
    size_hw = frame_size(context.model, context.scale)
    frame = clip(size_hw)[0]
    cuda = Cuda(load_cuda(), 0)
    shares: dict[str, float] = {}
    with Segmenter.open(plan, backend="tensorrt", device=0, resize="none") as segmenter:
        right = segmenter.segment(frame)
        for name, gap in (("packed", 0), ("pitched", GAP)):
            labels = segmenter.segment_on_device(_upload(cuda, frame, gap))
            shares[name] = float((_download(cuda, labels) == right).mean())
        left_out = None
        try:
            need_torch_cuda()
            shares.update(_with_torch(segmenter, frame, right))
        except NotRunError as error:
            left_out = str(error)
    context.record(agreement=shares, torch_left_out=left_out)
    for name, share in shares.items():
        if share != 1:
            raise RuntimeError(f"{name} frames on the GPU: {share:.4%} of the labels are those from host memory")


def _upload(cuda: Cuda, frame: UInt8, gap: int) -> PitchedFrame:
    height, width = frame.shape[:2]
    rows = np.zeros((height, width * 3 + gap), np.uint8)
    rows[:, : width * 3] = frame.reshape(height, -1)
    memory, staged, stream = cuda.allocate(rows.nbytes, "a frame"), cuda.pin(rows.nbytes), cuda.stream()
    np.asarray(staged)[:] = rows.ravel()
    stream.upload(memory.address, staged.address, rows.nbytes)
    stream.synchronize()
    stream.close()
    return PitchedFrame(memory, height, width, width * 3 + gap)


def _download(cuda: Cuda, labels: DeviceArray) -> UInt8:
    size = int(np.prod(labels.shape))
    staged, stream = cuda.pin(size), cuda.stream()
    stream.download(staged.address, labels.address, size)
    stream.synchronize()
    stream.close()
    host: UInt8 = np.asarray(staged).copy().reshape(labels.shape)
    return host


def _with_torch(segmenter: Segmenter, frame: UInt8, right: UInt8) -> dict[str, float]:
    """Tensors made on torch's own stream a moment ago, whole and cut out of a larger one."""
    import torch
    import torch.utils.dlpack

    height, width = frame.shape[:2]
    whole = torch.from_numpy(frame).to("cuda", non_blocking=True)
    larger = torch.zeros((height, width + 32, 3), dtype=torch.uint8, device="cuda")
    larger[:, :width] = whole
    given: dict[str, Any] = {"torch, DLPack": whole, "torch, DLPack, pitched": larger[:, :width]}
    shares = {}
    for name, tensor in given.items():
        labels = torch.utils.dlpack.from_dlpack(segmenter.segment_on_device(tensor))
        shares[name] = float((labels.cpu().numpy() == right).mean())
    return shares

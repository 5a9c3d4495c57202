"""The network in torch on a GPU, frame in host memory to labels in host memory: the baseline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpu.context import StepContext
from gpu.not_run import NotRunError
from gpu.zoo import MODELS
from isa_deploy.export.precision import FloatPrecision

__all__ = ["labels_on_gpu", "need_torch_cuda", "torch_module"]

UInt8 = npt.NDArray[np.uint8]


def need_torch_cuda() -> None:
    """Raise :class:`NotRunError` where torch cannot use a GPU."""
    try:
        import torch
    except ImportError as error:
        raise NotRunError(f"torch is not installed ({error})") from error
    if not torch.cuda.is_available():
        raise NotRunError(f"torch {torch.__version__} sees no GPU; it needs a build with CUDA")


def torch_module(context: StepContext, precision: FloatPrecision, channels_last: bool) -> Any:
    """The exported module itself, image to labels, on the GPU, in inference mode's types.

    Batch norms are folded already, which is more than a plain checkpoint in torch has.  float32 is as torch
    does it unasked: with TF32 inside cuDNN's convolutions, which is faster and less exact than a float32 plan.
    """
    import torch

    from isa_deploy.export.graph import Normalisation, build_graph
    from isa_deploy.export.pipeline import make_manifest
    from isa_deploy.models.checkpoint import build_network, read_checkpoint

    model = MODELS[context.model]
    path: Path = model.trained if model.depth is None else context.folder / "models" / context.model / "random.pth"
    checkpoint = read_checkpoint(path)
    manifest = make_manifest(checkpoint, precision, (None, None, None), confidence=False)
    normalisation = Normalisation(manifest.input.mean, manifest.input.std, swap_channels=checkpoint.to_rgb)
    graph = build_graph(build_network(checkpoint), normalisation, precision, ("labels",), None).to("cuda")
    if channels_last:
        graph = graph.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return graph


def labels_on_gpu(module: Any, frame_hwc: UInt8) -> Callable[[], UInt8]:
    """A function that runs the module on a frame, through page-locked memory both ways."""
    import torch

    frame = torch.from_numpy(frame_hwc)[None]
    staged = torch.empty_like(frame, pin_memory=True)
    labels_host = torch.empty(frame.shape[:3], dtype=torch.uint8, pin_memory=True)

    def segment() -> UInt8:
        with torch.inference_mode():
            staged.copy_(frame)
            image = staged.to("cuda", non_blocking=True)
            labels_host.copy_(module(image)[0], non_blocking=True)
            torch.cuda.synchronize()
        labels: UInt8 = labels_host[0].numpy().copy()
        return labels

    return segment

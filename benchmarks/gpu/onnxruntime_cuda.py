"""ONNX Runtime with CUDA: the same labels as float32 on the CPU, on scenes that the demo model never saw."""

from __future__ import annotations

import contextlib
import importlib
from pathlib import Path

from gpu.context import StepContext
from gpu.not_run import NotRunError
from gpu.parity import agreement_and_scores
from isa_deploy.errors import BackendUnavailableError
from isa_deploy.runtime.segmenter import Segmenter

__all__ = ["open_on_cuda", "run"]


def run(context: StepContext) -> None:
    """Record agreement and mIoU.  Raises :class:`NotRunError` where ONNX Runtime has no CUDA here."""
    with open_on_cuda(context.onnx(context.model)) as candidate:
        agreement_and_scores(context, candidate)


def open_on_cuda(onnx: Path) -> Segmenter:
    """A graph in ONNX Runtime on GPU 0.  Raises :class:`NotRunError` where that cannot be had."""
    with contextlib.suppress(ImportError):
        # its own packages bring the CUDA and cuDNN libraries that the provider needs; without it they are
        # installed otherwise, or the provider says what it misses
        importlib.import_module("torch")
    try:
        return Segmenter.open(onnx, backend="onnxruntime", device=0, resize="none")
    except BackendUnavailableError as error:
        raise NotRunError(str(error)) from error

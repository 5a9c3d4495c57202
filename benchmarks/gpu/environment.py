"""The first step: is there a GPU, and what is on this machine.  Needs nothing but Python to say so."""

from __future__ import annotations

import importlib
import shutil
import subprocess
from typing import Any

from gpu.context import StepContext
from gpu.not_run import NotRunError

__all__ = ["run"]

WANTED = ("pydantic", "typer", "cv2", "onnx", "onnxscript", "jinja2", "cuda.bindings.runtime")
"""What isa-deploy's steps import besides torch and the engines."""

QUERY = "name,driver_version,clocks.max.sm,clocks.max.mem,power.limit,memory.total"


def run(context: StepContext) -> None:
    """Record the machine.  Raises :class:`NotRunError` where it has no GPU."""
    from machine import machine

    device, reasons = _device()
    context.record(
        device=device,
        machine=machine(),
        nvidia_smi=_nvidia_smi(),
        missing=_missing(),
        torch=_torch(),
        onnxruntime_providers=_providers(),
        tensorrt=_tensorrt(),
    )
    if device is None:
        raise NotRunError("; ".join(reasons))


def _device() -> tuple[dict[str, Any] | None, list[str]]:
    """The GPU as CUDA tells it, else as torch does; else why neither sees one."""
    reasons = []
    try:
        from isa_deploy.errors import BackendUnavailableError, EngineError
        from isa_deploy.runtime.backends.cuda import Cuda, load_cuda

        try:
            cuda = Cuda(load_cuda(), 0)
            memory = cuda.free_bytes()[1]
            return _described(cuda.name, cuda.compute_capability, memory), []
        except (BackendUnavailableError, EngineError) as error:
            reasons.append(str(error))
    except ImportError as error:
        reasons.append(f"isa-deploy cannot be imported ({error})")
    try:
        import torch
    except ImportError:
        return None, reasons
    if not torch.cuda.is_available():
        return None, [*reasons, "torch sees no GPU"]
    properties = torch.cuda.get_device_properties(0)
    return _described(properties.name, f"{properties.major}.{properties.minor}", properties.total_memory), []


def _described(name: str, compute_capability: str, memory: int) -> dict[str, Any]:
    return {"name": name, "compute_capability": compute_capability, "memory_mib": memory >> 20}


def _nvidia_smi() -> dict[str, str] | None:
    """What the driver's own tool says, None where it is not there or fails."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    done = subprocess.run(
        [tool, "-i", "0", f"--query-gpu={QUERY}", "--format=csv,noheader"], capture_output=True, text=True, timeout=30
    )
    values = [value.strip() for value in done.stdout.strip().split(",")]
    return dict(zip(QUERY.split(","), values, strict=True)) if len(values) == len(QUERY.split(",")) else None


def _missing() -> dict[str, str]:
    """What cannot be imported, and why."""
    missing = {}
    for name in WANTED:
        try:
            importlib.import_module(name)
        except (ImportError, OSError) as error:
            missing[name] = str(error)
    return missing


def _torch() -> dict[str, Any]:
    try:
        import torch
    except ImportError as error:
        return {"missing": str(error)}
    return {"version": torch.__version__, "cuda": torch.version.cuda, "sees_gpu": torch.cuda.is_available()}


def _providers() -> list[str]:
    try:
        import onnxruntime
    except ImportError:
        return []
    return list(onnxruntime.get_available_providers())


def _tensorrt() -> dict[str, str]:
    """Each TensorRT's version, or why it cannot be loaded."""
    try:
        from isa_deploy.errors import BackendUnavailableError
        from isa_deploy.runtime.backends.tensorrt_library import BuilderName, load_tensorrt
    except ImportError as error:
        return {"isa-deploy": str(error)}
    found: dict[str, str] = {}
    names: tuple[BuilderName, ...] = ("tensorrt", "tensorrt_rtx")
    for name in names:
        try:
            found[name] = load_tensorrt(name).version
        except BackendUnavailableError as error:
            found[name] = str(error)
    return found

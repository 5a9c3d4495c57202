"""From a path and a wish to an opened backend."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from isa_deploy.errors import BackendUnavailableError, EngineError, InputError, ManifestError
from isa_deploy.manifest import MANIFEST_FILE, Manifest, read_manifest
from isa_deploy.runtime.backends.base import Backend
from isa_deploy.runtime.onnx_metadata import read_onnx_manifest

__all__ = ["BACKENDS", "ONNX_FILE", "PRECISIONS", "find_engine", "open_backend"]

BACKENDS = ("auto", "openvino", "onnxruntime")
PRECISIONS = ("auto", "fp32", "bf16")

ONNX_FILE = "model.onnx"


def find_engine(path: Path) -> Path:
    """The engine file that a path stands for: a folder's ``model.onnx``, or the file itself.

    Raises :class:`EngineError` where there is none.
    """
    if path.is_dir() or path.name == MANIFEST_FILE:
        folder = path if path.is_dir() else path.parent
        engine = folder / ONNX_FILE
        if not engine.is_file():
            raise EngineError(f"{folder}: holds no {ONNX_FILE}; give a folder that isa-export wrote")
        return engine
    if not path.exists():
        raise EngineError(f"{path}: no such file or folder; export one with isa-export --ckpt CHECKPOINT")
    if path.suffix != ".onnx":
        raise EngineError(f"{path}: '{path.suffix}' is no engine that this version opens; give a .onnx of isa-export")
    return path


def open_backend(path: Path, backend: str, device: str, precision: str) -> tuple[Backend, Manifest]:
    """Open an engine with the wanted backend, or the best that this machine has.

    "auto" takes ONNX Runtime where a GPU is asked for, else OpenVINO, else ONNX Runtime on the CPU.
    Raises :class:`InputError` for a name that is none, and what the backends raise.
    """
    if backend not in BACKENDS:
        raise InputError(f"backend '{backend}' is none of: {', '.join(BACKENDS)}")
    if precision not in PRECISIONS:
        raise InputError(f"precision '{precision}' is none of: {', '.join(PRECISIONS)}")
    if device not in ("auto", "cpu", "cuda") and not device.isdecimal():
        raise InputError(f"device '{device}' is none of: auto, cpu, cuda, a GPU's number")
    engine = find_engine(path)
    manifest = read_onnx_manifest(engine)
    beside = engine.with_name(MANIFEST_FILE)
    if engine != path and beside.is_file() and read_manifest(beside) != manifest:
        raise ManifestError(f"{beside}: describes another graph than {engine.name} beside it; export the model again")
    wants_gpu = device not in ("auto", "cpu")
    if backend == "auto":
        backend = _best_backend(wants_gpu)
    if backend == "openvino":
        from isa_deploy.runtime.backends.openvino import OpenVINOBackend

        return OpenVINOBackend(engine, manifest, "cpu" if device == "auto" else device, precision), manifest
    from isa_deploy.runtime.backends.onnxruntime import OnnxRuntimeBackend

    if precision not in ("auto", manifest.precision):
        raise InputError(
            f"ONNX Runtime computes in the graph's own type, {manifest.precision}, not in {precision}; "
            "use --backend openvino, or export in that precision"
        )
    return OnnxRuntimeBackend(engine, manifest, "cpu" if device == "auto" else device), manifest


def _best_backend(wants_gpu: bool) -> str:
    order = ("onnxruntime",) if wants_gpu else ("openvino", "onnxruntime")
    for name in order:
        if importlib.util.find_spec(name) is not None:
            return name
    raise BackendUnavailableError(
        "no engine library is installed; pip install 'isa-deploy[cpu]' (OpenVINO and ONNX Runtime)"
    )

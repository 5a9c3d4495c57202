"""From a path and a wish to an opened backend."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from isa_deploy.errors import BackendUnavailableError, EngineError, InputError, ManifestError
from isa_deploy.files import os_errors
from isa_deploy.manifest import MANIFEST_FILE, Manifest, read_manifest
from isa_deploy.runtime.backends.base import Backend
from isa_deploy.runtime.onnx_metadata import read_onnx_manifest
from isa_deploy.runtime.plan import PLAN_FILE, PLAN_SUFFIXES, plan_manifest, rebuild_command

__all__ = ["BACKENDS", "ONNX_FILE", "PRECISIONS", "SCHEDULES", "find_engine", "open_backend"]

BACKENDS = ("auto", "tensorrt", "openvino", "onnxruntime")
PRECISIONS = ("auto", "fp32", "bf16")
SCHEDULES = ("latency", "throughput")

ONNX_FILE = "model.onnx"


def find_engine(path: Path, backend: str = "auto", device: str = "auto") -> Path:
    """The engine file that a path stands for: itself, or the best of a folder for a backend and a device.

    A folder's plan is taken where a GPU and the plan's library are here and nothing else is asked for, or
    where the folder holds nothing else; its graph otherwise.  Raises :class:`EngineError` where there is no
    engine.
    """
    with os_errors(path, "look for the engine"):  # a name that is too long, a folder that may not be entered
        path.exists()
        (path / ONNX_FILE).exists()
    if path.is_dir() or path.name == MANIFEST_FILE:
        folder = path if path.is_dir() else path.parent
        graph, plan = folder / ONNX_FILE, folder / PLAN_FILE
        if plan.is_file() and (backend == "tensorrt" or not graph.is_file()):
            return plan
        if plan.is_file() and backend == "auto" and device != "cpu" and _runs_plans(plan, device):
            return plan
        if not graph.is_file():
            within = sorted(each.parent.name for each in folder.glob(f"*/{ONNX_FILE}"))
            if within:
                raise EngineError(f"{folder}: holds several exports ({', '.join(within)}); give one of these folders")
            raise EngineError(f"{folder}: holds no {ONNX_FILE} and no {PLAN_FILE}; give a folder that isa-export wrote")
        return graph
    if not path.exists():
        raise EngineError(f"{path}: no such file or folder; export one with isa-export --ckpt CHECKPOINT")
    if path.suffix not in (".onnx", *PLAN_SUFFIXES):
        raise EngineError(f"{path}: '{path.suffix}' is no engine; give a .onnx or a .plan of isa-export, or its folder")
    return path


def open_backend(
    path: Path, backend: str, device: str, precision: str, schedule: str, allow_engine_code: bool
) -> tuple[Backend, Manifest]:
    """Open an engine with the wanted backend, or the best that this machine has.

    "auto" takes TensorRT for a plan, and for a graph ONNX Runtime where a GPU is asked for, else OpenVINO,
    else ONNX Runtime on the CPU.  Raises :class:`InputError` for a name that is none, and what the backends
    raise.
    """
    if backend not in BACKENDS:
        raise InputError(f"backend '{backend}' is none of: {', '.join(BACKENDS)}")
    if precision not in PRECISIONS:
        raise InputError(f"precision '{precision}' is none of: {', '.join(PRECISIONS)}")
    if schedule not in SCHEDULES:
        raise InputError(f"schedule '{schedule}' is none of: {', '.join(SCHEDULES)}")
    if device not in ("auto", "cpu", "cuda") and not device.isdecimal():
        raise InputError(f"device '{device}' is none of: auto, cpu, cuda, a GPU's number")
    engine = find_engine(path, backend, device)
    if engine.suffix in PLAN_SUFFIXES:
        return _open_plan(engine, backend, device, precision, allow_engine_code)
    return _open_graph(engine, engine != path, backend, device, precision, schedule)


def _open_plan(
    plan: Path, backend: str, device: str, precision: str, allow_engine_code: bool
) -> tuple[Backend, Manifest]:
    if backend not in ("auto", "tensorrt"):
        raise InputError(f"{plan}: backend {backend} cannot run a plan; give the graph, {plan.stem}.onnx")
    if device == "cpu":
        raise InputError(f"{plan}: a plan runs on a GPU, not on device cpu; give the graph, {plan.stem}.onnx")
    manifest = plan_manifest(plan)
    if precision not in ("auto", manifest.float_type):
        raise InputError(
            f"{plan}: a plan computes in its own type, {manifest.types}, not in {precision}; export it in that one"
        )
    from isa_deploy.runtime.backends.tensorrt import TensorRTBackend

    return TensorRTBackend(plan, manifest, "cuda" if device == "auto" else device, allow_engine_code), manifest


def _open_graph(
    graph: Path, in_folder: bool, backend: str, device: str, precision: str, schedule: str
) -> tuple[Backend, Manifest]:
    if backend == "tensorrt":
        raise InputError(f"{graph}: TensorRT runs plans; build one with {rebuild_command(graph)}")
    manifest = read_onnx_manifest(graph)
    beside = graph.with_name(MANIFEST_FILE)
    # beside a plan the manifest also says what built it
    if in_folder and beside.is_file() and read_manifest(beside).model_copy(update={"engine": None}) != manifest:
        raise ManifestError(f"{beside}: describes another graph than {graph.name} beside it; export the model again")
    wants_gpu = device not in ("auto", "cpu")
    if backend == "auto":
        backend = _best_backend(wants_gpu)
    if backend == "openvino":
        from isa_deploy.runtime.backends.openvino import OpenVINOBackend

        on = "cpu" if device == "auto" else device
        return OpenVINOBackend(graph, manifest, on, precision, schedule), manifest
    from isa_deploy.runtime.backends.onnxruntime import OnnxRuntimeBackend

    if precision not in ("auto", manifest.float_type):
        raise InputError(
            f"ONNX Runtime computes in the graph's own type, {manifest.types}, not in {precision}; "
            "use --backend openvino, or export in that precision"
        )
    return OnnxRuntimeBackend(graph, manifest, "cpu" if device == "auto" else device), manifest


def _runs_plans(plan: Path, device: str) -> bool:
    """Whether the plan's manifest, its library, cuda-python and the GPU that is meant are here.

    Whether they fit the plan is said on opening.
    """
    if not plan.with_suffix(".json").is_file():
        return False  # the graph carries a manifest of its own
    from isa_deploy.runtime.backends.cuda import gpu_count, load_cuda
    from isa_deploy.runtime.backends.tensorrt_library import load_tensorrt

    manifest = plan_manifest(plan)
    if manifest.engine is None:
        return False
    try:
        load_tensorrt(manifest.engine.builder)
        return int(device if device.isdecimal() else 0) < gpu_count(load_cuda())
    except (BackendUnavailableError, EngineError):
        return False


def _best_backend(wants_gpu: bool) -> str:
    order = ("onnxruntime",) if wants_gpu else ("openvino", "onnxruntime")
    for name in order:
        if importlib.util.find_spec(name) is not None:
            return name
    raise BackendUnavailableError(
        "no engine library is installed; pip install 'isa-deploy[cpu]' (OpenVINO and ONNX Runtime)"
    )

"""Who takes part: what a worker is told to open."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from isa_deploy.errors import BackendUnavailableError, EngineError, InputError
from isa_deploy.manifest import Manifest
from isa_deploy.runtime.onnx_metadata import read_onnx_manifest
from isa_deploy.runtime.opening import BACKENDS, ONNX_FILE, find_engine
from isa_deploy.runtime.plan import PLAN_SUFFIXES, plan_manifest

__all__ = [
    "COMPARISONS",
    "Contestant",
    "Engine",
    "Product",
    "Shape",
    "TorchModel",
    "choose",
    "engine_manifest",
    "graph_of",
    "parse_schedule",
    "shape_words",
]

Shape: TypeAlias = tuple[int, int, int]
"""Frames in one call, height, width."""

Schedule: TypeAlias = Literal["latency", "throughput"]


def shape_words(shape: Shape) -> str:
    """``512x1024``, and ``4x512x1024`` where there are more frames than one."""
    return "x".join(map(str, shape if shape[0] > 1 else shape[1:]))


COMPARISONS = ("torch", "onnxruntime", "openvino", "tensorrt")


@dataclass(frozen=True)
class Engine:
    """An engine through a Segmenter; the fields are :meth:`isa_deploy.runtime.segmenter.Segmenter.open`'s."""

    path: str
    backend: str
    device: str
    precision: str
    schedule: Schedule
    allow_engine_code: bool


@dataclass(frozen=True)
class TorchModel:
    """The checkpoint in torch, float32, eager, on the CPU; it has to be the one with this SHA-256."""

    checkpoint: str
    sha256: str


@dataclass(frozen=True)
class Product:
    """The yardstick: a large product of this kind, in this arithmetic."""

    kind: Literal["convolution", "matrix product"]
    precision: str


Contestant: TypeAlias = Engine | TorchModel | Product


def parse_schedule(text: str) -> Schedule:
    """``latency`` or ``throughput``; raises :class:`InputError` for anything else."""
    if text == "latency":
        return "latency"
    if text == "throughput":
        return "throughput"
    raise InputError(f"schedule '{text}' is none of: latency, throughput")


def engine_manifest(engine: Path) -> Manifest:
    """The manifest of an engine file that :func:`find_engine` gave.  Raises as the manifest's readers."""
    return plan_manifest(engine) if engine.suffix in PLAN_SUFFIXES else read_onnx_manifest(engine)


def graph_of(engine: Path) -> Path | None:
    """The graph that an engine file is, or that lies beside it under the plan's or the usual name."""
    if engine.suffix not in PLAN_SUFFIXES:
        return engine
    for graph in (engine.with_suffix(".onnx"), engine.with_name(ONNX_FILE)):
        if graph.is_file():
            return graph
    return None


def choose(
    path: Path,
    backends: Sequence[str],
    comparisons: Sequence[str],
    checkpoint: Path | None,
    *,
    device: str,
    precision: str,
    schedule: Schedule,
    allow_engine_code: bool,
) -> list[Contestant]:
    """The contestants that a user asked for; the first is what the others are compared with.

    Raises :class:`InputError` for a name that is none or a checkpoint that is missing,
    :class:`BackendUnavailableError` where torch is, and :class:`EngineError` where there is no such engine.
    """
    for name in backends:
        if name not in BACKENDS:
            raise InputError(f"backend '{name}' is none of: {', '.join(BACKENDS)}")
    for name in comparisons:
        if name not in COMPARISONS:
            raise InputError(f"--compare '{name}' is none of: {', '.join(COMPARISONS)}")
    if checkpoint is not None and "torch" not in comparisons:
        raise InputError("--ckpt is what --compare torch runs; add that, or leave --ckpt out")
    chosen: list[Contestant] = []
    for name in backends or ["auto"]:
        find_engine(path, name, device)
        chosen.append(Engine(str(path), name, device, precision, schedule, allow_engine_code))
    for name in comparisons:
        if name == "torch":
            chosen.append(_torch_model(path, checkpoint, device))
            continue
        # ONNX Runtime computes in the graph's own type; to compare with it is no wish about its arithmetic
        own = precision if name == "openvino" else "auto"
        where = "cpu" if name == "openvino" else "auto" if name == "tensorrt" else device
        chosen.append(Engine(_file_for(path, name, device), name, where, own, schedule, allow_engine_code))
    return list(dict.fromkeys(chosen))


def _file_for(path: Path, backend: str, device: str) -> str:
    """What a library of a comparison opens: the path itself, or the graph beside the plan that it names."""
    engine = find_engine(path, backend, device)
    if backend == "tensorrt" or engine.suffix not in PLAN_SUFFIXES:
        return str(path)
    graph = graph_of(engine)
    if graph is None:
        raise EngineError(
            f"{engine}: --compare {backend} runs the graph, which is not beside the plan; put it there as {ONNX_FILE}"
        )
    return str(graph)


def _torch_model(path: Path, checkpoint: Path | None, device: str) -> TorchModel:
    if checkpoint is None:
        raise InputError(
            "--compare torch runs the checkpoint that the engine was exported from; name it with --ckpt FILE"
        )
    if not checkpoint.is_file():
        raise InputError(f"{checkpoint}: no such file; name the checkpoint that the engine was exported from")
    if importlib.util.find_spec("torch") is None:
        raise BackendUnavailableError(
            "--compare torch needs torch, which is not installed; pip install 'isa-deploy[export]'"
        )
    manifest = engine_manifest(find_engine(path, "auto", device))
    return TorchModel(str(checkpoint), manifest.source.sha256)

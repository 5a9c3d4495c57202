"""The real TensorRT-RTX, and plans that it builds from the exports of small and full-size networks.

TensorRT-RTX builds plans on a machine without a GPU.  ``make test`` fetches it into the virtual environment
(tests/genuine/fetch.py); the environment variable ISA_TENSORRT_RTX names another folder that holds the
packages tensorrt_rtx_libs and tensorrt_rtx_bindings.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from isa_deploy.export.tensorrt import BuiltPlan, PlanOptions, build_plan
from isa_deploy.manifest import Manifest, read_manifest
from isa_deploy.runtime.backends.tensorrt_library import TensorRTLibrary, load_tensorrt

PART = Path(sys.prefix) / "genuine-api" / "tensorrt-rtx-1.7"

Shape = tuple[int | None, int | None, int | None]
FREE: Shape = (None, None, None)


@dataclass(frozen=True)
class Export:
    """A network: a golden checkpoint by its name, or "full_r50" of standard widths with random weights.

    ``shared``: other tests export it too, proof and all, so it is taken from the ``exported`` fixture.  Else
    it is only traced: the proof would take longer than the trace.
    """

    network: str
    precision: str = "fp32"
    shape_nhw: Shape = FREE
    confidence: bool = False
    shared: bool = False

    def __str__(self) -> str:
        shape = "x".join("?" if side is None else str(side) for side in self.shape_nhw)
        return f"{self.network}-{self.precision}-{shape}" + ("-confidence" if self.confidence else "")


Graphs = Callable[[Export], Path]
Plans = Callable[..., BuiltPlan]


@pytest.fixture(scope="session")
def rtx_folder() -> Path:
    """The folder, for PYTHONPATH, that holds TensorRT-RTX."""
    chosen = os.environ.get("ISA_TENSORRT_RTX")
    folder = Path(chosen) if chosen else PART
    if not folder.is_dir():
        reason = PART.with_name(f"{PART.name}.unavailable")
        why = reason.read_text().strip() if reason.is_file() and not chosen else f"{folder} is not there"
        pytest.skip(
            f"no plan is built: {why}; python tests/genuine/fetch.py fetches TensorRT-RTX (95 MB), and "
            "ISA_TENSORRT_RTX=DIR names a folder that holds it"
        )
    return folder


@pytest.fixture(scope="session")
def rtx_library(rtx_folder: Path) -> TensorRTLibrary:
    """TensorRT-RTX, loaded, and otherwise not installed: other tests of this process do not find it."""
    before = set(sys.modules)
    sys.path.insert(0, str(rtx_folder))
    try:
        return load_tensorrt("tensorrt_rtx")
    finally:
        sys.path.remove(str(rtx_folder))
        for name in set(sys.modules) - before:
            if name.startswith("tensorrt_rtx"):
                del sys.modules[name]


@pytest.fixture(scope="session")
def rtx_graph(golden: Path, exported: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Graphs:
    """A function that exports a network once for all tests and workers, and gives a folder.

    The folder holds model.onnx and model.json.
    """
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if base.name.startswith("popen-") else base) / "graphs"
    shared.mkdir(exist_ok=True)

    def make(export: Export) -> Path:
        if export.shared:  # with the options in the words of the other tests, for the folder is named by them
            options: dict[str, Any] = {"precision": export.precision} if export.precision != "fp32" else {}
            options |= {"shape_nhw": export.shape_nhw} if export.shape_nhw != FREE else {}
            return exported(export.network, **options, **({"confidence": True} if export.confidence else {}))
        folder = shared / str(export).replace("?", "n")
        with (shared / f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "model.json").exists():
                folder.mkdir(exist_ok=True)
                _trace(export, golden, folder)
        return folder

    return make


def _trace(export: Export, golden: Path, folder: Path) -> None:
    """The middle of :func:`isa_deploy.export.pipeline.export`."""
    import torch

    from isa_deploy.export.graph import Normalisation, build_graph
    from isa_deploy.export.onnx import save_onnx, trace
    from isa_deploy.export.pipeline import fixed_windows, make_manifest
    from isa_deploy.models.checkpoint import build_network, read_checkpoint
    from isa_deploy.models.isanet import ISANet, ISANetConfig
    from isa_deploy.models.resnet import BackboneConfig

    full_size = export.network.startswith("full_r")
    checkpoint = read_checkpoint(golden / f"{'tiny_r50_whole_0x' if full_size else export.network}.pth")
    if full_size:
        torch.manual_seed(0)
        backbone = BackboneConfig(int(export.network.removeprefix("full_r")), 64, 64)
        network = ISANet(ISANetConfig(19, backbone, channels=512, isa_channels=256)).eval()
    else:
        network = build_network(checkpoint)
    manifest = make_manifest(checkpoint, export.precision, export.shape_nhw, export.confidence)
    normalisation = Normalisation(manifest.input.mean, manifest.input.std, swap_channels=checkpoint.to_rgb)
    outputs = ("labels", "logits", "confidence") if export.confidence else ("labels", "logits")
    graph = build_graph(network, normalisation, export.precision, outputs, fixed_windows(manifest))
    save_onnx(trace(graph, export.shape_nhw, export.precision), manifest, folder / "model.onnx")
    (folder / "model.json").write_text(manifest.to_json())


@pytest.fixture(scope="session")
def rtx_plan(rtx_library: TensorRTLibrary, rtx_graph: Graphs) -> Plans:
    """A function that builds a plan for a compute capability, once a process: ``rtx_plan(export, "8.9")``."""

    @cache
    def make(export: Export, compute_capability: str | None = "8.9") -> BuiltPlan:
        manifest, onnx = read_graph(rtx_graph(export))
        return build_plan(rtx_library, onnx, manifest, PlanOptions(compute_capability=compute_capability))

    return make


def read_graph(folder: Path) -> tuple[Manifest, bytes]:
    """The manifest and the ONNX file of a folder."""
    return read_manifest(folder / "model.json"), (folder / "model.onnx").read_bytes()


def rtx_environment(folder: Path) -> dict[str, Any]:
    """The environment of a process that finds TensorRT-RTX."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])}

"""Plans built over the stand-in for TensorRT, and what tests of the TensorRT backend hold its answers against.

A test module asks for them by ``pytest_plugins = ("standin_fixtures", "tensorrt_plans")``.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from conftest import Exporter
from standin_fixtures import STANDIN

from isa_deploy.export.plan_export import export_plan, find_place
from isa_deploy.export.tensorrt import PlanOptions
from isa_deploy.manifest import ShapeRange
from isa_deploy.runtime.segmenter import Segmenter

UInt8 = npt.NDArray[np.uint8]
Plans = Callable[[str], Path]
Open = Callable[..., Segmenter]

PACKAGES = ("standin", "tensorrt", "tensorrt_rtx", "cuda")


def shapes(*ends: tuple[int, int, int]) -> ShapeRange:
    """A profile from its least, best and largest N x H x W."""
    least, best, most = ends
    return ShapeRange(min_nhw=least, opt_nhw=best, max_nhw=most)


SMALL = shapes((1, 16, 16), (1, 64, 96), (3, 128, 160))
LARGE = shapes((1, 64, 64), (1, 256, 512), (1, 256, 512))
"""Two profiles: batches of small frames, and large frames one by one; each holds frames of the other."""


@dataclass(frozen=True)
class Recipe:
    """A golden checkpoint, how it is exported, and how its plan is built."""

    checkpoint: str
    export: dict[str, Any] = field(default_factory=dict)
    options: PlanOptions = field(default_factory=PlanOptions)
    target: Any = "tensorrt"


STREETS = "isanet_r18w16_streets"
FIXED = {"shape_nhw": (2, 64, 128), "confidence": True}
WHOLE = shapes((1, 16, 16), (1, 128, 256), (2, 300, 300))
WINDOW = shapes((1, 24, 24), (2, 97, 97), (2, 97, 97))
RECIPES = {
    "streets": Recipe(STREETS, options=PlanOptions(profiles=(LARGE, SMALL))),
    "half": Recipe(STREETS, {"precision": "fp16"}, PlanOptions(profiles=(SMALL,))),
    "fixed": Recipe(STREETS, FIXED),
    "portable": Recipe(STREETS, FIXED, PlanOptions(version_compatible=True)),
    "ampere": Recipe(STREETS, FIXED, PlanOptions(hardware_compatible=True)),
    "rtx": Recipe(STREETS, options=PlanOptions(profiles=(SMALL,)), target="rtx"),
    "whole": Recipe("tiny_r50_whole_0x", options=PlanOptions(profiles=(WHOLE,))),
    "slide": Recipe("tiny_r50_slide_0x_legacy", options=PlanOptions(profiles=(WINDOW,))),
    "windows": Recipe("tiny_r50_slide_0x_legacy", {"shape_nhw": (1, 129, 257)}),
}


@pytest.fixture(scope="session")
def graph(exported: Exporter) -> Plans:
    """A function that gives the folder of the graph that a plan was built from."""
    return lambda name: exported(RECIPES[name].checkpoint, **RECIPES[name].export)


@pytest.fixture(scope="session")
def plan(graph: Plans, tmp_path_factory: pytest.TempPathFactory) -> Plans:
    """A function that builds a plan once for all tests and workers, and gives it: ``plan("streets")``."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if base.name.startswith("popen-") else base) / "tensorrt-plans"
    shared.mkdir(exist_ok=True)

    @cache
    def make(name: str) -> Path:
        folder = shared / name
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "model.plan").exists():
                recipe = RECIPES[name]
                source = graph(name) / "model.onnx"
                with _another_gpu():
                    place = find_place(recipe.target, 0)
                    export_plan(source, folder, place=place, options=recipe.options)
        return folder / "model.plan"

    return make


@contextmanager
def _another_gpu() -> Iterator[None]:
    """A pretended GPU of its own, because a test that has one counts its calls and memory."""

    def take_out() -> dict[str, Any]:
        names = [name for name in sys.modules if name.partition(".")[0] in PACKAGES]
        return {name: sys.modules.pop(name) for name in names}

    kept = take_out()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(STANDIN)
        try:
            control = importlib.import_module("standin.control").Gpu()
            yield
            gc.collect()
            assert not control.violations, control.violations
        finally:
            take_out()
            sys.modules.update(kept)


class Reference:
    """A graph in ONNX Runtime, computed as the stand-in does: its answers equal to the last bit."""

    def __init__(self, folder: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, images: UInt8, *outputs: str) -> list[Any]:
        """The outputs for one image (H x W x 3) or several; of one image without the first axis."""
        name = self._session.get_inputs()[0].name
        if images.ndim == 4:
            return list(self._session.run(list(outputs), {name: images}))
        return [array[0] for array in self._session.run(list(outputs), {name: images[None]})]

    def labels(self, images: UInt8) -> UInt8:
        """The labels, uint8 H x W or N x H x W."""
        (labels,) = self(images, "labels")
        return np.asarray(labels, np.uint8)


References = Callable[[str], Reference]


@pytest.fixture(scope="session")
def reference(graph: Plans) -> References:
    """A function that gives ONNX Runtime's answers for the graph of a plan: ``reference("streets").labels(frame)``."""
    return cache(lambda name: Reference(graph(name)))


@pytest.fixture(scope="session")
def scene(golden: Path) -> UInt8:
    """A street, uint8 256 x 512 x 3."""
    picture = cv2.imread(str(golden / "scene_0.png"))
    assert picture is not None
    return np.asarray(picture, np.uint8)


@pytest.fixture(scope="session")
def frames(scene: UInt8) -> list[UInt8]:
    """Six parts of a street, each uint8 64 x 96 x 3."""
    return [np.ascontiguousarray(scene[y : y + 64, x : x + 96]) for y in (90, 170) for x in (20, 200, 400)]


@pytest.fixture
def opened(gpu: Any, plan: Plans) -> Iterator[Open]:
    """A function that opens a plan for frames as they are, until the test's end."""
    made: list[Segmenter] = []

    def make(name: str = "streets", **options: Any) -> Segmenter:
        made.append(Segmenter.open(plan(name), **{"resize": "none", **options}))
        return made[-1]

    yield make
    for segmenter in made:
        segmenter.close()


@pytest.fixture
def nothing_left(gpu: Any) -> Iterator[None]:
    """After the test all memory, streams, events and graphs have been given back."""
    yield
    if gpu.live_allocations() or gpu.live_handles():
        gc.collect()  # an exception's frames may hold some of it
    assert gpu.live_allocations() == []
    assert gpu.live_handles() == []


@dataclass(frozen=True)
class Copy:
    """One ``cudaMemcpyAsync``.  ``kind``: "HostToDevice" or another direction."""

    kind: str
    target: int
    source: int
    size: int
    stream: int


@pytest.fixture
def copies(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> list[Copy]:
    """Every copy that is queued from now on."""
    cuda = importlib.import_module("cuda.bindings.runtime")
    made: list[Copy] = []
    copy = cuda.cudaMemcpyAsync

    def record(target: int, source: int, size: int, kind: Any, stream: Any) -> Any:
        made.append(Copy(str(kind).rpartition("cudaMemcpy")[2], int(target), int(source), size, int(stream)))
        return copy(target, source, size, kind, stream)

    monkeypatch.setattr(cuda, "cudaMemcpyAsync", record)
    return made

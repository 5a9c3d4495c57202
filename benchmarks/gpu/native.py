"""The C++ runtime on the same plan: built here with TensorRT's headers, its labels those of Python, its time beside."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np

from gpu.context import StepContext
from gpu.not_run import NotRunError
from gpu.scenes import clip
from gpu.timing import alternate, ratio, summary
from gpu.zoo import frame_size
from isa_deploy.runtime.native import NativeLibrary, NativeSegmenter
from isa_deploy.runtime.segmenter import Segmenter

__all__ = ["run"]

RUNTIME = Path(__file__).resolve().parents[2] / "runtime"
FOLDERS = ("TENSORRT_INCLUDE_DIR", "TENSORRT_LIB_DIR")
ROUNDS = 100


def run(context: StepContext) -> None:
    """Record the share of equal labels and both times.  Raises :class:`NotRunError` where it cannot be built."""
    plan = context.folder / "plans" / "tensorrt" / context.model / "model.plan"
    if not plan.is_file():
        raise NotRunError(f"there is no plan of {context.model} by TensorRT, which is what the C++ runtime runs")
    library = NativeLibrary(_build(context.folder / "native"))
    frames = clip(frame_size(context.model, context.scale))
    with (
        Segmenter.open(plan, backend="tensorrt", device=0, resize="none") as python,
        NativeSegmenter(plan, library, backend="tensorrt", device=0, resize="none") as native,
    ):
        shares = [float((native.segment(frame) == python.segment(frame)).mean()) for frame in frames[:8]]
        labels_hw = np.empty(frames[0].shape[:2], np.uint8)
        times = alternate(
            {"C++": lambda: native.segment(frames[0], out=labels_hw), "Python": lambda: python.segment(frames[0])},
            ROUNDS,
        )
    context.record(
        agreement=min(shares),
        times={name: summary(seconds) for name, seconds in times.items()},
        python_over_native=ratio(times, "Python", "C++"),
    )
    if min(shares) != 1:
        raise RuntimeError(f"{min(shares):.4%} of the C++ runtime's labels are Python's on one of the frames")


def _build(folder: Path) -> Path:
    """libisa.so with its TensorRT backend beside it."""
    missing = [name for name in FOLDERS if not os.environ.get(name)]
    if missing:
        raise NotRunError(f"{' and '.join(missing)} must be set: they name TensorRT's headers and libraries for C++")
    for tool in ("cmake", "c++"):
        if shutil.which(tool) is None:
            raise NotRunError(f"{tool} is not installed, so the C++ runtime cannot be built")
    settings = [f"-D{name}={os.environ[name]}" for name in FOLDERS]
    json = importlib.util.find_spec("nlohmann_json")
    if json is not None and json.origin is not None:
        settings.append(f"-DISA_JSON_INCLUDE_DIR={Path(json.origin).parent / 'include'}")
    for command in (
        ["cmake", "-S", str(RUNTIME), "-B", str(folder), "-DISA_BUILD_TESTS=OFF", "-DISA_BUILD_STATIC=OFF", *settings],
        ["cmake", "--build", str(folder), "-j", str(os.cpu_count() or 1), "--target", "isa", "isa_tensorrt"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = [line for line in (done.stderr + done.stdout).splitlines() if "rror" in line] or ["no reason given"]
            raise NotRunError(f"the C++ runtime could not be built: {lines[0].strip()}")
    return folder / "libisa.so"

"""The C++ runtime against the bare engine and against Python, in one run.

    make cpp
    python benchmarks/native.py --engine out/streets --sizes 512x1024 --out results.json

The contestants take turns frame by frame, so that a busy machine slows all of them: OpenVINO alone giving logits,
OpenVINO alone giving its own labels, this runtime in C++ (through ctypes, some microseconds a call) and in Python.
Uint8 frames in host memory to uint8 labels in host memory.  Then four threads with a segmenter each in schedule
"throughput", against the requests that OpenVINO itself asks for on one compiled model; the time from opening to the
first labels, in processes of their own, with compiled models kept; the overlay of both languages; the libraries' sizes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "models" / "streets"))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import machine
from palette import street_colours, street_like_labels
from streetscenes import draw_scene

from isa_deploy.runtime.native import NativeLibrary, NativeSegmenter
from isa_deploy.runtime.palette import colorize, overlay
from isa_deploy.runtime.segmenter import Segmenter

UInt8 = npt.NDArray[np.uint8]
Way = Callable[[UInt8], object]

ROOT = Path(__file__).resolve().parents[1]
WARM_UP = 3
THREADS = 4

OPEN_TO_FIRST_LABEL = """
import sys, time
import numpy as np
from isa_deploy.runtime.native import NativeLibrary, NativeSegmenter
library = NativeLibrary(sys.argv[1])
frame = np.zeros((int(sys.argv[4]), int(sys.argv[5]), 3), np.uint8)
start = time.perf_counter()
with NativeSegmenter(sys.argv[2], library, backend="openvino", resize="none", cache_dir=sys.argv[3]) as native:
    opened = time.perf_counter()
    native.segment(frame)
    print((opened - start) * 1e3, (time.perf_counter() - start) * 1e3)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", type=Path, required=True, help="an artefact folder of isa-export")
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "runtime", help="where make cpp built")
    parser.add_argument("--sizes", nargs="+", default=["512x1024"])
    parser.add_argument("--frames", type=int, default=30, help="frames for each contestant")
    parser.add_argument("--parts", nargs="+", default=["frames", "threads", "open", "pictures", "sizes"])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    library = NativeLibrary(arguments.build / "libisa.so")
    record: dict[str, Any] = {"machine": machine(), "engine": arguments.engine.name, "frames": arguments.frames}
    for size in arguments.sizes:
        height, width = map(int, size.split("x"))
        if "frames" in arguments.parts:
            record[f"frames {size}"] = one_by_one(library, arguments.engine, (height, width), arguments.frames)
        if "threads" in arguments.parts:
            record[f"threads {size}"] = in_threads(library, arguments.engine, (height, width), arguments.frames)
        if "open" in arguments.parts:
            times = open_times(arguments.build / "libisa.so", arguments.engine, (height, width))
            record[f"open to first labels {size}, ms"] = times
    if "pictures" in arguments.parts:
        record["pictures 1024x2048, ms"] = pictures(library)
    if "sizes" in arguments.parts:
        record["stripped bytes"] = stripped_sizes(arguments.build)
    text = json.dumps(record, indent=2) + "\n"
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


def noise(size_hw: tuple[int, int], count: int) -> list[UInt8]:
    """Frames that are no one's street: the engine's time does not depend on them."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8) for _ in range(count)]


def bare_engine(engine: Path, output: str, schedule: str) -> Any:
    """One output of the graph, compiled as the runtimes compile it."""
    import openvino as ov

    core = ov.Core()
    model = core.read_model(engine / "model.onnx")
    bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    settings = {"INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32", "PERFORMANCE_HINT": schedule.upper()}
    return core.compile_model(ov.Model([model.output(output)], model.get_parameters()), "CPU", settings)


def bare_way(engine: Path, output: str) -> Way:
    """A request on frames where they lie, whose answer is left in its own memory."""
    request = bare_engine(engine, output, "latency").create_infer_request()

    def run(frame: UInt8) -> object:
        request.start_async({"image": frame[None]}, share_inputs=True)
        request.wait()
        return request

    return run


def one_by_one(library: NativeLibrary, engine: Path, size_hw: tuple[int, int], frames: int) -> dict[str, Any]:
    pictures_hwc = street_frames(size_hw)
    labels_hw = np.empty(size_hw, np.uint8)
    with (
        Segmenter.open(engine, backend="openvino", resize="none") as python,
        NativeSegmenter(engine, library, backend="openvino", resize="none") as native,
    ):
        ways: dict[str, Way] = {
            "engine, logits": bare_way(engine, python.manifest.outputs.logits),
            "C++": lambda frame: native.segment(frame, out=labels_hw),
            "engine, labels": bare_way(engine, python.manifest.outputs.labels),
            "Python": python.segment,
        }
        assert np.array_equal(native.segment(pictures_hwc[0]), python.segment(pictures_hwc[0]))
        times_ms: dict[str, list[float]] = {name: [] for name in ways}
        names = list(ways)
        for turn in range(frames + WARM_UP):
            frame = pictures_hwc[turn % len(pictures_hwc)]
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                start = time.perf_counter()
                ways[name](frame)
                if turn >= WARM_UP:
                    times_ms[name].append((time.perf_counter() - start) * 1e3)
    rows: dict[str, Any] = {
        name: {"median_ms": round(statistics.median(each), 3), "least_ms": round(min(each), 3)}
        for name, each in times_ms.items()
    }
    for base in ("engine, logits", "engine, labels", "Python"):
        pairs = [mine / theirs for mine, theirs in zip(times_ms["C++"], times_ms[base], strict=True)]
        rows[f"C++ as a share of {base}"] = {
            "median_of_pairs": round(statistics.median(pairs), 4),
            "of_least": round(min(times_ms["C++"]) / min(times_ms[base]), 4),
        }
    return rows


def street_frames(size_hw: tuple[int, int]) -> list[UInt8]:
    """Drawn street scenes: what is left to do on the logits depends on how many classes meet in a tile."""
    return [draw_scene(970_000 + number, *size_hw)[0] for number in range(4)]


def in_threads(library: NativeLibrary, engine: Path, size_hw: tuple[int, int], frames: int) -> dict[str, Any]:
    """Frames a second of four segmenters in four threads, against the engine with its own number of requests."""
    import openvino as ov

    pictures_hwc = street_frames(size_hw)
    segmenters = [
        NativeSegmenter(engine, library, backend="openvino", resize="none", schedule="throughput")
        for _ in range(THREADS)
    ]
    each = -(-frames // THREADS)

    def native_rate() -> float:
        def work(segmenter: NativeSegmenter) -> None:
            labels_hw = np.empty(size_hw, np.uint8)
            for number in range(each):
                segmenter.segment(pictures_hwc[number % len(pictures_hwc)], out=labels_hw)

        threads = [threading.Thread(target=work, args=(segmenter,)) for segmenter in segmenters]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return each * THREADS / (time.perf_counter() - start)

    def engine_rate(compiled: Any) -> float:
        queue = ov.AsyncInferQueue(compiled)
        for frame in pictures_hwc:
            queue.start_async({"image": frame[None]}, share_inputs=True)
        queue.wait_all()
        start = time.perf_counter()
        for number in range(each * THREADS):
            queue.start_async({"image": pictures_hwc[number % len(pictures_hwc)][None]}, share_inputs=True)
        queue.wait_all()
        return each * THREADS / (time.perf_counter() - start)

    compiled = {output: bare_engine(engine, output, "throughput") for output in ("logits", "labels")}
    native_rate()
    rates: dict[str, list[float]] = {"C++": [], "engine, logits": [], "engine, labels": []}
    for _ in range(3):
        rates["engine, logits"].append(engine_rate(compiled["logits"]))
        rates["C++"].append(native_rate())
        rates["engine, labels"].append(engine_rate(compiled["labels"]))
    for segmenter in segmenters:
        segmenter.close()
    shares = {
        base: round(statistics.median(mine / theirs for mine, theirs in zip(rates["C++"], rates[base], strict=True)), 3)
        for base in ("engine, logits", "engine, labels")
    }
    return {
        "frames_per_s": {name: [round(rate, 3) for rate in several] for name, several in rates.items()},
        "C++ as a share of": shares,
        "requests of the engine": len(ov.AsyncInferQueue(compiled["logits"])),
    }


def open_times(library: Path, engine: Path, size_hw: tuple[int, int]) -> dict[str, Any]:
    """Milliseconds from isa_open to the first labels, each in a process of its own."""
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as cache:
        for name, runs in (("first start", 1), ("later starts", 7)):
            opened, labelled = [], []
            for _ in range(runs):
                command = [sys.executable, "-c", OPEN_TO_FIRST_LABEL, str(library), str(engine), cache]
                command += [str(side) for side in size_hw]
                answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
                opened.append(float(answer[0]))
                labelled.append(float(answer[1]))
            rows[name] = {
                "open": {"median": round(statistics.median(opened), 1), "least": round(min(opened), 1)},
                "labels": {"median": round(statistics.median(labelled), 1), "least": round(min(labelled), 1)},
            }
    return rows


def pictures(library: NativeLibrary) -> dict[str, Any]:
    """The thread's own milliseconds for a picture of 1024 x 2048 into a ready array."""
    labels_hw, colours_rgb = street_like_labels(), street_colours()
    frame_hwc = noise((1024, 2048), 1)[0]
    out = np.empty_like(frame_hwc)
    ways: dict[str, Callable[[], object]] = {
        "overlay, C++": lambda: library.overlay(frame_hwc, labels_hw, colours_rgb, 0.5, out),
        "overlay, Python": lambda: overlay(frame_hwc, labels_hw, colours_rgb, 0.5, out),
        "overlay at 0.4, C++": lambda: library.overlay(frame_hwc, labels_hw, colours_rgb, 0.4, out),
        "overlay at 0.4, Python": lambda: overlay(frame_hwc, labels_hw, colours_rgb, 0.4, out),
        "colorize, C++": lambda: library.colorize(labels_hw, colours_rgb, out),
        "colorize, Python": lambda: colorize(labels_hw, colours_rgb, out),
        "copy of the picture": lambda: np.copyto(out, frame_hwc),
    }
    times_ms: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(40):
        for name, way in ways.items():
            start = time.thread_time()
            way()
            times_ms[name].append((time.thread_time() - start) * 1e3)
    return {
        name: {"median": round(statistics.median(each[5:]), 3), "least": round(min(each), 3)}
        for name, each in times_ms.items()
    }


def stripped_sizes(build: Path) -> dict[str, int]:
    """Bytes of the libraries without their symbol tables."""
    sizes = {}
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(build.glob("libisa*.so")):
            if path.name == "libisa_internals.so":
                continue
            copy = Path(folder) / path.name
            shutil.copyfile(path, copy)
            subprocess.run(["strip", str(copy)], check=True)
            sizes[path.name] = copy.stat().st_size
    return sizes


if __name__ == "__main__":
    main()

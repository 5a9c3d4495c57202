"""How fast labels become pictures: the ways that were tried for ``colorize`` and ``overlay``.

    python benchmarks/palette.py

One core, 1024 x 2048, 19 classes, a ready array for the result.  The ways take turns, so that a busy machine
slows all of them; times are the thread's own (other processes do not count, but their memory traffic does).
In each turn a way runs five times: the first finds its arrays in memory, where the other ways' have driven
them (``cold``), the others find them in the cache where it is large enough (``warm``); ``least`` is the
smallest of all, which a busy machine spoils least.  A plain copy of the picture stands beside them, for what
the memory of the machine costs, and so do the steps of an overlay, each alone over all strips: their sum is
what these libraries need at the least.  Prints a table and writes ``benchmarks/results/palette.json``.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from isa_deploy.runtime import palette
from isa_deploy.runtime.datasets import dataset_palette

UInt8 = npt.NDArray[np.uint8]
Way = Callable[[], object]

HEIGHT, WIDTH = 1024, 2048
CLASSES = 19
TURNS = 25
RUNS = 5
WANTED_MS = 1.5
RESULTS = Path(__file__).parent / "results" / "palette.json"
COPY = "copy of the picture"


def main() -> None:
    cv2.setNumThreads(1)
    labels_hw = street_like_labels()
    frame_hwc = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    ways = (
        {COPY: copy_of(frame_hwc)}
        | colour_ways(labels_hw)
        | overlay_ways(frame_hwc, labels_hw)
        | overlay_steps(frame_hwc, labels_hw)
    )
    runs_ms = take_turns(ways)
    copy_ms = float(np.median(runs_ms[COPY][:, 1:]))
    rows = []
    print(f"{'way':58} {'least ms':>8} {'warm ms':>8} {'cold ms':>8} {'warm, in copies':>16}")
    for way, runs in runs_ms.items():
        least, warm, cold = float(runs.min()), float(np.median(runs[:, 1:])), float(np.median(runs[:, 0]))
        rows.append(
            {"way": way, "least_ms": round(least, 3), "warm_ms": round(warm, 3), "cold_ms": round(cold, 3)}
            | {"warm_in_copies": round(warm / copy_ms, 2)}
        )
        print(f"{way:58} {least:8.2f} {warm:8.2f} {cold:8.2f} {warm / copy_ms:16.1f}")
    record = {
        "shape_hw": [HEIGHT, WIDTH],
        "classes": CLASSES,
        "turns": TURNS,
        "runs_in_a_turn": RUNS,
        "wanted_ms": WANTED_MS,
        "environment": environment(),
        "ways": rows,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {RESULTS}")


def street_like_labels() -> UInt8:
    """Regions with smooth borders, as a network's resized logits give them; 1 % void."""
    rng = np.random.default_rng(0)
    best = np.full((HEIGHT, WIDTH), -np.inf, dtype=np.float32)
    labels_hw = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    for label in range(CLASSES):
        logits = cv2.resize(rng.standard_normal((32, 64)).astype(np.float32), (WIDTH, HEIGHT))
        labels_hw[logits > best] = label
        np.maximum(best, logits, out=best)
    labels_hw[-HEIGHT // 100 :] = 255
    return labels_hw


def copy_of(frame_hwc: UInt8) -> Way:
    out = np.empty_like(frame_hwc)
    return lambda: np.copyto(out, frame_hwc)


def colour_ways(labels_hw: UInt8) -> dict[str, Way]:
    colours_rgb = street_colours()
    table_bgr = np.zeros((256, 3), dtype=np.uint8)
    table_bgr[:CLASSES] = colours_rgb[:, ::-1]
    out = np.empty((*labels_hw.shape, 3), dtype=np.uint8)
    planes = [np.empty_like(labels_hw) for _ in range(3)]
    single = palette._ColourTable(palette._bgrx(colours_rgb).view(np.int32), np.uint8)

    def singly() -> None:
        for colours, piece in single.strips(labels_hw):
            cv2.cvtColor(colours, cv2.COLOR_BGRA2BGR, out.reshape(1, -1, 3)[:, piece])

    def by_planes() -> None:
        for channel in range(3):
            cv2.LUT(labels_hw, np.ascontiguousarray(table_bgr[:, channel]), planes[channel])
        cv2.merge(planes, out)

    return {
        "colorize (isa_deploy)": lambda: palette.colorize(labels_hw, colours_rgb, out),
        "colorize (isa_deploy), a new picture each time": lambda: palette.colorize(labels_hw, colours_rgb),
        "colorize: single labels by cv2.LUT, in strips": singly,
        "colorize: cv2.applyColorMap": lambda: cv2.applyColorMap(labels_hw, table_bgr[:, None], out),
        "colorize: cv2.LUT a channel, cv2.merge": by_planes,
        "colorize: numpy.take": lambda: np.take(table_bgr, labels_hw, axis=0, out=out, mode="clip"),
    }


def overlay_ways(frame_hwc: UInt8, labels_hw: UInt8) -> dict[str, Way]:
    colours_rgb = street_colours()
    table_bgr = np.zeros((256, 1, 3), dtype=np.uint8)
    table_bgr[:CLASSES, 0] = colours_rgb[:, ::-1]
    colour, out = np.empty_like(frame_hwc), np.empty_like(frame_hwc)
    in_place = frame_hwc.copy()

    def whole_picture() -> None:
        cv2.addWeighted(frame_hwc, 0.5, cv2.applyColorMap(labels_hw, table_bgr, colour), 0.5, 0, out)

    def float_formula() -> None:
        np.copyto(out, frame_hwc * 0.5 + table_bgr[labels_hw, 0] * 0.5, casting="unsafe")

    def integers() -> None:
        palette.colorize(labels_hw, colours_rgb, colour)
        blended = frame_hwc.astype(np.uint16)
        blended += colour
        blended >>= 1
        np.copyto(out, blended, casting="unsafe")

    return {
        "overlay (isa_deploy)": lambda: palette.overlay(frame_hwc, labels_hw, colours_rgb, 0.5, out),
        "overlay (isa_deploy), a new picture each time": lambda: palette.overlay(frame_hwc, labels_hw, colours_rgb),
        "overlay (isa_deploy), into the frame itself": lambda: palette.overlay(
            in_place, labels_hw, colours_rgb, 0.5, in_place
        ),
        "overlay (isa_deploy), alpha 0.4": lambda: palette.overlay(frame_hwc, labels_hw, colours_rgb, 0.4, out),
        "overlay: cv2.applyColorMap, cv2.addWeighted": whole_picture,
        "overlay: colorize, whole-picture uint16 sums": integers,
        "overlay: mmsegmentation's formula in numpy": float_formula,
    }


def overlay_steps(frame_hwc: UInt8, labels_hw: UInt8) -> dict[str, Way]:
    table = palette._colour_table(palette._bgrx(street_colours()).tobytes())
    strip = palette.STRIP_PIXELS
    colours = np.zeros((1, strip, 4), dtype=np.uint8)
    packed = np.zeros((1, strip, 3), dtype=np.uint8)
    frames = frame_hwc.reshape(-1, strip * 3)
    outs = np.empty_like(frames)

    def look_up() -> None:
        for _ in table.strips(labels_hw):
            pass

    def pack() -> None:
        for _ in frames:
            cv2.cvtColor(colours, cv2.COLOR_BGRA2BGR, packed)

    def halve() -> None:
        for frame, out in zip(frames, outs, strict=True):
            np.right_shift(frame, 1, out=out)

    def add() -> None:
        for _ in frames:
            np.add(outs[0], packed.reshape(-1), out=outs[0])

    return {
        "a step of overlay: the colours looked up, 4 bytes a pixel": look_up,
        "a step of overlay: packed to 3 bytes": pack,
        "a step of overlay: the frame halved into the picture": halve,
        "a step of overlay: the colours added, in the cache": add,
    }


def street_colours() -> UInt8:
    streets = dataset_palette("cityscapes")
    assert streets is not None
    return np.array(streets.palette_rgb, dtype=np.uint8)


def take_turns(ways: dict[str, Way]) -> dict[str, npt.NDArray[np.float64]]:
    """Milliseconds of the calling thread for each way: turns x runs in a row."""
    runs_ms = {name: np.zeros((TURNS, RUNS)) for name in ways}
    for turn in range(TURNS):
        for name, way in ways.items():
            for run in range(RUNS):
                start = time.thread_time()
                way()
                runs_ms[name][turn, run] = (time.thread_time() - start) * 1e3
    return runs_ms


def environment() -> dict[str, str]:
    cpu, flags = platform.processor() or platform.machine(), ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        fields = dict(line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line)
        described = {name.strip(): value.strip() for name, value in fields.items()}
        cpu, flags = described.get("model name", cpu), described.get("flags", "")
    return {"cpu": cpu, "flags": flags, "opencv": cv2.__version__, "numpy": np.__version__, "threads": "1"}


if __name__ == "__main__":
    main()

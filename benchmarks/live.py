"""Ages of shown frames and memory over an hour of a simulated camera that is faster than the engine.

    python benchmarks/live.py --out benchmarks/results/live.json
    python benchmarks/live.py --engine models/streets/engine --size 128x256

90,000 frames (an hour at 25 frames/s) of a decoded clip come 6 times as fast, with an outage every 10,000, through
what --live runs: a thread that decodes, one that segments, one that draws.  The engine sleeps for 27 ms, or is a real
one with --engine.  Ages are given in the time that the engine took for a frame in the same run (median), and in the
time that it took for that very frame: a machine that stops for a while stops a sleeping engine too.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import machine

from isa_deploy.runtime.frame_ages import FrameAges
from isa_deploy.runtime.live import LiveSegmentation
from isa_deploy.runtime.live_source import ArrivedFrame, LiveSource, StreamError
from isa_deploy.runtime.palette import overlay
from isa_deploy.runtime.segmenter import Segmenter

UInt8 = npt.NDArray[np.uint8]

CAMERA = LiveSource("network", "simulated", "simulated camera", "simulated")
CLIP_FRAMES = 250
SAMPLES = 100  # of the memory
PALETTE_RGB = np.random.default_rng(0).integers(0, 256, (19, 3), dtype=np.uint8)


def clip(size_hw: tuple[int, int]) -> bytes:
    """Some seconds of H.264 in MPEG-TS: noise that moves."""
    height, width = size_hw
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "35", "g": "50"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(CLIP_FRAMES):
            moved = np.roll(noise, number, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(moved, format="bgr24")))
        container.mux(stream.encode(None))
    return file.getvalue()


class SimulatedCamera:
    """Connections to a camera that plays a clip over and over, so fast, and breaks off now and then."""

    def __init__(self, data: bytes, frames: int, interval_s: float, outage_every: int) -> None:
        self.sent = 0
        self._data = data
        self._frames = frames
        self._interval_s = interval_s
        self._outage_every = outage_every

    def open(self, source: LiveSource, wait: Callable[[float], bool]) -> SimulatedCamera:
        return self

    @property
    def over(self) -> bool:
        return self.sent >= self._frames

    def __enter__(self) -> SimulatedCamera:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __iter__(self) -> Iterator[ArrivedFrame]:
        begun_s, begun_at = time.monotonic(), self.sent
        while not self.over:
            with av.open(io.BytesIO(self._data), "r", format="mpegts") as container:
                for picture in container.decode(video=0):
                    due_s = begun_s + (self.sent - begun_at) * self._interval_s
                    time.sleep(max(0.0, due_s - time.monotonic()))
                    self.sent += 1
                    yield ArrivedFrame(picture, time.monotonic())
                    if self.over or self.sent % self._outage_every == 0:
                        raise StreamError(CAMERA, "simulated", "none")


def measure(segment: Callable[[UInt8], UInt8], camera: SimulatedCamera, frames: int) -> dict[str, object]:
    """Ages in engine times, and memory in MiB."""
    process = psutil.Process()
    engine_s = array("d")  # a list of floats would be memory that grows
    engine_of: dict[int, float] = {}  # a frame that is in use, by its identity
    memory_mib: list[float] = []

    def timed(frame_hwc: UInt8) -> UInt8:
        begun_s = time.monotonic()
        labels_hw = segment(frame_hwc)
        engine_s.append(time.monotonic() - begun_s)
        engine_of[id(frame_hwc)] = engine_s[-1]
        return labels_hw

    ages = FrameAges()
    shown_s = array("d")
    own = array("d")
    with LiveSegmentation(timed, CAMERA, camera.open) as live:
        begun_s = time.monotonic()
        while not camera.over:
            result = live.take(0.2)
            if result is not None:
                overlay(result.frame_hwc, result.labels_hw, PALETTE_RGB, 0.5)
                now_s = time.monotonic()
                ages.add(now_s, now_s - result.arrived_s)
                shown_s.append(now_s - result.arrived_s)
                own.append(shown_s[-1] / engine_of.pop(id(result.frame_hwc)))
            live.news()
            if camera.sent >= frames * len(memory_mib) / SAMPLES:
                memory_mib.append(process.memory_info().rss / 2**20)
        seconds = time.monotonic() - begun_s
        arrived, outages = live.arrived, live.outages
    whole = ages.whole()
    assert whole is not None
    unit_s = statistics.median(engine_s)

    def late(units: Iterable[float]) -> int:
        return sum(each >= 2 for each in units)

    return {
        "frames": arrived,
        "seconds": round(seconds, 1),
        "frames_per_s_of_the_camera": round(arrived / seconds, 1),
        "shown": whole.frames,
        "outages": outages,
        "engine_ms": {"median": round(unit_s * 1e3, 2), "max": round(max(engine_s) * 1e3, 2)},
        "engine_busy": round(sum(engine_s) / seconds, 3),
        "age_in_engine_times": {
            "median": round(whole.median_s / unit_s, 3),
            "p99": round(whole.p99_s / unit_s, 3),
            "p99.9": round(float(np.quantile(shown_s, 0.999)) / unit_s, 3),
            "max": round(whole.max_s / unit_s, 3),
        },
        "age_in_own_engine_times": {
            "p99": round(float(np.quantile(own, 0.99)), 3),
            "p99.9": round(float(np.quantile(own, 0.999)), 3),
            "max": round(max(own), 3),
        },
        "frames_of_two_engine_times_or_more": late(age_s / unit_s for age_s in shown_s),
        "frames_of_two_own_engine_times_or_more": late(own),
        "memory_mib": {
            "at_1_percent": round(memory_mib[1], 1),
            "at_10_percent": round(memory_mib[10], 1),
            "at_50_percent": round(memory_mib[50], 1),
            "end": round(memory_mib[-1], 1),
        },
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=90_000)
    parser.add_argument("--speed", type=float, default=6, help="times as fast as 25 frames/s")
    parser.add_argument("--outage-every", type=int, default=10_000, metavar="FRAMES")
    parser.add_argument("--engine-ms", type=float, default=27, help="of the engine that sleeps")
    parser.add_argument("--engine", type=Path, help="a real one instead")
    parser.add_argument("--size", default="120x160", metavar="HxW")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    height, width = (int(side) for side in arguments.size.split("x"))
    labels_hw = np.zeros((height, width), np.uint8)

    def asleep(frame_hwc: UInt8) -> UInt8:
        time.sleep(arguments.engine_ms / 1e3)
        return labels_hw

    camera = SimulatedCamera(
        clip((height, width)), arguments.frames, 1 / (25 * arguments.speed), arguments.outage_every
    )
    with ExitStack() as stack:
        segment: Callable[[UInt8], UInt8] = asleep
        what = f"an engine that sleeps for {arguments.engine_ms:g} ms"
        if arguments.engine is not None:
            segmenter = stack.enter_context(Segmenter.open(arguments.engine, resize="none"))
            segment = segmenter.segment
            segment(np.zeros((height, width, 3), np.uint8))
            what = f"{segmenter.manifest.architecture}, {segmenter.backend_name} {segmenter.precision}"
        row = {
            "engine": what,
            "size_hw": [height, width],
            "camera_times_25_per_s": arguments.speed,
            **measure(segment, camera, arguments.frames),
        }
    print(json.dumps(row, indent=1))
    if arguments.out is not None:
        record: dict[str, object] = {"what": "an hour of a camera at 25 frames/s, accelerated", "machine": machine()}
        rows = json.loads(arguments.out.read_text())["rows"] if arguments.out.is_file() else []
        kept = [each for each in rows if each["engine"] != what]
        arguments.out.write_text(json.dumps({**record, "rows": [*kept, row]}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

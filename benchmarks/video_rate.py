"""How much of the bare engine's rate a video keeps from file to file.

    python benchmarks/video_rate.py --engine engines/r50 --engine engines/streets

For each engine, in one process and on one opened engine, in turns, so that a busy or drifting machine slows both:

- bare: the frames of the clip, decoded beforehand, given to the backend at the network's input, as many in flight as
  it takes, and nothing made of its answers;
- video: what ``isa-infer clip.mp4`` does: decode, infer, labels at the frame's size, overlay, encode, files finished.

The share is the median of the rounds' video rate over bare rate.  Each round also tells how many processor seconds a
frame took on either way: what the video's share must lose at least where engine and video share the cores.  Prints a
table and writes ``benchmarks/results/video_rate.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "models" / "streets"))
from machine import machine
from streetscenes import draw_video

from isa_deploy.cli.inference import Inference, LargeResult
from isa_deploy.cli.interruption import Interruption
from isa_deploy.cli.results import products
from isa_deploy.cli.sources import Source, find_sources
from isa_deploy.cli.tally import Tally
from isa_deploy.cli.video_options import VideoOptions
from isa_deploy.runtime.backends.base import Pending
from isa_deploy.runtime.segmenter import Segmenter
from isa_deploy.runtime.video import VideoReader
from isa_deploy.runtime.video_writer import VideoWriter

UInt8 = npt.NDArray[np.uint8]

RESULTS = Path(__file__).parent / "results" / "video_rate.json"
SEED = 960_001
FPS = 15
WANTED_SHARE = 0.95
LEAST_FRAMES, MOST_FRAMES = 10, 200


class Silent:
    """Progress that nobody sees."""

    def begin(self, title: str) -> None: ...

    def advance(self, part: float | None, count: int, things: str = "frames") -> None: ...

    def end(self, result: str) -> None: ...

    def note(self, line: str) -> None: ...

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None: ...


class NoLargePictures:
    """Only videos come."""

    def takes(self, path: Path) -> bool:
        return False

    def infer(self, source: Source) -> LargeResult:
        raise NotImplementedError


def write_clip(path: Path, frames: int, size_hw: tuple[int, int]) -> None:
    with VideoWriter(path, Fraction(1, FPS), Fraction(FPS)) as writer:
        for number, (frame_hwc, _) in enumerate(draw_video(SEED, frames, *size_hw, fps=FPS)):
            writer.write(frame_hwc, number)


def bare(segmenter: Segmenter, frames: Sequence[UInt8]) -> None:
    backend = segmenter._backend
    outputs = segmenter.manifest.outputs
    wanted = [outputs.labels if backend.fast_argmax else outputs.logits]
    under_way: deque[Pending] = deque()
    for frame_hwc in map(np.ascontiguousarray, frames):
        while len(under_way) > backend.capacity:  # one waits at the door
            under_way.popleft().wait()
        under_way.append(backend.start(frame_hwc[None], wanted))
    for pending in under_way:
        pending.wait()


def video(segmenter: Segmenter, clip: Path, out: Path) -> None:
    wanted = products(segmenter.manifest.classes, 0.5, legend=False, mask=False, labels=False)
    with ExitStack() as stack:
        interruption = stack.enter_context(Interruption())
        Inference(segmenter, wanted, out, None, Silent(), interruption, Tally(), VideoOptions(), NoLargePictures()).run(
            find_sources([str(clip)])
        )


def timed(run: Callable[[], None], frames: int) -> tuple[float, float]:
    """Frames/s, and processor seconds a frame."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return frames / (time.perf_counter() - wall), (time.process_time() - cpu) / frames


def measure(engine: Path, size_hw: tuple[int, int], seconds: float, rounds: int, backend: str) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory() as folder,
        Segmenter.open(engine, resize="none", schedule="throughput", backend=backend) as segmenter,
        # isa-infer's default
        Segmenter.open(engine, resize="none", backend=backend) as infer,
    ):
        clip, out = Path(folder) / "clip.mp4", Path(folder) / "out"
        out.mkdir()
        warm = [frame_hwc for frame_hwc, _ in draw_video(SEED, 2 + segmenter.capacity, *size_hw, fps=FPS)]
        bare(segmenter, warm)
        bare(infer, warm[:2])
        rate, _ = timed(lambda: bare(segmenter, warm), len(warm))
        frames = round(min(max(rate * seconds, LEAST_FRAMES), MOST_FRAMES))
        write_clip(clip, frames, size_hw)
        with VideoReader(clip) as reader:
            decoded = [frame.frame_hwc for frame in reader]
        turns = []
        for number in range(rounds):
            ways: list[tuple[str, Callable[[], None]]] = [
                ("bare", lambda: bare(segmenter, decoded)),
                ("video", lambda: video(infer, clip, out)),
            ]
            # each way is as often the first as the second
            turns.append({name: timed(run, frames) for name, run in (ways if number % 2 else ways[::-1])})
        share = statistics.median(turn["video"][0] / turn["bare"][0] for turn in turns)
        return {
            "engine": f"{segmenter.manifest.architecture}, {segmenter.backend_name} {segmenter.precision}",
            "size_hw": list(size_hw),
            "frames": frames,
            "in_flight": segmenter.capacity,
            "share_of_bare_engine": round(share, 4),
            "rounds": [
                {
                    f"{name}_{figure}": round(value, 4)
                    for name, pair in turn.items()
                    for figure, value in zip(("frames_s", "cpu_s_a_frame"), pair, strict=True)
                }
                for turn in turns
            ],
        }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", type=Path, action="append", required=True)
    parser.add_argument("--size", default="512x1024", metavar="HxW")
    parser.add_argument("--seconds", type=float, default=20, help="Of one way in one round, about.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    height, width = (int(side) for side in arguments.size.split("x"))
    rows = []
    print(f"{'engine':44} {'bare':>10} {'video':>10} {'share':>7}   wanted {WANTED_SHARE}")
    for engine in arguments.engine:
        row = measure(engine, (height, width), arguments.seconds, arguments.rounds, arguments.backend)
        rows.append(row)
        rates = {
            name: statistics.median(turn[f"{name}_frames_s"] for turn in row["rounds"]) for name in ("bare", "video")
        }
        print(
            f"{row['engine']:44} {rates['bare']:7.2f}/s {rates['video']:8.2f}/s {row['share_of_bare_engine']:7.3f}",
            flush=True,
        )
    record = {"what": "isa-infer on a clip against the bare engine", "machine": machine(), "rows": rows}
    arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()

"""What a frame of four times the pixels costs, and how much memory isa-infer takes for a video of it.

    python benchmarks/scaling.py --engine out/r50 --out benchmarks/results/scaling.json

Frames of both sizes in turn through one Segmenter, so that a machine whose speed drifts does not decide; the
ratio is the median of the rounds'.  Then isa-infer as a process of its own on drawn videos of two lengths:
its peak resident memory must not depend on the length.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import machine

from isa_deploy.runtime.segmenter import Segmenter
from isa_deploy.runtime.video_writer import VideoWriter

SMALL, LARGE = (512, 1024), (1024, 2048)

# not getrusage's figure alone, which begins with what the parent process held
MEASURED = """
import sys
from isa_deploy.bench.memory import peak_mib
from isa_deploy.cli.infer import main
try:
    main()
finally:
    print("peak", round(peak_mib()), file=sys.stderr)
"""


def time_sizes(engine: Path, rounds: int) -> dict[str, object]:
    """Median milliseconds of both sizes and the median ratio of a round's."""
    frames = {size: np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8) for size in (SMALL, LARGE)}
    times: dict[tuple[int, int], list[float]] = {SMALL: [], LARGE: []}
    with Segmenter.open(engine, resize="none") as segmenter:
        label = f"{segmenter.manifest.architecture}, {segmenter.backend_name} {segmenter.precision}"
        for _ in range(rounds + 1):
            for size, frame in frames.items():
                started = time.perf_counter()
                segmenter.segment(frame)
                times[size].append((time.perf_counter() - started) * 1e3)
    small, large = times[SMALL][1:], times[LARGE][1:]
    return {
        "what": label,
        "512x1024_ms": round(statistics.median(small), 1),
        "1024x2048_ms": round(statistics.median(large), 1),
        "ratio": round(statistics.median(b / a for a, b in zip(small, large, strict=True)), 3),
    }


def video_memory(engine: Path, frames: int) -> int:
    """Peak resident memory, MiB, of isa-infer on a 1024 x 2048 video of so many frames."""
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        writer = VideoWriter(clip, time_base=Fraction(1, 15), frame_rate=Fraction(15))
        picture = np.random.default_rng(0).integers(0, 256, (*LARGE, 3), dtype=np.uint8)
        for number in range(frames):
            writer.write(np.roll(picture, number * 8, axis=1), number)
        writer.close()
        command = [sys.executable, "-c", MEASURED, str(clip), "--engine", str(engine), "--out", f"{folder}/out"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    (peak,) = (line.split()[1] for line in done.stderr.splitlines() if line.startswith("peak "))
    return int(peak)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, nargs=2, default=(2, 6))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    record = time_sizes(arguments.engine, arguments.rounds)
    record["video_peak_mib"] = {str(n): video_memory(arguments.engine, n) for n in arguments.frames}
    print(json.dumps(record, indent=1))
    record["machine"] = machine()
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

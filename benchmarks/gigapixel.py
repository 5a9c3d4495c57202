"""What a picture of a gigapixel takes: memory, time, and what a kill in the middle costs.

    python benchmarks/gigapixel.py --engine engines/streets --out benchmarks/results/gigapixel.json

Draws a map of street scenes (tiled GeoTIFF, JPEG inside), then, each as a process of its own whose peak resident memory
is asked of the system:

- ``io``: reading, journal and writing alone, with labels that cost nothing;
- ``infer``: isa-infer on it;
- ``killed``: isa-infer on a smaller one (``--part``), killed with SIGKILL in the middle, run again, and compared with a
  run that nobody killed.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "models" / "streets"))
from machine import machine
from streetscenes import Scene

TILE, SCENE_HW, SCENES = 512, (1024, 2048), 6
GROUND_M = 0.05

PEAK = """
import re, sys
from pathlib import Path
def peak():
    # not getrusage's ru_maxrss, which begins with what the parent process held
    kib = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
    print("peak", kib >> 10, file=sys.stderr)
"""

INFER = f"""{PEAK}
from isa_deploy.cli.infer import main
try: main()
finally: peak()
"""

IO = f"""{PEAK}
import time
from isa_deploy.manifest import ClassesSpec
from isa_deploy.runtime.raster_reader import open_large_picture
from isa_deploy.runtime.raster_writer import write_label_tiff
from isa_deploy.runtime.tile_journal import TileJournal
from isa_deploy.runtime.tiling import TileGrid, cut_axis
path, out = Path(sys.argv[1]), Path(sys.argv[2])
classes = ClassesSpec(names=tuple(map(str, range(16))), palette_rgb=tuple((i * 16, 0, 0) for i in range(16)))
seconds = dict(read=0.0, journal=0.0, write=0.0)
def timed(what, call):
    begun = time.perf_counter()
    try: return call()
    finally: seconds[what] += time.perf_counter() - begun
with open_large_picture(path) as picture:
    grid = TileGrid(*(cut_axis(length, 1024, 256, "tiles") for length in picture.size_hw))
    with TileJournal(out / "journal", grid, {{}}) as journal:
        for row, rows in enumerate(grid.rows.blocks):
            frame_hwc = timed("read", lambda: picture.read_rows(*rows))
            labels_hw = frame_hwc[:, :, 1] >> 4
            for col, cols in enumerate(grid.cols.blocks):
                block = labels_hw[:, slice(*cols)]
                timed("journal", lambda: journal.add(row * len(grid.cols.blocks) + col, block))
        strips = lambda: (journal.region(rows, (0, picture.size_hw[1])) for rows in grid.rows.blocks)
        timed("write", lambda: write_label_tiff(
            out / "labels.tif", strips, picture.size_hw, classes, georeference=picture.georeference))
print(*("%s %.1f" % each for each in seconds.items()), file=sys.stderr)
peak()
"""


def draw_map(path: Path, height: int, width: int) -> None:
    """Street scenes side by side, every other one mirrored, as a tiled GeoTIFF."""
    scenes = [Scene(seed).render(*SCENE_HW)[0] for seed in range(SCENES)]
    scenes += [np.ascontiguousarray(scene[:, ::-1]) for scene in scenes]
    scene_h, scene_w = SCENE_HW
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=width,
        height=height,
        count=3,
        dtype="uint8",
        tiled=True,
        blockxsize=TILE,
        blockysize=TILE,
        compress="jpeg",
        photometric="ycbcr",
        jpeg_quality=90,
        bigtiff="IF_SAFER",
        crs="EPSG:25832",
        transform=from_origin(500_000, 5_500_000, GROUND_M, GROUND_M),
    ) as file:
        for top in range(0, height, scene_h):
            row = [scenes[(top // scene_h * 5 + left) % len(scenes)] for left in range(-(-width // scene_w))]
            band = np.concatenate(row, axis=1)[: height - top, :width, ::-1]
            file.write(
                np.ascontiguousarray(band.transpose(2, 0, 1)), window=Window(0, top, width, min(scene_h, height - top))
            )


def run(program: str, *arguments: str) -> dict[str, object]:
    """A process: its seconds, its peak resident memory in MiB, and what else it says of itself."""
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, object] = {"seconds": round(time.perf_counter() - begun, 1)}
    found["peak_mib"] = int(re.findall(r"^peak (\d+)$", done.stderr, re.MULTILINE)[0])
    found |= {f"{name}_s": float(value) for name, value in re.findall(r"\b(read|journal|write) ([\d.]+)", done.stderr)}
    return found


def infer(picture: Path, engine: Path, out: Path) -> dict[str, object]:
    """isa-infer in a process of its own."""
    found = run(INFER, str(picture), "--engine", str(engine), "--out", str(out), "--tiling", "tiles")
    report = json.loads((out / f"{picture.stem}_tiles.json").read_text(encoding="utf-8"))
    names = (
        "size_hw",
        "tile_hw",
        "halo",
        "batch",
        "tiles",
        "resumed_tiles",
        "engine_seconds",
        "engine_share",
        "backend",
    )
    return found | {name: report[name] for name in names} | {"precision": report["precision"]}


def kill_in_the_middle(picture: Path, engine: Path, folder: Path) -> dict[str, object]:
    """A run that is killed half-way and run again, against one that is not."""
    whole = infer(picture, engine, folder / "whole")
    out = folder / "killed"
    command = [str(picture), "--engine", str(engine), "--out", str(out), "--tiling", "tiles"]
    with subprocess.Popen([sys.executable, "-c", INFER, *command], stderr=subprocess.DEVNULL) as process:
        time.sleep(float(str(whole["seconds"])) / 2)
        process.send_signal(signal.SIGKILL)
    resumed = infer(picture, engine, out)
    name = f"{picture.stem}_labels.tif"
    return {
        "whole": whole,
        "resumed": resumed,
        "same_bytes": (folder / "whole" / name).read_bytes() == (out / name).read_bytes(),
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", type=Path)
    parser.add_argument("--size", type=int, nargs=2, default=(30000, 40000), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--part", type=int, nargs=2, default=(5000, 6000), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    record: dict[str, object] = {"machine": machine(), "size_hw": arguments.size}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        picture, part = folder / "map.tif", folder / "part.tif"
        draw_map(picture, *arguments.size)
        record["picture_mib"] = picture.stat().st_size >> 20
        record["io"] = {"size_hw": arguments.size} | run(IO, str(picture), str(folder))
        print(json.dumps(record, indent=1), flush=True)
        if arguments.engine is not None:
            draw_map(part, *arguments.part)
            record["killed"] = kill_in_the_middle(part, arguments.engine, folder)
            print(json.dumps(record["killed"], indent=1), flush=True)
            record["infer"] = infer(picture, arguments.engine, folder / "out")
            print(json.dumps(record["infer"], indent=1), flush=True)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Frames a second of int8 beside the float32 graph of the same checkpoint and torch float32 eager, in one run.

    python benchmarks/int8_speed.py --ckpt r50.pth --engine out/r50 --size 512x1024

``out/r50`` is the float32 export of the checkpoint.  Its graph is calibrated on drawn scenes and quantised as
isa-export --int8 does it, the first and the last convolution wide; there is no search, because random weights have no
accuracy to keep.  Each round runs, in turn: torch (network, resize, argmax, as mmsegmentation does), OpenVINO in
float32, OpenVINO in int8, on a uint8 frame in host memory to uint8 labels in host memory; where the CPU has
bfloat16, also float32's graph and int8's in it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import cv2
import onnx
import onnx_ir as ir
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "models" / "streets"))
from machine import machine
from streetscenes.scene import draw_scene

from isa_deploy.export.activation_ranges import METHODS
from isa_deploy.export.calibration import collect
from isa_deploy.export.calibration_frames import calibration_frames
from isa_deploy.export.onnx import save_onnx
from isa_deploy.export.quantisation import calibrated_tensors, convolutions, quantise, split_concatenations
from isa_deploy.export.reference import Reference
from isa_deploy.manifest import QuantisationSpec
from isa_deploy.models.checkpoint import build_network, read_checkpoint
from isa_deploy.runtime.backends.openvino import cpu_has_bf16
from isa_deploy.runtime.onnx_metadata import read_onnx_manifest
from isa_deploy.runtime.segmenter import Segmenter

RANGES = "percentile 99.99"


def write_int8(engine: Path, size_hw: tuple[int, int], frames: int, folder: Path) -> Path:
    """The int8 graph of a float32 export, in ``folder``."""
    manifest = read_onnx_manifest(engine)
    model = onnx.load(engine)
    split_concatenations(model)
    pictures = folder / "calibration"
    pictures.mkdir()
    for seed in range(frames):
        cv2.imwrite(str(pictures / f"{seed:03d}.png"), draw_scene(seed, *size_hw)[0])
    # the frames as they were drawn, and not at the test scale
    shown = calibration_frames(
        pictures, frames, manifest.model_copy(update={"input": manifest.input.model_copy(update={"resize": None})})
    )
    plain = folder / "float.onnx"
    onnx.save(model, plain)
    histograms = collect(plain, calibrated_tensors(model), shown, None, lambda done, total: None)
    names = convolutions(model)
    wide = (names[0], names[-1])
    quantised = quantise(model, {name: METHODS[RANGES](each) for name, each in histograms.items()}, wide)
    spec = QuantisationSpec(rest="fp32", ranges=RANGES, frames=frames, layers=len(names) - 2, kept=wide)
    path = folder / "model.onnx"
    described = manifest.model_copy(update={"precision": "int8", "quantisation": spec})
    save_onnx(ir.from_proto(quantised), described, path)
    return path


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ckpt", type=Path, required=True)
    parser.add_argument("--engine", type=Path, required=True)
    parser.add_argument("--size", default="512x1024", metavar="HxW")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--frames", type=int, default=8, help="to calibrate with")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "int8_speed.json")
    arguments = parser.parse_args()
    height, width = (int(side) for side in arguments.size.split("x"))
    checkpoint = read_checkpoint(arguments.ckpt)
    floats = arguments.engine / "model.onnx"
    if read_onnx_manifest(floats).source.sha256 != checkpoint.sha256:
        raise SystemExit(f"{floats} was not exported from {arguments.ckpt}")
    reference = Reference(build_network(checkpoint), checkpoint)
    frame = draw_scene(900_000, height, width)[0]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        int8 = write_int8(floats, (height, width), arguments.frames, Path(folder))

        def opened(path: Path, precision: str) -> Callable[[], object]:
            segmenter = Segmenter.open(path, backend="openvino", device="cpu", precision=precision, resize="none")
            stack.enter_context(segmenter)
            return lambda: segmenter.segment(frame)

        ways: dict[str, Callable[[], object]] = {
            "torch fp32 eager": lambda: reference.full_logits(frame, (height, width))[0].argmax(1).to(torch.uint8),
            "openvino fp32": opened(floats, "fp32"),
            "openvino int8": opened(int8, "fp32"),
        }
        if cpu_has_bf16():
            ways |= {"openvino bf16": opened(floats, "bf16"), "openvino int8, rest bf16": opened(int8, "bf16")}
        times: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(arguments.rounds + 2):  # OpenVINO's second call is still slower
            for name, run in ways.items():
                started = time.perf_counter()
                run()
                if number >= 2:
                    times[name].append(time.perf_counter() - started)
    best_int8 = min((name for name in ways if "int8" in name), key=lambda name: statistics.median(times[name]))
    rest = [name for name in ways if "int8" not in name]
    record = {
        "machine": machine(),
        "network": checkpoint.config.name,
        "size_hw": [height, width],
        "rounds": arguments.rounds,
        "median_ms": {name: round(statistics.median(each) * 1e3, 1) for name, each in times.items()},
        "least_ms": {name: round(min(each) * 1e3, 1) for name, each in times.items()},
        "int8": best_int8,
        "int8_over": {
            name: round(statistics.median(a / b for a, b in zip(times[name], times[best_int8], strict=True)), 2)
            for name in rest
        },
        "int8_over_by_least": {name: round(min(times[name]) / min(times[best_int8]), 2) for name in rest},
    }
    print(json.dumps(record, indent=2))
    arguments.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()

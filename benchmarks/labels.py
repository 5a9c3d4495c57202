"""From logits at stride 8 to labels of a picture's size: in the runtime, in OpenVINO, in ONNX Runtime.

    python benchmarks/labels.py [model.onnx of the demo model]

Without a test scale there is one resize, with one there are two (to the network's size, then to the
picture's).  In turn in one process: isa_deploy.runtime.assemble (numpy, one thread), the same with no class
left out, and a graph of Resize and ArgMax in each engine.  Medians of the rounds, in milliseconds.

Random logits are the worst that can be met: every class can win everywhere.  With the demo model's graph,
drawn street scenes are measured too.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime
import openvino
import torch
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "models" / "streets"))
from machine import machine
from streetscenes import draw_scene

from isa_deploy.runtime import assemble
from isa_deploy.runtime.assemble import LogitsGrid, labels_from_logits
from isa_deploy.runtime.resample import bilinear

Float32 = npt.NDArray[np.float32]

CASES = (
    (19, (256, 512), (512, 1024)),
    (19, (512, 1024), (512, 1024)),
    (19, (1024, 1820), (1080, 1920)),
    (19, (1024, 2048), (1024, 2048)),
    (150, (512, 683), (768, 1024)),
)
SCENES = ((3, (512, 1024)), (3, (1024, 2048)), (11, (512, 1024)), (11, (1024, 2048)))
"""Seeds of street scenes, and their sizes."""
ROUNDS = 12
RESULT = Path(__file__).resolve().parent / "results" / "labels.json"


class Tail(nn.Module):
    """Logits to labels with one resize, or two where the sizes differ."""

    def __init__(self, network_hw: tuple[int, int], picture_hw: tuple[int, int]) -> None:
        super().__init__()
        self.sizes = [network_hw] if network_hw == picture_hw else [network_hw, picture_hw]

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        for size in self.sizes:
            logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        return logits.argmax(1).to(torch.uint8)


def random_logits(classes: int, network_hw: tuple[int, int]) -> Float32:
    """Logits at stride 8, 1 x C x h x w."""
    shape = (1, classes, -(-network_hw[0] // 8), -(-network_hw[1] // 8))
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def scene_logits(session: onnxruntime.InferenceSession, seed: int, picture_hw: tuple[int, int]) -> Float32:
    """The demo model's logits of a street scene drawn at 512 x 1024, 1 x C x h x w."""
    picture, _ = draw_scene(seed, 512, 1024)
    picture = np.ascontiguousarray(cv2.resize(picture, picture_hw[::-1]))
    logits: Float32 = session.run(["logits"], {"image": picture[None]})[0]
    return logits


def measure(logits: Float32, network_hw: tuple[int, int], picture_hw: tuple[int, int]) -> dict[str, float]:
    """Median milliseconds of each way."""
    program = torch.onnx.export(
        Tail(network_hw, picture_hw), (torch.from_numpy(logits),), dynamo=True, input_names=["logits"], verbose=False
    )
    assert program is not None
    graph = program.model_proto.SerializeToString()
    maps = [
        bilinear(network, picture, False).after(bilinear(cells, network, False))
        if network != picture
        else bilinear(cells, network, False)
        for cells, network, picture in zip(logits.shape[2:], network_hw, picture_hw, strict=True)
    ]
    grid = LogitsGrid(logits[0], maps[0], maps[1])
    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(core.read_model(graph), "CPU", settings).create_infer_request()
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    ways: dict[str, Callable[[], object]] = {
        "runtime": lambda: labels_from_logits(grid),
        "runtime, every class": lambda: labels_of_every_class(grid),
        "OpenVINO": lambda: request.infer([logits], share_inputs=True, share_outputs=True),
        "ONNX Runtime": lambda: session.run(None, {"logits": logits}),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for turn in range(ROUNDS + 2):
        first = turn % len(names)  # each way follows each: an engine's threads spin for a while after its answer
        for name in names[first:] + names[:first]:
            run = ways[name]
            started = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - started) * 1e3)
    return {name: round(statistics.median(values[2:]), 1) for name, values in times.items()}


def labels_of_every_class(grid: LogitsGrid) -> None:
    """The labels' arithmetic where nothing is left out."""
    classes = np.arange(grid.logits_chw.shape[0])
    labels_hw = np.empty(grid.frame_hw, dtype=np.uint8)
    for rows, logits_chw in assemble._strips(grid):
        labels_hw[rows] = assemble._winners(logits_chw, classes)


def main() -> None:
    """The command."""
    cases = [("random", random_logits(classes, network), network, picture) for classes, network, picture in CASES]
    if len(sys.argv) > 1:
        session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
        cases += [(f"scene {seed}", scene_logits(session, seed, size), size, size) for seed, size in SCENES]
    rows = []
    for name, logits, network_hw, picture_hw in cases:
        medians, classes = measure(logits, network_hw, picture_hw), logits.shape[1]
        rows.append(
            {"logits": name, "classes": classes, "network_hw": network_hw, "picture_hw": picture_hw}
            | {"median_ms": medians}
        )
        resizes = 1 if network_hw == picture_hw else 2
        print(f"{name}, {classes} classes, {network_hw} to {picture_hw}, {resizes} resizes: {medians}")
    RESULT.write_text(json.dumps({"machine": machine(), "rounds": ROUNDS, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""From logits at stride 8 to labels of a picture's size: in the runtime, in OpenVINO, in ONNX Runtime.

    python benchmarks/labels.py

Without a test scale there is one resize, with one there are two (to the network's size, then to the
picture's).  In turn in one process: isa_deploy.runtime.assemble (numpy, one thread) and a graph of Resize and
ArgMax in each engine.  Medians of the rounds, in milliseconds.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import torch
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import machine

from isa_deploy.runtime.assemble import LogitsGrid, labels_from_logits
from isa_deploy.runtime.resample import bilinear

CASES = (
    (19, (256, 512), (512, 1024)),
    (19, (512, 1024), (512, 1024)),
    (19, (1024, 1820), (1080, 1920)),
    (19, (1024, 2048), (1024, 2048)),
    (150, (512, 683), (768, 1024)),
)
ROUNDS = 9
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


def measure(classes: int, network_hw: tuple[int, int], picture_hw: tuple[int, int]) -> dict[str, float]:
    """Median milliseconds of each way."""
    shape = (1, classes, -(-network_hw[0] // 8), -(-network_hw[1] // 8))
    logits = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    program = torch.onnx.export(
        Tail(network_hw, picture_hw), (torch.from_numpy(logits),), dynamo=True, input_names=["logits"], verbose=False
    )
    assert program is not None
    graph = program.model_proto.SerializeToString()
    maps = [
        bilinear(network, picture, False).after(bilinear(cells, network, False))
        if network != picture
        else bilinear(cells, network, False)
        for cells, network, picture in zip(shape[2:], network_hw, picture_hw, strict=True)
    ]
    grid = LogitsGrid(logits[0], maps[0], maps[1])
    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(core.read_model(graph), "CPU", settings).create_infer_request()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    ways: dict[str, Callable[[], object]] = {
        "runtime": lambda: labels_from_logits(grid),
        "OpenVINO": lambda: request.infer([logits], share_inputs=True, share_outputs=True),
        "ONNX Runtime": lambda: session.run(None, {"logits": logits}),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS + 2):
        for name, run in ways.items():
            started = time.perf_counter()
            run()
            times[name].append((time.perf_counter() - started) * 1e3)
    return {name: round(statistics.median(values[2:]), 1) for name, values in times.items()}


def main() -> None:
    """The command."""
    rows = []
    for classes, network_hw, picture_hw in CASES:
        medians = measure(classes, network_hw, picture_hw)
        rows.append({"classes": classes, "network_hw": network_hw, "picture_hw": picture_hw, "median_ms": medians})
        resizes = 1 if network_hw == picture_hw else 2
        print(f"{classes} classes, {network_hw} to {picture_hw}, {resizes} resizes: {medians}")
    RESULT.write_text(json.dumps({"machine": machine(), "rounds": ROUNDS, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""A model's graph, exported on the machine itself.

The demo model with its whole proof; the full-size networks, whose weights are random, without: their float32
answer on a CPU would take longer than everything else, and says nothing about accuracy.
"""

from __future__ import annotations

import time
from pathlib import Path

import cv2

from gpu.context import StepContext
from gpu.scenes import unseen_scenes
from gpu.zoo import MODELS, Model, frame_size
from isa_deploy.export import pipeline

__all__ = ["run"]


def run(context: StepContext) -> None:
    """Export the context's model into the run's folder, where it is not given there."""
    picture = context.folder / "scene.png"
    cv2.imwrite(str(picture), unseen_scenes(1, context.scale.demo_hw)[0][0])
    model = MODELS[context.model]
    folder = context.folder / "models" / context.model
    if folder.is_dir():
        context.record(given="exported before this run")
        return
    started = time.perf_counter()
    if model.depth is None:
        report = pipeline.export(model.trained, folder, precision=model.precision, frames=[picture]).report
        context.record(
            label_agreement={each.stage: each.label_agreement for each in report.comparisons},
            skipped=report.skipped,
        )
    else:
        _export_unproven(model, folder, frame_size(context.model, context.scale))
    context.record(
        export_seconds=round(time.perf_counter() - started, 1),
        onnx_mib=round((folder / pipeline.ONNX_FILE).stat().st_size / 2**20, 1),
    )


def _export_unproven(model: Model, folder: Path, size_hw: tuple[int, int]) -> None:
    from random_checkpoint import write

    from isa_deploy.export.graph import Normalisation, build_graph
    from isa_deploy.export.onnx import ShapeNHW, save_onnx, trace
    from isa_deploy.export.pipeline import ONNX_FILE, fixed_windows, make_manifest
    from isa_deploy.models.checkpoint import build_network, read_checkpoint

    assert model.depth is not None
    folder.mkdir(parents=True)
    write(folder / "random.pth", model.depth, width=64, seed=0)
    checkpoint = read_checkpoint(folder / "random.pth")
    shape: ShapeNHW = (1, *size_hw)
    manifest = make_manifest(checkpoint, model.precision, shape, confidence=False)
    normalisation = Normalisation(manifest.input.mean, manifest.input.std, swap_channels=checkpoint.to_rgb)
    network = build_network(checkpoint)
    graph = build_graph(network, normalisation, model.precision, ("labels", "logits"), fixed_windows(manifest))
    save_onnx(trace(graph, shape, model.precision), manifest, folder / ONNX_FILE)

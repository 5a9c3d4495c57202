"""A plan against float32 on scenes that the demo model never saw: the same labels, the same accuracy."""

from __future__ import annotations

import numpy as np
from recipe.scores import confusion_matrix, scores_of

from gpu.context import StepContext
from gpu.scenes import unseen_scenes
from gpu.zoo import frame_size
from isa_deploy.runtime.segmenter import Segmenter

__all__ = ["agreement_and_scores", "run"]

FLOAT32 = "demo-fp32"


def run(context: StepContext) -> None:
    """Record the agreement of the plan's labels with float32's, and the mIoU of both."""
    with Segmenter.open(context.plan(context.model), backend="tensorrt", device=0, resize="none") as candidate:
        agreement_and_scores(context, candidate)


def agreement_and_scores(context: StepContext, candidate: Segmenter) -> None:
    """Record a Segmenter's labels against those of the float32 graph in ONNX Runtime on the CPU."""
    float32 = context.onnx(FLOAT32)
    classes = len(candidate.manifest.classes.names)
    ours, theirs = np.zeros((2, classes, classes), np.int64)
    same: list[float] = []
    with Segmenter.open(float32, backend="onnxruntime", device="cpu", resize="none") as reference:
        for frame_hwc, truth_hw in unseen_scenes(context.scale.scenes, frame_size(FLOAT32, context.scale)):
            labels_hw, right_hw = candidate.segment(frame_hwc), reference.segment(frame_hwc)
            same.append(float((labels_hw == right_hw).mean()))
            ours += confusion_matrix(truth_hw, labels_hw, classes)
            theirs += confusion_matrix(truth_hw, right_hw, classes)
    miou, miou32 = 100 * scores_of(ours).miou, 100 * scores_of(theirs).miou
    context.record(
        scenes=context.scale.scenes,
        size_hw=list(frame_size(FLOAT32, context.scale)),
        backend=candidate.backend_name,
        precision=candidate.precision,
        agreement_percent=round(100 * float(np.mean(same)), 4),
        least_agreement_percent=round(100 * min(same), 4),
        miou_percent=round(miou, 3),
        miou_float32_percent=round(miou32, 3),
        miou_difference=round(miou - miou32, 4),
    )

"""The proof: an export compared with its checkpoint, stage by stage, on frames."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from isa_deploy import __version__
from isa_deploy.errors import BackendUnavailableError
from isa_deploy.export.answer import AnswerSource, ReferenceAnswer
from isa_deploy.manifest import Manifest
from isa_deploy.runtime.segmenter import Segmenter

__all__ = [
    "AGREEMENT",
    "FramePictures",
    "ParityReport",
    "Stage",
    "StageComparison",
    "compare_labels",
    "prove",
    "prove_stages",
]

UInt8 = npt.NDArray[np.uint8]

AGREEMENT = {"fp32": 0.9995, "fp16": 0.99, "bf16": 0.97, "int8": 0.95}
"""Share of the labels that must be the checkpoint's, by the arithmetic's type.

float32 is held to what torch itself reaches with other kernels; on trained models float16 reaches 0.9998
and bfloat16 0.998 (tests/golden/README.md), int8 0.992 and more (benchmarks/results/int8_accuracy_golden.json), so the
defaults leave room for models with more near ties.
"""

LOGITS_TOLERANCE = 1e-3
"""Largest difference of float32 logits that passes unasked.  Trained models stay under 2e-5."""

CONFIDENCE_TOLERANCE = 0.02
"""A byte's step is 0.004; two logits that are off by the tolerance move a share by less than the rest."""

NOISE_FACTOR = 10
"""Where the logits differ by more, torch is asked how far its own float32 kernels differ on the same frames,
and up to this many times that is right: in a network with chaotic weights (random ones, mostly) a rounding
grows to 0.1 and more through the layers, and no engine could do better than another kernel of torch's."""


@dataclass(frozen=True)
class StageComparison:
    """One stage against the checkpoint in torch float32, on one frame.

    ``label_agreement``: share of the pixels with the same label.  ``iou_per_class``: intersection over
    union between the two label maps, for classes that occur in either.  ``logits_max_abs``: largest
    difference of the logits, None where the stage gives none to compare.  ``differing``: pixels with
    another label; ``differing_certain``: those of them where the checkpoint's two best logits are further
    apart than the margin.  ``seconds``: for the frame, one run.  ``confidence_max_abs``: largest difference of
    the confidence, 0 to 1, where the graph gives one.
    """

    stage: str
    precision: str
    gated: bool
    frame: str
    label_agreement: float
    iou_per_class: dict[str, float]
    logits_max_abs: float | None
    differing: int
    differing_certain: int
    seconds: float
    confidence_max_abs: float | None = None


@dataclass(frozen=True)
class FramePictures:
    """A frame (uint8 H x W x 3 BGR), the checkpoint's labels and each stage's (uint8 H x W)."""

    frame: str
    frame_hwc: UInt8
    reference_hw: UInt8
    stage_labels_hw: dict[str, UInt8]


@dataclass(frozen=True)
class ParityReport:
    """What was compared, on what, and whether it passed.

    ``threshold``: least label agreement; ``margin``: see :class:`StageComparison`; ``logits_tolerance``:
    for float32 stages, None where the export has another type; ``skipped``: stage to why it did not run.
    """

    manifest: Manifest
    environment: dict[str, str]
    comparisons: tuple[StageComparison, ...]
    threshold: float
    margin: float
    logits_tolerance: float | None
    passed: bool
    failures: tuple[str, ...]
    skipped: dict[str, str]


@dataclass(frozen=True)
class Stage:
    """One way of running the export: its name, the type of its arithmetic, and how to open it.

    ``gated``: whether it decides; a stage that runs in a narrower type than was exported only informs.
    """

    name: str
    precision: str
    gated: bool
    open: Callable[[], Segmenter]


def compare_labels(labels_hw: UInt8, reference_hw: UInt8, names: Sequence[str]) -> dict[str, float]:
    """Intersection over union a class between two label maps, for the classes that occur in either."""
    classes = len(names)
    pairs = np.bincount(reference_hw.ravel().astype(np.int64) * 256 + labels_hw.ravel(), minlength=256 * 256).reshape(
        256, 256
    )
    result = {}
    for label in range(classes):
        both = int(pairs[label, label])
        either = int(pairs[label].sum() + pairs[:, label].sum()) - both
        if either:
            name = names[label] if names.count(names[label]) == 1 else f"{names[label]} ({label})"
            result[name] = both / either
    return result


def prove(
    source: AnswerSource,
    onnx_path: Path,
    manifest: Manifest,
    frames: Sequence[tuple[str, UInt8]],
    min_agreement: float | None,
    progress: Callable[[str], None],
) -> tuple[ParityReport, list[FramePictures]]:
    """Run every stage that this machine can on every frame and compare it with the checkpoint.

    The frames are shown to the network as they are; ``min_agreement`` replaces :data:`AGREEMENT`; ``progress`` is
    told each stage in a line.  The report says whether the export
    passed; this function does not raise where it did not.
    """
    skipped: dict[str, str] = {}
    wanted = stages(onnx_path, manifest, skipped)
    return prove_stages(source, wanted, skipped, manifest, frames, min_agreement, progress)


def prove_stages(
    source: AnswerSource,
    wanted: Sequence[Stage],
    skipped: dict[str, str],
    manifest: Manifest,
    frames: Sequence[tuple[str, UInt8]],
    min_agreement: float | None,
    progress: Callable[[str], None],
) -> tuple[ParityReport, list[FramePictures]]:
    """:func:`prove` for stages of the caller's own; ``skipped`` gets those that cannot be run here."""
    answers = []
    for name, frame in frames:
        progress(f"proof: {source.name}, {name} at {frame.shape[0]}x{frame.shape[1]}")
        answers.append(source.answer(frame, (frame.shape[0], frame.shape[1])))
    threshold = AGREEMENT[manifest.precision] if min_agreement is None else min_agreement
    runs: list[StageRun] = []
    pictures = [
        FramePictures(name, frame, answer.labels_hw, {}) for (name, frame), answer in zip(frames, answers, strict=True)
    ]
    for stage in wanted:
        try:
            segmenter = stage.open()
        except BackendUnavailableError as error:
            skipped[stage.name] = str(error)
            continue
        with segmenter:
            for picture, answer in zip(pictures, answers, strict=True):
                progress(f"proof: {stage.name}, {picture.frame}")
                run = run_stage(stage, segmenter, picture, answer)
                runs.append(run)
                picture.stage_labels_hw[stage.name] = run.labels_hw
    tolerance = LOGITS_TOLERANCE
    if manifest.precision == "fp32" and any(r.stage.gated and r.logits_max_abs > tolerance for r in runs):
        progress("proof: the logits differ by more than usual; asking how exact float32 is on this model")
        noise = max(source.noise(frame, (frame.shape[0], frame.shape[1])) for _, frame in frames)
        tolerance = max(tolerance, NOISE_FACTOR * noise)
    margin = 2 * tolerance
    names = manifest.classes.names
    comparisons = tuple(compare_run(run, names, margin) for run in runs)
    exact = tolerance if manifest.precision == "fp32" else None
    failures = judge(comparisons, threshold, exact, margin)
    report = ParityReport(
        manifest=manifest,
        environment=environment(),
        comparisons=comparisons,
        threshold=threshold,
        margin=margin,
        logits_tolerance=exact,
        passed=not failures,
        failures=tuple(failures),
        skipped=skipped,
    )
    return report, pictures


def stages(onnx_path: Path, manifest: Manifest, skipped: dict[str, str]) -> list[Stage]:
    """The stages of an export, and into ``skipped`` those that cannot be run here with the reason."""
    made = []

    def opener(backend: str, precision: str) -> Callable[[], Segmenter]:
        return lambda: Segmenter.open(onnx_path, backend=backend, device="cpu", precision=precision, resize="none")

    exported = manifest.precision
    # what OpenVINO computes in, float32 or bfloat16, is in an int8 graph the rest
    int8 = exported == "int8"
    if manifest.float_type == "bf16":
        skipped["onnxruntime bf16"] = "ONNX Runtime's CPU has no bfloat16 convolution; a GPU's has"
    else:
        made.append(Stage(f"onnxruntime {exported}", exported, True, opener("onnxruntime", "auto")))
    # OpenVINO computes in float32 or bfloat16, whatever the graph's type: what the graph's weights lost
    # by their own rounding shows in either
    made.append(Stage("openvino int8" if int8 else "openvino fp32", exported, True, opener("openvino", "fp32")))
    try:
        from isa_deploy.runtime.backends.openvino import cpu_has_bf16

        bf16 = cpu_has_bf16()
    except ImportError:
        bf16 = False
    narrow = "openvino int8, rest bf16" if int8 else "openvino bf16"
    if bf16:
        made.append(Stage(narrow, "int8" if int8 else "bf16", exported in ("bf16", "int8"), opener("openvino", "bf16")))
    else:
        skipped[narrow] = "this CPU has neither AMX nor AVX512-BF16"
    return made


@dataclass(frozen=True)
class StageRun:
    """What one stage answered for one frame, beside the checkpoint's answer."""

    stage: Stage
    frame: str
    labels_hw: UInt8
    answer: ReferenceAnswer
    logits_max_abs: float
    confidence_max_abs: float | None
    seconds: float


def run_stage(stage: Stage, segmenter: Segmenter, picture: FramePictures, answer: ReferenceAnswer) -> StageRun:
    """Run one stage on one frame."""
    started = time.perf_counter()
    labels, logits = segmenter.segment_with_logits(picture.frame_hwc)
    seconds = time.perf_counter() - started
    difference = float(np.abs(windows_of(logits, answer.logits.shape) - answer.logits).max())
    confidence_difference = None
    if segmenter.manifest.outputs.confidence is not None:
        _, confidence = segmenter.segment_with_confidence(picture.frame_hwc)
        confidence_difference = float(np.abs(confidence / 255 - answer.confidence_hw).max())
    return StageRun(stage, picture.frame, labels, answer, difference, confidence_difference, seconds)


def compare_run(run: StageRun, names: Sequence[str], margin: float) -> StageComparison:
    """One answer in figures."""
    differing = run.labels_hw != run.answer.labels_hw
    return StageComparison(
        stage=run.stage.name,
        precision=run.stage.precision,
        gated=run.stage.gated,
        frame=run.frame,
        label_agreement=float(1 - differing.mean()),
        iou_per_class=compare_labels(run.labels_hw, run.answer.labels_hw, names),
        logits_max_abs=run.logits_max_abs,
        differing=int(differing.sum()),
        differing_certain=int((differing & (run.answer.margin_hw > margin)).sum()),
        seconds=run.seconds,
        confidence_max_abs=run.confidence_max_abs,
    )


def windows_of(grid_chw: npt.NDArray[np.float32], shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Windows laid side by side (C x rows*h x cols*w) as a stack of them, windows x C x h x w."""
    _, c, h, w = shape
    rows, cols = grid_chw.shape[1] // h, grid_chw.shape[2] // w
    return grid_chw.reshape(c, rows, h, cols, w).transpose(1, 3, 0, 2, 4).reshape(shape)


def judge(
    comparisons: Sequence[StageComparison], threshold: float, tolerance: float | None, margin: float
) -> list[str]:
    """What failed, a sentence each; empty where the export passed."""
    failures = []
    if not any(comparison.gated for comparison in comparisons):
        failures.append("no stage could be run on this machine; pip install 'isa-deploy[export]'")
    for each in comparisons:
        if not each.gated:
            continue
        where = f"{each.stage} on {each.frame}"
        if each.logits_max_abs is not None and not math.isfinite(each.logits_max_abs):
            failures.append(f"{where}: the logits are not finite; the type's range is too small for this model")
        elif each.label_agreement < threshold:
            failures.append(f"{where}: {each.label_agreement:.4%} of the labels agree, {threshold:.2%} are wanted")
        elif tolerance is not None and each.differing_certain:
            failures.append(
                f"{where}: {each.differing_certain} labels differ where the right answer is certain (margin {margin:g})"
            )
        elif tolerance is not None and each.logits_max_abs is not None and each.logits_max_abs > tolerance:
            failures.append(f"{where}: logits differ by {each.logits_max_abs:.2e}, at most {tolerance:.2e} is right")
        elif tolerance is not None and (each.confidence_max_abs or 0) > CONFIDENCE_TOLERANCE:
            failures.append(f"{where}: the confidence differs by {each.confidence_max_abs:.3f} of 1")
    return failures


def environment() -> dict[str, str]:
    """The versions and the processor that the proof was made with."""
    found = {
        "isa-deploy": __version__,
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "processor": processor_name(),
    }
    for name in ("torch", "onnx", "onnxruntime", "openvino"):
        try:
            found[name] = __import__(name).__version__
        except ImportError:
            found[name] = "not installed"
    return found


def processor_name() -> str:
    """The processor's model as Linux tells it, or what Python knows."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        return platform.processor()
    return platform.processor() or platform.machine()

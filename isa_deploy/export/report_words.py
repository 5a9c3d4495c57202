"""A proof in words: its outcome, what was exported, and how to do it again."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from isa_deploy.export.parity import AGREEMENT, FramePictures, ParityReport, StageComparison, judge
from isa_deploy.manifest import Manifest

__all__ = [
    "THE_CHECKPOINT",
    "Sides",
    "Verdict",
    "failed",
    "figure",
    "model_facts",
    "percent",
    "remade_command",
    "verdict",
]


@dataclass(frozen=True)
class Sides:
    """Who is compared with whom: the "export" with "the checkpoint" in "torch, float32"."""

    subject: str
    yardstick: str
    engine: str

    @property
    def yardstick_named(self) -> str:
        """The yardstick with the engine that gave its answers."""
        return f"{self.yardstick} in {self.engine}"


THE_CHECKPOINT = Sides(subject="export", yardstick="the checkpoint", engine="torch, float32")
"""What an export is held to."""


@dataclass(frozen=True)
class Verdict:
    """The first thing that a reader sees."""

    headline: str
    sentence: str


def verdict(report: ParityReport, pictures: Sequence[FramePictures]) -> Verdict:
    """The outcome in words: how equal the export is, or at which stage it stopped being so."""
    gated = [each for each in report.comparisons if each.gated]
    if not gated:
        return Verdict("Nothing was proven", "No stage that decides could be run on this machine.")
    stages = list(dict.fromkeys(each.stage for each in gated))
    frames = list(dict.fromkeys(each.frame for each in gated))
    broken = next((each.stage for each in gated if failed(report, each)), None)
    if broken is not None:
        before = stages[: stages.index(broken)]
        equal = f"{_and(before)} still agreed with it" if before else "no stage before it agreed"
        first = (
            f"{broken} is the first stage that does not equal the checkpoint; {equal}."
            if before
            else (f"Already {broken}, the first stage, does not equal the checkpoint.")
        )
        return Verdict("The export does not equal its checkpoint", first)
    if not report.passed:
        return Verdict("The export does not equal its checkpoint", "What failed is listed below.")
    where = f"{_counted(len(frames), 'frame')}, in {_and(stages)}"
    differing = sum(each.differing for each in gated)
    if not differing:
        return Verdict(_passed(report), f"Every label is the checkpoint’s, on {where}.")
    worst = min(each.label_agreement for each in gated)
    certain = sum(each.differing_certain for each in gated)
    sizes = {each.frame: each.reference_hw.size for each in pictures}
    compared = sum(sizes.get(each.frame, 0) for each in gated)
    of = f" of {compared:,}" if all(each.frame in sizes for each in gated) else ""
    return Verdict(
        _passed(report),
        f"At least {percent(worst)} of the labels are the checkpoint’s on every one of {where} "
        f"({percent(report.threshold)} is asked). {differing:,}{of} compared labels differ, "
        f"{f'{certain:,}' if certain else 'none'} of them where the checkpoint is certain.",
    )


def _passed(report: ParityReport) -> str:
    """An int8 graph is near its checkpoint, and is not said to be more."""
    if report.manifest.precision == "int8":
        return "The export is as near to its checkpoint as was asked"
    return "The export equals its checkpoint"


def failed(report: ParityReport, comparison: StageComparison) -> bool:
    """Whether this comparison decides, and decided against the export."""
    return comparison.gated and bool(judge([comparison], report.threshold, report.logits_tolerance, report.margin))


def remade_command(report: ParityReport) -> str:
    """The ``isa-export`` call that makes this export again (the frames of the proof are named in the report)."""
    manifest = report.manifest
    words = ["isa-export", "--ckpt", shlex.quote(manifest.source.file)]
    if manifest.precision != "fp32":
        words.append(f"--{manifest.precision}")
    if manifest.quantisation is not None:
        words.append(f"--calib FRAMES --calib-frames {manifest.quantisation.frames}")
        if manifest.quantisation.rest != "fp32":
            words.append(f"--rest {manifest.quantisation.rest}")
    batch, height, width = manifest.input.shape_nhw
    if height is not None:
        words.append(f"--shape {batch or 1}x{height}x{width}")
    if manifest.outputs.confidence is not None:
        words.append("--confidence")
    if report.threshold != AGREEMENT[manifest.precision]:
        words.append(f"--min-agreement {report.threshold:g}")
    return " ".join(words)


def model_facts(manifest: Manifest) -> list[tuple[str, str, bool]]:
    """What was exported, as (name, words, whether it is code to be set in a fixed-width face)."""
    facts = [
        ("Architecture", manifest.architecture, False),
        ("Checkpoint", manifest.source.file, False),
        ("Checkpoint’s SHA-256", manifest.source.sha256, True),
        ("Its layout", manifest.source.layout, False),
        ("Precision of the graph", manifest.types, False),
        ("Classes", str(len(manifest.classes.names)), False),
        ("Input", _input_words(manifest), False),
        ("Preprocessing", _preprocessing_words(manifest), False),
        ("Inference", _inference_words(manifest), False),
        ("Outputs", _output_words(manifest), False),
    ]
    if manifest.engine is not None:
        engine = manifest.engine
        facts.append(("Engine", f"{engine.builder} {engine.builder_version}", False))
    return facts


def _input_words(manifest: Manifest) -> str:
    batch, height, width = manifest.input.shape_nhw
    size = "any height and width" if height is None else f"{height} × {width} pixels (height × width)"
    frames = "any number of frames" if batch is None else _counted(batch, "frame")
    return f"“{manifest.input.name}”: uint8 {manifest.input.colour_order}, {frames} at once, {size}"


def _preprocessing_words(manifest: Manifest) -> str:
    mean = ", ".join(f"{value:g}" for value in manifest.input.mean)
    std = ", ".join(f"{value:g}" for value in manifest.input.std)
    normalise = f"in the graph, (x − mean) ÷ std with mean {mean} and std {std} ({manifest.input.colour_order})"
    resize = manifest.input.resize
    if resize is None:
        return f"no resize; {normalise}"
    width, height = resize.scale_wh
    how = "fitted into" if resize.keep_ratio else "stretched to"
    kept = ", ratio kept" if resize.keep_ratio else ""
    return f"test scale: {how} {width} × {height} (width × height{kept}); {normalise}"


def _inference_words(manifest: Manifest) -> str:
    inference = manifest.inference
    corners = "corners aligned" if inference.align_corners else "corners not aligned"
    if inference.crop_hw is None or inference.stride_hw is None:
        return f"the whole frame in one pass; logits resized bilinearly, {corners}"
    crop, stride = inference.crop_hw, inference.stride_hw
    where = "in the graph" if inference.windows_in_graph else "by the runtime"
    return (
        f"windows of {crop[0]} × {crop[1]} every {stride[0]} × {stride[1]} pixels (height × width), cut and "
        f"averaged {where}; logits resized bilinearly, {corners}"
    )


def _output_words(manifest: Manifest) -> str:
    outputs = manifest.outputs
    words = f"“{outputs.labels}” uint8, “{outputs.logits}” float32 at stride {outputs.logits_stride}"
    return words if outputs.confidence is None else f"{words}, “{outputs.confidence}” uint8"


def percent(share: float) -> str:
    """A share as per cent, cut and not rounded, so that only what is all is called 100 %."""
    if not math.isfinite(share):
        return "not a number"
    if share >= 1:
        return "100\u00a0%"
    digits = 4 if share > 0.9999 else 2
    return f"{math.floor(share * 100 * 10**digits + 1e-7) / 10**digits:.{digits}f}\u00a0%"


def figure(value: float) -> str:
    """A number with as many digits as matter."""
    if not math.isfinite(value):
        return "not finite"
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.4g}"


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

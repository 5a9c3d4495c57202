"""A plan in words: its outcome, what was built and what it runs on, and how to build it again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from isa_deploy.export.parity import AGREEMENT, FramePictures, ParityReport
from isa_deploy.export.plan_profiles import default_profiles
from isa_deploy.export.report_words import Sides, Verdict, failed, figure, percent
from isa_deploy.manifest import EngineSpec, Manifest, ShapeRange
from isa_deploy.runtime.backends.signature import TensorSpec

__all__ = [
    "engine_title",
    "plan_command",
    "plan_facts",
    "plan_verdict",
    "shape_words",
    "sides_of",
    "sizes_words",
    "tensor_rows",
]

TITLES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
MIB = 1 << 20

NOTHING_RUN = "the plan could not be opened on this machine"


def sides_of(source: str) -> Sides:
    """Who a plan is compared with, from the name of what answered: "the graph in ONNX Runtime"."""
    yardstick, _, engine = source.partition(" in ")
    return Sides(subject="plan", yardstick=yardstick, engine=engine or "its own engine")


def engine_title(engine: EngineSpec) -> str:
    """The library that built a plan, with its version."""
    return f"{TITLES[engine.builder]} {engine.builder_version}"


def plan_verdict(
    proof: ParityReport | None, not_run: str | None, source: str | None, place: str, pictures: Sequence[FramePictures]
) -> Verdict:
    """The outcome in words: equal to what and on what, or why it was not run.  ``place``: the card and library."""
    if proof is None or source is None:
        return Verdict("Built, not run here", _sentence(not_run or NOTHING_RUN))
    sides = sides_of(source)
    gated = [each for each in proof.comparisons if each.gated]
    if not gated:
        why = "; ".join(f"{stage}: {reason}" for stage, reason in proof.skipped.items())
        return Verdict("Built, and nothing was proven", _sentence(why or NOTHING_RUN))
    count = len({each.frame for each in gated})
    frames = f"{count} frame" if count == 1 else f"{count} frames"
    worst = min(each.label_agreement for each in gated)
    differing = sum(each.differing for each in gated)
    if not proof.passed:
        broken = len({each.frame for each in gated if failed(proof, each)})
        return Verdict(
            f"The plan does not equal {source}",
            f"{broken} of {frames} failed on {place}. At worst {percent(worst)} of the labels are "
            f"{sides.yardstick}’s, and {percent(proof.threshold)} is asked. A plan that failed is not kept.",
        )
    if not differing:
        return Verdict(f"The plan equals {source}", f"Every label is {sides.yardstick}’s, on {frames}, on {place}.")
    sizes = {each.frame: each.reference_hw.size for each in pictures}
    of = f" of {sum(sizes[each.frame] for each in gated):,}" if all(each.frame in sizes for each in gated) else ""
    certain = sum(each.differing_certain for each in gated)
    return Verdict(
        f"The plan equals {source}",
        f"At least {percent(worst)} of the labels are {sides.yardstick}’s on "
        f"{frames if count == 1 else f'every one of {frames}'}, on {place} "
        f"({percent(proof.threshold)} is asked). {differing:,}{of} compared labels differ, "
        f"{f'{certain:,}' if certain else 'none'} of them where {sides.yardstick} is certain.",
    )


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def plan_facts(
    manifest: Manifest, engine: EngineSpec, card: str | None, graph_file: str, plan_bytes: int, build_seconds: float
) -> list[tuple[str, str, bool]]:
    """What was built, as (name, words, whether it is code to be set in a fixed-width face)."""
    size = f"{plan_bytes / MIB:.1f} MiB ({plan_bytes:,} bytes)"
    return [
        ("Built with", engine_title(engine), False),
        ("Built in", _duration(build_seconds), False),
        ("This machine’s card", card or "none", False),
        ("Compute capability", _capability_words(engine), False),
        ("Hardware-compatible", _hardware_words(engine), False),
        ("Version-compatible", _version_words(engine), False),
        ("Size", size, False),
        ("Types", f"{manifest.types}; the graph’s own types, none lowered by the build", False),
        ("Built from", graph_file, False),
        ("The graph’s SHA-256", engine.onnx_sha256, True),
        ("The plan’s SHA-256", engine.plan_sha256, True),
    ]


def _capability_words(engine: EngineSpec) -> str:
    if engine.compute_capability is None:
        return "any from 8.0 on: the plan runs on every card from Ampere on"
    if engine.hardware_compatible:
        return f"built on {engine.compute_capability}; the plan runs on every card from Ampere (8.0) on"
    return f"{engine.compute_capability}: the plan runs on cards of this kind only"


def _hardware_words(engine: EngineSpec) -> str:
    if engine.hardware_compatible:
        return "yes: one plan for every card from Ampere on, slower than one for a single kind"
    if engine.compute_capability is None:
        return f"not needed: without a target, a plan of {TITLES[engine.builder]} is for every card from Ampere on"
    return "no"


def _version_words(engine: EngineSpec) -> str:
    parts = engine.builder_version.split(".")
    version = f"{TITLES[engine.builder]} {'.'.join(parts[:3])}"
    if not engine.version_compatible:
        return f"no: it runs with {version} only"
    return (
        f"yes: it runs with {version} and later versions of {parts[0]}. It carries code for the host’s processor, so "
        "whoever opens it has to allow that with --allow-engine-code"
    )


def _duration(seconds: float) -> str:
    if not 60 <= seconds < float("inf"):
        return f"{figure(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def sizes_words(manifest: Manifest, engine: EngineSpec) -> str:
    """What the sizes of a plan's profiles are sizes of, or its only size."""
    inference = manifest.inference
    cut = inference.crop_hw is not None and not inference.windows_in_graph
    if not engine.profiles:
        size = shape_words(manifest.input.shape_nhw)
        return f"Every {'window' if cut else 'frame'} is {size} (frames × height × width), fixed by the export."
    if cut:
        return (
            "Frames × height × width in pixels. The runtime cuts a frame into windows, and these are sizes of windows."
        )
    return "Frames × height × width in pixels, as the network is shown them. The plan was tuned for the best."


def shape_words(shape: Sequence[int | None]) -> str:
    """``1 × any × any × 3``."""
    return " × ".join("any" if side is None else str(side) for side in shape) or "one number"


def tensor_rows(inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]) -> list[tuple[str, str, str, str]]:
    """Inputs and outputs as (name, which of the two, type, sides)."""
    return [
        (name, kind, spec.dtype, shape_words(spec.shape))
        for kind, specs in (("input", inputs), ("output", outputs))
        for name, spec in specs.items()
    ]


def plan_command(
    manifest: Manifest, engine: EngineSpec, graph_file: str, workspace_bytes: int | None, threshold: float | None
) -> str:
    """The ``isa-export`` call that builds this plan again.  ``threshold``: of its proof, None where there is none."""
    words = ["isa-export", f"./{graph_file}" if graph_file.startswith("-") else graph_file, "--plan"]
    if engine.builder == "tensorrt_rtx":
        words += ["--target", "rtx"]
        if engine.compute_capability is not None:
            words += ["--compute-capability", engine.compute_capability]
    if engine.profiles and engine.profiles != default_profiles(manifest):
        words += [word for profile in engine.profiles for word in _shape_flags(profile)]
    if workspace_bytes is not None:
        words += ["--workspace", str(max(workspace_bytes // MIB, 1))]
    if engine.hardware_compatible:
        words.append("--hardware-compatible")
    if engine.version_compatible:
        words.append("--version-compatible")
    if threshold is not None and threshold != AGREEMENT[manifest.precision]:
        words += ["--min-agreement", repr(threshold)]
    return shlex.join(words)


def _shape_flags(profile: ShapeRange) -> list[str]:
    flags = []
    for name, shape in (("min", profile.min_nhw), ("opt", profile.opt_nhw), ("max", profile.max_nhw)):
        flags += [f"--{name}-shape", "x".join(map(str, shape))]
    return flags

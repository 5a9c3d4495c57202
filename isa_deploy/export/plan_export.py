"""From a proven graph to a proven plan beside it.

Works without torch and onnx, on the machine with the card: the graph was exported elsewhere.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from isa_deploy.errors import BackendUnavailableError, EngineIncompatibleError, InputError, ParityError
from isa_deploy.export.graph_answers import GraphAnswers, check_engines
from isa_deploy.export.parity import FramePictures, ParityReport, Stage, environment, prove_stages
from isa_deploy.export.plan_layers import LayerSummary, layer_summary
from isa_deploy.export.plan_progress import BuildProgress, ignore_progress
from isa_deploy.export.plan_report import PlanReport, write_plan_report
from isa_deploy.export.proof_frames import proof_frames
from isa_deploy.export.publishing import PLAN_REPORT_FILES, REPORT_FILES, failed_folder, forget_failure, publish
from isa_deploy.export.tensorrt import BuiltPlan, PlanOptions, build_plan, check_options, targets
from isa_deploy.files import folder_lock, make_folder, os_errors, result_folder
from isa_deploy.manifest import EngineSpec, Manifest, ShapeRange
from isa_deploy.runtime.backends.cuda import Cuda, load_cuda
from isa_deploy.runtime.backends.tensorrt_engine import SharedEngine, share_engine
from isa_deploy.runtime.backends.tensorrt_library import TensorRTLibrary, installed_libraries, load_tensorrt
from isa_deploy.runtime.onnx_metadata import read_onnx_manifest
from isa_deploy.runtime.plan import file_sha256, fits_card, rebuild_command, version_numbers
from isa_deploy.runtime.preprocess import resize_frame
from isa_deploy.runtime.segmenter import Segmenter

__all__ = ["TIMING_CACHE", "PlanPlace", "PlanResult", "Target", "export_plan", "find_place"]

Target = Literal["auto", "tensorrt", "rtx"]

TIMING_CACHE = "timing.cache"
WORK = ".isa-plan-"
MAX_TIMING_CACHE_BYTES = 256 << 20
MAX_ONNX_BYTES = (2 << 30) - 1
"""A protobuf file cannot be larger, and ISANet's are under 0.3 GB."""

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PlanPlace:
    """What builds a plan, and the card to build and prove on.

    ``cuda`` is None where no card can be used, and then ``missing`` says why.
    """

    library: TensorRTLibrary
    cuda: Cuda | None
    missing: str = ""


@dataclass(frozen=True)
class PlanResult:
    """Where a plan lies and what its proof says."""

    plan: Path
    manifest: Manifest
    report: PlanReport


def _silent(line: str) -> None:
    """Tell nobody."""


def find_place(target: Target, device: int, compute_capability: str | None = None) -> PlanPlace:
    """The library that a target means, and the card.

    "auto" is TensorRT where it is installed, else TensorRT-RTX.  TensorRT builds on a card only;
    TensorRT-RTX does without.  Raises :class:`BackendUnavailableError` where the library, cuda-python or a
    card that is needed is missing, and :class:`InputError` for a card's number that none has.
    """
    if target == "auto":
        libraries = installed_libraries()
        if compute_capability is not None:  # which only TensorRT-RTX can build for
            libraries = [each for each in libraries if each.name == "tensorrt_rtx"] or libraries
        library = libraries[0] if libraries else load_tensorrt("tensorrt")
    else:
        library = load_tensorrt("tensorrt" if target == "tensorrt" else "tensorrt_rtx")
    if library.name == "tensorrt":
        return PlanPlace(library, Cuda(load_cuda(), device))
    try:
        return PlanPlace(library, Cuda(load_cuda(), device))
    except BackendUnavailableError as error:
        return PlanPlace(library, None, str(error).partition(";")[0])


def export_plan(
    onnx: str | Path,
    out: str | Path | None = None,
    *,
    place: PlanPlace,
    options: PlanOptions,
    frames: Sequence[str | Path] = (),
    min_agreement: float | None = None,
    progress: Callable[[str], None] = _silent,
    build_progress: BuildProgress = ignore_progress,
) -> PlanResult:
    """Build the plan of a graph of isa-export, and prove it where its card is here.

    ``out``: the folder, default the graph's own.  It receives ``NAME.plan``, ``NAME.json``,
    ``plan-report.json`` and ``.html`` and, from TensorRT, ``timing.cache``, which the next build there starts
    from.  The plan is compared with the graph itself, on the CPU; ``frames`` and ``min_agreement`` as for
    :func:`isa_deploy.export.pipeline.export`.

    Raises :class:`InputError` for options, frames and folders, :class:`EngineError` or
    :class:`ManifestError` for the graph, :class:`BackendUnavailableError` where there is nothing to compare
    the plan with, :class:`ExportError` where the build fails, and :class:`ParityError` where the plan does
    not equal its graph: then only its report is written, into ``<out>-failed``.
    """
    graph = Path(onnx)
    folder = graph.parent if out is None else Path(out)
    manifest = read_onnx_manifest(graph)
    names = PlanNames(f"{graph.stem}.plan", f"{graph.stem}.json")
    if names.manifest in (*REPORT_FILES, *PLAN_REPORT_FILES):
        raise InputError(f"{graph}: its plan's manifest would be {names.manifest}, a report's name; rename the graph")
    profiles = check_options(place.library, manifest, options)
    check_single_frames(manifest, profiles)
    check_windows(manifest, profiles)
    not_run = _why_not_run(place, options)
    pictures: list[tuple[str, UInt8]] = []
    if not_run is None:
        # what the proof lacks is said before the minutes of a build
        pictures = _fit(proof_frames(frames, manifest), manifest, profiles)
        check_engines(manifest.float_type)
    with os_errors(graph, "read the graph"):
        if graph.stat().st_size > MAX_ONNX_BYTES:
            raise InputError(f"{graph}: the graph has over 2 GiB, which no ISANet has; give a model.onnx of isa-export")
        onnx_bytes = graph.read_bytes()
    onnx_sha256 = hashlib.sha256(onnx_bytes).hexdigest()
    there = folder / f"{graph.stem}.onnx"
    if there.is_file() and file_sha256(there) != onnx_sha256:
        raise InputError(
            f"{folder}: holds another graph, {there.name}, for which the plan would be taken; give another --out"
        )
    with ExitStack() as stack:
        stack.enter_context(result_folder(folder))
        stack.enter_context(folder_lock(folder))
        for left_over in folder.glob(f"{WORK}*"):  # of a process that was killed: a living one has the lock
            shutil.rmtree(left_over, ignore_errors=True)
        with os_errors(folder, "write the plan"):
            work = Path(tempfile.mkdtemp(prefix=WORK, dir=folder))
        stack.callback(shutil.rmtree, work, ignore_errors=True)
        progress(f"building with {place.library.title}, which can take minutes")
        started = time.perf_counter()
        built = build_plan(
            place.library,
            onnx_bytes,
            manifest,
            options,
            timing_cache=_read_timing_cache(folder, place.library),
            progress=build_progress,
            prepare_thread=place.cuda.make_current if place.cuda is not None else _nothing,
        )
        seconds = time.perf_counter() - started
        planned = manifest.model_copy(update={"engine": _engine_spec(place, built, onnx_sha256, options)})
        del onnx_bytes
        _write_plan(work, names, built.plan, planned)
        proof: PlanProof | None = None
        engine: SharedEngine | None = None
        if not_run is None:
            try:
                engine = _load(folder / names.plan, built.plan, planned, place)
            except EngineIncompatibleError as error:
                not_run = _why_refused(place, error)
        if engine is not None:
            layers = layer_summary(engine.information())
            planned = with_precisions(planned, layers)
            _write_plan(work, names, built.plan, planned)
            given = stack.enter_context(GraphAnswers(graph))
            stages = [_stage(place, work / names.plan, planned)]
            compared = prove_stages(given, stages, {}, manifest, pictures, min_agreement, progress)
            proof = PlanProof(given.name, layers, *compared)
        del engine  # until here, so that the proof's Segmenter shares it
        report = PlanReport(
            manifest=planned,
            source=None if proof is None else proof.source,
            proof=None if proof is None else proof.report,
            not_run=not_run,
            card=None if place.cuda is None else place.cuda.title,
            network=built.network,
            layers=None if proof is None else proof.layers,
            plan_bytes=len(built.plan),
            build_seconds=seconds,
            warnings=built.warnings,
            environment={**environment(), place.library.name: place.library.version},
            graph_file=graph.name,
            workspace_bytes=options.workspace_bytes,
        )
        write_plan_report(report, [] if proof is None else proof.pictures, work)
        if report.proof is not None and not report.proof.passed:
            raise _kept_apart(report, report.proof, work, folder, names)
        if file_sha256(graph) != onnx_sha256:
            raise InputError(f"{graph}: was changed while its plan was built; build it again: {rebuild_command(graph)}")
        published = [*PLAN_REPORT_FILES, names.manifest, names.plan]
        if built.timing_cache is not None:
            with os_errors(folder, "write the timing cache"):
                (work / TIMING_CACHE).write_bytes(built.timing_cache)
            published.append(TIMING_CACHE)
        publish(work, folder, published)
        forget_failure(folder, PLAN_REPORT_FILES)
    return PlanResult(folder / names.plan, planned, report)


@dataclass(frozen=True)
class PlanNames:
    """A plan's files: named after its graph."""

    plan: str
    manifest: str


@dataclass(frozen=True)
class PlanProof:
    """What a plan's running engine told: with what it was compared, its layers, and how it compares."""

    source: str
    layers: LayerSummary
    report: ParityReport
    pictures: list[FramePictures]


def _write_plan(work: Path, names: PlanNames, plan: bytes, manifest: Manifest) -> None:
    with os_errors(work.parent, "write the plan"):
        (work / names.plan).write_bytes(plan)
        (work / names.manifest).write_text(manifest.to_json(), encoding="utf-8")


def _load(path: Path, plan: bytes, manifest: Manifest, place: PlanPlace) -> SharedEngine:
    """The engine of the plan that was just built."""
    assert place.cuda is not None
    assert manifest.engine is not None
    allowed = manifest.engine.version_compatible  # built here a moment ago
    with place.cuda.current():
        return share_engine(plan, path, manifest.engine, place.library, place.cuda, allowed)


def with_precisions(manifest: Manifest, layers: LayerSummary) -> Manifest:
    """A plan's manifest with its layers' types."""
    assert manifest.engine is not None
    engine = manifest.engine.model_copy(update={"layer_precisions": layers.precisions})
    return manifest.model_copy(update={"engine": engine})


def _kept_apart(report: PlanReport, proof: ParityReport, work: Path, folder: Path, names: PlanNames) -> ParityError:
    """Publish only the report of a plan that does not equal its graph; the error to raise."""
    failed = failed_folder(folder)
    make_folder(failed)
    publish(work, failed, PLAN_REPORT_FILES)
    more = f" (and {len(proof.failures) - 1} more)" if len(proof.failures) > 1 else ""
    return ParityError(
        f"the plan does not equal {report.source}: {proof.failures[0]}{more}; see {failed / PLAN_REPORT_FILES[1]}, and "
        "--min-agreement to accept it"
        + (f" ({folder / names.plan} is of an earlier build)" if (folder / names.plan).exists() else "")
    )


def _nothing() -> None:
    """Prepare nothing."""


def check_single_frames(manifest: Manifest, profiles: Sequence[ShapeRange]) -> None:
    """Raise :class:`InputError` where a free batch gets no range that takes one frame, as runtime and proof give it."""
    if manifest.input.shape_nhw[0] is None and profiles and all(each.min_nhw[0] > 1 for each in profiles):
        raise InputError(
            f"no shape range takes a single frame, the smallest batch is {min(each.min_nhw[0] for each in profiles)}; "
            "give --min-shape 1xHxW, or fix the batch when the checkpoint is exported (--shape)"
        )


def check_windows(manifest: Manifest, profiles: Sequence[ShapeRange]) -> None:
    """Raise :class:`InputError` where the windows that the runtime cuts fit no range."""
    crop, inside = manifest.inference.crop_hw, manifest.inference.windows_in_graph
    if crop is None or inside or not profiles:
        return
    if not any(_holds(each, crop) for each in profiles):
        raise InputError(
            f"no shape range takes this model's windows of {crop[0]}x{crop[1]}, which is all that the plan is shown; "
            f"give --min-shape and --max-shape that hold 1x{crop[0]}x{crop[1]}, or leave them out"
        )


def _holds(profile: ShapeRange, size_hw: tuple[int, int]) -> bool:
    """Whether a range holds frames of a size."""
    sides = zip(profile.min_nhw[1:], size_hw, profile.max_nhw[1:], strict=True)
    return all(least <= side <= most for least, side, most in sides)


def _built_for(place: PlanPlace, options: PlanOptions) -> str | None:
    """The compute capability of the cards that the plan will be for, None for every one from Ampere on."""
    if place.library.name == "tensorrt" and place.cuda is not None:
        return place.cuda.compute_capability
    return options.compute_capability


def _engine_spec(place: PlanPlace, built: BuiltPlan, onnx_sha256: str, options: PlanOptions) -> EngineSpec:
    return EngineSpec(
        builder=place.library.name,
        builder_version=".".join(map(str, version_numbers(place.library.version))),
        compute_capability=_built_for(place, options),
        onnx_sha256=onnx_sha256,
        plan_sha256=hashlib.sha256(built.plan).hexdigest(),
        hardware_compatible=options.hardware_compatible,
        version_compatible=options.version_compatible,
        profiles=built.profiles,
        layer_precisions={},
    )


def _read_timing_cache(folder: Path, library: TensorRTLibrary) -> bytes | None:
    """What an earlier build in this folder measured.  A cache is a hint: one that cannot be used is left."""
    path = folder / TIMING_CACHE
    if library.name != "tensorrt" or not path.is_file():
        return None
    try:
        return path.read_bytes() if path.stat().st_size <= MAX_TIMING_CACHE_BYTES else None
    except OSError:
        return None


def _why_not_run(place: PlanPlace, options: PlanOptions) -> str | None:
    """Why a plan cannot be run on this machine, or None where it can."""
    built_for = _built_for(place, options)
    wanted = "a card" if built_for is None else f"a card of compute capability {built_for}"
    if place.cuda is None:
        return f"{place.missing}; run isa-export --plan on a machine with {wanted} to have it proven"
    if not fits_card(built_for, options.hardware_compatible, place.cuda.compute_capability):
        return f"this machine's card is {place.cuda.title}; run isa-export --plan on {wanted} to have it proven"
    return None


def _why_refused(place: PlanPlace, error: EngineIncompatibleError) -> str:
    """Why a plan that was just built is refused by this machine's card; raises the error where it must not be.

    TensorRT-RTX builds for its targets on any machine, and a card that is none of them may refuse.
    """
    assert place.cuda is not None
    if place.library.name == "tensorrt" or place.cuda.compute_capability in targets(place.library):
        raise error
    return f"{place.cuda.title} is no target of {place.library.title}, and refuses the plan ({error})"


def _stage(place: PlanPlace, plan: Path, manifest: Manifest) -> Stage:
    assert place.cuda is not None
    assert manifest.engine is not None
    index, allowed = place.cuda.index, manifest.engine.version_compatible
    return Stage(
        f"{place.library.title} {manifest.precision}",
        manifest.precision,
        True,
        # the plan was built here a moment ago: its code is as trusted as the library's
        lambda: Segmenter.open(plan, device=index, resize="none", allow_engine_code=allowed),
    )


def _fit(
    pictures: list[tuple[str, UInt8]], manifest: Manifest, profiles: Sequence[ShapeRange]
) -> list[tuple[str, UInt8]]:
    """The pictures at sizes that the plan takes: those that no profile holds at the first one's best size."""
    inference = manifest.inference
    if not profiles:
        return pictures
    fitted = []
    for name, frame in pictures:
        shown = frame.shape[0], frame.shape[1]
        if inference.crop_hw is not None and not inference.windows_in_graph:
            shown = (min(shown[0], inference.crop_hw[0]), min(shown[1], inference.crop_hw[1]))
        held = any(_holds(each, shown) for each in profiles)
        size = (frame.shape[0], frame.shape[1]) if held else profiles[0].opt_nhw[1:]
        fitted.append((name, resize_frame(frame, size)))
    return fitted

"""An ONNX graph to a TensorRT plan, with ``tensorrt`` 10 and 11 and with ``tensorrt_rtx``.

Works without torch and onnx: a Jetson builds its plan from what was exported elsewhere.
Networks are strongly typed: the graph's own types are the plan's, no flag lowers a precision.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, cast

from isa_deploy.errors import ExportError, InputError
from isa_deploy.export.plan_network import NetworkSummary, check_network, parse_graph, summarise
from isa_deploy.export.plan_profiles import check_profiles, default_profiles
from isa_deploy.export.plan_progress import BuildProgress, BuildWatch, ignore_progress, make_monitor
from isa_deploy.manifest import Manifest, ShapeRange
from isa_deploy.runtime.backends.tensorrt_api import IBuilder, IBuilderConfig, IRtxBuilderConfig, RtxModule
from isa_deploy.runtime.backends.tensorrt_library import TensorRTLibrary
from isa_deploy.runtime.backends.tensorrt_log import TensorRTLog, make_error_recorder, make_logger

__all__ = ["BuiltPlan", "PlanOptions", "build_failure", "build_plan", "check_options", "default_profiles", "targets"]

MAX_WORKSPACE_BYTES = 1 << 40

POLL_S = 0.1
"""How often the waiting thread looks: for Ctrl-C, and for how far the build is."""


@dataclass(frozen=True)
class PlanOptions:
    """What to build.

    ``profiles``: empty for :func:`default_profiles`.  ``workspace_bytes``: the most scratch memory that a
    layer may use, None for all of the card's.  ``hardware_compatible``: for every card from Ampere on
    rather than this one.  ``version_compatible``: for later versions of the library too.
    ``compute_capability``: "8.9", for a card that need not be here; only ``tensorrt_rtx`` does that, and
    where it is None its plan is for every card from Ampere on.
    """

    profiles: tuple[ShapeRange, ...] = ()
    workspace_bytes: int | None = None
    hardware_compatible: bool = False
    version_compatible: bool = False
    compute_capability: str | None = None


@dataclass(frozen=True)
class BuiltPlan:
    """A plan and what is known of it.

    ``timing_cache``: to give to the next build, None where the library has none.  ``profiles``: those
    that it was built with, empty where every side is fixed.  ``warnings``: the library's, a line each.
    """

    plan: bytes
    timing_cache: bytes | None
    profiles: tuple[ShapeRange, ...]
    network: NetworkSummary
    warnings: tuple[str, ...]


def _nothing() -> None:
    """Prepare nothing."""


def build_plan(
    library: TensorRTLibrary,
    onnx: bytes,
    manifest: Manifest,
    options: PlanOptions,
    *,
    timing_cache: bytes | None = None,
    progress: BuildProgress = ignore_progress,
    prepare_thread: Callable[[], None] = _nothing,
) -> BuiltPlan:
    """Build a plan from an ONNX file's bytes.

    The build runs in a thread of its own and the calling one waits, so that Ctrl-C is answered at
    TensorRT's next step: then, and where ``progress`` raises, the build is stopped and the exception goes
    on.  ``prepare_thread`` is called first in the building thread, to choose its CUDA device: that is a
    property of the thread.

    Raises :class:`InputError` for options that cannot be met, :class:`ExportError` where the graph is
    refused or the build fails, and what ``progress`` and ``prepare_thread`` raise.
    """
    profiles = check_options(library, manifest, options, timing_cache)
    watch = BuildWatch()
    log = TensorRTLog()
    # TensorRT keeps bare pointers to these: they outlive whatever the building thread makes
    listeners = _Listeners(
        log,
        make_logger(library.module, log),
        make_error_recorder(library.module, log),
        make_monitor(library.module, watch),
    )

    def work() -> BuiltPlan:
        prepare_thread()
        return _build(library, onnx, manifest, options, profiles, timing_cache, listeners)

    with ThreadPoolExecutor(1, thread_name_prefix="tensorrt-build") as pool:
        future = pool.submit(work)
        try:
            told = None
            while not wait([future], timeout=POLL_S).done:
                state = watch.read()
                if state != told and state[0]:
                    progress(*state)
                    told = state
        finally:
            watch.cancel()  # nothing where the build has ended
    failed = future.exception()
    if failed is not None:
        # the frames of the building thread hold the builder and its device memory: free them now, not when
        # somebody lets go of the exception
        traceback.clear_frames(failed.__traceback__)
        try:
            raise failed
        finally:
            del failed, future
    progress("Built", 1.0)
    return future.result()


@dataclass(frozen=True)
class _Listeners:
    """What TensorRT calls while it builds, and the log that they write into."""

    log: TensorRTLog
    logger: Any
    recorder: Any
    monitor: Any


def check_options(
    library: TensorRTLibrary, manifest: Manifest, options: PlanOptions, timing_cache: bytes | None = None
) -> tuple[ShapeRange, ...]:
    """The profiles to build with, after everything that can be told without TensorRT.

    Raises :class:`InputError` for an option that the library or the graph does not allow.
    """
    if options.workspace_bytes is not None and options.workspace_bytes < 1:
        raise InputError(f"a workspace of {options.workspace_bytes} bytes is none; give at least 1, or leave it out")
    if options.workspace_bytes is not None and options.workspace_bytes > MAX_WORKSPACE_BYTES:
        raise InputError(
            f"a workspace of {options.workspace_bytes >> 20} MiB is more than any card has; give at most "
            f"{MAX_WORKSPACE_BYTES >> 20}, or leave it out"
        )
    if library.name == "tensorrt_rtx":
        if options.hardware_compatible:
            raise InputError(
                f"{library.title} has no --hardware-compatible: its plans run on every card from Ampere on unless "
                "--compute-capability names one; leave it out"
            )
        if options.version_compatible:
            raise InputError(
                f"{library.title} has no --version-compatible: its packages lack the lean runtime that such a plan "
                "carries; leave it out, and build again for another version"
            )
        if timing_cache is not None:
            raise InputError(f"{library.title} measures nothing at build and has no timing cache; leave it out")
        if options.compute_capability is not None:
            _target(library, options.compute_capability)
    elif options.compute_capability is not None:
        raise InputError(
            f"{library.title} builds for the card that is there, not for compute capability "
            f"{options.compute_capability}; leave it out, or build with --target rtx"
        )
    return check_profiles(manifest, options.profiles)


def targets(library: TensorRTLibrary) -> tuple[str, ...]:
    """The compute capabilities that a plan can be built for without such a card: ("7.5", ...), or none."""
    if library.name != "tensorrt_rtx":
        return ()
    numbers = sorted(
        int(name[2:]) for name in dir(cast(RtxModule, library.module).ComputeCapability) if re.fullmatch(r"SM\d+", name)
    )
    return tuple(f"{number // 10}.{number % 10}" for number in numbers)


def _target(library: TensorRTLibrary, compute_capability: str) -> Any:
    """``ComputeCapability.SM89`` for "8.9"."""
    known = targets(library)
    if compute_capability not in known:
        raise InputError(
            f"{library.title} has no target '{compute_capability}'; it has {', '.join(known)}, and without "
            "--compute-capability it builds for every card from 8.0 on"
        )
    return getattr(cast(RtxModule, library.module).ComputeCapability, "SM" + compute_capability.replace(".", ""))


def _build(
    library: TensorRTLibrary,
    onnx: bytes,
    manifest: Manifest,
    options: PlanOptions,
    profiles: tuple[ShapeRange, ...],
    timing_cache: bytes | None,
    listeners: _Listeners,
) -> BuiltPlan:
    """The build itself, in the building thread.  Everything that TensorRT made stays in this frame."""
    module = library.module
    log = listeners.log
    builder = _make_builder(library, listeners)
    network = builder.create_network(1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = module.OnnxParser(network, listeners.logger)
    parse_graph(library, parser, network, onnx, log)
    summary = summarise(library, network)
    check_network(summary, manifest)

    # not earlier: a network that was made with a recorder on its builder crashes when its parser is freed
    # (TensorRT-RTX 1.7); until here the logger hears what the recorder would
    builder.error_recorder = listeners.recorder
    config = builder.create_builder_config()
    config.progress_monitor = listeners.monitor
    config.profiling_verbosity = module.ProfilingVerbosity.DETAILED
    config.clear_flag(module.BuilderFlag.TF32)  # its products have 10 bits, and float32 is proven to 1e-3
    if library.name == "tensorrt_rtx":
        config.set_flag(cast(RtxModule, module).BuilderFlag.REQUIRE_USER_ALLOCATION)
    if options.version_compatible:
        config.set_flag(module.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        config.hardware_compatibility_level = module.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if options.compute_capability is not None:
        _set_target(library, config, options.compute_capability)
    cache = _set_timing_cache(library, config, timing_cache, log) if library.name == "tensorrt" else None
    kept = []
    for shapes in profiles:
        kept.append(_add_profile(library, builder, config, manifest.input.name, shapes, log))

    if not builder.is_network_supported(network, config):
        raise build_failure(library, options, log, "cannot build this graph")
    memory = builder.build_serialized_network(network, config)
    if memory is None:
        raise build_failure(library, options, log, "could not build the plan")
    plan = bytes(memory)
    if not plan:
        raise build_failure(library, options, log, "built a plan of 0 bytes")
    measured = config.get_timing_cache() if cache is not None else None
    return BuiltPlan(
        plan,
        None if measured is None else bytes(measured.serialize()),
        profiles,
        summary,
        log.warnings,
    )


def _make_builder(library: TensorRTLibrary, listeners: _Listeners) -> IBuilder:
    try:
        builder: IBuilder | None = library.module.Builder(listeners.logger)
    except TypeError:  # how pybind11 says that the library returned none
        builder = None
    if builder is None:
        raise ExportError(
            f"{library.title} cannot start a builder ({listeners.log.reason()}); it needs an NVIDIA card and its "
            "driver, see nvidia-smi"
        )
    return builder


def _set_target(library: TensorRTLibrary, config: IBuilderConfig, compute_capability: str) -> None:
    rtx = cast(IRtxBuilderConfig, config)
    rtx.num_compute_capabilities = 1
    if not rtx.set_compute_capability(_target(library, compute_capability), 0):
        raise ExportError(
            f"{library.title} refuses compute capability {compute_capability}; it lists {', '.join(targets(library))}"
        )


def _set_timing_cache(
    library: TensorRTLibrary, config: IBuilderConfig, timing_cache: bytes | None, log: TensorRTLog
) -> Any:
    """Start from an earlier build's measurements, or from none where the library refuses them."""
    if timing_cache:
        cache = config.create_timing_cache(timing_cache)
        if cache is not None and config.set_timing_cache(cache, False):
            return cache
        log.add_warning(
            f"the timing cache of {len(timing_cache)} bytes is not of {library.title} on this card; everything is "
            "measured anew"
        )
    cache = config.create_timing_cache(b"")
    return cache if cache is not None and config.set_timing_cache(cache, False) else None


def _add_profile(
    library: TensorRTLibrary,
    builder: IBuilder,
    config: IBuilderConfig,
    name: str,
    shapes: ShapeRange,
    log: TensorRTLog,
) -> Any:
    """Add a profile, and return it to be kept.  Setting its shapes never fails; adding it does."""
    profile = builder.create_optimization_profile()
    profile.set_shape(name, (*shapes.min_nhw, 3), (*shapes.opt_nhw, 3), (*shapes.max_nhw, 3))
    if config.add_optimization_profile(profile) < 0:
        raise ExportError(
            f"{library.title} refuses shapes {shapes} ({log.reason()}); give others to --min-shape and --max-shape"
        )
    return profile


def build_failure(library: TensorRTLibrary, options: PlanOptions, log: TensorRTLog, what: str) -> ExportError:
    """The error of a failed build, in one line: TensorRT's own words, and what to do."""
    if log.out_of_memory is not None:
        return ExportError(
            f"{library.title} {what}: the GPU's memory did not suffice ({log.out_of_memory}); reduce --max-shape or "
            f"--workspace, or close other programs that use the card (all errors: {log.reason()})"
        )
    advice = ""
    if options.version_compatible and "lean" in log.reason():
        advice = "; --version-compatible needs TensorRT's lean runtime, a package of its own: pip install tensorrt-lean"
    if options.workspace_bytes is not None and "workspace" in log.reason().lower():
        advice = f"; raise --workspace above {options.workspace_bytes} bytes, or leave it out"
    return ExportError(f"{library.title} {what}: {log.reason()}{advice}")

"""A whole measurement: shape after shape, all contestants open at once, one at work."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol

import isa_deploy
from isa_deploy.bench.contestants import Contestant, Engine, Product, Shape, engine_manifest, graph_of, shape_words
from isa_deploy.bench.energy import Meter, find_meters
from isa_deploy.bench.environment import machine
from isa_deploy.bench.flops import count_gflop
from isa_deploy.bench.frame_split import FrameSplit, Stage
from isa_deploy.bench.race import Limit, race
from isa_deploy.bench.record import FORMAT_VERSION, Peak, Record, ShapeRecord, make_peak, make_result
from isa_deploy.bench.worker_process import Facts, Worker
from isa_deploy.manifest import Manifest

__all__ = ["Progress", "Request", "measure"]


class Progress(Protocol):
    """Who is told how far the measurement is."""

    def say(self, step: str) -> None:
        """A step begins."""

    def advance(self, part: float) -> None:
        """How much of the step is done, 0 to 1."""


@dataclass(frozen=True)
class Request:
    """What is to be measured.  ``clip``: a video for the split of a frame's time; None: a drawn one."""

    engine: Path
    manifest: Manifest
    contestants: tuple[Contestant, ...]
    shapes: tuple[Shape, ...]
    limit: Limit
    schedule: str
    clip: Path | None
    debug: bool


def measure(request: Request, progress: Progress) -> Record:
    """Measure.  Raises what a contestant's opening raises, and :class:`EngineError` where one dies."""
    environment = machine()  # before: the load is that of others
    meters = find_meters()
    notes: list[str] = []
    shapes = [_measure_shape(request, shape, meters, notes, progress) for shape in request.shapes]
    manifest = request.manifest
    return Record(
        format="isa-bench",
        format_version=FORMAT_VERSION,
        made_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        isa_deploy=isa_deploy.__version__,
        command=tuple(sys.argv[1:]),
        model={
            "path": str(request.engine),
            "architecture": manifest.architecture,
            "precision": manifest.precision,
            "mode": manifest.inference.mode,
            "checkpoint": manifest.source.file,
            "checkpoint_sha256": manifest.source.sha256,
        },
        environment=environment,
        schedule=request.schedule,
        energy_meters=tuple(meter.name for meter in meters),
        notes=tuple(dict.fromkeys(notes)),
        shapes=tuple(shapes),
    )


def _measure_shape(
    request: Request, shape: Shape, meters: Sequence[Meter], notes: list[str], progress: Progress
) -> ShapeRecord:
    title = shape_words(shape)
    gflop = _gflop(request, shape, notes, progress)
    with ExitStack() as stack:
        runners = _open_contestants(request, shape, meters, notes, progress, stack)
        products = []
        for product in _products([runner.facts for runner in runners]):
            progress.say(f"{title}: opening the yardstick, a {product.kind} in {product.precision}")
            products.append(stack.enter_context(Worker(product, shape, meters, request.debug)))
        warm_ups = []
        for runner in (*runners, *products):
            progress.say(f"{title}: warming up {runner.facts.name}")
            warm_ups.append(runner.warm_up())
        between = ", with the yardstick between" if products else ""
        progress.say(f"{title}: measuring {len(runners)} in turns{between}")
        turns = race([*runners, *products], request.limit, after_round=progress.advance)
        yardsticks = list(zip([product.facts for product in products], turns[len(runners) :], strict=True))
        peaks = {
            precision: make_peak(precision, [each for each in yardsticks if each[0].precision == precision])
            for precision in dict.fromkeys(facts.precision for facts, _ in yardsticks)
        }
        results = [
            make_result(
                runner.facts, warm_up, taken, turns[0], gflop, _peak_for(runner.facts, peaks), runner.peak_mib()
            )
            for runner, warm_up, taken in zip(runners, warm_ups, turns, strict=False)
        ]
        for worker in (*runners[1:], *products):
            worker.close()
        split = _split(request, runners[0], shape, notes, progress)
    if gflop is not None:
        if any(result.peak_share is None and result.facts.device != "cpu" for result in results):
            notes.append("no share of the peak is told for engines on a GPU: its peak is not measured here")
        if any(_arithmetic(result.facts) is None and result.facts.device == "cpu" for result in results):
            notes.append("no share of the peak is told for int8 engines: the peak of int8 is not measured here")
    return ShapeRecord(shape, gflop, len(turns[0]), tuple(results), tuple(peaks.values()), split)


def _open_contestants(
    request: Request, shape: Shape, meters: Sequence[Meter], notes: list[str], progress: Progress, stack: ExitStack
) -> list[Worker]:
    opened: list[Worker] = []
    for contestant in request.contestants:
        progress.say(f"{shape_words(shape)}: opening {_words(contestant)}")
        worker = stack.enter_context(Worker(contestant, shape, meters, request.debug))
        if any(worker.facts.name == other.facts.name for other in opened):
            notes.append(f"{worker.facts.name} was asked for twice, and measured once")
            worker.close()
        else:
            opened.append(worker)
    return opened


def _words(contestant: Contestant) -> str:
    if not isinstance(contestant, Engine):
        return "the checkpoint in torch"
    return "the best backend" if contestant.backend == "auto" else contestant.backend


def _gflop(request: Request, shape: Shape, notes: list[str], progress: Progress) -> float | None:
    graph = graph_of(request.engine)
    if graph is None:
        notes.append("GFLOP unknown: the plan's graph, in which they are counted, is not beside it")
        return None
    progress.say("counting the graph's operations")
    gflop = count_gflop(graph, engine_manifest(graph), (shape[1], shape[2]))
    if gflop is None:
        notes.append("GFLOP unknown: OpenVINO, which counts them in the graph, is not installed or cannot read it")
    return gflop


def _products(contestants: Sequence[Facts]) -> list[Product]:
    """The yardsticks that the contestants need."""
    wanted = [_arithmetic(facts) for facts in contestants if facts.device == "cpu"]
    precisions = dict.fromkeys(each for each in wanted if each is not None)
    if importlib.util.find_spec("openvino") is None:
        return [Product("matrix product", "fp32")] if "fp32" in precisions else []
    return [Product(kind, precision) for precision in precisions for kind in ("convolution", "matrix product")]


def _arithmetic(facts: Facts) -> str | None:
    """What a contestant computes in on a CPU: float32, whatever its weights are in, unless OpenVINO has bfloat16.

    None for int8 and what is mixed with it, which is held against no yardstick.
    """
    if facts.precision == "int8":
        return None
    return "bf16" if facts.library == "openvino" and facts.precision == "bf16" else "fp32"


def _peak_for(facts: Facts, peaks: dict[str, Peak]) -> Peak | None:
    arithmetic = _arithmetic(facts)
    return None if arithmetic is None or facts.device != "cpu" else peaks.get(arithmetic)


def _split(request: Request, worker: Worker, shape: Shape, notes: list[str], progress: Progress) -> FrameSplit | None:
    batch, height, width = shape
    if batch > 1:
        notes.append("a frame's time is split for one frame a call only; add --shape HxW")
        return None
    if request.schedule == "throughput":
        notes.append("the engine's step is of one frame alone, which the schedule throughput does not hurry")
    progress.say(f"{height}x{width}: splitting a frame's time")
    told = worker.split((height, width), None if request.clip is None else str(request.clip))
    return FrameSplit(
        frame_hw=(told["frame_hw"][0], told["frame_hw"][1]),
        network_hw=(told["network_hw"][0], told["network_hw"][1]),
        clip=told["clip"],
        stages=tuple(Stage(**stage) for stage in told["stages"]),
    )

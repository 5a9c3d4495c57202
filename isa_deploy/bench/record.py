"""The record of a measurement, as isa-bench prints it and as it writes it.

The JSON file is :class:`Record`, field by field, with ``"format": "isa-bench"`` and ``"format_version": 1``:

- ``made_at`` (ISO 8601, UTC), ``isa_deploy`` (version), ``command`` (the arguments);
- ``model``: ``path``, ``architecture``, ``precision``, ``mode`` ("whole" or "slide"), ``checkpoint`` (file name) and
  ``checkpoint_sha256``;
- ``environment``: :func:`isa_deploy.bench.environment.machine`;
- ``schedule``: "latency" or "throughput"; ``energy_meters``: names, empty where the machine tells nothing;
- ``notes``: what was left out, in sentences;
- ``shapes``: a list of :class:`ShapeRecord`: ``shape_nhw``, ``gflop_per_frame`` (null: unknown), ``rounds``,
  ``results`` (:class:`Result`), ``peaks`` (:class:`Peak`), ``split`` (:class:`isa_deploy.bench.frame_split.FrameSplit`,
  or null).

Times are in ``_s`` seconds or ``_ms`` milliseconds, memory in MiB, energy in joules.  A field that the machine or a
library does not tell is null.  A higher ``format_version`` means that a field changed its meaning or went away; new
fields may come at any time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from isa_deploy.bench.contestants import Shape
from isa_deploy.bench.figures import Tail, median, pair_ratios, tail
from isa_deploy.bench.frame_split import FrameSplit
from isa_deploy.bench.pace import WarmUp
from isa_deploy.bench.race import Turn
from isa_deploy.bench.worker_process import Facts
from isa_deploy.files import replacing

__all__ = ["FORMAT_VERSION", "Peak", "Record", "Result", "ShapeRecord", "make_peak", "make_result", "write_record"]

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Peak:
    """What the processor reaches at most, measured in turns with the contestants: the median of the rounds.

    ``what``: the product; ``library``: what computed it; ``rates``: GFLOP/s by round.
    """

    precision: str
    what: str
    library: str
    gflop_per_s: float
    rates: tuple[float, ...]


@dataclass(frozen=True)
class Result:
    """One contestant at one shape, from frames in host memory to labels in host memory.

    ``median_ms``, ``tail``: of a call of N frames, over ``calls`` calls; in a pipeline from submission to result.
    ``frames_per_s``, ``gflop_per_s``: the median of the rounds.  ``peak_share``: of the machine's measured peak in the
    same arithmetic, the median of each round's ratio; nothing caps it at 1.  ``speed_to_first``: median, least and most
    of the rounds' ratios of its frames a second to the first contestant's.  ``peak_mib``: the most memory of the
    contestant's process; ``growth_mib``: of that, what came after Python, numpy and OpenCV.  ``energy_j_per_frame`` by
    meter, of the whole processor or card.  ``turns``: what every figure comes from.
    """

    facts: Facts
    warm_up: WarmUp
    calls: int
    median_ms: float
    tail: Tail
    frames_per_s: float
    gflop_per_s: float | None
    peak_share: float | None
    speed_to_first: tuple[float, float, float]
    peak_mib: float | None
    growth_mib: float | None
    energy_j_per_frame: dict[str, float]
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class ShapeRecord:
    """All contestants at one shape; the first result is what the others are compared with."""

    shape_nhw: Shape
    gflop_per_frame: float | None
    rounds: int
    results: tuple[Result, ...]
    peaks: tuple[Peak, ...]
    split: FrameSplit | None


@dataclass(frozen=True)
class Record:
    """See the module."""

    format: str
    format_version: int
    made_at: str
    isa_deploy: str
    command: tuple[str, ...]
    model: dict[str, str]
    environment: dict[str, object]
    schedule: str
    energy_meters: tuple[str, ...]
    notes: tuple[str, ...]
    shapes: tuple[ShapeRecord, ...]


def make_peak(precision: str, products: Sequence[tuple[Facts, Sequence[Turn]]]) -> Peak:
    """The best of the products of one precision: the one with the highest median."""
    rates = [[turn.rate * (facts.gflop or 0.0) for turn in turns] for facts, turns in products]
    best = max(range(len(products)), key=lambda index: median(rates[index]))
    facts = products[best][0]
    return Peak(precision, facts.name, facts.library, median(rates[best]), tuple(rates[best]))


def make_result(
    facts: Facts,
    warm_up: WarmUp,
    turns: Sequence[Turn],
    first: Sequence[Turn],
    gflop: float | None,
    peak: Peak | None,
    peak_mib: float | None,
) -> Result:
    """A contestant's figures from its turns, those of the first contestant and the peak of the same rounds."""
    calls_ms = [seconds * 1e3 for turn in turns for seconds in turn.calls_s]
    rates = [turn.rate for turn in turns]
    ratios = pair_ratios(rates, [turn.rate for turn in first])
    gflop_rates = None if gflop is None else [gflop * rate for rate in rates]
    peak_share = None
    if gflop_rates is not None and peak is not None:
        peak_share = median(pair_ratios(gflop_rates, peak.rates))
    growth_mib = None if peak_mib is None or facts.before_mib is None else peak_mib - facts.before_mib
    frames = sum(turn.frames for turn in turns)
    meters = set.intersection(*(set(turn.energy_j) for turn in turns))
    return Result(
        facts=facts,
        warm_up=warm_up,
        calls=len(calls_ms),
        median_ms=median(calls_ms),
        tail=tail(calls_ms),
        frames_per_s=median(rates),
        gflop_per_s=None if gflop_rates is None else median(gflop_rates),
        peak_share=peak_share,
        speed_to_first=(median(ratios), min(ratios), max(ratios)),
        peak_mib=peak_mib,
        growth_mib=growth_mib,
        energy_j_per_frame={name: sum(turn.energy_j[name] for turn in turns) / frames for name in sorted(meters)},
        turns=tuple(turns),
    )


def write_record(path: Path, record: Record) -> None:
    """Write the JSON file, whole or not at all.  Raises :class:`InputError` where the system refuses."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(asdict(record), indent=1, allow_nan=False) + "\n", encoding="utf-8")

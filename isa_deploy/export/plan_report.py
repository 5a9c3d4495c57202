"""The proof of a plan on paper: ``plan-report.json`` for machines and ``plan-report.html`` for people.

``plan-report.json`` holds these keys; none is ever missing, and a number that is not finite (logits that
broke) is the string ``"nan"``, ``"inf"`` or ``"-inf"``, because JSON has none:

``format_version``
    1.
``source``
    What the plan was compared with, in words: "the graph in ONNX Runtime"; null where it was not run.
``not_run``
    Why the plan was not run on this machine; null where it was.
``passed``, ``failures``, ``threshold``, ``margin``, ``logits_tolerance``
    The comparison's outcome and what was asked, as in ``report.json`` (:mod:`isa_deploy.export.report`) with
    ``source`` for the checkpoint.  Where the plan was not run, ``failures`` is empty and the others are null.
``frames``, ``stages``, ``comparisons``, ``skipped``
    The comparison, as in ``report.json``; empty where the plan was not run.
``card``
    This machine's card in words, null where it has none.
``plan_bytes``, ``build_seconds``
    Of the build.
``network``
    The graph as TensorRT parsed it: ``layers`` (their number), ``inputs`` and ``outputs`` (name to ``dtype`` and
    ``shape``, a free side being null).
``engine_layers``
    The built engine as its inspector tells it: ``layers`` (their number), ``types`` and ``precisions`` (name to
    layers), ``tactics`` (the kernels chosen most often: ``name`` and ``layers``).  Null where it was not asked.
``warnings``
    TensorRT's, a line each.
``environment``
    Versions and processor, as text.
``command``
    What builds this plan again.
``manifest``
    The plan's manifest, as in ``NAME.json``; its ``engine`` holds the library, its version, the compute
    capability, compatibility, shape ranges and both SHA-256.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from isa_deploy.export.parity import FramePictures, ParityReport, StageComparison
from isa_deploy.export.plan_layers import LayerSummary
from isa_deploy.export.plan_network import NetworkSummary
from isa_deploy.export.plan_report_words import (
    engine_title,
    plan_command,
    plan_facts,
    plan_verdict,
    shape_words,
    sides_of,
    sizes_words,
    tensor_rows,
)
from isa_deploy.export.publishing import PLAN_REPORT_FILES
from isa_deploy.export.report_files import render_page
from isa_deploy.export.report_pictures import frame_figures
from isa_deploy.export.report_tables import class_rows, frame_lines, legend, proof_record, shown_stage, summaries
from isa_deploy.export.report_words import failed, model_facts
from isa_deploy.manifest import EngineSpec, Manifest
from isa_deploy.pages.texts import json_text, write_texts
from isa_deploy.runtime.backends.signature import TensorSpec
from isa_deploy.runtime.backends.tensorrt_log import one_line
from isa_deploy.runtime.opening import ONNX_FILE

__all__ = ["PlanReport", "plan_report_html", "plan_report_json", "write_plan_report"]

FORMAT_VERSION = 1

MAX_LINES = 20
"""Of a list on the page that TensorRT, a graph or a broken plan can make as long as it likes; JSON has all."""

NO_PROOF: dict[str, Any] = {
    "passed": None,
    "failures": [],
    "threshold": None,
    "margin": None,
    "logits_tolerance": None,
    "frames": [],
    "stages": [],
    "comparisons": [],
    "skipped": {},
}


@dataclass(frozen=True)
class PlanReport:
    """What was built, by what, of what, and how it compares.

    ``manifest``: the plan's, with its engine.  ``source``: what it was compared with, in words.  ``proof``: the
    comparison, None where the plan could not be run here, and then ``not_run`` says why.  ``card``: this
    machine's, in words, None where there is none.  ``network``: as TensorRT parsed it; ``layers``: of the
    built engine, None where it could not be asked.  ``build_seconds`` and ``plan_bytes``: of the build.
    ``warnings``: TensorRT's, a line each.  ``graph_file``: the name of the graph that it was built from, and
    ``workspace_bytes`` the limit that it was built with, for the command.
    """

    manifest: Manifest
    source: str | None
    proof: ParityReport | None
    not_run: str | None
    card: str | None
    network: NetworkSummary
    layers: LayerSummary | None
    plan_bytes: int
    build_seconds: float
    warnings: tuple[str, ...]
    environment: dict[str, str]
    graph_file: str = ONNX_FILE
    workspace_bytes: int | None = None


def write_plan_report(report: PlanReport, pictures: Sequence[FramePictures], folder: Path) -> None:
    """Write ``plan-report.json`` and ``plan-report.html`` into an existing folder, each whole or not at all.

    Raises :class:`~isa_deploy.errors.InputError` where a file cannot be written.
    """
    texts = (plan_report_json(report, pictures), plan_report_html(report, pictures))
    write_texts(folder, dict(zip(PLAN_REPORT_FILES, texts, strict=True)))


def plan_report_json(report: PlanReport, pictures: Sequence[FramePictures]) -> str:
    """The text of ``plan-report.json``; its keys are this module's docstring."""
    return json_text(
        {
            "format_version": FORMAT_VERSION,
            "source": report.source,
            "not_run": report.not_run,
            **(NO_PROOF if report.proof is None else proof_record(report.proof, pictures)),
            "card": report.card,
            "plan_bytes": report.plan_bytes,
            "build_seconds": report.build_seconds,
            "network": {
                "layers": report.network.layers,
                "inputs": _specs_record(report.network.inputs),
                "outputs": _specs_record(report.network.outputs),
            },
            "engine_layers": None if report.layers is None else _layers_record(report.layers),
            "warnings": list(report.warnings),
            "environment": report.environment,
            "command": _command(report),
            "manifest": report.manifest.model_dump(mode="json"),
        }
    )


def plan_report_html(report: PlanReport, pictures: Sequence[FramePictures]) -> str:
    """The text of ``plan-report.html``: one file that needs no other, no script and no network.

    Whatever a graph, a plan or TensorRT says is somebody else's: everything is escaped, and the page's own
    policy forbids scripts and whatever is not inside it.
    """
    engine = _engine(report)
    title = engine_title(engine)
    place = f"{report.card or 'this machine'} with {title}"
    return render_page(
        "plan_report.html.j2",
        {
            "manifest": report.manifest.model_copy(update={"engine": None}),
            "title": title,
            "state": "open" if report.proof is None else "good" if report.proof.passed else "bad",
            "verdict": plan_verdict(report.proof, report.not_run, report.source, place, pictures),
            "failures": _bounded(() if report.proof is None else report.proof.failures),
            **_comparison(report, pictures),
            "facts": plan_facts(
                report.manifest, engine, report.card, report.graph_file, report.plan_bytes, report.build_seconds
            ),
            "sizes": sizes_words(report.manifest, engine),
            "ranges": [
                tuple(shape_words(shape) for shape in (each.min_nhw, each.opt_nhw, each.max_nhw))
                for each in engine.profiles
            ],
            "parsed_layers": report.network.layers,
            "tensors": _bounded(tensor_rows(report.network.inputs, report.network.outputs)),
            "layers": _layer_tables(report.layers),
            "warnings": _bounded([one_line(warning) for warning in report.warnings]),
            "model": model_facts(report.manifest.model_copy(update={"engine": None})),
            "environment": [(name, value, False) for name, value in report.environment.items()],
            "command": _command(report),
            "json_file": PLAN_REPORT_FILES[0],
        },
    )


def _engine(report: PlanReport) -> EngineSpec:
    assert report.manifest.engine is not None, "a plan's manifest has its engine"
    return report.manifest.engine


def _command(report: PlanReport) -> str:
    threshold = None if report.proof is None else report.proof.threshold
    return plan_command(report.manifest, _engine(report), report.graph_file, report.workspace_bytes, threshold)


def _specs_record(specs: Mapping[str, TensorSpec]) -> dict[str, Any]:
    return {name: asdict(spec) for name, spec in specs.items()}


def _layers_record(layers: LayerSummary) -> dict[str, Any]:
    return {
        "layers": layers.layers,
        "types": layers.types,
        "precisions": layers.precisions,
        "tactics": [{"name": name, "layers": count} for name, count in layers.tactics],
    }


@dataclass(frozen=True)
class _Bounded:
    """The first entries of a list, and how many more there are."""

    shown: Sequence[Any]
    more: int


def _bounded(entries: Sequence[Any]) -> _Bounded:
    return _Bounded(entries[:MAX_LINES], max(len(entries) - MAX_LINES, 0))


@dataclass(frozen=True)
class _LayerTables:
    """The built engine's layers, each table in falling order as (name, layers)."""

    layers: int
    types: _Bounded
    precisions: _Bounded
    tactics: _Bounded


def _layer_tables(layers: LayerSummary | None) -> _LayerTables | None:
    if layers is None:
        return None
    return _LayerTables(
        layers.layers,
        _bounded(list(layers.types.items())),
        _bounded(list(layers.precisions.items())),
        _bounded(layers.tactics),
    )


@dataclass(frozen=True)
class _Row:
    """One frame's comparison; ``worst_class``: the class of the least IoU, "" where no class differs."""

    comparison: StageComparison
    failed: bool
    iou: float | None
    worst_class: str


def _comparison(report: PlanReport, pictures: Sequence[FramePictures]) -> dict[str, Any]:
    """What the template says of the comparison; empty tables where the plan was not run."""
    proof = report.proof
    if proof is None or report.source is None:
        return {"proof": None, "stages": [], "figures": [], "left_out": 0}
    stages = summaries(proof)
    sides = sides_of(report.source)
    figures = frame_figures(pictures, report.manifest.classes.palette_rgb, shown_stage(stages), sides)
    return {
        "proof": proof,
        "source": report.source,
        "sides": sides,
        "stages": stages,
        "rows": [_row(proof, each) for each in proof.comparisons],
        "with_confidence": any(each.confidence_max_abs is not None for each in proof.comparisons),
        "classes": class_rows(proof, stages),
        "legend": legend(report.manifest, pictures),
        "figures": figures,
        "left_out": len(pictures) - len(figures),
        "frame_lines": frame_lines(proof, figures),
    }


def _row(proof: ParityReport, comparison: StageComparison) -> _Row:
    by_class = comparison.iou_per_class
    worst = min(by_class, key=by_class.__getitem__, default=None)
    least = None if worst is None else by_class[worst]
    named = worst if worst is not None and least is not None and least < 1 else ""
    return _Row(comparison, failed(proof, comparison), least, named)

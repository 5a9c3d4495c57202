"""A model's plan: built, loaded, run and compared with its graph, with every TensorRT that is here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gpu.context import StepContext
from gpu.not_run import NotRunError
from gpu.zoo import MODELS, frame_size
from isa_deploy.errors import BackendUnavailableError, EngineError, ExportError, ParityError
from isa_deploy.export.plan_export import PlanPlace, PlanResult, Target, export_plan, find_place
from isa_deploy.export.plan_profiles import make_range
from isa_deploy.export.tensorrt import PlanOptions, targets
from isa_deploy.runtime.backends.tensorrt_library import BuilderName

__all__ = ["run"]

LIBRARIES: dict[BuilderName, Target] = {"tensorrt": "tensorrt", "tensorrt_rtx": "rtx"}


def run(context: StepContext) -> None:
    """Build with each library; full-size networks only with the first that can.

    Raises :class:`NotRunError` where no library is here or each refuses this card, which it may where it
    does not list it; and what a build raises otherwise.
    """
    onnx = context.onnx(context.model)
    said: dict[str, str] = {}
    built = 0
    for name, target in LIBRARIES.items():
        try:
            place = find_place(target, 0)
            if place.cuda is None:
                raise NotRunError("CUDA sees no GPU")
        except BackendUnavailableError as error:
            said[name] = str(error)
            context.record(**{name: {"not_run": said[name]}})
            continue
        try:
            result = _build(context, onnx, name, place)
        except (EngineError, ExportError) as error:
            supported = targets(place.library)
            if isinstance(error, ParityError) or not supported or place.cuda.compute_capability in supported:
                raise
            said[name] = (
                f"{place.library.title} lists no compute capability {place.cuda.compute_capability} "
                f"({', '.join(supported)}) and refused: {error}"
            )
            context.record(**{name: {"not_run": said[name]}})
            continue
        if result.report.not_run is not None:
            said[name] = result.report.not_run
            context.record(**{name: {"not_run": said[name]}})
            continue
        context.record(**{name: _figures(result)})
        built += 1
        if MODELS[context.model].depth is not None:
            break
    if not built:
        raise NotRunError("; ".join(said.values()))


def _build(context: StepContext, onnx: Path, name: BuilderName, place: PlanPlace) -> PlanResult:
    model = MODELS[context.model]
    height, width = frame_size(context.model, context.scale)
    free = make_range((1, height // 4, width // 4), (1, height, width), (1, height, width))
    return export_plan(
        onnx,
        context.folder / "plans" / name / context.model,
        place=place,
        options=PlanOptions(profiles=() if model.depth is not None else (free,)),
        frames=[context.folder / "scene.png"],
        # random weights lose labels to every rounding, which is no fault of the plan
        min_agreement=0.0 if model.depth is not None else None,
    )


def _figures(result: PlanResult) -> dict[str, Any]:
    report = result.report
    assert report.manifest.engine is not None
    return {
        "version": report.manifest.engine.builder_version,
        "build_seconds": round(report.build_seconds, 1),
        "plan_mib": round(report.plan_bytes / 2**20, 1),
        "network_layers": report.network.layers,
        "layer_precisions": report.manifest.engine.layer_precisions,
        "compared_with": report.source,
        "label_agreement": None
        if report.proof is None
        else min(each.label_agreement for each in report.proof.comparisons),
        "proof_not_run": report.not_run,
        "warnings": list(report.warnings),
    }

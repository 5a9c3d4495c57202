"""The steps in the order of a run: what matters most first, for the deadline cuts the end off."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Protocol, cast

from gpu.context import StepContext
from gpu.scale import Scale

__all__ = ["Step", "StepModule", "load_step", "steps_of"]


class StepModule(Protocol):
    """What a module of a step has."""

    def run(self, context: StepContext) -> None:
        """Measure and record.  Raises :class:`gpu.not_run.NotRunError` where it cannot, anything where it fails."""


@dataclass(frozen=True)
class Step:
    """A module of this package run on a model.  ``budget_s``: seconds after which it is stopped and has failed."""

    module: str
    model: str
    budget_s: float

    @property
    def name(self) -> str:
        """How the record calls it."""
        return f"{self.module} {self.model}".strip()


def load_step(module: str) -> StepModule:
    """The module of a step."""
    return cast(StepModule, importlib.import_module(f"gpu.{module}"))


def steps_of(scale: Scale) -> list[Step]:
    """Every step of a run."""
    steps = [
        Step("environment", "", 60),
        Step("export_model", "demo-fp16", 90),
        Step("export_model", "demo-fp32", 90),
        Step("plan", "demo-fp16", 120),
        Step("parity", "demo-fp16", 90),
        Step("graphs", "demo-fp16", 45),
        Step("device_frames", "demo-fp16", 45),
        Step("native", "demo-fp16", 150),
    ]
    speed = "r50-fp16" if scale.full_size else "demo-fp16"
    if scale.full_size:
        steps += [Step("export_model", speed, 90), Step("plan", speed, 180)]
    steps += [
        Step("rates", speed, 75),
        Step("video", speed, 60),
        Step("memory", speed, 45),
        Step("onnxruntime_cuda", "demo-fp16", 60),
        Step("torch_compile", speed, 120),
    ]
    if scale.full_size:
        last = "r101-fp16"
        steps += [
            Step("export_model", last, 90),
            Step("plan", last, 180),
            Step("rates", last, 75),
            Step("torch_compile", last, 120),
            Step("plan", "demo-fp32", 120),
            Step("parity", "demo-fp32", 90),
        ]
    return steps

"""What a step is given, and where it puts its figures."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu.not_run import NotRunError
from gpu.scale import Scale
from isa_deploy.files import replacing

__all__ = ["StepContext"]


@dataclass
class StepContext:
    """A step's place.

    ``folder`` is shared by all steps of a run; ``scale`` says how much to measure; ``model`` is a name of
    :mod:`gpu.zoo`, or "" for steps that need none.  ``figures`` stand in the file ``path`` after each
    :meth:`record`, so that a step that is stopped keeps what it had measured.
    """

    folder: Path
    scale: Scale
    model: str
    path: Path
    figures: dict[str, Any] = field(default_factory=dict)

    def record(self, **figures: Any) -> None:
        """Add figures (JSON values)."""
        self.figures.update(figures)
        self._write({"figures": self.figures})

    def finish(self) -> None:
        """Say that the step passed."""
        self._write({"figures": self.figures, "status": "passed"})

    def refuse(self, reason: str) -> None:
        """Say that the step cannot run here."""
        self._write({"figures": self.figures, "status": "not run", "reason": reason})

    @property
    def device_name(self) -> str:
        """The GPU's name as the first step found it, "" where that step was not run."""
        path = self.folder / "environment.json"
        if not path.is_file():
            return ""
        device = json.loads(path.read_text(encoding="utf-8"))["figures"].get("device")
        return "" if device is None else str(device["name"])

    def onnx(self, model: str) -> Path:
        """The exported graph of a model.  Raises :class:`NotRunError` where there is none."""
        path = self.folder / "models" / model / "model.onnx"
        if not path.is_file():
            raise NotRunError(f"there is no graph of {model}: its export did not pass")
        return path

    def plan(self, model: str) -> Path:
        """The plan of a model, TensorRT's where both libraries built one.

        Raises :class:`NotRunError` where there is none.
        """
        for library in ("tensorrt", "tensorrt_rtx"):
            path = self.folder / "plans" / library / model / "model.plan"
            if path.is_file():
                return path
        raise NotRunError(f"there is no plan of {model}: none was built, see the step 'plan {model}'")

    def _write(self, content: dict[str, Any]) -> None:
        with replacing(self.path) as temporary:
            temporary.write_text(json.dumps(content), encoding="utf-8")

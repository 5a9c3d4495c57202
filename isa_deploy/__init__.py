"""isa-deploy: a trained ISANet checkpoint to a proven engine, and a small runtime that serves it.

Everything here is loaded on first use: ``import isa_deploy`` costs a few milliseconds and loads neither
torch nor OpenCV nor any engine.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from isa_deploy.errors import (
    BackendUnavailableError,
    CheckpointError,
    EngineError,
    EngineIncompatibleError,
    ExportError,
    InputError,
    IsaError,
    ManifestError,
    ParityError,
)

if TYPE_CHECKING:
    from isa_deploy.export.pipeline import export
    from isa_deploy.manifest import Manifest
    from isa_deploy.runtime.palette import colorize, overlay
    from isa_deploy.runtime.segmenter import Segmenter
    from isa_deploy.runtime.tiling import Tiling

__version__ = "0.1.0"

__all__ = [
    "BackendUnavailableError",
    "CheckpointError",
    "EngineError",
    "EngineIncompatibleError",
    "ExportError",
    "InputError",
    "IsaError",
    "Manifest",
    "ManifestError",
    "ParityError",
    "Segmenter",
    "Tiling",
    "__version__",
    "colorize",
    "export",
    "overlay",
]

_HOME = {
    "Manifest": "isa_deploy.manifest",
    "Segmenter": "isa_deploy.runtime.segmenter",
    "colorize": "isa_deploy.runtime.palette",
    "export": "isa_deploy.export.pipeline",
    "Tiling": "isa_deploy.runtime.tiling",
    "overlay": "isa_deploy.runtime.palette",
}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'isa_deploy' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)

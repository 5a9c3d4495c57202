"""Every error that isa-deploy raises on purpose, and nothing else.

::

    IsaError
    ├── CheckpointError            a checkpoint that cannot be read, or is not an ISANet
    ├── ManifestError              a manifest that is missing, malformed or from a newer version
    ├── ExportError                an export that could not be made
    │   └── ParityError            an export that was made and does not equal its checkpoint
    ├── EngineError                an engine file that cannot be opened or run
    │   └── EngineIncompatibleError    ... because it was built for something else
    ├── BackendUnavailableError    the library that a backend needs is not installed
    └── InputError                 an image, a video, a folder or an argument that cannot be used

A message is one line: what was wrong, with its value, and what to do about it.
"""

from __future__ import annotations

__all__ = [
    "BackendUnavailableError",
    "CheckpointError",
    "EngineError",
    "EngineIncompatibleError",
    "ExportError",
    "InputError",
    "IsaError",
    "ManifestError",
    "ParityError",
]


class IsaError(Exception):
    """Base of every error that isa-deploy raises on purpose."""


class CheckpointError(IsaError):
    """A checkpoint that cannot be read, is unsafe to read, or is not an ISANet."""


class ManifestError(IsaError):
    """A manifest that is missing, malformed, or written by a newer isa-deploy."""


class ExportError(IsaError):
    """An export that could not be made."""


class ParityError(ExportError):
    """An export that was made and does not agree with its checkpoint."""


class EngineError(IsaError):
    """An engine file that cannot be opened or run."""


class EngineIncompatibleError(EngineError):
    """An engine that was built for another library version or another device."""


class BackendUnavailableError(IsaError):
    """The library that the wanted backend needs is not installed on this machine."""


class InputError(IsaError):
    """An image, a video, a folder or an argument that cannot be used."""

"""A graph's inputs and outputs held against its manifest, before a frame is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from isa_deploy.errors import EngineError
from isa_deploy.manifest import Manifest

__all__ = ["TensorSpec", "check_signature"]


@dataclass(frozen=True)
class TensorSpec:
    """An input or output: its element type as numpy names it, and its sides, None where they are free."""

    dtype: str
    shape: tuple[int | None, ...]


def check_signature(
    path: Path, manifest: Manifest, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]
) -> None:
    """Raise :class:`EngineError` where the graph is not the one that the manifest describes."""
    named = manifest.outputs
    wanted = [
        (inputs, "input", manifest.input.name, "uint8", 4, None),
        (outputs, "output", named.labels, "uint8", 3, None),
        (outputs, "output", named.logits, "float32", 4, len(manifest.classes.names)),
    ]
    if named.confidence is not None:
        wanted.append((outputs, "output", named.confidence, "uint8", 3, None))
    for tensors, kind, name, dtype, rank, channels in wanted:
        spec = tensors.get(name)
        if spec is None:
            raise EngineError(
                f"{path}: the graph has no {kind} '{name}', which its manifest names (it has {', '.join(tensors)}); "
                "export the model again"
            )
        if spec.dtype != dtype or len(spec.shape) != rank or (channels and spec.shape[1] not in (None, channels)):
            shape = "x".join("?" if side is None else str(side) for side in spec.shape)
            classes = f" of {channels} classes" if channels else ""
            raise EngineError(
                f"{path}: {kind} '{name}' is {spec.dtype} {shape}, and its manifest describes {dtype} with {rank} "
                f"axes{classes}; export the model again"
            )

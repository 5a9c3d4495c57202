"""What a built engine is made of, read from the engine inspector's JSON."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

__all__ = ["LayerSummary", "layer_summary"]

MAX_ENTRIES = 64
MAX_TACTICS = 20
MAX_CHARACTERS = 200

TYPE_KEYS = ("Format/Datatype", "Datatype", "DataType")

TYPES = {
    "bfloat16": "BFloat16",
    "bf16": "BFloat16",
    "half": "Half",
    "fp16": "Half",
    "float16": "Half",
    "float": "Float",
    "fp32": "Float",
    "float32": "Float",
    "fp8": "FP8",
    "int8": "Int8",
    "uint8": "UInt8",
    "int32": "Int32",
    "int64": "Int64",
    "bool": "Bool",
}
"""TensorRT's words for a type, in lower case: "Half", but also "Row major linear FP16 format"."""


@dataclass(frozen=True)
class LayerSummary:
    """An engine's layers, counted.

    ``layers``: how many.  ``types``: by kind, "gemm".  ``precisions``: by the type of what they write,
    "Half"; a layer that writes two types counts for both.  ``tactics``: the kernels that were chosen most
    often.  Each in falling order; what the inspector did not tell is missing.
    """

    layers: int
    types: dict[str, int]
    precisions: dict[str, int]
    tactics: tuple[tuple[str, int], ...]


def layer_summary(information_json: str) -> LayerSummary:
    """Count what ``get_engine_information`` tells in JSON.

    Without detailed profiling verbosity that is names alone, and other versions have other keys: what is
    not there, or is not of the expected kind, is left out.
    """
    types: Counter[str] = Counter()
    precisions: Counter[str] = Counter()
    tactics: Counter[str] = Counter()
    layers = _layers(information_json)
    for layer in layers:
        if not isinstance(layer, dict):
            continue
        kind = _text(layer.get("LayerType"))
        if kind:
            types[kind] += 1
        precisions.update(_written_types(layer.get("Outputs")))
        tactic = _text(layer.get("TacticName")) or _text(layer.get("TacticValue"))
        if tactic:
            tactics[tactic] += 1
    return LayerSummary(
        len(layers),
        dict(types.most_common(MAX_ENTRIES)),
        dict(precisions.most_common(MAX_ENTRIES)),
        tuple(tactics.most_common(MAX_TACTICS)),
    )


def _layers(information_json: str) -> list[Any]:
    try:
        information: Any = json.loads(information_json)
    except (ValueError, RecursionError):
        return []
    if isinstance(information, dict):
        information = information.get("Layers")
    return information if isinstance(information, list) else []


def _written_types(outputs: Any) -> set[str]:
    found = set()
    for tensor in outputs if isinstance(outputs, list) else []:
        if not isinstance(tensor, dict):
            continue
        wording = next((text for text in (_text(tensor.get(key)) for key in TYPE_KEYS) if text), "")
        words = re.findall(r"[a-z0-9]+", wording.lower())
        name = next((TYPES[word] for word in words if word in TYPES), wording)
        if name and "n/a" not in name.lower():
            found.add(name)
    return found


def _text(value: Any) -> str:
    return " ".join(value.split())[:MAX_CHARACTERS] if isinstance(value, str) else ""

"""The plan's own file format: a magic, a JSON header and the ONNX."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["BrokenPlanError", "Plan", "read_plan", "write_plan"]

MAGIC = b"SIPL"

_LENGTHS = struct.Struct("<4sIQ")


class BrokenPlanError(Exception):
    """Not one of our plans, or not all of it.  The message is like TensorRT's."""


@dataclass(frozen=True)
class Plan:
    """What a plan says of itself.  ``profiles``: for each, by input, the least, best and largest shape."""

    library: str
    version: str
    compute_capabilities: tuple[str, ...]
    hardware_compatible: bool
    version_compatible: bool
    detailed: bool
    user_allocation: bool
    profiles: tuple[dict[str, Any], ...]
    onnx: bytes


def write_plan(plan: Plan) -> bytes:
    """The plan's bytes."""
    header = asdict(plan)
    del header["onnx"]
    header["sha256"] = hashlib.sha256(plan.onnx).hexdigest()
    text = json.dumps(header).encode()
    return _LENGTHS.pack(MAGIC, len(text), len(plan.onnx)) + text + plan.onnx


def read_plan(content: bytes) -> Plan:
    """A plan from its bytes.  Raises :class:`BrokenPlanError`."""
    if len(content) < _LENGTHS.size:
        raise BrokenPlanError("Parameter check failed, condition: size >= sizeof(PlanHeader)")
    magic, header_bytes, onnx_bytes = _LENGTHS.unpack_from(content)
    if magic != MAGIC:
        raise BrokenPlanError(
            "Serialization (Serialization assertion magicTagRead == kMAGIC_TAG failed.Magic tag does not match)"
        )
    if len(content) != _LENGTHS.size + header_bytes + onnx_bytes:
        raise BrokenPlanError(
            "Serialization (Serialization assertion size == expectedSize failed.Engine plan is truncated or too long)"
        )
    header = json.loads(content[_LENGTHS.size : _LENGTHS.size + header_bytes])
    onnx = content[_LENGTHS.size + header_bytes :]
    if hashlib.sha256(onnx).hexdigest() != header.pop("sha256"):
        raise BrokenPlanError("Serialization (Serialization assertion checksumRead == checksum failed.)")
    header["compute_capabilities"] = tuple(header["compute_capabilities"])
    header["profiles"] = tuple(header["profiles"])
    return Plan(onnx=onnx, **header)

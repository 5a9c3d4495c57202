"""What the project wants to reach, held against what a run measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["held_against"]

Steps = Mapping[str, Mapping[str, Any]]

HOST_TO_HOST_MS = {"r50-fp16": 6.1, "r101-fp16": 9.3}
"""1024 x 2048, frame in host memory to labels in host memory, on an H200: twice the roofline."""

SPEED_DEVICE = "H200"
AGREEMENT_PERCENT = 99.8
MIOU_POINTS = 0.1
SHARE_OF_ENGINE = 0.95
HOST_CPU_MS = 0.3


def held_against(steps: Steps, device: str, speed_model: str) -> list[dict[str, Any]]:
    """Each target with what was measured: ``met`` is None where nothing was, or the target is another device's."""
    rows = []
    here = SPEED_DEVICE in device
    for model, wanted in HOST_TO_HOST_MS.items():
        found = _figure(steps, f"rates {model}", "ways", "plan", "median_ms")
        rows.append(_row(f"{model}: host to host, ms, {SPEED_DEVICE}", "<=", wanted, found, here))
        for step in ("rates", "torch_compile"):
            for way, times in (_figure(steps, f"{step} {model}", "times_the_plan") or {}).items():
                if way == "onnxruntime cuda" or step == "torch_compile":
                    rows.append(_row(f"{model}: {way}, times the plan's time", ">", 1.0, times, True))
    for way in ("plain_frames", "frame_buffers"):
        video, what = f"video {speed_model}", way.replace("_", " ")
        share = _figure(steps, video, way, "share_of_engine")
        rate = f"video, {what}: share of the engine's rate, {SPEED_DEVICE}"
        rows.append(_row(rate, ">=", SHARE_OF_ENGINE, share, here))
        cpu = _figure(steps, video, way, "host_cpu_ms")
        rows.append(_row(f"video, {what}: host CPU ms a frame, {SPEED_DEVICE}", "<", HOST_CPU_MS, cpu, here))
    agreement = _figure(steps, "parity demo-fp16", "agreement_percent")
    rows.append(_row("float16 plan: labels as in float32, percent", ">=", AGREEMENT_PERCENT, agreement, True))
    difference = _figure(steps, "parity demo-fp16", "miou_difference")
    points = None if difference is None else abs(difference)
    rows.append(_row("float16 plan: mIoU apart from float32, points", "<=", MIOU_POINTS, points, True))
    return rows


def _row(what: str, relation: str, wanted: float, measured: float | None, applies: bool) -> dict[str, Any]:
    met = None
    if measured is not None and applies:
        met = {
            "<=": measured <= wanted,
            "<": measured < wanted,
            ">=": measured >= wanted,
            ">": measured > wanted,
        }[relation]
    return {"what": what, "wanted": f"{relation} {wanted:g}", "measured": measured, "met": met}


def _figure(steps: Steps, step: str, *keys: str) -> Any:
    """A figure of a step, None where it was not measured."""
    found: Any = steps.get(step, {}).get("figures")
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found

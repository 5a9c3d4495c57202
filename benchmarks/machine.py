"""What a figure was measured on, for the record beside it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

FLAGS_OF_INTEREST = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "avx512_fp16")


def machine() -> dict[str, object]:
    """Processor, its flags that matter to a network, cores, memory and library versions."""
    model, flags = platform.processor(), set[str]()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                model = value.strip()
            elif key.strip() == "flags":
                flags = set(value.split())
    found: dict[str, object] = {
        "processor": model,
        "flags": [flag for flag in FLAGS_OF_INTEREST if flag in flags],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
    }
    for name in ("numpy", "cv2", "torch", "onnxruntime", "openvino"):
        try:
            found[name] = str(__import__(name).__version__)
        except ImportError:
            continue
    return found

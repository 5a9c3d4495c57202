"""How much memory this process takes, as the system counts it."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["peak_mib", "resident_mib"]

STATUS = Path("/proc/self/status")


def resident_mib() -> float | None:
    """MiB in memory now (VmRSS); None where the system does not tell."""
    return _from_status("VmRSS")


def peak_mib() -> float | None:
    """The most MiB that were in memory at once (VmHWM, or ru_maxrss); None where the system does not tell."""
    told = _from_status("VmHWM")
    if told is not None or sys.platform == "win32":
        return told
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1 << 20 if sys.platform == "darwin" else 1 << 10)  # bytes there, KiB elsewhere


def _from_status(name: str) -> float | None:
    if not STATUS.is_file():
        return None
    for line in STATUS.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) / 1024
    return None

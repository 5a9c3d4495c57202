"""Joules, where the machine counts them: the processor by RAPL, NVIDIA's cards by NVML.

Counters are of a whole processor or card: what else runs there, and what it draws when idle, is in them.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

__all__ = ["Meter", "RaplMeter", "energy_between", "find_meters"]

POWERCAP = Path("/sys/class/powercap")


class Meter(Protocol):
    """A counter of energy.  ``wraps_at_j``: where it begins again at zero; None where it does not."""

    @property
    def name(self) -> str: ...

    @property
    def wraps_at_j(self) -> float | None: ...

    def read_j(self) -> float | None:
        """Joules since some moment; None where the machine has ceased to tell."""


@dataclass(frozen=True)
class RaplMeter:
    """A processor package's counter (Linux, Documentation/power/powercap): microjoules in a file."""

    name: str
    file: Path
    wraps_at_j: float | None

    def read_j(self) -> float | None:
        """See :class:`Meter`."""
        try:
            return int(self.file.read_text()) / 1e6
        except (OSError, ValueError):
            return None


@dataclass(frozen=True)
class NvmlMeter:
    """A card's counter (from Volta on): nvmlDeviceGetTotalEnergyConsumption, millijoules since the driver's loading."""

    name: str
    library: Any
    handle: Any
    wraps_at_j: float | None = None

    def read_j(self) -> float | None:
        """See :class:`Meter`."""
        try:
            return float(self.library.nvmlDeviceGetTotalEnergyConsumption(self.handle)) / 1e3
        except self.library.NVMLError:
            return None


def find_meters(powercap: Path = POWERCAP) -> list[Meter]:
    """The counters that this machine lets us read.  Most systems keep RAPL's for root."""
    return [*_rapl(powercap), *_nvml()]


def energy_between(meters: Sequence[Meter], before: Sequence[float | None]) -> dict[str, float]:
    """Joules by meter since ``before``, what each of them read then; meters that do not tell are left out."""
    spent: dict[str, float] = {}
    for meter, was in zip(meters, before, strict=True):
        now = meter.read_j()
        if now is None or was is None:
            continue
        if now < was:
            if meter.wraps_at_j is None:
                continue
            now += meter.wraps_at_j
        spent[meter.name] = now - was
    return spent


def _rapl(powercap: Path) -> list[Meter]:
    meters: list[Meter] = []
    with suppress(OSError):
        # packages alone: their parts (core, dram) are counted in them, and they themselves in "psys"
        for zone in sorted(powercap.glob("intel-rapl:*")):
            name = (zone / "name").read_text().strip()
            wraps_at_j = int((zone / "max_energy_range_uj").read_text()) / 1e6
            meter = RaplMeter(f"processor {name}", zone / "energy_uj", wraps_at_j)
            if name.startswith("package") and meter.read_j() is not None:
                meters.append(meter)
    return meters


def _nvml() -> list[Meter]:
    try:
        # pip install nvidia-ml-py
        pynvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return []
    meters: list[Meter] = []
    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        for index in range(pynvml.nvmlDeviceGetCount()):
            meter = NvmlMeter(f"gpu {index}", pynvml, pynvml.nvmlDeviceGetHandleByIndex(index))
            if meter.read_j() is not None:
                meters.append(meter)
    return meters

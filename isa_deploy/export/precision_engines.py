"""The exported precisions as this machine can run them, and as many of them open at once as fit in its memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from isa_deploy.errors import EngineError, IsaError
from isa_deploy.runtime.segmenter import Segmenter

__all__ = [
    "Candidate",
    "Combination",
    "EnginePool",
    "LabelEngine",
    "available_bytes",
    "combinations",
    "find_bf16",
    "open_engine",
]

UInt8 = npt.NDArray[np.uint8]

BACKEND_TITLES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}

KEPT_FREE = 0.25
"""Share of the memory that was available at the start which no engine may take: the frames, the reference and the
rest of the machine live there."""


@dataclass(frozen=True)
class Candidate:
    """One exported file: its name ("int8"), its manifest's precision, its ``model.onnx`` and the size (10**6 bytes)."""

    name: str
    precision: str
    path: Path
    megabytes: float


@dataclass(frozen=True)
class Combination:
    """One way of running a candidate: in a backend, with what it is told to compute in.

    ``precision``: "auto", "fp32" or "bf16", as :meth:`~isa_deploy.runtime.segmenter.Segmenter.open` takes it.
    """

    candidate: Candidate
    backend: str
    precision: str

    @property
    def name(self) -> str:
        """What tells it from every other: "int8 on OpenVINO, rest bf16"."""
        return f"{self.candidate.name} on {BACKEND_TITLES.get(self.backend, self.backend)}{self._arithmetic}"

    @property
    def short_name(self) -> str:
        """The name without the backend, for a headline."""
        return self.candidate.name if self.candidate.precision == "int8" else self.candidate.name + self._arithmetic

    @property
    def is_plain_fp32(self) -> bool:
        """Whether this is the float32 file in float32 arithmetic, to which speeds are related."""
        return self.candidate.precision == "fp32" and self.precision in ("auto", "fp32")

    @property
    def _arithmetic(self) -> str:
        if self.precision in ("auto", self.candidate.precision):
            return ""
        return f", {'rest' if self.candidate.precision == 'int8' else 'computed in'} {self.precision}"


def combinations(candidates: Sequence[Candidate], skipped: dict[str, str], has_bf16: bool) -> list[Combination]:
    """What is worth running of these files on a CPU; into ``skipped`` what cannot be, by name with its reason.

    ``has_bf16``: whether OpenVINO finds bfloat16 instructions here (:func:`find_bf16`).
    """
    found = []
    for each in candidates:
        if each.precision in ("fp32", "int8"):
            found.append(Combination(each, "onnxruntime", "auto"))
        if each.precision == "bf16":
            skipped[Combination(each, "onnxruntime", "auto").name] = (
                "ONNX Runtime's CPU has no bfloat16 convolution; a GPU's has"
            )
        narrow = Combination(each, "openvino", "bf16")
        # float32 arithmetic shows what the weights' own rounding cost, and a bfloat16 file's is seen where it runs
        if each.precision != "bf16" or not has_bf16:
            found.append(Combination(each, "openvino", "fp32"))
        if each.precision == "fp16":
            continue
        if has_bf16:
            found.append(narrow)
        else:
            skipped[narrow.name] = "this CPU has neither AMX nor AVX512-BF16"
    return found


def find_bf16() -> bool:
    """Whether OpenVINO is installed and finds bfloat16 instructions on this CPU."""
    try:
        from isa_deploy.runtime.backends.openvino import cpu_has_bf16

        return cpu_has_bf16()
    except ImportError:
        return False


class LabelEngine(Protocol):
    """What the comparison needs of a :class:`~isa_deploy.runtime.segmenter.Segmenter`."""

    @property
    def precision(self) -> str:
        """What the arithmetic runs in."""

    def segment(self, frame_hwc: UInt8) -> UInt8:
        """The labels of a frame (uint8 H x W x 3), uint8 H x W."""

    def close(self) -> None:
        """Give the memory back."""


def open_engine(combination: Combination) -> LabelEngine:
    """The Segmenter of a combination, which takes frames as they are.  Raises as ``Segmenter.open``."""
    return Segmenter.open(
        combination.candidate.path,
        backend=combination.backend,
        device="cpu",
        precision=combination.precision,
        resize="none",
    )


class EnginePool:
    """Opened engines.  Where memory runs short, the one whose turn was longest ago is closed.

    What an engine takes is measured: by how much the available memory fell from its opening to the next one's.
    ``available``: bytes that may still be taken, None where nobody knows; then every engine stays open.
    """

    def __init__(
        self, open_one: Callable[[Combination], LabelEngine], available: Callable[[], int | None] | None = None
    ) -> None:
        self._open_one = open_one
        self._available = available_bytes if available is None else available
        self._opened: dict[Combination, LabelEngine] = {}
        self._reserve = KEPT_FREE * (self._available() or 0)
        self._before_last: int | None = None
        self._largest = 0

    def is_open(self, combination: Combination) -> bool:
        """Whether :meth:`get` would give an engine that has run before."""
        return combination in self._opened

    def get(self, combination: Combination) -> LabelEngine:
        """The engine, opened if it is not.  Raises :class:`EngineError` where it cannot be opened on this machine."""
        engine = self._opened.pop(combination, None)
        if engine is None:
            self._make_room()
            self._before_last = self._available()
            try:
                engine = self._open_one(combination)
            except IsaError as error:  # no library, or a file that it refuses: either way not here
                raise EngineError(str(error)) from error
        self._opened[combination] = engine  # now the last in the order, which is that of use
        return engine

    def drop(self, combination: Combination) -> None:
        """Close an engine that has failed."""
        engine = self._opened.pop(combination, None)
        if engine is not None:
            engine.close()

    def close(self) -> None:
        """Close them all."""
        while self._opened:
            self._opened.popitem()[1].close()

    def _make_room(self) -> None:
        now = self._available()
        if now is None:
            return
        if self._before_last is not None:
            self._largest = max(self._largest, self._before_last - now)
        while self._opened and now is not None and now - self._largest < self._reserve:
            self.drop(next(iter(self._opened)))
            now = self._available()


MEMINFO = Path("/proc/meminfo")
GROUP = Path("/sys/fs/cgroup")


def available_bytes() -> int | None:
    """Memory that this process may still take: the machine's, or its control group's where that is less."""
    known = [each for each in (_machine_bytes(), _group_bytes()) if each is not None]
    return min(known, default=None)


def _machine_bytes() -> int | None:
    try:
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024  # "kB" there are KiB
    return None


def _group_bytes() -> int | None:
    try:
        most = (GROUP / "memory.max").read_text(encoding="ascii").strip()
        used = (GROUP / "memory.current").read_text(encoding="ascii").strip()
    except OSError:
        return None
    return max(int(most) - int(used), 0) if most.isdigit() and used.isdigit() else None

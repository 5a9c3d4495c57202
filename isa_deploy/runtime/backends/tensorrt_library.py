"""Which TensorRT: one module object, chosen once and passed down."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Literal

from isa_deploy.errors import BackendUnavailableError
from isa_deploy.runtime.backends.tensorrt_api import TensorRTModule

__all__ = ["BuilderName", "TensorRTLibrary", "installed_libraries", "load_tensorrt"]

BuilderName = Literal["tensorrt", "tensorrt_rtx"]

_TITLES: dict[BuilderName, str] = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
_EXTRAS: dict[BuilderName, str] = {"tensorrt": "tensorrt", "tensorrt_rtx": "rtx"}

# NVIDIA's own package imports the libraries and then the bindings; where only those two were installed,
# so do we
_IMPORTS: dict[BuilderName, tuple[tuple[str, ...], ...]] = {
    "tensorrt": (("tensorrt",), ("tensorrt_libs", "tensorrt_bindings")),
    "tensorrt_rtx": (("tensorrt_rtx",), ("tensorrt_rtx_libs", "tensorrt_rtx_bindings")),
}

OLDEST: dict[BuilderName, tuple[int, int]] = {"tensorrt": (10, 3), "tensorrt_rtx": (1, 7)}
"""The oldest whose bindings tests/test_tensorrt_api.py looks at; JetPack 6 has TensorRT 10.3."""


@dataclass(frozen=True)
class TensorRTLibrary:
    """An imported TensorRT: ``name`` as manifests write it, and ``version`` as it says itself."""

    module: TensorRTModule
    name: BuilderName
    version: str

    @property
    def title(self) -> str:
        """The library and its version, for people."""
        return f"{_TITLES[self.name]} {self.version}"


def load_tensorrt(name: BuilderName) -> TensorRTLibrary:
    """Import a TensorRT.

    Raises :class:`BackendUnavailableError` where it is not installed, its libraries cannot be loaded, or
    it is older than this isa-deploy can use.
    """
    install = f"pip install 'isa-deploy[{_EXTRAS[name]}]'"
    for modules in _IMPORTS[name]:
        try:
            module = [importlib.import_module(each) for each in modules][-1]
        except ModuleNotFoundError as error:
            if error.name in modules:
                continue
            raise BackendUnavailableError(
                f"{_TITLES[name]} is installed and lacks a part of itself ({error}); {install}"
            ) from error
        except (ImportError, OSError, RuntimeError) as error:
            raise BackendUnavailableError(
                f"{_TITLES[name]} is installed and cannot be loaded ({error}); {install}"
            ) from error
        version = str(getattr(module, "__version__", "0"))
        oldest = OLDEST[name]
        if _numbers(version)[:2] < oldest:
            raise BackendUnavailableError(
                f"{_TITLES[name]} {version} is too old, {oldest[0]}.{oldest[1]} is the oldest that works; {install}"
            )
        return TensorRTLibrary(module, name, version)
    raise BackendUnavailableError(f"{_TITLES[name]} is not installed; {install}")


def installed_libraries() -> list[TensorRTLibrary]:
    """Every TensorRT of this environment that can be loaded, ``tensorrt`` first."""
    found = []
    for name in _IMPORTS:
        try:
            found.append(load_tensorrt(name))
        except BackendUnavailableError:
            continue
    return found


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())

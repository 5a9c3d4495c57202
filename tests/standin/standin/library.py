"""One TensorRT: its module's names, made for ``tensorrt`` or ``tensorrt_rtx``."""

from __future__ import annotations

from typing import Any

from standin.builder import make_builder_class, make_parser_class
from standin.engine import make_runtime_class
from standin.members import Numbered, enumeration
from standin.reporting import CallbackBase
from standin.world import WORLD

__all__ = ["Library"]

_TARGETS = ("SM75", "SM80", "SM86", "SM89", "SM120", "SM121")


class Library:
    """The enumerations and classes of a library, which its own classes refer to as well."""

    def __init__(self, name: str) -> None:
        """``name``: "tensorrt" or "tensorrt_rtx"."""
        self.name = name
        self.is_rtx = name == "tensorrt_rtx"
        self.BuilderFlag = enumeration("BuilderFlag", "TF32", "VERSION_COMPATIBLE")
        if self.is_rtx:
            self.BuilderFlag = enumeration("BuilderFlag", "TF32", "VERSION_COMPATIBLE", "REQUIRE_USER_ALLOCATION")
            self.DynamicShapesKernelSpecializationStrategy = enumeration(
                "DynamicShapesKernelSpecializationStrategy", "EAGER"
            )
        self.NetworkDefinitionCreationFlag = type("NetworkDefinitionCreationFlag", (), {})
        self.NetworkDefinitionCreationFlag.STRONGLY_TYPED = Numbered(
            "NetworkDefinitionCreationFlag", "STRONGLY_TYPED", lambda: 0 if self.always_strongly_typed else 1
        )
        self.MemoryPoolType = enumeration("MemoryPoolType", "WORKSPACE")
        self.HardwareCompatibilityLevel = enumeration("HardwareCompatibilityLevel", "AMPERE_PLUS")
        self.ProfilingVerbosity = enumeration("ProfilingVerbosity", "DETAILED")
        self.LayerInformationFormat = enumeration("LayerInformationFormat", "JSON")
        self.ExecutionContextAllocationStrategy = enumeration("ExecutionContextAllocationStrategy", "USER_MANAGED")
        self.TensorIOMode = enumeration("TensorIOMode", "INPUT", "OUTPUT")
        self.DataType = enumeration("DataType", "FLOAT", "HALF", "BF16", "INT8", "INT32", "INT64", "BOOL", "UINT8")
        self.ErrorCodeTRT = enumeration("ErrorCodeTRT", "FAILED_ALLOCATION")
        if self.is_rtx:
            self.ComputeCapability = enumeration("ComputeCapability", "CURRENT", *_TARGETS)
        self.ILogger = type(
            "ILogger", (CallbackBase,), dict(vars(enumeration("Severity", "INTERNAL_ERROR", "ERROR", "WARNING")))
        )
        self.IProgressMonitor = type("IProgressMonitor", (CallbackBase,), {})
        self.IErrorRecorder = type("IErrorRecorder", (CallbackBase,), {})
        self.Builder = make_builder_class(self)
        self.OnnxParser = make_parser_class(self)
        self.Runtime = make_runtime_class(self)

    @property
    def version(self) -> str:
        """What the library says of itself, as the knobs have it now."""
        return WORLD.knobs.rtx_version if self.is_rtx else WORLD.knobs.tensorrt_version

    @property
    def always_strongly_typed(self) -> bool:
        """TensorRT 11 and RTX have no weak typing."""
        return self.is_rtx or int(self.version.split(".")[0]) >= 11

    def has_device(self) -> bool:
        """Whether there is a GPU and a driver that is new enough."""
        return bool(WORLD.knobs.device_count) and not WORLD.knobs.driver_too_old

    def names(self) -> dict[str, Any]:
        """The public names of the library's module."""
        return {name: value for name, value in vars(self).items() if name[0].isupper()}

"""What a test can choose about the machine that the stand-in pretends to be, and the faults it has."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields

__all__ = ["PREFIX", "Knobs", "knobs_from_environment"]

PREFIX = "ISA_STANDIN_"

MIB = 1 << 20


@dataclass
class Knobs:
    """The machine and its faults.  Each is also the environment variable ISA_STANDIN_<NAME>, in capitals.

    Counts of calls start at 1; 0 means never.
    """

    device_count: int = 1
    driver_too_old: bool = False
    device_name: str = "Stand-in GPU"
    compute_capability: str = "8.9"
    tensorrt_version: str = "10.16.1.11"
    rtx_version: str = "1.7.1.116"
    device_memory: int = 24 * 1024 * MIB  # bytes; cudaMalloc beyond it is out of memory
    pinned_memory: int = 8 * 1024 * MIB  # bytes; cudaHostAlloc beyond it is out of memory
    fail_execute: int = 0  # which execute_async_v3 of the process gives False
    lose_device: int = 0  # which synchronisation (of a stream or an event) finds the device lost, for good
    lost_as: str = "cudaErrorIllegalAddress"  # or cudaErrorLaunchFailure
    fail_call: str = ""  # a function of CUDA's that fails, each time
    fail_call_as: str = "cudaErrorInvalidValue"
    no_driver_library: bool = False  # CUDA's bindings cannot load the driver, and raise
    event_queries: int = 0  # how often cudaEventQuery finds an event not passed before its work is done
    upload_ms: float = 0.5  # that each copy to the device takes, on the pretended clock
    execute_ms: float = 2.0  # that each execution of a context takes
    download_ms: float = 0.25  # that each copy to the host takes
    refuse_capture: bool = False
    refuse_op: str = ""  # an ONNX op that the parser refuses
    builder_out_of_memory: int = 0  # bytes that a build asks for in vain
    build_steps: int = 8  # steps of the builder's longest phase
    build_step_s: float = 0.0  # seconds that each of them takes
    context_call_s: float = 0.0  # seconds that each call of a context takes, to catch two threads in it


def knobs_from_environment() -> Knobs:
    """The knobs with what the environment says.  Raises :class:`ValueError` for a variable of no knob."""
    knobs = Knobs()
    types = {PREFIX + each.name.upper(): (each.name, type(getattr(knobs, each.name))) for each in fields(knobs)}
    for variable, text in os.environ.items():
        if not variable.startswith(PREFIX) or variable == PREFIX + "REPORT":
            continue
        if variable not in types:
            raise ValueError(f"{variable} is no knob of the stand-in; there are {', '.join(types)}")
        name, kind = types[variable]
        setattr(knobs, name, text == "1" if kind is bool else kind(text))
    return knobs

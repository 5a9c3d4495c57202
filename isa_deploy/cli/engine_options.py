"""The options of every command that opens an engine: what runs it, where, and in what."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["AllowEngineCodeOption", "BackendOption", "DeviceOption", "PrecisionOption"]

BackendOption = Annotated[
    str,
    typer.Option(
        "--backend",
        metavar="NAME",
        help="Library that runs the engine: auto (the fastest), tensorrt, openvino, onnxruntime.",
    ),
]

PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="NAME",
        help="Arithmetic of what is not int8: auto (bf16 where the CPU is made for it), fp32, bf16.",
    ),
]

DeviceOption = Annotated[
    str, typer.Option("--device", metavar="NAME", help="Where it runs: auto, cpu, cuda, or a GPU's number.")
]

AllowEngineCodeOption = Annotated[
    bool,
    typer.Option(
        "--allow-engine-code", help="Open a version-compatible plan, which runs code of its own on this machine."
    ),
]

"""The traced graph as an ONNX model: readable names, checkpoint names for weights, the manifest inside."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
import torch

from isa_deploy import __version__
from isa_deploy.errors import ExportError
from isa_deploy.export.graph import SlideGraph, WholeGraph
from isa_deploy.export.precision import FloatPrecision
from isa_deploy.manifest import METADATA_KEY, Manifest

__all__ = ["OPSETS", "QUANTISED_FP16_OPSET", "ShapeNHW", "save_onnx", "trace"]

OPSETS = {"fp32": 18, "fp16": 18, "bf16": 22}
"""torch's exporter writes 18 without a conversion; bfloat16 convolutions exist from 22 on.
TensorRT 10 and 11 read 9 to 24."""

QUANTISED_FP16_OPSET = 19
"""QuantizeLinear takes float16 from here on."""

ShapeNHW = tuple[int | None, int | None, int | None]
"""Batch, height and width of the input, None where the graph leaves them free."""

SAMPLE_NHW = (2, 130, 194)
"""What is traced where a dimension is free: no multiple of 8, so that no padding can vanish."""

SCOPES = "pkg.torch.onnx.name_scopes"


def trace(
    graph: WholeGraph | SlideGraph, shape_nhw: ShapeNHW, precision: FloatPrecision, opset: int | None = None
) -> ir.Model:
    """Trace the module with torch's exporter (dynamo) into an ONNX model in memory.

    Nodes are named by their module's path (``head/global_relation/MatMul``), weights as in the checkpoint.
    ``opset``: another than the precision's own.  Raises :class:`ExportError` where torch cannot trace it.
    """
    sample = tuple(fixed or free for fixed, free in zip(shape_nhw, SAMPLE_NHW, strict=True))
    image = torch.zeros((*sample, 3), dtype=torch.uint8)
    free = {axis: torch.export.Dim(name) for axis, name in enumerate("NHW") if shape_nhw[axis] is None}
    with _quiet():
        try:
            program = torch.onnx.export(
                graph,
                (image,),
                dynamo=True,
                input_names=["image"],
                output_names=list(graph.outputs),
                dynamic_shapes=({**free},) if free else None,
                opset_version=opset or OPSETS[precision],
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = str(error).strip().splitlines()[0]
            raise ExportError(f"torch {torch.__version__} cannot trace the network: {reason}") from error
    if program is None:
        raise ExportError(f"torch {torch.__version__} returned no graph")
    model = program.model
    _name_nodes(model.graph)
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's own progress lines and deprecation notes away from the user's terminal."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)


def _name_nodes(graph: ir.Graph) -> None:
    """Name nodes and the values between them by module path, and drop the tracer's notes.

    The notes hold stack traces with paths of the exporting machine, which are nobody's business.
    """
    outputs = {id(value) for value in graph.outputs}
    seen: Counter[str] = Counter()
    for node in graph:
        path = _module_path(node)
        stem = f"{path}/{node.op_type}" if path else node.op_type
        seen[stem] += 1
        node.name = stem if seen[stem] == 1 else f"{stem}_{seen[stem]}"
        node.metadata_props.clear()
        node.doc_string = None
        for position, value in enumerate(node.outputs):
            value.metadata_props.clear()
            if id(value) not in outputs:
                value.name = node.name if position == 0 else f"{node.name}:{position}"
        for constant in node.inputs:
            if constant is not None and constant.is_initializer():
                _name_constant(graph, constant, node.name)
    for value in graph.initializers.values():
        value.metadata_props.clear()
    graph.metadata_props.clear()
    for value in graph.outputs:
        if value.name == "logits" and value.shape is not None and not isinstance(value.shape[2], int):
            value.shape[2], value.shape[3] = ir.SymbolicDim("h"), ir.SymbolicDim("w")


def _module_path(node: ir.Node) -> str:
    """``head/global_relation/query_project/0/conv`` of a node; "" for one of the wrapper's own."""
    scopes = node.metadata_props.get(SCOPES, "[]").strip("[]").split(", ")
    names = [scope.strip("'\"") for scope in scopes][:-1]
    deepest = names[-1] if names else ""
    if deepest.startswith("_"):
        return ""
    return deepest.replace("decode_head", "head", 1).replace(".", "/")


def _name_constant(graph: ir.Graph, value: ir.Value, user: str) -> None:
    """Name a constant of the tracer's (``val_17``) after the first node that reads it."""
    name = str(value.name)
    if not name.startswith("val_"):
        return
    number = 0
    while f"{user}/constant_{number}" in graph.initializers:
        number += 1
    value.name = f"{user}/constant_{number}"


def save_onnx(model: ir.Model, manifest: Manifest, path: Path) -> None:
    """Write the model with the manifest in its metadata, checked by onnx itself.

    Raises :class:`ExportError` where the checker refuses it.
    """
    model.metadata_props.clear()
    model.metadata_props[METADATA_KEY] = manifest.to_json()
    model.producer_name = "isa-deploy"
    model.producer_version = __version__
    model.graph.name = manifest.architecture
    ir.save(model, path)
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{path.name}: the traced graph is not valid ONNX ({error})") from error

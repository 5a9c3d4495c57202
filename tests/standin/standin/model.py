"""The ONNX graph inside a plan: its tensors, its layers, and how it runs."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

__all__ = ["ITEM_BYTES", "Layer", "Model", "Tensor", "typed_tensors"]

_TYPES = {
    TensorProto.FLOAT: "FLOAT",
    TensorProto.FLOAT16: "HALF",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.INT8: "INT8",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.BOOL: "BOOL",
    TensorProto.UINT8: "UINT8",
}

ITEM_BYTES = {"FLOAT": 4, "HALF": 2, "BF16": 2, "INT8": 1, "INT32": 4, "INT64": 8, "BOOL": 1, "UINT8": 1}

_FORMATS = {
    "FLOAT": "Float",
    "HALF": "Half",
    "BF16": "BFloat16",
    "INT8": "Int8",
    "INT32": "Int32",
    "INT64": "Int64",
    "BOOL": "Bool",
    "UINT8": "UInt8",
}

_NUMPY = {"FLOAT": "f4", "HALF": "f2", "INT8": "i1", "INT32": "i4", "INT64": "i8", "BOOL": "?", "UINT8": "u1"}


@dataclass(frozen=True)
class Tensor:
    """An input or output; ``shape`` has -1 where a side is free, ``dtype`` is TensorRT's name."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    is_input: bool


@dataclass(frozen=True)
class Layer:
    """A node with what the engine inspector tells of it."""

    name: str
    kind: str
    inputs: tuple[dict[str, Any], ...]
    outputs: tuple[dict[str, Any], ...]


def typed_tensors(graph: Any) -> list[Tensor]:
    """Inputs, then outputs of a graph."""
    constants = {each.name for each in graph.initializer}
    tensors = [(each, True) for each in graph.input if each.name not in constants]
    tensors += [(each, False) for each in graph.output]
    return [
        Tensor(each.name, _TYPES.get(each.type.tensor_type.elem_type, "FLOAT"), _sides(each), is_input)
        for each, is_input in tensors
    ]


class Model:
    """A graph that ONNX Runtime runs; the session is made when it first runs."""

    def __init__(self, content: bytes) -> None:
        """``content``: the ONNX file."""
        self.content = content
        self.proto = onnx.load_from_string(content)
        self.tensors = typed_tensors(self.proto.graph)
        self._session: Any = None
        self._lock = threading.Lock()
        self._shapes: dict[tuple[tuple[int, ...], ...], dict[str, tuple[int, ...]]] = {}

    def layers(self) -> list[Layer]:
        """One for each node."""
        graph = onnx.shape_inference.infer_shapes(self.proto, data_prop=True).graph
        known = {each.name: each for each in [*graph.value_info, *graph.input, *graph.output]}
        constants = {each.name: each for each in graph.initializer}

        def tensor(name: str) -> dict[str, Any]:
            if name in constants:
                sides, kind = list(constants[name].dims), constants[name].data_type
            elif name in known:
                sides, kind = list(_sides(known[name])), known[name].type.tensor_type.elem_type
            else:
                sides, kind = [], TensorProto.FLOAT
            dtype = _FORMATS[_TYPES.get(kind, "FLOAT")]
            return {"Name": name, "Location": "Device", "Dimensions": sides, "Format/Datatype": dtype}

        return [
            Layer(
                node.name or f"node_{index}",
                node.op_type,
                tuple(tensor(name) for name in node.input if name and name not in constants),
                tuple(tensor(name) for name in node.output if name),
            )
            for index, node in enumerate(graph.node)
        ]

    def output_shapes(self, inputs: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        """The outputs' shapes for the inputs' shapes."""
        key = tuple(inputs[each.name] for each in self.tensors if each.is_input)
        with self._lock:
            if key in self._shapes:
                return self._shapes[key]
        copy = onnx.ModelProto()
        copy.CopyFrom(self.proto)
        for each in copy.graph.input:
            if each.name in inputs:
                for side, value in zip(each.type.tensor_type.shape.dim, inputs[each.name], strict=True):
                    side.dim_value = value
        for each in copy.graph.output:
            each.type.tensor_type.ClearField("shape")
        inferred = onnx.shape_inference.infer_shapes(copy, data_prop=True)
        shapes = {each.name: _sides(each) for each in inferred.graph.output}
        if any(side < 0 for shape in shapes.values() for side in shape):
            shapes = self._measured_shapes(inputs)
        with self._lock:
            self._shapes[key] = shapes
        return shapes

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs by name, for the inputs by name."""
        names = [each.name for each in self.tensors if not each.is_input]
        return dict(zip(names, self._ready().run(names, inputs), strict=True))

    def numpy_input(self, name: str, content: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Bytes of memory as the array that an input is."""
        tensor = next(each for each in self.tensors if each.name == name)
        return content.view(_NUMPY[tensor.dtype]).reshape(shape)

    def _measured_shapes(self, inputs: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        dtypes = {each.name: _NUMPY[each.dtype] for each in self.tensors if each.is_input}
        arrays = self.run({name: np.zeros(shape, dtypes[name]) for name, shape in inputs.items()})
        return {name: tuple(array.shape) for name, array in arrays.items()}

    def _ready(self) -> Any:
        with self._lock:
            if self._session is None:
                import onnxruntime

                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads = 1
                options.log_severity_level = 4
                self._session = onnxruntime.InferenceSession(self.content, options, providers=["CPUExecutionProvider"])
            return self._session


def _sides(value: Any) -> tuple[int, ...]:
    return tuple(int(side.dim_value) if side.HasField("dim_value") else -1 for side in value.type.tensor_type.shape.dim)

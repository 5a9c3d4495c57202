"""TensorRT's element types and shapes in the words of the rest of isa-deploy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from isa_deploy.runtime.backends.signature import TensorSpec
from isa_deploy.runtime.backends.tensorrt_api import TensorRTModule

__all__ = ["dtype_name", "tensor_spec"]


def dtype_name(module: TensorRTModule, dtype: Any) -> str:
    """A ``DataType`` as numpy names it, with "bfloat16"; what this version does not know, as TensorRT does."""
    types = module.DataType
    known = [
        (types.UINT8, "uint8"),
        (types.FLOAT, "float32"),
        (types.HALF, "float16"),
        (types.BF16, "bfloat16"),
        (types.INT8, "int8"),
        (types.INT32, "int32"),
        (types.INT64, "int64"),
        (types.BOOL, "bool"),
    ]
    return next((name for member, name in known if dtype == member), str(dtype))


def tensor_spec(module: TensorRTModule, dtype: Any, shape: Sequence[int]) -> TensorSpec:
    """An input or output: its type, and its sides with None where TensorRT has -1, free."""
    return TensorSpec(dtype_name(module, dtype), tuple(None if side < 0 else int(side) for side in shape))

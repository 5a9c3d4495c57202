"""A float graph as a Q/DQ graph: int8, symmetric, zero point 0, a scale a channel for weights, one for activations.

ONNX Runtime's quantiser rewrites the graph; which tensors, and with which ranges, is decided here.  It was chosen over
NNCF (3.4), which makes activations after a ReLU uint8, a type that TensorRT does not take, and lost more on the golden
model: 98.5 % of the labels equal against 99.3 %, both on 32 frames (benchmarks/quantisers.py).

Only convolutions become int8.  The attention's two products and its softmax stay as they are.  Where a quantised tensor
has other readers (the identity of a residual block) they read the quantised one too, and so does the addition that
takes a downsampling convolution: engines then add in the convolution's own kernel, without a float tensor in memory.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from isa_deploy.errors import BackendUnavailableError, ExportError

LEVELS = 127.0

__all__ = ["calibrated_tensors", "convolutions", "quantise", "split_concatenations", "take_weights"]

FLOATS: dict[int, np.dtype[Any]] = {
    TensorProto.FLOAT: np.dtype(np.float32),
    TensorProto.FLOAT16: np.dtype(np.float16),
}

CHANNELS = 1  # the axis of N x C x H x W


def convolutions(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names of a graph's convolutions, in its order: from the stem's first to the last, which gives the logits."""
    return tuple(node.name for node in model.graph.node if node.op_type == "Conv")


def split_concatenations(model: onnx.ModelProto) -> None:
    """In place: a convolution of two maps side by side becomes the sum of two convolutions.

    ``W [a; b] = W_a a + W_b b``, for the head's out_conv.  Each map keeps a range of its own, and nothing is copied.
    OpenVINO 2026.4 also computes the convolution of a quantised Concat wrongly: on the golden model logits were off by
    3.5 where this form, and ONNX Runtime with either, were off by 0.01.  Raises :class:`ExportError` where the maps'
    channels do not add up to the kernel's.
    """
    graph = model.graph
    weights = {each.name: each for each in graph.initializer}
    makers = {node.output[0]: node for node in graph.node}
    readers: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    nodes = []
    dropped = set()
    for node in graph.node:
        maps = makers.get(node.input[0]) if node.op_type == "Conv" else None
        if maps is None or maps.op_type != "Concat" or _attribute(maps, "axis") != CHANNELS:
            nodes.append(node)
            continue
        kernel = numpy_helper.to_array(weights[node.input[1]])
        parts = len(maps.input)
        if kernel.shape[1] % parts:
            raise ExportError(f"{node.name}: {kernel.shape[1]} input channels for {parts} maps of one width")
        if readers[maps.output[0]] == 1:
            dropped.add(maps.name)
        nodes += _sum_of_convolutions(graph, node, maps, np.split(kernel, parts, axis=1))
        graph.initializer.remove(weights[node.input[1]])
    del graph.node[:]
    graph.node.extend(node for node in nodes if node.name not in dropped)


def _sum_of_convolutions(
    graph: onnx.GraphProto, node: onnx.NodeProto, maps: onnx.NodeProto, kernels: list[Any]
) -> list[onnx.NodeProto]:
    made = []
    for index, (source, kernel) in enumerate(zip(maps.input, kernels, strict=True)):
        name = f"{node.input[1]}.{index}"
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(kernel), name))
        part = onnx.NodeProto()
        part.CopyFrom(node)
        part.name = f"{node.name}.{index}"
        bias = list(node.input[2:]) if index == 0 else []
        del part.input[:]
        part.input.extend([source, name, *bias])
        del part.output[:]
        part.output.append(part.name)
        made.append(part)
    total = made[0].output[0]
    for index, part in enumerate(made[1:], start=1):
        last = index == len(made) - 1
        out = node.output[0] if last else f"{node.name}.sum_{index}"
        made.append(helper.make_node("Add", [total, part.output[0]], [out], name=f"{node.name}.sum_{index}"))
        total = out
    return made


def calibrated_tensors(model: onnx.ModelProto) -> tuple[str, ...]:
    """The tensors whose ranges :func:`quantise` may ask for: what convolutions read, and downsampled identities."""
    read = [node.input[0] for node in model.graph.node if node.op_type == "Conv"]
    return tuple(dict.fromkeys([*read, *_downsampled(model, convolutions(model))]))


def _downsampled(model: onnx.ModelProto, int8: Collection[str]) -> list[str]:
    """What the int8 convolutions of downsampled identities give to a residual addition."""
    return [node.output[0] for node in model.graph.node if node.name in int8 and "/downsample/" in node.name]


def quantise(model: onnx.ModelProto, threshold_of: Mapping[str, float], wide: Collection[str]) -> onnx.ModelProto:
    """A Q/DQ graph of a float one, which stays as it is.

    ``threshold_of``: tensor to the |x| at which it is clipped, for :func:`calibrated_tensors`; the step is a 127th.
    ``wide``: names of convolutions that stay as they are.  Weights are clipped nowhere.  Raises
    :class:`BackendUnavailableError` where ONNX Runtime is not installed and :class:`ExportError` where a name in
    ``wide`` is none.
    """
    try:
        from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
        from onnxruntime.quantization.quant_utils import QuantType
    except ImportError:
        raise BackendUnavailableError("ONNX Runtime is not installed; pip install 'isa-deploy[export]'") from None
    names = convolutions(model)
    unknown = sorted(set(wide) - set(names))
    if unknown:
        raise ExportError(f"the graph has no convolution {unknown[0]}; isa-export --int8 lists them")
    int8 = [name for name in names if name not in wide]
    if not int8:
        return model
    described = onnx.shape_inference.infer_shapes(model)
    kind = _float_type(described)
    ranges = TensorsData(
        CalibrationMethod.MinMax,
        {
            # a tensor of zeros: any step will do
            name: TensorData(lowest=kind.type(-(limit or LEVELS)), highest=kind.type(limit or LEVELS))
            for name, limit in threshold_of.items()
        },
    )
    quantiser = QDQQuantizer(
        described,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=ranges,
        nodes_to_quantize=int8,
        nodes_to_exclude=[],
        op_types_to_quantize=["Conv"],
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,  # engines add it in their accumulator; TensorRT wants it in floats
            "OpTypesToExcludeOutputQuantization": ["Conv"],
        },
    )
    for tensor in _downsampled(described, int8):
        quantiser.quantize_activation_tensor(tensor)
    quantiser.quantize_model()
    quantiser.model.clean_initializers()
    quantiser.model.topological_sort()
    quantised: onnx.ModelProto = quantiser.model.model
    return quantised


def take_weights(quantised: onnx.ModelProto, exact: onnx.ModelProto) -> None:
    """In place: the int8 weights and the scales of the same graph in float32, its scales rounded once.

    ONNX Runtime's quantiser rounds in the graph's own type: of the golden model in float16 it gave kernels with up to
    5 % of their energy as error, where float32 gives less than 0.01 %.
    """
    values = {each.name: each for each in exact.graph.initializer}
    for each in quantised.graph.initializer:
        if each.data_type == TensorProto.INT8 and each.name in values:
            each.CopyFrom(values[each.name])
        elif each.data_type == TensorProto.FLOAT16 and values.get(each.name, each).data_type == TensorProto.FLOAT:
            wide = numpy_helper.to_array(values[each.name])
            each.CopyFrom(numpy_helper.from_array(wide.astype(np.float16), each.name))


def _float_type(model: onnx.ModelProto) -> np.dtype[Any]:
    weights = {each.name: each.data_type for each in model.graph.initializer}
    kinds = {weights[node.input[1]] for node in model.graph.node if node.op_type == "Conv"}
    if len(kinds) != 1 or next(iter(kinds)) not in FLOATS:
        raise ExportError(f"weights of types {sorted(kinds)} cannot be quantised; export int8 with fp32 or fp16")
    return FLOATS[next(iter(kinds))]


def _attribute(node: onnx.NodeProto, name: str) -> Any:
    return next((helper.get_attribute_value(each) for each in node.attribute if each.name == name), None)

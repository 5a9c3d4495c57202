"""An ONNX graph as TensorRT's parser reads it, held against its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from isa_deploy.errors import EngineError, ExportError
from isa_deploy.manifest import Manifest
from isa_deploy.runtime.backends.signature import TensorSpec, check_signature
from isa_deploy.runtime.backends.tensorrt_api import INetworkDefinition, IOnnxParser, IParserError
from isa_deploy.runtime.backends.tensorrt_library import TensorRTLibrary
from isa_deploy.runtime.backends.tensorrt_log import TensorRTLog, one_line
from isa_deploy.runtime.backends.tensorrt_types import tensor_spec

__all__ = ["NetworkSummary", "check_network", "parse_graph", "summarise"]

MAX_PARSER_ERRORS = 20
ONNX_PATH = Path("model.onnx")  # for log: a graph is built from bytes


@dataclass(frozen=True)
class NetworkSummary:
    """The parsed network: the number of its layers, and its inputs and outputs by name."""

    layers: int
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


def parse_graph(
    library: TensorRTLibrary,
    parser: IOnnxParser,
    network: INetworkDefinition,
    onnx: bytes,
    log: TensorRTLog,
) -> None:
    """Parse an ONNX file's bytes into the network.

    Raises :class:`ExportError` with everything that the parser refused.  Its answer alone does not do:
    it is True for bytes that hold no graph.
    """
    parsed = parser.parse(onnx)
    if not parsed or parser.num_errors:
        refused = [_describe(parser.get_error(index)) for index in range(parser.num_errors)]
        refused = refused or list(log.errors) or ["it gives no reason"]
        more = f"; and {len(refused) - MAX_PARSER_ERRORS} more" if len(refused) > MAX_PARSER_ERRORS else ""
        raise ExportError(
            f"{library.title} cannot read the ONNX file: {'; '.join(refused[:MAX_PARSER_ERRORS])}{more}; "
            "export the model again with this isa-deploy"
        )
    if not network.num_layers or not network.num_inputs or not network.num_outputs:
        raise ExportError(
            f"{library.title} finds no graph in the ONNX file of {len(onnx)} bytes ({network.num_layers} layers, "
            f"{network.num_inputs} inputs, {network.num_outputs} outputs); copy or export it again"
        )


def _describe(error: IParserError) -> str:
    """``node 17 'head/MatMul' (MatMul): what is wrong``."""
    where = f"node {error.node()}" if error.node() >= 0 else ""
    if where and error.node_name():
        where += f" '{error.node_name()}'"
    if where and error.node_operator():
        where += f" ({error.node_operator()})"
    wrong = error.desc()
    if " " not in wrong:  # the condition that did not hold: 'false'
        wrong = f"not supported ({wrong})"
    return one_line(f"{where}: {wrong}" if where else wrong)


def summarise(library: TensorRTLibrary, network: INetworkDefinition) -> NetworkSummary:
    """What a network takes and gives."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    return NetworkSummary(
        network.num_layers,
        {each.name: tensor_spec(library.module, each.dtype, each.shape) for each in inputs},
        {each.name: tensor_spec(library.module, each.dtype, each.shape) for each in outputs},
    )


def check_network(summary: NetworkSummary, manifest: Manifest) -> None:
    """Raise :class:`ExportError` where the network is not the one that the manifest describes."""
    try:
        check_signature(ONNX_PATH, manifest, summary.inputs, summary.outputs)
    except EngineError as error:
        raise ExportError(str(error)) from error
    if len(summary.inputs) > 1:
        raise ExportError(
            f"{ONNX_PATH}: the graph has the inputs {', '.join(summary.inputs)}, and its manifest describes only "
            f"'{manifest.input.name}'; export the model again"
        )
    shape = summary.inputs[manifest.input.name].shape
    wanted = (*manifest.input.shape_nhw, 3)
    if shape != wanted:
        raise ExportError(
            f"{ONNX_PATH}: input '{manifest.input.name}' is {_sides(shape)}, and its manifest describes "
            f"{_sides(wanted)}; export the model again"
        )


def _sides(shape: tuple[int | None, ...]) -> str:
    return "x".join("?" if side is None else str(side) for side in shape)

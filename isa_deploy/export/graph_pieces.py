"""An ONNX graph cut into pieces, which run one after another in ONNX Runtime and give tensors from inside of it.

Each piece is a session of its own that gives the wanted tensors inside it and what later pieces read.  So nothing is
computed twice, and no more than one piece's tensors are in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from isa_deploy.errors import BackendUnavailableError, ExportError
from isa_deploy.runtime.backends.onnxruntime import first_line, session_errors

__all__ = ["TENSORS_AT_ONCE", "GraphPieces"]

TENSORS_AT_ONCE = 8
"""Wanted tensors that one piece of the graph gives."""

PROVIDER = "CPUExecutionProvider"

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class _Piece:
    """``inputs``, ``outputs``: of the session.  ``finished``: what nothing after it reads."""

    session: Any
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    finished: tuple[str, ...]


class GraphPieces:
    """A graph that gives ``wanted`` tensors, computed by its nodes, piece by piece; to be closed after use."""

    def __init__(self, path: Path, data: bytes, wanted: Sequence[str]) -> None:
        """``data``: the bytes of the file ``path``.

        Raises :class:`ExportError` where the graph does not compute one of the tensors, or ONNX Runtime refuses it,
        and :class:`BackendUnavailableError` where ONNX Runtime is not installed.
        """
        self._path = path
        self._wanted = frozenset(wanted)
        self._library = _onnxruntime()
        self._errors = session_errors()
        try:
            # types of what goes from piece to piece; of no use for the sizes, which depend on the frame
            model = onnx.shape_inference.infer_shapes(data)
        except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
            raise ExportError(f"{path}: not an ONNX graph that can be calibrated ({first_line(error)})") from error
        weights = {weight.name for weight in model.graph.initializer}
        images = [value for value in model.graph.input if value.name not in weights]
        if len(images) != 1:
            raise ExportError(f"{path}: a graph of {len(images)} inputs; calibrate one of isa-export, which has one")
        self._image = images[0].name
        first = images[0].type.tensor_type.shape.dim
        self._batch = max(first[0].dim_value, 1) if first else 1
        self._pieces = self._open_pieces(model)

    def _open_pieces(self, model: onnx.ModelProto) -> list[_Piece]:
        nodes = _ancestors(model.graph, self._wanted)
        computed = {name for node in nodes for name in node.output}
        missing = sorted(self._wanted - computed)
        if missing:
            raise ExportError(f"{self._path}: the graph computes no tensor {missing[0]}; name outputs of its nodes")
        weights = {weight.name: weight for weight in model.graph.initializer}
        types = {value.name: value for value in (*model.graph.value_info, *model.graph.output, *model.graph.input)}
        options = _session_options(self._library)
        pieces = []
        groups = _groups(nodes, self._wanted)
        read_by = [{name for node in group for name in node.input if name} for group in groups]
        for index, group in enumerate(groups):
            later = set[str]().union(*read_by[index + 1 :])
            given = {name for node in group for name in node.output if name}
            inputs = sorted(read_by[index] - given - weights.keys())
            outputs = sorted(given & (self._wanted | later))
            piece = onnx.helper.make_model(
                onnx.helper.make_graph(
                    group,
                    f"piece {index}",
                    [_described(types, name) for name in inputs],
                    [_described(types, name) for name in outputs],
                    [weights[name] for name in sorted(read_by[index] & weights.keys())],
                ),
                opset_imports=model.opset_import,
                ir_version=model.ir_version,
            )
            try:
                session = self._library.InferenceSession(piece.SerializeToString(), options, providers=[PROVIDER])
            except self._errors as error:
                raise self._failure(error) from error
            finished = (set(inputs) | given) - later
            pieces.append(_Piece(session, tuple(inputs), tuple(outputs), tuple(finished)))
        return pieces

    def run(self, frame_hwc: npt.NDArray[np.uint8], take: Callable[[str, Array], None]) -> None:
        """Give each wanted tensor of one frame (uint8 H x W x 3) to ``take``, with its name, as soon as it is there.

        Where the graph fixes a batch, it is given that many times the same frame.  ``take`` is not to keep the array:
        the memory is wanted for the next ones.  Raises :class:`ExportError` where ONNX Runtime fails, and what
        ``take`` raises.
        """
        values: dict[str, Array] = {self._image: np.repeat(frame_hwc[None], self._batch, axis=0)}
        for piece in self._pieces:
            try:
                results = piece.session.run(piece.outputs, {name: values[name] for name in piece.inputs})
            except self._errors as error:
                raise self._failure(error) from error
            values.update(zip(piece.outputs, results, strict=True))
            del results
            for name in piece.outputs:
                if name in self._wanted:
                    take(name, values[name])
            for name in piece.finished:
                values.pop(name, None)

    def close(self) -> None:
        """Free the sessions and the memory that they share."""
        self._pieces.clear()
        _new_arena(self._library)

    def _failure(self, error: BaseException) -> ExportError:
        return ExportError(
            f"{self._path}: ONNX Runtime fails in calibration ({first_line(error)}); check that isa-infer runs it on "
            "a picture of the same size"
        )


def _ancestors(graph: onnx.GraphProto, wanted: frozenset[str]) -> list[onnx.NodeProto]:
    """The nodes that the wanted tensors come from, in the graph's order."""
    needed = set(wanted)
    nodes = []
    for node in reversed(graph.node):  # ONNX has them sorted
        if not needed.isdisjoint(node.output):
            needed.update(node.input)
            nodes.append(node)
    return nodes[::-1]


def _groups(nodes: Sequence[onnx.NodeProto], wanted: frozenset[str]) -> list[list[onnx.NodeProto]]:
    """The nodes cut after every :data:`TENSORS_AT_ONCE` wanted tensors."""
    groups: list[list[onnx.NodeProto]] = [[]]
    held = 0
    for node in nodes:
        if held >= TENSORS_AT_ONCE:
            groups.append([])
            held = 0
        groups[-1].append(node)
        held += len(wanted.intersection(node.output))
    return groups


def _described(types: Mapping[str, onnx.ValueInfoProto], name: str) -> onnx.ValueInfoProto:
    described = types.get(name)
    if described is None or not described.type.tensor_type.elem_type:
        raise ExportError(f"the type of tensor {name} cannot be inferred; export the checkpoint again")
    return described


def _onnxruntime() -> ModuleType:
    try:
        import onnxruntime
    except ImportError:
        raise BackendUnavailableError("ONNX Runtime is not installed; pip install 'isa-deploy[export]'") from None
    module: ModuleType = onnxruntime
    return module


def _session_options(ort: ModuleType) -> Any:
    """For all pieces: one arena of memory together, of which each would keep its own otherwise."""
    _new_arena(ort)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.enable_mem_pattern = False  # frames of several sizes
    options.add_session_config_entry("session.use_env_allocators", "1")
    # idle threads of one piece would take the cores from the next, and from the histograms
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _new_arena(ort: ModuleType) -> None:
    """An arena for sessions to share, in the place of the one before, whose memory is freed with its last session."""
    arena = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    # grown by what is asked for; doubled each time it would end far above the need
    ort.create_and_register_allocator(arena, ort.OrtArenaCfg({"arena_extend_strategy": 1}))

"""Which ranges an int8 graph takes, and which of its convolutions stay wide: by what each costs, measured.

Every choice is made in the engine that will run the graph, on calibration frames, against the float32 graph's logits.
The loss is in points of mIoU (:mod:`isa_deploy.export.expected_loss`).

1. Ranges: each method's thresholds are tried with every convolution in int8; the one that loses least stays.
2. Layers: each convolution alone is made wide again.  What is lost less is that layer's loss, and what a frame takes
   longer is the time that it gains.
3. Budget: as long as more is lost than is allowed, the layer that brings back most error a millisecond becomes wide.

The first convolution and the last are wide from the beginning: they see the picture's own values and give the logits,
lose more than most (of 38 layers the third and the seventh of the demo model, the eleventh and the twelfth of the
golden one: benchmarks/results/int8_accuracy*.json), and int8 would gain next to nothing in them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from isa_deploy.export.activation_ranges import METHODS, TensorHistogram
from isa_deploy.export.expected_loss import ExpectedLoss
from isa_deploy.export.logits_engine import LogitsEngine
from isa_deploy.export.quantisation import convolutions, quantise

__all__ = ["Int8Choice", "LayerFinding", "RangeFinding", "choose_int8"]

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

LAYER_FRAMES = 4
LAYER_PIXELS = 256 * 512
"""A layer is judged on so many frames, each a piece of at most so many pixels from its middle: that the search takes
minutes for a large network.  Ranges and the budget are judged on whole frames, and layers too where the graph takes
one size only."""

TIMED_RUNS = 3


@dataclass(frozen=True)
class RangeFinding:
    """One way to choose ranges, every convolution but the first and last in int8.

    ``points``: of mIoU lost; ``agreement``: share of equal labels; ``error``: of the logits, a share of their variance.
    """

    name: str
    points: float
    agreement: float
    error: float


@dataclass(frozen=True)
class LayerFinding:
    """One convolution.

    ``points``: of mIoU that are lost less where it alone is wide; ``error_share``: the share of the whole squared
    error of the logits that is gone then.  Both may be below 0, as errors cancel.  ``float_ms``, ``int8_ms``: of a
    frame, None where the engine has no such time.  ``kept``: why it stays wide, "" where it is int8.
    """

    name: str
    points: float
    error_share: float
    float_ms: float | None
    int8_ms: float | None
    kept: str

    @property
    def gained_ms(self) -> float | None:
        """What int8 saves of a frame's time."""
        return None if self.float_ms is None or self.int8_ms is None else self.float_ms - self.int8_ms


@dataclass(frozen=True)
class Int8Choice:
    """What was chosen: ``ranges`` by name, tensor to threshold, and the convolutions that stay ``wide``.

    ``points``, ``agreement``: of the graph as chosen, on ``frames`` frames; ``budget``: the points that were allowed.
    """

    ranges: str
    threshold_of: Mapping[str, float]
    wide: tuple[str, ...]
    points: float
    agreement: float
    budget: float
    frames: int
    range_findings: tuple[RangeFinding, ...]
    layer_findings: tuple[LayerFinding, ...]


def choose_int8(
    model: onnx.ModelProto,
    histograms: Mapping[str, TensorHistogram],
    frames_hwc: Sequence[UInt8],
    budget: float,
    progress: Callable[[str], None],
    *,
    open_engine: Callable[[onnx.ModelProto, bool], LogitsEngine] = lambda model, timed: LogitsEngine(
        model, timed=timed
    ),
) -> Int8Choice:
    """Choose ranges and wide layers for a float32 graph.

    ``histograms``: of :func:`isa_deploy.export.quantisation.calibrated_tensors`; ``frames_hwc``: what it is judged on,
    one or more; ``budget``: points of mIoU.  Where no int8 layer is within the budget, all are wide in the end.
    Raises as :class:`~isa_deploy.export.logits_engine.LogitsEngine`.
    """
    search = _Search(model, frames_hwc, open_engine, progress)
    return search.choose(histograms, budget)


class _Search:
    def __init__(
        self,
        model: onnx.ModelProto,
        frames_hwc: Sequence[UInt8],
        open_engine: Callable[[onnx.ModelProto, bool], LogitsEngine],
        progress: Callable[[str], None],
    ) -> None:
        self._model = model
        self._open = open_engine
        self._progress = progress
        self._frames = list(frames_hwc)
        few = self._frames[:LAYER_FRAMES]
        self._pieces = few if _takes_one_size(model) else [_middle(frame) for frame in few]
        names = convolutions(model)
        self._ends = {names[0]: "the first", names[-1]: "the last"}
        progress("int8: the float32 graph's logits")
        with open_engine(model, True) as engine:
            # twice: the first run of a size compiles
            self._float_ms = _times(engine, self._frames[0])
            self._loss = ExpectedLoss([engine.logits(frame) for frame in self._frames])
            self._piece_loss = ExpectedLoss([engine.logits(piece) for piece in self._pieces])

    def choose(self, histograms: Mapping[str, TensorHistogram], budget: float) -> Int8Choice:
        findings = []
        found: dict[str, tuple[dict[str, float], list[Float32]]] = {}
        for name, method in METHODS.items():
            self._progress(f"int8: ranges by {name}")
            threshold_of = {tensor: method(histogram) for tensor, histogram in histograms.items()}
            logits = self._run(threshold_of, self._ends, self._frames)
            found[name] = threshold_of, logits
            findings.append(
                RangeFinding(name, self._loss.points(logits), self._loss.agreement(logits), self._loss.error(logits))
            )
        best = min(findings, key=lambda each: (round(each.points, 3), each.error))
        threshold_of, logits = found[best.name]
        del found
        layers = self._judge_layers(threshold_of)
        wide = dict(self._ends)
        by_worth = sorted((each for each in layers if not each.kept), key=_worth, reverse=True)
        points = best.points
        for layer in by_worth:
            if points <= budget:
                break
            wide[layer.name] = "the budget"
            self._progress(f"int8: {points:.2f} points lost, {budget:g} allowed; {layer.name} stays wide")
            logits = self._run(threshold_of, wide, self._frames)
            points = self._loss.points(logits)
        return Int8Choice(
            ranges=best.name,
            threshold_of=threshold_of,
            wide=tuple(name for name in convolutions(self._model) if name in wide),
            points=points,
            agreement=self._loss.agreement(logits),
            budget=budget,
            frames=len(self._frames),
            range_findings=tuple(findings),
            layer_findings=tuple(
                LayerFinding(
                    each.name, each.points, each.error_share, each.float_ms, each.int8_ms, wide.get(each.name, "")
                )
                for each in layers
            ),
        )

    def _judge_layers(self, threshold_of: Mapping[str, float]) -> list[LayerFinding]:
        names = convolutions(self._model)
        with self._open(quantise(self._model, threshold_of, ()), True) as engine:
            int8_ms = _times(engine, self._frames[0])
        base = self._run(threshold_of, self._ends, self._pieces)
        points, error = self._piece_loss.points(base), self._piece_loss.error(base)
        findings = []
        for number, name in enumerate(names):
            self._progress(f"int8: layer {number + 1} of {len(names)}, {name}")
            # one end is judged with the other wide, every other layer with both
            wide = {*self._ends} ^ {name} if name in self._ends else {*self._ends, name}
            logits = self._run(threshold_of, wide, self._pieces)
            sign = -1 if name in self._ends else 1
            change = sign * (error - self._piece_loss.error(logits))
            findings.append(
                LayerFinding(
                    name,
                    sign * (points - self._piece_loss.points(logits)),
                    change / error if error else 0.0,
                    self._float_ms.get(name),
                    int8_ms.get(name),
                    self._ends.get(name, ""),
                )
            )
        return findings

    def _run(
        self, threshold_of: Mapping[str, float], wide: Mapping[str, str] | set[str], frames: Sequence[UInt8]
    ) -> list[Float32]:
        with self._open(quantise(self._model, threshold_of, tuple(wide)), False) as engine:
            return [engine.logits(frame) for frame in frames]


def _worth(layer: LayerFinding) -> float:
    """What making a layer wide brings for what it costs; layers without a time are worth their error."""
    gained = layer.gained_ms
    return layer.error_share if gained is None else layer.error_share / max(gained, math.ulp(1.0), 1e-3)


def _times(engine: LogitsEngine, frame_hwc: UInt8) -> dict[str, float]:
    """Each node's least time of a few runs: what the machine does besides only adds."""
    engine.logits(frame_hwc)
    least: dict[str, float] = {}
    for _ in range(TIMED_RUNS):
        engine.logits(frame_hwc)
        for name, ms in engine.layer_ms().items():
            least[name] = min(ms, least.get(name, math.inf))
    return least


def _takes_one_size(model: onnx.ModelProto) -> bool:
    """Whether the graph fixes the frame's height and width."""
    _, height, width, _ = model.graph.input[0].type.tensor_type.shape.dim
    return any(side.HasField("dim_value") for side in (height, width))


def _middle(frame_hwc: UInt8) -> UInt8:
    """A piece of at most :data:`LAYER_PIXELS` from the middle, with the frame's ratio."""
    height, width = frame_hwc.shape[:2]
    scale = min(1.0, math.sqrt(LAYER_PIXELS / (height * width)))
    h, w = max(8, int(height * scale)), max(8, int(width * scale))
    top, left = (height - h) // 2, (width - w) // 2
    return np.ascontiguousarray(frame_hwc[top : top + h, left : left + w])

"""How an int8 graph is chosen: the estimated loss, the ranges, the layers, the budget."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper, numpy_helper

from isa_deploy.errors import ExportError
from isa_deploy.export.activation_ranges import METHODS, TensorHistogram, measure
from isa_deploy.export.expected_loss import ExpectedLoss
from isa_deploy.export.int8_search import Int8Choice, choose_int8
from isa_deploy.export.int8_words import choice_lines, choice_record
from isa_deploy.export.logits_engine import LogitsEngine
from isa_deploy.export.quantisation import convolutions, quantise
from isa_deploy.runtime.images import read_image

Logits = np.ndarray[Any, Any]

LOGITS = hnp.arrays(np.float32, (4, 3, 5), elements=st.floats(-8, 8, width=32))

FRAME = np.random.default_rng(7).integers(0, 256, (24, 32, 3), dtype=np.uint8)


# --- the estimated loss


@given(LOGITS)
def test_the_reference_itself_loses_nothing(logits_chw: Logits) -> None:
    loss = ExpectedLoss([logits_chw])
    assert loss.points([logits_chw]) == 0
    assert loss.error([logits_chw]) == 0
    assert loss.agreement([logits_chw]) == 1


@given(LOGITS, LOGITS)
def test_it_is_the_miou_under_the_softmax_as_truth(reference_chw: Logits, other_chw: Logits) -> None:
    """A naive double loop over pixels and classes."""
    shares = np.exp(reference_chw.astype(np.float64))
    shares /= shares.sum(axis=0)

    def miou(labels_hw: Logits) -> float:
        expected = np.zeros((4, 4))
        for y in range(3):
            for x in range(5):
                for truth in range(4):
                    expected[truth, labels_hw[y, x]] += shares[truth, y, x]
        ious = [
            expected[k, k] / (expected[k].sum() + expected[:, k].sum() - expected[k, k])
            for k in np.unique(reference_chw.argmax(0))
        ]
        return float(np.mean(ious))

    wanted = 100 * (miou(reference_chw.argmax(0)) - miou(other_chw.argmax(0)))
    assert ExpectedLoss([reference_chw]).points([other_chw]) == pytest.approx(wanted, abs=1e-9)


def test_a_flip_where_two_classes_are_as_likely_costs_next_to_nothing() -> None:
    sure, torn = np.float32(9), np.float32(0.01)
    reference = np.zeros((2, 1, 40), np.float32)
    reference[0, 0, :20], reference[1, 0, 20:] = sure, sure
    reference[0, 0, 0] = torn
    at_the_torn, at_a_sure = reference.copy(), reference.copy()
    at_the_torn[1, 0, 0] = at_a_sure[1, 0, 1] = 99
    loss = ExpectedLoss([reference])
    assert abs(loss.points([at_the_torn])) < 0.1
    assert loss.points([at_a_sure]) > 4


# --- the choice


def tiny_model(*shape_nhw: int | str) -> onnx.ModelProto:
    """Frame to logits at stride 1: five convolutions, the third with a range that int8 can hardly hold."""
    n, h, w = shape_nhw or ("N", "H", "W")
    random = np.random.default_rng(3)
    channels = [3, 6, 6, 6, 6, 4]
    nodes = [
        helper.make_node("Cast", ["image"], ["cast"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["cast"], ["x0"], "nchw", perm=[0, 3, 1, 2]),
    ]
    weights = []
    for number, (inputs, outputs) in enumerate(itertools.pairwise(channels)):
        kernel = random.normal(size=(outputs, inputs, 1, 1)).astype(np.float32) / np.float32(np.sqrt(inputs))
        if number == 1:
            kernel[0] *= 400  # one channel makes the third convolution's input hard
        if number == 2:
            kernel[:, 0] /= 400
        weights.append(numpy_helper.from_array(kernel, f"w{number}"))
        out = "logits" if number == 4 else f"x{number + 1}"
        nodes.append(helper.make_node("Conv", [f"x{number}", f"w{number}"], [out], f"conv{number}"))
    return helper.make_model(
        helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info("image", TensorProto.UINT8, [n, h, w, 3])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [n, 4, h, w])],
            weights,
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return tiny_model()


@pytest.fixture(scope="module")
def histograms(model: onnx.ModelProto) -> dict[str, TensorHistogram]:
    values = FRAME.astype(np.float32).transpose(2, 0, 1)
    found = {}
    for node in model.graph.node:
        if node.op_type == "Conv":
            found[node.input[0]] = measure(values.reshape(len(values), -1).copy())
            kernel = numpy_helper.to_array(next(w for w in model.graph.initializer if w.name == node.input[1]))
            values = np.einsum("oi,ihw->ohw", kernel[:, :, 0, 0], values)
    return found


def chosen(model: onnx.ModelProto, histograms: dict[str, TensorHistogram], budget: float) -> Int8Choice:
    return choose_int8(model, histograms, [FRAME], budget, lambda line: None)


def test_ranges_are_those_that_lose_least(model: onnx.ModelProto, histograms: dict[str, TensorHistogram]) -> None:
    choice = chosen(model, histograms, 100)
    assert {each.name for each in choice.range_findings} == set(METHODS)
    assert choice.points == min(each.points for each in choice.range_findings)
    assert choice.threshold_of == {name: METHODS[choice.ranges](each) for name, each in histograms.items()}
    assert choice.wide == ("conv0", "conv4")


def test_a_graph_of_one_size_and_of_several_frames_is_judged_alike(
    model: onnx.ModelProto, histograms: dict[str, TensorHistogram], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isa_deploy.export.int8_search.LAYER_PIXELS", 100)  # a piece would be smaller than the frame
    free, fixed = chosen(model, histograms, 100), chosen(tiny_model(2, 24, 32), histograms, 100)
    assert fixed.range_findings == free.range_findings
    assert fixed.wide == free.wide


def test_figures_are_those_of_the_engine(model: onnx.ModelProto, histograms: dict[str, TensorHistogram]) -> None:
    choice = chosen(model, histograms, 100)
    with LogitsEngine(model) as wide, LogitsEngine(quantise(model, choice.threshold_of, choice.wide)) as int8:
        reference, logits = wide.logits(FRAME), int8.logits(FRAME)
        alone = LogitsEngine(quantise(model, choice.threshold_of, (*choice.wide, "conv2")))
    loss = ExpectedLoss([reference])
    assert choice.points == pytest.approx(loss.points([logits]))
    assert choice.agreement == loss.agreement([logits])
    found = {each.name: each for each in choice.layer_findings}
    assert found["conv2"].points == pytest.approx(loss.points([logits]) - loss.points([alone.logits(FRAME)]))
    with LogitsEngine(quantise(model, choice.threshold_of, ("conv0",))) as last_too:
        error = loss.error([last_too.logits(FRAME)]) - loss.error([logits])
    assert error != 0
    assert found["conv4"].error_share == pytest.approx(error / loss.error([logits]))


def test_the_hard_layer_is_found_and_stays_wide_first(
    model: onnx.ModelProto, histograms: dict[str, TensorHistogram]
) -> None:
    free = chosen(model, histograms, 100)
    assert [each.name for each in free.layer_findings] == list(convolutions(model))
    worst = max((each for each in free.layer_findings if not each.kept), key=lambda each: each.error_share)
    assert worst.name == "conv2"
    assert worst.error_share > 0.5
    bound = chosen(model, histograms, free.points / 2)
    assert bound.points <= free.points / 2
    assert bound.wide == ("conv0", "conv2", "conv4")
    assert {each.name: each.kept for each in bound.layer_findings}["conv2"] == "the budget"


def test_a_budget_of_nothing_leaves_everything_wide(
    model: onnx.ModelProto, histograms: dict[str, TensorHistogram]
) -> None:
    choice = chosen(model, histograms, -1.0)
    assert choice.wide == convolutions(model)
    assert choice.agreement == 1


def test_the_table_names_every_layer_the_worst_first(
    model: onnx.ModelProto, histograms: dict[str, TensorHistogram]
) -> None:
    choice = chosen(model, histograms, 100)
    lines = choice_lines(choice)
    shown = [line.split()[0] for line in lines if line.startswith("conv")]
    assert sorted(shown) == list(convolutions(model))
    shares = {each.name: each.error_share for each in choice.layer_findings}
    assert shown == sorted(shown, key=lambda name: -shares[name])
    assert any(line.startswith("conv0") and line.endswith("the first") for line in lines)
    assert lines[-1].startswith("int8: 3 of 5 convolutions")
    record = choice_record(choice)
    assert [each["name"] for each in record["layers"]] == list(convolutions(model))
    for each, found in zip(record["layers"], choice.layer_findings, strict=True):
        assert each["gained_ms"] == found.gained_ms


def test_layer_times_are_the_engines(streets_onnx: Path, golden: Path) -> None:
    float_model = onnx.load(streets_onnx / "model.onnx")
    with LogitsEngine(float_model, timed=True) as engine:
        engine.logits(read_image(golden / "scene_0.png"))
        times = engine.layer_ms()
    timed = [name for name in convolutions(float_model) if times.get(name, 0) > 0]
    assert len(timed) == len(convolutions(float_model))


def test_a_graph_that_the_engine_refuses_is_an_error_in_a_line() -> None:
    broken = tiny_model()
    broken.graph.node[2].op_type = "NoSuchOperator"
    with pytest.raises(ExportError, match=r"OpenVINO .* refuses the int8 graph"):
        LogitsEngine(broken)

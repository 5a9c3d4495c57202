"""The engine inspector's JSON, as TensorRT 8 to 11 write it and as anybody might."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isa_deploy.export.plan_layers import LayerSummary, layer_summary
from isa_deploy.manifest import EngineSpec


def layer(kind: str, written: list[str], **more: Any) -> dict[str, Any]:
    tensors = [
        {"Name": f"t{index}", "Location": "Device", "Dimensions": [1, 8], "Format/Datatype": text}
        for index, text in enumerate(written)
    ]
    return {"Name": f"a {kind}", "LayerType": kind, "Inputs": [], "Outputs": tensors, **more}


def test_layers_types_precisions_and_tactics_are_counted() -> None:
    information = {
        "Layers": [
            layer("gemm", ["Half"], TacticName="sm89_xmma_gemm", TacticValue="0x01"),
            layer("gemm", ["Half"], TacticName="sm89_xmma_gemm"),
            layer("kgen", ["Half", "Float"], TacticName="__myl_Cast"),
            layer("CaskConvolution", ["Float"], TacticValue="0x0000000000000016"),
            layer("signal", []),
        ],
        "Bindings": ["image", "labels"],
    }
    assert layer_summary(json.dumps(information)) == LayerSummary(
        layers=5,
        types={"gemm": 2, "kgen": 1, "CaskConvolution": 1, "signal": 1},
        precisions={"Half": 3, "Float": 2},
        tactics=(("sm89_xmma_gemm", 2), ("__myl_Cast", 1), ("0x0000000000000016", 1)),
    )


@pytest.mark.parametrize(
    ("wording", "name"),
    [
        ("Half", "Half"),
        ("Float", "Float"),
        ("BFloat16", "BFloat16"),
        ("Row major linear FP16 format", "Half"),
        ("Row major linear FP32", "Float"),
        ("Row major linear BF16 format", "BFloat16"),
        ("Thirty-two wide channel vectorized row major Int8 format.", "Int8"),
        ("Channel major FP16 format where channel % 8 == 0", "Half"),
        ("UInt8", "UInt8"),
        ("Row major linear BOOL", "Bool"),
        ("FP4", "FP4"),
    ],
)
def test_a_type_has_one_name_however_the_library_words_it(wording: str, name: str) -> None:
    summary = layer_summary(json.dumps({"Layers": [layer("kgen", [wording, wording])]}))
    assert summary.precisions == {name: 1}


def test_names_alone_are_counted() -> None:
    summary = layer_summary(json.dumps({"Layers": ["conv1", "conv2 + relu"], "Bindings": ["image"]}))
    assert summary == LayerSummary(2, {}, {}, ())


@pytest.mark.parametrize(
    "text",
    ["", "no JSON", "null", "[]", "{}", '{"Layers": 3}', '{"Layers": null}', "[" * 100_000, '"text"'],
)
def test_what_is_not_of_this_form_gives_nothing(text: str) -> None:
    assert layer_summary(text) == LayerSummary(0, {}, {}, ())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["Layers", "LayerType", "Outputs", "Format/Datatype", "TacticName", "TacticValue"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(layers=st.lists(JSON, max_size=6))
def test_odd_layers_never_fail(layers: list[Any]) -> None:
    assert layer_summary(json.dumps({"Layers": layers})).layers == len(layers)


def test_the_summary_is_bounded_and_fits_a_manifest() -> None:
    layers = [
        layer(f"kind {index} " + "k" * 1000, [f"type{index}" + "t" * 1000], TacticName=f"{index}" + "n" * 1000)
        for index in range(500)
    ]
    summary = layer_summary(json.dumps({"Layers": layers}))
    assert (summary.layers, len(summary.types), len(summary.precisions), len(summary.tactics)) == (500, 64, 64, 20)
    EngineSpec(
        builder="tensorrt",
        builder_version="11.4.0.106",
        compute_capability="8.9",
        onnx_sha256="0" * 64,
        plan_sha256="0" * 64,
        hardware_compatible=False,
        version_compatible=False,
        profiles=(),
        layer_precisions=summary.precisions,
    )
    assert all(len(name) <= 200 for name, _ in summary.tactics)

"""int8 graphs in the engines: what runs in int8, what the rest is computed in, and what is told of it.

The graph is small enough to be known by heart: a logit is the mean of a channel over 8 x 8 pixels, whose bytes were
rounded to even ones by a scale of 2.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cheap_engine import cheap_manifest
from native_build import built, native_library
from onnx import TensorProto, helper, numpy_helper

from isa_deploy.errors import EngineError, InputError, ManifestError
from isa_deploy.export.tensorrt import PlanOptions, build_plan
from isa_deploy.manifest import METADATA_KEY, ClassesSpec, Manifest, QuantisationSpec
from isa_deploy.runtime.backends.openvino import OpenVINOBackend, cpu_has_bf16
from isa_deploy.runtime.backends.tensorrt_library import TensorRTLibrary
from isa_deploy.runtime.native import NativeSegmenter
from isa_deploy.runtime.segmenter import Segmenter

STRIDE = 8
FLOAT32 = {"precision": "fp32", "quantisation": None}
SCALE = np.float32(2)


def int8_manifest(**changes: Any) -> Manifest:
    told: dict[str, Any] = {"rest": "fp32", "ranges": "mse", "frames": 8, "layers": 1, "kept": ()}
    classes = ClassesSpec(names=("blue", "green", "red"), palette_rgb=((0, 0, 255), (0, 255, 0), (255, 0, 0)))
    return cheap_manifest(precision="int8", quantisation=QuantisationSpec(**(told | changes)), classes=classes)


def write_graph(folder: Path, manifest: Manifest) -> Path:
    """A folder with a quantised graph."""
    kernel = np.zeros((3, 3, STRIDE, STRIDE), np.int8)
    kernel[np.arange(3), np.arange(3)] = 127
    constants = {
        "scale": SCALE,
        "zero": np.int8(0),
        "kernel_q": kernel,
        "kernel_scales": np.full(3, 1 / (127 * STRIDE * STRIDE), np.float32),
        "kernel_zeros": np.zeros(3, np.int8),
        "enlarge": np.array([1, 1, STRIDE, STRIDE], np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["bytes"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["bytes"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("QuantizeLinear", ["planes", "scale", "zero"], ["planes_q"]),
        helper.make_node("DequantizeLinear", ["planes_q", "scale", "zero"], ["planes_dq"]),
        helper.make_node("DequantizeLinear", ["kernel_q", "kernel_scales", "kernel_zeros"], ["kernel"], axis=0),
        helper.make_node("Conv", ["planes_dq", "kernel"], ["logits"], strides=[STRIDE, STRIDE]),
        helper.make_node("Resize", ["logits", "", "enlarge"], ["large"], mode="linear"),
        helper.make_node("ArgMax", ["large"], ["indices"], axis=1, keepdims=0),
        helper.make_node("Cast", ["indices"], ["labels"], to=TensorProto.UINT8),
    ]
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", 3])],
        [
            helper.make_tensor_value_info("labels", TensorProto.UINT8, ["n", "H", "W"]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3, "y", "x"]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {METADATA_KEY: manifest.to_json()})
    folder.mkdir(exist_ok=True)
    onnx.save(model, folder / "model.onnx")
    (folder / "model.json").write_text(manifest.to_json(), encoding="utf-8")
    return folder


@pytest.fixture
def frame_hwc() -> np.ndarray[Any, Any]:
    return np.random.default_rng(7).integers(0, 255, (64, 96, 3), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_graph(tmp_path / "int8", int8_manifest())


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("precision", ["auto", "fp32"])
def test_an_int8_graph_says_so_whatever_its_rest_is_computed_in(
    folder: Path, frame_hwc: np.ndarray[Any, Any], backend: str, precision: str
) -> None:
    rounded = np.rint(frame_hwc / SCALE) * SCALE
    cells = rounded.reshape(8, STRIDE, 12, STRIDE, 3).mean(axis=(1, 3)).transpose(2, 0, 1)
    with Segmenter.open(folder, backend=backend, precision=precision, resize="none") as segmenter:
        assert segmenter.precision == "int8"
        # bfloat16 has 8 bits, float32 sums of these are exact but for the scale
        tolerance = 1.0 if backend == "openvino" and precision == "auto" and cpu_has_bf16() else 1e-3
        np.testing.assert_allclose(segmenter.logits_grid(frame_hwc).logits_chw, cells, atol=tolerance)
        assert segmenter.segment(frame_hwc).shape == frame_hwc.shape[:2]


def test_openvino_computes_the_convolution_in_int8(folder: Path, frame_hwc: np.ndarray[Any, Any]) -> None:
    backend = OpenVINOBackend(folder / "model.onnx", int8_manifest(), "cpu", "fp32", "latency")
    backend.start(frame_hwc[None], ("logits",)).wait()
    (pool,) = backend._pools.values()
    steps = [step.get_rt_info() for step in pool.compiled.get_runtime_model().get_ops()]
    told = {step["layerType"].value: step["runtimePrecision"].value for step in steps}
    assert told["Convolution"] in ("i8", "u8")
    assert pool.compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
    backend.close()


@pytest.mark.parametrize(
    ("bf16", "wish", "hint"), [(True, "auto", "bf16"), (True, "fp32", "f32"), (False, "auto", "f32")]
)
def test_openvino_is_asked_for_bfloat16_beside_int8_where_the_cpu_has_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, bf16: bool, wish: str, hint: str
) -> None:
    monkeypatch.setattr("isa_deploy.runtime.backends.openvino.cpu_has_bf16", lambda core: bf16)
    backend = OpenVINOBackend(folder / "model.onnx", int8_manifest(), "cpu", wish, "latency")
    asked: list[dict[str, str]] = []
    compile_model = backend._core.compile_model

    class Core:
        def compile_model(self, model: Any, device: str, settings: dict[str, str]) -> Any:
            asked.append(settings)
            return compile_model(model, device, settings | {"INFERENCE_PRECISION_HINT": "f32"})

    backend._core = Core()
    assert backend.precision == "int8"
    assert backend.fast_argmax == (hint == "bf16")
    backend.start(np.zeros((1, 64, 96, 3), np.uint8), ("logits",)).wait()
    assert [each["INFERENCE_PRECISION_HINT"] for each in asked] == [hint]
    backend.close()


def test_onnx_runtime_refuses_another_type_for_the_rest_than_the_graphs(tmp_path: Path) -> None:
    folder = write_graph(tmp_path / "int8", int8_manifest(rest="fp16"))
    for wish in ("fp32", "bf16"):
        with pytest.raises(InputError, match=rf"graph's own type, int8 \(rest fp16\), not in {wish}"):
            Segmenter.open(folder, backend="onnxruntime", precision=wish)


def test_tensorrt_rtx_builds_a_plan_of_it(folder: Path, rtx_library: TensorRTLibrary) -> None:
    content = (folder / "model.onnx").read_bytes()
    built_plan = build_plan(rtx_library, content, int8_manifest(), PlanOptions(compute_capability="8.9"))
    assert built_plan.network.inputs["image"].dtype == "uint8"
    assert built_plan.network.outputs["logits"].dtype == "float32"
    assert built_plan.warnings == ()


def test_a_graph_of_float32_says_that_it_is_float32(tmp_path: Path) -> None:
    folder = write_graph(tmp_path / "float32", int8_manifest().model_copy(update=FLOAT32))
    with Segmenter.open(folder, backend="openvino", precision="fp32", resize="none") as segmenter:
        assert segmenter.precision == "fp32"


def test_a_benchmark_holds_int8_against_no_float_peak(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "record.json"
    main = "from isa_deploy.cli.bench import main; main()"
    line = [sys.executable, "-c", main, folder, "--shape", "64x96", "--rounds", "1", "--backend", "openvino"]
    done = subprocess.run([*line, "--out", out], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    (shape,) = record["shapes"]
    (result,) = shape["results"]
    assert result["facts"]["name"] == "openvino int8"
    assert result["peak_share"] is None
    assert shape["peaks"] == []
    assert record["notes"] == ["no share of the peak is told for int8 engines: the peak of int8 is not measured here"]
    assert "yardstick" not in done.stderr


def test_a_folder_whose_two_manifests_tell_of_other_ranges_is_refused(folder: Path) -> None:
    (folder / "model.json").write_text(int8_manifest(ranges="entropy").to_json(), encoding="utf-8")
    with pytest.raises(ManifestError, match="describes another graph"):
        Segmenter.open(folder)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_the_cpp_runtime_tells_and_labels_the_same(folder: Path, frame_hwc: np.ndarray[Any, Any], backend: str) -> None:
    built(f"libisa_{backend}.so")
    with (
        Segmenter.open(folder, backend=backend, resize="none") as python,
        NativeSegmenter(folder, native_library(), backend=backend, resize="none") as native,
    ):
        assert native.precision == python.precision == "int8"
        np.testing.assert_array_equal(native.segment(frame_hwc), python.segment(frame_hwc))
    wish = "bf16" if backend == "onnxruntime" or not cpu_has_bf16() else "fp16"
    refused = []
    for opening in (Segmenter.open, lambda path, **options: NativeSegmenter(path, native_library(), **options)):
        with pytest.raises((InputError, EngineError)) as caught:
            opening(folder, backend=backend, precision=wish)
        refused.append(str(caught.value).split(";")[0])
    assert refused[0] == refused[1]

"""NNCF's quantiser beside ours (ONNX Runtime's, with ranges and places of our choice), on the golden model.

    pip install nncf
    python benchmarks/quantisers.py --engine out/golden

``out/golden`` is a float32 export of tests/golden/isanet_r18w16_streets.pth.  Both calibrate on the same 32 drawn
scenes, the golden model runs in OpenVINO on 50 others: mIoU against the drawn label maps, the share of labels that are
float32's, and the types of the activations.  ONNX Runtime's own defaults (min-max, every convolution, product and
addition, the Concat left whole) are a third row.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "models" / "streets"))
from machine import machine
from streetscenes.scene import draw_scene

from isa_deploy.evaluate.confusion import ConfusionMatrix
from isa_deploy.evaluate.metrics import scores
from isa_deploy.export.activation_ranges import METHODS, measure, merge
from isa_deploy.export.quantisation import calibrated_tensors, convolutions, quantise, split_concatenations

ROOT = Path(__file__).resolve().parents[1]
SIZE_HW = (256, 512)
UNSEEN = range(900_000, 900_050)
CALIBRATION = range(5_000, 5_032)
RANGES = "percentile 99.99"

UInt8 = npt.NDArray[np.uint8]


def ours(model: onnx.ModelProto, frames: list[UInt8]) -> onnx.ModelProto:
    """As isa-export --int8, without the search."""
    import onnxruntime

    split_concatenations(model)
    tensors = list(calibrated_tensors(model))
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.extend(
        onnx.helper.make_tensor_value_info(each, onnx.TensorProto.FLOAT, None) for each in tensors
    )
    session = onnxruntime.InferenceSession(shown.SerializeToString(), providers=["CPUExecutionProvider"])
    histograms: dict[str, Any] = {}
    for frame in frames:
        for name, values in zip(tensors, session.run(tensors, {"image": frame[None]}), strict=True):
            found = measure(values.reshape(values.shape[0] * values.shape[1], -1))
            histograms[name] = merge(histograms[name], found) if name in histograms else found
    names = convolutions(model)
    return quantise(model, {name: METHODS[RANGES](each) for name, each in histograms.items()}, (names[0], names[-1]))


def defaults(model: onnx.ModelProto, frames: list[UInt8]) -> onnx.ModelProto:
    """ONNX Runtime's quantize_static, symmetric int8, a scale a channel for weights."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._rest: Iterator[UInt8] = iter(frames)

        def get_next(self) -> dict[str, Any] | None:
            frame = next(self._rest, None)
            return None if frame is None else {"image": frame[None]}

    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "quantised.onnx"
        symmetric = {"ActivationSymmetric": True, "WeightSymmetric": True}
        quantize_static(
            model,
            path,
            Reader(),
            op_types_to_quantize=["Conv", "MatMul", "Add"],
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            extra_options=symmetric,
        )
        return onnx.load(path)


def nncfs(model: onnx.ModelProto, frames: list[UInt8]) -> onnx.ModelProto:
    """NNCF's post-training quantisation, symmetric, with its bias correction."""
    import nncf

    data = nncf.Dataset([{"image": frame[None]} for frame in frames])
    quantised: onnx.ModelProto = nncf.quantize(
        model, data, preset=nncf.QuantizationPreset.PERFORMANCE, subset_size=len(frames), fast_bias_correction=True
    )
    return quantised


def labels_of(model: onnx.ModelProto, frames: list[UInt8]) -> list[UInt8]:
    """A graph's labels in OpenVINO."""
    import openvino as ov

    compiled = ov.Core().compile_model(
        ov.Core().read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    return [np.array(compiled([frame[None]])["labels"][0], np.uint8) for frame in frames]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "quantisers.json")
    arguments = parser.parse_args()
    path = arguments.engine / "model.onnx"
    scenes = [draw_scene(seed, *SIZE_HW) for seed in UNSEEN]
    frames = [draw_scene(seed, *SIZE_HW)[0] for seed in CALIBRATION]
    reference = labels_of(onnx.load(path), [frame for frame, _ in scenes])
    rows = []
    for name, way in (("ours", ours), ("ONNX Runtime's defaults", defaults), ("NNCF", nncfs), ("float32", None)):
        try:
            model = onnx.load(path) if way is None else way(onnx.load(path), frames)
        except ImportError as error:
            print(f"{name}: not run ({error})")
            continue
        weights = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
        types = Counter(
            str(weights[node.input[2]].dtype) for node in model.graph.node if node.op_type == "QuantizeLinear"
        )
        matrix = ConfusionMatrix(19)
        equal = []
        for (_, truth), labels, wanted in zip(
            scenes, labels_of(model, [frame for frame, _ in scenes]), reference, strict=True
        ):
            matrix.add(truth, labels)
            equal.append(float((labels == wanted).mean()))
        row = {
            "name": name,
            "miou": 100 * scores(matrix.counts_tl).miou,
            "equal_labels": 100 * float(np.mean(equal)),
            "activation_types": dict(types),
        }
        rows.append(row)
        print(row)
    arguments.out.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""The exported graph's contract: names, types, shapes, and nothing that depends on a frame's size."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from conftest import Exporter
from onnx import TensorProto

from isa_deploy.models.checkpoint import read_checkpoint
from isa_deploy.runtime.segmenter import Segmenter


def load(folder: Path) -> onnx.ModelProto:
    return onnx.load(folder / "model.onnx")


def signature(model: onnx.ModelProto) -> dict[str, tuple[int, list[object]]]:
    values = [*model.graph.input, *model.graph.output]
    return {
        value.name: (
            value.type.tensor_type.elem_type,
            [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim],
        )
        for value in values
    }


def test_a_dynamic_graph_takes_any_batch_and_size(exported: Exporter) -> None:
    assert signature(load(exported("tiny_r50_whole_0x"))) == {
        "image": (TensorProto.UINT8, ["N", "H", "W", 3]),
        "labels": (TensorProto.UINT8, ["N", "H", "W"]),
        "logits": (TensorProto.FLOAT, ["N", 19, "h", "w"]),
    }


def test_a_fixed_graph_has_the_shape_asked_for_and_confidence(exported: Exporter) -> None:
    folder = exported("isanet_r18w16_streets", shape_nhw=(2, 64, 128), confidence=True)
    assert signature(load(folder)) == {
        "image": (TensorProto.UINT8, [2, 64, 128, 3]),
        "labels": (TensorProto.UINT8, [2, 64, 128]),
        "logits": (TensorProto.FLOAT, [2, 19, 8, 16]),
        "confidence": (TensorProto.UINT8, [2, 64, 128]),
    }


def test_nodes_are_named_by_module_path_and_weights_as_in_the_checkpoint(exported: Exporter, golden: Path) -> None:
    model = load(exported("tiny_r50_whole_0x"))
    names = [node.name for node in model.graph.node]
    assert len(names) == len(set(names))
    for expected in (
        "input/Cast",
        "backbone/stem/0/Conv",
        "backbone/layer1/0/conv1/Conv",
        "head/global_relation/MatMul",
        "head/global_relation/Softmax",
        "head/local_relation/output_project/conv/Conv",
        "head/conv_seg/Conv",
        "labels/ArgMax",
    ):
        assert expected in names
    weights = {tensor.name for tensor in model.graph.initializer}
    wanted = {key for key in read_checkpoint(golden / "tiny_r50_whole_0x.pth").state_dict if key.endswith("weight")}
    batch_norms = {key for key in wanted if ".bn" in key or key.split(".")[-2] in ("1", "4", "7")}
    assert {key for key in wanted if "conv" in key and ".bn" not in key} <= weights
    assert wanted - weights <= batch_norms  # folded into their convolutions


def test_the_attention_is_reshapes_and_permutes_without_scatter_or_gather(exported: Exporter) -> None:
    model = load(exported("tiny_r50_whole_0x"))
    operators = {node.op_type for node in model.graph.node}
    assert {"Reshape", "Transpose", "MatMul", "Softmax", "Pad", "Slice"} <= operators
    assert not operators & {"Gather", "GatherND", "ScatterND", "If", "Loop", "NonZero", "BatchNormalization"}
    assert len(model.graph.node) < 260


def test_a_dynamic_graph_holds_no_constant_of_a_frames_size(exported: Exporter) -> None:
    """Everything that is no weight is a handful of numbers, none of them of the traced size."""
    traced = {130, 194, 17, 25, 3, 4}  # the sample's height and width, at stride 8, in groups
    model = load(exported("tiny_r50_whole_0x"))
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if tensor.data_type == TensorProto.INT64:
            assert values.size <= 4, tensor.name
            assert not set(values.ravel().tolist()) & (traced - {3, 4}), tensor.name


def test_the_file_holds_no_path_of_the_machine_that_made_it(exported: Exporter) -> None:
    data = (exported("tiny_r50_whole_0x") / "model.onnx").read_bytes()
    assert str(Path.cwd()).encode() not in data
    assert b".py" not in data


@pytest.mark.parametrize(("precision", "weight_type"), [("fp16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)])
def test_a_narrow_graph_is_strongly_typed(exported: Exporter, precision: str, weight_type: int) -> None:
    model = load(exported("isanet_r18w16_streets", precision=precision))
    weights = {tensor.data_type for tensor in model.graph.initializer if tensor.name.endswith((".weight", ".bias"))}
    assert weights == {weight_type}
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, check_type=True)
    types = {
        value.name: value.type.tensor_type.elem_type for value in [*inferred.graph.value_info, *inferred.graph.output]
    }
    for node in inferred.graph.node:
        if node.op_type in ("Conv", "MatMul"):
            assert types[node.output[0]] == weight_type, node.name
        if node.op_type in ("Softmax", "Resize", "ArgMax"):
            assert types.get(node.input[0]) == TensorProto.FLOAT, node.name


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (8, 8), (63, 130), (64, 64)])
def test_any_size_runs_and_a_batch_equals_its_frames(exported: Exporter, size: tuple[int, int]) -> None:
    session = ort.InferenceSession(str(exported("tiny_r50_whole_0x") / "model.onnx"))
    frames = np.random.default_rng(1).integers(0, 256, (3, *size, 3), dtype=np.uint8)
    labels, logits = session.run(["labels", "logits"], {"image": frames})
    assert labels.shape == (3, *size)
    assert logits.shape == (3, 19, -(-size[0] // 8), -(-size[1] // 8))
    for number in range(3):
        (alone,) = session.run(["logits"], {"image": frames[number : number + 1]})
        np.testing.assert_allclose(alone[0], logits[number], atol=1e-3, rtol=1e-4)


def test_the_same_checkpoint_gives_the_same_bytes(exported: Exporter, golden: Path, tmp_path: Path) -> None:
    from isa_deploy.export.pipeline import export

    folder = exported("isanet_r18w16_streets", shape_nhw=(2, 64, 128), confidence=True)
    again = export(
        golden / "isanet_r18w16_streets.pth",
        tmp_path / "again",
        shape_nhw=(2, 64, 128),
        confidence=True,
        frames=[golden / "img_64x128.png"],
    )
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / "model.onnx", again.onnx)}
    assert len(digests) == 1


def test_confidence_from_the_graph_equals_confidence_from_logits(exported: Exporter, golden: Path) -> None:
    import cv2

    from isa_deploy.runtime.assemble import labels_from_softmax_mean

    folder = exported("isanet_r18w16_streets", shape_nhw=(2, 64, 128), confidence=True)
    frame = cv2.resize(cv2.imread(str(golden / "scene_0.png")), (128, 64))
    with Segmenter.open(folder, backend="onnxruntime", resize="none") as segmenter:
        labels, confidence = segmenter.segment_with_confidence(frame)
        host_labels, host_confidence = labels_from_softmax_mean(segmenter._grids([frame], (64, 128)))
    assert np.array_equal(labels, host_labels)
    assert np.abs(confidence.astype(int) - host_confidence).max() <= 1

"""The manifest: what is refused, and how it is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isa_deploy.errors import EngineError, IsaError, ManifestError
from isa_deploy.manifest import METADATA_KEY, Manifest, read_manifest
from isa_deploy.runtime.onnx_metadata import read_onnx_manifest


@pytest.fixture
def record() -> dict[str, Any]:
    return {
        "format_version": 1,
        "architecture": "ISANet R50-D8",
        "precision": "fp32",
        "source": {"file": "a.pth", "sha256": "0" * 64, "layout": "mmseg-1.x"},
        "input": {
            "name": "image",
            "colour_order": "BGR",
            "shape_nhw": [None, None, None],
            "mean": [103.53, 116.28, 123.675],
            "std": [57.375, 57.12, 58.395],
            "resize": {"scale_wh": [2048, 1024], "keep_ratio": True},
        },
        "inference": {
            "mode": "whole",
            "crop_hw": None,
            "stride_hw": None,
            "align_corners": False,
            "windows_in_graph": False,
        },
        "classes": {"names": ["road", "sky"], "palette_rgb": [[128, 64, 128], [70, 130, 180]]},
        "outputs": {"labels": "labels", "logits": "logits", "logits_stride": 8, "confidence": None},
        "engine": None,
    }


@pytest.fixture
def int8_record(record: dict[str, Any]) -> dict[str, Any]:
    kept = ["backbone/stem/0", "head/global_relation/MatMul"]
    told = {"rest": "bf16", "ranges": "mse", "frames": 128, "layers": 52, "kept": kept}
    return record | {"precision": "int8", "quantisation": told}


def test_what_is_written_is_read_back_equal(record: dict[str, Any], tmp_path: Path) -> None:
    manifest = Manifest.from_json(json.dumps(record), "test")
    path = tmp_path / "model.json"
    path.write_text(manifest.to_json())
    assert read_manifest(path) == manifest


def test_how_a_graph_was_quantised_is_read_back_equal(int8_record: dict[str, Any]) -> None:
    manifest = Manifest.from_json(json.dumps(int8_record), "test")
    assert json.loads(manifest.to_json()) == int8_record
    assert Manifest.from_json(manifest.to_json(), "test") == manifest
    assert manifest.model_copy(update={"engine": None}) == manifest


def test_a_record_without_quantisation_is_written_as_before_there_was_any(record: dict[str, Any]) -> None:
    manifest = Manifest.from_json(json.dumps(record | {"quantisation": None}), "test")
    assert list(json.loads(manifest.to_json())) == list(record)
    assert manifest.model_dump(mode="json") == record
    assert manifest == Manifest.from_json(json.dumps(record), "test")


def test_the_types_of_a_graph_are_told(record: dict[str, Any], int8_record: dict[str, Any]) -> None:
    whole, mixed = (Manifest.from_json(json.dumps(each), "test") for each in (record, int8_record))
    assert (whole.float_type, whole.types) == ("fp32", "fp32")
    assert (mixed.float_type, mixed.types) == ("bf16", "int8 (rest bf16)")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantisation": None}, "precision int8 needs quantisation"),
        ({"precision": "bf16"}, "quantisation belongs to precision int8, not to bf16"),
    ],
)
def test_quantisation_and_int8_come_together(
    int8_record: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ManifestError, match=message):
        Manifest.from_json(json.dumps(int8_record | changes), "m.json")


def test_a_manifest_from_the_future_is_refused_by_its_version(record: dict[str, Any]) -> None:
    record["format_version"] = 2
    record["field_of_2031"] = True
    with pytest.raises(ManifestError, match=r"m\.json: .* format version 2 .* reads up to 1; upgrade"):
        Manifest.from_json(json.dumps(record), "m.json")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("surprise",), 1, "surprise"),
        (("precision",), "int4", "precision"),
        (("input", "shape_nhw"), [None, 512, None], "fixes one of height and width"),
        (("input", "mean"), [float("nan"), 0, 0], "input.mean"),
        (("input", "resize", "scale_wh"), [10**9, 5], "scale_wh"),
        (("classes", "palette_rgb"), [[0, 0, 0]], "1 colours for 2 classes"),
        (("classes", "palette_rgb"), [[0, 0, 256], [0, 0, 0]], "palette_rgb"),
        (("inference", "mode"), "slide", "needs crop_hw"),
        (("inference", "crop_hw"), [8, 8], "belong to mode slide"),
        (("source", "sha256"), "xyz", "sha256"),
        (("outputs", "logits_stride"), 0, "logits_stride"),
        (("format_version",), "1", "format_version"),
    ],
)
def test_a_wrong_field_is_named(record: dict[str, Any], place: tuple[str, ...], value: Any, message: str) -> None:
    target = record
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    with pytest.raises(ManifestError, match=message) as caught:
        Manifest.from_json(json.dumps(record), "m.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * 100_000, "{" + " " * (1 << 20) + "}"])
def test_text_that_is_no_manifest_is_an_error(text: str) -> None:
    with pytest.raises(ManifestError, match=r"m\.json"):
        Manifest.from_json(text, "m.json")


def test_a_missing_manifest_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="cannot read the manifest"):
        read_manifest(tmp_path / "model.json")


def test_the_folder_and_the_graph_carry_the_same_manifest(streets_onnx: Path) -> None:
    assert read_manifest(streets_onnx / "model.json") == read_onnx_manifest(streets_onnx / "model.onnx")


def test_an_onnx_file_without_a_manifest_is_refused(streets_onnx: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(streets_onnx / "model.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "plain.onnx")
    with pytest.raises(ManifestError, match="carries no isa-deploy manifest; export it with isa-export"):
        read_onnx_manifest(tmp_path / "plain.onnx")


def test_the_walk_over_an_onnx_file_agrees_with_onnx(streets_onnx: Path) -> None:
    import onnx

    model = onnx.load(streets_onnx / "model.onnx")
    (text,) = [entry.value for entry in model.metadata_props if entry.key == METADATA_KEY]
    assert read_onnx_manifest(streets_onnx / "model.onnx") == Manifest.from_json(text, "onnx")


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"x" * 100, b"\x08\x07", b"\xff" * 30])
def test_a_file_that_is_no_onnx_is_an_engine_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(EngineError, match=r"m\.onnx"):
        read_onnx_manifest(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.binary(max_size=300))
def test_random_bytes_never_raise_anything_else(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "fuzz.onnx"
    path.write_bytes(data)
    with pytest.raises(IsaError):
        read_onnx_manifest(path)


def test_every_truncation_is_told(streets_onnx: Path, tmp_path: Path) -> None:
    data = (streets_onnx / "model.onnx").read_bytes()
    path = tmp_path / "cut.onnx"
    for keep in (1, 10, 1000, len(data) // 2, len(data) - 3000, len(data) - 1):
        path.write_bytes(data[:keep])
        with pytest.raises(IsaError):
            read_onnx_manifest(path)

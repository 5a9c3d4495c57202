"""isa-info on everything that it may be given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cheap_engine import cheap_manifest
from typer.testing import CliRunner

from isa_deploy.cli.info import app
from isa_deploy.errors import IsaError, ManifestError
from isa_deploy.manifest import QuantisationSpec

runner = CliRunner()


def info(*arguments: str | Path) -> str:
    done = runner.invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def test_all_16_published_models_are_listed_with_their_figures() -> None:
    lines = info("--models").splitlines()
    assert len(lines) == 17
    assert any("isanet_r101-d8_4xb2-80k_cityscapes-769x769" in line and " 80.61" in line for line in lines)


def test_a_checkpoint_is_told_in_words(golden: Path) -> None:
    text = info(golden / "tiny_r50_slide_0x_legacy.pth")
    assert "ISANet R50-D8 w8" in text
    assert "slide, windows of (97, 97) every (65, 65); align_corners true" in text


@pytest.mark.parametrize("name", ["", "model.onnx", "model.json"])
def test_an_artefact_is_told_in_words(streets_onnx: Path, name: str) -> None:
    text = info(streets_onnx / name)
    assert "image: uint8 N x H x W x 3, BGR" in text
    assert "512x256 (width x height), keeping its ratio" in text
    assert "proof       passed" in text


def quantised(folder: Path, **changes: object) -> Path:
    """The manifest of an int8 graph."""
    told = {
        "rest": "fp32",
        "ranges": "percentile 99.99",
        "frames": 128,
        "layers": 52,
        "kept": ("stem/0", "head/a/MatMul"),
    }
    manifest = cheap_manifest(precision="int8", quantisation=QuantisationSpec.model_validate(told | changes))
    path = folder / "model.json"
    path.write_text(manifest.to_json(), encoding="utf-8")
    return path


def test_how_a_graph_was_quantised_is_told(tmp_path: Path) -> None:
    lines = [" ".join(line.split()) for line in info(quantised(tmp_path)).splitlines()]
    assert lines[1:5] == [
        "precision int8 (rest fp32)",
        "int8 52 convolutions",
        "kept wide stem/0, head/a/MatMul (fp32)",
        "ranges percentile 99.99, of 128 calibration frames",
    ]
    lines = [" ".join(line.split()) for line in info(quantised(tmp_path, layers=1, frames=1, kept=())).splitlines()]
    assert lines[2:5] == ["int8 1 convolution", "kept wide nothing", "ranges percentile 99.99, of 1 calibration frame"]


def test_a_layers_name_can_forge_no_line(tmp_path: Path) -> None:
    text = info(quantised(tmp_path, kept=("a\nproof       passed", "\x1b[2J")))
    assert "\nproof" not in text
    assert "\x1b" not in text


def test_a_graph_that_is_not_quantised_says_nothing_of_it(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(cheap_manifest().to_json(), encoding="utf-8")
    assert "quantisation" not in json.loads(path.read_text())
    assert "kept wide" not in info(path)


def test_what_is_none_of_these_is_refused(golden: Path, tmp_path: Path) -> None:
    with pytest.raises(IsaError, match="PNG image, not a checkpoint"):
        info(golden / "scene_0.png")
    with pytest.raises(IsaError, match="nothing to look at"):
        info()
    plan = tmp_path / "model.plan"
    plan.write_bytes(b"plan")
    with pytest.raises(ManifestError, match=r"has no manifest model\.json beside it"):
        info(plan)

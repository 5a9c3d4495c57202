"""``isa-info``: what a checkpoint, a graph or an artefact folder is."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Annotated

import typer

from isa_deploy.cli.run import DebugOption, VersionOption, make_app, run
from isa_deploy.errors import BackendUnavailableError, InputError
from isa_deploy.files import os_errors
from isa_deploy.manifest import MANIFEST_FILE, EngineSpec, Manifest, QuantisationSpec, read_manifest
from isa_deploy.runtime.onnx_metadata import read_onnx_manifest
from isa_deploy.runtime.opening import ONNX_FILE, find_engine
from isa_deploy.runtime.plan import PLAN_FILE, PLAN_SUFFIXES, file_sha256, plan_manifest

__all__ = ["app", "main"]

app = make_app()

MANUAL = """
Say what a file is: a checkpoint (.pth), a graph (.onnx), a plan (.plan), a manifest (model.json) or an
artefact folder.

\b
Examples:
  isa-info r50_cityscapes.pth
  isa-info engines/r50_cityscapes
  isa-info engines/r50_cityscapes/model.plan
  isa-info --models

\b
Exit codes:
  0    the file could be read
  2    it could not, and a line says why
"""


@app.command(help=MANUAL)
def info(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Checkpoint, graph, plan, manifest or folder.")
    ] = None,
    models: Annotated[bool, typer.Option("--models", help="List the 16 published checkpoints.")] = False,
    debug: DebugOption = False,
    version: VersionOption = False,
) -> None:
    if models:
        print_models()
        return
    if file is None:
        raise InputError("nothing to look at; give a FILE, or --models")
    with os_errors(file, "look at it"):  # a name that is too long, a folder that may not be entered
        file.exists()
    if file.is_dir() or file.suffix in (".onnx", *PLAN_SUFFIXES, ".json"):
        manifest = find_manifest(file)
        folder = file if file.is_dir() else file.parent
        print_manifest(manifest)
        print_proof(folder)
        if manifest.engine is not None:
            print_plan_proof(file if file.suffix in PLAN_SUFFIXES else folder / PLAN_FILE, manifest.engine)
    else:
        print_checkpoint(file)


def find_manifest(file: Path) -> Manifest:
    """The manifest of an engine file, a folder or a ``model.json``."""
    if file.suffix in PLAN_SUFFIXES:
        if not file.is_file():
            raise InputError(f"{file}: no such file; give a plan with its manifest beside it")
        return plan_manifest(file)
    described = (file / MANIFEST_FILE).exists()
    if file.is_dir() and described and ((file / PLAN_FILE).is_file() or not (file / ONNX_FILE).is_file()):
        return read_manifest(file / MANIFEST_FILE)
    if file.suffix == ".json":
        return read_manifest(file)
    return read_onnx_manifest(find_engine(file))


def print_table(rows: list[tuple[str, str]]) -> None:
    """Names and values in two columns."""
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        # names in a manifest are somebody else's: a line break would forge a line, an escape the terminal
        shown = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in value)
        typer.echo(f"{name:<{width}}  {shown}")


def print_manifest(manifest: Manifest) -> None:
    """A graph in words."""
    spec, inference, outputs = manifest.input, manifest.inference, manifest.outputs
    sides = [letter if side is None else str(side) for letter, side in zip("NHW", spec.shape_nhw, strict=True)]
    resize = "as it is"
    if spec.resize is not None:
        kept = ", keeping its ratio" if spec.resize.keep_ratio else ""
        resize = f"resized into {spec.resize.scale_wh[0]}x{spec.resize.scale_wh[1]} (width x height){kept}"
    windows = ""
    if inference.mode == "slide" and inference.crop_hw is not None and inference.stride_hw is not None:
        place = "inside the graph" if inference.windows_in_graph else "cut by the runtime"
        windows = (
            f" of {inference.crop_hw[0]}x{inference.crop_hw[1]} every "
            f"{inference.stride_hw[0]}x{inference.stride_hw[1]}, {place}"
        )
    confidence = "" if outputs.confidence is None else f", {outputs.confidence} (uint8 N x H x W)"
    rows = [
        ("model", manifest.architecture),
        ("precision", manifest.types),
        *([] if manifest.quantisation is None else quantisation_rows(manifest.quantisation)),
        ("checkpoint", f"{manifest.source.file} ({manifest.source.layout})"),
        ("sha256", manifest.source.sha256),
        ("input", f"{spec.name}: uint8 {' x '.join(sides)} x 3, {spec.colour_order}"),
        ("frames", resize),
        ("mean, std", f"{_numbers(spec.mean)}, {_numbers(spec.std)} ({spec.colour_order}, applied in the graph)"),
        ("inference", f"{inference.mode}{windows}; align_corners {str(inference.align_corners).lower()}"),
        (
            "outputs",
            f"{outputs.labels} (uint8 N x H x W), {outputs.logits} (float32, stride {outputs.logits_stride})"
            + confidence,
        ),
        ("classes", f"{len(manifest.classes.names)}: {', '.join(manifest.classes.names)}"),
    ]
    if manifest.engine is not None:
        rows += engine_rows(manifest.engine)
    print_table(rows)


def quantisation_rows(spec: QuantisationSpec) -> list[tuple[str, str]]:
    """How a graph was quantised, in words."""
    kept = ", ".join(spec.kept) or "nothing"
    return [
        ("int8", _counted(spec.layers, "convolution")),
        ("kept wide", f"{kept} ({spec.rest})" if spec.kept else kept),
        ("ranges", f"{spec.ranges}, of {_counted(spec.frames, 'calibration frame')}"),
    ]


def engine_rows(engine: EngineSpec) -> list[tuple[str, str]]:
    """A plan in words."""
    card = engine.compute_capability
    cards = f"compute capability {card}"
    if card is None or engine.hardware_compatible:
        cards = "every card from compute capability 8.0 on"
    major = engine.builder_version.partition(".")[0]
    versions = f"that version and later ones of {major}.x" if engine.version_compatible else "that version"
    rows = [
        ("engine", f"{engine.builder} {engine.builder_version}, for {versions} and {cards}"),
        ("plan sha256", engine.plan_sha256),
        ("of graph", engine.onnx_sha256),
    ]
    rows += [("plan takes", f"{each} (batch x height x width)") for each in engine.profiles]
    if engine.layer_precisions:
        counts = ", ".join(f"{count} {name}" for name, count in engine.layer_precisions.items())
        rows.append(("layers", f"by what they write: {counts}"))
    if engine.version_compatible:
        rows.append(("code", "carries code for the host; opening it needs --allow-engine-code"))
    return rows


def print_proof(folder: Path) -> None:
    """What the proof beside an engine says, where there is one."""
    path = folder / "report.json"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        verdict = "passed" if report["passed"] else "FAILED"
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path}: is not a report of isa-export; export the model again") from None
    typer.echo(f"proof       {verdict}: {path.with_name('report.html')}")


def print_plan_proof(plan: Path, engine: EngineSpec) -> None:
    """What the proof of a plan says, where it lies there and is of this plan."""
    path = plan.with_name("plan-report.json")
    if plan.is_file() and file_sha256(plan) != engine.plan_sha256:
        typer.echo(f"plan proof  none: {plan} is not the plan that its manifest describes, its SHA-256 differs")
        return
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        of_this_plan = report["manifest"]["engine"]["plan_sha256"] == engine.plan_sha256
        passed, not_run = report["passed"], report["not_run"]
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{path}: is not a report of isa-export; build the plan again") from None
    if of_this_plan:
        verdict = f"not run ({not_run})" if passed is None else "passed" if passed else "FAILED"
        typer.echo(f"plan proof  {verdict}: {path.with_name('plan-report.html')}")


def print_checkpoint(file: Path) -> None:
    """A checkpoint in words."""
    if importlib.util.find_spec("torch") is None:
        raise BackendUnavailableError(
            f"{file}: a checkpoint is read with torch, which is not installed; pip install 'isa-deploy[export]'"
        )
    from isa_deploy.models.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(file, allow_hash_mismatch=True)
    config, test = checkpoint.config, checkpoint.test
    mode = test.mode if test.crop_hw is None else f"{test.mode}, windows of {test.crop_hw} every {test.stride_hw}"
    rows = [
        ("model", config.name),
        ("layout", checkpoint.layout),
        ("sha256", checkpoint.sha256),
        ("backbone", f"ResNetV1c-{config.backbone.depth}, width {config.backbone.base_channels}"),
        ("head", f"{config.channels} channels, {config.isa_channels} in the attention, blocks of {config.down_factor}"),
        ("data set", checkpoint.dataset or "not told"),
        ("inference", f"{mode}; align_corners {str(config.align_corners).lower()}"),
        ("test scale", "none" if test.scale_wh is None else f"{test.scale_wh[0]}x{test.scale_wh[1]} (width x height)"),
        ("classes", f"{len(checkpoint.classes)}: {', '.join(checkpoint.classes)}"),
        ("dropped", f"{len(checkpoint.dropped)} keys that inference has no use for"),
    ]
    rows += [("assumed", assumption) for assumption in checkpoint.assumptions]
    if checkpoint.card is not None:
        rows.append(("published", f"{checkpoint.card.name}, mIoU {checkpoint.card.miou}"))
    print_table(rows)


def print_models() -> None:
    """The published checkpoints, a line each."""
    from isa_deploy.models.cards import load_cards

    typer.echo(f"{'name':<52}{'data set':<24}{'mIoU':>6}{'ms+flip':>9}  file")
    for card in load_cards():
        typer.echo(f"{card.name:<52}{card.dataset:<24}{card.miou:>6.2f}{card.miou_ms_flip:>9.2f}  {card.file}")


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _numbers(values: tuple[float, ...]) -> str:
    return "[" + ", ".join(f"{value:g}" for value in values) + "]"


def main() -> None:
    """Entry point of ``isa-info``."""
    run(app, "isa-info")

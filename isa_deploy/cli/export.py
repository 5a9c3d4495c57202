"""``isa-export``: a checkpoint to a proven artefact folder."""

from __future__ import annotations

import importlib.util
import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from isa_deploy.cli.run import DebugOption, VersionOption, make_app, run
from isa_deploy.errors import BackendUnavailableError, InputError
from isa_deploy.manifest import Manifest

app = make_app()

MANUAL = """
Export a trained ISANet checkpoint to a graph that is proven to equal it.

The checkpoint is one of mmsegmentation 0.x or 1.x, or a bare state dict; depth, widths, classes and settings
are read from the file. The folder --out receives:

\b
  model.onnx   uint8 frames in, uint8 labels out, everything between in the graph
  model.json   what it is: preprocessing, inference mode, classes, colours
  report.html  the proof: the graph in each engine of this machine against the
               checkpoint in torch, with pictures (report.json: the same figures)

An export that does not equal its checkpoint is not kept: only its report is, in OUT-failed.

\b
Examples:
  isa-export --ckpt r101_cityscapes.pth --fp16
  isa-export --ckpt r50_ade20k.pth --out engines/ade --frames photo.jpg
  isa-export --ckpt r50_769.pth --shape 1x1025x2049

A model that was trained for sliding windows keeps them: inside the graph where --shape fixes the frame,
otherwise isa-infer cuts them.

\b
Exit codes:
  0    exported and proven
  1    exported, and not equal to the checkpoint
  2    it could not be exported: usage, checkpoint, frames, folder, library
  130  interrupted (Ctrl-C); nothing is left behind
"""


@app.command(help=MANUAL)
def export_command(
    ckpt: Annotated[
        Path, typer.Option("--ckpt", help="Checkpoint of mmsegmentation 0.x or 1.x, or a bare state dict.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write.  [default: the checkpoint's name]", metavar="DIR")
    ] = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="Float16 weights and arithmetic, for GPUs.")] = False,
    bf16: Annotated[bool, typer.Option("--bf16", help="Bfloat16 weights and arithmetic, for GPUs.")] = False,
    shape: Annotated[
        str | None,
        typer.Option("--shape", help="Fix the input's batch, height and width.  [default: all free]", metavar="NxHxW"),
    ] = None,
    confidence: Annotated[
        bool, typer.Option("--confidence", help="Add an output with the winning class's share x 255.")
    ] = False,
    frames: Annotated[
        list[Path] | None,
        typer.Option("--frames", help="Picture to prove on; repeat it.  [default: two bundled scenes]"),
    ] = None,
    min_agreement: Annotated[
        float | None,
        typer.Option(
            "--min-agreement",
            min=0,
            max=1,
            help="Least share of equal labels.  [default: 0.9995, --fp16 0.99, --bf16 0.97]",
        ),
    ] = None,
    allow_hash_mismatch: Annotated[
        bool, typer.Option("--allow-hash-mismatch", help="Only warn where the file name's hash is not the file's.")
    ] = False,
    debug: DebugOption = False,
    version: VersionOption = False,
) -> None:
    if fp16 and bf16:
        raise InputError("--fp16 and --bf16 exclude each other; give one")
    missing = [name for name in ("torch", "onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise BackendUnavailableError(f"{', '.join(missing)} not installed; pip install 'isa-deploy[export]'")
    from isa_deploy.export.pipeline import export

    console = Console(stderr=True)

    with console.status("reading the checkpoint") as status:

        def progress(line: str) -> None:
            if console.is_terminal:
                status.update(line)
            else:
                typer.echo(line, err=True)

        result = export(
            ckpt,
            out,
            precision="fp16" if fp16 else "bf16" if bf16 else "fp32",
            shape_nhw=parse_shape(shape),
            confidence=confidence,
            frames=frames or (),
            min_agreement=min_agreement,
            allow_hash_mismatch=allow_hash_mismatch,
            progress=progress,
        )
    for assumption in result.assumptions:
        typer.echo(f"assumed: {assumption}")
    for each in result.report.comparisons:
        typer.echo(
            f"{each.stage} on {each.frame}: {each.label_agreement:.4%} of the labels equal the checkpoint's"
            + ("" if each.gated else " (for information)")
        )
    for stage, reason in result.report.skipped.items():
        typer.echo(f"not run: {stage} ({reason})")
    typer.echo(f"graph:  {result.onnx}")
    typer.echo(f"report: {result.folder / 'report.html'}")
    if fp16 or bf16:
        typer.echo(f"TensorRT plan: on the machine with the GPU, {plan_command(result.onnx, result.manifest)}")


def plan_command(onnx: Path, manifest: Manifest) -> str:
    """The line that builds a TensorRT plan.  A free dimension needs its range, or trtexec fixes it to 1."""
    parts = ["trtexec", f"--onnx={onnx}", "--stronglyTyped", f"--saveEngine={onnx.with_name('model.plan')}"]
    n, h, w = manifest.input.shape_nhw
    if None in (n, h, w):
        height, width = 1024, 2048
        if manifest.inference.crop_hw is not None:
            height, width = manifest.inference.crop_hw
        elif manifest.input.resize is not None:
            width, height = manifest.input.resize.scale_wh
        name, height, width, batch = manifest.input.name, h or height, w or width, n or 1
        smallest = f"{batch}x{h or max(height // 4, 1)}x{w or max(width // 4, 1)}x3"
        largest = f"{batch}x{height}x{width}x3"
        parts += [f"--minShapes={name}:{smallest}", f"--optShapes={name}:{largest}", f"--maxShapes={name}:{largest}"]
    return shlex.join(parts)


def parse_shape(text: str | None) -> tuple[int | None, int | None, int | None]:
    """``NxHxW`` as three numbers, or all free.  Raises :class:`InputError` for anything else."""
    if text is None:
        return (None, None, None)
    parts = text.lower().split("x")
    if len(parts) == 3 and all(part.isdecimal() for part in parts):
        n, h, w = (int(part) for part in parts)
        if 1 <= n <= 1024 and 1 <= h <= 65536 and 1 <= w <= 65536:
            return (n, h, w)
    raise InputError(
        f"shape '{text}' is not BATCHxHEIGHTxWIDTH (1 to 1024, 1 to 65536, 1 to 65536); give for example 1x1024x2048"
    )


def main() -> None:
    """Entry point of ``isa-export``."""
    run(app, "isa-export")

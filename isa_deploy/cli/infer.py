"""``isa-infer``: images and videos to overlays, masks, label maps and statistics."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from isa_deploy.cli.run import BAD_RESULT, DebugOption, VersionOption, make_app, run

__all__ = ["app", "main"]

app = make_app()

MANUAL = """
Colour images and videos by what they show.

INPUT is an image (PNG, JPEG, BMP, WebP, TIFF), a folder (the images directly in it), a video, or a quoted
glob such as 'drives/**/*.mp4'. Give as many as you like.

For each INPUT the folder --out receives NAME_overlay.png, or NAME_overlay.mp4 for a video: the frame with its
classes laid over it. Videos are H.264 that a browser plays, with the timestamps and the sound of the source.
On request:

\b
  --mask    NAME_mask.png or .mp4: the classes' colours alone
  --labels  NAME_labels.png, 8 bits: the class's number in each pixel;
            for a video the folder NAME_labels with a PNG for each frame
  --stats   stats.jsonl: for each image or frame a JSON line with the
            share of each class present

NAME is the input's name without its ending; inputs that share it keep their endings, and then their folder's
name, in it. Existing results are replaced. Every file is written whole or not at all.

\b
Examples:
  isa-infer street.jpg --engine engines/r50_cityscapes
  isa-infer drive.mp4 --engine engines/r50_cityscapes --out done --mask
  isa-infer photos 'more/**/*.png' --engine model.onnx --labels --stats
  isa-infer big.png --engine model.onnx --resize none --legend
  isa-infer drive.mp4 --engine model.plan

\b
Exit codes:
  0    all inputs were done
  1    some inputs could not be used, and the others were done
  2    nothing could be done: usage, input, engine, output folder, library
  130  interrupted (Ctrl-C); what is finished stays, and a video that is
       cut off there plays
"""


@app.command(help=MANUAL)
def infer(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT", help="Image, folder of images, video or quoted glob.")
    ],
    engine: Annotated[
        Path,
        typer.Option("--engine", metavar="PATH", help="What isa-export wrote: its folder, model.onnx or model.plan."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the results; made if missing.")] = Path(
        "isa-out"
    ),
    mask: Annotated[bool, typer.Option("--mask", help="Also write the classes' colours alone.")] = False,
    labels: Annotated[bool, typer.Option("--labels", help="Also write the classes' numbers.")] = False,
    stats: Annotated[bool, typer.Option("--stats", help="Also write the classes' shares, to stats.jsonl.")] = False,
    legend: Annotated[bool, typer.Option("--legend", help="Name the classes present, in the overlay.")] = False,
    alpha: Annotated[
        float, typer.Option("--alpha", metavar="SHARE", min=0, max=1, help="Opacity of the classes' colours.")
    ] = 0.5,
    resize: Annotated[
        str,
        typer.Option(
            "--resize",
            metavar="test|none|HxW",
            help="Size that the network sees. test: the model's own test scale, with the frame's proportions; "
            "none: the frame as it is; HxW: that height and width. Results have the frame's size in any case.",
        ),
    ] = "test",
    backend: Annotated[
        str,
        typer.Option(
            "--backend",
            metavar="NAME",
            help="Library that runs the engine: auto (the fastest), tensorrt, openvino, onnxruntime.",
        ),
    ] = "auto",
    precision: Annotated[
        str,
        typer.Option(
            "--precision", metavar="NAME", help="Arithmetic: auto (bf16 where the CPU is made for it), fp32, bf16."
        ),
    ] = "auto",
    device: Annotated[
        str, typer.Option("--device", metavar="NAME", help="Where it runs: auto, cpu, cuda, or a GPU's number.")
    ] = "auto",
    allow_engine_code: Annotated[
        bool,
        typer.Option(
            "--allow-engine-code", help="Open a version-compatible plan, which runs code of its own on this machine."
        ),
    ] = False,
    debug: DebugOption = False,
    version: VersionOption = False,
) -> None:
    if not debug:
        # what they would print into the middle of ours: the errors that matter come as exceptions
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    from isa_deploy.cli.inference import Inference, Tally
    from isa_deploy.cli.interruption import Interruption
    from isa_deploy.cli.progress import open_progress
    from isa_deploy.cli.results import STATS_FILE, StatsFile, products, refuse_overwriting
    from isa_deploy.cli.sources import find_sources
    from isa_deploy.files import result_folder
    from isa_deploy.runtime.segmenter import Segmenter
    from isa_deploy.runtime.video import load_av

    sources = find_sources(inputs)
    if not debug and any(source.kind == "video" for source in sources):
        av = load_av()
        av.logging.set_libav_level(av.logging.PANIC)
    tally = Tally()
    try:
        with ExitStack() as stack:
            segmenter = stack.enter_context(
                Segmenter.open(
                    engine,
                    backend=backend,
                    device=device,
                    precision=precision,
                    resize=resize,
                    allow_engine_code=allow_engine_code,
                )
            )
            wanted = products(segmenter.manifest.classes, alpha, legend=legend, mask=mask, labels=labels)
            refuse_overwriting(sources, wanted, out)
            stack.enter_context(result_folder(out))
            progress = stack.enter_context(open_progress(len(sources)))
            stats_file = stack.enter_context(StatsFile(out / STATS_FILE)) if stats else None
            interruption = stack.enter_context(Interruption())
            Inference(segmenter, wanted, out, stats_file, progress, interruption, tally).run(sources)
    except KeyboardInterrupt:
        typer.echo(f"interrupted after {tally}; results in {out}", err=True)
        raise
    typer.echo(f"{tally}; results in {out}")
    if tally.failed:
        raise typer.Exit(BAD_RESULT)


def main() -> None:
    """Entry point of ``isa-infer``."""
    run(app, "isa-infer")

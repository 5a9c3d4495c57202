"""``isa-infer``: images, videos, large pictures and cameras to overlays, masks, label maps and statistics."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from isa_deploy.cli.engine_options import AllowEngineCodeOption, BackendOption, DeviceOption, PrecisionOption
from isa_deploy.cli.run import BAD_RESULT, DebugOption, VersionOption, make_app, run
from isa_deploy.errors import InputError

__all__ = ["app", "main"]

app = make_app()

MANUAL = """
Colour images, videos and cameras by what they show.

INPUT is an image (PNG, JPEG, BMP, WebP, TIFF, JPEG 2000), a folder (the images directly in it), a video, or a
quoted glob such as 'drives/**/*.mp4'. Give as many as you like. With --live it is one camera: rtsp://, http://,
udp:// or tcp://, a webcam's number such as 0, or a video that is played as if it were one.

For each INPUT the folder --out receives NAME_overlay.png, or NAME_overlay.mp4 for a video: the frame with its
classes laid over it. Videos are H.264 that a browser plays, with the timestamps and the sound of the source.
On request:

\b
  --mask    NAME_mask.png or .mp4: the classes' colours alone
  --labels  NAME_labels.png, 8 bits: the class's number in each pixel;
            for a video NAME_labels.mkv, lossless (FFV1, grey)
  --stats   stats.jsonl (or .parquet): for each image or frame the share
            of each class present

A picture that is cut into tiles gives NAME_labels.tif instead: labels with their colours as a palette, tiled and
compressed, with overviews, and with the georeference of the input, for QGIS and GDAL.

NAME is the input's name without its ending; inputs that share it keep their endings, and then their folder's
name, in it. Existing results are replaced. Every file is written whole or not at all.

\b
Examples:
  isa-infer street.jpg --engine engines/r50_cityscapes
  isa-infer drive.mp4 --engine engines/r50_cityscapes --out done --mask
  isa-infer photos 'more/**/*.png' --engine model.onnx --labels --stats
  isa-infer big.png --engine model.onnx --resize none --legend
  isa-infer drive.mp4 --engine model.plan
  isa-infer cam0.mp4 cam1.mp4 --batch --start 10 --end 1:30 --every 5 --engine model.plan
  isa-infer orthophoto.tif --engine engines/r50_cityscapes --tiling tiles
  isa-infer rtsp://camera/stream --live --preview 8080 --engine model.plan

\b
Exit codes:
  0    all inputs were done
  1    some inputs could not be used, and the others were done
  2    nothing could be done, or the run had to stop: usage, input, engine,
       output folder, disk, library; what is finished stays
  130  interrupted (Ctrl-C); what is finished stays, a video that is cut
       off there plays, and a large picture goes on from there next time;
       a second Ctrl-C gives up what is not finished
"""


@app.command(help=MANUAL)
def infer(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT", help="Image, folder of images, video or quoted glob; a camera with --live."),
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
    stats_format: Annotated[
        str, typer.Option("--stats-format", metavar="jsonl|parquet", help="What --stats writes.")
    ] = "jsonl",
    legend: Annotated[bool, typer.Option("--legend", help="Name the classes present, in the overlay.")] = False,
    alpha: Annotated[
        float, typer.Option("--alpha", metavar="SHARE", min=0, max=1, help="Opacity of the classes' colours.")
    ] = 0.5,
    every: Annotated[int, typer.Option("--every", metavar="N", min=1, help="Videos: take every Nth frame only.")] = 1,
    start: Annotated[
        str | None, typer.Option("--start", metavar="TIME", help="Videos: begin here; seconds, M:SS or H:MM:SS.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--end", metavar="TIME", help="Videos: end before here; as --start.")
    ] = None,
    fps: Annotated[
        str | None,
        typer.Option(
            "--fps", metavar="RATE", help="Videos: take at most RATE frames of each second, such as 5 or 30000/1001."
        ),
    ] = None,
    smooth: Annotated[
        int,
        typer.Option(
            "--smooth", metavar="N", min=1, help="Videos: each pixel's most frequent class of the last N frames."
        ),
    ] = 1,
    batch: Annotated[
        bool, typer.Option("--batch", help="Take the videos side by side, a frame of each in one call of the engine.")
    ] = False,
    live: Annotated[
        bool, typer.Option("--live", help="A camera: always the newest frame; older ones are left out.")
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="With --live: a window; q ends.")] = False,
    preview: Annotated[
        int | None,
        typer.Option(
            "--preview", metavar="PORT", min=0, max=65535, help="With --live: pictures for a browser, over HTTP."
        ),
    ] = None,
    preview_host: Annotated[
        str, typer.Option("--preview-host", metavar="ADDRESS", help="Who may look: this machine, or 0.0.0.0 for all.")
    ] = "127.0.0.1",
    record: Annotated[
        bool, typer.Option("--record", help="With --live: also write the overlay, to CAMERA_overlay.mp4.")
    ] = False,
    tiling: Annotated[
        str,
        typer.Option(
            "--tiling",
            metavar="auto|whole|slide|tiles|blend",
            help="How a picture goes through the network. whole: as the model was tested. tiles: in tiles, of which a "
            "border (--halo) is thrown away. blend: overlapping tiles that fade into each other. slide: overlapping "
            "windows, averaged. auto: tiles where the picture is georeferenced or larger than 64 million pixels.",
        ),
    ] = "auto",
    tile: Annotated[
        str | None, typer.Option("--tile", metavar="HxW", help="Size of a tile or window, the border included.")
    ] = None,
    halo: Annotated[
        int | None,
        typer.Option("--halo", metavar="PIXELS", min=0, help="Border that tiles throw away, or half their overlap."),
    ] = None,
    tile_batch: Annotated[
        str, typer.Option("--tile-batch", metavar="auto|N", help="Tiles in one call of the engine.")
    ] = "auto",
    large_format: Annotated[
        str, typer.Option("--large-format", metavar="tiff|png", help="What a picture in tiles is written as.")
    ] = "tiff",
    max_pixels: Annotated[
        int | None,
        typer.Option("--max-pixels", metavar="MILLIONS", min=1, help="Refuse larger pictures, before decoding them."),
    ] = None,
    value_range: Annotated[
        str | None,
        typer.Option(
            "--value-range",
            metavar="LOW:HIGH",
            help="Pictures in tiles with more than 8 bits: the values that become 0 and 255; needed for floats, and "
            "for 10 to 12 bits stored in 16.",
        ),
    ] = None,
    seams: Annotated[
        bool,
        typer.Option("--seams", help="Pictures in tiles: measure the labels at the seams, into NAME_tiles.json."),
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Pictures in tiles: begin anew, not where an interrupted run ended.")
    ] = False,
    resize: Annotated[
        str,
        typer.Option(
            "--resize",
            metavar="test|none|HxW",
            help="Size that the network sees. test: the model's own test scale, with the frame's proportions; "
            "none: the frame as it is; HxW: that height and width. Results have the frame's size in any case.",
        ),
    ] = "test",
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
    schedule: Annotated[
        str,
        typer.Option(
            "--schedule",
            metavar="latency|throughput",
            help="OpenVINO: all cores on one frame, or several frames at once, which needs more memory and may be "
            "faster on many cores.",
        ),
    ] = "latency",
    allow_engine_code: AllowEngineCodeOption = False,
    debug: DebugOption = False,
    version: VersionOption = False,
) -> None:
    if not debug:
        # what they would print into the middle of ours: the errors that matter come as exceptions
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    from isa_deploy.cli.inference import Inference
    from isa_deploy.cli.interruption import Interruption
    from isa_deploy.cli.large_pictures import LargePictures, parse_large_options
    from isa_deploy.cli.live import LiveOptions, run_live
    from isa_deploy.cli.progress import open_progress
    from isa_deploy.cli.results import products, refuse_overwriting
    from isa_deploy.cli.sources import find_sources, live_source
    from isa_deploy.cli.statistics import open_statistics
    from isa_deploy.cli.tally import Tally
    from isa_deploy.cli.video_options import parse_video_options
    from isa_deploy.files import result_folder
    from isa_deploy.runtime.segmenter import Segmenter
    from isa_deploy.runtime.video import load_av

    video = parse_video_options(every=every, start=start, end=end, fps=fps, smooth=smooth, batch=batch)
    large = parse_large_options(
        tiling=tiling,
        tile=tile,
        halo=halo,
        tile_batch=tile_batch,
        large_format=large_format,
        max_pixels=max_pixels,
        value_range=value_range,
        seams=seams,
        fresh=fresh,
        resize=resize,
    )
    _check_live(live, inputs, show or preview is not None or record)
    of_files = {
        "--mask": mask,
        "--labels": labels,
        "--stats": stats,
        "--every": every > 1,
        "--start": start is not None,
        "--end": end is not None,
        "--fps": fps is not None,
        "--smooth": smooth > 1,
        "--batch": batch,
        "--stats-format": stats_format != "jsonl",
        "--tiling": tiling != "auto",
        "--tile": tile is not None,
        "--halo": halo is not None,
        "--tile-batch": tile_batch != "auto",
        "--large-format": large_format != "tiff",
        "--max-pixels": max_pixels is not None,
        "--value-range": value_range is not None,
        "--seams": seams,
        "--fresh": fresh,
    }
    if live and any(of_files.values()):
        option = next(name for name, is_given in of_files.items() if is_given)
        raise InputError(f"{option} is for files; leave it away with --live")
    if preview is None and preview_host != "127.0.0.1":
        raise InputError(f"--preview-host {preview_host} says who may look at a preview; add --preview PORT")
    if not stats and stats_format != "jsonl":
        raise InputError(f"--stats-format {stats_format} says what --stats writes; add --stats")
    camera = live_source(inputs[0]) if live else None
    sources = [] if live else find_sources(inputs)
    if not debug and (live or any(source.kind == "video" for source in sources)):
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
                    schedule=schedule,
                    allow_engine_code=allow_engine_code,
                )
            )
            wanted = products(segmenter.manifest.classes, alpha, legend=legend, mask=mask, labels=labels)
            if camera is not None:
                options = LiveOptions(show=show, preview=preview, preview_host=preview_host, record=record)
                interruption = stack.enter_context(Interruption())
                run_live(segmenter, camera, wanted[0], out, options, interruption)
                return
            refuse_overwriting(sources, wanted, out)
            stack.enter_context(result_folder(out))
            progress = stack.enter_context(open_progress(len(sources)))
            statistics = stack.enter_context(open_statistics(out, stats_format)) if stats else None
            interruption = stack.enter_context(Interruption())
            pictures = LargePictures(segmenter, large, out, progress, interruption, tally)
            pictures.check(sources)
            inference = Inference(
                segmenter,
                wanted,
                out,
                statistics,
                progress,
                interruption,
                tally,
                video,
                pictures,
                large.max_whole_pixels,
            )
            inference.run(sources)
    except KeyboardInterrupt:
        if not live:
            typer.echo(f"interrupted after {tally}; results in {out}", err=True)
        raise
    typer.echo(f"{tally}; results in {out}")
    if tally.failed:
        raise typer.Exit(BAD_RESULT)


def _check_live(live: bool, inputs: list[str], has_output: bool) -> None:
    if not live:
        if has_output:
            raise InputError("--show, --preview and --record are for cameras; add --live")
        return
    if len(inputs) != 1:
        raise InputError(f"--live takes one camera, not {len(inputs)} inputs; run the command once for each")
    if not has_output:
        raise InputError("--live needs somewhere to show its pictures: --show, --preview PORT or --record")


def main() -> None:
    """Entry point of ``isa-infer``."""
    run(app, "isa-infer")

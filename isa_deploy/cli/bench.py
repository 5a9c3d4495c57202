"""``isa-bench``: how fast an engine is on this machine, beside others."""

from __future__ import annotations

import math
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated

import typer

from isa_deploy.cli.engine_options import AllowEngineCodeOption, DeviceOption, PrecisionOption
from isa_deploy.cli.run import DebugOption, VersionOption, make_app, run
from isa_deploy.errors import InputError

if TYPE_CHECKING:
    from isa_deploy.bench.race import Limit

__all__ = ["app", "main"]

app = make_app()

MANUAL = """
Measure how fast an engine is on this machine, beside other libraries and beside its checkpoint in torch.

The contestants take turns (A B C, A B C, ...), each in a process of its own, so that a machine whose speed drifts
slows all of them alike and their memory does not mix. What is timed is a call with frames in the host's memory that
ends with labels in the host's memory. 'speed' is against the first contestant, round by round; 'of peak' against what
this processor reached, in the same rounds, on one large convolution or matrix product.

Under the table stands where a video frame's time goes in the first contestant, from packets to packets, each step
measured by itself: decode, preprocess, upload, engine, download, on a GPU host (the rest of a call), labels, colour,
encode.

\b
Examples:
  isa-bench engines/r50_cityscapes
  isa-bench engines/r50_cityscapes --shape 512x1024 --shape 1024x2048
  isa-bench model.onnx --backend openvino --backend onnxruntime --rounds 20
  isa-bench engines/r50 --compare torch,onnxruntime --ckpt r50.pth
  isa-bench model.plan --schedule throughput --shape 4x512x1024 --out a.json
  isa-bench engines/r50 --video drive.mp4 --seconds 30

\b
Exit codes:
  0    it was measured
  2    it could not be: usage, input, engine, a library that is missing
  130  interrupted (Ctrl-C); no file is left
"""


@app.command(help=MANUAL)
def bench(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="What isa-export wrote: its folder, model.onnx or model.plan.")
    ],
    shape: Annotated[
        list[str] | None,
        typer.Option(
            "--shape",
            metavar="HxW|NxHxW",
            help="Size that the network sees, and frames in one call; give it again for more. Without it: the "
            "engine's own.",
        ),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            "--backend",
            metavar="NAME",
            help="Library: auto (the fastest), tensorrt, openvino, onnxruntime; give it again for more.",
        ),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            "--compare",
            metavar="NAMES",
            help="Others beside it: torch (the checkpoint, float32, eager), onnxruntime, openvino, tensorrt.",
        ),
    ] = None,
    ckpt: Annotated[
        Path | None, typer.Option("--ckpt", metavar="FILE", help="The checkpoint, for --compare torch.")
    ] = None,
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
    schedule: Annotated[
        str,
        typer.Option(
            "--schedule",
            metavar="latency|throughput",
            help="latency: one call after another. throughput: as many at once as the engine takes.",
        ),
    ] = "latency",
    rounds: Annotated[
        int | None, typer.Option("--rounds", metavar="N", help="Turns of each contestant, for each shape.")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", metavar="S", help="Or: time for each shape, 3 rounds at least.", show_default="10"),
    ] = None,
    video: Annotated[
        Path | None,
        typer.Option("--video", metavar="CLIP", help="A video for the split of a frame's time; else one is drawn."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.json", help="Also write everything measured, as JSON.")
    ] = None,
    allow_engine_code: AllowEngineCodeOption = False,
    debug: DebugOption = False,
    version: VersionOption = False,
) -> None:
    from isa_deploy.bench.contestants import choose, engine_manifest, parse_schedule
    from isa_deploy.bench.record import write_record
    from isa_deploy.bench.session import Request, measure
    from isa_deploy.bench.shapes import choose_shapes
    from isa_deploy.bench.table import print_record
    from isa_deploy.runtime.opening import find_engine

    limit = _limit(rounds, seconds)
    _check_place(out)
    clip_hw = None if video is None else _clip_size(video, debug)
    contestants = choose(
        path,
        backend or [],
        [name.strip() for names in compare or [] for name in names.split(",") if name.strip()],
        ckpt,
        device=device,
        precision=precision,
        schedule=parse_schedule(schedule),
        allow_engine_code=allow_engine_code,
    )
    engine = find_engine(path, backend[0] if backend else "auto", device)
    manifest = engine_manifest(engine)
    shapes = choose_shapes(shape or [], manifest, clip_hw)
    request = Request(
        engine=engine,
        manifest=manifest,
        contestants=tuple(contestants),
        shapes=shapes,
        limit=limit,
        schedule=schedule,
        clip=video,
        debug=debug,
    )
    with _Progress() as progress:
        record = measure(request, progress)
    print_record(record)
    if out is not None:
        write_record(out, record)
        typer.echo(f"\nwritten: {out}")


def _limit(rounds: int | None, seconds: float | None) -> Limit:
    from isa_deploy.bench.race import Limit

    if rounds is not None and seconds is not None:
        raise InputError("--rounds and --seconds are two ways to say how long; give one of them")
    if rounds is not None and rounds < 1:
        raise InputError(f"--rounds {rounds}: give 1 or more")
    if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
        raise InputError(f"--seconds {seconds:g}: give a number above 0")
    return Limit(rounds=rounds, seconds=(10.0 if seconds is None else seconds) if rounds is None else None)


def _clip_size(video: Path, debug: bool) -> tuple[int, int]:
    """Height and width of a video; one that cannot be read is refused before anything is measured."""
    from isa_deploy.runtime.video import VideoReader, load_av

    if not debug:
        av = load_av()
        av.logging.set_libav_level(av.logging.PANIC)
    with VideoReader(video) as reader:
        return reader.size_hw


def _check_place(out: Path | None) -> None:
    """What would otherwise be found out when all is measured."""
    if out is not None and out.is_dir():
        raise InputError(f"{out}: is a folder; name a file with --out, such as {out / 'bench.json'}")
    if out is not None and not out.parent.is_dir():
        raise InputError(f"{out}: there is no folder {out.parent}; make it, or choose another --out")


class _Progress:
    """What is being done, on stderr: a line that changes on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        console = Console(stderr=True, highlight=False)
        self._console = console
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
        self._bar = Progress(*columns, console=console, transient=True) if console.is_terminal else None
        self._task = self._bar.add_task("", total=1.0) if self._bar is not None else None

    def __enter__(self) -> _Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, step: str) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=step, completed=0.0)
        else:
            typer.echo(f"isa-bench: {step}", err=True)

    def advance(self, part: float) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=part)


def main() -> None:
    """Entry point of ``isa-bench``."""
    run(app, "isa-bench")

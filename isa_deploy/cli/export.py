"""``isa-export``: a checkpoint to a proven artefact folder."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from isa_deploy.cli.build_bar import BuildBar
from isa_deploy.cli.run import DebugOption, VersionOption, make_app, run
from isa_deploy.errors import BackendUnavailableError, InputError
from isa_deploy.export.tensorrt import PlanOptions, check_options
from isa_deploy.files import os_errors
from isa_deploy.manifest import Manifest, ShapeRange
from isa_deploy.runtime.onnx_metadata import read_onnx_manifest

if TYPE_CHECKING:
    from isa_deploy.export.int8_options import Int8Options, Int8Rest
    from isa_deploy.export.parity import StageComparison
    from isa_deploy.export.pipeline import ExportResult
    from isa_deploy.export.plan_export import PlanPlace, PlanResult, Target
    from isa_deploy.export.precision import Precision
    from isa_deploy.export.several import SeveralResult

app = make_app()

MAX_DIGITS = 9

MANUAL = """
Export a trained ISANet checkpoint to a graph that is proven to equal it, and build TensorRT plans.

The checkpoint (--ckpt) is one of mmsegmentation 0.x or 1.x, or a bare state dict; depth, widths, classes and
settings are read from the file. The folder --out receives:

\b
  model.onnx   uint8 frames in, uint8 labels out, everything between in the graph
  model.json   what it is: preprocessing, inference mode, classes, colours
  report.html  the proof: the graph in each engine of this machine against the
               checkpoint in torch, with pictures (report.json: the same figures)

An export that does not equal its checkpoint is not kept: only its report is, in OUT-failed.

--int8 makes convolutions int8, with ranges from the frames of --calib. Which ranges, and which layers stay wide, is
chosen by what each costs, measured; the table is printed and stands in the report. An interrupted calibration goes on
where it stopped.

Two or more of --fp32, --fp16, --bf16 and --int8 make a folder each (OUT/fp32, OUT/int8, ...), and OUT/report.html
compares them: accuracy against the checkpoint and, with --truth, against label maps, what flips to what, and speed.

With --fp16 or --bf16, where TensorRT and a card are here, or with --plan, a plan is built too. Plans belong to
a library version and a kind of card, so GRAPH, the model.onnx of an export made elsewhere, builds one where it
will run; that needs neither torch nor the checkpoint:

\b
  model.plan        the engine, as trtexec and Triton also load it
  model.json        now also: built by what, for what, of which graph
  plan-report.html  the plan against the graph, and what it is made of
  timing.cache      what was measured, for the next build on this card

TensorRT-RTX (--target rtx) builds for cards that are not here; --compute-capability says which.

\b
Examples:
  isa-export --ckpt r101_cityscapes.pth --fp16
  isa-export --ckpt r50_ade20k.pth --out engines/ade --frames photo.jpg
  isa-export --ckpt r50_769.pth --shape 1x1025x2049
  isa-export r101_cityscapes/model.onnx --plan
  isa-export r101/model.onnx --plan --max-shape 4x1024x2048
  isa-export r101/model.onnx --plan --target rtx --compute-capability 8.9

A model that was trained for sliding windows keeps them: inside the graph where --shape fixes the frame,
otherwise isa-infer cuts them.

\b
Exit codes:
  0    exported and proven; a plan for a card that is not here is not proven,
       and a line says so
  1    exported, and not equal to the checkpoint; or a plan, to its graph
  2    it could not be exported: usage, checkpoint, frames, folder, library, card
  130  interrupted (Ctrl-C); nothing is left behind
"""


@app.command(help=MANUAL)
def export_command(
    graph: Annotated[
        Path | None,
        typer.Argument(metavar="[GRAPH]", help="A model.onnx of isa-export, or its folder, to build a plan of."),
    ] = None,
    ckpt: Annotated[
        Path | None, typer.Option("--ckpt", help="Checkpoint of mmsegmentation 0.x or 1.x, or a bare state dict.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Folder to write.  [default: the checkpoint's name, or the GRAPH's own folder]", metavar="DIR"
        ),
    ] = None,
    fp32: Annotated[
        bool, typer.Option("--fp32", help="Float32; what is exported where no other is asked for.")
    ] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="Float16 weights and arithmetic, for GPUs.")] = False,
    bf16: Annotated[bool, typer.Option("--bf16", help="Bfloat16 weights and arithmetic, for GPUs.")] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Int8 convolutions (Q/DQ nodes), for CPUs and GPUs; needs --calib.")
    ] = False,
    calib: Annotated[
        Path | None,
        typer.Option("--calib", metavar="FOLDER|VIDEO", help="Int8: pictures or a video that show what will be seen."),
    ] = None,
    calib_frames: Annotated[
        int | None,
        typer.Option("--calib-frames", metavar="N", help="Int8: frames of it, spread evenly.", show_default="256"),
    ] = None,
    max_miou_drop: Annotated[
        float | None,
        typer.Option(
            "--max-miou-drop",
            metavar="POINTS",
            min=0,
            max=100,
            help="Int8: points of mIoU that may be lost; layers stay wide until it is less.",
            show_default="0.5",
        ),
    ] = None,
    rest: Annotated[
        str | None,
        typer.Option("--rest", metavar="fp32|fp16", help="Int8: the type of everything else.", show_default="fp32"),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option("--truth", metavar="DIR", help="Several precisions: images/ and labels/ to compare them on."),
    ] = None,
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
            help="Least share of equal labels.  [default: 0.9995, --fp16 0.99, --bf16 0.97, --int8 0.95]",
        ),
    ] = None,
    allow_hash_mismatch: Annotated[
        bool, typer.Option("--allow-hash-mismatch", help="Only warn where the file name's hash is not the file's.")
    ] = False,
    plan: Annotated[
        bool | None,
        typer.Option(
            "--plan/--no-plan",
            help="Build a TensorRT plan.  [default: with --fp16 and --bf16, where TensorRT and a card are here]",
            show_default=False,
        ),
    ] = None,
    target: Annotated[
        str, typer.Option("--target", metavar="NAME", help="What builds the plan: auto, tensorrt, rtx.")
    ] = "auto",
    compute_capability: Annotated[
        str | None,
        typer.Option(
            "--compute-capability",
            metavar="X.Y",
            help="With --target rtx: the kind of card.  [default: every card from 8.0 on]",
        ),
    ] = None,
    min_shape: Annotated[
        list[str] | None,
        typer.Option("--min-shape", metavar="NxHxW", help="Plan: smallest frames.  Repeat the three for more ranges."),
    ] = None,
    opt_shape: Annotated[
        list[str] | None,
        typer.Option("--opt-shape", metavar="NxHxW", help="Plan: frames to be fastest for.  [default: the largest]"),
    ] = None,
    max_shape: Annotated[
        list[str] | None,
        typer.Option("--max-shape", metavar="NxHxW", help="Plan: largest frames.  [default: the model's test scale]"),
    ] = None,
    workspace: Annotated[
        int | None,
        typer.Option("--workspace", metavar="MIB", min=1, help="Plan: most scratch memory of a layer.  [default: all]"),
    ] = None,
    hardware_compatible: Annotated[
        bool, typer.Option("--hardware-compatible", help="Plan: for every card from Ampere on; slower.")
    ] = False,
    version_compatible: Annotated[
        bool,
        typer.Option(
            "--version-compatible",
            help="Plan: for later TensorRT versions too. It then carries code for the host, which whoever opens it has "
            "to allow.",
        ),
    ] = False,
    device: Annotated[int, typer.Option("--device", metavar="N", min=0, help="Plan: number of the card.")] = 0,
    debug: DebugOption = False,
    version: VersionOption = False,
) -> None:
    if (graph is None) == (ckpt is None):
        raise InputError("give either --ckpt CHECKPOINT, to export it, or GRAPH, to build its plan")
    if graph is not None:
        graph = find_graph(graph)
    fixed = parse_shape(shape) if graph is None else read_onnx_manifest(graph).input.shape_nhw
    ranges = shape_ranges(min_shape or [], opt_shape or [], max_shape or [], fixed)
    options = PlanOptions(
        profiles=ranges,
        workspace_bytes=None if workspace is None else workspace << 20,
        hardware_compatible=hardware_compatible,
        version_compatible=version_compatible,
        compute_capability=None if compute_capability is None else parse_capability(compute_capability),
    )
    if options != PlanOptions() or target != "auto":
        if plan is False:
            raise InputError("--no-plan and options of the plan exclude each other; leave one out")
        plan = True
    given: dict[Precision, bool] = {"fp32": fp32, "fp16": fp16, "bf16": bf16, "int8": int8}
    precisions: list[Precision] = [name for name, wanted in given.items() if wanted] or ["fp32"]
    int8_options = read_int8_options(int8, calib, calib_frames, max_miou_drop, rest)
    if truth is not None and len(precisions) == 1:
        raise InputError(
            "--truth is what precisions are compared on; give two or more of --fp32, --fp16, --bf16, --int8"
        )
    with BuildBar(Console(stderr=True)) as bar:
        work = PlanWork(parse_target(target), device, options, tuple(frames or ()), min_agreement, bar)
        if graph is not None:
            refuse_checkpoint_options(any(given.values()), shape, confidence, plan)
            plans = [work.build(graph, out, work.place())]
            exports: list[ExportResult] = []
        else:
            assert ckpt is not None
            missing = [
                name for name in ("torch", "onnx", "onnxscript", "jinja2") if importlib.util.find_spec(name) is None
            ]
            if missing:
                raise BackendUnavailableError(f"{', '.join(missing)} not installed; pip install 'isa-deploy[export]'")
            # a plan that cannot be had is said before minutes of tracing
            on_gpu = any(each != "fp32" for each in (*precisions[:-1], float_type(precisions[-1], int8_options)))
            place = work.place() if plan else work.place_if_any() if plan is None and on_gpu else None

            def accept(manifest: Manifest) -> None:
                if place is not None:
                    work.check(manifest, place)

            if len(precisions) == 1:
                from isa_deploy.export.pipeline import export

                result = export(
                    ckpt,
                    out,
                    precision=precisions[0],
                    int8=int8_options,
                    shape_nhw=fixed,
                    confidence=confidence,
                    frames=frames or (),
                    min_agreement=min_agreement,
                    allow_hash_mismatch=allow_hash_mismatch,
                    accept=accept,
                    progress=bar.step,
                )
                exports = [result]
                bar.pause()
                tell_export(result)
            else:
                from isa_deploy.export.several import export_several

                several = export_several(
                    ckpt,
                    out,
                    precisions,
                    int8=int8_options,
                    truth=truth,
                    shape_nhw=fixed,
                    confidence=confidence,
                    frames=frames or (),
                    min_agreement=min_agreement,
                    allow_hash_mismatch=allow_hash_mismatch,
                    accept=accept,
                    progress=bar.step,
                    command=shlex.join(["isa-export", *sys.argv[1:]]),
                )
                exports = list(several.exports.values())
                bar.pause()
                tell_several(several)
            plans = [] if place is None else [work.build(each.onnx, None, place) for each in exports]
    for planned in plans:
        tell_plan(planned)
    if work.missing:
        for each in exports:
            again = shlex.join(["isa-export", str(each.onnx), "--plan"])
            typer.echo(f"plan:   none, {work.missing}; where TensorRT and a card are: {again}")


def float_type(precision: Precision, int8: Int8Options | None) -> str:
    """What the floats of an export are in."""
    return precision if int8 is None or precision != "int8" else int8.rest


def read_int8_options(
    wanted: bool, calib: Path | None, frames: int | None, max_miou_drop: float | None, rest: str | None
) -> Int8Options | None:
    """The options of ``--int8``, None without it.  Raises :class:`InputError` where they make no sense."""
    if not wanted:
        if any(each is not None for each in (calib, frames, max_miou_drop, rest)):
            raise InputError("--calib, --calib-frames, --max-miou-drop and --rest belong to --int8; give it too")
        return None
    if calib is None:
        raise InputError("--int8 needs frames to calibrate with; give --calib a folder of pictures or a video")
    rests: dict[str | None, Int8Rest] = {None: "fp32", "fp32": "fp32", "fp16": "fp16"}
    if rest not in rests:
        raise InputError(
            f"--rest '{rest}' is neither fp32 nor fp16; a CPU with bfloat16 computes the rest of an fp32 one in it"
        )
    from isa_deploy.export.int8_options import CALIBRATION_FRAMES, MAX_MIOU_DROP, Int8Options

    return Int8Options(
        calib,
        CALIBRATION_FRAMES if frames is None else frames,
        MAX_MIOU_DROP if max_miou_drop is None else max_miou_drop,
        rests[rest],
    )


def refuse_checkpoint_options(precision: bool, shape: str | None, confidence: bool, plan: bool | None) -> None:
    """Raise :class:`InputError` for options that a GRAPH has no use for."""
    if precision or shape is not None or confidence:
        raise InputError(
            "--fp32, --fp16, --bf16, --int8, --shape and --confidence belong to --ckpt: a GRAPH is what it was "
            "exported as; export it again for another"
        )
    if plan is False:
        raise InputError("--no-plan with a GRAPH leaves nothing to do; leave it out")


class PlanWork:
    """What the user wants of a plan."""

    def __init__(
        self,
        target: Target,
        device: int,
        options: PlanOptions,
        frames: tuple[Path, ...],
        min_agreement: float | None,
        bar: BuildBar,
    ) -> None:
        self._target = target
        self._device = device
        self._options = options
        self._frames = frames
        self._min_agreement = min_agreement
        self._bar = bar
        self.missing = ""

    def place(self) -> PlanPlace:
        """The library and the card.  Raises :class:`BackendUnavailableError` where one is missing."""
        if importlib.util.find_spec("jinja2") is None:
            raise BackendUnavailableError(
                "jinja2, which writes the plan's report, is not installed; pip install jinja2"
            )
        from isa_deploy.export.plan_export import find_place

        return find_place(self._target, self._device, self._options.compute_capability)

    def check(self, manifest: Manifest, place: PlanPlace) -> None:
        """Raise :class:`InputError` for options that the library or the graph does not allow."""
        check_options(place.library, manifest, self._options)

    def place_if_any(self) -> PlanPlace | None:
        """:meth:`place` where TensorRT and a card are here; None otherwise, and :attr:`missing` says what is."""
        try:
            place = self.place()
        except BackendUnavailableError as error:
            self.missing = str(error).partition(";")[0]
            return None
        if place.cuda is None:
            self.missing = place.missing
            return None
        return place

    def build(self, graph: Path, out: Path | None, place: PlanPlace) -> PlanResult:
        """Build the plan of a graph, and prove it where the card is here."""
        from isa_deploy.export.plan_export import export_plan

        return export_plan(
            graph,
            out,
            place=place,
            options=self._options,
            frames=self._frames,
            min_agreement=self._min_agreement,
            progress=self._bar.step,
            build_progress=self._bar.part,
        )


def find_graph(path: Path) -> Path:
    """The ONNX file that an argument means.  Raises :class:`InputError` where it is none."""
    with os_errors(path, "look for the graph"):  # a name that is too long, a folder that may not be entered
        graph = path / "model.onnx" if path.is_dir() else path
        found = graph.suffix == ".onnx" and graph.is_file()
    if not found:
        raise InputError(f"{path}: no graph to build a plan of; give a model.onnx of isa-export, or its folder")
    return graph


def tell_export(result: ExportResult) -> None:
    """What was exported, and how it compares."""
    for assumption in result.assumptions:
        typer.echo(f"assumed: {assumption}")
    tell_comparisons(result.report.comparisons, "the checkpoint's")
    for stage, reason in result.report.skipped.items():
        typer.echo(f"not run: {stage} ({reason})")
    if result.int8 is not None:
        from isa_deploy.export.int8_words import choice_lines

        for line in choice_lines(result.int8):
            typer.echo(line)
    typer.echo(f"graph:  {result.onnx}")
    typer.echo(f"report: {result.folder / 'report.html'}")


def tell_several(result: SeveralResult) -> None:
    """Each export, and a line for each way of running one."""
    for each in result.exports.values():
        tell_export(each)
    comparison = result.comparison
    for row in comparison.rows:
        cost = "" if row.cost is None else f", {100 * row.cost:+.2f} points of mIoU lost"
        typer.echo(f"{row.combination.name}: {row.agreement:.2%} of the labels equal{cost}, {row.timing.ms:.1f} ms")
    for name, reason in comparison.skipped.items():
        typer.echo(f"not compared: {name} ({reason})")
    typer.echo(f"report: {result.folder / 'report.html'}")


def tell_plan(result: PlanResult) -> None:
    """What was built, and how it compares."""
    report = result.report
    if report.proof is not None:
        tell_comparisons(report.proof.comparisons, f"those of {report.source}")
    if report.not_run is not None:
        typer.echo(f"not run: the plan ({report.not_run})")
    for warning in report.warnings:
        typer.echo(f"isa-export: warning: {warning}", err=True)
    typer.echo(f"plan:   {result.plan} ({report.plan_bytes / 1e6:.1f} MB, built in {report.build_seconds:.0f} s)")
    typer.echo(f"report: {result.plan.with_name('plan-report.html')}")


def tell_comparisons(comparisons: Sequence[StageComparison], whose: str) -> None:
    """A line for each stage and frame."""
    for each in comparisons:
        typer.echo(
            f"{each.stage} on {each.frame}: {each.label_agreement:.4%} of the labels equal {whose}"
            + ("" if each.gated else " (for information)")
        )


def shape_ranges(
    least: list[str], best: list[str], most: list[str], fixed: tuple[int | None, int | None, int | None]
) -> tuple[ShapeRange, ...]:
    """The ranges that ``--min-shape``, ``--opt-shape`` and ``--max-shape`` give, one for each time they stand there.

    What is left out of all is the largest for the best, and 1 frame of a quarter a side for the smallest, where
    the graph does not fix them.
    Raises :class:`InputError` where they do not pair up, or are no range.
    """
    from isa_deploy.export.plan_profiles import make_range

    if not most:
        if least or best:
            raise InputError("--min-shape and --opt-shape need --max-shape beside them; give it too")
        return ()
    if any(given and len(given) != len(most) for given in (least, best)):
        raise InputError(
            f"{len(least)} --min-shape, {len(best)} --opt-shape and {len(most)} --max-shape do not pair up; give each "
            "as often, or not at all"
        )
    ranges = []
    for index, text in enumerate(most):
        largest = full_shape(text)
        n, h, w = largest
        smallest = (fixed[0] or 1, fixed[1] or max(h // 4, 1), fixed[2] or max(w // 4, 1))
        if least:
            smallest = full_shape(least[index])
        ranges.append(make_range(smallest, full_shape(best[index]) if best else (n, h, w), largest))
    return tuple(ranges)


def full_shape(text: str) -> tuple[int, int, int]:
    """``NxHxW`` as three numbers.  Raises :class:`InputError` for anything else."""
    n, h, w = parse_shape(text)
    assert n is not None and h is not None and w is not None  # noqa: PT018  parse_shape frees all or none
    return n, h, w


def parse_target(text: str) -> Target:
    """A target's name.  Raises :class:`InputError` for anything else."""
    targets: dict[str, Target] = {"auto": "auto", "tensorrt": "tensorrt", "rtx": "rtx"}
    if text not in targets:
        raise InputError(f"target '{text}' is none of: {', '.join(targets)}")
    return targets[text]


def parse_capability(text: str) -> str:
    """``8.9``, or ``89`` as NVIDIA also writes it, as "8.9".  Raises :class:`InputError` for anything else."""
    match = re.fullmatch(r"(\d{1,2})\.?(\d)", text)
    if match is None:
        raise InputError(f"compute capability '{text}' is not MAJOR.MINOR; give for example 8.9")
    return f"{match[1]}.{match[2]}"


def parse_shape(text: str | None) -> tuple[int | None, int | None, int | None]:
    """``NxHxW`` as three numbers, or all free.  Raises :class:`InputError` for anything else."""
    if text is None:
        return (None, None, None)
    parts = text.lower().split("x")
    if len(parts) == 3 and all(part.isdecimal() and len(part) <= MAX_DIGITS for part in parts):
        n, h, w = (int(part) for part in parts)
        if 1 <= n <= 1024 and 1 <= h <= 65536 and 1 <= w <= 65536:
            return (n, h, w)
    raise InputError(
        f"shape '{text}' is not BATCHxHEIGHTxWIDTH (1 to 1024, 1 to 65536, 1 to 65536); give for example 1x1024x2048"
    )


def main() -> None:
    """Entry point of ``isa-export``."""
    run(app, "isa-export")

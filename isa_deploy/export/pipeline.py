"""A checkpoint to a proven artefact folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from isa_deploy.errors import ExportError, ParityError
from isa_deploy.export.calibration_frames import calibration_frames
from isa_deploy.export.graph import Normalisation, build_graph
from isa_deploy.export.int8 import calibrate_and_choose, int8_graph
from isa_deploy.export.int8_options import Int8Options
from isa_deploy.export.int8_search import Int8Choice
from isa_deploy.export.onnx import QUANTISED_FP16_OPSET, ShapeNHW, save_onnx, trace
from isa_deploy.export.parity import ParityReport, prove
from isa_deploy.export.precision import FloatPrecision, Precision
from isa_deploy.export.proof_frames import proof_frames
from isa_deploy.export.publishing import (
    PLAN_REPORT_FILES,
    REPORT_FILES,
    failed_folder,
    forget_failure,
    publish,
)
from isa_deploy.export.reference import Reference
from isa_deploy.export.report import write_report
from isa_deploy.files import folder_lock, make_folder, os_errors
from isa_deploy.manifest import (
    MANIFEST_FILE,
    ClassesSpec,
    InferenceSpec,
    InputSpec,
    Manifest,
    OutputsSpec,
    QuantisationSpec,
    ResizeSpec,
    SourceSpec,
)
from isa_deploy.models.checkpoint import Checkpoint, build_network, read_checkpoint
from isa_deploy.runtime.datasets import dataset_palette, distinct_palette
from isa_deploy.runtime.opening import ONNX_FILE
from isa_deploy.runtime.plan import PLAN_FILE
from isa_deploy.runtime.tiling import WindowGrid, slide_grid

__all__ = ["ONNX_FILE", "ExportResult", "calibration_journal", "export", "make_manifest"]

FIXED_SLIDE_FLOATS = 64 * 1024 * 1024
FIXED_SLIDE_WINDOWS = 256
"""Largest matrices and most windows that a fixed slide graph may hold; 1025 x 2049 in windows of 769 takes
8 windows and 1.0 million floats."""


@dataclass(frozen=True)
class ExportResult:
    """Where an export lies and what its proof says; ``int8``: what was chosen for an int8 one, else None."""

    folder: Path
    onnx: Path
    manifest: Manifest
    report: ParityReport
    assumptions: tuple[str, ...]
    int8: Int8Choice | None = None


def _silent(line: str) -> None:
    """Tell nobody."""


def _anything(manifest: Manifest) -> None:
    """Accept it."""


def export(
    ckpt: str | Path,
    out: str | Path | None = None,
    *,
    precision: Precision = "fp32",
    int8: Int8Options | None = None,
    shape_nhw: ShapeNHW = (None, None, None),
    confidence: bool = False,
    frames: Sequence[str | Path] = (),
    min_agreement: float | None = None,
    allow_hash_mismatch: bool = False,
    accept: Callable[[Manifest], None] = _anything,
    progress: Callable[[str], None] = _silent,
) -> ExportResult:
    """Export a checkpoint to a folder with ``model.onnx``, ``model.json`` and the proof.

    ``out`` is the folder (default: named after the checkpoint, in the current one); ``int8`` says how, where
    ``precision`` is "int8": the calibration goes on where an interrupted one of the same frames stopped
    (:func:`calibration_journal`).  ``shape_nhw`` fixes
    batch, height and width where not None; ``confidence`` adds that output; ``frames`` are pictures to
    prove on (default: the bundled ones); ``min_agreement`` replaces the least label agreement.  ``accept`` is
    shown the manifest before the work begins, and may raise.

    Raises :class:`CheckpointError` for the checkpoint, :class:`InputError` for frames and folders,
    :class:`ExportError` where the graph cannot be made, and :class:`ParityError` where the export does
    not equal its checkpoint: then only the report is written, into ``<out>-failed``.
    """
    checkpoint_path = Path(ckpt)
    folder = Path(out if out is not None else checkpoint_path.stem)
    checkpoint = read_checkpoint(checkpoint_path, allow_hash_mismatch=allow_hash_mismatch)
    if (precision == "int8") != (int8 is not None):
        raise ExportError('int8 options belong to precision "int8", which needs them; give both or neither')
    float_type: FloatPrecision = int8.rest if int8 is not None else _float(precision)
    manifest = make_manifest(checkpoint, float_type, shape_nhw, confidence)
    accept(manifest)
    shown = None
    if int8 is not None:
        progress(f"int8: looking at the frames of {int8.calib}")
        shown = calibration_frames(int8.calib, int8.frames, manifest)
        for note in shown.notes:
            progress(f"int8: {note}")
    pictures = proof_frames(frames, manifest)
    make_folder(folder if folder.exists() else folder.parent)
    with os_errors(folder, "write the export"):
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        network = build_network(checkpoint)
        normalisation = Normalisation(manifest.input.mean, manifest.input.std, swap_channels=checkpoint.to_rgb)
        outputs = ("labels", "logits", "confidence") if confidence else ("labels", "logits")
        grid = fixed_windows(manifest)

        def traced(kind: FloatPrecision, opset: int | None = None) -> ir.Model:
            progress(f"tracing {checkpoint.config.name}, {kind}")
            return trace(build_graph(network, normalisation, kind, outputs, grid), shape_nhw, kind, opset)

        choice = None
        if int8 is None:
            model = traced(float_type)
        else:
            assert shown is not None
            journal = calibration_journal(folder)
            floats, choice = calibrate_and_choose(traced("fp32"), shown, int8.max_miou_drop, work, journal, progress)
            rest = None if int8.rest == "fp32" else traced(int8.rest, QUANTISED_FP16_OPSET)
            model, quantisation = int8_graph(floats, choice, int8.rest, rest, len(shown))
            del floats, rest
            manifest = make_manifest(checkpoint, "int8", shape_nhw, confidence, quantisation)
        with os_errors(folder, "write the graph"):
            save_onnx(model, manifest, work / ONNX_FILE)
            (work / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
        del model
        reference = Reference(network, checkpoint)
        report, compared = prove(
            reference,
            work / ONNX_FILE,
            manifest,
            pictures,
            min_agreement,
            progress,
        )
        write_report(report, compared, work, choice=choice)
        if not report.passed:
            failed = failed_folder(folder)
            publish(work, failed, REPORT_FILES)
            more = f" (and {len(report.failures) - 1} more)" if len(report.failures) > 1 else ""
            raise ParityError(
                f"the export does not equal its checkpoint: {report.failures[0]}{more}; "
                f"see {failed / 'report.html'}, and --min-agreement to accept it"
                + (f" ({folder} still holds an earlier export)" if (folder / ONNX_FILE).exists() else "")
            )
        # a plan may be under way of the graph that is here, and one that is there is no plan of this graph
        with folder_lock(folder) if folder.exists() else nullcontext():
            publish(work, folder, (*REPORT_FILES, MANIFEST_FILE, ONNX_FILE), (PLAN_FILE, *PLAN_REPORT_FILES))
        forget_failure(folder, REPORT_FILES)
        if int8 is not None:
            calibration_journal(folder).unlink(missing_ok=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return ExportResult(folder, folder / ONNX_FILE, manifest, report, checkpoint.assumptions, choice)


def calibration_journal(folder: Path) -> Path:
    """Where a calibration for ``folder`` is kept until its export is there: beside it."""
    return failed_folder(folder).with_name(f"{folder.resolve().name}-calibration.npz")


def _float(precision: Precision) -> FloatPrecision:
    assert precision != "int8"
    return precision


def make_manifest(
    checkpoint: Checkpoint,
    precision: Precision,
    shape_nhw: ShapeNHW,
    confidence: bool,
    quantisation: QuantisationSpec | None = None,
) -> Manifest:
    """The manifest of an export.  Raises :class:`ExportError` for a shape that the model cannot have."""
    if (shape_nhw[1] is None) != (shape_nhw[2] is None):
        raise ExportError(f"shape {shape_nhw} fixes one of height and width; fix both or none")
    test = checkpoint.test
    in_graph = test.mode == "slide" and shape_nhw[1] is not None
    if in_graph and shape_nhw[1] is not None and shape_nhw[2] is not None:
        check_fixed_windows(checkpoint, (shape_nhw[1], shape_nhw[2]))
    # the graph takes BGR frames, what OpenCV and video decoders give, whatever order the network wants
    red, green, blue = checkpoint.mean_rgb
    red_std, green_std, blue_std = checkpoint.std_rgb
    return Manifest(
        format_version=1,
        architecture=checkpoint.config.name,
        precision=precision,
        source=SourceSpec(file=checkpoint.file_name, sha256=checkpoint.sha256, layout=checkpoint.layout),
        input=InputSpec(
            name="image",
            colour_order="BGR",
            shape_nhw=shape_nhw,
            mean=(blue, green, red),
            std=(blue_std, green_std, red_std),
            resize=None if test.scale_wh is None else ResizeSpec(scale_wh=test.scale_wh, keep_ratio=test.keep_ratio),
        ),
        inference=InferenceSpec(
            mode=test.mode,
            crop_hw=test.crop_hw,
            stride_hw=test.stride_hw,
            align_corners=checkpoint.config.align_corners,
            windows_in_graph=in_graph,
        ),
        classes=classes_of(checkpoint),
        outputs=OutputsSpec(
            labels="labels",
            logits="logits",
            logits_stride=checkpoint.config.stride,
            confidence="confidence" if confidence else None,
        ),
        quantisation=quantisation,
    )


def check_fixed_windows(checkpoint: Checkpoint, frame_hw: tuple[int, int]) -> None:
    """Raise :class:`ExportError` where a slide graph of this frame would hold too much."""
    crop, stride = checkpoint.test.crop_hw, checkpoint.test.stride_hw
    assert crop is not None
    assert stride is not None
    counts = [max(side - c + s - 1, 0) // s + 1 for side, c, s in zip(frame_hw, crop, stride, strict=True)]
    floats = sum(
        count * -(-min(c, side) // checkpoint.config.stride) * side
        for count, side, c in zip(counts, frame_hw, crop, strict=True)
    )
    if floats > FIXED_SLIDE_FLOATS or counts[0] * counts[1] > FIXED_SLIDE_WINDOWS:
        raise ExportError(
            f"a slide model fixed to {frame_hw[0]}x{frame_hw[1]} would run {counts[0] * counts[1]} windows at once and "
            f"hold {floats * 4 >> 20} MiB to merge them; export it without --shape, the runtime then cuts the windows"
        )


def classes_of(checkpoint: Checkpoint) -> ClassesSpec:
    """Names and colours: the checkpoint's own, else its data set's, else numbers and distinct colours."""
    count = len(checkpoint.classes)
    known = None if checkpoint.dataset is None else dataset_palette(checkpoint.dataset)
    if known is not None and len(known.names) != count:
        known = None
    names, palette = checkpoint.classes, checkpoint.palette
    if known is not None and names == tuple(f"class_{label}" for label in range(count)):
        names = tuple(name.strip() for name in known.names)
    if not palette:
        palette = known.palette_rgb if known is not None else distinct_palette(count)
    return ClassesSpec(names=names, palette_rgb=palette)


def fixed_windows(manifest: Manifest) -> WindowGrid | None:
    """The windows that go into the graph, or None where it makes one pass over the frame."""
    inference = manifest.inference
    if not inference.windows_in_graph:
        return None
    assert manifest.frame_hw is not None
    assert inference.crop_hw is not None
    assert inference.stride_hw is not None
    return slide_grid(manifest.frame_hw, inference.crop_hw, inference.stride_hw)

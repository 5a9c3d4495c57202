"""A checkpoint to a proven artefact folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from isa_deploy.errors import ExportError, InputError, ParityError
from isa_deploy.export.graph import Normalisation, build_graph
from isa_deploy.export.onnx import ShapeNHW, save_onnx, trace
from isa_deploy.export.parity import ParityReport, prove
from isa_deploy.export.precision import Precision
from isa_deploy.export.reference import Reference
from isa_deploy.export.report import write_report
from isa_deploy.files import make_folder, os_errors
from isa_deploy.manifest import (
    MANIFEST_FILE,
    ClassesSpec,
    InferenceSpec,
    InputSpec,
    Manifest,
    OutputsSpec,
    ResizeSpec,
    SourceSpec,
)
from isa_deploy.models.checkpoint import Checkpoint, build_network, read_checkpoint
from isa_deploy.runtime.datasets import dataset_palette, distinct_palette
from isa_deploy.runtime.images import read_image
from isa_deploy.runtime.preprocess import ResizeRule
from isa_deploy.runtime.tiling import WindowGrid, slide_grid

__all__ = ["ONNX_FILE", "ExportResult", "bundled_frames", "export", "make_manifest"]

ONNX_FILE = "model.onnx"
REPORT_FILES = ("report.json", "report.html")
FIXED_SLIDE_PIXELS = 64 * 1024 * 1024
"""Largest matrix (floats) that a fixed slide graph may hold to merge its windows."""


@dataclass(frozen=True)
class ExportResult:
    """Where an export lies and what its proof says."""

    folder: Path
    onnx: Path
    manifest: Manifest
    report: ParityReport
    assumptions: tuple[str, ...]


def _silent(line: str) -> None:
    """Tell nobody."""


def export(
    ckpt: str | Path,
    out: str | Path | None = None,
    *,
    precision: Precision = "fp32",
    shape_nhw: ShapeNHW = (None, None, None),
    confidence: bool = False,
    frames: Sequence[str | Path] = (),
    min_agreement: float | None = None,
    allow_hash_mismatch: bool = False,
    progress: Callable[[str], None] = _silent,
) -> ExportResult:
    """Export a checkpoint to a folder with ``model.onnx``, ``model.json`` and the proof.

    ``out`` is the folder (default: named after the checkpoint, in the current one); ``shape_nhw`` fixes
    batch, height and width where not None; ``confidence`` adds that output; ``frames`` are pictures to
    prove on (default: the bundled ones); ``min_agreement`` replaces the least label agreement.

    Raises :class:`CheckpointError` for the checkpoint, :class:`InputError` for frames and folders,
    :class:`ExportError` where the graph cannot be made, and :class:`ParityError` where the export does
    not equal its checkpoint: then only the report is written, into ``<out>-failed``.
    """
    checkpoint_path = Path(ckpt)
    folder = Path(out) if out is not None else Path(checkpoint_path.stem)
    checkpoint = read_checkpoint(checkpoint_path, allow_hash_mismatch=allow_hash_mismatch)
    manifest = make_manifest(checkpoint, precision, shape_nhw, confidence)
    pictures = proof_frames(frames, manifest)
    make_folder(folder.parent)
    with os_errors(folder, "write the export"):
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        network = build_network(checkpoint)
        normalisation = Normalisation(manifest.input.mean, manifest.input.std, swap_channels=checkpoint.to_rgb)
        outputs = ("labels", "logits", "confidence") if confidence else ("labels", "logits")
        progress(f"tracing {checkpoint.config.name}, {precision}")
        graph = build_graph(network, normalisation, precision, outputs, fixed_windows(manifest))
        model = trace(graph, shape_nhw, precision)
        with os_errors(folder, "write the graph"):
            save_onnx(model, manifest, work / ONNX_FILE)
            (work / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
        del graph, model
        reference = Reference(network, normalisation, manifest.inference)
        report, compared = prove(
            reference,
            work / ONNX_FILE,
            manifest,
            pictures,
            proof_resize(manifest, user_frames=bool(frames)),
            min_agreement,
            progress,
        )
        write_report(report, compared, work)
        if not report.passed:
            failed = folder.with_name(folder.name + "-failed")
            publish(work, failed, REPORT_FILES)
            more = f" (and {len(report.failures) - 1} more)" if len(report.failures) > 1 else ""
            raise ParityError(
                f"the export does not equal its checkpoint: {report.failures[0]}{more}; "
                f"see {failed / 'report.html'}, and --min-agreement to accept it"
            )
        publish(work, folder, (*REPORT_FILES, MANIFEST_FILE, ONNX_FILE))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return ExportResult(folder, folder / ONNX_FILE, manifest, report, checkpoint.assumptions)


def publish(work: Path, folder: Path, names: Sequence[str]) -> None:
    """Move finished files to their place, each whole.  Raises :class:`InputError` where it cannot."""
    make_folder(folder)
    with os_errors(folder, "write the export"):
        for name in names:
            (work / name).replace(folder / name)


def make_manifest(checkpoint: Checkpoint, precision: Precision, shape_nhw: ShapeNHW, confidence: bool) -> Manifest:
    """The manifest of an export.  Raises :class:`ExportError` for a shape that the model cannot have."""
    if (shape_nhw[1] is None) != (shape_nhw[2] is None):
        raise ExportError(f"shape {shape_nhw} fixes one of height and width; fix both or none")
    test = checkpoint.test
    slide = test.mode == "slide"
    in_graph = slide and shape_nhw[1] is not None
    if in_graph and shape_nhw[1] is not None and shape_nhw[2] is not None:
        # Sum of the windows' columns is at most 2 x the frame's for a stride of half a crop or more
        matrix = 2 * max(shape_nhw[1], shape_nhw[2]) ** 2 // checkpoint.config.stride
        if matrix > FIXED_SLIDE_PIXELS:
            raise ExportError(
                f"a slide model fixed to {shape_nhw[1]}x{shape_nhw[2]} would hold a merging matrix of about "
                f"{matrix * 4 >> 20} MiB; export it without --shape, the runtime then cuts the windows"
            )
    mean, std = checkpoint.mean_rgb, checkpoint.std_rgb
    if checkpoint.to_rgb:
        # the graph takes BGR frames: what OpenCV and video decoders give
        mean, std = (mean[2], mean[1], mean[0]), (std[2], std[1], std[0])
    return Manifest(
        format_version=1,
        architecture=checkpoint.config.name,
        precision=precision,
        source=SourceSpec(file=checkpoint.file_name, sha256=checkpoint.sha256, layout=checkpoint.layout),
        input=InputSpec(
            name="image",
            colour_order="BGR",
            shape_nhw=shape_nhw,
            mean=mean,
            std=std,
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
    )


def classes_of(checkpoint: Checkpoint) -> ClassesSpec:
    """Names and colours: the checkpoint's own, else its data set's, else distinct ones."""
    known = None if checkpoint.dataset is None else dataset_palette(checkpoint.dataset)
    if known is not None and len(known.names) != len(checkpoint.classes):
        known = None
    palette = checkpoint.palette
    if not palette:
        palette = known.palette_rgb if known is not None else distinct_palette(len(checkpoint.classes))
    return ClassesSpec(names=checkpoint.classes, palette_rgb=palette)


def fixed_windows(manifest: Manifest) -> WindowGrid | None:
    """The windows that go into the graph, or None where it makes one pass over the frame."""
    inference = manifest.inference
    if not inference.windows_in_graph:
        return None
    assert manifest.frame_hw is not None
    assert inference.crop_hw is not None
    assert inference.stride_hw is not None
    return slide_grid(manifest.frame_hw, inference.crop_hw, inference.stride_hw)


def proof_resize(manifest: Manifest, user_frames: bool) -> ResizeRule:
    """At which size the proof shows frames: the fixed one, the user's at test scale, the bundled as they are.

    The bundled frames are small, and one has sides that are no multiple of 8, so that the padding, the
    cropping and the resize are all proven without minutes of waiting.
    """
    if manifest.frame_hw is not None:
        return manifest.frame_hw
    return "test" if user_frames else "none"


def proof_frames(frames: Sequence[str | Path], manifest: Manifest) -> list[tuple[str, npt.NDArray[np.uint8]]]:
    """The user's frames, or the bundled ones; where the graph takes one size only, brought to it."""
    named = [(Path(frame).name, read_image(Path(frame))) for frame in frames] if frames else bundled_frames()
    fixed = manifest.frame_hw
    if fixed is None or frames:
        return named
    return [(name, cv2.resize(frame, (fixed[1], fixed[0])).astype(np.uint8)) for name, frame in named]


def bundled_frames() -> list[tuple[str, npt.NDArray[np.uint8]]]:
    """The drawn street scenes that ship with the package, BGR."""
    folder = Path(__file__).parent / "frames"
    found = [(path.name, read_image(path)) for path in sorted(folder.glob("*.jpg"))]
    if not found:
        raise InputError(f"{folder}: the bundled frames are missing; install isa-deploy again, or give --frames")
    return found

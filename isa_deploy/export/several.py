"""One checkpoint in several precisions, in one folder, compared with each other."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from isa_deploy.errors import ExportError, InputError, ParityError
from isa_deploy.evaluate.dataset import Dataset, Sample
from isa_deploy.evaluate.datasets import open_dataset
from isa_deploy.export.calibration_frames import calibration_frames
from isa_deploy.export.int8_options import Int8Options
from isa_deploy.export.onnx import ShapeNHW
from isa_deploy.export.parity import environment
from isa_deploy.export.pipeline import ExportResult, export
from isa_deploy.export.precision import Precision
from isa_deploy.export.precision_comparison import PrecisionComparison, TruthFrame, compare_precisions
from isa_deploy.export.precision_engines import Candidate, combinations, find_bf16
from isa_deploy.export.precision_page import write_precision_report
from isa_deploy.export.proof_frames import proof_frames
from isa_deploy.export.publishing import PLAN_REPORT_FILES, REPORT_FILES, failed_folder, publish
from isa_deploy.export.reference import Reference
from isa_deploy.files import os_errors, result_folder
from isa_deploy.manifest import MANIFEST_FILE, Manifest
from isa_deploy.models.checkpoint import build_network, read_checkpoint
from isa_deploy.runtime.images import read_image
from isa_deploy.runtime.opening import ONNX_FILE
from isa_deploy.runtime.plan import PLAN_FILE
from isa_deploy.runtime.preprocess import ResizeRule, network_size, resize_frame

__all__ = ["SeveralResult", "check_cost", "export_several"]

UInt8 = npt.NDArray[np.uint8]

COMPARED_FRAMES = 16
"""Calibration frames that precisions are compared on where there are no others."""

LABELLED_FRAMES = 100
"""Of a labelled folder, spread evenly: the checkpoint in torch takes seconds for each."""


@dataclass(frozen=True)
class SeveralResult:
    """The folder, its exports by precision, and how they compare."""

    folder: Path
    exports: dict[str, ExportResult]
    comparison: PrecisionComparison


def export_several(
    ckpt: str | Path,
    out: str | Path | None,
    precisions: Sequence[Precision],
    *,
    int8: Int8Options | None = None,
    truth: Path | None = None,
    shape_nhw: ShapeNHW = (None, None, None),
    confidence: bool = False,
    frames: Sequence[str | Path] = (),
    min_agreement: float | None = None,
    allow_hash_mismatch: bool = False,
    accept: Callable[[Manifest], None] = lambda _: None,
    progress: Callable[[str], None] = lambda _: None,
    command: str = "",
) -> SeveralResult:
    """Export a checkpoint in each of ``precisions`` into ``out/fp32``, ``out/int8`` ..., and compare them.

    Each folder is an artefact as :func:`~isa_deploy.export.pipeline.export` makes it, with its own proof;
    ``out/report.json`` and ``out/report.html`` compare them.  ``truth``: a folder with ``images/`` and ``labels/`` to
    compare on; without one ``frames``, else calibration frames, else the bundled ones, and then no accuracy is
    told.  The other options are those of ``export``.

    Raises as ``export`` does.  Also raises :class:`ParityError` where an int8 graph costs more on ``truth`` than its
    ``max_miou_drop``: then its folder is gone and its proof is in ``out/int8-failed``.
    """
    if len(set(precisions)) != len(precisions) or len(precisions) < 2:
        raise ExportError(f"precisions {', '.join(precisions)}: give two or more different ones, or use export")
    checkpoint_path = Path(ckpt)
    folder = Path(out if out is not None else checkpoint_path.stem)
    labelled = None if truth is None else _labelled(truth)  # before minutes of work
    with result_folder(folder):
        exports: dict[str, ExportResult] = {}
        # int8 first: of all it is most likely to fail, by its frames or its budget
        for precision in sorted(precisions, key=lambda each: each != "int8"):
            exports[precision] = export(
                ckpt,
                folder / precision,
                precision=precision,
                int8=int8 if precision == "int8" else None,
                shape_nhw=shape_nhw,
                confidence=confidence,
                frames=frames,
                min_agreement=min_agreement,
                allow_hash_mismatch=allow_hash_mismatch,
                accept=accept,
                progress=progress,
            )
        exports = {precision: exports[precision] for precision in precisions}
        checkpoint = read_checkpoint(checkpoint_path, allow_hash_mismatch=allow_hash_mismatch)
        reference = Reference(build_network(checkpoint), checkpoint)
        manifest = next(iter(exports.values())).manifest
        shown = _frames(labelled, frames, int8, manifest)
        candidates = [
            Candidate(name, each.manifest.precision, each.onnx, each.onnx.stat().st_size / 1e6)
            for name, each in exports.items()
        ]
        skipped: dict[str, str] = {}
        wanted = combinations(candidates, skipped, find_bf16())
        comparison = compare_precisions(
            lambda frame: reference.answer(frame, (frame.shape[0], frame.shape[1])).labels_hw,
            reference.name,
            wanted,
            skipped,
            shown,
            manifest,
            progress,
        )
        _publish_report(comparison, folder, command)
        if int8 is not None:
            check_cost(comparison, exports["int8"], int8.max_miou_drop, truth)
    return SeveralResult(folder, exports, comparison)


def _publish_report(comparison: PrecisionComparison, folder: Path, command: str) -> None:
    """The report, and nothing left of an earlier single export that it would seem to speak of."""
    work = folder / ".report"
    with os_errors(folder, "write the report"):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
    try:
        write_precision_report(comparison, work, environment(), command)
        publish(work, folder, REPORT_FILES, (MANIFEST_FILE, ONNX_FILE, PLAN_FILE, *PLAN_REPORT_FILES))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def check_cost(comparison: PrecisionComparison, made: ExportResult, allowed: float, truth: Path | None) -> None:
    """Raise :class:`ParityError` where an int8 graph costs more on label maps than is allowed, and take it away."""
    costs = {
        row.combination.name: 100 * row.cost
        for row in comparison.rows
        if row.combination.candidate.precision == "int8" and row.cost is not None
    }
    if not costs:
        return
    name = max(costs, key=lambda each: costs[each])
    if costs[name] <= allowed:
        return
    failed = failed_folder(made.folder)
    with os_errors(failed, "write the failed proof"):
        shutil.rmtree(failed, ignore_errors=True)
        failed.mkdir()
        for each in REPORT_FILES:
            (made.folder / each).rename(failed / each)
        shutil.rmtree(made.folder)
    raise ParityError(
        f"{name} costs {costs[name]:.2f} points of mIoU on {truth}, and {allowed:g} are allowed; see "
        f"{made.folder.parent / 'report.html'}, and give a smaller --max-miou-drop, which keeps more layers wide, or "
        "more calibration frames"
    )


# --- what is compared on


@dataclass(frozen=True)
class _Labelled:
    dataset: Dataset
    samples: tuple[Sample, ...]


def _labelled(root: Path) -> _Labelled:
    dataset = open_dataset("folder", root)
    samples = dataset.listing().samples
    if not samples:
        raise InputError(f"{root}: no picture has a label map; give a folder with images/ and labels/")
    count = min(LABELLED_FRAMES, len(samples))
    places = sorted({round(index * (len(samples) - 1) / max(1, count - 1)) for index in range(count)})
    return _Labelled(dataset, tuple(samples[place] for place in places))


def _frames(
    labelled: _Labelled | None, frames: Sequence[str | Path], int8: Int8Options | None, manifest: Manifest
) -> Iterator[TruthFrame]:
    """At the size that the network is shown; label maps come to it by nearest neighbours."""
    if labelled is not None:
        rule: ResizeRule = manifest.frame_hw or "test"
        for sample in labelled.samples:
            picture = read_image(sample.image)
            truth_hw = labelled.dataset.read_truth(sample)
            if truth_hw.shape != picture.shape[:2]:
                raise InputError(f"{sample.name}: labels of {truth_hw.shape}, picture of {picture.shape[:2]}")
            size = network_size((picture.shape[0], picture.shape[1]), rule, manifest.input.resize)
            if size != truth_hw.shape:
                truth_hw = np.asarray(cv2.resize(truth_hw, size[::-1], interpolation=cv2.INTER_NEAREST), np.uint8)
            yield TruthFrame(sample.name, resize_frame(picture, size), truth_hw)
    elif frames or int8 is None:
        for name, frame in proof_frames(frames, manifest):
            yield TruthFrame(name, frame, None)
    else:
        chosen = calibration_frames(int8.calib, max(8, min(COMPARED_FRAMES, int8.frames)), manifest)
        for name, frame in zip(chosen.names, chosen.frames(), strict=True):
            yield TruthFrame(name, frame, None)

"""The runtime against mmsegmentation itself: logits within 1e-3, labels equal wherever that is decided."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import Exporter

from isa_deploy.manifest import Manifest
from isa_deploy.runtime.preprocess import fit_size, resize_frame
from isa_deploy.runtime.resample import average_windows, bilinear
from isa_deploy.runtime.segmenter import Segmenter
from isa_deploy.runtime.tiling import WindowGrid, slide_grid

LOGITS_TOLERANCE = 1e-3
LABEL_AGREEMENT = 0.9995
DECIDED = 2e-3  # pixels whose two best logits are further apart must be equal, every one

PICTURES = ("img_64x128", "img_65x97", "img_129x257")
BACKENDS = ("onnxruntime", "openvino")


def read(golden: Path, name: str) -> np.ndarray:
    picture = cv2.imread(str(golden / f"{name}.png"), cv2.IMREAD_COLOR)
    assert picture is not None
    return picture


def windows_of(manifest: Manifest, size_hw: tuple[int, int]) -> WindowGrid:
    inference = manifest.inference
    if inference.mode == "whole":
        return WindowGrid(((0, size_hw[0]),), ((0, size_hw[1]),))
    assert inference.crop_hw is not None
    assert inference.stride_hw is not None
    return slide_grid(size_hw, inference.crop_hw, inference.stride_hw)


def as_grid(logits_low: np.ndarray, grid: WindowGrid) -> np.ndarray:
    """Golden logits, windows x C x h x w (or C x h x w), as one C x rows*h x cols*w."""
    stack = logits_low if logits_low.ndim == 4 else logits_low[None]
    count, c, h, w = stack.shape
    rows, cols = len(grid.rows), len(grid.cols)
    assert count == rows * cols
    return stack.reshape(rows, cols, c, h, w).transpose(2, 0, 3, 1, 4).reshape(c, rows * h, cols * w)


def margin_of(golden_grid: np.ndarray, manifest: Manifest, grid: WindowGrid, frame_hw: tuple[int, int]) -> np.ndarray:
    """By how much the best of mmsegmentation's logits exceeds the second, at the frame's size."""
    align, stride = manifest.inference.align_corners, manifest.outputs.logits_stride
    maps = []
    for spans, length in ((grid.rows, frame_hw[0]), (grid.cols, frame_hw[1])):
        network = spans[-1][1]
        made = average_windows(spans, -(-(spans[0][1] - spans[0][0]) // stride), network, align)
        maps.append(made if network == length else bilinear(network, length, align).after(made))
    full = np.einsum("yh,chw,xw->cyx", maps[0].dense(), golden_grid, maps[1].dense(), optimize=True)
    best = np.sort(full, axis=0)
    return best[-1] - best[-2]


def assert_labels(labels: np.ndarray, wanted: np.ndarray, margin: np.ndarray) -> None:
    differing = labels != wanted
    assert 1 - differing.mean() >= LABEL_AGREEMENT
    assert not (differing & (margin > DECIDED)).any()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("picture", range(3))
@pytest.mark.parametrize(
    ("checkpoint", "case"),
    [
        ("tiny_r50_whole_0x", "tiny_r50_whole"),
        ("tiny_r50_slide_0x_legacy", "tiny_r50_slide"),
        ("tiny_r101_ade_1x", "tiny_r101_ade"),
    ],
)
def test_whole_and_slide_models_answer_as_mmsegmentation(
    golden: Path, exported: Exporter, checkpoint: str, case: str, picture: int, backend: str
) -> None:
    frame = read(golden, PICTURES[picture])
    with (
        np.load(golden / f"{case}.npz") as wanted,
        Segmenter.open(exported(checkpoint), backend=backend, precision=FP32[backend], resize="none") as segmenter,
    ):
        labels, logits = segmenter.segment_with_logits(frame)
        grid = windows_of(segmenter.manifest, frame.shape[:2])
        golden_grid = as_grid(wanted[f"logits_low_{picture}"], grid)
        assert np.abs(logits - golden_grid).max() <= LOGITS_TOLERANCE
        margin = margin_of(golden_grid, segmenter.manifest, grid, frame.shape[:2])
        assert_labels(labels, wanted[f"labels_{picture}"], margin)
        assert_labels(segmenter.segment(frame), wanted[f"labels_{picture}"], margin)


FP32 = {"onnxruntime": "auto", "openvino": "fp32"}


@pytest.mark.parametrize("backend", BACKENDS)
def test_windows_inside_the_graph_equal_mmsegmentation(golden: Path, exported: Exporter, backend: str) -> None:
    folder = exported("tiny_r50_slide_0x_legacy", shape_nhw=(1, 129, 257))
    frame = read(golden, "img_129x257")
    with (
        np.load(golden / "tiny_r50_slide.npz") as wanted,
        Segmenter.open(folder, backend=backend, precision=FP32[backend], resize="none") as segmenter,
    ):
        assert segmenter.manifest.inference.windows_in_graph
        labels, logits = segmenter.segment_with_logits(frame)
        grid = windows_of(segmenter.manifest, (129, 257))
        golden_grid = as_grid(wanted["logits_low_2"], grid)
        assert np.abs(logits - golden_grid).max() <= LOGITS_TOLERANCE
        margin = margin_of(golden_grid, segmenter.manifest, grid, (129, 257))
        assert_labels(labels, wanted["labels_2"], margin)
        assert_labels(segmenter.segment(frame), wanted["labels_2"], margin)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_test_scale_resizes_the_logits_twice(golden: Path, exported: Exporter, backend: str) -> None:
    frame = read(golden, "img_150x310")
    size = fit_size((150, 310), (256, 128))
    with (
        np.load(golden / "pipeline_resize.npz") as wanted,
        Segmenter.open(
            exported("tiny_r50_whole_0x"), backend=backend, precision=FP32[backend], resize=size
        ) as segmenter,
    ):
        assert np.array_equal(resize_frame(frame, size), wanted["resized_bgr"])
        labels, logits = segmenter.segment_with_logits(frame)
        assert np.abs(logits - wanted["logits_low"]).max() <= LOGITS_TOLERANCE
        grid = windows_of(segmenter.manifest, size)
        margin = margin_of(wanted["logits_low"], segmenter.manifest, grid, (150, 310))
        assert_labels(labels, wanted["labels"], margin)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("checkpoint", "case", "picture"),
    [
        ("tiny_r50_whole_0x", "tta_ms_flip", "img_65x97"),
        ("tiny_r50_slide_0x_legacy", "tta_slide_ms_flip", "img_129x257"),
    ],
)
def test_multi_scale_with_flip_averages_probabilities(
    golden: Path,
    exported: Exporter,
    golden_index: dict[str, Any],
    checkpoint: str,
    case: str,
    picture: str,
    backend: str,
) -> None:
    (step,) = [c["inputs"][0]["probs_step"] for c in golden_index["cases"] if c["name"] == case]
    with (
        np.load(golden / f"{case}.npz") as wanted,
        Segmenter.open(exported(checkpoint), backend=backend, precision=FP32[backend], resize="none") as segmenter,
    ):
        labels = segmenter.segment_multi_scale(read(golden, picture))
        assert (labels == wanted["labels"]).mean() >= LABEL_AGREEMENT
        best = np.sort(wanted["probs"].astype(np.float32), axis=0)
        decided = best[-1] - best[-2] > DECIDED
        assert np.array_equal(labels[::step, ::step][decided], wanted["labels"][::step, ::step][decided])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("precision", "least"), [("fp32", 1.0), ("fp16", 0.999), ("bf16", 0.997)])
def test_the_trained_model_keeps_its_labels_in_each_precision(
    golden: Path, exported: Exporter, precision: str, least: float, backend: str
) -> None:
    if precision == "bf16" and backend == "onnxruntime":
        pytest.skip("ONNX Runtime's CPU has no bfloat16 convolution; a CUDA provider would enable it")
    folder = exported("isanet_r18w16_streets", precision=precision)
    agreements = []
    with (
        np.load(golden / "streets.npz") as wanted,
        Segmenter.open(folder, backend=backend, precision=FP32[backend]) as segmenter,
    ):
        for number in range(6):
            labels = segmenter.segment(read(golden, f"scene_{number}"))
            agreements.append((labels == wanted[f"labels_{number}"]).mean())
    assert np.mean(agreements) >= least


def test_bfloat16_arithmetic_keeps_the_trained_models_labels(golden: Path, exported: Exporter) -> None:
    """The bf16 module itself in torch, where every operation rounds, on any CPU."""
    import torch

    from isa_deploy.export.graph import Normalisation, build_graph
    from isa_deploy.models.checkpoint import build_network, read_checkpoint

    agreements = []
    checkpoint = read_checkpoint(golden / "isanet_r18w16_streets.pth")
    mean, std = checkpoint.mean_rgb, checkpoint.std_rgb
    normalisation = Normalisation(mean[::-1], std[::-1], swap_channels=True)
    graph = build_graph(build_network(checkpoint), normalisation, "bf16", ("labels", "logits"), None)
    with np.load(golden / "streets.npz") as wanted, torch.inference_mode():
        for number in range(6):
            labels = graph(torch.from_numpy(read(golden, f"scene_{number}"))[None])[0][0].numpy()
            agreements.append((labels == wanted[f"labels_{number}"]).mean())
    assert np.mean(agreements) >= 0.997


def test_openvinos_bfloat16_keeps_the_trained_models_labels(golden: Path, streets_onnx: Path) -> None:
    from isa_deploy.runtime.backends.openvino import cpu_has_bf16

    if not cpu_has_bf16():
        pytest.skip("this CPU has no bfloat16; one with AMX or AVX512-BF16 would enable it")
    agreements = []
    with (
        np.load(golden / "streets.npz") as wanted,
        Segmenter.open(streets_onnx, backend="openvino", precision="bf16") as segmenter,
    ):
        for number in range(6):
            labels = segmenter.segment(read(golden, f"scene_{number}"))
            agreements.append((labels == wanted[f"labels_{number}"]).mean())
    assert np.mean(agreements) >= 0.997

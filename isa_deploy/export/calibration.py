"""What values the tensors of an ONNX graph take on the calibration frames, from running it in ONNX Runtime.

The graph is run in pieces (:mod:`isa_deploy.export.graph_pieces`).  Every tensor becomes a histogram at once, which is
added to those of the frames before, and these stand in a journal (:mod:`isa_deploy.export.calibration_journal`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from isa_deploy.errors import ExportError
from isa_deploy.export.activation_ranges import TensorHistogram, UnusableValuesError, measure, merge
from isa_deploy.export.calibration_frames import CalibrationSet
from isa_deploy.export.calibration_journal import CalibrationJournal
from isa_deploy.export.graph_pieces import GraphPieces
from isa_deploy.files import os_errors

__all__ = ["collect"]

CHUNK_VALUES = 1 << 20
"""What is measured in one go: 4 MiB, which stay in a core's cache between the passes over them."""

SAMPLED_VALUES = 1 << 20
"""Of a tensor with more values a frame, about so many are counted: OpenCV's histogram takes 5 ns a value, everything
else 1 ns.  128 frames give 10 ** 8 values then, of which 1000 are above the percentile 99.999."""

Histograms = dict[str, TensorHistogram]


def collect(
    onnx_path: Path,
    tensors: Sequence[str],
    frames: CalibrationSet,
    journal: Path | None,
    progress: Callable[[int, int], None],
    note: Callable[[str], None] | None = None,
) -> dict[str, TensorHistogram]:
    """A histogram of each of ``tensors`` (float32, computed by the graph) over all frames, by name.

    Of tensors N x C x H x W it has the sums of the channels too.  Extremes and sums are of all values; of more than
    :data:`SAMPLED_VALUES` in a frame, one of k is counted.  Where the graph fixes a batch, it is given that many
    times the same frame.

    Memory: at a time, one frame's wanted tensors of one piece of the graph, what later nodes read of those before, and
    what ONNX Runtime itself needs in between; besides, the weights and 64 KiB a histogram.

    ``journal``: a file that is written whole after each frame, Ctrl-C or not, and gone on with if it is of the same
    graph, tensors and frames; of any other or a broken one ``note`` is told, and it is begun anew.  It is left there.
    ``progress`` is told how many frames are done, and of how many: at the start, and after each.

    Raises :class:`ExportError` where the graph does not compute one of the tensors, or not in float32, or ONNX Runtime
    fails, or values are not finite; :class:`InputError` where a file cannot be read or written, or frames changed; and
    :class:`BackendUnavailableError` where ONNX Runtime is not installed.
    """
    names = tuple(dict.fromkeys(tensors))
    if not names:
        progress(len(frames), len(frames))
        return {}
    with os_errors(onnx_path, "read"):
        data = onnx_path.read_bytes()
    done, histograms = 0, Histograms()
    so_far = None if journal is None else CalibrationJournal(journal, data, names, frames)
    found = None if so_far is None else so_far.read(note)
    if found is not None:
        done, histograms = found
    progress(done, len(frames))
    if done == len(frames):
        return histograms
    with (
        closing(GraphPieces(onnx_path, data, names)) as pieces,
        ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="isa-calibration") as pool,
    ):
        del data
        for frame_hwc in frames.frames(done):
            of_frame = _measured_frame(pieces, frame_hwc, f"{onnx_path}: tensor", frames.names[done], pool)
            histograms = {
                name: merge(histograms[name], of_frame[name]) if histograms else of_frame[name] for name in names
            }
            done += 1
            if so_far is not None:
                so_far.write(done, histograms)
            progress(done, len(frames))
    return histograms


def _measured_frame(
    pieces: GraphPieces, frame_hwc: npt.NDArray[np.uint8], tensor: str, frame_name: str, pool: ThreadPoolExecutor
) -> Histograms:
    """The histograms of one frame, uint8 H x W x 3; ``tensor``: what stands before its name in an error."""
    histograms = Histograms()

    def take(name: str, values: npt.NDArray[Any]) -> None:
        try:
            histograms[name] = _measured(f"{tensor} {name}", values, pool)
        except UnusableValuesError as error:
            raise ExportError(f"{tensor} {name} on {frame_name}: {error}; check the checkpoint in float32") from None

    pieces.run(frame_hwc, take)
    return histograms


def _measured(tensor: str, values: npt.NDArray[Any], pool: ThreadPoolExecutor) -> TensorHistogram:
    if values.dtype != np.float32:
        raise ExportError(f"{tensor} is {values.dtype}; calibrate the float32 graph")
    if not values.size:
        raise ExportError(f"{tensor} is empty; calibrate with larger frames")
    channels = values.shape[1] if values.ndim == 4 else 0
    row = math.prod(values.shape[2:]) if channels else math.prod(values.shape[-1:])
    rows_rn = values.reshape(-1, row)
    step = max(1, CHUNK_VALUES // rows_rn.shape[1])
    # odd: a power of two would always meet the same columns
    stride = max(1, values.size // SAMPLED_VALUES) | 1
    starts = range(0, len(rows_rn), step)
    return _merged(pool.map(lambda start: measure(rows_rn[start : start + step], stride, start, channels), starts))


def _merged(parts: Iterable[TensorHistogram]) -> TensorHistogram:
    merged = None
    for part in parts:
        merged = part if merged is None else merge(merged, part)
    assert merged is not None
    return merged

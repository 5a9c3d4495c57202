"""A proven graph as the yardstick of a plan, where the checkpoint and torch are not at hand."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from isa_deploy.errors import BackendUnavailableError
from isa_deploy.export.answer import ReferenceAnswer
from isa_deploy.runtime.assemble import labels_from_logits, margins_from_logits
from isa_deploy.runtime.onnx_metadata import read_onnx_manifest
from isa_deploy.runtime.segmenter import Segmenter

__all__ = ["GraphAnswers", "check_engines"]

ENGINES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO in float32"}
"""In the order of preference: ONNX Runtime computes a graph in its own types."""


def check_engines(precision: str) -> dict[str, str]:
    """The installed engines that run a graph of a precision on the CPU, with their names in words.

    Raises :class:`BackendUnavailableError` where there is none.
    """
    able = {name: words for name, words in ENGINES.items() if name != "onnxruntime" or precision != "bf16"}
    found = {name: words for name, words in able.items() if importlib.util.find_spec(name) is not None}
    if not found:
        # ONNX Runtime has no bfloat16 convolution on a CPU
        wanted = "OpenVINO; pip install openvino" if precision == "bf16" else "ONNX Runtime; pip install onnxruntime"
        raise BackendUnavailableError(f"a plan is compared with its graph on the CPU, which needs {wanted}")
    return found


class GraphAnswers:
    """A graph's answers on the CPU.  ``name``: in words, for reports.  A context manager."""

    def __init__(self, onnx: Path) -> None:
        """Open the graph with every engine that is installed and needed.

        Raises :class:`BackendUnavailableError` where none is, and as :meth:`Segmenter.open`.
        """
        manifest = read_onnx_manifest(onnx)
        engines = check_engines(manifest.float_type)
        if manifest.precision != "fp32":
            engines = dict(list(engines.items())[:1])  # a second one only tells how exact float32 is
        self._segmenters: list[Segmenter] = []
        try:
            for backend in engines:
                precision = "fp32" if backend == "openvino" else "auto"
                segmenter = Segmenter.open(onnx, backend=backend, device="cpu", precision=precision, resize="none")
                self._segmenters.append(segmenter)
        except BaseException:
            self.close()
            raise
        self.name = f"the graph in {next(iter(engines.values()))}"

    def answer(self, frame_hwc: npt.NDArray[np.uint8], size_hw: tuple[int, int]) -> ReferenceAnswer:
        """See :class:`isa_deploy.export.answer.AnswerSource`."""
        return self._answer(self._segmenters[0], frame_hwc, size_hw)

    def noise(self, frame_hwc: npt.NDArray[np.uint8], size_hw: tuple[int, int]) -> float:
        """See :class:`isa_deploy.export.answer.AnswerSource`; 0 where only one engine is installed."""
        logits = [self._answer(each, frame_hwc, size_hw).logits for each in self._segmenters]
        return max((float(np.abs(other - logits[0]).max()) for other in logits[1:]), default=0.0)

    def close(self) -> None:
        """Give the engines' memory back."""
        for segmenter in self._segmenters:
            segmenter.close()

    def __enter__(self) -> GraphAnswers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @staticmethod
    def _answer(segmenter: Segmenter, frame_hwc: npt.NDArray[np.uint8], size_hw: tuple[int, int]) -> ReferenceAnswer:
        if size_hw != frame_hwc.shape[:2]:
            raise ValueError(f"a frame of {frame_hwc.shape[:2]} is shown at its own size, not at {size_hw}")
        grid = segmenter.logits_grid(frame_hwc)
        margin_hw, confidence_hw = margins_from_logits(grid)
        rows, cols = segmenter.window_counts(size_hw)
        c, height, width = grid.logits_chw.shape
        windows = grid.logits_chw.reshape(c, rows, height // rows, cols, width // cols)
        logits = windows.transpose(1, 3, 0, 2, 4).reshape(rows * cols, c, height // rows, width // cols)
        return ReferenceAnswer(labels_from_logits(grid), margin_hw, confidence_hw, logits)

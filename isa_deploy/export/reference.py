"""What the checkpoint itself answers, in torch float32: the yardstick of every proof.

Written as mmsegmentation's EncoderDecoder is (1.2.2: ``whole_inference``, ``slide_inference``,
``postprocess_result``), with full-size maps and plain sums, and on purpose not with the runtime's
arithmetic, which is to be proven against it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from isa_deploy.export.answer import ReferenceAnswer
from isa_deploy.models.checkpoint import Checkpoint
from isa_deploy.models.isanet import ISANet
from isa_deploy.runtime.preprocess import resize_frame
from isa_deploy.runtime.tiling import slide_grid

__all__ = ["Reference", "normalised"]


def normalised(frame_hwc: npt.NDArray[np.uint8], checkpoint: Checkpoint) -> torch.Tensor:
    """A frame, uint8 H x W x 3 BGR, as the network's input, float32 1 x 3 x H x W.

    mmsegmentation's own order of operations: swap the channels where the model was trained on RGB, then
    (x - mean) / std in float32.
    """
    order = slice(None, None, -1)
    swapped = frame_hwc[:, :, order] if checkpoint.to_rgb else frame_hwc
    mean = np.array(checkpoint.mean_rgb if checkpoint.to_rgb else checkpoint.mean_rgb[order], np.float32)
    std = np.array(checkpoint.std_rgb if checkpoint.to_rgb else checkpoint.std_rgb[order], np.float32)
    image: npt.NDArray[np.float32] = (swapped.astype(np.float32) - mean) / std
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]


@dataclass(frozen=True)
class Reference:
    """A checkpoint's network with everything round it, in torch float32.

    Reads the checkpoint and nothing that the exporter made of it: what the exporter misread would
    otherwise be misread on both sides of the proof.
    """

    network: ISANet
    checkpoint: Checkpoint
    name: str = "the checkpoint in torch"

    def full_logits(
        self, frame_hwc: npt.NDArray[np.uint8], size_hw: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits at the frame's size (1 x C x H x W) and at the head's stride (windows x C x h x w)."""
        image = normalised(resize_frame(frame_hwc, size_hw), self.checkpoint)
        with torch.inference_mode():
            full, logits = self._slide(image) if self.checkpoint.test.mode == "slide" else self._whole(image)
            if size_hw != frame_hwc.shape[:2]:
                full = self._resize(full, (int(frame_hwc.shape[0]), int(frame_hwc.shape[1])))
        return full, logits

    def answer(self, frame_hwc: npt.NDArray[np.uint8], size_hw: tuple[int, int]) -> ReferenceAnswer:
        """The answer for a frame that the network is shown at ``size_hw``."""
        full, logits = self.full_logits(frame_hwc, size_hw)
        labels = full.argmax(1)[0].to(torch.uint8)
        best = full.topk(min(2, full.shape[1]), dim=1).values[0]
        margin = best[0] - best[-1] if best.shape[0] == 2 else torch.full_like(best[0], torch.inf)
        confidence = torch.exp(best[0] - full[0].logsumexp(0))
        return ReferenceAnswer(labels.numpy(), margin.numpy(), confidence.numpy(), logits.numpy())

    def noise(self, frame_hwc: npt.NDArray[np.uint8], size_hw: tuple[int, int]) -> float:
        """How far torch's own float32 kernels differ on this frame: the largest difference of the logits.

        The same network with its tensors laid out channels last, which takes other kernels and so another
        order of summation.  A trained network differs by 1e-5 here, a deep random one by 0.1 and more.
        """
        _, logits = self.full_logits(frame_hwc, size_hw)
        try:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            _, other = self.full_logits(frame_hwc, size_hw)
        finally:
            self.network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        return float((logits - other).abs().max())

    def _resize(self, logits: torch.Tensor, size_hw: tuple[int, int]) -> torch.Tensor:
        return F.interpolate(logits, size=size_hw, mode="bilinear", align_corners=self.network.config.align_corners)

    def _whole(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.network(image)
        return self._resize(logits, (image.shape[2], image.shape[3])), logits

    def _slide(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert self.checkpoint.test.crop_hw is not None
        assert self.checkpoint.test.stride_hw is not None
        height, width = image.shape[2], image.shape[3]
        grid = slide_grid((height, width), self.checkpoint.test.crop_hw, self.checkpoint.test.stride_hw)
        total = image.new_zeros((1, self.network.config.num_classes, height, width))
        count = image.new_zeros((1, 1, height, width))
        kept = []
        for (y0, y1), (x0, x1) in grid.windows():
            logits = self.network(image[:, :, y0:y1, x0:x1])
            kept.append(logits)
            total[:, :, y0:y1, x0:x1] += self._resize(logits, (y1 - y0, x1 - x0))
            count[:, :, y0:y1, x0:x1] += 1
        return total / count, torch.cat(kept)

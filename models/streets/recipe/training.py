"""The optimiser's loop: what is minimised, and how the learning rate goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from streetscenes import VOID
from torch.nn import functional as F

from isa_deploy.models.isanet import ISANet
from recipe.batches import Batch

__all__ = ["Progress", "TrainingConfig", "learning_rate", "segmentation_loss", "train"]


@dataclass(frozen=True)
class TrainingConfig:
    """How the network is fitted.

    ``peak_rate`` of AdamW, reached after ``warm_up`` iterations and let down to 0 as (1 - progress)^0.9;
    ``auxiliary_weight`` of the auxiliary head's loss; ``class_weights`` one a class, or empty for none.
    """

    iterations: int
    peak_rate: float = 5e-3
    warm_up: int = 100
    weight_decay: float = 1e-2
    auxiliary_weight: float = 0.4
    class_weights: tuple[float, ...] = ()


@dataclass(frozen=True)
class Progress:
    """One report: iterations done, the loss averaged since the last report, seconds since the start."""

    iteration: int
    loss: float
    wall_seconds: float
    cpu_seconds: float


def learning_rate(iteration: int, config: TrainingConfig) -> float:
    """Linear warm-up, then mmsegmentation's "poly" policy with power 0.9, down to 0 at ``iterations``."""
    if iteration < config.warm_up:
        return config.peak_rate * (iteration + 1) / config.warm_up
    done = (iteration - config.warm_up) / max(1, config.iterations - config.warm_up)
    return float(config.peak_rate * (1.0 - done) ** 0.9)


def segmentation_loss(
    logits_nchw: torch.Tensor,
    labels_nhw: torch.Tensor,
    stride: int,
    phase_yx: tuple[int, int],
    weight: torch.Tensor | None,
) -> torch.Tensor:
    """Cross entropy over every ``stride``-th row and column of the labels, void left out.

    The logits are resized to just those positions: at the network's stride 8 a loss on each second pixel
    trains as well as one on all of them and costs a quarter.  A cell's centre lies between two pixels;
    ``phase_yx`` (0 or 1 each) says which of them stands for it, and over all four phases nothing shifts.
    """
    first = stride // 2 - 1
    labels = labels_nhw[:, first + phase_yx[0] :: stride, first + phase_yx[1] :: stride]
    logits_nchw = F.interpolate(logits_nchw, size=labels.shape[1:], mode="bilinear", align_corners=False)
    return F.cross_entropy(logits_nchw, labels, weight=weight, ignore_index=VOID)


def train(
    net: ISANet,
    batches: Iterator[Batch],
    config: TrainingConfig,
    report: Callable[[Progress], None],
    report_every: int = 50,
) -> None:
    """Fits ``net`` in place; ``report`` is called every ``report_every`` iterations and after the last."""
    net.train()
    weight = torch.tensor(config.class_weights) if config.class_weights else None
    # Norms, biases and the other vectors are not decayed: it does not regularise them, it shifts them.
    matrices = [p for p in net.parameters() if p.ndim > 1]
    vectors = [p for p in net.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=config.peak_rate)
    started, cpu_started = time.perf_counter(), time.process_time()
    losses: list[float] = []
    for iteration in range(config.iterations):
        images_nchw, labels_nhw = next(batches)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(iteration, config)
        logits, auxiliary = net.forward_train(images_nchw)
        phase_yx = (iteration % 2, iteration // 2 % 2)
        loss = segmentation_loss(logits, labels_nhw, 2, phase_yx, weight)
        if auxiliary is not None:
            loss = loss + config.auxiliary_weight * segmentation_loss(auxiliary, labels_nhw, 8, phase_yx, weight)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()
        losses.append(float(loss.detach()))
        if (iteration + 1) % report_every == 0 or iteration + 1 == config.iterations:
            report(
                Progress(
                    iteration + 1,
                    sum(losses) / len(losses),
                    time.perf_counter() - started,
                    time.process_time() - cpu_started,
                )
            )
            losses = []

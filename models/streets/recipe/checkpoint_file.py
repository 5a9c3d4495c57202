"""The trained network as a file in the layout of mmsegmentation 0.x."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from streetscenes import CLASSES, PALETTE

from isa_deploy.files import replacing
from isa_deploy.models.isanet import ISANet, ISANetConfig
from recipe.batches import MEAN_RGB, STD_RGB
from recipe.training import TrainingConfig

__all__ = ["MMSEG_VERSION", "config_text", "write_checkpoint"]

MMSEG_VERSION = "0.17.0"
"""The version whose file layout this is; nothing of mmsegmentation itself was used."""

Value = bool | int | float | str | None | Sequence["Value"] | Mapping[str, "Value"]


def python_source(value: Value) -> str:
    """A value as the Python expression of an mmsegmentation config: mappings as ``dict(...)``."""
    if isinstance(value, Mapping):
        return "dict(" + ", ".join(f"{name}={python_source(item)}" for name, item in value.items()) + ")"
    if isinstance(value, tuple):
        return "(" + ", ".join(python_source(item) for item in value) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, list):
        return "[" + ", ".join(python_source(item) for item in value) + "]"
    return repr(value)


def config_text(net: ISANetConfig, training: TrainingConfig, size_hw: tuple[int, int]) -> str:
    """The config of the network, its training and its test, in the syntax of mmsegmentation 0.x.

    One assignment a line, so that a reader without mmcv can take it apart with ``ast``.
    ``size_hw``: the height and width in pixels of training crops and of the test scale.
    """
    height, width = size_hw
    norm_cfg: Value = {"type": "BN", "requires_grad": True}
    img_norm_cfg: dict[str, Value] = {"mean": list(MEAN_RGB), "std": list(STD_RGB), "to_rgb": True}

    def loss(weight: float) -> dict[str, Value]:
        out: dict[str, Value] = {"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": weight}
        if training.class_weights:
            out["class_weight"] = [round(w, 4) for w in training.class_weights]
        return out

    head: dict[str, Value] = {
        "num_classes": net.num_classes,
        "norm_cfg": norm_cfg,
        "dropout_ratio": net.dropout,
        "align_corners": net.align_corners,
    }
    model: dict[str, Value] = {
        "type": "EncoderDecoder",
        "pretrained": None,
        "backbone": {
            "type": "ResNetV1c",
            "depth": net.backbone.depth,
            "stem_channels": net.backbone.stem_channels,
            "base_channels": net.backbone.base_channels,
            "num_stages": 4,
            "out_indices": (0, 1, 2, 3),
            "strides": net.backbone.strides,
            "dilations": net.backbone.dilations,
            "contract_dilation": net.backbone.contract_dilation,
            "norm_cfg": norm_cfg,
            "norm_eval": False,
            "style": "pytorch",
        },
        "decode_head": {
            "type": "ISAHead",
            "in_channels": net.backbone.stage_channels(3),
            "in_index": 3,
            "channels": net.channels,
            "isa_channels": net.isa_channels,
            "down_factor": net.down_factor,
            **head,
            "loss_decode": loss(1.0),
        },
    }
    if net.auxiliary is not None:
        model["auxiliary_head"] = {
            "type": "FCNHead",
            "in_channels": net.backbone.stage_channels(2),
            "in_index": 2,
            "channels": net.auxiliary.channels,
            "num_convs": 1,
            "concat_input": False,
            **head,
            "loss_decode": loss(training.auxiliary_weight),
        }
    model |= {"train_cfg": {}, "test_cfg": {"mode": "whole"}}
    test_pipeline: list[Value] = [
        {"type": "LoadImageFromFile"},
        {
            "type": "MultiScaleFlipAug",
            "img_scale": (width, height),
            "flip": False,
            "transforms": [
                {"type": "Resize", "keep_ratio": True},
                {"type": "RandomFlip"},
                {"type": "Normalize", **img_norm_cfg},
                {"type": "ImageToTensor", "keys": ["img"]},
                {"type": "Collect", "keys": ["img"]},
            ],
        },
    ]
    entries: dict[str, Value] = {
        "norm_cfg": norm_cfg,
        "model": model,
        "dataset_type": "CityscapesDataset",
        "img_norm_cfg": img_norm_cfg,
        "crop_size": (height, width),
        "test_pipeline": test_pipeline,
        "data": {"test": {"type": "CityscapesDataset", "pipeline": test_pipeline}},
        "optimizer": {"type": "AdamW", "lr": training.peak_rate, "weight_decay": training.weight_decay},
        "lr_config": {
            "policy": "poly",
            "power": 0.9,
            "min_lr": 0.0,
            "by_epoch": False,
            "warmup": "linear",
            "warmup_iters": training.warm_up,
        },
        "runner": {"type": "IterBasedRunner", "max_iters": training.iterations},
    }
    return "".join(f"{name} = {python_source(value)}\n" for name, value in entries.items())


def write_checkpoint(path: Path, net: ISANet, training: TrainingConfig, size_hw: tuple[int, int]) -> str:
    """Writes ``net`` with both heads to ``path``, whole or not at all, and returns the file's SHA-256.
    Raises :class:`InputError` where it cannot be written.

    The same weights give the same bytes: nothing of the machine or the hour is in the file.  Only tensors
    and plain values are, so that ``torch.load(weights_only=True)`` reads it.
    """
    checkpoint = {
        "meta": {
            "mmseg_version": MMSEG_VERSION,
            "config": config_text(net.config, training, size_hw),
            "CLASSES": list(CLASSES),
            "PALETTE": [list(colour) for colour in PALETTE],
            "epoch": 1,
            "iter": training.iterations,
        },
        "state_dict": OrderedDict((name, tensor.detach().clone()) for name, tensor in net.state_dict().items()),
    }
    # Through a file object, because torch names the archive after a path that it is given.
    with replacing(path) as temporary, temporary.open("wb") as file:
        torch.save(checkpoint, file)
    return hashlib.sha256(path.read_bytes()).hexdigest()

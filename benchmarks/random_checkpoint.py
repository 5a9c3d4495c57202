"""Writes an ISANet checkpoint with random weights, in mmsegmentation's layout, for timing full-size networks.

    python benchmarks/random_checkpoint.py --depth 50 --out r50_random.pth

The weights say nothing about accuracy: low precision on random weights loses labels that a trained network
keeps.  Batch norms get the statistics of a few drawn street scenes, and so do the logits, so that activations stay in
range and all classes occur.
"""

from __future__ import annotations

import argparse
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import nn

from isa_deploy.export.proof_frames import bundled_frames
from isa_deploy.models.isanet import ISANet, ISANetConfig
from isa_deploy.models.resnet import BackboneConfig
from isa_deploy.runtime.datasets import dataset_palette


def street_crops() -> torch.Tensor:
    """Crops of the bundled street scenes, normalised: float32 N x 3 x 257 x 385."""
    crops = [frame[y : y + 257, x : x + 385] for _, frame in bundled_frames() for y, x in ((0, 0), (100, 200))]
    stack = np.stack(crops)[..., ::-1].astype(np.float32)
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    return torch.from_numpy(((stack - mean) / std).astype(np.float32).transpose(0, 3, 1, 2).copy())


def random_network(depth: int, width: int, seed: int) -> ISANet:
    """An ISANet of standard proportions whose batch norms have seen a few pictures."""
    torch.manual_seed(seed)
    network = ISANet(ISANetConfig(19, BackboneConfig(depth, width, width), width * 8, width * 4))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a plain average over what is seen
    pictures = street_crops()
    network.train()
    with torch.no_grad():
        network(pictures)
    network.eval()
    classifier = network.decode_head.conv_seg
    nn.init.normal_(classifier.weight, std=0.5)
    with torch.no_grad():
        # without this one class has the largest mean and wins everywhere, and a proof on labels proves nothing
        logits = network(pictures)
        deviation = logits.std(dim=(0, 2, 3))
        classifier.weight /= deviation[:, None, None, None]
        assert classifier.bias is not None
        classifier.bias.copy_((classifier.bias - logits.mean(dim=(0, 2, 3))) / deviation)
    return network


def config_text(depth: int, width: int) -> str:
    """The part of an mmsegmentation 0.x config that inference reads."""
    return f"""img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
model = dict(
    type='EncoderDecoder',
    backbone=dict(type='ResNetV1c', depth={depth}, num_stages=4, out_indices=(0, 1, 2, 3), dilations=(1, 1, 2, 4),
        strides=(1, 2, 1, 1), norm_cfg=dict(type='SyncBN', requires_grad=True), norm_eval=False, style='pytorch',
        contract_dilation=True, base_channels={width}, stem_channels={width}),
    decode_head=dict(type='ISAHead', in_channels={width * (32 if depth >= 50 else 8)}, in_index=3, channels={width * 8},
        isa_channels={width * 4}, down_factor=(8, 8), dropout_ratio=0.1, num_classes=19,
        norm_cfg=dict(type='SyncBN', requires_grad=True), align_corners=False),
    test_cfg=dict(mode='whole'))
dataset_type = 'CityscapesDataset'
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='MultiScaleFlipAug', img_scale=(2048, 1024), flip=False, transforms=[
        dict(type='Resize', keep_ratio=True), dict(type='RandomFlip'),
        dict(type='Normalize', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True),
        dict(type='ImageToTensor', keys=['img']), dict(type='Collect', keys=['img'])])]
"""


def write(path: Path, depth: int, width: int, seed: int) -> None:
    """Write the checkpoint."""
    palette = dataset_palette("CityscapesDataset")
    assert palette is not None
    meta = {
        "mmseg_version": "0.30.0",
        "config": config_text(depth, width),
        "CLASSES": palette.names,
        "PALETTE": [list(colour) for colour in palette.palette_rgb],
    }
    state = OrderedDict(random_network(depth, width, seed).state_dict())
    torch.save({"meta": meta, "state_dict": state}, path)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, choices=(18, 34, 50, 101), default=50)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    write(arguments.out, arguments.depth, arguments.width, arguments.seed)


if __name__ == "__main__":
    main()

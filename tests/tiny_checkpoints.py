"""The smallest ISANet there is (depth 18, one channel wide) and checkpoints of it, for tests of the readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from isa_deploy.models.isanet import AuxiliaryConfig, ISANet, ISANetConfig
from isa_deploy.models.resnet import BackboneConfig

TINY = ISANetConfig(
    num_classes=3,
    backbone=BackboneConfig(depth=18, stem_channels=2, base_channels=1),
    channels=2,
    isa_channels=1,
    auxiliary=AuxiliaryConfig(channels=2),
)

CONFIG_0X = """
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    pretrained='open-mmlab://resnet18_v1c',
    backbone=dict(
        type='ResNetV1c', depth=18, num_stages=4, out_indices=(0, 1, 2, 3), dilations=(1, 1, 2, 4),
        strides=(1, 2, 1, 1), norm_cfg=norm_cfg, norm_eval=False, style='pytorch', contract_dilation=True,
        stem_channels=2, base_channels=1),
    decode_head=dict(
        type='ISAHead', in_channels=8, in_index=3, channels=2, isa_channels=1, down_factor=(8, 8),
        dropout_ratio=0.1, num_classes=3, norm_cfg=norm_cfg, align_corners=False),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
dataset_type = 'CityscapesDataset'
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='MultiScaleFlipAug', img_scale=(2048, 1024), flip=False,
        transforms=[
            dict(type='Resize', keep_ratio=True), dict(type='RandomFlip'), dict(type='Normalize', **img_norm_cfg),
            dict(type='ImageToTensor', keys=['img']), dict(type='Collect', keys=['img'])])]
data = dict(samples_per_gpu=2, test=dict(type=dataset_type, data_root='data/', pipeline=test_pipeline))
"""

CLASSES = ("road", "sky", "car")
PALETTE = [[128, 64, 128], [70, 130, 180], [0, 0, 142]]


def tiny_state(seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights, auxiliary head and batch norm counters included."""
    torch.manual_seed(seed)
    return dict(ISANet(TINY).state_dict())


def tiny_0x(config: str = CONFIG_0X, state: dict[str, Any] | None = None) -> dict[str, Any]:
    """A whole 0.x checkpoint."""
    meta = {"mmseg_version": "0.18.0", "config": config, "CLASSES": CLASSES, "PALETTE": PALETTE}
    return {"meta": meta, "state_dict": tiny_state() if state is None else state}


def save(content: Any, path: Path, **options: Any) -> Path:
    """torch.save, and the path it went to."""
    torch.save(content, path, **options)
    return path

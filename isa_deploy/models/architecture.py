"""What network a state dict belongs to, told from its keys and shapes alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from isa_deploy.errors import CheckpointError
from isa_deploy.models.pickle_names import printable
from isa_deploy.models.resnet import STAGE_BLOCKS

__all__ = ["NetworkShape", "common_prefix", "dropped_reason", "infer_shape", "name_keys"]

MAX_WIDTH = 16384
MAX_CLASSES = 256
"""A label is one byte."""

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class NetworkShape:
    """What the weights' shapes tell of an ISANet."""

    depth: int
    stem_channels: int
    base_channels: int
    channels: int
    isa_channels: int
    num_classes: int


# What wraps a model puts its own name before every key: torch's DataParallel and AveragedModel ("module."),
# torch.compile ("_orig_mod."), Lightning and others ("model.").
_WRAPPER = re.compile(r"(?:(?:module|model|_orig_mod|segmentor|net)\.)+")
_COUNTERS = frozenset(("n_averaged", "steps"))


def common_prefix(keys: Iterable[str]) -> str:
    """The wrappers' names that stand before every key (averaging's counters aside), or ""."""
    prefix: str | None = None
    for key in keys:
        if key.rpartition(".")[2] in _COUNTERS:
            continue
        match = _WRAPPER.match(key)
        found = match.group() if match else ""
        if prefix is None or prefix.startswith(found):
            prefix = found
        elif not found.startswith(prefix):
            return ""
    return prefix or ""


def dropped_reason(key: str) -> str | None:
    """Why inference has no use for a weight (its prefix already gone), or None for one that belongs.

    mmcv's EMAHook keeps its averages as buffers ``ema_backbone_stem_0_weight`` beside the weights that it
    swaps them into; mmsegmentation tests with the plain names, and so do we.
    """
    if key.startswith("auxiliary_head."):
        return "auxiliary head"
    if key.startswith("ema_"):
        return "averages of mmcv's EMAHook"
    if key.startswith(("data_preprocessor.", "decode_head.loss_decode.", "decode_head.sampler.")):
        return "part of training or of the config"
    if key in _COUNTERS or key.endswith(".num_batches_tracked"):
        return "counter"
    return None


def name_keys(keys: Iterable[str], limit: int = 4) -> str:
    """The first few keys in order, and how many more there are."""
    ordered = sorted(keys)
    more = f" and {len(ordered) - limit} more" if len(ordered) > limit else ""
    return ", ".join(printable(key) for key in ordered[:limit]) + more


def infer_shape(shapes: Shapes, origin: str) -> NetworkShape:
    """The network's depth and widths.

    ``shapes`` are those of all weights by key, without wrappers' prefixes.  Raises :class:`CheckpointError`
    where the keys are those of another architecture (named if it is a known one), where a weight that tells
    a width is missing, and where the depth is none of :data:`STAGE_BLOCKS`.
    """
    foreign = _foreign(shapes)
    if foreign is not None:
        raise CheckpointError(
            f"{origin}: is no ISANet but {foreign}; isa-deploy exports mmsegmentation's ISANet on ResNetV1c"
        )
    shape = NetworkShape(
        depth=_depth(shapes, origin),
        stem_channels=_width(shapes, "backbone.stem.6.weight", origin),
        base_channels=_width(shapes, "backbone.layer1.0.conv1.weight", origin),
        channels=_width(shapes, "decode_head.in_conv.conv.weight", origin),
        isa_channels=_width(shapes, "decode_head.global_relation.query_project.0.conv.weight", origin),
        num_classes=_width(shapes, "decode_head.conv_seg.weight", origin),
    )
    if shape.num_classes == 1:
        raise CheckpointError(
            f"{origin}: decode_head.conv_seg has 1 output: a binary head with a threshold (out_channels=1), which is "
            "not supported; train with num_classes=2 and without out_channels"
        )
    if shape.num_classes > MAX_CLASSES:
        raise CheckpointError(f"{origin}: has {shape.num_classes} classes, and a label of one byte holds {MAX_CLASSES}")
    return shape


def _depth(shapes: Shapes, origin: str) -> int:
    blocks = [0, 0, 0, 0]
    for key in shapes:
        match = re.match(r"backbone\.layer([1-4])\.(\d{1,3})\.", key)
        if match:
            stage = int(match[1]) - 1
            blocks[stage] = max(blocks[stage], int(match[2]) + 1)
    bottleneck = "backbone.layer1.0.conv3.weight" in shapes
    for depth, known in STAGE_BLOCKS.items():
        if list(known) == blocks and bottleneck == (depth >= 50):
            return depth
    kind = "bottleneck" if bottleneck else "basic"
    raise CheckpointError(
        f"{origin}: the backbone's stages have {', '.join(map(str, blocks))} {kind} blocks, which is none of the "
        f"depths {', '.join(map(str, STAGE_BLOCKS))}"
    )


def _width(shapes: Shapes, key: str, origin: str) -> int:
    """Output channels of a convolution."""
    shape = shapes.get(key)
    if shape is None:
        raise CheckpointError(f"{origin}: the weight {key} is missing; the state dict is incomplete")
    if len(shape) != 4 or not 1 <= shape[0] <= MAX_WIDTH:
        raise CheckpointError(f"{origin}: the weight {key} has the shape {shape}, which is no convolution's here")
    return shape[0]


# ---------------------------------------------------------------------------------------------------------
# Other architectures

_ISA_HEAD = re.compile(r"decode_head\.(global_relation|local_relation)\.")

# The first pattern that matches a key names the file.  Heads before backbones: a PSPNet on a Swin is a PSPNet.
_KNOWN = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (
            r"isa_head\.|.*\.(long|short)_range_sa\.",
            "the ISANet of openseg.pytorch, which differs (no bias on the value, another stem, leaky ReLU, BGR "
            "normalisation); its weights cannot be converted without training",
        ),
        (r"decode_head\.\d+\.", "a cascade of heads (OCRNet, PointRend)"),
        (r"decode_head\.(lateral_convs|fpn_convs|fpn_bottleneck)\.", "UPerNet"),
        (r"decode_head\.psp_modules\.", "PSPNet"),
        (r"decode_head\.c1_bottleneck\.", "DeepLabV3+"),
        (r"decode_head\.(aspp_modules|image_pool)\.", "DeepLabV3"),
        (r"decode_head\.(object_context_block|spatial_gather_module)\.", "OCRNet"),
        (r"decode_head\.(fusion_conv|linear_fuse)\.", "SegFormer"),
        (r"decode_head\.(pixel_decoder|transformer_decoder|query_embed)\.?", "a Mask2Former or MaskFormer"),
        (r"decode_head\.cca\.", "CCNet"),
        (r"decode_head\.nl_block\.", "a non-local network"),
        (r"decode_head\.gc_block\.", "GCNet"),
        (r"decode_head\.(pam|cam)\.?_?", "DANet"),
        (r"decode_head\.ema_module\.", "EMANet"),
        (r"decode_head\.enc_module\.", "EncNet"),
        (r"decode_head\.dcm_modules\.", "DMNet"),
        (r"decode_head\.acm_modules\.", "APCNet"),
        (r"decode_head\.(attention|attention_p)\.", "PSANet"),
        (r"decode_head\.(fusion|context|query_project|key_project)\.", "ANN (asymmetric non-local)"),
        (r"decode_head\.(convs|conv_cat)\.", "FCN"),
        (r"(roi_head|rpn_head|bbox_head|mask_head)\.", "a detector of MMDetection"),
        (r"keypoint_head\.", "a pose estimator of MMPose"),
        (r"(transformer\.|class_embed\.|bbox_embed\.)", "a DETR detector"),
        (r"\d+\.(conv|cv\d|m)\.|\d+\.(m|cv\d)\.\d+\.", "a YOLO detector"),
        (r"classifier\.(\d|low|high|cbr)|aux_classifier\.", "a segmentation network of torchvision"),
        (r"(head\.)?fc\.weight$", "an image classifier"),
        (r"encoder\.|decoder\.|segmentation_head\.", "an encoder-decoder of another library"),
    )
)


def _foreign(shapes: Shapes) -> str | None:
    """What the keys belong to, or None where they are an ISANet's on a deep-stem ResNet."""
    if any(_ISA_HEAD.match(key) for key in shapes):
        return _foreign_backbone(shapes)
    for pattern, name in _KNOWN:
        if any(pattern.match(key) for key in shapes):
            return name
    if any(key.startswith("backbone.") for key in shapes) and not any(key.startswith("decode_head.") for key in shapes):
        return "a backbone without a segmentation head"
    if any(re.match(r"(stem\.0|conv1|layer1\.0\.conv1)\.weight$", key) for key in shapes):
        return "a backbone's weights (a pretrained ResNet) without a segmentation head"
    first = sorted({printable(key.partition(".")[0], 40) for key in shapes})
    return f"something unknown, with keys that begin with {', '.join(first[:5]) or 'nothing'}"


def _foreign_backbone(shapes: Shapes) -> str | None:
    """The backbone of a state dict with an ISA head, where it is not a ResNetV1c."""
    if "backbone.conv1.weight" in shapes:
        return "an ISA head on a ResNet with a plain 7x7 stem"
    if any(re.match(r"backbone\.layer\d\.\d+\.downsample\.2\.", key) for key in shapes):
        return "an ISA head on ResNetV1d (average pooling before the projections, avg_down)"
    if any(re.match(r"backbone\.layer\d\.\d+\.conv2\.conv_offset", key) for key in shapes):
        return "an ISA head on a ResNet with deformable convolutions (dcn)"
    if any(re.match(r"backbone\.layer\d\.\d+\.conv2\.(fc|conv)\d?\.", key) for key in shapes):
        return "an ISA head on ResNeSt"
    for pattern, name in (
        (r"backbone\.(transition1|stage2)\.", "HRNet"),
        (r"backbone\.stages\.\d+\.blocks\.\d+\.attn\.", "a Swin transformer"),
        (r"backbone\.layers\.\d+\.(attn|ln1)\.", "a vision transformer"),
        (r"backbone\.layer\d\.\d+\.conv\.", "MobileNetV2"),
        (r"backbone\.(stages|downsample_layers)\.", "ConvNeXt or another staged network"),
    ):
        if any(re.match(pattern, key) for key in shapes):
            return f"an ISA head on {name}"
    if not any(key.startswith("backbone.stem.") for key in shapes):
        return "an ISA head on another backbone than ResNetV1c"
    return None

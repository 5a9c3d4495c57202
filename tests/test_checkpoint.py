"""Reading checkpoints: what mmsegmentation computes with them, what they say, and what is wrong with bad ones."""

from __future__ import annotations

import hashlib
import math
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tiny_checkpoints import CLASSES, CONFIG_0X, PALETTE, save, tiny_0x, tiny_state

from isa_deploy.errors import CheckpointError
from isa_deploy.models import checkpoint as checkpoint_module
from isa_deploy.models.architecture import common_prefix, infer_shape
from isa_deploy.models.cards import load_cards
from isa_deploy.models.checkpoint import Checkpoint, TestSettings, build_network, read_checkpoint
from isa_deploy.models.isa import ISAHead
from isa_deploy.models.isanet import ISANet, ISANetConfig
from isa_deploy.models.resnet import BackboneConfig
from isa_deploy.models.torch_file import open_torch_file
from isa_deploy.models.weights import load_weights

TOLERANCE = 1e-3  # on logits, float32 against float32: tests/golden/README.md


def normalised(picture_bgr: np.ndarray, checkpoint: Checkpoint) -> torch.Tensor:
    """uint8 H x W x 3 to float32 1 x 3 x H x W, as the golden data's index says."""
    mean, std = np.float32(checkpoint.mean_rgb), np.float32(checkpoint.std_rgb)
    image_hwc = (picture_bgr[..., ::-1].astype(np.float32) - mean) / std
    return torch.from_numpy(image_hwc.transpose(2, 0, 1).copy())[None]


@torch.inference_mode()
def logits(network: ISANet, image: torch.Tensor) -> np.ndarray:
    return np.asarray(network(image)[0])


MODEL_CASES = [
    ("tiny_r50_whole", "tiny_r50_whole_0x.pth"),
    ("tiny_r50_whole", "tiny_r50_whole_1x.pth"),
    ("tiny_r50_slide", "tiny_r50_slide_0x_legacy.pth"),
    ("tiny_r101_ade", "tiny_r101_ade_1x.pth"),
]


class TestAgainstMmsegmentation:
    @pytest.mark.parametrize(("case", "file"), MODEL_CASES)
    def test_logits_of_every_golden_model(self, golden: Path, golden_index: Any, case: str, file: str) -> None:
        checkpoint = read_checkpoint(golden / file)
        network = build_network(checkpoint)
        assert not network.training
        expected = np.load(golden / f"{case}.npz")
        record = next(item for item in golden_index["cases"] if item["name"] == case)
        for k, item in enumerate(record["inputs"]):
            image = normalised(cv2.imread(str(golden / item["input"])), checkpoint)
            if f"windows_{k}" in expected:
                boxes = expected[f"windows_{k}"]
                found = np.stack([logits(network, image[..., y1:y2, x1:x2]) for y1, x1, y2, x2 in boxes])
            else:
                found = logits(network, image)
            assert np.abs(found - expected[f"logits_low_{k}"]).max() < TOLERANCE

    def test_logits_of_the_trained_model(self, golden: Path) -> None:
        checkpoint = read_checkpoint(golden / "isanet_r18w16_streets.pth")
        network = build_network(checkpoint)
        expected = np.load(golden / "streets.npz")
        for k in range(2):
            image = normalised(cv2.imread(str(golden / f"scene_{k}.png")), checkpoint)
            assert np.abs(logits(network, image) - expected[f"logits_low_{k}"]).max() < TOLERANCE

    @pytest.mark.parametrize("size", ["8x16", "9x13", "17x33"])
    def test_the_attention_block_alone(self, golden: Path, size: str) -> None:
        data = np.load(golden / "isa_block.npz")
        head = ISAHead(24, 32, 16, 7).eval()
        weights = {
            key.removeprefix("weight/"): torch.from_numpy(data[key]) for key in data if key.startswith("weight/")
        }
        head.load_state_dict(weights)
        with torch.inference_mode():
            x = torch.from_numpy(data[f"x_{size}"])
            context = head.interlace(x, head.global_relation, head.local_relation)
            found = head(torch.from_numpy(data[f"feat_{size}"]))
        assert np.abs(np.asarray(context) - data[f"isa_{size}"]).max() < TOLERANCE
        assert np.abs(np.asarray(found) - data[f"logits_{size}"]).max() < TOLERANCE

    @pytest.mark.parametrize(("case", "file"), [*MODEL_CASES, ("streets", "isanet_r18w16_streets.pth")])
    def test_everything_the_index_says_is_inferred(self, golden: Path, golden_index: Any, case: str, file: str) -> None:
        checkpoint = read_checkpoint(golden / file)
        record = next(item for item in golden_index["cases"] if item["name"] == case)
        config, test = checkpoint.config, checkpoint.test
        for name in ("depth", "base_channels", "stem_channels"):
            assert getattr(config.backbone, name) == record[name]
        for name in ("channels", "isa_channels", "num_classes", "align_corners"):
            assert getattr(config, name) == record[name]
        assert config.down_factor == tuple(record["down_factor"])
        assert config.auxiliary is None
        assert test.mode == record["mode"]
        assert test.crop_hw == (None if record["crop_size"] is None else tuple(record["crop_size"]))
        assert test.stride_hw == (None if record["stride"] is None else tuple(record["stride"]))
        preprocessing = record["preprocessing"]
        assert checkpoint.mean_rgb == tuple(preprocessing["mean"])
        assert checkpoint.std_rgb == tuple(preprocessing["std"])
        assert checkpoint.to_rgb is preprocessing["to_rgb"]
        assert len(checkpoint.classes) == len(checkpoint.palette) == record["num_classes"]
        assert checkpoint.sha256 == hashlib.sha256((golden / file).read_bytes()).hexdigest()
        assert checkpoint.assumptions == ()
        assert checkpoint.card is None
        assert all(key.startswith("auxiliary_head.") for key in checkpoint.dropped)
        assert checkpoint.dropped

    def test_what_only_the_files_say(self, golden: Path) -> None:
        ade = read_checkpoint(golden / "tiny_r101_ade_1x.pth")
        assert (ade.layout, ade.dataset, ade.test.scale_wh) == ("mmseg-1.x", "ADE20KDataset", (2048, 512))
        assert ade.classes[:3] == ("wall", "building", "sky")
        assert all(name == name.strip() for name in ade.classes)
        slide = read_checkpoint(golden / "tiny_r50_slide_0x_legacy.pth")
        assert (slide.layout, slide.dataset) == ("mmseg-0.x", "CityscapesDataset")
        assert slide.test == TestSettings("slide", (97, 97), (65, 65), (2049, 1025), True)
        assert slide.palette[0] == (128, 64, 128)

    def test_0x_and_1x_of_one_model_are_equal(self, golden: Path) -> None:
        old = read_checkpoint(golden / "tiny_r50_whole_0x.pth")
        new = read_checkpoint(golden / "tiny_r50_whole_1x.pth")
        for name in ("config", "classes", "palette", "test", "mean_rgb", "std_rgb", "to_rgb", "dataset", "dropped"):
            assert getattr(old, name) == getattr(new, name)
        assert (old.layout, new.layout) == ("mmseg-0.x", "mmseg-1.x")
        assert old.state_dict.keys() == new.state_dict.keys()
        assert all(torch.equal(old.state_dict[key], new.state_dict[key]) for key in old.state_dict)


def read(content: Any, folder: Path, name: str = "file.pth", **options: Any) -> Checkpoint:
    return read_checkpoint(save(content, folder / name), **options)


def refuse(content: Any, folder: Path, pattern: str) -> None:
    """Reading must fail with one line that matches."""
    with pytest.raises(CheckpointError, match=pattern) as error:
        read(content, folder)
    assert "\n" not in str(error.value)


def with_config(old: str, new: str) -> dict[str, Any]:
    assert old in CONFIG_0X
    return tiny_0x(CONFIG_0X.replace(old, new))


def same_weights(checkpoint: Checkpoint, state: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, state[key]) for key, value in checkpoint.state_dict.items())


class TestStateDicts:
    def test_a_bare_state_dict_says_what_was_assumed(self, tmp_path: Path) -> None:
        checkpoint = read(tiny_state(), tmp_path)
        assert (checkpoint.layout, checkpoint.dataset, checkpoint.palette) == ("state_dict", None, ())
        assert checkpoint.classes == ("class_0", "class_1", "class_2")
        assert checkpoint.config.backbone.dilations == (1, 1, 2, 4)
        text = " ".join(checkpoint.assumptions)
        for word in (
            "dilations",
            "down_factor (8, 8)",
            "align_corners False",
            "whole",
            "Normalisation",
            "class_0",
            "size",
        ):
            assert word in text
        assert all(sentence.endswith(".") for sentence in checkpoint.assumptions)

    @pytest.mark.parametrize("prefix", ["module.", "model.", "module.model.", "_orig_mod.module."])
    @pytest.mark.parametrize("layout", ["bare", "0x"])
    def test_wrappers_prefixes(self, tmp_path: Path, prefix: str, layout: str) -> None:
        state = tiny_state()
        wrapped: Any = {prefix + key: value for key, value in state.items()}
        checkpoint = read(wrapped if layout == "bare" else tiny_0x(state=wrapped), tmp_path)
        assert same_weights(checkpoint, state)
        assert all(key.startswith("auxiliary_head.") for key in checkpoint.dropped)

    @pytest.mark.parametrize(
        ("keys", "prefix"),
        [
            (["module.a", "module.model.b"], "module."),
            (["module.model.b", "module.a"], "module."),
            (["module.a", "model.b"], ""),
            (["module.a", "b.module.c"], ""),
            (["module.a", "module.b", "n_averaged"], "module."),
            ([], ""),
        ],
    )
    def test_a_prefix_must_stand_before_every_key(self, keys: list[str], prefix: str) -> None:
        assert common_prefix(keys) == prefix

    @pytest.mark.parametrize("counter", ["n_averaged", "steps"])
    def test_an_averaged_models_own_state_dict(self, tmp_path: Path, counter: str) -> None:
        state = tiny_state()
        averaged = {counter: torch.tensor(7), **{f"module.{key}": value for key, value in state.items()}}
        checkpoint = read(averaged, tmp_path)
        assert same_weights(checkpoint, state)
        assert counter in checkpoint.dropped

    def test_mmengines_averages_are_in_the_state_dict_and_the_raw_weights_beside_it(self, tmp_path: Path) -> None:
        state = tiny_state()
        raw = {"steps": torch.tensor(1), **{f"module.{key}": value + 1 for key, value in state.items()}}
        assert same_weights(read({**tiny_0x(state=state), "ema_state_dict": raw}, tmp_path), state)

    def test_mmcvs_ema_buffers_are_dropped(self, tmp_path: Path) -> None:
        state = tiny_state()
        buffers = {f"ema_{key.replace('.', '_')}": value + 1 for key, value in state.items()}
        checkpoint = read(tiny_0x(state={**state, **buffers}), tmp_path)
        assert same_weights(checkpoint, state)
        assert "ema_backbone_stem_0_weight" in checkpoint.dropped

    @pytest.mark.parametrize("key", ["model", "model_state_dict", "net"])
    def test_other_names_for_the_state_dict(self, tmp_path: Path, key: str) -> None:
        state = tiny_state()
        assert same_weights(read({key: state, "epoch": 3}, tmp_path), state)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_other_float_types_become_float32(self, tmp_path: Path, dtype: torch.dtype) -> None:
        state = {key: value.to(dtype) if value.is_floating_point() else value for key, value in tiny_state().items()}
        checkpoint = read(state, tmp_path)
        assert all(value.dtype == torch.float32 for value in checkpoint.state_dict.values())
        assert all(torch.equal(value, state[key].float()) for key, value in checkpoint.state_dict.items())

    def test_without_counters_and_auxiliary_head(self, tmp_path: Path) -> None:
        state = {
            key: value for key, value in tiny_state().items() if "auxiliary" not in key and "num_batches" not in key
        }
        assert read(state, tmp_path).dropped == ()

    def test_a_network_that_is_not_the_published_one(self, tmp_path: Path) -> None:
        backbone = BackboneConfig(34, 6, 2, strides=(1, 1, 1, 1), dilations=(1, 2, 2, 2), contract_dilation=False)
        config = ISANetConfig(5, backbone, channels=3, isa_channels=2, down_factor=(4, 2), align_corners=True)
        text = CONFIG_0X
        for old, new in (
            ("depth=18", "depth=34"),
            ("strides=(1, 2, 1, 1)", "strides=(1, 1, 1, 1)"),
            ("dilations=(1, 1, 2, 4)", "dilations=(1, 2, 2, 2)"),
            ("contract_dilation=True", "contract_dilation=False"),
            ("stem_channels=2, base_channels=1", "stem_channels=6, base_channels=2"),
            ("in_channels=8", "in_channels=16"),
            (" channels=2, isa_channels=1", " channels=3, isa_channels=2"),
            ("down_factor=(8, 8)", "down_factor=[4, 2]"),
            ("num_classes=3", "num_classes=5"),
            ("align_corners=False", "align_corners=True"),
        ):
            assert old in text
            text = text.replace(old, new)
        network = ISANet(config).eval()
        checkpoint = read(tiny_0x(text, dict(network.state_dict())), tmp_path)
        assert checkpoint.config == config
        image = torch.randn(1, 3, 33, 41)
        assert np.array_equal(logits(build_network(checkpoint), image), logits(network, image))

    def test_left_out_values_have_mmsegmentations_defaults_and_not_the_published_ones(self, tmp_path: Path) -> None:
        text = CONFIG_0X
        for part in (
            "dilations=(1, 1, 2, 4),",
            "strides=(1, 2, 1, 1), ",
            ", contract_dilation=True",
            "in_index=3, ",
            "down_factor=(8, 8),",
            ", align_corners=False",
        ):
            assert part in text
            text = text.replace(part, "")
        checkpoint = read(tiny_0x(text), tmp_path)
        backbone = checkpoint.config.backbone
        assert (backbone.strides, backbone.dilations, backbone.contract_dilation) == ((1, 2, 2, 2), (1, 1, 1, 1), False)
        assert (checkpoint.config.down_factor, checkpoint.config.align_corners) == ((8, 8), False)
        assert checkpoint.assumptions == ()


class TestBrokenStateDicts:
    def test_left_over_keys_are_named_and_counted(self, tmp_path: Path) -> None:
        extra = {f"neck.conv{i}.weight": torch.zeros(1) for i in range(6)}
        refuse(
            {**tiny_state(), **extra},
            tmp_path,
            "has neck.conv0.weight, neck.conv1.weight, neck.conv2.weight, neck.conv3.weight and 2 more, which no",
        )

    def test_missing_keys_are_named(self, tmp_path: Path) -> None:
        state = tiny_state()
        del state["decode_head.out_conv.bn.bias"], state["backbone.layer3.1.bn2.running_mean"]
        refuse(state, tmp_path, "lacks backbone.layer3.1.bn2.running_mean, decode_head.out_conv.bn.bias;")

    @pytest.mark.parametrize(
        "key", ["decode_head.conv_seg.weight", "decode_head.in_conv.conv.weight", "backbone.stem.6.weight"]
    )
    def test_missing_keys_that_tell_a_width_are_named(self, tmp_path: Path, key: str) -> None:
        state = tiny_state()
        del state[key]
        refuse(state, tmp_path, f"the weight {re.escape(key)} is missing")

    def test_a_prefix_on_some_keys_only(self, tmp_path: Path) -> None:
        state = {("module." if "layer4" in key else "") + key: value for key, value in tiny_state().items()}
        refuse(state, tmp_path, "stages have 2, 2, 2, 0 basic blocks")

    def test_wrong_shapes_are_named_with_both_shapes(self, tmp_path: Path) -> None:
        state = tiny_state()
        state["decode_head.local_relation.value_project.weight"] = torch.zeros(2, 3, 1, 1)
        refuse(
            state,
            tmp_path,
            r"local_relation.value_project.weight has the shape \(2, 3, 1, 1\) where .* has \(2, 2, 1, 1\)",
        )

    def test_an_unknown_depth(self, tmp_path: Path) -> None:
        state = tiny_state()
        state["backbone.layer3.35.conv1.weight"] = torch.zeros(1)
        refuse(state, tmp_path, "stages have 2, 2, 36, 2 basic blocks, which is none of the depths 18, 34, 50, 101")

    def test_one_class_is_a_binary_head(self, tmp_path: Path) -> None:
        refuse({**tiny_state(), "decode_head.conv_seg.weight": torch.zeros(1, 2, 1, 1)}, tmp_path, "binary head")

    def test_more_classes_than_a_byte_holds(self, tmp_path: Path) -> None:
        refuse({**tiny_state(), "decode_head.conv_seg.weight": torch.zeros(257, 2, 1, 1)}, tmp_path, "has 257 classes")

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_weights_that_are_not_finite(self, tmp_path: Path, value: float) -> None:
        state = tiny_state()
        state["backbone.layer2.0.conv1.weight"][0, 0, 1, 1] = value
        state["decode_head.conv_seg.bias"][1] = value
        refuse(
            state, tmp_path, r"2 of its weights hold NaN or infinity \(backbone.layer2.0.conv1.weight, decode_head.conv"
        )

    def test_weights_too_large_for_float32(self, tmp_path: Path) -> None:
        state = {**tiny_state(), "decode_head.conv_seg.bias": torch.full((3,), 1e300, dtype=torch.float64)}
        refuse(state, tmp_path, "1 of its weights hold NaN or infinity")

    def test_a_negative_variance(self, tmp_path: Path) -> None:
        state = tiny_state()
        state["backbone.stem.1.running_var"][0] = -1
        refuse(state, tmp_path, r"negative variance \(backbone.stem.1.running_var\)")

    def test_nan_in_what_is_dropped_does_no_harm(self, tmp_path: Path) -> None:
        state = tiny_state()
        state["auxiliary_head.conv_seg.bias"][0] = math.nan
        read(state, tmp_path)

    def test_integer_weights(self, tmp_path: Path) -> None:
        state = {**tiny_state(), "decode_head.conv_seg.bias": torch.zeros(3, dtype=torch.int32)}
        refuse(state, tmp_path, "type int32; weights must be floats")

    def test_sparse_weights(self, tmp_path: Path) -> None:
        state = {**tiny_state(), "decode_head.conv_seg.bias": torch.zeros(3).to_sparse()}
        refuse(state, tmp_path, "decode_head.conv_seg.bias is no dense tensor")

    def test_one_storage_named_by_many_weights_cannot_take_more_than_the_file(self, tmp_path: Path) -> None:
        with save(tiny_state(), tmp_path / "f.pth").open("rb") as file:
            source = open_torch_file(file, "f")
            assert isinstance(source.root, dict)
            refs = {key: value for key, value in source.root.items() if key.endswith(".weight")}
            with pytest.raises(CheckpointError, match=r"its weights take .* bytes and the file has 100"):
                load_weights(source, refs, 100, "f")


OTHERS: dict[str, tuple[list[str], str]] = {
    "PSPNet": (["backbone.stem.0.weight", "decode_head.psp_modules.0.1.conv.weight"], "PSPNet"),
    "DeepLabV3": (["backbone.stem.0.weight", "decode_head.aspp_modules.0.conv.weight"], "DeepLabV3"),
    "DeepLabV3+": (["decode_head.aspp_modules.0.conv.weight", "decode_head.c1_bottleneck.conv.weight"], r"DeepLabV3\+"),
    "FCN": (["backbone.stem.0.weight", "decode_head.convs.0.conv.weight"], "FCN"),
    "UPerNet": (
        ["backbone.stages.0.blocks.0.attn.w", "decode_head.psp_modules.0.w", "decode_head.fpn_convs.0.w"],
        "UPerNet",
    ),
    "OCRNet": (["decode_head.0.convs.0.conv.weight", "decode_head.1.bottleneck.conv.weight"], "cascade"),
    "SegFormer": (["decode_head.convs.0.conv.weight", "decode_head.fusion_conv.conv.weight"], "SegFormer"),
    "Mask2Former": (["decode_head.pixel_decoder.mask_feature.weight"], "Mask2Former"),
    "openseg": (["isa_head.2.stages.0.long_range_sa.f_key.0.weight", "cls_head.weight"], "openseg.pytorch"),
    "MMDetection": (["backbone.conv1.weight", "rpn_head.rpn_conv.weight"], "detector of MMDetection"),
    "torchvision classifier": (["conv1.weight", "layer1.0.conv1.weight", "fc.weight"], "image classifier"),
    "mmpretrain": (["backbone.conv1.weight", "head.fc.weight"], "image classifier"),
    "torchvision segmentation": (["backbone.conv1.weight", "classifier.0.convs.0.0.weight"], "torchvision"),
    "pretrained backbone": (["stem.0.weight", "layer1.0.conv1.weight"], "backbone's weights"),
    "backbone alone": (["backbone.stem.0.weight"], "backbone without a segmentation head"),
    "YOLO": (["model.0.conv.weight", "model.22.cv2.0.0.conv.weight"], "YOLO"),
    "unknown": (["generator.weight", "discriminator.weight"], "something unknown.* discriminator, generator"),
}

OTHER_BACKBONES: dict[str, tuple[list[str], str]] = {
    "plain stem": (["backbone.conv1.weight", "backbone.layer1.0.conv1.weight"], "plain 7x7 stem"),
    "V1d": (["backbone.stem.0.weight", "backbone.layer2.0.downsample.2.weight"], "ResNetV1d"),
    "dcn": (["backbone.stem.0.weight", "backbone.layer3.0.conv2.conv_offset.weight"], "deformable"),
    "HRNet": (["backbone.conv1.w", "backbone.transition1.0.0.weight"], "HRNet"),
    "Swin": (["backbone.stages.0.blocks.0.attn.w_msa.qkv.weight"], "Swin"),
    "ViT": (["backbone.layers.0.attn.attn.in_proj_weight"], "vision transformer"),
    "MobileNetV2": (["backbone.layer1.0.conv.0.conv.weight"], "MobileNetV2"),
}


class TestOtherArchitectures:
    @pytest.mark.parametrize("name", OTHERS)
    def test_another_head_is_named(self, tmp_path: Path, name: str) -> None:
        keys, pattern = OTHERS[name]
        refuse({key: torch.zeros(1) for key in keys}, tmp_path, f"is no ISANet but .*{pattern}")

    @pytest.mark.parametrize("name", OTHER_BACKBONES)
    def test_an_isa_head_on_another_backbone_is_named(self, tmp_path: Path, name: str) -> None:
        keys, pattern = OTHER_BACKBONES[name]
        state = {key: torch.zeros(1) for key in [*keys, "decode_head.global_relation.value_project.weight"]}
        refuse(state, tmp_path, f"is no ISANet but an ISA head on .*{pattern}")

    def test_keys_that_could_break_the_line(self) -> None:
        with pytest.raises(CheckpointError) as error:
            infer_shape({"a\nb\x1b[31m.weight": (1,)}, "f")
        assert "\n" not in str(error.value)
        assert "\x1b" not in str(error.value)


class TestConfigs:
    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("depth=18", "depth=50", "config model.backbone.depth is 50 and the weights have 18"),
            ("num_classes=3", "num_classes=19", "config model.decode_head.num_classes is 19 and the weights have 3"),
            (" channels=2", " channels=4", "config model.decode_head.channels is 4 and the weights have 2"),
            ("isa_channels=1", "isa_channels=256", "config model.decode_head.isa_channels is 256"),
            ("base_channels=1", "base_channels=64", "config model.backbone.base_channels is 64"),
            ("stem_channels=2, ", "", "config model.backbone.stem_channels is 64 and the weights have 2"),
            (
                "in_channels=8",
                "in_channels=2048",
                "config model.decode_head.in_channels is 2048 and the weights have 8",
            ),
        ],
    )
    def test_contradictions_name_both_sides(self, tmp_path: Path, old: str, new: str, message: str) -> None:
        refuse(with_config(old, new), tmp_path, re.escape(message))

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("'EncoderDecoder'", "'CascadeEncoderDecoder'", "model.type is 'CascadeEncoderDecoder'"),
            ("'ISAHead'", "'PSPHead'", "model.decode_head.type is 'PSPHead'"),
            ("'ResNetV1c'", "'ResNetV1d'", "model.backbone.type is 'ResNetV1d'"),
            ("'ResNetV1c'", "'ResNet'", "plain 7x7 stem"),
            ("'ResNetV1c'", "'ResNetV1c', avg_down=True", "avg_down is True"),
            ("'ResNetV1c'", "'ResNetV1c', multi_grid=(1, 2, 4)", r"multi_grid is \(1, 2, 4\)"),
            ("'ResNetV1c'", "'ResNetV1c', dcn=dict(type='DCN')", "dcn is a dict"),
            ("'ResNetV1c'", "'ResNetV1c', plugins=[dict()]", "plugins is a list"),
            ("num_stages=4", "num_stages=3", "num_stages is 3"),
            ("'SyncBN', requires_grad=True", "'GN', num_groups=32", "norm_cfg.type is 'GN'"),
            ("'SyncBN', requires_grad=True", "'SyncBN', eps=0.001", "norm_cfg.eps is 0.001"),
            ("in_index=3", "in_index=2", "in_index is 2"),
            ("in_index=3", "in_index=[2, 3]", r"in_index is \[2, 3\]"),
            ("in_index=3", "in_index=3, input_transform='resize_concat'", "input_transform is 'resize_concat'"),
            ("in_index=3", "in_index=3, act_cfg=dict(type='LeakyReLU')", "act_cfg is a dict"),
            ("in_index=3", "in_index=3, out_channels=1", "out_channels is 1"),
            ("align_corners=False", "align_corners='no'", "align_corners is 'no'"),
            ("align_corners=False", "align_corners=f()", "align_corners is no literal"),
            ("down_factor=(8, 8)", "down_factor=(8, 0)", r"down_factor is \(8, 0\)"),
            ("strides=(1, 2, 1, 1)", "strides=(1, 2, 1)", r"strides is \(1, 2, 1\)"),
            ("dict(mode='whole')", "dict(mode='tiles')", "test_cfg.mode is 'tiles'"),
            ("dict(mode='whole')", "dict(mode='slide', crop_size=(9, 9))", "test_cfg.stride is None"),
            ("dict(mode='whole')", "dict(mode='slide', crop_size=(9, 9), stride=(5, 10))", "would leave gaps"),
            ("std=[58.395, 57.12, 57.375]", "std=[0, 1, 1]", "std is .*above 0"),
            ("mean=[123.675, 116.28, 103.53]", "mean=[1]", r"mean is \[1\]"),
            ("    train_cfg=dict(),", "    neck=dict(type='FPN'),", "model.neck is a dict"),
        ],
    )
    def test_what_is_not_supported_is_named_with_its_place(
        self, tmp_path: Path, old: str, new: str, message: str
    ) -> None:
        refuse(with_config(old, new), tmp_path, f"config .*{message}")

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ("'SyncBN', requires_grad=True", "'BN', eps=1e-05"),
            ("'ResNetV1c'", "'mmseg.ResNetV1c'"),
            ("'ResNetV1c'", "'ResNet', deep_stem=True"),
            ("style='pytorch'", "style='caffe'"),  # basic blocks know no styles
            ("in_index=3", "in_index=-1"),
            ("out_indices=(0, 1, 2, 3)", "out_indices=[0, 1, 2, 3]"),
            ("norm_eval=False", "norm_eval=True, with_cp=True, frozen_stages=1"),
        ],
    )
    def test_other_spellings_of_the_same_network(self, tmp_path: Path, old: str, new: str) -> None:
        assert read(with_config(old, new), tmp_path).config == read(tiny_0x(), tmp_path).config

    def test_caffe_style_matters_where_a_bottleneck_has_a_stride(self, tmp_path: Path) -> None:
        config = ISANetConfig(3, BackboneConfig(50, 2, 1), channels=2, isa_channels=1)
        text = CONFIG_0X.replace("depth=18", "depth=50").replace("in_channels=8", "in_channels=32")
        state = dict(ISANet(config).state_dict())
        assert read(tiny_0x(text, state), tmp_path).config == config
        refuse(tiny_0x(text.replace("'pytorch'", "'caffe'"), state), tmp_path, "model.backbone.style is 'caffe'")

    def test_test_cfg_beside_the_model_goes_before_the_one_in_it(self, tmp_path: Path) -> None:
        outer = "\ntest_cfg = dict(mode='slide', crop_size=(769, 769), stride=(513, 513))\n"
        checkpoint = read(tiny_0x(CONFIG_0X + outer), tmp_path)
        assert (checkpoint.test.mode, checkpoint.test.crop_hw) == ("slide", (769, 769))
        assert "slide beside the model and whole in it" in checkpoint.assumptions[0]
        assert read(tiny_0x(CONFIG_0X + "\ntest_cfg = dict(type='TestLoop')\n"), tmp_path).test.mode == "whole"

    @pytest.mark.parametrize(
        ("old", "new", "scale_wh", "keep_ratio"),
        [
            ("img_scale=(2048, 1024)", "img_scale=[(1024, 512), (9, 9)]", (1024, 512), True),
            ("img_scale=(2048, 1024)", "img_scale=None, img_ratios=[1.0]", None, True),
            ("'Resize', keep_ratio=True", "'Resize', keep_ratio=False", (2048, 1024), False),
            ("'Resize', keep_ratio=True", "'Resize'", (2048, 1024), True),
            ("dict(type='Resize', keep_ratio=True), ", "", None, True),
            ("dict(type='LoadImageFromFile'),", "dict(type='Resize', scale=(64, 32)),", (2048, 1024), True),
        ],
    )
    def test_resize_of_0x_pipelines(
        self, tmp_path: Path, old: str, new: str, scale_wh: tuple[int, int] | None, keep_ratio: bool
    ) -> None:
        test = read(with_config(old, new), tmp_path).test
        assert (test.scale_wh, test.keep_ratio) == (scale_wh, keep_ratio)

    @pytest.mark.parametrize(
        ("step", "scale_wh", "keep_ratio"),
        [
            ("dict(type='Resize', scale=(2049, 1025), keep_ratio=True)", (2049, 1025), True),
            ("dict(type='mmseg.Resize', scale=(512, 256))", (512, 256), False),
            ("dict(type='Resize', scale=512)", (512, 512), False),
            ("dict(type='Resize', scale_factor=1.0, keep_ratio=True)", None, True),
            ("dict(type='PackSegInputs')", None, True),
        ],
    )
    def test_resize_of_1x_pipelines(
        self, tmp_path: Path, step: str, scale_wh: tuple[int, int] | None, keep_ratio: bool
    ) -> None:
        text = CONFIG_0X.replace("data = dict", "old = dict") + (
            f"test_dataloader = dict(batch_size=1, dataset=dict(type='ADE20KDataset', pipeline=[{step}]))\n"
        )
        checkpoint = read(tiny_0x(text), tmp_path)
        assert (checkpoint.test.scale_wh, checkpoint.test.keep_ratio) == (scale_wh, keep_ratio)
        assert checkpoint.dataset == "ADE20KDataset"
        assert checkpoint.assumptions == ()

    @pytest.mark.parametrize(
        ("step", "message"),
        [
            ("dict(type='Resize', scale_factor=0.5)", "resizes to 0.5"),
            ("dict(type='Resize', scale=(-1, 512))", r"resizes to (-1, 512)"),
            ("dict(type='ResizeToMultiple', size_divisor=32)", "'ResizeToMultiple', which is not done"),
            ("dict(type='Pad', size_divisor=32)", "'Pad', which is not done"),
        ],
    )
    def test_steps_that_are_not_done_are_said(self, tmp_path: Path, step: str, message: str) -> None:
        checkpoint = read(tiny_0x(CONFIG_0X + f"test_dataloader = dict(dataset=dict(pipeline=[{step}]))\n"), tmp_path)
        assert message in " ".join(checkpoint.assumptions)

    def test_normalisation_in_blue_green_red(self, tmp_path: Path) -> None:
        checkpoint = read(with_config("to_rgb=True", "to_rgb=False"), tmp_path)
        assert checkpoint.to_rgb is False
        assert checkpoint.mean_rgb == (103.53, 116.28, 123.675)  # the config's order is blue, green, red then

    def test_normalisation_of_1x(self, tmp_path: Path) -> None:
        add = "data_preprocessor=dict(mean=[1, 2, 3], std=[4, 5, 6], bgr_to_rgb=True, test_cfg=dict(size_divisor=32))"
        checkpoint = read(with_config("    train_cfg=dict(),", f"    {add},"), tmp_path)
        assert (checkpoint.mean_rgb, checkpoint.std_rgb, checkpoint.to_rgb) == ((1, 2, 3), (4, 5, 6), True)
        assert "pads pictures" in checkpoint.assumptions[0]
        checkpoint = read(
            with_config("    train_cfg=dict(),", "    data_preprocessor=dict(bgr_to_rgb=True),"), tmp_path
        )
        assert (checkpoint.mean_rgb, checkpoint.std_rgb) == ((0, 0, 0), (1, 1, 1))

    def test_a_config_that_cannot_be_read_is_as_good_as_none_and_says_so(self, tmp_path: Path) -> None:
        checkpoint = read(tiny_0x(CONFIG_0X[:300]), tmp_path)
        assert "The config's description of the model cannot be read." in checkpoint.assumptions
        assert "down_factor (8, 8) is assumed" in " ".join(checkpoint.assumptions)

    def test_a_config_kept_as_a_dictionary(self, tmp_path: Path) -> None:
        content = tiny_0x()
        content["meta"]["config"] = checkpoint_module.parse_config(CONFIG_0X, "f")
        assert read(content, tmp_path).config == read(tiny_0x(), tmp_path).config


class TestClassesAndPalette:
    def read_meta(self, folder: Path, **meta: Any) -> Checkpoint:
        content = tiny_0x()
        content["meta"].update(meta)
        return read(content, folder)

    def test_names_and_colours(self, tmp_path: Path) -> None:
        checkpoint = self.read_meta(tmp_path)
        assert checkpoint.classes == CLASSES
        assert checkpoint.palette == tuple(map(tuple, PALETTE))

    def test_names_are_stripped_and_printable(self, tmp_path: Path) -> None:
        names = self.read_meta(tmp_path, CLASSES=["bed ", "a\x1b[31mb\n", " "]).classes
        assert names == ("bed", "a?[31mb", "class_2")

    @pytest.mark.parametrize("classes", [None, (), ("a", "b"), ("a", "b", 3), "abc", {"a": 1}])
    def test_names_that_do_not_fit_are_replaced_and_said(self, tmp_path: Path, classes: object) -> None:
        checkpoint = self.read_meta(tmp_path, CLASSES=classes)
        assert checkpoint.classes == ("class_0", "class_1", "class_2")
        assert "class_0 to class_2" in checkpoint.assumptions[0]

    def test_a_palette_as_a_numpy_array(self, tmp_path: Path) -> None:
        assert self.read_meta(tmp_path, PALETTE=np.uint8(PALETTE)).palette == tuple(map(tuple, PALETTE))

    @pytest.mark.parametrize("palette", [PALETTE[:2], [[0, 0, 256]] * 3, [[0, 0]] * 3, [[0, 0, 0.5]] * 3, 7, np.eye(2)])
    def test_a_palette_that_does_not_fit_is_left_out_and_said(self, tmp_path: Path, palette: object) -> None:
        checkpoint = self.read_meta(tmp_path, PALETTE=palette)
        assert checkpoint.palette == ()
        assert "palette is not used" in checkpoint.assumptions[0]

    def test_no_palette_is_nothing_to_mention(self, tmp_path: Path) -> None:
        checkpoint = self.read_meta(tmp_path, PALETTE=None)
        assert (checkpoint.palette, checkpoint.assumptions) == ((), ())


class TestHashAndCards:
    def test_a_hash_that_agrees(self, tmp_path: Path) -> None:
        data = save(tiny_0x(), tmp_path / "f.pth").read_bytes()
        path = tmp_path / f"isanet_20210901_054739-{hashlib.sha256(data).hexdigest()[:8]}.pth"
        path.write_bytes(data)
        assert read_checkpoint(path).assumptions == ()

    def test_a_hash_that_does_not_agree(self, tmp_path: Path) -> None:
        path = save(tiny_0x(), tmp_path / "isanet_20210901_054739-981bd763.pth")
        with pytest.raises(CheckpointError, match=r"begins with 981bd763, and it begins with .*--allow-hash-mismatch"):
            read_checkpoint(path)
        checkpoint = read_checkpoint(path, allow_hash_mismatch=True)
        assert "981bd763" in checkpoint.assumptions[0]

    @pytest.mark.parametrize(
        "name", ["isanet.pth", "isanet-final.pth", "isanet-20210901.pth", "isanet-981bd763 (1).pth", "x-981BD763.pth"]
    )
    def test_names_without_a_hash(self, tmp_path: Path, name: str) -> None:
        assert read(tiny_0x(), tmp_path, name).assumptions == ()

    def test_a_bare_state_dict_under_a_published_name_has_its_cards_settings(self, tmp_path: Path) -> None:
        card = next(card for card in load_cards() if card.mode == "slide" and card.depth == 50)
        state = dict(ISANet(ISANetConfig(19, BackboneConfig(50, 2, 1), channels=2, isa_channels=1)).state_dict())
        checkpoint = read(state, tmp_path, card.file, allow_hash_mismatch=True)
        assert checkpoint.card is card
        assert checkpoint.test == TestSettings("slide", (769, 769), (513, 513), (2049, 1025), True)
        assert checkpoint.config.align_corners
        assert checkpoint.dataset == "CityscapesDataset"
        assert any(card.name in sentence for sentence in checkpoint.assumptions)

    def test_a_card_of_another_depth_is_not_used(self, tmp_path: Path) -> None:
        checkpoint = read(tiny_state(), tmp_path, load_cards()[0].file, allow_hash_mismatch=True)
        assert checkpoint.card is None
        assert any("nothing is taken from that card" in sentence for sentence in checkpoint.assumptions)

    def test_the_config_goes_before_the_card(self, tmp_path: Path) -> None:
        card = next(card for card in load_cards() if card.mode == "slide" and card.depth == 50)
        config = ISANetConfig(19, BackboneConfig(50, 2, 1), channels=2, isa_channels=1)
        text = CONFIG_0X.replace("depth=18", "depth=50").replace("in_channels=8", "in_channels=32")
        content = tiny_0x(text.replace("num_classes=3", "num_classes=19"), dict(ISANet(config).state_dict()))
        checkpoint = read(content, tmp_path, card.file, allow_hash_mismatch=True)
        assert checkpoint.card is card
        assert (checkpoint.test.mode, checkpoint.config.align_corners) == ("whole", False)


def zip_of(**files: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name.replace("__", "/"), data)

    return write


def compressed(path: Path) -> None:
    source = zipfile.ZipFile(save(tiny_0x(), path.with_name("source.pth")))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in source.namelist():
            archive.writestr(name, source.read(name))


NO_CHECKPOINTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda path: None, "does not exist"),
    "a folder": (Path.mkdir, "is a folder"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "a web page": (lambda path: path.write_text("\n<!DOCTYPE html><html>404</html>"), "is a web page"),
    "an LFS pointer": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer"),
    "text": (lambda path: path.write_text("hello"), "is not a checkpoint"),
    "a picture": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), "PNG image"),
    "gzip": (lambda path: path.write_bytes(b"\x1f\x8b\x08"), "gzip"),
    "safetensors": (lambda path: path.write_bytes(b"\x10\0\0\0\0\0\0\0{}"), "safetensors"),
    "an ONNX graph": (lambda path: path.write_bytes(b"\x08\x08\x12\x07pytorch"), "ONNX"),
    "torch's tar format": (
        lambda path: path.write_bytes(b"sys_info".ljust(257, b"\0") + b"ustar\x0000"),
        "tar archive",
    ),
    "another zip": (zip_of(**{"photo.jpg": b"x"}), r"did not write \(it holds photo.jpg\)"),
    "an empty zip": (zip_of(), "it holds nothing"),
    "TorchScript": (zip_of(**{"m__data.pkl": b"x", "m__constants.pkl": b"x", "m__code__a.py": b""}), "TorchScript"),
    "a compressed archive": (compressed, "is compressed"),
    "a plain pickle": (lambda path: path.write_bytes(b"\x80\x02}."), "plain pickle"),
    "a list": (lambda path: save([1], path), "holds no state dict but a list"),
    "a tensor": (lambda path: save(torch.zeros(1), path), "holds no state dict but a tensor"),
    "other contents": (lambda path: save({"epoch": 1, "best": 2}, path), "top level has epoch, best"),
    "an empty state dict": (lambda path: save({"meta": {}, "state_dict": {}}, path), "top level has meta, state_dict"),
    "a whole model": (lambda path: save(torch.nn.Linear(1, 1), path), r"whole pickled torch.nn.modules.linear.Linear"),
    "a model inside": (
        lambda path: save({"model": torch.nn.ReLU()}, path),
        "whole pickled torch.nn.*save model.state_dict",
    ),
}


class TestWhatIsNoCheckpoint:
    @pytest.mark.parametrize("name", NO_CHECKPOINTS)
    def test_is_said_in_one_line(self, tmp_path: Path, name: str) -> None:
        write, pattern = NO_CHECKPOINTS[name]
        path = tmp_path / "file.pth"
        write(path)
        with pytest.raises(CheckpointError, match=pattern) as error:
            read_checkpoint(path)
        assert "\n" not in str(error.value)
        assert str(error.value).startswith(str(path))

    def test_a_file_larger_than_any_checkpoint(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(checkpoint_module, "MAX_FILE_BYTES", 1000)
        refuse(tiny_0x(), tmp_path, "and a checkpoint at most 1000")

    def test_a_device(self) -> None:
        if not Path("/dev/zero").exists():
            pytest.skip("this machine has no /dev/zero; any Unix has")
        with pytest.raises(CheckpointError, match="no regular file"):
            read_checkpoint(Path("/dev/zero"))


def test_a_networks_weights_are_the_checkpoints_own(tmp_path: Path) -> None:
    checkpoint = read(tiny_0x(), tmp_path)
    network = build_network(checkpoint)
    state = network.state_dict()
    assert all(state[key].data_ptr() == value.data_ptr() for key, value in checkpoint.state_dict.items())
    assert not any(value.is_meta for value in state.values())

"""What an mmsegmentation config (0.x or 1.x) says that the weights do not: strides, dilations, how to test.

A value that a config leaves out has mmsegmentation's own default, which is
not always what ISANet's published configs say (strides 1, 2, 2, 2; no dilation; align_corners False).  What
this project's network cannot do is an error; what lies around the network and is not done is a note.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from isa_deploy.models.config_section import MAX_SIDE, Section, shown
from isa_deploy.models.config_text import UNREADABLE
from isa_deploy.models.mmseg_pipeline import (
    Normalisation,
    ResizeRule,
    find_dataset,
    find_normalisation,
    find_resize,
)

__all__ = ["ConfigSettings", "NetworkSettings", "WindowRule", "read_settings"]

MAX_FACTOR = 1024

Four = tuple[int, int, int, int]


@dataclass(frozen=True)
class NetworkSettings:
    """What fixes the network's arithmetic and leaves no trace in its weights' shapes.

    The defaults are those of the published ``isanet_r50-d8``.
    """

    strides: Four = (1, 2, 1, 1)
    dilations: Four = (1, 1, 2, 4)
    contract_dilation: bool = True
    down_factor: tuple[int, int] = (8, 8)
    align_corners: bool = False
    dropout: float = 0.1


@dataclass(frozen=True)
class WindowRule:
    """One pass over the picture ("whole"), or windows of ``crop_hw`` every ``stride_hw`` pixels ("slide")."""

    mode: Literal["whole", "slide"] = "whole"
    crop_hw: tuple[int, int] | None = None
    stride_hw: tuple[int, int] | None = None


@dataclass(frozen=True)
class ConfigSettings:
    """What a config says; None where it does not.

    ``windows`` None: the config says neither whole nor slide, and mmsegmentation would test it whole.
    ``claims`` gives what it says about the network's shape, as {field of NetworkShape: (path in the config,
    value)}, to be held against the weights.  ``notes`` are sentences about what is not done.
    """

    network: NetworkSettings | None
    windows: WindowRule | None
    resize: ResizeRule | None
    normalisation: Normalisation | None
    dataset: str | None
    claims: Mapping[str, tuple[str, int]]
    notes: tuple[str, ...]


def read_settings(config: Mapping[str, Any], origin: str) -> ConfigSettings:
    """Read a parsed config (:func:`~.config_text.parse_config`).

    Raises :class:`CheckpointError` where the config describes a network that is no ISANet of this project's,
    or a value it needs is malformed; the message names the config's own path to it.
    """
    notes: list[str] = []
    if config.get("model") is UNREADABLE:  # a config cut short or garbled: as good as none
        notes.append("The config's description of the model cannot be read.")
        config = {key: value for key, value in config.items() if key != "model"}
    top = Section(config, "", origin)
    model = top.section("model")
    return ConfigSettings(
        network=None if model is None else _network(model),
        windows=_windows(top, model, notes),
        resize=find_resize(top, notes),
        normalisation=find_normalisation(top, model, notes),
        dataset=find_dataset(top),
        claims={} if model is None else _claims(model),
        notes=tuple(notes),
    )


def _network(model: Section) -> NetworkSettings:
    model_kind = model.kind()
    if model_kind != "EncoderDecoder":
        raise model.wrong("type", "isa-deploy supports EncoderDecoder only")
    model.require("neck", (None,), None)
    backbone, head = _part(model, "backbone"), _part(model, "decode_head")
    _check_backbone(backbone)
    _check_head(head, backbone)
    strides = backbone.integers("strides", 4, 16) or (1, 2, 2, 2)
    # the other style has its stride on the first 1x1: no difference where no stage of bottlenecks has one
    strided = (backbone.integer("depth") or 50) >= 50 and any(stride > 1 for stride in strides)
    if strided and backbone.values.get("style", "pytorch") != "pytorch":
        raise backbone.wrong("style", "isa-deploy supports 'pytorch' only (the stride on the 3x3 convolution)")
    dropout = head.values.get("dropout_ratio", 0.1)
    if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
        raise head.wrong("dropout_ratio", "a number from 0 to 1 is needed")
    return NetworkSettings(
        strides=_four(strides),
        dilations=_four(backbone.integers("dilations", 4, MAX_FACTOR) or (1, 1, 1, 1)),
        contract_dilation=backbone.flag("contract_dilation", False),
        down_factor=_two(head.integers("down_factor", 2, MAX_FACTOR) or (8, 8)),
        align_corners=head.flag("align_corners", False),
        dropout=float(dropout),
    )


def _part(model: Section, key: str) -> Section:
    if isinstance(model.values.get(key), (list, tuple)):
        raise model.wrong(key, "isa-deploy supports one only, no cascade")
    part = model.section(key)
    if part is None:
        raise model.wrong(key, "an ISANet needs one")
    return part


def _check_backbone(backbone: Section) -> None:
    deep = backbone.values.get("deep_stem", backbone.kind() == "ResNetV1c")
    if backbone.kind() not in ("ResNetV1c", "ResNet") or deep is not True:
        stem = "" if deep is True else " with a plain 7x7 stem"
        raise backbone.wrong("type", f"isa-deploy supports ResNetV1c only, not {shown(backbone.kind())}{stem}")
    for key, accepted in (("num_stages", 4), ("in_channels", 3), ("avg_down", False)):
        backbone.require(key, (accepted,), accepted)
    for key in ("dcn", "plugins", "multi_grid"):
        backbone.require(key, (None,), None)
    _check_layers(backbone)


def _check_head(head: Section, backbone: Section) -> None:
    if head.kind() != "ISAHead":
        raise head.wrong("type", "isa-deploy supports ISAHead only")
    head.require("input_transform", (None,), None)
    outputs = backbone.values.get("out_indices", (0, 1, 2, 3))
    index = head.values.get("in_index", -1)
    if not isinstance(outputs, (tuple, list)) or not all(type(n) is int for n in outputs):
        raise backbone.wrong("out_indices", "a list of stages is needed")
    if type(index) is not int or not -len(outputs) <= index < len(outputs) or outputs[index] != 3:
        raise head.wrong("in_index", "isa-deploy supports a head on the last of the four stages (3) only")
    classes = head.integer("num_classes")
    if head.values.get("out_channels") not in (None, classes):
        raise head.wrong("out_channels", "a binary head with a threshold is not supported; train with num_classes=2")
    _check_layers(head)


def _check_layers(part: Section) -> None:
    """Convolutions, norms and activations must be the plain ones."""
    norm = part.section("norm_cfg")
    if norm is not None:
        if norm.kind() not in ("BN", "BN2d", "SyncBN", "MMSyncBN", "BatchNorm2d", "SyncBatchNorm"):
            raise norm.wrong("type", "isa-deploy supports BN and SyncBN only")
        norm.require("eps", (1e-5,), 1e-5)
    convolution = part.section("conv_cfg")
    if convolution is not None and convolution.kind() not in ("Conv2d", "Conv"):
        raise convolution.wrong("type", "isa-deploy supports Conv2d only")
    activation = part.section("act_cfg")
    if (activation is None and "act_cfg" in part.values) or (activation is not None and activation.kind() != "ReLU"):
        raise part.wrong("act_cfg", "isa-deploy supports dict(type='ReLU') only")


def _claims(model: Section) -> dict[str, tuple[str, int]]:
    backbone, head = _part(model, "backbone"), _part(model, "decode_head")
    places = (
        (backbone, "depth", "depth", None),
        (backbone, "stem_channels", "stem_channels", 64),
        (backbone, "base_channels", "base_channels", 64),
        (head, "channels", "channels", None),
        (head, "isa_channels", "isa_channels", None),
        (head, "num_classes", "num_classes", None),
        (head, "in_channels", "in_channels", None),
    )
    claims = {}
    for section, key, field, default in places:
        value = section.integer(key)
        value = default if value is None else value
        if value is not None:
            claims[field] = (section.where(key), value)
    return claims


def _windows(top: Section, model: Section | None, notes: list[str]) -> WindowRule | None:
    """Early 0.x configs have ``test_cfg`` beside the model; in 1.x that name belongs to the test loop."""
    inner = None if model is None else model.section("test_cfg")
    outer = None if not isinstance(top.values.get("test_cfg"), Mapping) else top.section("test_cfg")
    rules = [_window_rule(section) for section in (outer, inner) if section is not None and "mode" in section.values]
    if not rules:
        return None
    if len(rules) == 2 and rules[0] != rules[1]:
        notes.append(
            f"The config has test_cfg mode {rules[0].mode} beside the model and {rules[1].mode} in it: the former is "
            "used, as it is the one that a config adds to its base."
        )
    return rules[0]


def _window_rule(section: Section) -> WindowRule:
    mode = section.values["mode"]
    if mode == "whole":
        return WindowRule()
    if mode != "slide":
        raise section.wrong("mode", "'whole' or 'slide' is needed")
    crop = section.integers("crop_size", 2, MAX_SIDE)
    stride = section.integers("stride", 2, MAX_SIDE)
    if crop is None or stride is None:
        raise section.wrong("crop_size" if crop is None else "stride", "mode 'slide' needs it")
    if stride[0] > crop[0] or stride[1] > crop[1]:
        raise section.wrong("stride", f"windows of {shown(crop)} would leave gaps")
    return WindowRule("slide", _two(crop), _two(stride))


def _two(values: tuple[int, ...]) -> tuple[int, int]:
    first, second = values
    return first, second


def _four(values: tuple[int, ...]) -> Four:
    first, second, third, fourth = values
    return first, second, third, fourth

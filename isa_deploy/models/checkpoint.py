"""A checkpoint file to a network: what it holds, what it means, and what had to be assumed.

Everything is taken from the weights' keys and shapes first, from the config text second, from the card of a
published file third.  Where two of them contradict each other that is an error; what none of them tells is
assumed as the published configs have it, and :attr:`Checkpoint.assumptions` says so.

Averaged weights: the plain ``state_dict`` is read, as mmsegmentation does.  mmengine's EMAHook swaps the
averages into it before it saves (the file's ``ema_state_dict`` then holds the raw ones), and mmcv's EMAHook
swaps them in at the end of each epoch (its ``ema_...`` buffers are dropped).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal

import torch

from isa_deploy.errors import CheckpointError
from isa_deploy.models.architecture import NetworkShape, common_prefix, dropped_reason, infer_shape
from isa_deploy.models.cards import ModelCard, find_card
from isa_deploy.models.config_text import parse_config
from isa_deploy.models.isanet import ISANet, ISANetConfig
from isa_deploy.models.mmseg_config import ConfigSettings, NetworkSettings, WindowRule, read_settings
from isa_deploy.models.mmseg_pipeline import Normalisation, ResizeRule
from isa_deploy.models.pickle_names import printable
from isa_deploy.models.pickle_records import NumpyArray, Opaque, TensorRef
from isa_deploy.models.resnet import BackboneConfig
from isa_deploy.models.torch_file import open_torch_file
from isa_deploy.models.weights import check_keys, load_weights, meta_network

__all__ = ["Checkpoint", "TestSettings", "build_network", "read_checkpoint"]

MAX_FILE_BYTES = 4 << 30
"""A published R101 has 0.23 GB, three times that with its optimizer."""

Layout = Literal["mmseg-0.x", "mmseg-1.x", "state_dict"]


@dataclass(frozen=True)
class TestSettings:
    """How mmsegmentation tests the model.

    ``mode`` "whole", or "slide" with windows of ``crop_hw`` every ``stride_hw`` pixels.  ``scale_wh`` is the
    box (width, height) that a picture is resized into first, keeping its ratio or not; None leaves it.
    """

    __test__: ClassVar[bool] = False  # its name makes pytest think that it is one

    mode: Literal["whole", "slide"]
    crop_hw: tuple[int, int] | None
    stride_hw: tuple[int, int] | None
    scale_wh: tuple[int, int] | None
    keep_ratio: bool


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint that has been read and checked.

    ``state_dict`` holds float32 tensors under mmsegmentation's keys, exactly those that
    ``ISANet(config)`` has but for the batch norms' counters.  ``mean_rgb`` and ``std_rgb`` are in the order
    red, green, blue whatever ``to_rgb`` says; ``to_rgb`` False means that the network takes blue, green,
    red.  ``classes`` always has ``config.num_classes`` names, ``palette`` (RGB) as many colours or none.
    ``dataset`` is mmsegmentation's class, such as "CityscapesDataset".  ``assumptions`` has a sentence for
    everything that the file did not tell, and ``dropped`` the keys that inference has no use for.
    """

    config: ISANetConfig
    state_dict: dict[str, torch.Tensor] = field(repr=False)
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    test: TestSettings
    mean_rgb: tuple[float, float, float]
    std_rgb: tuple[float, float, float]
    to_rgb: bool
    file_name: str
    sha256: str
    layout: Layout
    dataset: str | None
    card: ModelCard | None
    assumptions: tuple[str, ...]
    dropped: tuple[str, ...] = field(repr=False)


def read_checkpoint(path: Path, *, allow_hash_mismatch: bool = False) -> Checkpoint:
    """Read an ISANet of mmsegmentation 0.x or 1.x, or a bare state dict of one, without running code of it.

    Where the file's name ends in eight hex digits, as OpenMMLab's do, they are held against the file's
    SHA-256; ``allow_hash_mismatch`` turns a difference into an assumption.  Memory: the weights once, twice
    where they are stored in half precision.

    Raises :class:`CheckpointError` where the file cannot be read, is damaged, would run code, is another
    architecture's, contradicts itself, or holds weights that are not finite.
    """
    origin = printable(str(path), 400)
    try:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist" if not path.exists() else "is no regular file"
            raise CheckpointError(f"{origin}: {what}; give the path of a .pth file")
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise CheckpointError(f"{origin}: has {size} bytes, and a checkpoint at most {MAX_FILE_BYTES}")
        with path.open("rb") as file:
            return _read(file, path, size, allow_hash_mismatch)
    except OSError as error:
        raise CheckpointError(f"{origin}: cannot be read ({error.strerror or error})") from None


def build_network(checkpoint: Checkpoint) -> ISANet:
    """The network with the checkpoint's weights, in evaluation mode; it shares their memory."""
    network = meta_network(checkpoint.config)
    weights = dict(checkpoint.state_dict)
    for key in network.state_dict():
        if key.endswith(".num_batches_tracked"):
            weights[key] = torch.zeros((), dtype=torch.int64)
    network.load_state_dict(weights, assign=True)
    return network.eval()


# ---------------------------------------------------------------------------------------------------------


def _read(file: BinaryIO, path: Path, size: int, allow_hash_mismatch: bool) -> Checkpoint:
    origin = printable(str(path), 400)
    assumptions: list[str] = []
    sha256 = _sha256(file)
    _check_hash(path, size, sha256, allow_hash_mismatch, assumptions)
    torch_file = open_torch_file(file, origin)
    state, meta = _state_and_meta(torch_file.root, origin)
    layout = _layout(meta)
    prefix = common_prefix(state)
    refs: dict[str, TensorRef] = {}
    dropped: list[str] = []
    for key, value in state.items():
        plain = key.removeprefix(prefix)
        if dropped_reason(plain) is not None:
            if not plain.endswith(".num_batches_tracked"):
                dropped.append(plain)
        elif not isinstance(value, TensorRef):
            raise CheckpointError(f"{origin}: the weight {printable(key)} is no dense tensor")
        else:
            refs[plain] = value
    shape = infer_shape({key: ref.shape for key, ref in refs.items()}, origin)

    config = read_settings(_config(meta, origin), origin)
    _check_claims(config, shape, origin)
    card = _card(path, sha256, shape, assumptions)
    network = _network_settings(config, card, assumptions)
    test = _test_settings(config, card, assumptions)
    normalisation = config.normalisation or Normalisation()
    if config.normalisation is None and card is None:
        assumptions.append("Normalisation: ImageNet's mean and deviation on RGB are assumed, as no config says it.")
    assumptions.extend(note for note in dict.fromkeys(config.notes))

    net_config = ISANetConfig(
        num_classes=shape.num_classes,
        backbone=BackboneConfig(
            depth=shape.depth,
            stem_channels=shape.stem_channels,
            base_channels=shape.base_channels,
            strides=network.strides,
            dilations=network.dilations,
            contract_dilation=network.contract_dilation,
        ),
        channels=shape.channels,
        isa_channels=shape.isa_channels,
        down_factor=network.down_factor,
        align_corners=network.align_corners,
        dropout=network.dropout,
    )
    check_keys(refs, net_config, origin)
    classes, palette = _classes_and_palette(meta, shape.num_classes, assumptions)
    return Checkpoint(
        config=net_config,
        state_dict=load_weights(torch_file, refs, size, origin),
        classes=classes,
        palette=palette,
        test=test,
        mean_rgb=normalisation.mean_rgb,
        std_rgb=normalisation.std_rgb,
        to_rgb=normalisation.to_rgb,
        file_name=path.name,
        sha256=sha256,
        layout=layout,
        dataset=config.dataset or (None if card is None else card.dataset_type),
        card=card,
        assumptions=tuple(assumptions),
        dropped=tuple(sorted(dropped)),
    )


# -- the file's hash --------------------------------------------------------------------------------------


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()


_HASHED_NAME = re.compile(r"-([0-9a-f]{8})\.pth$")
_DATE = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")


def _check_hash(path: Path, size: int, sha256: str, allow_mismatch: bool, assumptions: list[str]) -> None:
    """Hold the digits at the end of OpenMMLab's file names (``...-981bd763.pth``) against the file."""
    match = _HASHED_NAME.search(path.name)
    if match is None or match[1] == sha256[:8]:
        return
    if _DATE.fullmatch(match[1]):
        return  # model-20210901.pth
    if not allow_mismatch:
        raise CheckpointError(
            f"{printable(str(path), 400)}: its name says that its SHA-256 begins with {match[1]}, and it begins with "
            f"{sha256[:8]} ({size} bytes: a download cut short?); download it again, or pass --allow-hash-mismatch if "
            "you changed it yourself"
        )
    assumptions.append(
        f"The file's SHA-256 begins with {sha256[:8]} where its name says {match[1]}; it was read all the same."
    )


# -- what is in the file ----------------------------------------------------------------------------------


def _state_and_meta(root: object, origin: str) -> tuple[dict[str, Any], dict[Any, Any]]:
    """The state dict, and the meta data beside it ({} for a bare state dict)."""
    if isinstance(root, dict):
        meta = root.get("meta")
        for key in ("state_dict", "model_state_dict", "model", "net"):
            inner = root.get(key)
            if isinstance(inner, dict) and _is_state_dict(inner):
                return inner, meta if isinstance(meta, dict) else {}
            if isinstance(inner, Opaque):
                raise _whole_model(inner, origin)
        if _is_state_dict(root):
            return root, {}
        held = ", ".join(printable(str(key), 30) for key in list(root)[:5] if isinstance(key, str)) or "nothing"
        raise CheckpointError(f"{origin}: holds no state dict; its top level has {held}")
    if isinstance(root, Opaque):
        raise _whole_model(root, origin)
    raise CheckpointError(f"{origin}: holds no state dict but a {_type_name(root)}")


def _is_state_dict(value: dict[Any, Any]) -> bool:
    """Whether all keys are text and some values are tensors."""
    return all(isinstance(key, str) for key in value) and any(isinstance(v, TensorRef) for v in value.values())


def _whole_model(model: Opaque, origin: str) -> CheckpointError:
    return CheckpointError(
        f"{origin}: holds a whole pickled {model.name}, and only weights can be read safely; save model.state_dict()"
    )


def _type_name(value: object) -> str:
    return "tensor" if isinstance(value, TensorRef) else type(value).__name__


def _layout(meta: dict[Any, Any]) -> Layout:
    if not {"dataset_meta", "cfg", "mmengine_version"}.isdisjoint(meta):
        return "mmseg-1.x"
    if not {"CLASSES", "PALETTE", "config", "mmseg_version"}.isdisjoint(meta):
        return "mmseg-0.x"
    return "state_dict"


def _config(meta: dict[Any, Any], origin: str) -> dict[Any, Any]:
    """The config as a dictionary, empty where there is none that can be read."""
    for key in ("cfg", "config"):
        value = meta.get(key)
        if isinstance(value, dict):
            return value
        if isinstance(value, str):
            return parse_config(value, origin)
    return {}


# -- settings ---------------------------------------------------------------------------------------------


def _check_claims(config: ConfigSettings, shape: NetworkShape, origin: str) -> None:
    """Hold the config against the weights."""
    backbone = BackboneConfig(depth=shape.depth, base_channels=shape.base_channels)
    found = {**vars(shape), "in_channels": backbone.stage_channels(3)}
    for name, (where, claimed) in config.claims.items():
        if claimed != found[name]:
            raise CheckpointError(
                f"{origin}: config {where} is {claimed} and the weights have {found[name]}; config and weights are not "
                "of one model"
            )


def _card(path: Path, sha256: str, shape: NetworkShape, assumptions: list[str]) -> ModelCard | None:
    """The card of a published file, by its hash or its whole name."""
    card = find_card(sha256) or find_card(path.name)
    if card is None or (card.depth, card.num_classes) == (shape.depth, shape.num_classes):
        return card
    assumptions.append(
        f"The file's name is that of {card.name}, which has depth {card.depth} and {card.num_classes} classes; the "
        f"file has {shape.depth} and {shape.num_classes}, so nothing is taken from that card."
    )
    return None


def _network_settings(config: ConfigSettings, card: ModelCard | None, assumptions: list[str]) -> NetworkSettings:
    if config.network is not None:
        return config.network
    if card is not None:
        assumptions.append(f"Network and test settings are those of the published {card.name}: no config says them.")
        return NetworkSettings(align_corners=card.align_corners)
    published = NetworkSettings()
    assumptions.extend(
        (
            f"Strides {published.strides} and dilations {published.dilations}, the first block of a dilated stage at "
            "half its dilation, are assumed (ISANet-D8), as no config says them.",
            f"down_factor {published.down_factor} is assumed, as no config says it.",
            f"align_corners {published.align_corners} is assumed, as no config says it (models trained on 769x769 "
            "have True).",
        )
    )
    return published


def _test_settings(config: ConfigSettings, card: ModelCard | None, assumptions: list[str]) -> TestSettings:
    windows, resize = config.windows, config.resize
    if card is not None:
        windows = windows or WindowRule(card.mode, card.crop_hw if card.mode == "slide" else None, card.stride_hw)
        resize = resize or ResizeRule(card.scale_wh)
    if windows is None:
        windows = WindowRule()
        assumptions.append("Inference over the whole picture is assumed, as no config says whole or slide.")
    if resize is None:
        resize = ResizeRule()
        assumptions.append("Pictures are taken in their own size, as no config says a test scale.")
    return TestSettings(windows.mode, windows.crop_hw, windows.stride_hw, resize.scale_wh, resize.keep_ratio)


def _classes_and_palette(
    meta: dict[Any, Any], count: int, assumptions: list[str]
) -> tuple[tuple[str, ...], tuple[tuple[int, int, int], ...]]:
    dataset = meta.get("dataset_meta")
    named = dataset if isinstance(dataset, dict) else {}
    classes = named.get("classes", meta.get("CLASSES"))
    palette = named.get("palette", meta.get("PALETTE"))
    return _class_names(classes, count, assumptions), _colours(palette, count, assumptions)


def _class_names(names: object, count: int, assumptions: list[str]) -> tuple[str, ...]:
    """One name a class, without blanks around it (ADE20K has some) or characters that no terminal shows."""
    generic = tuple(f"class_{label}" for label in range(count))
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        assumptions.append(f"Classes are called {generic[0]} to {generic[-1]}: the file does not name them.")
        return generic
    if len(names) != count:
        assumptions.append(
            f"Classes are called {generic[0]} to {generic[-1]}: the file names {len(names)}, the network has {count}."
        )
        return generic
    return tuple(printable(name.strip(), 200) or other for name, other in zip(names, generic, strict=True))


def _colours(palette: object, count: int, assumptions: list[str]) -> tuple[tuple[int, int, int], ...]:
    """One RGB colour a class, or () where the file has none that fits."""
    if palette is None:
        return ()
    if isinstance(palette, NumpyArray):
        try:
            palette = palette.tolist()
        except ValueError:
            palette = None
    colours = []
    for colour in palette if isinstance(palette, (list, tuple)) else ():
        if not isinstance(colour, (list, tuple)) or len(colour) != 3:
            break
        if not all(type(level) is int and 0 <= level <= 255 for level in colour):
            break
        colours.append((colour[0], colour[1], colour[2]))
    if len(colours) == count:
        return tuple(colours)
    assumptions.append(f"The file's palette is not used: it is no list of {count} RGB colours.")
    return ()

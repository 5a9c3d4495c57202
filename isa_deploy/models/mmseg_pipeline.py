"""What a config says of a picture's way to the network: the test pipeline, the normalisation, the data set.

mmsegmentation 0.x keeps all three in ``data.test`` (or ``test_pipeline`` and ``img_norm_cfg``), 1.x in
``test_dataloader.dataset`` and ``model.data_preprocessor``.  Steps that the runtime does not do become notes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from isa_deploy.models.config_section import MAX_SIDE, Section, shown
from isa_deploy.models.pickle_names import printable

__all__ = ["Normalisation", "ResizeRule", "find_dataset", "find_normalisation", "find_resize"]

MAX_LEVEL = 1e6


@dataclass(frozen=True)
class ResizeRule:
    """The test pipeline's Resize: into a box (width, height), or none (``scale_wh`` None)."""

    scale_wh: tuple[int, int] | None = None
    keep_ratio: bool = True


@dataclass(frozen=True)
class Normalisation:
    """(x - mean) / std on pixels of 0 to 255, always given as red, green, blue.

    ``to_rgb`` False means that the network takes its channels as blue, green, red.  The defaults are
    mmsegmentation's: ImageNet's mean and deviation.
    """

    mean_rgb: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std_rgb: tuple[float, float, float] = (58.395, 57.12, 57.375)
    to_rgb: bool = True


def _test_datasets(top: Section) -> Iterator[Section]:
    """The test data set of a 1.x or a 0.x config, inside whatever wraps it."""
    for outer, inner in (("test_dataloader", "dataset"), ("data", "test")):
        value: Any = top.values.get(outer)
        value = value.get(inner) if isinstance(value, Mapping) else None
        path = f"{outer}.{inner}"
        for _ in range(4):
            if isinstance(value, (list, tuple)):
                value = value[0] if value else None
            if not isinstance(value, Mapping):
                break
            yield Section(value, path, top.origin)
            value = value.get("dataset") or value.get("datasets")


def _test_steps(top: Section) -> list[Section] | None:
    """The steps of the test pipeline, those inside MultiScaleFlipAug after it; None without a pipeline."""
    for section in (*_test_datasets(top), top):
        key = "test_pipeline" if section is top else "pipeline"
        steps = section.values.get(key)
        if isinstance(steps, (list, tuple)):
            return list(_flattened(steps, section.where(key), top.origin))
    return None


def _flattened(steps: list[Any] | tuple[Any, ...], path: str, origin: str) -> Iterator[Section]:
    for step in steps[:64]:
        if not isinstance(step, Mapping):
            continue
        yield Section(step, path, origin)
        inner = step.get("transforms")
        if isinstance(inner, (list, tuple)):
            yield from (Section(other, path, origin) for other in inner[:64] if isinstance(other, Mapping))


_KNOWN_STEPS = (
    *("LoadImageFromFile", "LoadImageFromNDArray", "LoadAnnotations", "MultiScaleFlipAug", "Resize", "RandomFlip"),
    *("Normalize", "ImageToTensor", "ToTensor", "DefaultFormatBundle", "Collect", "PackSegInputs"),
)
"""What the runtime does too, or what does nothing to a single test picture."""


def find_resize(top: Section, notes: list[str]) -> ResizeRule | None:
    """The test pipeline's resize; None where the config has no test pipeline."""
    steps = _test_steps(top)
    if steps is None:
        return None
    rule = ResizeRule()
    box: object = None
    for step in steps:
        kind = step.kind()
        if kind == "MultiScaleFlipAug":
            box = step.values.get("img_scale")
        elif kind == "Resize":
            if "img_scale" in step.values or "scale" not in step.values:  # 0.x: the ratio is kept by default
                wanted, keep = step.values.get("img_scale", box), step.values.get("keep_ratio", True)
            else:
                wanted, keep = step.values["scale"], step.values.get("keep_ratio", False)
            rule = _resize_rule(step, wanted, keep, notes)
        elif kind not in _KNOWN_STEPS:
            notes.append(f"The config's test pipeline has the step {shown(kind)}, which is not done.")
    return rule


def _resize_rule(step: Section, wanted: Any, keep: object, notes: list[str]) -> ResizeRule:
    if isinstance(wanted, list) and wanted and isinstance(wanted[0], (tuple, list)):
        wanted = wanted[0]  # several scales: the first is the plain test's
    if type(wanted) is int:
        wanted = (wanted, wanted)
    factor = step.values.get("scale_factor")
    if wanted is None and factor in (None, 1, 1.0):
        return ResizeRule()
    good = isinstance(wanted, (tuple, list)) and len(wanted) == 2 and isinstance(keep, bool)
    if good and all(type(side) is int and 1 <= side <= MAX_SIDE for side in wanted):
        return ResizeRule((wanted[0], wanted[1]), keep is True)
    size = shown(factor if wanted is None else wanted)
    notes.append(f"The config's test pipeline resizes to {size}, which is not done: frames are taken as they are.")
    return ResizeRule()


def find_normalisation(top: Section, model: Section | None, notes: list[str]) -> Normalisation | None:
    """The normalisation of 1.x's preprocessor, of the test pipeline, or of ``img_norm_cfg``; None without."""
    preprocessor = None if model is None else model.section("data_preprocessor")
    preprocessor = preprocessor or top.section("data_preprocessor")
    if preprocessor is not None:
        padding = preprocessor.values.get("test_cfg")
        if isinstance(padding, Mapping) and (padding.get("size") or padding.get("size_divisor")):
            notes.append("The config's data_preprocessor pads pictures at test time, which is not done.")
        swapped = preprocessor.flag("bgr_to_rgb", False) or preprocessor.flag("rgb_to_bgr", False)
        if preprocessor.values.get("mean") is None:
            return Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), swapped)
        return _mean_and_std(preprocessor, swapped)
    for step in _test_steps(top) or ():
        if step.kind() == "Normalize":
            return _mean_and_std(step, step.flag("to_rgb", True))
    norm = top.section("img_norm_cfg")
    return None if norm is None else _mean_and_std(norm, norm.flag("to_rgb", True))


def _mean_and_std(section: Section, to_rgb: bool) -> Normalisation:
    """Both stand in the order of the network's channels, after the swap."""
    mean, std = _three(section, "mean"), _three(section, "std")
    if any(deviation <= 0 for deviation in std):
        raise section.wrong("std", "numbers above 0 are needed")
    return Normalisation(mean, std, True) if to_rgb else Normalisation(mean[::-1], std[::-1], False)


def _three(section: Section, key: str) -> tuple[float, float, float]:
    values: Any = section.values.get(key)
    if not isinstance(values, (tuple, list)) or len(values) != 3:
        raise section.wrong(key, "three numbers are needed")
    if not all(type(number) in (int, float) and abs(number) <= MAX_LEVEL for number in values):  # NaN fails too
        raise section.wrong(key, "three numbers are needed")
    first, second, third = (float(number) for number in values)
    return first, second, third


def find_dataset(top: Section) -> str | None:
    """mmsegmentation's class of the test data set; None where the config names none."""
    for section in (*_test_datasets(top), top):
        value = section.values.get("dataset_type" if section is top else "type")
        if isinstance(value, str) and value.rpartition(".")[2] not in ("ConcatDataset", "RepeatDataset"):
            return printable(value.rpartition(".")[2])
    return None

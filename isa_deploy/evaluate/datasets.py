"""The data sets by their names on the command line, and whether an engine fits one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from isa_deploy.errors import InputError
from isa_deploy.evaluate.ade20k import ade20k
from isa_deploy.evaluate.cityscapes import cityscapes
from isa_deploy.evaluate.cocostuff import cocostuff
from isa_deploy.evaluate.context import context59, context60
from isa_deploy.evaluate.dataset import Dataset
from isa_deploy.evaluate.folder import folder
from isa_deploy.evaluate.lip import lip
from isa_deploy.evaluate.voc import voc

__all__ = ["DATASETS", "check_classes", "open_dataset"]

_PUBLISHED: dict[str, Callable[[Path, str], Dataset]] = {
    "cityscapes": cityscapes,
    "ade20k": ade20k,
    "voc": voc,
    "context59": context59,
    "context60": context60,
    "cocostuff": cocostuff,
    "lip": lip,
}

DATASETS = (*_PUBLISHED, "folder")

DEFAULT_SPLIT = "val"


def open_dataset(key: str, root: Path, split: str = DEFAULT_SPLIT) -> Dataset:
    """The data set ``key`` (one of :data:`DATASETS`) below ``root``; nothing but the folder itself is looked at yet.

    ``split`` is the word of the data set's makers; "val" and "train" do for all ("validation" of ADE20K, "val2017" of
    COCO-Stuff).  A plain folder has none.

    Raises :class:`InputError` where the name is unknown, ``root`` is no folder, or the split is no plain word.
    """
    if key not in DATASETS:
        raise InputError(f"there is no data set {key!r}; choose one of {', '.join(DATASETS)}")
    if not root.is_dir():
        raise InputError(f"{root}: there is no such folder; name the folder of the data set with --root")
    if key == "folder":
        if split != DEFAULT_SPLIT:
            raise InputError(f"a plain folder has no split {split!r}; give the folder of the split itself as --root")
        return folder(root)
    if re.fullmatch(r"[A-Za-z0-9_-]+", split) is None:
        raise InputError(f"there is no split {split!r}; name one as the data set does, such as val or train")
    return _PUBLISHED[key](root, split)


def check_classes(dataset: Dataset, names: Sequence[str], engine: Path) -> None:
    """Raises :class:`InputError`, with both lists, where the engine's classes (``names``) are not the data set's.

    Order counts; case and blanks round a name do not.  A data set without classes of its own takes any.
    """
    if dataset.classes is None:
        return
    ours, theirs = [_plain(name) for name in names], [_plain(name) for name in dataset.classes]
    if ours == theirs:
        return
    if len(ours) != len(theirs):
        difference = f"{len(ours)} classes where {dataset.title} has {len(theirs)}"
    else:
        label = next(label for label, (one, other) in enumerate(zip(ours, theirs, strict=True)) if one != other)
        difference = (
            f"{_shown(names[label])} as class {label} where {dataset.title} has {_shown(dataset.classes[label])}"
        )
    raise InputError(
        f"{engine}: the engine has {difference}; choose the data set that it was trained for.  "
        f"The engine's classes: {', '.join(map(_shown, names))}.  "
        f"{dataset.title}'s classes: {', '.join(map(_shown, dataset.classes))}"
    )


def _plain(name: str) -> str:
    return name.strip().casefold()


def _shown(name: str) -> str:
    # a manifest's names are anybody's; control characters would break the line, or the terminal
    return name.strip() if name.isprintable() else repr(name)

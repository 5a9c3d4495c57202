"""How much a pixel of each class counts in the loss."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from streetscenes import CLASSES, draw_scene

__all__ = ["balanced_weights"]


def balanced_weights(seeds: Iterable[int], size_hw: tuple[int, int], power: float = 0.25) -> tuple[float, ...]:
    """One weight a class: (1 / its share of the pixels)^power, so scaled that the mean over pixels is 1.

    At power 0.25 a pixel of a bicycle (0.3 % of a scene) counts three times one of the road (27 %).  At 1
    all classes would count alike, and the frequent ones would be painted over with rare ones.
    """
    pixels = np.zeros(256, np.int64)
    for seed in seeds:
        pixels += np.bincount(draw_scene(seed, *size_hw)[1].ravel(), minlength=256)
    known = np.maximum(pixels[: len(CLASSES)], 1)
    share = known / known.sum()
    weights = share**-power
    return tuple(float(w) for w in weights / (share * weights).sum())

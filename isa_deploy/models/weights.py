"""The weights of a checkpoint: all that the network needs, in its shapes, finite, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from isa_deploy.errors import CheckpointError
from isa_deploy.models.architecture import name_keys
from isa_deploy.models.isanet import ISANet, ISANetConfig
from isa_deploy.models.pickle_records import TensorRef
from isa_deploy.models.torch_file import TorchFile

__all__ = ["check_keys", "load_weights", "meta_network"]


def meta_network(config: ISANetConfig) -> ISANet:
    """The network without memory for its weights, for its keys and shapes or to have weights assigned."""
    with torch.device("meta"):
        return ISANet(config)


def check_keys(refs: Mapping[str, TensorRef], config: ISANetConfig, origin: str) -> None:
    """Hold the weights' keys and shapes against the network's (the batch norms' counters aside).

    Raises :class:`CheckpointError` naming the first few that are missing, left over or of another shape.
    """
    state = meta_network(config).state_dict()
    wanted = {key: tuple(value.shape) for key, value in state.items() if not key.endswith(".num_batches_tracked")}
    missing, left_over = wanted.keys() - refs.keys(), refs.keys() - wanted.keys()
    if missing or left_over:
        what = [f"lacks {name_keys(missing)}"] if missing else []
        what += [f"has {name_keys(left_over)}, which no ISANet has"] if left_over else []
        raise CheckpointError(f"{origin}: {' and '.join(what)}; it is incomplete or of a changed network")
    wrong = [key for key in wanted if refs[key].shape != wanted[key]]
    if wrong:
        first = min(wrong)
        more = f" (and {len(wrong) - 1} more weights differ)" if len(wrong) > 1 else ""
        raise CheckpointError(
            f"{origin}: {first} has the shape {refs[first].shape} where {config.name} has {wanted[first]}{more}; it is "
            "of a changed network"
        )


def load_weights(file: TorchFile, refs: Mapping[str, TensorRef], size: int, origin: str) -> dict[str, torch.Tensor]:
    """The weights in float32, from a file of ``size`` bytes.

    Float32 weights are views of what was read, others are copies.  Raises :class:`CheckpointError` where some are
    not finite, where a batch norm's variance is negative, and where they take more bytes than the file has.
    """
    stored = sum(ref.nbytes for ref in refs.values())
    if stored > size:
        raise CheckpointError(f"{origin}: damaged: its weights take {stored} bytes and the file has {size}")
    loaded: dict[str, torch.Tensor] = {}
    broken, negative = [], []
    for key in sorted(refs):
        weight = file.tensor(refs[key]).to(torch.float32).contiguous()
        low, high = (float(bound) for bound in torch.aminmax(weight))  # NaN among the weights comes out as NaN
        if not (math.isfinite(low) and math.isfinite(high)):
            broken.append(key)
        elif key.endswith(".running_var") and low < 0:
            negative.append(key)
        loaded[key] = weight
    if broken:
        raise CheckpointError(
            f"{origin}: {len(broken)} of its weights hold NaN or infinity ({name_keys(broken)}): the training "
            "diverged; use an earlier checkpoint"
        )
    if negative:
        raise CheckpointError(
            f"{origin}: {len(negative)} of its batch norms have a negative variance ({name_keys(negative)}): the file "
            "is damaged or was edited; use another checkpoint"
        )
    return loaded

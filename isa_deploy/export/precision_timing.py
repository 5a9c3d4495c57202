"""How long each precision takes for a frame, all of them in turns, so that a drift of the machine hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from isa_deploy.errors import EngineError
from isa_deploy.export.precision_engines import Combination, EnginePool

__all__ = ["MAX_ROUNDS", "MIN_ROUNDS", "Timing", "time_in_turns"]

UInt8 = npt.NDArray[np.uint8]

MIN_ROUNDS = 3
MAX_ROUNDS = 9
ENOUGH_S = 30.0
"""No further round begins after this many seconds and :data:`MIN_ROUNDS`."""

WARM_UP = 2
"""Calls of an engine that was just opened which are not counted."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds of single calls, frame in, labels out, in the order they were made."""

    samples_ms: tuple[float, ...]

    @property
    def ms(self) -> float:
        """Their median."""
        return statistics.median(self.samples_ms)


def time_in_turns(
    pool: EnginePool,
    wanted: Sequence[Combination],
    frames: Sequence[UInt8],
    failed: dict[Combination, str],
    progress: Callable[[str], None],
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Combination, Timing]:
    """Rounds over ``wanted`` (A B C A B C), each on all ``frames`` (uint8 H x W x 3, of one size).

    Before an engine's frames of a round one call is made that is not counted: it finds the caches and the cores as
    its own earlier call left them, not as another engine did.  An engine that fails goes into ``failed`` with the
    reason and has no timing.  ``clock``: seconds.
    """
    samples: dict[Combination, list[float]] = {each: [] for each in wanted}
    started = clock()
    for number in range(MAX_ROUNDS):
        if number >= MIN_ROUNDS and clock() - started > ENOUGH_S:
            break
        progress(f"precisions: speed, round {number + 1}")
        for each in [each for each in wanted if each not in failed]:
            try:
                warm_up = 1 if pool.is_open(each) else WARM_UP
                engine = pool.get(each)
                for _ in range(warm_up):
                    engine.segment(frames[0])
                for frame in frames:
                    before = clock()
                    engine.segment(frame)
                    samples[each].append((clock() - before) * 1000)
            except EngineError as error:
                failed[each] = str(error)
                pool.drop(each)
    return {each: Timing(tuple(taken)) for each, taken in samples.items() if each not in failed}

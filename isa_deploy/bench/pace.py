"""How one contestant spends its turn: one call after another, or a full pipeline."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from isa_deploy.bench.race import Turn

__all__ = ["TURN_S", "WarmUp", "calls_in_turn", "pipelined_turn", "sequential_turn", "warm_up"]

Clock = Callable[[], float]

TURN_S = 0.1
"""A turn lasts about this long, or one call where that takes longer: long beside the few milliseconds in which a
processor's caches and clock come back from the turn before."""

WARM_UP_S = 0.5
MIN_WARM_UP_CALLS = 3
MAX_CALLS = 1000


@dataclass(frozen=True)
class WarmUp:
    """``first_s``: seconds of the first call, which compiles and allocates; ``call_s``: of the last one; ``calls``."""

    first_s: float
    call_s: float
    calls: int


def warm_up(call: Callable[[], object], clock: Clock = time.perf_counter) -> WarmUp:
    """Call until half a second has passed, three times at least."""
    taken: list[float] = []
    while len(taken) < MIN_WARM_UP_CALLS or (sum(taken) < WARM_UP_S and len(taken) < MAX_CALLS):
        begun = clock()
        call()
        taken.append(clock() - begun)
    return WarmUp(taken[0], taken[-1], len(taken))


def calls_in_turn(call_s: float, capacity: int) -> int:
    """How many calls fill a turn; with several in flight, each place in the pipeline is used twice at least."""
    wanted = math.ceil(TURN_S / max(call_s, 1e-9))
    if capacity > 1:
        wanted = capacity * max(2, math.ceil(wanted / capacity))
    return min(max(wanted, 1), max(MAX_CALLS, 2 * capacity))


def sequential_turn(
    call: Callable[[], object], calls: int, frames_per_call: int, clock: Clock = time.perf_counter
) -> Turn:
    """``calls`` calls, each begun when the one before it is done."""
    taken: list[float] = []
    begun = before = clock()
    for _ in range(calls):
        call()
        now = clock()
        taken.append(now - before)
        before = now
    return Turn(calls * frames_per_call, before - begun, tuple(taken))


def pipelined_turn(
    submit: Callable[[], Any], capacity: int, calls: int, frames_per_call: int, clock: Clock = time.perf_counter
) -> Turn:
    """``calls`` calls with ``capacity`` of them in flight, in the pipeline's steady state.

    ``submit`` gives something with ``result()``.  The pipeline is filled before the clock starts and emptied after it
    stops: a video fills and empties it once.  A call's seconds are from its submission to its result, its wait for
    those before it included.
    """
    in_flight: deque[tuple[float, Any]] = deque()

    def give() -> None:
        submitted = clock()
        in_flight.append((submitted, submit()))

    def take() -> float:
        submitted, pending = in_flight.popleft()
        pending.result()
        return clock() - submitted

    for _ in range(capacity):
        give()
    for _ in range(capacity):  # the first ones found less before them
        take()
        give()
    taken: list[float] = []
    begun = clock()
    for _ in range(calls):
        taken.append(take())
        give()
    seconds = clock() - begun
    while in_flight:
        take()
    return Turn(calls * frames_per_call, seconds, tuple(taken))

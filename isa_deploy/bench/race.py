"""Taking turns: A B C, A B C, ..., so that a machine whose speed drifts slows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["MIN_ROUNDS", "Limit", "Racer", "Turn", "race"]

MIN_ROUNDS = 3
"""Of a race by seconds: fewer have no middle."""


@dataclass(frozen=True)
class Turn:
    """What one racer did in one round.

    ``frames`` frames in ``seconds``; ``calls_s``: seconds from each call's beginning to its answer, which in a
    pipeline overlap.  ``energy_j``: joules that each meter of the machine counted meanwhile.
    """

    frames: int
    seconds: float
    calls_s: tuple[float, ...]
    energy_j: dict[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Frames a second."""
        return self.frames / self.seconds


class Racer(Protocol):
    """Something that takes turns."""

    def turn(self) -> Turn:
        """Work for a moment, and tell what was done."""


@dataclass(frozen=True)
class Limit:
    """When a race ends: after ``rounds``, or with the first round that ends after ``seconds``; one of them is None."""

    rounds: int | None = None
    seconds: float | None = None

    def part_done(self, rounds: int, seconds: float) -> float:
        """How much of the race is over, 0 to 1, after so many whole rounds and so much time."""
        if self.rounds is not None:
            return min(1.0, rounds / self.rounds)
        assert self.seconds is not None
        by_time = seconds / self.seconds if self.seconds > 0 else 1.0
        return min(1.0, by_time, rounds / MIN_ROUNDS)


def race(
    racers: Sequence[Racer],
    limit: Limit,
    clock: Callable[[], float] = time.perf_counter,
    after_round: Callable[[float], None] = lambda part: None,
) -> list[list[Turn]]:
    """The turns of each racer; all took the same number.

    ``clock`` gives seconds.  ``after_round`` is told how much of the race is over, 0 to 1.
    """
    turns: list[list[Turn]] = [[] for _ in racers]
    begun = clock()
    rounds, part = 0, 0.0
    while part < 1:
        for racer, taken in zip(racers, turns, strict=True):
            taken.append(racer.turn())
        rounds += 1
        part = limit.part_done(rounds, clock() - begun)
        after_round(part)
    return turns

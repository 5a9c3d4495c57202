"""Streams, events and graphs: work that is queued, and what has to come before what.

Nothing runs when it is queued.  A synchronisation runs only what it has to wait for, as late and as little
as CUDA allows, so that a result which was not waited for is not there.  Besides, vector clocks tell for
each two pieces of work that touch the same memory whether anything orders them.

A pretended clock tells how long work takes (:class:`standin.knobs.Knobs`): a piece of work begins when what comes
before it has ended, and when the host had given it; the host itself takes no time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from standin.memory import Access

__all__ = ["Clock", "Event", "Graph", "Handle", "Job", "Queued", "Stream", "join"]

Clock = dict[int, int]
"""For each stream, up to which of its pieces of work everything is known to be done."""


def join(clock: Clock, other: Clock) -> None:
    """Know what another clock knows too."""
    for stream, sequence in other.items():
        if sequence > clock.get(stream, 0):
            clock[stream] = sequence


class Handle:
    """What CUDA gives out for a stream, an event or a graph; ``int(handle)`` is its address."""

    __slots__ = ("__weakref__", "_address", "_kind")

    def __init__(self, kind: str, address: int) -> None:
        self._kind = kind
        self._address = address

    def __int__(self) -> int:
        return self._address

    def __index__(self) -> int:
        return self._address

    def __repr__(self) -> str:
        return f"<{self._kind} 0x{self._address:x}>"


@dataclass(frozen=True)
class Job:
    """Something to do on a stream.

    ``prepare`` is called when it is queued (and again at each launch of a graph that holds it) and returns
    what is to be done later.  ``ms``: how long it takes, on the pretended clock.
    """

    name: str
    accesses: tuple[Access, ...]
    prepare: Callable[[], Callable[[], None]]
    ms: float = 0.0


@dataclass
class Queued:
    """A job in a stream's queue, or a wait for another stream: ``waits`` is that stream and how far."""

    sequence: int
    run: Callable[[], None] | None = None
    waits: tuple[Stream, int] | None = None


@dataclass(eq=False)
class Stream:
    """Work in order.  ``sequence`` numbers the pieces from 1; ``ends_ms``: when the last of them is done."""

    number: int
    clock: Clock = field(default_factory=dict)
    queue: deque[Queued] = field(default_factory=deque)
    sequence: int = 0
    capture: Capture | None = None
    device: int = 0  # the GPU that was current
    foreign: bool = False  # one of CUDA's own default streams, which a caller may work on
    ends_ms: float = 0.0

    def run_until(self, sequence: int) -> None:
        """Run the queue up to a piece, and of other streams what that waits for."""
        while self.queue and self.queue[0].sequence <= sequence:
            entry = self.queue.popleft()
            if entry.waits is not None:
                entry.waits[0].run_until(entry.waits[1])
            if entry.run is not None:
                entry.run()


@dataclass(eq=False)
class Event:
    """A point in a stream: ``mark`` is the stream and the piece of work, None when it was never recorded.

    ``at_ms``: when it is passed, on the pretended clock.
    """

    mark: tuple[Stream, int] | None = None
    clock: Clock = field(default_factory=dict)
    captured: bool = False
    queries: int = 0  # since it was recorded
    keeps_time: bool = False
    at_ms: float = 0.0


@dataclass(eq=False)
class Capture:
    """A graph in the making.  ``broken``: the name of the error that ends it."""

    thread: int
    jobs: list[Job] = field(default_factory=list)
    broken: str | None = None


@dataclass(eq=False)
class Graph:
    """Captured work, or (``executable``) what can be launched of it."""

    jobs: tuple[Job, ...]
    executable: bool

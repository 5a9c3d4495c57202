"""The state of the pretended machine for this process: one ``WORLD``, made anew when the package is imported."""

from __future__ import annotations

import atexit
import json
import os
import threading
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from standin.knobs import PREFIX, knobs_from_environment
from standin.memory import FRESH, Access, Allocation, Registry
from standin.streams import Clock, Event, Handle, Job, Queued, Stream, join
from standin.violation import StandinViolation

__all__ = ["WORLD", "World"]

T = TypeVar("T")

DEVICE_ADDRESSES = 0x1000_0000_0000
HANDLES = 0x5000_0000


class World:
    """The pretended GPU with all that the program has of it."""

    def __init__(self) -> None:
        self.knobs = knobs_from_environment()
        self.lock = threading.RLock()
        self.device = Registry("device", DEVICE_ADDRESSES)
        self.pinned = Registry("pinned host", None)
        self.calls: Counter[str] = Counter()
        self.violations: list[str] = []
        self.device_asked = False
        self.lost: str | None = None
        self.last_error = "cudaSuccess"
        self.synchronisations = 0
        self.executions = 0
        self.weights_bytes = 0
        self.host_clock: Clock = {}
        self.host_ms = 0.0  # on the pretended clock
        self.timed_events = 0
        self._current = threading.local()
        self._streams = 0
        self._handles: dict[int, Any] = {}
        self._dead: set[int] = set()
        self._next_handle = HANDLES
        for number in (1, 2):  # the legacy and the per-thread default stream, for callers' own work
            self._handles[number] = self.new_stream(foreign=True)
        if PREFIX + "REPORT" in os.environ:
            atexit.register(self._report, Path(os.environ[PREFIX + "REPORT"]))

    # rules

    def violate(self, text: str) -> NoReturn:
        """Raise and keep a violation; kept, because what a finaliser raises reaches nobody."""
        self.violations.append(text)
        raise StandinViolation(text)

    # devices

    @property
    def current_device(self) -> int:
        """The calling thread's GPU."""
        return getattr(self._current, "device", 0)

    @current_device.setter
    def current_device(self, device: int) -> None:
        self._current.device = device

    def devices_in_use(self) -> set[int]:
        """The GPUs that live memory or streams of the program lie on."""
        streams = (each for each in self._handles.values() if isinstance(each, Stream) and not each.foreign)
        memory = (each for registry in (self.device, self.pinned) for each in registry.live())
        return {each.device for each in (*streams, *memory)}

    # handles

    def new_stream(self, foreign: bool = False) -> Stream:
        """A stream without a handle."""
        self._streams += 1
        return Stream(self._streams, device=self.current_device, foreign=foreign)

    def give(self, kind: str, thing: Any) -> Handle:
        """A handle for a stream, an event or a graph."""
        self._next_handle += 0x40
        self._handles[self._next_handle] = thing
        return Handle(kind, self._next_handle)

    def take(self, handle: Any, kind: type[T], what: str) -> T:
        """What a handle stands for."""
        number = self._number(handle, what)
        found = self._handles.get(number)
        if not isinstance(found, kind):
            gone = "was destroyed" if number in self._dead else "is none"
            self.violate(f"{what} was given the {kind.__name__.lower()} 0x{number:x}, which {gone}")
        return found

    def drop(self, handle: Any) -> None:
        """Forget a handle that was destroyed."""
        number = int(handle)
        del self._handles[number]
        self._dead.add(number)

    def stream(self, handle: Any, what: str) -> Stream:
        """The stream of a handle for work of ours: never a default stream."""
        number = self._number(handle, what)
        if number in (0, 1, 2):
            self.violate(f"{what} uses the default stream ({number})")
        return self.take(number, Stream, what)

    def any_stream(self, handle: Any, what: str) -> Stream:
        """The stream of a handle, where a caller's default stream (1 or 2) may stand too."""
        if self._number(handle, what) == 0:
            self.violate(f"{what} uses the default stream (0)")
        return self.take(handle, Stream, what)

    def live_handles(self) -> list[str]:
        """Streams, events and graphs that were not destroyed."""
        return [f"{type(each).__name__} 0x{number:x}" for number, each in self._handles.items() if number > 2]

    def _number(self, handle: Any, what: str) -> int:
        if handle is None:
            self.violate(f"{what} was given None for a handle")
        return int(handle)

    # memory

    def memory(self, address: int, size: int, what: str) -> tuple[Registry, Allocation]:
        """The live allocation that holds a range of addresses."""
        found = self.device.holding(address)
        registry = self.device if found else self.pinned
        found = found or self.pinned.holding(address)
        if found is None:
            self.violate(f"{what} uses 0x{address:x}, which is neither device memory nor pinned host memory")
        if not found.live:
            self.violate(f"{what} uses {registry.kind} memory 0x{address:x} that was freed")
        if address + size > found.start + found.size:
            self.violate(
                f"{what} goes out of range: {size} bytes at 0x{address:x}, and that allocation ends after "
                f"{found.start + found.size - address}"
            )
        return registry, found

    def range(self, address: int, size: int, registry: Registry, write: bool, what: str) -> Access:
        """An access to memory of one kind, checked."""
        held, _ = self.memory(address, size, what)
        if held is not registry:
            self.violate(f"{what} takes 0x{address:x} for {registry.kind} memory, and it is {held.kind} memory")
        return Access(address, address + size, write)

    def bytes_at(self, access: Access) -> Any:
        """The contents of a range as a uint8 array."""
        _, allocation = self.memory(access.start, access.end - access.start, "work")
        return allocation.view(access.start, access.end - access.start)

    def free(self, registry: Registry, address: int, what: str) -> None:
        """Give memory back; nothing may be pending on it."""
        found = registry.at(address)
        other = self.pinned if registry is self.device else self.device
        if found is None:
            kind = f"{other.kind} memory" if other.at(address) else f"no start of {registry.kind} memory"
            self.violate(f"{what} was given 0x{address:x}, which is {kind}")
        if not found.live:
            self.violate(f"{what} frees 0x{address:x} a second time")
        pending = self._pending(found)
        if pending and self.lost is None:
            self.violate(f"{what} frees 0x{address:x}, which pending work uses ({pending[0].work})")
        registry.release(found)

    def live_allocations(self) -> list[str]:
        """Memory that was not given back."""
        return [
            f"{each.size} bytes of {registry.kind} memory at 0x{each.start:x}"
            for registry in (self.device, self.pinned)
            for each in registry.live()
        ]

    # work

    def submit(self, stream: Stream, job: Job) -> None:
        """Queue a job, or record it where the stream captures."""
        if not stream.foreign and stream.device != self.current_device:
            self.violate(
                f"{job.name} is put into a stream of GPU {stream.device} while GPU {self.current_device} is current"
            )
        if stream.capture is not None:
            stream.capture.jobs.append(job)
            return
        stream.sequence += 1
        join(stream.clock, self.host_clock)
        stream.clock[stream.number] = stream.sequence
        stream.ends_ms = max(stream.ends_ms, self.host_ms) + job.ms
        for access in job.accesses:
            self._order(stream, job, access)
        stream.queue.append(Queued(stream.sequence, job.prepare()))

    def record(self, stream: Stream, event: Event) -> None:
        """Let an event stand behind all that a stream has."""
        join(stream.clock, self.host_clock)
        event.mark = (stream, stream.sequence)
        event.clock = dict(stream.clock)
        event.queries = 0
        event.at_ms = max(stream.ends_ms, self.host_ms)

    def wait(self, stream: Stream, event: Event) -> None:
        """Let a stream wait for an event; for one that was never recorded it does not wait."""
        if event.mark is None:
            return
        stream.sequence += 1
        join(stream.clock, event.clock)
        stream.clock[stream.number] = stream.sequence
        stream.ends_ms = max(stream.ends_ms, event.at_ms)
        stream.queue.append(Queued(stream.sequence, waits=event.mark))

    def synchronize(self, stream: Stream, sequence: int, clock: Clock, ends_ms: float) -> bool:
        """Run what a host waits for, until ``ends_ms``; False where the device is lost from now on."""
        self.synchronisations += 1
        if self.synchronisations == self.knobs.lose_device:
            self.lose()
            return False
        stream.run_until(sequence)
        join(self.host_clock, clock)
        self.host_ms = max(self.host_ms, ends_ms)
        return True

    def lose(self) -> None:
        """Lose the device: every call fails from now on, and queued work is gone."""
        self.lost = self.knobs.lost_as
        for each in self._handles.values():
            if isinstance(each, Stream):
                each.queue.clear()
                each.capture = None

    def done(self, stream: int, sequence: int) -> bool:
        """Whether the host knows a piece of work to be done."""
        return self.host_clock.get(stream, 0) >= sequence

    def pending_on(self, allocation: Allocation, start: int, end: int) -> bool:
        """Whether work that the host has not waited for touches a range."""
        return any(each.start < end and start < each.end for each in self._pending(allocation))

    def poison(self, access: Access) -> None:
        """Make what a host could read too early rubbish, unless pending work still needs it."""
        _, allocation = self.memory(access.start, access.end - access.start, "a copy")
        mine = [each for each in self._pending(allocation) if each.start < access.end and access.start < each.end]
        if len(mine) <= 1:
            allocation.view(access.start, access.end - access.start).fill(FRESH)

    def _pending(self, allocation: Allocation) -> list[Access]:
        allocation.accesses = [each for each in allocation.accesses if not self.done(each.stream, each.sequence)]
        return allocation.accesses

    def _order(self, stream: Stream, job: Job, access: Access) -> None:
        _, allocation = self.memory(access.start, access.end - access.start, job.name)
        for earlier in self._pending(allocation):
            overlap = earlier.start < access.end and access.start < earlier.end
            if overlap and (earlier.write or access.write) and stream.clock.get(earlier.stream, 0) < earlier.sequence:
                how = {True: "writes", False: "reads"}
                self.violate(
                    f"{job.name} on stream {stream.number} {how[access.write]} memory that {earlier.work} on stream "
                    f"{earlier.stream} {how[earlier.write]}, and nothing orders the two"
                )
        allocation.accesses.append(
            Access(access.start, access.end, access.write, stream.number, stream.sequence, job.name)
        )

    def begin_unsafe_call(self) -> bool:
        """A call that ends this thread's capture; True where there was one."""
        broken = False
        for each in self._handles.values():
            if isinstance(each, Stream) and each.capture and each.capture.thread == threading.get_ident():
                each.capture.broken = "cudaErrorStreamCaptureInvalidated"
                broken = True
        return broken

    def _report(self, path: Path) -> None:
        """What a subprocess leaves behind, as JSON."""
        path.write_text(
            json.dumps(
                {
                    "calls": dict(self.calls),
                    "violations": self.violations,
                    "live_allocations": self.live_allocations(),
                    "live_handles": self.live_handles(),
                }
            )
        )


WORLD = World()

"""What tests see of the pretended machine, and how they reach into its memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from standin.knobs import Knobs
from standin.memory import Access
from standin.streams import Job
from standin.violation import StandinViolation
from standin.world import WORLD

__all__ = ["Gpu"]


class Gpu:
    """The GPU that the stand-in pretends.

    ``knobs``: the machine and its faults, to be set at any time.  ``calls``: how often each function of CUDA's
    and each of a context's was called.  ``violations``: broken rules that nobody expected.
    """

    @property
    def knobs(self) -> Knobs:
        """The machine and its faults (:class:`standin.knobs.Knobs`)."""
        return WORLD.knobs

    @property
    def calls(self) -> Counter[str]:
        """How often each function was called."""
        return WORLD.calls

    @property
    def violations(self) -> list[str]:
        """Broken rules, those too that a finaliser raised to nobody."""
        return WORLD.violations

    @property
    def violation(self) -> type[StandinViolation]:
        """The exception."""
        return StandinViolation

    @property
    def timed_events(self) -> int:
        """How many events were ever made that keep time, which makes recording them slow."""
        return WORLD.timed_events

    @contextmanager
    def expect_violation(self, words: str) -> Iterator[None]:
        """The block has to break a rule whose message contains ``words``."""
        try:
            yield
        except StandinViolation as error:
            if words not in str(error):
                raise
            WORLD.violations.remove(str(error))
            return
        raise AssertionError(f"nothing was raised, and a violation was expected: {words}")

    def devices_in_use(self) -> set[int]:
        """The GPUs that memory or streams of the program lie on."""
        return WORLD.devices_in_use()

    @property
    def device_bytes(self) -> int:
        """Bytes of device memory that are allocated now."""
        return WORLD.device.bytes_live

    @property
    def device_bytes_peak(self) -> int:
        """The most bytes of device memory that ever were allocated."""
        return WORLD.device.bytes_peak

    @property
    def allocations(self) -> int:
        """How many pieces of memory were ever allocated, device and pinned."""
        return WORLD.device.allocations + WORLD.pinned.allocations

    def live_allocations(self) -> list[str]:
        """Memory that was not given back."""
        return WORLD.live_allocations()

    def live_handles(self) -> list[str]:
        """Streams, events and graphs that were not destroyed."""
        return WORLD.live_handles()

    def fail_execute_in(self, count: int) -> None:
        """Let the ``count``-th execution from now on fail; 1 is the next."""
        WORLD.knobs.fail_execute = WORLD.executions + count

    def lose_device_in(self, count: int) -> None:
        """Let the ``count``-th synchronisation from now on find the device lost; 1 is the next."""
        WORLD.knobs.lose_device = WORLD.synchronisations + count

    def allocate(self, content: bytes, device: int = 0, managed: bool = False) -> int:
        """Device memory of a caller's with this content, on a GPU or managed; its address."""
        with WORLD.lock:
            address = WORLD.device.allocate(len(content), device)
            _, allocation = WORLD.memory(address, len(content), "the test")
            allocation.managed = managed
            self.write(address, content)
            return address

    def free(self, address: int) -> None:
        """Give a caller's device memory back."""
        with WORLD.lock:
            WORLD.free(WORLD.device, address, "the test")

    def read(self, address: int, size: int) -> bytes:
        """Device memory, as a caller reads it that does not wait: pending writes to it are a violation."""
        with WORLD.lock:
            allocation = self._settled(address, size, "the test reads")
            return allocation.view(address, size).tobytes()

    def write(self, address: int, content: bytes, stream: Any = None) -> None:
        """Write device memory: at once, or as a caller's work on a stream (1 and 2: CUDA's default streams)."""
        with WORLD.lock:
            if stream is None:
                allocation = self._settled(address, len(content), "the test writes")
                allocation.view(address, len(content))[:] = bytearray(content)
                return
            target = Access(address, address + len(content), True)

            def prepare() -> Callable[[], None]:
                def run() -> None:
                    WORLD.bytes_at(target)[:] = bytearray(content)

                return run

            WORLD.submit(WORLD.any_stream(stream, "the test"), Job("a caller's work", (target,), prepare))

    def _settled(self, address: int, size: int, what: str) -> Any:
        _, allocation = WORLD.memory(address, size, what)
        if WORLD.pending_on(allocation, address, address + size):
            WORLD.violate(f"{what} 0x{address:x} while work on it is pending")
        return allocation

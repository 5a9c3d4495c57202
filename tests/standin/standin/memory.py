"""Device memory and pinned host memory: two registries of allocations.

A device address is no address of this process, so that a program which reads it on the host crashes as it
would with a GPU; it is never given out twice, so that memory which was given back is always known.  Pinned
memory is real host memory.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field

import numpy as np

__all__ = ["FREED", "FRESH", "Access", "Allocation", "Registry"]

FRESH = 0xA5
"""What memory holds that nothing was written to yet."""

FREED = 0xDD
"""What memory holds that was given back."""

ALIGNMENT = 256
GUARD = 4096
KEPT_FREED = 256 << 20
"""So many bytes of pinned memory are kept, poisoned, after they were given back."""


@dataclass(frozen=True)
class Access:
    """A range of memory that a piece of work reads or writes: ``start`` included, ``end`` not."""

    start: int
    end: int
    write: bool
    stream: int = 0
    sequence: int = 0
    work: str = ""


@dataclass
class Allocation:
    """One piece of memory.  ``contents``: uint8, one entry a byte."""

    start: int
    size: int
    contents: np.ndarray
    live: bool = True
    device: int = 0  # the GPU that was current
    managed: bool = False  # device memory that every GPU reads
    accesses: list[Access] = field(default_factory=list)

    def view(self, address: int, size: int) -> np.ndarray:
        """The bytes from an address on, as a writable uint8 array."""
        offset = address - self.start
        return self.contents[offset : offset + size]


class Registry:
    """Allocations of one kind, by address; those that were given back too."""

    def __init__(self, kind: str, first_address: int | None) -> None:
        """``first_address``: where made-up addresses begin, or None for the addresses of real host memory."""
        self.kind = kind
        self._next = first_address
        self._starts: list[int] = []
        self._by_start: dict[int, Allocation] = {}
        self.bytes_live = 0
        self.bytes_peak = 0
        self.allocations = 0

    def allocate(self, size: int, device: int = 0) -> int:
        """New memory, full of FRESH; its address.  ``device``: the GPU that is current."""
        if self._next is None:
            block = np.empty(size + GUARD, np.uint8)
            offset = -block.ctypes.data % GUARD
            contents = block[offset : offset + size]
            start = contents.ctypes.data if size else block.ctypes.data + offset
            self._drop_overlapping(start, size)
        else:
            start = self._next
            self._next += -(-(size + GUARD) // ALIGNMENT) * ALIGNMENT
            contents = np.empty(size, np.uint8)
        contents.fill(FRESH)
        bisect.insort(self._starts, start)
        self._by_start[start] = Allocation(start, size, contents, device=device)
        self.bytes_live += size
        self.bytes_peak = max(self.bytes_peak, self.bytes_live)
        self.allocations += 1
        return start

    def at(self, start: int) -> Allocation | None:
        """The allocation that begins at an address, live or given back."""
        return self._by_start.get(start)

    def holding(self, address: int) -> Allocation | None:
        """The allocation that an address lies in, live or given back."""
        index = bisect.bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        found = self._by_start[self._starts[index]]
        return found if address < found.start + max(found.size, 1) else None

    def live(self) -> list[Allocation]:
        """What was allocated and not given back."""
        return [each for each in self._by_start.values() if each.live]

    def release(self, allocation: Allocation) -> None:
        """Give memory back: its contents are poisoned, its range stays known."""
        allocation.live = False
        allocation.contents.fill(FREED)
        self.bytes_live -= allocation.size
        if self._next is not None:
            allocation.contents = np.empty(0, np.uint8)
            return
        freed = [each for each in self._by_start.values() if not each.live]
        kept = sum(each.size for each in freed)
        for each in freed:
            if kept <= KEPT_FREED:
                break
            kept -= each.size
            self._forget(each)

    def _forget(self, allocation: Allocation) -> None:
        self._starts.remove(allocation.start)
        del self._by_start[allocation.start]

    def _drop_overlapping(self, start: int, size: int) -> None:
        """Host memory that was dropped may come again: what lay there before is no longer known."""
        for each in [e for e in self._by_start.values() if e.start < start + size and start < e.start + e.size]:
            self._forget(each)

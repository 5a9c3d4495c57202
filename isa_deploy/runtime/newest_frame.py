"""One place between two threads, in which a newer frame replaces one that nobody took."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Generic, TypeVar

__all__ = ["NewestFrame"]

T = TypeVar("T")


class NewestFrame(Generic[T]):
    """Holds the newest of the frames that one thread puts, until another takes it.

    What is put is never waited for, so a slow taker gets fewer frames, not older ones.  The filling thread
    works inside ``with slot:``, which ends the slot; an exception that leaves the block is raised to the taker.

    ``put_count``: frames put.  ``left_out``: those of them that were replaced before anybody took them.
    """

    def __init__(self) -> None:
        self.put_count = 0
        self.left_out = 0
        self._changed = threading.Condition()
        self._frame: T | None = None
        self._ended = False
        self._error: BaseException | None = None

    @property
    def ended(self) -> bool:
        """Whether no frame will come any more, the last one was taken, and :meth:`take` has nothing to raise."""
        with self._changed:
            return self._ended and self._frame is None and self._error is None

    def put(self, frame: T) -> None:
        """Replace what is there."""
        with self._changed:
            self.put_count += 1
            self.left_out += self._frame is not None
            self._frame = frame
            self._changed.notify()

    def take(self, timeout_s: float) -> T | None:
        """The newest frame, waiting for one; None where none came in time, or none will come any more.

        Raises what the filling thread ended with.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or self._ended, timeout_s)
            if self._error is not None:
                raise self._error
            frame, self._frame = self._frame, None
            return frame

    def end(self) -> None:
        """Say that no frame will come any more."""
        self._end(None)

    def __enter__(self) -> NewestFrame[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._end(error)
        return True  # it is raised where the frames are taken

    def _end(self, error: BaseException | None) -> None:
        with self._changed:
            self._ended = True
            self._error = self._error or error
            self._changed.notify_all()

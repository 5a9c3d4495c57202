"""Work that overlaps: a thread that makes things ahead of their use, and one that uses them behind.

Both hold a bounded number of things, so that the fast side waits for the slow one and memory does not grow::

    with Ahead(reader, 3) as frames, Behind(draw, 3) as drawing:
        for frame in frames:
            drawing.put(work_on(frame))

Numpy, OpenCV, codecs and engines let other threads run while they work, so that the three parts share the cores.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

from isa_deploy.errors import InputError

__all__ = ["Ahead", "Behind", "wait_for_end"]

T = TypeVar("T")


class Ahead(Iterator[T]):
    """The items of an iterable, in order, made by a thread that runs up to ``depth`` of them ahead.

    The thread begins with the ``with`` and is gone at its end, whether or not all items were taken; it then has
    at most finished the item that it was making.  An exception of the iterable comes out of :func:`next`, after
    the items before it.  ``depth`` counts all items that exist and were not taken, the one in the making
    included.  The thread alone touches the iterable while the block lasts.
    """

    def __init__(self, items: Iterable[T], depth: int) -> None:
        _check_depth(depth)
        self._items = items
        self._depth = depth
        self._ready: deque[T] = deque()
        self._error: BaseException | None = None
        self._ended = False
        self._closed = False
        self._changed = threading.Condition()
        self._gone = threading.Event()
        self._thread = threading.Thread(target=self._run, name="isa-ahead", daemon=True)

    def __enter__(self) -> Ahead[T]:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        wait_for_end(self._gone)
        self._thread.join()
        self._ready.clear()

    def __next__(self) -> T:
        with self._changed:
            while not self._ready and not self._ended:
                self._changed.wait()
            if self._ready:
                item = self._ready.popleft()
                self._changed.notify_all()
                return item
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            raise StopIteration

    def _run(self) -> None:
        try:
            items = iter(self._items)
            while self._has_room():
                try:
                    item = next(items)
                except StopIteration:
                    break
                with self._changed:
                    self._ready.append(item)
                    self._changed.notify_all()
                del item  # or one more than the depth would be held while this thread waits
        except BaseException as error:  # noqa: BLE001  it is raised again where the items are taken
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
            self._gone.set()

    def _has_room(self) -> bool:
        with self._changed:
            while len(self._ready) >= self._depth and not self._closed:
                self._changed.wait()
            return not self._closed


class Behind(Generic[T]):
    """Calls ``work`` with each item that it is given, in order, in a thread of its own; at most ``depth`` wait.

    At the end of the ``with``, and on Ctrl-C, all that was given is done first; on any other exception what waits
    is dropped.  The thread is gone in every case.  An exception of ``work`` ends the work: the items behind it are
    dropped, and it comes out of the next :meth:`put` or, at the latest, of the end of the ``with``.
    """

    def __init__(self, work: Callable[[T], None], depth: int) -> None:
        _check_depth(depth)
        self._work = work
        self._depth = depth
        self._waiting: deque[T] = deque()
        self._error: BaseException | None = None
        self._told = False
        self._closed = False
        self._changed = threading.Condition()
        self._gone = threading.Event()
        self._thread = threading.Thread(target=self._run, name="isa-behind", daemon=True)

    def put(self, item: T) -> None:
        """Give an item, once there is room.  Raises what ``work`` raised for an earlier one."""
        with self._changed:
            while len(self._waiting) >= self._depth and self._error is None:
                self._changed.wait()
            self._raise_error()
            self._waiting.append(item)
            self._changed.notify_all()

    def __enter__(self) -> Behind[T]:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closed = True
            if kind is not None and not issubclass(kind, KeyboardInterrupt):
                self._waiting.clear()
            self._changed.notify_all()
        wait_for_end(self._gone, self._drop)
        self._thread.join()
        if not self._told and (kind is None or issubclass(kind, KeyboardInterrupt)):
            self._raise_error()

    def _drop(self) -> None:
        with self._changed:
            self._waiting.clear()

    def _raise_error(self) -> None:
        if self._error is not None:
            self._told = True
            raise self._error

    def _run(self) -> None:
        try:
            self._work_on()
        finally:
            self._gone.set()

    def _work_on(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return
                item = self._waiting.popleft()
                self._changed.notify_all()
            try:
                self._work(item)
            except BaseException as error:  # noqa: BLE001  it is raised again where the items are given
                with self._changed:
                    self._error = error
                    self._waiting.clear()
                    self._changed.notify_all()
                return
            del item


def wait_for_end(gone: threading.Event, hurry: Callable[[], None] = lambda: None) -> None:
    """Wait for a thread's last act, which sets ``gone``.

    A Ctrl-C meanwhile hurries it, and is raised when it has ended: what the thread works with, a codec's file, is not
    to be closed under its hands.  Not with Thread.join(): an interrupted one takes the thread for dead (Python 3.11).
    """
    interruption: KeyboardInterrupt | None = None
    while not gone.is_set():
        try:
            gone.wait()
        except KeyboardInterrupt as error:
            interruption = error
            hurry()
    if interruption is not None:
        raise interruption


def _check_depth(depth: int) -> None:
    if depth < 1:
        raise InputError(f"a depth of {depth}: at least one item must be allowed to wait")

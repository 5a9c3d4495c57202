"""What a live run says: one line that is kept up to date on a terminal, and a line now and then elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.markup import escape

__all__ = ["LiveStatus", "open_status"]

LINE_EVERY_S = 10.0


class LiveStatus(Protocol):
    """Told how a live run goes, inside a ``with``."""

    def __enter__(self) -> LiveStatus: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def update(self, line: str, now_s: float) -> None:
        """How it goes at a moment, in seconds of any clock that never goes back."""

    def note(self, line: str) -> None:
        """Something that the user should know."""


def open_status() -> LiveStatus:
    """One changing line where stderr is a terminal, a line each :data:`LINE_EVERY_S` where it is not."""
    console = Console(stderr=True, highlight=False)
    return _Terminal(console) if console.is_terminal else _Lines()


class _Terminal:
    def __init__(self, console: Console) -> None:
        self._status = console.status("waiting for the camera")
        self._console = console

    def __enter__(self) -> _Terminal:
        self._status.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._status.__exit__(kind, error, trace)

    def update(self, line: str, now_s: float) -> None:
        self._status.update(escape(line))

    def note(self, line: str) -> None:
        self._console.print(line, markup=False, soft_wrap=True)


class _Lines:
    def __init__(self) -> None:
        self._said_s: float | None = None

    def __enter__(self) -> _Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def update(self, line: str, now_s: float) -> None:
        if self._said_s is None:
            self._said_s = now_s
        if now_s - self._said_s >= LINE_EVERY_S:
            self._said_s = now_s
            self.note(line)

    def note(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

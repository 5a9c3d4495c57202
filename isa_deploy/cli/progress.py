"""How far a command is: a bar on a terminal, plain lines elsewhere, both on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from isa_deploy.cli.run import shown

__all__ = ["FileProgress", "open_progress"]

LINE_EVERY_S = 10.0  # of a file that takes long


class FileProgress(Protocol):
    """Told about each file in turn: :meth:`begin`, any number of :meth:`advance`, :meth:`end`."""

    def __enter__(self) -> FileProgress: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def begin(self, title: str) -> None:
        """A file is begun."""

    def advance(self, part: float | None, count: int, things: str = "frames") -> None:
        """``part`` of the file, 0 to 1, or None where that is unknown, and ``count`` of its ``things`` are done."""

    def end(self, result: str) -> None:
        """The file is done; ``result`` says with what."""

    def note(self, line: str) -> None:
        """Something that the user should know."""


def open_progress(files: int) -> FileProgress:
    """A bar where stderr is a terminal, plain lines where it is not."""
    console = Console(stderr=True, highlight=False)
    return _Bar(console, files) if console.is_terminal else _Lines(files)


class _Lines:
    def __init__(self, files: int) -> None:
        self._files = files
        self._file = 0
        self._title = ""
        self._begun = self._said = 0.0

    def __enter__(self) -> _Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def begin(self, title: str) -> None:
        self._file += 1
        self._title = title
        self._begun = self._said = time.monotonic()

    def advance(self, part: float | None, count: int, things: str = "frames") -> None:
        now = time.monotonic()
        if now - self._said >= LINE_EVERY_S:
            self._said = now
            share = "" if part is None else f"{part:.0%}, "
            self._say(f"{self._title}: {share}{count} {things}, {count / (now - self._begun):.1f} {things}/s")

    def end(self, result: str) -> None:
        self._say(f"{self._title}: {result}")

    def note(self, line: str) -> None:
        print(shown(line), file=sys.stderr, flush=True)

    def _say(self, line: str) -> None:
        self.note(f"[{self._file}/{self._files}] {line}")


class _Bar:
    def __init__(self, console: Console, files: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task("", total=files, rate="")
        self._done = 0
        self._begun = 0.0

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begin(self, title: str) -> None:
        self._begun = time.monotonic()
        self._progress.update(self._task, description=shown(title))

    def advance(self, part: float | None, count: int, things: str = "frames") -> None:
        rate = count / max(1e-9, time.monotonic() - self._begun)
        self._progress.update(self._task, completed=self._done + (part or 0.0), rate=f"{rate:.1f} {things}/s")

    def end(self, result: str) -> None:
        self._done += 1
        self._progress.update(self._task, completed=self._done)

    def note(self, line: str) -> None:
        self._progress.console.print(shown(line), markup=False, soft_wrap=True)

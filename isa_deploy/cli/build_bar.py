"""How far the build of a plan is, as a bar on a terminal and as a few lines elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

__all__ = ["BuildBar"]

LINE_EVERY = 0.25


class BuildBar:
    """Told the steps of an export and the part of a build that is done.  A context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = console.status("reading the checkpoint") if console.is_terminal else None
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._told = 0.0

    def step(self, line: str) -> None:
        """A step of the export begins."""
        self._end_bar()
        self._told = 0.0
        if self._status is not None:
            self._status.start()
            self._status.update(line)
        else:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def part(self, phase: str, part: float) -> None:
        """``part`` of the build, 0 to 1, is done; TensorRT calls what it does ``phase``."""
        if self._status is None:
            if part >= self._told + LINE_EVERY:
                self._told = part
                self._console.print(f"built {part:.0%}", markup=False, highlight=False)
            return
        if self._bar is None:
            self._status.stop()
            columns = (BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn())
            words = TextColumn("{task.description}", markup=False)
            self._bar = Progress(*columns, words, console=self._console, transient=True)
            self._bar.start()
            self._task = self._bar.add_task(phase, total=1.0)
        self._bar.update(self._task, completed=part, description=phase)

    def pause(self) -> None:
        """Leave the terminal to other lines until the next step."""
        self._end_bar()
        if self._status is not None:
            self._status.stop()

    def __enter__(self) -> BuildBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pause()

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

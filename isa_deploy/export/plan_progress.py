"""How far a build is, from TensorRT's nested phases, and the way to stop it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Protocol

from isa_deploy.runtime.backends.tensorrt_api import TensorRTModule

__all__ = ["BuildProgress", "BuildWatch", "ignore_progress", "make_monitor"]


class BuildProgress(Protocol):
    """Told how far a build is, in the thread that called for it."""

    def __call__(self, phase: str, part: float) -> None:
        """``phase`` is what TensorRT does, in its words; ``part`` of the whole is done, 0 to 1, never falling."""


def ignore_progress(phase: str, part: float) -> None:
    """Tell nobody."""


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class BuildWatch:
    """What the building threads note and the waiting thread reads.

    Each phase has steps, and a step may be a phase of its own.  TensorRT does not say how long a step
    takes, so the part is a count of steps, weighted by how deep they lie.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._phases: dict[str, _Phase] = {}
        self._newest = ""
        self._part = 0.0
        self._cancelled = False

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins."""
        with self._lock:
            self._phases[name] = _Phase(parent if parent in self._phases else None, max(steps, 1))
            self._newest = name

    def step(self, name: str, index: int) -> bool:
        """Step ``index``, from 0, of a phase is done.  Whether to go on."""
        with self._lock:
            phase = self._phases.get(name)
            if phase is not None:
                phase.done = min(max(index + 1, phase.done), phase.steps)
            return not self._cancelled

    def finish(self, name: str) -> None:
        """A phase ends, done or stopped."""
        with self._lock:
            phase = self._phases.pop(name, None)
            if phase is not None and phase.parent is not None:
                self._newest = phase.parent

    def cancel(self) -> None:
        """Ask TensorRT to stop at its next step."""
        with self._lock:
            self._cancelled = True

    def read(self) -> tuple[str, float]:
        """The newest phase's name, "" before the first, and the part that is done, 0 to 1, never falling."""
        with self._lock:
            # only one step of a parent can be under way, however many phases that has started
            roots = [name for name, phase in self._phases.items() if phase.parent not in self._phases]
            self._part = max([self._part, *(self._part_of(name) for name in roots)])
            return self._newest, self._part

    def _part_of(self, name: str) -> float:
        phase = self._phases[name]
        inner = [self._part_of(child) for child, each in self._phases.items() if each.parent == name and child != name]
        return min(phase.done + max(inner, default=0.0), phase.steps) / phase.steps


def make_monitor(module: TensorRTModule, watch: BuildWatch) -> Any:
    """A progress monitor that writes into ``watch``.  The caller keeps it while the build runs."""
    base: Any = module.IProgressMonitor

    class Monitor(base):  # type: ignore[misc]  # the base class comes with the library
        def __init__(self) -> None:
            base.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            watch.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return watch.step(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            watch.finish(phase_name)

    return Monitor()

"""The parent's hand on a contestant's process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

from isa_deploy import errors
from isa_deploy.bench.contestants import Contestant, Shape
from isa_deploy.bench.energy import Meter, energy_between
from isa_deploy.bench.pace import WarmUp
from isa_deploy.bench.race import Turn
from isa_deploy.errors import EngineError

__all__ = ["Facts", "Worker"]

QUIET_S = 0.05  # where a process cannot be stopped: until its threads have given up waiting for work


@dataclass(frozen=True)
class Facts:
    """What an opened contestant says of itself.

    ``in_flight``: calls at once.  ``gflop``: of a call, told by the yardstick alone.  ``open_s``: seconds of opening,
    imports included.  ``before_mib``: memory before the library was imported.
    """

    name: str
    library: str
    precision: str
    device: str
    in_flight: int
    gflop: float | None
    open_s: float
    before_mib: float | None


class Worker:
    """A contestant in a process of its own; a :class:`isa_deploy.bench.race.Racer`.

    Between its turns the process is stopped (POSIX): thread pools that spin for a while after their work would
    otherwise run into the next contestant's turn.  Use it in a ``with``.

    ``debug``: what the libraries print goes to stderr, not to nowhere.  Raises what opening raises, and
    :class:`EngineError` where the process dies.
    """

    def __init__(self, contestant: Contestant, shape: Shape, meters: Sequence[Meter] = (), debug: bool = False) -> None:
        self._meters = meters
        self._says = tempfile.TemporaryFile()  # noqa: SIM115  closed with the worker
        # this process's own path, and not the folder that it happens to be in
        code = f"import sys; sys.path[:] = {sys.path!r}; from isa_deploy.bench.worker import main; main()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if debug else self._says,
            text=True,
            encoding="utf-8",
        )
        self._title = type(contestant).__name__.lower()
        try:
            told = self._ask("open", kind=type(contestant).__name__, contestant=asdict(contestant), shape=shape)
            self.facts = Facts(**told)
            self._title = self.facts.name
            self._rest()
        except BaseException:
            self.close()
            raise

    def warm_up(self) -> WarmUp:
        """Run until it runs as it will."""
        return WarmUp(**self._asked_awake("warm_up"))

    def turn(self) -> Turn:
        """See :class:`isa_deploy.bench.race.Racer`; with the energy that the machine counted meanwhile."""
        self._wake()
        before = [meter.read_j() for meter in self._meters]
        told = self._ask("turn")
        energy_j = energy_between(self._meters, before)
        self._rest()
        return Turn(told["frames"], told["seconds"], tuple(told["calls_s"]), energy_j)

    def peak_mib(self) -> float | None:
        """The most memory that the process had at once until now, MiB."""
        told: float | None = self._asked_awake("memory")["peak_mib"]
        return told

    def split(self, size_hw: tuple[int, int], clip: str | None) -> dict[str, Any]:
        """See :func:`isa_deploy.bench.frame_split.split_frame`; of an :class:`Engine` only."""
        return self._asked_awake("split", size_hw=size_hw, clip=clip)

    def close(self) -> None:
        """End the process; it has nothing to lose."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._says):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:  # a request that was not read
                    continue

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _asked_awake(self, do: str, **arguments: Any) -> dict[str, Any]:
        self._wake()
        told = self._ask(do, **arguments)
        self._rest()
        return told

    def _wake(self) -> None:
        if os.name == "posix":
            self._process.send_signal(signal.SIGCONT)

    def _rest(self) -> None:
        if os.name == "posix":
            self._process.send_signal(signal.SIGSTOP)
        else:
            time.sleep(QUIET_S)

    def _ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise EngineError(self._epitaph())
        told: dict[str, Any] = json.loads(line)
        if "refused" in told:
            raise getattr(errors, told["refused"])(told["why"])
        if "failed" in told:
            raise RuntimeError(f"{self._title}: {told['failed']}: {told['why']}")
        answer: dict[str, Any] = told["answer"]
        return answer

    def _epitaph(self) -> str:
        code = self._process.wait()
        if code == -9:
            return f"{self._title}: its process was killed, by a lack of memory most likely; use a smaller --shape"
        self._says.seek(0)
        said = self._says.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(said) if line.strip()), "it said nothing")
        return f"{self._title}: its process ended with code {code} ({last}); --debug shows all that it says"

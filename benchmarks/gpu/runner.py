"""Runs one step in a process of its own, within its time."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gpu.steps import Step

__all__ = ["Outcome", "Status", "run_step"]

Status = Literal["passed", "failed", "not run", "not reached"]

RUN_STEP = Path(__file__).resolve().with_name("run_step.py")
LAST_WORDS = 15


@dataclass(frozen=True)
class Outcome:
    """How a step ended.  ``reason``: in a line, None where it passed; ``last_words``: what a failed one said."""

    status: Status
    reason: str | None
    figures: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    last_words: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """As it stands in the result."""
        return {
            "status": self.status,
            "reason": self.reason,
            "seconds": round(self.seconds, 1),
            "figures": self.figures,
        }


def run_step(step: Step, scale: str, folder: Path, environment: dict[str, str], left_s: float) -> Outcome:
    """Run a step until it ends, its budget is used up, or the suite's time is (``left_s`` seconds)."""
    limit = min(step.budget_s, left_s)
    record = folder / f"{step.name.replace(' ', '-')}.json"
    command = [sys.executable, str(RUN_STEP), step.module, step.model, scale, str(folder), str(record)]
    started = time.monotonic()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        # a group of its own: torch's compiler has workers that must end with the step
        process = subprocess.Popen(command, env=environment, stdout=said, stderr=said, start_new_session=True)
        code: int | None = None
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(limit)
        finally:
            _end(process)
        said.seek(0)
        words = [line.rstrip() for line in said.read().splitlines() if line.strip()]
    seconds = time.monotonic() - started
    written = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    figures = written.get("figures", {})
    last_words = tuple(words[-LAST_WORDS:])
    if code is None and limit < step.budget_s:
        return Outcome("not reached", f"the suite's time ended {seconds:.0f} s into it", figures, seconds)
    if code is None:
        return Outcome("failed", f"took longer than its {step.budget_s:g} s", figures, seconds, last_words)
    if code == 0 and "status" in written:
        return Outcome(written["status"], written.get("reason"), figures, seconds)
    ended = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    last = words[-1] if words else "it said nothing"
    return Outcome("failed", f"{last} ({ended})", figures, seconds, last_words)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what is left of the step's own process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()

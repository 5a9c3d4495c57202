"""Running the commands on plans, and looking at what they leave."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PLAN_FILES = {"model.plan", "model.json", "plan-report.json", "plan-report.html"}


@dataclass(frozen=True)
class Done:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line that a command that failed ends with."""
        *before, last = self.err.splitlines()
        assert ": error: " in last, self.err
        assert not any(": error: " in line or "Traceback" in line for line in before), self.err
        return last


Command = Callable[..., Done]
Folders = Callable[..., Path]
Environment = Callable[..., dict[str, str]]


def names(folder: Path) -> set[str]:
    """What lies in a folder, hidden files too."""
    return {path.name for path in folder.iterdir()}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder with its content."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def command_line(name: str, *arguments: str | Path) -> list[str]:
    """A command as a process of its own."""
    return [sys.executable, "-c", f"from isa_deploy.cli.{name} import main; main()", *map(str, arguments)]


def edit_manifest(plan: Path, **engine: Any) -> Path:
    """Change fields of the engine record beside a plan; ``remove=True`` takes the record away."""
    beside = plan.with_suffix(".json")
    record = json.loads(beside.read_text())
    if engine.pop("remove", False):
        del record["engine"]
    else:
        record["engine"] |= engine
    beside.write_text(json.dumps(record))
    return plan

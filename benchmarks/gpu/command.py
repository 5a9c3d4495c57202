"""``make gpu``: everything that only a GPU can prove, in one command, written as one JSON file."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu.runner import Outcome, run_step
from gpu.scale import SCALES
from gpu.steps import steps_of
from gpu.targets import held_against
from gpu.wheelhouse import install
from isa_deploy.errors import IsaError
from isa_deploy.files import make_folder, os_errors, replacing

__all__ = ["main"]

NOT_REACHED = Outcome("not reached", "the suite's time ended before it")
NOT_ASKED = Outcome("not run", "left out by --only")

ROOT = Path(__file__).resolve().parents[2]

FORMAT_VERSION = 1
DEADLINE_S = 470.0
"""A little less than the eight minutes that the command may take."""

DESCRIPTION = """Everything that only a GPU can prove, written to OUT/gpu-DEVICE.json.

Steps that cannot run here are recorded with the reason.  Exit code: 0 where every step passed or cannot run
here, 1 where one failed or the time did not reach it, 2 where there is no GPU."""


def main(arguments: list[str]) -> int:
    """The command; gives its exit code."""
    started = time.monotonic()
    parser = argparse.ArgumentParser(
        prog="make gpu", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wheels", type=Path, default=ROOT / ".wheels", help="folder of wheels (see wheels.py)")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the result")
    parser.add_argument("--deadline", type=float, default=DEADLINE_S, metavar="SECONDS", help="of the whole run")
    parser.add_argument("--models", type=Path, help="graphs exported before, in folders named as the suite's models")
    parser.add_argument("--only", nargs="+", metavar="STEP", help="these steps, by their module's name")
    parser.add_argument("--quick", action="store_true", help="small frames, the demo model alone: tries the suite")
    given = parser.parse_args(arguments)
    scale = "quick" if given.quick else "full"
    known = {step.module for step in steps_of(SCALES[scale])}
    if given.only is not None and not known.issuperset(given.only):
        parser.error(f"--only {' '.join(given.only)}: there are only the steps {', '.join(sorted(known))}")
    # so that a step that runs is ended with the suite
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        make_folder(given.out)
        with tempfile.TemporaryDirectory(prefix="isa-gpu-") as work:
            if given.models is not None:
                with os_errors(given.models, "read the graphs"):
                    shutil.copytree(given.models, Path(work) / "models")
            return _run(Path(work), given.wheels, given.out, started + given.deadline, scale, given.only)
    except IsaError as error:
        print(f"make gpu: {error}", file=sys.stderr)
        return 1


def _run(work: Path, wheels: Path, out: Path, end: float, scale: str, only: Sequence[str] | None) -> int:
    """Every step, the result written after each."""
    started = time.monotonic()
    paths, installed = install(wheels, work / "wheels") if wheels.is_dir() else ([], {})
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join([*map(str, paths), *filter(None, [os.environ.get("PYTHONPATH")])])
    first, *others = steps_of(SCALES[scale])
    outcomes = {first.name: run_step(first, scale, work, environment, end - time.monotonic())}
    found = outcomes[first.name]
    device = found.figures.get("device")
    if found.status == "not run":
        print(f"make gpu: no GPU here: {found.reason}", file=sys.stderr)
        return 2
    _tell(first.name, found)
    name = str(device["name"]) if device else "unknown"
    path = out / f"gpu-{_slug(name)}{'' if scale == 'full' else '-quick'}{'' if only is None else '-partial'}.json"
    speed_model = next(step.model for step in others if step.module == "video")
    for step in others:
        asked = only is None or step.module in only
        outcomes[step.name] = NOT_REACHED if asked else NOT_ASKED
    for step in others:
        left = end - time.monotonic()
        if left > 0 and outcomes[step.name] is NOT_REACHED:
            outcomes[step.name] = run_step(step, scale, work, environment, left)
        _tell(step.name, outcomes[step.name])
        steps = {name: outcome.record() for name, outcome in outcomes.items()}
        _write(
            path,
            {
                "format_version": FORMAT_VERSION,
                "what": "isa-deploy's GPU suite: benchmarks/gpu",
                "scale": scale,
                "device": name,
                "seconds": round(time.monotonic() - started, 1),
                "wheels": installed,
                "targets": held_against(steps, name, speed_model),
                "steps": steps,
            },
        )
    print(path)
    return 0 if all(each.status in ("passed", "not run") for each in outcomes.values()) else 1


def _tell(name: str, outcome: Outcome) -> None:
    """A line for a step; what a failed one said, for whoever has to mend it, below."""
    reason = f"  {outcome.reason}" if outcome.reason else ""
    print(f"{outcome.status:<11}  {name:<24}  {outcome.seconds:6.1f} s{reason}", flush=True)
    for line in outcome.last_words:
        print(f"    {line}", flush=True)


def _write(path: Path, content: dict[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "unnamed"

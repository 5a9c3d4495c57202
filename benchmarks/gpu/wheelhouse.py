"""Installs the wheels that travelled with the repository, without a network and without touching the environment."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["install"]

PART = re.compile(r"(?P<name>.+\.whl)\.part(?P<number>\d+)")


def install(folder: Path, work: Path) -> tuple[list[Path], dict[str, str]]:
    """Install a folder's wheels below ``work``: the folders for PYTHONPATH, and what became of each wheel.

    Wheels that were split are joined first.  All at once; where pip refuses that, each on its own, so that
    one for another Python does not cost the others.
    """
    wheels = sorted([*folder.glob("*.whl"), *_joined(folder, work / "joined")])
    if not wheels:
        return [], {}
    refused = _pip(wheels, work / "all")
    if refused is None:
        return [work / "all"], {wheel.name: "installed" for wheel in wheels}
    shutil.rmtree(work / "all", ignore_errors=True)
    folders, told = [], {}
    for wheel in wheels:
        target = work / wheel.stem
        refused = _pip([wheel], target)
        told[wheel.name] = "installed" if refused is None else refused
        if refused is None:
            folders.append(target)
    return folders, told


def _joined(folder: Path, into: Path) -> list[Path]:
    parts: dict[str, dict[int, Path]] = {}
    for path in folder.iterdir():
        found = PART.fullmatch(path.name)
        if found is not None:
            parts.setdefault(found["name"], {})[int(found["number"])] = path
    into.mkdir(parents=True)
    made = []
    for name, numbered in parts.items():
        with (into / name).open("wb") as whole:
            for number in sorted(numbered):
                with numbered[number].open("rb") as part:
                    shutil.copyfileobj(part, whole)
        made.append(into / name)
    return made


def _pip(wheels: list[Path], target: Path) -> str | None:
    """Install; pip's last line where it refuses, else None."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    command += ["--no-deps", "--no-compile", "--target", str(target), *map(str, wheels)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return None
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"pip ended with exit code {done.returncode}"

"""Building and opening plans over the stand-in, by the commands' own entry points.

A test module asks for these by ``pytest_plugins = ("standin_fixtures", "plan_fixtures")``.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from conftest import Exporter
from plan_commands import Command, Done, Folders, command_line
from standin_fixtures import STANDIN


@pytest.fixture
def isa(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """A command in this process: ``isa("export", graph, "--plan")``."""
    before = signal.getsignal(signal.SIGTERM)

    def call(name: str, *arguments: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", [f"isa-{name}", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as leaving:
            import_module(f"isa_deploy.cli.{name}").main()
        out, err = capfd.readouterr()
        assert isinstance(leaving.value.code, int)
        return Done(leaving.value.code, out, err)

    yield call
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def graph_folder(exported: Exporter, tmp_path: Path) -> Path:
    """A copy of the demo model's FP16 export, alone in a folder of its own."""
    folder = tmp_path / "place" / "engine"
    shutil.copytree(exported("isanet_r18w16_streets", precision="fp16"), folder)
    return folder


@pytest.fixture(scope="session")
def planned_once(exported: Exporter, golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """A function that builds the demo model's plan with options, once for all tests and workers."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if base.name.startswith("popen-") else base) / "plans"
    shared.mkdir(exist_ok=True)

    def make(*options: str) -> Path:
        key = "-".join(["fp16", *(option.strip("-") for option in options)])
        folder = shared / key
        with (shared / f"{key}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "model.plan").exists():
                shutil.copytree(exported("isanet_r18w16_streets", precision="fp16"), folder, dirs_exist_ok=True)
                line = command_line("export", folder, "--plan", "--frames", golden / "scene_0.png", *options)
                environment = {key: value for key, value in os.environ.items() if not key.startswith("ISA_STANDIN_")}
                done = subprocess.run(
                    line,
                    env={**environment, "PYTHONPATH": str(STANDIN)},
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert done.returncode == 0, done.stderr
        return folder

    return make


@pytest.fixture
def built_plan(planned_once: Folders, tmp_path: Path) -> Path:
    """A copy of a plan for compute capability 8.9, with graph, manifest and reports beside it."""
    shutil.copytree(planned_once(), tmp_path / "planned")
    return tmp_path / "planned" / "model.plan"

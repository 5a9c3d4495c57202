"""Fixtures that put the stand-in for TensorRT and CUDA (``tests/standin``) in the place of the real ones.

A test module asks for them by ``pytest_plugins = ("standin_fixtures",)``.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

STANDIN = Path(__file__).resolve().parent / "standin"

_PACKAGES = ("standin", "tensorrt", "tensorrt_rtx", "tensorrt_libs", "tensorrt_bindings", "cuda")

Environment = Callable[..., dict[str, str]]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A pretended GPU (``standin.control.Gpu``), new for each test, with both libraries installed.

    A rule that was broken and not expected fails the test, where code swallowed the exception too.
    """
    for variable in [each for each in os.environ if each.startswith("ISA_STANDIN_")]:
        monkeypatch.delenv(variable)
    monkeypatch.syspath_prepend(STANDIN)
    kept = _take_out()
    try:
        control = importlib.import_module("standin.control").Gpu()
        yield control
        gc.collect()  # what a finaliser gives back wrongly has to be known now
        assert not control.violations, "; ".join(control.violations)
    finally:
        _take_out()
        sys.modules.update(kept)


@pytest.fixture
def gpu_environment(tmp_path: Path) -> Environment:
    """A function that gives a subprocess's environment with the stand-in: ``gpu_environment(device_count=0)``.

    Its arguments are knobs (``standin.knobs.Knobs``).  The process leaves its calls, violations and what it did
    not give back in ``standin.json`` of the test's ``tmp_path``.
    """

    def make(**knobs: Any) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ISA_STANDIN_")}
        paths = [str(STANDIN), *filter(None, [environment.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        environment["ISA_STANDIN_REPORT"] = str(tmp_path / "standin.json")
        for name, value in knobs.items():
            environment[f"ISA_STANDIN_{name.upper()}"] = str(int(value) if isinstance(value, bool) else value)
        return environment

    return make


def _take_out() -> dict[str, Any]:
    """Take the packages that the stand-in replaces out of ``sys.modules``, and give what was there."""
    names = [name for name in sys.modules if name.partition(".")[0] in _PACKAGES]
    return {name: sys.modules.pop(name) for name in names}

"""The C++ runtime's build tree, for tests that hold it against Python."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from isa_deploy.runtime.native import NativeLibrary

BUILD = Path(os.environ.get("ISA_BUILD_DIR", Path(__file__).resolve().parent.parent / "build" / "runtime"))


def built(name: str) -> Path:
    """A file of the build tree; where it is absent the test is skipped, with what would make it."""
    path = BUILD / name
    if not path.is_file():
        pytest.skip(f"no {name} in {BUILD}: `make cpp` builds it where cmake, a compiler and the engine's headers are")
    return path


def native_library() -> NativeLibrary:
    """The C++ runtime, or the test is skipped."""
    return NativeLibrary(built("libisa.so"))

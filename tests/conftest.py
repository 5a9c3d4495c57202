"""Fixtures that every test may use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of reference data made with mmsegmentation itself (tests/golden/README.md)."""
    return TESTS / "golden"


@pytest.fixture(scope="session")
def golden_index(golden: Path) -> dict[str, Any]:
    """Every golden case with all its parameters."""
    index: dict[str, Any] = json.loads((golden / "index.json").read_text())
    return index

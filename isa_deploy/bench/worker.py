"""A contestant's own process: told by lines of JSON on stdin what to do, it answers each by a line.

A process each keeps memory, thread pools and clashing libraries of the contestants apart.  Whatever the libraries print
goes to stderr.  The process ends with its parent: its stdin is closed then, and the system ends it where it is stopped.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from isa_deploy.bench.parent_death import end_with_parent

__all__ = ["main"]


def main() -> None:
    """Serve until stdin ends."""
    end_with_parent()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    server = _Server()
    for line in sys.stdin:
        print(json.dumps(_answer(server, json.loads(line))), file=answers, flush=True)


def _answer(server: _Server, request: dict[str, Any]) -> dict[str, Any]:
    from isa_deploy.errors import IsaError

    do: Callable[..., dict[str, Any]] = getattr(server, request.pop("do"))
    try:
        return {"answer": do(**request)}
    except IsaError as error:
        return {"refused": type(error).__name__, "why": str(error)}
    except Exception as error:  # noqa: BLE001  the parent tells of it, as of its own
        traceback.print_exc()
        return {"failed": type(error).__name__, "why": str(error)}


class _Server:
    def __init__(self) -> None:
        self._runner: Any = None

    def open(self, kind: str, contestant: dict[str, Any], shape: list[int]) -> dict[str, Any]:
        import cv2  # noqa: F401  in every contestant's memory, so in none's growth
        import numpy as np  # noqa: F401

        from isa_deploy.bench import contestants, memory
        from isa_deploy.bench.runners import open_runner

        before_mib = memory.resident_mib()
        begun = perf_counter()
        batch, height, width = shape
        runner = self._runner = open_runner(getattr(contestants, kind)(**contestant), (batch, height, width))
        return {
            "name": runner.name,
            "library": runner.library,
            "precision": runner.precision,
            "device": runner.device,
            "in_flight": runner.in_flight,
            "gflop": runner.gflop,
            "open_s": perf_counter() - begun,
            "before_mib": before_mib,
        }

    def warm_up(self) -> dict[str, Any]:
        return asdict(self._runner.warm_up())

    def turn(self) -> dict[str, Any]:
        return asdict(self._runner.turn())

    def memory(self) -> dict[str, Any]:
        from isa_deploy.bench import memory

        return {"peak_mib": memory.peak_mib()}

    def split(self, size_hw: list[int], clip: str | None) -> dict[str, Any]:
        from isa_deploy.bench.frame_split import split_frame

        height, width = size_hw
        return asdict(split_frame(self._runner.segmenter, (height, width), None if clip is None else Path(clip)))

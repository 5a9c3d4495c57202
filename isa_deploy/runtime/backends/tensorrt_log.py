"""What TensorRT says while it works: its log and its error recorder, kept for one message in the end.

TensorRT returns None or False and says why elsewhere: to the error recorder where one is set, else to the
log.  Both end in one :class:`TensorRTLog`.  The callbacks only append, because an exception must
never cross into C++.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import Any

from isa_deploy.runtime.backends.tensorrt_api import TensorRTModule

__all__ = ["TensorRTLog", "make_error_recorder", "make_logger", "one_line"]

MAX_ERRORS = 100
MAX_WARNINGS = 20
MAX_CHARACTERS = 600
MAX_REASONS = 10

OUT_OF_MEMORY = (
    "out of memory",
    "outofmemory",
    "could not be allocated",
    "insufficient memory",
    "memory is insufficient",
    "allocator error",
)
"""How TensorRT words it, in lower case.  A tactic that lacks memory is only skipped, and what fails in the
end is "Could not find any implementation": the cause then stands in an earlier line."""

NO_TACTIC_LEFT = "Could not find any implementation"
"""TensorRT's words where every tactic of a layer was skipped."""

NO_DRIVER_ECHO = "catchCudaError"
"""Without a driver every error is followed by a second one, from TensorRT's look at CUDA's last error."""


class TensorRTLog:
    """Errors and warnings of one use of TensorRT, as single lines, without repeats, bounded.

    Written from TensorRT's threads and read from another.
    """

    def __init__(self) -> None:
        self._errors: deque[str] = deque(maxlen=MAX_ERRORS)
        self._memory: deque[str] = deque(maxlen=MAX_ERRORS)
        self._memory_warnings: deque[str] = deque(maxlen=MAX_ERRORS)
        self._warnings: dict[str, None] = {}
        self._all_warnings = 0

    def add_error(self, text: str, out_of_memory: bool = False) -> None:
        """Note an error.  ``out_of_memory``: its code says so, whatever its words."""
        line = one_line(text)
        self._errors.append(line)
        if out_of_memory or _speaks_of_memory(line):
            self._memory.append(line)

    def add_warning(self, text: str) -> None:
        """Note a warning."""
        line = one_line(text)
        if line not in self._warnings:
            self._all_warnings += 1
            if len(self._warnings) < MAX_WARNINGS:
                self._warnings[line] = None
        if _speaks_of_memory(line):
            self._memory_warnings.append(line)

    def clear(self) -> None:
        """Forget everything."""
        self._errors.clear()
        self._memory.clear()
        self._memory_warnings.clear()
        self._warnings.clear()
        self._all_warnings = 0

    @property
    def errors(self) -> tuple[str, ...]:
        """The errors in their order; CUDA's echo of a missing driver only where it is all there is."""
        distinct = tuple(dict.fromkeys(self._errors))
        return tuple(line for line in distinct if NO_DRIVER_ECHO not in line) or distinct

    @property
    def out_of_memory(self) -> str | None:
        """What was said of memory that could not be had, or None.

        A tactic that lacks memory is skipped with a warning, which says nothing about a build that fails for
        another reason: warnings count where no implementation was left in the end.
        """
        lines = list(self._memory)
        if any(NO_TACTIC_LEFT in line for line in self._errors):
            lines += self._memory_warnings
        distinct = tuple(dict.fromkeys(lines))
        return "; ".join(distinct[-MAX_REASONS:]) or None

    def reason(self) -> str:
        """The errors in one line, the first ones where they are many."""
        errors = self.errors
        if not errors:
            return "it gives no reason"
        left_out = len(errors) - MAX_REASONS
        return "; ".join(errors[:MAX_REASONS]) + (f"; and {left_out} more" if left_out > 0 else "")

    @property
    def warnings(self) -> tuple[str, ...]:
        """The first warnings in their order; a last line counts those that were left out."""
        kept = tuple(self._warnings)
        left_out = self._all_warnings - len(kept)
        return (*kept, f"and {left_out} more") if left_out else kept


def one_line(text: str, limit: int = MAX_CHARACTERS) -> str:
    """``text`` without line breaks, cut to ``limit`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _speaks_of_memory(line: str) -> bool:
    lower = line.lower()
    return any(words in lower for words in OUT_OF_MEMORY)


_LOGGERS: dict[int, Any] = {}
_LOGGERS_LOCK = threading.Lock()


def make_logger(module: TensorRTModule, log: TensorRTLog) -> Any:
    """The process's logger for this library, which from now on writes into ``log`` as long as that lives.

    TensorRT keeps the first logger that it is given and ignores any other while something lives that was
    made with the first.  So there is one, for ever; what is said while several logs live goes into all.
    It prints nothing.
    """
    with _LOGGERS_LOCK:
        logger = _LOGGERS.get(id(module))
        if logger is None:
            logger = _LOGGERS[id(module)] = _new_logger(module)
        # replaced as a whole: TensorRT's threads read it at any time
        logger.logs = (*(each for each in logger.logs if each() is not None), weakref.ref(log))
    return logger


def _new_logger(module: TensorRTModule) -> Any:
    errors = (module.ILogger.INTERNAL_ERROR, module.ILogger.ERROR)
    warning = module.ILogger.WARNING
    base: Any = module.ILogger

    class Logger(base):  # type: ignore[misc]  # the base class comes with the library
        def __init__(self) -> None:
            base.__init__(self)
            self.logs: tuple[weakref.ref[TensorRTLog], ...] = ()
            self.module = module  # so that the key, its id, stays its own

        def log(self, severity: Any, msg: str) -> None:
            for reference in self.logs:
                log = reference()
                if log is None:
                    continue
                if severity in errors:
                    log.add_error(msg)
                elif severity == warning:
                    log.add_warning(msg)

    return Logger()


def make_error_recorder(module: TensorRTModule, log: TensorRTLog) -> Any:
    """An error recorder.  The caller keeps it as long as what it was set on.

    It also answers TensorRT, which reads back what was reported.
    """
    base: Any = module.IErrorRecorder
    failed_allocation = module.ErrorCodeTRT.FAILED_ALLOCATION

    class ErrorRecorder(base):  # type: ignore[misc]  # the base class comes with the library
        def __init__(self) -> None:
            base.__init__(self)
            self._reported: list[tuple[Any, str]] = []
            self._overflowed = False

        def report_error(self, code: Any, description: str) -> bool:
            log.add_error(description, out_of_memory=code == failed_allocation)
            if len(self._reported) < MAX_ERRORS:
                self._reported.append((code, description))
            else:
                self._overflowed = True
            return False  # not fatal in itself: a tactic that lacks memory is skipped, and another taken

        def get_num_errors(self) -> int:
            # what C++ looks for, in 10, 11 and RTX; Python calls the class's own method num_errors
            return len(self._reported)

        def get_error_code(self, index: int) -> Any:
            return self._reported[index][0]

        def get_error_desc(self, index: int) -> str:
            return self._reported[index][1]

        def has_overflowed(self) -> bool:
            return self._overflowed

        def clear(self) -> None:
            self._reported.clear()
            self._overflowed = False

    return ErrorRecorder()

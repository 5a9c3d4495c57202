"""How TensorRT reaches the program's logger, error recorder and progress monitor: by plain pointers.

The genuine library keeps no reference to them.  The stand-in keeps a weak one, and it is a violation to use
TensorRT after one of them is gone.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import Any

from standin.members import Member
from standin.violation import StandinViolation
from standin.world import WORLD

__all__ = ["CallbackBase", "Link", "Reporter", "call_back"]

_INFO = Member("Severity", "INFO")


class CallbackBase:
    """What a program derives from.  Its ``__init__`` has to be called, as pybind11 demands."""

    def __init__(self) -> None:
        self._made = True


class Link:
    """A pointer to something of the program's or of TensorRT's that has to live."""

    def __init__(self, thing: Any, what: str) -> None:
        self._what = what
        self._thing = None if thing is None else weakref.ref(thing)

    def get(self) -> Any:
        """What it points to, or None where it was given None."""
        if self._thing is None:
            return None
        found = self._thing()
        if found is None:
            WORLD.violate(f"the {self._what} was freed by Python while TensorRT still uses it: keep a reference")
        return found


def call_back(call: Callable[[], Any], name: str) -> Any:
    """Call a method of the program's.  As in the bindings its exceptions are printed and lost: None then."""
    try:
        return call()
    except StandinViolation:
        raise
    except BaseException as error:  # noqa: BLE001  # the genuine trampolines catch KeyboardInterrupt too
        print(f"[ERROR] Exception caught in {name}(): {type(error).__name__}: {error}", file=sys.stderr)
        return None


class Reporter:
    """A logger and, where there is one, an error recorder that errors go to in its place."""

    def __init__(self, logger: Any, base: Any, errors: Any) -> None:
        """``base`` is the library's ILogger, ``errors`` its ErrorCodeTRT."""
        if not isinstance(logger, base):
            raise TypeError(f"incompatible constructor arguments: {logger!r} is no ILogger")
        if not getattr(logger, "_made", False):
            raise TypeError(f"{base.__name__}.__init__() must be called when overriding __init__")
        self._base = base
        self._errors = errors
        self._logger = Link(logger, "logger")
        self._recorder = Link(None, "error recorder")

    @property
    def recorder(self) -> Any:
        """The program's error recorder, or None."""
        return self._recorder.get()

    def set_recorder(self, recorder: Any) -> None:
        """Take an error recorder, or None."""
        if recorder is not None and not getattr(recorder, "_made", False):
            raise TypeError("IErrorRecorder.__init__() must be called when overriding __init__")
        self._recorder = Link(recorder, "error recorder")

    def alive(self) -> None:
        """A violation where one of them is gone."""
        self._logger.get()
        self._recorder.get()

    def error(self, text: str, code: str = "UNSPECIFIED_ERROR") -> None:
        """Report a failure: to the recorder where there is one, else to the logger."""
        recorder = self._recorder.get()
        if recorder is None:
            self._log(self._base.ERROR, text)
        else:
            member = getattr(self._errors, code, None) or Member("ErrorCodeTRT", code)
            call_back(lambda: recorder.report_error(member, text), "report_error")

    def log_error(self, text: str) -> None:
        """Log an error, whatever recorder there is, as the ONNX parser does."""
        self._log(self._base.ERROR, text)

    def warning(self, text: str) -> None:
        """Log a warning."""
        self._log(self._base.WARNING, text)

    def info(self, text: str) -> None:
        """Log what is no trouble."""
        self._log(_INFO, text)

    def _log(self, severity: Any, text: str) -> None:
        logger = self._logger.get()
        call_back(lambda: logger.log(severity, text), "log")

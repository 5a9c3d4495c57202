"""What every command shares: how it starts, how it fails, and what it exits with.

====  ==================================================================
0     it worked
1     it ran and the result is bad or could not be printed, or it met an
      error nobody expected
2     it could not run: usage, input, a part that is not installed
130   it was interrupted
====  ==================================================================
"""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
import warnings
from typing import Annotated, Any, NoReturn

import typer

import isa_deploy
from isa_deploy.errors import IsaError, ParityError

__all__ = ["BAD_RESULT", "INTERRUPTED", "DebugOption", "VersionOption", "make_app", "one_line", "run", "shown"]

BAD_RESULT = 1
CANNOT_RUN = 2
INTERRUPTED = 130


def make_app() -> typer.Typer:
    """A Typer app for one command, whose errors are left to :func:`run`."""
    return typer.Typer(
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # plain text reads the same on a terminal, in a pipe and in a manual
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def run(app: typer.Typer, program: str) -> NoReturn:
    """Run a command and leave the process with its exit code.

    Every error ends here: an :class:`IsaError` as one line on stderr, Ctrl-C and SIGTERM as code 130, an exception that
    nobody expected as one line and code 1.  ``--debug`` shows the traceback before the line.
    """
    debug = "--debug" in sys.argv[1:]
    # what kill, timeout and docker stop send ends like Ctrl-C: with nothing half-written left behind
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    def show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        print(f"{program}: warning: {' '.join(str(message).split())}", file=sys.stderr)

    warnings.showwarning = show_warning
    output = _watched_output()
    code: int | str | None = 0
    try:
        app(prog_name=program)
    except SystemExit as leaving:  # what Typer ends with: usage errors, --help, typer.Exit
        code = leaving.code
    except KeyboardInterrupt:
        _ignore_signals()
        code = INTERRUPTED
    except BrokenPipeError:
        code = BAD_RESULT
    except ParityError as error:  # the export ran, and what it made is wrong
        code = BAD_RESULT
        _complain(program, one_line(error), debug)
    except IsaError as error:
        code = CANNOT_RUN
        _complain(program, one_line(error), debug)
    except Exception as error:  # noqa: BLE001  the one place where the unexpected becomes a line
        code = BAD_RESULT
        if output is None or error is not output.failure:
            hint = "" if debug else "; this is a fault of isa-deploy: --debug shows where"
            _complain(program, f"unexpected {type(error).__name__}: {one_line(error)}{hint}", debug)
    _ignore_signals()
    failure = _output_failure(output)
    if failure is not None:
        code = BAD_RESULT
        if not isinstance(failure, BrokenPipeError):  # a reader that went away (| head) knows it
            print(f"{program}: error: cannot write to standard output ({failure.strerror})", file=sys.stderr)
        # without this Python complains again on its way out
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(code)


class _Output(io.RawIOBase):
    """Standard output that remembers in ``failure`` why it could not be written."""

    def __init__(self, raw: io.RawIOBase) -> None:
        super().__init__()
        self._raw = raw
        self.failure: OSError | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def isatty(self) -> bool:
        return self._raw.isatty()

    def write(self, data: Any) -> int | None:
        try:
            return self._raw.write(data)
        except OSError as error:
            self.failure = error
            raise


def _watched_output() -> _Output | None:
    """Make ``sys.stdout`` one that any name can be printed to.  Where it is the process's own, not one that somebody
    put in its place, it remembers its failure too, and is returned."""
    if not isinstance(sys.stdout, io.TextIOWrapper):
        return None
    buffer: object = sys.stdout.buffer
    raw = buffer.raw if isinstance(buffer, io.BufferedWriter) else buffer  # PYTHONUNBUFFERED leaves the buffer away
    output = None
    if sys.stdout is sys.__stdout__ and isinstance(raw, io.RawIOBase):
        output = _Output(raw)
        by_line = sys.stdout.line_buffering or raw is buffer
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(output), encoding=sys.stdout.encoding, line_buffering=by_line)
    # a name that the terminal's encoding lacks must not cost the result that stands beside it
    sys.stdout.reconfigure(errors="backslashreplace")
    return output


def _output_failure(output: _Output | None) -> OSError | None:
    """Why something that was printed could not be written to standard output, or None where all of it was."""
    if sys.stdout is None:  # closed by whoever started it (>&-)
        return None
    try:
        sys.stdout.flush()
    except OSError as error:
        return error
    return None if output is None else output.failure


def _ignore_signals() -> None:
    """It is over, and the exit code is decided: whoever holds Ctrl-C down would get a traceback instead."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def one_line(error: BaseException) -> str:
    """An exception's message on one line."""
    return shown(" ".join(str(error).split()))


def shown(text: str) -> str:
    """A text that may hold names of files: what would move a terminal's cursor or colours becomes an escape."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)


def _complain(program: str, message: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    print(f"{program}: error: {message}", file=sys.stderr)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"isa-deploy {isa_deploy.__version__}")
        raise typer.Exit


DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error, and the libraries' logs.")]
"""The option that every command takes; :func:`run` reads it."""

VersionOption = Annotated[
    bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and leave.")
]
"""The option that every command takes."""

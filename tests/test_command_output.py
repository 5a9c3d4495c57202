"""What a command prints reaches whoever reads it, or the command says that it did not."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from isa_deploy.cli.run import make_app, run

NAME = "caf\u00e9 \u4e2d \udce9"  # the last: what is no text in the name of a file

COMMAND = """
import typer
from isa_deploy.cli.run import make_app, run

app = make_app()

@app.command()
def main() -> None:
    {statement}

run(app, "isa-any")
"""


def leave(printed: str, monkeypatch: pytest.MonkeyPatch) -> int | str | None:
    """The exit code of a command in this process that prints."""
    app = make_app()

    @app.command()
    def main() -> None:
        print(printed)

    monkeypatch.setattr(sys, "argv", ["isa-any"])
    with pytest.raises(SystemExit) as leaving:
        run(app, "isa-any")
    return leaving.value.code


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [
        ("ascii", b"caf\\xe9 \\u4e2d \\udce9\n"),
        ("latin-1", b"caf\xe9 \\u4e2d \\udce9\n"),
        ("utf-8", "caf\u00e9 \u4e2d \\udce9\n".encode()),
    ],
)
def test_what_a_terminals_encoding_lacks_is_an_escape(
    monkeypatch: pytest.MonkeyPatch, encoding: str, printed: bytes
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    assert leave(NAME, monkeypatch) == 0
    assert written.getvalue() == printed


def test_a_closed_standard_output_is_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert leave("nobody reads this", monkeypatch) == 0
    assert capsys.readouterr().err == ""


def ended(statement: str, unbuffered: str, stdout: int | IO[str]) -> subprocess.CompletedProcess[str]:
    """A command of one statement in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", COMMAND.format(statement=statement)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a file that is always full: Linux")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "statement", ["print('at the end')", "typer.echo('at once')", "print('larger than a buffer' * 1000)"]
)
def test_a_standard_output_that_takes_nothing_is_one_line_and_code_1(statement: str, unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = ended(statement, unbuffered, full)
    assert done.stderr == "isa-any: error: cannot write to standard output (No space left on device)\n"
    assert done.returncode == 1


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_another_refusal_of_the_system_is_not_taken_for_one_of_standard_output(unbuffered: str) -> None:
    done = ended("print('before'); raise OSError(28, 'No space left on device')", unbuffered, subprocess.PIPE)
    assert (done.returncode, done.stdout) == (1, "before\n")
    assert done.stderr.startswith("isa-any: error: unexpected OSError: [Errno 28] No space left on device; this is a ")

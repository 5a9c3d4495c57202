"""Fetch the genuine Python bindings of TensorRT and CUDA, for tests/test_tensorrt_api.py to look at.

``python tests/genuine/fetch.py [--into DIR]`` makes one folder a part: DIR/tensorrt-10.3, -10.16 and
-11.4 (NVIDIA's bindings over libraries compiled from stub.c: to be looked at, not run),
DIR/tensorrt-rtx-1.7 (libraries and bindings, 95 MB to download, 240 MB on disk), DIR/cuda-13 and DIR/cuda-12.
DIR is by default ``genuine-api`` in the virtual environment.  Each folder is what PYTHONPATH takes.

NVIDIA's wheels are proprietary: they are downloaded when tests are run, from the registry that pip is set to,
and never become part of this repository or of anything made from it.  Versions and hashes are pinned in
requirements-*.txt.

A part that is there is not fetched again.  One that cannot be had (no network, no wheel for this Python or
machine, no C compiler) takes one line and leaves the reason in DIR/<part>.unavailable; the others go on, and
the exit status is 0: tests without that part are skipped, and say so.  A part is there whole or not at all.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

__all__ = ["DEFAULT_FOLDER", "PARTS", "Part", "UnavailableError", "fetch", "is_complete"]

HERE = Path(__file__).resolve().parent
STUB = HERE / "stub.c"
DEFAULT_FOLDER = Path(sys.prefix) / "genuine-api"
MARKER = "complete"

STUB_LIBRARIES = ("libnvinfer", "libnvinfer_plugin", "libnvonnxparser")

# the bindings import a package `tensorrt_libs` first and find the libraries by their sonames, already loaded
LOAD_STUBS = '''"""Loads the stub libraries that stand in for TensorRT's own."""

import ctypes
import pathlib

for name in {names!r}:
    ctypes.CDLL(str(pathlib.Path(__file__).parent / name), mode=ctypes.RTLD_GLOBAL)
'''


@dataclass(frozen=True)
class Part:
    """One version of one library.

    ``imports``: the modules to import in order, the last of which is the API.  ``stub_major``: the major
    version that the stub libraries have in their names, or None where NVIDIA's own libraries are fetched.
    """

    name: str
    version: str
    imports: tuple[str, ...]
    stub_major: int | None = None

    @property
    def requirements(self) -> Path:
        """The pinned wheels."""
        return HERE / f"requirements-{self.name}.txt"

    def digest(self) -> str:
        """What the folder is made of: another one is another folder."""
        content = hashlib.sha256(f"{sysconfig.get_platform()} {sys.implementation.cache_tag}".encode())
        content.update(LOAD_STUBS.encode())
        for source in (self.requirements, STUB):
            content.update(source.read_bytes())
        return content.hexdigest()


PARTS = (
    Part("tensorrt-10.3", "10.3.0", ("tensorrt_libs", "tensorrt_bindings"), stub_major=10),
    Part("tensorrt-10.16", "10.16.1.11", ("tensorrt_libs", "tensorrt_bindings"), stub_major=10),
    Part("tensorrt-11.4", "11.4.0.106", ("tensorrt_libs", "tensorrt_bindings"), stub_major=11),
    Part("tensorrt-rtx-1.7", "1.7.1.116", ("tensorrt_rtx_libs", "tensorrt_rtx_bindings")),
    Part("cuda-13", "13.", ("cuda.bindings", "cuda.bindings.runtime")),
    Part("cuda-12", "12.9.", ("cuda.bindings", "cuda.bindings.runtime")),
)


class UnavailableError(Exception):
    """A part cannot be had here; the message is the reason, in one line."""


def is_complete(part: Part, into: Path) -> bool:
    """Whether the part's folder is there, made of what is pinned now."""
    try:
        return (into / part.name / MARKER).read_text() == part.digest()
    except FileNotFoundError:
        return False


def fetch(part: Part, into: Path) -> str:
    """Make the part's folder and tell what happened, in one line."""
    refusal = into / f"{part.name}.unavailable"
    if is_complete(part, into):
        refusal.unlink(missing_ok=True)
        return "is there"
    # beside its destination, so that the last step is one rename
    with tempfile.TemporaryDirectory(prefix=f".{part.name}-", dir=into) as folder:
        try:
            made = Path(folder) / part.name
            _make(part, made, Path(folder) / "wheels")
            (made / MARKER).write_text(part.digest())
            _replace(made, into / part.name, Path(folder) / "old")
        except (UnavailableError, OSError, zipfile.BadZipFile) as error:
            reason = " ".join(str(error).split())
            _write(refusal, reason, Path(folder) / "reason")
            return f"unavailable: {reason}"
    refusal.unlink(missing_ok=True)
    return "fetched"


def _make(part: Part, folder: Path, wheels: Path) -> None:
    compiler = None
    if part.stub_major is not None:
        compiler = _compiler()  # first: without one the download would be for nothing
    for wheel in _download(part, wheels):
        _unpack(wheel, folder)
    if compiler is not None:
        _compile_stubs(compiler, part, folder / "tensorrt_libs")


def _download(part: Part, wheels: Path) -> list[Path]:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--retries", "2", "--timeout", "30", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    command += ["--dest", str(wheels), "--requirement", str(part.requirements)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["it says nothing"]
        told = [line for line in lines if line.startswith("ERROR:")] or lines
        offline = "the registry cannot be reached; " if "Retrying (" in done.stderr else ""
        raise UnavailableError(f"{offline}pip download: {told[-1][:300]}")
    return sorted(wheels.glob("*.whl"))


def _unpack(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or "\\" in name:
                raise UnavailableError(f"{wheel.name} holds the path {name!r}, which leaves its folder")
        archive.extractall(folder)


def _compiler() -> str:
    if sys.platform != "linux":
        raise UnavailableError(f"the stub libraries are made on Linux alone, and this is {sys.platform}")
    for name in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        if name and (found := shutil.which(name)):
            return found
    raise UnavailableError(
        "no C compiler (cc, gcc or clang) for the stub libraries; on Debian and Ubuntu: apt install gcc"
    )


def _compile_stubs(compiler: str, part: Part, package: Path) -> None:
    package.mkdir()
    names = [f"{library}.so.{part.stub_major}" for library in STUB_LIBRARIES]
    for name in names:
        command = [compiler, "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(package / name), str(STUB)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UnavailableError(f"{compiler} cannot make {name}: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    (package / "__init__.py").write_text(LOAD_STUBS.format(names=names))


def _replace(made: Path, destination: Path, old: Path) -> None:
    if destination.exists():
        destination.rename(old)
    made.rename(destination)


def _write(path: Path, text: str, temporary: Path) -> None:
    temporary.write_text(text + "\n")
    temporary.replace(path)


def main(arguments: list[str] | None = None) -> int:
    """The command.  0 whatever could be had; 2 for wrong usage."""
    parser = argparse.ArgumentParser(description="Fetch the genuine bindings that tests look at.")
    parser.add_argument("--into", type=Path, default=DEFAULT_FOLDER, metavar="DIR", help="default: %(default)s")
    into: Path = parser.parse_args(arguments).into
    try:
        into.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--into {into} cannot be made ({error})")
    for part in PARTS:
        try:
            outcome = fetch(part, into)
        except OSError as error:  # of the folder itself: read-only, full
            outcome = f"unavailable: {error}"
        print(f"{part.name}: {outcome}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

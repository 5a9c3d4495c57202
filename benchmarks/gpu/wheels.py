#!/usr/bin/env python3
"""Downloads what a bare GPU machine without a network needs for ``make gpu``.

    python benchmarks/gpu/wheels.py --into .wheels
    python benchmarks/gpu/wheels.py --into .wheels --split 60 --only rtx onnxruntime-gpu

Copy the folder to the machine together with the repository.  ``--split MIB`` cuts larger wheels into
``NAME.whl.part0``, ``.part1`` and so on; ``make gpu`` joins them.  NVIDIA's wheels have licences of their own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20

GLIBC = ("2_17", "2_24", "2_27", "2_28")


@dataclass(frozen=True)
class Group:
    """Packages that are downloaded together; ``closed``: with what they need in turn."""

    requirements: tuple[str, ...]
    closed: bool


GROUPS = {
    "python": Group(("pydantic", "typer", "jinja2"), closed=True),
    # numpy and onnx, which these need, are taken to be there
    "export": Group(("onnxscript", "onnx-ir", "ml-dtypes"), closed=False),
    "cuda": Group(("cuda-bindings", "cuda-pathfinder"), closed=False),
    "rtx": Group(("tensorrt-rtx-cu13-libs==1.7.1.116", "tensorrt-rtx-cu13-bindings==1.7.1.116"), closed=False),
    "onnxruntime-gpu": Group(("onnxruntime-gpu",), closed=False),
    # from an index that serves them whole, pip's PIP_EXTRA_INDEX_URL
    "tensorrt": Group(("tensorrt-cu13-libs", "tensorrt-cu13-bindings"), closed=False),
}

DEFAULT = ("python", "export", "cuda", "rtx", "onnxruntime-gpu")


def download(group: Group, folder: Path, python: str, processor: str) -> bool:
    """Download a group for another machine; whether that worked.  pip says what did not."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--dest", str(folder)]
    command += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", python]
    for version in GLIBC:
        command += ["--platform", f"manylinux_{version}_{processor}"]
    command += ["--platform", f"manylinux2014_{processor}", "--platform", f"linux_{processor}"]
    command += [] if group.closed else ["--no-deps"]
    return subprocess.run([*command, *group.requirements]).returncode == 0


def split(folder: Path, size: int) -> None:
    """Cut every wheel of the folder that is larger than ``size`` bytes into numbered parts of that size."""
    for wheel in sorted(folder.glob("*.whl")):
        if wheel.stat().st_size <= size:
            continue
        with wheel.open("rb") as whole:
            number = 0
            while part := whole.read(size):
                wheel.with_name(f"{wheel.name}.part{number}").write_bytes(part)
                number += 1
        wheel.unlink()


def main(arguments: list[str]) -> int:
    """The command; its exit code is 1 where a group could not be had."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, default=Path(".wheels"), help="the folder")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=DEFAULT, metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--python", default="3.12", help="the machine's Python")
    parser.add_argument("--processor", default="x86_64", choices=("x86_64", "aarch64"))
    parser.add_argument("--split", type=int, metavar="MIB", help="cut wheels that are larger")
    given = parser.parse_args(arguments)
    if given.split is not None and given.split < 1:
        parser.error(f"--split {given.split} is no size; give MiB, 1 or more")
    given.into.mkdir(parents=True, exist_ok=True)
    missing = [name for name in given.only if not download(GROUPS[name], given.into, given.python, given.processor)]
    if given.split is not None:
        split(given.into, given.split * MIB)
    for path in sorted(given.into.iterdir()):
        print(f"{path.stat().st_size / MIB:8.1f} MiB  {path.name}")
    if missing:
        print(f"wheels.py: not downloaded: {', '.join(missing)}; pip's lines above say why", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

#!/usr/bin/env python3
"""Builds the C++ runtime with the engines' libraries of this Python environment, and tests it.

    python runtime/tests/build_and_test.py --into build/runtime [-DNAME=VALUE ...]

Three builds: the one that is used (``--into``), one with AddressSanitizer and UndefinedBehaviorSanitizer, and one with
ThreadSanitizer.  Where cmake or a C++ compiler is missing it says so and leaves with 0; a failure is exit code 1.
``--only plain`` builds and tests the first alone.  What follows beginning with -D goes to cmake.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

RUNTIME = Path(__file__).resolve().parents[1]
BUILDS = {"plain": "", "asan": "address,undefined", "tsan": "thread"}

THREADED = ("test_api", "test_tensorrt", "test_engine_backends")
"""What is built for ThreadSanitizer: the programs that have threads."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, required=True, help="the build folder")
    parser.add_argument("--only", choices=BUILDS, help="one of the builds")
    arguments, settings = parser.parse_known_args()
    for tool, package in (("cmake", "cmake"), ("c++", "g++")):
        if shutil.which(tool) is None:
            print(f"make cpp: {tool} is not installed (Debian and Ubuntu: apt install {package}), so the C++ runtime")
            print("          is neither built nor tested, and the Python tests that hold it against Python are skipped")
            return 0
    settings = [*known_libraries(), *settings]
    for name in [arguments.only] if arguments.only else BUILDS:
        start = time.monotonic()
        folder = arguments.into if name == "plain" else arguments.into.with_name(f"{arguments.into.name}-{name}")
        failed = build(folder, BUILDS[name], settings) or test(folder, BUILDS[name])
        if failed:
            print(f"make cpp: {failed} in {folder} failed")
            return 1
        print(f"make cpp: {folder} built and tested in {time.monotonic() - start:.0f} s", flush=True)
    return 0


def known_libraries() -> list[str]:
    """Where this Python environment keeps OpenVINO and nlohmann/json, both of which come as wheels."""
    settings = []
    for package, variable, inside in (
        ("openvino", "OpenVINO_DIR", "cmake"),
        ("nlohmann_json", "ISA_JSON_INCLUDE_DIR", "include"),
        ("onnxruntime", "ONNXRUNTIME_LIBRARY", "capi/libonnxruntime.so.*"),
    ):
        found = importlib.util.find_spec(package)
        if found is None or found.origin is None:
            continue
        paths = sorted(Path(found.origin).parent.glob(inside))
        if paths:
            settings.append(f"-D{variable}={paths[-1]}")
    return settings


def build(folder: Path, sanitizers: str, settings: list[str]) -> str:
    """Configure and build; what failed, or nothing."""
    generator = ["-G", "Ninja"] if shutil.which("ninja") and not (folder / "Makefile").exists() else []
    configure = ["cmake", "-S", str(RUNTIME), "-B", str(folder), *generator, "-DISA_WERROR=ON", *settings]
    if sanitizers:
        configure += [f"-DISA_SANITIZE={sanitizers}", "-DISA_BUILD_STATIC=OFF", "-DCMAKE_BUILD_TYPE=None"]
        configure += ["-DCMAKE_UNITY_BUILD=ON", "-DCMAKE_UNITY_BUILD_BATCH_SIZE=16"]  # headers are read once: quicker
    if subprocess.run(configure, stdout=subprocess.DEVNULL, check=False).returncode:
        return "cmake"
    jobs = str(os.cpu_count() or 1)
    targets = ["--target", *THREADED] if sanitizers == "thread" else []
    done = subprocess.run(
        ["cmake", "--build", str(folder), "-j", jobs, *targets],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode:
        sys.stdout.write(done.stdout.decode("utf-8", "replace")[-20_000:])
        return "the build"
    return ""


def test(folder: Path, sanitizers: str) -> str:
    """Run the tests; what failed, or nothing."""
    jobs = str(os.cpu_count() or 1)
    command = ["ctest", "--test-dir", str(folder), "--output-on-failure", "-j", jobs]
    command += ["-R", "test_api|test_tensorrt|test_backend"] if sanitizers == "thread" else []
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    report = done.stdout.decode("utf-8", "replace")
    if done.returncode:
        sys.stdout.write(report[-20_000:])
        return "a test"
    for line in report.splitlines():
        if "Skipped" in line or "tests passed" in line:
            print(line)
    return ""


if __name__ == "__main__":
    sys.exit(main())

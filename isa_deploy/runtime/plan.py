"""A TensorRT plan on disk: reading it with its manifest, and refusing it before TensorRT sees it.

A plan is executable code for a card, and one with ``version_compatible`` is executable code for the host
too.  Everything that its manifest can tell is held against the library, the card and the files beside it
first; what only TensorRT can tell is explained in :mod:`isa_deploy.runtime.backends.tensorrt_engine`.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from pathlib import Path

from isa_deploy.errors import EngineError, EngineIncompatibleError, ManifestError
from isa_deploy.manifest import EngineSpec, Manifest, read_manifest

__all__ = [
    "PLAN_FILE",
    "PLAN_SUFFIXES",
    "check_card",
    "check_code",
    "check_library",
    "fits_card",
    "plan_manifest",
    "read_plan",
    "version_numbers",
]

PLAN_FILE = "model.plan"
PLAN_SUFFIXES = (".plan", ".engine")

MAX_PLAN_BYTES = 4 << 30
"""The largest ISANet's plan is under 0.5 GB; a plan is read into memory whole."""

CHUNK = 1 << 20
AMPERE = (8, 0)


def plan_manifest(path: Path) -> Manifest:
    """The manifest beside a plan: ``NAME.json`` for ``NAME.plan``.

    Raises :class:`ManifestError` where it is missing or no valid manifest.
    """
    beside = path.with_suffix(".json")
    if not beside.is_file():
        raise ManifestError(
            f"{path}: has no manifest {beside.name} beside it, which says how frames are prepared; copy it from where "
            "the plan was built, or from the export's model.json"
        )
    return read_manifest(beside)


def read_plan(path: Path, manifest: Manifest) -> bytes:
    """The bytes of a plan, which are those that the manifest describes.

    Raises :class:`EngineError` where the file cannot be read, is empty or too large, or is another one than
    the manifest was written for, and :class:`EngineIncompatibleError` where the graph beside it has changed
    since the plan was built.
    """
    try:
        size = path.stat().st_size
        if size == 0:
            raise EngineError(f"{path}: the plan has 0 bytes; build it again: {rebuild_command(path)}")
        if size > MAX_PLAN_BYTES:
            raise EngineError(
                f"{path}: the plan has {size >> 30} GiB, more than {MAX_PLAN_BYTES >> 30}; it is none of ours"
            )
        data = path.read_bytes()
    except OSError as error:
        raise EngineError(f"{path}: cannot read the plan ({error.strerror}); check the path") from None
    spec = manifest.engine
    if spec is None:
        return data  # built by another tool from our graph: only TensorRT can tell
    if hashlib.sha256(data).hexdigest() != spec.plan_sha256:
        raise EngineError(
            f"{path}: is not the plan that {path.with_suffix('.json').name} describes (truncated, or of another "
            "build), its SHA-256 differs; copy both again, or build it again: "
            f"{rebuild_command(path)}"
        )
    graph = path.with_suffix(".onnx")
    if graph.is_file() and file_sha256(graph) != spec.onnx_sha256:
        raise EngineIncompatibleError(
            f"{path}: was built from another graph than {graph.name} beside it, which has changed since; build it "
            f"again: {rebuild_command(path)}"
        )
    return data


def check_code(path: Path, spec: EngineSpec, allow_engine_code: bool) -> None:
    """Raise :class:`EngineError` for a plan with code for the host, unless the user allows it."""
    if spec.version_compatible and not allow_engine_code:
        raise EngineError(
            f"{path}: a version-compatible plan carries code that runs on this machine's processor; if you built it or "
            "trust who did, allow it with --allow-engine-code"
        )


def check_library(path: Path, spec: EngineSpec, name: str, version: str) -> None:
    """Raise :class:`EngineIncompatibleError` where the library cannot read the plan.

    ``name``: "tensorrt" or "tensorrt_rtx"; ``version``: the library's.  A plan is for one version; one that is
    version-compatible, for that and later ones of its major version.
    """
    built, running = version_numbers(spec.builder_version), version_numbers(version)
    if spec.builder == name:
        # as many numbers as both have: JetPack says 10.3.0 and pip 10.3.0.26
        common = min(len(built), len(running))
        if built[:common] == running[:common]:
            return
        if spec.version_compatible and built[0] == running[0] and built <= running:
            return
    raise EngineIncompatibleError(
        f"{path}: was built with {spec.builder} {spec.builder_version} and this is {name} {version}; build it "
        f"again here: {rebuild_command(path)}"
    )


def check_card(path: Path, spec: EngineSpec, compute_capability: str, card: str) -> None:
    """Raise :class:`EngineIncompatibleError` where the card is not of the kind that the plan is for."""
    if fits_card(spec.compute_capability, spec.hardware_compatible, compute_capability):
        return
    any_card = spec.hardware_compatible or spec.compute_capability is None
    wanted = "compute capability 8.0 or later" if any_card else f"compute capability {spec.compute_capability}"
    raise EngineIncompatibleError(
        f"{path}: was built for {wanted} and this card is {card}; build it again here: {rebuild_command(path)}"
    )


def fits_card(built_for: str | None, hardware_compatible: bool, compute_capability: str) -> bool:
    """Whether a plan for compute capability ``built_for`` (None: every one from Ampere on) is one for this card's."""
    if built_for == compute_capability:
        return True
    return (hardware_compatible or built_for is None) and version_numbers(compute_capability) >= AMPERE


def rebuild_command(path: Path) -> str:
    """What builds a plan again: from the graph beside it, or from wherever that is."""
    graph = path.with_suffix(".onnx")
    return shlex.join(["isa-export", str(graph) if graph.is_file() else "GRAPH", "--plan"])


def version_numbers(version: str) -> tuple[int, ...]:
    """``"10.16.1.11"`` as numbers, so that 10 is more than 9; what follows them (".post1") does not count."""
    numbers = re.match(r"\d+(\.\d+)*", version, re.ASCII)
    if numbers is None:
        raise EngineError(f"version '{version}' does not begin with numbers; install the library again")
    return tuple(int(part) for part in numbers[0].split("."))


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, as the manifest writes it.  Raises :class:`EngineError` where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise EngineError(f"{path}: cannot read the file ({error.strerror}); check the path") from None
    return digest.hexdigest()

"""Fixtures that every test may use."""

from __future__ import annotations

import fcntl
import json
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# a busy machine is no failure, and the same examples everywhere make a failure anybody's
settings.register_profile("project", deadline=None, derandomize=True)
settings.load_profile("project")

pytest_plugins = ["rtx_fixtures"]

TESTS = Path(__file__).resolve().parent

Exporter = Callable[..., Path]


@pytest.fixture(autouse=True)
def _signal_handlers() -> Iterator[None]:
    """A command that ran inside the test's process leaves its signals ignored: it thinks that it is leaving."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    if threading.current_thread() is threading.main_thread():
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of reference data made with mmsegmentation itself (tests/golden/README.md)."""
    return TESTS / "golden"


@pytest.fixture(scope="session")
def golden_index(golden: Path) -> dict[str, Any]:
    """Every golden case with all its parameters."""
    index: dict[str, Any] = json.loads((golden / "index.json").read_text())
    return index


@pytest.fixture(scope="session")
def exported(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Exporter:
    """A function that exports a golden checkpoint once for all tests and workers, and gives the folder.

    ``exported("tiny_r50_whole_0x", precision="fp16", shape_nhw=(1, 64, 128))``: tracing takes 5 to 30 s, so
    that the folder is shared between the workers of one run.
    """
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if base.name.startswith("popen-") else base) / "exports"
    shared.mkdir(exist_ok=True)

    def make(name: str, **options: Any) -> Path:
        from isa_deploy.export.pipeline import export
        from isa_deploy.runtime.images import read_image

        if options.get("precision") == "fp32":
            del options["precision"]  # the usual one: the same export
        key = "-".join([name, *(str(value) for value in options.values())]).translate(str.maketrans(" (),", "____"))
        folder = shared / key
        with (shared / f"{key}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                # one small picture as it is: at the test scale, which a user's pictures come to, the proof alone
                # takes a minute, and equality at such sizes is test_golden's
                picture = read_image(golden / "img_129x257.png")
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr("isa_deploy.export.proof_frames.bundled_frames", lambda: [("img", picture)])
                    export(golden / f"{name}.pth", folder, **options)
        return folder

    return make


@pytest.fixture(scope="session")
def streets_onnx(exported: Exporter) -> Path:
    """The artefact folder of the trained golden model, float32, any size of frame."""
    return exported("isanet_r18w16_streets")

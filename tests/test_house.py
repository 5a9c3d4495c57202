"""The import rule, the facade, and what the package promises about itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import isa_deploy

PACKAGE = Path(isa_deploy.__file__).parent

MAY_IMPORT = {
    "errors": set(),
    "manifest": {"errors"},
    "files": {"errors"},
    "runtime": {"errors", "manifest", "files", "runtime"},
    "models": {"errors", "manifest", "files", "models"},
    "pages": {"errors", "files", "pages"},
    "evaluate": {"errors", "manifest", "files", "runtime", "pages", "evaluate"},
    "export": {"errors", "manifest", "files", "models", "runtime", "pages", "evaluate", "export"},
    "bench": {"errors", "manifest", "files", "runtime", "models", "export", "bench"},
}
"""A room to the rooms that it may use; export uses the runtime to prove with it what users will run, and evaluate to
compare precisions by the figures that isa-eval gives.  bench uses models and export to compare with torch, and imports
them nowhere else (the test with every optional library blocked)."""

FOREIGN = {"torch", "onnx", "onnxscript", "onnx_ir"}
"""What only models, export and bench import."""


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides the room it reaches into"
            if node.module == "isa_deploy":  # a room, or a name that the facade fetches from one
                found |= {isa_deploy._HOME.get(alias.name, f"isa_deploy.{alias.name}") for alias in node.names}
            else:
                found.add(node.module or "")
    return found


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_a_room_imports_only_the_rooms_it_may(room: str) -> None:
    folder = PACKAGE / room
    files = sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{room}.py"]
    assert files
    for path in files:
        for name in imports_of(path):
            parts = name.split(".")
            if parts[0] == "isa_deploy" and len(parts) > 1:
                assert parts[1] in MAY_IMPORT[room] | {"__version__"}, f"{path.name} imports {name}"
            if room not in ("models", "export", "bench"):
                assert parts[0] not in FOREIGN, f"{path.name} imports {name}"
            if room in ("runtime", "errors", "manifest", "files"):
                assert parts[0] != "jinja2", f"{path.name} imports {name}"


BLOCKER = """
import importlib.abc, sys
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)
BLOCKED = {blocked!r}
sys.meta_path.insert(0, Blocker())
"""


def run_blocked(blocked: set[str], code: str) -> subprocess.CompletedProcess[str]:
    script = BLOCKER.replace("{blocked!r}", repr(blocked)) + code
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


OPTIONAL = {
    *("torch", "onnx", "onnxscript", "onnx_ir", "jinja2", "onnxruntime", "openvino", "tensorrt"),
    *("av", "PIL", "psutil", "pyarrow", "rasterio"),
}


def test_the_runtime_and_isa_eval_import_with_every_optional_library_blocked() -> None:
    modules = [
        ".".join(("isa_deploy", *path.relative_to(PACKAGE).with_suffix("").parts))
        for room in ("runtime", "bench", "pages", "evaluate")
        for path in sorted((PACKAGE / room).rglob("*.py"))
        if path.name != "__init__.py"
    ]
    modules += [
        "isa_deploy.cli.bench",
        "isa_deploy.cli.eval",
        "isa_deploy.cli.evaluation",
        "isa_deploy.cli.infer",
        "isa_deploy.cli.info",
        "isa_deploy.cli.export",
        "isa_deploy.models.cards",
    ]
    done = run_blocked(OPTIONAL, "\n".join(f"import {name}" for name in modules))
    assert done.returncode == 0, done.stderr


def test_a_runtime_without_torch_and_onnx_segments(streets_onnx: Path) -> None:
    code = f"""
import numpy as np
from isa_deploy import Segmenter, overlay
for backend in ("onnxruntime", "openvino"):
    with Segmenter.open({str(streets_onnx)!r}, backend=backend) as segmenter:
        frame = np.zeros((40, 60, 3), np.uint8)
        labels = segmenter.segment(frame)
        assert overlay(frame, labels, segmenter.manifest.classes.palette_rgb).shape == frame.shape
"""
    done = run_blocked({"torch", "onnx", "onnxscript", "onnx_ir", "jinja2", "av"}, code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("blocked", "code", "message"),
    [
        ("openvino", "Segmenter.open(PATH, backend='openvino')", "isa-deploy[cpu]"),
        ("onnxruntime", "Segmenter.open(PATH, backend='onnxruntime')", "isa-deploy[cpu]"),
    ],
)
def test_a_missing_library_names_the_line_that_installs_it(
    streets_onnx: Path, blocked: str, code: str, message: str
) -> None:
    done = run_blocked({blocked}, "from isa_deploy import Segmenter\n" + code.replace("PATH", repr(str(streets_onnx))))
    assert done.returncode != 0
    assert "BackendUnavailableError" in done.stderr
    assert message in done.stderr


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = ["torch", "cv2", "numpy", "onnxruntime", "openvino", "pydantic", "av", "typer"]
    code = f"import sys, isa_deploy; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_facade_has_what_it_lists_and_nothing_else() -> None:
    for name in isa_deploy.__all__:
        assert getattr(isa_deploy, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Segmentor'"):
        isa_deploy.Segmentor  # noqa: B018
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.parametrize("command", ["bench", "eval", "export", "infer", "info"])
def test_help_has_examples_and_exit_codes(command: str) -> None:
    code = f"from isa_deploy.cli.{command} import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert "Examples:" in done.stdout
    assert "Exit codes:" in done.stdout
    assert f"isa-{command}" in done.stdout
    assert "\\b" not in done.stdout
    assert any(line.startswith(f"    isa-{command} ") for line in done.stdout.splitlines())


def test_the_version_is_the_projects() -> None:
    code = "from isa_deploy.cli.info import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, text=True, check=True)
    pyproject = (PACKAGE.parent / "pyproject.toml").read_text()
    assert f'version = "{isa_deploy.__version__}"' in pyproject
    assert done.stdout.strip() == f"isa-deploy {isa_deploy.__version__}"

"""Which TensorRT is taken, and what is said where there is none."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from isa_deploy.errors import BackendUnavailableError
from isa_deploy.runtime.backends.tensorrt_library import installed_libraries, load_tensorrt

pytest_plugins = ("standin_fixtures",)


def test_both_libraries_are_found_and_tensorrt_comes_first(gpu: Any) -> None:
    assert [each.title for each in installed_libraries()] == ["TensorRT 10.16.1.11", "TensorRT-RTX 1.7.1.116"]


@pytest.mark.parametrize("version", ["10.2.0", "8.6.1.6", "9.9"])
def test_a_tensorrt_that_is_too_old_is_named_with_its_version(gpu: Any, version: str) -> None:
    gpu.knobs.tensorrt_version = version
    with pytest.raises(BackendUnavailableError, match=rf"TensorRT {version} is too old, 10\.3 is the oldest"):
        load_tensorrt("tensorrt")
    assert [each.name for each in installed_libraries()] == ["tensorrt_rtx"]


@pytest.mark.parametrize("version", ["10.3.0", "10.16.1.11", "11.4.0.106"])
def test_a_version_is_compared_as_numbers(gpu: Any, version: str) -> None:
    gpu.knobs.tensorrt_version = version
    assert load_tensorrt("tensorrt").version == version


@pytest.mark.parametrize(("name", "extra"), [("tensorrt", "tensorrt"), ("tensorrt_rtx", "rtx")])
def test_a_missing_library_names_the_line_that_installs_it(name: Any, extra: str) -> None:
    if name in sys.modules:
        pytest.fail(f"{name} is imported in a process of tests that has none")
    with pytest.raises(BackendUnavailableError, match=rf"is not installed; pip install 'isa-deploy\[{extra}\]'"):
        load_tensorrt(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raise OSError('libnvinfer.so.10: cannot open shared object file')", "cannot be loaded .*libnvinfer"),
        ("raise RuntimeError('no driver')", "cannot be loaded .*no driver"),
        ("import a_part_that_is_missing", "lacks a part of itself .*a_part_that_is_missing"),
    ],
)
def test_a_broken_installation_says_what_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    (tmp_path / "tensorrt.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BackendUnavailableError, match=message):
        load_tensorrt("tensorrt")


def test_the_bindings_alone_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("tensorrt_libs", ""), ("tensorrt_bindings", "__version__ = '10.16.1.11'")):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert load_tensorrt("tensorrt").version == "10.16.1.11"
    finally:
        for name in ("tensorrt_libs", "tensorrt_bindings"):
            sys.modules.pop(name, None)

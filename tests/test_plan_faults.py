"""Builds of plans that end before their time: no half plan is left, and a line says why.

Over the stand-in (tests/standin).
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from plan_commands import Command, Environment, command_line, contents, names

from isa_deploy.errors import InputError
from isa_deploy.files import folder_lock

pytest_plugins = ("standin_fixtures", "plan_fixtures")

SLOW = {"build_steps": 400, "build_step_s": 0.05}
"""A build of 20 s."""

PATIENCE_S = 60


@pytest.fixture
def plan(built_plan: Path) -> Path:
    """The plan of these tests; of those that run plans it is another one."""
    return built_plan


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.02)


@contextmanager
def building(folder: Path, environment: dict[str, str], *options: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A slow isa-export, once it builds."""
    with subprocess.Popen(
        command_line("export", folder, "--plan", *options),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            wait_until(lambda: any(name.startswith(".isa-plan-") for name in names(folder)), process)
            assert process.stderr is not None
            while not process.stderr.readline().startswith("building"):
                pass
            time.sleep(1)  # into the builder
            assert process.poll() is None
            yield process
        finally:
            if process.poll() is None:
                process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupted_build_leaves_nothing(
    graph_folder: Path, gpu_environment: Environment, number: signal.Signals
) -> None:
    before = contents(graph_folder)
    with building(graph_folder, gpu_environment(**SLOW)) as process:
        started = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_S)
        took_s = time.monotonic() - started
    assert process.returncode == 130
    assert took_s < 10, "it did not wait for the build's end"
    assert out == ""
    assert "Traceback" not in err
    assert "error" not in err
    assert contents(graph_folder) == before
    assert names(graph_folder.parent) == {"engine"}


def test_a_killed_build_leaves_no_plan_and_no_lock_and_the_next_one_tidies_up(
    graph_folder: Path, gpu_environment: Environment, gpu: Any, isa: Command, golden: Path
) -> None:
    before = contents(graph_folder)
    with building(graph_folder, gpu_environment(**SLOW)) as process:
        process.kill()
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode == -signal.SIGKILL
    left = {name: path for name in names(graph_folder) if (path := graph_folder / name) and name not in before}
    assert all(name.startswith(".isa-plan-") for name in left)
    assert left, "what the test is about: nobody could remove it"
    done = isa("export", graph_folder, "--frames", golden / "img_64x128.png")
    assert done.code == 0, done.err
    assert not any(name.startswith(".") for name in names(graph_folder))
    assert (graph_folder / "model.plan").is_file()


def test_a_second_build_into_a_folder_gives_way_and_the_first_goes_on(
    graph_folder: Path, gpu_environment: Environment, gpu: Any, isa: Command, golden: Path, tmp_path: Path
) -> None:
    small = ("--frames", golden / "img_64x128.png")
    with building(graph_folder, gpu_environment(build_steps=160, build_step_s=0.05), *small) as process:
        before = names(graph_folder)
        done = isa("export", graph_folder, *small)
        assert done.code == 2
        assert done.err.splitlines() == [done.complaint], "and nothing else"
        words = "another isa-export is writing into this folder; wait for it, or give another --out"
        assert done.complaint == f"isa-export: error: {graph_folder}: {words}"
        assert names(graph_folder) == before
        assert isa("export", graph_folder, "--out", tmp_path / "elsewhere", *small).code == 0
        assert process.poll() is None, "the first was still at it"
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert f"plan:   {graph_folder / 'model.plan'}" in out
    assert not any(name.startswith(".") for name in names(graph_folder))


def test_a_lock_is_one_process_at_a_time_and_leaves_nothing(tmp_path: Path) -> None:
    with folder_lock(tmp_path):
        with pytest.raises(InputError, match="another isa-export is writing"), folder_lock(tmp_path):
            pytest.fail("two had the folder")
        assert names(tmp_path) == set()
    with folder_lock(tmp_path):
        pass
    with pytest.raises(InputError, match="cannot lock the folder: there is no such file"), folder_lock(tmp_path / "a"):
        pytest.fail("there is no such folder")


# what TensorRT refuses


def test_a_builder_out_of_memory_says_how_much_and_what_to_reduce(graph_folder: Path, gpu: Any, isa: Command) -> None:
    before = contents(graph_folder)
    gpu.knobs.builder_out_of_memory = 3 << 30
    done = isa("export", graph_folder)
    assert done.code == 2
    assert "TensorRT 10.16.1.11 could not build the plan: the GPU's memory did not suffice" in done.complaint
    assert "(3221225472 bytes)" in done.complaint
    assert "reduce --max-shape or --workspace, or close other programs" in done.complaint
    assert contents(graph_folder) == before


def test_an_op_that_the_parser_refuses_is_named_with_its_node(graph_folder: Path, gpu: Any, isa: Command) -> None:
    import onnx

    before = contents(graph_folder)
    nodes = onnx.load(graph_folder / "model.onnx").graph.node
    index = next(index for index, node in enumerate(nodes) if node.op_type == "Softmax")
    gpu.knobs.refuse_op = "Softmax"
    done = isa("export", graph_folder)
    assert done.code == 2
    assert f"cannot read the ONNX file: node {index} '{nodes[index].name}' (Softmax): " in done.complaint
    assert "Plugin not found" in done.complaint
    assert contents(graph_folder) == before


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"device_count": 0}, "no NVIDIA GPU that CUDA sees"),
        ({"driver_too_old": True}, "driver is missing or too old"),
        ({"tensorrt_version": "10.0.1.6"}, "TensorRT 10.0.1.6 is too old, 10."),
    ],
)
def test_a_machine_that_cannot_build_says_what_it_lacks(
    graph_folder: Path, gpu: Any, isa: Command, knobs: dict[str, Any], words: str
) -> None:
    before = contents(graph_folder)
    for name, value in knobs.items():
        setattr(gpu.knobs, name, value)
    done = isa("export", graph_folder, "--target", "tensorrt")
    assert done.code == 2
    assert words in done.complaint
    assert contents(graph_folder) == before


# the graph


def spoil_truncated(graph: Path) -> None:
    graph.write_bytes(graph.read_bytes()[: graph.stat().st_size // 2])


def spoil_manifest(graph: Path) -> None:
    import onnx

    model = onnx.load(graph)
    del model.metadata_props[:]
    onnx.save(model, graph)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(lambda graph: graph.write_bytes(b""), "model.onnx", id="0 bytes"),
        pytest.param(spoil_truncated, "model.onnx", id="truncated"),
        pytest.param(lambda graph: graph.write_bytes(b"text" * 999), "model.onnx", id="no graph at all"),
        pytest.param(spoil_manifest, "manifest", id="no manifest"),
        pytest.param(Path.unlink, "no graph to build a plan of", id="not there"),
    ],
)
def test_a_graph_that_is_none_is_refused_before_the_build(
    graph_folder: Path, gpu: Any, isa: Command, spoil: Callable[[Path], object], words: str
) -> None:
    spoil(graph_folder / "model.onnx")
    before = contents(graph_folder)
    for path in (graph_folder, graph_folder / "model.onnx"):
        done = isa("export", path, "--plan")
        assert done.code == 2
        assert words in done.complaint
        assert str(graph_folder) in done.complaint
        assert contents(graph_folder) == before
    assert not gpu.calls["build_serialized_network"]


@pytest.mark.parametrize("name", ["model.plan", "model.json", "nowhere", "nowhere.onnx"])
def test_what_is_no_graph_is_refused_by_its_name(plan: Path, gpu: Any, isa: Command, name: str) -> None:
    before = contents(plan.parent)
    done = isa("export", plan.with_name(name), "--plan")
    assert done.code == 2
    assert f"{plan.with_name(name)}: no graph to build a plan of; give a model.onnx of isa-export" in done.complaint
    assert contents(plan.parent) == before


# the folder


def test_a_place_that_takes_no_files_is_said_before_the_build(graph_folder: Path, gpu: Any, isa: Command) -> None:
    for out, words in (
        (graph_folder / "model.onnx", "a file has its name"),
        (graph_folder / "model.onnx" / "below", "a part of the path is a file"),
        (Path("/proc/self/fd"), "cannot write in the folder"),
    ):
        if out.parts[1] == "proc" and not out.is_dir():
            pytest.skip("needs /proc, a folder in which nobody, not even root, makes files: run on Linux")
        done = isa("export", graph_folder, "--out", out)
        assert done.code == 2
        assert words in done.complaint
    assert not gpu.calls["parse"]


LIMITED = """
import resource, signal, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
from isa_deploy.cli.export import main
main()
"""


def test_a_disk_that_is_full_leaves_no_half_plan(graph_folder: Path, gpu_environment: Environment) -> None:
    before = contents(graph_folder)
    assert (graph_folder / "model.onnx").stat().st_size > 1_000_000
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(graph_folder), "--plan"],
        env={**gpu_environment(), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"isa-export: error: {graph_folder}: cannot write the plan: the file became larger")
    assert contents(graph_folder) == before


def test_a_folder_that_is_gone_when_the_plan_is_ready_is_an_error(
    graph_folder: Path, gpu_environment: Environment, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with subprocess.Popen(
        command_line("export", graph_folder, "--plan", "--out", out),
        env=gpu_environment(build_steps=40, build_step_s=0.05),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_until(lambda: bool(names(out)), process)
        (work,) = out.iterdir()
        work.rmdir()
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    assert "cannot write the plan: there is no such file or folder" in err.splitlines()[-1]
    assert names(out) == set()

"""What isa-bench reads of the machine and of the graph: energy, memory, operations, shapes."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isa_deploy.bench.clip import drawn_frames
from isa_deploy.bench.contestants import Engine, Product, TorchModel, choose
from isa_deploy.bench.energy import RaplMeter, energy_between, find_meters
from isa_deploy.bench.environment import machine
from isa_deploy.bench.flops import count_gflop
from isa_deploy.bench.memory import peak_mib, resident_mib
from isa_deploy.bench.shapes import choose_shapes, parse_shape
from isa_deploy.bench.worker_process import Worker
from isa_deploy.errors import EngineError, InputError
from isa_deploy.manifest import Manifest
from isa_deploy.runtime.onnx_metadata import read_onnx_manifest

PR_SET_CHILD_SUBREAPER = 36  # include/uapi/linux/prctl.h
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, which only Linux has")


def zone(powercap: Path, folder: str, name: str, energy_uj: str) -> Path:
    where = powercap / folder
    where.mkdir(parents=True)
    (where / "name").write_text(f"{name}\n")
    (where / "energy_uj").write_text(energy_uj)
    (where / "max_energy_range_uj").write_text("10000000\n")
    return where


def rapl_meters(powercap: Path) -> list[RaplMeter]:
    return [meter for meter in find_meters(powercap) if isinstance(meter, RaplMeter)]


def test_energy_is_of_packages_and_counts_no_part_twice(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", "1000000")
    zone(tmp_path, "intel-rapl:0:0", "core", "500000")
    zone(tmp_path, "intel-rapl:1", "package-1", "3000000")
    zone(tmp_path, "intel-rapl:2", "psys", "7000000")
    meters = rapl_meters(tmp_path)
    assert [(meter.name, meter.read_j()) for meter in meters] == [
        ("processor package-0", 1.0),
        ("processor package-1", 3.0),
    ]


def test_a_counter_that_begins_again_loses_nothing(tmp_path: Path) -> None:
    where = zone(tmp_path, "intel-rapl:0", "package-0", "9000000")
    (meter,) = rapl_meters(tmp_path)
    before = [meter.read_j()]
    (where / "energy_uj").write_text("2500000")
    assert energy_between([meter], before) == {"processor package-0": 3.5}


def test_a_counter_that_falls_silent_tells_no_energy(tmp_path: Path) -> None:
    where = zone(tmp_path, "intel-rapl:0", "package-0", "9000000")
    (meter,) = rapl_meters(tmp_path)
    (where / "energy_uj").unlink()
    assert energy_between([meter], [9.0]) == {}


def test_a_machine_without_counters_has_no_meters(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", "not a number")
    assert rapl_meters(tmp_path) == []
    assert rapl_meters(tmp_path / "missing") == []


@LINUX
def test_the_peak_of_memory_stays_when_the_memory_is_given_back() -> None:
    before = resident_mib()
    held = np.ones(64 << 20, np.uint8)
    del held
    peak = peak_mib()
    assert before is not None
    assert peak is not None
    assert peak >= before + 50


def test_the_environment_names_the_libraries_that_are_here() -> None:
    found = machine()
    assert found["numpy"] == np.__version__
    assert isinstance(found["cores"], int)


def test_a_drawn_clip_moves_and_is_the_same_every_time() -> None:
    frames, again = drawn_frames(3, 40, 72), drawn_frames(3, 40, 72)
    assert all(np.array_equal(a, b) for a, b in zip(frames, again, strict=True))
    assert np.array_equal(frames[0][:, 8:], frames[1][:, :-8])
    assert not np.array_equal(frames[0], frames[1])
    assert drawn_frames(2, 1, 1)[1].shape == (1, 1, 3)


@given(st.none() | st.integers(1, 64), st.integers(1, 4096), st.integers(1, 4096))
def test_a_shape_reads_as_it_is_written(batch: int | None, height: int, width: int) -> None:
    text = "x".join(str(side) for side in (batch, height, width) if side is not None)
    assert parse_shape(text) == (batch, height, width)


@pytest.mark.parametrize(
    "text", ["", "12", "x", "0x5", "5x0", "-1x5", "1x2x3x4", "0x5x5", "9999x9x9", "٣x٣", "9" * 5000]
)
def test_a_shape_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="shape"):
        parse_shape(text)


@pytest.fixture(scope="module")
def manifest(streets_onnx: Path) -> Manifest:
    return read_onnx_manifest(streets_onnx / "model.onnx")


def fixed(manifest: Manifest, *shape_nhw: int | None) -> Manifest:
    return manifest.model_copy(update={"input": manifest.input.model_copy(update={"shape_nhw": shape_nhw})})


def test_a_free_engine_is_measured_at_its_test_scale_or_the_clips(manifest: Manifest) -> None:
    assert choose_shapes([], manifest) == ((1, 256, 512),)
    assert choose_shapes([], manifest, clip_hw=(1000, 1000)) == ((1, 256, 256),)
    assert choose_shapes(["32x64", "4x32x64", "32x64"], manifest) == ((1, 32, 64), (4, 32, 64))


def test_a_fixed_engine_takes_its_own_shape_only(manifest: Manifest) -> None:
    engine = fixed(manifest, 2, 64, 128)
    assert choose_shapes([], engine) == ((2, 64, 128),)
    assert choose_shapes(["64x128"], engine) == ((2, 64, 128),)
    with pytest.raises(InputError, match="takes 64x128 only"):
        choose_shapes(["32x64"], engine)
    with pytest.raises(InputError, match="takes 2 frames a call, not 3"):
        choose_shapes(["3x64x128"], engine)


def test_the_graphs_operations_are_those_that_torch_counts(
    streets_onnx: Path, golden: Path, manifest: Manifest
) -> None:
    pytest.importorskip("openvino", reason="counts in OpenVINO's graph: pip install 'isa-deploy[cpu]'")
    torch = pytest.importorskip("torch", reason="is compared with torch: pip install 'isa-deploy[export]'")
    from torch.utils.flop_counter import FlopCounterMode

    from isa_deploy.models.checkpoint import build_network, read_checkpoint

    network = build_network(read_checkpoint(golden / "isanet_r18w16_streets.pth"))
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 72, 200))
    counted = count_gflop(streets_onnx / "model.onnx", manifest, (72, 200))
    assert counted == pytest.approx(counter.get_total_flops() / 1e9, rel=1e-6)


def test_windows_that_the_runtime_cuts_are_all_counted(streets_onnx: Path, manifest: Manifest) -> None:
    pytest.importorskip("openvino", reason="counts in OpenVINO's graph: pip install 'isa-deploy[cpu]'")
    slide = {"mode": "slide", "crop_hw": (64, 64), "stride_hw": (32, 32)}
    cut = manifest.model_copy(update={"inference": manifest.inference.model_copy(update=slide)})
    graph = streets_onnx / "model.onnx"
    window = count_gflop(graph, manifest, (64, 64))
    assert window is not None
    assert count_gflop(graph, cut, (96, 160)) == pytest.approx(2 * 4 * window)


def test_a_file_that_is_no_graph_has_no_operations(tmp_path: Path, manifest: Manifest) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    assert count_gflop(tmp_path / "model.onnx", manifest, (64, 64)) is None


def chosen(path: Path, *backends: str, compare: tuple[str, ...] = (), ckpt: Path | None = None) -> list[object]:
    return list(
        choose(
            path,
            backends,
            compare,
            ckpt,
            device="auto",
            precision="bf16",
            schedule="latency",
            allow_engine_code=False,
        )
    )


def test_the_first_contestant_is_the_engine_that_was_asked_for(streets_onnx: Path, golden: Path) -> None:
    ckpt = golden / "isanet_r18w16_streets.pth"
    first, second, third = chosen(streets_onnx, compare=("torch", "onnxruntime"), ckpt=ckpt)
    assert isinstance(first, Engine)
    assert (first.backend, first.precision) == ("auto", "bf16")
    assert isinstance(second, TorchModel)
    assert isinstance(third, Engine)
    assert (third.backend, third.precision) == ("onnxruntime", "auto")


def test_a_contestant_asked_for_twice_is_one(streets_onnx: Path) -> None:
    assert len(chosen(streets_onnx, "openvino", "openvino")) == 1


def test_a_contestant_whose_process_is_killed_says_so() -> None:
    with Worker(Product("matrix product", "fp32"), (1, 1, 1)) as worker:
        assert worker.turn().seconds > 0
        worker._process.kill()
        with pytest.raises(EngineError, match="was killed, by a lack of memory"):
            worker.turn()


def test_what_a_contestant_refuses_is_raised_here(tmp_path: Path) -> None:
    engine = Engine(str(tmp_path / "none.onnx"), "auto", "auto", "auto", "latency", False)
    with pytest.raises(EngineError, match=r"none\.onnx: no such file"):
        Worker(engine, (1, 32, 32))


def test_another_checkpoint_than_the_engines_is_refused(golden: Path) -> None:
    pytest.importorskip("torch", reason="reads a checkpoint: pip install 'isa-deploy[export]'")
    with pytest.raises(InputError, match="is not the checkpoint that the engine was exported from"):
        Worker(TorchModel(str(golden / "tiny_r50_whole_0x.pth"), "0" * 64), (1, 8, 8))


def test_a_file_in_the_users_folder_is_not_taken_for_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    with Worker(Product("matrix product", "fp32"), (1, 1, 1)) as worker:
        assert worker.facts.gflop


@pytest.fixture
def heir_in_this_session() -> Iterator[None]:
    """This process inherits its descendants' orphans, as a container's first process does."""
    if sys.platform != "linux":
        pytest.skip("inheriting orphans is Linux's prctl")
    libc = ctypes.CDLL(None)
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1)) == 0
    yield
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(0)) == 0


@pytest.mark.skipif(os.name != "posix", reason="stops and kills processes as POSIX does")
def test_a_stopped_contestant_does_not_outlive_a_killed_parent() -> None:
    _wait_until_it_ends(_stopped_contestant_of_a_killed_parent())


def test_nor_where_an_ancestor_in_its_session_inherits_it(heir_in_this_session: None) -> None:
    worker_pid = _stopped_contestant_of_a_killed_parent()
    _wait_until_it_ends(worker_pid)
    assert os.waitpid(worker_pid, 0)[0] == worker_pid, "it was not inherited"


def _stopped_contestant_of_a_killed_parent() -> int:
    code = """
import time
from isa_deploy.bench.contestants import Product
from isa_deploy.bench.worker_process import Worker
worker = Worker(Product("matrix product", "fp32"), (1, 1, 1))
print(worker._process.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker_pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    return worker_pid


def _wait_until_it_ends(worker_pid: int) -> None:
    deadline = time.monotonic() + 60
    while _lives(worker_pid):
        assert time.monotonic() < deadline, "the contestant's process is still there"
        time.sleep(0.05)


def _lives(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    if sys.platform == "linux":  # what nobody has waited for is a zombie
        try:
            return status.read_text().rpartition(")")[2].split()[0] != "Z"
        except (FileNotFoundError, ProcessLookupError):
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

"""The un-pickler reads what torch writes, runs nothing, and ends in CheckpointError whatever it is fed."""

from __future__ import annotations

import argparse
import collections
import functools
import io
import operator
import os
import pickle
import pickletools
import runpy
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_checkpoints import save, tiny_0x

from isa_deploy.errors import CheckpointError
from isa_deploy.models import unpickle as unpickle_module
from isa_deploy.models.checkpoint import Checkpoint, read_checkpoint
from isa_deploy.models.pickle_records import NumpyArray, Opaque, TensorRef
from isa_deploy.models.torch_file import open_torch_file
from isa_deploy.models.unpickle import unpickle


def read_pickle(data: bytes) -> Any:
    return unpickle(io.BytesIO(data), "file.pth").value


def outcome(read: Callable[[Any], Any], source: Any) -> Any:
    """What ``read`` returns, or its CheckpointError; any other exception is the test's failure."""
    try:
        return read(source)
    except CheckpointError as error:
        return error


def as_zip(pickled: bytes, storages: dict[str, bytes] | None = None) -> bytes:
    """The archive that torch.save would write around a pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        for key, data in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", data)
    return buffer.getvalue()


class Call:
    """Pickles as a call of ``function(*arguments)``."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def touch(marker: Path) -> str:
    return f"{sys.executable} -c \"open(r'{marker}', 'w')\""


def payloads(marker: Path) -> dict[str, Call]:
    python = f"open(r'{marker}', 'w').close()"
    return {
        "system": Call(os.system, touch(marker)),
        "popen": Call(os.popen, touch(marker)),
        "eval": Call(eval, python),
        "exec": Call(exec, python),
        "open": Call(open, str(marker), "w"),
        "__import__": Call(__import__, "os"),
        "Popen": Call(subprocess.Popen, [sys.executable, "-c", python]),
        "check_output": Call(subprocess.check_output, [sys.executable, "-c", python]),
        "run_path": Call(runpy.run_path, str(marker)),
        "copyfile": Call(shutil.copyfile, __file__, str(marker)),
        "attrgetter": Call(operator.attrgetter, "system"),
        "partial": Call(functools.partial, os.system, touch(marker)),
        "load": Call(np.load, str(marker)),
        "savetxt": Call(np.savetxt, str(marker), [1]),
        "_load_from_bytes": Call(torch.storage._load_from_bytes, b"1"),
        "save": Call(torch.save, 1, str(marker)),
        "compile": Call(torch.compile, None),
        "getattr": Call(getattr(os, "system"), touch(marker)),  # noqa: B009
    }


WRITERS: dict[str, Callable[[Any, Path], Any]] = {
    "zip": torch.save,
    "legacy": lambda value, path: torch.save(value, path, _use_new_zipfile_serialization=False),
    "plain pickle": lambda value, path: path.write_bytes(pickle.dumps(value)),
    **{
        f"zip, protocol {protocol}": lambda value, path, protocol=protocol: path.write_bytes(
            as_zip(pickle.dumps(value, protocol))
        )
        for protocol in range(6)
    },
}


class TestCodeIsRefused:
    def test_the_payload_is_real(self, tmp_path: Path) -> None:
        marker = tmp_path / "ran"
        pickle.loads(pickle.dumps(Call(os.system, touch(marker))))
        assert marker.exists()

    @pytest.mark.parametrize("writer", WRITERS)
    @pytest.mark.parametrize("name", payloads(Path("ran")))
    def test_every_payload_in_every_container(self, tmp_path: Path, writer: str, name: str) -> None:
        marker, path = tmp_path / "ran", tmp_path / "evil.pth"
        WRITERS[writer]({"meta": {}, "state_dict": payloads(marker)[name]}, path)
        with pytest.raises(CheckpointError, match="refused: loading it would run") as error:
            read_checkpoint(path)
        assert not marker.exists()
        assert "\n" not in str(error.value)

    def test_the_error_names_what_would_run(self, tmp_path: Path) -> None:
        path = save({"state_dict": Call(os.system, touch(tmp_path / "ran"))}, tmp_path / "evil.pth")
        with pytest.raises(CheckpointError, match=r"would run (posix|nt)\.system,"):
            read_checkpoint(path)

    def test_a_payload_beside_honest_weights(self, tmp_path: Path) -> None:
        marker = tmp_path / "ran"
        content = {**tiny_0x(), "message_hub": Call(eval, f"open(r'{marker}', 'w')")}
        with pytest.raises(CheckpointError, match=r"would run builtins\.eval"):
            read_checkpoint(save(content, tmp_path / "evil.pth"))
        assert not marker.exists()

    @pytest.mark.parametrize(
        "program",
        [
            pytest.param(b"cos\nsystem\n(S'true'\ntR.", id="protocol 0 call"),
            pytest.param(b"(S'true'\nios\nsystem\n.", id="INST"),
            pytest.param(b"(cos\nsystem\nS'true'\no.", id="OBJ"),
            pytest.param(b"cos\nsystem\n.", id="mentioned and not called"),
            pytest.param(b"c__builtin__\neval\n(S'1'\ntR.", id="Python 2's builtins"),
            pytest.param(b"ccommands\ngetoutput\n(S'true'\ntR.", id="Python 2's commands"),
            pytest.param(b"\x80\x04\x8c\x05mmseg\x8c\x09os.system\x93\x8c\x04true\x85R.", id="dotted name"),
            pytest.param(b"cmmengine.utils.os\nsystem\n(S'true'\ntR.", id="dotted module"),
            pytest.param(b"ctorch.nn.modules\nos.system\n(S'true'\ntR.", id="through torch.nn"),
            pytest.param(b"ctorch.nn.functional\nrelu\n(I1\ntR.", id="a function of torch.nn"),
            pytest.param(b"cmmengine.utils\ncall_command\n(S'true'\ntR.", id="another package's function"),
            pytest.param(b"cpip\nmain\n(lR.", id="pip"),
            pytest.param(b"c__builtin__\ngetattr\n(cmmseg\nThing\nS'run'\ntR(S'true'\ntR.", id="what getattr made"),
            pytest.param(b"ccopy_reg\n__newobj__\n(cos\nsystem\nS'true'\ntR.", id="through copyreg"),
            pytest.param(
                b"ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\nNS'true'\nNtR.",
                id="through a tensor's rebuilder",
            ),
            pytest.param(
                b"ctorch._tensor\n_rebuild_from_type_v2\n(cmmseg\nThing\nN(S'true'\ntNtR.", id="a rebuilder of its own"
            ),
            pytest.param(b"ctorch\nload\n(S'x'\ntR.", id="torch.load"),
            pytest.param(b"ctorch.serialization\nload\n(S'x'\ntR.", id="torch.serialization.load"),
            pytest.param(b"ctorch.hub\nload\n(S'x'\ntR.", id="torch.hub"),
            pytest.param(b"cnumpy\nload\n(S'x'\ntR.", id="numpy.load"),
            pytest.param(b"cnumpy.testing._private.utils\nrunstring\n(S'1'\n}tR.", id="numpy's runstring"),
            pytest.param(b"cfunctools\npartial\n(cos\nsystem\ntR.", id="functools.partial"),
            pytest.param(b"cmmengine.utils.subprocess\nPopen\n(S'true'\ntR.", id="a class through another package"),
            pytest.param(b"cmultiprocessing\nProcess\n(tR.", id="a class of the standard library"),
            pytest.param(b"czipimport\nzipimporter\n(S'x'\ntR.", id="the standard library's importer"),
            pytest.param(b"ctorch.jit\nCompilationUnit\n(S'x'\ntR.", id="a class of torch"),
            pytest.param(b"cIPython.core.magic\nMagics\n(tR.", id="a class of IPython"),
            pytest.param(b"I1\n(S'true'\ntR.", id="a call of a number"),
        ],
    )
    def test_hand_made_programs(self, program: bytes) -> None:
        with pytest.raises(CheckpointError, match="refused: loading it would run"):
            read_pickle(program)

    def test_a_name_cannot_break_the_line(self) -> None:
        with pytest.raises(CheckpointError) as error:
            read_pickle(b"\x80\x04\x8c\x02os\x8c\x0bsystem\n\x1b[31m\x93.")
        assert "\n" not in str(error.value)
        assert "\x1b" not in str(error.value)


class Leftover:
    """A user's class that training left in the checkpoint."""

    def __init__(self) -> None:
        self.history = [1, 2]

    def __setstate__(self, state: object) -> None:
        raise AssertionError("a class of the file was used")


class TestLeftoversAreInert:
    def test_an_unknown_class_becomes_opaque_and_is_not_imported(self) -> None:
        value = read_pickle(pickle.dumps({"hook": Leftover(), "n": 3}))
        assert isinstance(value["hook"], Opaque)
        assert value["n"] == 3

    @pytest.mark.parametrize("protocol", range(6))
    def test_usual_leftovers_are_passed_over(self, protocol: int) -> None:
        values = {
            "arguments": argparse.Namespace(lr=0.1),
            "path": Path("work_dirs"),
            "default": collections.defaultdict(list, {"a": [1]}),
            "ordered": collections.OrderedDict(a=1),
            "set": {1, 2},
            "frozen": frozenset((3,)),
            "bytes": b"\x00\xff",
            "array": bytearray(b"ab"),
            "generator": np.random.RandomState(0),
            "version": torch.torch_version.TorchVersion("2.1.0"),
            "complex": 1j,
            "slice": slice(1, 2),
        }
        read = read_pickle(pickle.dumps(values, protocol))
        assert read["default"] == {"a": [1]}
        assert read["ordered"] == {"a": 1}
        assert sorted(read["set"]) == [1, 2]
        assert read["frozen"] == [3]
        assert read["bytes"] == b"\x00\xff"
        assert bytes(read["array"]) == b"ab"
        assert isinstance(read["arguments"], Opaque)

    def test_python_2_pickles_are_read(self) -> None:
        # {'a': u'b', 1L: (None, True)} as Python 2's cPickle writes it at protocol 2
        assert read_pickle(b"\x80\x02}q\x01(U\x01aX\x01\x00\x00\x00b\x8a\x01\x01N\x88\x86u.") == {
            "a": "b",
            1: (None, True),
        }

    @pytest.mark.parametrize("protocol", range(6))
    @pytest.mark.parametrize("array", [np.arange(6).reshape(2, 3), np.array([1.5, 2.5], dtype=">f4"), np.float64(2.5)])
    def test_numpy_arrays_and_scalars(self, protocol: int, array: Any) -> None:
        read = read_pickle(pickle.dumps(array, protocol))
        assert isinstance(read, NumpyArray)
        assert read.tolist() == array.tolist()

    def test_numpy_2_and_1_name_their_modules_differently(self) -> None:
        array = np.arange(3)
        for core in (b"numpy.core.multiarray", b"numpy._core.multiarray"):
            program = pickle.dumps(array, 2).replace(np.array([0]).__reduce__()[0].__module__.encode(), core)
            assert core in program
            assert read_pickle(program).tolist() == [0, 1, 2]

    def test_numpy_arrays_of_objects_are_not_numbers(self) -> None:
        read = read_pickle(pickle.dumps(np.array([None, "a"], dtype=object), 2))
        with pytest.raises(ValueError, match="no array"):
            read.tolist()


def torch_bytes(value: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def read_tensor(data: bytes) -> torch.Tensor:
    file = open_torch_file(io.BytesIO(data), "file.pth")
    assert isinstance(file.root, TensorRef)
    return file.tensor(file.root)


class TestTensors:
    @pytest.mark.parametrize("legacy", [False, True])
    @pytest.mark.parametrize("protocol", [2, 3, 4, 5])
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
    def test_floats_come_back_as_they_were(self, legacy: bool, protocol: int, dtype: torch.dtype) -> None:
        tensor = torch.randn(3, 4, 5).to(dtype)
        options = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": not legacy}
        assert torch.equal(read_tensor(torch_bytes(tensor, **options)), tensor)

    @pytest.mark.parametrize("legacy", [False, True])
    def test_views_of_one_storage(self, legacy: bool) -> None:
        base = torch.arange(24.0).reshape(4, 6)
        views = {"t": base.t(), "row": base[2], "step": base[::2, 1::2], "empty": base[:0], "scalar": base[1, 1]}
        data = torch_bytes(views, _use_new_zipfile_serialization=not legacy)
        file = open_torch_file(io.BytesIO(data), "file.pth")
        assert isinstance(file.root, dict)
        for name, view in views.items():
            assert torch.equal(file.tensor(file.root[name]), view), name

    @pytest.mark.parametrize("legacy", [False, True])
    def test_parameters_and_tensors_with_attributes(self, legacy: bool) -> None:
        parameter = torch.nn.Parameter(torch.ones(2))
        parameter.note = "kept by torch, dropped here"  # type: ignore[attr-defined]
        marked = torch.arange(2.0)
        marked.note = "so is this"  # type: ignore[attr-defined]
        data = torch_bytes(
            [parameter, marked, torch.nn.Parameter(torch.zeros(1))], _use_new_zipfile_serialization=not legacy
        )
        file = open_torch_file(io.BytesIO(data), "file.pth")
        assert isinstance(file.root, list)
        assert [file.tensor(ref).tolist() for ref in file.root] == [[1, 1], [0, 1], [0]]

    def test_other_tensors_are_described_but_not_read(self) -> None:
        values = [torch.arange(3), torch.ones(2, dtype=torch.bool), torch.eye(2).to_sparse()]
        file = open_torch_file(io.BytesIO(torch_bytes(values)), "file.pth")
        assert isinstance(file.root, list)
        assert isinstance(file.root[2], Opaque)
        with pytest.raises(CheckpointError, match="type int64; weights must be floats"):
            file.tensor(file.root[0])

    def test_a_big_endian_file(self) -> None:
        source = zipfile.ZipFile(io.BytesIO(torch_bytes(torch.arange(5.0))))
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name in source.namelist():
                data = source.read(name)
                if name.endswith("/byteorder"):
                    data = b"big"
                elif "/data/" in name:
                    data = np.frombuffer(data, "<f4").astype(">f4").tobytes()
                archive.writestr(name, data)
        assert read_tensor(buffer.getvalue()).tolist() == [0, 1, 2, 3, 4]

    def test_the_legacy_formats_views_of_storages(self) -> None:
        pickled = storage_pickle(10, (2, 4), 0, (3,), (1,))
        ref = read_pickle(pickled)
        assert (ref.offset, ref.shape) == (2, (3,))

    @pytest.mark.parametrize(
        ("numel", "view", "offset", "shape", "stride"),
        [
            pytest.param(4, None, 0, (5,), (1,), id="longer than the storage"),
            pytest.param(4, None, 4, (1,), (1,), id="offset behind the end"),
            pytest.param(4, None, 0, (2,), (4,), id="stride over the end"),
            pytest.param(4, None, -1, (1,), (1,), id="negative offset"),
            pytest.param(4, None, 3, (2,), (-1,), id="negative stride"),
            pytest.param(4, None, 0, (-1,), (1,), id="negative size"),
            pytest.param(1, None, 0, (10**9,), (0,), id="expanded: memory without bytes"),
            pytest.param(4, None, 0, (2**40, 2**40), (1, 1), id="overflowing size"),
            pytest.param(4, None, 2**63, (1,), (1,), id="overflowing offset"),
            pytest.param(4, None, 0, (2, 2), (1,), id="a stride too few"),
            pytest.param(4, None, 0, (1,) * 65, (1,) * 65, id="too many dimensions"),
            pytest.param(4, (2, 3), 0, (1,), (1,), id="view over the end"),
            pytest.param(4, (2, 2), 0, (3,), (1,), id="tensor over the view's end"),
            pytest.param(2**60, None, 0, (1,), (1,), id="a storage of exabytes"),
        ],
    )
    def test_a_tensor_outside_its_storage_is_refused(
        self, numel: int, view: tuple[int, int] | None, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]
    ) -> None:
        with pytest.raises(CheckpointError, match="damaged or not a checkpoint"):
            read_pickle(storage_pickle(numel, view, offset, shape, stride))

    def test_the_same_storage_under_two_sizes_is_refused(self) -> None:
        one = storage_pickle(4, None, 0, (1,), (1,))[2:-1]
        two = storage_pickle(8, None, 0, (1,), (1,))[2:-1]
        with pytest.raises(CheckpointError, match="two types or sizes"):
            read_pickle(b"\x80\x02" + one + two + b"\x86.")

    def test_a_storage_smaller_in_the_file_than_in_the_pickle(self) -> None:
        data = as_zip(storage_pickle(4, None, 0, (4,), (1,)), {"0": b"\0" * 12})
        with pytest.raises(CheckpointError, match="has 12 bytes where 16 belong"):
            read_tensor(data)

    def test_a_storage_that_is_not_in_the_file(self) -> None:
        with pytest.raises(CheckpointError, match="data/0 is missing"):
            read_tensor(as_zip(storage_pickle(4, None, 0, (4,), (1,))))


def storage_pickle(
    numel: int, view: tuple[int, int] | None, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]
) -> bytes:
    """A pickle of one float32 tensor in storage "0", with whatever numbers are wanted."""

    def plain(value: object) -> bytes:
        return pickletools.optimize(pickle.dumps(value, 2))[2:-1]

    identifier = b"(" + plain("storage") + b"ctorch\nFloatStorage\n" + plain("0") + plain("cpu") + plain(numel)
    identifier += (plain(("view", *view)) if view else b"") + b"tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + identifier + plain(offset) + plain(shape) + plain(stride)
    return b"\x80\x02" + tensor + b"\x89N" + b"tR."


class TestHostileSizes:
    @pytest.mark.parametrize(
        "program",
        [
            pytest.param(b"\x80\x02Nr\xff\xff\xff\xff.", id="memo index of 2^32"),
            pytest.param(b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x0f.", id="string of exabytes"),
            pytest.param(b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.", id="bytes of exabytes"),
            pytest.param(b"\x80\x02\x8b\xff\xff\xff\x7f.", id="integer of 2 GB"),
            pytest.param(b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.", id="frame of exabytes"),
            pytest.param(b"I" + b"9" * 100_000 + b"\n.", id="decimal of 100000 digits"),
            pytest.param(b"c" + b"m" * 200_000 + b"\nx\n.", id="name of 200 kB"),
            pytest.param(b"(" * 100_000 + b".", id="marks without end"),
            pytest.param(b"\x80\x02}(" + b")" + b"\x86q\x00h\x00h\x00" * 1 + b"Nu.", id="tuples as keys"),
            pytest.param(b"\x82\x01.", id="extension registry"),
            pytest.param(b"Pid\n.", id="persistent id of another file"),
            pytest.param(b"N0.", id="empty stack"),
            pytest.param(b"(t", id="no end"),
            pytest.param(b"", id="nothing"),
            pytest.param(b"\x00", id="no operation"),
            pytest.param(b"\x80\x02}(K\x01u.", id="key without value"),
            pytest.param(b"\x80\x02K\x01K\x02a.", id="append to a number"),
            pytest.param(b"\x80\x02h\x07.", id="recall of nothing"),
        ],
    )
    def test_end_in_an_error_or_a_value_without_the_memory(self, program: bytes) -> None:
        assert "\n" not in str(outcome(read_pickle, program))

    def test_nested_tuples_are_no_keys(self) -> None:
        # t = (); t = (t, t) forty times over: hashing the last takes 2^40 steps
        program = b"\x80\x02})" + b"2\x86" * 40 + b"Ns."
        with pytest.raises(CheckpointError, match="has a tuple as its key"):
            read_pickle(program)

    def test_nested_lists_are_read_without_recursion(self) -> None:
        depth = 50_000
        read_pickle(b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b".")

    def test_one_long_text_encoded_again_and_again(self) -> None:
        text = b"X" + (1 << 20).to_bytes(4, "little") + b"x" * (1 << 20)
        again = b"(h\x00h\x01tR0"
        program = b"\x80\x02" + text + b"q\x000X\x06\x00\x00\x00latin1q\x010c_codecs\nencode\nq\x020"
        program += (b"h\x02" + again) * 1000 + b"N."
        with pytest.raises(CheckpointError, match="copied far beyond the size"):
            read_pickle(program)

    def test_more_operations_than_any_checkpoint_has(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(unpickle_module, "MAX_OPERATIONS", 1000)
        with pytest.raises(CheckpointError, match="more than 1000 operations"):
            read_pickle(b"N0" * 1000 + b"N.")

    def test_a_pickle_larger_than_any_checkpoint_has(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(unpickle_module, "MAX_PICKLE_BYTES", 1000)
        with pytest.raises(CheckpointError, match="larger than 0 MiB"):
            read_pickle(b"N0" * 1000 + b"N.")

    def test_reading_stops_behind_the_pickle(self) -> None:
        file = io.BytesIO(pickle.dumps(1) + pickle.dumps("two") + b"rest")
        assert (unpickle(file, "f").value, unpickle(file, "f").value, file.read()) == (1, "two", b"rest")


@pytest.fixture(scope="module")
def tiny_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("tiny")
    return {
        "zip": save(tiny_0x(), folder / "zip.pth").read_bytes(),
        "legacy": save(tiny_0x(), folder / "legacy.pth", _use_new_zipfile_serialization=False).read_bytes(),
    }


class TestDamage:
    """Whatever happens to a file, it ends in a Checkpoint or in a CheckpointError of one line."""

    def check(self, data: bytes, path: Path) -> bool:
        path.write_bytes(data)
        result = outcome(read_checkpoint, path)
        assert isinstance(result, (Checkpoint, CheckpointError))
        assert "\n" not in str(result)
        return isinstance(result, Checkpoint)

    @pytest.mark.parametrize("container", ["zip", "legacy"])
    def test_the_whole_file_is_read(self, tiny_files: dict[str, bytes], tmp_path: Path, container: str) -> None:
        assert self.check(tiny_files[container], tmp_path / "f.pth")

    @pytest.mark.parametrize("container", ["zip", "legacy"])
    @given(share=st.floats(0, 1, exclude_max=True))
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_cut_short(self, tiny_files: dict[str, bytes], tmp_path: Path, container: str, share: float) -> None:
        data = tiny_files[container]
        assert not self.check(data[: int(len(data) * share)], tmp_path / "f.pth")

    @pytest.mark.parametrize("container", ["zip", "legacy"])
    @given(data=st.data())
    @settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_bytes_changed(self, tiny_files: dict[str, bytes], tmp_path: Path, container: str, data: Any) -> None:
        damaged = bytearray(tiny_files[container])
        for _ in range(data.draw(st.integers(1, 4))):
            # half of the changes into the pickle or the archive's directory, where structure is
            where = data.draw(
                st.one_of(st.integers(0, len(damaged) - 1), st.integers(0, min(30_000, len(damaged) - 1)))
            )
            damaged[where] = data.draw(st.integers(0, 255))
        self.check(bytes(damaged), tmp_path / "f.pth")

    @given(data=st.data())
    @settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_a_changed_pickle_in_a_sound_archive(self, tiny_files: dict[str, bytes], tmp_path: Path, data: Any) -> None:
        source = zipfile.ZipFile(io.BytesIO(tiny_files["zip"]))
        folder = source.namelist()[0].partition("/")[0]
        damaged = bytearray(source.read(f"{folder}/data.pkl"))
        for _ in range(data.draw(st.integers(1, 3))):
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
        storages = {
            name.rpartition("/")[2]: source.read(name)
            for name in source.namelist()
            if name.startswith(f"{folder}/data/")
        }
        self.check(as_zip(bytes(damaged), storages), tmp_path / "f.pth")

    @given(junk=st.binary(max_size=400), head=st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x04\x95"]))
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_junk(self, tmp_path: Path, junk: bytes, head: bytes) -> None:
        assert not self.check(head + junk, tmp_path / "f.pth")

    @given(program=st.lists(st.sampled_from([op.code.encode("latin1") for op in pickletools.opcodes]), max_size=60))
    @settings(max_examples=300, deadline=None)
    def test_programs_of_random_operations(self, program: list[bytes]) -> None:
        assert "\n" not in repr(outcome(read_pickle, b"".join(program) + b"."))

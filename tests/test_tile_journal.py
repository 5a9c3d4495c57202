"""Finished tiles on the disk: gone on with, begun anew, cut off, and alone."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isa_deploy.errors import InputError
from isa_deploy.runtime.tile_journal import TileJournal, file_fingerprint
from isa_deploy.runtime.tiling import TileGrid, cut_axis

UInt8 = npt.NDArray[np.uint8]

GRID = TileGrid(cut_axis(150, 64, 16, "tiles"), cut_axis(230, 64, 16, "tiles"))
LABELS = np.random.default_rng(0).integers(0, 19, GRID.size_hw, dtype=np.uint8)
MINE = {"engine": "a", "size": [150, 230]}


def labels_of(index: int) -> UInt8:
    block = GRID.block(index)
    return LABELS[slice(*block.rows), slice(*block.cols)]


def begun(path: Path, blocks: int) -> Path:
    with TileJournal(path, GRID, MINE) as journal:
        for index in range(blocks):
            journal.add(index, labels_of(index))
    return path


def test_blocks_come_back_as_they_were_after_a_break(tmp_path: Path) -> None:
    path = begun(tmp_path / ".isa-a.tiles", 7)
    with TileJournal(path, GRID, MINE) as journal:
        assert journal.resumed == len(journal) == 7
        assert [index for index in range(GRID.blocks) if index in journal] == list(range(7))
        for index in range(7):
            assert np.array_equal(journal.labels(index), labels_of(index))
        with pytest.raises(KeyError):
            journal.labels(7)


@given(
    rows=st.lists(st.integers(0, 150), min_size=2, max_size=2, unique=True).map(sorted),
    cols=st.lists(st.integers(0, 230), min_size=2, max_size=2, unique=True).map(sorted),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_rectangle_is_put_together_from_its_blocks(tmp_path: Path, rows: list[int], cols: list[int]) -> None:
    path = tmp_path / "whole"
    if not path.exists():
        begun(path, GRID.blocks)
    with TileJournal(path, GRID, MINE) as journal:
        found = journal.region((rows[0], rows[1]), (cols[0], cols[1]))
        assert np.array_equal(found, LABELS[slice(*rows), slice(*cols)])


@given(cut=st.integers(0, 10**6), garbage=st.binary(max_size=50))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_torn_end_is_cut_off_and_the_rest_stays(tmp_path: Path, cut: int, garbage: bytes) -> None:
    path = tmp_path / "torn"
    path.unlink(missing_ok=True)
    begun(path, 5)
    whole = path.read_bytes()
    torn = whole[: cut % (len(whole) + 1)]
    path.write_bytes(torn + garbage)
    with TileJournal(path, GRID, MINE) as journal:
        intact = journal.resumed
        assert intact <= 5
        journal.add(intact, labels_of(intact))
    with TileJournal(path, GRID, MINE) as journal:
        assert journal.resumed == intact + 1
        for index in range(intact + 1):
            assert np.array_equal(journal.labels(index), labels_of(index))
    if len(torn) == len(whole):
        assert intact == 5


@given(place=st.integers(0, 10**6), value=st.integers(1, 255))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_byte_never_gives_wrong_labels(tmp_path: Path, place: int, value: int) -> None:
    path = tmp_path / "changed"
    path.unlink(missing_ok=True)
    begun(path, 5)
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= value
    path.write_bytes(data)
    with TileJournal(path, GRID, MINE) as journal:
        assert journal.resumed < 5
        for index in range(journal.resumed):
            assert np.array_equal(journal.labels(index), labels_of(index))


def test_a_record_longer_than_its_block_can_be_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = begun(tmp_path / "long", 2)
    with path.open("ab") as file:  # a hole of 3 GiB, which takes no room on the disk
        file.write(struct.pack("<4sIIIII", b"tile", 2, *labels_of(2).shape, 3 << 30, 0))
        file.truncate(file.tell() + (3 << 30))
    read = os.read
    asked: list[int] = []
    monkeypatch.setattr(os, "read", lambda handle, size: (asked.append(size), read(handle, size))[1])
    with TileJournal(path, GRID, MINE) as journal:
        assert journal.resumed == 2
    assert max(asked) < 1 << 20


def test_labels_that_zlib_cannot_shorten_come_back(tmp_path: Path) -> None:
    noise = np.random.default_rng(3).integers(0, 256, labels_of(0).shape, dtype=np.uint8)
    with TileJournal(tmp_path / "noise", GRID, MINE) as journal:
        journal.add(0, noise)
    with TileJournal(tmp_path / "noise", GRID, MINE) as journal:
        assert np.array_equal(journal.labels(0), noise)


def test_another_fingerprint_begins_anew_and_says_so(tmp_path: Path) -> None:
    path = begun(tmp_path / "a", 5)
    with TileJournal(path, GRID, MINE | {"engine": "b"}) as journal:
        assert journal.replaced
        assert journal.resumed == 0
    with TileJournal(path, GRID, MINE) as journal:
        assert journal.replaced  # nothing of the first one is left


def test_fresh_begins_anew(tmp_path: Path) -> None:
    path = begun(tmp_path / "a", 5)
    with TileJournal(path, GRID, MINE, fresh=True) as journal:
        assert journal.resumed == 0
        assert not journal.replaced


def test_a_new_one_replaces_nothing(tmp_path: Path) -> None:
    with TileJournal(tmp_path / "a", GRID, MINE) as journal:
        assert not journal.replaced
        journal.remove()
    assert not list(tmp_path.iterdir())


HOLD = """
import sys; sys.path.insert(0, {tests!r})
from pathlib import Path
from test_tile_journal import GRID, MINE, TileJournal
with TileJournal(Path(sys.argv[1]), GRID, MINE):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_told_and_the_lock_goes_with_the_first(tmp_path: Path) -> None:
    path = tmp_path / "a"
    program = HOLD.format(tests=str(Path(__file__).parent))
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="another isa-infer is at work on this picture"):
            TileJournal(path, GRID, MINE)
        first.kill()
        first.wait()
    TileJournal(path, GRID, MINE).close()


FULL = """
import resource, sys; sys.path.insert(0, {tests!r})
from pathlib import Path
from test_tile_journal import GRID, MINE, TileJournal, labels_of
from isa_deploy.errors import InputError
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
with TileJournal(Path(sys.argv[1]), GRID, MINE) as journal:
    try:
        for index in range(GRID.blocks): journal.add(index, labels_of(index))
    except InputError as error: print(len(journal), error, flush=True)
"""


def test_a_full_disk_leaves_a_journal_to_go_on_with(tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="needs a limit on file sizes in the place of a full disk: run on Unix")
    path = tmp_path / "a"
    program = FULL.format(tests=str(Path(__file__).parent))
    run = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    count, line = run.stdout.split(" ", 1)
    assert line.startswith(f"{path}: cannot write the finished tiles: the file became larger")
    assert f"goes on after the {count} tiles that are done" in line
    with TileJournal(path, GRID, MINE) as journal:
        assert journal.resumed == int(count) > 0


def test_a_changed_file_has_another_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(10**6))
    first = file_fingerprint(path)
    assert file_fingerprint(path) == first
    with path.open("r+b") as file:
        file.seek(500_000)
        file.write(b"x")
    changed = file_fingerprint(path)
    assert changed["sample"] != first["sample"]
    with pytest.raises(InputError, match="no such file"):
        file_fingerprint(tmp_path / "b")


def test_a_link_in_the_place_of_the_journal_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "a").symlink_to(tmp_path / "precious")
    with pytest.raises(InputError, match="cannot open"):
        TileJournal(tmp_path / "a", GRID, MINE)
    assert (tmp_path / "precious").read_text() == "mine"

"""Files are written whole or not at all, and refusals of the system become one line."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from isa_deploy.errors import InputError
from isa_deploy.files import Replacement, make_folder, os_errors, replacing, result_folder


def half_written(target: Path, error: BaseException) -> None:
    with replacing(target) as temporary:
        temporary.write_text("half")
        raise error


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_written_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    target.write_text("old")
    with replacing(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        assert temporary.suffix == ".onnx"
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert names(tmp_path) == {"model.onnx"}


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(1)])
def test_after_any_exception_the_old_file_stands_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "a.png"
    target.write_text("old")
    with pytest.raises(type(error)):
        half_written(target, error)
    assert target.read_text() == "old"
    assert names(tmp_path) == {"a.png"}


def test_a_new_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with replacing(tmp_path / "ours") as temporary:
        temporary.write_text("")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EACCES, "permission denied"),
        (errno.EROFS, "read-only"),
        (errno.ENOTDIR, "a file, not a folder"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_a_refusal_of_the_system_is_one_line_with_the_file_and_the_reason(
    tmp_path: Path, code: int, words: str
) -> None:
    target = tmp_path / "a.json"
    with pytest.raises(InputError) as caught:
        half_written(target, OSError(code, os.strerror(code)))
    assert str(target) in str(caught.value)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == set()


def test_other_errors_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), os_errors(tmp_path, "write"):
        _ = 1 // 0


def test_a_folder_where_the_file_should_be_is_an_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "inside").write_text("")
    with pytest.raises(InputError, match="folder"), replacing(tmp_path / "a") as temporary:
        temporary.write_text("x")
    assert names(tmp_path) == {"a"}
    assert names(tmp_path / "a") == {"inside"}


def test_a_replacement_can_be_a_folder_and_discarding_removes_it(tmp_path: Path) -> None:
    kept, dropped = Replacement(tmp_path / "kept"), Replacement(tmp_path / "dropped")
    for replacement in (kept, dropped):
        replacement.temporary.mkdir()
        (replacement.temporary / "000000.png").write_text("")
    kept.commit()
    dropped.discard()
    assert names(tmp_path) == {"kept"}
    assert names(tmp_path / "kept") == {"000000.png"}


def test_a_folder_is_made_with_its_parents_and_left_empty(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert names(tmp_path / "a" / "b") == set()


@pytest.mark.parametrize("path", ["file", "file/below"])
def test_a_file_in_the_way_of_a_folder_is_an_error(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make the folder"):
        make_folder(tmp_path / path)
    assert names(tmp_path) == {"file"}


def test_a_folder_that_takes_no_files_is_an_error() -> None:
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc, a folder in which nobody, not even root, makes files: run on Linux")
    with pytest.raises(InputError, match="cannot write in the folder"):
        make_folder(Path("/proc/self/fd"))


def test_a_result_folder_that_stays_empty_is_removed_only_if_it_was_made_here(tmp_path: Path) -> None:
    (tmp_path / "before").mkdir()
    for name in ("before", "empty", "filled"):
        with result_folder(tmp_path / name):
            if name == "filled":
                (tmp_path / name / "a").write_text("")
    assert names(tmp_path) == {"before", "filled"}

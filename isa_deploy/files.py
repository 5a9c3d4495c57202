"""Files that are written whole or not at all, and what an operating system's refusal means to a user."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from isa_deploy.errors import InputError

__all__ = ["Replacement", "folder_lock", "make_folder", "os_errors", "replacing", "result_folder"]

_REASONS = {
    errno.EACCES: "permission denied; choose a place that you may use",
    errno.EPERM: "permission denied; choose a place that you may use",
    errno.EROFS: "the file system is read-only; choose another place",
    errno.ENOSPC: "the disk is full; free some space or choose another disk",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another disk",
    errno.EFBIG: "the file became larger than this file system or a limit (ulimit -f) allows; choose another disk",
    errno.ENOENT: "there is no such file or folder; check the path",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another path",
    errno.EISDIR: "it is a folder; name a file",
    errno.ENAMETOOLONG: "the name is too long for this file system; choose a shorter one",
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n)",
}


@contextmanager
def os_errors(path: Path, action: str) -> Iterator[None]:
    """Turn an :class:`OSError` of the block into an :class:`InputError`: ``PATH: cannot ACTION: reason``.

    ``action`` is a verb and its object: ``"write the picture"``.
    """
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0) or error.strerror or type(error).__name__
        raise InputError(f"{path}: cannot {action}: {reason}") from error


class Replacement:
    """A new file under a temporary name beside ``path``, which :meth:`commit` puts in its place.

    For a file that stays open over many calls; :func:`replacing` does the same for a block.  ``temporary``
    does not exist until somebody writes it.  Its suffix is that of ``path``, because writers of pictures
    and videos choose the format by it, and it begins with a dot, so that no glob takes it for a result.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.temporary = path.parent / f".isa-{secrets.token_hex(8)}{path.suffix}"

    def commit(self) -> None:
        """Rename the temporary file (or folder) to ``path``; a file of that name is replaced.

        Raises :class:`InputError` where the system refuses, and removes the temporary file then.
        """
        try:
            with os_errors(self.path, "put the new file in place"):
                # Atomic within one folder.  No fsync: this is about our own failures and interruptions; a
                # power cut may still lose the newest file.
                self.temporary.replace(self.path)
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove the temporary file, if there is one.  ``path`` stays as it was."""
        # what the system will not remove it would not let us remove twice either; the first error is the one
        # that the user has to hear
        with suppress(OSError):
            if self.temporary.is_dir():
                shutil.rmtree(self.temporary)
            else:
                self.temporary.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file whole or not at all::

        with replacing(path) as temporary:
            temporary.write_bytes(data)

    On success the temporary file becomes ``path``; on any exception, Ctrl-C included, it is removed and
    ``path`` stays as it was.  Raises :class:`InputError` for any :class:`OSError` of the block.
    """
    replacement = Replacement(path)
    try:
        with os_errors(path, "write"):
            yield replacement.temporary
        replacement.commit()
    finally:
        replacement.discard()


def make_folder(path: Path) -> None:
    """Make a folder, with its parents, and prove that files can be written there.

    Proved by writing one: permissions alone do not tell (root, read-only mounts, network shares).
    Raises :class:`InputError` where it is a file, or cannot be made or written.
    """
    with os_errors(path, "make the folder"):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise InputError(f"{path}: cannot make the folder: a file has its name; choose another name") from None
    probe = Replacement(path / "probe")
    try:
        with os_errors(path, "write in the folder"):
            probe.temporary.write_bytes(b"\0")
    finally:
        probe.discard()


@contextmanager
def folder_lock(path: Path) -> Iterator[None]:
    """Keep an existing folder for this process while the block runs.

    The system drops the lock with the process, so that none is ever left over.  Raises
    :class:`InputError` where another process has it.
    """
    with os_errors(path, "lock the folder"):
        # a folder itself can be locked on POSIX, which leaves no file behind
        handle = os.open(path, os.O_RDONLY) if os.name == "posix" else os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT)
    try:
        try:
            _lock(handle)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                raise InputError(
                    f"{path}: cannot lock the folder: {error.strerror}; choose a folder on a local disk"
                ) from error
            raise InputError(
                f"{path}: another isa-export is writing into this folder; wait for it, or give another --out"
            ) from None
        yield
    finally:
        os.close(handle)
        if os.name != "posix":
            with suppress(OSError):  # another process may have it by now
                (path / LOCK_FILE).unlink()


LOCK_FILE = ".isa-export.lock"


def _lock(handle: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def result_folder(path: Path) -> Iterator[None]:
    """:func:`make_folder` for a block that fills it: made here and left empty, it is removed again."""
    was_there = path.is_dir()
    make_folder(path)
    try:
        yield
    finally:
        if not was_there:
            with suppress(OSError):  # rmdir leaves a folder alone that holds something
                path.rmdir()

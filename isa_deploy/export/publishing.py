"""Finished files into an artefact folder, all or none."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from isa_deploy.files import os_errors

__all__ = ["PLAN_REPORT_FILES", "REPORT_FILES", "current_umask", "failed_folder", "forget_failure", "publish"]

REPORT_FILES = ("report.json", "report.html")
PLAN_REPORT_FILES = ("plan-report.json", "plan-report.html")


def publish(work: Path, folder: Path, names: Sequence[str], outdated: Sequence[str] = ()) -> None:
    """Move finished files from a work folder beside or in ``folder`` into it, all or none.

    ``outdated``: files there that the new ones make wrong; they go.  A new folder appears in one step; in an
    existing one each file is replaced in one step, and where a later step fails the earlier files come back.
    Raises :class:`InputError` where the system refuses.
    """
    with os_errors(folder, "write the export"):
        if not folder.exists():
            for path in work.iterdir():
                if path.name not in names:
                    path.unlink()
            work.chmod(0o777 & ~current_umask())  # a temporary folder is its maker's alone
            work.rename(folder)
            return
        earlier = Path(tempfile.mkdtemp(prefix="earlier-", dir=work))
        touched: list[str] = []
        try:
            for name in (*names, *outdated):
                if (folder / name).exists():
                    keep(folder / name, earlier / name)
                touched.append(name)
                if name in names:
                    (work / name).replace(folder / name)
                else:
                    (folder / name).unlink(missing_ok=True)
        except BaseException:
            for name in touched:
                if (earlier / name).exists():
                    (earlier / name).replace(folder / name)
                else:
                    (folder / name).unlink(missing_ok=True)
            raise


def keep(path: Path, copy: Path) -> None:
    """A second name for a file, or a copy where the file system has no links."""
    try:
        os.link(path, copy)
    except OSError:
        shutil.copy2(path, copy)


def current_umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def forget_failure(folder: Path, names: Sequence[str]) -> None:
    """Remove the report ``names`` of an earlier failure in ``folder``, now that it has passed."""
    failed = failed_folder(folder)
    with suppress(OSError):  # the export is there; what cannot be tidied stays
        for name in names:
            (failed / name).unlink(missing_ok=True)
        if failed.is_dir() and not any(failed.iterdir()):
            failed.rmdir()


def failed_folder(folder: Path) -> Path:
    """Where the report of an export goes that does not equal its checkpoint: beside the folder."""
    beside = folder.parent if folder.name not in ("", "..") else folder.resolve().parent
    return beside / f"{folder.resolve().name}-failed"

"""Finished files into an artefact folder, all or none."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from isa_deploy.files import os_errors

__all__ = ["REPORT_FILES", "current_umask", "failed_folder", "forget_failure", "publish"]

REPORT_FILES = ("report.json", "report.html")


def publish(work: Path, folder: Path, names: Sequence[str]) -> None:
    """Move finished files from a work folder beside ``folder`` into it, all or none.

    A new folder appears in one step; in an existing one the files of an earlier export come back where a
    later move fails.  Raises :class:`InputError` where the system refuses.
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
        moved: list[str] = []
        try:
            for name in names:
                if (folder / name).exists():
                    (folder / name).rename(earlier / name)
                moved.append(name)
                (work / name).rename(folder / name)
        except BaseException:
            for name in moved:
                (folder / name).unlink(missing_ok=True)
                if (earlier / name).exists():
                    (earlier / name).rename(folder / name)
            raise


def current_umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def forget_failure(folder: Path, names: Sequence[str]) -> None:
    """Remove the report ``names`` of an earlier failure in ``folder``, now that it has passed."""
    failed = failed_folder(folder)
    for name in names:
        (failed / name).unlink(missing_ok=True)
    if failed.is_dir() and not any(failed.iterdir()):
        failed.rmdir()


def failed_folder(folder: Path) -> Path:
    """Where the report of an export goes that does not equal its checkpoint."""
    return folder.parent / f"{folder.resolve().name}-failed"

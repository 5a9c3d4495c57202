"""A process that ends with its parent, also while it is stopped."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

__all__ = ["end_with_parent"]

PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h


def end_with_parent() -> None:
    """Have the system kill this process when the thread that started it ends (Linux); leave the parent's group.

    Of its own group, so that Ctrl-C in the terminal is the parent's to hear.  Other POSIX systems, and a Linux that
    refuses, end a stopped process whose group is orphaned (POSIX.1-2017, 3.264 and `_exit`): a group in the parent's
    session, not a session of its own.  That rule alone does not do: where an ancestor in the same session inherits
    the process, as a container's first process does, the group is not orphaned.
    """
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))

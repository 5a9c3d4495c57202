"""Why a step cannot run on this machine."""

from __future__ import annotations

__all__ = ["NotRunError"]


class NotRunError(Exception):
    """Something that the step needs is not here.  It is recorded with its reason and fails nothing."""

"""What the stand-in raises where a real GPU would crash, race or give rubbish."""

from __future__ import annotations

__all__ = ["StandinViolation"]


class StandinViolation(AssertionError):  # noqa: N818  # it is no error that code may handle
    """A rule of CUDA's or TensorRT's was broken; never an answer that a program may handle."""

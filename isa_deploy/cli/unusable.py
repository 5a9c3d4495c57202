"""Inputs that cannot be used, told apart from outputs that cannot be written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from isa_deploy.errors import InputError

__all__ = ["UnusableInputError", "input_errors"]


class UnusableInputError(InputError):
    """This input cannot be used, which says nothing about the others (an output that fails would)."""


@contextmanager
def input_errors() -> Iterator[None]:
    """An :class:`InputError` of the block is one of the input."""
    try:
        yield
    except InputError as error:
        raise UnusableInputError(str(error)) from error

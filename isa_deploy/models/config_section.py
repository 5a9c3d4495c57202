"""Typed access to a parsed config: every value is checked where it is read, and every error says where it stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isa_deploy.errors import CheckpointError
from isa_deploy.models.config_text import UNREADABLE
from isa_deploy.models.pickle_names import printable

__all__ = ["MAX_SIDE", "Section", "shown"]

MAX_SIDE = 65536
"""Pixels of a picture's side."""


class Section:
    """A dictionary of the config that knows its own path; methods raise :class:`CheckpointError`."""

    def __init__(self, values: Mapping[Any, Any], path: str, origin: str) -> None:
        self.values = values
        self.path = path
        self.origin = origin

    def where(self, key: str) -> str:
        """The path of ``key`` from the config's top."""
        return f"{self.path}.{key}" if self.path else key

    def wrong(self, key: str, wanted: str) -> CheckpointError:
        """The error that says what ``key`` is, and what is ``wanted`` of it."""
        return CheckpointError(
            f"{self.origin}: config {self.where(key)} is {shown(self.values.get(key))}, and {wanted}"
        )

    def section(self, key: str) -> Section | None:
        """The dictionary under ``key``; None where it is missing or None."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.wrong(key, "a dictionary is needed")
        return Section(value, self.where(key), self.origin)

    def integer(self, key: str) -> int | None:
        """The integer under ``key``; None where it is missing or None."""
        value = self.values.get(key)
        if value is None:
            return None
        if type(value) is not int:
            raise self.wrong(key, "an integer is needed")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or False."""
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "True or False is needed")
        return value

    def integers(self, key: str, count: int, top: int) -> tuple[int, ...] | None:
        """``count`` integers from 1 to ``top``; None where the key is missing."""
        value = self.values.get(key)
        if value is None:
            return None
        if type(value) is int:
            value = (value,) * count
        good = isinstance(value, (tuple, list)) and len(value) == count
        if not good or not all(type(n) is int and 1 <= n <= top for n in value):
            raise self.wrong(key, f"{count} integers from 1 to {top} are needed")
        return tuple(value)

    def require(self, key: str, accepted: tuple[object, ...], default: object) -> None:
        """Refuse a value that this project's network does not have."""
        value = self.values.get(key, default)
        if not any(value is known or (type(value) is type(known) and value == known) for known in accepted):
            names = " or ".join(shown(known) for known in accepted)
            raise self.wrong(key, f"isa-deploy supports {names} only")

    def kind(self) -> str | None:
        """``type`` without its registry's scope (``mmseg.ISAHead``)."""
        value = self.values.get("type")
        return value.rpartition(".")[2] if isinstance(value, str) else None


def shown(value: object) -> str:
    """A scalar as it is, anything else by its type: containers can be larger than their text."""
    if value is UNREADABLE:
        return "no literal"
    if isinstance(value, (tuple, list)) and len(value) <= 8 and all(isinstance(n, (int, float)) for n in value):
        return printable(str(value))
    if value is None or isinstance(value, (str, bool, int, float)):
        return printable(repr(value))
    return f"a {type(value).__name__}"

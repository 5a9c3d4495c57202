"""Enumerations as the genuine bindings have them: members to be named and compared, not numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Member", "Numbered", "enumeration"]


class Member:
    """One member of an enumeration; equal to itself alone and no number."""

    __slots__ = ("_owner", "_text")

    def __init__(self, owner: str, text: str) -> None:
        self._owner = owner
        self._text = text

    def __repr__(self) -> str:
        return f"<{self._owner}.{self._text}>"

    def __str__(self) -> str:
        return f"{self._owner}.{self._text}"


class Numbered(Member):
    """A member whose number is asked for (``1 << int(flag)``); the number depends on the version."""

    __slots__ = ("_number",)

    def __init__(self, owner: str, text: str, number: Callable[[], int]) -> None:
        super().__init__(owner, text)
        self._number = number

    def __int__(self) -> int:
        return self._number()


def enumeration(name: str, *members: str) -> Any:
    """A class with these members as its attributes."""
    return type(name, (), {each: Member(name, each) for each in members})

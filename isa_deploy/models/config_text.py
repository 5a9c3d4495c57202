"""The config text of a checkpoint: Python assignments, read as data and never executed.

mmcv and mmengine keep a training's config as the text of a Python file: ``name = value``, a value being a
literal, a list, a tuple, a dictionary, a ``dict(...)`` call or an earlier name.  Each top-level assignment
is parsed for itself; whatever else stands in the text (imports, functions, ``_base_``) is passed over, and
a value that is none of these becomes :data:`UNREADABLE`, so that whoever needs it can say so and whoever
does not is not troubled.

A text that is made of whole config files one after another (mmcv's ``Config.text``) assigns a name twice;
the later dictionary is then merged into the earlier one, as mmcv's inheritance does, ``_delete_=True``
included.
"""

from __future__ import annotations

import ast
import itertools
import json
import re
import warnings
from typing import Any, Final

from isa_deploy.errors import CheckpointError

__all__ = ["UNREADABLE", "parse_config"]

MAX_CHARS = 4 << 20
"""A published config has 10 to 20 thousand characters."""

MAX_DEPTH = 64
MAX_RUN = 4000
MAX_MERGES = 100_000


class _Unreadable:
    def __repr__(self) -> str:
        return "<not a literal>"


UNREADABLE: Final = _Unreadable()
"""Stands for a value that is neither literal, container nor earlier name."""


def parse_config(text: str, origin: str) -> dict[str, Any]:
    """Names and values of a config text, or of the JSON object that some tools store in its place.

    A text with nothing readable in it gives an empty dictionary.  ``origin`` names the file in the error:
    :class:`CheckpointError` where the text is longer than :data:`MAX_CHARS`.
    """
    if len(text) > MAX_CHARS:
        raise CheckpointError(f"{origin}: its config text has {len(text)} characters, more than {MAX_CHARS}")
    if text.lstrip().startswith("{"):
        return _parse_json(text)
    reader = _Reader()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an unknown escape in a string is no concern of the user's
        for statement in _statements(text):
            reader.read(statement)
    return reader.names


def _parse_json(text: str) -> dict[str, Any]:
    if _is_too_deep(text):
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*[ \t]*=(?!=)")
_BEGINNING = re.compile(r"^(?![\s)\]}#])", re.MULTILINE)
"""A line that begins a statement: it is not indented, and neither closes a bracket nor is a comment."""


def _statements(text: str) -> list[str]:
    """The top-level assignments of a text."""
    starts = [match.start() for match in _BEGINNING.finditer(text)]
    pieces = [text[start:stop] for start, stop in itertools.pairwise([*starts, len(text)])]
    return [piece for piece in pieces if _ASSIGNMENT.match(piece)]


def _is_too_deep(text: str) -> bool:
    """Whether a text could exhaust the parser's stack: deep brackets, or a chain of operators without a comma.

    Brackets and blanks inside strings are counted like others; a config's values come nowhere near.
    """
    depth = 0
    for bracket in re.findall(r"[()\[\]{}]", text):
        depth += 1 if bracket in "([{" else -1
        if depth > MAX_DEPTH:
            return True
    return any(len(run) > MAX_RUN for run in re.sub(r"\s+", "", text).split(","))


class _Reader:
    """The names assigned so far."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {}
        self.merges = 0

    def read(self, statement: str) -> None:
        name = statement.partition("=")[0].strip()
        if name == "_base_":
            return
        try:
            self.names[name] = self.assigned(name, statement)
        except RecursionError:
            self.names[name] = UNREADABLE

    def assigned(self, name: str, statement: str) -> Any:
        """What ``name`` holds after ``statement``."""
        if _is_too_deep(statement):
            return UNREADABLE
        try:
            body = ast.parse(statement).body
        except (SyntaxError, ValueError, MemoryError):
            return UNREADABLE
        if len(body) != 1 or not isinstance(body[0], ast.Assign) or len(body[0].targets) != 1:
            return UNREADABLE
        value = self.value(body[0].value)
        earlier = self.names.get(name)
        if isinstance(earlier, dict) and isinstance(value, dict):
            return self.merged(earlier, value)
        return value

    def value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Tuple):
            return tuple(self.value(item) for item in node.elts)
        if isinstance(node, (ast.List, ast.Set)):
            return [self.value(item) for item in node.elts]
        if isinstance(node, ast.Dict):
            return self.dictionary(node)
        if isinstance(node, ast.Name):
            return self.names.get(node.id, UNREADABLE)
        if isinstance(node, ast.Call):
            return self.call(node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            number = node.operand.value
            return -number if isinstance(number, (int, float)) else UNREADABLE
        return UNREADABLE

    def dictionary(self, node: ast.Dict) -> Any:
        made = {}
        for key, value in zip(node.keys, node.values, strict=True):
            if not isinstance(key, ast.Constant):
                return UNREADABLE
            made[key.value] = self.value(value)
        return made

    def call(self, node: ast.Call) -> Any:
        """``dict(name=value, **other)``; no other call is read."""
        if not (isinstance(node.func, ast.Name) and node.func.id == "dict") or node.args:
            return UNREADABLE
        made: dict[str, Any] = {}
        for keyword in node.keywords:
            value = self.value(keyword.value)
            if keyword.arg is not None:
                made[keyword.arg] = value
            elif isinstance(value, dict):
                made.update(value)
            else:
                return UNREADABLE
        return made

    def merged(self, base: dict[str, Any], child: dict[str, Any]) -> Any:
        """``child`` over ``base``, dictionary by dictionary.

        Names can share dictionaries many times over, so the work is bounded by a count, not by the text.
        """
        if child.get("_delete_") is True:
            return {key: value for key, value in child.items() if key != "_delete_"}
        made = dict(base)
        for key, value in child.items():
            self.merges += 1
            if self.merges > MAX_MERGES:
                return UNREADABLE
            below = made.get(key)
            made[key] = self.merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
        return made

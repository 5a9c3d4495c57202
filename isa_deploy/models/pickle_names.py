"""Which names a checkpoint's pickle may use: the allow-list, and why the rest is refused or ignored.

A name is

- *read*, where it belongs to the short list of what state dicts are made of (:mod:`.unpickle` makes those
  objects itself; it imports nothing that a file names and calls nothing that a file names);
- *refused*, where it could run code: whatever of the standard library, torch or numpy is not on the lists
  below, and, when it is called, any function of another package;
- *opaque* otherwise: classes that training left behind, such as mmengine's ``HistoryBuffer`` or a user's
  own.  Something empty stands in for the object.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass

__all__ = ["PLAIN_DICTS", "GlobalName", "is_callable_opaque", "is_refused", "printable"]


def printable(text: str, limit: int = 120) -> str:
    """``text`` fit for one line of a message: no control characters, at most ``limit`` characters."""
    clean = "".join(c if c.isprintable() else "?" for c in text[: limit + 1])
    return clean if len(clean) <= limit else clean[: limit - 3] + "..."


@dataclass(frozen=True)
class GlobalName:
    """A class or function that a pickle names.  It is never looked up.

    ``name`` may have dots (``Outer.Inner``).  Python 2's module names are given as Python 3's.
    """

    module: str
    name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "module", _PYTHON_2.get(self.module, self.module))

    @property
    def full(self) -> str:
        """Module and name, with a dot between."""
        return f"{self.module}.{self.name}"

    @property
    def is_class(self) -> bool:
        """Whether every part of the name is capitalised, as classes are and functions are not."""
        return all(re.match(r"_*[A-Z]", part) for part in self.name.split("."))

    def __str__(self) -> str:
        return printable(self.full)


def is_refused(name: GlobalName, readable: frozenset[str]) -> bool:
    """Whether a pickle that so much as mentions ``name`` is refused; ``readable`` are the names read."""
    if name.full in readable or name.full in PLAIN_DICTS or _is_known_leftover(name):
        return False
    parts = name.full.split(".")
    if not _REFUSED_ANYWHERE.isdisjoint(parts):
        return True
    if name.module.startswith(_TORCH_PARTS):
        return False  # a pickled module may mention its activation function; calling one is another matter
    return parts[0] in sys.stdlib_module_names or parts[0] in _REFUSED_PACKAGES


def is_callable_opaque(name: GlobalName) -> bool:
    """Whether a call of ``name``, which is neither read nor refused, is passed over: it makes an object."""
    return name.is_class or _is_known_leftover(name)


def _is_known_leftover(name: GlobalName) -> bool:
    if name.full in _LEFTOVERS or any(pattern.fullmatch(name.full) for pattern in _LEFTOVER_PATTERNS):
        return True
    return name.module.startswith(_TORCH_PARTS) and name.is_class


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TORCH_PARTS = ("torch.nn.", "torch.optim.")

_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}

PLAIN_DICTS = _words("""
    collections.OrderedDict collections.Counter builtins.dict addict.Dict addict.addict.Dict
    mmcv.utils.config.ConfigDict mmengine.config.config.ConfigDict
""")
"""Dictionaries in all but name: they are read as ``dict``."""

_REFUSED_ANYWHERE = _words("""
    os posix nt sys builtins __builtin__ __builtins__ subprocess importlib runpy shutil socket pty ctypes
    operator functools pickle commands
""")
"""Refused as any part of a dotted name: ``mmengine.utils.path`` + ``os.system`` is still ``os.system``."""

_REFUSED_PACKAGES = _words("""
    torch numpy pip setuptools pkg_resources wheel _pytest pytest IPython cloudpickle dill joblib
    commands popen2 cPickle os2 imp new exceptions urllib2 Queue thread distutils pipes
""")
"""Beside the standard library: what every environment has, and what older Pythons had."""

_LEFTOVERS = _words("""
    builtins.getattr builtins.object builtins.complex builtins.slice builtins.range builtins.int
    builtins.float builtins.str builtins.bool builtins.bytes builtins.type builtins.unicode builtins.long
    builtins.xrange
    datetime.datetime datetime.date datetime.time datetime.timedelta datetime.timezone
    pathlib.Path pathlib.PosixPath pathlib.WindowsPath
    pathlib.PurePath pathlib.PurePosixPath pathlib.PureWindowsPath
    pathlib._local.Path pathlib._local.PosixPath pathlib._local.WindowsPath
    argparse.Namespace types.SimpleNamespace decimal.Decimal fractions.Fraction uuid.UUID logging.getLogger
    torch.torch_version.TorchVersion
""")
"""Harmless when nothing is called.  ``getattr`` is how mmengine's HistoryBuffer names its statistics."""

_LEFTOVER_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        r"torch\.(cuda\.)?([A-Z]\w*)?Tensor",
        r"torch\.(u?int|float|bfloat|complex)\d+\w*|torch\.bool|torch\.device|torch\.strided",
        r"torch\.serialization\._get_layout",
        r"torch\._utils\._rebuild_(sparse_tensor|qtensor|nested_tensor|meta_tensor_no_storage|tensor_v3"
        r"|device_tensor_from_numpy|wrapper_subclass)",
        r"numpy\.(ndarray|bool_?|(u?int|float|complex)\d*|str_|bytes_|generic|number|integer|floating)",
        r"numpy\.random\.(_pickle\.\w+|\w+\.[A-Z]\w+)",  # a generator's state
    )
)

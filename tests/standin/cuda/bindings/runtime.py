"""A stand-in for ``cuda.bindings.runtime``."""

from standin.cuda import NAMES as _NAMES

globals().update(_NAMES)

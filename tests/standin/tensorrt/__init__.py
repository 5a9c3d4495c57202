"""A stand-in for ``tensorrt``."""

from standin.library import Library as _Library

_library = _Library("tensorrt")
globals().update(_library.names())


def __getattr__(name: str) -> str:
    if name == "__version__":
        return _library.version
    raise AttributeError(f"module 'tensorrt' has no attribute {name!r}")

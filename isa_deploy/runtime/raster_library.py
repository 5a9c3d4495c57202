"""rasterio, which brings GDAL, and the settings under which GDAL touches nothing but the file it is given."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from isa_deploy.errors import BackendUnavailableError, InputError

__all__ = ["gdal", "load_rasterio", "local_name"]

CACHE_BYTES = 64 << 20
"""GDAL's block cache, which is the process's; its default is a twentieth of the machine's memory."""

SETTINGS: dict[str, object] = {
    "GDAL_CACHEMAX": CACHE_BYTES,
    # no .aux.xml, .ovr, .msk or world file beside the picture is looked for, or made
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    # what libjpeg only warns of is a picture that is cut off
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "YES",
    # a faster way for small PNGs, which does not tell of errors
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO",
    # what a thread of GDAL's own would print past us; errors come as exceptions too
    "CPL_LOG": os.devnull,
    "OSR_USE_NETWORK": "NO",
    "PROJ_NETWORK": "OFF",
}


def load_rasterio() -> Any:
    """rasterio.  Raises :class:`BackendUnavailableError` where it is not installed."""
    try:
        import rasterio
        import rasterio.windows
    except ImportError as error:
        raise BackendUnavailableError(
            f"large pictures are read in tiles by rasterio, which cannot be imported ({error}); "
            "pip install 'isa-deploy[raster]', or use --tiling whole"
        ) from None
    return rasterio


@contextmanager
def gdal(path: Path, action: str) -> Iterator[Any]:
    """rasterio inside its settings.

    An error of GDAL inside the block becomes an :class:`InputError`: ``PATH: cannot ACTION (GDAL's words)``.
    """
    rasterio = load_rasterio()
    try:
        with warnings.catch_warnings(), rasterio.Env(**SETTINGS):
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            yield rasterio
    except (rasterio.errors.RasterioError, rasterio.errors.CRSError, rasterio._err.CPLE_BaseError) as error:
        raise InputError(f"{path}: cannot {action} ({_reason(error)})") from error


def local_name(path: Path) -> str:
    """The name that GDAL gets: absolute, so that nothing in it reads as a URL or a driver's prefix.

    Raises :class:`InputError` for GDAL's virtual file systems, which reach into archives and networks, and for names
    that are not text.
    """
    name = str(path.resolve())
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(f"{name!a}: the name is no UTF-8, which GDAL needs; rename the file") from None
    if name.startswith("/vsi"):
        raise InputError(f"{path}: is in a folder whose name GDAL takes for a virtual one; move the file")
    return name


def _reason(error: BaseException) -> str:
    """The innermost of GDAL's errors: the first thing that went wrong."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    return " ".join(str(error).split()).rstrip(".")

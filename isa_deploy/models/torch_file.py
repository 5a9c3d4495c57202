"""Files that ``torch.save`` wrote: the zip archive of torch >= 1.6 and the legacy stream before it.

Zip: ``<name>/data.pkl`` is the pickle, ``<name>/data/<key>`` a storage's bytes, stored and never compressed,
``<name>/byteorder`` says "little" or "big" (files older than torch 2.1 lack it and are little).

Legacy: five pickles after one another (a magic number, the protocol version, the writer's machine, the
object, the storages' keys), then for each key an int64 count of elements and the elements, little-endian.

Nothing of a storage is read before a tensor of it is asked for.
"""

from __future__ import annotations

import io
import struct
import zipfile
from typing import BinaryIO, Protocol

import numpy as np
import torch

from isa_deploy.errors import CheckpointError
from isa_deploy.models.pickle_names import printable
from isa_deploy.models.pickle_records import ITEM_BYTES, StorageRef, TensorRef
from isa_deploy.models.unpickle import MAX_PICKLE_BYTES, unpickle

__all__ = ["TorchFile", "open_torch_file"]

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
MAX_STORAGES = 100_000

FLOAT_DTYPES: dict[str, torch.dtype] = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
"""The types that weights come in."""

_ZIP_ERRORS = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, OverflowError, struct.error)


class _Storages(Protocol):
    def read(self, storage: StorageRef) -> bytearray:
        """All bytes of a storage, little-endian."""


class TorchFile:
    """A file's object, with a :class:`~.pickle_records.TensorRef` for each tensor, and the way to read those."""

    def __init__(self, root: object, storages: _Storages, origin: str) -> None:
        self.root = root
        self._storages = storages
        self._origin = origin
        self._cache: dict[str, torch.Tensor] = {}

    def tensor(self, ref: TensorRef) -> torch.Tensor:
        """The tensor in the file's own type.  Tensors of one storage share its memory.

        Raises :class:`CheckpointError` where the bytes are damaged or missing, or the type is no float's.
        """
        storage = ref.storage
        dtype = FLOAT_DTYPES.get(storage.dtype)
        if dtype is None:
            raise CheckpointError(f"{self._origin}: a weight has the type {storage.dtype}; weights must be floats")
        if ref.numel == 0:
            return torch.empty(ref.shape, dtype=dtype)
        if storage.key not in self._cache:
            self._cache[storage.key] = torch.frombuffer(self._storages.read(storage), dtype=dtype)
        return self._cache[storage.key].as_strided(ref.shape, ref.stride, ref.offset)


def open_torch_file(file: BinaryIO, origin: str) -> TorchFile:
    """Read what ``torch.save`` wrote, without its storages; ``file`` must stay open while tensors are read.

    ``origin`` names the file in errors.  Raises :class:`CheckpointError` where the file is none of torch's,
    is damaged, or would run code.
    """
    file.seek(0)
    head = file.read(512)
    if head.startswith(b"PK"):
        return _open_zip(file, origin)
    if head.startswith(b"\x80"):
        return _open_legacy(file, origin)
    raise CheckpointError(f"{origin}: {_what_else(head)}; give the .pth file that mmsegmentation wrote")


def _what_else(head: bytes) -> str:
    """What a file that is none of torch's seems to be, from its first 512 bytes."""
    text = head.lstrip().lower()
    if not head:
        return "is empty (0 bytes): the download or copy failed"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        return "is a web page: the download brought an error or login page, not the file"
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the file itself (git lfs pull brings it)"
    if head[257:262] == b"ustar":
        return "is a tar archive (torch before 0.2 saved so: load and save it again with a newer torch)"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 40:
        return "is a safetensors file, which holds neither config nor classes"
    if head[:1] == b"\x08" and head[2:3] in (b"\x12", b"\x1a", b"\x22", b"\x3a"):
        return "seems to be an ONNX graph, not a checkpoint"
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            return f"is {name}, not a checkpoint"
    return "is not a checkpoint: it begins like no file of torch's"


_MAGIC = {
    b"\x1f\x8b": "a gzip archive (unpack it first)",
    b"7z\xbc\xaf": "a 7z archive (unpack it first)",
    b"\x89HDF": "an HDF5 file",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x7fELF": "a program",
    b"\x93NUMPY": "a numpy array",
    b"%PDF": "a PDF document",
}


# ---------------------------------------------------------------------------------------------------------
# The zip archive


class _ZipStorages:
    def __init__(self, archive: zipfile.ZipFile, folder: str, byteorder: str, origin: str) -> None:
        self._archive = archive
        self._folder = folder
        self._byteorder = byteorder
        self._origin = origin

    def read(self, storage: StorageRef) -> bytearray:
        name = f"{self._folder}/data/{storage.key}"
        try:
            info = self._archive.getinfo(name)
        except KeyError:
            raise _damaged(self._origin, f"storage {printable(name)} is missing") from None
        if info.file_size != storage.nbytes:
            raise _damaged(
                self._origin, f"storage {printable(name)} has {info.file_size} bytes where {storage.nbytes} belong"
            )
        data = bytearray(_read_entry(self._archive, info, self._origin))
        item = ITEM_BYTES[storage.dtype]
        if self._byteorder == "big" and item > 1:
            np.frombuffer(data, dtype=f"u{item}").byteswap(inplace=True)
        return data


def _open_zip(file: BinaryIO, origin: str) -> TorchFile:
    try:
        archive = zipfile.ZipFile(file)
        names = archive.namelist()
    except _ZIP_ERRORS:
        raise _damaged(origin, "a zip archive without the directory at its end: cut short") from None
    if len(names) > MAX_STORAGES:
        raise CheckpointError(f"{origin}: a zip archive of {len(names)} files is not a checkpoint")
    folders = [name.removesuffix("/data.pkl") for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise CheckpointError(
            f"{origin}: is a TorchScript archive (torch.jit.save), a compiled model without its config; give the "
            "checkpoint that it was made from"
        )
    if len(folders) != 1:
        held = ", ".join(printable(name, 40) for name in names[:3]) or "nothing"
        raise CheckpointError(
            f"{origin}: is a zip archive that torch.save did not write (it holds {held}); unpack it, and give the "
            ".pth file"
        )
    folder = folders[0]
    info = archive.getinfo(f"{folder}/data.pkl")
    if info.file_size > MAX_PICKLE_BYTES:
        raise CheckpointError(f"{origin}: its pickle has {info.file_size} bytes, more than {MAX_PICKLE_BYTES}")
    byteorder = "little"
    if f"{folder}/byteorder" in names:
        mark = archive.getinfo(f"{folder}/byteorder")
        byteorder = _read_entry(archive, mark, origin).decode("ascii", "replace") if mark.file_size < 16 else "?"
        if byteorder not in ("little", "big"):
            raise _damaged(origin, f"its byte order is {printable(byteorder)}")
    pickled = unpickle(io.BytesIO(_read_entry(archive, info, origin)), origin)
    return TorchFile(pickled.value, _ZipStorages(archive, folder, byteorder, origin), origin)


def _read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, origin: str) -> bytes:
    """One entry's bytes.  Its size in memory is its size in the file: a compressed entry is refused."""
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        raise CheckpointError(
            f"{origin}: {printable(info.filename)} is compressed, which torch.save never does; unpack the archive and "
            "load and save the checkpoint again with torch"
        )
    try:
        return archive.read(info)
    except _ZIP_ERRORS as error:
        raise _damaged(origin, f"{printable(info.filename)}: {printable(str(error))}") from None


# ---------------------------------------------------------------------------------------------------------
# The legacy stream


class _LegacyStorages:
    def __init__(self, file: BinaryIO, positions: dict[str, int], origin: str) -> None:
        self._file = file
        self._positions = positions
        self._origin = origin

    def read(self, storage: StorageRef) -> bytearray:
        position = self._positions.get(storage.key)
        if position is None:
            raise _damaged(self._origin, f"storage {printable(storage.key)} is missing")
        data = bytearray(storage.nbytes)
        self._file.seek(position)
        if self._file.readinto(data) != len(data):  # type: ignore[attr-defined]
            raise _damaged(self._origin, "cut short while it was read")
        return data


def _open_legacy(file: BinaryIO, origin: str) -> TorchFile:
    size = file.seek(0, 2)
    file.seek(0)
    if unpickle(file, origin).value != LEGACY_MAGIC:
        raise CheckpointError(
            f"{origin}: is a plain pickle, not a checkpoint; write it with torch.save(state_dict, path)"
        )
    version = unpickle(file, origin).value
    if version != LEGACY_PROTOCOL:
        raise CheckpointError(
            f"{origin}: is in version {printable(str(version), 20)} of torch's legacy format, and only "
            f"{LEGACY_PROTOCOL} is known; load and save it again with a newer torch"
        )
    unpickle(file, origin)  # the writer's type sizes: the numbers are little-endian whatever it says
    pickled = unpickle(file, origin)
    keys = unpickle(file, origin).value
    if not isinstance(keys, list) or len(keys) > MAX_STORAGES:
        raise _damaged(origin, "it has no list of its storages")
    positions: dict[str, int] = {}
    position = file.tell()
    for key in keys:
        storage = pickled.storages.get(key) if isinstance(key, str) else None
        if storage is None:
            raise _damaged(origin, "it lists a storage that no tensor names")
        if position + 8 + storage.nbytes > size:
            raise _damaged(origin, f"cut short: {size} bytes, and a storage ends at {position + 8 + storage.nbytes}")
        file.seek(position)
        (numel,) = struct.unpack("<q", file.read(8))
        if numel != storage.numel:
            raise _damaged(origin, f"storage {printable(key)} has {numel} elements where {storage.numel} belong")
        positions[storage.key] = position + 8
        position += 8 + storage.nbytes
    return TorchFile(pickled.value, _LegacyStorages(file, positions, origin), origin)


def _damaged(origin: str, what: str) -> CheckpointError:
    return CheckpointError(f"{origin}: damaged: {what}; download or copy it again")

"""The manifest out of an ONNX file, without an ONNX library.

An ONNX file is a protobuf message; ``metadata_props`` (field 14 of ModelProto, onnx.proto) are key-value
entries at its top level.  Walking the top level by its lengths reads the manifest of a 200 MB file in
microseconds, before any engine has seen the file, and works where neither onnx nor an engine is installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from isa_deploy.errors import EngineError, ManifestError
from isa_deploy.manifest import MAX_MANIFEST_BYTES, METADATA_KEY, Manifest

__all__ = ["read_onnx_manifest"]

METADATA_PROPS = 14
ENTRY_KEY, ENTRY_VALUE = 1, 2
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_FIELDS = 10_000


def read_onnx_manifest(path: Path) -> Manifest:
    """The manifest in an ONNX file's metadata.

    Raises :class:`EngineError` where the file is no ONNX file or is truncated, and
    :class:`ManifestError` where it carries no manifest or a bad one.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for, for ever
            raise EngineError(f"{path}: is no file; give a model.onnx of isa-export")
        size = path.stat().st_size
        with path.open("rb") as file:
            text = _find_entry(file, size, path)
    except OSError as error:
        raise EngineError(f"{path}: cannot read the file ({error.strerror}); check the path") from None
    if text is None:
        raise ManifestError(
            f"{path}: this ONNX file carries no isa-deploy manifest; export it with isa-export, "
            "which writes how frames are prepared into the file"
        )
    return Manifest.from_json(text, str(path))


def _find_entry(file: BinaryIO, size: int, path: Path) -> bytes | None:
    if size == 0:
        raise EngineError(f"{path}: the file has 0 bytes; export the model again")
    seen_graph = False
    for _ in range(MAX_FIELDS):
        if file.tell() >= size:
            break
        field, wire = _tag(file, path)
        if wire == BYTES:
            length = _varint(file, path)
            start = file.tell()
            if start + length > size:
                raise EngineError(
                    f"{path}: truncated or not an ONNX file (field {field} claims {length} bytes, "
                    f"{size - start} are left); copy or export it again"
                )
            if field == METADATA_PROPS and length <= MAX_MANIFEST_BYTES:
                key, value = _entry(file.read(length))
                if key == METADATA_KEY.encode():
                    return value
            seen_graph = seen_graph or field == 7
            file.seek(start + length)
        elif wire == VARINT:
            _varint(file, path)
        elif wire == FIXED64:
            file.seek(8, 1)
        elif wire == FIXED32:
            file.seek(4, 1)
        else:
            raise EngineError(f"{path}: not an ONNX file (protobuf wire type {wire}); give a model.onnx of isa-export")
    if not seen_graph:
        raise EngineError(f"{path}: not an ONNX file (it holds no graph); give a model.onnx of isa-export")
    return None


def _tag(file: BinaryIO, path: Path) -> tuple[int, int]:
    tag = _varint(file, path)
    return tag >> 3, tag & 7


def _varint(file: BinaryIO, path: Path) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise EngineError(f"{path}: truncated or not an ONNX file; copy or export it again")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise EngineError(f"{path}: not an ONNX file (a number of over 10 bytes); give a model.onnx of isa-export")


def _entry(data: bytes) -> tuple[bytes, bytes]:
    """Key and value of a StringStringEntryProto; empty where the bytes are something else."""
    found: dict[int, bytes] = {}
    position = 0
    while position < len(data):
        tag = data[position]
        position += 1
        length, shift = 0, 0
        while position < len(data):
            byte = data[position]
            position += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80 or shift > 63:
                break
        if tag & 7 != BYTES or position + length > len(data):
            return b"", b""
        found[tag >> 3] = data[position : position + length]
        position += length
    return found.get(ENTRY_KEY, b""), found.get(ENTRY_VALUE, b"")

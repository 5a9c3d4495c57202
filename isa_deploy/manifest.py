"""The manifest: the one contract between the exporter and every runtime, in Python and in C++.

It stands in an ONNX file's metadata under :data:`METADATA_KEY`, and beside an engine as ``model.json``.
It is untrusted when read: every field is checked, unknown fields are refused, and a manifest from a newer
isa-deploy is refused by name rather than half understood.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from isa_deploy.errors import ManifestError

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST_FILE",
    "MAX_KEPT_LAYERS",
    "METADATA_KEY",
    "ClassesSpec",
    "EngineSpec",
    "FloatType",
    "InferenceSpec",
    "InputSpec",
    "Manifest",
    "OutputsSpec",
    "QuantisationSpec",
    "ResizeSpec",
    "ShapeRange",
    "SourceSpec",
    "read_manifest",
]

FORMAT_VERSION = 1
"""The format that this isa-deploy writes, and the newest that it reads."""

METADATA_KEY = "isa_deploy"
"""The key in an ONNX file's ``metadata_props`` under which the manifest stands as JSON."""

MANIFEST_FILE = "model.json"
"""The manifest's name in an artefact folder."""

MAX_MANIFEST_BYTES = 1 << 20
MAX_SIDE = 65536
MAX_CLASSES = 256  # a label is one byte
MAX_COUNT = 2**31 - 1  # of frames and layers: what an int holds in C

MAX_KEPT_LAYERS = 1024
"""The most layers that a manifest names as left out of the int8 ones."""

Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
SizeHW = tuple[Side, Side]
Channel = Annotated[int, Field(ge=0, le=255)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(le=MAX_COUNT)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
# no zero byte: it would end a name early for whoever reads it in C
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]

FloatType = Literal["fp32", "fp16", "bf16"]
"""The floating-point types that a graph may be in, wholly or where it is not int8."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SourceSpec(_Record):
    """Where the weights came from."""

    file: Name
    sha256: Sha256
    layout: Literal["mmseg-0.x", "mmseg-1.x", "state_dict"]


class ResizeSpec(_Record):
    """mmsegmentation's test-time ``Resize``: fit the frame into a box, keeping its ratio or not.

    ``scale_wh`` is the box as configured, (width, height) in pixels.
    """

    scale_wh: tuple[Side, Side]
    keep_ratio: bool


class InputSpec(_Record):
    """The graph's input: uint8 N x H x W x 3.

    ``shape_nhw`` gives batch, height and width where the export fixed them, None where they are free.
    ``mean`` and ``std`` are in the order of ``colour_order``; the graph itself applies them.
    """

    name: Name
    colour_order: Literal["BGR", "RGB"]
    shape_nhw: tuple[Side | None, Side | None, Side | None]
    mean: tuple[Finite, Finite, Finite]
    std: tuple[Finite, Finite, Finite]
    resize: ResizeSpec | None

    @model_validator(mode="after")
    def _check(self) -> InputSpec:
        if (self.shape_nhw[1] is None) != (self.shape_nhw[2] is None):
            raise ValueError("shape_nhw fixes one of height and width and not the other")
        return self


class InferenceSpec(_Record):
    """How a frame becomes labels.

    ``mode`` "whole": one pass over the frame.  "slide": windows of ``crop_hw`` every ``stride_hw`` pixels,
    their logits averaged; ``windows_in_graph`` says that the graph cuts and merges them itself.
    ``align_corners`` belongs to every bilinear resize of logits.
    """

    mode: Literal["whole", "slide"]
    crop_hw: SizeHW | None
    stride_hw: SizeHW | None
    align_corners: bool
    windows_in_graph: bool

    @model_validator(mode="after")
    def _check(self) -> InferenceSpec:
        if self.mode == "slide":
            if self.crop_hw is None or self.stride_hw is None:
                raise ValueError("mode slide needs crop_hw and stride_hw")
            if self.stride_hw[0] > self.crop_hw[0] or self.stride_hw[1] > self.crop_hw[1]:
                raise ValueError(f"stride_hw {self.stride_hw} leaves gaps between windows of {self.crop_hw}")
        elif self.crop_hw is not None or self.stride_hw is not None or self.windows_in_graph:
            raise ValueError("crop_hw, stride_hw and windows_in_graph belong to mode slide")
        return self


class ClassesSpec(_Record):
    """Names of the classes by label, and their colours (RGB)."""

    names: Annotated[tuple[Name, ...], Field(min_length=1, max_length=MAX_CLASSES)]
    palette_rgb: tuple[tuple[Channel, Channel, Channel], ...]

    @model_validator(mode="after")
    def _check(self) -> ClassesSpec:
        if len(self.palette_rgb) != len(self.names):
            raise ValueError(f"{len(self.palette_rgb)} colours for {len(self.names)} classes")
        return self


class OutputsSpec(_Record):
    """Names of the graph's outputs.

    ``labels``: uint8 N x H x W.  ``logits``: float32 N x C x h x w at ``logits_stride``; where the windows
    are in the graph, theirs side by side in one grid.  ``confidence``: uint8 N x H x W, or None.
    """

    labels: Name
    logits: Name
    logits_stride: Annotated[int, Field(ge=1, le=64)]
    confidence: Name | None


class QuantisationSpec(_Record):
    """How a graph was quantised to int8.

    ``rest``: the type of everything that is not int8.  ``ranges``: how the activations' ranges were chosen, in words,
    such as "mse" or "percentile 99.99".  ``frames``: how many frames it was calibrated with.  ``layers``: how many
    convolutions are int8.  ``kept``: the names of the convolutions and products that were left in ``rest``.
    """

    rest: FloatType
    ranges: Name
    frames: Annotated[Count, Field(ge=1)]
    layers: Annotated[Count, Field(ge=0)]
    kept: Annotated[tuple[Name, ...], Field(max_length=MAX_KEPT_LAYERS)]


class ShapeRange(_Record):
    """One optimisation profile: the smallest, the best and the largest input, N x H x W."""

    min_nhw: tuple[Side, Side, Side]
    opt_nhw: tuple[Side, Side, Side]
    max_nhw: tuple[Side, Side, Side]

    @model_validator(mode="after")
    def _check(self) -> ShapeRange:
        for least, best, most in zip(self.min_nhw, self.opt_nhw, self.max_nhw, strict=True):
            if not least <= best <= most:
                raise ValueError(f"{self} is not in order: min, opt, max")
        return self

    def __str__(self) -> str:
        return "x".join(map(str, self.min_nhw)) + " to " + "x".join(map(str, self.max_nhw))


class EngineSpec(_Record):
    """What built a plan, from what, and for what.

    ``compute_capability``: of the card, "8.9", or None where the plan is for every card from Ampere on.
    ``onnx_sha256`` and ``plan_sha256``: of the file that it was
    built from, and of the plan itself.  ``hardware_compatible``: runs on any card from Ampere on;
    ``version_compatible``: runs with later versions of the library, and carries code for the host to do so.
    ``profiles``: empty where every side is fixed.  ``layer_precisions``: layers by the type that they write,
    as the engine's inspector names it; empty where the card to ask was not there.
    """

    builder: Literal["tensorrt", "tensorrt_rtx"]
    builder_version: Annotated[str, Field(pattern=r"^[0-9]{1,4}(\.[0-9]{1,6}){1,4}$")]
    compute_capability: Annotated[str, Field(pattern=r"^[0-9]{1,2}\.[0-9]$")] | None
    onnx_sha256: Sha256
    plan_sha256: Sha256
    hardware_compatible: bool
    version_compatible: bool
    profiles: Annotated[tuple[ShapeRange, ...], Field(max_length=64)]
    layer_precisions: Annotated[dict[Name, Annotated[int, Field(ge=0)]], Field(max_length=64)]


class Manifest(_Record):
    """Everything that a runtime has to know about a graph or an engine, by name.

    ``precision``: the type of its convolutions, as far as they are of one.  ``quantisation``: with "int8", and with no
    other.  A record without one has no such key: isa-deploy before int8 reads it too.
    """

    format_version: Literal[1]
    architecture: Name
    precision: Literal["fp32", "fp16", "bf16", "int8"]
    source: SourceSpec
    input: InputSpec
    inference: InferenceSpec
    classes: ClassesSpec
    outputs: OutputsSpec
    quantisation: QuantisationSpec | None = None
    engine: EngineSpec | None = None

    @model_validator(mode="after")
    def _check(self) -> Manifest:
        if self.inference.windows_in_graph and self.input.shape_nhw[1] is None:
            raise ValueError("windows_in_graph needs a fixed height and width")
        if self.precision == "int8" and self.quantisation is None:
            raise ValueError("precision int8 needs quantisation")
        if self.precision != "int8" and self.quantisation is not None:
            raise ValueError(f"quantisation belongs to precision int8, not to {self.precision}")
        return self

    @model_serializer(mode="wrap")
    def _write(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        record: dict[str, Any] = write(self)
        if self.quantisation is None:
            record.pop("quantisation", None)
        return record

    @property
    def float_type(self) -> FloatType:
        """The type of everything that is not int8, which is all of it where nothing is."""
        if self.precision != "int8":
            return self.precision
        assert self.quantisation is not None  # _check
        return self.quantisation.rest

    @property
    def types(self) -> str:
        """The types that the graph computes in, in words: "fp16", or "int8 (rest fp32)"."""
        return f"int8 (rest {self.float_type})" if self.precision == "int8" else self.precision

    @property
    def frame_hw(self) -> tuple[int, int] | None:
        """The only frame size (height, width) that the graph takes, or None where any will do."""
        _, height, width = self.input.shape_nhw
        return None if height is None or width is None else (height, width)

    def to_json(self) -> str:
        """The manifest as JSON text, one line a field."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, origin: str) -> Manifest:
        """Read and check a manifest.

        ``origin`` names the file in the error.  Raises :class:`ManifestError` where the text is no JSON,
        lacks or adds a field, breaks a bound, or was written by a newer isa-deploy.
        """
        if len(text) > MAX_MANIFEST_BYTES:
            raise ManifestError(f"{origin}: the manifest has {len(text)} bytes, more than {MAX_MANIFEST_BYTES}")
        try:
            record: Any = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ManifestError(f"{origin}: the manifest is not JSON ({error}); export the model again") from None
        if not isinstance(record, dict):
            raise ManifestError(f"{origin}: the manifest is not a JSON object; export the model again")
        version = record.get("format_version")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise ManifestError(
                f"{origin}: the manifest has format version {version} and this isa-deploy reads up to "
                f"{FORMAT_VERSION}; upgrade isa-deploy, or export with this version"
            )
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            field = ".".join(_one_line(str(part)) for part in first["loc"]) or "manifest"
            raise ManifestError(f"{origin}: manifest field {field}: {first['msg']}; export the model again") from None


def _one_line(key: str) -> str:
    """A key that the file itself chose, fit for a message."""
    return "".join(letter if letter.isprintable() else "?" for letter in key[:80])


def read_manifest(path: Path) -> Manifest:
    """Read a ``model.json``.  Raises :class:`ManifestError` where it is missing or not a valid manifest."""
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for, for ever
            raise ManifestError(f"{path}: is no file; give a {MANIFEST_FILE} of isa-export")
        with path.open("rb") as file:
            text = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise ManifestError(f"{path}: cannot read the manifest ({error.strerror}); export the model again") from None
    return Manifest.from_json(text, str(path))

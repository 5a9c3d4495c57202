"""Label maps into a lossless video: FFV1, 8 bits of grey, in Matroska, through PyAV (the ``video`` extra).

A pixel's grey is its label.  The stream says full range, so that FFmpeg, PyAV (``format="gray"``) and OpenCV's
``VideoCapture`` (any channel) read back exactly the labels that were written, at any size.
"""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from isa_deploy.errors import BackendUnavailableError, InputError
from isa_deploy.runtime.frame_writer import FrameWriter
from isa_deploy.runtime.video import VideoReader

if TYPE_CHECKING:
    import av
    from av.container import OutputContainer

__all__ = ["LabelVideoWriter"]

UInt8 = npt.NDArray[np.uint8]

FULL_RANGE = 2  # FFmpeg's AVCOL_RANGE_JPEG
MAX_THREADS = 4
SLICES = 4  # parts of a picture that are coded at the same time
SLICED_SIDE = 64  # pixels; a smaller picture is not cut, which FFV1 could not do with one of a few
MUXER_CLOCK = Fraction(1, 1000)
CLOCK = Fraction(1, 1_000_000)
TIMESTAMP_SCALE = bytes.fromhex("2ad7b183")  # RFC 9559, 5.1.2.9, with a length of three bytes
HEADER_BYTES = 4096


class LabelVideoWriter(FrameWriter):
    """A Matroska file of label maps (uint8 H x W), which must not change after :meth:`write`.

    The first sets the size; of a later one of another size the nearest pixels are taken: classes are never mixed.

    Times are kept to the microsecond, so that the nearest tick of any clock that is coarser is the one that was
    written.  FFmpeg's writer counts milliseconds: it is given microseconds in their place, and the unit in the
    file's header, the TimestampScale, is put right at the end.
    """

    def __init__(
        self,
        path: Path,
        time_base: Fraction,
        frame_rate: Fraction | None = None,
        sample_aspect: Fraction = Fraction(1),
    ) -> None:
        super().__init__(path, time_base, frame_rate)
        self.sample_aspect = sample_aspect
        self._last_us = -1

    @classmethod
    def like(cls, path: Path, reader: VideoReader) -> LabelVideoWriter:
        """A writer with the clock and the shape of pixels of the video that ``reader`` reads.

        Give its :meth:`write` the frames' ``pts`` less :attr:`VideoReader.begin_pts`.
        """
        return cls(path, reader.time_base, reader.wanted.expected_rate(reader.frame_rate), reader.sample_aspect)

    def _check(self, picture: UInt8) -> None:
        if picture.dtype != np.uint8 or picture.ndim != 2 or picture.size == 0:
            raise InputError(
                f"{self.path}: a {picture.dtype} array of shape {picture.shape} is no label map; pass uint8, "
                "height x width"
            )

    def _make_container(self, temporary: Path) -> OutputContainer:
        # a checksum of the header would no longer be its own; FFV1's, of the pictures, stay
        options = {"write_crc32": "0"}
        container: OutputContainer = self._av.open(
            f"file:{temporary}", "w", format="matroska", container_options=options
        )
        return container

    def _make_stream(self, container: OutputContainer, picture: UInt8) -> av.VideoStream:
        height, width = picture.shape
        # version 3 has slices, with checksums
        options = {"level": "3", "slices": str(SLICES)} if min(height, width) >= SLICED_SIDE else {"level": "1"}
        stream: av.VideoStream = container.add_stream("ffv1", options=options)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = width, height, "gray"
        context.color_range = FULL_RANGE
        context.time_base = stream.time_base = MUXER_CLOCK
        if self.frame_rate is not None:
            context.framerate = self.frame_rate
        context.sample_aspect_ratio = self.sample_aspect
        context.thread_count = min(MAX_THREADS, os.cpu_count() or 1)
        try:
            context.open()
        except self._av.error.FFmpegError as error:
            raise InputError(
                f"{self.path}: cannot encode label maps of {width}x{height} as FFV1 ({error.strerror}); "
                "use a smaller video"
            ) from error
        return stream

    def _encodable(self, picture: UInt8, pts: int) -> av.VideoFrame:
        assert self._stream is not None
        context = self._stream.codec_context
        size_wh = context.width, context.height
        if (picture.shape[1], picture.shape[0]) != size_wh:
            scaled = cv2.resize(picture, size_wh, interpolation=cv2.INTER_NEAREST_EXACT)
            picture = np.asarray(scaled, dtype=np.uint8)
        frame: av.VideoFrame = self._av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(picture), format="gray")
        # two ticks of a clock finer than a microsecond may have the same
        self._last_us = max(self._last_us + 1, round(pts * self.time_base / CLOCK))
        frame.pts, frame.time_base = self._last_us, MUXER_CLOCK
        return frame

    def _stamp(self, packet: av.Packet[Any]) -> None:
        packet.duration = max(1, round(self._step * self.time_base / CLOCK))

    def _closed(self, temporary: Path) -> None:
        with temporary.open("r+b") as file:
            header = file.read(HEADER_BYTES)
            milliseconds = TIMESTAMP_SCALE + int(MUXER_CLOCK * 10**9).to_bytes(3, "big")
            at = header.find(milliseconds)
            if at < 0:
                raise BackendUnavailableError(
                    "this PyAV's FFmpeg writes Matroska's clock in another way than is known here; install PyAV's own "
                    "wheel: pip install --force-reinstall av"
                )
            file.seek(at + len(TIMESTAMP_SCALE))
            file.write(int(CLOCK * 10**9).to_bytes(3, "big"))

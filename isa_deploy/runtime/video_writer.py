"""Frames into a video file that every browser plays, through PyAV (the ``video`` extra).

H.264, 4:2:0, 8 bit, in MP4 with its index in front, tagged BT.709 and limited range.
"""

from __future__ import annotations

import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from isa_deploy.errors import BackendUnavailableError, InputError
from isa_deploy.runtime.frame_writer import FrameWriter
from isa_deploy.runtime.sound import SoundCopy, SoundCut
from isa_deploy.runtime.video import VideoReader, load_av

if TYPE_CHECKING:
    import av
    from av.container import OutputContainer

__all__ = ["VideoWriter"]

UInt8 = npt.NDArray[np.uint8]

BT709, LIMITED_RANGE = 1, 1  # ISO/IEC 23091-2 (one number for matrix, primaries and transfer); FFmpeg's range
MAX_THREADS = 8  # each holds frames
X264_OPTIONS = {"preset": "veryfast", "crf": "20"}  # hard to tell from the source; faster than any network here


class VideoWriter(FrameWriter):
    """An MP4 file of frames (uint8 H x W x 3, BGR), which may change once :meth:`write` has returned.

    H.264 halves the colour planes, so a frame of odd height or width gets its last row or column twice.
    The first frame sets the size; a later one of another size is scaled to it.

    ``time_base`` is kept exactly.  ``sample_aspect``: a pixel's width over its height.  ``sound_of``: a file whose
    first sound track, or a part of it, is copied as it is, where MP4 can hold it; on Ctrl-C up to the last frame.

    Raises :class:`BackendUnavailableError` where PyAV or its H.264 encoder is missing.
    """

    def __init__(
        self,
        path: Path,
        time_base: Fraction,
        frame_rate: Fraction | None = None,
        sample_aspect: Fraction = Fraction(1),
        sound_of: SoundCut | None = None,
    ) -> None:
        super().__init__(path, time_base, frame_rate)
        self.sample_aspect = sample_aspect
        self.sound_of = sound_of
        self._codec = _h264_encoder()
        self._reformatter = self._av.video.reformatter.VideoReformatter()
        self._sound: SoundCopy | None = None

    @classmethod
    def like(cls, path: Path, reader: VideoReader) -> VideoWriter:
        """A writer with the clock, the shape of pixels and the sound of the video that ``reader`` reads.

        Give its :meth:`write` the frames' ``pts`` less :attr:`VideoReader.begin_pts`.
        """
        wanted = reader.wanted
        sound = SoundCut(reader.path, reader.begin_pts * reader.time_base, wanted.end_s)
        return cls(path, reader.time_base, wanted.expected_rate(reader.frame_rate), reader.sample_aspect, sound)

    def _check(self, picture: UInt8) -> None:
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0:
            raise InputError(
                f"{self.path}: a {picture.dtype} array of shape {picture.shape} is no frame; pass uint8, "
                "height x width x 3"
            )

    def _make_container(self, temporary: Path) -> OutputContainer:
        container: OutputContainer = self._av.open(
            f"file:{temporary}",
            "w",
            format="mp4",
            container_options={
                "movflags": "+faststart",
                # the clock in which a late start is written; the muxer's own, a millisecond, would round it
                "movie_timescale": str(self.time_base.denominator),
            },
        )
        return container

    def _make_stream(self, container: OutputContainer, picture: UInt8) -> av.VideoStream:
        height, width = (side + side % 2 for side in picture.shape[:2])
        options = X264_OPTIONS if self._codec == "libx264" else {}
        stream = cast("av.VideoStream", container.add_stream(self._codec, options=options))
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.time_base = stream.time_base = self.time_base
        if self.frame_rate is not None:
            context.framerate = self.frame_rate
        context.sample_aspect_ratio = self.sample_aspect
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED_RANGE
        context.thread_count = min(MAX_THREADS, os.cpu_count() or 1)
        try:
            context.open()
        except self._av.error.FFmpegError as error:
            raise InputError(
                f"{self.path}: cannot encode frames of {width}x{height} as H.264 ({error.strerror}); "
                "its sides may have up to 16384 pixels"
            ) from error
        self._sound = SoundCopy.open(self.sound_of, container) if self.sound_of is not None else None
        return stream

    def _encodable(self, picture: UInt8, pts: int) -> av.VideoFrame:
        assert self._stream is not None
        context = self._stream.codec_context
        height, width = picture.shape[:2]
        if (height + height % 2, width + width % 2) != (context.height, context.width):
            picture = np.asarray(cv2.resize(picture, (context.width, context.height)), dtype=np.uint8)
        elif height % 2 or width % 2:
            padded = cv2.copyMakeBorder(picture, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
            picture = np.asarray(padded, dtype=np.uint8)
        # read where it lies; the conversion makes what the encoder keeps
        bgr = self._av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(picture), format="bgr24")
        frame: av.VideoFrame = self._reformatter.reformat(
            bgr, format="yuv420p", dst_colorspace=BT709, dst_color_range=LIMITED_RANGE
        )
        frame.pts, frame.time_base = pts, self.time_base
        return frame

    def _stamp(self, packet: av.Packet[Any]) -> None:
        # MP4 keeps the times between frames, and of the durations only the last one's: as long as the
        # frame before it, or it would be over in one tick
        packet.duration = self._step

    def _written(self, pts: int) -> None:
        if self._sound is not None:
            self._sound.copy_until(pts * self.time_base)

    def _all_written(self) -> None:
        if self._sound is not None:
            self._sound.copy_rest()

    def _forget(self) -> None:
        super()._forget()
        if self._sound is not None:
            self._sound.close()
            self._sound = None


def _h264_encoder() -> str:
    """FFmpeg's name of the best H.264 encoder here: x264 (in PyAV's own wheels), else what there is."""
    av = load_av()
    for name in ("libx264", "h264"):
        with suppress(av.codec.codec.UnknownCodecError):
            return str(av.codec.Codec(name, "w").name)
    raise BackendUnavailableError(
        "this PyAV was built without an H.264 encoder; install its own wheel: pip install --force-reinstall av"
    )

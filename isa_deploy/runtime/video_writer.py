"""Frames into a video file that every browser plays, through PyAV (the ``video`` extra).

H.264, 4:2:0, 8 bit, in MP4 with its index in front, tagged BT.709 and limited range.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from isa_deploy.errors import BackendUnavailableError, InputError
from isa_deploy.files import Replacement, os_errors
from isa_deploy.runtime.video import FALLBACK_RATE, VideoReader, load_av, open_container, start_ticks

if TYPE_CHECKING:
    import av
    from av.container import InputContainer, OutputContainer

__all__ = ["VideoWriter"]

UInt8 = npt.NDArray[np.uint8]

BT709, LIMITED_RANGE = 1, 1  # ISO/IEC 23091-2 (one number for matrix, primaries and transfer); FFmpeg's range
MAX_THREADS = 8  # each holds frames
X264_OPTIONS = {"preset": "veryfast", "crf": "20"}  # hard to tell from the source; faster than any network here
SOUND_IN_MP4 = frozenset({"aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"})


class VideoWriter:
    """An MP4 file, written under a temporary name and renamed when it is complete.

    Use it in a ``with``: at the end of the block, and on Ctrl-C, the file is finished and renamed, playable;
    on any other exception nothing stays.  Without a single frame no file is made.

    H.264 halves the colour planes, so a frame of odd height or width gets its last row or column twice.
    The first frame sets the size; a later one of another size is scaled to it.

    ``time_base``: seconds to a tick of :meth:`write`, kept exactly.  ``frame_rate``: an average, for players
    that ask.  ``sample_aspect``: a pixel's width over its height.  ``sound_of``: a file whose first sound
    track is copied as it is, where MP4 can hold it.

    Raises :class:`BackendUnavailableError` where PyAV or its H.264 encoder is missing.
    """

    def __init__(
        self,
        path: Path,
        time_base: Fraction,
        frame_rate: Fraction | None = None,
        sample_aspect: Fraction = Fraction(1),
        sound_of: Path | None = None,
    ) -> None:
        self.path = path
        self.time_base = time_base
        self.frame_rate = frame_rate
        self.sample_aspect = sample_aspect
        self.sound_of = sound_of
        self._av = load_av()
        self._codec = _h264_encoder()
        self._reformatter = self._av.video.reformatter.VideoReformatter()
        self._replacement = Replacement(path)
        self._container: OutputContainer | None = None
        self._sound: _SoundCopy | None = None
        self._last_pts = -1
        self._step = max(1, round(1 / ((frame_rate or FALLBACK_RATE) * time_base)))

    @classmethod
    def like(cls, path: Path, reader: VideoReader) -> VideoWriter:
        """A writer with the clock, the shape of pixels and the sound of the video that ``reader`` reads."""
        return cls(path, reader.time_base, reader.frame_rate, reader.sample_aspect, reader.path)

    def write(self, frame_hwc: UInt8, pts: int) -> None:
        """Append a frame (uint8 H x W x 3, BGR), shown at ``pts`` ticks; ``pts`` rises from frame to frame.

        Raises :class:`InputError` where the frame is none or comes too early, H.264 cannot hold its size, or
        the file cannot be written; nothing of the file is left then.
        """
        with self._failures():
            if frame_hwc.dtype != np.uint8 or frame_hwc.ndim != 3 or frame_hwc.shape[2] != 3 or frame_hwc.size == 0:
                raise InputError(
                    f"{self.path}: a {frame_hwc.dtype} array of shape {frame_hwc.shape} is no frame; pass uint8, "
                    "height x width x 3"
                )
            if pts <= self._last_pts:
                raise InputError(f"{self.path}: a frame at tick {pts} after one at {self._last_pts}; pass rising times")
            if self._container is None:
                self._container = self._open(frame_hwc)
            self._mux(self._encodable(frame_hwc, pts))
            if self._last_pts >= 0:
                self._step = pts - self._last_pts
            self._last_pts = pts
            if self._sound is not None:
                self._sound.copy_until(pts * self.time_base)

    def close(self) -> None:
        """Finish the file, with the rest of the sound, and give it its name.

        Raises :class:`InputError` where it cannot be written; nothing of it is left then.
        """
        if self._sound is not None:
            with self._failures():
                self._sound.copy_rest()
        self._finish()

    def discard(self) -> None:
        """Give up the file; nothing of it is left."""
        if self._container is not None:
            # closing writes the index, and fails again where writing failed
            with suppress(self._av.error.FFmpegError):
                self._container.close()
        self._forget()
        self._replacement.discard()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif issubclass(kind, KeyboardInterrupt):
            self._finish()
        else:
            self.discard()

    def _finish(self) -> None:
        if self._container is None:
            return
        try:
            with self._failures():
                self._mux(None)
                self._container.close()
                self._forget()
                self._replacement.commit()
        finally:
            # a second Ctrl-C in the middle of this
            self._replacement.discard()

    def _forget(self) -> None:
        self._container = None
        if self._sound is not None:
            self._sound.close()
            self._sound = None

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            with os_errors(self.path, "write the video"):
                yield
        except InputError:
            self.discard()
            raise
        except self._av.error.FFmpegError as error:
            self.discard()
            raise InputError(f"{self.path}: cannot write the video: {error.strerror}; try another --out") from error

    def _open(self, frame_hwc: UInt8) -> OutputContainer:
        height, width = (side + side % 2 for side in frame_hwc.shape[:2])
        container: OutputContainer = self._av.open(
            f"file:{self._replacement.temporary}",
            "w",
            format="mp4",
            container_options={
                "movflags": "+faststart",
                # the clock in which a late start is written; the muxer's own, a millisecond, would round it
                "movie_timescale": str(self.time_base.denominator),
            },
        )
        # from here on _failures closes it
        self._container = container
        stream = container.add_stream(self._codec, options=X264_OPTIONS if self._codec == "libx264" else {})
        assert isinstance(stream, self._av.VideoStream)
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
        self._stream = stream
        self._sound = _SoundCopy.open(self.sound_of, container) if self.sound_of is not None else None
        container.start_encoding()  # the file is made now: what the system has against it is heard at once
        return container

    def _encodable(self, frame_hwc: UInt8, pts: int) -> av.VideoFrame:
        context = self._stream.codec_context
        height, width = frame_hwc.shape[:2]
        if (height + height % 2, width + width % 2) != (context.height, context.width):
            frame_hwc = np.asarray(cv2.resize(frame_hwc, (context.width, context.height)), dtype=np.uint8)
        elif height % 2 or width % 2:
            padded = cv2.copyMakeBorder(frame_hwc, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
            frame_hwc = np.asarray(padded, dtype=np.uint8)
        bgr = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_hwc), format="bgr24")
        frame: av.VideoFrame = self._reformatter.reformat(
            bgr, format="yuv420p", dst_colorspace=BT709, dst_color_range=LIMITED_RANGE
        )
        frame.pts, frame.time_base = pts, self.time_base
        return frame

    def _mux(self, frame: av.VideoFrame | None) -> None:
        assert self._container is not None
        for packet in self._stream.encode(frame):
            # MP4 keeps the times between frames, and of the durations only the last one's: as long as the
            # frame before it, or it would be over in one tick
            packet.duration = self._step
            self._container.mux(packet)


class _SoundCopy:
    """The packets of a file's first sound track, put into another file in step with its pictures.

    A sound track that breaks off, or is damaged, ends there; the pictures go on.
    """

    def __init__(self, source: InputContainer, output: OutputContainer) -> None:
        stream = source.streams.audio[0]
        self._source = source
        self._output = output
        self._stream = output.add_stream_from_template(stream)
        self._time_base = Fraction(stream.time_base or 1)
        self._start = start_ticks(source, self._time_base)
        self._ends = load_av().error.FFmpegError
        self._packets = source.demux(stream)
        self._last_dts: int | None = None
        self._next = self._read()

    @classmethod
    def open(cls, path: Path, output: OutputContainer) -> _SoundCopy | None:
        """None where the file has no sound that MP4 can hold."""
        source = open_container(path)
        contexts = [stream.codec_context for stream in source.streams.audio[:1]]
        if not contexts or contexts[0] is None or contexts[0].codec.canonical_name not in SOUND_IN_MP4:
            source.close()
            return None
        return cls(source, output)

    def copy_until(self, time_s: Fraction) -> None:
        """Copy what is heard up to a moment of the video."""
        while self._next is not None and self._next[1] * self._time_base <= time_s:
            self._copy_next()

    def copy_rest(self) -> None:
        """Copy all that is left."""
        while self._next is not None:
            self._copy_next()

    def close(self) -> None:
        """Close the file that the sound comes from."""
        self._source.close()

    def _copy_next(self) -> None:
        if self._next is not None:
            packet, dts = self._next
            packet.pts = dts if packet.pts is None else packet.pts - self._start
            packet.dts = dts
            packet.stream = self._stream
            self._output.mux(packet)
            self._last_dts = dts
        self._next = self._read()

    def _read(self) -> tuple[av.Packet[Any], int] | None:
        """The next packet and its time of decoding, in ticks from the file's start; those rise."""
        while True:
            try:
                packet = next(self._packets, None)
            except self._ends:
                return None
            if packet is None:
                return None
            if packet.dts is not None and packet.size > 0:
                dts = packet.dts - self._start
                if self._last_dts is None or dts > self._last_dts:
                    return packet, dts


def _h264_encoder() -> str:
    """FFmpeg's name of the best H.264 encoder here: x264 (in PyAV's own wheels), else what there is."""
    av = load_av()
    for name in ("libx264", "h264"):
        with suppress(av.codec.codec.UnknownCodecError):
            return str(av.codec.Codec(name, "w").name)
    raise BackendUnavailableError(
        "this PyAV was built without an H.264 encoder; install its own wheel: pip install --force-reinstall av"
    )

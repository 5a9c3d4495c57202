"""Frames out of video files, through PyAV (the ``video`` extra).

Files are untrusted: only local files of the listed container formats are opened (FFmpeg would also follow
playlists, to other files and to the network), and sizes are checked before a decoder sees a packet.

Pixels are those of OpenCV's ``VideoCapture``, which is what networks of mmsegmentation are fed with.
Measured against OpenCV 5.0, 8- and 10-bit 4:2:0 (OpenCV 4 took BT.601 and limited range for everything):

- the matrix is the one that the stream names, and BT.601 where it names none, at any size: equal to the bit
  (BT.709 in the place of that BT.601 would shift the mean by 7 levels);
- limited and full range as the stream says: equal to the bit;
- the display rotation is applied, in quarter turns: equal to the bit;
- wide gamut and HDR (BT.2020, P3, PQ, HLG) are brought to BT.709: mean difference under 0.2 levels, while
  the numbers as they stand would be off by 13 to 43.  FFmpeg spends 4 s on its tables first.  It takes
  PyAV 18; PyAV 17, the last for Python 3.10, leaves the numbers as they stand.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from isa_deploy.errors import BackendUnavailableError, InputError
from isa_deploy.files import os_errors
from isa_deploy.runtime.images import MAX_PIXELS
from isa_deploy.runtime.video_range import EVERYTHING, FrameChooser, VideoRange

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

__all__ = ["VIDEO_SUFFIXES", "VideoFrame", "VideoReader", "load_av", "open_container", "packets_of", "turn_upright"]

UInt8 = npt.NDArray[np.uint8]

VIDEO_SUFFIXES = frozenset(
    {
        *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
        *(".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"),
    }
)
"""Endings, in small letters, of the files that :class:`VideoReader` reads."""

CONTAINERS = "mov,matroska,avi,flv,mpegts,mpeg,ogg,asf"  # FFmpeg's names of its readers
MAX_THREADS = 4  # each holds frames; more decode no faster than any network here takes them
LEAST_MISSING_S, LEAST_MISSING = 1.0, 0.05  # sound, which counts too, may end a little after the pictures
FALLBACK_RATE = Fraction(25)  # of a stream that names no rate
MAX_RATE = 1000  # of an uneven one FFmpeg names its clock's instead

SEARCHED = frozenset({"mov", "matroska", "avi", "flv", "mpegts"})  # each frame has its time; in the others not
MPEG_CLOCKS = frozenset({"mpegts", "mpeg"})
LONGEST_MPEG_GAP_S = 1800  # the standard allows 0.7 s, and MP4 ends at 2 ** 31 ticks, which are 6.6 h of such a clock
LONGEST_GAP_S = 86400  # in other formats
SEEK_MARGINS_S = (0, 2, 10, 60)  # seconds before the start; a transport stream has no index of its key frames

# ISO/IEC 23091-2: colour primaries and transfer characteristics
BT709, SRGB = 1, 13
WIDE_GAMUTS = frozenset({9, 11, 12})  # BT.2020, DCI-P3, Display P3

_TURNS = {90: cv2.ROTATE_90_COUNTERCLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_CLOCKWISE}


@dataclass(frozen=True)
class VideoFrame:
    """One decoded frame.

    ``frame_hwc``: uint8 H x W x 3, BGR, upright; its memory may be the decoder's own, and is only read.
    ``index`` counts from 0 the frames that were delivered.  ``pts`` is when it is shown, in ticks of
    :attr:`VideoReader.time_base` from the beginning of the file; it rises from frame to frame.  ``time_s`` is
    the same in seconds.
    """

    frame_hwc: UInt8
    index: int
    pts: int
    time_s: float


class VideoReader:
    """The frames of a video file, in order, each once; memory does not grow with the length.

    Iterate over it, inside a ``with``.  A frame that cannot be decoded, or that the decoder marks as
    damaged, is left out and counted in :attr:`damaged`.

    ``wanted``: the frames that are delivered. Where it begins late, decoding begins at the last key frame
    before, and the first frame is exactly the one that decoding from the beginning would give. MPEG program
    streams, Ogg, ASF, AVI and MPEG-4 with B-frames, in which FFmpeg guesses times, are decoded from their beginning.
    Frames that are not wanted are decoded where others need them, and nothing else is done to them.

    ``path``: the file.  ``begin_pts``: where results begin: 0, or the first frame's time where that is wanted
    from a later start on.  ``size_hw``: height and width of the first frame, upright; a later frame may differ
    where the stream changes.  ``time_base``: seconds to a tick.  ``frame_rate``: frames to a second on average,
    None where the file does not tell.  ``frames``: how many the file says or lets one expect, None where it does
    not.  ``duration_s``: likewise.  ``sample_aspect``: a pixel's width over its height, upright.

    Raises :class:`InputError` where the file is missing, is not a video, is cut off before its index, has no
    picture stream, no frame that can be decoded or none that is wanted, or has frames of more than
    ``max_pixels``, and :class:`BackendUnavailableError` where PyAV is not installed.
    """

    def __init__(self, path: Path, max_pixels: int = MAX_PIXELS, wanted: VideoRange = EVERYTHING) -> None:
        self.path = path
        self.wanted = wanted
        self.damaged = 0
        self.sample_aspect = Fraction(1)
        self._max_pixels = max_pixels
        self._quarter_turned = False
        self._seen_pts: int | None = None
        self._at_end = False
        self._av = load_av()
        self._reformatter = self._av.video.reformatter.VideoReformatter()
        self._open()
        try:
            # The first frame is decoded now: a video without one is refused before anything is made of it,
            # and only a frame tells how it is turned.
            self._frames = self._delivered(self._decoded_from_start())
            self._first = next(self._frames, None)
            if self._first is None:
                raise InputError(f"{path}: {self._why_no_frame()}")
        except BaseException:
            self._container.close()
            raise
        self.begin_pts = self._first.pts if wanted.start_s > 0 else 0
        height, width, _ = self._first.frame_hwc.shape
        self.size_hw: tuple[int, int] = (height, width)
        if self._quarter_turned:
            self.sample_aspect = 1 / self.sample_aspect

    def __iter__(self) -> Iterator[VideoFrame]:
        if self._first is not None:
            first, self._first = self._first, None
            yield first
        yield from self._frames

    @property
    def ends_early_s(self) -> float | None:
        """When its last frame was, in seconds, where the file was read to its end and says that it is much longer."""
        if not self._at_end or self._seen_pts is None or self.duration_s is None:
            return None
        last_s = float(self._seen_pts * self.time_base)
        missing_s = self.duration_s - last_s
        return last_s if missing_s > max(LEAST_MISSING_S, LEAST_MISSING * self.duration_s) else None

    def close(self) -> None:
        """Close the file."""
        self._frames.close()
        self._container.close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> None:
        self._container = open_container(self.path)
        try:
            self._stream = self._picture_stream(self._max_pixels)
            self._describe()
        except BaseException:
            self._container.close()
            raise

    def _why_no_frame(self) -> str:
        if self.wanted.is_cut and self._seen_pts is not None:
            seen_s = float(self._seen_pts * self.time_base)
            return (
                f"there is no frame between {_seconds(self.wanted.start_s)} and {_seconds(self.wanted.end_s)}, "
                f"only others, such as one at {seen_s:.3f} s; take another start or end"
            )
        what = "a video without frames" if not self.damaged else "none of its frames can be decoded"
        return f"{what}; check that it plays, and replace or remove it"

    def _picture_stream(self, max_pixels: int) -> av.VideoStream:
        # a cover picture is a stream too
        cover = self._av.stream.Disposition.attached_pic
        streams = [stream for stream in self._container.streams.video if not stream.disposition & cover]
        if not streams:
            raise InputError(f"{self.path}: there is no picture in this file, only sound or data; give a video")
        stream = streams[0]
        context = stream.codec_context
        if context is None:
            raise InputError(f"{self.path}: this FFmpeg has no decoder for the video; convert it to H.264")
        if context.width * context.height > max_pixels:
            raise InputError(
                f"{self.path}: frames of {context.width}x{context.height} are more than the "
                f"{max_pixels / 1e6:.0f} million pixels that are read at once; scale the video down"
            )
        # the stream's own header may say another size than the container's, and is believed by the decoder
        context.options = {"max_pixels": str(max_pixels)}
        context.thread_type = "AUTO"
        context.thread_count = min(MAX_THREADS, os.cpu_count() or 1)
        return stream

    def _describe(self) -> None:
        stream = self._stream
        self.time_base = Fraction(stream.time_base or 1 / FALLBACK_RATE)
        rate = Fraction(stream.average_rate or 0)
        self.frame_rate: Fraction | None = rate if 0 < rate <= MAX_RATE else None
        self.duration_s: float | None = None
        if stream.duration:
            self.duration_s = float(stream.duration * self.time_base)
        elif self._container.duration:
            self.duration_s = self._container.duration / self._av.time_base
        self.frames: int | None = stream.frames or None
        if self.frames is None and self.duration_s is not None and self.frame_rate is not None:
            self.frames = max(1, round(self.duration_s * self.frame_rate))
        self.sample_aspect = Fraction(stream.sample_aspect_ratio or 1)

    def _delivered(self, decoded: Iterable[tuple[av.VideoFrame, int]]) -> Generator[VideoFrame, None, None]:
        """The frames that are wanted, as pictures."""
        wanted = self.wanted
        chooser = FrameChooser(wanted)
        index = 0
        for frame, pts in decoded:
            time_s = pts * self.time_base
            self._seen_pts = pts
            if time_s < wanted.start_s:
                self.damaged = 0  # of what nobody asked for
                continue
            if wanted.end_s is not None and time_s >= wanted.end_s:
                return
            if not chooser.takes(time_s):
                continue
            try:
                frame_hwc = self._upright_bgr(frame)
            except self._av.error.FFmpegError:  # colours that are no colours
                self.damaged += 1
                continue
            yield VideoFrame(frame_hwc, index, pts, float(time_s))
            index += 1
        self._at_end = True

    def _decoded_from_start(self) -> Iterator[tuple[av.VideoFrame, int]]:
        """What the decoder gives, with its time: all from the last key frame before the start of the range on.

        A search may miss (no index, key frames that are none): where the first frame is not from before the
        start, it begins again further before, and at last at the file's beginning.
        """
        if self.wanted.start_s > 0 and self._has_times:
            for margin_s in SEEK_MARGINS_S:
                if margin_s >= self.wanted.start_s or not self._seek(self.wanted.start_s - margin_s):
                    break
                self.damaged = 0
                timed = self._timed(self._decoded())
                first = next(timed, None)
                if first is not None and first[0].pts is not None and first[1] * self.time_base <= self.wanted.start_s:
                    yield first
                    yield from timed
                    return
            self._container.close()
            self.damaged = 0
            self._open()
        yield from self._timed(self._decoded())

    @property
    def _has_times(self) -> bool:
        """Whether each frame's time is in the file; FFmpeg's guesses depend on where it began to read."""
        context, names = self._stream.codec_context, _format_names(self._container)
        if context.has_b_frames and ("avi" in names or context.name == "mpeg4"):
            return False
        return not names.isdisjoint(SEARCHED)

    def _seek(self, time_s: Fraction) -> bool:
        ticks = math.floor(time_s / self.time_base) + start_ticks(self._container, self.time_base)
        try:
            self._container.seek(ticks, stream=self._stream)
        except self._av.error.FFmpegError:
            return False
        return True

    def _timed(self, frames: Iterable[av.VideoFrame]) -> Iterator[tuple[av.VideoFrame, int]]:
        """The frames that are whole, each with its time in ticks from the file's beginning; those rise."""
        start = start_ticks(self._container, self.time_base)
        step = max(1, round(1 / ((self.frame_rate or FALLBACK_RATE) * self.time_base)))
        longest_gap = longest_gap_s(self._container) / self.time_base
        last = -1
        for frame in frames:
            if frame.is_corrupt:
                self.damaged += 1
                continue
            pts = last + step if frame.pts is None else frame.pts - start
            if pts <= last or 0 <= last < pts - longest_gap:
                pts = last + step  # clips joined without care, and damage, leap in time
            last = pts
            yield frame, pts

    def _decoded(self) -> Iterator[av.VideoFrame]:
        packets = packets_of(self._container, self._stream)
        while True:
            try:
                packet = next(packets, None)
            except self._av.error.FFmpegError:
                self.damaged += 1
                break  # the file is unreadable from here on; what was read is still inside the decoder
            if packet is None:
                return
            yield from self._decode(packet)
        yield from self._decode(None)

    def _decode(self, packet: av.Packet[Any] | None) -> list[av.VideoFrame]:
        try:
            return self._stream.decode(packet)
        except self._av.error.FFmpegError:
            self.damaged += 1
            return []

    def _upright_bgr(self, frame: av.VideoFrame) -> UInt8:
        colours: dict[str, Any] = {}
        if frame.color_primaries in WIDE_GAMUTS:
            transfer = SRGB if frame.color_trc == SRGB else BT709
            colours = {"dst_color_primaries": BT709, "dst_color_trc": transfer}
        picture = self._reformatter.reformat(frame, format="bgr24", **colours)
        frame_hwc: UInt8 = np.ascontiguousarray(picture.to_ndarray(), dtype=np.uint8)
        self._quarter_turned = frame.rotation % 180 == 90
        return turn_upright(frame_hwc, frame.rotation)


def turn_upright(pixels_hwc: UInt8, rotation: int) -> UInt8:
    """A decoded picture as it is shown: turned by its ``rotation`` in degrees, where that is of quarter turns."""
    turn = _TURNS.get(rotation % 360)
    return pixels_hwc if turn is None else np.asarray(cv2.rotate(pixels_hwc, turn), dtype=np.uint8)


def _seconds(time_s: Fraction | None) -> str:
    return "the end" if time_s is None else f"{float(time_s):.3f} s"


def load_av() -> ModuleType:
    """PyAV.  Raises :class:`BackendUnavailableError` where it is not installed."""
    try:
        import av
    except ImportError as error:
        raise BackendUnavailableError(
            f"reading and writing videos needs PyAV ({error}); install it: pip install 'isa-deploy[video]'"
        ) from None
    return av


def open_container(path: Path) -> InputContainer:
    """Open a local file for demuxing.  Raises :class:`InputError` where it is none or not a video."""
    av = load_av()
    with os_errors(path, "read"):
        status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no ordinary file"
        raise InputError(f"{path}: this is {kind}; name a video file")
    if status.st_size == 0:
        raise InputError(f"{path}: the file is empty (0 bytes); replace or remove it")
    options = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
    try:
        # "file:" keeps FFmpeg from reading a protocol into the name
        container: InputContainer = av.open(f"file:{path}", container_options=options, metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise InputError(
            f"{path}: not a video that can be read, or cut off ({error.strerror}); check that it plays, "
            "and record or convert it again"
        ) from None
    return container


def packets_of(container: InputContainer, *streams: av.stream.Stream) -> Iterator[av.Packet[Any]]:
    """The packets of some streams, or of all that the file begins with, and at the end one without data for each.

    Raises PyAV's ``FFmpegError`` where the file cannot be read on.
    """
    # A stream that appears in the middle (damage, programmes joined) is left out.  At the end PyAV may stumble over
    # it, when it has delivered all that is ours.
    with suppress(IndexError):
        yield from container.demux(*streams)


def longest_gap_s(container: InputContainer) -> int:
    """How far apart, in seconds, times in a file can be; beyond that they are damaged, or clips were joined."""
    return LONGEST_GAP_S if _format_names(container).isdisjoint(MPEG_CLOCKS) else LONGEST_MPEG_GAP_S


def _format_names(container: InputContainer) -> frozenset[str]:
    """FFmpeg's, of which one reader has several."""
    return frozenset(container.format.name.split(","))


def start_ticks(container: InputContainer, time_base: Fraction) -> int:
    """When the file begins, in ticks: a recording's clock rarely begins at zero."""
    if container.start_time is None:
        return 0
    return round(Fraction(container.start_time, load_av().time_base) / time_base)

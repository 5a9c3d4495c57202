"""Cameras, and what is played as if it were one, through PyAV (the ``video`` extra).

A camera is trusted less than the person who names it: each address allows only the protocols and formats that it
needs, so that what answers can name no file and no playlist, and sizes are checked before a decoder sees a packet.
Passwords stay in the address, which no message shows.

Frames come as soon as they can be decoded: no frame threads, which would hold some back.  What FFmpeg read while it
looked at a new stream is decoded too (no ``fflags nobuffer``): that takes milliseconds, and without the key frame among
it a picture would have to wait for the next one.  What comes faster than it can be decoded is left out.

TLS certificates are not checked: cameras sign their own.  RTSP runs over TCP; over UDP damaged pictures are the rule.
Webcams are opened through FFmpeg's own inputs: Linux (Video4Linux), and macOS (AVFoundation), where it is untested.
"""

from __future__ import annotations

import errno
import re
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from isa_deploy.errors import InputError
from isa_deploy.runtime.images import MAX_PIXELS
from isa_deploy.runtime.live_backlog import Backlog
from isa_deploy.runtime.video import load_av, open_container, packets_of, turn_upright

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

__all__ = ["ArrivedFrame", "BgrConverter", "LiveSource", "LiveStream", "StreamError", "parse_live_source"]

UInt8 = npt.NDArray[np.uint8]

OPEN_TIMEOUT_S = 10.0  # of a handshake; cameras that sleep take some seconds
SILENCE_S = 5.0  # the slowest cameras in use send a frame a second
NO_PICTURE_S = 15.0  # packets without a picture: longer than cameras' key frames are apart
MAX_WEBCAM = 63  # Linux has minor numbers for 64
MAX_NAME = 80  # of a file's name, which has endings to come

_STREAM_FORMATS = "mpjpeg,mpegts,flv,matroska,h264,hevc,mov,ogg,mjpeg,jpeg_pipe"


@dataclass(frozen=True)
class _Scheme:
    protocols: str
    formats: str
    format: str | None = None  # where it need not be guessed
    options: tuple[tuple[str, str], ...] = ()


_RTSP = (("rtsp_transport", "tcp"), ("allowed_media_types", "video"))
_HTTP = (("seekable", "0"), ("max_redirects", "0"))
_ANY_CERTIFICATE = ("tls_verify", "0")  # FFmpeg's default, until it is not
_UDP = (("overrun_nonfatal", "1"), ("fifo_size", "50000"))  # packets of 188 bytes: 9 MB

_SCHEMES = {
    "rtsp": _Scheme("tcp", "rtsp", "rtsp", _RTSP),
    "rtsps": _Scheme("tls,tcp", "rtsp", "rtsp", (*_RTSP, _ANY_CERTIFICATE)),
    "http": _Scheme("http,tcp", _STREAM_FORMATS, None, _HTTP),
    "https": _Scheme("https,tls,tcp", _STREAM_FORMATS, None, (*_HTTP, _ANY_CERTIFICATE)),
    "udp": _Scheme("udp", "mpegts", "mpegts", _UDP),
    "tcp": _Scheme("tcp", "mpegts", "mpegts"),
}

# some cameras have their password in the path
_SECRET = re.compile(r"pass|pwd|token|secret|auth|key|login|user", re.IGNORECASE)


class StreamError(InputError):
    """A stream that cannot be opened, or has ended: ``reason`` in a few words, and the message for a user."""

    def __init__(self, source: LiveSource, reason: str, advice: str) -> None:
        super().__init__(f"{source.label}: {reason}; {advice}")
        self.reason = reason


@dataclass(frozen=True)
class LiveSource:
    """A camera.  ``address`` is for FFmpeg and may hold a password; ``label`` is for people, ``name`` for files."""

    kind: Literal["network", "webcam", "file"]
    address: str = field(repr=False)
    label: str
    name: str


@dataclass(frozen=True)
class ArrivedFrame:
    """A frame as it was decoded, and when its packet came (seconds of :func:`time.monotonic`)."""

    picture: av.VideoFrame
    arrived_s: float


def parse_live_source(text: str) -> LiveSource:
    """What a command line names as a camera.

    ``rtsp://``, ``rtsps://``, ``http://``, ``https://`` (MJPEG and other plain streams, no playlists), ``udp://``,
    ``tcp://`` (MPEG-TS), a webcam's number or device, or a local file, which is played at its own pace.
    Raises :class:`InputError` for anything else.
    """
    if re.fullmatch(r"[0-9]{1,4}", text):
        return _webcam(int(text))
    if "://" in text:
        return _network(text)
    path = Path(text)
    if sys.platform == "linux" and (device := re.fullmatch(r"/dev/video([0-9]{1,2})", text)):
        return _webcam(int(device[1]))
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # ValueError: a zero byte
        named = repr(text) if "@" not in text else "--live"  # or it shows the password of an address that is none
        raise InputError(
            f"{named}: no camera and no such file; name an address such as rtsp://camera/stream, a webcam's number, "
            "or a video"
        ) from None
    if not stat.S_ISREG(mode):
        raise InputError(f"{text!r}: no camera and no ordinary file; --live takes an address, a number or a video")
    return LiveSource("file", str(path), str(path), _file_name(path.stem))


def _webcam(number: int) -> LiveSource:
    if number > MAX_WEBCAM:
        raise InputError(f"webcam {number}: numbers go up to {MAX_WEBCAM}; the first is 0")
    if sys.platform == "linux":
        device = Path(f"/dev/video{number}")
        if not device.exists():
            there = sorted(path.name for path in device.parent.glob("video[0-9]*"))
            raise InputError(
                f"webcam {number}: there is no {device}; "
                + (f"there are: {', '.join(there)}" if there else "plug one in, or pass it into the container")
            )
        return LiveSource("webcam", str(device), f"webcam {number}", f"webcam{number}")
    if sys.platform == "darwin":
        return LiveSource("webcam", str(number), f"webcam {number}", f"webcam{number}")
    raise InputError(f"webcam {number}: webcams are read on Linux and macOS only; give an address such as rtsp://")


def _network(text: str) -> LiveSource:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        # the error's own words would repeat the address, and its password
        raise InputError("--live: the camera's address is malformed; write rtsp://HOST:PORT/PATH") from None
    if parts.scheme not in _SCHEMES:
        raise InputError(
            f"{parts.scheme}://: cameras are read from {', '.join(f'{each}://' for each in sorted(_SCHEMES))}"
        )
    if (
        "@" in text.partition("://")[2][len(parts.netloc) :]
    ):  # a password cut in two, of which FFmpeg takes half for the host
        raise InputError(
            "--live: the camera's address has an @ behind its host; write %2F for / and %40 for @ in a password"
        )
    multicast = parts.scheme in ("udp", "tcp")  # udp://@:1234 listens, with no host
    if any(ord(each) <= 32 for each in text) or (not host and not multicast):
        raise InputError("--live: the camera's address is malformed; write rtsp://HOST:PORT/PATH")
    place = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
    path = parts.path if not _SECRET.search(parts.path) else "/..."
    return LiveSource("network", text, f"{parts.scheme}://{place}{path}", _file_name(host + path))


def _file_name(text: str) -> str:
    """Letters, digits, dots and dashes, with no dot in front: a name on every system."""
    return re.sub(r"[^\w.-]+", "_", text)[:MAX_NAME].strip("._-") or "camera"


class LiveStream:
    """One connection.  Iterate over it, inside a ``with``: frames as they come, until the stream ends.

    ``wait``: waits for some seconds, and says whether to end; between the frames of a file.

    Raises :class:`StreamError` where it cannot be opened, has no picture, has frames of more than ``max_pixels``,
    breaks off, or gives nothing for :data:`SILENCE_S`.
    """

    def __init__(self, source: LiveSource, wait: Callable[[float], bool], max_pixels: int = MAX_PIXELS) -> None:
        self._source = source
        self._wait = wait
        self._av = load_av()
        self._container = self._open()
        try:
            self._stream = self._picture_stream(max_pixels)
        except BaseException:
            self._container.close()
            raise

    def __iter__(self) -> Iterator[ArrivedFrame]:
        frames = self._frames()
        return self._paced(frames) if self._source.kind == "file" else frames

    def __enter__(self) -> LiveStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()

    def _open(self) -> InputContainer:
        source = self._source
        if source.kind == "file":
            return open_container(Path(source.address))
        options = {"flags": "low_delay", "analyzeduration": "1000000"}
        name: str | None
        if source.kind == "webcam":
            name = "v4l2" if sys.platform == "linux" else "avfoundation"
        else:
            scheme = _SCHEMES[urlsplit(source.address).scheme]
            name = scheme.format
            options |= {"protocol_whitelist": scheme.protocols, "format_whitelist": scheme.formats}
            options |= dict(scheme.options)
        try:
            container: InputContainer = self._av.open(
                source.address,
                format=name,
                container_options=options,
                metadata_errors="replace",
                timeout=(OPEN_TIMEOUT_S, SILENCE_S),
            )
        except self._av.error.FFmpegError as error:
            # only strerror: the rest of the message holds the address
            raise self._not_opened(error) from None
        return container

    def _picture_stream(self, max_pixels: int) -> av.VideoStream:
        streams = self._container.streams.video
        if not streams:
            raise StreamError(self._source, "it has no picture", "name a camera's video stream")
        stream = streams[0]
        context = stream.codec_context
        if context is None:
            raise StreamError(self._source, "this FFmpeg has no decoder for it", "set the camera to H.264")
        if context.width * context.height > max_pixels:
            raise StreamError(
                self._source,
                f"frames of {context.width}x{context.height} are more than {max_pixels / 1e6:.0f} million pixels",
                "set the camera to a smaller picture",
            )
        context.options = {"max_pixels": str(max_pixels)}  # the stream may change its size
        context.thread_type = "SLICE"
        context.flags |= self._av.codec.context.Flags.low_delay
        return stream

    def _frames(self) -> Iterator[ArrivedFrame]:
        packets = packets_of(self._container)
        pictured_s = time.monotonic()
        backlog = Backlog(pictured_s)
        paced = self._source.kind == "file"  # all of it is there, and its own clock says when it comes
        while True:
            asked_s = time.monotonic()
            try:
                packet = next(packets, None)
            except self._av.error.FFmpegError as error:
                raise self._lost(error) from None
            arrived_s = time.monotonic()
            if packet is None:
                return
            backlog.note_read(arrived_s, arrived_s - asked_s)
            if packet.stream is self._stream and (paced or not backlog.skips(packet.is_keyframe)):
                for picture in self._decode(packet):
                    pictured_s = arrived_s
                    yield ArrivedFrame(picture, arrived_s)
            if arrived_s - pictured_s > NO_PICTURE_S:
                raise StreamError(self._source, f"no picture for {NO_PICTURE_S:.0f} s", "check the camera")

    def _decode(self, packet: av.Packet[Any]) -> list[av.VideoFrame]:
        try:
            pictures = self._stream.decode(packet)
        except self._av.error.FFmpegError:  # damaged on its way; the next one may be whole
            return []
        return [picture for picture in pictures if not picture.is_corrupt]

    def _paced(self, frames: Iterator[ArrivedFrame]) -> Iterator[ArrivedFrame]:
        time_base = Fraction(self._stream.time_base or 1)
        begun_s, first = time.monotonic(), None
        for frame in frames:
            ticks = frame.picture.pts
            if ticks is not None:
                first = ticks if first is None else first
                due_s = begun_s + float((ticks - first) * time_base)
                if self._wait(max(0.0, due_s - time.monotonic())):
                    return
            yield ArrivedFrame(frame.picture, time.monotonic())

    def _not_opened(self, error: av.error.FFmpegError) -> StreamError:
        codes = self._av.error
        if isinstance(error, codes.ExitError | codes.TimeoutError):
            return StreamError(self._source, f"no answer for {OPEN_TIMEOUT_S:.0f} s", "check that the camera is on")
        if isinstance(error, codes.HTTPUnauthorizedError | codes.HTTPForbiddenError):
            return StreamError(self._source, "the camera refuses this user or password", "check both")
        if isinstance(error, codes.InvalidDataError | codes.ArgumentError):
            # FFmpeg's words for a format that is not allowed, too
            return StreamError(
                self._source,
                "this is no video stream, or a playlist, which is not read",
                "name an RTSP or MJPEG address",
            )
        if error.errno == errno.EIO and self._source.address.startswith("http"):
            return StreamError(self._source, "no answer, or a redirection, which is not followed", "check the address")
        return StreamError(self._source, _reason(error), "check the address and the camera")

    def _lost(self, error: av.error.FFmpegError) -> StreamError:
        if isinstance(error, self._av.error.ExitError):
            return StreamError(self._source, f"nothing came for {SILENCE_S:.0f} s", "check that the camera is on")
        reason = "the connection broke off" if error.errno == errno.EIO else _reason(error)
        return StreamError(self._source, reason, "check the camera")


def _reason(error: av.error.FFmpegError) -> str:
    return error.strerror or type(error).__name__


class BgrConverter:
    """Decoded frames as pixels, as :class:`isa_deploy.runtime.video.VideoReader` gives them.  For one thread.

    But wide gamut stays as it is: FFmpeg would stop for 4 s over its tables.
    """

    def __init__(self) -> None:
        self._av = load_av()
        self._reformatter = self._av.video.reformatter.VideoReformatter()

    def convert(self, picture: av.VideoFrame) -> UInt8 | None:
        """Uint8 H x W x 3, BGR, upright; None where the frame's colours are none."""
        try:
            pixels = self._reformatter.reformat(picture, format="bgr24").to_ndarray()
        except self._av.error.FFmpegError:
            return None
        return np.ascontiguousarray(turn_upright(pixels, picture.rotation), dtype=np.uint8)

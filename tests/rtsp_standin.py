"""Cameras for tests: a small RTSP server, and plain TCP and HTTP ones, all of which can lose their connection.

RTSP/1.0 (RFC 2326) with RTP over the same TCP connection, and H.264 as RFC 6184 packs it: single NAL units and FU-A.
"""

from __future__ import annotations

import base64
import io
import re
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from types import TracebackType

import av
import numpy as np

RTP_PAYLOAD = 1200
CLOCK = 90_000


def clip(size_wh: tuple[int, int], frames: int = 10, **options: str) -> list[bytes]:
    """H.264 access units (Annex B), one a frame, of which the first can be decoded alone."""
    width, height = size_wh
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base = Fraction(1, 25)
    context.options = {"preset": "ultrafast", "tune": "zerolatency", "g": str(frames), **options}
    packets = []
    noise = np.random.default_rng(0).integers(0, 60, (height, width, 3), dtype=np.uint8)
    for number in range(frames):
        frame = av.VideoFrame.from_ndarray(noise + np.uint8(10 * number), format="bgr24").reformat(format="yuv420p")
        frame.pts = number
        packets += context.encode(frame)
    packets += context.encode(None)
    return [bytes(packet) for packet in packets]


def transport_stream(size_wh: tuple[int, int], frames: int = 50) -> bytes:
    """A whole MPEG-TS."""
    file = io.BytesIO()
    width, height = size_wh
    with av.open(file, "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "g": "5"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            grey = np.full((height, width, 3), 4 * number % 256, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="bgr24").reformat(format="yuv420p")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def nal_units(access_unit: bytes) -> list[bytes]:
    return [part for part in re.split(rb"\x00\x00\x00\x01|\x00\x00\x01", access_unit) if part]


def rtp_payloads(nal: bytes) -> Iterator[bytes]:
    if len(nal) <= RTP_PAYLOAD:
        yield nal
        return
    indicator, kind = (nal[0] & 0x60) | 28, nal[0] & 0x1F
    for start in range(1, len(nal), RTP_PAYLOAD):
        first, last = start == 1, start + RTP_PAYLOAD >= len(nal)
        yield bytes([indicator, (first << 7) | (last << 6) | kind]) + nal[start : start + RTP_PAYLOAD]


class Camera:
    """A server on a port of its own, a thread a connection; the class below it says what a connection gets.

    ``drop()`` cuts those who look off, ``close()`` ends the server too, ``mute`` lets connections be and sends nothing;
    ``tls`` encrypts them.
    """

    def __init__(self, port: int = 0) -> None:
        self.mute = False
        self.tls: ssl.SSLContext | None = None
        self.connections = 0
        self._closed = False
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", port))
        self.port: int = self._server.getsockname()[1]
        self._pause = threading.Event()  # never set: time between frames that close() cuts short
        threading.Thread(target=self._accept, daemon=True).start()

    def serve(self, peer: socket.socket) -> None:
        raise NotImplementedError

    def drop(self) -> None:
        with self._lock:
            for peer in self._open:
                _hang_up(peer)
            self._open.clear()

    def close(self) -> None:
        self._closed = True
        _hang_up(self._server)
        self._pause.set()
        self.drop()

    def __enter__(self) -> Camera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                peer, _ = self._server.accept()
            except OSError:
                return
            with self._lock:
                self._open.append(peer)
                self.connections += 1
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        with suppress(OSError):  # it was dropped
            self.serve(peer if self.tls is None else self.tls.wrap_socket(peer, server_side=True))
        _hang_up(peer)


class RtspCamera(Camera):
    """``size_wh`` may be changed; who connects next sees it.  ``password`` is asked for where it is given."""

    def __init__(self, size_wh: tuple[int, int] = (96, 64), *, rate: float = 50, password: str = "") -> None:
        self.size_wh = size_wh
        self.rate = rate
        self.password = password
        super().__init__()

    @property
    def url(self) -> str:
        login = f"admin:{self.password}@" if self.password else ""
        return f"rtsp://{login}127.0.0.1:{self.port}/stream"

    def serve(self, peer: socket.socket) -> None:
        units = clip(self.size_wh)
        reader = peer.makefile("rb")
        while True:
            request = self._request(reader)
            if request is None:
                return
            method, headers = request
            answer = {"cseq": headers.get("cseq", "0")}
            status, body = "200 OK", b""
            login = base64.b64encode(f"admin:{self.password}".encode()).decode()
            if self.password and method != "OPTIONS" and headers.get("authorization") != f"Basic {login}":
                status = "401 Unauthorized"
                answer["www-authenticate"] = 'Basic realm="camera"'
            elif method == "OPTIONS":
                answer["public"] = "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"
            elif method == "DESCRIBE":
                answer["content-type"] = "application/sdp"
                body = self._description(units[0])
            elif method == "SETUP":
                answer["transport"] = "RTP/AVP/TCP;unicast;interleaved=0-1"
            if method in ("SETUP", "PLAY"):
                answer["session"] = "1"
            answer["content-length"] = str(len(body))
            lines = [f"RTSP/1.0 {status}", *(f"{name}: {value}" for name, value in answer.items()), "", ""]
            peer.sendall("\r\n".join(lines).encode() + body)
            if method == "PLAY":
                self._play(peer, units)
                return

    @staticmethod
    def _request(reader: io.BufferedReader) -> tuple[str, dict[str, str]] | None:
        first = reader.readline()
        if not first:
            return None
        headers = {}
        for line in iter(reader.readline, b"\r\n"):
            if not line:
                return None
            name, _, value = line.decode().partition(":")
            headers[name.strip().lower()] = value.strip()
        return first.split()[0].decode(), headers

    @staticmethod
    def _description(first: bytes) -> bytes:
        sets = [base64.b64encode(nal).decode() for nal in nal_units(first) if nal[0] & 0x1F in (7, 8)]
        lines = [
            *("v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=camera", "t=0 0", "m=video 0 RTP/AVP 96", "c=IN IP4 0.0.0.0"),
            *("a=rtpmap:96 H264/90000", f"a=fmtp:96 packetization-mode=1; sprop-parameter-sets={','.join(sets)}"),
            *("a=control:video", ""),
        ]
        return "\r\n".join(lines).encode()

    def _play(self, peer: socket.socket, units: list[bytes]) -> None:
        sequence = number = 0
        while not self._closed:
            nals = [] if self.mute else nal_units(units[number % len(units)])
            for nal in nals:
                payloads = list(rtp_payloads(nal))
                for index, payload in enumerate(payloads):
                    marker = nal is nals[-1] and index == len(payloads) - 1
                    ticks = round(number * CLOCK / self.rate) & 0xFFFFFFFF
                    header = struct.pack(">BBHII", 0x80, (marker << 7) | 96, sequence & 0xFFFF, ticks, 1)
                    sequence += 1
                    peer.sendall(b"$\0" + struct.pack(">H", len(header) + len(payload)) + header + payload)
            number += not self.mute
            readable, _, _ = select.select([peer], [], [], 0)
            said = peer.recv(4096) if readable else b"-"
            if not said or b"TEARDOWN" in said:
                return
            self._pause.wait(1 / self.rate)


class ByteCamera(Camera):
    """Sends what ``make`` gives, in pieces, over a plain TCP connection, then hangs up."""

    def __init__(self, make: Callable[[], bytes]) -> None:
        self._make = make
        super().__init__()

    @property
    def url(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def serve(self, peer: socket.socket) -> None:
        data = self._make()
        for start in range(0, len(data), 4096):
            peer.sendall(data[start : start + 4096])
            self._pause.wait(0.005)


class HttpCamera(Camera):
    """Answers any request with the content type and the bytes that ``make`` gives."""

    def __init__(self, make: Callable[[], tuple[str, bytes]], *, redirect: str = "") -> None:
        self._make = make
        self._redirect = redirect
        super().__init__()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/video"

    def serve(self, peer: socket.socket) -> None:
        peer.recv(65536)
        if self._redirect:
            peer.sendall(f"HTTP/1.1 302 Found\r\nLocation: {self._redirect}\r\nContent-Length: 0\r\n\r\n".encode())
            return
        kind, data = self._make()
        peer.sendall(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n".encode())
        for start in range(0, len(data), 4096):
            peer.sendall(data[start : start + 4096])
            self._pause.wait(0.005)


def _hang_up(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()

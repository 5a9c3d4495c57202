"""Pictures for browsers: MJPEG over HTTP, for machines without a display.

``/`` a page, ``/stream.mjpg`` the pictures, ``/frame.jpg`` the newest one, ``/stats.json`` figures.  Everything is
bounded: viewers, connections, time on a socket.  Where only this machine may look, a request has to name it: a web
page whose own name was pointed here (DNS rebinding) sees nothing.  A viewer gets the newest picture when it is ready
for one, so a slow one holds nobody up; a picture is encoded once for all viewers, and only if somebody looks.
"""

from __future__ import annotations

import io
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from socketserver import TCPServer, ThreadingMixIn
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from isa_deploy.errors import InputError

__all__ = ["PreviewServer"]

UInt8 = npt.NDArray[np.uint8]

MAX_VIEWERS = 8
MAX_CONNECTIONS = 32
SOCKET_TIMEOUT_S = 10.0  # for a request, and for a picture to go
REPEAT_S = 5.0  # a picture that does not change is sent again, which also finds viewers that are gone
FIRST_PICTURE_S = 10.0  # that /frame.jpg waits
SEND_BUFFER = 256 << 10  # bytes: about a picture, so that a slow viewer's are not old ones
JPEG_QUALITY = 80
BOUNDARY = "isa-frame"
MAX_JPEG_SIDE = 65500  # of the format

PAGE = b"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>isa-infer</title>
<style>
body { margin: 0; background: #111; color: #ddd; font: 14px system-ui, sans-serif; }
img { display: block; max-width: 100vw; max-height: calc(100vh - 2.6em); margin: auto; }
p { margin: 0; padding: .6em 1em; font-variant-numeric: tabular-nums; }
</style>
<img src="stream.mjpg" alt="The camera's newest picture">
<p id="line">waiting for the camera</p>
<script>
const line = document.getElementById("line");
async function update() {
  try {
    const stats = await (await fetch("stats.json", {cache: "no-store"})).json();
    line.textContent = stats.line || "waiting for the camera";
  } catch { line.textContent = "isa-infer has ended, or cannot be reached"; }
}
setInterval(update, 1000);
update();
</script>
</html>
"""
PAGE_POLICY = (
    "default-src 'none'; img-src 'self'; connect-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)


class PreviewServer:
    """Serves the pictures that are given to :meth:`publish`, inside a ``with``.

    ``port`` 0 is any free one; ``url`` says which.  ``is_public``: whether other machines may look.
    Raises :class:`InputError` where the address cannot be used.
    """

    def __init__(self, host: str, port: int, max_viewers: int = MAX_VIEWERS) -> None:
        self._newest = _NewestPicture()
        self._server = _open_server(host, port, self._newest, max_viewers)
        bound_host, bound_port = self._server.socket.getsockname()[:2]
        self.url = f"http://{f'[{bound_host}]' if ':' in bound_host else bound_host}:{bound_port}/"
        self.is_public = self._server.is_public
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="preview", daemon=True)

    def publish(self, picture_hwc: UInt8) -> None:
        """Show a picture (uint8 H x W x 3, BGR), which must not change any more."""
        self._newest.put(picture_hwc)

    def report(self, stats: Mapping[str, Any]) -> None:
        """Replace what ``/stats.json`` says; its ``"line"`` is shown on the page."""
        self._newest.stats = stats

    def __enter__(self) -> PreviewServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._newest.close()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _NewestPicture:
    """The newest picture for any number of readers, encoded when the first of them wants it."""

    def __init__(self) -> None:
        self.stats: Mapping[str, Any] = {}
        self._changed = threading.Condition()
        self._encoding = threading.Lock()
        self._picture_hwc: UInt8 | None = None
        self._number = 0
        self._jpeg = b""
        self._jpeg_number = 0
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    def put(self, picture_hwc: UInt8) -> None:
        with self._changed:
            self._picture_hwc = picture_hwc
            self._number += 1
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def jpeg(self, after: int, timeout_s: float) -> tuple[int, bytes]:
        """The newest picture's number and JPEG, waiting a while for one after ``after``; number 0: there is none."""
        with self._changed:
            self._changed.wait_for(lambda: self._number > after or self._closed, timeout_s)
        with self._encoding:
            with self._changed:
                number, picture_hwc = self._number, self._picture_hwc
            if picture_hwc is not None and number != self._jpeg_number:
                self._jpeg, self._jpeg_number = _encoded(picture_hwc), number
            return self._jpeg_number, self._jpeg


def _encoded(picture_hwc: UInt8) -> bytes:
    longest = max(picture_hwc.shape[:2])
    if longest > MAX_JPEG_SIDE:
        scale = MAX_JPEG_SIDE / longest
        picture_hwc = np.asarray(cv2.resize(picture_hwc, None, fx=scale, fy=scale), dtype=np.uint8)
    _, jpeg = cv2.imencode(".jpg", picture_hwc, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return jpeg.tobytes()


class _Server(ThreadingMixIn, TCPServer):
    daemon_threads = True
    block_on_close = False
    # on Windows it would let two programs have one port
    allow_reuse_address = os.name == "posix"
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, family: int, address: tuple[Any, ...], newest: _NewestPicture, max_viewers: int) -> None:
        self.address_family = family
        self.newest = newest
        self.viewers = threading.Semaphore(max_viewers)
        self._connections = threading.Semaphore(MAX_CONNECTIONS)
        super().__init__(address, _Handler)
        self.is_public = not ip_address(self.socket.getsockname()[0].partition("%")[0]).is_loopback

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._connections.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # a viewer that went away is no news
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def _open_server(host: str, port: int, newest: _NewestPicture, max_viewers: int) -> _Server:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError):
        raise InputError(f"--preview-host {host}: no address of this machine; use 127.0.0.1 or 0.0.0.0") from None
    try:
        return _Server(family, address, newest, max_viewers)
    except OSError as error:
        raise InputError(
            f"--preview {port}: cannot serve at {host}: {error.strerror or error}; choose another port "
            "(0: any free one) or --preview-host"
        ) from None


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = SOCKET_TIMEOUT_S
    server_version, sys_version = "isa-infer", ""

    def setup(self) -> None:
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        super().setup()
        self.rfile = io.BufferedReader(_RequestBytes(self.connection, self.timeout))

    def do_GET(self) -> None:
        self.connection.settimeout(self.timeout)  # the request has used some of it up
        path = self.path.partition("?")[0]
        with suppress(OSError):  # the viewer is gone
            if not self.server.is_public and not all(map(_is_this_machine, self.headers.get_all("Host", []))):
                self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "ask for localhost or 127.0.0.1")
            elif path == "/":
                self._answer("text/html; charset=utf-8", PAGE)
            elif path == "/stats.json":
                self._answer("application/json", json.dumps(self.server.newest.stats).encode())
            elif path == "/frame.jpg":
                number, jpeg = self.server.newest.jpeg(0, FIRST_PICTURE_S)
                if number:
                    self._answer("image/jpeg", jpeg)
                else:
                    self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, "no picture yet")
            elif path == "/stream.mjpg":
                self._stream_if_free()
            else:
                self.send_error(HTTPStatus.NOT_FOUND)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal shows the camera."""

    def _begin(self, kind: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", PAGE_POLICY)

    def _answer(self, kind: str, body: bytes) -> None:
        self._begin(kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream_if_free(self) -> None:
        if not self.server.viewers.acquire(blocking=False):
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, "too many viewers")
            return
        try:
            self._stream()
        finally:
            self.server.viewers.release()

    def _stream(self) -> None:
        newest = self.server.newest
        self._begin(f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        self.end_headers()
        self.wfile.write(f"--{BOUNDARY}\r\n".encode())
        sent = 0
        while True:
            sent, jpeg = newest.jpeg(sent, REPEAT_S)
            if newest.closed:
                return
            if sent:
                # the boundary that ends the part goes with it: browsers show a part when they have seen its end
                head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
                self._send_whole(head + jpeg + f"\r\n--{BOUNDARY}\r\n".encode())

    def _send_whole(self, data: bytes) -> None:
        # a socket's timeout is for each byte; one that takes a byte now and then would hold its place for ever
        deadline_s = time.monotonic() + SOCKET_TIMEOUT_S
        view = memoryview(data)
        while view:
            if time.monotonic() > deadline_s:
                raise TimeoutError("a viewer that takes too long")
            view = view[self.connection.send(view) :]


class _RequestBytes(io.RawIOBase):
    """What a viewer sends, within a time for all of it: a socket's own is for each byte."""

    def __init__(self, connection: socket.socket, timeout_s: float) -> None:
        self._connection = connection
        self._deadline_s = time.monotonic() + timeout_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("a viewer that asks too slowly")
        self._connection.settimeout(left_s)
        return self._connection.recv_into(buffer)


def _is_this_machine(host: str) -> bool:
    """Whether a Host header (``NAME``, ``NAME:PORT``, ``[IPv6]:PORT``) names the machine that the viewer sits at."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    try:
        return name.lower() == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False

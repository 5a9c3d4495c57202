"""Pictures for browsers: what they are sent, and that none of them holds anybody up."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from isa_deploy.errors import InputError
from isa_deploy.runtime import preview_server
from isa_deploy.runtime.preview_server import PreviewServer

UInt8 = npt.NDArray[np.uint8]

PATIENCE_S = 30.0


def picture(grey: int, size_hw: tuple[int, int] = (48, 64)) -> UInt8:
    return np.full((*size_hw, 3), grey, np.uint8)


@pytest.fixture
def server() -> Iterator[PreviewServer]:
    with PreviewServer("127.0.0.1", 0, max_viewers=2) as opened:
        yield opened


def port_of(server: PreviewServer) -> int:
    return int(server.url.rstrip("/").rpartition(":")[2])


def ask(server: PreviewServer, path: str, method: str = "GET") -> HTTPResponse:
    connection = HTTPConnection("127.0.0.1", port_of(server), timeout=PATIENCE_S)
    connection.request(method, path)
    return connection.getresponse()


def status_for(server: PreviewServer, headers: str, path: str = "/") -> int:
    with socket.create_connection(("127.0.0.1", port_of(server)), timeout=PATIENCE_S) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\n{headers}\r\n".encode())
        return int(connection.makefile("rb").readline().split()[1])


def grey_of(jpeg: bytes) -> float:
    decoded = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return float(decoded.mean())


def next_part(response: HTTPResponse) -> bytes:
    """The JPEG of a part, whose boundary before it was read."""
    headers = {}
    for line in iter(response.readline, b"\r\n"):
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    assert headers["content-type"] == "image/jpeg"
    jpeg = response.read(int(headers["content-length"]))
    assert response.readline() == b"\r\n"
    assert response.readline() == b"--isa-frame\r\n"
    return jpeg


def open_stream(server: PreviewServer) -> HTTPResponse:
    response = ask(server, "/stream.mjpg")
    assert response.getheader("content-type") == "multipart/x-mixed-replace; boundary=isa-frame"
    assert response.readline() == b"--isa-frame\r\n"
    return response


def test_the_newest_picture_is_a_jpeg(server: PreviewServer) -> None:
    for grey in (10, 200):
        server.publish(picture(grey))
        response = ask(server, "/frame.jpg")
        assert response.getheader("content-type") == "image/jpeg"
        assert response.getheader("cache-control") == "no-store"
        assert grey_of(response.read()) == pytest.approx(grey, abs=2)


def test_the_stream_sends_each_picture_as_it_comes(server: PreviewServer) -> None:
    server.publish(picture(40))
    response = open_stream(server)
    assert grey_of(next_part(response)) == pytest.approx(40, abs=2)
    for grey in (80, 120):
        server.publish(picture(grey, (60, 90)))
        assert grey_of(next_part(response)) == pytest.approx(grey, abs=2)


def test_a_picture_that_does_not_change_is_sent_again(server: PreviewServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview_server, "REPEAT_S", 0.05)
    server.publish(picture(40))
    response = open_stream(server)
    assert next_part(response) == next_part(response)


def test_the_page_shows_the_stream_and_the_figures(server: PreviewServer) -> None:
    server.report({"line": "camera: 25.0 frames/s", "frames_shown": 3})
    page = ask(server, "/")
    text = page.read().decode()
    assert "default-src 'none'" in str(page.getheader("content-security-policy"))
    for part in ("stream.mjpg", "stats.json"):
        assert part in text
    assert json.loads(ask(server, "/stats.json").read()) == {"line": "camera: 25.0 frames/s", "frames_shown": 3}


@pytest.mark.parametrize("path", ["/etc/passwd", "/../pyproject.toml", "/frame.jpg/", "/%2e%2e/", "*"])
def test_there_is_nothing_else(server: PreviewServer, path: str) -> None:
    assert ask(server, path).status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_sent(server: PreviewServer, method: str) -> None:
    assert ask(server, "/", method).status == 501


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:8080"])
def test_this_machine_is_served_by_its_own_names(server: PreviewServer, host: str) -> None:
    assert status_for(server, f"Host: {host}\r\n") == 200


@pytest.mark.parametrize("path", ["/", "/stats.json", "/frame.jpg", "/stream.mjpg", "/nothing"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", ""]
)
def test_a_page_whose_name_was_pointed_here_sees_nothing(server: PreviewServer, host: str, path: str) -> None:
    server.publish(picture(40))
    assert status_for(server, f"Host: {host}\r\n", path) == 421
    assert status_for(server, f"Host: localhost\r\nHost: {host}\r\n", path) == 421


def test_a_server_for_all_is_reached_by_any_name() -> None:
    with PreviewServer("0.0.0.0", 0) as server:
        assert status_for(server, "Host: camera.example\r\n") == 200


def test_who_asks_too_slowly_is_hung_up_on(server: PreviewServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview_server._Handler, "timeout", 0.5)

    def ask_slowly(connection: socket.socket) -> None:
        connection.sendall(b"GET / HTTP/1.0\r\n")
        for _ in range(90):  # a header each, long before a socket's own time is over; a hundred would be too many
            connection.sendall(b"X: y\r\n")
            time.sleep(0.05)

    with (
        socket.create_connection(("127.0.0.1", port_of(server))) as slow,
        pytest.raises(ConnectionError),
    ):
        ask_slowly(slow)


def test_before_the_first_picture_a_browser_is_told_so(server: PreviewServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview_server, "FIRST_PICTURE_S", 0.05)
    assert ask(server, "/frame.jpg").status == 503
    assert json.loads(ask(server, "/stats.json").read()) == {}


def test_a_picture_is_encoded_once_for_all_and_only_if_somebody_looks(
    server: PreviewServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = []
    genuine = preview_server._encoded

    def counting(picture_hwc: UInt8) -> bytes:
        encoded.append(int(picture_hwc[0, 0, 0]))
        return genuine(picture_hwc)

    monkeypatch.setattr(preview_server, "_encoded", counting)
    for grey in range(10):
        server.publish(picture(grey))
    assert encoded == []
    jpegs: list[bytes] = []
    lookers = [threading.Thread(target=lambda: jpegs.append(ask(server, "/frame.jpg").read())) for _ in range(4)]
    for each in lookers:
        each.start()
    for each in lookers:
        each.join()
    assert len(set(jpegs)) == 1
    assert encoded == [9]


def test_a_viewer_that_does_not_read_holds_nobody_up(server: PreviewServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview_server, "SOCKET_TIMEOUT_S", 0.5)
    monkeypatch.setattr(preview_server._Handler, "timeout", 0.5)
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    server.publish(noise)
    deaf = []
    for _ in range(2):
        each = socket.create_connection(("127.0.0.1", port_of(server)))
        each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        each.sendall(b"GET /stream.mjpg HTTP/1.0\r\n\r\n")
        deaf.append(each)

    def status() -> int:
        server.publish(noise.copy())
        response = ask(server, "/stream.mjpg")
        if response.status == 200:
            response.close()
        return response.status

    deadline_s = time.monotonic() + PATIENCE_S
    while status() != 503:  # both places are taken
        assert time.monotonic() < deadline_s
    server.publish(picture(70))
    assert grey_of(ask(server, "/frame.jpg").read()) == pytest.approx(70, abs=2)
    while status() != 200:  # and given back, for nobody was there
        assert time.monotonic() < deadline_s
    for each in deaf:
        each.close()


def test_connections_are_bounded(server: PreviewServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview_server._Handler, "timeout", 10 * PATIENCE_S)  # or time alone would hang up on them
    silent = [
        socket.create_connection(("127.0.0.1", port_of(server))) for _ in range(preview_server.MAX_CONNECTIONS + 5)
    ]
    for each in silent:
        each.settimeout(PATIENCE_S)
    # those that are too many are hung up on, and the others wait for what they will say
    ends = [each for each in silent[preview_server.MAX_CONNECTIONS :] if each.recv(1) == b""]
    assert len(ends) == 5
    for each in silent:
        each.close()


def test_what_a_viewer_asks_for_is_not_printed(server: PreviewServer, capfd: pytest.CaptureFixture[str]) -> None:
    ask(server, "/nothing").read()
    with socket.create_connection(("127.0.0.1", port_of(server))) as rude:
        rude.sendall(b"\0\xff nonsense\r\n\r\n")
        rude.recv(100)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_a_port_in_use_or_a_foreign_address_is_one_line(server: PreviewServer) -> None:
    cases: dict[str, Any] = {
        f"--preview {port_of(server)}: cannot serve at 127.0.0.1: Address already in use": (
            "127.0.0.1",
            port_of(server),
        ),
        "--preview-host nowhere.invalid: no address": ("nowhere.invalid", 0),
        "cannot serve at 192.0.2.1": ("192.0.2.1", 0),
    }
    for words, (host, port) in cases.items():
        with pytest.raises(InputError, match=words) as caught:
            PreviewServer(host, port)
        assert "\n" not in str(caught.value)


def test_it_listens_on_this_machine_alone_unless_told_otherwise(server: PreviewServer) -> None:
    from isa_deploy.cli.live import LiveOptions

    assert LiveOptions().preview_host == "127.0.0.1"
    assert not server.is_public
    with PreviewServer("0.0.0.0", 0) as open_to_all:
        assert open_to_all.is_public
    assert server.url == f"http://127.0.0.1:{port_of(server)}/"


def test_a_viewer_is_let_go_at_the_end() -> None:
    with PreviewServer("127.0.0.1", 0) as server:
        server.publish(picture(40))
        response = open_stream(server)
        next_part(response)
    assert response.read() == b""


def test_a_picture_longer_than_jpegs_are_is_scaled_down(server: PreviewServer) -> None:
    server.publish(picture(90, (4, 70_000)))
    assert grey_of(ask(server, "/frame.jpg").read()) == pytest.approx(90, abs=2)


def test_a_live_run_is_seen_in_a_browser(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("av", reason="needs PyAV: pip install 'isa-deploy[video]'")
    from rtsp_standin import RtspCamera
    from test_live import run

    said: list[str] = []
    seen: list[float] = []
    stats: list[dict[str, Any]] = []

    def look() -> bool:
        said.append(capsys.readouterr().err)
        line = next((line for line in "".join(said).splitlines() if line.startswith("preview at ")), None)
        if line is None:
            return False
        port = int(line.rstrip("/").rpartition(":")[2])
        if not seen:
            connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
            threading.Thread(target=lambda: seen.append(grey_of(_get(connection, "/frame.jpg")))).start()
            seen.append(-1.0)
        stats.append(json.loads(_get(HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S), "/stats.json")))
        return len(seen) == 2 and bool(stats[-1].get("age_p99_ms"))

    with RtspCamera(password="geheim") as camera, pytest.raises(KeyboardInterrupt):
        run(camera.url, tmp_path, look, preview=0)
    assert 0 < seen[1] < 255
    last = stats[-1]
    assert last["camera"] == f"rtsp://127.0.0.1:{camera.port}/stream"
    assert last["frames_arrived"] >= last["frames_shown"] > 0
    assert last["age_p99_ms"] >= last["age_median_ms"] > 0
    assert "geheim" not in json.dumps(stats) + "".join(said)
    assert list(tmp_path.iterdir()) == []


def test_during_an_outage_the_page_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("av", reason="needs PyAV: pip install 'isa-deploy[video]'")
    from rtsp_standin import RtspCamera
    from test_live import run

    ports: list[int] = []
    connected: list[bool] = []

    def look() -> bool:
        said = re.search(r"preview at http://127\.0\.0\.1:(\d+)/", capsys.readouterr().err)
        if said is not None:
            ports.append(int(said[1]))
        stats = json.loads(_get(HTTPConnection("127.0.0.1", ports[0], timeout=PATIENCE_S), "/stats.json"))
        if stats.get("connected") and not connected:
            connected.append(True)
            camera.close()
        if connected and not stats["connected"]:
            assert stats["line"].endswith("waiting for the camera")
            return True
        return False

    with RtspCamera() as camera, pytest.raises(KeyboardInterrupt):
        run(camera.url, tmp_path, look, preview=0)


def _get(connection: HTTPConnection, path: str) -> bytes:
    connection.request("GET", path)
    return connection.getresponse().read()

"""Live cameras: always the newest frame, through outages, without a password in any word."""

from __future__ import annotations

import itertools
import math
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isa_deploy.errors import EngineError, InputError
from isa_deploy.runtime import live_backlog as live_backlog_module
from isa_deploy.runtime import live_source as live_source_module
from isa_deploy.runtime.frame_ages import FrameAges
from isa_deploy.runtime.live import LiveResult, LiveSegmentation, segment_newest
from isa_deploy.runtime.live_backlog import BEHIND_S, WAITED_S, Backlog
from isa_deploy.runtime.live_capture import LiveCapture, retry_delays
from isa_deploy.runtime.live_source import ArrivedFrame, LiveSource, LiveStream, StreamError, parse_live_source
from isa_deploy.runtime.newest_frame import NewestFrame

av = pytest.importorskip("av", reason="needs PyAV: pip install 'isa-deploy[video]'")

from rtsp_standin import ByteCamera, HttpCamera, RtspCamera, transport_stream  # noqa: E402  needs PyAV

UInt8 = npt.NDArray[np.uint8]

PATIENCE_S = 30.0  # of a test on a busy machine, not a promise


@pytest.fixture(autouse=True)
def quiet() -> None:
    av.logging.set_libav_level(av.logging.PANIC)


def eventually(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "it never came to be"
        time.sleep(0.01)


def brightness(frame_hwc: UInt8) -> UInt8:
    """A stand-in for the engine: labels that tell which frame they are of."""
    return np.asarray(frame_hwc.max(2), dtype=np.uint8)


# ---- the slot


def test_the_newest_frame_wins_and_those_before_it_are_counted() -> None:
    slot: NewestFrame[int] = NewestFrame()
    for number in range(5):
        slot.put(number)
    assert slot.take(0) == 4
    assert slot.take(0) is None
    slot.put(5)
    assert slot.take(0) == 5
    assert (slot.put_count, slot.left_out) == (6, 4)


def test_the_last_frame_is_taken_before_the_end() -> None:
    slot: NewestFrame[int] = NewestFrame()
    slot.put(1)
    slot.end()
    assert not slot.ended
    assert slot.take(PATIENCE_S) == 1
    assert slot.take(PATIENCE_S) is None
    assert slot.ended


def test_what_ends_the_filling_thread_is_raised_where_frames_are_taken() -> None:
    slot: NewestFrame[int] = NewestFrame()

    def fill() -> None:
        with slot:
            raise EngineError("broken")

    thread = threading.Thread(target=fill)
    thread.start()
    thread.join()
    assert not slot.ended  # or who looks first would never hear of it
    with pytest.raises(EngineError, match="broken"):
        slot.take(PATIENCE_S)


def test_a_waiting_taker_is_woken_by_a_frame() -> None:
    slot: NewestFrame[int] = NewestFrame()
    threading.Timer(0.05, slot.put, [7]).start()
    assert slot.take(PATIENCE_S) == 7


# ---- ages


def test_ages_of_the_last_seconds_are_exact() -> None:
    ages = FrameAges()
    assert ages.recent(0) is None
    assert ages.whole() is None
    for number in range(1000):  # 10 s, of which the last 5 count
        ages.add(number / 100, 9.0 if number < 490 else (number - 490) / 1000)
    recent = ages.recent(9.99)
    assert recent is not None
    kept = sorted((number - 490) / 1000 for number in range(499, 1000))
    assert recent.frames == len(kept)
    assert recent.median_s == kept[(len(kept) - 1) // 2]
    assert recent.p99_s == kept[math.ceil(0.99 * len(kept)) - 1]
    assert recent.per_s == pytest.approx(100, rel=0.01)
    assert ages.recent(100) is None


@given(st.lists(st.floats(1e-4, 90), min_size=1, max_size=300))
def test_ages_of_a_whole_run_are_within_one_per_cent(values: list[float]) -> None:
    ages = FrameAges()
    for number, value in enumerate(values):
        ages.add(float(number), value)
    whole = ages.whole()
    assert whole is not None
    ordered = sorted(values)
    assert whole.frames == len(values)
    assert whole.median_s == pytest.approx(ordered[math.ceil(0.5 * len(values)) - 1], rel=0.0101)
    assert whole.p99_s == pytest.approx(ordered[math.ceil(0.99 * len(values)) - 1], rel=0.0101)
    assert whole.max_s == ordered[-1]


# ---- a source faster than the engine, on a clock of its own


class SimulatedCamera:
    """Puts a frame each ``interval_s`` of a clock that only :meth:`advance` moves."""

    def __init__(self, interval_s: float) -> None:
        self.now_s = 0.0
        self.interval_s = interval_s
        self.slot: NewestFrame[ArrivedFrame] = NewestFrame()

    def advance(self, seconds: float) -> None:
        self.now_s += seconds
        while (due_s := self.slot.put_count * self.interval_s) <= self.now_s:
            number = np.array([self.slot.put_count % 251], np.uint8)
            self.slot.put(ArrivedFrame(number, due_s))


@given(slower=st.floats(1.1, 40), drawing=st.floats(0, 0.08))
def test_with_a_source_faster_than_the_engine_no_shown_frame_is_two_engine_times_old(
    slower: float, drawing: float
) -> None:
    camera = SimulatedCamera(0.04)
    engine_s = slower * camera.interval_s
    results: NewestFrame[LiveResult] = NewestFrame()
    ages = FrameAges()

    def segment(frame_hwc: UInt8) -> UInt8:
        camera.advance(engine_s)
        return frame_hwc

    camera.advance(0)
    while camera.slot.put_count < 2000:
        segment_newest(camera.slot, results, lambda picture: picture, segment, 0)
        result = results.take(0)
        if result is None:
            camera.advance(camera.interval_s / 10)
            continue
        camera.advance(drawing * camera.interval_s)
        ages.add(camera.now_s, camera.now_s - result.arrived_s)
    whole = ages.whole()
    assert whole is not None
    assert whole.max_s < 2 * engine_s
    assert whole.frames + camera.slot.left_out <= camera.slot.put_count <= whole.frames + camera.slot.left_out + 1
    assert whole.frames >= 2000 / (slower + 1)  # the engine is never idle for longer than a frame takes to come


def test_only_frames_that_are_taken_are_converted() -> None:
    slot: NewestFrame[ArrivedFrame] = NewestFrame()
    results: NewestFrame[LiveResult] = NewestFrame()
    converted = []
    for number in range(10):
        slot.put(ArrivedFrame(number, 0.0))

    def convert(picture: int) -> UInt8:
        converted.append(picture)
        return np.zeros((2, 2, 3), np.uint8)

    segment_newest(slot, results, convert, brightness, 0)
    segment_newest(slot, results, convert, brightness, 0)
    assert converted == [9]
    assert results.put_count == 1


# ---- a stream faster than the decoder


def decoded(backlog: Backlog, packets: list[tuple[float, float, bool]]) -> list[bool]:
    kept = []
    for now_s, waited_s, is_key in packets:
        backlog.note_read(now_s, waited_s)
        kept.append(not backlog.skips(is_key))
    return kept


def test_a_decoder_that_never_waits_for_data_takes_key_frames_until_it_does() -> None:
    step = BEHIND_S / 10
    slow = [(step * number, 0.0, number % 5 == 0) for number in range(1, 30)]
    kept = decoded(backlog := Backlog(0.0), slow)
    late = [number * step > BEHIND_S for number in range(1, 30)]
    assert kept == [is_key or not behind for (_, _, is_key), behind in zip(slow, late, strict=True)]
    # it waits again: what refers to frames that were left out is left out too
    again = [(3.1, WAITED_S, False), (3.2, 0.0, False), (3.3, 0.0, True), (3.4, 0.0, False)]
    assert decoded(backlog, again) == [False, False, True, True]


def test_of_a_stream_of_key_frames_alone_none_is_decoded_until_the_backlog_is_gone() -> None:
    step = BEHIND_S / 10
    kept = decoded(backlog := Backlog(0.0), [(step * number, 0.0, True) for number in range(1, 30)])
    assert kept == [number * step <= BEHIND_S for number in range(1, 30)]
    assert decoded(backlog, [(3.1, WAITED_S, True)]) == [True]


def test_a_decoder_that_keeps_up_leaves_nothing_out() -> None:
    assert all(decoded(Backlog(0.0), [(number / 25, 2 * WAITED_S, number % 50 == 0) for number in range(500)]))


def test_a_camera_that_is_too_fast_gives_key_frames_and_a_file_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_backlog_module, "WAITED_S", math.inf)
    monkeypatch.setattr(live_backlog_module, "BEHIND_S", 0.0)
    with RtspCamera(rate=200) as camera:
        assert all(picture.key_frame for picture in frames_of(parse_live_source(camera.url), 4))
    path = tmp_path / "drive.ts"
    path.write_bytes(transport_stream((64, 48), frames=20))
    assert len(frames_of(parse_live_source(str(path)), 100)) == 20


# ---- addresses


@pytest.mark.parametrize(
    ("address", "label", "name"),
    [
        ("rtsp://camera/stream", "rtsp://camera/stream", "camera_stream"),
        ("rtsp://admin:geheim@10.0.0.7:8554/h264/ch1", "rtsp://10.0.0.7:8554/h264/ch1", "10.0.0.7_h264_ch1"),
        ("rtsps://a:geheim@[fe80::1]:322/x", "rtsps://[fe80::1]:322/x", "fe80_1_x"),
        ("http://cam/video.mjpg?user=a&pwd=geheim", "http://cam/video.mjpg", "cam_video.mjpg"),
        ("rtsp://cam/user=admin_password=geheim_channel=1.sdp", "rtsp://cam/...", "cam"),
        ("udp://@239.0.0.1:1234", "udp://239.0.0.1:1234", "239.0.0.1"),
        ("tcp://cam:5000", "tcp://cam:5000", "cam"),
        ("http://cam/" + "../" * 90, "http://cam/" + "../" * 90, ("cam_" + ".._" * 90)[:79]),
    ],
)
def test_an_address_is_spoken_of_without_its_password(address: str, label: str, name: str) -> None:
    source = parse_live_source(address)
    assert (source.kind, source.address, source.label) == ("network", address, label)
    assert re.fullmatch(r"[\w-][\w.-]{0,79}", source.name)
    assert source.name == name.rstrip("._")
    for words in (source.label, source.name, repr(source), str(source)):
        assert "geheim" not in words


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("rtsp://user:geheim/x@camera/", "malformed"),
        ("rtsp://user:12/geheim@camera/", "behind its host"),
        ("rtsp://user:ge#heim@camera/", "malformed"),
        ("rtsp://", "malformed"),
        ("rtsp://u:geheim@camera:99999/", "malformed"),
        ("rtsp://u:geheim@cam era/", "malformed"),
        ("file:///etc/passwd", "cameras are read from"),
        ("ftp://u:geheim@camera/", "cameras are read from"),
        ("concat://u:geheim@a", "cameras are read from"),
        ("64", "up to 63"),
        ("", "no camera and no"),
        ("a\0b", "no camera and no such file"),
        ("missing.mp4", "no camera and no such file"),
        ("rtsp:/u:geheim@camera/", "no camera and no such file"),
        ("u:geheim@camera:554/stream", "no camera and no such file"),
        ("/", "no camera and no ordinary file"),
    ],
)
def test_what_is_no_camera_is_refused_in_one_line_without_its_password(address: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        parse_live_source(address)
    assert "geheim" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_webcam_that_is_not_there_is_said(tmp_path: Path) -> None:
    if sys.platform != "linux" or Path("/dev/video63").exists():
        pytest.skip("needs Linux without a 64th webcam")
    with pytest.raises(InputError, match="webcam 63: there is no /dev/video63"):
        parse_live_source("63")


# ---- streams


def never(_: float) -> bool:
    return False


def frames_of(source: LiveSource, count: int) -> list[Any]:
    with LiveStream(source, never) as stream:
        return [frame.picture for frame in itertools.islice(stream, count)]


def multipart_jpegs(count: int = 20) -> tuple[str, bytes]:
    parts = []
    for number in range(count):
        jpeg = cv2.imencode(".jpg", np.full((48, 64, 3), 10 * number, np.uint8))[1].tobytes()
        parts.append(b"--b\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (len(jpeg), jpeg))
    return "multipart/x-mixed-replace; boundary=b", b"".join(parts)


def test_rtsp_gives_frames_and_takes_a_password() -> None:
    with RtspCamera(password="geheim") as camera:
        pictures = frames_of(parse_live_source(camera.url), 12)
        assert {(picture.width, picture.height) for picture in pictures} == {(96, 64)}
        wrong = parse_live_source(camera.url.replace("geheim", "falsch"))
        with pytest.raises(StreamError, match="refuses this user or password") as caught:
            frames_of(wrong, 1)
    assert str(caught.value).startswith(wrong.label)
    assert "falsch" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__  # FFmpeg's own message has the address in it


def test_mpeg_ts_over_tcp_and_mjpeg_over_http_give_frames() -> None:
    stream = transport_stream((64, 48))
    with ByteCamera(lambda: stream) as camera:
        assert len(frames_of(parse_live_source(camera.url), 20)) == 20
    with HttpCamera(multipart_jpegs) as camera:
        assert len(frames_of(parse_live_source(camera.url), 20)) == 20


def test_cameras_that_signed_their_own_certificates_are_read_over_tls(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs a certificate: apt install openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=camera"]
    subprocess.run([*make, "-keyout", key, "-out", certificate], capture_output=True, check=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    for camera in (RtspCamera(), HttpCamera(multipart_jpegs)):
        with camera:
            camera.tls = context
            address = re.sub("^(rtsp|http)", r"\1s", camera.url)
            assert len(frames_of(parse_live_source(address), 10)) == 10


def test_an_answer_cannot_lead_to_another_address_or_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret.ts"
    secret.write_bytes(transport_stream((64, 48)))
    with HttpCamera(multipart_jpegs) as other:
        playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n"
        answers = {
            "application/vnd.apple.mpegurl": playlist.format(other.url),
            "audio/x-mpegurl": playlist.format(f"file:{secret}"),
            "text/plain": f"ffconcat version 1.0\nfile {secret}\n",
            "application/sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
            "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        }
        for kind, text in answers.items():
            with (
                HttpCamera(lambda kind=kind, text=text: (kind, text.encode())) as camera,
                pytest.raises(StreamError, match="no video stream, or a playlist"),
            ):
                frames_of(parse_live_source(camera.url), 1)
        with (
            HttpCamera(multipart_jpegs, redirect=other.url) as camera,
            pytest.raises(StreamError, match="redirection"),
        ):
            frames_of(parse_live_source(camera.url), 1)
        assert other.connections == 0


def test_frames_with_too_many_pixels_are_refused_before_decoding() -> None:
    with RtspCamera((96, 64)) as camera, pytest.raises(StreamError, match="96x64 are more than"):
        LiveStream(parse_live_source(camera.url), never, max_pixels=96 * 64 - 1)


def test_a_camera_that_falls_silent_is_lost_after_some_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_source_module, "SILENCE_S", 0.5)
    with RtspCamera() as camera, LiveStream(parse_live_source(camera.url), never) as stream:
        frames = iter(stream)
        next(frames)
        camera.mute = True
        with pytest.raises(StreamError, match="nothing came for 0 s"):
            list(frames)


def test_a_local_file_is_played_at_its_own_pace(tmp_path: Path) -> None:
    path = tmp_path / "drive.ts"
    path.write_bytes(transport_stream((64, 48), frames=25))
    waits: list[float] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return False

    source = parse_live_source(str(path))
    assert (source.kind, source.name) == ("file", "drive")
    with LiveStream(source, wait) as stream:
        assert len(list(stream)) == 25
    # nobody really waited, so each wait is from the beginning to when the frame is due
    assert all(0 <= later - earlier <= 0.041 for earlier, later in itertools.pairwise(waits))
    assert waits[-1] <= 24 / 25


def test_a_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("this is text")
    with pytest.raises(InputError, match="not a video"):
        LiveStream(parse_live_source(str(tmp_path / "a.mp4")), never)


# ---- outages


def test_attempts_to_connect_again_come_further_and_further_apart() -> None:
    assert list(itertools.islice(retry_delays(), 8)) == [0.5, 1, 2, 4, 8, 10, 10, 10]


CAMERA = LiveSource("network", "rtsp://u:geheim@camera/", "rtsp://camera/", "camera")


class Script:
    """Connections that give some frames and then fail as told; with no more of them, the run is over."""

    def __init__(self, *connections: tuple[int, str | None]) -> None:
        self._connections = list(connections)
        self.waits: list[float] = []

    def open(self, source: LiveSource, wait: Callable[[float], bool]) -> Script:
        return self

    def wait(self, seconds: float) -> bool:
        if seconds:
            self.waits.append(seconds)
        return not self._connections and seconds > 0

    def __enter__(self) -> Script:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __iter__(self) -> Iterator[ArrivedFrame]:
        frames, failure = self._connections.pop(0)
        for _ in range(frames):
            yield ArrivedFrame(None, 0.0)  # type: ignore[arg-type]  nobody looks
        if failure is not None:
            raise StreamError(CAMERA, failure, "check")


def news_of(capture: LiveCapture) -> list[str]:
    return [capture.news.get_nowait() for _ in range(capture.news.qsize())]


def test_each_outage_is_one_line_and_one_more_when_it_is_over() -> None:
    script = Script((3, "no route"), (0, "refused"), (0, "refused"), (2, None), (1, "silence"))
    capture = LiveCapture(CAMERA, script.open)
    capture.deliver(script.wait)
    lines = news_of(capture)
    assert [re.sub(r"after \d+ s", "after N s", line) for line in lines] == [
        "rtsp://camera/: no route; connecting again until it is back",
        "rtsp://camera/: back after N s",
        "rtsp://camera/: the stream ended; connecting again until it is back",
        "rtsp://camera/: back after N s",
        "rtsp://camera/: silence; connecting again until it is back",
    ]
    assert script.waits == [0.5, 1, 2, 0.5, 0.5]  # from the beginning after each frame that came
    assert capture.slot.put_count == 6
    assert capture.outages == 3


@pytest.mark.parametrize("failure", ["Connection refused", None])
def test_a_first_connection_without_a_frame_is_an_error(failure: str | None) -> None:
    script = Script((0, failure), (5, None))
    with pytest.raises(StreamError, match=failure or "the stream ended"):
        LiveCapture(CAMERA, script.open).deliver(script.wait)


def test_a_file_ends_once() -> None:
    script = Script((4, None), (4, None))
    source = LiveSource("file", "a.mp4", "a.mp4", "a")
    capture = LiveCapture(source, script.open)
    capture.deliver(script.wait)
    assert capture.slot.put_count == 4
    assert news_of(capture) == []


def test_a_camera_whose_connection_drops_and_whose_size_changes_is_taken_up_again() -> None:
    sizes = set()
    with RtspCamera((96, 64)) as camera, LiveSegmentation(brightness, parse_live_source(camera.url)) as live:

        def seen() -> set[tuple[int, ...]]:
            result = live.take(0.1)
            if result is not None:
                assert result.labels_hw.shape == result.frame_hwc.shape[:2]
                sizes.add(result.labels_hw.shape)
            return sizes

        eventually(lambda: (64, 96) in seen())
        camera.size_wh = (128, 96)
        camera.drop()
        eventually(lambda: (96, 128) in seen())
        assert live.connected
        assert live.outages == 1
        lost, back = live.news()
    assert lost.startswith(f"rtsp://127.0.0.1:{camera.port}/stream: ")
    assert "back after" in back


def test_an_engine_that_fails_ends_the_run() -> None:
    def fail(frame_hwc: UInt8) -> UInt8:
        raise EngineError("out of memory")

    with (
        RtspCamera() as camera,
        LiveSegmentation(fail, parse_live_source(camera.url)) as live,
        pytest.raises(EngineError, match="out of memory"),
    ):
        live.take(PATIENCE_S)


def test_a_camera_that_refuses_is_an_error_at_once() -> None:
    with RtspCamera() as camera:
        pass
    with (
        LiveSegmentation(brightness, parse_live_source(camera.url)) as live,
        pytest.raises(StreamError, match="Connection refused"),
    ):
        live.take(PATIENCE_S)


def test_a_slow_engine_gets_the_newest_frame_and_the_others_are_left_out() -> None:
    gate = threading.Semaphore(0)

    def slow(frame_hwc: UInt8) -> UInt8:
        gate.acquire(timeout=PATIENCE_S)
        return brightness(frame_hwc)

    with RtspCamera(rate=200) as camera, LiveSegmentation(slow, parse_live_source(camera.url)) as live:
        eventually(lambda: live.arrived > 30)
        gate.release()
        first = live.take(PATIENCE_S)  # of the frame that the engine took at once
        asked_s = time.monotonic()
        before = live.arrived
        eventually(lambda: live.arrived > before + 30)
        gate.release()
        second = live.take(PATIENCE_S)  # of the one that it took next, when it had the first
        gate.release()
        third = live.take(PATIENCE_S)
        gate.release(1000)
    assert first is not None
    assert second is not None
    assert third is not None
    assert first.arrived_s < second.arrived_s
    assert third.arrived_s > asked_s  # not one of the thirty that came before it


# ---- the run as a user sees it


def stand_in_segmenter(segment: Callable[[UInt8], UInt8] = brightness, colour_order: str = "BGR") -> Any:
    manifest = SimpleNamespace(input=SimpleNamespace(colour_order=colour_order))
    return SimpleNamespace(segment=segment, manifest=manifest)


def own_picture(frame_hwc: UInt8, labels_hw: UInt8) -> UInt8:
    return frame_hwc


class Asked:
    """An interruption that comes when something is so."""

    def __init__(self, condition: Callable[[], object]) -> None:
        self._condition = condition
        self._deadline_s = time.monotonic() + PATIENCE_S

    def check(self) -> None:
        assert time.monotonic() < self._deadline_s, "it never came to be"
        if self._condition():
            raise KeyboardInterrupt


def run(
    url: str,
    out: Path,
    until: Callable[[], object] = bool,
    segmenter: Any = None,
    draw: Callable[[UInt8, UInt8], UInt8] = own_picture,
    **options: Any,
) -> None:
    from isa_deploy.cli.live import LiveOptions, run_live
    from isa_deploy.cli.results import Product
    from isa_deploy.cli.sources import live_source

    product = Product("overlay", draw)
    interruption: Any = Asked(until)
    run_live(segmenter or stand_in_segmenter(), live_source(url), product, out, LiveOptions(**options), interruption)


def sizes_and_times(path: Path) -> tuple[set[tuple[int, int]], list[float]]:
    with av.open(str(path)) as file:
        frames = list(file.decode(video=0))
    return {(frame.width, frame.height) for frame in frames}, [frame.time for frame in frames]


def test_a_recording_goes_on_through_an_outage_and_a_change_of_size_and_ends_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn: list[tuple[int, ...]] = []

    def draw(frame_hwc: UInt8, labels_hw: UInt8) -> UInt8:
        drawn.append(frame_hwc.shape)
        if len(drawn) == 5:
            camera.size_wh = (128, 96)
            camera.drop()
        return frame_hwc

    def done() -> bool:
        return drawn.count((96, 128, 3)) >= 5

    with RtspCamera((96, 64), password="geheim") as camera, pytest.raises(KeyboardInterrupt):
        run(camera.url, tmp_path / "out", done, draw=draw, record=True)
    (path,) = (tmp_path / "out").iterdir()
    assert path.name == "127.0.0.1_stream_overlay.mp4"
    sizes, times = sizes_and_times(path)
    assert sizes == {(96, 64)}
    assert times[0] == 0
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) >= 0.4  # the outage
    err = capsys.readouterr().err
    lines = err.splitlines()
    assert re.search(r"connecting again until it is back$", lines[0])
    assert re.search(r"back after \d+ s$", lines[1])
    assert re.search(
        r"\d+ of \d+ frames shown, .* left out; age \d+ ms \(p99 .*; 1 outage; \d+ frames recorded", lines[2]
    )
    assert "geheim" not in err


def test_a_camera_that_goes_away_for_good_is_said_and_ctrl_c_still_ends_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[int] = []
    said: list[str] = []

    def segment(frame_hwc: UInt8) -> UInt8:
        seen.append(1)
        if len(seen) == 3:
            camera.close()
        return brightness(frame_hwc)

    def lost() -> bool:
        said.append(capsys.readouterr().err)
        return "connecting again" in "".join(said)

    with RtspCamera() as camera, pytest.raises(KeyboardInterrupt):
        run(camera.url, tmp_path / "out", lost, stand_in_segmenter(segment), record=True)
    assert [path.suffix for path in (tmp_path / "out").iterdir()] == [".mp4"]


def test_a_first_connection_that_fails_leaves_no_folder(tmp_path: Path) -> None:
    with RtspCamera() as camera:
        pass
    with pytest.raises(StreamError, match="refused"):
        run(camera.url, tmp_path / "out", record=True)
    assert list(tmp_path.iterdir()) == []


def test_a_local_file_ends_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "drive.ts").write_bytes(transport_stream((64, 48), frames=10))
    run(str(tmp_path / "drive.ts"), tmp_path, lambda: False, record=True)
    _, times = sizes_and_times(tmp_path / "drive_overlay.mp4")
    assert 1 <= len(times) <= 10
    assert "of 10 frames shown" in capsys.readouterr().err


def test_an_engine_that_takes_rgb_gets_rgb(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "red.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        red = np.zeros((48, 64, 3), np.uint8)
        red[..., 2] = 255
        for _ in range(3):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(red, format="bgr24").reformat(format="yuv420p")))
        file.mux(stream.encode(None))
    means = {}
    for order in ("BGR", "RGB"):

        def segment(frame_hwc: UInt8, order: str = order) -> UInt8:
            means[order] = frame_hwc.mean((0, 1))
            return brightness(frame_hwc)

        run(str(tmp_path / "red.mp4"), tmp_path, lambda: False, stand_in_segmenter(segment, order), preview=0)
    assert means["BGR"][2] > 200 > 100 > means["BGR"][0]
    assert np.allclose(means["RGB"], means["BGR"][::-1])


def test_a_recording_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with RtspCamera() as camera, pytest.raises(InputError, match="a file has its name"):
        run(camera.url, tmp_path / "file", lambda: False, record=True)
    (tmp_path / "out" / "drive_overlay.mp4").mkdir(parents=True)
    (tmp_path / "drive.ts").write_bytes(transport_stream((64, 48), frames=10))
    with pytest.raises(InputError, match="put the new file in place"):
        run(str(tmp_path / "drive.ts"), tmp_path / "out", lambda: False, record=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["drive_overlay.mp4"]


def test_a_line_is_said_now_and_then_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    from isa_deploy.cli.live_status import open_status

    with open_status() as status:
        status.note("lost")
        for second in range(0, 301, 5):
            status.update(f"at {second // 10}", second / 10 + 1000)
        status.note("back")
    assert capsys.readouterr().err.splitlines() == ["lost", "at 10", "at 20", "at 30", "back"]


def test_a_terminal_shows_one_line_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from isa_deploy.cli.live_status import open_status

    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with open_status() as status:
        status.update("rtsp://[fe80::1]/[red]: 25.0 frames/s", 0.0)
        status.note("rtsp://[fe80::1]/[red]: back")
    err = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)
    assert "rtsp://[fe80::1]/[red]: 25.0 frames/s" in err
    assert "rtsp://[fe80::1]/[red]: back" in err


def test_pyav_has_the_input_that_webcams_need() -> None:
    if sys.platform not in ("linux", "darwin"):
        pytest.skip("webcams are read on Linux and macOS")
    assert av.ContainerFormat("v4l2" if sys.platform == "linux" else "avfoundation").is_input


RECORD = """
import sys
import numpy as np
from types import SimpleNamespace
from pathlib import Path
import av
av.logging.set_libav_level(av.logging.PANIC)
from isa_deploy.cli.interruption import Interruption
from isa_deploy.cli.live import LiveOptions, run_live
from isa_deploy.cli.results import Product
from isa_deploy.cli.sources import live_source

def draw(frame_hwc, labels_hw):
    print("frame", flush=True)
    return frame_hwc

manifest = SimpleNamespace(input=SimpleNamespace(colour_order="BGR"))
segmenter = SimpleNamespace(segment=lambda frame_hwc: frame_hwc[..., 0], manifest=manifest)
try:
    with Interruption() as interruption:
        product = Product("overlay", draw)
        source, out = live_source(sys.argv[1]), Path(sys.argv[2])
        run_live(segmenter, source, product, out, LiveOptions(record=True), interruption)
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_a_disk_that_is_full_ends_the_run_and_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="needs a limit on file sizes in the place of a full disk: run on Unix")
    program = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n" + RECORD
    with RtspCamera((320, 240), rate=100) as camera:
        command = [sys.executable, "-c", program, camera.url, str(tmp_path / "out")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1, done.stderr
    assert "InputError" in done.stderr.splitlines()[-1]
    assert "cannot write the video" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_finishes_the_recording(tmp_path: Path, number: signal.Signals) -> None:
    with RtspCamera() as camera:
        command = [sys.executable, "-c", RECORD, camera.url, str(tmp_path / "out")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(10):
                process.stdout.readline()
            os.kill(process.pid, number)
            _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "frames recorded in" in err
    assert "Traceback" not in err
    (path,) = (tmp_path / "out").iterdir()
    _, times = sizes_and_times(path)
    assert len(times) >= 1


TWICE = """
import os, signal, sys, threading, time
from isa_deploy.runtime.video_writer import VideoWriter
from rtsp_standin import RtspCamera

def interrupt_twice():  # once in the block, and again at its end
    os.kill(os.getpid(), signal.SIGINT)
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    time.sleep(2.0)

frames = 0
said = []
def segment(frame_hwc):
    global frames
    frames += 1
    if frames == 3 and sys.argv[2] == "engine":
        interrupt_twice()
        said.append("engine")
    return frame_hwc[..., 0]

finish = VideoWriter._finish
def slowly(writer):
    if sys.argv[2] == "recording":
        interrupt_twice()
    finish(writer)
VideoWriter._finish = slowly

segmenter.segment = segment
def until_interrupted(url, out):
    try:
        with Interruption() as interruption:
            product = Product("overlay", lambda frame_hwc, labels_hw: frame_hwc)
            run_live(segmenter, live_source(url), product, out, LiveOptions(record=True), interruption)
    except KeyboardInterrupt:
        said.append("interrupted")

with RtspCamera() as camera:
    if sys.argv[2] == "recording":
        threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    until_interrupted(camera.url, Path(sys.argv[1]))
threads = [thread.name for thread in threading.enumerate() if thread.name in ("live engine", "live recording")]
print(*said, threads)
"""


@pytest.mark.parametrize("where", ["engine", "recording"])
def test_a_second_ctrl_c_neither_closes_the_engine_under_a_frame_nor_loses_the_recording(
    tmp_path: Path, where: str
) -> None:
    program = RECORD.partition("try:")[0] + TWICE
    command = [sys.executable, "-c", program, str(tmp_path), where]
    here = Path(__file__).parent
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=here)
    assert done.stdout == ("engine interrupted []\n" if where == "engine" else "interrupted []\n"), done.stderr
    (path,) = tmp_path.iterdir()
    assert path.name.endswith("_overlay.mp4")
    assert len(sizes_and_times(path)[1]) >= 1


def test_the_demo_engine_sees_a_camera(tmp_path: Path, streets_onnx: Path) -> None:
    from isa_deploy.runtime.segmenter import Segmenter

    with (
        RtspCamera((96, 64)) as camera,
        Segmenter.open(streets_onnx, backend="onnxruntime", resize="none") as segmenter,
    ):
        with LiveSegmentation(segmenter.segment, parse_live_source(camera.url)) as live:
            result = live.take(PATIENCE_S)
            assert result is not None
        assert np.array_equal(result.labels_hw, segmenter.segment(result.frame_hwc))

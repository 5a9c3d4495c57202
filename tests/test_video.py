"""Videos in and out: pixels, times, damage, and what is left behind."""

from __future__ import annotations

import itertools
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from video_files import MS, make_video, picture

from isa_deploy.errors import BackendUnavailableError, InputError
from isa_deploy.runtime import video
from isa_deploy.runtime.video import VideoReader
from isa_deploy.runtime.video_range import VideoRange
from isa_deploy.runtime.video_writer import VideoWriter

av = pytest.importorskip("av", reason="needs PyAV: pip install 'isa-deploy[video]'")

UInt8 = npt.NDArray[np.uint8]


def rotated(path: Path, matrix: tuple[int, ...]) -> Path:
    """The MP4 file with another display matrix (ISO/IEC 14496-12, tkhd)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(data)
    return path


def opencv_frames(path: Path) -> list[UInt8]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        there, frame = capture.read()
        if not there:
            return frames
        frames.append(np.asarray(frame, dtype=np.uint8))


def times_of(path: Path) -> list[Fraction]:
    with VideoReader(path) as reader:
        return [frame.pts * reader.time_base for frame in reader]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


ONE = 1 << 16
TURNS = {
    "none": (ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30),
    "right": (0, ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30),
    "half": (-ONE, 0, 0, 0, -ONE, 0, 0, 0, 1 << 30),
    "left": (0, -ONE, 0, ONE, 0, 0, 0, 0, 1 << 30),
}
BT601 = {"colorspace": 6, "color_primaries": 6, "color_trc": 6}
BT709 = {"colorspace": 1, "color_primaries": 1, "color_trc": 1}


@pytest.mark.parametrize(
    ("size_wh", "colours"),
    [
        ((64, 48), {}),
        ((1280, 720), {}),
        ((64, 48), BT709),
        ((1280, 720), BT601),
        ((64, 48), {**BT709, "color_range": 2}),
        ((70, 50), {}),
    ],
)
def test_pixels_equal_those_of_opencvs_capture(
    tmp_path: Path, size_wh: tuple[int, int], colours: dict[str, int]
) -> None:
    if colours and int(cv2.__version__.split(".")[0]) < 5:
        pytest.skip("OpenCV 4 overlooks the stream's matrix and range: pip install 'opencv-python-headless>=5'")
    path = make_video(tmp_path / "a.mp4", [0, 40], size_wh, colours=colours)
    with VideoReader(path) as reader:
        frames = [frame.frame_hwc for frame in reader]
    expected = opencv_frames(path)
    assert len(frames) == len(expected) == 2
    for frame_hwc, other in zip(frames, expected, strict=True):
        assert frame_hwc.flags.c_contiguous
        assert np.array_equal(frame_hwc, other)


def test_high_dynamic_range_is_brought_to_bt709(tmp_path: Path) -> None:
    if int(av.__version__.split(".")[0]) < 18:
        pytest.skip("PyAV 17 cannot convert the transfer: pip install 'av>=18' (Python 3.11 and later)")
    path = tmp_path / "hlg.mp4"
    yuv = np.full((24, 64), 128, np.uint8)
    yuv[:16] = np.repeat(np.array([16, 100, 180, 235], np.uint8), 16)  # 180 is HLG's diffuse white
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 16, "yuv420p"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 9, 9, 18, 1
        frame = av.VideoFrame.from_ndarray(yuv, format="yuv420p")
        frame.pts = 0
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    with VideoReader(path) as reader:
        greys = next(iter(reader)).frame_hwc[8, 8::16, 1].astype(np.int64)
    # what OpenCV 5.0's capture shows; the numbers as they stand would be 0, 97, 191, 255
    assert np.abs(greys - [0, 110, 254, 255]).max() <= 3


@pytest.mark.parametrize("turn", TURNS)
def test_the_display_rotation_is_applied_as_opencv_does(tmp_path: Path, turn: str) -> None:
    path = rotated(make_video(tmp_path / "a.mp4", [0, 40]), TURNS[turn])
    with VideoReader(path) as reader:
        assert reader.size_hw == ((64, 48) if turn in ("right", "left") else (48, 64))
        for frame, expected in zip(reader, opencv_frames(path), strict=True):
            assert frame.frame_hwc.flags.c_contiguous
            assert np.array_equal(frame.frame_hwc, expected)


def test_the_reader_tells_what_the_file_says(tmp_path: Path) -> None:
    with VideoReader(make_video(tmp_path / "a.mp4", list(range(0, 1000, 40)))) as reader:
        assert reader.size_hw == (48, 64)
        assert reader.frames == 25
        assert reader.frame_rate == 25
        assert reader.duration_s == pytest.approx(1.0)
        assert [frame.index for frame in reader] == list(range(25))
        assert reader.damaged == 0
        assert list(reader) == []  # each frame once


UNEVEN = [0, 7, 40, 41, 123, 200, 1001, 1002, 1500]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_uneven_times_are_read_exactly(tmp_path: Path, suffix: str) -> None:
    assert times_of(make_video(tmp_path / f"a{suffix}", UNEVEN)) == [time * MS for time in UNEVEN]


@pytest.mark.parametrize(
    "time_base", [MS, Fraction(1, 90000), Fraction(1001, 30000), Fraction(1, 25), Fraction(1, 1000000)], ids=str
)
@pytest.mark.parametrize("start", [0, 5])
def test_times_are_written_exactly(tmp_path: Path, time_base: Fraction, start: int) -> None:
    with VideoWriter(tmp_path / "a.mp4", time_base) as writer:
        for number, time in enumerate(UNEVEN):
            writer.write(picture(48, 64, number), start + time)
    with av.open(str(tmp_path / "a.mp4")) as file:
        times = [frame.pts * file.streams.video[0].time_base for frame in file.decode(video=0)]
    assert times == [(start + time) * time_base for time in UNEVEN]


def test_times_of_a_recording_count_from_its_own_beginning(tmp_path: Path) -> None:
    late = make_video(tmp_path / "a.ts", [time + 3_600_000 for time in UNEVEN])
    assert times_of(late) == [time * MS for time in UNEVEN]


def test_times_rise_even_where_clips_were_joined_without_care(tmp_path: Path) -> None:
    first = make_video(tmp_path / "a.ts", [0, 40, 80, 120]).read_bytes()
    (tmp_path / "joined.ts").write_bytes(first + first)
    times = times_of(tmp_path / "joined.ts")
    assert len(times) >= 7
    assert all(later > earlier for earlier, later in itertools.pairwise(times))


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_video_that_ends_early_says_so(tmp_path: Path, suffix: str) -> None:
    front = {"movflags": "+faststart"} if suffix == ".mp4" else {}
    path = make_video(tmp_path / f"a{suffix}", list(range(0, 8000, 40)), sound=True, container=front)
    ends: list[float | None] = []
    for part in (1.0, 0.5):
        path.write_bytes(path.read_bytes()[: round(path.stat().st_size * part)])
        for end_s in (None, Fraction(1)):
            with VideoReader(path, wanted=VideoRange(end_s=end_s)) as reader:
                last = list(reader)[-1]
                ends.append(reader.ends_early_s)
                assert ends[-1] in (None, last.time_s)
    assert [end is not None for end in ends] == [False, False, True, False]


VIDEO, SOUND = 0xE0, 0xC0


def with_a_leap(path: Path, kind: int) -> Path:
    """The transport stream with a bit of the time of a packet in its middle turned: 6.6 hours (ISO/IEC 13818-1)."""
    data = bytearray(path.read_bytes())
    heads = [match.start() for match in re.finditer(bytes((0, 0, 1, kind)), bytes(data))]
    data[heads[len(heads) // 2] + 9] ^= 0x04
    path.write_bytes(data)
    return path


def test_a_damaged_time_is_no_leap_of_hours(tmp_path: Path) -> None:
    plain = {"preset": "ultrafast", "g": "10", "bf": "0"}
    path = make_video(tmp_path / "a.ts", list(range(0, 2000, 40)), sound=True, options=plain)
    write_copy(path, tmp_path / "whole.mp4")
    assert times_of(with_a_leap(path, VIDEO)) == times_of(tmp_path / "whole.mp4")
    write_copy(with_a_leap(path, SOUND), tmp_path / "b.mp4")
    assert times_of(tmp_path / "b.mp4") == times_of(tmp_path / "whole.mp4")
    before, after = packets_of(tmp_path / "whole.mp4"), packets_of(tmp_path / "b.mp4")
    assert len(before) - 10 <= len(after) < len(before)  # what is in the packet with the damaged time
    assert after[-1] == before[-1]


def test_a_file_whose_reader_stumbles_at_the_end_has_ended() -> None:
    # what PyAV 18 does, by chance, where damage has made streams that were not there at the beginning
    class Container:
        def demux(self, *streams: object) -> Iterator[int]:
            yield from (1, 2, 3)
            raise IndexError("list index out of range")

    container: Any = Container()
    assert list(video.packets_of(container)) == [1, 2, 3]


def test_damaged_frames_are_left_out_and_counted_and_the_others_keep_their_times(tmp_path: Path) -> None:
    times = list(range(0, 1600, 40))
    path = make_video(tmp_path / "a.mp4", times, (160, 120))
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    (length,) = struct.unpack(">I", data[start - 8 : start - 4])
    noise = np.random.default_rng(1)
    for part in (0.3, 0.5, 0.7):
        at = start + int(length * part)
        data[at : at + 40] = noise.integers(0, 256, 40, dtype=np.uint8).tobytes()
    path.write_bytes(data)
    with VideoReader(path) as reader:
        kept = [round(frame.pts * reader.time_base / MS) for frame in reader]
        assert reader.damaged > 0
    assert 20 < len(kept) < len(times)
    assert set(kept) < set(times)


def test_a_video_cut_off_after_its_index_gives_the_frames_it_has(tmp_path: Path) -> None:
    times = list(range(0, 1600, 40))
    path = make_video(tmp_path / "a.mp4", times, (160, 120), container={"movflags": "+faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with VideoReader(path) as reader:
        kept = [round(frame.pts * reader.time_base / MS) for frame in reader]
        assert reader.damaged > 0
    assert kept == times[: len(kept)]
    assert len(kept) > 5


def bad_videos(folder: Path) -> dict[str, Path]:
    def file_of(name: str, data: bytes) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    whole = make_video(folder / "whole.mp4", [0, 40], (160, 120)).read_bytes()
    with av.open(str(folder / "sound.mp4"), "w") as sound:
        tone = sound.add_stream("aac", rate=48000, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 48000
        sound.mux(tone.encode(samples))
        sound.mux(tone.encode(None))
    index = whole.index(b"moov") - 4  # everything after the frames, which become noise
    noise = np.random.default_rng(0).integers(0, 256, index, dtype=np.uint8).tobytes()
    start = whole.index(b"mdat") + 4
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nwhole.mp4\n#EXT-X-ENDLIST\n"
    return {
        "empty (0 bytes)": file_of("empty.mp4", b""),
        "not a video": file_of("text.mp4", b"this is text"),
        "cut off": file_of("cut.mp4", whole[: len(whole) - 200]),
        "Invalid data": file_of("playlist.mp4", playlist),
        "no picture in this file": folder / "sound.mp4",
        "can be decoded": file_of("noise.mp4", whole[:start] + noise[start:] + whole[index:]),
        "no such file": folder / "missing.mp4",
        "a folder": folder,
    }


def test_each_bad_video_is_one_line_that_names_it(tmp_path: Path) -> None:
    for words, path in bad_videos(tmp_path).items():
        with pytest.raises(InputError) as caught:
            VideoReader(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_video_without_a_frame_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.avi"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        file.start_encoding()
    with pytest.raises(InputError, match="a video without frames"):
        VideoReader(path)


def test_absurd_dimensions_are_refused_before_decoding(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", [0, 40], (160, 120))
    with pytest.raises(InputError, match="160x120 are more than"):
        VideoReader(path, max_pixels=160 * 120 - 1)


def test_frames_that_become_absurd_in_the_middle_are_left_out(tmp_path: Path) -> None:
    # the small ones for longer than FFmpeg looks ahead
    small = make_video(tmp_path / "small.ts", list(range(0, 10000, 40))).read_bytes()
    large = make_video(tmp_path / "large.ts", [10000, 10040, 10080], (320, 240)).read_bytes()
    (tmp_path / "a.ts").write_bytes(small + large)
    with VideoReader(tmp_path / "a.ts") as reader:
        assert [frame.frame_hwc.shape[0] for frame in reader] == [48] * 250 + [240] * 3
    with VideoReader(tmp_path / "a.ts", max_pixels=100 * 100) as reader:
        assert {frame.frame_hwc.shape[0] for frame in reader} == {48}
        assert reader.damaged > 0


def test_a_missing_pyav_names_the_install_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video(tmp_path / "a.mp4", [0, 40])
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(BackendUnavailableError, match=r"pip install 'isa-deploy\[video\]'"):
        VideoReader(path)
    with pytest.raises(BackendUnavailableError, match=r"pip install 'isa-deploy\[video\]'"):
        VideoWriter(tmp_path / "b.mp4", MS)


def write_copy(source: Path, target: Path, stop_after: int | None = None, error: BaseException | None = None) -> None:
    with VideoReader(source) as reader, VideoWriter.like(target, reader) as writer:
        for frame in reader:
            writer.write(frame.frame_hwc, frame.pts)
            if stop_after is not None and frame.index + 1 == stop_after:
                assert error is not None
                raise error


def test_the_last_frame_is_shown_as_long_as_the_one_before(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", MS) as writer:
        for pts in (0, 40, 140):
            writer.write(picture(48, 64), pts)
    with av.open(str(tmp_path / "a.mp4")) as file:
        stream = file.streams.video[0]
        assert stream.duration * stream.time_base == 240 * MS


def test_a_written_video_is_what_browsers_play(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", list(range(0, 400, 40)))
    write_copy(source, tmp_path / "b.mp4")
    data = (tmp_path / "b.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(tmp_path / "b.mp4")) as file:
        context = file.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.colorspace, context.color_primaries, context.color_trc) == (1, 1, 1)
        assert context.color_range == 1
    assert names(tmp_path) == {"a.mp4", "b.mp4"}


def test_colours_survive_writing_and_reading(tmp_path: Path) -> None:
    flat = np.zeros((48, 64, 3), np.uint8)
    colours_bgr = [(128, 64, 128), (232, 35, 244), (0, 220, 220), (255, 255, 255), (0, 0, 0), (142, 0, 0)]
    with VideoWriter(tmp_path / "a.mp4", MS) as writer:
        for number, colour in enumerate(colours_bgr):
            flat[:] = colour
            writer.write(flat, number * 40)
    with VideoReader(tmp_path / "a.mp4") as reader:
        for frame, colour in zip(reader, colours_bgr, strict=True):
            assert np.abs(frame.frame_hwc.astype(np.int64) - colour).max() <= 6


@pytest.mark.parametrize("size_hw", [(1, 1), (3, 5), (48, 65), (47, 64)])
def test_odd_sizes_get_their_last_row_or_column_twice(tmp_path: Path, size_hw: tuple[int, int]) -> None:
    frame_hwc = np.full((*size_hw, 3), 200, np.uint8)
    with VideoWriter(tmp_path / "a.mp4", MS) as writer:
        writer.write(frame_hwc, 0)
        writer.write(frame_hwc, 40)
    with VideoReader(tmp_path / "a.mp4") as reader:
        assert reader.size_hw == tuple(side + side % 2 for side in size_hw)
        assert all(np.abs(frame.frame_hwc.astype(np.int64) - 200).max() <= 6 for frame in reader)


def test_a_frame_of_another_size_is_scaled_to_the_first(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", MS) as writer:
        writer.write(picture(48, 64), 0)
        writer.write(picture(96, 128), 40)
    with VideoReader(tmp_path / "a.mp4") as reader:
        assert [frame.frame_hwc.shape for frame in reader] == [(48, 64, 3)] * 2


def packets_of(path: Path) -> list[tuple[Fraction, bytes]]:
    with av.open(str(path)) as file:
        stream = file.streams.audio[0]
        return [(packet.pts * stream.time_base, bytes(packet)) for packet in file.demux(stream) if packet.size]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_is_copied_unchanged(tmp_path: Path, suffix: str) -> None:
    source = make_video(tmp_path / f"a{suffix}", list(range(0, 2000, 40)), sound=True)
    write_copy(source, tmp_path / "b.mp4")
    before, after = packets_of(source), packets_of(tmp_path / "b.mp4")
    assert [data for _, data in after] == [data for _, data in before]
    assert all(abs(there - here) < 2 * MS for (there, _), (here, _) in zip(after, before, strict=True))
    assert times_of(tmp_path / "b.mp4") == times_of(source)


def test_damaged_sound_does_not_end_the_pictures(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.ts", list(range(0, 2000, 40)), sound=True)
    data = bytearray(source.read_bytes())
    begins = [match.start() for match in re.finditer(rb"\xff\xf1", bytes(data))]  # of frames of AAC
    assert len(begins) > 50
    for at in begins[20:30]:
        data[at + 2] = 0xFF  # a rate that is none
    source.write_bytes(data)
    write_copy(source, tmp_path / "b.mp4")
    assert len(times_of(tmp_path / "b.mp4")) == 50
    assert len(begins) - 30 <= len(packets_of(tmp_path / "b.mp4")) < len(begins)


def test_sound_that_mp4_cannot_hold_is_left_out(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.avi"), "w") as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        tone = file.add_stream("libmp3lame", rate=11025, layout="mono")  # as old cameras have it
        for number in range(25):
            frame = av.VideoFrame.from_ndarray(picture(48, 64, number), format="bgr24")
            file.mux(stream.encode(frame.reformat(format="yuv420p")))
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 441), np.float32), format="fltp", layout="mono")
            samples.sample_rate = 11025
            file.mux(tone.encode(samples))
        file.mux(stream.encode(None))
        file.mux(tone.encode(None))
    write_copy(tmp_path / "a.avi", tmp_path / "b.mp4")
    assert len(times_of(tmp_path / "b.mp4")) == 25
    with av.open(str(tmp_path / "b.mp4")) as file:
        assert not file.streams.audio


def test_the_shape_of_pixels_is_kept(tmp_path: Path) -> None:
    wide = make_video(tmp_path / "a.mp4", [0, 40], colours={"sample_aspect_ratio": Fraction(4, 3)})
    write_copy(wide, tmp_path / "b.mp4")
    with VideoReader(tmp_path / "b.mp4") as reader:
        assert reader.sample_aspect == Fraction(4, 3)
    write_copy(rotated(wide, TURNS["left"]), tmp_path / "c.mp4")
    with VideoReader(tmp_path / "c.mp4") as reader:
        assert reader.sample_aspect == Fraction(3, 4)


def test_ctrl_c_leaves_a_playable_video_with_its_sound_up_to_there(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", list(range(0, 4000, 40)), sound=True)
    with pytest.raises(KeyboardInterrupt):
        write_copy(source, tmp_path / "b.mp4", 30, KeyboardInterrupt())
    assert times_of(tmp_path / "b.mp4") == [number * 40 * MS for number in range(30)]
    assert packets_of(tmp_path / "b.mp4")[-1][0] < Fraction(13, 10)
    assert names(tmp_path) == {"a.mp4", "b.mp4"}


def test_any_other_exception_leaves_the_old_video_and_nothing_else(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", list(range(0, 400, 40)))
    (tmp_path / "b.mp4").write_bytes(b"old")
    with pytest.raises(ValueError, match="x"):
        write_copy(source, tmp_path / "b.mp4", 5, ValueError("x"))
    assert (tmp_path / "b.mp4").read_bytes() == b"old"
    assert names(tmp_path) == {"a.mp4", "b.mp4"}


def test_without_a_frame_there_is_no_file(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", MS):
        pass
    assert names(tmp_path) == set()


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([(picture(48, 64), 40), (picture(48, 64), 40)], "rising times"),
        ([(np.zeros((48, 64), np.uint8), 0)], "is no frame"),
        ([(np.zeros((2, 20000, 3), np.uint8), 0)], "16384 pixels"),
    ],
)
def test_frames_that_make_no_video_are_refused_and_leave_nothing(
    tmp_path: Path, frames: list[tuple[UInt8, int]], words: str
) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", MS)
    *accepted, (frame_hwc, pts) = frames
    for accepted_hwc, accepted_pts in accepted:
        writer.write(accepted_hwc, accepted_pts)
    with pytest.raises(InputError, match=words):
        writer.write(frame_hwc, pts)
    assert names(tmp_path) == set()


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "none" / "a.mp4", MS)
    with pytest.raises(InputError, match="no such file or folder"):
        writer.write(picture(48, 64), 0)


WRITE_NOISE = """
import resource, sys
from fractions import Fraction
from pathlib import Path
import av, numpy as np
from isa_deploy.errors import InputError
from isa_deploy.runtime.video_writer import VideoWriter
av.logging.set_libav_level(av.logging.PANIC)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
noise = np.random.default_rng(0)
try:
    with VideoWriter(Path(sys.argv[1]), Fraction(1, 25)) as writer:
        for number in range(int(sys.argv[3])):
            writer.write(noise.integers(0, 256, (96, 128, 3), dtype=np.uint8), number)
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize(("limit", "frames"), [(30000, 200), (500, 2)], ids=["in the middle", "at the end"])
def test_a_video_that_does_not_fit_on_the_disk_leaves_nothing(tmp_path: Path, limit: int, frames: int) -> None:
    pytest.importorskip("resource", reason="needs a limit on file sizes in the place of a full disk: run on Unix")
    command: list[Any] = [sys.executable, "-c", WRITE_NOISE, tmp_path / "a.mp4", limit, frames]
    run = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    assert run.stdout.startswith(f"{tmp_path / 'a.mp4'}: cannot write the video")
    assert run.stdout.count("\n") == 1
    assert names(tmp_path) == set()

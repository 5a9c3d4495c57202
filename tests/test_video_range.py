"""Parts of videos: which frames, exactly which, their times, their sound, and the options that name them."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from video_files import MS, make_video

from isa_deploy.cli.video_options import VideoOptions, parse_video_options
from isa_deploy.errors import InputError
from isa_deploy.runtime.video import VideoReader
from isa_deploy.runtime.video_range import FrameChooser, VideoRange
from isa_deploy.runtime.video_writer import VideoWriter

av = pytest.importorskip("av", reason="needs PyAV: pip install 'isa-deploy[video]'")

UInt8 = npt.NDArray[np.uint8]


def parsed(**given: Any) -> VideoOptions:
    defaults = {"every": 1, "start": None, "end": None, "fps": None, "smooth": 1, "batch": False}
    return parse_video_options(**(defaults | given))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("90", 90),
        ("90.5", Fraction(181, 2)),
        (".25", Fraction(1, 4)),
        ("1:30", 90),
        ("75:00", 4500),
        ("1:02:03.5", Fraction(7447, 2)),
        ("0:00:00.001", Fraction(1, 1000)),
        (" 7 ", 7),
    ],
)
def test_times_are_seconds_or_minutes_or_hours(text: str, seconds: Fraction) -> None:
    assert parsed(start=text, end="9999").range.start_s == seconds


@pytest.mark.parametrize(
    ("given", "words"),
    [
        *(({"start": text}, f"--start {text}: no time") for text in ("", "-1", "1e3", "nan", "1:2:3:4", "ten", "1:")),
        ({"start": "1:60"}, "less than 60"),
        ({"end": "1:60:00"}, "less than 60"),
        ({"start": "9" * 100}, "no time"),
        ({"end": "0"}, "--end 0 is not after 0"),
        ({"start": "1:00", "end": "59"}, "--end 59 is not after --start 1:00"),
        ({"every": 0}, "--every 0"),
        ({"smooth": 0}, "--smooth 0"),
        ({"smooth": 100}, "1 .off. to 99"),
        *(({"fps": text}, f"--fps {text}: ") for text in ("", "0", "-5", "1001", "1/0", "30000/", "inf", "0.0")),
    ],
)
def test_nonsense_is_one_line_that_names_the_option(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        parsed(**given)
    assert "\n" not in str(caught.value)


def test_rates_are_exact() -> None:
    assert parsed(fps="30000/1001").range.rate == Fraction(30000, 1001)
    assert parsed(fps="29.97").range.rate == Fraction(2997, 100)
    assert parsed(fps="5").range.rate == 5


@pytest.mark.parametrize(
    "given",
    [
        {"start_s": Fraction(-1)},
        {"start_s": Fraction(2), "end_s": Fraction(2)},
        {"every": 0},
        {"rate": Fraction(0)},
    ],
)
def test_a_range_that_holds_nothing_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        VideoRange(**given)


uneven_times = st.lists(st.integers(0, 5000), min_size=1, max_size=80, unique=True).map(sorted)


@given(uneven_times, st.integers(1, 7), st.fractions(Fraction(1, 3), 50, max_denominator=1001))
def test_no_second_has_more_than_the_rate_and_nothing_is_left_out_without_need(
    times_ms: list[int], every: int, rate: Fraction
) -> None:
    chooser = FrameChooser(VideoRange(every=every, rate=rate))
    times = [time * MS for time in times_ms]
    kept = [time for time in times if chooser.takes(time)]
    candidates = times[::every]
    assert kept[0] == candidates[0]
    assert set(kept) <= set(candidates)
    slots = [(time - kept[0]) * rate // 1 for time in kept]
    assert all(earlier < later for earlier, later in itertools.pairwise(slots))
    assert {(time - kept[0]) * rate // 1 for time in candidates} == set(slots)


@given(st.integers(1, 60), st.integers(1, 12), st.integers(1, 100))
def test_a_rate_that_divides_the_videos_takes_every_nth_frame(rate: int, factor: int, count: int) -> None:
    chooser = FrameChooser(VideoRange(rate=Fraction(rate)))
    numbers = [number for number in range(count) if chooser.takes(Fraction(number, rate * factor))]
    assert numbers == list(range(0, count, factor))


def all_frames(path: Path) -> list[tuple[Fraction, UInt8]]:
    with VideoReader(path) as reader:
        return [(frame.pts * reader.time_base, frame.frame_hwc.copy()) for frame in reader]


KINDS: dict[str, dict[str, Any]] = {
    # 250 frames between key frames and B frames between, as x264 makes them unless told otherwise
    "a.mp4": {"options": {"preset": "medium"}},
    "a.mkv": {},
    "a.mov": {"options": {"preset": "medium", "g": "12", "x264-params": "open-gop=1"}},
    "a.ts": {"options": {"preset": "medium", "g": "12", "x264-params": "open-gop=1"}},
    "a.flv": {},
    "b.avi": {"codec": "mpeg4", "options": {"g": "10"}, "time_base": Fraction(1, 25)},
    "e.avi": {"options": {"preset": "medium", "g": "12", "b_strategy": "0"}, "time_base": Fraction(1, 25)},
    "f.ts": {"codec": "mpeg4", "options": {"g": "12", "bf": "2"}, "time_base": Fraction(1, 25)},
    "c.mpg": {"codec": "mpeg2video", "options": {"g": "10", "bf": "2"}, "time_base": Fraction(1, 25)},
    "d.ogv": {"codec": "libvpx", "options": {"g": "10"}},
}


@pytest.mark.parametrize("name", KINDS)
def test_a_late_start_gives_exactly_the_frames_of_decoding_it_all(tmp_path: Path, name: str) -> None:
    kind = dict(KINDS[name])
    step = 1 if "time_base" in kind else 40
    try:
        path = make_video(tmp_path / name, [number * step for number in range(120)], **kind)
    except av.error.FFmpegError as error:  # a PyAV that was built without
        pytest.skip(f"this PyAV cannot make {name} ({error}); install its own wheel: pip install av")
    expected = all_frames(path)
    assert len(expected) > 100
    for start_s in (Fraction(1, 1000), Fraction(4, 10), Fraction(41, 25), Fraction(3), Fraction(47, 10)):
        wanted = [(time, frame_hwc) for time, frame_hwc in expected if time >= start_s]
        with VideoReader(path, wanted=VideoRange(start_s)) as reader:
            frames = list(reader)
            assert reader.damaged == 0
            assert [frame.pts * reader.time_base for frame in frames] == [time for time, _ in wanted]
        assert [frame.index for frame in frames] == list(range(len(wanted)))
        assert np.array_equal(frames[0].frame_hwc, wanted[0][1])
        assert np.array_equal(frames[-1].frame_hwc, wanted[-1][1])


def test_a_late_start_does_not_decode_what_is_long_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video(tmp_path / "a.mp4", list(range(0, 40000, 40)))
    decoded = 0
    original = VideoReader._decode

    def counting(self: VideoReader, packet: Any) -> Any:
        nonlocal decoded
        decoded += 1
        return original(self, packet)

    monkeypatch.setattr(VideoReader, "_decode", counting)
    with VideoReader(path, wanted=VideoRange(Fraction(39))) as reader:
        assert len(list(reader)) == 25
    assert decoded < 25 + 50


def test_the_end_is_before_its_time_and_nothing_after_is_decoded(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", list(range(0, 4000, 40)))
    with VideoReader(path, wanted=VideoRange(Fraction(1), Fraction(2))) as reader:
        assert [frame.pts * reader.time_base for frame in reader] == [time * MS for time in range(1000, 2000, 40)]
        assert reader.begin_pts * reader.time_base == 1


def test_every_and_rate_choose_among_the_frames_of_the_range(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", list(range(0, 4000, 40)))
    wanted = VideoRange(Fraction(1), Fraction(3), every=2, rate=Fraction(5))
    with VideoReader(path, wanted=wanted) as reader:
        frames = list(reader)
        assert [frame.pts * reader.time_base for frame in frames] == [
            time * MS for time in (1000, 1240, 1400, 1640, 1800, 2040, 2200, 2440, 2600, 2840)
        ]
    assert [frame.index for frame in frames] == list(range(len(frames)))


def test_frames_that_are_not_wanted_are_not_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video(tmp_path / "a.mp4", list(range(0, 4000, 40)))
    converted = 0
    original = VideoReader._upright_bgr

    def counting(self: VideoReader, frame: Any) -> Any:
        nonlocal converted
        converted += 1
        return original(self, frame)

    monkeypatch.setattr(VideoReader, "_upright_bgr", counting)
    with VideoReader(path, wanted=VideoRange(every=10)) as reader:
        assert len(list(reader)) == 10
    assert converted == 10


def test_a_range_without_a_frame_is_one_line_that_says_where_there_are_some(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", list(range(0, 1000, 40)))
    with pytest.raises(InputError, match=r"no frame between 90\.000 s and the end, .* one at 0\.960 s"):
        VideoReader(path, wanted=VideoRange(Fraction(90)))
    with pytest.raises(InputError, match=r"no frame between 0\.041 s and 0\.042 s"):
        VideoReader(path, wanted=VideoRange(Fraction(41, 1000), Fraction(42, 1000)))


def test_a_late_start_of_a_recording_counts_from_its_own_beginning(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.ts", [3_600_000 + time for time in range(0, 4000, 40)])
    with VideoReader(path, wanted=VideoRange(Fraction(2), Fraction(3))) as reader:
        assert [frame.pts * reader.time_base for frame in reader] == [time * MS for time in range(2000, 3000, 40)]


def packets_of(path: Path) -> list[tuple[Fraction, bytes]]:
    with av.open(str(path)) as file:
        stream = file.streams.audio[0]
        return [(packet.pts * stream.time_base, bytes(packet)) for packet in file.demux(stream) if packet.size]


def copied(source: Path, target: Path, wanted: VideoRange) -> Path:
    with VideoReader(source, wanted=wanted) as reader, VideoWriter.like(target, reader) as writer:
        for frame in reader:
            writer.write(frame.frame_hwc, frame.pts - reader.begin_pts)
    return target


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_sound_is_cut_with_the_pictures(tmp_path: Path, suffix: str) -> None:
    source = make_video(tmp_path / f"a{suffix}", list(range(0, 6000, 40)), sound=True)
    path = copied(source, tmp_path / "b.mp4", VideoRange(Fraction(2), Fraction(4)))
    assert [time for time, _ in all_frames(path)] == [time * MS for time in range(0, 2000, 40)]
    before = [(time - 2, data) for time, data in packets_of(source) if 2 <= time < 4]
    after = packets_of(path)
    assert [data for _, data in after] == [data for _, data in before]
    assert all(abs(there - here) < 2 * MS for (there, _), (here, _) in zip(after, before, strict=True))


def test_the_sound_stays_in_time_where_frames_are_left_out(tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", list(range(0, 2000, 40)), sound=True)
    path = copied(source, tmp_path / "b.mp4", VideoRange(every=5))
    assert [time for time, _ in all_frames(path)] == [time * MS for time in range(0, 2000, 200)]
    assert packets_of(path) == packets_of(copied(source, tmp_path / "c.mp4", VideoRange()))
    with av.open(str(path)) as file:
        assert file.streams.video[0].average_rate == 5

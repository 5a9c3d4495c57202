"""Videos through one engine: side by side as alone, bounded, smoothed, and what goes wrong in the middle."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from video_files import MS, make_video

from isa_deploy.cli.inference import Inference, LargeResult
from isa_deploy.cli.interruption import Interruption
from isa_deploy.cli.progress import open_progress
from isa_deploy.cli.results import Product, products
from isa_deploy.cli.sources import Source, find_sources
from isa_deploy.cli.statistics import open_statistics
from isa_deploy.cli.tally import Tally
from isa_deploy.cli.video_options import VideoOptions
from isa_deploy.cli.video_task import DECODED_AHEAD, DRAWN_BEHIND
from isa_deploy.errors import EngineError, InputError
from isa_deploy.runtime.segmenter import Segmenter
from isa_deploy.runtime.smoothing import Smoother
from isa_deploy.runtime.video import VideoReader
from isa_deploy.runtime.video_range import VideoRange

av = pytest.importorskip("av", reason="needs PyAV: pip install 'isa-deploy[video]'")

UInt8 = npt.NDArray[np.uint8]


class AllAtOnce:
    """In the place of the pictures in tiles: no picture is one."""

    def takes(self, path: Path) -> bool:
        return False

    def infer(self, source: Source) -> LargeResult:
        raise AssertionError("not taken")


@pytest.fixture(scope="module")
def segmenter(streets_onnx: Path) -> Iterator[Segmenter]:
    with Segmenter.open(streets_onnx, backend="onnxruntime", resize="none", schedule="throughput") as opened:
        yield opened


Infer = Callable[..., Tally]


@pytest.fixture
def infer(segmenter: Segmenter) -> Infer:
    """isa-infer's work on videos: labels and statistics into a folder."""

    def run(
        paths: list[Path], out: Path, options: VideoOptions | None = None, wanted: list[Product] | None = None
    ) -> Tally:
        made = products(segmenter.manifest.classes, 0.5, legend=False, mask=False, labels=True)
        out.mkdir(exist_ok=True)
        tally = Tally()
        sources = find_sources([str(path) for path in paths])
        with ExitStack() as stack:
            progress = stack.enter_context(open_progress(len(paths)))
            statistics = stack.enter_context(open_statistics(out, "jsonl"))
            interruption = stack.enter_context(Interruption())
            Inference(
                segmenter,
                wanted or made,
                out,
                statistics,
                progress,
                interruption,
                tally,
                options or VideoOptions(),
                AllAtOnce(),
            ).run(sources)
        assert own_threads() == []
        return tally

    return run


def own_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name in ("isa-ahead", "isa-behind")]


def labels_of(path: Path) -> list[tuple[Fraction, UInt8]]:
    with av.open(str(path)) as file:
        return [(frame.pts * frame.time_base, frame.to_ndarray(format="gray")) for frame in file.decode(video=0)]


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def same(first: Path, second: Path) -> bool:
    one, other = labels_of(first), labels_of(second)
    return len(one) == len(other) > 0 and all(
        time == other_time and np.array_equal(labels_hw, other_hw)
        for (time, labels_hw), (other_time, other_hw) in zip(one, other, strict=True)
    )


def alike(first: Path, second: Path) -> bool:
    """Whether videos show the same at the same times; x264 itself does not give the same bytes every time."""
    with VideoReader(first) as one, VideoReader(second) as other:
        pairs = list(zip(one, other, strict=True))
    return len(pairs) > 0 and all(
        here.pts == there.pts and cv2.absdiff(here.frame_hwc, there.frame_hwc).mean() < 2 for here, there in pairs
    )


@pytest.fixture(scope="module")
def drives(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Videos of two sizes, three lengths and uneven times."""
    folder = tmp_path_factory.mktemp("drives")
    return [
        make_video(folder / "a.mp4", list(range(0, 400, 40)), (72, 40), sound=True),
        make_video(folder / "b.mp4", [0, 33, 40, 120, 500], (96, 64)),
        make_video(folder / "c.mp4", list(range(0, 640, 40)), (72, 40)),
    ]


def test_videos_side_by_side_give_what_each_gives_alone(infer: Infer, drives: list[Path], tmp_path: Path) -> None:
    tally = infer(drives, tmp_path / "together", VideoOptions(batch=True))
    assert (tally.videos, tally.frames, tally.failed) == (3, 10 + 5 + 16, 0)
    for path in drives:
        infer([path], tmp_path / path.stem)
        overlay = f"{path.stem}_overlay.mp4"
        assert alike(tmp_path / "together" / overlay, tmp_path / path.stem / overlay)
        assert same(tmp_path / "together" / f"{path.stem}_labels.mkv", tmp_path / path.stem / f"{path.stem}_labels.mkv")
    together = lines_of(tmp_path / "together" / "stats.jsonl")
    for path in drives:
        alone = lines_of(tmp_path / path.stem / "stats.jsonl")
        assert [line for line in together if line["input"] == str(path)] == alone


def test_frames_of_one_size_go_to_the_engine_together(
    infer: Infer, drives: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[list[tuple[int, ...]]] = []
    original = Segmenter.submit_batch

    def noting(self: Segmenter, frames_hwc: Any) -> Any:
        sizes.append([frame.shape[:2] for frame in frames_hwc])
        return original(self, frames_hwc)

    monkeypatch.setattr(Segmenter, "submit_batch", noting)
    infer(drives, tmp_path, VideoOptions(batch=True))
    # a and c have one size, and a is over after 10 frames
    assert sizes == [[(40, 72), (40, 72)]] * 10


def test_labels_are_those_of_the_library_and_times_those_of_the_source(
    infer: Infer, drives: list[Path], tmp_path: Path, segmenter: Segmenter
) -> None:
    infer([drives[1]], tmp_path)
    made = labels_of(tmp_path / "b_labels.mkv")
    assert [time for time, _ in made] == [time * MS for time in (0, 33, 40, 120, 500)]
    with VideoReader(drives[1]) as reader:
        for frame, (_, labels_hw) in zip(reader, made, strict=True):
            assert np.array_equal(segmenter.segment(frame.frame_hwc), labels_hw)


def test_a_part_of_a_video_begins_at_zero_and_its_statistics_at_its_time(
    infer: Infer, drives: list[Path], tmp_path: Path
) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    infer([drives[2]], whole)
    infer([drives[2]], part, VideoOptions(VideoRange(Fraction(1, 10), Fraction(1, 2), every=2)))
    expected = [(time, labels_hw) for time, labels_hw in labels_of(whole / "c_labels.mkv") if 0.1 <= time < 0.5][::2]
    made = labels_of(part / "c_labels.mkv")
    assert [time for time, _ in made] == [time - expected[0][0] for time, _ in expected]
    for (_, labels_hw), (_, expected_hw) in zip(made, expected, strict=True):
        assert np.array_equal(labels_hw, expected_hw)
    with VideoReader(part / "c_overlay.mp4") as reader:
        assert [frame.pts * reader.time_base for frame in reader] == [time for time, _ in made]
    assert [line["time_s"] for line in lines_of(part / "stats.jsonl")] == [float(time) for time, _ in expected]
    assert [line["frame"] for line in lines_of(part / "stats.jsonl")] == list(range(len(expected)))


def test_smoothing_takes_the_majority_of_the_last_frames_of_each_video(
    infer: Infer, drives: list[Path], tmp_path: Path
) -> None:
    rough, smooth = tmp_path / "rough", tmp_path / "smooth"
    infer(drives, rough)
    infer(drives, smooth, VideoOptions(smooth=3, batch=True))
    changed = 0
    for path in drives:
        smoother = Smoother(3)
        before, after = (labels_of(folder / f"{path.stem}_labels.mkv") for folder in (rough, smooth))
        for (_, raw_hw), (_, smoothed_hw) in zip(before, after, strict=True):
            assert np.array_equal(smoother.add(raw_hw), smoothed_hw)
            changed += int((raw_hw != smoothed_hw).sum())
    assert changed > 0


def test_a_video_that_changes_size_keeps_going_and_says_so(
    infer: Infer, tmp_path: Path, capsys: pytest.CaptureFixture[str], segmenter: Segmenter
) -> None:
    # the small ones for longer than FFmpeg looks ahead
    small = make_video(tmp_path / "small.ts", list(range(0, 10000, 40)), (64, 48)).read_bytes()
    large = make_video(tmp_path / "large.ts", [10000, 10040, 10080], (96, 64)).read_bytes()
    (tmp_path / "a.ts").write_bytes(small + large)
    wanted = VideoOptions(VideoRange(Fraction(99, 10)), smooth=3)
    infer([tmp_path / "a.ts"], tmp_path / "out", wanted)
    made = labels_of(tmp_path / "out" / "a_labels.mkv")
    assert [labels_hw.shape for _, labels_hw in made] == [(48, 64)] * len(made)
    assert len(made) > 3
    with VideoReader(tmp_path / "a.ts", wanted=wanted.range) as reader:
        frames = [frame.frame_hwc for frame in reader]
    first_large_hw = segmenter.segment(frames[-3])
    assert first_large_hw.shape == (64, 96)
    assert set(np.unique(made[-3][1])) <= set(np.unique(first_large_hw))
    assert "its size changes from 64x48 to 96x64" in capsys.readouterr().err


def damaged(path: Path) -> Path:
    """A file whose index is whole and whose frames are noise from a part on."""
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    end = data.index(b"moov") - 4
    middle = (start + end) // 2
    data[middle:end] = np.random.default_rng(0).integers(0, 256, end - middle, dtype=np.uint8).tobytes()
    path.write_bytes(data)
    return path


def test_a_bad_video_among_good_ones_is_left_out(
    infer: Infer, drives: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    short = make_video(tmp_path / "short.mp4", [0, 40], (72, 40))
    wanted = VideoOptions(VideoRange(Fraction(1, 10)), batch=True)
    tally = infer([drives[0], tmp_path / "bad.mp4", short, drives[2]], tmp_path / "out", wanted)
    assert (tally.videos, tally.failed) == (2, 2)
    assert names(tmp_path / "out") == {
        *("a_overlay.mp4", "a_labels.mkv", "c_overlay.mp4", "c_labels.mkv"),
        "stats.jsonl",
    }
    err = capsys.readouterr().err
    assert "skipped: " in err
    assert "bad.mp4: not a video" in err
    assert "no frame between 0.100 s and the end" in err
    assert {line["input"] for line in lines_of(tmp_path / "out" / "stats.jsonl")} == {str(drives[0]), str(drives[2])}


def test_damage_in_one_of_several_videos_is_counted_and_leaves_the_others_alone(
    infer: Infer, drives: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = damaged(make_video(tmp_path / "broken.mp4", list(range(0, 1600, 40)), (72, 40)))
    tally = infer([broken, drives[0]], tmp_path / "out", VideoOptions(batch=True))
    assert tally.videos == 2
    assert len(labels_of(tmp_path / "out" / "a_labels.mkv")) == 10
    assert 0 < len(labels_of(tmp_path / "out" / "broken_labels.mkv")) < 40
    assert "left out" in capsys.readouterr().err


def test_a_video_that_was_cut_off_is_told_of(infer: Infer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_video(tmp_path / "a.mkv", list(range(0, 4000, 40)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    infer([path], tmp_path / "out")
    assert re.search(
        r"a\.mkv: its last frame is at [12]\.\d s, though it says that it lasts 4\.0 s", capsys.readouterr().err
    )


def test_frames_that_the_engine_cannot_take_fail_their_videos_only(
    infer: Infer, drives: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Segmenter.submit

    def picky(self: Segmenter, frame_hwc: Any) -> Any:
        if frame_hwc.shape[:2] == (64, 96):
            raise InputError("this engine takes other frames")
        return original(self, frame_hwc)

    monkeypatch.setattr(Segmenter, "submit", picky)
    tally = infer(drives, tmp_path, VideoOptions(batch=True))
    assert (tally.videos, tally.failed) == (2, 1)
    assert names(tmp_path) == {"a_overlay.mp4", "a_labels.mkv", "c_overlay.mp4", "c_labels.mkv", "stats.jsonl"}
    with pytest.raises(InputError, match="other frames"):
        infer([drives[1]], tmp_path / "alone")
    assert names(tmp_path / "alone") == set()


def test_no_more_frames_exist_than_the_queues_hold_while_drawing_is_slow(
    infer: Infer, tmp_path: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_video(tmp_path / "long.mp4", list(range(0, 4000, 40)), (72, 40))
    converted = threading.Semaphore(0)
    count = 0
    original = VideoReader._upright_bgr

    def counting(self: VideoReader, frame: Any) -> Any:
        nonlocal count
        count += 1
        converted.release()
        return original(self, frame)

    monkeypatch.setattr(VideoReader, "_upright_bgr", counting)
    gate = threading.Event()
    (overlay,) = products(segmenter.manifest.classes, 0.5, legend=False, mask=False, labels=False)
    # drawing, the queue behind, the main thread's hand, the engine and its door, the queue ahead
    most = 1 + DRAWN_BEHIND + 1 + (segmenter.capacity + 1) + DECODED_AHEAD
    seen: list[int] = []

    def draw_when_all_wait(frame_hwc: UInt8, labels_hw: UInt8, out: UInt8 | None = None) -> UInt8:
        if not gate.is_set():
            while converted.acquire(timeout=2):  # until nothing more is decoded
                pass
            seen.append(count)
            gate.set()
        return overlay.draw(frame_hwc, labels_hw, out)

    infer([path], tmp_path / "out", wanted=[replace(overlay, draw=draw_when_all_wait)])
    assert 1 < seen[0] <= most
    assert count == 100


def test_an_error_while_drawing_ends_the_run_and_leaves_nothing(
    infer: Infer, drives: list[Path], tmp_path: Path, segmenter: Segmenter
) -> None:
    (overlay,) = products(segmenter.manifest.classes, 0.5, legend=False, mask=False, labels=False)
    drawn = 0

    def fail_at_the_third(frame_hwc: UInt8, labels_hw: UInt8, out: UInt8 | None = None) -> UInt8:
        nonlocal drawn
        drawn += 1
        if drawn == 3:
            raise ZeroDivisionError("in the drawing thread")
        return overlay.draw(frame_hwc, labels_hw, out)

    for options in (VideoOptions(), VideoOptions(batch=True)):
        drawn = 0
        with pytest.raises(ZeroDivisionError, match="in the drawing thread"):
            infer(drives, tmp_path / "out", options, [replace(overlay, draw=fail_at_the_third)])
        assert own_threads() == []
        assert names(tmp_path / "out") == set()


def test_an_error_while_decoding_ends_the_run_and_leaves_nothing(
    infer: Infer, drives: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = VideoReader._upright_bgr
    count = 0

    def failing(self: VideoReader, frame: Any) -> Any:
        nonlocal count
        count += 1
        if count == 7:
            raise ZeroDivisionError("in the decoding thread")
        return original(self, frame)

    monkeypatch.setattr(VideoReader, "_upright_bgr", failing)
    with pytest.raises(ZeroDivisionError, match="in the decoding thread"):
        infer([drives[2]], tmp_path / "out")
    assert own_threads() == []
    assert names(tmp_path / "out") == set()


def test_an_engine_that_fails_in_the_middle_leaves_no_video_and_no_thread(
    infer: Infer, drives: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = Segmenter.submit, 0

    def failing(self: Segmenter, frame_hwc: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise EngineError("the engine is gone")
        return original(self, frame_hwc)

    monkeypatch.setattr(Segmenter, "submit", failing)
    with pytest.raises(EngineError, match="engine is gone"):
        infer([drives[0]], tmp_path / "out")
    assert own_threads() == []
    assert names(tmp_path / "out") == set()


def test_ctrl_c_in_the_middle_of_several_videos_leaves_all_of_them_playable(
    infer: Infer, drives: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = 0

    def check(self: Interruption) -> None:
        nonlocal checks
        checks += 1
        if checks == 12:
            raise KeyboardInterrupt

    monkeypatch.setattr(Interruption, "check", check)
    with pytest.raises(KeyboardInterrupt):
        infer(drives, tmp_path / "out", VideoOptions(batch=True))
    assert own_threads() == []
    lines = lines_of(tmp_path / "out" / "stats.jsonl")
    for path in drives:
        made = labels_of(tmp_path / "out" / f"{path.stem}_labels.mkv")
        with VideoReader(tmp_path / "out" / f"{path.stem}_overlay.mp4") as reader:
            assert len(list(reader)) == len(made) > 0
        assert len([line for line in lines if line["input"] == str(path)]) == len(made)

"""Labels in a lossless video: exact to the pixel, exact in time."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from isa_deploy.errors import InputError
from isa_deploy.runtime.label_video import LabelVideoWriter

av = pytest.importorskip("av", reason="needs PyAV: pip install 'isa-deploy[video]'")

UInt8 = npt.NDArray[np.uint8]
MS = Fraction(1, 1000)
UNEVEN = [0, 7, 40, 41, 123, 200, 1001, 1002, 1500]


def noise(count: int, size_hw: tuple[int, int]) -> list[UInt8]:
    """Every value in every place: what no palette would allow."""
    rng = np.random.default_rng(sum(size_hw))
    return [rng.integers(0, 256, size_hw, dtype=np.uint8) for _ in range(count)]


def written(
    path: Path,
    pictures: list[UInt8],
    times: list[int],
    time_base: Fraction = MS,
    rate: Fraction | None = None,
    error: BaseException | None = None,
) -> Path:
    with LabelVideoWriter(path, time_base, rate) as writer:
        for labels_hw, pts in zip(pictures, times, strict=True):
            writer.write(labels_hw, pts)
        if error is not None:
            raise error
    return path


def read(path: Path) -> list[tuple[UInt8, Fraction]]:
    with av.open(str(path)) as file:
        return [(frame.to_ndarray(format="gray"), frame.pts * frame.time_base) for frame in file.decode(video=0)]


@pytest.mark.parametrize("size_hw", [(48, 64), (47, 65), (1, 1), (3, 1), (1, 7), (64, 64), (129, 257)], ids=str)
def test_labels_read_back_exactly_at_any_size(tmp_path: Path, size_hw: tuple[int, int]) -> None:
    pictures = noise(5, size_hw)
    path = written(tmp_path / "a.mkv", pictures, [0, 40, 80, 120, 160])
    for (labels_hw, _), expected_hw in zip(read(path), pictures, strict=True):
        assert np.array_equal(labels_hw, expected_hw)
    with av.open(str(path)) as file:
        context = file.streams.video[0].codec_context
        assert (context.name, context.pix_fmt, context.color_range) == ("ffv1", "gray", 2)


@pytest.mark.parametrize("size_hw", [(48, 64), (129, 257)], ids=str)
def test_opencv_reads_them_back_exactly_too(tmp_path: Path, size_hw: tuple[int, int]) -> None:
    pictures = noise(3, size_hw)
    capture = cv2.VideoCapture(str(written(tmp_path / "a.mkv", pictures, [0, 40, 80])))
    for expected_hw in pictures:
        there, frame_hwc = capture.read()
        assert there
        assert all(np.array_equal(frame_hwc[..., channel], expected_hw) for channel in range(3))


@pytest.mark.parametrize(
    "time_base", [MS, Fraction(1, 90000), Fraction(1001, 30000), Fraction(1, 25), Fraction(1, 1000000)], ids=str
)
@pytest.mark.parametrize("start", [0, 5])
def test_times_come_back_as_the_nearest_ticks(tmp_path: Path, time_base: Fraction, start: int) -> None:
    times = [start + time for time in UNEVEN]
    path = written(tmp_path / "a.mkv", noise(len(times), (8, 8)), times, time_base, 1 / (40 * time_base))
    assert [round(time_s / time_base) for _, time_s in read(path)] == times


def test_an_hour_is_an_hour(tmp_path: Path) -> None:
    times = [0, 3600 * 90000 + 1]
    path = written(tmp_path / "a.mkv", noise(2, (8, 8)), times, Fraction(1, 90000))
    assert [round(time_s * 90000) for _, time_s in read(path)] == times
    with av.open(str(path)) as file:
        assert file.duration / 1e6 > 3600


def test_ticks_finer_than_a_microsecond_still_rise(tmp_path: Path) -> None:
    path = written(tmp_path / "a.mkv", noise(3, (8, 8)), [0, 1, 2], Fraction(1, 90_000_000))
    times = [time_s for _, time_s in read(path)]
    assert times == sorted(set(times))


def test_labels_of_another_size_are_scaled_without_mixing_classes(tmp_path: Path) -> None:
    small = np.array([[1, 200], [7, 255]], np.uint8).repeat(24, axis=0).repeat(32, axis=1)
    large = small.repeat(2, axis=0).repeat(2, axis=1)
    labels = [labels_hw for labels_hw, _ in read(written(tmp_path / "a.mkv", [small, large], [0, 40]))]
    assert np.array_equal(labels[1], small)
    labels = [labels_hw for labels_hw, _ in read(written(tmp_path / "b.mkv", [large, small], [0, 40]))]
    assert np.array_equal(labels[1], large)


def test_labels_that_lie_elsewhere_in_memory_are_written_as_they_look(tmp_path: Path) -> None:
    wide = noise(1, (96, 128))[0]
    views = [wide[::2, ::2], wide[:48, 64:], np.asfortranarray(wide[:48, :64])]
    path = written(tmp_path / "a.mkv", views, [0, 40, 80])
    for (labels_hw, _), expected_hw in zip(read(path), views, strict=True):
        assert np.array_equal(labels_hw, expected_hw)


def test_what_are_no_labels_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    for bad in (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.int64), np.zeros((0, 4), np.uint8)):
        with pytest.raises(InputError, match="is no label map"):
            written(tmp_path / "a.mkv", [np.zeros((4, 4), np.uint8), bad], [0, 40])  # type: ignore[list-item]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError()], ids=lambda error: type(error).__name__)
def test_ctrl_c_keeps_what_was_written_and_another_error_does_not(tmp_path: Path, error: BaseException) -> None:
    pictures = noise(4, (48, 64))
    with pytest.raises(type(error)):
        written(tmp_path / "a.mkv", pictures, [0, 40, 80, 120], error=error)
    if isinstance(error, KeyboardInterrupt):
        kept = read(tmp_path / "a.mkv")
        assert [round(time_s / MS) for _, time_s in kept] == [0, 40, 80, 120]
        assert np.array_equal(kept[-1][0], pictures[-1])
    else:
        assert list(tmp_path.iterdir()) == []


WRITE_NOISE = """
import resource, sys
from fractions import Fraction
from pathlib import Path
import av, numpy as np
from isa_deploy.errors import InputError
from isa_deploy.runtime.label_video import LabelVideoWriter
av.logging.set_libav_level(av.logging.PANIC)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
noise = np.random.default_rng(0)
try:
    with LabelVideoWriter(Path(sys.argv[1]), Fraction(1, 25)) as writer:
        for number in range(int(sys.argv[3])):
            writer.write(noise.integers(0, 256, (96, 128), dtype=np.uint8), number)
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize(("limit", "frames"), [(200000, 200), (500, 1)], ids=["in the middle", "at the end"])
def test_labels_that_do_not_fit_on_the_disk_leave_nothing(tmp_path: Path, limit: int, frames: int) -> None:
    pytest.importorskip("resource", reason="needs a limit on file sizes in the place of a full disk: run on Unix")
    command: list[Any] = [sys.executable, "-c", WRITE_NOISE, tmp_path / "a.mkv", limit, frames]
    run = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    assert run.stdout.startswith(f"{tmp_path / 'a.mkv'}: cannot write the video")
    assert run.stdout.count("\n") == 1
    assert list(tmp_path.iterdir()) == []

"""The frames that INT8 is calibrated with: which are chosen, how they are shown, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from cheap_engine import cheap_manifest
from hypothesis import given
from hypothesis import strategies as st
from video_files import make_video

from isa_deploy.errors import InputError
from isa_deploy.export.calibration_frames import CalibrationSet, _spread, calibration_frames
from isa_deploy.manifest import InferenceSpec, InputSpec, Manifest, ResizeSpec
from isa_deploy.runtime.images import read_image, write_png

UInt8 = npt.NDArray[np.uint8]


def manifest(
    shape_nhw: tuple[int | None, int | None, int | None] = (None, None, None), scale_wh: tuple[int, int] | None = None
) -> Manifest:
    spec = cheap_manifest().input.model_dump() | {"shape_nhw": shape_nhw}
    spec["resize"] = None if scale_wh is None else ResizeSpec(scale_wh=scale_wh, keep_ratio=True)
    return cheap_manifest(input=InputSpec(**spec))


def noise(seed: int, height: int = 24, width: int = 32) -> UInt8:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def folder_of(path: Path, count: int) -> Path:
    for index in range(count):
        place = path / f"part{index % 2}"
        place.mkdir(parents=True, exist_ok=True)
        write_png(place / f"{index:03}.png", noise(index))
    return path


def chosen(source: Path, count: int = 8, of: Manifest | None = None) -> CalibrationSet:
    return calibration_frames(source, count, of or manifest())


@given(available=st.integers(1, 500), wanted=st.integers(1, 500))
def test_frames_are_spread_evenly(available: int, wanted: int) -> None:
    picked = _spread(available, wanted)
    assert len(picked) == min(available, wanted)
    assert picked == sorted(set(picked))
    gaps = np.diff([-1, *picked, available])
    assert max(gaps[1:-1], default=0) - min(gaps[1:-1], default=0) <= 1
    assert max(gaps[0], gaps[-1]) <= available // len(picked) + 1


def test_a_folders_pictures_come_in_order_each_when_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_of(tmp_path, 20)
    (tmp_path / "notes.txt").write_text("no picture")
    made = chosen(tmp_path, 10)
    assert made.names == tuple(sorted(made.names))
    assert {name.split("/")[0] for name in made.names} == {"part0", "part1"}
    assert len(made) == len(made.sizes_hw) == 10
    read: list[Path] = []

    def counting(path: Path) -> UInt8:
        read.append(path)
        return read_image(path)

    monkeypatch.setattr("isa_deploy.export.calibration_frames.read_image", counting)
    frames = made.frames(7)
    assert read == []
    assert np.array_equal(next(frames), read_image(tmp_path / made.names[7]))
    assert read == [tmp_path / made.names[7]]
    assert np.array_equal(made.frame(2), read_image(tmp_path / made.names[2]))
    assert len(list(made.frames(7))) == 3
    with pytest.raises(IndexError):
        made.frame(10)


def test_hidden_pictures_are_nobodys(tmp_path: Path) -> None:
    folder_of(tmp_path, 8)
    (tmp_path / ".cache").mkdir()
    for path in (tmp_path / ".hidden.png", tmp_path / ".cache" / "a.png"):
        write_png(path.with_name("a.png"), noise(99))
        path.with_name("a.png").rename(path)
    assert len(chosen(tmp_path, 100)) == 8


def test_frames_are_shown_at_the_test_scale_or_at_the_only_size(tmp_path: Path) -> None:
    folder_of(tmp_path, 8)
    assert set(chosen(tmp_path, of=manifest()).sizes_hw) == {(24, 32)}
    scaled = chosen(tmp_path, of=manifest(scale_wh=(64, 64)))
    assert set(scaled.sizes_hw) == {(48, 64)}
    expected = cv2.resize(read_image(tmp_path / scaled.names[0]), (64, 48), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(scaled.frame(0), expected)
    assert set(chosen(tmp_path, of=manifest((1, 16, 40), (64, 64))).sizes_hw) == {(16, 40)}


def test_a_model_of_windows_is_shown_windows_from_all_places(tmp_path: Path) -> None:
    inference = InferenceSpec(
        mode="slide", crop_hw=(16, 16), stride_hw=(8, 16), align_corners=False, windows_in_graph=False
    )
    for index in range(12):
        write_png(tmp_path / f"{index:02}.png", noise(index))
    made = chosen(tmp_path, 12, cheap_manifest(inference=inference))
    assert set(made.sizes_hw) == {(16, 16)}
    places = set()
    for name, shown in zip(made.names, made.frames(), strict=True):
        picture = read_image(tmp_path / name)
        corners = [(top, left) for top in (0, 8) for left in (0, 16)]
        places |= {
            (top, left) for top, left in corners if np.array_equal(picture[top : top + 16, left : left + 16], shown)
        }
    assert places == {(0, 0), (8, 0), (0, 16), (8, 16)}


def test_the_fingerprint_is_of_the_pixels_and_the_names_and_the_size_shown(tmp_path: Path) -> None:
    folder_of(tmp_path, 9)
    made = chosen(tmp_path, 9)
    assert chosen(tmp_path, 9).fingerprint == made.fingerprint
    assert chosen(tmp_path, 8).fingerprint != made.fingerprint
    assert chosen(tmp_path, 9, manifest((1, 16, 40))).fingerprint != made.fingerprint
    path = tmp_path / made.names[4]
    changed = read_image(path)
    changed[3, 3, 0] ^= 1
    write_png(path, changed)
    assert chosen(tmp_path, 9).fingerprint != made.fingerprint
    with pytest.raises(InputError, match="changed while it was in use"):
        list(made.frames())
    path.unlink()
    with pytest.raises(InputError, match="no such file"):
        list(made.frames())


def test_few_frames_are_noted_and_fewer_than_eight_refused(tmp_path: Path) -> None:
    folder_of(tmp_path / "eight", 8)
    assert any("8 frames are few" in note for note in chosen(tmp_path / "eight", 100).notes)
    folder_of(tmp_path / "many", 64)
    assert chosen(tmp_path / "many", 64).notes == ()
    folder_of(tmp_path / "seven", 7)
    with pytest.raises(InputError, match=r"only 7 different frames.*give at least 8"):
        chosen(tmp_path / "seven")
    with pytest.raises(InputError, match="7 calibration frames are too few; give at least 8"):
        chosen(tmp_path / "many", 7)


def test_broken_files_are_left_out_named_and_others_take_their_places(tmp_path: Path) -> None:
    folder_of(tmp_path, 16)
    whole = chosen(tmp_path)
    for name in whole.names[:3]:
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:100])
    made = chosen(tmp_path)
    assert len(made) == 8
    assert not set(made.names) & set(whole.names[:3])
    (note,) = [note for note in made.notes if "cannot be read" in note]
    assert note.startswith("3 files left out")
    assert all(name in note for name in whole.names[:3])


def test_a_folder_of_which_more_than_half_is_broken_is_refused(tmp_path: Path) -> None:
    folder_of(tmp_path, 30)
    for path in sorted(tmp_path.rglob("*.png"))[:16]:
        path.write_bytes(b"no picture")
    with pytest.raises(InputError, match="16 of 30 pictures cannot be used, more than half"):
        chosen(tmp_path, 30)


def test_repeated_pictures_count_once(tmp_path: Path) -> None:
    folder_of(tmp_path, 10)
    write_png(tmp_path / "copy.png", noise(0))
    made = chosen(tmp_path, 11)
    assert len(made) == 10
    assert any(note.startswith("1 frame left out, equal to another one") for note in made.notes)


@pytest.mark.parametrize("change", [0, 1])
def test_frames_that_all_show_the_same_are_refused(tmp_path: Path, change: int) -> None:
    """Copies, and a still camera's: nothing but one level in a few pixels differs."""
    for index in range(12):
        picture = np.full((24, 32, 3), 90, np.uint8)
        picture[index, 0, 0] += change
        write_png(tmp_path / f"{index:02}.png", picture)
    with pytest.raises(InputError, match="all 12 frames show the same"):
        chosen(tmp_path, 12)


def test_different_sizes_are_noted(tmp_path: Path) -> None:
    folder_of(tmp_path, 8)
    write_png(tmp_path / "wide.png", noise(99, 24, 60))
    made = chosen(tmp_path, 9, manifest((1, 16, 40)))
    assert set(made.sizes_hw) == {(16, 40)}
    assert any("frames of 2 sizes (24x32, 24x60)" in note for note in made.notes)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent", None, "no such file or folder"),
        ("notes.txt", b"text", "neither a folder nor a video"),
        ("one.png", b"\x89PNG", "neither a folder nor a video"),
        ("broken.mp4", b"no video at all", "not a video"),
    ],
)
def test_a_source_that_is_none_is_refused(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        chosen(tmp_path / name)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(InputError, match="holds no picture"):
        chosen(tmp_path)


# --- videos


def video_frames(path: Path) -> list[Any]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    return frames


def test_a_videos_frames_are_spread_over_it_and_read_again_from_any(tmp_path: Path) -> None:
    path = make_video(tmp_path / "drive.mp4", list(range(0, 4000, 40)))
    made = chosen(path, 10)
    assert len(made) == 10
    all_frames = video_frames(path)
    indices = [
        next(index for index, other in enumerate(all_frames) if np.array_equal(other, frame)) for frame in made.frames()
    ]
    assert set(np.diff(indices)) <= {9, 10, 11}
    assert indices[0] == 0
    assert indices[-1] >= 85
    again = list(made.frames(6))
    assert len(again) == 4
    assert all(np.array_equal(a, b) for a, b in zip(again, list(made.frames())[6:], strict=True))
    assert np.array_equal(made.frame(3), all_frames[indices[3]])
    assert made.names[0] == "drive.mp4 at 0.000 s"
    assert chosen(path, 10).fingerprint == made.fingerprint != chosen(path, 9).fingerprint


def test_a_short_video_gives_all_its_frames(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.avi", list(range(0, 480, 40)), codec="mjpeg", pixels="yuvj420p", options={"q": "2"})
    made = chosen(path, 100)
    assert len(made) == 12
    assert any("12 frames are few" in note for note in made.notes)


def test_a_video_that_does_not_tell_its_length_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video(tmp_path / "drive.mp4", list(range(0, 2000, 40)))
    from isa_deploy.runtime.video import VideoReader

    describe = VideoReader._describe

    def untold(self: VideoReader) -> None:
        describe(self)
        self.duration_s = self.frames = None

    monkeypatch.setattr(VideoReader, "_describe", untold)
    made = chosen(path, 10)
    assert made.names[1] == "drive.mp4 at 0.200 s"
    assert made.names[9] == "drive.mp4 at 1.800 s"


def test_a_nearly_constant_video_is_refused(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="needs PyAV: pip install 'isa-deploy[video]'")
    path = tmp_path / "still.mkv"
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "bgr0"
        for _ in range(20):
            picture = np.full((24, 32, 3), 90, np.uint8) + rng.integers(0, 2, (24, 32, 3), dtype=np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24").reformat(format="bgr0")))
        file.mux(stream.encode(None))
    with pytest.raises(InputError, match="all 20 frames show the same"):
        chosen(path, 20)


def test_another_video_under_the_same_name_is_noticed(tmp_path: Path) -> None:
    path = make_video(tmp_path / "drive.mp4", list(range(0, 2000, 40)))
    made = chosen(path, 10)
    make_video(path, list(range(0, 1000, 40)), (32, 32))
    with pytest.raises(InputError, match="changed while it was in use"):
        list(made.frames())

"""The frames that INT8 is calibrated with: chosen from a folder or a video, checked, and read one at a time."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from isa_deploy.errors import InputError
from isa_deploy.files import os_errors
from isa_deploy.manifest import Manifest
from isa_deploy.runtime.geometry import Geometry
from isa_deploy.runtime.images import IMAGE_SUFFIXES, read_image
from isa_deploy.runtime.preprocess import ResizeRule, resize_frame
from isa_deploy.runtime.video import VIDEO_SUFFIXES, VideoReader
from isa_deploy.runtime.video_range import VideoRange

__all__ = ["FEWEST_FRAMES", "CalibrationSet", "calibration_frames"]

UInt8 = npt.NDArray[np.uint8]

FEWEST_FRAMES = 8
"""Fewer do not show what values occur."""

ADVISED_FRAMES = 64

LEAST_DIFFERENCE = 1.0
"""Mean absolute difference, in levels of 255, below which two frames show the same: what noise alone makes."""

MS = Fraction(1, 1000)

NAMED = 5  # of a longer list, as many are named

Size = tuple[int, int]


@dataclass(frozen=True)
class CalibrationSet:
    """Frames that were looked at once and are read again one at a time; none is kept in memory.

    ``names``: of each frame: a picture's path inside its folder, or ``"drive.mp4 at 12.040 s"``.
    ``sizes_hw``: of each frame as it is shown to the network.  ``notes``: what a user should hear: files left out, few
    frames, different sizes.  ``fingerprint``: sha256 over names, sizes and pixels; another one means other frames.
    """

    names: tuple[str, ...]
    sizes_hw: tuple[Size, ...]
    notes: tuple[str, ...]
    fingerprint: str
    _digests: tuple[bytes, ...]
    _read: Callable[[int], Iterator[UInt8]]

    def __len__(self) -> int:
        return len(self.names)

    def frames(self, start: int = 0) -> Iterator[UInt8]:
        """The frames from one on, in order: uint8 H x W x 3, BGR, at the size that the network is shown.

        Pictures before ``start`` are not read; a video is decoded from its beginning.  Raises :class:`InputError` where
        a file is gone, or changed since it was looked at.
        """
        count = start
        for frame_hwc in self._read(start):
            if count == len(self) or _digest(frame_hwc) != self._digests[count]:
                break
            yield frame_hwc
            count += 1
        if count < len(self):
            raise InputError(f"{self.names[count]}: changed while it was in use; start the calibration again")

    def frame(self, index: int) -> UInt8:
        """One frame.  Of a video this decodes all before it: use :meth:`frames` for more than one."""
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        return next(self.frames(index))


def calibration_frames(source: Path, count: int, manifest: Manifest) -> CalibrationSet:
    """Choose frames, spread evenly over a folder of pictures (with the folders in it) or over a video.

    Frames come to the model's test scale, or to the only size that the graph takes.  Where the runtime cuts a frame
    into windows (mode slide), one window of each is taken, in turns, because windows are what the graph sees.
    Every frame is read once here.  Left out, with a note: files that cannot be read, and frames that were there
    already; other pictures of the folder take their places as long as there are any.

    Raises :class:`InputError` where ``count`` or what can be used is below :data:`FEWEST_FRAMES`, more than half of
    what was looked at is broken, all frames show the same, or the source is missing, empty or neither; and
    :class:`BackendUnavailableError` for a video where PyAV is not installed.
    """
    if count < FEWEST_FRAMES:
        raise InputError(f"{count} calibration frames are too few; give at least 8, a few hundred are better")
    shown = _Shown(manifest)
    with os_errors(source, "look for calibration frames"):
        is_folder, exists = source.is_dir(), source.exists()
    if is_folder:
        return _from_pictures(source, count, shown)
    if not exists:
        raise InputError(f"{source}: no such file or folder; give a folder of pictures or a video to calibrate with")
    if source.suffix.lower() not in VIDEO_SUFFIXES:
        raise InputError(
            f"{source}: neither a folder nor a video ({', '.join(sorted(VIDEO_SUFFIXES))}); "
            "give a folder of pictures or a video to calibrate with"
        )
    return _from_video(source, count, shown)


class _Shown:
    """A frame as the graph sees it."""

    def __init__(self, manifest: Manifest) -> None:
        windows = Geometry(manifest, "none").cuts_windows
        # the fixed size of a graph that takes windows is a window's
        rule: ResizeRule = "test" if windows or manifest.frame_hw is None else manifest.frame_hw
        self._geometry = Geometry(manifest, rule)

    def __call__(self, frame_hwc: UInt8, number: int) -> UInt8:
        """The frame resized, or one of its windows; ``number``: counts the frames, so that all windows have turns."""
        resized = resize_frame(frame_hwc, self._geometry.shown_size((frame_hwc.shape[0], frame_hwc.shape[1])))
        if not self._geometry.cuts_windows:
            return np.ascontiguousarray(resized)
        grid = self._geometry.windows((resized.shape[0], resized.shape[1]))
        # a step that walks through rows and columns alike
        top, bottom = grid.rows[number % len(grid.rows)]
        left, right = grid.cols[(number // len(grid.rows)) % len(grid.cols)]
        return np.ascontiguousarray(resized[top:bottom, left:right])


class _Choice:
    """Frames taken so far, without repetitions, and whether they all show the same."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._first: UInt8 | None = None
        self._differ = False
        self._digests: dict[bytes, None] = {}  # in the order of the names
        self.names: list[str] = []
        self.sizes: list[Size] = []
        self.given_sizes: Counter[Size] = Counter()
        self.repeated: list[str] = []

    def add(self, name: str, given_hw: Size, shown_hwc: UInt8) -> bool:
        """Take a frame; whether it was a new one."""
        digest = _digest(shown_hwc)
        if digest in self._digests:
            self.repeated.append(name)
            return False
        if self._first is None:
            self._first = shown_hwc
        self._differ = self._differ or _difference(self._first, shown_hwc) >= LEAST_DIFFERENCE
        self._digests[digest] = None
        self.names.append(name)
        self.sizes.append((shown_hwc.shape[0], shown_hwc.shape[1]))
        self.given_sizes[given_hw] += 1
        return True

    def finish(
        self, order: list[int], notes: list[str], read: Callable[[list[int]], Callable[[int], Iterator[UInt8]]]
    ) -> CalibrationSet:
        """The set, in the given order of what was taken; ``read`` makes its reader.  Raises :class:`InputError`."""
        usable = len(self.names)
        if usable and not self._differ and usable + len(self.repeated) > 1:
            raise InputError(
                f"{self._source}: all {usable + len(self.repeated)} frames show the same; calibrate with frames "
                "that differ as much as those in use"
            )
        if usable < FEWEST_FRAMES:
            left_out = f" ({'; '.join(notes)})" if notes else ""
            raise InputError(
                f"{self._source}: only {usable} different frames can be used{left_out}; give at least 8, a few hundred "
                "are better"
            )
        if self.repeated:
            notes.append(f"{_counted(self.repeated, 'frame')} left out, equal to another one: {_listed(self.repeated)}")
        if usable < ADVISED_FRAMES:
            notes.append(f"{usable} frames are few to calibrate with; a few hundred are better")
        if len(self.given_sizes) > 1:
            sizes = [f"{height}x{width}" for (height, width), _ in self.given_sizes.most_common()]
            notes.append(
                f"frames of {len(sizes)} sizes ({_listed(sizes)}): each is resized to what the network is shown"
            )
        digests = list(self._digests)
        names = tuple(self.names[index] for index in order)
        sizes_hw = tuple(self.sizes[index] for index in order)
        ordered = tuple(digests[index] for index in order)
        said = json.dumps([names, sizes_hw, [digest.hex() for digest in ordered]])
        fingerprint = hashlib.sha256(said.encode("utf-8", "surrogateescape")).hexdigest()
        return CalibrationSet(names, sizes_hw, tuple(notes), fingerprint, ordered, read(order))


def _from_pictures(folder: Path, count: int, shown: _Shown) -> CalibrationSet:
    paths = _pictures_in(folder)
    if not paths:
        raise InputError(
            f"{folder}: this folder holds no picture ({', '.join(sorted(IMAGE_SUFFIXES))}); name another one"
        )
    choice = _Choice(folder)
    taken: list[tuple[Path, int]] = []
    broken: list[str] = []
    reasons: list[str] = []
    waiting = list(range(len(paths)))
    looked_at = 0
    while waiting and len(taken) < count:
        picked = [waiting[index] for index in _spread(len(waiting), count - len(taken))]
        for number in picked:
            name = paths[number].relative_to(folder).as_posix()
            looked_at += 1
            try:
                frame_hwc = read_image(paths[number])
                shown_hwc = shown(frame_hwc, number)
            except InputError as error:
                broken.append(name)
                reasons.append(str(error))
                continue
            if choice.add(name, (frame_hwc.shape[0], frame_hwc.shape[1]), shown_hwc):
                taken.append((paths[number], number))
        if 2 * len(broken) > looked_at:
            raise InputError(
                f"{folder}: {len(broken)} of {looked_at} pictures cannot be used, more than half, the first because "
                f"{reasons[0]}"
            )
        gone = set(picked)
        waiting = [number for number in waiting if number not in gone]

    def reader(order: list[int]) -> Callable[[int], Iterator[UInt8]]:
        files = [taken[index] for index in order]
        return lambda start: (shown(read_image(path), number) for path, number in files[start:])

    notes = [f"{_counted(broken, 'file')} left out, which cannot be read: {_listed(broken)}"] if broken else []
    order = sorted(range(len(taken)), key=lambda index: taken[index][1])
    return choice.finish(order, notes, reader)


def _pictures_in(folder: Path) -> list[Path]:
    """The pictures in a folder and in those inside of it, sorted; nothing hidden."""
    with os_errors(folder, "list the folder"):
        found = [
            path
            for path in folder.rglob("*")
            if path.suffix.lower() in IMAGE_SUFFIXES
            and not any(part.startswith(".") for part in path.relative_to(folder).parts)
            and path.is_file()
        ]
    return sorted(found)


def _spread(available: int, wanted: int) -> list[int]:
    """At most ``wanted`` of the numbers below ``available``, evenly: the middles of as many equal parts."""
    if wanted >= available:
        return list(range(available))
    return [(2 * part + 1) * available // (2 * wanted) for part in range(wanted)]


def _from_video(path: Path, count: int, shown: _Shown) -> CalibrationSet:
    wanted = _video_range(path, count)
    choice = _Choice(path)
    kept: list[int] = []
    with VideoReader(path, wanted=wanted) as video:
        for frame in video:
            if len(kept) == count:
                break
            height, width, _ = frame.frame_hwc.shape
            name = f"{path.name} at {frame.time_s:.3f} s"
            if choice.add(name, (height, width), shown(frame.frame_hwc, frame.index)):
                kept.append(frame.index)
        damaged, expected = video.damaged, video.frames
    if expected is not None and 2 * damaged > expected:
        raise InputError(f"{path}: {damaged} of {expected} frames are damaged, more than half; give another video")

    def reader(order: list[int]) -> Callable[[int], Iterator[UInt8]]:
        indices = [kept[index] for index in order]
        return lambda start: _video_frames(path, wanted, frozenset(indices[start:]), shown)

    notes = [f"{damaged} damaged frames left out"] if damaged else []
    return choice.finish(list(range(len(kept))), notes, reader)


def _video_range(path: Path, count: int) -> VideoRange:
    """The frames of a video that are spread evenly: by its duration, or, where it tells none, by counting them."""
    with VideoReader(path) as video:
        duration_s, frames = video.duration_s, video.frames
        if duration_s and frames and frames > count:
            return VideoRange(rate=Fraction(count) / max(Fraction(duration_s).limit_denominator(1_000_000), MS))
        if duration_s and frames:
            return VideoRange()
        total = sum(1 for _ in video)
    return VideoRange(every=max(1, total // count))


def _video_frames(path: Path, wanted: VideoRange, indices: frozenset[int], shown: _Shown) -> Iterator[UInt8]:
    if not indices:
        return
    last = max(indices)
    with VideoReader(path, wanted=wanted) as video:
        for frame in video:
            if frame.index in indices:
                yield shown(frame.frame_hwc, frame.index)
            if frame.index == last:
                return


def _digest(frame_hwc: UInt8) -> bytes:
    digest = hashlib.sha256(str(frame_hwc.shape).encode())
    digest.update(np.ascontiguousarray(frame_hwc).data)
    return digest.digest()


def _difference(one_hwc: UInt8, other_hwc: UInt8) -> float:
    """Mean absolute difference, in levels of 255; of frames of two sizes more than any."""
    if one_hwc.shape != other_hwc.shape:
        return 256.0
    return float(cv2.norm(one_hwc, other_hwc, cv2.NORM_L1)) / one_hwc.size


def _counted(names: list[str], what: str) -> str:
    return f"{len(names)} {what}{'' if len(names) == 1 else 's'}"


def _listed(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")

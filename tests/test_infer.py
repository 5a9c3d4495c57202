"""isa-infer as a user meets it: results, names, bad input, interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from isa_deploy.cli import infer
from isa_deploy.cli.inference import Inference, LargeResult, Tally
from isa_deploy.cli.interruption import Interruption
from isa_deploy.cli.progress import open_progress
from isa_deploy.cli.results import products
from isa_deploy.cli.sources import Source, find_sources
from isa_deploy.cli.video_options import VideoOptions
from isa_deploy.errors import InputError
from isa_deploy.runtime.images import read_image
from isa_deploy.runtime.palette import colorize, overlay
from isa_deploy.runtime.segmenter import Segmenter
from isa_deploy.runtime.video import VideoReader
from isa_deploy.runtime.video_writer import VideoWriter

av = pytest.importorskip("av", reason="needs PyAV: pip install 'isa-deploy[video]'")

UInt8 = npt.NDArray[np.uint8]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], streets_onnx: Path) -> Run:
    """isa-infer with arguments, on the golden model: exit code, stdout, stderr."""

    def main(*arguments: str | Path, engine: Path = streets_onnx) -> tuple[int, str, str]:
        words = [str(argument) for argument in arguments]
        options = ["--engine", str(engine), "--backend", "onnxruntime", "--resize", "none"]
        monkeypatch.setattr(sys, "argv", ["isa-infer", *options, *words])
        capfd.readouterr()
        with pytest.raises(SystemExit) as leaving:
            infer.main()
        out, err = capfd.readouterr()
        assert isinstance(leaving.value.code, int)
        return leaving.value.code, out, err

    return main


@pytest.fixture
def segmenter(streets_onnx: Path) -> Segmenter:
    return Segmenter.open(streets_onnx, backend="onnxruntime", resize="none")


def small_image(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    cv2.imwrite(str(path), cv2.resize(noise, (72, 40), interpolation=cv2.INTER_CUBIC))
    return path


def small_video(path: Path, times_ms: list[int]) -> Path:
    with VideoWriter(path, Fraction(1, 1000)) as writer:
        for number, time_ms in enumerate(times_ms):
            noise = np.random.default_rng(number).integers(0, 256, (4, 6, 3), dtype=np.uint8)
            writer.write(np.asarray(cv2.resize(noise, (72, 40)), np.uint8), time_ms)
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def labels_of(path: Path) -> list[UInt8]:
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="gray") for frame in file.decode(video=0)]


def lines_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_image_gives_what_the_library_gives(run: Run, golden: Path, tmp_path: Path, segmenter: Segmenter) -> None:
    code, out, err = run(golden / "scene_0.png", "--out", tmp_path, "--mask", "--labels", "--stats", "--alpha", "0.3")
    assert code == 0, err
    assert out.startswith("1 image, 1 frame in ")
    assert names(tmp_path) == {"scene_0_overlay.png", "scene_0_mask.png", "scene_0_labels.png", "stats.jsonl"}
    frame_hwc = read_image(golden / "scene_0.png")
    labels_hw = segmenter.segment(frame_hwc)
    classes = segmenter.manifest.classes
    assert np.array_equal(cv2.imread(str(tmp_path / "scene_0_labels.png"), cv2.IMREAD_UNCHANGED), labels_hw)
    assert np.array_equal(read_image(tmp_path / "scene_0_mask.png"), colorize(labels_hw, classes.palette_rgb))
    expected = overlay(frame_hwc, labels_hw, classes.palette_rgb, 0.3)
    assert np.array_equal(read_image(tmp_path / "scene_0_overlay.png"), expected)
    (line,) = lines_of(tmp_path / "stats.jsonl")
    assert line["input"] == str(golden / "scene_0.png")
    assert line["frame"] is None
    shares = line["shares"]
    assert isinstance(shares, dict)
    assert shares["road"] == pytest.approx(np.mean(labels_hw == classes.names.index("road")), abs=1e-6)
    assert sum(shares.values()) == pytest.approx(1, abs=1e-5)


def test_a_video_keeps_its_uneven_times_in_all_results(run: Run, tmp_path: Path, segmenter: Segmenter) -> None:
    times_ms = [0, 33, 40, 120, 500]
    source = small_video(tmp_path / "drive.mp4", times_ms)
    out = tmp_path / "out"
    code, _, err = run(source, "--out", out, "--mask", "--labels", "--stats", "--legend")
    assert code == 0, err
    assert names(out) == {"drive_overlay.mp4", "drive_mask.mp4", "drive_labels.mkv", "stats.jsonl"}
    for name in ("drive_overlay.mp4", "drive_mask.mp4", "drive_labels.mkv"):
        with VideoReader(out / name) as reader:
            assert [frame.pts * reader.time_base for frame in reader] == [Fraction(t, 1000) for t in times_ms]
    assert [line["time_s"] for line in lines_of(out / "stats.jsonl")] == [t / 1000 for t in times_ms]
    assert [line["frame"] for line in lines_of(out / "stats.jsonl")] == [0, 1, 2, 3, 4]
    with VideoReader(source) as reader:
        expected = [segmenter.segment(frame.frame_hwc) for frame in reader]
    written = labels_of(out / "drive_labels.mkv")
    assert len(written) == len(expected)
    for labels_hw, expected_hw in zip(written, expected, strict=True):
        assert np.array_equal(labels_hw, expected_hw)


def test_a_part_of_two_videos_side_by_side(run: Run, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'isa-deploy[parquet]'")
    drives = [small_video(tmp_path / f"{name}.mp4", list(range(0, 1000, 40))) for name in ("cam0", "cam1")]
    out = tmp_path / "out"
    choice = ["--start", "0.2", "--end", "0:00.8", "--every", "2", "--fps", "5", "--smooth", "3"]
    code, told, err = run(*drives, "--batch", "--out", out, "--labels", "--stats", "--stats-format", "parquet", *choice)
    assert code == 0, err
    assert told.startswith("2 videos, 6 frames in ")
    assert names(out) == {
        *("cam0_overlay.mp4", "cam0_labels.mkv", "cam1_overlay.mp4", "cam1_labels.mkv", "stats.parquet"),
    }
    table = parquet.read_table(out / "stats.parquet").to_pydict()
    assert table["input"] == [str(path) for path in drives for _ in range(3)]
    assert table["time_s"] == pytest.approx([0.2, 0.44, 0.6] * 2)
    assert len(labels_of(out / "cam1_labels.mkv")) == 3


def test_folders_and_globs_stand_for_their_files(run: Run, tmp_path: Path) -> None:
    for name in ("photos/b.png", "photos/a.jpg", "photos/.hidden.png", "more/deep/er/c.png"):
        small_image(tmp_path / name)
    (tmp_path / "photos" / "notes.txt").write_text("not an image")
    small_video(tmp_path / "more" / "d.mp4", [0, 40])
    code, out, _ = run(tmp_path / "photos", f"{tmp_path}/more/**/*.*", "--out", tmp_path / "out")
    assert code == 0
    assert out.startswith("3 images and 1 video, 5 frames")
    assert names(tmp_path / "out") == {"a_overlay.png", "b_overlay.png", "c_overlay.png", "d_overlay.mp4"}


def test_an_input_named_twice_is_done_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = small_image(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    sources = find_sources([str(tmp_path), "a.png", f"{tmp_path}/*.png"])
    assert [source.path for source in sources] == [image]


def test_inputs_of_one_stem_get_different_names(tmp_path: Path) -> None:
    for name in ("one/a.png", "two/a.png", "two/a.jpg", "two/b.png"):
        small_image(tmp_path / name)
    sources = find_sources([str(tmp_path / "one"), str(tmp_path / "two")])
    assert {str(source.path.relative_to(tmp_path)): source.name for source in sources} == {
        "one/a.png": "one_a.png",
        "two/a.jpg": "a.jpg",
        "two/a.png": "two_a.png",
        "two/b.png": "b",
    }


def test_inputs_that_no_name_tells_apart_are_an_error(tmp_path: Path) -> None:
    for name in ("x/frames/a.png", "y/frames/a.png"):
        small_image(tmp_path / name)
    with pytest.raises(InputError, match="would have one name"):
        find_sources([f"{tmp_path}/*/frames/*.png"])


@pytest.mark.parametrize("address", ["rtsp://u:geheim@camera/stream", "rtsp://u:geheim@[fe80::1]/*"])
def test_a_camera_without_live_is_told_of_it_and_its_password_is_not_shown(address: str) -> None:
    with pytest.raises(InputError, match="rtsp://: an address is a camera's; add --live") as caught:
        find_sources([address])
    assert "geheim" not in str(caught.value)


def test_a_result_never_replaces_an_input(run: Run, tmp_path: Path) -> None:
    small_image(tmp_path / "a.png")
    before = small_image(tmp_path / "a_overlay.png").read_bytes()
    code, _, err = run(tmp_path, "--out", tmp_path)
    assert code == 2
    assert "is an input and would be replaced" in err
    assert (tmp_path / "a_overlay.png").read_bytes() == before
    assert names(tmp_path) == {"a.png", "a_overlay.png"}


def test_results_of_an_earlier_run_are_replaced(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    source = small_video(tmp_path / "a.mp4", [0, 40, 80])
    assert run(source, "--out", out, "--labels", "--stats")[0] == 0
    small_video(source, [0, 40])
    assert run(source, "--out", out, "--labels", "--stats")[0] == 0
    assert names(out) == {"a_overlay.mp4", "a_labels.mkv", "stats.jsonl"}
    assert len(labels_of(out / "a_labels.mkv")) == 2
    assert len(lines_of(out / "stats.jsonl")) == 2


def test_one_bad_image_among_many_is_reported_and_the_others_are_done(run: Run, tmp_path: Path) -> None:
    for name in ("a.png", "c.png"):
        small_image(tmp_path / "in" / name)
    (tmp_path / "in" / "b.png").write_bytes(b"")
    code, out, err = run(tmp_path / "in", "--out", tmp_path / "out")
    assert code == 1
    assert "b.png: the file is empty (0 bytes)" in err
    assert "1 input could not be used" in out
    assert names(tmp_path / "out") == {"a_overlay.png", "c_overlay.png"}


def test_all_inputs_bad_is_code_2(run: Run, tmp_path: Path) -> None:
    for name in ("a.png", "b.mp4"):
        (tmp_path / name).write_bytes(b"")
    code, out, err = run(tmp_path / "a.png", tmp_path / "b.mp4", "--out", tmp_path / "out")
    assert code == 2
    assert out == ""
    assert "none of the 2 inputs could be used" in err
    assert names(tmp_path) == {"a.png", "b.mp4"}


def cannot_run(folder: Path) -> dict[str, list[str | Path]]:
    good = small_image(folder / "good.png")
    (folder / "empty.png").write_bytes(b"")
    (folder / "none.mp4").write_bytes(b"RIFF")
    (folder / "a.xyz").write_text("")
    (folder / "bare").mkdir()
    cv2.imwrite(str(folder / "large.png"), np.zeros((1001, 1000), np.uint8))
    out: list[str | Path] = ["--out", folder / "out"]
    return {
        "empty (0 bytes)": [folder / "empty.png", *out, "--stats"],
        "1 million that are read at once; use --tiling tiles, or allow more with --max-pixels": [
            *(folder / "large.png", *out),
            *("--tiling", "whole", "--max-pixels", "1"),
        ],
        "not a video": [folder / "none.mp4", *out, "--labels"],
        "no such file": [good, folder / "missing.png", *out],
        "no image and no video matches": [f"{folder}/*.jpeg", *out],
        "neither an image": [folder / "a.xyz", *out],
        "holds no image": [folder / "bare", *out],
        "a file has its name": [good, "--out", folder / "a.xyz"],
        "a part of the path is a file": [good, "--out", folder / "a.xyz" / "below"],
        "none of: test, none": [good, *out, "--resize", "3"],
        "--start ten: no time": [good, *out, "--start", "ten"],
        "is not after --start 5": [good, *out, "--start", "5", "--end", "0:04"],
        "--fps 0: ": [good, *out, "--fps", "0"],
        "none of: jsonl, parquet": [good, *out, "--stats", "--stats-format", "csv"],
        "--alpha": [good, *out, "--alpha", "1.5"],
    }


def test_what_cannot_run_is_one_line_and_code_2_and_leaves_nothing(run: Run, tmp_path: Path) -> None:
    cases = cannot_run(tmp_path)
    before = names(tmp_path)
    for words, arguments in cases.items():
        code, out, err = run(*arguments)
        assert code == 2, words
        assert out == ""
        assert words in err
        assert "Traceback" not in err
        if "--alpha" not in arguments:
            (line,) = [line for line in err.splitlines() if not line.startswith("[")]
            assert line.startswith("isa-infer: error: ")
        assert names(tmp_path) == before, words


def test_an_engine_that_is_missing_leaves_no_output_folder(run: Run, tmp_path: Path) -> None:
    code, _, err = run(small_image(tmp_path / "a.png"), "--out", tmp_path / "out", engine=tmp_path / "none")
    assert code == 2
    assert err.startswith("isa-infer: error: ")
    assert names(tmp_path) == {"a.png"}


def test_an_unexpected_error_is_one_line_and_code_1(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> UInt8:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(Segmenter, "segment", fail)
    image = small_image(tmp_path / "a.png")
    code, _, err = run(image, "--out", tmp_path / "out")
    assert code == 1
    assert err.splitlines()[-1].startswith("isa-infer: error: unexpected RuntimeError: two lines")
    assert "Traceback" not in err
    assert "--debug" in err
    code, _, err = run(image, "--out", tmp_path / "out", "--debug")
    assert code == 1
    assert "Traceback" in err
    assert names(tmp_path) == {"a.png"}


def test_a_disk_that_is_full_stops_the_run_and_leaves_only_whole_files(tmp_path: Path, streets_onnx: Path) -> None:
    pytest.importorskip("resource", reason="needs a limit on file sizes in the place of a full disk: run on Unix")
    small_video(tmp_path / "a.mp4", list(range(0, 12000, 40)))
    program = (
        "import resource, sys; from isa_deploy.cli.infer import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))\n"
        "main()"
    )
    options = ["--engine", str(streets_onnx), "--out", "out", "--resize", "none", "--stats", "--labels", "--mask"]
    done = subprocess.run(
        [sys.executable, "-c", program, "a.mp4", *options, "--backend", "onnxruntime"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "cannot write" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "a.mp4"]


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        if condition() or process.poll() is not None:
            return
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interruption_leaves_playable_files_and_code_130(
    tmp_path: Path, streets_onnx: Path, number: signal.Signals
) -> None:
    source = small_video(tmp_path / "a.mp4", list(range(0, 80000, 40)))
    out = tmp_path / "out"
    command = [sys.executable, "-c", "from isa_deploy.cli.infer import main; main()", str(source), "--out", str(out)]
    options = ["--engine", str(streets_onnx), "--backend", "onnxruntime", "--resize", "none", "--stats", "--labels"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: sum(path.stat().st_size for path in out.glob(".isa-*.mkv")) > 2000, process)
        os.kill(process.pid, number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted after" in err
    assert "Traceback" not in err
    assert names(out) == {"a_overlay.mp4", "a_labels.mkv", "stats.jsonl"}
    with VideoReader(out / "a_overlay.mp4") as reader:
        frames = len(list(reader))
    assert 3 <= frames < 2000
    assert len(lines_of(out / "stats.jsonl")) == frames == len(labels_of(out / "a_labels.mkv"))


CTRL_C_TWICE = """
import signal
from isa_deploy.cli.interruption import Interruption
before = signal.getsignal(signal.SIGINT)
with Interruption() as interruption:
    interruption.check()
    signal.raise_signal(signal.SIGINT)
    print("still running")
    try:
        interruption.check()
    except KeyboardInterrupt:
        print("ended at the check")
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        print("ended at once")
print(signal.getsignal(signal.SIGINT) is before)
"""


def test_a_first_ctrl_c_waits_for_the_frame_and_a_second_does_not() -> None:
    """In a process of its own: a test runner's worker has handlers, and threads, of its own."""
    done = subprocess.run([sys.executable, "-c", CTRL_C_TWICE], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["still running", "ended at the check", "ended at once", "True"]


class AllAtOnce:
    """In the place of the pictures in tiles: no picture is one."""

    def takes(self, path: Path) -> bool:
        return False

    def infer(self, source: Source) -> LargeResult:
        raise AssertionError("not taken")


def test_an_engine_that_takes_rgb_gets_rgb(tmp_path: Path, segmenter: Segmenter) -> None:
    image = small_image(tmp_path / "a.png")
    swapped = segmenter.segment(np.ascontiguousarray(read_image(image)[..., ::-1]))
    graph_input = segmenter.manifest.input.model_copy(update={"colour_order": "RGB"})
    segmenter.manifest = segmenter.manifest.model_copy(update={"input": graph_input})
    wanted = products(segmenter.manifest.classes, 0.5, legend=False, mask=False, labels=True)
    with open_progress(1) as progress, Interruption() as interruption:
        run = Inference(segmenter, wanted, tmp_path, None, progress, interruption, Tally(), VideoOptions(), AllAtOnce())
        run.run(find_sources([str(image)]))
    assert np.array_equal(cv2.imread(str(tmp_path / "a_labels.png"), cv2.IMREAD_UNCHANGED), swapped)


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_load_no_engine(option: str) -> None:
    program = (
        "import sys; from isa_deploy.cli.infer import main\n"
        "try: main()\n"
        "finally: print([name for name in ('cv2', 'av', 'onnxruntime', 'openvino', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program, option], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")
    if option == "--help":
        for words in ("Examples:", "Exit codes:", "130", "[default: isa-out]"):
            assert words in " ".join(done.stdout.split())


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's; a POSIX system runs it")
def test_ctrl_c_held_down_ends_with_130_and_no_traceback(streets_onnx: Path, tmp_path: Path) -> None:
    source = small_video(tmp_path / "long.mp4", [40 * number for number in range(600)])
    line = [sys.executable, "-c", "from isa_deploy.cli.infer import main; main()", str(source)]
    options = ["--engine", str(streets_onnx), "--backend", "onnxruntime", "--resize", "none", "--labels"]
    with subprocess.Popen(
        [*line, *options, "--out", str(tmp_path / "out")], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None and not list(tmp_path.glob("out/.isa-*.mkv")):
            time.sleep(0.02)
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            time.sleep(0.02)
        assert process.stderr is not None
        err = process.stderr.read()
    assert process.returncode == 130, err
    assert "Traceback" not in err

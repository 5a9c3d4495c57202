"""The statistics of isa-infer: shares, both formats, several inputs, and what failures leave."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isa_deploy.cli.sources import Source
from isa_deploy.cli.statistics import ROWS_AT_ONCE, ClassShares, Statistics, count_labels, open_statistics
from isa_deploy.errors import BackendUnavailableError, InputError

NAMES = ("road", "car", "road")


def source(name: str) -> Source:
    return Source(Path(name), "video", Path(name).stem)


def counts(*labels: int) -> npt.NDArray[np.int64]:
    return count_labels(np.array([labels], np.uint8))


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def table_of(path: Path) -> dict[str, list[Any]]:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'isa-deploy[parquet]'")
    columns: dict[str, list[Any]] = parquet.read_table(path).to_pydict()
    return columns


def test_shares_add_up_and_name_what_has_no_class() -> None:
    shares = ClassShares(NAMES)
    assert shares.columns == ("road", "car", "unlabelled")
    assert shares.of(counts(0, 0, 1, 2, 2, 3, 255, 255)).tolist() == [0.5, 0.125, 0.375]


def test_a_class_that_is_called_unlabelled_is_counted_with_what_has_none() -> None:
    shares = ClassShares(("unlabelled", "road"))
    assert shares.columns == ("unlabelled", "road")
    assert shares.of(counts(0, 1, 1, 9)).tolist() == [0.5, 0.5]


@given(st.binary(min_size=1, max_size=300))
def test_labels_are_counted(labels: bytes) -> None:
    expected = [labels.count(label) for label in range(256)]
    assert count_labels(np.frombuffer(labels, np.uint8)[None]).tolist() == expected


def test_labels_are_counted_in_pictures_larger_than_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isa_deploy.cli.statistics.COUNTED_PIXELS", 100)
    labels_hw = np.arange(25 * 41, dtype=np.int64).reshape(25, 41).astype(np.uint8)
    assert count_labels(labels_hw).tolist() == np.bincount(labels_hw.ravel(), minlength=256).tolist()


def test_json_lines_have_the_classes_present(tmp_path: Path) -> None:
    with open_statistics(tmp_path, "jsonl") as statistics:
        with statistics.one_input(source("drive.mp4"), NAMES) as rows:
            rows.write(counts(0, 1), 0, 0.0)
            rows.write(counts(1, 1), 1, 1 / 3)
        with statistics.one_input(source("a.png"), NAMES) as rows:
            rows.write(counts(255, 0, 0))
    assert lines_of(tmp_path / "stats.jsonl") == [
        {"input": "drive.mp4", "frame": 0, "time_s": 0.0, "shares": {"road": 0.5, "car": 0.5}},
        {"input": "drive.mp4", "frame": 1, "time_s": 0.333333, "shares": {"car": 1.0}},
        {"input": "a.png", "frame": None, "time_s": None, "shares": {"road": 0.666667, "unlabelled": 0.333333}},
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["stats.jsonl"]


def test_parquet_has_a_column_for_each_class(tmp_path: Path) -> None:
    with open_statistics(tmp_path, "parquet") as statistics:
        with statistics.one_input(source("drive.mp4"), NAMES) as rows:
            rows.write(counts(0, 1), 0, 0.0)
            rows.write(counts(1, 1), 1, 1 / 3)
        with statistics.one_input(source("a.png"), NAMES) as rows:
            rows.write(counts(255, 0, 0, 0))
    assert table_of(tmp_path / "stats.parquet") == {
        "input": ["drive.mp4", "drive.mp4", "a.png"],
        "frame": [0, 1, None],
        "time_s": [0.0, 1 / 3, None],
        "share_road": [0.5, 0.0, 0.75],
        "share_car": [0.5, 1.0, 0.0],
        "share_unlabelled": [0.0, 0.0, 0.25],
    }
    assert [path.name for path in tmp_path.iterdir()] == ["stats.parquet"]


def test_a_long_video_is_streamed_in_row_groups(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'isa-deploy[parquet]'")
    frames = 2 * ROWS_AT_ONCE + 7
    with (
        open_statistics(tmp_path, "parquet") as statistics,
        statistics.one_input(source("drive.mp4"), NAMES) as rows,
    ):
        for frame in range(frames):
            rows.write(counts(0, 1), frame, frame / 25)
    file = parquet.ParquetFile(tmp_path / "stats.parquet")
    assert file.metadata.num_row_groups == 3
    assert file.read()["frame"].to_pylist() == list(range(frames))


def test_many_images_share_a_row_group(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'isa-deploy[parquet]'")
    with open_statistics(tmp_path, "parquet") as statistics:
        for number in range(50):
            with statistics.one_input(source(f"{number}.png"), NAMES) as rows:
                rows.write(counts(0))
    assert parquet.ParquetFile(tmp_path / "stats.parquet").metadata.num_row_groups == 1


def test_a_name_that_is_no_text_is_written_with_its_bytes(tmp_path: Path) -> None:
    name = b"\xff.mp4".decode("utf-8", "surrogateescape")
    for stats_format in ("jsonl", "parquet"):
        with open_statistics(tmp_path, stats_format) as statistics, statistics.one_input(source(name), NAMES) as rows:
            rows.write(counts(0), 0, 0.0)
    (line,) = (tmp_path / "stats.jsonl").read_text().splitlines()
    assert "dcff" in line
    assert "dcff" in table_of(tmp_path / "stats.parquet")["input"][0]


def write_input(statistics: Statistics, name: str, frames: int, error: BaseException | None = None) -> None:
    with statistics.one_input(source(name), NAMES) as rows:
        for frame in range(frames):
            rows.write(counts(0), frame, 0.0)
        if error is not None:
            raise error


@pytest.mark.parametrize("stats_format", ["jsonl", "parquet"])
def test_an_input_that_fails_midway_leaves_no_row(tmp_path: Path, stats_format: str) -> None:
    with open_statistics(tmp_path, stats_format) as statistics:
        write_input(statistics, "a.mp4", 2)
        with pytest.raises(InputError, match="broken"):
            write_input(statistics, "b.mp4", 3, InputError("broken"))
        write_input(statistics, "c.mp4", 1)
    path = tmp_path / f"stats.{stats_format}"
    inputs = table_of(path)["input"] if stats_format == "parquet" else [line["input"] for line in lines_of(path)]
    assert inputs == ["a.mp4", "a.mp4", "c.mp4"]


def test_inputs_side_by_side_keep_their_rows_together(tmp_path: Path) -> None:
    with (
        open_statistics(tmp_path, "jsonl") as statistics,
        statistics.one_input(source("a.mp4"), NAMES) as first,
        statistics.one_input(source("b.mp4"), NAMES) as second,
    ):
        for frame in range(3):
            first.write(counts(0), frame, 0.0)
            second.write(counts(1), frame, 0.0)
    lines = lines_of(tmp_path / "stats.jsonl")
    assert [(line["input"], line["frame"]) for line in lines] == [
        *(("b.mp4", frame) for frame in range(3)),
        *(("a.mp4", frame) for frame in range(3)),
    ]


def run_and_fail(folder: Path, stats_format: str, error: BaseException) -> None:
    with open_statistics(folder, stats_format) as statistics:
        write_input(statistics, "a.mp4", 2)
        write_input(statistics, "b.mp4", 2, error)


@pytest.mark.parametrize("stats_format", ["jsonl", "parquet"])
def test_ctrl_c_keeps_the_rows_so_far_and_another_error_does_not(tmp_path: Path, stats_format: str) -> None:
    path = tmp_path / f"stats.{stats_format}"
    with pytest.raises(KeyboardInterrupt):
        run_and_fail(tmp_path, stats_format, KeyboardInterrupt())
    rows = len(table_of(path)["input"]) if stats_format == "parquet" else len(lines_of(path))
    assert rows == 4
    before = path.read_bytes()
    with pytest.raises(ValueError, match="x"):
        run_and_fail(tmp_path, stats_format, ValueError("x"))
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("stats_format", ["jsonl", "parquet"])
def test_without_a_row_there_is_no_file(tmp_path: Path, stats_format: str) -> None:
    with open_statistics(tmp_path, stats_format):
        pass
    assert list(tmp_path.iterdir()) == []


def test_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--stats-format csv: none of: jsonl, parquet"):
        open_statistics(tmp_path, "csv")


def test_a_missing_pyarrow_names_the_install_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BackendUnavailableError, match=r"pip install 'isa-deploy\[parquet\]'"):
        open_statistics(tmp_path, "parquet")
    open_statistics(tmp_path, "jsonl")


FULL = """
import resource, sys
from pathlib import Path
from isa_deploy.errors import InputError
from test_statistics import NAMES, counts, source
from isa_deploy.cli.statistics import open_statistics
if sys.argv[2] == "parquet":
    import pyarrow.parquet
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
try:
    with open_statistics(Path(sys.argv[1]), sys.argv[2]) as statistics:
        with statistics.one_input(source("a.mp4"), NAMES) as rows:
            for frame in range(int(sys.argv[3])):
                rows.write(counts(0), frame, frame / 25)
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize("frames", [100, 100_000], ids=["at the end", "in the middle"])
@pytest.mark.parametrize("stats_format", ["jsonl", "parquet"])
def test_statistics_that_do_not_fit_on_the_disk_leave_nothing(tmp_path: Path, stats_format: str, frames: int) -> None:
    pytest.importorskip("resource", reason="needs a limit on file sizes in the place of a full disk: run on Unix")
    if stats_format == "parquet":
        pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'isa-deploy[parquet]'")
    command = [sys.executable, "-c", FULL, str(tmp_path), stats_format, str(frames)]
    here = Path(__file__).parent
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=here)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(f"{tmp_path / f'stats.{stats_format}'}: cannot write")
    assert run.stdout.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


FULL_AND_FAILED = """
import resource, sys
from pathlib import Path
from isa_deploy.errors import InputError
from test_statistics import NAMES, counts, source
from isa_deploy.cli import statistics as module
module.SPOOLED_BYTES = 500  # so that the rows are in a file, and the last of them in its buffer
resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))
try:
    with module.open_statistics(Path(sys.argv[1]), "jsonl") as statistics:
        with statistics.one_input(source("a.mp4"), NAMES) as rows:
            for frame in range(40):
                rows.write(counts(0), frame, frame / 25)
            raise InputError("the video does not fit")
except InputError as error:
    print(error)
"""


def test_a_full_disk_is_told_of_by_who_met_it_first(tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="needs a limit on file sizes in the place of a full disk: run on Unix")
    command = [sys.executable, "-c", FULL_AND_FAILED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    assert (done.returncode, done.stdout) == (0, "the video does not fit\n"), done.stderr
    assert list(tmp_path.iterdir()) == []

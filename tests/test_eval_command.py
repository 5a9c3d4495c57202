"""isa-eval as a user meets it: the figures, the files, what is left out, bad input, interruption."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from cheap_engine import cheap_manifest, cheap_segmenter
from miniature_datasets import CITYSCAPES_IDS, build_cityscapes, build_folder, build_voc, drawn_scene, write_picture

pytest.importorskip("PIL", reason="the data sets are written with Pillow: pip install 'isa-deploy[dev]'")
pytest.importorskip("jinja2", reason="isa-eval writes its page with jinja2: pip install 'isa-deploy[eval]'")
pytest.importorskip("onnxruntime", reason="evaluates in ONNX Runtime: pip install 'isa-deploy[cpu]'")

from isa_deploy.cli import eval as cli
from isa_deploy.cli.evaluation import find_published, warn_of_pictures
from isa_deploy.evaluate.datasets import open_dataset
from isa_deploy.evaluate.evaluation import evaluate
from isa_deploy.evaluate.prediction import PlainPredictor
from isa_deploy.evaluate.record import Way
from isa_deploy.manifest import Manifest, ResizeSpec, SourceSpec
from isa_deploy.models.cards import load_cards
from isa_deploy.runtime.images import read_image
from isa_deploy.runtime.segmenter import Segmenter
from isa_deploy.runtime.tiling import Tiling

UInt8 = npt.NDArray[np.uint8]
Run = Callable[..., tuple[int, str, str]]

VOID = 255
SCENES = 2
TILE = 256


def in_process(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: str | Path
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["isa-eval", *map(str, arguments)])
    capfd.readouterr()
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    out, err = capfd.readouterr()
    assert isinstance(leaving.value.code, int)
    return leaving.value.code, out, err


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """isa-eval with arguments on an engine of 8 classes that costs nothing: exit code, stdout, stderr."""
    monkeypatch.setattr(Segmenter, "open", lambda *_, **__: cheap_segmenter())
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: in_process(monkeypatch, capfd, "--engine", "cheap", *arguments)


@pytest.fixture
def run_streets(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], streets_onnx: Path) -> Run:
    """isa-eval with arguments on the golden model: exit code, stdout, stderr."""
    engine = ["--engine", str(streets_onnx), "--backend", "onnxruntime", "--dataset", "cityscapes"]
    return lambda *arguments: in_process(monkeypatch, capfd, *engine, *arguments)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four pictures of 8 classes, with labels."""
    scenes = [drawn_scene(seed, 8) for seed in range(4)]
    build_folder(tmp_path / "mine", [frame for frame, _ in scenes], [truth for _, truth in scenes])
    return tmp_path / "mine"


def small_scene(golden: Path) -> tuple[UInt8, UInt8]:
    """A part of a golden scene."""
    truth = cv2.imread(str(golden / "scene_0_gt.png"), cv2.IMREAD_UNCHANGED)
    return read_image(golden / "scene_0.png")[64:128, 128:256].copy(), np.asarray(truth, np.uint8)[64:128, 128:256]


def naive_scores(pairs: list[tuple[UInt8, UInt8]], classes: int) -> dict[str, Any]:
    """IoUMetric, class by class and with sets of pixels: of pairs of truth and labels."""
    correct, truth_pixels, predicted = ([0] * classes for _ in range(3))
    for truth, labels in pairs:
        counts = truth != VOID
        for label in range(classes):
            correct[label] += int((counts & (truth == label) & (labels == label)).sum())
            truth_pixels[label] += int((counts & (truth == label)).sum())
            predicted[label] += int((counts & (labels == label)).sum())
    union = [t + p - c for c, t, p in zip(correct, truth_pixels, predicted, strict=True)]
    iou = [c / u if u else math.nan for c, u in zip(correct, union, strict=True)]
    acc = [c / t if t else math.nan for c, t in zip(correct, truth_pixels, strict=True)]
    return {
        "iou": iou,
        "acc": acc,
        "miou": float(np.nanmean(iou)),
        "macc": float(np.nanmean(acc)),
        "aacc": sum(correct) / sum(truth_pixels),
    }


def numbers(values: list[float | str]) -> list[float]:
    """Scores of eval.json, in which "nan" is a string."""
    assert all(isinstance(value, float) or value == "nan" for value in values)
    return [float(value) for value in values]


def read_record(out: Path) -> dict[str, Any]:
    assert sorted(path.name for path in out.iterdir()) == ["eval.html", "eval.json"]

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    record: dict[str, Any] = json.loads((out / "eval.json").read_text(encoding="utf-8"), parse_constant=refuse)
    return record


def resizing_manifest(scale_wh: tuple[int, int] | None, **changes: Any) -> Manifest:
    """Of a model whose test scale is a box, width and height, or None."""
    resize = None if scale_wh is None else ResizeSpec(scale_wh=scale_wh, keep_ratio=True)
    return cheap_manifest(input=cheap_manifest().input.model_copy(update={"resize": resize}), **changes)


Streets = tuple[subprocess.CompletedProcess[str], dict[str, Any], str, list[UInt8]]


@pytest.fixture(scope="module")
def streets(streets_onnx: Path, golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Streets:
    """One run of the command on a miniature Cityscapes of golden scenes, also in tiles: what it printed and wrote.

    One more image has no labels, one more label file no image.
    """
    base = tmp_path_factory.mktemp("eval")
    frames = [read_image(golden / f"scene_{number}.png") for number in range(SCENES + 1)]
    truths = [cv2.imread(str(golden / f"scene_{number}_gt.png"), cv2.IMREAD_UNCHANGED) for number in range(SCENES)]
    build_cityscapes(base / "data", frames, [*truths, None])
    extra = base / "data/gtFine/val/lindau/lindau_000009_000019_gtFine_labelIds.png"
    write_picture(extra, np.zeros((4, 4), np.uint8))
    words = ["--engine", streets_onnx, "--dataset", "cityscapes", "--root", base / "data", "--out", base / "out"]
    words += ["--backend", "onnxruntime", "--resize", "none", "--tiling", "tiles", "--tile", f"{TILE}x{TILE}"]
    command = [sys.executable, "-c", "from isa_deploy.cli.eval import main; main()", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done, read_record(base / "out"), (base / "out/eval.html").read_text(encoding="utf-8"), truths


@pytest.fixture(scope="module")
def expected(streets: Streets, streets_onnx: Path, golden: Path) -> list[dict[str, Any]]:
    """The same figures by another way: one picture after the other, and sets of pixels; whole and in tiles."""
    frames = [read_image(golden / f"scene_{number}.png") for number in range(SCENES)]
    with Segmenter.open(streets_onnx, backend="onnxruntime", resize="none") as segmenter:
        return [
            naive_scores([(t, segmenter.segment(f, tiling)) for f, t in zip(frames, streets[3], strict=True)], 19)
            for tiling in (None, Tiling("tiles", (TILE, TILE)))
        ]


def test_the_record_holds_the_figures_to_the_last_digit(streets: Streets, expected: list[dict[str, Any]]) -> None:
    _, record, _, _ = streets
    assert [way["name"] for way in record["ways"]] == ["unresized", "tiled"]
    assert record["ways"][1]["how"] == "tiles, 256x256, halo 64, unresized"
    for way, right in zip(record["ways"], expected, strict=True):
        for key in ("iou", "acc"):
            np.testing.assert_array_equal(numbers([row[key] for row in way["classes"]]), right[key])
        for key in ("miou", "macc", "aacc"):
            assert way[key] == pytest.approx(right[key], rel=1e-15, abs=0)
    difference = record["tiling_difference"]
    assert difference["miou"] == record["ways"][1]["miou"] - record["ways"][0]["miou"]
    assert len(difference["iou"]) == len(record["classes"]) == 19


def test_the_matrix_and_the_pictures_of_the_record_are_those_of_the_scores(streets: Streets) -> None:
    _, record, _, truths = streets
    for way in record["ways"]:
        counts_tl = np.array(way["counts_tl"])
        assert counts_tl.shape == (20, 19)
        assert counts_tl.sum() == sum(int((truth != VOID).sum()) for truth in truths)
        assert [row["correct_pixels"] for row in way["classes"]] == np.diagonal(counts_tl).tolist()
        assert [row["truth_pixels"] for row in way["classes"]] == counts_tl[:-1].sum(axis=1).tolist()
        assert [row["predicted_pixels"] for row in way["classes"]] == counts_tl.sum(axis=0).tolist()
        assert [each["name"] for each in way["pictures"]] == [
            "frankfurt/frankfurt_000000_000019",
            "lindau/lindau_000001_000019",
        ]
        assert [each["void_pixels"] for each in way["pictures"]] == [int((truth == VOID).sum()) for truth in truths]
        assert {(each["height"], each["width"]) for each in way["pictures"]} == {(256, 512)}
        assert way["seconds"]["total"] >= way["seconds"]["reading_wait_s"] >= 0


def test_the_table_shows_the_scores_in_per_cent_with_two_decimals(
    streets: Streets, expected: list[dict[str, Any]]
) -> None:
    done, record, _, _ = streets
    lines = done.stdout.splitlines()
    header = next(line for line in lines if line.startswith("class"))
    assert header.split() == ["class", "IoU", "Acc", "IoU", "tiled", "difference"]
    usual, tiled = expected
    for label, name in enumerate(record["classes"]):
        words = next(line for line in lines if line.startswith(f"{name} "))[len(name) :].split()
        iou, acc, iou_tiled = (np.round(each[label] * 100, 2) for each in (usual["iou"], usual["acc"], tiled["iou"]))
        difference = f"{iou_tiled - iou:+.2f}".replace("+nan", "nan")
        assert words[:4] == [f"{iou:.2f}", f"{acc:.2f}", f"{iou_tiled:.2f}", difference]
    for name, key in (("mIoU", "miou"), ("mAcc", "macc"), ("aAcc", "aacc")):
        words = next(line for line in lines if line.startswith(name)).split()
        assert words[1:3] == [f"{np.round(each[key] * 100, 2):.2f}" for each in expected]
    assert "none of the ISANet checkpoints that OpenMMLab publishes" in done.stdout


def test_the_page_stands_alone_and_says_what_was_run(streets: Streets) -> None:
    _, record, page, _ = streets
    assert f"{np.round(record['ways'][0]['miou'] * 100, 2):.2f} mIoU on Cityscapes (val)" in page
    assert page.count("data:image/jpeg;base64,") == 4 * SCENES
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert record["command"].startswith("isa-eval --engine ")
    assert record["command"] in page.replace("&#39;", "'")


def test_files_without_their_other_half_are_counted_and_named(streets: Streets) -> None:
    done, record, page, _ = streets
    alone, orphan = "munster/munster_000002_000019", "lindau/lindau_000009_000019"
    assert f"isa-eval: warning: 1 image without labels: {alone}\n" in done.stderr
    assert f"isa-eval: warning: 1 label file without an image: {orphan}\n" in done.stderr
    assert record["dataset"]["images_without_labels"] == [alone]
    assert record["dataset"]["labels_without_images"] == [orphan]
    assert alone in page
    assert orphan in page


def test_several_scales_with_flip_are_those_of_the_segmenter(
    run_streets: Run, streets_onnx: Path, golden: Path, tmp_path: Path
) -> None:
    frame, truth = small_scene(golden)
    build_cityscapes(tmp_path / "data", [frame], [truth])
    code, _, err = run_streets("--root", tmp_path / "data", "--out", tmp_path / "out", "--ms-flip")
    assert code == 0, err
    with Segmenter.open(streets_onnx, backend="onnxruntime") as segmenter:
        right = naive_scores([(truth, segmenter.segment_multi_scale(frame))], 19)
    (way,) = read_record(tmp_path / "out")["ways"]
    assert way["name"] == "multi-scale and flip"
    assert "0.5, 0.75, 1, 1.25, 1.5, 1.75" in way["how"]
    np.testing.assert_array_equal(numbers([row["iou"] for row in way["classes"]]), right["iou"])
    assert way["miou"] == pytest.approx(right["miou"], rel=1e-15, abs=0)


def test_a_class_that_never_occurs_is_nan_and_left_out_of_the_mean(run: Run, tmp_path: Path) -> None:
    truth = np.repeat(np.array([0, 3], np.uint8), 8 * 16).reshape(16, 16)
    build_folder(tmp_path / "mine", [np.repeat((truth * 32 + 16)[..., None], 3, axis=2)], [truth])
    code, out, err = run("--dataset", "folder", "--root", tmp_path / "mine", "--out", tmp_path / "out")
    assert code == 0, err
    (way,) = read_record(tmp_path / "out")["ways"]
    assert [row["iou"] for row in way["classes"]] == [1.0, "nan", "nan", 1.0, "nan", "nan", "nan", "nan"]
    assert way["miou"] == way["macc"] == way["aacc"] == 1.0
    assert next(line for line in out.splitlines() if line.startswith("class 1 ")).split() == [
        *("class", "1", "nan", "nan"),
        *("absent:", "not", "in", "the", "mean"),
    ]
    assert "mIoU  100.00" in out


def test_a_folder_of_ones_own_has_the_engines_classes_and_a_place_of_its_own(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    code, out, err = run("--dataset", "folder", "--root", folder)
    assert code == 0, err
    record = read_record(tmp_path / "isa-eval-folder")
    assert record["classes"] == [f"class {label}" for label in range(8)]
    assert out.startswith("mine, 4 pictures\n")
    assert "written: isa-eval-folder/eval.json, isa-eval-folder/eval.html" in out
    code, _, _ = run("--dataset", "folder", "--root", folder, "--limit", "2")
    assert code == 0
    again = read_record(tmp_path / "isa-eval-folder")
    assert [each["name"] for each in again["ways"][0]["pictures"]] == ["drive/frame_001", "drive/frame_003"]
    assert again["dataset"]["pictures"] == 4


def test_pictures_that_cannot_be_used_are_left_out_and_named(run: Run, folder: Path, tmp_path: Path) -> None:
    whole = (folder / "images/frame_000.png").read_bytes()
    (folder / "images/frame_000.png").write_bytes(whole[: len(whole) // 2])
    write_picture(folder / "labels/frame_002.png", np.zeros((5, 7), np.uint8))
    options = ("--dataset", "folder", "--root", folder, "--out", tmp_path / "out")
    code, _, err = run(*options)
    assert code == 0, err
    assert "warning: unresized: 2 pictures could not be used: frame_000, frame_002; the first because " in err
    left_out = read_record(tmp_path / "out")["ways"][0]["left_out"]
    assert list(left_out) == ["frame_000", "frame_002"]
    assert "48x64" in left_out["frame_002"]
    assert "5x7" in left_out["frame_002"]
    page = (tmp_path / "out/eval.html").read_text(encoding="utf-8")
    assert "Could not be used (unresized): 2" in page
    shutil.rmtree(tmp_path / "out")
    code, out, err = run(*options, "--strict")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "frame_000" in err
    assert not (tmp_path / "out").exists()


def test_truth_outside_the_classes_is_said_and_strict_refuses_it(run: Run, folder: Path, tmp_path: Path) -> None:
    labels = cv2.imread(str(folder / "labels/frame_000.png"), cv2.IMREAD_UNCHANGED)
    labels[:2, :5] = 77
    write_picture(folder / "labels/frame_000.png", labels)
    options = ("--dataset", "folder", "--root", folder, "--out", tmp_path / "out")
    code, _, err = run(*options)
    assert code == 0, err
    assert "warning: 10 pixels of the truth outside the classes, in 1 picture: frame_000" in err
    (way,) = read_record(tmp_path / "out")["ways"]
    assert sum(way["counts_tl"][-1]) == 10
    assert {each["name"]: each["outside_pixels"] for each in way["pictures"]}["frame_000"] == 10
    assert "10 pixels of the truth are neither a class nor void" in (tmp_path / "out/eval.html").read_text("utf-8")
    code, _, err = run(*options, "--strict")
    assert code == 2
    assert "77" in err


@pytest.mark.parametrize(
    ("gone", "line"),
    [("labels/frame_002.png", "1 image without labels"), ("images/frame_002.png", "1 label file without an image")],
)
def test_strict_refuses_files_without_their_other_half(run: Run, folder: Path, gone: str, line: str) -> None:
    (folder / gone).unlink()
    code, out, err = run("--dataset", "folder", "--root", folder, "--strict")
    assert (code, out) == (2, "")
    assert err == f"isa-eval: error: {line}: frame_002; complete the data set, or leave --strict away\n"


def test_void_alone_is_nothing_to_score(run: Run, tmp_path: Path) -> None:
    build_folder(tmp_path / "mine", [np.zeros((16, 16, 3), np.uint8)], [np.full((16, 16), VOID, np.uint8)])
    code, _, err = run("--dataset", "folder", "--root", tmp_path / "mine")
    assert code == 2
    assert "no pixel of the truth of 1 picture is of a class" in err
    assert not (tmp_path / "isa-eval-folder").exists()


def test_an_engine_with_other_classes_is_refused_with_both_lists(run: Run, tmp_path: Path) -> None:
    frame, truth = drawn_scene(0, 21)
    build_voc(tmp_path / "voc", [frame], [truth])
    code, out, err = run("--dataset", "voc", "--root", tmp_path / "voc")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "class 0, class 1" in err
    assert "background, aeroplane" in err


def test_a_submission_has_the_label_ids_under_the_evaluators_names(
    run_streets: Run, streets_onnx: Path, golden: Path, tmp_path: Path
) -> None:
    frame, truth = small_scene(golden)
    build_cityscapes(tmp_path / "data", [frame], [truth])
    options = ["--root", tmp_path / "data", "--resize", "none", "--submission", tmp_path / "maps"]
    code, out, err = run_streets(*options, "--out", tmp_path / "out")
    assert code == 0, err
    assert f"label maps: {tmp_path / 'maps'}" in out
    (path,) = (tmp_path / "maps").iterdir()
    assert path.name == "frankfurt_000000_000019_pred_labelIds.png"
    with Segmenter.open(streets_onnx, backend="onnxruntime", resize="none") as segmenter:
        right = np.array(CITYSCAPES_IDS, np.uint8)[segmenter.segment(frame)]
    np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), right)

    # of the split test, whose published labels are all void, the maps alone
    void = np.full_like(truth, VOID)
    build_cityscapes(tmp_path / "data", [frame, frame], [void, None], split="test")
    code, out, err = run_streets(*options, "--split", "test", "--out", tmp_path / "out")
    assert code == 2
    assert "without labels there is nothing to score" in err
    code, out, err = run_streets(*options, "--split", "test")
    assert code == 2
    assert "exists; pass --overwrite" in err
    code, out, err = run_streets(*options, "--split", "test", "--overwrite")
    assert code == 0, err
    assert out == f"2 pictures predicted, none scored; label maps in {tmp_path / 'maps'}\n"
    maps = sorted((tmp_path / "maps").iterdir())
    assert [path.name for path in maps] == [
        "frankfurt_000000_000019_pred_labelIds.png",
        "lindau_000001_000019_pred_labelIds.png",
    ]
    for path in maps:
        np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), right)


def test_a_submission_that_would_lack_a_picture_is_an_error(run_streets: Run, golden: Path, tmp_path: Path) -> None:
    frame, _ = small_scene(golden)
    build_cityscapes(tmp_path / "data", [frame, frame], [None, None], split="test")
    broken = tmp_path / "data/leftImg8bit/test/frankfurt/frankfurt_000000_000019_leftImg8bit.png"
    broken.write_bytes(broken.read_bytes()[:200])
    maps = tmp_path / "maps"
    code, out, err = run_streets("--root", tmp_path / "data", "--split", "test", "--submission", maps)
    assert (code, out) == (2, "")
    assert "frankfurt_000000_000019_leftImg8bit.png" in err
    assert not maps.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ms-flip", "--tiling", "tiles"], "--ms-flip and --tiling"),
        (["--ms-flip", "--resize", "none"], "--resize none and --ms-flip"),
        (["--tiling", "auto"], "--tiling auto: none of: slide, tiles, blend"),
        (["--tiling", "tiles", "--resize", "64x64"], "tiles are never resized"),
        (["--tiling", "tiles", "--tile", "big"], "--tile big: write HEIGHTxWIDTH"),
        (["--tile", "64x64"], "--tile is for tiles; add --tiling tiles"),
        (["--halo", "0"], "--halo is for tiles; add --tiling tiles"),
        (["--submission", "maps"], "--submission is for --dataset cityscapes, not for folder"),
        (["--overwrite"], "--overwrite is for label maps"),
        (["--split", "train"], "a plain folder has no split"),
        (["--resize", "huge"], "none of: test, none, HEIGHTxWIDTH"),
    ],
)
def test_options_that_make_no_sense_are_refused_on_one_line(
    run: Run, folder: Path, tmp_path: Path, words: list[str], message: str, request: pytest.FixtureRequest
) -> None:
    if "huge" in words:  # the real opening refuses it
        request.getfixturevalue("monkeypatch").undo()
    code, out, err = run("--dataset", "folder", "--root", folder, *words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


@pytest.mark.parametrize(
    ("name", "scale_wh", "is_said"),
    [
        ("as tested", (128, 128), True),
        ("as tested", (64, 48), False),  # the pictures' own size
        ("as tested", None, False),
        ("unresized", (128, 128), False),
        ("resized", (128, 128), False),
    ],
)
def test_what_tiling_costs_is_not_mixed_with_what_resizing_does_in_silence(
    folder: Path, name: str, scale_wh: tuple[int, int] | None, is_said: bool
) -> None:
    mine = open_dataset("folder", folder)
    evaluation = evaluate(PlainPredictor(cheap_segmenter()), mine, mine.listing())
    manifest = resizing_manifest(scale_wh)
    lines: list[str] = []
    warn_of_pictures([Way(name, "", evaluation)], manifest, lines.append)
    assert lines == []
    warn_of_pictures([Way(name, "", evaluation), Way("tiled", "", evaluation)], manifest, lines.append)
    warning = (
        "warning: the usual way resizes these pictures and tiles do not: their difference is of both; "
        "--resize none shows what tiling alone costs"
    )
    assert lines == ([warning] if is_said else [])


def test_a_tile_that_the_engine_cannot_take_is_refused_before_anything_is_measured(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed = cheap_manifest().input.model_copy(update={"shape_nhw": (1, 48, 64)})
    monkeypatch.setattr(Segmenter, "open", lambda *_, **__: cheap_segmenter(input=fixed))
    code, out, err = run("--dataset", "folder", "--root", folder, "--tiling", "tiles", "--tile", "32x32")
    assert (code, out) == (2, "")
    assert err == ("isa-eval: error: tiles of 32x32: this engine takes 48x64 only; leave --tile away\n")


def test_two_ways_over_different_pictures_are_not_compared_in_silence(folder: Path) -> None:
    mine = open_dataset("folder", folder)
    evaluation = evaluate(PlainPredictor(cheap_segmenter()), mine, mine.listing())
    fewer = replace(evaluation, left_out={"frame_000": "too small", "\x1b[2J": "gone"})
    lines: list[str] = []
    warn_of_pictures([Way("as tested", "", evaluation), Way("tiled", "", fewer)], cheap_manifest(), lines.append)
    assert lines == [
        "warning: tiled: 2 pictures could not be used: frame_000, \\x1b[2J; the first because too small",
        "warning: the two ways are not over the same pictures: their difference is not what tiling costs",
    ]
    lines.clear()
    warn_of_pictures([Way("as tested", "", fewer), Way("tiled", "", fewer)], cheap_manifest(), lines.append)
    assert len(lines) == 1


def test_an_interruption_writes_no_results_and_leaves_those_of_an_earlier_run(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("isa_deploy.cli.evaluation._advance", interrupt)
    options = ("--dataset", "folder", "--root", folder)
    code, out, _ = run(*options)
    assert (code, out) == (130, "")
    results = tmp_path / "isa-eval-folder"
    assert not results.exists()
    results.mkdir()
    (results / "eval.json").write_text("earlier")
    assert run(*options)[0] == 130
    assert [(path.name, path.read_text()) for path in results.iterdir()] == [("eval.json", "earlier")]


def test_a_page_that_cannot_be_written_leaves_no_record_either(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "out/eval.html"
    monkeypatch.setattr("isa_deploy.cli.evaluation._advance", lambda *_: page.mkdir(exist_ok=True))
    code, _, err = run("--dataset", "folder", "--root", folder, "--out", tmp_path / "out")
    assert code == 2
    assert f"{page}: cannot put the new file in place" in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["eval.html"]


@pytest.mark.parametrize("name", ["eval.html", "eval.json"])
def test_a_folder_in_a_results_place_is_refused_before_anything_is_measured(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("isa_deploy.cli.evaluation.evaluate", None)
    (tmp_path / "out" / name).mkdir(parents=True)
    code, out, err = run("--dataset", "folder", "--root", folder, "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert err.startswith(f"isa-eval: error: {tmp_path / 'out' / name}: a folder has the name of a file to be written")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]


def test_without_jinja2_the_line_that_installs_it_is_said_before_anything_is_measured(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    code, _, err = run("--dataset", "folder", "--root", folder)
    assert (code, err) == (2, "isa-eval: error: jinja2 is not installed; pip install 'isa-deploy[eval]'\n")
    assert not (tmp_path / "isa-eval-folder").exists()


def test_the_published_figure_is_that_of_the_checkpoints_card(tmp_path: Path) -> None:
    card = next(card for card in load_cards() if card.dataset_type == "CityscapesDataset")
    frame, truth = drawn_scene(0, 8)
    build_folder(tmp_path / "mine", [frame], [truth])
    mine = open_dataset("folder", tmp_path / "mine")
    evaluation = evaluate(PlainPredictor(cheap_segmenter()), mine, mine.listing())
    source = SourceSpec(file=card.file, sha256=card.sha8 + "0" * 56, layout="mmseg-0.x")
    manifest = cheap_manifest(source=source)
    cityscapes = open_dataset("cityscapes", tmp_path)
    ways = [Way(name, "with how", evaluation) for name in ("as tested", "multi-scale and flip", "unresized")]

    published, note = find_published(manifest, cityscapes, "val", ways[:1], 1)
    assert published is not None
    assert (published.card, published.per_cent, published.figure) == (card.name, card.miou, "mIoU")
    assert (published.caveats, note) == ((), "")

    published, _ = find_published(manifest, cityscapes, "val", ways[1:2], 500)
    assert published is not None
    assert published.per_cent == card.miou_ms_flip
    assert published.caveats == ("ours over 1 of 500 pictures",)

    # the cards' scales are of the test scale, ours of the picture: the same where it leaves pictures as they are
    for scale_wh, caveats in (
        ((64, 48), ()),
        ((128, 128), ("its scales were those of the test scale, ours are those of the picture",)),
    ):
        published, _ = find_published(resizing_manifest(scale_wh, source=source), cityscapes, "val", ways[1:2], 1)
        assert published is not None
        assert published.caveats == caveats
        published, _ = find_published(resizing_manifest(scale_wh, source=source), cityscapes, "val", ways[:1], 1)
        assert published is not None
        assert published.caveats == ()

    published, _ = find_published(manifest, cityscapes, "val", ways[2:], 1)
    assert published is not None
    assert published.caveats == ("ours with how, not at the test scale",)

    assert find_published(manifest, cityscapes, "train", ways[:1], 1) == (
        None,
        f"No published figure: {card.name} was measured on the split val, not on train",
    )
    for key in ("ade20k", "folder", "lip"):
        published, note = find_published(manifest, open_dataset(key, tmp_path), "val", ways[:1], 1)
        assert published is None
        assert "was measured on Cityscapes, not on " in note
    published, note = find_published(cheap_manifest(), cityscapes, "val", ways[:1], 1)
    assert published is None
    assert note.startswith("No published figure: by its SHA-256, cheap.pth is none of the ISANet checkpoints")

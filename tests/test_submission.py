"""Submissions are what the Cityscapes evaluator finds, reads and scores as we do."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from isa_deploy import files
from isa_deploy.errors import InputError
from isa_deploy.evaluate.cityscapes import LABEL_IDS
from isa_deploy.evaluate.confusion import ConfusionMatrix
from isa_deploy.evaluate.metrics import Scores, percent, scores
from isa_deploy.evaluate.submission import SubmissionWriter

UInt8 = npt.NDArray[np.uint8]

NAME = "frankfurt/frankfurt_000000_000294"
FILE = "frankfurt_000000_000294_pred_labelIds.png"
LABELS = np.arange(19, dtype=np.uint8).reshape(1, 19)


def result_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def evaluator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The genuine evaluator.  It computes class scores as it was written to; what is switched off is its printing, its
    JSON file, and its instance scores, which are not ours to give and for which version 2.3.0 calls ``numpy.in1d``,
    which numpy 2.4 no longer has."""
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling

    monkeypatch.setenv("CITYSCAPES_DATASET", str(tmp_path / "cityscapes"))
    settings = types.SimpleNamespace(**vars(evalPixelLevelSemanticLabeling.args))
    settings.quiet, settings.JSONOutput, settings.evalInstLevelScore = True, False, False
    settings.predictionPath, settings.predictionWalk = None, None
    return types.SimpleNamespace(module=evalPixelLevelSemanticLabeling, args=settings)


def draw_cityscapes(root: Path) -> dict[str, tuple[UInt8, UInt8]]:
    """A miniature gtFine/val, every label id of the data set in it, and for each picture its train ids (255 void) and
    labels that a network might give."""
    from cityscapesscripts.helpers.labels import labels as definitions

    to_train = np.full(256, 255, dtype=np.uint8)
    for label in definitions:
        if 0 <= label.trainId < 255:
            to_train[label.id] = label.trainId
    present = np.array([label.id for label in definitions if label.id >= 0 and label.name != "train"], dtype=np.uint8)
    rng = np.random.default_rng(5)
    pictures = {}
    for name in (NAME, "frankfurt/frankfurt_000001_002512", "bad-honnef/bad-honnef_000000_000294"):
        ids_hw = np.repeat(np.repeat(rng.choice(present, (8, 16)), 4, axis=0), 4, axis=1)
        truth_hw = to_train[ids_hw]
        wrong = (rng.random(truth_hw.shape) < 0.3) | (truth_hw == 255)
        labels_hw = np.where(wrong, rng.integers(0, 18, truth_hw.shape, dtype=np.uint8), truth_hw)
        labels_hw[labels_hw == 16] = 0  # no train, in no picture
        path = root / "gtFine" / "val" / f"{name}_gtFine_labelIds.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(ids_hw).save(path)
        pictures[name] = truth_hw, labels_hw
    return pictures


def test_the_official_evaluator_finds_the_files_and_gives_our_scores(evaluator: Any, tmp_path: Path) -> None:
    from cityscapesscripts.helpers.labels import trainId2label

    root = tmp_path / "cityscapes"
    pictures = draw_cityscapes(root)
    matrix = ConfusionMatrix(19)
    with SubmissionWriter(root / "results", overwrite=False) as writer:  # where the evaluator looks by itself
        for name, (truth_hw, labels_hw) in pictures.items():
            matrix.add(truth_hw, labels_hw)
            writer.write(name, labels_hw)
    truths = [str(path) for path in sorted(root.glob("gtFine/val/*/*_gtFine_labelIds.png"))]
    found = [evaluator.module.getPrediction(evaluator.args, truth) for truth in truths]
    theirs = evaluator.module.evaluateImgLists(found, truths, evaluator.args)

    ours: Scores = scores(matrix.counts_tl)
    by_train_id = [theirs["classScores"][trainId2label[label].name] for label in range(19)]
    np.testing.assert_array_equal(ours.iou, by_train_id)
    assert np.isnan(ours.iou[16])
    assert np.isfinite(ours.iou).sum() == 18
    # their mean adds up in another order
    assert ours.miou == pytest.approx(theirs["averageScoreClasses"], rel=1e-15)
    assert percent(ours.miou) == percent(theirs["averageScoreClasses"])


def test_label_ids_are_those_of_cityscapes() -> None:
    from cityscapesscripts.helpers.labels import trainId2label

    assert tuple(trainId2label[label].id for label in range(19)) == LABEL_IDS


def test_a_file_is_one_channel_of_label_ids_under_the_official_name(tmp_path: Path) -> None:
    writer = SubmissionWriter(tmp_path / "made" / "here", overwrite=False)
    path = writer.write(NAME, LABELS)
    writer.close()
    assert path == tmp_path / "made" / "here" / FILE
    with Image.open(path) as picture:
        assert (picture.format, picture.mode) == ("PNG", "L")
        assert tuple(np.array(picture)[0].tolist()) == LABEL_IDS


@pytest.mark.parametrize("label", [19, 255])
def test_a_label_beyond_the_19_is_refused_and_nothing_is_written(label: int, tmp_path: Path) -> None:
    with (
        SubmissionWriter(tmp_path / "out", overwrite=False) as writer,
        pytest.raises(InputError, match=f"label {label}; a submission needs the 19 train ids of Cityscapes, 0 to 18"),
    ):
        writer.write(NAME, np.full((2, 2), label, dtype=np.uint8))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name",
    ["scene_0", "frankfurt_000000_000294_leftImg8bit", "frankfurt_000000_00029", "fr*nkfurt_000000_000294", "a/..", ""],
)
def test_a_name_that_is_not_of_cityscapes_is_refused(name: str, tmp_path: Path) -> None:
    with SubmissionWriter(tmp_path, overwrite=True) as writer, pytest.raises(InputError, match="needs CITY_SEQUENCE"):
        writer.write(name, LABELS)
    assert result_names(tmp_path) == []


@pytest.mark.parametrize("labels_hw", [LABELS.astype(np.int64), LABELS[0], np.zeros((0, 3), np.uint8), LABELS > 3])
def test_labels_of_another_kind_are_refused(labels_hw: UInt8, tmp_path: Path) -> None:
    with SubmissionWriter(tmp_path, overwrite=True) as writer, pytest.raises(InputError, match="labels of"):
        writer.write(NAME, labels_hw)
    assert result_names(tmp_path) == []


def test_an_existing_result_is_replaced_only_on_request(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"before")
    with SubmissionWriter(tmp_path, overwrite=False) as writer, pytest.raises(InputError, match="exists; pass --over"):
        writer.write(NAME, LABELS)
    assert (tmp_path / FILE).read_bytes() == b"before"
    with SubmissionWriter(tmp_path, overwrite=True) as writer:
        writer.write(NAME, LABELS)
    with Image.open(tmp_path / FILE) as picture:
        assert picture.size == (19, 1)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("other", ["frankfurt_000000_000294_leftImg8bit.png", "old/frankfurt_000000_000294.png"])
def test_a_second_result_that_the_evaluator_would_find_is_refused(other: str, overwrite: bool, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / other).write_bytes(b"")
    with (
        SubmissionWriter(tmp_path, overwrite) as writer,
        pytest.raises(InputError, match="a result for frankfurt_000000_000294 too"),
    ):
        writer.write(NAME, LABELS)
    assert not (tmp_path / FILE).exists()


def test_two_pictures_of_one_name_are_refused(tmp_path: Path) -> None:
    with SubmissionWriter(tmp_path, overwrite=True) as writer:
        writer.write(NAME, LABELS)
        with pytest.raises(InputError, match="written already"):
            writer.write("elsewhere/" + NAME.rpartition("/")[2], LABELS)


@pytest.mark.parametrize("second", ["b/odd", "c/a_000000_000001"])
def test_a_name_that_cannot_be_submitted_is_refused_before_anything_is_predicted(tmp_path: Path, second: str) -> None:
    with SubmissionWriter(tmp_path / "labels", overwrite=False) as writer, pytest.raises(InputError, match=second):
        writer.check(["a/a_000000_000001", second])


def test_results_of_other_pictures_may_stand_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "munster_000000_000019.png").write_bytes(b"")
    (tmp_path / "notes.png").write_bytes(b"")
    with SubmissionWriter(tmp_path, overwrite=False) as writer:
        writer.write(NAME, LABELS)
    assert result_names(tmp_path) == [FILE, "munster_000000_000019.png", "notes.png"]


def test_a_file_that_cannot_be_put_in_place_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / FILE).write_bytes(b"before")

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    with SubmissionWriter(tmp_path, overwrite=True) as writer:
        monkeypatch.setattr(files.Path, "replace", full)
        with pytest.raises(InputError, match="the disk is full"):
            writer.write(NAME, LABELS)
    assert result_names(tmp_path) == [FILE]
    assert (tmp_path / FILE).read_bytes() == b"before"


def test_a_folder_whose_name_a_file_has_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(InputError, match="a file has its name"):
        SubmissionWriter(tmp_path / "out", overwrite=True)

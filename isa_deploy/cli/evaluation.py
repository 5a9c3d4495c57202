"""The work of isa-eval: the ways through the network, one after the other, and what is said about them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from isa_deploy.cli.progress import FileProgress, open_progress
from isa_deploy.cli.run import shown
from isa_deploy.errors import InputError
from isa_deploy.evaluate.dataset import Dataset, Listing, Sample
from isa_deploy.evaluate.evaluation import PictureResult, evaluate
from isa_deploy.evaluate.prediction import MultiScalePredictor, Pending, PlainPredictor, Predictor, TiledPredictor
from isa_deploy.evaluate.record import Published, Way, counted
from isa_deploy.manifest import Manifest
from isa_deploy.models.cards import find_card
from isa_deploy.runtime.images import read_image
from isa_deploy.runtime.pipeline import Ahead, Behind
from isa_deploy.runtime.preprocess import network_size
from isa_deploy.runtime.segmenter import MULTI_SCALE_RATIOS, Segmenter
from isa_deploy.runtime.tiled import plan_tiles
from isa_deploy.runtime.tiling import Tiling

__all__ = [
    "Course",
    "check_listing",
    "courses",
    "find_published",
    "predict_all",
    "run_courses",
    "warn_of_pictures",
]

UInt8 = npt.NDArray[np.uint8]

KEEP_WORST = 12
MAX_NAMES = 3  # in a line on a terminal
LARGE_SIDE = 4096  # of a picture whose tiles have their full size

DATASET_TYPES = {"cityscapes": "CityscapesDataset", "ade20k": "ADE20KDataset", "voc": "PascalVOCDataset"}
"""mmsegmentation's class, as a model card names it, of each data set that a card was measured on."""


@dataclass(frozen=True)
class Course:
    """A way through the network that is to be taken; see :class:`isa_deploy.evaluate.record.Way`."""

    name: str
    how: str
    predictor: Predictor


def courses(segmenter: Segmenter, dataset: Dataset, *, ms_flip: bool, tiling: Tiling | None) -> list[Course]:
    """The way as the model was tested, or with several scales; and the tiled one where that is asked for.

    Raises :class:`InputError` for tiles that the engine cannot take.
    """
    if ms_flip:
        ratios = ", ".join(f"{ratio:g}" for ratio in MULTI_SCALE_RATIOS)
        predictor = MultiScalePredictor(segmenter, flip_pairs=dataset.flip_pairs)
        return [Course("multi-scale and flip", f"softmax averaged over scales {ratios}, each also mirrored", predictor)]
    name, how = _usual_words(segmenter)
    found = [Course(name, how, PlainPredictor(segmenter))]
    if tiling is not None:
        tile_h, tile_w = tiling.tile_hw or (0, 0)
        decided = plan_tiles(segmenter, (max(LARGE_SIDE, tile_h), max(LARGE_SIDE, tile_w)), tiling).tiling
        assert decided.tile_hw is not None
        words = f"{decided.mode}, {decided.tile_hw[0]}x{decided.tile_hw[1]}, halo {decided.halo}, unresized"
        found.append(Course("tiled", words, TiledPredictor(segmenter, tiling)))
    return found


def _usual_words(segmenter: Segmenter) -> tuple[str, str]:
    manifest = segmenter.manifest
    inference, resize = manifest.inference, manifest.input.resize
    way = "in one pass"
    if inference.crop_hw is not None and inference.stride_hw is not None:
        crop, stride = inference.crop_hw, inference.stride_hw
        way = f"in windows of {crop[0]}x{crop[1]} every {stride[0]}x{stride[1]}"
    if isinstance(segmenter.resize, tuple):
        return "resized", f"resized to {segmenter.resize[0]}x{segmenter.resize[1]}, {way}"
    if segmenter.resize == "none":
        return "unresized", f"pictures as they are, {way}"
    if resize is None:
        return "as tested", f"pictures as they are, {way}"
    fitted = "fitted into" if resize.keep_ratio else "stretched to"
    return "as tested", f"{fitted} {resize.scale_wh[0]}x{resize.scale_wh[1]} (width x height), {way}"


def run_courses(
    chosen: Sequence[Course],
    dataset: Dataset,
    listing: Listing,
    *,
    limit: int | None,
    strict: bool,
    on_labels: Callable[[Sample, UInt8], None] | None,
) -> list[Way]:
    """Evaluate one way after the other, with a bar.  The worst pictures are kept of the first alone.

    Raises as :func:`isa_deploy.evaluate.evaluation.evaluate`, and :class:`InputError` where no pixel of the truth has a
    class: every score would be nan.
    """
    ways: list[Way] = []
    with open_progress(len(chosen)) as progress:
        for course in chosen:
            progress.begin(course.name)
            evaluation = evaluate(
                course.predictor,
                dataset,
                listing,
                keep_worst=0 if ways else KEEP_WORST,
                limit=limit,
                strict=strict,
                on_labels=on_labels,
                progress=partial(_advance, progress),
            )
            if not evaluation.counts_tl[:-1].any():
                raise InputError(
                    f"no pixel of the truth of {counted(len(evaluation.pictures), 'picture')} is of a class: there is "
                    "nothing to score; the labels of a test split are kept back, and --submission DIR predicts it"
                )
            progress.end(f"{counted(len(evaluation.pictures), 'picture')} in {evaluation.seconds:.1f} s")
            ways.append(Way(course.name, course.how, evaluation))
    return ways


def _advance(progress: FileProgress, done: int, total: int) -> None:
    progress.advance(done / total, done, "pictures")


def check_listing(listing: Listing, strict: bool, note: Callable[[str], None]) -> None:
    """Say which files lack their other half, or with ``strict`` raise :class:`InputError`."""
    for thing, lack, names in (
        ("image", "labels", listing.images_without_labels),
        ("label file", "an image", listing.labels_without_images),
    ):
        if names:
            line = f"{counted(len(names), thing)} without {lack}: {_first(names)}"
            if strict:
                raise InputError(f"{line}; complete the data set, or leave --strict away")
            note(f"warning: {line}")


def warn_of_pictures(ways: Sequence[Way], manifest: Manifest, note: Callable[[str], None]) -> None:
    """Say which pictures could not be used, which have truth outside the classes, and what tiles differ in besides."""
    said: set[str] = set()
    for way in ways:
        left_out = {name: why for name, why in way.evaluation.left_out.items() if name not in said}
        said |= set(left_out)
        if left_out:
            why = next(iter(left_out.values()))
            note(
                f"warning: {way.name}: {counted(len(left_out), 'picture')} could not be used: "
                f"{_first(list(left_out))}; the first because {shown(why)}"
            )
    if len({tuple(sorted(way.evaluation.left_out)) for way in ways}) > 1:
        note("warning: the two ways are not over the same pictures: their difference is not what tiling costs")
    if len(ways) > 1 and ways[0].name == "as tested" and _is_resized(manifest, ways[0].evaluation.pictures):
        note(
            "warning: the usual way resizes these pictures and tiles do not: their difference is of both; "
            "--resize none shows what tiling alone costs"
        )
    outside = [result for result in ways[0].evaluation.pictures if result.outside]
    if outside:
        pixels = sum(result.outside for result in outside)
        note(
            f"warning: {counted(pixels, 'pixel')} of the truth outside the classes, in "
            f"{counted(len(outside), 'picture')}: {_first([result.name for result in outside])}; they count as "
            "wrong for the class predicted there, as in mmsegmentation"
        )


def _first(names: Sequence[str]) -> str:
    listed = ", ".join(shown(name) for name in names[:MAX_NAMES])
    return listed if len(names) <= MAX_NAMES else f"{listed} and {len(names) - MAX_NAMES:,} more"


def find_published(
    manifest: Manifest, dataset: Dataset, split: str, ways: Sequence[Way], found: int
) -> tuple[Published | None, str]:
    """The model card's figure for what was evaluated, or None and why there is none.

    ``found``: how many pictures the data set has.  Figures of the cards are those of the split "val".
    """
    card = find_card(manifest.source.sha256)
    if card is None:
        return None, (
            f"No published figure: by its SHA-256, {manifest.source.file} is none of the ISANet checkpoints that "
            "OpenMMLab publishes"
        )
    if card.dataset_type != DATASET_TYPES.get(dataset.key):
        here = "this folder" if dataset.key == "folder" else dataset.title
        return None, f"No published figure: {card.name} was measured on {card.dataset}, not on {here}"
    if split != "val":
        return None, f"No published figure: {card.name} was measured on the split val, not on {split}"
    usual = ways[0]
    is_multi_scale = usual.name == "multi-scale and flip"
    caveats = []
    done = len(usual.evaluation.pictures)
    if done < found:
        caveats.append(f"ours over {done:,} of {found:,} pictures")
    if is_multi_scale and _is_resized(manifest, usual.evaluation.pictures):
        caveats.append("its scales were those of the test scale, ours are those of the picture")
    if usual.name in ("resized", "unresized"):
        caveats.append(f"ours {usual.how}, not at the test scale")
    return (
        Published(
            card=card.name,
            figure="mIoU, multi-scale and flip" if is_multi_scale else "mIoU",
            per_cent=card.miou_ms_flip if is_multi_scale else card.miou,
            caveats=tuple(caveats),
        ),
        "",
    )


def _is_resized(manifest: Manifest, pictures: Sequence[PictureResult]) -> bool:
    """Whether the model's own test scale changes the size of any of them."""
    spec = manifest.input.resize
    return any(network_size(each.size_hw, "test", spec) != each.size_hw for each in pictures)


def predict_all(course: Course, samples: Sequence[Sample], write: Callable[[Sample, UInt8], None]) -> int:
    """Predict pictures without truth, with a bar, and give each with its labels to ``write``, in order.

    Pictures are read ahead and labels written behind.  Raises :class:`InputError` for a picture that cannot be used: a
    submission lacks none.  Returns how many there were.
    """
    under_way: deque[tuple[Sample, Pending[UInt8]]] = deque()
    frames = ((sample, read_image(sample.image)) for sample in samples)
    with (
        open_progress(1) as progress,
        Ahead(frames, 2) as ahead,
        Behind[tuple[Sample, UInt8]](lambda predicted: write(*predicted), 2) as written,
    ):
        progress.begin(course.name)
        done = 0
        while done < len(samples):
            each = next(ahead, None)
            if each is not None:
                sample, frame_hwc = each
                under_way.append((sample, course.predictor.submit(frame_hwc)))
            if each is None or len(under_way) > course.predictor.capacity:
                sample, pending = under_way.popleft()
                written.put((sample, pending.result()))
                done += 1
                _advance(progress, done, len(samples))
        progress.end(counted(done, "picture"))
    return len(samples)

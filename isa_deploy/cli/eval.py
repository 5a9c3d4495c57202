"""``isa-eval``: how good an engine is on a data set, as mmsegmentation measures it."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isa_deploy.cli.engine_options import AllowEngineCodeOption, BackendOption, DeviceOption, PrecisionOption
from isa_deploy.cli.run import DebugOption, VersionOption, make_app, run
from isa_deploy.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from isa_deploy.evaluate.dataset import Sample
    from isa_deploy.runtime.tiling import Tiling

__all__ = ["app", "main"]

app = make_app()

JSON_FILE = "eval.json"
HTML_FILE = "eval.html"

MANUAL = """
Measure an engine on a data set with labels: mIoU, mAcc, aAcc and each class, exactly as mmsegmentation's IoUMetric.

Data sets, each in its official layout below --root:

\b
  cityscapes  leftImg8bit, gtFine (labelTrainIds or labelIds)
  ade20k      images, annotations (150 classes; 0 is void)
  voc         VOC2012: JPEGImages, SegmentationClass
  context59   VOC2010: JPEGImages, SegmentationClassContext
  context60   the same with the background as a class
  cocostuff   COCO-Stuff 164k: images/val2017, annotations/val2017
  lip         val_images, val_segmentations
  folder      images and labels of your own: labels/NAME.png is that of
              images/NAME.*, the class's number in each pixel, 255 is void

The folder --out receives eval.json (everything that was measured) and eval.html (the classes, the mistakes and the
worst pictures). Existing results are replaced.

\b
Examples:
  isa-eval --engine engines/r50_cityscapes --dataset cityscapes --root cityscapes
  isa-eval --engine model.onnx --dataset ade20k --root ADEChallengeData2016 --ms-flip
  isa-eval --engine engines/r50 --dataset folder --root mine --strict --out result
  isa-eval --engine engines/r50 --dataset cityscapes --root cityscapes --tiling tiles
  isa-eval --engine engines/r50 --dataset cityscapes --root cityscapes --split test --submission labels

\b
Exit codes:
  0    it was measured; warnings say what was left out
  1    an error that nobody expected, or what it prints cannot be written
  2    it could not be: usage, data set, engine, a library that is missing;
       with --strict also anything that would have been left out
  130  interrupted (Ctrl-C); no eval.json and no eval.html is written, those
       of an earlier run stay, and label maps that --submission has written
"""


@app.command(help=MANUAL)
def evaluate(
    engine: Annotated[
        Path,
        typer.Option("--engine", metavar="PATH", help="What isa-export wrote: its folder, model.onnx or model.plan."),
    ],
    dataset: Annotated[
        str,
        typer.Option("--dataset", metavar="NAME", help="Which data set; its classes must be the engine's."),
    ],
    root: Annotated[Path, typer.Option("--root", metavar="DIR", help="The data set's folder.")],
    split: Annotated[
        str, typer.Option("--split", metavar="NAME", help="Which part of it, as its makers call it.")
    ] = "val",
    ms_flip: Annotated[
        bool,
        typer.Option(
            "--ms-flip", help="Several scales, each also mirrored, as mmsegmentation's test-time augmentation."
        ),
    ] = False,
    tiling: Annotated[
        str | None,
        typer.Option(
            "--tiling",
            metavar="slide|tiles|blend",
            help="Measure both as the model was tested and in tiles, and show what tiling costs. tiles: a border "
            "(--halo) is thrown away. blend: overlapping tiles that fade into each other. slide: overlapping "
            "windows, averaged.",
        ),
    ] = None,
    tile: Annotated[
        str | None, typer.Option("--tile", metavar="HxW", help="Size of a tile or window, the border included.")
    ] = None,
    halo: Annotated[
        int | None,
        typer.Option("--halo", metavar="PIXELS", min=0, help="Border that tiles throw away, or half their overlap."),
    ] = None,
    tile_batch: Annotated[
        str, typer.Option("--tile-batch", metavar="auto|N", help="Tiles in one call of the engine.")
    ] = "auto",
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Fail where an image has no labels or a label file no image, where one cannot be used, and where "
            "labels are outside the classes.",
        ),
    ] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="Only the first N pictures, by name.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder of the results.", show_default="isa-eval-DATASET"),
    ] = None,
    submission: Annotated[
        Path | None,
        typer.Option(
            "--submission",
            metavar="DIR",
            help="cityscapes: also write label maps for its server. With --split test, or where there are no labels: "
            "only these.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace label maps that an earlier --submission has written.")
    ] = False,
    resize: Annotated[
        str,
        typer.Option(
            "--resize",
            metavar="test|none|HxW",
            help="Size that the network sees. test: the model's own test scale, with the picture's proportions; "
            "none: the picture as it is; HxW: that height and width. Scores are at the labels' size in any case.",
        ),
    ] = "test",
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
    schedule: Annotated[
        str,
        typer.Option(
            "--schedule",
            metavar="latency|throughput",
            help="OpenVINO: all cores on one picture, or several pictures at once, which needs more memory and may be "
            "faster on many cores.",
        ),
    ] = "latency",
    allow_engine_code: AllowEngineCodeOption = False,
    debug: DebugOption = False,
    version: VersionOption = False,
) -> None:
    if not debug:
        # what they would print into the middle of ours: the errors that matter come as exceptions
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    import isa_deploy
    from isa_deploy.bench.environment import machine
    from isa_deploy.cli.evaluation import (
        check_listing,
        courses,
        find_published,
        predict_all,
        run_courses,
        warn_of_pictures,
    )
    from isa_deploy.evaluate.datasets import check_classes, open_dataset
    from isa_deploy.evaluate.page import load_page, page_html
    from isa_deploy.evaluate.record import EngineFacts, Record, counted, record_json
    from isa_deploy.evaluate.submission import SubmissionWriter
    from isa_deploy.evaluate.table import print_record
    from isa_deploy.files import result_folder
    from isa_deploy.pages.texts import check_places, write_texts
    from isa_deploy.runtime.segmenter import Segmenter

    cut = _tiling(tiling, tile, halo, tile_batch, resize)
    _check_together(dataset, cut is not None, ms_flip, submission, overwrite, resize)
    template = load_page()  # what is not installed is said before anything is measured
    environment = machine()
    data = open_dataset(dataset, root, split)
    only_predicts = submission is not None and (split == "test" or all(each.truth is None for each in data.images()))
    if only_predicts and out is not None:
        raise InputError(f"--out {out}: without labels there is nothing to score; leave it away")
    folder = Path(f"isa-eval-{data.key}") if out is None else out
    with ExitStack() as stack:
        listing = None if only_predicts else data.listing()
        if listing is not None:
            check_places(folder, (HTML_FILE, JSON_FILE))
            check_listing(listing, strict, _note)
        segmenter = stack.enter_context(
            Segmenter.open(
                engine,
                backend=backend,
                device=device,
                precision=precision,
                resize=resize,
                schedule=schedule,
                allow_engine_code=allow_engine_code,
            )
        )
        manifest = segmenter.manifest
        check_classes(data, manifest.classes.names, engine)
        chosen = courses(segmenter, data, ms_flip=ms_flip, tiling=cut)
        writer = None if submission is None else stack.enter_context(SubmissionWriter(submission, overwrite))
        if writer is not None:
            samples = data.images() if listing is None else listing.samples
            writer.check([sample.name for sample in samples[:limit]])

        def write_labels(sample: Sample, labels_hw: npt.NDArray[np.uint8]) -> None:
            assert writer is not None
            writer.write(sample.name, labels_hw)

        if listing is None:
            count = predict_all(chosen[0], data.images()[:limit], write_labels)
            typer.echo(f"{counted(count, 'picture')} predicted, none scored; label maps in {submission}")
            return
        stack.enter_context(result_folder(folder))
        ways = run_courses(
            chosen,
            data,
            listing,
            limit=limit,
            strict=strict,
            on_labels=None if writer is None else write_labels,
        )
        warn_of_pictures(ways, manifest, _note)
        published, why_not = find_published(manifest, data, split, ways, len(listing.samples))
        record = Record(
            made_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            isa_deploy=isa_deploy.__version__,
            command=shlex.join(["isa-eval", *sys.argv[1:]]),
            engine=EngineFacts(
                path=str(engine),
                backend=segmenter.backend_name,
                precision=segmenter.precision,
                device=segmenter.device,
                resize=resize,
            ),
            manifest=manifest,
            dataset_key=data.key,
            dataset_title=data.title,
            root=str(root),
            split=split,
            listing=listing,
            classes=data.classes or manifest.classes.names,
            ways=tuple(ways),
            published=published,
            published_note=why_not,
            environment=environment,
        )
        # the record last: where it is, all is
        write_texts(folder, {HTML_FILE: page_html(template, record), JSON_FILE: record_json(record)})
    print_record(record)
    typer.echo(f"written: {folder / JSON_FILE}, {folder / HTML_FILE}")
    if submission is not None:
        typer.echo(f"label maps: {submission}")


def _tiling(mode: str | None, tile: str | None, halo: int | None, tile_batch: str, resize: str) -> Tiling | None:
    """How pictures are cut, or None where they are not; the options mean what they mean to isa-infer."""
    from isa_deploy.cli.large_options import parse_large_options

    if mode is None:
        of_tiles = {"--tile": tile is not None, "--halo": halo is not None, "--tile-batch": tile_batch != "auto"}
        given = [name for name, is_given in of_tiles.items() if is_given]
        if given:
            raise InputError(f"{given[0]} is for tiles; add --tiling tiles, or leave it away")
        return None
    if mode not in ("slide", "tiles", "blend"):
        raise InputError(f"--tiling {mode}: none of: slide, tiles, blend (whole pictures are measured in any case)")
    return parse_large_options(
        tiling=mode,
        tile=tile,
        halo=halo,
        tile_batch=tile_batch,
        resize=resize,
        large_format="tiff",
        max_pixels=None,
        value_range=None,
        seams=False,
        fresh=False,
    ).tiling


def _check_together(
    dataset: str, is_tiled: bool, ms_flip: bool, submission: Path | None, overwrite: bool, resize: str
) -> None:
    """Raise :class:`InputError` for options that contradict each other."""
    if ms_flip and is_tiled:
        raise InputError("--ms-flip and --tiling are two ways through the network; leave one of them away")
    if ms_flip and resize != "test":
        raise InputError(
            f"--resize {resize} and --ms-flip: the scales are those of the picture; leave one of them away"
        )
    if overwrite and submission is None:
        raise InputError("--overwrite is for label maps; add --submission DIR, or leave it away")
    if submission is None:
        return
    if dataset != "cityscapes":
        raise InputError(
            f"--submission is for --dataset cityscapes, not for {dataset}; isa-infer --labels writes labels"
        )
    if is_tiled:
        raise InputError(
            "--submission and --tiling: one label map a picture is wanted, and these are two; leave one away"
        )


def _note(line: str) -> None:
    typer.echo(f"isa-eval: {line}", err=True)


def main() -> None:
    """Entry point of ``isa-eval``."""
    run(app, "isa-eval")

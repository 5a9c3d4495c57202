"""The work of isa-infer: every source through the engine, and what is made of it into files."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from isa_deploy.cli.colour_order import in_colour_order
from isa_deploy.cli.interruption import Interruption
from isa_deploy.cli.progress import FileProgress
from isa_deploy.cli.results import Product, result_path
from isa_deploy.cli.run import one_line
from isa_deploy.cli.sources import Source
from isa_deploy.cli.statistics import Statistics, count_labels
from isa_deploy.cli.tally import Tally
from isa_deploy.cli.unusable import UnusableInputError, input_errors
from isa_deploy.cli.video_inference import VideoInference
from isa_deploy.cli.video_options import VideoOptions
from isa_deploy.cli.video_task import VideoTask
from isa_deploy.errors import InputError
from isa_deploy.runtime.images import MAX_PIXELS, ReadingAdvice, read_image, write_png
from isa_deploy.runtime.segmenter import Segmenter

__all__ = ["Inference", "LargeInference", "LargeResult"]

ADVICE = ReadingAdvice(
    too_large="use --tiling tiles, or allow more with --max-pixels",
    jpeg_2000="use --tiling tiles, or save it as TIFF or PNG",
)


class LargeResult(Protocol):
    """What came of a picture in tiles.  ``class_pixels``: its 256 counts of labels."""

    @property
    def path(self) -> Path: ...

    @property
    def size_hw(self) -> tuple[int, int]: ...

    @property
    def class_pixels(self) -> npt.NDArray[np.int64]: ...


class LargeInference(Protocol):
    """Pictures that go through the engine in tiles."""

    def takes(self, path: Path) -> bool:
        """Whether a picture is one of those.  Raises :class:`InputError` where it cannot be read."""

    def infer(self, source: Source) -> LargeResult:
        """Infer a picture and write its results."""


@dataclass
class Inference:
    """One run over all sources.

    :meth:`run` goes on after an input that cannot be used, and stops at anything else.  Pictures of more than
    ``max_pixels`` that are not cut into tiles cannot be used.
    """

    segmenter: Segmenter
    products: Sequence[Product]
    out: Path
    statistics: Statistics | None
    progress: FileProgress
    interruption: Interruption
    tally: Tally
    video: VideoOptions
    pictures: LargeInference
    max_pixels: int = MAX_PIXELS

    def run(self, sources: Sequence[Source]) -> None:
        """Infer all sources; :attr:`tally` counts.

        Raises :class:`InputError` where an output cannot be written or no source at all can be used,
        :class:`EngineError` where the engine fails, :class:`KeyboardInterrupt` after Ctrl-C.
        """
        begun = time.perf_counter()
        is_only = len(sources) == 1

        def failed(source: Source, error: UnusableInputError) -> None:
            if is_only:
                raise error
            self.tally.failed += 1
            self.progress.note(f"isa-infer: skipped: {one_line(error)}")

        try:
            for group in self._groups(sources):
                if group[0].kind == "video":
                    videos = VideoInference(
                        self.segmenter, self._open_task, failed, self.progress, self.interruption, self.tally
                    )
                    videos.run(group)
                    continue
                (source,) = group
                self.progress.begin(source.path.name)
                try:
                    self._infer_picture(source)
                except UnusableInputError as error:
                    failed(source, error)
                    self.progress.end("skipped")
            self.interruption.check()  # one that came during the last input's last frame
            if self.tally.failed == len(sources):
                raise InputError(f"none of the {len(sources)} inputs could be used; each is named above")
        finally:
            self.tally.total_s = time.perf_counter() - begun

    def _groups(self, sources: Sequence[Source]) -> Iterator[list[Source]]:
        """What is done together: each source alone, or all videos side by side, where the first of them stands."""
        videos = [source for source in sources if source.kind == "video"]
        for source in sources:
            if source.kind != "video" or not self.video.batch:
                yield [source]
            elif source is videos[0]:
                yield videos

    def _open_task(self, source: Source) -> VideoTask:
        names = self.segmenter.manifest.classes.names
        return VideoTask(source, self.products, self.out, self.statistics, names, self.video)

    def _infer_picture(self, source: Source) -> None:
        names = self.segmenter.manifest.classes.names
        with self.statistics.one_input(source, names) if self.statistics is not None else nullcontext() as rows:
            self.interruption.check()
            with input_errors():
                in_tiles = self.pictures.takes(source.path)
            class_pixels = self._infer_large(source) if in_tiles else self._infer_image(source)
            if rows is not None:
                rows.write(class_pixels)

    def _infer_large(self, source: Source) -> npt.NDArray[np.int64]:
        result = self.pictures.infer(source)
        if len(self.products) > 1:
            extra = " and ".join(product.name for product in self.products[1:])
            self.progress.note(
                f"isa-infer: {source.path}: no {extra} of its own: it was cut into tiles, and {result.path.name} holds "
                "the classes' numbers and their colours"
            )
        self.tally.images += 1
        self.tally.frames += 1
        height, width = result.size_hw
        self.progress.end(f"{width}x{height}, {result.path}")
        return result.class_pixels

    def _infer_image(self, source: Source) -> npt.NDArray[np.int64]:
        with input_errors():
            frame_hwc = read_image(source.path, self.max_pixels, ADVICE)
            image = in_colour_order(frame_hwc, self.segmenter.manifest)
            labels_hw = self.tally.engine(lambda: self.segmenter.segment(image))
        self.tally.frames += 1
        self.interruption.check()
        for product in self.products:
            write_png(result_path(product, source, self.out), product.draw(frame_hwc, labels_hw))
        self.tally.images += 1
        height, width = labels_hw.shape
        self.progress.end(f"{width}x{height}, {result_path(self.products[0], source, self.out)}")
        return count_labels(labels_hw)

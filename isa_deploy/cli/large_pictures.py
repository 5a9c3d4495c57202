"""Pictures in tiles: from a file of any size to a label map of that size, gone on with after an interruption."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

import isa_deploy
from isa_deploy.cli.colour_order import in_colour_order
from isa_deploy.cli.interruption import Interruption
from isa_deploy.cli.large_options import LargeOptions, parse_large_options
from isa_deploy.cli.progress import FileProgress
from isa_deploy.cli.sources import Source
from isa_deploy.cli.statistics import count_labels
from isa_deploy.cli.tally import Tally
from isa_deploy.cli.unusable import input_errors
from isa_deploy.errors import InputError
from isa_deploy.files import replacing
from isa_deploy.manifest import Manifest
from isa_deploy.runtime.image_header import HeaderError, peek_header
from isa_deploy.runtime.raster_library import load_rasterio
from isa_deploy.runtime.raster_reader import LargePicture, open_large_picture
from isa_deploy.runtime.raster_writer import NO_LABEL, write_label_png, write_label_tiff
from isa_deploy.runtime.seams import SeamAgreement, measure_seams
from isa_deploy.runtime.segmenter import Segmenter
from isa_deploy.runtime.tile_journal import Fingerprint, TileJournal, file_fingerprint
from isa_deploy.runtime.tiled import TilePlan, plan_tiles, tile_labels

__all__ = ["LargeOptions", "LargePictures", "LargeResult", "parse_large_options"]

UInt8 = npt.NDArray[np.uint8]

LARGE_PIXELS = 64_000_000
"""Pictures of more are cut by ``--tiling auto``: as a whole, the test scale would leave little of them, and at their
own size an engine would need tens of gigabytes."""

DARK = 32
"""12 bits stored in 16 come to at most 15 of 255, 13 bits to 31."""


@dataclass(frozen=True)
class LargeResult:
    """What came of a picture.

    ``path``: the label map.  ``tiles``: how many, of which ``resumed`` were there from an interrupted run.
    ``seconds``: of this run without the measuring of seams; of them ``engine_s`` were spent waiting for the engine.
    ``class_pixels``: how many pixels have each label, 256 counts.  ``seams``: None unless they were measured.
    """

    path: Path
    size_hw: tuple[int, int]
    tiles: int
    resumed: int
    seconds: float
    engine_s: float
    class_pixels: npt.NDArray[np.int64]
    seams: SeamAgreement | None


@dataclass
class LargePictures:
    """The pictures of one run of isa-infer that go through the engine in tiles.

    Results are ``NAME_labels.tif`` (or ``.png``) and ``NAME_tiles.json`` in ``out``.  Until they are complete, finished
    tiles are in ``.isa-NAME.tiles`` beside them.
    """

    segmenter: Segmenter
    options: LargeOptions
    out: Path
    progress: FileProgress
    interruption: Interruption
    tally: Tally = field(default_factory=Tally)

    def check(self, sources: Sequence[Source]) -> None:
        """Raise :class:`InputError` where a label map would have the name of an input.

        Raises :class:`BackendUnavailableError` where one will be cut and rasterio is missing: not after an hour.
        """
        inputs = {source.path.resolve() for source in sources}
        cut = [source for source in sources if source.kind == "image" and self.takes(source.path)]
        if cut:
            load_rasterio()
        for source in cut:
            path = self._labels_path(source)
            if path.resolve() in inputs:
                raise InputError(f"{path}: is an input and would be replaced by a result; choose another --out")

    def takes(self, path: Path) -> bool:
        """Whether a picture is cut.

        With ``--tiling auto``: JPEG 2000, TIFF with a georeference, and what has more than 64 million pixels.  A file
        without a readable header is left to whoever reads it.  Raises nothing.
        """
        if self.options.cut != "large":
            return self.options.cut == "always"
        try:
            header = peek_header(path)
        except (HeaderError, OSError):
            return False
        width, height = header.size_wh
        return header.format == "JPEG 2000" or header.georeferenced or width * height > LARGE_PIXELS

    def infer(self, source: Source) -> LargeResult:
        """Infer a picture and write its results.

        Raises ``UnusableInputError`` where the picture cannot be read or cut, :class:`InputError` where a result cannot
        be written, :class:`BackendUnavailableError` without rasterio, :class:`EngineError` where the engine fails, and
        :class:`KeyboardInterrupt` after Ctrl-C; the next run goes on after the tiles that are done.
        """
        begun = time.perf_counter()
        path = self._labels_path(source)
        self.interruption.check()
        with input_errors():
            found = file_fingerprint(source.path)  # before it is opened: of the file that is read, or of an older one
            picture = self._open(source)
        with picture:
            with input_errors():
                plan = plan_tiles(self.segmenter, picture.size_hw, self.options.tiling)
            fingerprint = self._fingerprint(found, plan)
            journal_path = self.out / f".isa-{source.name}.tiles"
            with TileJournal(journal_path, plan.grid, fingerprint, fresh=self.options.fresh) as journal:
                self._tell(source, journal, plan)
                try:
                    engine_s = self._compute(source, picture, plan, journal)
                    with input_errors():
                        self._check_unchanged(source, found)
                    class_pixels = self._write(path, picture, plan, journal)
                    seconds = time.perf_counter() - begun
                    seams = self._measure_seams(source, plan, journal) if self.options.seams else None
                except KeyboardInterrupt:
                    self.progress.note(
                        f"isa-infer: {source.path}: stopped after {len(journal)} of {plan.blocks} tiles; "
                        "the same command goes on from there"
                    )
                    raise
                result = LargeResult(
                    path, plan.size_hw, plan.blocks, journal.resumed, seconds, engine_s, class_pixels, seams
                )
                self._report(source, plan, result)
                journal.remove()
        return result

    def _labels_path(self, source: Source) -> Path:
        suffix = "tif" if self.options.large_format == "tiff" else "png"
        return self.out / f"{source.name}_labels.{suffix}"

    def _open(self, source: Source) -> LargePicture:
        return open_large_picture(source.path, self.options.max_pixels, self.options.value_range)

    def _check_unchanged(self, source: Source, found: Fingerprint) -> None:
        if file_fingerprint(source.path) != found:
            raise InputError(f"{source.path}: was changed while it was read; run the command again")

    def _fingerprint(self, found: Fingerprint, plan: TilePlan) -> Fingerprint:
        manifest, tiling = self.segmenter.manifest, plan.tiling
        return {
            "version": isa_deploy.__version__,
            "input": found,
            "value_range": str(self.options.value_range),
            # the checkpoint's hash, the export's options and a plan's own hash are in it
            "manifest": hashlib.sha256(manifest.to_json().encode()).hexdigest(),
            "backend": self.segmenter.backend_name,
            "precision": self.segmenter.precision,
            "size_hw": plan.size_hw,
            "tiling": [tiling.mode, tiling.tile_hw, tiling.halo],
        }

    def _tell(self, source: Source, journal: TileJournal, plan: TilePlan) -> None:
        if journal.resumed:
            self.progress.note(
                f"isa-infer: {source.path}: going on from an interrupted run: {journal.resumed} of {plan.blocks} tiles "
                "are done"
            )
        elif journal.replaced:
            self.progress.note(
                f"isa-infer: {source.path}: the picture, the engine or the options are not those of the interrupted "
                "run; begun anew"
            )

    def _compute(self, source: Source, picture: LargePicture, plan: TilePlan, journal: TileJournal) -> float:
        """Fill the journal.  The seconds spent waiting for the engine."""
        rows = _Rows(picture, self.segmenter.manifest)
        labelled = tile_labels(self.segmenter, rows, plan, journal.__contains__)
        engine_s = 0.0
        while True:
            self.interruption.check()
            begun, read_before = time.perf_counter(), rows.seconds
            with input_errors():
                found = next(labelled, None)
            waited_s = time.perf_counter() - begun - (rows.seconds - read_before)
            engine_s += waited_s
            self.tally.engine_s += waited_s
            if found is None:
                self._note_darkness(source, rows)
                return engine_s
            block, labels_hw = found
            valid = picture.valid(block.rows, block.cols) if self._marks_voids(picture) else None
            journal.add(block.index, labels_hw if valid is None else np.where(valid, labels_hw, np.uint8(NO_LABEL)))
            self.tally.tiles += 1
            self.progress.advance(len(journal) / plan.blocks, len(journal) - journal.resumed, "tiles")

    def _note_darkness(self, source: Source, rows: _Rows) -> None:
        if rows.brightest is not None and rows.brightest < DARK:
            self.progress.note(
                f"isa-infer: {source.path}: is nearly black: no value became more than {rows.brightest} of 255; if it "
                "has 10 to 12 bits stored in 16, say so: --value-range 0:4095"
            )

    def _measure_seams(self, source: Source, plan: TilePlan, journal: TileJournal) -> SeamAgreement:
        self.interruption.check()
        with input_errors(), self._open(source) as picture:
            return measure_seams(self.segmenter, _Rows(picture, self.segmenter.manifest), plan, journal.region)

    def _write(self, path: Path, picture: LargePicture, plan: TilePlan, journal: TileJournal) -> npt.NDArray[np.int64]:
        class_pixels = np.zeros(256, dtype=np.int64)
        width = plan.size_hw[1]

        def strips() -> Iterator[UInt8]:
            for rows in plan.grid.rows.blocks:
                self.interruption.check()
                strip_hw = journal.region(rows, (0, width))
                class_pixels[:] += count_labels(strip_hw)
                yield strip_hw

        classes, has_voids = self.segmenter.manifest.classes, self._marks_voids(picture)
        if self.options.large_format == "png":
            write_label_png(path, strips, plan.size_hw, classes, has_voids=has_voids)
            if picture.georeference is not None:
                self.progress.note(f"isa-infer: {path}: PNG holds no georeference; --large-format tiff keeps it")
        else:
            write_label_tiff(
                path,
                strips,
                plan.size_hw,
                classes,
                georeference=picture.georeference,
                has_voids=has_voids,
                description={"TIFFTAG_SOFTWARE": f"isa-deploy {isa_deploy.__version__}"},
            )
        return class_pixels

    def _marks_voids(self, picture: LargePicture) -> bool:
        # with 256 classes no label is left for pixels without data
        return picture.has_voids and len(self.segmenter.manifest.classes.names) <= NO_LABEL

    def _report(self, source: Source, plan: TilePlan, result: LargeResult) -> None:
        tiling = plan.tiling
        record: dict[str, object] = {
            "input": str(source.path),
            "labels": result.path.name,
            "size_hw": result.size_hw,
            "tiling": tiling.mode,
            "tile_hw": tiling.tile_hw,
            "halo": tiling.halo,
            "tiles": result.tiles,
            "resumed_tiles": result.resumed,
            "batch": tiling.batch,
            "seconds": round(result.seconds, 3),
            "engine_seconds": round(result.engine_s, 3),
            "engine_share": round(result.engine_s / result.seconds, 4),
            "backend": self.segmenter.backend_name,
            "precision": self.segmenter.precision,
            "device": self.segmenter.device,
        }
        if result.seams is not None:
            record["seams"] = {
                "places": result.seams.places,
                "agreement_near": result.seams.near,
                "agreement_elsewhere": result.seams.elsewhere,
            }
        with replacing(self.out / f"{source.name}_tiles.json") as temporary:
            text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
            # a file's name may be no text; its bytes become JSON's own escapes
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


class _Rows:
    """A picture's rows in the engine's colour order, the seconds that reading them took, and their largest value."""

    def __init__(self, picture: LargePicture, manifest: Manifest) -> None:
        self._picture = picture
        self._manifest = manifest
        self.seconds = 0.0
        self.brightest: int | None = None

    @property
    def size_hw(self) -> tuple[int, int]:
        return self._picture.size_hw

    def read_rows(self, start: int, stop: int) -> UInt8:
        begun = time.perf_counter()
        rows_hwc = in_colour_order(self._picture.read_rows(start, stop), self._manifest)
        self.brightest = max(self.brightest or 0, int(rows_hwc.max()))
        self.seconds += time.perf_counter() - begun
        return rows_hwc

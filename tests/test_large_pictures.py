"""Pictures in tiles, from the command line's words to the files, and through every kind of interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from cheap_engine import CLASSES, cheap_manifest, cheap_segmenter
from PIL import Image
from rasterio.transform import from_origin

from isa_deploy.cli.interruption import Interruption
from isa_deploy.cli.large_pictures import LargeOptions, LargePictures, parse_large_options
from isa_deploy.cli.sources import Source, find_sources
from isa_deploy.cli.unusable import UnusableInputError
from isa_deploy.errors import BackendUnavailableError, InputError
from isa_deploy.runtime.images import read_image
from isa_deploy.runtime.raster_values import ValueRange
from isa_deploy.runtime.segmenter import Segmenter
from isa_deploy.runtime.tiled import segment_tiled
from isa_deploy.runtime.tiling import Tiling

pytestmark = [
    # of what the tests themselves make with rasterio
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning:rasterio"),
]

UInt8 = npt.NDArray[np.uint8]

HEIGHT, WIDTH = 300, 400
TILING = Tiling("tiles", (128, 96), 16, 2)
DEFAULTS: dict[str, Any] = {
    "tiling": "auto",
    "tile": None,
    "halo": None,
    "tile_batch": "auto",
    "large_format": "tiff",
    "max_pixels": None,
    "value_range": None,
    "seams": False,
    "fresh": False,
    "resize": "test",
}


def options(**changes: Any) -> LargeOptions:
    return parse_large_options(**(DEFAULTS | changes))


TILES = replace(options(tiling="tiles"), tiling=TILING)


class Notes:
    """A progress that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.parts: list[float | None] = []

    def __enter__(self) -> Notes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def begin(self, title: str) -> None:
        pass

    def advance(self, part: float | None, count: int, things: str = "frames") -> None:
        assert things == "tiles"
        self.parts.append(part)

    def end(self, result: str) -> None:
        pass

    def note(self, line: str) -> None:
        self.lines.append(line)


class StopAfter(Interruption):
    """A Ctrl-C that comes at the n-th time of asking."""

    def __init__(self, asked: int) -> None:
        super().__init__()
        self.left = asked

    def check(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


def street(folder: Path, name: str = "street.png", height: int = HEIGHT, width: int = WIDTH, seed: int = 1) -> Source:
    folder.mkdir(exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (height // 20 + 1, width // 20 + 1, 3), dtype=np.uint8)
    frame_hwc = cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)
    cv2.imwrite(str(folder / name), frame_hwc)
    return Source(folder / name, "image", Path(name).stem)


def pictures(
    out: Path,
    options: LargeOptions = TILES,
    interruption: Interruption | None = None,
    segmenter: Segmenter | None = None,
    progress: Notes | None = None,
) -> LargePictures:
    out.mkdir(exist_ok=True)
    return LargePictures(
        segmenter or cheap_segmenter(), options, out, progress or Notes(), interruption or Interruption()
    )


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_the_labels_are_those_of_the_same_tiles_in_memory(tmp_path: Path) -> None:
    source, progress = street(tmp_path), Notes()
    result = pictures(tmp_path / "out", progress=progress).infer(source)
    wanted = segment_tiled(cheap_segmenter(), read_image(source.path), TILING)
    with rasterio.open(result.path) as file:
        assert np.array_equal(file.read(1), wanted)
    assert np.array_equal(result.class_pixels, np.bincount(wanted.ravel(), minlength=256))
    assert result.size_hw == (HEIGHT, WIDTH)
    assert names(tmp_path / "out") == ["street_labels.tif", "street_tiles.json"]
    assert progress.parts == [(index + 1) / result.tiles for index in range(result.tiles)]
    assert not progress.lines
    report = json.loads((tmp_path / "out" / "street_tiles.json").read_text())
    assert report["size_hw"] == [HEIGHT, WIDTH]
    assert report["tile_hw"] == [128, 96]
    assert (report["halo"], report["batch"], report["tiles"], report["resumed_tiles"]) == (16, 2, result.tiles, 0)
    assert 0 < report["engine_share"] < 1
    assert "seams" not in report


class WriteOnceAsked(Interruption):
    """Somebody who replaces the picture while its tiles are computed."""

    def __init__(self, path: Path, asked: int) -> None:
        super().__init__()
        self.path, self.left = path, asked

    def check(self) -> None:
        self.left -= 1
        if self.left == 0:
            Image.open(self.path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(self.path)


def test_a_picture_that_changes_while_it_is_read_is_refused_and_begun_anew(tmp_path: Path) -> None:
    source, out = street(tmp_path), tmp_path / "out"
    with pytest.raises(UnusableInputError, match="changed while it was read; run the command again"):
        pictures(out, interruption=WriteOnceAsked(source.path, 5)).infer(source)
    assert not (out / "street_labels.tif").exists()
    result = pictures(out).infer(source)
    assert result.resumed == 0
    with rasterio.open(result.path) as file:
        assert np.array_equal(file.read(1), segment_tiled(cheap_segmenter(), read_image(source.path), TILING))


@pytest.mark.skipif(sys.platform != "linux", reason="a name may be any bytes on Linux alone")
def test_a_report_names_a_picture_whose_name_is_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff.bmp")
    street(tmp_path, "plain.bmp").path.rename(tmp_path / name)
    pictures(tmp_path / "out").infer(Source(tmp_path / name, "image", "named"))
    report = json.loads((tmp_path / "out" / "named_tiles.json").read_text())
    assert report["input"] == str(tmp_path / name)


def test_a_png_is_written_on_request(tmp_path: Path) -> None:
    source = street(tmp_path)
    result = pictures(tmp_path / "out", replace(TILES, large_format="png")).infer(source)
    assert result.path.name == "street_labels.png"
    with Image.open(result.path) as image:
        assert np.array_equal(np.asarray(image), segment_tiled(cheap_segmenter(), read_image(source.path), TILING))


def test_an_engine_that_wants_rgb_gets_it(tmp_path: Path) -> None:
    source = street(tmp_path)
    manifest = cheap_manifest()
    rgb = manifest.input.model_copy(update={"colour_order": "RGB"})
    seen: list[UInt8] = []
    segmenter = cheap_segmenter(input=rgb)
    submit = segmenter.submit_logits

    def looked_at(images: Any) -> Any:
        seen.extend(images)
        return submit(images)

    segmenter.submit_logits = looked_at  # type: ignore[method-assign]
    pictures(tmp_path / "out", segmenter=segmenter).infer(source)
    assert np.array_equal(seen[0], read_image(source.path)[:128, :96, ::-1])


@pytest.mark.parametrize("size", [(50, 40), (1, 400), (300, 1), (1, 1)])
def test_a_picture_smaller_than_a_tile_or_one_pixel_wide_is_done(tmp_path: Path, size: tuple[int, int]) -> None:
    result = pictures(tmp_path / "out", replace(TILES, seams=True)).infer(street(tmp_path, "a.png", *size))
    with rasterio.open(result.path) as file:
        assert (file.height, file.width) == size


def test_a_map_keeps_its_place_and_its_pixels_without_data(tmp_path: Path) -> None:
    bands = np.full((3, HEIGHT, WIDTH), 90, np.uint8)
    bands[:, :100, 50:] = 0
    profile = {"driver": "GTiff", "count": 3, "height": HEIGHT, "width": WIDTH, "dtype": "uint8", "nodata": 0}
    place = {"crs": "EPSG:25832", "transform": from_origin(5e5, 5.5e6, 0.2, 0.2)}
    path = tmp_path / "map.tif"
    with rasterio.open(path, "w", **profile, **place, tiled=True, blockxsize=64, blockysize=64) as file:
        file.write(bands)
    result = pictures(tmp_path / "out").infer(Source(path, "image", "map"))
    with rasterio.open(result.path) as file:
        assert file.crs.to_epsg() == 25832
        assert file.transform == place["transform"]
        assert file.nodata == 255
        labels_hw = file.read(1)
    assert np.array_equal(labels_hw == 255, bands[0] == 0)
    assert result.class_pixels[255] == 100 * (WIDTH - 50)
    progress = Notes()
    pictures(tmp_path / "out", replace(TILES, large_format="png"), progress=progress).infer(
        Source(path, "image", "map")
    )
    assert "PNG holds no georeference" in progress.lines[0]


def test_the_seams_are_measured_on_request(tmp_path: Path) -> None:
    result = pictures(tmp_path / "out", replace(TILES, seams=True)).infer(street(tmp_path))
    assert result.seams is not None
    report = json.loads((tmp_path / "out" / "street_tiles.json").read_text())
    assert report["seams"]["places"] == result.seams.places > 0
    assert 0.5 < report["seams"]["agreement_near"] <= 1
    assert 0.5 < report["seams"]["agreement_elsewhere"] <= 1


@pytest.mark.parametrize("asked", [1, 2, 9, 20])
def test_an_interrupted_picture_goes_on_where_it_ended(tmp_path: Path, asked: int) -> None:
    source = street(tmp_path)
    whole = pictures(tmp_path / "whole").infer(source)
    progress = Notes()
    with pytest.raises(KeyboardInterrupt):
        pictures(tmp_path / "out", interruption=StopAfter(asked), progress=progress).infer(source)
    assert names(tmp_path / "out") == [".isa-street.tiles"]
    done = min(asked - 1, whole.tiles)
    assert f"stopped after {done} of {whole.tiles} tiles; the same command goes on" in progress.lines[-1]
    segmenter, progress = cheap_segmenter(), Notes()
    result = pictures(tmp_path / "out", segmenter=segmenter, progress=progress).infer(source)
    assert result.resumed == done
    assert segmenter._backend.calls == whole.tiles - done  # type: ignore[attr-defined]
    assert result.path.read_bytes() == whole.path.read_bytes()
    assert np.array_equal(result.class_pixels, whole.class_pixels)
    assert names(tmp_path / "out") == ["street_labels.tif", "street_tiles.json"]
    assert [f"{done} of {whole.tiles} tiles are done" in line for line in progress.lines] == [True] * bool(done)


@pytest.mark.parametrize("change", ["engine", "tile", "range", "picture", "fresh"])
def test_what_was_begun_for_something_else_is_begun_anew(tmp_path: Path, change: str) -> None:
    source, progress = street(tmp_path), Notes()
    with pytest.raises(KeyboardInterrupt):
        pictures(tmp_path / "out", interruption=StopAfter(6)).infer(source)
    changed, segmenter = TILES, cheap_segmenter()
    if change == "engine":
        segmenter = cheap_segmenter(precision="fp16")
    elif change == "tile":
        changed = replace(TILES, tiling=Tiling("tiles", (128, 96), 8, 2))
    elif change == "range":
        changed = replace(TILES, value_range=ValueRange(0, 9))
    elif change == "fresh":
        changed = replace(TILES, fresh=True)
    else:
        street(tmp_path, seed=2)
    result = pictures(tmp_path / "out", changed, segmenter=segmenter, progress=progress).infer(source)
    assert result.resumed == 0
    assert [line for line in progress.lines if "begun anew" in line] == progress.lines
    assert len(progress.lines) == (change != "fresh")


RUN = """
import os, signal, sys; sys.path.insert(0, {tests!r})
from pathlib import Path
from test_large_pictures import *
source, out, what, number = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
class Killed(Notes):
    def advance(self, part, count, things):
        if count == number:
            if what == "kill": os.kill(os.getpid(), signal.SIGKILL)
            if what == "term": os.kill(os.getpid(), signal.SIGTERM)
            if what == "wait": print("at work", flush=True); sys.stdin.read()
    def note(self, line): print(line, flush=True)
if what == "full":
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (number, number))
with Interruption() as interruption:
    try: pictures(out, interruption=interruption, progress=Killed()).infer(Source(source, "image", source.stem))
    except InputError as error: print(error)
    except KeyboardInterrupt: print("interrupted")
"""


def command(source: Source, out: Path, what: str, number: int) -> list[str]:
    program = RUN.format(tests=str(Path(__file__).parent))
    return [sys.executable, "-c", program, str(source.path), str(out), what, str(number)]


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    source = street(tmp_path)
    whole = pictures(tmp_path / "whole").infer(source)
    killed = subprocess.run(command(source, tmp_path / "out", "kill", 5), capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    journal = tmp_path / "out" / ".isa-street.tiles"
    with journal.open("ab") as file:
        file.write(b"tile\x07\0\0\0")  # what a kill in the middle of a write leaves
    result = pictures(tmp_path / "out").infer(source)
    assert result.resumed == 5
    assert result.path.read_bytes() == whole.path.read_bytes()
    assert names(tmp_path / "out") == ["street_labels.tif", "street_tiles.json"]


def test_sigterm_finishes_the_tile_and_says_how_to_go_on(tmp_path: Path) -> None:
    source = street(tmp_path)
    done = subprocess.run(command(source, tmp_path / "out", "term", 3), capture_output=True, text=True, check=True)
    assert "stopped after 3 of" in done.stdout
    assert done.stdout.endswith("interrupted\n")
    assert pictures(tmp_path / "out").infer(source).resumed == 3


def test_two_runs_at_once_do_not_share_a_picture(tmp_path: Path) -> None:
    source = street(tmp_path)
    with subprocess.Popen(
        command(source, tmp_path / "out", "wait", 2), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "at work\n"
        with pytest.raises(InputError, match="another isa-infer is at work on this picture") as caught:
            pictures(tmp_path / "out").infer(source)
        assert not isinstance(caught.value, UnusableInputError)
        first.communicate()
    assert names(tmp_path / "out") == ["street_labels.tif", "street_tiles.json"]


def test_a_full_disk_in_the_middle_can_be_gone_on_from(tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="needs a limit on file sizes in the place of a full disk: run on Unix")
    source = street(tmp_path)
    whole = pictures(tmp_path / "whole").infer(source)
    full = subprocess.run(command(source, tmp_path / "out", "full", 2500), capture_output=True, text=True, check=True)
    assert "cannot write the finished tiles" in full.stdout
    assert names(tmp_path / "out") == [".isa-street.tiles"]
    result = pictures(tmp_path / "out").infer(source)
    assert result.resumed > 0
    assert result.path.read_bytes() == whole.path.read_bytes()


def test_a_damaged_picture_is_an_unusable_input_and_its_tiles_stay(tmp_path: Path) -> None:
    source = street(tmp_path)
    data = source.path.read_bytes()
    source.path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UnusableInputError, match="damaged or cut off"):
        pictures(tmp_path / "out").infer(source)
    assert names(tmp_path / "out") == [".isa-street.tiles"]


def test_a_result_never_replaces_its_input(tmp_path: Path) -> None:
    source = street(tmp_path, "a_labels.png")
    with pytest.raises(InputError, match="is an input and would be replaced"):
        pictures(tmp_path, replace(TILES, large_format="png")).check([replace(source, name="a")])
    another = street(tmp_path, "a.png")
    with pytest.raises(InputError, match=r"a_labels\.png: is an input"):
        pictures(tmp_path, replace(TILES, large_format="png")).check([source, another])
    pictures(tmp_path, replace(TILES, large_format="tiff")).check([source, another])


def test_twelve_bits_stored_in_sixteen_are_said_to_be_nearly_black(tmp_path: Path) -> None:
    source = street(tmp_path)
    frame = cv2.imread(str(source.path))
    assert frame is not None
    deep = Source(tmp_path / "deep.png", "image", "deep")
    cv2.imwrite(str(deep.path), frame.astype(np.uint16) * 16)
    notes = Notes()
    dark = pictures(tmp_path / "dark", progress=notes).infer(deep)
    assert any("nearly black" in line and "--value-range" in line for line in notes.lines)
    notes = Notes()
    bright = replace(TILES, value_range=ValueRange(0, 255 * 16))
    assert pictures(tmp_path / "bright", bright, progress=notes).infer(deep).path != dark.path
    assert notes.lines == []


def test_a_missing_rasterio_is_heard_before_any_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = street(tmp_path)
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(BackendUnavailableError, match="raster"):
        pictures(tmp_path / "out").check([source])
    pictures(tmp_path / "out", options(tiling="whole")).check([source])


def headers(folder: Path) -> dict[str, tuple[Path, bool]]:
    """Pictures, and whether auto cuts them."""
    small = np.zeros((3, 9, 9), np.uint8)
    profile = {"count": 3, "height": 9, "width": 9, "dtype": "uint8"}
    with rasterio.open(folder / "plain.tif", "w", driver="GTiff", **profile) as file:
        file.write(small)
    place = {"crs": "EPSG:25832", "transform": from_origin(5e5, 5.5e6, 0.2, 0.2)}
    with rasterio.open(folder / "map.tif", "w", driver="GTiff", **profile, **place) as file:
        file.write(small)
    with rasterio.open(folder / "a.jp2", "w", driver="JP2OpenJPEG", **profile) as file:
        file.write(small)
    large = {"count": 3, "height": 8001, "width": 8000, "dtype": "uint8"}
    with rasterio.open(folder / "large.tif", "w", driver="GTiff", **large, tiled=True, SPARSE_OK=True):
        pass
    cv2.imwrite(str(folder / "a.png"), small.transpose(1, 2, 0))
    (folder / "text.png").write_text("no picture")
    cut = {"map.tif", "a.jp2", "large.tif"}
    return {path.name: (path, path.name in cut) for path in folder.iterdir()}


def test_auto_cuts_maps_large_pictures_and_jpeg_2000(tmp_path: Path) -> None:
    auto, always = pictures(tmp_path / "out", options()), pictures(tmp_path / "out", TILES)
    never = [options(tiling="whole"), options(resize="512x1024")]
    (tmp_path / "in").mkdir()
    for path, is_cut in headers(tmp_path / "in").values():
        assert auto.takes(path) == is_cut
        assert always.takes(path)
        assert not any(pictures(tmp_path / "out", each).takes(path) for each in never)
    assert not auto.takes(tmp_path / "missing.png")


def test_jpeg_2000_files_are_inputs(tmp_path: Path) -> None:
    for name in ("a.jp2", "B.J2K"):
        (tmp_path / name).write_bytes(b"x")
    assert [source.path.name for source in find_sources([str(tmp_path)])] == ["B.J2K", "a.jp2"]
    assert [source.kind for source in find_sources([str(tmp_path)])] == ["image", "image"]


def test_options_are_read() -> None:
    found = options(
        tiling="blend",
        tile="512x768",
        halo=32,
        tile_batch="3",
        large_format="png",
        max_pixels=5000,
        value_range="0:4095",
        seams=True,
        fresh=True,
        resize="none",
    )
    assert found == LargeOptions(
        "always",
        Tiling("blend", (512, 768), 32, 3),
        "png",
        5_000_000_000,
        1 << 30,  # what OpenCV decodes at most
        ValueRange(0, 4095),
        True,
        True,
    )
    assert options() == LargeOptions("large", Tiling("tiles"), "tiff", 4_000_000_000, 1 << 28, None, False, False)
    assert options(tiling="whole", max_pixels=7).max_pixels == 7_000_000


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tiling": "tile"}, "--tiling tile: none of: auto, whole, slide, tiles, blend"),
        ({"large_format": "jpg"}, "--large-format jpg: none of: tiff, png"),
        ({"tile": "512"}, "--tile 512: write HEIGHTxWIDTH"),
        ({"tile": "0x9"}, "a tile of 0x9 has no pixels"),
        ({"tile": "64x64", "halo": 32}, "leaves nothing of a tile"),
        ({"halo": -1}, "it must be 0 or more"),
        ({"tile_batch": "0"}, "--tile-batch 0: auto, or a number"),
        ({"tile_batch": "many"}, "--tile-batch many"),
        ({"value_range": "9:3"}, "value range 9:3"),
        ({"tiling": "whole", "halo": 8}, "--halo is for pictures in tiles"),
        ({"tiling": "whole", "fresh": True}, "--fresh is for pictures in tiles"),
        ({"tiling": "tiles", "resize": "512x512"}, "--resize 512x512 and --tiling tiles: tiles are never resized"),
        ({"resize": "512x512", "tile": "64x64"}, "--resize 512x512 and --tile: tiles are never resized"),
    ],
)
def test_options_that_make_no_sense_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        options(**changes)
    assert words in str(caught.value)


def test_the_palette_of_a_result_is_the_models(tmp_path: Path) -> None:
    result = pictures(tmp_path / "out").infer(street(tmp_path))
    with rasterio.open(result.path) as file:
        shown = file.colormap(1)
    assert [shown[label][:3] for label in range(CLASSES)] == list(cheap_manifest().classes.palette_rgb)


def test_isa_infer_writes_a_map_beside_a_picture(tmp_path: Path, streets_onnx: Path) -> None:
    picture = street(tmp_path / "in", "a.png", 64, 96)
    place = {"crs": "EPSG:25832", "transform": from_origin(5e5, 5.5e6, 0.2, 0.2)}
    with rasterio.open(
        tmp_path / "in" / "b.tif", "w", driver="GTiff", count=3, height=100, width=150, dtype="uint8", **place
    ) as file:
        file.write(np.ascontiguousarray(read_image(street(tmp_path, "b.png", 100, 150).path).transpose(2, 0, 1)[::-1]))
    arguments = [str(picture.path.parent), "--engine", str(streets_onnx), "--out", str(tmp_path / "out"), "--stats"]
    program = "from isa_deploy.cli.infer import main; main()"
    run = subprocess.run(
        [sys.executable, "-c", program, *arguments, "--tile", "64x64", "--halo", "8"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert names(tmp_path / "out") == ["a_overlay.png", "b_labels.tif", "b_tiles.json", "stats.jsonl"]
    with Segmenter.open(streets_onnx) as segmenter, rasterio.open(tmp_path / "out" / "b_labels.tif") as file:
        wanted = segment_tiled(segmenter, read_image(tmp_path / "b.png"), Tiling("tiles", (64, 64), 8))
        assert np.mean(file.read(1) == wanted) > 0.999  # batches may differ, and with them the last bits
        assert file.crs.to_epsg() == 25832
    records = [json.loads(line) for line in (tmp_path / "out" / "stats.jsonl").read_text().splitlines()]
    assert [Path(each["input"]).name for each in records] == ["a.png", "b.tif"]
    assert all(abs(sum(each["shares"].values()) - 1) < 1e-4 for each in records)

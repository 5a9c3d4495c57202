"""Label maps as tiled TIFF and as PNG."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from cheap_engine import CLASSES, cheap_manifest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.rpc import RPC
from rasterio.transform import from_origin

from isa_deploy.errors import InputError
from isa_deploy.runtime import raster_writer
from isa_deploy.runtime.raster_reader import Georeference
from isa_deploy.runtime.raster_writer import write_label_png, write_label_tiff

pytestmark = [
    # of what the tests themselves make with rasterio
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning:rasterio"),
]

UInt8 = npt.NDArray[np.uint8]

SPECS = cheap_manifest().classes
HEIGHT, WIDTH = 1100, 1300


def label_map(height: int = HEIGHT, width: int = WIDTH) -> UInt8:
    y, x = np.mgrid[0:height, 0:width]
    return ((y // 37 + x // 53) % CLASSES).astype(np.uint8)


def strips_of(labels_hw: UInt8, height: int) -> Iterator[UInt8]:
    for top in range(0, len(labels_hw), height):
        yield labels_hw[top : top + height]


def write(path: Path, labels_hw: UInt8, **options: Any) -> Path:
    write_label_tiff(path, lambda: strips_of(labels_hw, 300), labels_hw.shape, SPECS, **options)
    return path


def test_a_label_tiff_is_tiled_compressed_coloured_and_has_overviews(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", label_map())
    with rasterio.open(path) as file:
        assert np.array_equal(file.read(1), label_map())
        assert file.block_shapes == [(512, 512)]
        assert file.profile["compress"] == "deflate"
        assert file.colorinterp == (ColorInterp.palette,)
        colours = file.colormap(1)
        assert [colours[label][:3] for label in range(CLASSES)] == list(SPECS.palette_rgb)
        assert colours[255][:3] == (0, 0, 0)
        assert file.overviews(1) == [2, 4, 8]
        assert file.nodata is None
        assert [file.tags()[f"CLASS_{label}"] for label in range(CLASSES)] == list(SPECS.names)
    assert [each.name for each in tmp_path.iterdir()] == ["a.tif"]


def test_other_readers_see_the_same_labels(tmp_path: Path) -> None:
    with Image.open(write(tmp_path / "a.tif", label_map())) as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), label_map())
        assert image.getpalette()[:3] == list(SPECS.palette_rgb[0])


def test_an_overview_has_the_most_frequent_labels(tmp_path: Path) -> None:
    labels_hw = np.zeros((600, 600), np.uint8)
    labels_hw[::2, ::2] = 3  # what taking every second pixel would show
    with rasterio.open(write(tmp_path / "a.tif", labels_hw), overview_level=0) as file:
        assert (file.read(1) == 0).all()


def test_pixels_without_data_are_declared(tmp_path: Path) -> None:
    labels_hw = label_map()
    labels_hw[:100] = 255
    with rasterio.open(write(tmp_path / "a.tif", labels_hw, has_voids=True)) as file:
        assert file.nodata == 255
        assert np.array_equal(file.read_masks(1) != 0, labels_hw != 255)


def nowhere(**changes: Any) -> Georeference:
    fields = {"crs": None, "transform": None, "gcps": (), "gcps_crs": None, "rpcs": None, "pixel_is": None}
    return Georeference(**(fields | changes))


def test_the_georeference_is_kept(tmp_path: Path) -> None:
    crs, transform = CRS.from_epsg(25832), from_origin(5e5, 5.5e6, 0.2, 0.2)
    path = write(tmp_path / "a.tif", label_map(), georeference=nowhere(crs=crs, transform=transform, pixel_is="Point"))
    with rasterio.open(path) as file:
        assert (file.crs, file.transform) == (crs, transform)
        assert file.tags()["AREA_OR_POINT"] == "Point"


def test_ground_control_points_and_camera_coefficients_are_kept(tmp_path: Path) -> None:
    points = [GroundControlPoint(row, col, 7 + col / 1e4, 50 - row / 1e4, 3.0) for row, col in ((0, 0), (0, 9), (9, 0))]
    path = write(
        tmp_path / "a.tif", label_map(), georeference=nowhere(gcps=tuple(points), gcps_crs=CRS.from_epsg(4326))
    )
    with rasterio.open(path) as file:
        found, crs = file.gcps
        assert crs == CRS.from_epsg(4326)
        assert [(each.row, each.col, each.x, each.y) for each in found] == [(p.row, p.col, p.x, p.y) for p in points]
    coefficients = [1.0, *[0.0] * 19]
    rpcs = RPC(
        height_off=1, height_scale=2, lat_off=3, lat_scale=4, line_den_coeff=coefficients, line_num_coeff=coefficients,
        line_off=5, line_scale=6, long_off=7, long_scale=8, samp_den_coeff=coefficients, samp_num_coeff=coefficients,
        samp_off=9, samp_scale=10,
    )  # fmt: skip
    with rasterio.open(write(tmp_path / "b.tif", label_map(), georeference=nowhere(rpcs=rpcs))) as file:
        assert file.rpcs.lat_off == 3
        assert file.rpcs.samp_scale == 10


@given(
    height=st.integers(1, 1200),
    width=st.sampled_from([1, 7, 600]),
    strip=st.sampled_from([1, 100, 511, 512, 513, 2000]),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_strips_of_any_height_give_the_same_picture(tmp_path: Path, height: int, width: int, strip: int) -> None:
    labels_hw = label_map(height, width)
    strip = max(strip, height // 50)
    write_label_tiff(tmp_path / "a.tif", lambda: strips_of(labels_hw, strip), labels_hw.shape, SPECS)
    write_label_png(tmp_path / "a.png", lambda: strips_of(labels_hw, strip), labels_hw.shape, SPECS)
    with rasterio.open(tmp_path / "a.tif") as file:
        assert np.array_equal(file.read(1), labels_hw)
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), labels_hw)


def test_a_label_png_has_a_palette(tmp_path: Path) -> None:
    labels_hw = label_map()
    labels_hw[:9] = 255
    write_label_png(tmp_path / "a.png", lambda: strips_of(labels_hw, 300), labels_hw.shape, SPECS, has_voids=True)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "P"
        rgba = np.asarray(image.convert("RGBA"))
    assert np.array_equal(rgba[..., 3] == 0, labels_hw == 255)
    shown = cv2.imread(str(tmp_path / "a.png"))[..., ::-1]
    assert np.array_equal(shown[9:], np.array(SPECS.palette_rgb, np.uint8)[labels_hw[9:]])


@pytest.mark.parametrize("writer", [write_label_tiff, write_label_png])
def test_too_few_rows_leave_nothing(tmp_path: Path, writer: Any) -> None:
    with pytest.raises(ValueError, match="rows of labels"):
        writer(tmp_path / "a", lambda: strips_of(label_map(), 300), (HEIGHT + 1, WIDTH), SPECS)
    assert not list(tmp_path.iterdir())


FULL = """
import resource, sys; sys.path.insert(0, {tests!r})
import numpy as np
from pathlib import Path
from test_raster_writer import SPECS, strips_of
from isa_deploy.errors import InputError
from isa_deploy.runtime.raster_writer import *
noise = np.random.default_rng(0).integers(0, 8, (2000, 2000), dtype=np.uint8)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
writer = write_label_png if sys.argv[1].endswith("png") else write_label_tiff
try: writer(Path(sys.argv[1]), lambda: strips_of(noise, 300), noise.shape, SPECS)
except InputError as error: print(error)
"""


@pytest.mark.parametrize(
    ("name", "limit"),
    # in the first tile, in the middle, in the last tiles, in the overviews
    [("a.tif", 1000), ("a.tif", 700_000), ("a.tif", 1_680_000), ("a.tif", 1_900_000), ("a.png", 700_000)],
)
def test_a_full_disk_is_noticed_and_leaves_nothing(tmp_path: Path, name: str, limit: int) -> None:
    pytest.importorskip("resource", reason="needs a limit on file sizes in the place of a full disk: run on Unix")
    program = FULL.format(tests=str(Path(__file__).parent))
    command = [sys.executable, "-c", program, str(tmp_path / name), str(limit)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.startswith(f"{tmp_path / name}: cannot "), run.stderr
    assert run.stdout.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_what_reads_back_differently_is_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raster_writer, "_checksum", lambda *_: 0)  # a disk that lost something without a word
    with pytest.raises(InputError, match="reads back differently"):
        write(tmp_path / "a.tif", label_map())
    assert not list(tmp_path.iterdir())


def test_overviews_are_read_back_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    levels: list[int] = []
    monkeypatch.setattr(raster_writer, "_read_through", lambda rasterio, path, level: levels.append(level))
    write(tmp_path / "a.tif", label_map())
    assert levels == [0, 1, 2]


def test_a_folder_that_is_missing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none/a.tif: cannot write"):
        write(tmp_path / "none" / "a.tif", label_map(9, 9))

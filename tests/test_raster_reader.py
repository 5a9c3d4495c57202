"""Large pictures of every kind, honest and hostile, read from the top."""

from __future__ import annotations

import io
import itertools
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin

from isa_deploy.errors import InputError
from isa_deploy.runtime import raster_reader
from isa_deploy.runtime.images import read_image
from isa_deploy.runtime.raster_reader import RasterReader, WholePicture, open_large_picture
from isa_deploy.runtime.raster_values import ValueRange

pytestmark = [
    # of what the tests themselves make with rasterio
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning:rasterio"),
]

UInt8 = npt.NDArray[np.uint8]

HEIGHT, WIDTH = 150, 230


def gradient_bgr(height: int = HEIGHT, width: int = WIDTH) -> UInt8:
    """Smooth, so that JPEG keeps it, and different in every corner and channel."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // width, y * 255 // height, 255 - (x + y) * 255 // (width + height)], -1).astype(np.uint8)


def write_raster(path: Path, bands: npt.NDArray[Any], interpretation: str = "", **options: Any) -> Path:
    """``bands``: B x H x W."""
    count, height, width = bands.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": bands.dtype.name}
    with rasterio.open(path, "w", **(profile | options)) as file:
        file.write(bands)
        if interpretation:
            file.colorinterp = [ColorInterp[name] for name in interpretation.split()]
    return path


def planes_rgb(frame_hwc: UInt8) -> UInt8:
    return np.ascontiguousarray(frame_hwc[..., ::-1].transpose(2, 0, 1))


def read_all(path: Path, rows: int = 37, **options: Any) -> UInt8:
    with RasterReader(path, **options) as reader:
        height = reader.size_hw[0]
        return np.concatenate([reader.read_rows(y, min(y + rows, height)) for y in range(0, height, rows)])


TIFFS: dict[str, dict[str, Any]] = {
    "strips": {},
    "tiles": {"tiled": True, "blockxsize": 64, "blockysize": 48, "compress": "deflate"},
    "planes": {"interleave": "band", "tiled": True, "blockxsize": 64, "blockysize": 64},
    "bigtiff": {"bigtiff": "YES", "compress": "lzw", "predictor": 2},
    "one strip": {"blockysize": HEIGHT, "compress": "deflate"},
    "big-endian": {"endianness": "BIG"},
}


@pytest.mark.parametrize("kind", TIFFS)
def test_eight_bit_tiffs_equal_read_image(tmp_path: Path, kind: str) -> None:
    path = write_raster(tmp_path / "a.tif", planes_rgb(gradient_bgr()), photometric="rgb", **TIFFS[kind])
    assert np.array_equal(read_all(path), read_image(path))
    assert np.array_equal(read_all(path), gradient_bgr())


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("grey", [False, True])
def test_png_and_jpeg_equal_read_image(tmp_path: Path, suffix: str, grey: bool) -> None:
    path = tmp_path / f"a{suffix}"
    frame_hwc = gradient_bgr()
    cv2.imwrite(str(path), frame_hwc[..., 0] if grey else frame_hwc)
    difference = np.abs(read_all(path).astype(np.int64) - read_image(path))
    assert difference.max() <= (0 if suffix == ".png" else 3)  # two decoders of JPEG


def test_jpeg_2000_without_loss_comes_back_exactly(tmp_path: Path) -> None:
    path = write_raster(
        tmp_path / "a.jp2",
        planes_rgb(gradient_bgr()),
        driver="JP2OpenJPEG",
        QUALITY="100",
        REVERSIBLE="YES",
        BLOCKXSIZE=64,
        BLOCKYSIZE=64,
    )
    assert np.array_equal(read_all(path), gradient_bgr())
    with pytest.raises(InputError, match="JPEG 2000 is read in tiles only"):
        read_image(path)


def test_jpeg_inside_tiff_in_ycbcr_is_colours(tmp_path: Path) -> None:
    path = write_raster(
        tmp_path / "a.tif",
        planes_rgb(gradient_bgr()),
        photometric="ycbcr",
        compress="jpeg",
        jpeg_quality=95,
        tiled=True,
        blockxsize=64,
        blockysize=64,
    )
    assert np.abs(read_all(path).astype(np.int64) - gradient_bgr()).mean() < 2


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_inks_become_colours(tmp_path: Path, form: str) -> None:
    path = tmp_path / "a"
    Image.fromarray(gradient_bgr()[..., ::-1]).convert("CMYK").save(path, form)
    assert np.abs(read_all(path).astype(np.int64) - gradient_bgr()).mean() < 3


def test_a_palette_becomes_its_colours(tmp_path: Path) -> None:
    image = Image.fromarray(gradient_bgr()[..., ::-1]).quantize(16)
    for suffix in ("png", "tif"):
        image.save(tmp_path / f"a.{suffix}")
        assert np.array_equal(read_all(tmp_path / f"a.{suffix}")[..., ::-1], np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("bits", [1, 8])
def test_grey_of_both_polarities_equals_read_image(tmp_path: Path, photometric: str, bits: int) -> None:
    grey = (gradient_bgr()[..., 0] >> (8 - bits))[None]
    path = write_raster(tmp_path / "a.tif", grey, photometric=photometric, nbits=bits)
    assert np.array_equal(read_all(path), read_image(path))


def test_sixteen_bits_become_the_nearest_of_x_over_257(tmp_path: Path) -> None:
    values = np.arange(1 << 16, dtype=np.uint16).reshape(1, 256, 256)
    path = write_raster(tmp_path / "a.tif", values)
    found = read_all(path)
    assert np.array_equal(found[..., 0], np.round(values[0] / 257).astype(np.uint8))
    assert np.abs(found.astype(np.int64) - read_image(path)).max() <= 1


def test_twelve_bits_in_sixteen_fill_the_range(tmp_path: Path) -> None:
    values = np.arange(1 << 12, dtype=np.uint16).reshape(1, 64, 64)
    path = write_raster(tmp_path / "a.tif", values, nbits=12)
    assert np.array_equal(read_all(path)[..., 0], np.round(values[0] / 4095 * 255).astype(np.uint8))


def test_a_value_range_stretches_sixteen_bits_and_floats(tmp_path: Path) -> None:
    values = np.linspace(-100, 1100, HEIGHT * WIDTH, dtype=np.float32).reshape(1, HEIGHT, WIDTH)
    wanted = np.floor(np.clip(values[0] / 1000, 0, 1) * 255 + 0.5)
    for dtype in (np.float32, np.int16, np.int32, np.float64):
        path = write_raster(tmp_path / "a.tif", values.astype(dtype))
        found = read_all(path, value_range=ValueRange(0, 1000))
        assert np.abs(found[..., 1] - wanted).max() <= (0 if dtype == np.float32 else 1)


@pytest.mark.parametrize("dtype", ["float32", "int16", "uint32"])
def test_values_without_a_usual_range_need_one(tmp_path: Path, dtype: str) -> None:
    path = write_raster(tmp_path / "a.tif", np.zeros((1, 9, 9), dtype=dtype))
    with pytest.raises(InputError, match=rf"a.tif: values of type {dtype} .* --value-range LOW:HIGH"):
        RasterReader(path)


def test_four_bands_are_colours_and_alpha_or_near_infrared(tmp_path: Path) -> None:
    fourth = np.tile(np.arange(WIDTH, dtype=np.uint8) % 3, (HEIGHT, 1))
    bands = np.concatenate([planes_rgb(gradient_bgr()), fourth[None]])
    for alpha, has_voids in (("unspecified", False), ("yes", True)):
        path = write_raster(tmp_path / f"{alpha}.tif", bands, photometric="rgb", alpha=alpha)
        with RasterReader(path) as reader:
            assert np.array_equal(reader.read_rows(0, HEIGHT), gradient_bgr())
            assert reader.has_voids == has_voids
            valid = reader.valid((10, 90), (13, 200))
            if has_voids:
                assert valid is not None
                assert np.array_equal(valid, fourth[10:90, 13:200] != 0)
            else:
                assert valid is None


def test_bands_in_another_order_are_found_by_their_names(tmp_path: Path) -> None:
    bands = planes_rgb(gradient_bgr())
    path = write_raster(tmp_path / "a.tif", bands[::-1], "blue green red", photometric="minisblack")
    assert np.array_equal(read_all(path), gradient_bgr())


def test_two_bands_are_grey_and_alpha_or_refused(tmp_path: Path) -> None:
    grey = gradient_bgr()[..., 0]
    bands = np.stack([grey, np.where(grey > 100, 255, 0).astype(np.uint8)])
    with RasterReader(write_raster(tmp_path / "a.tif", bands, alpha="yes")) as reader:
        assert np.array_equal(reader.read_rows(0, HEIGHT), np.dstack([grey] * 3))
        assert np.array_equal(reader.valid((0, HEIGHT), (0, WIDTH)), grey > 100)
    with pytest.raises(InputError, match=r"2 bands \(gray, undefined\).* pictures have 1 "):
        RasterReader(write_raster(tmp_path / "b.tif", bands, alpha="unspecified"))


@pytest.mark.parametrize("count", [5, 12])
def test_more_bands_are_refused(tmp_path: Path, count: int) -> None:
    with pytest.raises(InputError, match=f"{count} bands"):
        RasterReader(write_raster(tmp_path / "a.tif", np.zeros((count, 9, 9), np.uint8)))


def test_no_data_is_where_every_band_has_the_value(tmp_path: Path) -> None:
    frame_hwc = gradient_bgr()
    frame_hwc[20:50, 100:] = 0
    for channel in range(3):  # one band alone is a colour
        frame_hwc[60 + 5 * channel : 65 + 5 * channel, 50:, channel] = 0
    path = write_raster(tmp_path / "a.tif", planes_rgb(frame_hwc), nodata=0, tiled=True, blockxsize=64, blockysize=64)
    with RasterReader(path) as reader:
        for y in range(0, HEIGHT, 30):
            reader.read_rows(y, y + 30)
            for cols in ((0, 101), (101, WIDTH)):
                valid = reader.valid((y, y + 30), cols)
                assert np.array_equal(valid, frame_hwc[y : y + 30, slice(*cols)].any(axis=2))


def test_what_is_not_a_number_holds_no_data(tmp_path: Path) -> None:
    values = np.ones((1, 20, 30), np.float32)
    values[0, 5:9, 7:] = np.nan
    with RasterReader(write_raster(tmp_path / "a.tif", values), value_range=ValueRange(0, 1)) as reader:
        assert np.array_equal(reader.read_rows(0, 20)[..., 0], np.where(np.isnan(values[0]), 0, 255))
        assert np.array_equal(reader.valid((0, 20), (0, 30)), ~np.isnan(values[0]))


def test_a_mask_inside_the_file_hides_pixels(tmp_path: Path) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, 50:180] = 255
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            tmp_path / "a.tif", "w", driver="GTiff", count=3, height=HEIGHT, width=WIDTH, dtype="uint8"
        ) as file,
    ):
        file.write(planes_rgb(gradient_bgr()))
        file.write_mask(mask)
    with RasterReader(tmp_path / "a.tif") as reader:
        reader.read_rows(0, HEIGHT)
        assert np.array_equal(reader.valid((0, HEIGHT), (0, WIDTH)), mask > 0)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(st.integers(0, HEIGHT), min_size=2, max_size=12, unique=True),
    skipped=st.sets(st.integers(0, 10)),
    block=st.sampled_from([16, 48, 64, 160]),
)
def test_any_rising_ranges_give_the_pictures_rows(
    tmp_path: Path, cuts: list[int], skipped: set[int], block: int
) -> None:
    path = tmp_path / f"{block}.tif"
    frame_hwc = gradient_bgr()
    if not path.exists():
        write_raster(path, planes_rgb(frame_hwc), nodata=0, tiled=True, blockxsize=block, blockysize=block)
    cuts.sort()
    with RasterReader(path) as reader:
        for index, (start, stop) in enumerate(itertools.pairwise(cuts)):
            if index not in skipped:
                assert np.array_equal(reader.read_rows(start, stop), frame_hwc[start:stop])
                valid = reader.valid((start, stop), (3, 99))
                assert valid is not None
                assert np.array_equal(valid, frame_hwc[start:stop, 3:99].any(axis=2))


def test_no_block_is_decoded_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_raster(tmp_path / "a.tif", planes_rgb(gradient_bgr()), tiled=True, blockxsize=64, blockysize=64)
    decoded: list[tuple[int, int]] = []
    decode = RasterReader._decode

    def counted(self: RasterReader, first: int, last: int, out_hwc: UInt8) -> None:
        decoded.append((first, last))
        decode(self, first, last, out_hwc)

    monkeypatch.setattr(RasterReader, "_decode", counted)
    read_all(path, rows=17)
    assert sum(last - first for first, last in decoded) == HEIGHT


@pytest.mark.parametrize("shape", [(1, 300), (300, 1), (1, 1)])
def test_a_picture_of_one_pixels_width_is_read(tmp_path: Path, shape: tuple[int, int]) -> None:
    frame_hwc = gradient_bgr(*shape)
    assert np.array_equal(read_all(write_raster(tmp_path / "a.tif", planes_rgb(frame_hwc))), frame_hwc)


def test_the_georeference_is_told(tmp_path: Path) -> None:
    path = write_raster(
        tmp_path / "a.tif", planes_rgb(gradient_bgr()), crs="EPSG:25832", transform=from_origin(5e5, 5.5e6, 0.2, 0.2)
    )
    with RasterReader(path) as reader:
        assert reader.georeference is not None
        assert reader.georeference.crs.to_epsg() == 25832
        assert reader.georeference.transform == from_origin(5e5, 5.5e6, 0.2, 0.2)
    with RasterReader(write_raster(tmp_path / "b.tif", planes_rgb(gradient_bgr()))) as reader:
        assert reader.georeference is None


def test_nothing_beside_the_picture_is_read_or_made(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", planes_rgb(gradient_bgr()))
    plain = read_all(path)
    (tmp_path / "a.tfw").write_text("0.2\n0\n0\n-0.2\n500000\n5500000\n")
    (tmp_path / "a.tif.aux.xml").write_text(
        '<PAMDataset><SRS>EPSG:4326</SRS><Metadata><MDI key="x">y</MDI></Metadata></PAMDataset>'
    )
    write_raster(tmp_path / "a.tif.msk", np.zeros((1, HEIGHT, WIDTH), np.uint8))
    before = sorted(tmp_path.iterdir())
    with RasterReader(path) as reader:
        assert reader.georeference is None
        assert not reader.has_voids
        assert np.array_equal(reader.read_rows(0, HEIGHT), plain)
    assert sorted(tmp_path.iterdir()) == before


VRT = """<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>
<SourceFilename>{source}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"""


def disguised(folder: Path) -> dict[str, Path]:
    texts = {
        "vrt.tif": VRT.format(source="/vsicurl/http://127.0.0.1:9/a.tif"),
        "wms.tif": "<GDAL_WMS><Service name='TMS'><ServerUrl>http://127.0.0.1:9/</ServerUrl></Service></GDAL_WMS>",
        "name.tif": "/vsicurl/http://127.0.0.1:9/a.tif",
        # with a TIFF's first bytes and a VRT behind them
        "both.tif": "II*\0\x08\0\0\0" + VRT.format(source="/etc/passwd"),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    # GDAL's VRT driver looks for its word anywhere in the first bytes; this comment is in a JPEG that decodes
    comment = VRT.format(source="/etc/passwd").encode() + b"<!--" + b"-" * 200
    data = cv2.imencode(".jpg", gradient_bgr())[1].tobytes()
    data = b"\xff\xd8\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment + data[2:]
    (folder / "comment.jpg").write_bytes(data)
    return {name: folder / name for name in texts} | {"comment.jpg": folder / "comment.jpg"}


@pytest.mark.parametrize("name", ["vrt.tif", "wms.tif", "name.tif", "both.tif"])
def test_a_file_that_names_other_files_is_no_picture(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=rf"{name}: ") as caught:
        RasterReader(disguised(tmp_path)[name])
    assert "\n" not in str(caught.value)


def test_a_picture_with_a_vrt_inside_is_the_picture(tmp_path: Path) -> None:
    path = disguised(tmp_path)["comment.jpg"]
    with RasterReader(path) as reader:
        assert reader.size_hw == (HEIGHT, WIDTH)
        assert np.abs(reader.read_rows(0, HEIGHT).astype(np.int64) - read_image(path)).max() <= 3


@pytest.mark.parametrize("name", ["/vsicurl/http://127.0.0.1:9/a.tif", "http://127.0.0.1:9/a.tif", "zip://a.zip!a.tif"])
def test_an_address_is_no_file(name: str) -> None:
    with pytest.raises(InputError, match="no such file"):
        RasterReader(Path(name))


@pytest.mark.parametrize("name", ["we?ird#1.tif", "a!b.tif", "GTIFF_DIR:1:a.tif", "http:x.tif", "-.tif", "ä ö.tif"])
def test_a_file_may_have_any_name(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plain.tif"
    write_raster(path, planes_rgb(gradient_bgr()))
    path.rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert np.array_equal(read_all(Path(name)), gradient_bgr())


@pytest.mark.skipif(sys.platform != "linux", reason="a name may be any bytes on Linux alone")
def test_a_name_that_is_no_text_is_refused_with_advice(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.tif")
    write_raster(tmp_path / "plain.tif", planes_rgb(gradient_bgr())).rename(path)
    with pytest.raises(InputError, match="rename the file"):
        open_large_picture(path)


@pytest.mark.parametrize("asked", ["_layout", "_georeference"])
def test_what_gdal_finds_wrong_only_when_it_is_asked_for_tags_is_an_input_error(
    tmp_path: Path, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_raster(tmp_path / "a.tif", planes_rgb(gradient_bgr()))

    def damaged(*_: Any) -> None:
        raise rasterio._err.CPLE_AppDefinedError(1, 1, "Key GTRasterTypeGeoKey has count=65281")

    monkeypatch.setattr(raster_reader, asked, damaged)
    with pytest.raises(InputError, match=r"a\.tif: cannot open it as TIFF \(Key GTRasterTypeGeoKey"):
        RasterReader(path)


def test_folders_pipes_and_empty_files_are_told_apart(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tif")
    (tmp_path / "empty.tif").write_bytes(b"")
    for path, words in (
        (tmp_path, "this is a folder"),
        (tmp_path / "pipe.tif", "no ordinary file"),
        (tmp_path / "empty.tif", "the file is empty"),
        (tmp_path / "none.tif", "no such file"),
    ):
        with pytest.raises(InputError, match=words):
            RasterReader(path)


def test_a_corrupt_tile_in_the_middle_is_named_by_its_rows(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 256, 256), dtype=np.uint8)
    path = write_raster(tmp_path / "a.tif", noise, tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    with rasterio.open(path) as file:
        at, length = (int(file.get_tag_item(f"BLOCK_{what}_1_2", "TIFF", bidx=1)) for what in ("OFFSET", "SIZE"))
    data = bytearray(path.read_bytes())
    data[at : at + length] = bytes(length)
    path.write_bytes(data)
    with (
        RasterReader(path) as reader,
        pytest.raises(InputError, match=r"a.tif: cannot decode rows 128 to 191, columns 64 to 127: ") as caught,
    ):
        reader.read_rows(0, 256)
    assert "\n" not in str(caught.value)
    with RasterReader(path) as reader:
        assert np.array_equal(reader.read_rows(0, 64), noise.transpose(1, 2, 0)[:64, :, ::-1])


@pytest.mark.parametrize("form", ["tif", "tiled.tif", "png", "jpg", "jp2"])
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_file_cut_off_is_refused(tmp_path: Path, form: str, part: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 256, 256), dtype=np.uint8)
    path = tmp_path / f"a.{form}"
    if form == "jp2":
        write_raster(path, noise, driver="JP2OpenJPEG", QUALITY="100", REVERSIBLE="YES")
    elif form in ("png", "jpg"):
        cv2.imwrite(str(path), noise.transpose(1, 2, 0))
    else:
        write_raster(path, noise, **({"tiled": True, "blockxsize": 64, "blockysize": 64} if "tiled" in form else {}))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(InputError, match=r"cut off|cannot open"):
        read_all(path)


def tiff_header(width: int, height: int, *tags: tuple[int, int, int]) -> bytes:
    """A TIFF of which there is nothing but the first directory."""
    entries = sorted([(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), *tags])
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + bytes(4)


def test_a_header_that_claims_a_billion_by_a_billion_is_refused_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rasterio, "open", None)  # GDAL must not see it
    (tmp_path / "a.tif").write_bytes(tiff_header(10**9, 10**9))
    jp2 = b"\xff\x4f\xff\x51" + struct.pack(">HH8I", 47, 0, 10**9, 10**9, 0, 0, 10**9, 10**9, 0, 0)
    (tmp_path / "a.j2k").write_bytes(jp2)
    png = struct.pack(">II", 10**9, 10**9) + b"\x08\x02\0\0\0"
    chunk = b"IHDR" + png
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + bytes(3)
        + b"\1IDAT\0"
    )
    for name in ("a.tif", "a.j2k", "a.png"):
        with pytest.raises(InputError, match=r"1000000000x1000000000 is \d+ million pixels.*--max-pixels"):
            open_large_picture(tmp_path / name)


def test_the_limit_is_the_callers(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", planes_rgb(gradient_bgr()))
    RasterReader(path, max_pixels=HEIGHT * WIDTH).close()
    with pytest.raises(InputError, match="--max-pixels"):
        RasterReader(path, max_pixels=HEIGHT * WIDTH - 1)


BOMB = """
import sys, numpy as np; from pathlib import Path
from isa_deploy.errors import InputError; from isa_deploy.runtime.raster_reader import open_large_picture
def peak(): return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) >> 10
before = peak()
try:
    with open_large_picture(Path(sys.argv[1])) as picture:
        picture.read_rows(0, 1000)
        print("read", end=" ")
except InputError as error: print("refused", end=" ")
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc: run on Linux")
@pytest.mark.parametrize("kind", ["tiles", "strip", "rows"])
def test_a_small_file_that_claims_900_million_pixels_takes_little_memory(tmp_path: Path, kind: str) -> None:
    side = 30000
    options = {
        "tiles": {"tiled": True, "SPARSE_OK": True},
        # one compressed strip of half the picture
        "strip": {"blockysize": side // 2, "SPARSE_OK": True},
        "rows": {"blockysize": 1, "SPARSE_OK": True},
    }[kind]
    path = tmp_path / "a.tif"
    profile = {"driver": "GTiff", "count": 3, "height": side, "width": side, "dtype": "uint8", "compress": "deflate"}
    with rasterio.open(path, "w", **profile, **options):
        pass
    assert path.stat().st_size < 2 << 20
    run = subprocess.run([sys.executable, "-c", BOMB, str(path)], capture_output=True, text=True, check=True)
    outcome, peak = run.stdout.split()
    assert outcome == ("refused" if kind == "strip" else "read")
    assert int(peak) < 500, "MiB, where the picture as a whole would take 2575"


@pytest.mark.parametrize("tiled", [False, True])
def test_a_long_jpeg_2000_in_one_piece_is_refused(tmp_path: Path, tiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isa_deploy.runtime.raster_reader.CODED_PIXELS", 128 * 128)
    monkeypatch.setattr("isa_deploy.runtime.raster_reader.CODED_BYTES", 1000)
    path = tmp_path / "a.jp2"
    options = {"tile_size": (128, 128)} if tiled else {}
    Image.fromarray(gradient_bgr()[..., ::-1]).save(path, **options)
    if tiled:
        assert np.array_equal(read_all(path), gradient_bgr())
    else:
        with pytest.raises(InputError, match=f"coded in pieces of {WIDTH}x{HEIGHT} pixels.*gdal_translate"):
            RasterReader(path)


def interlaced_png(width: int, height: int) -> bytes:
    """Black.  Seven passes (Adam7), each row with its filter byte."""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = b"".join(
        bytes(1 + -(-(width - x) // dx)) * -(-(height - y) // dy) for x, y, dx, dy in passes if x < width and y < height
    )
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


def not_by_rows(folder: Path) -> dict[str, Path]:
    image = Image.fromarray(gradient_bgr()[..., ::-1])
    turned = Image.Exif()
    turned[274] = 6
    image.save(folder / "progressive.jpg", progressive=True)
    image.save(folder / "turned.jpg", exif=turned)
    image.save(folder / "turned.tif", tiffinfo={274: 6})
    image.save(folder / "turned.png", exif=turned)
    image.save(folder / "a.webp", lossless=True)
    image.save(folder / "a.bmp")
    (folder / "interlaced.png").write_bytes(interlaced_png(WIDTH, HEIGHT))
    write_raster(folder / "plane.tif", planes_rgb(gradient_bgr()), interleave="band", blockysize=HEIGHT, compress="lzw")
    return {path.name: path for path in folder.iterdir()}


NOT_BY_ROWS = (
    "progressive.jpg",
    "turned.jpg",
    "turned.tif",
    "turned.png",
    "a.webp",
    "a.bmp",
    "interlaced.png",
    "plane.tif",
)


@pytest.mark.parametrize("name", NOT_BY_ROWS)
def test_what_is_not_stored_in_upright_rows_is_decoded_by_opencv(tmp_path: Path, name: str) -> None:
    path = not_by_rows(tmp_path)[name]
    with open_large_picture(path) as picture:
        assert isinstance(picture, WholePicture)
        assert np.array_equal(picture.read_rows(0, picture.size_hw[0]), read_image(path))


@pytest.mark.parametrize("name", NOT_BY_ROWS)
def test_what_is_not_stored_in_upright_rows_and_too_large_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isa_deploy.runtime.raster_reader.MAX_PIXELS", 100)
    with pytest.raises(InputError, match="would be decoded as a whole; save it upright as tiled TIFF"):
        open_large_picture(not_by_rows(tmp_path)[name])


def test_a_map_that_a_tag_turns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tags = {274: 6, 33550: (1.0, 1.0, 0.0), 33922: (0.0,) * 6}
    Image.fromarray(gradient_bgr()).save(path, tiffinfo=tags)
    with pytest.raises(InputError, match="is turned by a tag"):
        open_large_picture(path)


def test_a_missing_library_names_the_line_that_installs_it(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", planes_rgb(gradient_bgr()))
    program = (
        "import sys; sys.modules['rasterio'] = None\n"
        "from pathlib import Path; from isa_deploy.runtime.raster_reader import open_large_picture\n"
        "from isa_deploy.errors import BackendUnavailableError\n"
        "try: open_large_picture(Path(sys.argv[1]))\n"
        "except BackendUnavailableError as error: print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert "pip install 'isa-deploy[raster]'" in run.stdout


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    form=st.sampled_from(["TIFF", "PNG", "JPEG", "JPEG2000"]),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    keep=st.floats(0.1, 1),
)
def test_any_damage_gives_a_picture_or_an_input_error(
    tmp_path: Path, form: str, changes: list[tuple[float, int]], keep: float
) -> None:
    stream = io.BytesIO()
    Image.fromarray(gradient_bgr(24, 40)).save(stream, form)
    data = bytearray(stream.getvalue())
    for place, value in changes:
        # more often in the header than in the pixels
        data[int(place**3 * len(data))] = value
    path = tmp_path / "picture"
    path.write_bytes(data[: int(len(data) * keep)])
    try:
        with open_large_picture(path, max_pixels=1 << 20) as picture:
            assert picture.read_rows(0, picture.size_hw[0]).ndim == 3
    except InputError:
        return

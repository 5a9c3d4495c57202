"""Image files of every kind, honest and hostile, and PNGs written whole."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from isa_deploy.errors import InputError
from isa_deploy.runtime import image_header
from isa_deploy.runtime.image_header import HeaderError, peek_header, read_header
from isa_deploy.runtime.images import IMAGE_SUFFIXES, MAX_PIXELS, ReadingAdvice, read_image, write_png

UInt8 = npt.NDArray[np.uint8]

OPENCV_5 = int(cv2.__version__.split(".")[0]) >= 5

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF")
JP2_START = b"\0\0\0\x0cjP  \r\n\x87\n"
HEIGHT, WIDTH = 24, 40


def gradient_rgb(height: int = HEIGHT, width: int = WIDTH) -> UInt8:
    """Smooth, so that JPEG and WebP keep it, and different in every corner and channel."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // width, y * 255 // height, 255 - (x + y) * 255 // (width + height)], -1).astype(np.uint8)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def file_of(folder: Path, data: bytes, name: str = "picture") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def rgb(frame_hwc: UInt8) -> npt.NDArray[np.int64]:
    return frame_hwc[..., ::-1].astype(np.int64)


def test_ordinary_files_equal_opencv(golden: Path) -> None:
    for path in sorted(golden.glob("*.png")):
        frame_hwc = read_image(path)
        assert frame_hwc.dtype == np.uint8
        assert frame_hwc.flags.c_contiguous
        assert np.array_equal(frame_hwc, cv2.imread(str(path), cv2.IMREAD_COLOR))


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_read_and_its_header_tells_its_size(tmp_path: Path, form: str) -> None:
    data = encoded(Image.fromarray(gradient_rgb()), form)
    assert read_header(data).size_wh == (WIDTH, HEIGHT)
    assert np.abs(rgb(read_image(file_of(tmp_path, data))) - gradient_rgb()).mean() < 4


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("JPEG", {"progressive": True}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"save_all": True, "append_images": [Image.fromarray(gradient_rgb()[::-1])]}),
        ("TIFF", {"big_tiff": True}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "jpeg"}),
    ],
)
def test_variants_of_formats_are_read(tmp_path: Path, form: str, options: dict[str, object]) -> None:
    if "save_all" in options and not OPENCV_5:
        pytest.skip("OpenCV 4 reads no animated WebP: pip install 'opencv-python-headless>=5'")
    data = encoded(Image.fromarray(gradient_rgb()), form, **options)
    assert read_header(data).size_wh == (WIDTH, HEIGHT)
    assert np.abs(rgb(read_image(file_of(tmp_path, data))) - gradient_rgb()).mean() < 5


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotations_are_applied(tmp_path: Path, form: str, orientation: int) -> None:
    if form == "WEBP" and not OPENCV_5:
        pytest.skip("OpenCV 4 overlooks EXIF in WebP: pip install 'opencv-python-headless>=5'")
    exif = Image.Exif()
    exif[274] = orientation
    path = file_of(tmp_path, encoded(Image.fromarray(gradient_rgb()), form, exif=exif))
    with Image.open(path) as image:
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"), dtype=np.int64)
    frame_hwc = read_image(path)
    assert frame_hwc.shape == upright.shape
    assert np.abs(rgb(frame_hwc) - upright).max() <= 1
    assert frame_hwc.flags.c_contiguous


def test_cmyk_jpeg_as_adobe_writes_it(tmp_path: Path) -> None:
    data = encoded(Image.fromarray(gradient_rgb()).convert("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in data
    assert np.abs(rgb(read_image(file_of(tmp_path, data))) - gradient_rgb()).mean() < 2


def test_ycck_jpeg_as_adobe_writes_it(tmp_path: Path) -> None:
    # Pillow writes no YCCK, so its four planes are made by hand: inverted YCbCr, and K without ink
    inverted = Image.fromarray(255 - gradient_rgb()).convert("YCbCr")
    planes = np.dstack([np.asarray(inverted), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    data = bytearray(encoded(Image.frombytes("CMYK", (WIDTH, HEIGHT), (255 - planes).tobytes()), "JPEG", quality=95))
    data[data.index(b"Adobe") + 11] = 2  # the colour transform: YCCK
    assert np.abs(rgb(read_image(file_of(tmp_path, bytes(data)))) - gradient_rgb()).mean() < 4


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_keep_the_high_byte_to_within_one(tmp_path: Path, form: str) -> None:
    values = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
    for picture in (values, np.dstack([values] * 3)):
        _, data = cv2.imencode(f".{form.lower()}", picture)
        frame_hwc = read_image(file_of(tmp_path, data.tobytes()))
        assert frame_hwc.shape == (256, 256, 3)
        assert np.abs(frame_hwc[..., 0].astype(np.int64) - (values >> 8)).max() <= (0 if form == "PNG" else 1)


@pytest.mark.parametrize("scale", [256, 257])
def test_eight_bits_stored_in_sixteen_come_back_exactly(tmp_path: Path, scale: int) -> None:
    eight = np.arange(256, dtype=np.uint16).reshape(16, 16)
    _, data = cv2.imencode(".png", eight * np.uint16(scale))
    assert np.array_equal(read_image(file_of(tmp_path, data.tobytes()))[..., 1], eight)


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    grey = gradient_rgb()[..., 0]
    for mode in ("L", "LA"):
        frame_hwc = read_image(file_of(tmp_path, encoded(Image.fromarray(grey).convert(mode), "PNG")))
        assert np.array_equal(frame_hwc, np.dstack([grey] * 3))


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    bits = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 2 == 0
    frame_hwc = read_image(file_of(tmp_path, encoded(Image.fromarray(bits), "PNG")))
    assert np.array_equal(frame_hwc, np.dstack([bits * np.uint8(255)] * 3))


def test_alpha_is_dropped_and_the_stored_colour_shows(tmp_path: Path) -> None:
    rgba = np.dstack([gradient_rgb(), np.tile(np.arange(WIDTH, dtype=np.uint8), (HEIGHT, 1))])
    assert np.array_equal(rgb(read_image(file_of(tmp_path, encoded(Image.fromarray(rgba), "PNG")))), gradient_rgb())


@pytest.mark.parametrize("options", [{}, {"transparency": 0}])
def test_a_palette_becomes_its_colours(tmp_path: Path, options: dict[str, int]) -> None:
    image = Image.fromarray(gradient_rgb()).quantize(16)
    frame_hwc = read_image(file_of(tmp_path, encoded(image, "PNG", **options)))
    assert np.array_equal(rgb(frame_hwc), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("form", [*FORMATS, "JPEG2000"])
def test_a_header_on_the_disk_says_what_one_in_memory_says(tmp_path: Path, form: str) -> None:
    data = encoded(Image.fromarray(gradient_rgb()), form)
    assert peek_header(file_of(tmp_path, data)) == read_header(data)
    assert read_header(data).size_wh == (WIDTH, HEIGHT)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", [0, 1, 3, 6, 8, 9])
def test_a_header_tells_how_the_picture_lies(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    header = read_header(encoded(Image.fromarray(gradient_rgb()), form, exif=exif))
    assert header.orientation == (orientation if 1 <= orientation <= 8 else 1)
    assert header.size_wh == (WIDTH, HEIGHT)


def test_a_header_tells_what_cannot_be_read_by_rows() -> None:
    image = Image.fromarray(gradient_rgb())
    assert not read_header(encoded(image, "JPEG", progressive=True)).by_rows
    for form in FORMATS:
        assert read_header(encoded(image, form)).by_rows


@pytest.mark.parametrize("tag", [33550, 33922, 34264, 34735, 50844])
def test_a_header_tells_a_map(tag: int) -> None:
    image = Image.fromarray(gradient_rgb())
    assert not read_header(encoded(image, "TIFF")).georeferenced
    value = (1, 1, 0, 0) if tag == 34735 else (1.0,) * 16
    assert read_header(encoded(image, "TIFF", tiffinfo={tag: value})).georeferenced


def test_a_header_is_found_wherever_a_large_file_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_header, "START_BYTES", 40)
    image = Image.fromarray(gradient_rgb())
    uncompressed = encoded(image, "TIFF")
    # the directory behind 100 kB of something else
    (directory,) = struct.unpack_from("<I", uncompressed, 4)
    moved = 100_000
    entries = uncompressed[directory:]
    path = file_of(tmp_path, uncompressed[:4] + struct.pack("<I", moved) + bytes(moved - 8) + entries)
    assert peek_header(path).size_wh == (WIDTH, HEIGHT)
    boxes = encoded(image, "JPEG2000")
    at = boxes.index(b"jp2c") - 4
    path = file_of(tmp_path, boxes[:at] + struct.pack(">I4s", 50_008, b"xml ") + bytes(50_000) + boxes[at:])
    assert peek_header(path).size_wh == (WIDTH, HEIGHT)


def test_jpeg_2000_is_left_to_tiles(tmp_path: Path) -> None:
    path = file_of(tmp_path, encoded(Image.fromarray(gradient_rgb()), "JPEG2000"))
    with pytest.raises(InputError, match=r"JPEG 2000 is read in tiles only; save it as TIFF or PNG$"):
        read_image(path)


@pytest.mark.parametrize("form", FORMATS)
def test_a_single_pixel_is_a_picture(tmp_path: Path, form: str) -> None:
    assert read_image(file_of(tmp_path, encoded(Image.new("RGB", (1, 1)), form))).shape == (1, 1, 3)


def bombs() -> dict[str, bytes]:
    """Small files that claim 60000 x 60000 pixels."""
    side = 60000
    small = Image.fromarray(gradient_rgb())
    png = bytearray(encoded(small, "PNG"))
    png[16:24] = struct.pack(">II", side, side)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    jpeg = bytearray(encoded(small, "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    bmp = bytearray(encoded(small, "BMP"))
    bmp[18:26] = struct.pack("<ii", side, -side)
    tiff = bytearray(encoded(small, "TIFF"))
    for tag in (256, 257):
        at = tiff.index(struct.pack("<HH", tag, 4))
        tiff[at + 8 : at + 12] = struct.pack("<I", side)
    webp = bytearray(b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + 2 * struct.pack("<I", side - 1)[:3])
    return {"PNG": bytes(png), "JPEG": bytes(jpeg), "BMP": bytes(bmp), "TIFF": bytes(tiff), "WebP": bytes(webp)}


@pytest.mark.parametrize("form", bombs())
def test_a_bomb_is_refused_by_its_header(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", None)  # the decoder must not see it
    with pytest.raises(InputError, match="60000x60000 is 3600 million pixels"):
        read_image(file_of(tmp_path, bombs()[form]))


def test_a_long_run_of_fill_bytes_is_no_trap() -> None:
    # each byte of the run was once tried as the beginning of a marker: hours for this file
    with pytest.raises(HeaderError, match="holds no picture"):
        read_header(b"\xff\xd8\xff\xe0\0\x02" + b"\xff" * (4 << 20) + b"\0" + b"\xff\xd9")


def test_fill_bytes_before_a_marker_are_stepped_over() -> None:
    jpeg = encoded(Image.fromarray(gradient_rgb()), "JPEG")
    frame = jpeg.index(b"\xff\xc0")
    assert read_header(jpeg[:frame] + b"\xff" * 9 + jpeg[frame:]).size_wh == (WIDTH, HEIGHT)


def test_of_a_tag_that_is_there_twice_the_first_counts_as_it_does_for_decoders(tmp_path: Path) -> None:
    tags = [(256, 60000), (256, 2), (257, 60000), (257, 2)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    data = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)
    assert read_header(data).size_wh == (60000, 60000)


@pytest.mark.parametrize("length", [0, 7, 9, 23, 1 << 31])
def test_a_jp2_header_with_a_box_of_a_wrong_length_is_refused(length: int) -> None:
    stream = io.BytesIO()
    Image.fromarray(gradient_rgb()).save(stream, "JPEG2000")
    data = bytearray(stream.getvalue())
    at = data.index(b"ihdr") - 4
    assert read_header(bytes(data)).size_wh == (WIDTH, HEIGHT)
    data[at : at + 4] = struct.pack(">I", length)
    with pytest.raises(HeaderError, match="damaged"):  # GDAL 3.10 goes round in the first of them for ever
        read_header(bytes(data))


@pytest.mark.parametrize("after", [False, True])
def test_a_box_of_no_length_deep_inside_a_jp2_is_refused_wherever_it_is(after: bool) -> None:
    stream = io.BytesIO()
    Image.fromarray(gradient_rgb()).save(stream, "JPEG2000")
    data = stream.getvalue()
    at = len(data) if after else data.index(b"jp2c") - 4
    if after:  # it says that it goes up to the end of the file
        begin = data.index(b"jp2c") - 4
        data = data[:begin] + struct.pack(">I", len(data) - begin) + data[begin + 4 :]
    for length, is_whole in ((17, True), (0, False), (16, False)):
        deep = struct.pack(">I4sI4s", 8 + 17, b"asoc", length, b"lbl ") + bytes(9)
        asoc = struct.pack(">I4s", 8 + len(deep), b"asoc") + deep
        if is_whole:
            assert read_header(data[:at] + asoc + data[at:]).size_wh == (WIDTH, HEIGHT)
        else:
            with pytest.raises(HeaderError, match=r"the JPEG 2000 file is (damaged|cut off)"):
                read_header(data[:at] + asoc + data[at:])


def test_the_limit_is_the_callers(tmp_path: Path) -> None:
    path = file_of(tmp_path, encoded(Image.fromarray(gradient_rgb()), "PNG"))
    assert read_image(path, max_pixels=HEIGHT * WIDTH).shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(InputError, match=r"million pixels.*; cut it into smaller ones$"):
        read_image(path, max_pixels=HEIGHT * WIDTH - 1)


def test_the_advice_is_the_callers(tmp_path: Path) -> None:
    advice = ReadingAdvice(too_large="use --smaller", jpeg_2000="use --tiles")
    large = file_of(tmp_path, encoded(Image.fromarray(gradient_rgb()), "PNG"), "large.png")
    long = file_of(tmp_path, b"", "long.png")
    os.truncate(long, 1 << 40)  # a hole: it takes no room on the disk
    jpeg_2000 = file_of(tmp_path, encoded(Image.fromarray(gradient_rgb()), "JPEG2000"), "tiles.jp2")
    for path, max_pixels, words in (
        (large, HEIGHT * WIDTH - 1, "; use --smaller"),
        (long, MAX_PIXELS, "; use --smaller"),
        (jpeg_2000, MAX_PIXELS, "; use --tiles"),
    ):
        with pytest.raises(InputError) as caught:
            read_image(path, max_pixels, advice)
        assert str(caught.value).endswith(words)


def test_a_file_longer_than_any_picture_within_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "long.png"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a hole: it takes no room on the disk
    with pytest.raises(InputError, match="GB"):
        read_image(path)


def bad_files(folder: Path) -> dict[str, Path]:
    text = file_of(folder, b"<html>not found</html>", "text.jpg")
    os.mkfifo(folder / "pipe.png")
    return {
        "the file is empty (0 bytes)": file_of(folder, b"", "empty.png"),
        "not an image": text,
        "this is a folder": folder,
        "no ordinary file": folder / "pipe.png",
        "no such file": folder / "missing.png",
        "holds no pixels": file_of(folder, bombs()["BMP"][:18] + bytes(8) + bombs()["BMP"][26:], "none.bmp"),
        "a part of the path is a file, not a folder": text / "below.png",
    }


def test_each_bad_file_is_one_line_that_names_it(tmp_path: Path) -> None:
    for words, path in bad_files(tmp_path).items():
        with pytest.raises(InputError) as caught:
            read_image(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
        assert words in str(caught.value)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("part", [0.05, 0.5, 0.95])
def test_a_file_cut_off_is_refused(tmp_path: Path, form: str, part: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), form)
    with pytest.raises(InputError, match=r"cut off|damaged|gives no size"):
        read_image(file_of(tmp_path, data[: int(len(data) * part)]))


def test_a_png_whose_bytes_changed_is_refused(tmp_path: Path) -> None:
    data = bytearray(encoded(Image.fromarray(gradient_rgb()), "PNG"))
    data[data.index(b"IDAT") + 10] ^= 1
    with pytest.raises(InputError, match=r"damaged \(checksum of IDAT\)"):
        read_image(file_of(tmp_path, bytes(data)))


def test_what_a_phone_writes_after_the_picture_is_ignored(tmp_path: Path) -> None:
    data = encoded(Image.fromarray(gradient_rgb()), "JPEG")
    path = file_of(tmp_path, data + b"SEFT" + data[: len(data) // 2])
    assert np.array_equal(read_image(path), cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    form=st.sampled_from(FORMATS),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    keep=st.floats(0.1, 1),
)
def test_any_damage_gives_a_picture_or_an_input_error(
    tmp_path: Path, form: str, changes: list[tuple[float, int]], keep: float
) -> None:
    data = bytearray(encoded(Image.fromarray(gradient_rgb()), form))
    for place, value in changes:
        # more often in the header than in the pixels
        data[int(place**3 * len(data))] = value
    path = file_of(tmp_path, bytes(data[: int(len(data) * keep)]))
    try:
        frame_hwc = read_image(path, max_pixels=1 << 20)
    except InputError:
        return
    assert frame_hwc.ndim == 3


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\xff\x4f\xff\x51", JP2_START, *(data[:40] for data in bombs().values())]),
)
def test_a_header_of_any_bytes_ends_in_a_size_or_a_header_error(data: bytes, start: bytes) -> None:
    try:
        width, height = read_header(start + data).size_wh
    except HeaderError:
        return
    assert width > 0
    assert height > 0


def test_pngs_come_back_as_they_were(tmp_path: Path) -> None:
    labels_hw = np.random.default_rng(0).integers(0, 256, (33, 57), dtype=np.uint8)
    write_png(tmp_path / "labels.png", labels_hw)
    assert np.array_equal(cv2.imread(str(tmp_path / "labels.png"), cv2.IMREAD_UNCHANGED), labels_hw)
    frame_hwc = np.ascontiguousarray(gradient_rgb())
    write_png(tmp_path / "frame.png", frame_hwc)
    assert np.array_equal(read_image(tmp_path / "frame.png"), frame_hwc)


@pytest.mark.parametrize(
    "picture",
    [np.zeros((2, 2), np.float32), np.zeros((2, 2, 4), np.uint8), np.zeros((0, 2), np.uint8), np.zeros(3, np.uint8)],
)
def test_an_array_that_is_no_picture_is_refused(tmp_path: Path, picture: UInt8) -> None:
    with pytest.raises(InputError, match="is no picture"):
        write_png(tmp_path / "a.png", picture)
    assert not list(tmp_path.iterdir())


def test_a_png_that_does_not_fit_on_the_disk_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="needs a limit on file sizes in the place of a full disk: run on Unix")
    program = (
        "import resource, sys, numpy as np; from pathlib import Path\n"
        "from isa_deploy.errors import InputError; from isa_deploy.runtime.images import write_png\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)\n"
        "try: write_png(Path(sys.argv[1]), noise)\n"
        "except InputError as error: print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "a.png")], capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith(f"{tmp_path / 'a.png'}: cannot write")
    assert not list(tmp_path.iterdir())


def test_suffixes_are_small_and_dotted() -> None:
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in IMAGE_SUFFIXES)

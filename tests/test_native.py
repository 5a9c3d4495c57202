"""The C++ runtime gives Python's labels, byte for byte, with the same engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from native_build import built, native_library

from isa_deploy import Segmenter, Tiling, colorize, overlay
from isa_deploy.errors import BackendUnavailableError, EngineError, InputError, ManifestError
from isa_deploy.runtime.images import read_image
from isa_deploy.runtime.native import NativeLibrary, NativeSegmenter

Exporter = Callable[..., Path]

MODELS = (
    "isanet_r18w16_streets",
    "tiny_r50_whole_0x",
    "tiny_r50_slide_0x_legacy",
    "tiny_r101_ade_1x",
)


@pytest.fixture(scope="module")
def library() -> NativeLibrary:
    """libisa with its OpenVINO backend."""
    built("libisa_openvino.so")
    return native_library()


Pair = tuple[Segmenter, NativeSegmenter]


@pytest.fixture(scope="module", params=MODELS)
def pair(request: pytest.FixtureRequest, exported: Exporter, library: NativeLibrary) -> Iterator[Pair]:
    """A model in both runtimes, frames as they are."""
    folder = exported(request.param)
    with (
        Segmenter.open(folder, backend="openvino", resize="none") as python,
        NativeSegmenter(folder, library, backend="openvino", resize="none") as native,
    ):
        yield python, native


def _pictures(golden: Path) -> list[np.ndarray[Any, Any]]:
    names = ("img_64x128", "img_65x97", "img_129x257", "img_150x310")
    return [read_image(golden / f"{name}.png") for name in names]


def _assert_same(native: np.ndarray[Any, Any], python: np.ndarray[Any, Any]) -> None:
    assert native.shape == python.shape
    assert int((native != python).sum()) == 0


def test_pictures_of_all_sizes_have_the_same_labels(pair: Pair, golden: Path) -> None:
    python, native = pair
    for picture in _pictures(golden):
        _assert_same(native.segment(picture), python.segment(picture))


def test_every_tiling_gives_the_same_labels(pair: Pair, golden: Path) -> None:
    python, native = pair
    picture = _pictures(golden)[3]
    for tiling in (
        Tiling("tiles", (64, 96)),
        Tiling("tiles", (64, 64), 0, 3),
        Tiling("blend", (64, 96), 24),
        Tiling("slide", (64, 64), 8),
    ):
        _assert_same(native.segment(picture, tiling), python.segment(picture, tiling))


def test_a_batch_gives_the_same_labels(pair: Pair, golden: Path) -> None:
    python, native = pair
    picture = _pictures(golden)[2]
    frames = [picture, picture[::-1], picture[:, ::-1], np.ascontiguousarray(picture[:, :, ::-1])]
    for mine, theirs in zip(native.segment_batch(frames), python.segment_batch(frames), strict=True):
        _assert_same(mine, theirs)


@pytest.mark.parametrize("resize", ["test", (96, 200), (301, 155)])
def test_a_frame_that_is_resized_has_the_same_labels(
    exported: Exporter, library: NativeLibrary, golden: Path, resize: str | tuple[int, int]
) -> None:
    # the pictures' own test scale, 1024 x 512, and others that enlarge one axis and shrink the other
    folder = exported("isanet_r18w16_streets")
    with (
        Segmenter.open(folder, backend="openvino", resize=resize) as python,
        NativeSegmenter(folder, library, backend="openvino", resize=resize) as native,
    ):
        for picture in _pictures(golden)[1:3]:
            _assert_same(native.segment(picture), python.segment(picture))


def test_the_trained_model_labels_streets_alike(exported: Exporter, library: NativeLibrary, golden: Path) -> None:
    folder = exported("isanet_r18w16_streets")
    with (
        Segmenter.open(folder, backend="openvino", resize="none") as python,
        NativeSegmenter(folder, library, backend="openvino", resize="none") as native,
    ):
        for number in range(6):
            scene = read_image(golden / f"scene_{number}.png")
            _assert_same(native.segment(scene), python.segment(scene))


@pytest.mark.parametrize(
    ("name", "export", "picture"),
    [
        ("isanet_r18w16_streets", {"shape_nhw": (2, 64, 128), "confidence": True}, "img_64x128"),
        ("tiny_r50_slide_0x_legacy", {"shape_nhw": (1, 129, 257)}, "img_129x257"),
    ],
)
def test_a_graph_of_one_frame_and_batch_size_has_the_same_labels(
    exported: Exporter, library: NativeLibrary, golden: Path, name: str, export: dict[str, Any], picture: str
) -> None:
    folder = exported(name, **export)
    frame = read_image(golden / f"{picture}.png")
    with (
        Segmenter.open(folder, backend="openvino", resize="none") as python,
        NativeSegmenter(folder, library, backend="openvino", resize="none") as native,
    ):
        frames = [frame, frame[::-1], frame[:, ::-1]]
        for mine, theirs in zip(native.segment_batch(frames), python.segment_batch(frames), strict=True):
            _assert_same(mine, theirs)
        _assert_same(native.segment(frame), python.segment(frame))
        with pytest.raises(InputError) as refused:
            native.segment(frame[:50])
        with pytest.raises(InputError) as refused_here:
            python.segment(frame[:50])
        assert str(refused.value).split(";")[0] == str(refused_here.value).split(";")[0]


def test_onnx_runtime_gives_the_same_labels(exported: Exporter, golden: Path) -> None:
    built("libisa_onnxruntime.so")
    folder = exported("tiny_r50_slide_0x_legacy")
    with (
        Segmenter.open(folder, backend="onnxruntime", resize="none") as python,
        NativeSegmenter(folder, native_library(), backend="onnxruntime", resize="none") as native,
    ):
        for picture in _pictures(golden):
            _assert_same(native.segment(picture), python.segment(picture))


def test_what_was_opened_is_told_as_in_python(exported: Exporter, library: NativeLibrary) -> None:
    folder = exported("isanet_r18w16_streets")
    with Segmenter.open(folder, backend="openvino") as python, NativeSegmenter(folder, library) as native:
        assert native.class_names == python.manifest.classes.names
        assert native.palette_rgb.tolist() == [list(colour) for colour in python.manifest.classes.palette_rgb]
        told = (native.backend_name, native.precision, native.device)
        assert told == (python.backend_name, python.precision, python.device)


def test_two_segmenters_of_a_file_in_two_threads_give_their_own_labels(
    exported: Exporter, library: NativeLibrary, golden: Path
) -> None:
    import threading

    folder = exported("isanet_r18w16_streets")
    picture = read_image(golden / "img_129x257.png")
    frames = [picture, np.ascontiguousarray(picture[::-1])]
    with NativeSegmenter(folder, library, resize="none") as alone:
        expected = [alone.segment(frame) for frame in frames]
    wrong: list[int] = []

    def work(index: int) -> None:
        with NativeSegmenter(folder, library, resize="none", schedule="throughput") as native:
            wrong.extend(int((native.segment(frames[index]) != expected[index]).sum()) for _ in range(5))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [0] * 10


def test_a_compiled_model_that_was_kept_gives_the_same_labels_and_a_damaged_one_is_made_anew(
    exported: Exporter, library: NativeLibrary, golden: Path, tmp_path: Path
) -> None:
    folder = exported("isanet_r18w16_streets")
    picture = read_image(golden / "img_65x97.png")

    def labels() -> np.ndarray[Any, Any]:
        with NativeSegmenter(folder, library, backend="openvino", resize="none", cache_dir=tmp_path) as native:
            return native.segment(picture)

    first = labels()
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    _assert_same(labels(), first)
    for path in kept:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    _assert_same(labels(), first)
    for path in kept:
        if path.exists():
            path.write_bytes(b"something else")
    _assert_same(labels(), first)


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("model.onnx", b"", EngineError, "0 bytes"),
        ("model.onnx", b"\x00" * 300, EngineError, "ONNX"),
        ("model.onnx", None, ManifestError, "no isa-deploy manifest"),
        ("model.txt", b"x", EngineError, "is no engine"),
        ("missing/model.onnx", None, EngineError, "no such file"),
    ],
)
def test_what_is_no_engine_is_refused_as_in_python(
    tmp_path: Path, name: str, content: bytes | None, error: type[Exception], words: str
) -> None:
    library = native_library()
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    elif path.parent.is_dir():
        path.write_bytes(b"\x3a\x02\x08\x01")  # a graph and nothing else
    with pytest.raises(error, match=words) as native:
        NativeSegmenter(path, library)
    with pytest.raises(error) as python:
        Segmenter.open(path)
    assert str(native.value) == str(python.value)


def test_a_damaged_graph_fails_or_not_as_in_python(exported: Exporter, library: NativeLibrary, tmp_path: Path) -> None:
    whole = (exported("isanet_r18w16_streets") / "model.onnx").read_bytes()
    frame = np.zeros((64, 64, 3), np.uint8)
    for part in range(4):
        middle = (2 * part + 1) * len(whole) // 8
        path = tmp_path / f"{part}.onnx"
        path.write_bytes(whole[:middle] + bytes(4096) + whole[middle + 4096 :])  # damaged weights are still weights
        outcomes: list[Any] = []
        for opened in (
            lambda path=path: NativeSegmenter(path, library, backend="openvino"),
            lambda path=path: Segmenter.open(path),
        ):
            try:
                with opened() as segmenter:
                    outcomes.append(segmenter.segment(frame).tobytes())
            except (EngineError, ManifestError) as error:
                outcomes.append(type(error))
        assert outcomes[0] == outcomes[1]


def test_a_backend_that_was_not_built_says_what_is_missing(exported: Exporter, tmp_path: Path) -> None:
    library = native_library()
    with pytest.raises(BackendUnavailableError, match=r"there is no libisa_openvino\.so in .*install OpenVINO"):
        NativeSegmenter(exported("isanet_r18w16_streets"), library, backend_dir=tmp_path)


def test_a_library_that_is_not_there_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailableError, match="build it"):
        NativeLibrary(tmp_path / "libisa.so")


def test_pixels_that_lie_anyhow_are_painted_as_in_python() -> None:
    library = native_library()
    rng = np.random.default_rng(4)
    frame = rng.integers(0, 256, (40, 60, 3), np.uint8)
    labels = rng.integers(0, 4, (40, 60), np.uint8)
    palette = [(10, 20, 30), (200, 0, 9), (7, 77, 177)]
    cases = [
        (frame[:, ::2], labels[:, ::2]),
        (frame[::-1, ::-1], labels.reshape(60, 40).T),
        (frame[::40, ::60], labels[::40, ::60]),  # 1 x 1, whose strides are those of the whole
        (np.broadcast_to(frame[:1], frame.shape), np.broadcast_to(labels[:1], labels.shape)),
    ]
    for image, map_hw in cases:
        _assert_same(library.overlay(image, map_hw, palette), overlay(image, map_hw, palette))
        _assert_same(library.colorize(map_hw, palette), colorize(map_hw, palette))


@pytest.mark.parametrize(
    "out",
    [
        np.frombuffer(bytes(12), np.uint8).reshape(2, 2, 3),  # bytes never change
        np.empty((2, 2, 3), np.int8),
        np.empty((2, 2, 4), np.uint8)[:, :, :3],
        np.empty((2, 3, 3), np.uint8),
        np.broadcast_to(np.empty((1, 2, 3), np.uint8), (2, 2, 3)),
    ],
)
def test_memory_that_cannot_take_a_picture_is_refused(out: np.ndarray[Any, Any]) -> None:
    library = native_library()
    labels = np.ones((2, 2), np.uint8)
    frame = np.zeros((2, 2, 3), np.uint8)
    with pytest.raises(InputError, match="out of dtype"):
        library.colorize(labels, [(1, 2, 3), (4, 5, 6)], out)
    with pytest.raises(InputError, match="out of dtype"):
        library.overlay(frame, labels, [(1, 2, 3), (4, 5, 6)], out=out)


def test_frames_that_lie_anyhow_are_segmented_and_labels_go_only_where_they_may(
    exported: Exporter, library: NativeLibrary
) -> None:
    picture = np.random.default_rng(5).integers(0, 256, (64, 128, 3), np.uint8)
    with NativeSegmenter(exported("isanet_r18w16_streets"), library, backend="openvino", resize="none") as native:
        for frame in (picture[:, ::2], np.broadcast_to(picture[:1, :64], (64, 64, 3))):
            _assert_same(native.segment(frame), native.segment(frame.copy()))
        part = np.zeros((80, 120), np.uint8)[3:67, 9:73]
        assert native.segment(picture[:, :64], out=part) is part
        _assert_same(part, native.segment(picture[:, :64]))
        for out in (np.frombuffer(bytes(64 * 64), np.uint8).reshape(64, 64), np.empty((64, 63), np.uint8)):
            with pytest.raises(InputError, match="out of dtype"):
                native.segment(picture[:, :64], out=out)


def test_a_segmenter_that_nobody_closes_is_closed_once_it_is_forgotten(
    exported: Exporter, library: NativeLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[int] = []
    free = library.close_segmenter

    def counted(handle: Any) -> None:
        closed.append(handle.value)
        free(handle)

    monkeypatch.setattr(library, "close_segmenter", counted)
    native = NativeSegmenter(exported("isanet_r18w16_streets"), library)
    native.close()
    native.close()
    assert len(closed) == 1
    forgotten = NativeSegmenter(exported("isanet_r18w16_streets"), library)
    del native, forgotten
    assert len(closed) == 2
    assert all(closed)


def test_a_closed_segmenter_says_so(exported: Exporter, library: NativeLibrary) -> None:
    native = NativeSegmenter(exported("isanet_r18w16_streets"), library)
    native.close()
    native.close()
    with pytest.raises(EngineError, match="closed"):
        native.segment(np.zeros((8, 8, 3), np.uint8))

"""Histograms of activations, the thresholds chosen from them, and their collection from a graph."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from isa_deploy.errors import ExportError, InputError
from isa_deploy.export import calibration, graph_pieces
from isa_deploy.export.activation_ranges import (
    BINS,
    METHODS,
    TensorHistogram,
    UnusableValuesError,
    entropy,
    int8_scale,
    least_error,
    measure,
    merge,
    minmax,
    percentile,
    squared_error,
)
from isa_deploy.export.calibration import collect
from isa_deploy.export.calibration_frames import CalibrationSet

Float32 = npt.NDArray[np.float32]


def normal(seed: int, size: int = 20_000, scale: float = 1.0) -> Float32:
    return (np.random.default_rng(seed).standard_normal((4, size // 4)) * scale).astype(np.float32)


def heavy_tailed(seed: int, size: int = 20_000) -> Float32:
    return np.random.default_rng(seed).standard_t(3, (4, size // 4)).astype(np.float32)


def same(one: TensorHistogram, other: TensorHistogram) -> bool:
    sums_agree = (one.channel_sums is None) == (other.channel_sums is None)
    if sums_agree and one.channel_sums is not None and other.channel_sums is not None:
        # sums of float64 in another order
        sums_agree = np.allclose(one.channel_sums, other.channel_sums, rtol=1e-12, atol=1e-9)
    figures_agree = (one.values, one.top, one.least, one.most) == (other.values, other.top, other.least, other.most)
    return sums_agree and figures_agree and np.array_equal(one.counts, other.counts)


# --- histograms


@given(
    seed=st.integers(0, 1 << 30),
    scale=st.sampled_from([1e-20, 1e-3, 0.9, 1.0, 7.3, 1e6, 1e20]),
    positive=st.booleans(),
)
def test_a_histogram_counts_the_magnitudes_exactly(seed: int, scale: float, positive: bool) -> None:
    values = normal(seed, 400, scale)
    values = np.maximum(values, 0) if positive else values
    histogram = measure(values)
    bins = np.floor(np.abs(values.astype(np.float64)) / histogram.width).astype(np.int64)
    assert np.array_equal(histogram.counts, np.bincount(bins.ravel(), minlength=BINS))
    assert (histogram.least, histogram.most) == (float(values.min()), float(values.max()))
    assert histogram.largest < histogram.top <= 2 * histogram.largest
    assert histogram.values == values.size


@given(
    exponents=st.lists(st.integers(-20, 20), min_size=2, max_size=5), seed=st.integers(0, 1 << 30), cut=st.booleans()
)
def test_histograms_of_parts_merge_to_that_of_the_whole_in_any_order(
    exponents: list[int], seed: int, cut: bool
) -> None:
    parts = [normal(seed + index, 80, 2.0**exponent) for index, exponent in enumerate(exponents)]
    if cut:
        parts[0][:] = 0
    whole = measure(np.concatenate(parts), channels=4)
    for order in (parts, parts[::-1]):
        merged = measure(order[0], channels=4)
        for part in order[1:]:
            merged = merge(merged, measure(part, channels=4))
        assert same(merged, whole)


def test_zeros_alone_have_a_scale_and_merge_with_anything() -> None:
    zeros = measure(np.zeros((2, 3), np.float32))
    assert zeros.counts[0] == 6
    for method in METHODS.values():
        assert method(zeros) == 0.0
        assert int8_scale(method(zeros)) == 1.0
    both = merge(zeros, measure(np.full((1, 1), 3.0, np.float32)))
    assert both.largest == 3.0
    assert both.counts.sum() == 7


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_values_that_no_scale_holds_are_refused(bad: float) -> None:
    values = normal(0, 40)
    values[1, 1] = bad
    with pytest.raises(UnusableValuesError):
        measure(values)


def test_a_stride_counts_one_of_so_many_and_still_sees_the_extremes() -> None:
    values = normal(0, 9_000)
    values[1, 1] = -50.0
    histogram = measure(values, stride=3, channels=4)
    assert histogram.least == -50.0
    assert histogram.counts.sum() == histogram.values == 9_000
    assert histogram.channel_means == pytest.approx(values.astype(np.float64).mean(axis=1))
    full = measure(values)
    assert percentile(histogram, 90.0) == pytest.approx(percentile(full, 90.0), rel=0.05)


def test_rows_belong_to_channels_in_turns() -> None:
    values = normal(0, 40).reshape(8, 5)
    sums = measure(values, first_row=2, channels=4).channel_sums
    assert sums is not None
    exact = values.astype(np.float64).sum(axis=1)
    assert sums == pytest.approx(np.roll(exact[:4] + exact[4:], 2))


# --- thresholds


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("values", [normal(1), heavy_tailed(2), np.maximum(normal(3), 0), normal(4, 40)])
def test_no_threshold_is_above_the_largest_value(method: str, values: Float32) -> None:
    threshold = METHODS[method](measure(values))
    assert 0.0 < threshold <= float(np.abs(values).max())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("factor", [0.25, 64.0, 3.7, 1e-4])
def test_thresholds_scale_with_the_values(method: str, factor: float) -> None:
    histogram = measure(heavy_tailed(5))
    larger = TensorHistogram(
        histogram.values,
        histogram.counts,
        histogram.top * factor,
        histogram.least * factor,
        histogram.most * factor,
    )
    assert METHODS[method](larger) == pytest.approx(METHODS[method](histogram) * factor, rel=1e-9)


@given(seed=st.integers(0, 1 << 30), tails=st.sampled_from([1.5, 3.0, 10.0]))
def test_the_least_error_is_no_more_than_that_of_clipping_nothing(seed: int, tails: float) -> None:
    values = np.random.default_rng(seed).standard_t(tails, (1, 500)).astype(np.float32)
    histogram = measure(values)
    threshold = least_error(histogram)
    assert squared_error(histogram, threshold) <= squared_error(histogram, minmax(histogram))


def quantised(values: npt.NDArray[Any], threshold: float) -> npt.NDArray[np.float64]:
    scale = int8_scale(threshold)
    return np.clip(np.round(values.astype(np.float64) / scale), -127, 127) * scale


@pytest.mark.parametrize("values", [normal(1, 400_000), heavy_tailed(2, 400_000), np.maximum(normal(3, 400_000), 0)])
@pytest.mark.parametrize("part", [1.0, 0.6, 0.25])
def test_the_error_from_the_histogram_is_that_of_quantising_the_values(values: Float32, part: float) -> None:
    histogram = measure(values)
    threshold = histogram.largest * part
    exact = float(np.mean((values - quantised(values, threshold)) ** 2))
    assert squared_error(histogram, threshold) == pytest.approx(exact, rel=0.01)


def test_the_least_error_is_that_of_a_full_search() -> None:
    values = heavy_tailed(7)
    candidates = np.abs(values).max() * np.linspace(0.02, 1.0, 400)
    errors = [float(np.mean((values - quantised(values, each)) ** 2)) for each in candidates]
    found = least_error(measure(values))
    assert float(np.mean((values - quantised(values, found)) ** 2)) <= min(errors) * 1.01


def test_a_percentile_is_numpys_to_a_bin() -> None:
    values = normal(3, 400_000)
    histogram = measure(values)
    for percent in (50.0, 99.0, 99.9, 99.99):
        exact = np.percentile(np.abs(values), percent)
        assert exact - 1e-6 <= percentile(histogram, percent) <= exact + 1.01 * histogram.width


def test_entropy_keeps_an_even_distribution_whole_and_clips_rare_outliers() -> None:
    even = np.random.default_rng(0).uniform(-1, 1, (4, 100_000)).astype(np.float32)
    assert entropy(measure(even)) > 0.98
    with_outliers = normal(0, 400_000)
    with_outliers[0, :4] = 40.0
    assert 3.0 < entropy(measure(with_outliers)) < 10.0


def test_entropy_does_not_depend_on_how_many_values_are_zero() -> None:
    values = np.maximum(normal(5, 400_000), 0)
    with_more = np.concatenate([values.ravel(), np.zeros(3_000_000, np.float32)])[None]
    assert entropy(measure(with_more)) == entropy(measure(values))


def test_entropy_is_that_of_the_published_search_written_plainly() -> None:
    histogram = measure(np.abs(normal(9, 200_000)))
    used = int(np.flatnonzero(histogram.counts)[-1]) + 1
    join = -(-used // 2048)
    bins = [float(histogram.counts[start : start + join].sum()) for start in range(0, used, join)]
    bins[0] = bins[1]
    best, least = 0, np.inf
    for end in [*range(128, len(bins), 8), len(bins)]:
        reference = [*bins[: end - 1], sum(bins[end - 1 :])]
        told = [0.0] * end
        levels: list[list[int]] = [[] for _ in range(128)]
        for index in range(end):
            if bins[index] > 0:
                levels[index * 128 // end].append(index)
        for inside in levels:
            total = sum(bins[index] for index in inside)
            for index in inside:
                told[index] = total / len(inside)
        p, q = np.array(reference) / sum(reference), np.array(told) / sum(told)
        with np.errstate(divide="ignore", invalid="ignore"):
            divergence = float(np.where(p > 0, p * np.log(p / q), 0.0).sum())
        if divergence <= least:
            best, least = end, divergence
    assert entropy(histogram) == pytest.approx(min(best * join * histogram.width, histogram.largest))


# --- collection


def frame(seed: int, height: int = 24, width: int = 32) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def frames_of(pictures: Sequence[npt.NDArray[np.uint8]], fingerprint: str = "a" * 64) -> CalibrationSet:
    digests = tuple(hashlib.sha256(str(each.shape).encode() + each.tobytes()).digest() for each in pictures)
    names = tuple(f"frame {index}" for index in range(len(pictures)))
    sizes = tuple((each.shape[0], each.shape[1]) for each in pictures)
    return CalibrationSet(names, sizes, (), fingerprint, digests, lambda start: iter(pictures[start:]))


TENSORS = ["normal", "conv1", "relu1", "conv2", "sum", "tokens", "product"]


def graph(path: Path, batch: int | str = "N", *, weight: float = 1.0) -> Path:
    """Two convolutions, a residual sum, a matrix product, and a tail that no wanted tensor needs."""
    rng = np.random.default_rng(0)
    weights = {
        "mean": np.array([100.0], np.float32),
        "w1": (rng.standard_normal((5, 3, 3, 3)) * weight).astype(np.float32),
        "w2": rng.standard_normal((5, 5, 1, 1)).astype(np.float32),
        "shape": np.array([0, 5, -1], np.int64),
        "m": rng.standard_normal((5, 5)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Sub", ["planes", "mean"], ["normal"]),
        helper.make_node("Conv", ["normal", "w1"], ["conv1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv1"], ["relu1"]),
        helper.make_node("Conv", ["relu1", "w2"], ["conv2"]),
        helper.make_node("Add", ["conv2", "relu1"], ["sum"]),
        helper.make_node("Reshape", ["sum", "shape"], ["tokens"]),
        helper.make_node("MatMul", ["m", "tokens"], ["product"]),
        helper.make_node("ArgMax", ["product"], ["labels"], axis=1),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, "H", "W", 3])
    labels = helper.make_tensor_value_info("labels", TensorProto.INT64, [batch, 1, "L"])
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    made = helper.make_graph(nodes, "small", [image], [labels], initializers)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def activations(path: Path, pictures: Sequence[npt.NDArray[np.uint8]], names: Sequence[str]) -> list[list[Float32]]:
    """Of each picture every tensor, from one session that gives all of them."""
    model = onnx.load(str(path))
    del model.graph.output[:]
    for name in names:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [session.run(list(names), {"image": picture[None]}) for picture in pictures]


def unseen(done: int, total: int) -> None:
    pass


@pytest.mark.parametrize(
    ("at_once", "tensors"),
    [(1, TENSORS), (2, TENSORS), (8, TENSORS), (1, ["conv2", "product"]), (1, ["product", "sum"])],
)
def test_every_tensor_is_measured_as_all_outputs_of_one_session_would_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int, tensors: list[str]
) -> None:
    monkeypatch.setattr(graph_pieces, "TENSORS_AT_ONCE", at_once)
    monkeypatch.setattr(calibration, "CHUNK_VALUES", 1000)
    path = graph(tmp_path / "g.onnx")
    pictures = [frame(0), frame(1), frame(2, 16, 40)]
    found = collect(path, tensors, frames_of(pictures), None, unseen)
    runs = activations(path, pictures, tensors)
    assert list(found) == tensors
    for index, name in enumerate(tensors):
        arrays = [run[index] for run in runs]
        values = np.concatenate([array.ravel() for array in arrays])
        expected = measure(values[None])
        assert found[name].counts == pytest.approx(expected.counts, abs=2)  # a fused sum may round to a neighbour
        assert found[name].counts.sum() == values.size
        assert found[name].largest == pytest.approx(expected.largest, rel=1e-5)
        means = found[name].channel_means
        if arrays[0].ndim == 4:
            rows = np.concatenate([array.astype(np.float64).reshape(array.shape[1], -1) for array in arrays], axis=1)
            assert means == pytest.approx(rows.mean(axis=1), rel=1e-4, abs=1e-3)
        else:
            assert means is None


def test_a_fixed_batch_gets_the_same_frame_in_all_places(tmp_path: Path) -> None:
    one = collect(graph(tmp_path / "1.onnx", 1), TENSORS, frames_of([frame(0)]), None, unseen)
    three = collect(graph(tmp_path / "3.onnx", 3), TENSORS, frames_of([frame(0)]), None, unseen)
    assert np.array_equal(three["conv2"].counts, 3 * one["conv2"].counts)
    assert three["conv2"].channel_means == pytest.approx(one["conv2"].channel_means)


def test_a_large_tensor_is_sampled_and_its_extremes_and_means_are_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = graph(tmp_path / "g.onnx")
    pictures = [frame(index) for index in range(4)]
    full = collect(path, ["conv2"], frames_of(pictures), None, unseen)["conv2"]
    monkeypatch.setattr(calibration, "SAMPLED_VALUES", 500)
    sampled = collect(path, ["conv2"], frames_of(pictures), None, unseen)["conv2"]
    assert (sampled.least, sampled.most, sampled.values) == (full.least, full.most, full.values)
    assert sampled.channel_means == pytest.approx(full.channel_means)
    assert np.count_nonzero(sampled.counts) < np.count_nonzero(full.counts)
    assert percentile(sampled, 90.0) == pytest.approx(percentile(full, 90.0), rel=0.05)


def test_no_more_than_a_piece_is_held_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What each piece is given and gives: nothing is handed on that nothing reads."""
    monkeypatch.setattr(graph_pieces, "TENSORS_AT_ONCE", 1)
    path = graph(tmp_path / "g.onnx")
    pieces = graph_pieces.GraphPieces(path, path.read_bytes(), tuple(TENSORS))
    held = {"image"}
    most = 0
    for piece in pieces._pieces:
        assert set(piece.inputs) <= held
        held |= set(piece.outputs)
        most = max(most, len(held))
        held -= set(piece.finished)
    assert not held
    assert most <= 3  # two operands and a result


def stopping_after(frames: int) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done == frames:
            raise KeyboardInterrupt

    return progress


def test_an_interrupted_collection_goes_on_where_it_was_and_ends_the_same(tmp_path: Path) -> None:
    path, journal = graph(tmp_path / "g.onnx"), tmp_path / "journal.npz"
    pictures = [frame(index) * np.uint8(1 + (index == 3)) for index in range(6)]
    begun: list[int] = []

    def watched() -> CalibrationSet:
        plain = frames_of(pictures)

        def read(start: int) -> Iterator[npt.NDArray[np.uint8]]:
            begun.append(start)
            return iter(pictures[start:])

        return CalibrationSet(plain.names, plain.sizes_hw, (), plain.fingerprint, plain._digests, read)

    with pytest.raises(KeyboardInterrupt):
        collect(path, TENSORS, watched(), journal, stopping_after(2))
    with pytest.raises(KeyboardInterrupt):
        collect(path, TENSORS, watched(), journal, stopping_after(5))
    steps: list[tuple[int, int]] = []
    resumed = collect(path, TENSORS, watched(), journal, lambda done, total: steps.append((done, total)))
    assert begun == [0, 2, 5]
    assert steps == [(5, 6), (6, 6)]
    whole = collect(path, TENSORS, frames_of(pictures), None, unseen)
    assert all(same(resumed[name], whole[name]) for name in TENSORS)
    again = collect(path, TENSORS, watched(), journal, unseen)  # complete: no frame is read
    assert begun == [0, 2, 5]
    assert all(same(again[name], whole[name]) for name in TENSORS)
    assert {entry.name for entry in tmp_path.iterdir()} == {"g.onnx", "journal.npz"}


@pytest.mark.parametrize("change", ["graph", "tensors", "frames"])
def test_a_journal_of_something_else_is_said_and_not_gone_on_with(tmp_path: Path, change: str) -> None:
    path, journal = graph(tmp_path / "g.onnx"), tmp_path / "journal.npz"
    pictures = [frame(0), frame(1)]
    collect(path, TENSORS, frames_of(pictures), journal, unseen)
    tensors, frames = TENSORS, frames_of(pictures)
    if change == "graph":
        graph(path, weight=2.0)
    elif change == "tensors":
        tensors = TENSORS[::-1]
    else:
        frames = frames_of(pictures, "b" * 64)
    notes: list[str] = []
    steps: list[int] = []
    found = collect(path, tensors, frames, journal, lambda done, total: steps.append(done), notes.append)
    assert steps == [0, 1, 2]
    assert [note for note in notes if "another graph, other tensors or other frames" in note] == notes != []
    assert all(same(found[name], histogram) for name, histogram in collect(path, tensors, frames, None, unseen).items())


def rewritten(journal: Path, **changes: npt.NDArray[Any]) -> None:
    with np.load(journal) as file:
        arrays = {name: file[name] for name in file.files} | changes
    with journal.open("wb") as out:
        np.savez(out, **arrays)


def cut_off(journal: Path) -> None:
    journal.write_bytes(journal.read_bytes()[:1000])


def compressed(journal: Path) -> None:
    with np.load(journal) as file:
        arrays = {name: file[name] for name in file.files}
    np.savez_compressed(journal, **arrays)


def flipped_bit(journal: Path) -> None:
    with zipfile.ZipFile(journal) as archive:
        begin = archive.getinfo("counts.npy").header_offset
    data = bytearray(journal.read_bytes())
    data[begin + 5000] ^= 1
    journal.write_bytes(data)


def huge(journal: Path) -> None:
    """A header that promises petabytes."""
    data = journal.read_bytes()
    assert data.count(b"(1, 8192)") == 1
    journal.write_bytes(data.replace(b"(1, 8192)", b"(9999999,)"[:9]))


DAMAGE: dict[str, Callable[[Path], None]] = {
    "empty": lambda journal: journal.write_bytes(b"") and None,
    "cut off": cut_off,
    "compressed": compressed,
    "a bit flipped": flipped_bit,
    "huge": huge,
    "pickled": lambda journal: rewritten(journal, done=np.array([{}], object)),
    "too many frames done": lambda journal: rewritten(journal, done=np.array([9], np.int64)),
    "negative counts": lambda journal: rewritten(journal, counts=np.full((1, BINS), -1.0)),
    "not a number": lambda journal: rewritten(journal, ranges=np.full((1, 3), np.nan)),
    "a range that is no power of two": lambda journal: rewritten(journal, ranges=np.array([[3.0, 0.0, 2.0]])),
    "channels without end": lambda journal: rewritten(journal, channels=np.array([1 << 40])),
    "an array that is missing": lambda journal: np.savez(journal, key=np.zeros(32, np.uint8)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_journal_is_begun_anew(tmp_path: Path, damage: str) -> None:
    path, journal = graph(tmp_path / "g.onnx"), tmp_path / "journal.npz"
    frames = frames_of([frame(0), frame(1)])
    whole = collect(path, ["conv1"], frames, journal, unseen)
    DAMAGE[damage](journal)
    notes: list[str] = []
    steps: list[int] = []
    found = collect(path, ["conv1"], frames, journal, lambda done, total: steps.append(done), notes.append)
    assert steps == [0, 1, 2]
    assert len(notes) == 1
    assert "calibrating from the first frame" in notes[0]
    assert same(found["conv1"], whole["conv1"])


def test_what_cannot_be_collected_is_said_in_one_line(tmp_path: Path) -> None:
    path, frames = graph(tmp_path / "g.onnx"), frames_of([frame(0)])
    with pytest.raises(ExportError, match="computes no tensor absent"):
        collect(path, ["conv1", "absent"], frames, None, unseen)
    with pytest.raises(ExportError, match="computes no tensor w1"):
        collect(path, ["w1"], frames, None, unseen)
    with pytest.raises(ExportError, match="tensor labels is int64"):
        collect(path, ["labels"], frames, None, unseen)
    with pytest.raises(ExportError, match=r"tensor conv1 on frame 0: it (holds values that are not finite|reaches)"):
        collect(graph(tmp_path / "inf.onnx", weight=1e38), ["conv1"], frames, None, unseen)
    with pytest.raises(InputError, match="no such file"):
        collect(tmp_path / "absent.onnx", ["conv1"], frames, None, unseen)
    (tmp_path / "bad.onnx").write_bytes(b"no graph at all")
    with pytest.raises(ExportError, match="not an ONNX graph"):
        collect(tmp_path / "bad.onnx", ["conv1"], frames, None, unseen)
    with pytest.raises(ExportError, match="ONNX Runtime fails"):
        collect(path, ["conv1"], frames_of([np.zeros((24, 32, 4), np.uint8)]), None, unseen)
    with pytest.raises(InputError, match="write"):
        collect(path, ["conv1"], frames, tmp_path / "no folder" / "journal.npz", unseen)


def test_without_tensors_there_is_nothing_to_collect_and_no_frame_is_read(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    unread = CalibrationSet(("a",), ((8, 8),), (), "", (b"",), lambda start: pytest.fail("a frame was read"))
    journal = tmp_path / "journal.npz"
    assert collect(tmp_path / "absent.onnx", [], unread, journal, lambda done, total: steps.append((done, total))) == {}
    assert steps == [(1, 1)]
    assert not journal.exists()


def test_the_activations_of_an_exported_network_are_those_of_one_session(streets_onnx: Path) -> None:
    path = streets_onnx / "model.onnx"
    nodes = onnx.load(str(path)).graph.node
    computed = {output for node in nodes for output in node.output}
    names = [name for node in nodes if node.op_type in ("Conv", "MatMul") for name in (*node.input, *node.output)]
    names = [name for name in dict.fromkeys(names) if name in computed]
    pictures = [frame(0, 64, 128)]
    found = collect(path, names, frames_of(pictures), None, unseen)
    (run,) = activations(path, pictures, names)
    for name, values in zip(names, run, strict=True):
        assert found[name].largest == pytest.approx(float(np.abs(values).max()), rel=1e-3)
        assert found[name].values == values.size

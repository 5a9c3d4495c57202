"""Frames under way: order, room, waiting, failure and closing, over real engines and over one that stands at a gate."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from conftest import Exporter

from isa_deploy import EngineError, InputError, Segmenter
from isa_deploy.manifest import Manifest, read_manifest
from isa_deploy.runtime.assemble import LogitsGrid, labels_from_logits
from isa_deploy.runtime.backends.base import Arrays, Backend
from isa_deploy.runtime.segmenter import PendingLabels
from isa_deploy.runtime.tiling import Tiling

UInt8 = npt.NDArray[np.uint8]

ENGINES = [("openvino", "latency"), ("openvino", "throughput"), ("onnxruntime", "latency")]

FRAMES = 5


@dataclass(frozen=True)
class Case:
    """A way from frames to labels: an export, how it is opened, and frames of a size."""

    checkpoint: str
    size_hw: tuple[int, int]
    export: dict[str, Any] = field(default_factory=dict)
    resize: Any = "none"


CASES = {
    "whole": Case("isanet_r18w16_streets", (64, 96)),
    "resized": Case("isanet_r18w16_streets", (64, 96), resize=(40, 72)),
    "slide": Case("tiny_r50_slide_0x_legacy", (100, 150)),
    "fixed_batch": Case("isanet_r18w16_streets", (64, 128), {"shape_nhw": (2, 64, 128), "confidence": True}),
}


@pytest.fixture(scope="module")
def scene(golden: Path) -> UInt8:
    picture = cv2.imread(str(golden / "scene_0.png"))
    assert picture is not None
    return np.asarray(picture, np.uint8)


def parts(scene: UInt8, size_hw: tuple[int, int], count: int = FRAMES) -> list[UInt8]:
    """Different parts of a street, of one size."""
    height, width = size_hw
    return [np.ascontiguousarray(scene[20 * n : 20 * n + height, 60 * n : 60 * n + width]) for n in range(count)]


# ----------------------------------------------------------------------------- real engines


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("backend", "schedule"), ENGINES)
def test_frames_given_ahead_get_the_labels_that_they_get_one_by_one(
    exported: Exporter, scene: UInt8, backend: str, schedule: str, name: str
) -> None:
    case = CASES[name]
    frames = parts(scene, case.size_hw)
    folder = exported(case.checkpoint, **case.export)
    with Segmenter.open(folder, backend=backend, resize=case.resize, schedule=schedule) as segmenter:
        alone = [segmenter.segment(frame) for frame in frames]
        assert len({labels.tobytes() for labels in alone}) == FRAMES  # a mix-up would show
        under_way = [segmenter.submit(frame) for frame in frames]
        batch = segmenter.submit_batch(frames)
        for pending, labels in [*zip(under_way, alone, strict=True)][::-1]:
            first = pending.result()
            assert pending.result() is first
            assert pending.done()
            assert np.array_equal(first, labels)
        for made, labels in zip(batch.result(), alone, strict=True):
            assert np.array_equal(made, labels)
        assert batch.done()


@pytest.mark.parametrize(("backend", "schedule"), ENGINES)
def test_sizes_and_outputs_change_while_frames_are_under_way(
    streets_onnx: Path, scene: UInt8, backend: str, schedule: str
) -> None:
    frames = [scene[: 40 + 8 * number, :96] for number in range(4)] * 2
    with Segmenter.open(streets_onnx, backend=backend, resize="none", schedule=schedule) as segmenter:
        alone = [segmenter.segment_with_logits(frame) for frame in frames]
        under_way = [(segmenter.submit(frame), segmenter.submit_logits([frame])) for frame in frames]
        labels, logits = segmenter.segment_with_logits(frames[0])
        assert np.array_equal(labels, alone[0][0])
        assert np.array_equal(logits, alone[0][1])
        for (pending, pending_logits), (_, logits) in zip(under_way, alone, strict=True):
            (made,) = pending_logits.result()
            assert np.array_equal(made, logits)
            rows, cols = segmenter.logits_maps((pending.result().shape[0], 96))
            assert np.array_equal(labels_from_logits(LogitsGrid(made, rows, cols)), pending.result())


@pytest.mark.parametrize(("backend", "schedule"), ENGINES)
def test_who_never_takes_an_answer_never_waits_for_himself(
    streets_onnx: Path, scene: UInt8, backend: str, schedule: str
) -> None:
    with Segmenter.open(streets_onnx, backend=backend, resize="none", schedule=schedule) as segmenter:
        kept = [segmenter.submit(scene[:40, :72]) for _ in range(3 * segmenter.capacity)]
        for _ in range(3 * segmenter.capacity):
            segmenter.submit(scene[:40, :72])
        assert np.array_equal(kept[0].result(), kept[-1].result())


@pytest.mark.parametrize(("backend", "schedule"), ENGINES)
def test_a_full_engine_refuses_at_once_and_takes_the_next_frame_when_it_has_room(
    streets_onnx: Path, scene: UInt8, backend: str, schedule: str
) -> None:
    with Segmenter.open(streets_onnx, backend=backend, resize="none", schedule=schedule) as segmenter:
        assert segmenter.capacity >= 1
        under_way: list[PendingLabels] = []
        refused: int | None = None
        while refused is None:  # large frames take far longer than giving them does
            pending = segmenter.try_submit(np.tile(scene, (2, 2, 1)))
            if pending is None:
                refused = len(under_way)
            else:
                under_way.append(pending)
            assert len(under_way) <= 50
        assert refused >= segmenter.capacity
        for pending in under_way:
            pending.result()
        assert segmenter.try_submit(scene) is not None


@pytest.mark.parametrize(("backend", "schedule"), ENGINES)
def test_closing_waits_for_frames_under_way_and_their_answers_can_still_be_taken(
    streets_onnx: Path, scene: UInt8, backend: str, schedule: str
) -> None:
    segmenter = Segmenter.open(streets_onnx, backend=backend, resize="none", schedule=schedule)
    wanted = segmenter.segment(scene)
    under_way = [segmenter.submit(scene) for _ in range(segmenter.capacity)]
    segmenter.close()
    segmenter.close()
    for pending in under_way:
        assert pending.done()
        assert np.array_equal(pending.result(timeout_s=0), wanted)
    for use in (segmenter.submit, segmenter.try_submit, lambda frame: segmenter.submit_logits([frame])):
        with pytest.raises(EngineError, match="closed; open another"):
            use(scene)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("ending", ["", "del segmenter", "del segmenter, pending", "raise SystemExit(0)"])
def test_a_segmenter_that_is_not_closed_ends_quietly(streets_onnx: Path, backend: str, ending: str) -> None:
    code = f"""
import numpy as np
from isa_deploy import Segmenter
segmenter = Segmenter.open({str(streets_onnx)!r}, backend={backend!r}, resize="none")
pending = [segmenter.submit(np.zeros((256, 512, 3), np.uint8)) for _ in range(3)]
{ending}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_segmenter_that_is_dropped_lets_openvino_finish_with_its_frames_first(
    streets_onnx: Path, scene: UInt8
) -> None:
    frame = np.tile(scene, (2, 2, 1))
    segmenter = Segmenter.open(streets_onnx, backend="openvino", resize="none")
    wanted = segmenter.segment(frame)
    pending = segmenter.submit(frame)
    del segmenter
    assert pending.done()
    assert np.array_equal(pending.result(), wanted)


def test_ctrl_c_while_openvino_is_given_a_frame_does_not_let_go_of_it(streets_onnx: Path) -> None:
    """As a signal that comes inside of ``start_async`` does: the request runs, and nobody has its answer."""
    with Segmenter.open(streets_onnx, backend="openvino", resize="none") as segmenter:
        segmenter.segment(np.zeros((64, 96, 3), np.uint8))
        (pool,) = segmenter._backend._pools.values()  # type: ignore[attr-defined]

        class Interrupted:
            def __init__(self, request: Any) -> None:
                self.request = request

            def start_async(self, *arguments: Any, **options: Any) -> None:
                self.request.start_async(*arguments, **options)
                raise KeyboardInterrupt

            def __getattr__(self, name: str) -> Any:
                return getattr(self.request, name)

        pool._idle[0] = Interrupted(pool._idle[0])
        frame = np.zeros((256, 512, 3), np.uint8)
        held = weakref.ref(frame)
        try:
            segmenter.submit(frame)
        except KeyboardInterrupt:
            del frame
        assert held() is not None


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_ctrl_c_between_any_two_lines_costs_no_later_frame_its_labels(streets_onnx: Path, backend: str) -> None:
    frames = [np.full((16, 24, 3), 40 * value, np.uint8) for value in range(3)]
    interrupted_at: set[tuple[str, int]] = set()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        place = frame.f_code.co_filename, frame.f_lineno
        if f"backends/{backend}" not in Path(place[0]).as_posix():
            return None
        if event == "line" and place not in interrupted_at:
            interrupted_at.add(place)
            raise KeyboardInterrupt
        return trace

    with Segmenter.open(streets_onnx, backend=backend, resize="none") as segmenter:
        wanted = [segmenter.segment(frame) for frame in frames]
        interrupted = True
        while interrupted:
            pending: list[PendingLabels] = []
            before = sys.gettrace()
            sys.settrace(trace)
            try:
                pending += [segmenter.submit(frames[0])]
                pending += [segmenter.submit(frames[1])]
                assert pending[0].done() in (True, False)
                pending[0].result()
                interrupted = False
            except KeyboardInterrupt:
                pass
            finally:
                sys.settrace(before)
            pending += [segmenter.submit(frame) for frame in frames[len(pending) :]]
            assert all(np.array_equal(one.result(60), labels) for one, labels in zip(pending, wanted, strict=True))
        for pool in getattr(segmenter._backend, "_pools", {}).values():
            assert len({id(request) for request in pool._idle}) == len(pool._idle)  # none is lent to two
    assert len(interrupted_at) > 10


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_timeout_may_be_as_long_as_python_takes(streets_onnx: Path, backend: str) -> None:
    with Segmenter.open(streets_onnx, backend=backend, resize="none") as segmenter:
        pending = segmenter.submit(np.zeros((64, 96, 3), np.uint8))
        assert pending.result(threading.TIMEOUT_MAX).shape == (64, 96)


def test_openvino_reads_a_frame_where_it_lies(streets_onnx: Path, scene: UInt8) -> None:
    frame = scene[:64].copy()
    with Segmenter.open(streets_onnx, backend="openvino", resize="none") as segmenter:
        segmenter.segment(frame)
        (pool,) = segmenter._backend._pools.values()  # type: ignore[attr-defined]
        (request,) = pool._idle
        assert np.shares_memory(request.get_input_tensor().data, frame)


def test_onnx_runtime_reads_a_frame_where_it_lies_and_writes_its_logits_where_they_stay(
    streets_onnx: Path, scene: UInt8, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    read: list[UInt8] = []
    written: list[int | None] = []
    bind_input, bind_output = onnxruntime.IOBinding.bind_cpu_input, onnxruntime.IOBinding.bind_output

    def note_input(binding: Any, name: str, array: UInt8) -> None:
        read.append(array)
        bind_input(binding, name, array)

    def note_output(binding: Any, *args: Any) -> None:
        written.append(args[-1] if len(args) == 6 else None)
        bind_output(binding, *args)

    monkeypatch.setattr(onnxruntime.IOBinding, "bind_cpu_input", note_input)
    monkeypatch.setattr(onnxruntime.IOBinding, "bind_output", note_output)
    frame = scene[:64].copy()
    with Segmenter.open(streets_onnx, backend="onnxruntime", resize="none") as segmenter:
        answers = [segmenter.submit_logits([frame]).result()[0] for _ in range(3)]
    assert all(np.shares_memory(array, frame) for array in read)
    # only a first run tells the outputs' shapes
    assert written == [None, answers[1].ctypes.data, answers[2].ctypes.data]
    assert np.array_equal(answers[0], answers[1])
    assert np.array_equal(answers[1], answers[2])


def test_onnx_runtimes_answers_are_those_of_its_plain_run(streets_onnx: Path, scene: UInt8) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(streets_onnx / "model.onnx"), providers=["CPUExecutionProvider"])
    with Segmenter.open(streets_onnx, backend="onnxruntime", resize="none") as segmenter:
        for size in ((64, 96), (64, 96), (40, 56), (64, 96)):
            image = np.ascontiguousarray(scene[: size[0], : size[1]])[None]
            wanted = session.run(["labels", "logits"], {"image": image})
            for made, each in zip(segmenter._backend.start(image, ["labels", "logits"]).wait(), wanted, strict=True):
                assert made.dtype == each.dtype
                assert np.array_equal(made, each)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_what_an_engine_fails_on_is_told_to_whoever_waits_and_the_next_frame_is_right(
    streets_onnx: Path, scene: UInt8, backend: str
) -> None:
    with Segmenter.open(streets_onnx, backend=backend, resize="none") as segmenter:
        wanted = segmenter.segment(scene)
        for _ in range(3):  # more than the engine has room for
            with pytest.raises(EngineError, match=r"failed on frames of shape \(1, 8, 8, 4\)"):
                segmenter._backend.start(np.zeros((1, 8, 8, 4), np.uint8), ["logits"]).wait()
        assert np.array_equal(segmenter.segment(scene), wanted)


def test_a_schedule_that_is_none_is_named(streets_onnx: Path) -> None:
    with pytest.raises(InputError, match="schedule 'fast' is none of: latency, throughput"):
        Segmenter.open(streets_onnx, schedule="fast")


@pytest.mark.parametrize("schedule", ["latency", "throughput"])
def test_openvino_is_asked_for_its_schedule(streets_onnx: Path, scene: UInt8, schedule: str) -> None:
    with Segmenter.open(streets_onnx, backend="openvino", resize="none", schedule=schedule) as segmenter:
        segmenter.segment(scene[:40, :72])
        (pool,) = segmenter._backend._pools.values()  # type: ignore[attr-defined]
        assert schedule.upper() in str(pool.compiled.get_property("PERFORMANCE_HINT"))
        optimal = pool.compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        assert segmenter.capacity == (2 if schedule == "latency" else optimal)


# ----------------------------------------------------------------------------- an engine at a gate


GIVE_UP_S = 10


class Gated:
    """Work that is done when the test says so."""

    def __init__(self, image_nhwc: UInt8, arrays: Arrays, failure: str | None) -> None:
        self.image_nhwc: UInt8 | None = image_nhwc
        self.gate = threading.Event()
        self.timeouts: list[float | None] = []
        self._arrays = arrays
        self._failure = failure

    def done(self) -> bool:
        return self.gate.is_set()

    def wait(self, timeout_s: float | None = None) -> Arrays:
        self.timeouts.append(timeout_s)
        if not self.gate.wait(GIVE_UP_S if timeout_s is None else min(timeout_s, GIVE_UP_S)):
            raise TimeoutError("the gate is shut")
        if self._failure is not None:
            raise EngineError(self._failure)
        return self._arrays


class GatedBackend:
    """A backend that computes nothing: a pixel's label is its blue."""

    name = "gate"
    precision = "fp32"
    device = "none"
    fast_argmax = True
    capacity = 2

    def __init__(self) -> None:
        self.given: list[Gated] = []
        self.failure: str | None = None

    def has_room(self) -> bool:
        return sum(not each.done() for each in self.given) < self.capacity

    def start(self, image_nhwc: UInt8, outputs: Sequence[str]) -> Gated:
        while not self.has_room():
            assert next(each for each in self.given if not each.done()).gate.wait(GIVE_UP_S), "nobody opened the gate"
        assert list(outputs) == ["labels"]
        self.given.append(Gated(image_nhwc, [image_nhwc[..., 0].copy()], self.failure))
        return self.given[-1]

    def largest_batch(self, height: int, width: int) -> int | None:
        return 3

    def frame_buffer(self, shape: tuple[int, ...]) -> UInt8:
        return np.empty(shape, np.uint8)

    def close(self) -> None:
        for each in self.given:
            each.gate.set()


@pytest.fixture(scope="module")
def manifest(streets_onnx: Path) -> Manifest:
    return read_manifest(streets_onnx / "model.json")


@pytest.fixture
def gated(manifest: Manifest) -> Iterator[tuple[Segmenter, GatedBackend]]:
    made = GatedBackend()
    backend: Backend = made  # which mypy holds to the protocol
    with Segmenter(backend, manifest, "none") as segmenter:
        yield segmenter, made


def grey(value: int, size_hw: tuple[int, int] = (4, 6)) -> UInt8:
    return np.full((*size_hw, 3), value, np.uint8)


def test_a_full_engine_refuses_a_frame_until_one_is_done_whether_its_answer_is_taken_or_not(
    gated: tuple[Segmenter, GatedBackend],
) -> None:
    segmenter, backend = gated
    first, second = segmenter.try_submit(grey(1)), segmenter.try_submit(grey(2))
    assert first is not None
    assert second is not None
    assert segmenter.try_submit(grey(3)) is None
    assert len(backend.given) == 2
    backend.given[1].gate.set()
    third = segmenter.try_submit(grey(3))
    assert third is not None
    assert segmenter.try_submit(grey(4)) is None
    assert (first.done(), second.done(), third.done()) == (False, True, False)
    assert (second.result() == 2).all()


def test_submit_waits_for_room(gated: tuple[Segmenter, GatedBackend]) -> None:
    segmenter, backend = gated
    for value in (1, 2):
        segmenter.submit(grey(value))
    given = threading.Event()

    def give() -> None:
        segmenter.submit(grey(3))
        given.set()

    thread = threading.Thread(target=give)
    thread.start()
    try:
        assert not given.wait(0.1)
        backend.given[0].gate.set()
        assert given.wait(GIVE_UP_S)
    finally:
        backend.close()
        thread.join()


def test_an_answer_that_takes_too_long_can_be_asked_for_again(gated: tuple[Segmenter, GatedBackend]) -> None:
    segmenter, backend = gated
    pending = segmenter.submit(grey(7))
    for timeout_s in (0.0, 0.01):
        with pytest.raises(TimeoutError):
            pending.result(timeout_s)
    backend.given[0].gate.set()
    assert (pending.result(0) == 7).all()


def test_a_batch_of_several_calls_is_done_with_its_last_and_shares_one_deadline(
    gated: tuple[Segmenter, GatedBackend],
) -> None:
    segmenter, backend = gated
    batch = segmenter.submit_batch([grey(value) for value in range(5)])
    assert [each.image_nhwc.shape[0] for each in backend.given if each.image_nhwc is not None] == [3, 2]
    backend.given[0].gate.set()
    assert not batch.done()
    with pytest.raises(TimeoutError):
        batch.result(0.01)
    (left,) = backend.given[1].timeouts
    assert left is not None
    assert left <= 0.01
    backend.given[1].gate.set()
    assert batch.done()
    assert [int(labels[0, 0]) for labels in batch.result()] == [0, 1, 2, 3, 4]


def test_a_failure_is_told_at_result_each_time_and_nobody_elses(gated: tuple[Segmenter, GatedBackend]) -> None:
    segmenter, backend = gated
    good = segmenter.submit(grey(1))
    backend.failure = "the engine is on fire; put it out"
    bad = segmenter.submit(grey(2))
    backend.failure = None
    backend.given[0].gate.set()
    backend.given[1].gate.set()
    assert bad.done()
    for _ in range(2):
        with pytest.raises(EngineError, match="on fire"):
            bad.result()
    assert (good.result() == 1).all()
    next_one = segmenter.submit(grey(3))
    backend.given[2].gate.set()
    assert (next_one.result() == 3).all()


def test_a_frame_is_given_without_a_copy_and_let_go_with_its_answer(gated: tuple[Segmenter, GatedBackend]) -> None:
    segmenter, backend = gated
    frame = grey(1)
    pending = segmenter.submit(frame)
    backend.given[0].gate.set()
    image_nhwc, backend.given[0].image_nhwc = backend.given[0].image_nhwc, None
    assert image_nhwc is not None
    assert np.shares_memory(image_nhwc, frame)
    work = weakref.ref(backend.given.pop())
    pending.result()
    gc.collect()
    assert work() is None


def test_what_is_no_frame_is_refused_by_every_way_of_giving_it(gated: tuple[Segmenter, GatedBackend]) -> None:
    segmenter, backend = gated
    bad = np.zeros((4, 4), np.uint8)
    for use in (segmenter.submit, segmenter.try_submit):
        with pytest.raises(InputError, match="H x W x 3"):
            use(bad)
    for use_many in (segmenter.submit_batch, segmenter.submit_logits):
        with pytest.raises(InputError, match="H x W x 3"):
            use_many([bad])
        with pytest.raises(InputError, match="frames of one size"):
            use_many([grey(1), grey(1, (4, 8))])
        assert use_many([]).result() == []
    assert backend.given == []


def test_images_that_a_fixed_graph_cannot_take_are_refused_as_windows(exported: Exporter) -> None:
    case = CASES["fixed_batch"]
    with Segmenter.open(exported(case.checkpoint, **case.export), backend="onnxruntime", resize="none") as segmenter:
        assert segmenter.largest_batch(64, 128) == 2
        with pytest.raises(InputError, match=r"takes 64x128 only, not windows of 32x32"):
            segmenter.submit_logits([grey(1, (32, 32))])
        with pytest.raises(InputError, match="more than 64 million pixels"):
            segmenter.check_window((65536, 65536))


def test_a_tiling_is_the_tilers_work(gated: tuple[Segmenter, GatedBackend], monkeypatch: pytest.MonkeyPatch) -> None:
    import isa_deploy.runtime.tiled

    asked: list[Any] = []

    def note(*args: Any) -> UInt8:
        asked.append(args)
        return grey(0)[..., 0]

    monkeypatch.setattr(isa_deploy.runtime.tiled, "segment_tiled", note)
    frame, tiling = grey(1), Tiling("tiles")
    gated[0].segment(frame, tiling)
    assert asked == [(gated[0], frame, tiling)]

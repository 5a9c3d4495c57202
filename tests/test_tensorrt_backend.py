"""Plans in the Segmenter over the stand-in: answers, batches, frames under way, memory, CUDA graphs."""

from __future__ import annotations

import gc
import importlib
import itertools
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from isa_deploy import EngineError, Segmenter
from isa_deploy.runtime.backends.base import DeviceTimes, TimedBackend
from isa_deploy.runtime.backends.tensorrt import CAPTURE_TRIES, SHAPES_KEPT, SLOTS

if TYPE_CHECKING:
    from tensorrt_plans import Copy, Open, Plans, References, UInt8

pytest_plugins = ("standin_fixtures", "tensorrt_plans")

pytestmark = pytest.mark.usefixtures("nothing_left")


def grown(before: dict[str, int], now: dict[str, int]) -> dict[str, int]:
    """What was called how often in between."""
    return {name: count - before.get(name, 0) for name, count in now.items() if count != before.get(name, 0)}


def read(golden: Path, name: str) -> UInt8:
    picture = cv2.imread(str(golden / f"{name}.png"))
    assert picture is not None
    return np.asarray(picture, np.uint8)


def test_a_plan_is_what_it_says(opened: Open) -> None:
    segmenter = opened("half")
    assert (segmenter.backend_name, segmenter.precision) == ("tensorrt", "fp16")
    assert segmenter.device == "cuda:0 (Stand-in GPU)"


def test_a_folder_with_a_plan_and_its_manifest_open_the_same(gpu: Any, plan: Plans, frames: list[UInt8]) -> None:
    for path in (plan("half"), plan("half").parent, plan("half").with_name("model.json")):
        with Segmenter.open(path, resize="none") as segmenter:
            assert segmenter.backend_name == "tensorrt"
            assert segmenter.segment(frames[0]).shape == (64, 96)


@pytest.mark.parametrize("name", ["streets", "half", "rtx"])
@pytest.mark.parametrize("size", [(64, 96), (16, 16), (37, 53), (128, 160)])
def test_labels_equal_onnx_runtimes(
    opened: Open, reference: References, scene: UInt8, name: str, size: tuple[int, int]
) -> None:
    frame = scene[60 : 60 + size[0], 30 : 30 + size[1]]
    segmenter = opened(name)
    wanted = reference(name).labels(np.ascontiguousarray(frame))
    for _ in range(4):  # plainly, then as a graph
        labels = segmenter.segment(frame)
        assert labels.dtype == np.uint8
        assert np.array_equal(labels, wanted)


def test_windows_cut_here_equal_onnx_runtimes(opened: Open, graph: Plans, golden: Path) -> None:
    segmenter = opened("slide")
    with Segmenter.open(graph("slide"), backend="onnxruntime", resize="none") as wanted:
        for name in ("img_65x97", "img_64x128", "img_129x257"):  # one window, two, eight
            frame = read(golden, name)
            labels, logits = segmenter.segment_with_logits(frame)
            other, other_logits = wanted.segment_with_logits(frame)
            assert np.abs(logits - other_logits).max() < 1e-3
            assert (labels == other).mean() > 0.9995
            assert np.array_equal(segmenter.segment(frame), labels)


def test_windows_in_the_graph_equal_mmsegmentations(opened: Open, reference: References, golden: Path) -> None:
    segmenter = opened("windows")
    assert segmenter.manifest.inference.windows_in_graph
    frame = read(golden, "img_129x257")
    with np.load(golden / "tiny_r50_slide.npz") as wanted:
        assert (segmenter.segment(frame) == wanted["labels_2"]).mean() > 0.9995
    assert np.array_equal(segmenter.segment(frame), reference("windows").labels(frame))


def test_golden_frames_answer_as_mmsegmentation(opened: Open, golden: Path) -> None:
    segmenter = opened("whole")
    with np.load(golden / "tiny_r50_whole.npz") as wanted:
        for index, name in enumerate(("img_64x128", "img_65x97", "img_129x257")):
            labels, logits = segmenter.segment_with_logits(read(golden, name))
            assert np.abs(logits - wanted[f"logits_low_{index}"]).max() < 1e-3
            assert (labels == wanted[f"labels_{index}"]).mean() > 0.9995


def test_a_test_scale_answers_as_mmsegmentation(opened: Open, golden: Path) -> None:
    segmenter = opened("whole", resize=(124, 256))
    with np.load(golden / "pipeline_resize.npz") as wanted:
        labels = segmenter.segment(read(golden, "img_150x310"))
        assert labels.shape == (150, 310)
        assert (labels == wanted["labels"]).mean() > 0.9995


def test_several_scales_equal_onnx_runtimes(opened: Open, graph: Plans, golden: Path) -> None:
    frame = read(golden, "img_65x97")
    labels = opened("whole").segment_multi_scale(frame, ratios=(0.5, 1.0, 1.5))
    with Segmenter.open(graph("whole"), backend="onnxruntime", resize="none") as wanted:
        assert (labels == wanted.segment_multi_scale(frame, ratios=(0.5, 1.0, 1.5))).mean() > 0.9995


def test_confidence_and_logits_are_the_graphs_own(opened: Open, reference: References, scene: UInt8) -> None:
    segmenter = opened("fixed")
    frame = np.ascontiguousarray(scene[80:144, 40:168])
    labels, confidence, logits = reference("fixed")(np.stack([frame, frame]), "labels", "confidence", "logits")
    for _ in range(3):
        got = segmenter.segment_with_confidence(frame)
        assert np.array_equal(got[0], labels[0])
        assert np.array_equal(got[1], confidence[0])
        assert np.array_equal(segmenter.segment_with_logits(frame)[1], logits[0])


def test_an_answer_is_the_callers_own(opened: Open, frames: list[UInt8]) -> None:
    segmenter = opened()
    answers = [segmenter.segment(frame) for frame in frames]
    kept = [answer.copy() for answer in answers]
    for frame in frames:
        segmenter.segment(255 - frame)
    assert all(np.array_equal(a, b) for a, b in zip(answers, kept, strict=True))
    answers[0][:] = 0


def test_a_batch_larger_than_the_profiles_is_split(
    gpu: Any, opened: Open, reference: References, frames: list[UInt8], copies: list[Copy]
) -> None:
    segmenter = opened()
    labels = segmenter.segment_batch([*frames, frames[0]])
    assert [copy.size // frames[0].nbytes for copy in copies if copy.kind == "HostToDevice"] == [3, 3, 1]
    for frame, got in zip([*frames, frames[0]], labels, strict=True):
        assert np.array_equal(got, reference("streets").labels(frame))


def test_a_fixed_batch_is_filled_up(opened: Open, reference: References, scene: UInt8) -> None:
    frames = [np.ascontiguousarray(scene[y : y + 64, 60:188]) for y in (20, 90, 160)]
    segmenter = opened("fixed")
    for _ in range(2):
        labels = segmenter.segment_batch(frames)
        assert len(labels) == 3
        for frame, got in zip(frames, labels, strict=True):
            assert np.array_equal(got, reference("fixed").labels(np.stack([frame, frame]))[0])
    assert np.array_equal(segmenter.submit(frames[1]).result(), labels[1])


@pytest.mark.parametrize("order", [*itertools.permutations(range(3)), (5, 4, 3, 2, 1, 0), (1, 0, 3, 5, 2, 4)])
def test_answers_of_frames_under_way_are_right_in_any_order(
    opened: Open, reference: References, frames: list[UInt8], order: tuple[int, ...]
) -> None:
    segmenter = opened()
    for _ in range(2):
        under_way = [segmenter.submit(frame) for frame in frames[: len(order)]]
        for index in order:
            assert np.array_equal(under_way[index].result(), reference("streets").labels(frames[index]))
            assert np.array_equal(under_way[index].result(), reference("streets").labels(frames[index]))


def test_frames_follow_each_other_as_in_a_video(opened: Open, reference: References, frames: list[UInt8]) -> None:
    segmenter = opened()
    wanted = [reference("streets").labels(frame) for frame in frames]
    under_way: list[tuple[int, Any]] = []
    for number in range(14):
        scratch = frames[number % 6].copy()
        under_way.append((number % 6, segmenter.submit(scratch)))
        scratch[:] = 0  # the caller's again: submit does not read it later
        if len(under_way) == SLOTS:
            index, pending = under_way.pop(0)
            assert np.array_equal(pending.result(), wanted[index])
    for index, pending in under_way:
        assert np.array_equal(pending.result(), wanted[index])


def test_the_next_frame_goes_up_while_this_one_is_computed(
    gpu: Any, opened: Open, frames: list[UInt8], copies: list[Copy], monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = opened()
    for _ in range(2):  # both slots made and captured
        for pending in [segmenter.submit(frame) for frame in frames[:2]]:
            pending.result()
    cuda = importlib.import_module("cuda.bindings.runtime")
    waiting: list[int] = []
    wait = cuda.cudaStreamWaitEvent
    monkeypatch.setattr(cuda, "cudaStreamWaitEvent", lambda *a: (waiting.append(int(a[0])), wait(*a))[1])
    copies.clear()
    before = dict(gpu.calls)
    under_way = [segmenter.submit(frame) for frame in frames[:2]]
    made = grown(before, gpu.calls)
    assert not [name for name in made if "Synchronize" in name]  # the host does not wait
    assert made["cudaGraphLaunch"] == 2
    ups = {copy.stream for copy in copies if copy.kind == "HostToDevice"}
    downs = {copy.stream for copy in copies if copy.kind == "DeviceToHost"}
    assert len(ups) == len(downs) == 1
    assert len({*ups, *downs, *waiting}) == 3  # one more stream, which computes
    assert not ups & set(waiting)  # nothing holds the way up back
    for pending in under_way:
        pending.result()
    assert grown(before, gpu.calls)["cudaEventSynchronize"] == 2


def test_only_wanted_outputs_come_back(opened: Open, scene: UInt8, copies: list[Copy]) -> None:
    segmenter = opened("fixed")
    frame = np.ascontiguousarray(scene[:64, :128])
    pixels, logits = 2 * 64 * 128, 2 * len(segmenter.manifest.classes.names) * 8 * 16 * 4
    for segment, sizes in (
        (segmenter.segment, [pixels]),
        (segmenter.segment_with_confidence, [pixels, pixels]),
        (segmenter.segment_with_logits, [pixels, logits]),
    ):
        copies.clear()
        segment(frame)
        assert [copy.size for copy in copies if copy.kind == "DeviceToHost"] == sizes


def test_a_frame_buffer_goes_up_from_where_it_lies(
    gpu: Any, opened: Open, reference: References, frames: list[UInt8], copies: list[Copy]
) -> None:
    segmenter = opened()
    buffers = [segmenter.frame_buffer(64, 96) for _ in range(3)]
    addresses = [buffer.__array_interface__["data"][0] for buffer in buffers]
    under_way = []
    for buffer, frame in zip(buffers, frames[:3], strict=True):
        buffer[:] = frame
        under_way.append(segmenter.submit(buffer))
    assert [copy.source for copy in copies if copy.kind == "HostToDevice"] == addresses
    for pending, frame in zip(under_way, frames[:3], strict=True):
        assert np.array_equal(pending.result(), reference("streets").labels(frame))
    # a part of one that is not in one piece is a frame as any other
    part, wanted = buffers[0][:, :40], reference("streets").labels(np.ascontiguousarray(frames[0][:, :40]))
    assert np.array_equal(segmenter.segment(part), wanted)
    assert np.array_equal(segmenter._backend.start(part[None], ["labels"]).wait()[0][0], wanted)


def test_a_frame_buffer_that_is_dropped_lives_until_its_frame_is_done(
    gpu: Any, opened: Open, reference: References, frames: list[UInt8]
) -> None:
    segmenter = opened()
    buffer = segmenter.frame_buffer(64, 96)
    buffer[:] = frames[0]
    pending = segmenter.submit(buffer)
    del buffer
    gc.collect()
    assert np.array_equal(pending.result(), reference("streets").labels(frames[0]))


def test_many_shapes_come_and_go_while_answers_are_outstanding(
    gpu: Any, opened: Open, reference: References, scene: UInt8
) -> None:
    segmenter = opened()
    sizes = [(16 + 8 * number, 40) for number in range(SHAPES_KEPT + 3)]
    parts = [np.ascontiguousarray(scene[100 : 100 + h, 50 : 50 + w]) for h, w in sizes]
    for round_ in range(3):  # each shape twice in turn: the second time it has buffers, and graphs
        under_way = [segmenter.submit(part) for part in parts for _ in range(2)]
        for number, pending in enumerate(under_way):
            assert np.array_equal(pending.result(), reference("streets").labels(parts[number // 2])), round_
    assert len(gpu.live_allocations()) <= SHAPES_KEPT * SLOTS * 5 + 1


def test_scratch_memory_grows_under_captured_graphs_and_outstanding_answers(
    gpu: Any, opened: Open, reference: References, scene: UInt8, frames: list[UInt8]
) -> None:
    segmenter = opened()
    large = np.ascontiguousarray(scene[:128, :160])
    small, wanted = frames[0], reference("streets").labels(frames[0])
    for _ in range(3):
        for pending in [segmenter.submit(small), segmenter.submit(small)]:
            pending.result()
    launches = gpu.calls["cudaGraphLaunch"]
    assert launches
    under_way = [segmenter.submit(small), segmenter.submit(small)]
    grew = segmenter.submit(large)
    for pending in under_way:
        assert np.array_equal(pending.result(), wanted)
    assert np.array_equal(grew.result(), reference("streets").labels(large))
    for _ in range(4):  # the old graphs are gone: new ones are captured
        for pending in [segmenter.submit(small), segmenter.submit(small)]:
            assert np.array_equal(pending.result(), wanted)
    assert gpu.calls["cudaGraphLaunch"] > launches + 4


def test_memory_is_taken_once_for_a_shape(gpu: Any, opened: Open, frames: list[UInt8]) -> None:
    segmenter = opened()
    for pending in [segmenter.submit(frame) for frame in frames[:3]]:
        pending.result()
    taken, bytes_ = gpu.allocations, gpu.device_bytes
    contexts = gpu.calls["set_optimization_profile_async"]
    for pending in [segmenter.submit(frame) for frame in frames * 3]:
        pending.result()
    segmenter.segment_batch(frames[:1])
    assert (gpu.allocations, gpu.device_bytes) == (taken, bytes_)
    assert gpu.calls["set_optimization_profile_async"] == contexts == SLOTS


def test_frames_one_by_one_take_the_memory_of_one(gpu: Any, opened: Open, frames: list[UInt8]) -> None:
    segmenter = opened()
    segmenter.segment(frames[0])
    taken = gpu.allocations
    for frame in frames:
        segmenter.segment(frame)
    assert gpu.allocations == taken


def test_a_graph_is_captured_after_the_first_frame_and_launched_for_the_others(
    gpu: Any, opened: Open, frames: list[UInt8], scene: UInt8
) -> None:
    segmenter = opened()
    for captures, frame in enumerate((frames[0], np.ascontiguousarray(scene[:32, :64])), 1):
        for _ in range(6):
            segmenter.segment(frame)
        # per shape: one frame plainly, then one capture, launched five times
        assert gpu.calls["cudaStreamBeginCapture"] == gpu.calls["cudaGraphInstantiate"] == captures
        assert gpu.calls["cudaGraphLaunch"] == 5 * captures
        assert gpu.calls["execute_async_v3"] == 2 * captures


@pytest.mark.parametrize("name", ["streets", "rtx"])
def test_without_a_graph_frames_are_right_and_one_warning_says_so(
    gpu: Any, opened: Open, reference: References, frames: list[UInt8], name: str
) -> None:
    gpu.knobs.refuse_capture = True
    segmenter = opened(name)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for number in range(8):
            answers = [segmenter.submit(frame) for frame in frames[:2]]
            for frame, answer in zip(frames, answers, strict=False):
                assert np.array_equal(answer.result(), reference(name).labels(frame)), number
    assert [each.category for each in told] == [RuntimeWarning]
    assert "cannot put this engine into a CUDA graph" in str(told[0].message)
    assert gpu.calls["cudaGraphLaunch"] == 0
    assert gpu.calls["cudaStreamBeginCapture"] == (0 if name == "rtx" else SLOTS * CAPTURE_TRIES)  # and no more


def test_the_profile_is_picked_by_the_shape(gpu: Any, opened: Open, reference: References, scene: UInt8) -> None:
    picked: list[int] = []
    segmenter = opened()
    context = type(segmenter._backend._engine.create_context())
    choose = context.set_optimization_profile_async
    context.set_optimization_profile_async = lambda self, index, stream: (
        picked.append(index),
        choose(self, index, stream),
    )[1]
    for size in ((16, 16), (256, 512), (100, 100), (128, 160), (200, 128)):
        part = np.ascontiguousarray(scene[: size[0], : size[1]])
        assert np.array_equal(segmenter.segment(part), reference("streets").labels(part))
    # where both hold a frame, the one that was tuned for the nearest size
    assert picked == [1, 0, 1, 1, 0]


def test_one_engine_serves_all_segmenters_of_a_plan_and_goes_with_the_last(
    gpu: Any, plan: Plans, reference: References, frames: list[UInt8]
) -> None:
    plan("streets")
    free = importlib.import_module("cuda.bindings.runtime").cudaMemGetInfo
    at_first = free()[1]
    segmenters = [Segmenter.open(plan("streets"), resize="none") for _ in range(3)]
    assert gpu.calls["deserialize_cuda_engine"] == 1
    under_way = [segmenter.submit(frame) for segmenter, frame in zip(segmenters, frames, strict=False)]
    assert gpu.calls["set_optimization_profile_async"] == 3  # a context each
    for frame, pending in zip(frames, under_way, strict=False):
        assert np.array_equal(pending.result(), reference("streets").labels(frame))
    segmenters[0].close()
    assert np.array_equal(segmenters[1].segment(frames[3]), reference("streets").labels(frames[3]))
    for segmenter in segmenters:
        segmenter.close()
    assert free()[1] == at_first
    with Segmenter.open(plan("streets"), resize="none") as again:
        again.segment(frames[0])
    assert gpu.calls["deserialize_cuda_engine"] == 2


def test_two_segmenters_work_in_two_threads(gpu: Any, plan: Plans, reference: References, frames: list[UInt8]) -> None:
    wanted = [reference("streets").labels(frame) for frame in frames]
    gpu.knobs.context_call_s = 0.0005
    wrong: list[Any] = []

    def work(offset: int) -> None:
        try:
            with Segmenter.open(plan("streets"), resize="none") as segmenter:
                for turn in range(4):
                    order = [(index + offset + turn) % 6 for index in range(6)]
                    under_way = [(index, segmenter.submit(frames[index])) for index in order]
                    wrong.extend(index for index, each in under_way if not np.array_equal(each.result(), wanted[index]))
        except (AssertionError, EngineError) as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in (0, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_an_answer_is_done_when_the_gpu_is_and_one_can_wait_for_a_while(
    gpu: Any, opened: Open, reference: References, frames: list[UInt8]
) -> None:
    segmenter = opened()
    gpu.knobs.event_queries = 3
    pending = segmenter.submit(frames[0])
    assert not pending.done()
    with pytest.raises(TimeoutError, match=r"the GPU was not done with these frames after 0 s; wait again"):
        pending.result(timeout_s=0)
    assert np.array_equal(pending.result(timeout_s=60), reference("streets").labels(frames[0]))
    assert pending.done()
    assert gpu.calls["cudaEventQuery"] == 4


def set_times(gpu: Any, upload_ms: float, execute_ms: float, download_ms: float) -> None:
    gpu.knobs.upload_ms, gpu.knobs.execute_ms, gpu.knobs.download_ms = upload_ms, execute_ms, download_ms


def test_a_call_that_is_timed_tells_its_parts_and_answers_as_ever(
    gpu: Any, opened: Open, reference: References, frames: list[UInt8]
) -> None:
    backend = opened()._backend
    assert isinstance(backend, TimedBackend)
    set_times(gpu, 3, 5, 2)
    buffer = backend.frame_buffer(frames[0][None].shape)
    for frame in frames[:4]:  # plainly, then as a graph
        buffer[:] = frame
        for image_nhwc in (frame[None], buffer):
            (labels,), times = backend.time_call(image_nhwc, ["labels"])
            assert times == DeviceTimes(upload_ms=3, compute_ms=5, download_ms=2)
            assert np.array_equal(labels[0], reference("streets").labels(frame))
    _, times = backend.time_call(frames[0][None], ["labels", "logits"])
    assert times == DeviceTimes(upload_ms=3, compute_ms=5, download_ms=4)


def test_frames_that_nobody_times_use_events_that_keep_no_time(gpu: Any, opened: Open, frames: list[UInt8]) -> None:
    segmenter = opened()
    for frame in frames:
        segmenter.segment(frame)
    assert gpu.timed_events == 0
    segmenter._backend.time_call(frames[0][None], ["labels"])
    assert gpu.timed_events == 4


def test_frames_under_way_are_no_part_of_a_timed_call_and_keep_their_answers(
    gpu: Any, opened: Open, reference: References, frames: list[UInt8]
) -> None:
    segmenter = opened()
    set_times(gpu, 3, 5, 2)
    under_way = [segmenter.submit(frame) for frame in frames[:2]]  # every slot there is
    (labels,), times = segmenter._backend.time_call(frames[2][None], ["labels"])
    assert times == DeviceTimes(upload_ms=3, compute_ms=5, download_ms=2)
    for frame, answer in zip(frames, [*(each.result() for each in under_way), labels[0]], strict=False):
        assert np.array_equal(answer, reference("streets").labels(frame))


def test_a_timed_call_that_the_engine_fails_leaves_the_slot_to_the_next(
    gpu: Any, opened: Open, reference: References, frames: list[UInt8]
) -> None:
    segmenter = opened()
    gpu.fail_execute_in(1)
    with pytest.raises(EngineError, match="failed on a frame"):
        segmenter._backend.time_call(frames[0][None], ["labels"])
    assert np.array_equal(segmenter.segment(frames[1]), reference("streets").labels(frames[1]))


@pytest.mark.parametrize("call", ["cudaEventElapsedTime", "cudaEventSynchronize"])
def test_a_timed_call_whose_wait_fails_leaves_nothing_of_itself_behind(
    gpu: Any, opened: Open, reference: References, frames: list[UInt8], call: str
) -> None:
    segmenter = opened()
    gpu.knobs.fail_call = call
    with pytest.raises(EngineError, match="the GPU could not"):
        segmenter._backend.time_call(frames[0][None], ["labels"])
    gpu.knobs.fail_call = ""
    under_way = [segmenter.submit(frame) for frame in frames[:3]]  # every slot, that one too
    for frame, pending in zip(frames, under_way, strict=False):
        assert np.array_equal(pending.result(), reference("streets").labels(frame))


def test_a_gpu_that_is_lost_in_a_timed_call_is_one_error(gpu: Any, plan: Plans, frames: list[UInt8]) -> None:
    with Segmenter.open(plan("streets"), resize="none") as segmenter:
        segmenter.segment(frames[0])
        gpu.lose_device_in(4)  # after the three streams before it
        with pytest.raises(EngineError, match="an illegal memory access"):
            segmenter._backend.time_call(frames[0][None], ["labels"])


def test_a_frame_is_refused_while_both_slots_are_busy_and_taken_when_one_is_done(
    gpu: Any, opened: Open, reference: References, frames: list[UInt8]
) -> None:
    segmenter = opened()
    assert segmenter.capacity == SLOTS
    gpu.knobs.event_queries = 2
    under_way = [segmenter.try_submit(frames[0]), segmenter.try_submit(frames[1])]
    waits = gpu.calls["cudaEventSynchronize"]
    assert segmenter.try_submit(frames[2]) is None
    assert gpu.calls["cudaEventSynchronize"] == waits  # at once
    under_way.append(segmenter.try_submit(frames[2]))  # nobody took the first answers
    for frame, pending in zip(frames, under_way, strict=False):
        assert pending is not None
        assert np.array_equal(pending.result(), reference("streets").labels(frame))


def test_work_on_a_gpu_that_is_lost_is_done_and_says_so(gpu: Any, plan: Plans, frames: list[UInt8]) -> None:
    with Segmenter.open(plan("streets"), resize="none") as segmenter:
        pending = segmenter.submit(frames[0])
        gpu.lose_device_in(1)
        assert pending.done()
        with pytest.raises(EngineError, match="an illegal memory access"):
            pending.result(timeout_s=60)


def test_closing_with_frames_under_way_gives_everything_back(gpu: Any, plan: Plans, frames: list[UInt8]) -> None:
    segmenter = Segmenter.open(plan("streets"), resize="none")
    under_way = [segmenter.submit(frame) for frame in frames[:3]]
    buffer = segmenter.frame_buffer(64, 96)
    under_way.append(segmenter.submit(buffer))
    segmenter.close()
    segmenter.close()
    assert gpu.live_handles() == []
    assert len(gpu.live_allocations()) == 1  # the caller's buffer
    under_way[0].result()  # taken off its slot before another frame used it
    with pytest.raises(EngineError, match="closed before this frame was done; open another"):
        under_way[-1].result()
    for use in (segmenter.segment, segmenter.submit, segmenter.segment_on_device):
        with pytest.raises(EngineError, match="closed; open another"):
            use(frames[0])
    with pytest.raises(EngineError, match="closed; open another"):
        segmenter.frame_buffer(64, 96)


def test_a_segmenter_that_is_dropped_with_frames_under_way_gives_everything_back(
    gpu: Any, plan: Plans, frames: list[UInt8]
) -> None:
    gc.disable()  # without the help of the collector, which knows no order
    try:
        segmenter = Segmenter.open(plan("streets"), resize="none")
        segmenter.submit(frames[0])
        segmenter.submit(frames[1])
        del segmenter
        assert gpu.live_allocations() == gpu.live_handles() == []
    finally:
        gc.enable()

"""Frames that lie on the GPU, over the stand-in: the protocols that carry them, and results that stay there."""

from __future__ import annotations

import ctypes
import gc
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from isa_deploy import EngineError, InputError, Segmenter
from isa_deploy.runtime.backends import device_array
from isa_deploy.runtime.backends.cuda import Cuda, load_cuda
from isa_deploy.runtime.backends.device_array import DeviceArray

if TYPE_CHECKING:
    from tensorrt_plans import Copy, Open, Plans, References, UInt8

pytest_plugins = ("standin_fixtures", "tensorrt_plans")

pytestmark = pytest.mark.usefixtures("nothing_left")


Destructor = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)

new_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)
# a capsule that is being destroyed must not become a Python object again: by address only
capsule_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_IsValid", ctypes.pythonapi)
)


class Interface:
    """An object of another library that has ``__cuda_array_interface__`` alone."""

    def __init__(self, address: int, shape: tuple[int, ...], **entries: Any) -> None:
        self.shape = shape
        self.__cuda_array_interface__ = {
            "version": 3,
            "shape": shape,
            "typestr": "|u1",
            "data": (address, False),
            "strides": None,
            "stream": None,
            **entries,
        }


class Producer:
    """An object of another library that speaks DLPack alone; ``ended`` counts calls of its deleter."""

    def __init__(self, address: int, shape: tuple[int, ...], **fields: Any) -> None:
        self.shape = shape
        self.ended = 0
        self.streams: list[Any] = []
        sides = (ctypes.c_int64 * len(shape))(*shape)
        strides = fields.get("strides")
        steps = None if strides is None else (ctypes.c_int64 * len(shape))(*strides)
        self._kept = (sides, steps)
        self._device = fields.get("device", (2, 0))
        offset = fields.get("byte_offset", 0)
        self._record = device_array._DLManagedTensor(
            device_array._DLTensor(
                address - offset,
                device_array._DLDevice(*self._device),
                len(shape),
                device_array._DLDataType(*fields.get("dtype", (1, 8, 1))),
                ctypes.cast(sides, ctypes.POINTER(ctypes.c_int64)),
                None if steps is None else ctypes.cast(steps, ctypes.POINTER(ctypes.c_int64)),
                offset,
            ),
            None,
            device_array._Deleter(self._end),
        )
        # the destructor of every producer: it ends a tensor that no consumer took
        self._destructor = Destructor(self._destroy)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device

    def __dlpack__(self, *, stream: Any = None) -> Any:
        self.streams.append(stream)
        return new_capsule(ctypes.addressof(self._record), b"dltensor", ctypes.cast(self._destructor, ctypes.c_void_p))

    def _end(self, _: int) -> None:
        self.ended += 1

    def _destroy(self, capsule: int) -> None:
        if capsule_is_valid(capsule, b"dltensor"):
            self._record.deleter(ctypes.addressof(self._record))


@pytest.fixture
def put(gpu: Any) -> Iterator[Callable[[np.ndarray | bytes], int]]:
    """A function that puts bytes on the GPU as a caller does, until the test's end; their address."""
    made: list[int] = []

    def make(content: np.ndarray | bytes) -> int:
        made.append(gpu.allocate(bytes(np.ascontiguousarray(content)) if isinstance(content, np.ndarray) else content))
        return made[-1]

    yield make
    for address in made:
        gpu.free(address)


Put = Callable[[Any], int]


def taken(gpu: Any, result: DeviceArray) -> np.ndarray:
    """A result as a consumer without a stream of ours reads it at once."""
    record = result.__cuda_array_interface__
    size = int(np.prod(record["shape"])) * np.dtype(record["typestr"]).itemsize
    return np.frombuffer(gpu.read(record["data"][0], size), record["typestr"]).reshape(record["shape"])


def through_dlpack(gpu: Any, result: Any) -> np.ndarray:
    """A result as a consumer of DLPack reads it: it renames the capsule, and calls the deleter in the end."""
    capsule = result.__dlpack__(stream=2, max_version=(1, 0))
    pointer = device_array._capsule_pointer(capsule, b"dltensor")
    used = b"used_dltensor"
    rename = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_SetName", ctypes.pythonapi))
    assert rename(capsule, used) == 0
    managed = device_array._DLManagedTensor.from_address(pointer)
    tensor = managed.dl_tensor
    assert (tensor.device.device_type, tensor.device.device_id) == result.__dlpack_device__()
    shape = tuple(tensor.shape[axis] for axis in range(tensor.ndim))
    content = gpu.read(tensor.data + tensor.byte_offset, int(np.prod(shape)) * tensor.dtype.bits // 8)
    del capsule
    managed.deleter(pointer)
    return np.frombuffer(content, {1: np.uint8, 2: np.float32}[tensor.dtype.code]).reshape(shape)


def test_a_frame_on_the_gpu_gives_the_labels_of_segment(
    gpu: Any, opened: Open, put: Put, frames: list[UInt8], copies: list[Copy]
) -> None:
    segmenter = opened()
    wanted = [segmenter.segment(frame) for frame in frames]
    addresses = [put(frame) for frame in frames]
    copies.clear()
    for _ in range(2):
        for address, labels in zip(addresses, wanted, strict=True):
            for frame in (Interface(address, (64, 96, 3)), Producer(address, (64, 96, 3))):
                result = segmenter.segment_on_device(frame)
                assert (result.shape, result.dtype, result.device) == ((64, 96), np.uint8, 0)
                assert np.array_equal(taken(gpu, result), labels)
                assert np.array_equal(through_dlpack(gpu, result), labels)
    assert copies == []  # nothing crossed the bus, and a packed frame was read where it lies
    assert gpu.calls["cudaMemcpy2DAsync"] == 0


def test_a_batch_on_the_gpu_gives_a_batch(
    gpu: Any, opened: Open, put: Put, reference: References, frames: list[UInt8]
) -> None:
    address = put(np.stack(frames[:3]))
    result = opened().segment_on_device(Interface(address, (3, 64, 96, 3)))
    assert result.shape == (3, 64, 96)
    for labels, frame in zip(taken(gpu, result), frames, strict=False):
        assert np.array_equal(labels, reference("streets").labels(frame))
    one = opened().segment_on_device(Producer(address, (1, 64, 96, 3)))
    assert one.shape == (1, 64, 96)


def test_a_frame_that_is_still_being_made_is_waited_for(
    gpu: Any, opened: Open, put: Put, reference: References, frames: list[UInt8]
) -> None:
    segmenter = opened()
    wanted = reference("streets").labels(frames[1])
    for entries in ({"stream": 1}, {"stream": 2}, {"version": 2}):
        address = put(frames[0])
        gpu.write(address, bytes(frames[1]), stream=entries.get("stream", 1))
        frame = Interface(address, (64, 96, 3), **entries)
        if entries == {"version": 2}:  # it has no entry for a stream: the default one is meant
            del frame.__cuda_array_interface__["stream"]
        assert np.array_equal(taken(gpu, segmenter.segment_on_device(frame)), wanted)


def test_a_dlpack_producer_is_told_the_stream_that_reads(
    gpu: Any, opened: Open, put: Put, reference: References, frames: list[UInt8]
) -> None:
    segmenter = opened()
    producer = Producer(put(frames[0]), (64, 96, 3))
    cuda = importlib.import_module("cuda.bindings.runtime")
    ordered: list[int] = []
    give = producer.__dlpack__

    class Late(Producer):
        def __dlpack__(self, *, stream: Any = None) -> Any:
            gpu.write(address, bytes(frames[2]), stream=1)  # work on the producer's own stream, then the order
            _, event = cuda.cudaEventCreateWithFlags(cuda.cudaEventDisableTiming)
            cuda.cudaEventRecord(event, 1)
            cuda.cudaStreamWaitEvent(stream, event, 0)
            cuda.cudaEventDestroy(event)
            ordered.append(stream)
            return super().__dlpack__(stream=stream)

    assert give
    address = put(frames[0])
    result = segmenter.segment_on_device(Late(address, (64, 96, 3)))
    assert np.array_equal(taken(gpu, result), reference("streets").labels(frames[2]))
    segmenter.segment_on_device(producer)
    assert ordered == producer.streams
    assert ordered[0] not in (None, 0, 1, 2)


def test_rows_at_a_distance_and_addresses_that_are_not_aligned_are_packed_on_the_gpu(
    gpu: Any, opened: Open, put: Put, reference: References, frames: list[UInt8], copies: list[Copy]
) -> None:
    segmenter = opened()
    frame = frames[0]
    wanted = reference("streets").labels(frame)
    padded = np.zeros((64, 320), np.uint8)
    padded[:, : 96 * 3] = frame.reshape(64, -1)
    pitched = put(padded)
    shifted = put(b"\0" * 5 + bytes(frame))
    for given in (
        Interface(pitched, (64, 96, 3), strides=(320, 3, 1)),
        Producer(pitched, (64, 96, 3), strides=(320, 3, 1)),
        Producer(pitched, (1, 64, 96, 3), strides=(7, 320, 3, 1)),
        Interface(shifted + 5, (64, 96, 3)),
        Producer(shifted + 5, (64, 96, 3), byte_offset=5),
    ):
        before = gpu.calls["cudaMemcpy2DAsync"]
        labels = taken(gpu, segmenter.segment_on_device(given))
        assert np.array_equal(labels.reshape(64, 96), wanted)
        assert gpu.calls["cudaMemcpy2DAsync"] == before + 1
    tight = Interface(put(frame), (64, 96, 3), strides=(288, 3, 1))
    assert np.array_equal(taken(gpu, segmenter.segment_on_device(tight)), wanted)
    assert gpu.calls["cudaMemcpy2DAsync"] == before + 1
    assert copies == []


def test_a_pitched_batch_is_packed(
    gpu: Any, opened: Open, put: Put, reference: References, frames: list[UInt8]
) -> None:
    padded = np.zeros((2, 64, 300), np.uint8)
    padded[:, :, : 96 * 3] = np.stack(frames[:2]).reshape(2, 64, -1)
    result = opened().segment_on_device(Interface(put(padded), (2, 64, 96, 3), strides=(64 * 300, 300, 3, 1)))
    for labels, frame in zip(taken(gpu, result), frames, strict=False):
        assert np.array_equal(labels, reference("streets").labels(frame))


def test_frames_of_the_host_and_of_the_gpu_take_turns(
    gpu: Any, opened: Open, put: Put, reference: References, frames: list[UInt8]
) -> None:
    segmenter = opened()
    addresses = [put(frame) for frame in frames]
    wanted = [reference("streets").labels(frame) for frame in frames]
    for number in range(5):
        under_way = [segmenter.submit(frames[number]), segmenter.submit(frames[number + 1])]
        result = segmenter.segment_on_device(Interface(addresses[number], (64, 96, 3)))
        assert np.array_equal(taken(gpu, result), wanted[number])
        assert np.array_equal(under_way[1].result(), wanted[number + 1])
        assert np.array_equal(under_way[0].result(), wanted[number])


def test_results_outlive_the_segmenter_and_go_when_they_are_dropped(
    gpu: Any, plan: Plans, put: Put, reference: References, frames: list[UInt8]
) -> None:
    address = put(frames[0])
    frame = Interface(address, (64, 96, 3))
    with Segmenter.open(plan("streets"), resize="none") as segmenter:
        results = [segmenter.segment_on_device(frame) for _ in range(3)]
    assert len({result.address for result in results}) == 3
    assert len(gpu.live_allocations()) == 1 + 3  # the caller's frame and the results
    wanted = reference("streets").labels(frames[0])
    for result in results:
        assert np.array_equal(taken(gpu, result), wanted)
    capsule = results[0].__dlpack__()
    del results, result
    gc.collect()
    assert len(gpu.live_allocations()) == 1 + 1  # a capsule that nobody took yet holds its result
    del capsule
    assert len(gpu.live_allocations()) == 1


def test_a_capsule_that_is_dropped_while_an_exception_is_on_its_way_gives_the_memory_back(
    gpu: Any, opened: Open, put: Put, frames: list[UInt8]
) -> None:
    class ConsumerError(Exception):
        pass

    def refuse(capsule: Any) -> None:
        raise ConsumerError

    segmenter = opened()
    segmenter.segment_on_device(Interface(put(frames[0]), (64, 96, 3)))
    frame = Interface(put(frames[0]), (64, 96, 3))
    before = len(gpu.live_allocations())
    with pytest.raises(ConsumerError):
        # the one reference to the capsule is the evaluation stack's, cleared while the exception is on its way
        refuse(segmenter.segment_on_device(frame).__dlpack__())
    with pytest.raises(ConsumerError):
        # and a list's, which is cleared in C
        (lambda kept: refuse(None))([segmenter.segment_on_device(frame).__dlpack__()])
    # in C: an iterator holds the one reference and is dropped by the function that the exception passes through
    results = (segmenter.segment_on_device(frame).__dlpack__() for _ in range(1))
    with pytest.raises(TypeError):
        sum(results)
    gc.collect()
    assert len(gpu.live_allocations()) == before


def test_a_consumer_of_dlpack_holds_the_result_until_it_calls_the_deleter(
    gpu: Any, opened: Open, put: Put, frames: list[UInt8]
) -> None:
    segmenter = opened()
    segmenter.segment_on_device(Interface(put(frames[0]), (64, 96, 3)))
    before = len(gpu.live_allocations())
    result = segmenter.segment_on_device(Interface(put(frames[0]), (64, 96, 3)))
    for _ in range(2):
        assert through_dlpack(gpu, result).shape == (64, 96)
    del result
    assert len(gpu.live_allocations()) == before + 1  # the second frame of the caller's


def test_results_are_what_they_say_to_dlpack(opened: Open, put: Put, frames: list[UInt8]) -> None:
    result = opened().segment_on_device(Interface(put(frames[0]), (64, 96, 3)))
    assert result.__dlpack_device__() == (2, 0)
    result.__dlpack__(stream=None, max_version=(1, 1), dl_device=(2, 0), copy=False)
    for wanted in ({"copy": True}, {"dl_device": (1, 0)}, {"dl_device": (2, 1)}):
        with pytest.raises(BufferError, match="copy it afterwards"):
            result.__dlpack__(**wanted)


def test_a_frames_memory_is_held_while_it_is_read_and_let_go_of_afterwards(
    opened: Open, put: Put, frames: list[UInt8]
) -> None:
    producer = Producer(put(frames[0]), (64, 96, 3))
    result = opened().segment_on_device(producer)
    assert result.shape == (64, 96)
    gc.collect()
    assert producer.ended == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda a: Interface(a, (64, 96, 3), typestr="<f4"), "must be uint8, not <f4; convert"),
        (lambda a: Producer(a, (64, 96, 3), dtype=(2, 32, 1)), "must be uint8, not DLPack type 2 of 32 bits; convert"),
        (lambda a: Producer(a, (64, 96, 3), dtype=(1, 8, 4)), "must be uint8"),
        (lambda a: Interface(a, (64, 96)), "must be H x W x 3 or N x H x W x 3, not 64x96"),
        (lambda a: Producer(a, (64, 96, 4)), "not 64x96x4"),
        (lambda a: Interface(a, (3, 64, 96)), "not 3x64x96"),
        (lambda a: Producer(a, (1, 1, 64, 96, 3)), "not of 5 axes"),
        (lambda a: Interface(a, (0, 96, 3)), "not 0x96x3"),
        (lambda a: Interface(a, (64, 96, 3), strides=(288, 1, 96)), "strides .288, 1, 96. .* make them contiguous"),
        (lambda a: Interface(a, (64, 96, 3), strides=(-288, 3, 1)), "make them contiguous"),
        (lambda a: Producer(a, (2, 16, 96, 3), strides=(9000, 288, 3, 1)), "make them contiguous"),
        (lambda a: Producer(a, (64, 96, 3), device=(1, 0)), "does not .DLPack device type 1.; use segment"),
        (lambda a: Producer(a, (64, 96, 3), device=(2, 1)), "lie on GPU 1 and this engine on GPU 0; open it with dev"),
        (lambda a: Producer(a, (64, 96, 3), device=(13, 1)), "lie on GPU 1 and this engine on GPU 0; open it with dev"),
        (lambda a: Interface(a, (64, 96, 3), mask=Interface(a, (64, 96, 3))), "must be whole, .* has a mask; give an"),
        (lambda a: Interface(4096, (64, 96, 3)), "address 0x1000 is no memory of a GPU; use segment.. for frames in"),
        (lambda a: np.zeros((64, 96, 3), np.uint8), "ndarray does not .DLPack device type 1.; use segment"),
        (lambda a: [1, 2, 3], "a list is no frame on a GPU"),
        (lambda a: Interface(a, (8, 8, 3)), "1x8x8 .* are outside of .*: 1x64x64 to 1x256x512, 1x16x16 to 3x128x160"),
    ],
)
def test_what_is_no_frame_on_this_gpu_is_refused(
    opened: Open, put: Put, frames: list[UInt8], make: Callable[[int], Any], message: str
) -> None:
    segmenter = opened()
    given = make(put(frames[0]))
    with pytest.raises(InputError, match=message):
        segmenter.segment_on_device(given)
    if isinstance(given, Producer):
        gc.collect()
        assert given.ended == len(given.streams)


def test_an_address_in_the_hosts_page_locked_memory_is_refused(opened: Open) -> None:
    segmenter = opened()
    buffer = segmenter.frame_buffer(64, 96)
    with pytest.raises(InputError, match=r"address 0x[0-9a-f]+ is no memory of a GPU; use segment\(\)"):
        segmenter.segment_on_device(Interface(buffer.ctypes.data, (64, 96, 3)))


def test_an_address_on_another_gpu_is_refused_and_managed_memory_is_every_gpus(
    gpu: Any, opened: Open, reference: References, frames: list[UInt8]
) -> None:
    gpu.knobs.device_count = 2
    segmenter = opened(device=1)
    elsewhere = gpu.allocate(bytes(frames[0]), device=0)
    with pytest.raises(InputError, match="lie on GPU 0 and this engine on GPU 1; open it with device=0"):
        segmenter.segment_on_device(Interface(elsewhere, (64, 96, 3)))
    gpu.free(elsewhere)
    wanted = reference("streets").labels(frames[0])
    for place in ({"device": 1}, {"device": 0, "managed": True}):
        address = gpu.allocate(bytes(frames[0]), **place)
        result = segmenter.segment_on_device(Interface(address, (64, 96, 3)))
        assert np.array_equal(taken(gpu, result), wanted)
        assert result.__dlpack_device__() == (2, 1)
        assert np.array_equal(through_dlpack(gpu, result), wanted)
        gpu.free(address)


def test_an_address_that_cuda_knows_nothing_of_is_refused(
    gpu: Any, opened: Open, put: Put, frames: list[UInt8]
) -> None:
    segmenter = opened()
    frame = Interface(put(frames[0]), (64, 96, 3))
    gpu.knobs.fail_call = "cudaPointerGetAttributes"
    with pytest.raises(InputError, match="is no memory of a GPU"):
        segmenter.segment_on_device(frame)
    assert last_error() == "cudaSuccess"
    gpu.knobs.fail_call_as = "cudaErrorUnknown"
    with pytest.raises(EngineError, match=r"could not tell whose memory an address is \(cudaErrorUnknown"):
        segmenter.segment_on_device(frame)


def last_error() -> str:
    cuda = importlib.import_module("cuda.bindings.runtime")
    return cuda.cudaGetErrorName(cuda.cudaGetLastError()[0])[1].decode()


def test_a_producer_gives_its_frame_while_its_gpu_is_current(gpu: Any, opened: Open, frames: list[UInt8]) -> None:
    gpu.knobs.device_count = 2
    seen: list[int] = []

    class Strict(Producer):
        def __dlpack__(self, *, stream: Any = None) -> Any:
            seen.append(current_gpu())
            return super().__dlpack__(stream=stream)

    segmenter = opened(device=1)
    address = gpu.allocate(bytes(frames[0]), device=1)
    segmenter.segment_on_device(Strict(address, (64, 96, 3), device=(2, 1)))
    gpu.free(address)
    assert seen == [1]
    assert current_gpu() == 0


def current_gpu() -> int:
    return importlib.import_module("cuda.bindings.runtime").cudaGetDevice()[1]


def test_the_callers_current_gpu_is_left_as_it_was(gpu: Any, plan: Plans, frames: list[UInt8]) -> None:
    gpu.knobs.device_count = 3
    cuda = importlib.import_module("cuda.bindings.runtime")
    cuda.cudaSetDevice(2)
    address = gpu.allocate(bytes(frames[0]), device=1)
    with Segmenter.open(plan("streets"), device=1, resize="none") as segmenter:
        assert current_gpu() == 2
        buffer = segmenter.frame_buffer(64, 96)
        assert current_gpu() == 2
        for _ in range(3):  # plainly, captured, as a graph
            segmenter.segment(frames[0])
            assert current_gpu() == 2
        result = segmenter.segment_on_device(Interface(address, (64, 96, 3)))
        assert current_gpu() == 2
        with pytest.raises(InputError, match="outside"):
            segmenter.segment(np.zeros((5, 5, 3), np.uint8))
        assert current_gpu() == 2
        gpu.free(address)
        assert gpu.devices_in_use() == {1}  # everything was made on the engine's GPU
        segmenter.submit(frames[0])
    assert current_gpu() == 2
    del buffer, result


def test_a_gpu_that_cannot_be_made_current_again_leaves_the_labels(
    gpu: Any, opened: Open, reference: References, frames: list[UInt8]
) -> None:
    gpu.knobs.device_count = 2
    segmenter = opened(device=0)
    importlib.import_module("cuda.bindings.runtime").cudaSetDevice(1)
    gpu.knobs.device_count = 1  # the other one has gone
    assert np.array_equal(segmenter.segment(frames[0]), reference("streets").labels(frames[0]))
    assert last_error() == "cudaSuccess"


def test_the_host_sleeps_while_a_frame_on_the_gpu_is_segmented(
    gpu: Any, opened: Open, put: Put, frames: list[UInt8]
) -> None:
    segmenter = opened()
    frame = Interface(put(frames[0]), (64, 96, 3))
    segmenter.segment_on_device(frame)
    before = dict(gpu.calls)
    segmenter.segment_on_device(frame)
    made = {name: gpu.calls[name] - before.get(name, 0) for name in gpu.calls}
    assert made["cudaEventSynchronize"] == 1  # of an event with cudaEventBlockingSync
    assert made["cudaStreamSynchronize"] == 0  # which spins


def test_a_producer_that_cannot_export_is_refused(opened: Open, put: Put, frames: list[UInt8]) -> None:
    class Refusing(Producer):
        def __dlpack__(self, *, stream: Any = None) -> Any:
            raise BufferError("a lazy array")

    with pytest.raises(InputError, match=r"cannot be taken by DLPack \(a lazy array\)"):
        opened().segment_on_device(Refusing(put(frames[0]), (64, 96, 3)))


def test_axes_of_one_entry_may_have_any_stride(
    gpu: Any, opened: Open, put: Put, reference: References, scene: UInt8
) -> None:
    frame = np.ascontiguousarray(scene[:16, :16])
    given = Producer(put(frame), (1, 16, 16, 3), strides=(1, 48, 3, 1))
    assert np.array_equal(taken(gpu, opened().segment_on_device(given))[0], reference("streets").labels(frame))
    pixel = Interface(put(b"\1\2\3"), (1, 1, 1, 3), strides=(9, 9, 9, 1))
    read = device_array.read_device_frames(pixel, 3, Cuda(load_cuda(), 0))
    assert (read.shape, read.packed, read.batched) == ((1, 1, 1, 3), True, True)


def test_what_needs_more_than_the_graph_is_refused(
    gpu: Any, opened: Open, put: Put, streets_onnx: Path, scene: UInt8
) -> None:
    address = put(scene)
    for name, options, size, message in (
        ("streets", {"resize": (64, 96)}, (128, 160), "needs a resize or windows outside of the graph"),
        ("slide", {}, (97, 110), "needs a resize or windows outside of the graph"),
        ("fixed", {}, (64, 128), "takes 2 frames at once, not 1"),
    ):
        with pytest.raises(InputError, match=message):
            opened(name, **options).segment_on_device(Interface(address, (*size, 3)))
    with (
        Segmenter.open(streets_onnx, backend="onnxruntime") as segmenter,
        pytest.raises(InputError, match="open a TensorRT plan for frames on the GPU"),
    ):
        segmenter.segment_on_device(Interface(address, (64, 96, 3)))


def test_a_failed_frame_on_the_gpu_leaves_nothing_behind(
    gpu: Any, opened: Open, put: Put, reference: References, frames: list[UInt8]
) -> None:
    segmenter = opened()
    padded = np.zeros((64, 320), np.uint8)
    padded[:, : 96 * 3] = frames[0].reshape(64, -1)
    frame = Interface(put(padded), (64, 96, 3), strides=(320, 3, 1))
    segmenter.segment_on_device(frame)
    before = len(gpu.live_allocations())
    gpu.fail_execute_in(1)
    with pytest.raises(EngineError, match=r"failed on a frame \(.*invalid resource handle"):
        segmenter.segment_on_device(frame)
    assert len(gpu.live_allocations()) == before
    gpu.write(frame.__cuda_array_interface__["data"][0], bytes(padded))  # nothing reads it any more
    assert np.array_equal(taken(gpu, segmenter.segment_on_device(frame)), reference("streets").labels(frames[0]))
    gpu.knobs.device_memory = gpu.device_bytes + 100
    with pytest.raises(EngineError, match="out of device memory on GPU 0: 1 MiB more are needed for a result"):
        segmenter.segment_on_device(frame)

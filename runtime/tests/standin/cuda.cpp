// The stand-in for libcudart.
#include <cstring>

#include "world.hpp"

using namespace standin;

namespace {

constexpr bool kUnsafe = true; // not to be called by a thread that captures

const std::map<cudaError_t, std::pair<const char *, const char *>> &words() {
    static const std::map<cudaError_t, std::pair<const char *, const char *>> all = {
        {cudaSuccess, {"cudaSuccess", "no error"}},
        {cudaErrorInvalidValue, {"cudaErrorInvalidValue", "invalid argument"}},
        {cudaErrorMemoryAllocation, {"cudaErrorMemoryAllocation", "out of memory"}},
        {cudaErrorInsufficientDriver,
         {"cudaErrorInsufficientDriver", "CUDA driver version is insufficient for CUDA runtime version"}},
        {cudaErrorNoDevice, {"cudaErrorNoDevice", "no CUDA-capable device is detected"}},
        {cudaErrorInvalidDevice, {"cudaErrorInvalidDevice", "invalid device ordinal"}},
        {cudaErrorIllegalAddress, {"cudaErrorIllegalAddress", "an illegal memory access was encountered"}},
        {cudaErrorLaunchFailure, {"cudaErrorLaunchFailure", "unspecified launch failure"}},
        {cudaErrorStreamCaptureUnsupported,
         {"cudaErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing"}},
        {cudaErrorStreamCaptureInvalidated,
         {"cudaErrorStreamCaptureInvalidated", "operation failed due to a previous error during capture"}},
        {cudaErrorUnknown, {"cudaErrorUnknown", "unknown error"}},
    };
    return all;
}

std::uint64_t checksum(const std::uint8_t *bytes, std::size_t size) {
    std::uint64_t sum = 1469598103934665603U; // FNV-1a
    for (std::size_t i = 0; i < size; ++i)
        sum = (sum ^ bytes[i]) * 1099511628211U;
    return sum;
}

cudaError_t copy(Entry &in, const char *what, void *target, std::size_t target_pitch, const void *source,
                 std::size_t source_pitch, std::size_t width, std::size_t height, cudaMemcpyKind kind,
                 cudaStream_t handle) {
    World &w = world();
    if (width > target_pitch || width > source_pitch)
        return in.give(cudaErrorInvalidValue);
    if (width == 0 || height == 0)
        return in.give(cudaSuccess);
    const auto stream = w.stream(handle, what);
    const bool from_host = kind == cudaMemcpyHostToDevice;
    const bool to_host = kind == cudaMemcpyDeviceToHost;
    const Access from = w.range(source, (height - 1) * source_pitch + width, from_host, false, what);
    const Access to = w.range(target, (height - 1) * target_pitch + width, to_host, true, what);
    if (from.begin < to.end && to.begin < from.end)
        violate(std::string(what) + " copies between ranges that overlap");
    const auto prepare = [=]() -> std::function<void()> {
        World &now = world();
        const std::size_t span = from.end - from.begin;
        // what the host wrote before it queued the copy is what has to arrive
        const std::uint64_t expected = from_host ? checksum(now.bytes(from), span) : 0;
        if (to_host) // whoever reads too early reads rubbish
            std::memset(now.bytes(to), 0xA5, to.end - to.begin);
        return [=] {
            World &then = world();
            const std::uint8_t *const in_bytes = then.bytes(from);
            if (from_host && checksum(in_bytes, span) != expected)
                violate(std::string("the host wrote into pinned memory while ") + what + " from it was pending");
            std::uint8_t *const out_bytes = then.bytes(to);
            for (std::size_t row = 0; row < height; ++row)
                std::memcpy(out_bytes + row * target_pitch, in_bytes + row * source_pitch, width);
        };
    };
    w.copies.push_back((from_host ? "up " : to_host ? "down " : "within ") + std::to_string(width * height));
    w.submit(*stream, {std::string(what) + (from_host ? " up" : to_host ? " down" : " within"), {from, to}, prepare});
    return in.give(cudaSuccess);
}

template <typename Handle> Handle handle_of(std::uintptr_t number) {
    return reinterpret_cast<Handle>(number);
}

std::uintptr_t next_handle() {
    return world().next_handle += 0x40;
}

} // namespace

extern "C" {

const char *cudaGetErrorName(cudaError_t error) {
    const auto found = words().find(error);
    return found == words().end() ? "cudaErrorOther" : found->second.first;
}

const char *cudaGetErrorString(cudaError_t error) {
    const auto found = words().find(error);
    return found == words().end() ? "another error" : found->second.second;
}

cudaError_t cudaGetLastError() {
    const std::unique_lock<std::recursive_mutex> lock(world().mutex);
    const cudaError_t error = world().lost != cudaSuccess ? world().lost : world().last_error;
    world().last_error = cudaSuccess;
    return error;
}

cudaError_t cudaDriverGetVersion(int *version) {
    const std::unique_lock<std::recursive_mutex> lock(world().mutex);
    *version = world().knobs.driver_too_old ? 11040 : world().knobs.device_count == 0 ? 0 : 13000;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = 13050;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count) {
    Entry in("cudaGetDeviceCount");
    world().device_asked = true;
    if (in.refused() != cudaSuccess)
        return in.refused();
    *count = world().knobs.device_count;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device) {
    Entry in("cudaGetDevice");
    if (in.refused() != cudaSuccess)
        return in.refused();
    *device = current_device();
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    Entry in("cudaSetDevice");
    if (in.refused() != cudaSuccess)
        return in.refused();
    if (device < 0 || device >= world().knobs.device_count)
        return in.give(cudaErrorInvalidDevice);
    set_current_device(device);
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device) {
    Entry in("cudaDeviceGetAttribute");
    if (in.refused() != cudaSuccess)
        return in.refused();
    if (device < 0 || device >= world().knobs.device_count)
        return in.give(cudaErrorInvalidDevice);
    *value = attribute == cudaDevAttrComputeCapabilityMajor ? world().knobs.capability_major
                                                            : world().knobs.capability_minor;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device) {
    Entry in("cudaGetDeviceProperties");
    if (in.refused() != cudaSuccess)
        return in.refused();
    if (device < 0 || device >= world().knobs.device_count)
        return in.give(cudaErrorInvalidDevice);
    std::strcpy(properties->name, "Stand-in GPU");
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *pointer) {
    Entry in("cudaPointerGetAttributes");
    if (in.refused() != cudaSuccess)
        return in.refused();
    const Allocation *const found = world().find(reinterpret_cast<std::uintptr_t>(pointer));
    if (found == nullptr || !found->live)
        *attributes = {cudaMemoryTypeUnregistered, -2, nullptr, nullptr};
    else if (found->pinned)
        *attributes = {cudaMemoryTypeHost, found->device, nullptr, nullptr};
    else
        *attributes = {found->managed ? cudaMemoryTypeManaged : cudaMemoryTypeDevice, found->device, nullptr, nullptr};
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(std::size_t *free_bytes, std::size_t *total_bytes) {
    Entry in("cudaMemGetInfo");
    if (in.refused() != cudaSuccess)
        return in.refused();
    *total_bytes = world().knobs.device_memory;
    const std::size_t used = world().device_bytes + world().weights_bytes;
    *free_bytes = used < *total_bytes ? *total_bytes - used : 0;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **pointer, std::size_t size) {
    Entry in("cudaMalloc", kUnsafe);
    if (in.refused() != cudaSuccess)
        return in.refused();
    World &w = world();
    if (w.device_bytes + w.weights_bytes + size > w.knobs.device_memory)
        return in.give(cudaErrorMemoryAllocation);
    *pointer = reinterpret_cast<void *>(w.allocate(size, false, false));
    return cudaSuccess;
}

cudaError_t cudaFree(void *pointer) {
    Entry in("cudaFree", kUnsafe);
    if (pointer != nullptr)
        world().free(pointer, false, "cudaFree");
    return in.give(cudaSuccess);
}

cudaError_t cudaHostAlloc(void **pointer, std::size_t size, unsigned int flags) {
    Entry in("cudaHostAlloc", kUnsafe);
    if (in.refused() != cudaSuccess)
        return in.refused();
    World &w = world();
    if (flags != cudaHostAllocDefault)
        violate("cudaHostAlloc was given flags that the stand-in does not know");
    if (w.pinned_bytes + size > w.knobs.pinned_memory)
        return in.give(cudaErrorMemoryAllocation);
    *pointer = reinterpret_cast<void *>(w.allocate(size, true, false));
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *pointer) {
    Entry in("cudaFreeHost", kUnsafe);
    if (pointer != nullptr)
        world().free(pointer, true, "cudaFreeHost");
    return in.give(cudaSuccess);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned int flags) {
    Entry in("cudaStreamCreateWithFlags");
    if (in.refused() != cudaSuccess)
        return in.refused();
    if (flags != cudaStreamNonBlocking)
        violate("a stream was made that blocks on the default stream; use cudaStreamNonBlocking");
    const std::uintptr_t number = next_handle();
    world().streams[number] = world().make_stream();
    world().devices_used.insert(current_device());
    *stream = handle_of<cudaStream_t>(number);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    Entry in("cudaStreamDestroy");
    const auto found = world().stream(stream, "cudaStreamDestroy");
    if (found->capture)
        violate("cudaStreamDestroy destroys a stream that captures");
    if (!found->queue.empty() && world().lost == cudaSuccess)
        violate("cudaStreamDestroy destroys a stream with pending work");
    world().streams.erase(reinterpret_cast<std::uintptr_t>(stream));
    return in.give(cudaSuccess);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    Entry in("cudaStreamSynchronize", kUnsafe);
    if (in.refused() != cudaSuccess)
        return in.refused();
    const auto found = world().stream(stream, "cudaStreamSynchronize");
    Clock clock = found->clock;
    world().synchronize(*found, found->sequence, clock);
    return in.give(cudaSuccess);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int) {
    Entry in("cudaStreamWaitEvent");
    if (in.refused() != cudaSuccess)
        return in.refused();
    const auto waiting = world().stream(stream, "cudaStreamWaitEvent");
    const auto mark = world().event(event, "cudaStreamWaitEvent");
    if (waiting->capture)
        violate("cudaStreamWaitEvent in a capture: the compute alone is captured");
    if (!mark->stream)
        return cudaSuccess; // never recorded: nothing to wait for
    ++waiting->sequence;
    join(waiting->clock, mark->clock);
    waiting->clock[waiting->number] = waiting->sequence;
    if (mark->stream != waiting)
        waiting->queue.push_back({waiting->sequence, {}, mark->stream, mark->sequence});
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status) {
    Entry in("cudaStreamIsCapturing");
    if (in.refused() != cudaSuccess)
        return in.refused();
    *status = world().stream(stream, "cudaStreamIsCapturing")->capture ? cudaStreamCaptureStatusActive
                                                                       : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
    Entry in("cudaStreamBeginCapture");
    if (in.refused() != cudaSuccess)
        return in.refused();
    if (mode != cudaStreamCaptureModeThreadLocal)
        violate("cudaStreamBeginCapture in a mode that other threads of the program break");
    const auto found = world().stream(stream, "cudaStreamBeginCapture");
    if (found->capture)
        violate("cudaStreamBeginCapture on a stream that captures already");
    found->capture = std::make_unique<Capture>(Capture{std::this_thread::get_id()});
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    Entry in("cudaStreamEndCapture");
    *graph = nullptr;
    if (world().lost != cudaSuccess)
        return in.refused();
    const auto found = world().stream(stream, "cudaStreamEndCapture");
    if (!found->capture)
        violate("cudaStreamEndCapture on a stream that does not capture");
    const auto capture = std::move(found->capture);
    if (in.refused() != cudaSuccess)
        return in.refused();
    if (capture->broken != cudaSuccess)
        return in.give(capture->broken);
    if (capture->thread != std::this_thread::get_id())
        violate("cudaStreamEndCapture by another thread than began");
    const std::uintptr_t number = next_handle();
    world().graphs[number] = std::make_shared<Graph>(Graph{std::move(capture->jobs), false});
    *graph = handle_of<cudaGraph_t>(number);
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int flags) {
    Entry in("cudaEventCreateWithFlags");
    if (in.refused() != cudaSuccess)
        return in.refused();
    if ((flags & cudaEventDisableTiming) == 0)
        violate("an event was made that keeps time, which makes recording it slow");
    const std::uintptr_t number = next_handle();
    world().events[number] = std::make_shared<Event>(Event{flags});
    *event = handle_of<cudaEvent_t>(number);
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    Entry in("cudaEventDestroy");
    (void)world().event(event, "cudaEventDestroy");
    world().events.erase(reinterpret_cast<std::uintptr_t>(event));
    return in.give(cudaSuccess);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    Entry in("cudaEventRecord");
    if (in.refused() != cudaSuccess)
        return in.refused();
    const auto mark = world().event(event, "cudaEventRecord");
    const auto found = world().stream(stream, "cudaEventRecord");
    if (found->capture)
        violate("cudaEventRecord in a capture: the compute alone is captured");
    join(found->clock, world().host_clock);
    mark->stream = found;
    mark->sequence = found->sequence;
    mark->clock = found->clock;
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    Entry in("cudaEventSynchronize", kUnsafe);
    if (in.refused() != cudaSuccess)
        return in.refused();
    const auto mark = world().event(event, "cudaEventSynchronize");
    if ((mark->flags & cudaEventBlockingSync) == 0)
        violate("the host waits for an event without cudaEventBlockingSync, which keeps a core busy");
    if (mark->stream) {
        const Clock clock = mark->clock;
        world().synchronize(*mark->stream, mark->sequence, clock);
    }
    return in.give(cudaSuccess);
}

cudaError_t cudaMemcpyAsync(void *target, const void *source, std::size_t size, cudaMemcpyKind kind,
                            cudaStream_t stream) {
    Entry in("cudaMemcpyAsync");
    if (in.refused() != cudaSuccess)
        return in.refused();
    return copy(in, "cudaMemcpyAsync", target, size, source, size, size, 1, kind, stream);
}

cudaError_t cudaMemcpy2DAsync(void *target, std::size_t target_pitch, const void *source, std::size_t source_pitch,
                              std::size_t width, std::size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
    Entry in("cudaMemcpy2DAsync");
    if (in.refused() != cudaSuccess)
        return in.refused();
    return copy(in, "cudaMemcpy2DAsync", target, target_pitch, source, source_pitch, width, height, kind, stream);
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long) {
    Entry in("cudaGraphInstantiateWithFlags");
    if (in.refused() != cudaSuccess)
        return in.refused();
    const auto found = world().graphs.find(reinterpret_cast<std::uintptr_t>(graph));
    if (found == world().graphs.end() || found->second->executable)
        violate("cudaGraphInstantiateWithFlags was given what is no graph");
    const std::uintptr_t number = next_handle();
    world().graphs[number] = std::make_shared<Graph>(Graph{found->second->jobs, true});
    *executable = handle_of<cudaGraphExec_t>(number);
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    Entry in("cudaGraphDestroy");
    if (world().graphs.erase(reinterpret_cast<std::uintptr_t>(graph)) == 0)
        violate("cudaGraphDestroy was given what is no graph");
    return in.give(cudaSuccess);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
    Entry in("cudaGraphExecDestroy");
    if (world().graphs.erase(reinterpret_cast<std::uintptr_t>(executable)) == 0)
        violate("cudaGraphExecDestroy was given what is no graph");
    return in.give(cudaSuccess);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
    Entry in("cudaGraphLaunch");
    if (in.refused() != cudaSuccess)
        return in.refused();
    const auto found = world().graphs.find(reinterpret_cast<std::uintptr_t>(executable));
    if (found == world().graphs.end() || !found->second->executable)
        violate("cudaGraphLaunch was given what is no executable graph");
    const auto target = world().stream(stream, "cudaGraphLaunch");
    for (const Job &job : found->second->jobs)
        world().submit(*target, job);
    return cudaSuccess;
}

} // extern "C"

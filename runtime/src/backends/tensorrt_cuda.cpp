#include "tensorrt_cuda.hpp"

#include <algorithm>

#include "error.hpp"

namespace isa_tensorrt {

namespace {

using isa_core::Error;
using isa_core::text;

std::string words(cudaError_t error) {
    return text(cudaGetErrorName(error), ": ", cudaGetErrorString(error));
}

std::string version_words(cudaError_t error, int number) {
    if (error != cudaSuccess || number == 0)
        return "none";
    return text(number / 1000, ".", number % 1000 / 10);
}

std::size_t mib(std::size_t size) {
    constexpr std::size_t kMib = std::size_t{1} << 20;
    return size / kMib + (size % kMib != 0 ? 1 : 0);
}

/// Whether every later call of the process fails too, as CUDA's documentation says of these errors.
bool lasts(cudaError_t error) {
    switch (error) {
    case cudaErrorAssert:
    case cudaErrorContextIsDestroyed:
    case cudaErrorECCUncorrectable:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalAddress:
    case cudaErrorIllegalInstruction:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorMisalignedAddress:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorUnknown:
        return true;
    default:
        return false;
    }
}

/// How many GPUs CUDA sees, 1 or more.  Nothing is made on any of them.
int gpu_count() {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error == cudaSuccess && count > 0)
        return count;
    (void)cudaGetLastError();
    if (error == cudaErrorInsufficientDriver) {
        int runtime = 0;
        int driver = 0;
        const cudaError_t of_runtime = cudaRuntimeGetVersion(&runtime);
        const cudaError_t of_driver = cudaDriverGetVersion(&driver);
        throw Error(ISA_ERROR_BACKEND_UNAVAILABLE,
                    text("the NVIDIA driver is missing or too old for CUDA ", version_words(of_runtime, runtime),
                         " (the driver has ", version_words(of_driver, driver),
                         "); install a newer driver, or run the graph (.onnx) on the CPU"));
    }
    if (error == cudaErrorNoDevice || error == cudaSuccess)
        throw Error(ISA_ERROR_BACKEND_UNAVAILABLE,
                    "this machine has no NVIDIA GPU that CUDA sees; run the graph (.onnx) on the CPU");
    throw Error(ISA_ERROR_BACKEND_UNAVAILABLE, text("CUDA cannot look for GPUs (", words(error),
                                                    "); see nvidia-smi, or run the graph (.onnx) on the CPU"));
}

} // namespace

Cuda::Cuda(int index) : index_(index) {
    // also what has to come before a TensorRT runtime is made: without a driver that would crash
    const int count = gpu_count();
    if (index < 0 || index >= count)
        isa_core::fail_input("device ", index, " is no GPU of this machine, which has ", count, " (0 to ", count - 1,
                             ")");
    check(cudaDeviceGetAttribute(&major_, cudaDevAttrComputeCapabilityMajor, index), "ask the GPU");
    check(cudaDeviceGetAttribute(&minor_, cudaDevAttrComputeCapabilityMinor, index), "ask the GPU");
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, index), "ask the GPU");
    name_.assign(properties.name, std::find(properties.name, properties.name + sizeof properties.name, '\0'));
}

std::string Cuda::title() const {
    return text(name_, " (compute capability ", major_, ".", minor_, ")");
}

void Cuda::check(cudaError_t error, const char *action) const {
    if (error == cudaSuccess)
        return;
    // otherwise the next library of the process that asks would take it for its own
    (void)cudaGetLastError();
    if (error == cudaErrorMemoryAllocation)
        throw Error(ISA_ERROR_OUT_OF_MEMORY,
                    text("out of device memory on GPU ", index_, ": it could not ", action, " (", words(error),
                         "); use a smaller --resize, or end other programs"));
    if (lasts(error))
        isa_core::fail_engine("the GPU could not ", action, " (", words(error),
                              "); after such an error a process cannot use the GPU again: start another, and see "
                              "nvidia-smi and the system's log if it returns");
    isa_core::fail_engine("the GPU could not ", action, " (", words(error),
                          "); open the engine again, and see nvidia-smi and the system's log if it returns");
}

DeviceMemory Cuda::allocate(std::size_t size, const std::string &purpose) const {
    void *address = nullptr;
    const cudaError_t error = cudaMalloc(&address, std::max<std::size_t>(size, 1));
    if (error == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError(); // this one leaves the process usable: take it off the record
        std::size_t free_bytes = 0;
        std::size_t total_bytes = 0;
        check(cudaMemGetInfo(&free_bytes, &total_bytes), "tell its free memory");
        throw Error(ISA_ERROR_OUT_OF_MEMORY,
                    text("out of device memory on GPU ", index_, ": ", mib(size), " MiB more are needed for ", purpose,
                         ", and ", mib(free_bytes), " of its ", mib(total_bytes),
                         " MiB are free; use a smaller --resize, or end other programs"));
    }
    check(error, "give memory");
    return {Owned<void *, cudaFree>(address), size};
}

PinnedMemory Cuda::pin(std::size_t size) const {
    void *address = nullptr;
    const cudaError_t error = cudaHostAlloc(&address, std::max<std::size_t>(size, 1), cudaHostAllocDefault);
    if (error == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError();
        throw Error(ISA_ERROR_OUT_OF_MEMORY, text("the host has no ", mib(size),
                                                  " MiB of memory left that can be page-locked; end other programs"));
    }
    check(error, "lock host memory");
    return {Owned<void *, cudaFreeHost>(address), size};
}

Stream Cuda::stream() const {
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "make a stream");
    return Stream(stream);
}

Event Cuda::event() const {
    cudaEvent_t event = nullptr;
    // keeping its time would make recording it slow
    check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "make an event");
    return Event(event);
}

Event Cuda::waited_event() const {
    cudaEvent_t event = nullptr;
    // CUDA otherwise spins: a core would be busy for as long as the GPU is
    check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming | cudaEventBlockingSync), "make an event");
    return Event(event);
}

int Cuda::memory_gpu(const void *address) const {
    cudaPointerAttributes attributes{};
    const cudaError_t error = cudaPointerGetAttributes(&attributes, address);
    if (error == cudaErrorInvalidValue) { // no memory that CUDA knows of
        (void)cudaGetLastError();
        return -1;
    }
    check(error, "tell whose memory an address is");
    if (attributes.type == cudaMemoryTypeManaged)
        return index_;
    return attributes.type == cudaMemoryTypeDevice ? attributes.device : -1;
}

CurrentDevice::CurrentDevice(const Cuda &cuda) {
    cuda.check(cudaGetDevice(&before_), "tell which GPU is current");
    if (before_ == cuda.index())
        return;
    cuda.check(cudaSetDevice(cuda.index()), "use the GPU");
    changed_ = true;
}

CurrentDevice::~CurrentDevice() {
    // a GPU that cannot be made current again is its user's trouble: what was done here is done
    if (changed_ && cudaSetDevice(before_) != cudaSuccess)
        (void)cudaGetLastError();
}

} // namespace isa_tensorrt

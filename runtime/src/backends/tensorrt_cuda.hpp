// The CUDA runtime, as far as running an engine needs it: a device, memory, streams, events, graphs.
//
// CUDA's error codes end here as isa_core::Error, in the words of the Python package.
#pragma once

#include <cstddef>
#include <string>
#include <utility>

#include <cuda_runtime_api.h>

namespace isa_tensorrt {

/// A handle of CUDA's that is given back.  What giving back answers is no news: it is gone either way, or the GPU is.
template <typename Handle, cudaError_t (*Destroy)(Handle)> class Owned {
public:
    Owned() = default;
    explicit Owned(Handle handle) : handle_(handle) {}
    Owned(Owned &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Owned &operator=(Owned &&other) noexcept {
        if (this != &other) {
            reset();
            handle_ = std::exchange(other.handle_, nullptr);
        }
        return *this;
    }
    ~Owned() { reset(); }

    Handle get() const { return handle_; }
    explicit operator bool() const { return handle_ != nullptr; }

    void reset() {
        if (handle_ != nullptr && Destroy(std::exchange(handle_, nullptr)) != cudaSuccess)
            (void)cudaGetLastError(); // else the next library of the process that asks would take it for its own
    }

private:
    Handle handle_ = nullptr;
};

using Stream = Owned<cudaStream_t, cudaStreamDestroy>;
using Event = Owned<cudaEvent_t, cudaEventDestroy>;
using Graph = Owned<cudaGraph_t, cudaGraphDestroy>;
using GraphExec = Owned<cudaGraphExec_t, cudaGraphExecDestroy>;

struct DeviceMemory {
    Owned<void *, cudaFree> memory;
    std::size_t size = 0;

    void *get() const { return memory.get(); }
};

struct PinnedMemory {
    Owned<void *, cudaFreeHost> memory;
    std::size_t size = 0;

    void *get() const { return memory.get(); }
};

/// One GPU.
class Cuda {
public:
    /// Takes GPU `index`, counted from 0.  The calling thread's current GPU stays what it is.  Throws
    /// Error(ISA_ERROR_BACKEND_UNAVAILABLE) where there is no driver, one that is too old, or no GPU, and
    /// Error(ISA_ERROR_INPUT) for a number that no GPU has.
    explicit Cuda(int index);

    int index() const { return index_; }
    const std::string &name() const { return name_; }
    int major() const { return major_; }
    int minor() const { return minor_; }
    /// The GPU in words: its name and compute capability.
    std::string title() const;

    /// Throws for anything but success.  `action`: what was tried, "copy a frame".
    void check(cudaError_t error, const char *action) const;

    /// Device memory, aligned to 256.  `purpose` says what needs it.
    DeviceMemory allocate(std::size_t size, const std::string &purpose) const;
    /// Page-locked host memory, which copies to and from the GPU read and write directly.
    PinnedMemory pin(std::size_t size) const;
    /// A stream of its own.  The default stream would wait for others.
    Stream stream() const;
    /// An event for ordering streams.
    Event event() const;
    /// An event that the host waits for asleep.
    Event waited_event() const;

    /// The number of the GPU whose memory an address is; managed memory is every GPU's, so this one's.  -1 for an
    /// address that is no memory of a GPU.
    int memory_gpu(const void *address) const;

private:
    int index_;
    int major_ = 0;
    int minor_ = 0;
    std::string name_;
};

/// Makes a GPU the calling thread's current one for a while; the one that was current is so again afterwards.
class CurrentDevice {
public:
    explicit CurrentDevice(const Cuda &cuda);
    ~CurrentDevice();
    CurrentDevice(const CurrentDevice &) = delete;
    CurrentDevice &operator=(const CurrentDevice &) = delete;

private:
    int before_ = 0;
    bool changed_ = false;
};

} // namespace isa_tensorrt

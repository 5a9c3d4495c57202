// The pretended machine: what a test can choose about it, let go wrong, and read off it.
//
// The stand-ins for libcudart and libnvinfer are two libraries over one world.  Nothing runs when it is queued: a
// synchronisation runs only what it has to wait for, as late and as little as CUDA allows, and vector clocks tell for
// each two pieces of work on the same memory whether anything orders them.  What a program must not do ends it with a
// message ("stand-in: ...") and abort().
//
// Engine.  A plan is a text, each line one of:
//     isa-standin-plan 1            the first line
//     library tensorrt              or tensorrt_rtx
//     version 101601                as getInferLibVersion gives it
//     capability 8.9                or "any"
//     host_code 0
//     weights 1000                  bytes of GPU memory while the engine lives
//     classes 5
//     input image uint8 -1x-1x-1x3
//     output labels uint8 labels    name, type, what it holds: labels, logits, other, or what no graph of ours has:
//                                   flat (n) and narrow (n x h x w - 1)
//     output logits float32 logits
//     profile 1x16x16x3 2x64x96x3 3x128x160x3      smallest, best, largest; none for a fixed input
//     end                           the last line: a plan without it is truncated
// What it computes, for pixel (x, y) with the bytes p, q, r:
//     labels[n][y][x] = (p + 2 q + 3 r + 5 x + 7 y) mod classes
//     logits[n][c][y / 4][x / 4] = p + c q / 8 - r / 4, of every fourth pixel of every fourth row (sides round up)
//     other[n][y][x] = p
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <cuda_runtime_api.h>

namespace standin {

struct Knobs {
    int device_count = 1;
    bool driver_too_old = false;
    int capability_major = 8;
    int capability_minor = 9;
    int tensorrt_version = 101601;
    std::size_t device_memory = std::size_t{1} << 30; // bytes; cudaMalloc beyond it is out of memory
    std::size_t pinned_memory = std::size_t{1} << 30;
    bool refuse_capture = false;         // work that cannot be captured
    bool default_stream_allowed = false; // a caller may use it; the backend on its own may not
    int slow_capture_ms = 0;             // how long enqueueV3 takes in a capture
};
Knobs &knobs();

/// Lets the `which`-th call from now on (1: the next) of a function of CUDA's or TensorRT's fail, once.  What gives
/// memory or handles back does so all the same.
void fail(const std::string &function, int which, cudaError_t error = cudaErrorInvalidValue);
/// Lets every call of a function fail, until reset().
void fail_always(const std::string &function, cudaError_t error);
/// Whether the failure that was asked for has come.
bool failed();
/// Lets the `which`-th synchronisation from now on find the GPU lost, for good.
void lose_device(int which, cudaError_t as = cudaErrorIllegalAddress);

/// How often each function was called.
std::map<std::string, long> calls();
/// The profiles that contexts were given, in their order.
std::vector<int> profiles();
/// Bytes and directions of the copies that were queued: "up 100", "down 50", "within 20".
std::vector<std::string> copies();
/// Memory, handles and objects that were not given back.
std::vector<std::string> left();
/// The GPUs that memory and streams were made on.
std::vector<int> devices_used();
std::size_t device_bytes();
/// What cudaGetLastError would say.
cudaError_t last_error();
/// A new machine: what is left of the last one is a violation.
void reset();
/// Whether the calling thread is inside of the stand-in, whose own allocations are not the program's.
bool inside();

/// A caller's memory on a GPU, and its contents, which no pending work may touch.
void *allocate(const std::vector<std::uint8_t> &contents, int device = 0, bool managed = false, std::size_t offset = 0);
std::vector<std::uint8_t> read(const void *address, std::size_t size);
void write(void *address, const std::vector<std::uint8_t> &contents);
void release(void *address);

} // namespace standin

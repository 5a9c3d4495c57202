// The TensorRT backend: plans on an NVIDIA GPU, by the table of backend.h.
#include <charconv>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>

#include <NvInferRuntime.h>

#include "backend.h"
#include "error.hpp"
#include "frames.hpp"
#include "guard.hpp"
#include "plan_command.hpp"
#include "tensorrt_backend.hpp"
#include "tensorrt_cuda.hpp"
#include "tensorrt_engine.hpp"
#include "tensorrt_plan.hpp"

static_assert(NV_TENSORRT_MAJOR == 10 || NV_TENSORRT_MAJOR == 11, "written for TensorRT 10 and 11");

struct isa_engine {
    isa_engine(const isa_engine_request &request, isa_tensorrt::Cuda gpu) : backend(request, std::move(gpu)) {}
    isa_tensorrt::Backend backend;
};

namespace {

using isa_backends::guarded;
using isa_core::Error;
using isa_core::text;
using isa_tensorrt::Cuda;
using isa_tensorrt::CurrentDevice;

constexpr const char *kName = "tensorrt";
constexpr int kOldest = 100300; // what JetPack 6 has; no older one is tried

/// A GPU's number; -1 for the CPU.
int gpu_of(const char *device) {
    const std::string word = device == nullptr ? "auto" : device;
    if (word == "auto" || word == "cuda")
        return 0;
    if (word == "cpu")
        return -1;
    int number = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
    if (error != std::errc() || end != word.data() + word.size() || number < 0)
        isa_core::fail_input("device '", word, "' is none; give auto, cuda or a GPU's number such as 1");
    return number;
}

void check_library_age() {
    if (getInferLibVersion() < kOldest)
        throw Error(ISA_ERROR_BACKEND_UNAVAILABLE, text(isa_tensorrt::SharedEngine::title(),
                                                        " is too old, 10.3 is the oldest that works; install a newer"));
}

isa_status available(const char *device, isa_failure *failure) {
    return guarded(failure, kName, [&] {
        check_library_age();
        const int gpu = gpu_of(device);
        if (gpu < 0)
            isa_core::fail_input("a plan runs on a GPU, not on device cpu; give the graph (.onnx)");
        const Cuda cuda(gpu);
    });
}

isa_status open(const isa_engine_request *request, isa_engine **engine, isa_engine_info *info, isa_failure *failure) {
    return guarded(failure, kName, [&] {
        *engine = nullptr;
        const std::string path = request->path;
        if (request->data == nullptr || request->size == 0)
            isa_core::fail_input(path, ": TensorRT runs plans; build one with ", isa_core::plan_command(path));
        const int gpu = gpu_of(request->device);
        if (gpu < 0)
            isa_core::fail_input(path, ": a plan runs on a GPU, not on device cpu; give the graph, ",
                                 isa_tensorrt::graph_name(path));
        check_library_age();
        if (request->plan != nullptr) {
            isa_tensorrt::check_code(path, *request->plan, request->allow_engine_code != 0);
            isa_tensorrt::check_library(path, *request->plan, isa_tensorrt::library_version(getInferLibVersion()));
        }
        Cuda cuda(gpu);
        if (request->plan != nullptr)
            isa_tensorrt::check_card(path, *request->plan, cuda.major(), cuda.minor(), cuda.title());
        const CurrentDevice current(cuda);
        auto opened = std::make_unique<isa_engine>(*request, std::move(cuda));
        *info = opened->backend.info();
        *engine = opened.release();
    });
}

void close(isa_engine *engine) {
    if (engine == nullptr)
        return;
    // everything goes while its GPU is current; one that is lost cannot be made so
    std::optional<CurrentDevice> current;
    (void)guarded(nullptr, kName, [&] { current.emplace(engine->backend.cuda()); });
    delete engine;
}

std::int32_t largest_batch(isa_engine *engine, std::int32_t h, std::int32_t w) {
    return engine->backend.largest_batch(h, w);
}

isa_status input(isa_engine *engine, std::int32_t slot, std::int32_t n, std::int32_t h, std::int32_t w,
                 std::uint8_t **image_nhwc, isa_failure *failure) {
    return guarded(failure, kName, [&] {
        const std::size_t at = isa_backends::checked_slot(slot, isa_tensorrt::kSlots);
        const CurrentDevice current(engine->backend.cuda());
        *image_nhwc = engine->backend.input(at, n, h, w);
    });
}

isa_status start(isa_engine *engine, std::int32_t slot, std::uint32_t want, isa_failure *failure) {
    return guarded(failure, kName, [&] {
        const std::size_t at = isa_backends::checked_slot(slot, isa_tensorrt::kSlots);
        const CurrentDevice current(engine->backend.cuda());
        engine->backend.start(at, want);
    });
}

isa_status wait(isa_engine *engine, std::int32_t slot, isa_engine_answer *answer, isa_failure *failure) {
    return guarded(failure, kName, [&] {
        const std::size_t at = isa_backends::checked_slot(slot, isa_tensorrt::kSlots);
        *answer = {};
        // an event can be waited for whichever GPU is current
        *answer = engine->backend.wait(at);
    });
}

isa_status run_device(isa_engine *engine, const isa_device_call *call, isa_failure *failure) {
    return guarded(failure, kName, [&] {
        const CurrentDevice current(engine->backend.cuda());
        engine->backend.run_device(*call);
    });
}

} // namespace

extern "C" __attribute__((visibility("default"))) const isa_backend_api *isa_backend(void) {
    static const std::string library = isa_tensorrt::SharedEngine::title();
    static const isa_backend_api api = {ISA_BACKEND_ABI, kName, library.c_str(), available, open,      close,
                                        largest_batch,   input, start,           wait,      run_device};
    return &api;
}

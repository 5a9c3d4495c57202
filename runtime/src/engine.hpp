// An opened engine: a backend's table of functions with C++'s manners.
#pragma once

#include <cstdint>
#include <string>

#include "backend.h"
#include "manifest.hpp"
#include "size.hpp"

namespace isa_core {

/// Owns one isa_engine.  Failures are thrown as Error.
class Engine {
public:
    /// Opens; throws what the backend says.
    Engine(const isa_backend_api &api, const isa_engine_request &request);
    ~Engine();
    Engine(const Engine &) = delete;
    Engine &operator=(const Engine &) = delete;

    const isa_engine_info &info() const { return info_; }
    const char *backend() const { return api_.name; }
    bool takes_device_frames() const { return api_.run_device != nullptr; }

    /// The most frames of a size that are worth giving at once; 0: as many as there is memory for.
    int largest_batch(Size size) { return api_.largest_batch(engine_, size.height, size.width); }

    /// Where a slot's frames go: uint8, n x h x w x 3.
    std::uint8_t *input(int slot, int n, Size size);
    /// Starts the engine on a slot's input.
    void start(int slot, std::uint32_t want);
    /// Waits for a slot that was started.
    isa_engine_answer wait(int slot);
    /// Enqueues frames on the GPU.
    void run_device(const isa_device_call &call);

    /// Throws Error(ISA_ERROR_ENGINE) where the engine's tensors are not those that the manifest describes.
    void check_signature(const std::string &path, const Manifest &manifest) const;

private:
    const isa_backend_api &api_;
    isa_engine *engine_ = nullptr;
    isa_engine_info info_{};
};

} // namespace isa_core

// From a path and a wish to an opened engine: isa_deploy/runtime/opening.py and plan.py in C++.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "engine.hpp"
#include "manifest.hpp"

namespace isa_core {

/// isa_open_options with their defaults, in memory of their own.
struct OpenOptions {
    std::string backend = "auto";
    std::string device = "auto";
    std::string precision = "auto";
    std::string resize = "test";
    std::string schedule = "latency";
    std::string cache_dir;
    std::string backend_dir;
    std::int32_t threads = 0;
    bool allow_engine_code = false;
};

struct Opened {
    std::unique_ptr<Manifest> manifest; // on the heap: others refer to it, and what was opened is moved
    std::unique_ptr<Engine> engine;
};

/// An artefact folder, its model.onnx, model.plan or model.json.  Throws Error.
Opened open_path(const std::string &path, const OpenOptions &options);

/// A graph, or a plan with its manifest (`manifest_json` not null).  Throws Error.
Opened open_bytes(const void *data, std::size_t size, const char *manifest_json, std::size_t manifest_size,
                  const OpenOptions &options);

} // namespace isa_core

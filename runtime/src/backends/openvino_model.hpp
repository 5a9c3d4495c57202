// A graph in OpenVINO: read once, compiled for each set of wanted outputs, used by any number of engines.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <openvino/openvino.hpp>

#include "backend.h"
#include "openvino_cache.hpp"

namespace isa_backends {

/// OpenVINO's version, as Python's openvino.__version__ has it.
const char *openvino_version() noexcept;

/// The last line of an exception's message: OpenVINO's begin with its own source position.
std::string openvino_reason(const std::exception &error);

/// How a graph is compiled; with the content, what two engines must have in common to share it.
struct OpenVinoSettings {
    std::string input;
    std::string labels;
    std::string logits;
    bool bf16 = false;
    bool throughput = false;
    std::int32_t threads = 0;
    std::string cache_dir; ///< or empty

    std::string words() const;
    ov::AnyMap properties() const;
};

/// Any number of threads may use it.  Every function throws isa_core::Error.
class OpenVinoModel {
public:
    using Log = void (*)(std::int32_t, const char *);

    OpenVinoModel(std::shared_ptr<ov::Core> core, OpenVinoSettings settings, Log log);

    /// Reads the graph, or finds what its bytes were compiled to.  The first caller does it and the others wait; after
    /// a failure the next one tries again.
    void load(const isa_engine_request &request);

    const std::vector<GraphTensor> &tensors() const { return tensors_; }

    /// Compiled with the wanted outputs alone, labels before logits, when it is first asked for.
    ov::CompiledModel compiled(std::uint32_t want);

private:
    void read_graph(const std::string *bytes);
    bool take_cached(std::uint32_t want);
    ov::CompiledModel compile(std::uint32_t want);
    void put_in_cache(std::uint32_t want, ov::CompiledModel &compiled) const;
    std::string cache_key(std::uint32_t want) const;
    void warn(const std::string &words) const { log_(ISA_LOG_WARNING, words.c_str()); }

    const std::shared_ptr<ov::Core> core_;
    const OpenVinoSettings settings_;
    const Log log_;
    std::mutex mutex_;
    bool loaded_ = false;
    std::string path_;                ///< for messages, and to read the graph when it is needed after all
    std::string content_digest_;      ///< only where there is a cache
    std::optional<std::string> kept_; ///< bytes that came from memory, while only their cached model was taken
    bool from_memory_ = false;
    bool cacheable_ = false;
    std::shared_ptr<ov::Model> graph_; ///< null while cached models were enough
    std::vector<GraphTensor> tensors_;
    std::array<std::optional<ov::CompiledModel>, 4> compiled_; ///< by ISA_WANT_...
};

/// OpenVINO itself, one for the process.  Throws isa_core::Error where its CPU plugin is missing.
std::shared_ptr<ov::Core> openvino_core();

/// Whether OpenVINO finds bfloat16 instructions on this CPU.
bool cpu_has_bf16(ov::Core &core);

/// The model of a file or of bytes, shared with every engine of the same content and settings, and loaded.
std::shared_ptr<OpenVinoModel> open_openvino_model(const isa_engine_request &request, OpenVinoSettings settings);

} // namespace isa_backends

// Compiled models of OpenVINO in files, so that the next start need not compile.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <openvino/runtime/compiled_model.hpp>
#include <openvino/runtime/tensor.hpp>

#include "graph_tensor.hpp"

namespace isa_backends {

/// What a cache file holds.
struct CachedModel {
    std::vector<GraphTensor> tensors;
    ov::Tensor blob; ///< what CompiledModel::export_model wrote
};

/// A folder of compiled models.  OpenVINO's own cache (ov::cache_dir) needs the graph to be read and transformed before
/// it looks, and believes a file whose bytes have changed; this one is found by the SHA-256 of the graph's bytes.
///
/// A key is a text of everything that the compiled model depends on.  It is in the file, which is named by its hash,
/// and a file of another key, or whose bytes are not the ones that were written, counts as missing.  Whoever can
/// write into the folder can still put a compiled model of his own there: it must belong to the user who runs the
/// program.
class OpenVinoCache {
public:
    /// `folder`: made where it is missing.
    explicit OpenVinoCache(std::string folder) : folder_(std::move(folder)) {}

    /// The model of a key.  `damage`: set to one line where a file was there and cannot be used.
    std::optional<CachedModel> read(const std::string &key, std::string &damage) const;

    /// Writes a model under another name and renames it, so that nobody ever reads half a file.  The reason, where it
    /// could not be written; empty where it was.
    std::string write(const std::string &key, const std::vector<GraphTensor> &tensors, ov::CompiledModel &model) const;

    /// Removes a file that OpenVINO refuses.
    void forget(const std::string &key) const noexcept;

    std::string path_of(const std::string &key) const;

private:
    std::string folder_;
};

} // namespace isa_backends

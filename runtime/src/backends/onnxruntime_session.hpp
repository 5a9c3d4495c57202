// A session of ONNX Runtime, through its C API, used by any number of engines.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <onnxruntime_c_api.h>

#include "backend.h"
#include "graph_tensor.hpp"

namespace isa_backends {

/// The table of functions for the version of the header; null where the library is older than it.
const OrtApi *onnxruntime_api() noexcept;

/// "1.31.1".
const char *onnxruntime_version() noexcept;

/// Frees what ONNX Runtime made.
struct OrtFree {
    void operator()(OrtEnv *each) const noexcept { onnxruntime_api()->ReleaseEnv(each); }
    void operator()(OrtStatus *each) const noexcept { onnxruntime_api()->ReleaseStatus(each); }
    void operator()(OrtSession *each) const noexcept { onnxruntime_api()->ReleaseSession(each); }
    void operator()(OrtSessionOptions *each) const noexcept { onnxruntime_api()->ReleaseSessionOptions(each); }
    void operator()(OrtCUDAProviderOptionsV2 *each) const noexcept {
        onnxruntime_api()->ReleaseCUDAProviderOptions(each);
    }
    void operator()(OrtMemoryInfo *each) const noexcept { onnxruntime_api()->ReleaseMemoryInfo(each); }
    void operator()(OrtTypeInfo *each) const noexcept { onnxruntime_api()->ReleaseTypeInfo(each); }
    void operator()(OrtTensorTypeAndShapeInfo *each) const noexcept {
        onnxruntime_api()->ReleaseTensorTypeAndShapeInfo(each);
    }
    void operator()(OrtValue *each) const noexcept { onnxruntime_api()->ReleaseValue(each); }
};
template <typename T> using OrtOwned = std::unique_ptr<T, OrtFree>;

/// Why a call failed, in the first line of the words that Python's onnxruntime has; empty where it did not.
/// Takes the status.
std::string onnxruntime_reason(OrtStatus *status);

/// Whether ONNX Runtime has its CUDA provider.
bool onnxruntime_has_cuda();

/// Any number of threads may run it.
class OnnxRuntimeSession {
public:
    /// Opens it; throws isa_core::Error.  The first caller does it and the others wait; after a failure the next one
    /// tries again.  `gpu`: a GPU's number, or -1 for the CPU.
    void load(const isa_engine_request &request, int gpu);

    OrtSession *get() const { return session_.get(); }
    const std::vector<GraphTensor> &tensors() const { return tensors_; }

private:
    std::mutex mutex_;
    std::shared_ptr<OrtEnv> env_; ///< outlives the session
    OrtOwned<OrtSession> session_;
    std::vector<GraphTensor> tensors_;
};

/// The session of a file or of bytes, shared with every engine of the same content, device and number of threads.
std::shared_ptr<const OnnxRuntimeSession> open_onnxruntime_session(const isa_engine_request &request, int gpu);

} // namespace isa_backends

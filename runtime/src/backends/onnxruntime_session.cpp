#include "onnxruntime_session.hpp"

#include <array>
#include <cstring>
#include <mutex>
#include <new>
#include <utility>

#include "error.hpp"
#include "shared_models.hpp"

namespace isa_backends {

namespace {

using SessionLog = void (*)(std::int32_t level, const char *message);

/// Python's onnxruntime writes errors as its Status::ToString() does; the C API gives the message alone.
const char *code_name(OrtErrorCode code) {
    constexpr std::array<const char *, 12> kNames = {"SUCCESS",           "FAIL",
                                                     "INVALID_ARGUMENT",  "NO_SUCHFILE",
                                                     "NO_MODEL",          "ENGINE_ERROR",
                                                     "RUNTIME_EXCEPTION", "INVALID_PROTOBUF",
                                                     "MODEL_LOADED",      "NOT_IMPLEMENTED",
                                                     "INVALID_GRAPH",     "EP_FAIL"};
    const auto number = static_cast<std::size_t>(code);
    return number < kNames.size() ? kNames[number] : "GENERAL ERROR";
}

/// For calls that fail only where memory is out or the library is not what it says.
void must(OrtStatus *status) {
    const std::string why = onnxruntime_reason(status);
    if (!why.empty())
        isa_core::fail_engine("ONNX Runtime ", onnxruntime_version(), " failed (", why, "); install it again");
}

/// What ONNX Runtime would write to the program's stderr.
void ORT_API_CALL hand_on(void *log, OrtLoggingLevel level, const char *, const char *, const char *,
                          const char *message) {
    const std::int32_t severity = level >= ORT_LOGGING_LEVEL_ERROR ? ISA_LOG_ERROR : ISA_LOG_WARNING;
    if (message != nullptr)
        (*static_cast<SessionLog *>(log))(severity, message);
}

/// One for the process, while an engine is open: with the log of the first one, which is that of all.
std::shared_ptr<OrtEnv> environment(SessionLog log) {
    static std::mutex mutex;
    static std::weak_ptr<OrtEnv> kept;
    static SessionLog kept_log = nullptr;
    const std::lock_guard<std::mutex> lock(mutex);
    std::shared_ptr<OrtEnv> env = kept.lock();
    if (env == nullptr) {
        OrtEnv *made = nullptr;
        kept_log = log;
        must(onnxruntime_api()->CreateEnvWithCustomLogger(hand_on, &kept_log, ORT_LOGGING_LEVEL_ERROR, "isa", &made));
        env = std::shared_ptr<OrtEnv>(made, OrtFree());
        kept = env;
    }
    return env;
}

std::string dtype_name(ONNXTensorElementDataType type) {
    constexpr std::array<const char *, 17> kNames = {
        "undefined", "float",   "uint8",  "int8",   "uint16", "int16",     "int32",      "int64",   "string",
        "bool",      "float16", "double", "uint32", "uint64", "complex64", "complex128", "bfloat16"};
    if (type == ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8)
        return "uint8";
    if (type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT)
        return "float32";
    const auto number = static_cast<std::size_t>(type);
    return isa_core::text("tensor(", number < kNames.size() ? kNames[number] : "unknown", ")");
}

GraphTensor describe(const OrtSession *session, std::size_t index, bool is_input) {
    const OrtApi &api = *onnxruntime_api();
    OrtAllocator *allocator = nullptr; // the library's own, never freed
    must(api.GetAllocatorWithDefaultOptions(&allocator));
    char *name = nullptr;
    must(is_input ? api.SessionGetInputName(session, index, allocator, &name)
                  : api.SessionGetOutputName(session, index, allocator, &name));
    const auto free_name = [&](char *each) { must(api.AllocatorFree(allocator, each)); };
    const std::unique_ptr<char, decltype(free_name)> owned_name(name, free_name);
    OrtTypeInfo *type = nullptr;
    must(is_input ? api.SessionGetInputTypeInfo(session, index, &type)
                  : api.SessionGetOutputTypeInfo(session, index, &type));
    const OrtOwned<OrtTypeInfo> owned_type(type);
    const OrtTensorTypeAndShapeInfo *tensor = nullptr; // a part of `type`; null for a sequence or a map
    must(api.CastTypeInfoToTensorInfo(type, &tensor));

    GraphTensor found;
    found.name = name;
    found.is_input = is_input;
    found.dtype_name = "no tensor";
    if (tensor != nullptr) {
        ONNXTensorElementDataType element = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
        must(api.GetTensorElementType(tensor, &element));
        found.dtype_name = dtype_name(element);
        std::size_t rank = 0;
        must(api.GetDimensionsCount(tensor, &rank));
        found.shape.resize(rank);
        must(api.GetDimensions(tensor, found.shape.data(), rank));
    }
    return found;
}

} // namespace

const OrtApi *onnxruntime_api() noexcept {
    static const OrtApi *const api = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    return api;
}

const char *onnxruntime_version() noexcept {
    return OrtGetApiBase()->GetVersionString();
}

std::string onnxruntime_reason(OrtStatus *status) {
    if (status == nullptr)
        return {};
    const OrtOwned<OrtStatus> owned(status);
    const OrtErrorCode code = onnxruntime_api()->GetErrorCode(status);
    std::string words = onnxruntime_api()->GetErrorMessage(status);
    words = words.substr(0, words.find_first_of("\r\n"));
    return isa_core::text("[ONNXRuntimeError] : ", static_cast<int>(code), " : ", code_name(code), " : ", words);
}

bool onnxruntime_has_cuda() {
    char **names = nullptr;
    int count = 0;
    must(onnxruntime_api()->GetAvailableProviders(&names, &count));
    bool found = false;
    for (int i = 0; i < count; ++i)
        found = found || std::strcmp(names[i], "CUDAExecutionProvider") == 0;
    must(onnxruntime_api()->ReleaseAvailableProviders(names, count));
    return found;
}

void OnnxRuntimeSession::load(const isa_engine_request &request, int gpu) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (session_ != nullptr)
        return;
    env_ = environment(request.log);
    const OrtApi &api = *onnxruntime_api();
    OrtSessionOptions *options = nullptr;
    must(api.CreateSessionOptions(&options));
    const OrtOwned<OrtSessionOptions> owned_options(options);
    must(api.SetSessionLogSeverityLevel(options, ORT_LOGGING_LEVEL_ERROR));
    // a video keeps one size: patterns of that size would be kept for every size ever seen
    must(api.DisableMemPattern(options));
    // the CPU's kernels for Q/DQ nodes round float16 wrongly (isa_deploy/runtime/backends/onnxruntime.py)
    if (gpu < 0 && std::strcmp(request.graph_precision, "int8") == 0 && std::strcmp(request.float_type, "fp16") == 0)
        must(api.AddSessionConfigEntry(options, "session.disable_quant_qdq", "1"));
    if (request.threads > 0)
        must(api.SetIntraOpNumThreads(options, request.threads));
    if (gpu >= 0) {
        OrtCUDAProviderOptionsV2 *cuda = nullptr;
        std::string why = onnxruntime_reason(api.CreateCUDAProviderOptions(&cuda));
        const OrtOwned<OrtCUDAProviderOptionsV2> owned_cuda(cuda);
        if (why.empty()) {
            const std::string number = std::to_string(gpu);
            const char *const key = "device_id", *const value = number.c_str();
            why = onnxruntime_reason(api.UpdateCUDAProviderOptions(cuda, &key, &value, 1));
        }
        if (why.empty())
            why = onnxruntime_reason(api.SessionOptionsAppendExecutionProvider_CUDA_V2(options, cuda));
        if (!why.empty())
            throw isa_core::Error(
                ISA_ERROR_BACKEND_UNAVAILABLE,
                isa_core::text("device ", request.device,
                               ": ONNX Runtime has CUDA and could not start it; its CUDA and cuDNN libraries must be "
                               "of the versions that it was built for (--device cpu runs without) (",
                               why, ")"));
    }
    OrtSession *session = nullptr;
    const std::string why = onnxruntime_reason(
        request.data != nullptr ? api.CreateSessionFromArray(env_.get(), request.data, request.size, options, &session)
                                : api.CreateSession(env_.get(), request.path, options, &session));
    if (!why.empty())
        isa_core::fail_engine(request.path, ": ONNX Runtime ", onnxruntime_version(), " cannot load it (", why,
                              "); copy or export it again, or try --backend openvino");
    OrtOwned<OrtSession> opened(session);
    std::vector<GraphTensor> tensors;
    std::size_t inputs = 0, outputs = 0;
    must(api.SessionGetInputCount(session, &inputs));
    must(api.SessionGetOutputCount(session, &outputs));
    for (std::size_t i = 0; i < inputs; ++i)
        tensors.push_back(describe(session, i, true));
    for (std::size_t i = 0; i < outputs; ++i)
        tensors.push_back(describe(session, i, false));
    tensors_ = std::move(tensors);
    session_ = std::move(opened);
}

std::shared_ptr<const OnnxRuntimeSession> open_onnxruntime_session(const isa_engine_request &request, int gpu) {
    static SharedModels<OnnxRuntimeSession> sessions;
    const auto make = [] { return std::make_shared<OnnxRuntimeSession>(); };
    const std::string identity = content_identity(request);
    // without a file there is nothing to share: loading says what is wrong
    const std::shared_ptr<OnnxRuntimeSession> session =
        identity.empty() ? make()
                         : sessions.get(isa_core::text(identity, "\ngpu ", gpu, " threads ", request.threads), make);
    session->load(request, gpu);
    return session;
}

} // namespace isa_backends

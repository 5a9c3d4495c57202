// The stand-in for libnvinfer.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <sstream>
#include <thread>

#include <NvInferRuntime.h>

#include "world.hpp"

using namespace standin;
using nvinfer1::DataType;
using nvinfer1::Dims;
using nvinfer1::ErrorCode;

namespace {

constexpr std::int64_t kLogitsStride = 4;
constexpr std::int64_t kScratchPerInputByte = 4;

struct Tensor {
    std::string name;
    bool is_input;
    DataType type;
    std::string holds; // of an output: "labels", "logits", "other"
    Dims shape;
};

struct Plan {
    std::string library;
    int version = 0;
    std::string capability;
    bool host_code = false;
    std::size_t weights = 0;
    int classes = 1;
    std::vector<Tensor> tensors;
    std::vector<std::array<Dims, 3>> profiles;
};

const std::map<std::string, DataType> &types() {
    static const std::map<std::string, DataType> all = {{"uint8", DataType::kUINT8},  {"float32", DataType::kFLOAT},
                                                        {"float16", DataType::kHALF}, {"int32", DataType::kINT32},
                                                        {"int64", DataType::kINT64},  {"fp8", DataType::kFP8}};
    return all;
}

std::int64_t bytes_of(DataType type) {
    return type == DataType::kFLOAT || type == DataType::kINT32 ? 4
           : type == DataType::kINT64                           ? 8
           : type == DataType::kHALF                            ? 2
                                                                : 1;
}

bool read_dims(const std::string &text, Dims &dims) {
    std::istringstream in(text);
    std::string side;
    dims = {};
    while (std::getline(in, side, 'x')) {
        if (dims.nbDims == Dims::MAX_DIMS)
            return false;
        dims.d[dims.nbDims++] = std::stoll(side);
    }
    return dims.nbDims > 0;
}

bool read_plan(const std::string &text, Plan &plan) {
    std::istringstream lines(text);
    std::string line;
    if (!std::getline(lines, line) || line != "isa-standin-plan 1")
        return false;
    bool ended = false;
    while (std::getline(lines, line)) {
        std::istringstream in(line);
        std::string key, a, b, c;
        in >> key >> a >> b >> c;
        if (key == "library") {
            plan.library = a;
        } else if (key == "version") {
            plan.version = std::stoi(a);
        } else if (key == "capability") {
            plan.capability = a;
        } else if (key == "host_code") {
            plan.host_code = a == "1";
        } else if (key == "weights") {
            plan.weights = static_cast<std::size_t>(std::stoull(a));
        } else if (key == "classes") {
            plan.classes = std::stoi(a);
        } else if (key == "input" || key == "output") {
            Tensor tensor{a, key == "input", types().at(b), "", {}};
            if (!tensor.is_input)
                tensor.holds = c;
            else if (!read_dims(c, tensor.shape))
                return false;
            plan.tensors.push_back(tensor);
        } else if (key == "profile") {
            std::array<Dims, 3> profile{};
            if (!read_dims(a, profile[0]) || !read_dims(b, profile[1]) || !read_dims(c, profile[2]))
                return false;
            plan.profiles.push_back(profile);
        } else if (key == "end") {
            ended = true;
        }
    }
    return ended;
}

Dims output_shape(const Tensor &output, const Dims &input, int classes) {
    const std::int64_t n = input.d[0], h = input.d[1], w = input.d[2];
    if (input.nbDims != 4)
        return {0, {}};
    if (output.holds == "logits") {
        const auto low = [](std::int64_t side) { return side < 0 ? -1 : (side + kLogitsStride - 1) / kLogitsStride; };
        return {4, {n, classes, low(h), low(w)}};
    }
    if (output.holds == "flat")
        return {1, {n}};
    if (output.holds == "narrow")
        return {3, {n, h, w < 0 ? -1 : w - 1}};
    return {3, {n, h, w}};
}

std::int64_t volume(const Dims &dims) {
    std::int64_t product = 1;
    for (int i = 0; i < dims.nbDims; ++i)
        product *= dims.d[i];
    return product;
}

/// What errors are reported to: the recorder where there is one, else the logger.
struct Reporter {
    nvinfer1::ILogger *logger = nullptr;
    nvinfer1::IErrorRecorder *recorder = nullptr;

    void error(const std::string &text, ErrorCode code = ErrorCode::kUNSPECIFIED_ERROR) const {
        if (recorder != nullptr)
            recorder->reportError(code, text.c_str());
        else
            logger->log(nvinfer1::ILogger::Severity::kERROR, text.c_str());
    }
};

struct EngineState {
    Plan plan;
    Reporter reporter;
    int contexts = 0;
    bool alive = true;

    const Tensor &tensor(const char *name, const char *what) const {
        for (const Tensor &each : plan.tensors)
            if (each.name == name)
                return each;
        violate(std::string(what) + " was given '" + name + "', which the plan has not");
    }
    const Tensor &input() const {
        return *std::find_if(plan.tensors.begin(), plan.tensors.end(), [](const Tensor &t) { return t.is_input; });
    }
};

void compute(const Plan &plan, const Tensor &output, const Dims &shape, const std::uint8_t *image, std::uint8_t *out) {
    const std::int64_t n = shape.d[0], h = shape.d[1], w = shape.d[2];
    const std::int64_t low_h = (h + kLogitsStride - 1) / kLogitsStride;
    const std::int64_t low_w = (w + kLogitsStride - 1) / kLogitsStride;
    for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t y = 0; y < h; ++y)
            for (std::int64_t x = 0; x < w; ++x) {
                const std::uint8_t *const pixel = image + ((i * h + y) * w + x) * 3;
                const std::int64_t p = pixel[0], q = pixel[1], r = pixel[2];
                if (output.holds == "labels") {
                    out[(i * h + y) * w + x] =
                        static_cast<std::uint8_t>((p + 2 * q + 3 * r + 5 * x + 7 * y) % plan.classes);
                } else if (output.holds == "other") {
                    out[(i * h + y) * w + x] = static_cast<std::uint8_t>(p);
                } else if (output.holds == "logits" && y % kLogitsStride == 0 && x % kLogitsStride == 0) {
                    for (std::int64_t c = 0; c < plan.classes; ++c) {
                        const float value =
                            static_cast<float>(p) + static_cast<float>(c * q) / 8.0F - static_cast<float>(r) / 4.0F;
                        const std::int64_t at =
                            ((i * plan.classes + c) * low_h + y / kLogitsStride) * low_w + x / kLogitsStride;
                        std::memcpy(out + at * 4, &value, 4);
                    }
                }
            }
}

/// Two threads in one context are a violation.
class Alone {
public:
    Alone(std::atomic<bool> &busy, const char *what) : busy_(busy) {
        if (busy_.exchange(true))
            violate(std::string(what) + " was called while another thread was in the same context");
    }
    ~Alone() { busy_ = false; }
    Alone(const Alone &) = delete;
    Alone &operator=(const Alone &) = delete;

private:
    std::atomic<bool> &busy_;
};

struct ContextState {
    bool alive = true;
};

class Context final : public nvinfer1::IExecutionContext {
public:
    explicit Context(std::shared_ptr<EngineState> engine) : engine_(std::move(engine)) {
        ++engine_->contexts;
        ++world().objects["a context"];
    }

    ~Context() noexcept override {
        Entry in("~IExecutionContext");
        if (!engine_->alive)
            violate("a context outlived its engine");
        if (graph_token_.use_count() > 1)
            violate("a context was freed while a graph of its work lives");
        if (working())
            violate("a context was freed while its work was pending");
        --engine_->contexts;
        --world().objects["a context"];
        state_->alive = false;
    }

    bool setOptimizationProfileAsync(std::int32_t index, cudaStream_t handle) noexcept override {
        const Alone alone(busy_, "setOptimizationProfileAsync");
        Entry in("setOptimizationProfileAsync");
        if (refused(in, "setOptimizationProfileAsync"))
            return false;
        change("setOptimizationProfileAsync");
        const auto stream = world().stream(handle, "setOptimizationProfileAsync");
        if (stream->capture)
            violate("setOptimizationProfileAsync in a capture");
        const int count = std::max(static_cast<int>(engine_->plan.profiles.size()), 1);
        if (index < 0 || index >= count) {
            engine_->reporter.error("IExecutionContext::setOptimizationProfileAsync: Error Code 3: API Usage Error");
            return false;
        }
        world().profiles.push_back(index);
        profile_ = index;
        shaped_ = inferred_ = sized_ = warm_ = false;
        world().submit(*stream, {"setOptimizationProfileAsync", {}, [] { return [] {}; }});
        profile_stream_ = stream->number;
        profile_sequence_ = stream->sequence;
        return true;
    }

    bool setInputShape(const char *name, const Dims &dims) noexcept override {
        const Alone alone(busy_, "setInputShape");
        Entry in("setInputShape");
        if (refused(in, "setInputShape"))
            return false;
        change("setInputShape");
        if (profile_ < 0)
            violate("setInputShape before setOptimizationProfileAsync");
        const Tensor &tensor = engine_->tensor(name, "setInputShape");
        bool fits = tensor.is_input && dims.nbDims == tensor.shape.nbDims;
        for (int i = 0; fits && i < dims.nbDims; ++i) {
            const std::int64_t fixed = tensor.shape.d[i];
            if (engine_->plan.profiles.empty()) {
                fits = dims.d[i] == fixed;
            } else {
                const auto &ranges = engine_->plan.profiles[static_cast<std::size_t>(profile_)];
                fits = ranges[0].d[i] <= dims.d[i] && dims.d[i] <= ranges[2].d[i];
            }
        }
        if (!fits) {
            engine_->reporter.error("IExecutionContext::setInputShape: Error Code 3: API Usage Error (Set dimension "
                                    "out of the range of the profile)");
            return false;
        }
        shape_ = dims;
        shaped_ = true;
        inferred_ = sized_ = warm_ = false;
        return true;
    }

    std::int32_t inferShapes(std::int32_t most_names, const char **names) noexcept override {
        const Alone alone(busy_, "inferShapes");
        Entry in("inferShapes");
        if (refused(in, "inferShapes"))
            return -1;
        if (!shaped_) {
            if (most_names > 0)
                names[0] = engine_->input().name.c_str();
            return 1;
        }
        inferred_ = true;
        return 0;
    }

    Dims getTensorShape(const char *name) const noexcept override {
        Entry in("getTensorShape");
        const Tensor &tensor = engine_->tensor(name, "getTensorShape");
        if (in.refused() != cudaSuccess)
            return {-1, {}};
        if (!shaped_)
            violate("getTensorShape before setInputShape");
        return tensor.is_input ? shape_ : output_shape(tensor, shape_, engine_->plan.classes);
    }

    std::size_t updateDeviceMemorySizeForShapes() noexcept override {
        const Alone alone(busy_, "updateDeviceMemorySizeForShapes");
        Entry in("updateDeviceMemorySizeForShapes");
        if (refused(in, "updateDeviceMemorySizeForShapes"))
            return 0;
        if (!inferred_)
            violate("updateDeviceMemorySizeForShapes before inferShapes");
        sized_ = true;
        return needed();
    }

    void setDeviceMemoryV2(void *memory, std::int64_t size) noexcept override {
        const Alone alone(busy_, "setDeviceMemoryV2");
        Entry in("setDeviceMemoryV2");
        change("setDeviceMemoryV2");
        aligned(memory, "setDeviceMemoryV2");
        (void)world().range(memory, static_cast<std::size_t>(size), false, true, "setDeviceMemoryV2");
        scratch_ = memory;
        scratch_size_ = size;
    }

    bool setTensorAddress(const char *name, void *data) noexcept override {
        const Alone alone(busy_, "setTensorAddress");
        Entry in("setTensorAddress");
        return set_address(in, name, data);
    }

    bool setInputTensorAddress(const char *name, const void *data) noexcept override {
        const Alone alone(busy_, "setInputTensorAddress");
        Entry in("setInputTensorAddress");
        return set_address(in, name, data);
    }

    bool enqueueV3(cudaStream_t handle) noexcept override {
        const Alone alone(busy_, "enqueueV3");
        if (const int wait = slowness(handle); wait > 0)
            std::this_thread::sleep_for(std::chrono::milliseconds(wait));
        Entry in("enqueueV3");
        if (refused(in, "enqueueV3"))
            return false;
        World &w = world();
        const auto stream = w.stream(handle, "enqueueV3");
        const Job job = ready();
        const auto known = stream->clock.find(profile_stream_);
        if (stream->number != profile_stream_ && !w.done(profile_stream_, profile_sequence_) &&
            (known == stream->clock.end() || known->second < profile_sequence_))
            violate("enqueueV3 is not ordered after setOptimizationProfileAsync");
        if (stream->capture && (!warm_ || w.knobs.refuse_capture)) {
            stream->capture->broken = cudaErrorStreamCaptureInvalidated;
            engine_->reporter.error("IExecutionContext::enqueueV3: Error Code 1: Cuda Runtime (operation not permitted "
                                    "when stream is capturing)",
                                    ErrorCode::kFAILED_EXECUTION);
            return false;
        }
        w.submit(*stream, job);
        if (!stream->capture) {
            warm_ = true;
            last_stream_ = stream->number;
            last_sequence_ = stream->sequence;
        }
        return true;
    }

private:
    bool refused(Entry &in, const char *what) const {
        if (!engine_->alive)
            violate(std::string(what) + " of a context whose engine is gone");
        if (in.refused() == cudaSuccess)
            return false;
        const bool memory = in.refused() == cudaErrorMemoryAllocation;
        const std::string reason =
            memory ? "Requested amount of GPU memory (512 bytes) could not be allocated."
                   : "Error Code 1: Cuda Runtime (" + std::string(cudaGetErrorString(in.refused())) + ")";
        engine_->reporter.error("IExecutionContext::" + std::string(what) + ": " + reason,
                                memory ? ErrorCode::kFAILED_ALLOCATION : ErrorCode::kFAILED_EXECUTION);
        return true;
    }

    bool working() const {
        return last_stream_ != 0 && world().lost == cudaSuccess && !world().done(last_stream_, last_sequence_);
    }

    void change(const char *what) {
        if (graph_token_.use_count() > 1)
            violate(std::string(what) + " on a context while a graph of its work lives");
        if (working())
            violate(std::string(what) + " on a context whose work is pending");
    }

    static void aligned(const void *address, const char *what) {
        if (reinterpret_cast<std::uintptr_t>(address) % 256 != 0)
            violate(std::string(what) + " was given an address that is not aligned to 256 bytes");
    }

    bool set_address(Entry &in, const char *name, const void *data) {
        if (refused(in, "setTensorAddress"))
            return false;
        if (graph_token_.use_count() > 1)
            violate("setTensorAddress on a context while a graph of its work lives");
        aligned(data, "setTensorAddress");
        addresses_[engine_->tensor(name, "setTensorAddress").name] = data;
        return true;
    }

    std::size_t needed() const {
        return static_cast<std::size_t>((volume(shape_) * kScratchPerInputByte + 255) / 256 * 256);
    }

    static int slowness(cudaStream_t handle) {
        Entry in("(look)");
        const auto found = world().streams.find(reinterpret_cast<std::uintptr_t>(handle));
        return found != world().streams.end() && found->second->capture ? world().knobs.slow_capture_ms : 0;
    }

    /// The work, where everything is set; a violation where something is not.
    Job ready() {
        if (profile_ < 0 || !shaped_ || !inferred_)
            violate("enqueueV3 before profile, shape and inferShapes");
        if (!sized_ || scratch_ == nullptr || static_cast<std::size_t>(scratch_size_) < needed())
            violate("enqueueV3 without scratch memory that suffices");
        Job job;
        job.name = "enqueueV3";
        std::vector<Access> outputs;
        std::vector<Tensor> tensors;
        Access input{};
        for (const Tensor &each : engine_->plan.tensors) {
            const auto address = addresses_.find(each.name);
            if (address == addresses_.end())
                violate("enqueueV3 while the address of " + each.name + " is not set");
            const Dims dims = each.is_input ? shape_ : output_shape(each, shape_, engine_->plan.classes);
            const auto size = static_cast<std::size_t>(volume(dims) * bytes_of(each.type));
            const Access access = world().range(address->second, size, false, !each.is_input, "enqueueV3 " + each.name);
            job.accesses.push_back(access);
            if (each.is_input) {
                input = access;
            } else {
                outputs.push_back(access);
                tensors.push_back(each);
            }
        }
        const Access scratch = world().range(scratch_, needed(), false, true, "enqueueV3 scratch");
        job.accesses.push_back(scratch);
        job.held = graph_token_;
        job.prepare = [engine = engine_, state = state_, shape = shape_, input, outputs, tensors, scratch] {
            if (!state->alive || !engine->alive)
                violate("a graph was launched whose context or engine is gone");
            return [=] {
                if (!state->alive || !engine->alive)
                    violate("a context or its engine was freed while its work was pending");
                World &w = world();
                // the activations: what another execution wrote there would be lost
                std::memset(w.bytes(scratch), 0x5A, scratch.end - scratch.begin);
                for (std::size_t i = 0; i < outputs.size(); ++i)
                    compute(engine->plan, tensors[i], shape, w.bytes(input), w.bytes(outputs[i]));
            };
        };
        return job;
    }

    std::shared_ptr<EngineState> engine_;
    std::shared_ptr<ContextState> state_ = std::make_shared<ContextState>();
    std::shared_ptr<int> graph_token_ = std::make_shared<int>(0);
    std::atomic<bool> busy_{false};
    int profile_ = -1;
    int profile_stream_ = 0;
    std::uint64_t profile_sequence_ = 0;
    Dims shape_{};
    bool shaped_ = false, inferred_ = false, sized_ = false, warm_ = false;
    void *scratch_ = nullptr;
    std::int64_t scratch_size_ = 0;
    std::map<std::string, const void *> addresses_;
    int last_stream_ = 0;
    std::uint64_t last_sequence_ = 0;
};

class Engine final : public nvinfer1::ICudaEngine {
public:
    Engine(Plan plan, const Reporter &reporter, std::shared_ptr<int> engines)
        : state_(std::make_shared<EngineState>()), engines_(std::move(engines)) {
        state_->plan = std::move(plan);
        state_->reporter = reporter;
        world().weights_bytes += state_->plan.weights;
        ++*engines_;
        ++world().objects["an engine"];
    }

    ~Engine() noexcept override {
        Entry in("~ICudaEngine");
        if (*engines_ <= 0)
            violate("an engine outlived its runtime");
        if (state_->contexts != 0)
            violate("an engine was freed before its contexts");
        state_->alive = false;
        world().weights_bytes -= state_->plan.weights;
        --*engines_;
        --world().objects["an engine"];
    }

    std::int32_t getNbIOTensors() const noexcept override {
        return static_cast<std::int32_t>(state_->plan.tensors.size());
    }
    const char *getIOTensorName(std::int32_t index) const noexcept override {
        return state_->plan.tensors.at(static_cast<std::size_t>(index)).name.c_str();
    }
    nvinfer1::TensorIOMode getTensorIOMode(const char *name) const noexcept override {
        return state_->tensor(name, "getTensorIOMode").is_input ? nvinfer1::TensorIOMode::kINPUT
                                                                : nvinfer1::TensorIOMode::kOUTPUT;
    }
    DataType getTensorDataType(const char *name) const noexcept override {
        return state_->tensor(name, "getTensorDataType").type;
    }
    Dims getTensorShape(const char *name) const noexcept override {
        const Tensor &tensor = state_->tensor(name, "getTensorShape");
        return tensor.is_input ? tensor.shape : output_shape(tensor, state_->input().shape, state_->plan.classes);
    }
    std::int32_t getNbOptimizationProfiles() const noexcept override {
        return std::max(static_cast<std::int32_t>(state_->plan.profiles.size()), 1);
    }
    Dims getProfileShape(const char *name, std::int32_t index,
                         nvinfer1::OptProfileSelector which) const noexcept override {
        if (!state_->tensor(name, "getProfileShape").is_input || state_->plan.profiles.empty())
            violate("getProfileShape was asked for what has no profile");
        return state_->plan.profiles.at(static_cast<std::size_t>(index))[static_cast<std::size_t>(which)];
    }

    nvinfer1::IExecutionContext *
    createExecutionContext(nvinfer1::ExecutionContextAllocationStrategy strategy) noexcept override {
        Entry in("createExecutionContext", true);
        world().break_captures(std::this_thread::get_id(), true); // it synchronises the device
        if (strategy != nvinfer1::ExecutionContextAllocationStrategy::kUSER_MANAGED)
            violate("createExecutionContext was given another strategy than kUSER_MANAGED");
        if (in.refused() != cudaSuccess) {
            const bool memory = in.refused() == cudaErrorMemoryAllocation;
            state_->reporter.error(memory ? "Requested amount of GPU memory (4096 bytes) could not be allocated."
                                          : "ICudaEngine::createExecutionContext: Error Code 1: Cuda Runtime",
                                   memory ? ErrorCode::kFAILED_ALLOCATION : ErrorCode::kUNSPECIFIED_ERROR);
            return nullptr;
        }
        return new Context(state_);
    }

private:
    std::shared_ptr<EngineState> state_;
    std::shared_ptr<int> engines_; // of the runtime
};

class Runtime final : public nvinfer1::IRuntime {
public:
    explicit Runtime(nvinfer1::ILogger &logger) {
        reporter_.logger = &logger;
        ++world().objects["a runtime"];
    }

    ~Runtime() noexcept override {
        Entry in("~IRuntime");
        if (*engines_ != 0)
            violate("a runtime was freed before its engines");
        *engines_ = -1000;
        if (reporter_.recorder != nullptr)
            reporter_.recorder->decRefCount();
        --world().objects["a runtime"];
    }

    void setErrorRecorder(nvinfer1::IErrorRecorder *recorder) noexcept override {
        Entry in("setErrorRecorder");
        if (recorder != nullptr)
            recorder->incRefCount();
        if (reporter_.recorder != nullptr)
            reporter_.recorder->decRefCount();
        reporter_.recorder = recorder;
    }

    void setEngineHostCodeAllowed(bool allowed) noexcept override {
        Entry in("setEngineHostCodeAllowed");
        host_code_ = allowed;
    }

    nvinfer1::ICudaEngine *deserializeCudaEngine(const void *data, std::size_t size) noexcept override {
        Entry in("deserializeCudaEngine", true);
        World &w = world();
        w.break_captures(std::this_thread::get_id(), true); // it synchronises the device
        reporter_.logger->log(nvinfer1::ILogger::Severity::kINFO, "Loaded engine size: 1 MiB");
        Plan plan;
        if (in.refused() == cudaErrorMemoryAllocation ||
            (read_plan({static_cast<const char *>(data), size}, plan) &&
             w.device_bytes + w.weights_bytes + plan.weights > w.knobs.device_memory)) {
            reporter_.error("Requested amount of GPU memory (" + std::to_string(plan.weights) +
                                " bytes) could not be allocated. There may not be enough free memory for allocation "
                                "to succeed.",
                            ErrorCode::kFAILED_ALLOCATION);
            return nullptr;
        }
        const std::string refusal = refused(in, {static_cast<const char *>(data), size});
        if (!refusal.empty()) {
            reporter_.error("IRuntime::deserializeCudaEngine: " + refusal);
            return nullptr;
        }
        return new Engine(std::move(plan), reporter_, engines_);
    }

private:
    std::string refused(Entry &in, const std::string &text) const {
        const Knobs &knobs = world().knobs;
        Plan plan;
        if (in.refused() != cudaSuccess)
            return std::string("Error Code 1: Cuda Runtime (") + cudaGetErrorString(in.refused()) + ")";
        if (!read_plan(text, plan) || plan.library != "tensorrt")
            return "Error Code 1: Serialization (Serialization assertion magicTagRead == kMAGIC_TAG failed.Magic tag "
                   "does not match)";
        if (plan.host_code && !host_code_)
            return "Error Code 6: API Usage Error (engine host code is not allowed: see setEngineHostCodeAllowed)";
        const bool same_major = plan.version / 10000 == knobs.tensorrt_version / 10000;
        if (plan.version != knobs.tensorrt_version && !(plan.host_code && same_major))
            return "Error Code 6: API Usage Error (The engine plan file is not compatible with this version of "
                   "TensorRT, please rebuild.)";
        const std::string here = std::to_string(knobs.capability_major) + "." + std::to_string(knobs.capability_minor);
        if (plan.capability != here && plan.capability != "any")
            return "Error Code 6: API Usage Error (The engine plan file is generated on an incompatible device)";
        return "";
    }

    Reporter reporter_;
    std::shared_ptr<int> engines_ = std::make_shared<int>(0);
    bool host_code_ = false;
};

} // namespace

std::int32_t getInferLibVersion() noexcept {
    const std::unique_lock<std::recursive_mutex> lock(world().mutex);
    return world().knobs.tensorrt_version;
}

nvinfer1::IRuntime *nvinfer1::createInferRuntime(ILogger &logger) noexcept {
    Entry in("createInferRuntime");
    if (!world().device_asked)
        violate("a runtime was made before cudaGetDeviceCount was called: without a GPU that crashes");
    if (in.refused() != cudaSuccess) {
        logger.log(ILogger::Severity::kERROR,
                   "createInferRuntime: Error Code 6: API Usage Error (CUDA initialization failure)");
        return nullptr;
    }
    return new Runtime(logger);
}

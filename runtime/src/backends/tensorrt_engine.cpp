#include "tensorrt_engine.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <tuple>

#include "error.hpp"
#include "file.hpp"
#include "plan_command.hpp"
#include "tensorrt_plan.hpp"

namespace isa_tensorrt {

namespace {

using isa_core::Error;
using isa_core::text;

struct Type {
    std::string name; // as numpy has it; what this source does not know, as TensorRT has it
    std::size_t item_bytes;
};

Type describe(trt::DataType type) {
    switch (type) {
    case trt::DataType::kUINT8:
        return {"uint8", 1};
    case trt::DataType::kFLOAT:
        return {"float32", 4};
    case trt::DataType::kHALF:
        return {"float16", 2};
    case trt::DataType::kBF16:
        return {"bfloat16", 2};
    case trt::DataType::kINT8:
        return {"int8", 1};
    case trt::DataType::kINT32:
        return {"int32", 4};
    case trt::DataType::kINT64:
        return {"int64", 8};
    case trt::DataType::kBOOL:
        return {"bool", 1};
    default:
        return {text("DataType.", static_cast<int>(type)), 0};
    }
}

/// Elements of a shape, to compare; not to allocate by.
template <typename Sides> double volume(const Sides *sides, std::size_t rank) {
    double product = 1;
    for (std::size_t i = 0; i < rank; ++i)
        product *= static_cast<double>(sides[i]);
    return product;
}

bool holds(const Profile &profile, const Shape &shape) {
    const auto rank = static_cast<std::int32_t>(shape.size());
    if (profile.least.nbDims != rank || profile.best.nbDims != rank || profile.most.nbDims != rank)
        return false;
    for (std::size_t i = 0; i < shape.size(); ++i)
        if (shape[i] < profile.least.d[i] || shape[i] > profile.most.d[i])
            return false;
    return true;
}

[[noreturn]] void refused(const isa_engine_request &request, const Cuda &cuda, const MessageLog &log) {
    const std::string path = request.path;
    const std::string memory = log.out_of_memory();
    if (!memory.empty())
        throw Error(ISA_ERROR_OUT_OF_MEMORY, text(path, ": out of device memory while the plan was loaded (", memory,
                                                  "); end other programs, or use a card with more memory"));
    std::string built = "its manifest does not say by what it was built";
    if (request.plan != nullptr) {
        const char *const card = request.plan->compute_capability;
        built = text("it is of ", request.plan->builder, " ", request.plan->builder_version, " for ",
                     card == nullptr ? std::string("every card from Ampere on") : text("compute capability ", card));
    }
    throw Error(ISA_ERROR_ENGINE_INCOMPATIBLE,
                text(path, ": ", SharedEngine::title(), " on ", cuda.title(), " refuses the plan (", log.reason(),
                     "); ", built, "; build it again here: ", isa_core::plan_command(path)));
}

} // namespace

std::string shape_words(const Shape &shape) {
    return text(shape[0], "x", shape[1], "x", shape[2]);
}

std::size_t tensor_bytes(const std::string &name, const trt::Dims &dims, std::size_t item_bytes) {
    constexpr auto kMost = static_cast<std::size_t>(std::numeric_limits<std::int64_t>::max());
    std::size_t bytes = item_bytes;
    for (std::int32_t i = 0; i < dims.nbDims; ++i) {
        const std::int64_t side = dims.d[i];
        if (side < 0)
            isa_core::fail_engine("the plan leaves side ", i, " of ", name, " open; build it from our graph");
        if (side != 0 && bytes > kMost / static_cast<std::size_t>(side))
            isa_core::fail_engine("the plan's tensor ", name, " is too large to count its bytes; use smaller frames");
        bytes *= static_cast<std::size_t>(side);
    }
    return bytes;
}

std::mutex &one_at_a_time() {
    static std::mutex mutex;
    return mutex;
}

std::string SharedEngine::title() {
    return "TensorRT " + library_version(getInferLibVersion());
}

SharedEngine::SharedEngine(const isa_engine_request &request, const Cuda &cuda)
    : log_(request.log), recorder_(log_), runtime_(trt::createInferRuntime(process_logger())) {
    if (runtime_ == nullptr)
        throw Error(ISA_ERROR_BACKEND_UNAVAILABLE,
                    text(title(), " cannot use the GPU (", log_.reason(),
                         "); install the driver that this version asks for, or run the graph (.onnx) on the CPU"));
    runtime_->setErrorRecorder(&recorder_);
    // false is TensorRT's default too; said here because a plan is somebody else's program
    runtime_->setEngineHostCodeAllowed(request.allow_engine_code != 0);
    deserialize(request, cuda);
    read_tensors(request);
    read_profiles();
}

void SharedEngine::deserialize(const isa_engine_request &request, const Cuda &cuda) {
    {
        const std::lock_guard<std::mutex> lock(one_at_a_time());
        engine_.reset(runtime_->deserializeCudaEngine(request.data, request.size));
    }
    if (engine_ == nullptr)
        refused(request, cuda, log_);
}

void SharedEngine::read_tensors(const isa_engine_request &request) {
    int inputs = 0;
    for (std::int32_t i = 0; i < engine_->getNbIOTensors(); ++i) {
        const char *const name = engine_->getIOTensorName(i);
        const bool is_input = engine_->getTensorIOMode(name) == trt::TensorIOMode::kINPUT;
        const trt::DataType type = engine_->getTensorDataType(name);
        const Type words = describe(type);
        tensors_.push_back({name, is_input, type, words.name, words.item_bytes, engine_->getTensorShape(name)});
        if (is_input) {
            ++inputs;
            input_name_ = name;
        }
    }
    if (inputs != 1)
        isa_core::fail_engine(request.path, ": the plan has ", inputs,
                              " inputs, and ours have one; build it from our graph");
}

void SharedEngine::read_profiles() {
    const auto input = std::find_if(tensors_.begin(), tensors_.end(), [](const EngineTensor &t) { return t.is_input; });
    const trt::Dims &dims = input->dims;
    // what TensorRT answers for the profile of a fixed input is written nowhere
    if (std::none_of(dims.d, dims.d + std::max(dims.nbDims, 0), [](std::int64_t side) { return side < 0; })) {
        profiles_.push_back({dims, dims, dims});
        return;
    }
    const char *const name = input_name_.c_str();
    for (std::int32_t i = 0; i < engine_->getNbOptimizationProfiles(); ++i)
        profiles_.push_back({engine_->getProfileShape(name, i, trt::OptProfileSelector::kMIN),
                             engine_->getProfileShape(name, i, trt::OptProfileSelector::kOPT),
                             engine_->getProfileShape(name, i, trt::OptProfileSelector::kMAX)});
}

std::unique_ptr<trt::IExecutionContext> SharedEngine::create_context() {
    std::unique_ptr<trt::IExecutionContext> context;
    {
        const std::lock_guard<std::mutex> lock(one_at_a_time());
        log_.clear();
        context.reset(engine_->createExecutionContext(trt::ExecutionContextAllocationStrategy::kUSER_MANAGED));
    }
    if (context != nullptr)
        return context;
    const std::string memory = log_.out_of_memory();
    if (!memory.empty())
        throw Error(ISA_ERROR_OUT_OF_MEMORY, text("out of device memory while the engine was made ready (", memory,
                                                  "); end other programs, or build the plan for smaller frames"));
    isa_core::fail_engine(title(), " could not make the engine ready: ", log_.reason());
}

int SharedEngine::profile_for(const Shape &shape) const {
    int found = -1;
    double nearest = 0;
    for (std::size_t i = 0; i < profiles_.size(); ++i) {
        if (!holds(profiles_[i], shape))
            continue;
        const double distance =
            std::abs(volume(profiles_[i].best.d, shape.size()) - volume(shape.data(), shape.size()));
        if (found < 0 || distance < nearest) {
            found = static_cast<int>(i);
            nearest = distance;
        }
    }
    return found;
}

std::int32_t SharedEngine::largest_batch(std::int32_t h, std::int32_t w) const {
    std::int64_t batch = 0;
    for (bool grew = true; grew;) {
        grew = false;
        for (const Profile &each : profiles_) {
            const bool takes = each.least.nbDims == 4 && each.most.nbDims == 4 && each.least.d[1] <= h &&
                               h <= each.most.d[1] && each.least.d[2] <= w && w <= each.most.d[2];
            if (takes && each.least.d[0] <= batch + 1 && each.most.d[0] > batch) {
                batch = each.most.d[0];
                grew = true;
            }
        }
    }
    return static_cast<std::int32_t>(std::min<std::int64_t>(batch, std::numeric_limits<std::int32_t>::max()));
}

std::shared_ptr<SharedEngine> share_engine(const isa_engine_request &request, const Cuda &cuda) {
    using Key = std::tuple<std::string, int, bool>;
    struct Registry {
        std::mutex mutex;
        std::map<Key, std::weak_ptr<SharedEngine>> engines;
    };
    static Registry registry;
    // where there is a record, its reader has held the plan against it
    const std::string content = request.plan != nullptr && request.plan->plan_sha256 != nullptr
                                    ? std::string(request.plan->plan_sha256)
                                    : isa_core::sha256(request.data, request.size);
    const Key key{content, cuda.index(), request.allow_engine_code != 0};
    const std::lock_guard<std::mutex> lock(registry.mutex);
    for (auto each = registry.engines.begin(); each != registry.engines.end();)
        each = each->second.expired() ? registry.engines.erase(each) : std::next(each);
    if (const auto found = registry.engines.find(key); found != registry.engines.end())
        if (auto shared = found->second.lock())
            return shared;
    auto shared = std::make_shared<SharedEngine>(request, cuda);
    registry.engines[key] = shared;
    return shared;
}

} // namespace isa_tensorrt

#include "engine.hpp"

#include <algorithm>
#include <cstring>

#include "error.hpp"
#include "log.hpp"

namespace isa_core {

namespace {

void check(isa_status status, isa_failure &failure) {
    if (status == ISA_OK)
        return;
    failure.message[sizeof failure.message - 1] = '\0';
    throw Error(status, failure.message);
}

const char *dtype_name(const isa_tensor &tensor) {
    if (tensor.dtype == ISA_DTYPE_UINT8)
        return "uint8";
    if (tensor.dtype == ISA_DTYPE_FLOAT32)
        return "float32";
    return tensor.dtype_name != nullptr ? tensor.dtype_name : "unknown";
}

std::string shape_words(const isa_tensor &tensor) {
    std::string words;
    for (int axis = 0; axis < std::min<int>(tensor.rank, 8); ++axis)
        words += text(axis != 0 ? "x" : "", tensor.shape[axis] < 0 ? "?" : std::to_string(tensor.shape[axis]));
    return words;
}

} // namespace

Engine::Engine(const isa_backend_api &api, const isa_engine_request &request) : api_(api) {
    isa_failure failure{};
    check(api_.open(&request, &engine_, &info_, &failure), failure);
    info_.slots = std::clamp<std::int32_t>(info_.slots, 1, ISA_MAX_SLOTS);
}

Engine::~Engine() {
    api_.close(engine_);
}

std::uint8_t *Engine::input(int slot, int n, Size size) {
    isa_failure failure{};
    std::uint8_t *image_nhwc = nullptr;
    check(api_.input(engine_, slot, n, size.height, size.width, &image_nhwc, &failure), failure);
    return image_nhwc;
}

void Engine::start(int slot, std::uint32_t want) {
    isa_failure failure{};
    check(api_.start(engine_, slot, want, &failure), failure);
}

isa_engine_answer Engine::wait(int slot) {
    isa_failure failure{};
    isa_engine_answer answer{};
    check(api_.wait(engine_, slot, &answer, &failure), failure);
    return answer;
}

void Engine::run_device(const isa_device_call &call) {
    isa_failure failure{};
    check(api_.run_device(engine_, &call, &failure), failure);
}

void Engine::check_signature(const std::string &path, const Manifest &manifest) const {
    struct Wanted {
        bool is_input;
        const std::string &name;
        std::int32_t dtype;
        std::int32_t rank;
        std::int64_t classes; ///< 0: the second side may be anything
    };
    const OutputsSpec &named = manifest.outputs;
    const auto classes = static_cast<std::int64_t>(manifest.classes.names.size());
    const auto check_one = [&](const Wanted &wanted) {
        const char *const kind = wanted.is_input ? "input" : "output";
        std::string names;
        for (std::int32_t i = 0; i < info_.tensor_count; ++i) {
            const isa_tensor &tensor = info_.tensors[i];
            if ((tensor.is_input != 0) != wanted.is_input)
                continue;
            if (wanted.name != tensor.name) {
                names += text(names.empty() ? "" : ", ", tensor.name);
                continue;
            }
            const bool fits = tensor.dtype == wanted.dtype && tensor.rank == wanted.rank &&
                              (wanted.classes == 0 || tensor.shape[1] < 0 || tensor.shape[1] == wanted.classes);
            if (!fits)
                fail_engine(path, ": ", kind, " '", wanted.name, "' is ", dtype_name(tensor), " ", shape_words(tensor),
                            ", and its manifest describes ", wanted.dtype == ISA_DTYPE_UINT8 ? "uint8" : "float32",
                            " with ", wanted.rank, " axes",
                            wanted.classes != 0 ? text(" of ", wanted.classes, " classes") : std::string(),
                            "; export the model again");
            return;
        }
        fail_engine(path, ": the graph has no ", kind, " '", wanted.name, "', which its manifest names (it has ", names,
                    "); export the model again");
    };
    check_one({true, manifest.input.name, ISA_DTYPE_UINT8, 4, 0});
    check_one({false, named.labels, ISA_DTYPE_UINT8, 3, 0});
    check_one({false, named.logits, ISA_DTYPE_FLOAT32, 4, classes});
    if (named.confidence)
        check_one({false, *named.confidence, ISA_DTYPE_UINT8, 3, 0});
}

} // namespace isa_core

#include "tensorrt_plan.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <filesystem>

#include "error.hpp"
#include "plan_command.hpp"

namespace isa_tensorrt {

namespace {

using isa_core::Error;
using isa_core::text;

constexpr const char *kBuilder = "tensorrt";
constexpr const char *kRtx = "tensorrt_rtx";
constexpr int kAmpere = 8; // major number of the compute capability
constexpr int kMaxNumber = 1000000;

} // namespace

std::vector<int> version_numbers(const std::string &version) {
    std::vector<int> numbers;
    std::size_t at = 0;
    while (at < version.size() && version[at] >= '0' && version[at] <= '9') {
        int number = 0;
        for (; at < version.size() && version[at] >= '0' && version[at] <= '9'; ++at)
            number = std::min(number * 10 + (version[at] - '0'), kMaxNumber);
        numbers.push_back(number);
        if (at >= version.size() || version[at] != '.')
            break;
        ++at;
    }
    if (numbers.empty())
        isa_core::fail_engine("version '", version, "' does not begin with numbers; install the library again");
    return numbers;
}

std::string library_version(int number) {
    return text(number / 10000, ".", number % 10000 / 100, ".", number % 100);
}

void check_code(const std::string &path, const isa_plan_record &plan, bool allow_engine_code) {
    if (plan.version_compatible != 0 && !allow_engine_code)
        isa_core::fail_engine(path,
                              ": a version-compatible plan carries code that runs on this machine's processor; if you "
                              "built it or trust who did, allow it with --allow-engine-code");
}

void check_library(const std::string &path, const isa_plan_record &plan, const std::string &version) {
    if (std::strcmp(plan.builder, kRtx) == 0)
        throw Error(ISA_ERROR_BACKEND_UNAVAILABLE,
                    text(path, ": is a plan of TensorRT-RTX ", plan.builder_version, ", and this is TensorRT ", version,
                         "; build it again here: ", isa_core::plan_command(path),
                         ", run the graph (.onnx), or run the plan with the Python package"));
    const std::vector<int> built = version_numbers(plan.builder_version);
    const std::vector<int> running = version_numbers(version);
    if (std::strcmp(plan.builder, kBuilder) == 0) {
        // as many numbers as both have: the library says 10.3.0 and pip 10.3.0.26
        const auto common = static_cast<std::ptrdiff_t>(std::min(built.size(), running.size()));
        if (std::equal(built.begin(), built.begin() + common, running.begin()))
            return;
        if (plan.version_compatible != 0 && built[0] == running[0] && built <= running)
            return;
    }
    throw Error(ISA_ERROR_ENGINE_INCOMPATIBLE,
                text(path, ": was built with ", plan.builder, " ", plan.builder_version, " and this is ", kBuilder, " ",
                     version, "; build it again here: ", isa_core::plan_command(path)));
}

void check_card(const std::string &path, const isa_plan_record &plan, int major, int minor, const std::string &card) {
    const bool any_card = plan.hardware_compatible != 0 || plan.compute_capability == nullptr;
    if (plan.compute_capability != nullptr && plan.compute_capability == text(major, ".", minor))
        return;
    if (any_card && major >= kAmpere)
        return;
    const std::string wanted =
        any_card ? "compute capability 8.0 or later" : text("compute capability ", plan.compute_capability);
    throw Error(ISA_ERROR_ENGINE_INCOMPATIBLE, text(path, ": was built for ", wanted, " and this card is ", card,
                                                    "; build it again here: ", isa_core::plan_command(path)));
}

std::string graph_name(const std::string &path) {
    return std::filesystem::path(path).stem().string() + ".onnx";
}

} // namespace isa_tensorrt

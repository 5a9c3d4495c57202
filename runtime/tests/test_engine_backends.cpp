// A backend through its table of functions, with graphs that are made here: ISA_TEST_BACKEND names its shared object.
//
// The graph is small enough to be known by heart.  Its logits are a pixel's three bytes, one pixel in from every side
// of the frame (a 3 x 3 convolution without padding that sees the middle alone), its labels their argmax.
#include <dlfcn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "backend.h"
#include "check.hpp"
#include "folder.hpp"

namespace {

// ---- ONNX, as onnx.proto lays it out: field numbers are named beside their values

std::string varint(std::uint64_t value) {
    std::string out;
    for (; value >= 0x80; value >>= 7)
        out.push_back(static_cast<char>(value | 0x80));
    out.push_back(static_cast<char>(value));
    return out;
}

std::string number(unsigned field, std::uint64_t value) {
    return varint(field << 3) + varint(value);
}

std::string bytes(unsigned field, const std::string &value) {
    return varint(field << 3 | 2) + varint(value.size()) + value;
}

constexpr unsigned kFloat = 1, kUint8 = 2, kInt8 = 3; // TensorProto.DataType

std::string int_attribute(const std::string &name, std::uint64_t value) {
    return bytes(5 /* attribute */, bytes(1 /* name */, name) + number(3 /* i */, value) + number(20 /* type */, 2));
}

std::string ints_attribute(const std::string &name, const std::vector<std::uint64_t> &values) {
    std::string all;
    for (const std::uint64_t value : values)
        all += number(8 /* ints */, value);
    return bytes(5, bytes(1, name) + all + number(20, 7));
}

std::string node(const std::string &kind, const std::vector<std::string> &inputs, const std::string &output,
                 const std::string &attributes = {}) {
    std::string body;
    for (const std::string &input : inputs)
        body += bytes(1 /* input */, input);
    return bytes(1 /* graph.node */, body + bytes(2 /* output */, output) + bytes(4 /* op_type */, kind) + attributes);
}

/// A side below 0 is free.
std::string value_info(unsigned field, const std::string &name, unsigned type, const std::vector<int> &sides) {
    std::string shape;
    for (const int side : sides)
        shape += bytes(1 /* dim */, side < 0 ? bytes(2 /* dim_param */, "side" + std::to_string(shape.size()))
                                             : number(1 /* dim_value */, static_cast<std::uint64_t>(side)));
    const std::string tensor = number(1 /* elem_type */, type) + bytes(2 /* shape */, shape);
    return bytes(field, bytes(1 /* name */, name) + bytes(2 /* type */, bytes(1 /* tensor_type */, tensor)));
}

std::string initializer(const std::string &name, unsigned type, const std::vector<std::uint64_t> &sides,
                        const std::string &content) {
    std::string tensor;
    for (const std::uint64_t side : sides)
        tensor += number(1 /* dims */, side);
    tensor += number(2 /* data_type */, type) + bytes(8 /* name */, name) + bytes(9 /* raw_data */, content);
    return bytes(5 /* graph.initializer */, tensor);
}

struct Graph {
    std::string logits = "logits";
    int height = -1;
    int width = -1;
    bool external = false; ///< weights in a file that is not there
    float gain = 1;        ///< logits are the bytes times this
};

std::string model(const std::string &nodes, const Graph &options = {}) {
    std::string graph = nodes;
    graph += node("ArgMax", {options.logits}, "indices", int_attribute("axis", 1) + int_attribute("keepdims", 0));
    graph += node("Cast", {"indices"}, "labels", int_attribute("to", kUint8));
    graph += bytes(2 /* graph.name */, "middle");
    const int h = options.height, w = options.width;
    graph += value_info(11 /* graph.input */, "image", kUint8, {-1, h, w, 3});
    graph += value_info(12 /* graph.output */, "labels", kUint8, {-1, h < 0 ? h : h - 2, w < 0 ? w : w - 2});
    graph += value_info(12, options.logits, kFloat, {-1, 3, h < 0 ? h : h - 2, w < 0 ? w : w - 2});
    return number(1 /* ir_version */, 8) + bytes(7 /* graph */, graph) +
           bytes(8 /* opset_import */, bytes(1, "") + number(2 /* version */, 17));
}

/// The image as floats in planes.
std::string planes() {
    return node("Cast", {"image"}, "floats", int_attribute("to", kFloat)) +
           node("Transpose", {"floats"}, "planes", ints_attribute("perm", {0, 3, 1, 2}));
}

/// The same convolution between QuantizeLinear and DequantizeLinear, all scales 1: exact for bytes up to 127.
std::string quantised_onnx() {
    std::string weights(81, '\0');
    for (std::size_t channel = 0; channel < 3; ++channel)
        weights[channel * 27 + channel * 9 + 4] = 1;
    const float scale = 1;
    std::string one(sizeof scale, '\0');
    std::memcpy(one.data(), &scale, sizeof scale);
    return model(planes() + node("QuantizeLinear", {"planes", "scale", "zero"}, "planes_q") +
                 node("DequantizeLinear", {"planes_q", "scale", "zero"}, "planes_dq") +
                 node("DequantizeLinear", {"weights", "scale", "zero"}, "weights_dq") +
                 node("Conv", {"planes_dq", "weights_dq"}, "logits", ints_attribute("kernel_shape", {3, 3})) +
                 initializer("weights", kInt8, {3, 3, 3, 3}, weights) + initializer("scale", kFloat, {}, one) +
                 initializer("zero", kInt8, {}, std::string(1, '\0')));
}

std::string onnx(const Graph &options = {}) {
    std::string weights;
    for (int out = 0; out < 3; ++out) {
        for (int in = 0; in < 3; ++in) {
            for (int tap = 0; tap < 9; ++tap) {
                const float value = out == in && tap == 4 ? options.gain : 0.0F;
                weights.append(reinterpret_cast<const char *>(&value), sizeof value);
            }
        }
    }
    std::string tensor;
    for (const std::uint64_t side : {3U, 3U, 3U, 3U})
        tensor += number(1 /* dims */, side);
    tensor += number(2 /* data_type */, kFloat) + bytes(8 /* name */, "weights");
    if (options.external)
        tensor += bytes(13 /* external_data */, bytes(1, "location") + bytes(2, "weights.bin")) +
                  number(14 /* data_location: EXTERNAL */, 1);
    else
        tensor += bytes(9 /* raw_data */, weights);
    return model(planes() +
                     node("Conv", {"planes", "weights"}, options.logits, ints_attribute("kernel_shape", {3, 3})) +
                     bytes(5 /* graph.initializer */, tensor),
                 options);
}

// ---- the backend

const isa_backend_api &api() {
    static const isa_backend_api *const found = [] {
        const char *const path = std::getenv("ISA_TEST_BACKEND");
        void *const library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (library == nullptr)
            throw std::runtime_error(dlerror());
        void *const symbol = dlsym(library, ISA_BACKEND_SYMBOL);
        if (symbol == nullptr)
            throw std::runtime_error(dlerror());
        isa_backend_function function = nullptr;
        static_assert(sizeof function == sizeof symbol, "POSIX");
        std::memcpy(&function, &symbol, sizeof function);
        if (function() == nullptr)
            throw std::runtime_error("isa_backend() gave nothing");
        return function();
    }();
    return *found;
}

bool is_openvino() {
    return std::strcmp(api().name, "openvino") == 0;
}

std::mutex log_mutex;
std::vector<std::string> logged;

void log_message(std::int32_t, const char *message) {
    const std::lock_guard<std::mutex> lock(log_mutex);
    logged.emplace_back(message);
}

struct Request : isa_engine_request {
    explicit Request(const char *file) : isa_engine_request{} {
        path = file;
        input = "image";
        labels = "labels";
        logits = "logits";
        graph_precision = "fp32";
        float_type = "fp32";
        device = "auto";
        precision = "fp32";
        schedule = "latency";
        log = log_message;
    }

    explicit Request(const std::string &content) : Request("<memory>") {
        data = content.data();
        size = content.size();
    }
};

struct Close {
    void operator()(isa_engine *engine) const { api().close(engine); }
};

struct Opened {
    isa_status status = ISA_ERROR_INTERNAL;
    isa_failure failure{};
    isa_engine_info info{};
    std::unique_ptr<isa_engine, Close> engine;
};

Opened open(const Request &request) {
    Opened opened;
    isa_engine *engine = nullptr;
    opened.status = api().open(&request, &engine, &opened.info, &opened.failure);
    opened.engine.reset(engine);
    CHECK_EQUAL(opened.status == ISA_OK, engine != nullptr);
    CHECK(opened.status == ISA_OK || std::strlen(opened.failure.message) > 10);
    return opened;
}

Opened open_well(const Request &request) {
    Opened opened = open(request);
    if (opened.status != ISA_OK)
        throw std::runtime_error(opened.failure.message);
    return opened;
}

void check_words(const char *message, const std::string &words) {
    if (std::string(message).find(words) == std::string::npos)
        check::failed(__FILE__, __LINE__, "message lacks '" + words + "': " + message);
}

struct Shape {
    std::int32_t n, h, w;
};

std::uint8_t pixel(unsigned seed, std::size_t i) {
    const std::uint64_t mixed = (i + seed * 1009U + 1) * 0x9E3779B97F4A7C15U;
    return static_cast<std::uint8_t>(mixed >> 56);
}

/// Fills a slot with pixels of a seed.
isa_status fill(isa_engine *engine, std::int32_t slot, Shape shape, unsigned seed, isa_failure &failure) {
    std::uint8_t *image = nullptr;
    const isa_status status = api().input(engine, slot, shape.n, shape.h, shape.w, &image, &failure);
    if (status != ISA_OK)
        return status;
    CHECK_EQUAL(reinterpret_cast<std::uintptr_t>(image) % 64, 0U);
    const auto size =
        static_cast<std::size_t>(shape.n) * static_cast<std::size_t>(shape.h) * static_cast<std::size_t>(shape.w) * 3;
    for (std::size_t i = 0; i < size; ++i)
        image[i] = pixel(seed, i);
    return ISA_OK;
}

/// Whether an answer is what the graph makes of the pixels of a seed.
bool is_right(const isa_engine_answer &answer, Shape shape, unsigned seed, std::uint32_t want, float gain = 1) {
    if ((answer.labels_nhw != nullptr) != ((want & ISA_WANT_LABELS) != 0) ||
        (answer.logits_nchw != nullptr) != ((want & ISA_WANT_LOGITS) != 0))
        return false;
    const std::int64_t n = shape.n, h = shape.h - 2, w = shape.w - 2;
    if (answer.labels_nhw != nullptr &&
        (answer.labels_shape[0] != n || answer.labels_shape[1] != h || answer.labels_shape[2] != w))
        return false;
    if (answer.logits_nchw != nullptr && (answer.logits_shape[0] != n || answer.logits_shape[1] != 3 ||
                                          answer.logits_shape[2] != h || answer.logits_shape[3] != w))
        return false;
    for (std::int64_t i = 0; i < n; ++i) {
        for (std::int64_t y = 0; y < h; ++y) {
            for (std::int64_t x = 0; x < w; ++x) {
                std::array<std::uint8_t, 3> found{};
                for (std::int64_t c = 0; c < 3; ++c)
                    found[static_cast<std::size_t>(c)] =
                        pixel(seed, static_cast<std::size_t>(((i * shape.h + y + 1) * shape.w + x + 1) * 3 + c));
                if (answer.labels_nhw != nullptr) {
                    const auto best = std::max_element(found.begin(), found.end()) - found.begin();
                    if (answer.labels_nhw[(i * h + y) * w + x] != best)
                        return false;
                }
                for (std::int64_t c = 0; answer.logits_nchw != nullptr && c < 3; ++c) {
                    const float logit = answer.logits_nchw[((i * 3 + c) * h + y) * w + x];
                    if (logit != gain * static_cast<float>(found[static_cast<std::size_t>(c)]))
                        return false;
                }
            }
        }
    }
    return true;
}

/// One frame from input to answer.
void check_frame(isa_engine *engine, std::int32_t slot, Shape shape, unsigned seed, std::uint32_t want,
                 float gain = 1) {
    isa_failure failure{};
    isa_engine_answer answer{};
    const bool ran = fill(engine, slot, shape, seed, failure) == ISA_OK &&
                     api().start(engine, slot, want, &failure) == ISA_OK &&
                     api().wait(engine, slot, &answer, &failure) == ISA_OK;
    if (!ran)
        check::failed(__FILE__, __LINE__, failure.message);
    CHECK(ran && is_right(answer, shape, seed, want, gain));
}

/// The failure of a frame that must fail somewhere between input and answer.
isa_failure failing_frame(isa_engine *engine, Shape shape, std::uint32_t want) {
    isa_failure failure{};
    isa_engine_answer answer{};
    if (fill(engine, 0, shape, 0, failure) == ISA_OK && api().start(engine, 0, want, &failure) == ISA_OK &&
        api().wait(engine, 0, &answer, &failure) == ISA_OK)
        check::failed(__FILE__, __LINE__, "the frame did not fail");
    return failure;
}

constexpr std::uint32_t kLabels = ISA_WANT_LABELS, kLogits = ISA_WANT_LOGITS, kBoth = kLabels | kLogits;

TEST("the table is of the core's version, and the CPU can be used") {
    CHECK_EQUAL(api().abi, static_cast<std::uint32_t>(ISA_BACKEND_ABI));
    CHECK(std::strlen(api().library) > std::strlen("OpenVINO "));
    isa_failure failure{};
    CHECK_EQUAL(api().available("auto", &failure), ISA_OK);
    CHECK_EQUAL(api().available("cpu", &failure), ISA_OK);
    CHECK(api().run_device == nullptr);
}

TEST("what was opened is described with its tensors, from a file and from memory") {
    const Folder folder;
    const std::string content = onnx(), path = folder.write("model.onnx", content);
    for (const Request &request : {Request(path.c_str()), Request(content)}) {
        const Opened opened = open_well(request);
        CHECK_EQUAL(std::string(opened.info.precision), "fp32");
        CHECK_EQUAL(std::string(opened.info.device), "cpu");
        CHECK_EQUAL(opened.info.fast_argmax, 0);
        CHECK(opened.info.slots >= 2 && opened.info.slots <= ISA_MAX_SLOTS);
        CHECK_EQUAL(api().largest_batch(opened.engine.get(), 512, 1024), 1);
        std::string found;
        for (std::int32_t i = 0; i < opened.info.tensor_count; ++i) {
            const isa_tensor &tensor = opened.info.tensors[i];
            found += std::string(tensor.is_input != 0 ? "in " : "out ") + tensor.name + " " + tensor.dtype_name + "/" +
                     std::to_string(tensor.dtype);
            for (int axis = 0; axis < tensor.rank; ++axis)
                found += " " + std::to_string(tensor.shape[axis]);
            found += "; ";
        }
        CHECK_EQUAL(found, "in image uint8/1 -1 -1 -1 3; out labels uint8/1 -1 -1 -1; "
                           "out logits float32/2 -1 3 -1 -1; ");
        check_frame(opened.engine.get(), 0, {1, 20, 30}, 1, kLogits);
    }
}

TEST("labels and logits are right for changing shapes and wishes, in both slots at once") {
    const std::string content = onnx();
    const Opened opened = open_well(Request(content));
    isa_engine *const engine = opened.engine.get();
    unsigned seed = 0;
    for (const Shape shape : {Shape{1, 33, 47}, {1, 33, 47}, {1, 8, 9}, {2, 20, 11}, {1, 64, 64}, {1, 3, 3}}) {
        for (const std::uint32_t want : {kLogits, kLabels, kBoth, kLogits}) {
            isa_failure failure{};
            const Shape other{1, shape.h + 5, shape.w};
            seed += 2;
            CHECK_EQUAL(fill(engine, 0, shape, seed, failure), ISA_OK);
            CHECK_EQUAL(api().start(engine, 0, want, &failure), ISA_OK);
            CHECK_EQUAL(fill(engine, 1, other, seed + 1, failure), ISA_OK);
            CHECK_EQUAL(api().start(engine, 1, want, &failure), ISA_OK);
            isa_engine_answer first{}, second{};
            CHECK_EQUAL(api().wait(engine, 0, &first, &failure), ISA_OK);
            CHECK_EQUAL(api().wait(engine, 1, &second, &failure), ISA_OK);
            // an answer stays until its own slot is used again
            CHECK(is_right(first, shape, seed, want));
            CHECK(is_right(second, other, seed + 1, want));
        }
    }
}

TEST("a frame's memory and its answer's stay where they are while the shape stays") {
    const std::string content = onnx();
    const Opened opened = open_well(Request(content));
    isa_engine *const engine = opened.engine.get();
    std::vector<const void *> images, logits;
    for (unsigned seed = 0; seed < 6; ++seed) {
        isa_failure failure{};
        isa_engine_answer answer{};
        std::uint8_t *image = nullptr;
        CHECK_EQUAL(fill(engine, 0, {1, 40, 50}, seed, failure), ISA_OK);
        CHECK_EQUAL(api().input(engine, 0, 1, 40, 50, &image, &failure), ISA_OK);
        CHECK_EQUAL(api().start(engine, 0, kLogits, &failure), ISA_OK);
        CHECK_EQUAL(api().wait(engine, 0, &answer, &failure), ISA_OK);
        CHECK(is_right(answer, {1, 40, 50}, seed, kLogits));
        images.push_back(image);
        logits.push_back(answer.logits_nchw);
    }
    CHECK(images.front() == images.back());
    CHECK(logits[3] == logits.back() || logits[2] == logits.back()); // two may take turns
}

TEST("a graph in int8 says so, whatever its rest is computed in, and is right") {
    const std::string content = quantised_onnx();
    for (const char *precision : {"auto", "fp32"}) {
        Request request(content);
        request.graph_precision = "int8";
        request.float_type = "fp32";
        request.precision = precision;
        const Opened opened = open_well(request);
        CHECK_EQUAL(std::string(opened.info.precision), "int8");
        constexpr std::int32_t side = 16, inner = (side - 2) * (side - 2);
        const std::array<std::uint8_t, 3> colour = {20, 100, 60};
        isa_failure failure{};
        isa_engine_answer answer{};
        std::uint8_t *image = nullptr;
        CHECK_EQUAL(api().input(opened.engine.get(), 0, 1, side, side, &image, &failure), ISA_OK);
        for (std::size_t i = 0; i < std::size_t{side} * side * 3; ++i)
            image[i] = colour[i % 3];
        CHECK_EQUAL(api().start(opened.engine.get(), 0, kBoth, &failure), ISA_OK);
        CHECK_EQUAL(api().wait(opened.engine.get(), 0, &answer, &failure), ISA_OK);
        bool right = answer.logits_shape[1] == 3 && answer.labels_shape[1] * answer.labels_shape[2] == inner;
        for (std::int32_t i = 0; right && i < 3 * inner; ++i)
            right = !(answer.logits_nchw[i] < colour[static_cast<std::size_t>(i / inner)]) &&
                    !(answer.logits_nchw[i] > colour[static_cast<std::size_t>(i / inner)]);
        for (std::int32_t i = 0; right && i < inner; ++i)
            right = answer.labels_nhw[i] == 1;
        CHECK(right);
    }
}

TEST("devices and precisions that are not here are refused with what to do") {
    const std::string content = onnx();
    Request request(content);
    request.device = "7";
    const Opened on_gpu = open(request);
    isa_failure failure{};
    const isa_status available = api().available("7", &failure);
    if (is_openvino()) {
        CHECK_EQUAL(on_gpu.status, static_cast<isa_status>(ISA_ERROR_INPUT));
        check_words(on_gpu.failure.message, "backend openvino runs on the CPU, not on device 7; use --device cpu");
        CHECK_EQUAL(available, static_cast<isa_status>(ISA_ERROR_INPUT));
        request.device = "cpu";
        request.precision = "bf16";
        const Opened bf16 = open(request);
        if (bf16.status == ISA_OK)
            CHECK_EQUAL(std::string(bf16.info.precision), "bf16");
        else
            check_words(bf16.failure.message, "this CPU has neither AMX nor AVX512-BF16; use --precision fp32");
    } else if (available != ISA_OK) {
        CHECK_EQUAL(on_gpu.status, static_cast<isa_status>(ISA_ERROR_BACKEND_UNAVAILABLE));
        check_words(on_gpu.failure.message, "device 7 needs ONNX Runtime's CUDA provider, which is not installed");
        request.device = "gpu";
        const Opened unknown = open(request);
        CHECK_EQUAL(unknown.status, static_cast<isa_status>(ISA_ERROR_INPUT));
    }
}

/// OpenVINO shows bytes that are no ONNX to its readers of other formats, one of which leaks 8 bytes when it is
/// first loaded: that is nothing to LeakSanitizer, where the program has it.
void load_other_readers(const Folder &folder) {
    const auto call = [](const char *name) {
        void *const symbol = dlsym(RTLD_DEFAULT, name);
        void (*function)() = nullptr;
        std::memcpy(&function, &symbol, sizeof function);
        if (function != nullptr)
            function();
    };
    const std::string path = folder.write("text.onnx", "not a graph at all");
    call("__lsan_disable");
    const Opened opened = open(Request(path.c_str()));
    call("__lsan_enable");
    CHECK_EQUAL(opened.status, static_cast<isa_status>(ISA_ERROR_ENGINE));
}

TEST("damaged graphs are refused by name, whatever is left of them") {
    const Folder folder;
    load_other_readers(folder);
    const std::string content = onnx();
    const char *const words = is_openvino() ? " cannot read it (" : " cannot load it (";
    std::vector<std::string> damaged = {"", "x", std::string(4096, '\xff'), std::string(64, '\0'), "not a graph"};
    for (std::size_t size = 1; size < content.size(); size += 37)
        damaged.push_back(content.substr(0, size));
    for (const std::string &each : damaged) {
        const std::string path = folder.write("damaged.onnx", each);
        const Opened from_file = open(Request(path.c_str()));
        // a cut at the border of a field can leave a graph that has less in it: then its tensors tell
        if (from_file.status != ISA_OK) {
            CHECK_EQUAL(from_file.status, static_cast<isa_status>(ISA_ERROR_ENGINE));
            check_words(from_file.failure.message, path + ": ");
            check_words(from_file.failure.message, words);
        } else {
            CHECK(from_file.info.tensor_count < 3);
        }
        const Opened from_memory = open(Request(each));
        if (from_memory.status != ISA_OK)
            check_words(from_memory.failure.message, "<memory>: ");
        else
            CHECK(from_memory.info.tensor_count < 3);
    }
    // one byte changed: opened or refused, never a crash
    for (std::size_t at = 0; at < content.size(); at += 11) {
        std::string changed = content;
        changed[at] = static_cast<char>(~changed[at]);
        const Opened opened = open(Request(changed));
        CHECK(opened.status == ISA_OK || opened.status == ISA_ERROR_ENGINE);
    }
    const std::string missing = folder.path + "/missing.onnx";
    const Opened nothing = open(Request(missing.c_str()));
    CHECK_EQUAL(nothing.status, static_cast<isa_status>(ISA_ERROR_ENGINE));
    check_words(nothing.failure.message, missing + ": ");
}

TEST("a graph with other tensors opens, so that the core can name them, and fails when they are wanted") {
    Graph graph;
    graph.logits = "scores";
    const std::string content = onnx(graph);
    const Opened opened = open_well(Request(content));
    CHECK_EQUAL(std::string(opened.info.tensors[2].name), "scores");
    const isa_failure failure = failing_frame(opened.engine.get(), {1, 8, 8}, kLogits);
    CHECK_EQUAL(failure.status, static_cast<isa_status>(ISA_ERROR_ENGINE));
    check_frame(opened.engine.get(), 0, {1, 8, 8}, 3, kLabels);
}

TEST("frames without pixels, or with more than memory has, are refused") {
    const std::string content = onnx();
    const Opened opened = open_well(Request(content));
    isa_failure failure{};
    std::uint8_t *image = nullptr;
    for (const Shape shape : {Shape{0, 8, 8}, {1, 0, 8}, {1, 8, 0}, {-1, 8, 8}, {1, -8, -8}, {1, 8, INT32_MIN}}) {
        CHECK_EQUAL(api().input(opened.engine.get(), 0, shape.n, shape.h, shape.w, &image, &failure),
                    static_cast<isa_status>(ISA_ERROR_INPUT));
        check_words(failure.message, "frames of shape (");
    }
    CHECK_EQUAL(api().input(opened.engine.get(), 0, INT32_MAX, INT32_MAX, INT32_MAX, &image, &failure),
                static_cast<isa_status>(ISA_ERROR_INPUT));
    CHECK_EQUAL(api().input(opened.engine.get(), 0, 8, INT32_MAX, 1 << 25, &image, &failure),
                static_cast<isa_status>(ISA_ERROR_OUT_OF_MEMORY));
    check_frame(opened.engine.get(), 0, {1, 9, 9}, 1, kBoth);
}

TEST("sizes that the graph refuses fail with their shape, and the next frame is right") {
    Graph fixed;
    fixed.height = 16;
    fixed.width = 24;
    const std::string free_content = onnx(), fixed_content = onnx(fixed);
    const Opened free_size = open_well(Request(free_content)), fixed_size = open_well(Request(fixed_content));
    for (const std::uint32_t want : {kLogits, kLabels}) {
        check_frame(fixed_size.engine.get(), 0, {1, 16, 24}, 5, want);
        const isa_failure other = failing_frame(fixed_size.engine.get(), {1, 16, 25}, want);
        CHECK_EQUAL(other.status, static_cast<isa_status>(ISA_ERROR_ENGINE));
        check_words(other.message, " failed on frames of shape (1, 16, 25, 3) (");
        check_frame(fixed_size.engine.get(), 0, {1, 16, 24}, 6, want);
        const isa_failure small = failing_frame(free_size.engine.get(), {1, 2, 2}, want);
        CHECK_EQUAL(small.status, static_cast<isa_status>(ISA_ERROR_ENGINE));
        check_words(small.message, " failed on frames of shape (1, 2, 2, 3) (");
        check_frame(free_size.engine.get(), 0, {1, 12, 12}, 7, want);
    }
}

TEST("calls out of order are refused and harm nothing") {
    const std::string content = onnx();
    const Opened opened = open_well(Request(content));
    isa_engine *const engine = opened.engine.get();
    isa_failure failure{};
    isa_engine_answer answer{};
    std::uint8_t *image = nullptr;
    const auto internal = static_cast<isa_status>(ISA_ERROR_INTERNAL);
    CHECK_EQUAL(api().wait(engine, 0, &answer, &failure), internal);
    CHECK_EQUAL(api().start(engine, 0, kBoth, &failure), internal);
    CHECK_EQUAL(api().input(engine, -1, 1, 8, 8, &image, &failure), internal);
    CHECK_EQUAL(api().input(engine, 2, 1, 8, 8, &image, &failure), internal);
    CHECK_EQUAL(fill(engine, 1, {1, 200, 300}, 1, failure), ISA_OK);
    CHECK_EQUAL(api().start(engine, 1, 0, &failure), internal);
    CHECK_EQUAL(api().start(engine, 1, 4, &failure), internal);
    CHECK_EQUAL(api().start(engine, 1, kBoth, &failure), ISA_OK);
    CHECK_EQUAL(api().start(engine, 1, kBoth, &failure), internal);
    CHECK_EQUAL(api().input(engine, 1, 1, 8, 8, &image, &failure), internal);
    CHECK_EQUAL(api().wait(engine, 1, &answer, &failure), ISA_OK);
    CHECK(is_right(answer, {1, 200, 300}, 1, kBoth));
    CHECK_EQUAL(api().wait(engine, 1, &answer, &failure), internal);
}

TEST("closing waits for frames that are under way") {
    const std::string content = onnx();
    for (int round = 0; round < 5; ++round) {
        const Opened opened = open_well(Request(content));
        isa_failure failure{};
        for (std::int32_t slot = 0; slot < 2; ++slot) {
            CHECK_EQUAL(fill(opened.engine.get(), slot, {1, 300, 400}, 1, failure), ISA_OK);
            CHECK_EQUAL(api().start(opened.engine.get(), slot, kBoth, &failure), ISA_OK);
        }
    }
    api().close(nullptr);
}

TEST("threads open the same file at once and each gets its own answers") {
    const Folder folder;
    const std::string path = folder.write("model.onnx", onnx());
    for (const char *const schedule : {"latency", "throughput"}) {
        std::vector<std::thread> threads;
        for (unsigned number = 0; number < 4; ++number) {
            threads.emplace_back([&, number] {
                Request request(path.c_str());
                request.schedule = schedule;
                const Opened opened = open(request);
                for (unsigned seed = 0; opened.status == ISA_OK && seed < 10; ++seed)
                    check_frame(opened.engine.get(), static_cast<std::int32_t>(seed % 2), {1, 30, 40},
                                number * 100 + seed, kBoth);
            });
        }
        for (std::thread &thread : threads)
            thread.join();
    }
}

TEST("a file that was replaced under the same name is another model, also while the first is open") {
    const Folder folder;
    const std::string path = folder.write("model.onnx", onnx());
    const Opened first = open_well(Request(path.c_str()));
    check_frame(first.engine.get(), 0, {1, 9, 9}, 1, kLogits);
    Graph doubled;
    doubled.gain = 2;
    folder.write("model.onnx", onnx(doubled));
    const Opened second = open_well(Request(path.c_str()));
    check_frame(second.engine.get(), 0, {1, 9, 9}, 2, kLogits, 2);
    check_frame(first.engine.get(), 0, {1, 9, 9}, 3, kLogits, 1);
    const std::string content = onnx(doubled);
    const Opened third = open_well(Request(content));
    check_frame(third.engine.get(), 0, {1, 9, 9}, 4, kLogits, 2);
}

TEST("the number of threads is the engine's") {
    const std::string content = onnx();
    Request request(content);
    request.threads = 1;
    const Opened opened = open_well(request);
    check_frame(opened.engine.get(), 0, {1, 50, 60}, 1, kBoth);
}

// ---- OpenVINO's cache

std::vector<std::string> files_of(const std::string &folder) {
    std::vector<std::string> found;
    if (std::filesystem::exists(folder))
        for (const auto &entry : std::filesystem::directory_iterator(folder))
            found.push_back(entry.path().string());
    return found;
}

std::string content_of(const std::string &path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

std::size_t warnings() {
    const std::lock_guard<std::mutex> lock(log_mutex);
    return logged.size();
}

TEST("a cached model gives the same answers, and a damaged one is compiled and written again") {
    if (!is_openvino())
        return;
    const Folder folder;
    const std::string path = folder.write("model.onnx", onnx()), cache = folder.path + "/a/cache";
    const auto run = [&](std::uint32_t want) {
        Request request(path.c_str());
        request.cache_dir = cache.c_str();
        const Opened opened = open_well(request);
        CHECK_EQUAL(opened.info.tensor_count, 3);
        check_frame(opened.engine.get(), 0, {1, 20, 30}, 1, want);
    };
    run(kLogits);
    CHECK_EQUAL(files_of(cache).size(), 1U);
    const std::string file = files_of(cache).at(0), good = content_of(file);
    struct stat before{};
    CHECK_EQUAL(stat(file.c_str(), &before), 0);
    CHECK_EQUAL(before.st_mode & 0777U, 0600U);
    run(kLogits);
    struct stat after{};
    CHECK_EQUAL(stat(file.c_str(), &after), 0);
    CHECK_EQUAL(before.st_ino, after.st_ino); // it was read, not written
    CHECK_EQUAL(warnings(), 0U);
    std::size_t damages = 0;
    const auto check_damage = [&](const std::string &damaged) {
        std::filesystem::remove(file);
        std::ofstream(file, std::ios::binary) << damaged;
        run(kLogits);
        CHECK_EQUAL(warnings(), ++damages);
        CHECK(content_of(file).size() == good.size());
    };
    for (const std::size_t at : {0UL, 17UL, 24UL, 32UL, 40UL, 60UL, good.size() / 2, good.size() - 1}) {
        std::string damaged = good;
        damaged[at] = static_cast<char>(damaged[at] ^ 0x80);
        check_damage(damaged);
    }
    check_damage("");
    check_damage(good.substr(0, good.size() - 1));
    check_damage(good.substr(0, 30));
    check_damage(good + "x");
    check_damage(std::string(5000, 'x'));
    run(kLogits);
    CHECK_EQUAL(warnings(), damages);
    CHECK_EQUAL(files_of(cache).size(), 1U);
    logged.clear();
}

TEST("a cache is found by content and settings, not by name") {
    if (!is_openvino())
        return;
    const Folder folder;
    const std::string cache = folder.path + "/cache", content = onnx();
    Graph doubled;
    doubled.gain = 2;
    const std::string path = folder.write("model.onnx", content), moved = folder.write("moved.onnx", content);
    for (const std::string &each : {path, moved}) {
        Request request(each.c_str());
        request.cache_dir = cache.c_str();
        check_frame(open_well(request).engine.get(), 0, {1, 9, 9}, 1, kLogits);
    }
    Request from_memory(content);
    from_memory.cache_dir = cache.c_str();
    check_frame(open_well(from_memory).engine.get(), 0, {1, 9, 9}, 1, kLogits);
    CHECK_EQUAL(files_of(cache).size(), 1U);
    folder.write("model.onnx", onnx(doubled));
    Request request(path.c_str());
    request.cache_dir = cache.c_str();
    check_frame(open_well(request).engine.get(), 0, {1, 9, 9}, 1, kLogits, 2);
    CHECK_EQUAL(files_of(cache).size(), 2U);
    CHECK_EQUAL(warnings(), 0U);

    // each under the other's name
    const std::string first = files_of(cache).at(0), second = files_of(cache).at(1);
    std::filesystem::rename(first, folder.path + "/kept");
    std::filesystem::rename(second, first);
    std::filesystem::rename(folder.path + "/kept", second);
    check_frame(open_well(request).engine.get(), 0, {1, 9, 9}, 1, kLogits, 2);
    CHECK_EQUAL(warnings(), 1U);
    logged.clear();

    request.schedule = "throughput";
    check_frame(open_well(request).engine.get(), 0, {1, 9, 9}, 1, kLogits, 2);
    CHECK_EQUAL(files_of(cache).size(), 3U);
    CHECK_EQUAL(warnings(), 0U);
}

TEST("other outputs than the cached ones come from the graph, if it is still the same") {
    if (!is_openvino())
        return;
    const Folder folder;
    const std::string cache = folder.path + "/cache", content = onnx(), path = folder.write("model.onnx", content);
    Request request(path.c_str()), from_memory(content);
    request.cache_dir = from_memory.cache_dir = cache.c_str();
    check_frame(open_well(request).engine.get(), 0, {1, 9, 9}, 1, kLogits);
    const Opened memory = open_well(from_memory);
    check_frame(memory.engine.get(), 0, {1, 9, 9}, 1, kBoth);
    const Opened opened = open_well(request);
    folder.write("model.onnx", "something else");
    const isa_failure failure = failing_frame(opened.engine.get(), {1, 9, 9}, kLabels);
    CHECK_EQUAL(failure.status, static_cast<isa_status>(ISA_ERROR_ENGINE));
    check_words(failure.message, "has changed since it was opened; open it again");
    check_frame(opened.engine.get(), 0, {1, 9, 9}, 1, kLogits);
    folder.write("model.onnx", content);
    check_frame(opened.engine.get(), 0, {1, 9, 9}, 1, kLabels);
    CHECK_EQUAL(warnings(), 0U);
}

TEST("an engine's description stays where it is when other outputs are wanted") {
    if (!is_openvino())
        return;
    const Folder folder;
    Graph graph;
    graph.logits = "scores_of_every_class"; // too long to lie within a string itself
    const std::string cache = folder.path + "/cache", path = folder.write("model.onnx", onnx(graph));
    Request request(path.c_str());
    request.cache_dir = cache.c_str();
    request.logits = graph.logits.c_str();
    check_frame(open_well(request).engine.get(), 0, {1, 9, 9}, 1, kLogits);
    for (int round = 0; round < 2; ++round) { // other outputs of the graph, then of the cache
        const Opened opened = open_well(request);
        const char *const name = opened.info.tensors[opened.info.tensor_count - 1].name;
        CHECK_EQUAL(std::string(name), graph.logits);
        check_frame(opened.engine.get(), 0, {1, 9, 9}, 1, kLabels);
        CHECK_EQUAL(std::string(name), graph.logits);
        CHECK_EQUAL(files_of(cache).size(), 2U);
    }
}

TEST("a cache file of a size that memory has not is compiled and written again") {
    if (!is_openvino())
        return;
    const std::uint64_t hole = std::uint64_t{1} << 42; // bytes that no disk has to hold
    void *const promised = mmap(nullptr, hole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (promised != MAP_FAILED) { // this system promises memory that it has not
        munmap(promised, hole);
        return;
    }
    // a sanitizer's operator new ends the program where it should throw
    if (dlsym(RTLD_DEFAULT, "__asan_init") != nullptr || dlsym(RTLD_DEFAULT, "__tsan_init") != nullptr)
        return;
    const Folder folder;
    const std::string cache = folder.path + "/cache", path = folder.write("model.onnx", onnx());
    Request request(path.c_str());
    request.cache_dir = cache.c_str();
    check_frame(open_well(request).engine.get(), 0, {1, 9, 9}, 1, kLogits);
    const std::string file = files_of(cache).at(0);
    const auto size = static_cast<std::uint64_t>(std::filesystem::file_size(file)) + hole;
    std::uint64_t blob = 0;
    std::fstream out(file, std::ios::binary | std::ios::in | std::ios::out);
    out.seekg(32); // Header::blob_size
    out.read(reinterpret_cast<char *>(&blob), sizeof blob);
    blob += hole;
    out.seekp(32);
    out.write(reinterpret_cast<const char *>(&blob), sizeof blob);
    out.close();
    std::filesystem::resize_file(file, size);
    check_frame(open_well(request).engine.get(), 0, {1, 9, 9}, 1, kLogits);
    CHECK_EQUAL(warnings(), 1U);
    check_words(logged.empty() ? "" : logged.back().c_str(), "the model is compiled and cached again");
    logged.clear();
    CHECK(std::filesystem::file_size(file) < size);
}

TEST("a cache that cannot be written is a warning, and weights in other files are not cached") {
    if (!is_openvino())
        return;
    const Folder folder;
    const std::string path = folder.write("model.onnx", onnx()), no_folder = folder.write("file", "") + "/cache";
    Request request(path.c_str());
    request.cache_dir = no_folder.c_str();
    check_frame(open_well(request).engine.get(), 0, {1, 9, 9}, 1, kLogits);
    CHECK_EQUAL(warnings(), 1U);
    check_words(logged.empty() ? "" : logged.back().c_str(), "the compiled model was not cached (");
    logged.clear();

    Graph graph;
    graph.external = true;
    const std::string cache = folder.path + "/cache", external = folder.write("external.onnx", onnx(graph));
    std::string weights(3 * 3 * 9 * sizeof(float), '\0');
    for (std::size_t channel = 0; channel < 3; ++channel) {
        const float one = 1;
        std::memcpy(&weights[(channel * 27 + channel * 9 + 4) * sizeof one], &one, sizeof one);
    }
    folder.write("weights.bin", weights);
    Request other(external.c_str());
    other.cache_dir = cache.c_str();
    check_frame(open_well(other).engine.get(), 0, {1, 9, 9}, 1, kLogits);
    CHECK_EQUAL(files_of(cache).size(), 0U);
}

} // namespace

int main(int argc, char **argv) {
    if (std::getenv("ISA_TEST_BACKEND") == nullptr) {
        std::fprintf(stderr, "ISA_TEST_BACKEND names no backend's shared object\n");
        return 77; // ctest: skipped
    }
    return check::run(argc, argv);
}

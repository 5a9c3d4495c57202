// The TensorRT backend over the stand-in for TensorRT and CUDA (standin/include/standin.h says what that enforces).
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <numeric>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <NvInferRuntime.h>
#include <standin.h>

#include "backend.h"
#include "check.hpp"

namespace {

thread_local bool counting = false;
thread_local long counted = 0;

} // namespace

// Counts what the backend allocates while a test asks for it; the stand-in's own allocations are not the backend's.
void *operator new(std::size_t size) {
    if (counting && !standin::inside())
        ++counted;
    if (void *const memory = std::malloc(std::max<std::size_t>(size, 1)))
        return memory;
    throw std::bad_alloc();
}
void operator delete(void *memory) noexcept {
    std::free(memory);
}
void operator delete(void *memory, std::size_t) noexcept {
    std::free(memory);
}

namespace {

using Bytes = std::vector<std::uint8_t>;
using Counts = std::map<std::string, long>;

const isa_backend_api &api() {
    static const isa_backend_api *const table = [] {
        const char *const path = std::getenv("ISA_TEST_BACKEND");
        void *const library = path == nullptr ? nullptr : dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (library == nullptr) {
            std::fprintf(stderr, "ISA_TEST_BACKEND names no backend: %s\n", path == nullptr ? "unset" : dlerror());
            std::abort();
        }
        return reinterpret_cast<isa_backend_function>(dlsym(library, ISA_BACKEND_SYMBOL))();
    }();
    return *table;
}

std::mutex log_mutex;
std::vector<std::pair<std::int32_t, std::string>> logged;

void take_log(std::int32_t level, const char *message) {
    const std::lock_guard<std::mutex> lock(log_mutex);
    logged.emplace_back(level, message);
}

/// A machine of the test's own, on which nothing may be left in the end.
struct Machine {
    Machine() {
        standin::reset();
        logged.clear();
    }
    ~Machine() {
        CHECK_EQUAL(standin::left().size(), std::size_t{0});
        CHECK_EQUAL(standin::last_error(), cudaSuccess);
        standin::reset();
    }
};

constexpr int kClasses = 5;

struct PlanText {
    std::string library = "tensorrt";
    int version = 101601;
    std::string capability = "8.9";
    bool host_code = false;
    std::string input = "input image uint8 -1x-1x-1x3";
    std::string outputs = "output labels uint8 labels\noutput logits float32 logits";
    std::string profiles = "profile 1x16x16x3 1x64x96x3 3x128x160x3";
    std::string last = "end";

    std::string text() const {
        std::ostringstream out;
        out << "isa-standin-plan 1\nlibrary " << library << "\nversion " << version << "\ncapability " << capability
            << "\nhost_code " << host_code << "\nweights 1000\nclasses " << kClasses << "\n"
            << input << "\n"
            << outputs << "\n"
            << profiles << "\n"
            << last << "\n";
        return out.str();
    }
};

/// The record of a plan, as a manifest has it.
struct Record {
    std::string builder = "tensorrt";
    std::string version = "10.16.1.11";
    std::string capability = "8.9";
    bool any_card = false;
    bool hardware_compatible = false;
    bool version_compatible = false;
};

struct Request {
    PlanText plan;
    bool has_record = false;
    Record record;
    std::string device = "auto";
    bool allow_engine_code = false;
    std::string path = "/nowhere/model.plan";
    bool has_data = true;
};

struct Result {
    isa_status status = ISA_OK;
    std::string message;
};

class Opened {
public:
    explicit Opened(const Request &request = {}) {
        const std::string text = request.plan.text();
        isa_plan_record record{};
        record.builder = request.record.builder.c_str();
        record.builder_version = request.record.version.c_str();
        record.compute_capability = request.record.any_card ? nullptr : request.record.capability.c_str();
        record.plan_sha256 = "0123456789012345678901234567890123456789012345678901234567890123";
        record.hardware_compatible = request.record.hardware_compatible ? 1 : 0;
        record.version_compatible = request.record.version_compatible ? 1 : 0;
        isa_engine_request asked{};
        asked.path = request.path.c_str();
        asked.data = request.has_data ? text.data() : nullptr;
        asked.size = request.has_data ? text.size() : 0;
        asked.plan = request.has_record ? &record : nullptr;
        asked.input = "image";
        asked.labels = "labels";
        asked.logits = "logits";
        asked.graph_precision = "fp16";
        asked.float_type = "fp16";
        asked.device = request.device.c_str();
        asked.precision = "auto";
        asked.schedule = "latency";
        asked.allow_engine_code = request.allow_engine_code ? 1 : 0;
        asked.log = take_log;
        isa_failure failure{};
        result.status = api().open(&asked, &engine, &info, &failure);
        result.message = failure.message;
        if (result.status != ISA_OK && engine != nullptr)
            check::failed(__FILE__, __LINE__, "an open that failed left an engine");
    }
    ~Opened() { close(); }
    Opened(const Opened &) = delete;
    Opened &operator=(const Opened &) = delete;

    void close() {
        api().close(engine);
        engine = nullptr;
    }

    Result result;
    isa_engine *engine = nullptr;
    isa_engine_info info{};
};

Bytes frame(int n, int h, int w, unsigned seed) {
    Bytes bytes(static_cast<std::size_t>(n) * static_cast<std::size_t>(h) * static_cast<std::size_t>(w) * 3);
    unsigned state = seed * 2654435761U + 1;
    for (std::uint8_t &byte : bytes) {
        state = state * 1664525U + 1013904223U;
        byte = static_cast<std::uint8_t>(state >> 24);
    }
    return bytes;
}

Bytes labels_of(const Bytes &image, int n, int h, int w) {
    Bytes labels;
    std::size_t at = 0;
    for (int i = 0; i < n; ++i)
        for (int y = 0; y < h; ++y)
            for (int x = 0; x < w; ++x, at += 3)
                labels.push_back(static_cast<std::uint8_t>(
                    (image[at] + 2 * image[at + 1] + 3 * image[at + 2] + 5 * x + 7 * y) % kClasses));
    return labels;
}

std::vector<float> logits_of(const Bytes &image, int n, int h, int w) {
    std::vector<float> logits;
    for (int i = 0; i < n; ++i)
        for (int c = 0; c < kClasses; ++c)
            for (int y = 0; y < h; y += 4)
                for (int x = 0; x < w; x += 4) {
                    const std::size_t at = static_cast<std::size_t>((i * h + y) * w + x) * 3;
                    logits.push_back(static_cast<float>(image[at]) + static_cast<float>(c * image[at + 1]) / 8.0F -
                                     static_cast<float>(image[at + 2]) / 4.0F);
                }
    return logits;
}

/// Frames of one shape on a slot.
struct Frames {
    int slot;
    int n, h, w;
    unsigned seed;
    std::uint32_t want = ISA_WANT_LABELS;

    Bytes image() const { return frame(n, h, w, seed); }
};

Result give(const Opened &opened, const Frames &frames) {
    isa_failure failure{};
    std::uint8_t *memory = nullptr;
    Result result;
    result.status = api().input(opened.engine, frames.slot, frames.n, frames.h, frames.w, &memory, &failure);
    if (result.status == ISA_OK) {
        const Bytes image = frames.image();
        std::copy(image.begin(), image.end(), memory);
        result.status = api().start(opened.engine, frames.slot, frames.want, &failure);
    }
    result.message = failure.message;
    return result;
}

Result take(const Opened &opened, const Frames &frames) {
    isa_failure failure{};
    isa_engine_answer answer{};
    Result result;
    result.status = api().wait(opened.engine, frames.slot, &answer, &failure);
    result.message = failure.message;
    if (result.status != ISA_OK)
        return result;
    const Bytes image = frames.image();
    CHECK_EQUAL(answer.labels_nhw != nullptr, (frames.want & ISA_WANT_LABELS) != 0);
    CHECK_EQUAL(answer.logits_nchw != nullptr, (frames.want & ISA_WANT_LOGITS) != 0);
    if (answer.labels_nhw != nullptr) {
        CHECK(answer.labels_shape[0] == frames.n && answer.labels_shape[1] == frames.h &&
              answer.labels_shape[2] == frames.w);
        const Bytes wanted = labels_of(image, frames.n, frames.h, frames.w);
        CHECK(std::equal(wanted.begin(), wanted.end(), answer.labels_nhw));
    }
    if (answer.logits_nchw != nullptr) {
        CHECK(answer.logits_shape[0] == frames.n && answer.logits_shape[1] == kClasses &&
              answer.logits_shape[2] == (frames.h + 3) / 4 && answer.logits_shape[3] == (frames.w + 3) / 4);
        const std::vector<float> wanted = logits_of(image, frames.n, frames.h, frames.w);
        CHECK(std::equal(wanted.begin(), wanted.end(), answer.logits_nchw));
    }
    return result;
}

void works(const Result &result) {
    if (result.status != ISA_OK)
        check::failed(__FILE__, __LINE__, "failed: " + result.message);
}

void run(const Opened &opened, const Frames &frames) {
    const Result given = give(opened, frames);
    works(given);
    if (given.status == ISA_OK)
        works(take(opened, frames));
}

void refused(const Result &result, isa_status status, const std::string &words) {
    CHECK_EQUAL(result.status, status);
    if (result.message.find(words) == std::string::npos)
        check::failed(__FILE__, __LINE__, "message lacks '" + words + "': " + result.message);
    CHECK(result.message.find('\n') == std::string::npos);
}

Counts grown(const Counts &before, const Counts &now) {
    Counts made;
    for (const auto &[name, count] : now) {
        const auto found = before.find(name);
        const long more = count - (found == before.end() ? 0 : found->second);
        if (more != 0)
            made[name] = more;
    }
    return made;
}

long called(const std::string &name) {
    const Counts calls = standin::calls();
    const auto found = calls.find(name);
    return found == calls.end() ? 0 : found->second;
}

long logged_with(std::int32_t level, const std::string &words) {
    return std::count_if(logged.begin(), logged.end(), [&](const auto &each) {
        return each.first == level && each.second.find(words) != std::string::npos;
    });
}

/// Frames on the GPU, with what they are expected to give.
class DeviceFrames {
public:
    DeviceFrames(int n, int h, int w, unsigned seed, int padding = 0, std::size_t image_offset = 0,
                 std::size_t labels_offset = 0, int device = 0, bool managed = false) {
        const Bytes image = frame(n, h, w, seed);
        wanted_ = labels_of(image, n, h, w);
        Bytes padded;
        const auto row = static_cast<std::size_t>(w) * 3;
        for (std::size_t y = 0; y < static_cast<std::size_t>(n) * static_cast<std::size_t>(h); ++y) {
            padded.insert(padded.end(), image.begin() + static_cast<std::ptrdiff_t>(y * row),
                          image.begin() + static_cast<std::ptrdiff_t>((y + 1) * row));
            padded.insert(padded.end(), static_cast<std::size_t>(padding), std::uint8_t{77});
        }
        image_ = standin::allocate(padded, device, managed, image_offset);
        labels_ = standin::allocate(Bytes(wanted_.size(), 99), device, managed, labels_offset);
        call = {image_, static_cast<std::ptrdiff_t>(w) * 3 + padding, n, h, w, labels_, nullptr};
    }
    ~DeviceFrames() {
        standin::release(image_);
        standin::release(labels_);
    }
    DeviceFrames(const DeviceFrames &) = delete;
    DeviceFrames &operator=(const DeviceFrames &) = delete;

    Result run(const Opened &opened, cudaStream_t stream) {
        call.stream = stream;
        isa_failure failure{};
        Result result;
        result.status = api().run_device(opened.engine, &call, &failure);
        result.message = failure.message;
        return result;
    }

    /// After the stream was synchronised.
    void check_labels() const { CHECK(standin::read(labels_, wanted_.size()) == wanted_); }

    isa_device_call call{};

private:
    Bytes wanted_;
    void *image_ = nullptr;
    void *labels_ = nullptr;
};

/// A caller's stream.
class CallersStream {
public:
    CallersStream() {
        if (cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking) != cudaSuccess) // where every call fails once
            (void)cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking);
    }
    ~CallersStream() {
        (void)cudaStreamSynchronize(stream_);
        (void)cudaStreamDestroy(stream_);
    }
    CallersStream(const CallersStream &) = delete;
    CallersStream &operator=(const CallersStream &) = delete;
    cudaStream_t get() const { return stream_; }
    void synchronize() const { (void)cudaStreamSynchronize(stream_); }

private:
    cudaStream_t stream_ = nullptr;
};

// What is opened

TEST("an opened plan says what it is") {
    const Machine machine;
    CHECK_EQUAL(std::string(api().library), "TensorRT 10.16.1");
    CHECK_EQUAL(std::string(api().name), "tensorrt");
    const Opened opened;
    works(opened.result);
    CHECK_EQUAL(std::string(opened.info.precision), "fp16");
    CHECK_EQUAL(std::string(opened.info.device), "cuda:0 (Stand-in GPU)");
    CHECK_EQUAL(opened.info.fast_argmax, 1);
    CHECK_EQUAL(opened.info.slots, 2);
    CHECK_EQUAL(opened.info.tensor_count, 3);
    const isa_tensor &image = opened.info.tensors[0];
    CHECK_EQUAL(std::string(image.name), "image");
    CHECK(image.is_input == 1 && image.dtype == ISA_DTYPE_UINT8 && image.rank == 4 && image.shape[1] == -1 &&
          image.shape[3] == 3);
    const isa_tensor &logits = opened.info.tensors[2];
    CHECK_EQUAL(std::string(logits.dtype_name), "float32");
    CHECK(logits.is_input == 0 && logits.dtype == ISA_DTYPE_FLOAT32 && logits.rank == 4 && logits.shape[1] == kClasses);
}

TEST("a machine with a GPU is available and one without is not") {
    const Machine machine;
    isa_failure failure{};
    CHECK_EQUAL(api().available("auto", &failure), ISA_OK);
    CHECK_EQUAL(api().available("0", &failure), ISA_OK);
    CHECK_EQUAL(called("createInferRuntime"), 0);
    const auto is_refused = [&](const char *device, isa_status status, const char *words) {
        refused({api().available(device, &failure), failure.message}, status, words);
    };
    is_refused("1", ISA_ERROR_INPUT, "device 1 is no GPU of this machine, which has 1 (0 to 0)");
    is_refused("cpu", ISA_ERROR_INPUT, "a plan runs on a GPU, not on device cpu");
    for (const char *device : {"gpu", "-1", "1x", "", "99999999999"})
        is_refused(device, ISA_ERROR_INPUT, "is none; give auto, cuda or a GPU's number");
    standin::knobs().tensorrt_version = 100200;
    is_refused("auto", ISA_ERROR_BACKEND_UNAVAILABLE, "TensorRT 10.2.0 is too old, 10.3 is the oldest that works");
    standin::knobs() = {};
    standin::knobs().device_count = 0;
    is_refused("auto", ISA_ERROR_BACKEND_UNAVAILABLE,
               "this machine has no NVIDIA GPU that CUDA sees; run the graph (.onnx) on the CPU");
    standin::knobs() = {};
    standin::knobs().driver_too_old = true;
    is_refused("auto", ISA_ERROR_BACKEND_UNAVAILABLE,
               "the NVIDIA driver is missing or too old for CUDA 13.5 (the driver has 11.4); install a newer driver");
}

// Answers

TEST("labels and logits are the engine's, plainly and as a graph") {
    const Machine machine;
    const Opened opened;
    for (unsigned seed = 0; seed < 4; ++seed) {
        run(opened, {0, 1, 64, 96, seed});
        run(opened, {0, 1, 64, 96, seed + 10, ISA_WANT_LABELS | ISA_WANT_LOGITS});
        run(opened, {0, 1, 64, 96, seed + 20, ISA_WANT_LOGITS});
    }
}

TEST("frames on two slots are right in whichever order they are waited for") {
    const Machine machine;
    const Opened opened;
    for (unsigned turn = 0; turn < 6; ++turn) {
        const Frames first{0, 1, 64, 96, turn};
        const Frames second{1, 1, 64, 96, turn + 100, ISA_WANT_LABELS | ISA_WANT_LOGITS};
        works(give(opened, first));
        works(give(opened, second));
        works(take(opened, turn % 2 == 0 ? first : second));
        works(take(opened, turn % 2 == 0 ? second : first));
    }
    // as in a video: there is always one under way
    works(give(opened, {0, 1, 64, 96, 0}));
    for (unsigned number = 1; number < 8; ++number) {
        works(give(opened, {static_cast<int>(number % 2), 1, 64, 96, number}));
        works(take(opened, {static_cast<int>((number - 1) % 2), 1, 64, 96, number - 1}));
    }
    works(take(opened, {1, 1, 64, 96, 7}));
}

TEST("an answer stays while the other slot works") {
    const Machine machine;
    const Opened opened;
    const Frames first{0, 1, 64, 96, 1};
    works(give(opened, first));
    isa_engine_answer answer{};
    CHECK_EQUAL(api().wait(opened.engine, 0, &answer, nullptr), ISA_OK);
    run(opened, {1, 1, 64, 96, 2});
    run(opened, {1, 1, 128, 160, 3}); // the scratch memory grows
    const Bytes wanted = labels_of(first.image(), 1, 64, 96);
    CHECK(std::equal(wanted.begin(), wanted.end(), answer.labels_nhw));
}

TEST("batches and shapes back and forth are right, and each shape's context is kept") {
    const Machine machine;
    const Opened opened;
    for (unsigned turn = 0; turn < 4; ++turn)
        for (const auto &[n, h, w] : {std::array<int, 3>{3, 64, 96}, {1, 64, 96}, {2, 17, 33}, {1, 128, 160}})
            for (int slot = 0; slot < 2; ++slot)
                run(opened, {slot, n, h, w, turn * 7 + static_cast<unsigned>(n), ISA_WANT_LABELS | ISA_WANT_LOGITS});
    CHECK_EQUAL(called("createExecutionContext"), 8); // 4 shapes on 2 slots
}

TEST("of many shapes the ones used last are kept") {
    const Machine machine;
    const Opened opened;
    for (int turn = 0; turn < 3; ++turn)
        for (int h = 20; h < 27; ++h)
            run(opened, {0, 1, h, 40, static_cast<unsigned>(h + turn)});
    const long made = called("createExecutionContext");
    CHECK_EQUAL(made, 21);
    for (int h = 23; h < 27; ++h)
        run(opened, {0, 1, h, 40, 5});
    CHECK_EQUAL(called("createExecutionContext"), made);
    CHECK(standin::left().size() < 60);
}

TEST("scratch memory grows under captured graphs and frames under way") {
    const Machine machine;
    const Opened opened;
    for (unsigned turn = 0; turn < 3; ++turn) {
        run(opened, {0, 1, 32, 32, turn});
        run(opened, {1, 1, 32, 32, turn});
    }
    const long launches = called("cudaGraphLaunch");
    CHECK_EQUAL(launches, 4);
    const Frames small{0, 1, 32, 32, 50};
    const Frames large{1, 3, 128, 160, 51};
    works(give(opened, small));
    works(give(opened, large));
    works(take(opened, large));
    works(take(opened, small));
    for (unsigned turn = 0; turn < 3; ++turn) {
        run(opened, {0, 1, 32, 32, turn + 60});
        run(opened, {1, 1, 32, 32, turn + 70});
    }
    CHECK_EQUAL(called("cudaGraphLaunch"), launches + 1 + 4); // each is run plainly once, then captured anew
}

TEST("the largest batch is what a profile takes with any fewer, and no number where it takes no fewer") {
    const Machine machine;
    const auto largest = [](const char *least, const char *most) {
        Request request;
        request.plan.profiles =
            std::string("profile ") + least + "x16x16x3 " + most + "x64x96x3 " + most + "x64x96x3\n";
        const Opened opened(request);
        works(opened.result);
        return api().largest_batch(opened.engine, 64, 96);
    };
    CHECK_EQUAL(largest("1", "4"), 4);
    CHECK_EQUAL(largest("1", "1"), 1);
    CHECK_EQUAL(largest("2", "2"), 0);
    CHECK_EQUAL(largest("2", "4"), 0);
}

TEST("a fixed plan has no profiles to ask for") {
    const Machine machine;
    Request request;
    request.plan.input = "input image uint8 2x64x96x3";
    request.plan.profiles = "";
    const Opened opened(request);
    works(opened.result);
    run(opened, {0, 2, 64, 96, 1});
    refused(give(opened, {0, 1, 64, 96, 1}), ISA_ERROR_INPUT,
            "frames of 1x64x96 (batch x height x width) are outside of what this plan was built for: 2x64x96; use "
            "--resize, or build it with --min-shape and --max-shape that hold them");
    CHECK_EQUAL(api().largest_batch(opened.engine, 64, 96), 0); // none that also takes fewer
}

TEST("the profile is picked by the shape: of those that hold it, the one tuned for the nearest size") {
    const Machine machine;
    Request request;
    request.plan.profiles = "profile 1x64x64x3 1x256x512x3 1x256x512x3\nprofile 1x16x16x3 1x64x96x3 3x128x160x3";
    const Opened opened(request);
    for (const auto &[h, w] : {std::pair<int, int>{16, 16}, {256, 512}, {100, 100}, {128, 160}, {200, 128}})
        run(opened, {0, 1, h, w, 3});
    CHECK((standin::profiles() == std::vector<int>{1, 0, 1, 1, 0}));
    CHECK_EQUAL(api().largest_batch(opened.engine, 100, 100), 3);
    CHECK_EQUAL(api().largest_batch(opened.engine, 256, 512), 1);
    for (const auto &[n, h, w] : {std::array<int, 3>{1, 15, 40},
                                  {1, 256, 513},
                                  {2, 200, 100},
                                  {4, 64, 96},
                                  {0, 64, 96},
                                  {-1, 64, 96},
                                  {1, 0, 96},
                                  {1, 64, 2147483647}})
        refused(give(opened, {0, n, h, w, 1}), ISA_ERROR_INPUT,
                "outside of what this plan was built for: 1x64x64 to 1x256x512, 1x16x16 to 3x128x160; use --resize");
    run(opened, {0, 1, 16, 16, 3});
}

// What it costs

TEST("only the wanted outputs are copied back") {
    const Machine machine;
    Request request;
    request.plan.outputs += "\noutput confidence uint8 other";
    const Opened opened(request);
    run(opened, {0, 1, 64, 96, 1});
    run(opened, {0, 1, 64, 96, 1, ISA_WANT_LOGITS});
    run(opened, {0, 1, 64, 96, 1, ISA_WANT_LABELS | ISA_WANT_LOGITS});
    CHECK((standin::copies() == std::vector<std::string>{"up 18432", "down 6144", "up 18432", "down 7680", "up 18432",
                                                         "down 6144", "down 7680"}));
}

TEST("a graph is captured after one plain run, once for a slot and shape") {
    const Machine machine;
    const Opened opened;
    long shapes = 0;
    for (const int h : {64, 32}) {
        for (int slot = 0; slot < 2; ++slot) {
            for (unsigned seed = 0; seed < 6; ++seed)
                run(opened, {slot, 1, h, 96, seed});
            ++shapes;
            CHECK_EQUAL(called("cudaStreamBeginCapture"), shapes);
            CHECK_EQUAL(called("cudaGraphInstantiateWithFlags"), shapes);
            CHECK_EQUAL(called("enqueueV3"), 2 * shapes);
            CHECK_EQUAL(called("cudaGraphLaunch"), 5 * shapes);
        }
    }
}

TEST("a frame of a known shape costs a graph launch, two copies and one wait, and allocates nothing") {
    const Machine machine;
    const Opened opened;
    const auto pass = [&](unsigned seed) {
        for (const auto &[h, w] : {std::pair<int, int>{64, 96}, {32, 40}})
            for (int slot = 0; slot < 2; ++slot) {
                isa_failure failure{};
                std::uint8_t *memory = nullptr;
                isa_engine_answer answer{};
                CHECK_EQUAL(api().input(opened.engine, slot, 1, h, w, &memory, &failure), ISA_OK);
                std::memset(memory, static_cast<int>(seed), static_cast<std::size_t>(h * w * 3));
                CHECK_EQUAL(api().start(opened.engine, slot, ISA_WANT_LABELS, &failure), ISA_OK);
                CHECK_EQUAL(api().wait(opened.engine, slot, &answer, &failure), ISA_OK);
                CHECK_EQUAL(static_cast<unsigned>(answer.labels_nhw[0]), seed * 6 % kClasses);
            }
    };
    pass(1);
    pass(2);
    const Counts before = standin::calls();
    counted = 0;
    counting = true;
    pass(3);
    counting = false;
    CHECK_EQUAL(counted, 0);
    const Counts made = grown(before, standin::calls());
    const Counts wanted = {{"cudaEventRecord", 12}, {"cudaEventSynchronize", 4}, {"cudaGetDevice", 8},
                           {"cudaGraphLaunch", 4},  {"cudaMemcpyAsync", 8},      {"cudaStreamWaitEvent", 8}};
    for (const auto &[name, count] : made)
        if (wanted.count(name) == 0 || wanted.at(name) != count)
            check::failed(__FILE__, __LINE__, name + " was called " + std::to_string(count) + " times");
    CHECK(made == wanted);
}

TEST("the host does not wait when it gives a frame") {
    const Machine machine;
    const Opened opened;
    for (unsigned seed = 0; seed < 2; ++seed)
        for (int slot = 0; slot < 2; ++slot)
            run(opened, {slot, 1, 64, 96, seed});
    const Counts before = standin::calls();
    works(give(opened, {0, 1, 64, 96, 8}));
    works(give(opened, {1, 1, 64, 96, 9}));
    const Counts made = grown(before, standin::calls());
    CHECK(made.count("cudaEventSynchronize") == 0 && made.count("cudaStreamSynchronize") == 0);
    works(take(opened, {0, 1, 64, 96, 8}));
    works(take(opened, {1, 1, 64, 96, 9}));
}

TEST("an engine that cannot be captured runs without a graph, and one warning says so") {
    const Machine machine;
    standin::knobs().refuse_capture = true;
    const Opened opened;
    for (unsigned seed = 0; seed < 8; ++seed)
        for (int slot = 0; slot < 2; ++slot)
            run(opened, {slot, 1, 64, 96, seed});
    CHECK_EQUAL(called("cudaStreamBeginCapture"), 6); // three tries on each slot, and no more
    CHECK_EQUAL(called("cudaGraphLaunch"), 0);
    CHECK_EQUAL(logged_with(ISA_LOG_WARNING, "TensorRT 10.16.1 cannot put this engine into a CUDA graph; frames run "
                                             "without one, which costs the host more time for each"),
                1);
}

// Frames on the GPU

TEST("frames on the GPU give the labels on the caller's stream without the host waiting") {
    const Machine machine;
    const Opened opened;
    {
        const CallersStream stream;
        DeviceFrames first(1, 64, 96, 1);
        DeviceFrames second(1, 64, 96, 2);
        works(first.run(opened, stream.get()));
        const Counts before = standin::calls();
        const std::size_t copies = standin::copies().size();
        counted = 0;
        counting = true;
        const Result result = second.run(opened, stream.get());
        counting = false;
        works(result);
        CHECK(counted <= 1); // the result's own message
        const Counts made = grown(before, standin::calls());
        for (const char *name : {"cudaEventSynchronize", "cudaStreamSynchronize", "cudaMalloc", "cudaMemcpy2DAsync"})
            CHECK_EQUAL(made.count(name), std::size_t{0});
        CHECK_EQUAL(standin::copies().size(), copies); // read and written where they lie
        CHECK_EQUAL(made.at("enqueueV3"), 1);
        stream.synchronize();
        first.check_labels();
        second.check_labels();
    }
}

TEST("rows apart, and addresses that TensorRT does not take, are copied on the GPU") {
    const Machine machine;
    const Opened opened;
    {
        const CallersStream stream;
        DeviceFrames pitched(2, 64, 96, 1, 24);
        DeviceFrames odd_image(2, 64, 96, 2, 0, 3);
        DeviceFrames odd_labels(2, 64, 96, 3, 0, 0, 7);
        for (DeviceFrames *each : {&pitched, &odd_image, &odd_labels})
            works(each->run(opened, stream.get()));
        stream.synchronize();
        for (DeviceFrames *each : {&pitched, &odd_image, &odd_labels})
            each->check_labels();
        CHECK((standin::copies() == std::vector<std::string>{"within 36864", "within 36864", "within 12288"}));
    }
}

TEST("frames on changing streams follow each other, the default stream too") {
    const Machine machine;
    standin::knobs().default_stream_allowed = true;
    const Opened opened;
    {
        DeviceFrames first(1, 64, 96, 1, 8), second(1, 64, 96, 2, 8), third(1, 64, 96, 3, 8), larger(3, 128, 160, 4);
        {
            const CallersStream one;
            const CallersStream two;
            works(first.run(opened, one.get()));
            works(second.run(opened, two.get()));
            works(third.run(opened, nullptr));
            works(larger.run(opened, one.get()));
            works(first.run(opened, two.get()));
            (void)cudaStreamSynchronize(nullptr);
        }
        works(second.run(opened, nullptr)); // both are gone now
        (void)cudaStreamSynchronize(nullptr);
        for (DeviceFrames *each : {&first, &second, &third, &larger})
            each->check_labels();
    }
}

TEST("frames of the host and of the GPU take turns") {
    const Machine machine;
    const Opened opened;
    {
        const CallersStream stream;
        DeviceFrames frames(1, 64, 96, 1, 4);
        DeviceFrames others(1, 40, 50, 2);
        for (unsigned turn = 0; turn < 4; ++turn) {
            works(give(opened, {0, 1, 64, 96, turn}));
            works(frames.run(opened, stream.get()));
            works(give(opened, {1, 1, 128, 160, turn}));
            works(others.run(opened, stream.get()));
            works(take(opened, {1, 1, 128, 160, turn}));
            works(take(opened, {0, 1, 64, 96, turn}));
        }
        stream.synchronize();
        frames.check_labels();
        others.check_labels();
    }
}

TEST("many shapes on the GPU come and go") {
    const Machine machine;
    const Opened opened;
    {
        const CallersStream stream;
        for (int turn = 0; turn < 2; ++turn)
            for (int h = 20; h < 27; ++h) {
                DeviceFrames frames(1, h, 40, 1, 4);
                works(frames.run(opened, stream.get()));
                stream.synchronize();
                frames.check_labels();
            }
    }
}

TEST("shapes on the GPU that go are waited for") {
    const Machine machine;
    const Opened opened;
    {
        const CallersStream stream;
        std::vector<std::unique_ptr<DeviceFrames>> all;
        for (int h = 40; h > 20; h -= 2) { // smaller ones: the scratch memory stays
            all.push_back(std::make_unique<DeviceFrames>(1, h, 40, static_cast<unsigned>(h), 4));
            works(all.back()->run(opened, stream.get()));
        }
        stream.synchronize();
        for (const auto &each : all)
            each->check_labels();
    }
}

TEST("what is left of a call that failed is waited for by one on another stream") {
    const Machine machine;
    const Opened opened;
    {
        const CallersStream one;
        const CallersStream two;
        DeviceFrames first(1, 64, 96, 1, 8);
        DeviceFrames second(1, 64, 96, 2, 8);
        standin::fail("enqueueV3", 1); // after the rows were packed
        refused(first.run(opened, one.get()), ISA_ERROR_ENGINE, "failed on a frame");
        (void)cudaGetLastError();
        works(second.run(opened, two.get()));
        two.synchronize();
        second.check_labels();
    }
}

TEST("what is no frame on this GPU is refused") {
    const Machine machine;
    standin::knobs().device_count = 2;
    Request request;
    const Opened opened(request);
    {
        const CallersStream stream;
        DeviceFrames good(1, 64, 96, 1);
        DeviceFrames elsewhere(1, 64, 96, 1, 0, 0, 0, 1);
        DeviceFrames managed(1, 64, 96, 5, 0, 0, 0, 1, true);
        std::uint8_t *pinned = nullptr;
        CHECK_EQUAL(api().input(opened.engine, 0, 1, 64, 96, &pinned, nullptr), ISA_OK);
        const auto with = [&](const auto &change) {
            const isa_device_call before = good.call;
            change(good.call);
            const Result result = good.run(opened, stream.get());
            good.call = before;
            return result;
        };
        int local = 0;
        refused(with([&](auto &call) { call.image = &local; }), ISA_ERROR_INPUT,
                "is no memory of a GPU; use isa_segment for frames in the host's memory");
        refused(with([&](auto &call) { call.image = pinned; }), ISA_ERROR_INPUT, "the frame's address 0x");
        refused(with([&](auto &call) { call.image = nullptr; }), ISA_ERROR_INPUT, "is no memory of a GPU");
        refused(with([&](auto &call) { call.labels = pinned; }), ISA_ERROR_INPUT,
                "is no memory of a GPU; give device memory of count * height * width bytes");
        refused(with([&](auto &call) { call.image = elsewhere.call.image; }), ISA_ERROR_INPUT,
                "the frame's address is on GPU 1 and this engine on GPU 0; open it with device 1");
        refused(with([&](auto &call) { call.labels = elsewhere.call.labels; }), ISA_ERROR_INPUT, "is on GPU 1");
        refused(with([](auto &call) { call.row_stride = 287; }), ISA_ERROR_INPUT,
                "row_stride 287 is less than the 288 bytes of a row");
        refused(with([](auto &call) { call.row_stride = -288; }), ISA_ERROR_INPUT, "row_stride -288 is less than");
        refused(with([](auto &call) { call.h = 0; }), ISA_ERROR_INPUT, "must have pixels, not 1x0x96");
        refused(with([](auto &call) { call.h = 8; }), ISA_ERROR_INPUT, "frames of 1x8x96 (batch x height x width) are");
        (void)cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal);
        refused(good.run(opened, stream.get()), ISA_ERROR_INPUT, "is being captured into a CUDA graph");
        cudaGraph_t graph = nullptr;
        (void)cudaStreamEndCapture(stream.get(), &graph);
        (void)cudaGraphDestroy(graph);
        works(managed.run(opened, stream.get()));
        works(good.run(opened, stream.get()));
        stream.synchronize();
        managed.check_labels();
        good.check_labels();
    }
}

TEST("labels of another size than the frames' are never written into the caller's memory") {
    const Machine machine;
    Request request;
    request.plan.outputs = "output labels uint8 narrow\noutput logits float32 logits";
    const Opened opened(request);
    works(opened.result);
    {
        const CallersStream stream;
        DeviceFrames frames(1, 64, 96, 1);
        refused(frames.run(opened, stream.get()), ISA_ERROR_ENGINE,
                "the plan's labels are 1x64x95 for frames of 1x64x96");
    }
}

// GPUs

TEST("everything is on the GPU that was asked for, and the caller's stays current") {
    const Machine machine;
    standin::knobs().device_count = 3;
    (void)cudaSetDevice(2);
    const auto current = [] {
        int device = -1;
        (void)cudaGetDevice(&device);
        return device;
    };
    {
        Request request;
        request.device = "1";
        const Opened opened(request);
        works(opened.result);
        CHECK_EQUAL(std::string(opened.info.device), "cuda:1 (Stand-in GPU)");
        CHECK_EQUAL(current(), 2);
        DeviceFrames frames(1, 64, 96, 1, 0, 0, 0, 1);
        for (unsigned seed = 0; seed < 3; ++seed) {
            run(opened, {0, 1, 64, 96, seed});
            CHECK_EQUAL(current(), 2);
        }
        refused(give(opened, {0, 1, 5, 5, 0}), ISA_ERROR_INPUT, "outside");
        CHECK_EQUAL(current(), 2);
        (void)cudaSetDevice(1);
        cudaStream_t stream = nullptr;
        (void)cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
        (void)cudaSetDevice(2);
        works(frames.run(opened, stream));
        CHECK_EQUAL(current(), 2);
        (void)cudaStreamSynchronize(stream);
        (void)cudaStreamDestroy(stream);
        frames.check_labels();
        CHECK((standin::devices_used() == std::vector<int>{1}));
        works(give(opened, {0, 1, 64, 96, 1}));
    }
    CHECK_EQUAL(current(), 2);
}

TEST("a GPU that cannot be made current again leaves the labels") {
    const Machine machine;
    standin::knobs().device_count = 2;
    const Opened opened;
    (void)cudaSetDevice(1);
    standin::knobs().device_count = 1; // the other one has gone
    run(opened, {0, 1, 64, 96, 1});
}

// Refusals

TEST("a plan that its record rules out is refused before TensorRT sees it") {
    const Machine machine;
    const auto opening = [](const auto &change) {
        Request request;
        request.has_record = true;
        change(request);
        return Opened(request).result;
    };
    refused(opening([](Request &r) { r.record.version_compatible = true; }), ISA_ERROR_ENGINE,
            "/nowhere/model.plan: a version-compatible plan carries code that runs on this machine's processor; if you "
            "built it or trust who did, allow it with --allow-engine-code");
    refused(opening([](Request &r) { r.record.builder = "tensorrt_rtx"; }), ISA_ERROR_BACKEND_UNAVAILABLE,
            "/nowhere/model.plan: is a plan of TensorRT-RTX 10.16.1.11, and this is TensorRT 10.16.1; build it again "
            "here: isa-export GRAPH --plan");
    refused(opening([](Request &r) { r.record.builder = "other"; }), ISA_ERROR_ENGINE_INCOMPATIBLE,
            "was built with other 10.16.1.11 and this is tensorrt 10.16.1");
    for (const char *version : {"10.12.0.36", "11.0.0", "10.16.2", "9"})
        refused(opening([&](Request &r) { r.record.version = version; }), ISA_ERROR_ENGINE_INCOMPATIBLE,
                "was built with tensorrt " + std::string(version) +
                    " and this is tensorrt 10.16.1; build it again here: isa-export GRAPH --plan");
    refused(opening([](Request &r) { r.record.version = "new"; }), ISA_ERROR_ENGINE,
            "version 'new' does not begin with numbers");
    refused(opening([](Request &r) { r.record.capability = "9.0"; }), ISA_ERROR_ENGINE_INCOMPATIBLE,
            "was built for compute capability 9.0 and this card is Stand-in GPU (compute capability 8.9); build it "
            "again here");
    const auto on_old_card = [&](bool hardware_compatible, bool any_card) {
        standin::knobs().capability_major = 7;
        standin::knobs().capability_minor = 5;
        const Result result = opening([&](Request &r) {
            r.record.hardware_compatible = hardware_compatible;
            r.record.any_card = any_card;
        });
        standin::knobs() = {};
        return result;
    };
    refused(on_old_card(true, false), ISA_ERROR_ENGINE_INCOMPATIBLE,
            "was built for compute capability 8.0 or later and this card is Stand-in GPU (compute capability 7.5)");
    refused(on_old_card(false, true), ISA_ERROR_ENGINE_INCOMPATIBLE, "8.0 or later");
    CHECK_EQUAL(called("deserializeCudaEngine"), 0);
    CHECK_EQUAL(called("createInferRuntime"), 0);
    for (const char *version : {"10.16.1.11", "10.16.1", "10.16", "10.16.1.99", "10.16.1rc2"})
        works(opening([&](Request &r) { r.record.version = version; }));
    works(opening([](Request &r) {
        r.record.capability = "12.0";
        r.record.hardware_compatible = true;
    }));
    works(opening([](Request &r) { r.record.any_card = true; }));
}

TEST("code of a version-compatible plan runs only where it is allowed") {
    const Machine machine;
    Request request;
    request.has_record = true;
    request.record.version = "10.14.0.1";
    request.record.version_compatible = true;
    request.plan.version = 101400;
    request.plan.host_code = true;
    request.allow_engine_code = true;
    {
        const Opened opened(request);
        works(opened.result);
        run(opened, {0, 1, 64, 96, 1});
    }
    request.record.version = "10.17.0.1";
    refused(Opened(request).result, ISA_ERROR_ENGINE_INCOMPATIBLE, "was built with tensorrt 10.17.0.1");
    // where nobody recorded it, TensorRT itself is told no
    request.has_record = false;
    request.allow_engine_code = false;
    refused(Opened(request).result, ISA_ERROR_ENGINE_INCOMPATIBLE, "engine host code is not allowed");
}

TEST("what TensorRT refuses is told in its words, with what the plan was built for") {
    const Machine machine;
    Request request;
    request.plan.last = "";
    refused(Opened(request).result, ISA_ERROR_ENGINE_INCOMPATIBLE,
            "/nowhere/model.plan: TensorRT 10.16.1 on Stand-in GPU (compute capability 8.9) refuses the plan "
            "(IRuntime::deserializeCudaEngine: Error Code 1: Serialization");
    refused(Opened(request).result, ISA_ERROR_ENGINE_INCOMPATIBLE,
            "does not match)); its manifest does not say by what it was built; build it again here: isa-export GRAPH");
    CHECK(logged_with(ISA_LOG_ERROR, "magicTagRead") >= 1);
    CHECK(logged_with(ISA_LOG_INFO, "Loaded engine size") >= 1);
    {
        logged.clear();
        const Opened one;
        request.plan.profiles += "\n";
        const Opened refused_beside_it(request);
        CHECK_EQUAL(logged_with(ISA_LOG_INFO, "Loaded engine size"), 2); // once for each, however many engines live
    }
    request.has_record = true;
    refused(Opened(request).result, ISA_ERROR_ENGINE_INCOMPATIBLE,
            "it is of tensorrt 10.16.1.11 for compute capability 8.9; build it again here");
    request = {};
    request.has_data = false;
    refused(Opened(request).result, ISA_ERROR_INPUT,
            "/nowhere/model.plan: TensorRT runs plans; build one with isa-exp");
    request = {};
    request.device = "cpu";
    refused(Opened(request).result, ISA_ERROR_INPUT,
            "/nowhere/model.plan: a plan runs on a GPU, not on device cpu; give the graph, model.onnx");
    request.device = "7";
    refused(Opened(request).result, ISA_ERROR_INPUT, "device 7 is no GPU of this machine, which has 1 (0 to 0)");
    standin::knobs().device_memory = 900;
    refused(Opened().result, ISA_ERROR_OUT_OF_MEMORY,
            "/nowhere/model.plan: out of device memory while the plan was loaded (Requested amount of GPU memory (1000 "
            "bytes) could not be allocated.");
    standin::knobs() = {};
    standin::fail("createInferRuntime", 1);
    refused(Opened().result, ISA_ERROR_BACKEND_UNAVAILABLE,
            "TensorRT 10.16.1 cannot use the GPU (createInferRuntime: Error Code 6: API Usage Error (CUDA "
            "initialization failure)); install the driver that this version asks for");
    (void)cudaGetLastError();
}

TEST("a plan with other tensors than ours is refused") {
    const Machine machine;
    const auto opening = [](const char *input, const char *outputs) {
        Request request;
        request.plan.input = input;
        request.plan.outputs = outputs;
        return Opened(request).result;
    };
    const char *const image = "input image uint8 -1x-1x-1x3";
    const char *const ours = "output labels uint8 labels\noutput logits float32 logits";
    refused(opening(image, "output labels uint8 labels\noutput logits float32 logits\noutput more int64 other"),
            ISA_ERROR_ENGINE, "/nowhere/model.plan: more is int64, which none of ours is; build it from our graph");
    refused(opening(image, "output labels uint8 labels\noutput logits float32 logits\noutput more fp8 other"),
            ISA_ERROR_ENGINE, "more is DataType.6, which none of ours is");
    refused(opening("input image uint8 -1x-1x-1x3\ninput mask uint8 -1x-1x-1x3", ours), ISA_ERROR_ENGINE,
            "the plan has 2 inputs, and ours have one; build it from our graph");
    // the core tells of what the manifest names; should it not, nothing of it runs
    for (const char *outputs : {"output labels int32 labels\noutput logits float32 logits",
                                "output labels uint8 flat\noutput logits float32 logits",
                                "output labels uint8 labels\noutput logits float16 logits"}) {
        Request request;
        request.plan.outputs = outputs;
        const Opened opened(request);
        works(opened.result);
        refused(give(opened, {0, 1, 64, 96, 1}), ISA_ERROR_ENGINE, "which none of ours is");
    }
    Request request;
    request.plan.input = "input image float32 -1x-1x-1x3";
    const Opened opened(request);
    works(opened.result);
    CHECK_EQUAL(opened.info.tensors[0].dtype, ISA_DTYPE_FLOAT32);
    refused(give(opened, {0, 1, 64, 96, 1}), ISA_ERROR_ENGINE, "image is float32 of 4 axes, which none of ours is");
}

TEST("calls out of order are defects that are told") {
    const Machine machine;
    const Opened opened;
    isa_failure failure{};
    isa_engine_answer answer{};
    std::uint8_t *memory = nullptr;
    const auto is_defect = [&](isa_status status) { CHECK_EQUAL(status, ISA_ERROR_INTERNAL); };
    is_defect(api().input(opened.engine, 2, 1, 64, 96, &memory, &failure));
    is_defect(api().input(opened.engine, -1, 1, 64, 96, &memory, &failure));
    is_defect(api().start(opened.engine, 0, ISA_WANT_LABELS, &failure));
    is_defect(api().wait(opened.engine, 0, &answer, &failure));
    works(give(opened, {0, 1, 64, 96, 1}));
    is_defect(api().start(opened.engine, 0, ISA_WANT_LABELS, &failure));
    is_defect(api().input(opened.engine, 0, 1, 64, 96, &memory, &failure));
    works(take(opened, {0, 1, 64, 96, 1}));
    is_defect(api().wait(opened.engine, 0, &answer, &failure));
    is_defect(api().start(opened.engine, 0, 0, &failure));
    is_defect(api().start(opened.engine, 0, 8, &failure));
    run(opened, {0, 1, 64, 96, 1});
}

// Memory

TEST("too little memory for large frames is told, and leaves smaller ones and answers under way") {
    const Machine machine;
    const Opened opened;
    const Frames small{0, 1, 32, 32, 1};
    const Frames large{1, 3, 128, 160, 2};
    works(give(opened, small));
    standin::knobs().device_memory = standin::device_bytes() + 200000;
    const Result result = give(opened, large);
    refused(
        result, ISA_ERROR_OUT_OF_MEMORY,
        "out of device memory on GPU 0: 1 MiB more are needed for the activations of 3x128x160 frames, and 1 of its "
        "1 MiB are free; use a smaller --resize, or end other programs");
    works(take(opened, small));
    for (unsigned seed = 0; seed < 3; ++seed)
        run(opened, {static_cast<int>(seed % 2), 1, 32, 32, seed});
    standin::knobs().device_memory = std::size_t{1} << 30;
    run(opened, large);
}

TEST("the buffers of other shapes give way to a frame that lacks memory, and come again") {
    const Machine machine;
    const Opened opened;
    const Frames other{0, 3, 120, 160, 1};
    run(opened, {0, 3, 128, 160, 9}); // the scratch memory is there
    works(give(opened, other));
    std::uint8_t *memory = nullptr;
    standin::knobs().device_memory = standin::device_bytes() + 10000;
    CHECK_EQUAL(api().input(opened.engine, 1, 3, 100, 150, &memory, nullptr), ISA_OK);
    works(take(opened, other)); // its answer arrived before its buffers went
    const Bytes image = frame(3, 100, 150, 4);
    std::copy(image.begin(), image.end(), memory);
    run(opened, {0, 3, 100, 150, 5}); // which takes the memory again
    isa_failure failure{};
    CHECK_EQUAL(api().start(opened.engine, 1, ISA_WANT_LABELS, &failure), ISA_OK);
    works(take(opened, {1, 3, 100, 150, 4}));
    // frames that were not started yet get their buffers again, each slot its own
    const CallersStream stream;
    DeviceFrames frames(1, 64, 96, 3);
    std::uint8_t *memories[2]{};
    for (int slot = 0; slot < 2; ++slot) {
        CHECK_EQUAL(api().input(opened.engine, slot, 1, 64, 96, &memories[slot], nullptr), ISA_OK);
        const Bytes next = frame(1, 64, 96, static_cast<unsigned>(slot) + 20);
        std::copy(next.begin(), next.end(), memories[slot]);
    }
    standin::knobs().device_memory = standin::device_bytes() + 10000;
    works(frames.run(opened, stream.get()));
    standin::knobs().device_memory = std::size_t{1} << 30;
    for (int slot = 0; slot < 2; ++slot)
        CHECK_EQUAL(api().start(opened.engine, slot, ISA_WANT_LABELS, &failure), ISA_OK);
    for (int slot = 0; slot < 2; ++slot)
        works(take(opened, {slot, 1, 64, 96, static_cast<unsigned>(slot) + 20}));
    stream.synchronize();
    frames.check_labels();
}

TEST("too little page-locked memory is told") {
    const Machine machine;
    const Opened opened;
    standin::knobs().pinned_memory = 1000;
    refused(give(opened, {0, 1, 64, 96, 1}), ISA_ERROR_OUT_OF_MEMORY,
            "the host has no 1 MiB of memory left that can be page-locked; end other programs");
    standin::knobs().pinned_memory = 64 * 96 * 3;
    refused(give(opened, {0, 1, 64, 96, 1}), ISA_ERROR_OUT_OF_MEMORY, "page-locked");
    standin::knobs().pinned_memory = 1 << 20;
    run(opened, {0, 1, 64, 96, 1});
}

// Failures

/// A day's work: every step has to succeed, or to fail once and succeed when it is tried again.  How often it failed.
int work(std::string &told) {
    int failures = 0;
    const auto note = [&](const Result &result) {
        if (result.status == ISA_OK)
            return true;
        ++failures;
        told = result.message;
        CHECK(!result.message.empty() && result.message.find('\n') == std::string::npos);
        CHECK(result.status != ISA_ERROR_INTERNAL);
        return false;
    };
    auto opened = std::make_unique<Opened>();
    if (!note(opened->result))
        opened = std::make_unique<Opened>();
    works(opened->result);
    if (opened->result.status != ISA_OK)
        return failures;
    const auto both = [&](const Frames &first, const Frames &second) {
        const bool gave_first = note(give(*opened, first));
        const bool gave_second = note(give(*opened, second));
        if (!gave_first)
            run(*opened, first);
        else if (!note(take(*opened, first)))
            run(*opened, first);
        if (!gave_second)
            run(*opened, second);
        else if (!note(take(*opened, second)))
            run(*opened, second);
    };
    const CallersStream stream;
    DeviceFrames odd(1, 32, 40, 1, 8, 0, 5);
    DeviceFrames plain(2, 40, 32, 2);
    for (unsigned turn = 0; turn < 3; ++turn)
        both({0, 1, 32, 40, turn}, {1, 1, 32, 40, turn + 50, ISA_WANT_LABELS | ISA_WANT_LOGITS});
    both({0, 1, 32, 40, 7}, {1, 2, 64, 48, 8});
    for (DeviceFrames *each : {&odd, &plain, &odd}) {
        if (!note(each->run(*opened, stream.get())))
            works(each->run(*opened, stream.get()));
    }
    both({0, 2, 64, 48, 9}, {1, 1, 32, 40, 10});
    for (int i = 0; i < 2 && cudaStreamSynchronize(stream.get()) != cudaSuccess; ++i)
        (void)cudaGetLastError();
    odd.check_labels();
    plain.check_labels();
    return failures;
}

TEST("whichever call of CUDA's or TensorRT's fails, it is told once, nothing is lost and the next try works") {
    Counts calls;
    std::string told;
    {
        const Machine machine;
        CHECK_EQUAL(work(told), 0);
        calls = standin::calls();
    }
    int runs = 0;
    for (const auto &[name, count] : calls) {
        if (name[0] == '(' || name[0] == '~' || name == "setErrorRecorder" || name == "setEngineHostCodeAllowed" ||
            name == "setDeviceMemoryV2")
            continue; // what cannot fail
        for (const cudaError_t error : {cudaErrorInvalidValue, cudaErrorMemoryAllocation})
            for (int which = 1; which <= count; ++which) {
                const Machine machine;
                standin::fail(name, which, error);
                const int before = check::failures();
                const int failures = work(told);
                if (name != "getTensorShape" && !standin::failed())
                    check::failed(__FILE__, __LINE__, "the failure did not come");
                if (failures > 1)
                    check::failed(__FILE__, __LINE__, "failed " + std::to_string(failures) + " times");
                (void)cudaGetLastError(); // of the test's own calls, or a failure of TensorRT's
                if (check::failures() != before)
                    std::fprintf(stderr, "    with %s, call %d, error %d: %s\n", name.c_str(), which, error,
                                 told.c_str());
                ++runs;
            }
    }
    CHECK(runs > 300);
}

TEST("no failure of CUDA's is left on its record") {
    const Machine machine;
    const Opened opened;
    run(opened, {0, 1, 64, 96, 1});
    for (const char *name : {"cudaStreamBeginCapture", "cudaMemcpyAsync", "cudaEventRecord", "cudaStreamWaitEvent",
                             "cudaEventSynchronize", "cudaGetDevice"}) {
        standin::fail(name, 1);
        const Frames frames{0, 1, 64, 96, 2};
        const Result given = give(opened, frames);
        if (given.status == ISA_OK)
            refused(take(opened, frames), ISA_ERROR_ENGINE, "the GPU could not");
        else
            refused(given, ISA_ERROR_ENGINE, "open the engine again, and see nvidia-smi and the system's log");
        CHECK_EQUAL(standin::last_error(), cudaSuccess);
        run(opened, frames);
    }
}

TEST("an execution that fails is told in TensorRT's words") {
    const Machine machine;
    const Opened opened;
    standin::fail("enqueueV3", 1);
    refused(give(opened, {0, 1, 64, 96, 1}), ISA_ERROR_ENGINE,
            "TensorRT 10.16.1 failed on a frame (IExecutionContext::enqueueV3: Error Code 1: Cuda Runtime (invalid "
            "argument)); open the engine again, and build the plan again if it returns");
    standin::fail("enqueueV3", 1, cudaErrorMemoryAllocation);
    refused(give(opened, {0, 1, 64, 96, 1}), ISA_ERROR_OUT_OF_MEMORY, "ran out of device memory on a frame (");
    standin::fail("createExecutionContext", 1);
    refused(give(opened, {0, 1, 32, 32, 1}), ISA_ERROR_ENGINE,
            "TensorRT 10.16.1 could not make the engine ready: ICuda");
    for (const auto &[name, words] :
         {std::pair<const char *, const char *>{"setOptimizationProfileAsync", "TensorRT refused profile 0"},
          {"setInputShape", "TensorRT refused frames of 1x32x32"},
          {"inferShapes", "TensorRT cannot tell the shapes (IExecutionContext::inferShapes"},
          {"updateDeviceMemorySizeForShapes", "TensorRT cannot tell the memory it needs"},
          {"getTensorShape", "the plan's output labels has an open shape for frames of 1x32x32"},
          {"setTensorAddress", "TensorRT refused the address 0x"}}) {
        standin::fail(name, 1);
        refused(give(opened, {0, 1, 32, 32, 1}), ISA_ERROR_ENGINE, words);
    }
    (void)cudaGetLastError();
    run(opened, {0, 1, 32, 32, 1});
}

TEST("a GPU that is lost is told by every call, and closing gives everything back") {
    for (const cudaError_t as : {cudaErrorIllegalAddress, cudaErrorLaunchFailure})
        for (int when = 1; when <= 6; ++when) {
            const Machine machine;
            Opened opened;
            run(opened, {0, 1, 64, 96, 1});
            standin::lose_device(when, as);
            Result result;
            for (unsigned turn = 0; turn < 6 && result.status == ISA_OK; ++turn) {
                const Frames frames{static_cast<int>(turn % 2), 1, turn % 3 == 2 ? 128 : 64, 96, turn};
                result = give(opened, frames);
                if (result.status == ISA_OK)
                    result = take(opened, frames);
            }
            refused(result, ISA_ERROR_ENGINE, "after such an error a process cannot use the GPU again: start another");
            for (int slot = 0; slot < 2; ++slot)
                refused(give(opened, {slot, 1, 64, 96, 1}), ISA_ERROR_ENGINE, "cannot use the GPU again");
            opened.close();
            CHECK_EQUAL(standin::left().size(), std::size_t{0});
            refused(Opened().result, ISA_ERROR_BACKEND_UNAVAILABLE, "CUDA cannot look for GPUs (cuda");
            (void)cudaGetLastError();
            CHECK_EQUAL(standin::left().size(), std::size_t{0});
            standin::reset();
        }
}

TEST("an engine that does not come to rest is refused until it does") {
    const Machine machine;
    const Opened opened;
    run(opened, {0, 1, 64, 96, 1});
    works(give(opened, {0, 1, 64, 96, 2}));
    standin::fail_always("cudaEventSynchronize", cudaErrorInvalidValue);
    standin::fail_always("cudaStreamSynchronize", cudaErrorInvalidValue);
    isa_engine_answer answer{};
    isa_failure failure{};
    refused({api().wait(opened.engine, 0, &answer, &failure), failure.message}, ISA_ERROR_ENGINE, "finish its work");
    refused(give(opened, {0, 1, 64, 96, 3}), ISA_ERROR_ENGINE, "the GPU could not finish its work");
    refused(give(opened, {1, 1, 64, 96, 3}), ISA_ERROR_ENGINE, "the GPU could not finish its work");
    standin::fail("cudaEventSynchronize", 1000000);
    standin::fail("cudaStreamSynchronize", 1000000);
    run(opened, {0, 1, 64, 96, 4});
    run(opened, {1, 1, 64, 96, 5});
}

TEST("closing with frames under way waits for them and gives everything back") {
    const Machine machine;
    for (unsigned turn = 0; turn < 3; ++turn) {
        const CallersStream stream;
        DeviceFrames frames(1, 64, 96, 1, 4);
        Opened opened;
        for (unsigned before = 0; before < turn; ++before)
            run(opened, {0, 1, 64, 96, before});
        works(give(opened, {0, 1, 64, 96, 1}));
        works(give(opened, {1, 1, 64, 96, 2}));
        works(frames.run(opened, stream.get()));
        opened.close();
        CHECK_EQUAL(standin::left().size(), std::size_t{3}); // the caller's frames, labels and stream
        api().close(nullptr);
    }
}

// Sharing

TEST("one engine serves all that open a plan and goes with the last") {
    const Machine machine;
    auto first = std::make_unique<Opened>();
    auto second = std::make_unique<Opened>();
    CHECK_EQUAL(called("deserializeCudaEngine"), 1);
    works(give(*first, {0, 1, 64, 96, 1}));
    works(give(*second, {0, 1, 64, 96, 2}));
    works(take(*second, {0, 1, 64, 96, 2}));
    works(take(*first, {0, 1, 64, 96, 1}));
    first.reset();
    run(*second, {0, 1, 64, 96, 3});
    second.reset();
    CHECK_EQUAL(standin::left().size(), std::size_t{0});
    {
        const Opened again;
        CHECK_EQUAL(called("deserializeCudaEngine"), 2);
        Request other;
        other.plan.profiles = "profile 1x16x16x3 1x64x96x3 2x128x160x3";
        const Opened another(other); // another plan
        CHECK_EQUAL(called("deserializeCudaEngine"), 3);
        other.allow_engine_code = true;
        const Opened trusted(other); // whose code may run
        CHECK_EQUAL(called("deserializeCudaEngine"), 4);
    }
    standin::knobs().device_count = 2;
    Request request;
    request.device = "1";
    const Opened on_first;
    const Opened on_second(request);
    CHECK_EQUAL(called("deserializeCudaEngine"), 6);
}

TEST("three threads with engines of one plan work at once") {
    const Machine machine;
    std::vector<std::thread> threads;
    std::atomic<int> wrong{0};
    for (unsigned number = 0; number < 3; ++number)
        threads.emplace_back([number, &wrong] {
            for (int turn = 0; turn < 3; ++turn) {
                const Opened opened;
                for (unsigned seed = 0; seed < 6; ++seed) {
                    const int h = 24 + 8 * static_cast<int>(seed % 3);
                    isa_failure failure{};
                    for (int slot = 0; slot < 2; ++slot) {
                        std::uint8_t *memory = nullptr;
                        const Bytes image = frame(1, h, 40, seed + number * 100 + static_cast<unsigned>(slot) * 50);
                        if (api().input(opened.engine, slot, 1, h, 40, &memory, &failure) != ISA_OK) {
                            ++wrong;
                            continue;
                        }
                        std::copy(image.begin(), image.end(), memory);
                        wrong += api().start(opened.engine, slot, ISA_WANT_LABELS, &failure) != ISA_OK;
                    }
                    for (int slot = 0; slot < 2; ++slot) {
                        isa_engine_answer answer{};
                        const Bytes image = frame(1, h, 40, seed + number * 100 + static_cast<unsigned>(slot) * 50);
                        const Bytes wanted = labels_of(image, 1, h, 40);
                        wrong += api().wait(opened.engine, slot, &answer, &failure) != ISA_OK ||
                                 !std::equal(wanted.begin(), wanted.end(), answer.labels_nhw);
                    }
                }
            }
        });
    for (std::thread &thread : threads)
        thread.join();
    CHECK_EQUAL(wrong.load(), 0);
}

TEST("a capture is not broken by a plan that another thread opens") {
    const Machine machine;
    standin::knobs().slow_capture_ms = 20;
    std::atomic<bool> captured{false};
    std::thread other([&] {
        for (int number = 0; !captured; ++number) {
            Request request;
            request.plan.profiles = "profile 1x16x16x3 1x64x96x3 " + std::to_string(number % 50 + 2) + "x128x160x3";
            const Opened opened(request);
            works(opened.result);
        }
    });
    {
        const Opened opened;
        for (int h = 32; h < 40; ++h)
            for (unsigned seed = 0; seed < 2; ++seed)
                run(opened, {0, 1, h, 40, seed});
        captured = true;
        other.join();
    }
    CHECK_EQUAL(called("cudaStreamBeginCapture"), 8); // each at the first try
    CHECK_EQUAL(called("cudaGraphLaunch"), 8);
}

// What the stand-in is worth

/// Whether a program that does this is ended by the stand-in with these words.
void ends(const char *words, void (*wrong)()) {
    int pipes[2];
    if (pipe(pipes) != 0)
        return check::failed(__FILE__, __LINE__, "no pipe");
    const pid_t child = fork();
    if (child == 0) {
        (void)dup2(pipes[1], 2);
        wrong();
        std::_Exit(0);
    }
    ::close(pipes[1]);
    std::string said;
    char part[256];
    for (ssize_t count = 0; (count = read(pipes[0], part, sizeof part)) > 0;)
        said.append(part, static_cast<std::size_t>(count));
    ::close(pipes[0]);
    int status = 0;
    (void)waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        check::failed(__FILE__, __LINE__, std::string("nothing was noticed: ") + words);
    else if (said.find(words) == std::string::npos)
        check::failed(__FILE__, __LINE__, std::string("'") + words + "' was not said: " + said.substr(0, 300));
}

cudaStream_t new_stream() {
    cudaStream_t stream = nullptr;
    (void)cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    return stream;
}

void *new_memory(std::size_t size) {
    void *memory = nullptr;
    (void)cudaMalloc(&memory, size);
    return memory;
}

void *new_pinned(std::size_t size) {
    void *memory = nullptr;
    (void)cudaHostAlloc(&memory, size, cudaHostAllocDefault);
    return memory;
}

TEST("the stand-in notices work that nothing orders, memory freed too early and addresses that are none") {
    ends("nothing orders the two", [] {
        void *const memory = new_memory(64);
        void *const pinned = new_pinned(64);
        (void)cudaMemcpyAsync(memory, pinned, 64, cudaMemcpyHostToDevice, new_stream());
        (void)cudaMemcpyAsync(pinned, memory, 64, cudaMemcpyDeviceToHost, new_stream());
    });
    ends("which pending work uses", [] {
        void *const memory = new_memory(64);
        (void)cudaMemcpyAsync(memory, new_pinned(64), 64, cudaMemcpyHostToDevice, new_stream());
        (void)cudaFree(memory);
    });
    ends("the host wrote into pinned memory", [] {
        const cudaStream_t stream = new_stream();
        void *const pinned = new_pinned(64);
        (void)cudaMemcpyAsync(new_memory(64), pinned, 64, cudaMemcpyHostToDevice, stream);
        std::memset(pinned, 1, 64);
        (void)cudaStreamSynchronize(stream);
    });
    ends("that was freed", [] {
        void *const memory = new_memory(64);
        (void)cudaFree(memory);
        (void)cudaMemcpyAsync(memory, new_pinned(64), 64, cudaMemcpyHostToDevice, new_stream());
    });
    ends("goes out of range",
         [] { (void)cudaMemcpyAsync(new_memory(64), new_pinned(65), 65, cudaMemcpyHostToDevice, new_stream()); });
    ends("neither device memory nor pinned", [] {
        char local[64];
        (void)cudaMemcpyAsync(new_memory(64), local, 64, cudaMemcpyHostToDevice, new_stream());
    });
    ends("uses the default stream",
         [] { (void)cudaMemcpyAsync(new_memory(64), new_pinned(64), 64, cudaMemcpyHostToDevice, nullptr); });
    ends("", [] { *static_cast<volatile char *>(new_memory(64)) = 1; }); // the host cannot write there
}

TEST("the stand-in keeps what was not waited for from the host") {
    const Machine machine;
    const cudaStream_t stream = new_stream();
    void *const memory = new_memory(64);
    auto *const up = static_cast<unsigned char *>(new_pinned(64));
    auto *const down = static_cast<unsigned char *>(new_pinned(64));
    std::memset(up, 7, 64);
    std::memset(down, 7, 64);
    (void)cudaMemcpyAsync(memory, up, 64, cudaMemcpyHostToDevice, stream);
    (void)cudaMemcpyAsync(down, memory, 64, cudaMemcpyDeviceToHost, stream);
    CHECK_EQUAL(static_cast<int>(down[5]), 0xA5);
    (void)cudaStreamSynchronize(stream);
    CHECK_EQUAL(static_cast<int>(down[5]), 7);
    (void)cudaFree(memory);
    (void)cudaFreeHost(up);
    (void)cudaFreeHost(down);
    (void)cudaStreamDestroy(stream);
}

class SilentLogger final : public nvinfer1::ILogger {
public:
    void log(Severity, const char *) noexcept override {}
};

/// A context of a plan, up to where a test goes wrong.
struct Steps {
    Steps() {
        static SilentLogger logger;
        int count = 0;
        (void)cudaGetDeviceCount(&count);
        runtime = nvinfer1::createInferRuntime(logger);
        const std::string text = PlanText().text();
        engine = runtime->deserializeCudaEngine(text.data(), text.size());
        context = engine->createExecutionContext(nvinfer1::ExecutionContextAllocationStrategy::kUSER_MANAGED);
    }
    void shape() {
        (void)context->setOptimizationProfileAsync(0, stream);
        (void)context->setInputShape("image", {4, {1, 32, 32, 3}});
        (void)context->inferShapes(0, nullptr);
        size = context->updateDeviceMemorySizeForShapes();
    }
    void addresses() {
        context->setDeviceMemoryV2(new_memory(size), static_cast<std::int64_t>(size));
        for (const char *name : {"image", "labels", "logits"})
            (void)context->setTensorAddress(name, new_memory(4096));
    }
    cudaGraph_t capture() {
        cudaGraph_t graph = nullptr;
        (void)cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
        (void)context->enqueueV3(stream);
        (void)cudaStreamEndCapture(stream, &graph);
        return graph;
    }

    cudaStream_t stream = new_stream();
    nvinfer1::IRuntime *runtime = nullptr;
    nvinfer1::ICudaEngine *engine = nullptr;
    nvinfer1::IExecutionContext *context = nullptr;
    std::size_t size = 0;
};

TEST("the stand-in notices TensorRT's calls out of order and contexts changed under a graph") {
    ends("before cudaGetDeviceCount", [] {
        static SilentLogger logger;
        (void)nvinfer1::createInferRuntime(logger);
    });
    ends("before setOptimizationProfileAsync",
         [] { (void)Steps().context->setInputShape("image", {4, {1, 32, 32, 3}}); });
    ends("before profile, shape and inferShapes", [] { (void)Steps().context->enqueueV3(new_stream()); });
    ends("without scratch memory", [] {
        Steps steps;
        steps.shape();
        (void)steps.context->enqueueV3(steps.stream);
    });
    ends("the address of image is not set", [] {
        Steps steps;
        steps.shape();
        steps.context->setDeviceMemoryV2(new_memory(steps.size), static_cast<std::int64_t>(steps.size));
        (void)steps.context->enqueueV3(steps.stream);
    });
    ends("not aligned to 256",
         [] { (void)Steps().context->setTensorAddress("image", static_cast<char *>(new_memory(4096)) + 3); });
    ends("a graph of its work lives", [] {
        Steps steps;
        steps.shape();
        steps.addresses();
        (void)steps.context->enqueueV3(steps.stream);
        (void)cudaStreamSynchronize(steps.stream);
        (void)steps.capture();
        (void)steps.context->setInputShape("image", {4, {1, 16, 32, 3}});
    });
    ends("whose work is pending", [] {
        Steps steps;
        steps.shape();
        steps.addresses();
        (void)steps.context->enqueueV3(steps.stream);
        (void)steps.context->setInputShape("image", {4, {1, 16, 32, 3}});
    });
    ends("freed before its contexts", [] { delete Steps().engine; });
    ends("freed before its engines", [] { delete Steps().runtime; });
}

} // namespace

int main(int argc, char **argv) {
    return check::run(argc, argv);
}

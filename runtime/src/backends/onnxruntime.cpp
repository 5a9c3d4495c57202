// Graphs in ONNX Runtime, on the CPU or with CUDA.
#include <array>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "backend.h"
#include "error.hpp"
#include "frames.hpp"
#include "guard.hpp"
#include "onnxruntime_session.hpp"

namespace {

using isa_backends::FrameBuffer;
using isa_backends::FrameShape;
using isa_backends::guarded;
using isa_backends::misused;
using isa_backends::onnxruntime_api;
using isa_backends::onnxruntime_reason;
using isa_backends::OnnxRuntimeSession;
using isa_backends::OrtOwned;

constexpr const char *kName = "onnxruntime";

/// One is computed, and the next lies ready.
constexpr std::size_t kSlots = 2;

constexpr std::size_t kMostOutputs = 2;

/// A GPU's number, or -1 for the CPU.
int gpu_of(const std::string &device) {
    if (device == "auto" || device == "cpu")
        return -1;
    if (device == "cuda")
        return 0;
    if (device.empty() || device.size() > 4 || device.find_first_not_of("0123456789") != std::string::npos)
        isa_core::fail_input("device '", device, "' is none of: auto, cpu, cuda, a GPU's number");
    return std::stoi(device);
}

/// What ONNX Runtime writes to.  The first run of a shape tells the outputs' shapes and makes them; from the next on
/// they are written where they are.
struct Outputs {
    std::uint64_t frames = 0; ///< Slot::frames when they were made; 0: never
    std::array<OrtOwned<OrtValue>, kMostOutputs> values;
};

enum class State { idle, queued, done };

struct Slot {
    FrameShape shape;
    FrameBuffer buffer;
    OrtOwned<OrtValue> image_nhwc;
    std::uint64_t frames = 0;       ///< counts the shapes that it had
    std::array<Outputs, 4> outputs; ///< by ISA_WANT_...
    std::uint32_t want = 0;         ///< of what is under way
    State state = State::idle;      ///< guarded by the engine's mutex
    std::exception_ptr failure;
};

} // namespace

struct isa_engine {
    std::shared_ptr<const OnnxRuntimeSession> session;
    OrtOwned<OrtMemoryInfo> memory; ///< host memory
    std::string input, labels, logits, precision, device;
    bool on_cpu = true;
    std::vector<isa_tensor> tensors;
    std::array<Slot, kSlots> slots;

    isa_engine() = default;
    isa_engine(const isa_engine &) = delete;
    isa_engine &operator=(const isa_engine &) = delete;

    ~isa_engine() {
        if (!worker_.joinable())
            return;
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            ending_ = true;
        }
        changed_.notify_all();
        worker_.join();
    }

    bool idle(const Slot &slot) {
        const std::lock_guard<std::mutex> lock(mutex_);
        return slot.state == State::idle;
    }

    /// A session computes in the thread that calls it, so a thread of the engine's own does.
    void begin(Slot &slot, std::uint32_t want) {
        try {
            if (!worker_.joinable())
                worker_ = std::thread([this] { work(); });
        } catch (const std::system_error &error) {
            isa_core::fail_engine("no thread can be started for ONNX Runtime (", error.code().message(),
                                  "); end other programs, or allow more threads (ulimit -u)");
        }
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            queue_[queued_] = &slot; // a slot is in it once at most
            ++queued_;
            slot.want = want;
            slot.failure = nullptr;
            slot.state = State::queued;
        }
        changed_.notify_all();
    }

    /// Waits for a slot that was begun; throws what went wrong with it.
    void finish(Slot &slot) {
        std::unique_lock<std::mutex> lock(mutex_);
        if (slot.state == State::idle)
            misused("a slot was waited for that was not started");
        changed_.wait(lock, [&] { return slot.state == State::done; });
        slot.state = State::idle;
        if (slot.failure != nullptr)
            std::rethrow_exception(std::exchange(slot.failure, nullptr));
    }

private:
    void work() {
        std::unique_lock<std::mutex> lock(mutex_);
        while (true) {
            changed_.wait(lock, [&] { return ending_ || queued_ > 0; });
            if (ending_)
                return;
            Slot &slot = *queue_[0];
            queue_[0] = queue_[1];
            --queued_;
            lock.unlock();
            std::exception_ptr failure;
            try {
                run(slot);
            } catch (const std::exception &) { // the C API throws nothing: an Error of ours, or memory is out
                failure = std::current_exception();
            }
            lock.lock();
            slot.failure = failure;
            slot.state = State::done;
            changed_.notify_all();
        }
    }

    void run(Slot &slot) {
        Outputs &outputs = slot.outputs[slot.want];
        if (outputs.frames != slot.frames) {
            outputs.values = {};
            outputs.frames = slot.frames;
        }
        std::array<const char *, kMostOutputs> names{};
        std::array<OrtValue *, kMostOutputs> values{};
        std::size_t count = 0;
        if ((slot.want & ISA_WANT_LABELS) != 0)
            names[count++] = labels.c_str();
        if ((slot.want & ISA_WANT_LOGITS) != 0)
            names[count++] = logits.c_str();
        for (std::size_t i = 0; i < count; ++i)
            values[i] = outputs.values[i].get();
        const char *const image_name = input.c_str();
        const OrtValue *const image = slot.image_nhwc.get();
        const std::string why = onnxruntime_reason(onnxruntime_api()->Run(session->get(), nullptr, &image_name, &image,
                                                                          1, names.data(), count, values.data()));
        for (std::size_t i = 0; i < count; ++i) {
            if (values[i] != outputs.values[i].get())
                outputs.values[i].reset(values[i]);
        }
        if (!why.empty()) {
            outputs = {};
            isa_core::fail_engine("ONNX Runtime failed on frames of shape ", slot.shape.words(), " (", why,
                                  "); a smaller --resize needs less");
        }
    }

    std::thread worker_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::array<Slot *, kSlots> queue_{}; ///< in the order of their start
    std::size_t queued_ = 0;
    bool ending_ = false;
};

namespace {

void check_device(const std::string &device, int gpu) {
    if (gpu >= 0 && !isa_backends::onnxruntime_has_cuda())
        throw isa_core::Error(ISA_ERROR_BACKEND_UNAVAILABLE,
                              isa_core::text("device ", device,
                                             " needs ONNX Runtime's CUDA provider, which is not installed; "
                                             "pip install 'isa-deploy[cuda]', or use --device cpu"));
}

isa_status available(const char *device, isa_failure *failure) {
    return guarded(failure, kName, [&] { check_device(device, gpu_of(device)); });
}

isa_status open(const isa_engine_request *request, isa_engine **engine, isa_engine_info *info, isa_failure *failure) {
    return guarded(failure, kName, [&] {
        const int gpu = gpu_of(request->device);
        check_device(request->device, gpu);
        auto opened = std::make_unique<isa_engine>();
        opened->input = request->input;
        opened->labels = request->labels;
        opened->logits = request->logits;
        opened->precision = request->graph_precision;
        opened->on_cpu = gpu < 0;
        opened->device = gpu < 0 ? std::string("cpu") : isa_core::text("cuda:", gpu);
        opened->session = isa_backends::open_onnxruntime_session(*request, gpu);
        opened->tensors = isa_backends::described(opened->session->tensors());
        OrtMemoryInfo *memory = nullptr;
        const std::string why =
            onnxruntime_reason(onnxruntime_api()->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
        if (!why.empty())
            isa_core::fail_engine(request->path, ": ONNX Runtime ", isa_backends::onnxruntime_version(), " failed (",
                                  why, "); install it again");
        opened->memory.reset(memory);
        *info = {};
        info->precision = opened->precision.c_str();
        info->device = opened->device.c_str();
        // measured, benchmarks/results/labels.json: on a CPU the core's argmax is the faster one
        info->fast_argmax = gpu < 0 ? 0 : 1;
        info->slots = static_cast<std::int32_t>(kSlots);
        info->tensor_count = static_cast<std::int32_t>(opened->tensors.size());
        info->tensors = opened->tensors.data();
        *engine = opened.release();
    });
}

void close(isa_engine *engine) {
    const std::unique_ptr<isa_engine> ended(engine);
}

/// One on a CPU, where a batch is no faster and its activations would multiply the memory.
std::int32_t largest_batch(isa_engine *engine, std::int32_t, std::int32_t) {
    return engine->on_cpu ? 1 : 0;
}

Slot &idle_slot(isa_engine *engine, std::int32_t number) {
    Slot &slot = engine->slots[isa_backends::checked_slot(number, kSlots)];
    if (!engine->idle(slot))
        misused("a slot was used before it was waited for");
    return slot;
}

isa_status input(isa_engine *engine, std::int32_t number, std::int32_t n, std::int32_t h, std::int32_t w,
                 std::uint8_t **image_nhwc, isa_failure *failure) {
    return guarded(failure, kName, [&] {
        Slot &slot = idle_slot(engine, number);
        const FrameShape shape{n, h, w};
        if (slot.image_nhwc == nullptr || slot.shape != shape) {
            slot.image_nhwc.reset(); // nothing may point into a buffer that moves
            const std::size_t bytes = shape.bytes();
            std::uint8_t *const data = slot.buffer.reserve(bytes);
            const std::array<std::int64_t, 4> sides = {n, h, w, 3};
            OrtValue *image = nullptr;
            const std::string why = onnxruntime_reason(onnxruntime_api()->CreateTensorWithDataAsOrtValue(
                engine->memory.get(), data, bytes, sides.data(), sides.size(), ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
                &image));
            if (!why.empty())
                isa_core::fail_engine("ONNX Runtime failed on frames of shape ", shape.words(), " (", why,
                                      "); a smaller --resize needs less");
            slot.image_nhwc.reset(image);
            slot.shape = shape;
            ++slot.frames;
        }
        *image_nhwc = slot.buffer.reserve(0);
    });
}

isa_status start(isa_engine *engine, std::int32_t number, std::uint32_t want, isa_failure *failure) {
    return guarded(failure, kName, [&] {
        Slot &slot = idle_slot(engine, number);
        if (want == 0 || want >= slot.outputs.size() || slot.image_nhwc == nullptr)
            misused("a slot was started without frames or without a wanted output");
        engine->begin(slot, want);
    });
}

template <typename Element, std::size_t Rank>
const Element *data_of(OrtValue *value, ONNXTensorElementDataType type, std::int64_t (&sides)[Rank]) {
    const OrtApi &api = *onnxruntime_api();
    OrtTensorTypeAndShapeInfo *made = nullptr;
    std::string why = onnxruntime_reason(api.GetTensorTypeAndShape(value, &made));
    const OrtOwned<OrtTensorTypeAndShapeInfo> found(made);
    ONNXTensorElementDataType element = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    std::size_t rank = 0;
    void *data = nullptr;
    if (why.empty())
        why = onnxruntime_reason(api.GetTensorElementType(made, &element));
    if (why.empty())
        why = onnxruntime_reason(api.GetDimensionsCount(made, &rank));
    if (why.empty() && (element != type || rank != Rank))
        misused("an output has another type than the graph said");
    if (why.empty())
        why = onnxruntime_reason(api.GetDimensions(made, sides, Rank));
    if (why.empty())
        why = onnxruntime_reason(api.GetTensorMutableData(value, &data));
    if (!why.empty())
        misused("an output cannot be read: " + why);
    return static_cast<const Element *>(data);
}

isa_status wait(isa_engine *engine, std::int32_t number, isa_engine_answer *answer, isa_failure *failure) {
    return guarded(failure, kName, [&] {
        Slot &slot = engine->slots[isa_backends::checked_slot(number, kSlots)];
        *answer = {};
        engine->finish(slot);
        const Outputs &outputs = slot.outputs[slot.want];
        std::size_t output = 0;
        if ((slot.want & ISA_WANT_LABELS) != 0)
            answer->labels_nhw = data_of<std::uint8_t>(outputs.values[output++].get(),
                                                       ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, answer->labels_shape);
        if ((slot.want & ISA_WANT_LOGITS) != 0)
            answer->logits_nchw =
                data_of<float>(outputs.values[output].get(), ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, answer->logits_shape);
    });
}

} // namespace

extern "C" __attribute__((visibility("default"))) const isa_backend_api *isa_backend(void) {
    if (onnxruntime_api() == nullptr)
        return nullptr;
    static const std::string library = isa_core::text("ONNX Runtime ", isa_backends::onnxruntime_version());
    static const isa_backend_api api = {ISA_BACKEND_ABI, kName, library.c_str(), available, open,   close,
                                        largest_batch,   input, start,           wait,      nullptr};
    return &api;
}

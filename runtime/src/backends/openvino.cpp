// Graphs in OpenVINO, on the CPU.
#include <array>
#include <cstdint>
#include <iterator>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <openvino/openvino.hpp>

#include "backend.h"
#include "error.hpp"
#include "frames.hpp"
#include "guard.hpp"
#include "openvino_model.hpp"

namespace {

using isa_backends::FrameBuffer;
using isa_backends::FrameShape;
using isa_backends::guarded;
using isa_backends::misused;
using isa_backends::OpenVinoModel;

constexpr const char *kName = "openvino";

/// One is computed, and the next lies ready: the engine goes on while the host works on the first one's logits.
constexpr std::size_t kSlots = 2;

void check_device(const std::string &device) {
    if (device != "auto" && device != "cpu")
        isa_core::fail_input("backend openvino runs on the CPU, not on device ", device, "; use --device cpu");
}

/// A request of OpenVINO for one set of outputs, and the frames that it was last given.
struct Request {
    ov::InferRequest request;
    std::uint64_t frames = 0; ///< Slot::frames when its input was set; 0: never
};

/// Frames, and what comes of them.
struct Slot {
    FrameShape shape;
    FrameBuffer buffer;
    ov::Tensor image_nhwc;
    std::uint64_t frames = 0;                       ///< counts the shapes that it had
    std::array<std::optional<Request>, 4> requests; ///< by ISA_WANT_...
    std::uint32_t under_way = 0;                    ///< ISA_WANT_..., 0 while it is idle
    std::array<ov::Tensor, 2> answers;              ///< kept while the core reads them
};

} // namespace

struct isa_engine {
    std::shared_ptr<OpenVinoModel> model;
    std::string input;
    bool bf16 = false;
    std::vector<isa_tensor> tensors;
    std::array<Slot, kSlots> slots;

    isa_engine() = default;
    isa_engine(const isa_engine &) = delete;
    isa_engine &operator=(const isa_engine &) = delete;

    /// OpenVINO would go on reading frames that are gone.
    ~isa_engine() {
        for (Slot &slot : slots) {
            if (slot.under_way == 0)
                continue;
            try {
                slot.requests[slot.under_way]->request.wait();
            } catch (const std::exception &) { // nobody is there to hear of it
            }
        }
    }
};

namespace {

[[noreturn]] void failed(const FrameShape &shape, const std::exception &error) {
    isa_core::fail_engine("OpenVINO failed on frames of shape ", shape.words(), " (",
                          isa_backends::openvino_reason(error), "); a smaller --resize needs less");
}

isa_status available(const char *device, isa_failure *failure) {
    return guarded(failure, kName, [&] {
        check_device(device);
        isa_backends::cpu_has_bf16(*isa_backends::openvino_core());
    });
}

isa_status open(const isa_engine_request *request, isa_engine **engine, isa_engine_info *info, isa_failure *failure) {
    return guarded(failure, kName, [&] {
        check_device(request->device);
        const std::string precision = request->precision;
        const bool bf16 = isa_backends::cpu_has_bf16(*isa_backends::openvino_core());
        if (precision == "bf16" && !bf16)
            isa_core::fail_input("this CPU has neither AMX nor AVX512-BF16; use --precision fp32");
        auto opened = std::make_unique<isa_engine>();
        opened->input = request->input;
        opened->bf16 = bf16 && precision != "fp32";
        isa_backends::OpenVinoSettings settings;
        settings.input = request->input;
        settings.labels = request->labels;
        settings.logits = request->logits;
        settings.bf16 = opened->bf16;
        settings.throughput = std::string("throughput") == request->schedule;
        settings.threads = request->threads;
        settings.cache_dir = request->cache_dir != nullptr ? request->cache_dir : "";
        opened->model = isa_backends::open_openvino_model(*request, std::move(settings));
        opened->tensors = isa_backends::described(opened->model->tensors());
        *info = {};
        const bool int8 = std::string("int8") == request->graph_precision; // of its own accord: bf16 is about the rest
        info->precision = int8 ? "int8" : opened->bf16 ? "bf16" : "fp32";
        info->device = "cpu";
        // measured in float32, benchmarks/results/labels.json: ArgMax becomes a TopK that takes longer than the
        // core's argmax; on CPUs with bfloat16 it was 2 ms of 640
        info->fast_argmax = opened->bf16 ? 1 : 0;
        info->slots = static_cast<std::int32_t>(kSlots);
        info->tensor_count = static_cast<std::int32_t>(opened->tensors.size());
        info->tensors = opened->tensors.data();
        *engine = opened.release();
    });
}

void close(isa_engine *engine) {
    const std::unique_ptr<isa_engine> ended(engine);
}

/// On a CPU a batch is no faster, and its activations would multiply the memory.
std::int32_t largest_batch(isa_engine *, std::int32_t, std::int32_t) {
    return 1;
}

Slot &idle_slot(isa_engine *engine, std::int32_t number) {
    Slot &slot = engine->slots[isa_backends::checked_slot(number, kSlots)];
    if (slot.under_way != 0)
        misused("a slot was used before it was waited for");
    return slot;
}

isa_status input(isa_engine *engine, std::int32_t number, std::int32_t n, std::int32_t h, std::int32_t w,
                 std::uint8_t **image_nhwc, isa_failure *failure) {
    return guarded(failure, kName, [&] {
        Slot &slot = idle_slot(engine, number);
        const FrameShape shape{n, h, w};
        if (slot.frames == 0 || slot.shape != shape) {
            slot.image_nhwc = {}; // nothing may point into a buffer that moves
            slot.shape = {};
            std::uint8_t *const data = slot.buffer.reserve(shape.bytes());
            slot.image_nhwc = ov::Tensor(
                ov::element::u8,
                {static_cast<std::size_t>(n), static_cast<std::size_t>(h), static_cast<std::size_t>(w), 3}, data);
            slot.shape = shape;
            ++slot.frames;
        }
        *image_nhwc = static_cast<std::uint8_t *>(slot.image_nhwc.data());
    });
}

isa_status start(isa_engine *engine, std::int32_t number, std::uint32_t want, isa_failure *failure) {
    return guarded(failure, kName, [&] {
        Slot &slot = idle_slot(engine, number);
        if (want == 0 || want >= slot.requests.size() || !slot.image_nhwc)
            misused("a slot was started without frames or without a wanted output");
        std::optional<Request> &kept = slot.requests[want];
        try {
            if (!kept)
                kept = Request{engine->model->compiled(want).create_infer_request(), 0};
            if (kept->frames != slot.frames) {
                kept->request.set_tensor(engine->input, slot.image_nhwc);
                kept->frames = slot.frames;
            }
            kept->request.start_async();
        } catch (const std::runtime_error &error) {
            kept.reset(); // it may be of no more use
            failed(slot.shape, error);
        } catch (const std::bad_alloc &) {
            kept.reset();
            throw;
        }
        slot.under_way = want;
    });
}

template <std::size_t Rank>
const void *data_of(const ov::Tensor &tensor, const ov::element::Type &type, std::int64_t (&sides)[Rank]) {
    const ov::Shape &shape = tensor.get_shape();
    if (tensor.get_element_type() != type || shape.size() != Rank)
        misused("an output has another type than the graph said");
    if (tensor.get_size() == 0) // OpenVINO lets a side shrink to 0 where other libraries refuse
        throw std::runtime_error(isa_core::text("an output of shape ", shape, " is empty"));
    for (std::size_t axis = 0; axis < Rank; ++axis)
        sides[axis] = static_cast<std::int64_t>(shape.data()[axis]);
    return tensor.data();
}

isa_status wait(isa_engine *engine, std::int32_t number, isa_engine_answer *answer, isa_failure *failure) {
    return guarded(failure, kName, [&] {
        Slot &slot = engine->slots[isa_backends::checked_slot(number, kSlots)];
        const std::uint32_t want = std::exchange(slot.under_way, 0U);
        if (want == 0)
            misused("a slot was waited for that was not started");
        std::optional<Request> &kept = slot.requests[want];
        *answer = {};
        try {
            kept->request.wait();
            // read where OpenVINO wrote them: a request's own outputs stay until its next start
            std::size_t output = 0;
            if ((want & ISA_WANT_LABELS) != 0) {
                ov::Tensor &labels = slot.answers[output] = kept->request.get_output_tensor(output);
                answer->labels_nhw =
                    static_cast<const std::uint8_t *>(data_of(labels, ov::element::u8, answer->labels_shape));
                ++output;
            }
            if ((want & ISA_WANT_LOGITS) != 0) {
                ov::Tensor &logits = slot.answers[output] = kept->request.get_output_tensor(output);
                answer->logits_nchw =
                    static_cast<const float *>(data_of(logits, ov::element::f32, answer->logits_shape));
            }
        } catch (const std::runtime_error &error) {
            kept.reset();
            failed(slot.shape, error);
        } catch (const std::bad_alloc &) {
            kept.reset();
            throw;
        }
    });
}

} // namespace

extern "C" __attribute__((visibility("default"))) const isa_backend_api *isa_backend(void) {
    static const std::string library = isa_core::text("OpenVINO ", isa_backends::openvino_version());
    static const isa_backend_api api = {ISA_BACKEND_ABI, kName, library.c_str(), available, open,   close,
                                        largest_batch,   input, start,           wait,      nullptr};
    return &api;
}

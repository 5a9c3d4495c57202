// A backend whose engine is a few lines of arithmetic, for tests of everything round an engine.
//
// Its "graph" is a protobuf message with a manifest, as an ONNX file is, in which the text after "fake:" sets it up:
// "fake: classes=5 stride=8 fast=1 slots=2 largest=0 fail=none;" (fail: none, open, input, start, wait, nan, shape).
//   labels[y][x]    = (3 b + 5 g + 7 r) % classes of the pixel
//   logits[c][y][x] = ((b + 2 g + 3 r) * (2 c + 1) % 61) / 4 of the pixel at (y * stride, x * stride)
// It computes in wait(): a core that touches a slot's input too early is found out.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "backend.h"

struct isa_engine {
    int classes = 0, stride = 8, fast = 0, slots = 2, largest = 0;
    std::string fail = "none";
    std::string input, labels, logits;
    std::vector<isa_tensor> tensors;
    struct Slot {
        std::vector<std::uint8_t> image_nhwc, labels_nhw;
        std::vector<float> logits_nchw;
        int n = 0, h = 0, w = 0;
        std::uint32_t want = 0;
        bool started = false;
    } slot[ISA_MAX_SLOTS];
};

namespace {

isa_status refuse(isa_failure *failure, isa_status status, const char *message) {
    failure->status = status;
    std::snprintf(failure->message, sizeof failure->message, "%s", message);
    return status;
}

int number(const std::string &text, const std::string &key, int otherwise) {
    const std::size_t at = text.find(key + "=");
    return at == std::string::npos ? otherwise : std::atoi(text.c_str() + at + key.size() + 1);
}

isa_tensor tensor(const std::string &name, bool is_input, std::int32_t dtype, std::int32_t rank) {
    isa_tensor made{};
    made.name = name.c_str();
    made.dtype_name = dtype == ISA_DTYPE_UINT8 ? "uint8" : "float32";
    made.is_input = is_input;
    made.dtype = dtype;
    made.rank = rank;
    for (auto &side : made.shape)
        side = -1;
    return made;
}

isa_status available(const char *, isa_failure *) {
    return ISA_OK;
}

isa_status open(const isa_engine_request *request, isa_engine **engine, isa_engine_info *info, isa_failure *failure) {
    std::string bytes;
    if (request->data != nullptr) {
        bytes.assign(static_cast<const char *>(request->data), request->size);
    } else {
        std::ifstream file(request->path, std::ios::binary);
        bytes.assign(std::istreambuf_iterator<char>(file), {});
    }
    const std::size_t start = bytes.find("fake:");
    if (start == std::string::npos)
        return refuse(failure, ISA_ERROR_ENGINE, "no fake graph; write one with write_graph");
    const std::string setup = bytes.substr(start, bytes.find(';', start) - start);
    if (setup.find("fail=open") != std::string::npos)
        return refuse(failure, ISA_ERROR_ENGINE, "the fake engine cannot be opened,\nas it was asked; ask it for less");
    auto *made = new isa_engine;
    made->classes = number(setup, "classes", 5);
    made->stride = number(setup, "stride", 8);
    made->fast = number(setup, "fast", 0);
    made->slots = number(setup, "slots", 2);
    made->largest = number(setup, "largest", 0);
    const std::size_t fail = setup.find("fail=");
    if (fail != std::string::npos)
        made->fail = setup.substr(fail + 5, setup.find_first_of(" ;", fail) - fail - 5);
    made->input = request->input;
    made->labels = request->labels;
    made->logits = made->fail == "name" ? "others" : request->logits;
    made->tensors = {tensor(made->input, true, ISA_DTYPE_UINT8, 4), tensor(made->labels, false, ISA_DTYPE_UINT8, 3),
                     tensor(made->logits, false, ISA_DTYPE_FLOAT32, 4)};
    request->log(ISA_LOG_INFO, "the fake engine is open");
    *engine = made;
    *info = {
        "fp32", "cpu", made->fast, made->slots, static_cast<std::int32_t>(made->tensors.size()), made->tensors.data()};
    return ISA_OK;
}

void close(isa_engine *engine) {
    delete engine;
}

std::int32_t largest_batch(isa_engine *engine, std::int32_t, std::int32_t) {
    return engine->largest;
}

isa_status input(isa_engine *engine, std::int32_t slot, std::int32_t n, std::int32_t h, std::int32_t w,
                 std::uint8_t **image_nhwc, isa_failure *failure) {
    isa_engine::Slot &at = engine->slot[slot];
    if (at.started)
        std::abort(); // the core promised that the slot is idle
    if (engine->fail == "input")
        return refuse(failure, ISA_ERROR_INPUT, "the fake engine was not built for this size; use another");
    at.n = n;
    at.h = h;
    at.w = w;
    at.image_nhwc.resize(std::size_t{3} * static_cast<std::size_t>(n) * static_cast<std::size_t>(h) *
                         static_cast<std::size_t>(w));
    *image_nhwc = at.image_nhwc.data();
    return ISA_OK;
}

isa_status start(isa_engine *engine, std::int32_t slot, std::uint32_t want, isa_failure *failure) {
    if (engine->fail == "start")
        return refuse(failure, ISA_ERROR_ENGINE, "the fake engine does not start, as it was asked");
    engine->slot[slot].want = want;
    engine->slot[slot].started = true;
    return ISA_OK;
}

isa_status wait(isa_engine *engine, std::int32_t slot, isa_engine_answer *answer, isa_failure *failure) {
    isa_engine::Slot &at = engine->slot[slot];
    if (!at.started)
        std::abort(); // nothing was started
    at.started = false;
    if (engine->fail == "wait")
        return refuse(failure, ISA_ERROR_ENGINE, "the fake engine failed, as it was asked");
    const auto n = static_cast<std::size_t>(at.n), h = static_cast<std::size_t>(at.h),
               w = static_cast<std::size_t>(at.w);
    const auto classes = static_cast<std::size_t>(engine->classes), stride = static_cast<std::size_t>(engine->stride);
    *answer = {};
    if ((at.want & ISA_WANT_LABELS) != 0) {
        at.labels_nhw.resize(n * h * w);
        for (std::size_t i = 0; i < at.labels_nhw.size(); ++i) {
            const std::uint8_t *const bgr = at.image_nhwc.data() + 3 * i;
            at.labels_nhw[i] = static_cast<std::uint8_t>((3U * bgr[0] + 5U * bgr[1] + 7U * bgr[2]) % classes);
        }
        answer->labels_nhw = at.labels_nhw.data();
        answer->labels_shape[0] = at.n;
        answer->labels_shape[1] = at.h;
        answer->labels_shape[2] = at.w;
    }
    if ((at.want & ISA_WANT_LOGITS) != 0) {
        const std::size_t rows = (h + stride - 1) / stride, cols = (w + stride - 1) / stride;
        at.logits_nchw.resize(n * classes * rows * cols);
        float *out = at.logits_nchw.data();
        for (std::size_t i = 0; i < n; ++i)
            for (std::size_t c = 0; c < classes; ++c)
                for (std::size_t y = 0; y < rows; ++y)
                    for (std::size_t x = 0; x < cols; ++x) {
                        const std::uint8_t *const bgr =
                            at.image_nhwc.data() + 3 * ((i * h + y * stride) * w + x * stride);
                        const std::size_t mixed = (bgr[0] + 2U * bgr[1] + 3U * bgr[2]) * (2 * c + 1) % 61;
                        *out++ = static_cast<float>(mixed) / 4;
                    }
        if (engine->fail == "nan")
            at.logits_nchw[at.logits_nchw.size() / 2] = std::strtof("nan", nullptr);
        answer->logits_nchw = at.logits_nchw.data();
        answer->logits_shape[0] = at.n;
        answer->logits_shape[1] = static_cast<std::int64_t>(classes);
        answer->logits_shape[2] = static_cast<std::int64_t>(rows) + (engine->fail == "shape" ? 1 : 0);
        answer->logits_shape[3] = static_cast<std::int64_t>(cols);
    }
    return ISA_OK;
}

const isa_backend_api kApi = {ISA_BACKEND_ABI, "fake", "fake 1", available, open,   close,
                              largest_batch,   input,  start,    wait,      nullptr};

} // namespace

extern "C" __attribute__((visibility("default"))) const isa_backend_api *isa_backend(void) {
    return &kApi;
}

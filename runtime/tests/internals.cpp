// Tests' view of the arithmetic inside: C functions that Python calls through ctypes (tests/test_native_arithmetic.py).
// A function returns 0, or 1 where it threw; isa_arithmetic_error() says what.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

#include "assemble.hpp"
#include "assemble_plan.hpp"
#include "cpu.hpp"
#include "error.hpp"
#include "geometry.hpp"
#include "resample.hpp"
#include "tiling.hpp"

#if defined(_WIN32)
#define INTERNALS_API extern "C" __declspec(dllexport)
#else
#define INTERNALS_API extern "C" __attribute__((visibility("default")))
#endif

namespace {

thread_local std::string last_error;

template <typename Body> int guarded(const Body &body) {
    try {
        body();
        return 0;
    } catch (const std::exception &error) {
        last_error = error.what();
    } catch (...) {
        last_error = "no std::exception";
    }
    return 1;
}

isa_core::AxisMap read_map(int inputs, int outputs, int taps, const std::int32_t *index, const double *weight) {
    const std::size_t count = static_cast<std::size_t>(outputs) * static_cast<std::size_t>(taps);
    return {inputs, outputs, taps, {index, index + count}, {weight, weight + count}};
}

std::vector<isa_core::Span> read_spans(const std::int32_t *spans, int count) {
    std::vector<isa_core::Span> made;
    for (int i = 0; i < count; ++i)
        made.push_back({spans[2 * i], spans[2 * i + 1]});
    return made;
}

/// Gives a map to a caller whose arrays have room for `room` taps in all.
void write_map(const isa_core::AxisMap &map, std::int64_t room, std::int32_t *shape, std::int32_t *index,
               double *weight) {
    shape[0] = map.inputs;
    shape[1] = map.outputs;
    shape[2] = map.taps;
    if (static_cast<std::int64_t>(map.index.size()) > room)
        throw isa_core::Error(ISA_ERROR_INPUT, "no room for the map");
    std::memcpy(index, map.index.data(), map.index.size() * sizeof(*index));
    std::memcpy(weight, map.weight.data(), map.weight.size() * sizeof(*weight));
}

/// 0 to 2 as in isa_core::Simd; 3: product and sum rounded each.
const isa_core::AssembleKernels &kernels_of(int simd) {
    return simd == 3 ? isa_core::kAssembleUnfused : isa_core::assemble_kernels(static_cast<isa_core::Simd>(simd));
}

} // namespace

INTERNALS_API const char *isa_arithmetic_error() {
    return last_error.c_str();
}

/// The widest instructions here: 0 portable, 1 AVX2, 2 AVX-512.
INTERNALS_API int isa_arithmetic_simd() {
    return static_cast<int>(isa_core::simd());
}

INTERNALS_API int isa_arithmetic_bilinear(int inputs, int outputs, int align_corners, std::int64_t room,
                                          std::int32_t *shape, std::int32_t *index, double *weight) {
    return guarded(
        [&] { write_map(isa_core::bilinear(inputs, outputs, align_corners != 0), room, shape, index, weight); });
}

/// average_windows, then a resize to `frame` pixels where that is another length.
INTERNALS_API int isa_arithmetic_average(const std::int32_t *spans, int count, int cells, int length, int frame,
                                         int align_corners, std::int64_t room, std::int32_t *shape, std::int32_t *index,
                                         double *weight) {
    return guarded([&] {
        isa_core::AxisMap map = isa_core::average_windows(read_spans(spans, count), cells, length, align_corners != 0);
        if (frame != length)
            map = isa_core::bilinear(length, frame, align_corners != 0).after(map);
        write_map(map, room, shape, index, weight);
    });
}

/// weigh_windows over [start, stop); `shares`: a weight for each pixel of each window.
INTERNALS_API int isa_arithmetic_weigh(const std::int32_t *spans, int count, const double *shares, int cells,
                                       int window, int align_corners, int start, int stop, std::int64_t room,
                                       std::int32_t *shape, std::int32_t *index, double *weight) {
    return guarded([&] {
        std::vector<std::vector<double>> weights;
        for (int i = 0; i < count; ++i)
            weights.emplace_back(shares + static_cast<std::ptrdiff_t>(i) * window,
                                 shares + static_cast<std::ptrdiff_t>(i + 1) * window);
        write_map(isa_core::weigh_windows(read_spans(spans, count), weights,
                                          isa_core::bilinear(cells, window, align_corners != 0), {start, stop}),
                  room, shape, index, weight);
    });
}

/// The number of windows, of which as many as there is room for are written.
INTERNALS_API int isa_arithmetic_slide_spans(int length, int crop, int stride, int room, std::int32_t *spans,
                                             int *count) {
    return guarded([&] {
        const std::vector<isa_core::Span> made = isa_core::slide_spans(length, crop, stride);
        *count = static_cast<int>(made.size());
        for (int i = 0; i < *count && i < room; ++i) {
            spans[2 * i] = made[static_cast<std::size_t>(i)].start;
            spans[2 * i + 1] = made[static_cast<std::size_t>(i)].stop;
        }
    });
}

/// A cut of one axis: windows and blocks (start, stop), and for each block the windows that have a say in it.
INTERNALS_API int isa_arithmetic_cut_axis(int length, int window, int overlap, int mode, int room,
                                          std::int32_t *windows, std::int32_t *blocks, std::int32_t *windows_of,
                                          int *count) {
    return guarded([&] {
        const isa_core::AxisCut cut = isa_core::cut_axis(length, window, overlap, static_cast<isa_core::CutMode>(mode));
        *count = static_cast<int>(cut.windows.size());
        for (int i = 0; i < *count && i < room; ++i) {
            const isa_core::Span of = cut.windows_of(i);
            const auto at = static_cast<std::size_t>(i);
            const std::int32_t row[] = {cut.windows[at].start,
                                        cut.windows[at].stop,
                                        cut.blocks[at].start,
                                        cut.blocks[at].stop,
                                        of.start,
                                        of.stop};
            std::memcpy(windows + 2 * i, row, 8);
            std::memcpy(blocks + 2 * i, row + 2, 8);
            std::memcpy(windows_of + 2 * i, row + 4, 8);
        }
    });
}

INTERNALS_API int isa_arithmetic_fit_size(int height, int width, int box_height, int box_width, std::int32_t *size) {
    return guarded([&] {
        const isa_core::Size fitted = isa_core::fit_size({height, width}, {box_height, box_width});
        size[0] = fitted.height;
        size[1] = fitted.width;
    });
}

/// An axis map as Python holds it.
struct isa_arithmetic_map {
    std::int32_t inputs, outputs, taps;
    const std::int32_t *index;
    const double *weight;
};

/// A plan to be used many times; isa_arithmetic_free_plan ends it.  Null where it threw.
INTERNALS_API isa_core::OwnedPlan *isa_arithmetic_plan(const isa_arithmetic_map *rows, const isa_arithmetic_map *cols,
                                                       int classes) {
    isa_core::OwnedPlan *plan = nullptr;
    guarded([&] {
        plan = new isa_core::OwnedPlan(read_map(rows->inputs, rows->outputs, rows->taps, rows->index, rows->weight),
                                       read_map(cols->inputs, cols->outputs, cols->taps, cols->index, cols->weight),
                                       classes);
    });
    return plan;
}

INTERNALS_API void isa_arithmetic_free_plan(isa_core::OwnedPlan *plan) {
    delete plan;
}

INTERNALS_API void isa_arithmetic_labels(const isa_core::OwnedPlan *plan, int simd, const float *logits_chw,
                                         std::uint8_t *labels_hw, std::ptrdiff_t row_stride) {
    kernels_of(simd).labels(plan->view(), logits_chw, labels_hw, row_stride);
}

INTERNALS_API void isa_arithmetic_full_logits(const isa_core::OwnedPlan *plan, int simd, const float *logits_chw,
                                              float *full_chw) {
    kernels_of(simd).full_logits(plan->view(), logits_chw, full_chw);
}

INTERNALS_API int isa_arithmetic_all_finite(int simd, const float *values, std::size_t count) {
    return kernels_of(simd).all_finite(values, count) ? 1 : 0;
}

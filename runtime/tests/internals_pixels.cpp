// Frame copy, resize and palette for Python's tests (tests/test_native_pixels.py), which call them through ctypes.
#include <algorithm>

#include <isa/isa.h>

#include "cpu.hpp"
#include "palette_kernel.hpp"
#include "resize.hpp"
#include "resize_kernel.hpp"

#if defined(__GNUC__)
#define ISA_INTERNALS extern "C" __attribute__((visibility("default")))
#else
#define ISA_INTERNALS extern "C"
#endif

namespace {

// What is asked for, or the most that the processor has.
isa_core::Simd level_of(int simd) {
    return static_cast<isa_core::Simd>(std::clamp(simd, 0, static_cast<int>(isa_core::simd())));
}

} // namespace

ISA_INTERNALS int isa_internals_simd() {
    return static_cast<int>(isa_core::simd());
}

ISA_INTERNALS void isa_internals_copy_frame(const isa_frame *frame, int swap, int simd, std::uint8_t *image_hwc) {
    isa_core::copy_frame(frame->data, frame->row_stride, {frame->height, frame->width}, swap != 0, image_hwc,
                         isa_core::resize_kernel(level_of(simd)));
}

/// 0, or -1 if there was not enough memory.
ISA_INTERNALS int isa_internals_resize(const isa_frame *frame, int swap, int simd, int height, int width,
                                       std::uint8_t *image_hwc) {
    try {
        isa_core::Resizer resizer({frame->height, frame->width}, {height, width},
                                  isa_core::resize_kernel(level_of(simd)));
        resizer.run(frame->data, frame->row_stride, swap != 0, image_hwc);
        return 0;
    } catch (...) { // none may reach ctypes
        return -1;
    }
}

ISA_INTERNALS void isa_internals_colorize(const isa_labels *labels, const std::uint8_t *palette_rgb,
                                          std::size_t num_colours, int simd, const isa_picture *picture) {
    isa_core::colorize(*labels, palette_rgb, num_colours, *picture, level_of(simd));
}

ISA_INTERNALS void isa_internals_overlay(const isa_frame *frame, const isa_labels *labels,
                                         const std::uint8_t *palette_rgb, std::size_t num_colours, double alpha,
                                         int simd, const isa_picture *picture) {
    isa_core::overlay(*frame, *labels, palette_rgb, num_colours, alpha, *picture, level_of(simd));
}

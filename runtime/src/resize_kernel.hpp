// The inner loops of frame copy and resize, one table of functions for each set of vector instructions.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu.hpp"
#include "size.hpp"

namespace isa_core {

/// Weights are of 11 bits, as OpenCV's INTER_RESIZE_COEF_BITS.
constexpr int kWeightOne = 2048;

/// Columns of the result that stretch_row makes at once; rows of sums are padded to a multiple of it.
constexpr int kColumnBlock = 8;

/// Sums kept for a pixel: three channels, and one of padding so that a pixel is 8 bytes.
constexpr int kSumsPerPixel = 4;

/// For every column of the result its left source pixel and the weights of that one and of its right neighbour.
/// Padded to a multiple of kColumnBlock by columns of weight 0 at source pixel 0.
struct ColumnTaps {
    int width_from;
    int width_to;
    const std::int32_t *left;
    const std::int16_t *weights; // (left, right) four times a column: what one vpmaddwd takes for a pixel
    int readable; // so many columns may read 16 bytes from their left pixel on; a multiple of kColumnBlock
};

struct ResizeKernel {
    /// image = frame with the first and third byte of each pixel exchanged; they do not overlap.
    void (*swap_pixels)(const std::uint8_t *frame, std::size_t pixels, std::uint8_t *image);

    /// sums = a row's weighted sums of neighbours, divided by 16: at most 2049 * 255 / 16, which fits int16.
    /// Their order is the kernel's own; there is room for kSumsPerPixel a padded column.
    void (*stretch_row)(const std::uint8_t *row, const ColumnTaps &taps, bool swap, std::int16_t *sums);

    /// image = two rows of sums weighted and rounded to bytes.
    void (*blend_rows)(const std::int16_t *upper, const std::int16_t *lower, std::int16_t weight_upper,
                       std::int16_t weight_lower, int width, std::uint8_t *image);

    /// image = means of 2 x 2 pixels; `width` is the result's, the rows have twice as many pixels.
    void (*halve_rows)(const std::uint8_t *upper, const std::uint8_t *lower, int width, bool swap, std::uint8_t *image);
};

/// The loops for a level, which the processor must have; those for avx512 are avx2's.
const ResizeKernel &resize_kernel(Simd level) noexcept;

extern const ResizeKernel kResizeAvx2;

/// copy_frame with loops of one's choice.
void copy_frame(const std::uint8_t *frame, std::ptrdiff_t row_stride, Size size, bool swap, std::uint8_t *image_hwc,
                const ResizeKernel &kernel);

} // namespace isa_core

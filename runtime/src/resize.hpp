// Frames into the engine's input: copied, turned round, resized as OpenCV does it (cv2.resize, INTER_LINEAR, uint8).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "size.hpp"

namespace isa_core {

struct ResizeKernel;

/// Copies a frame of 3 bytes a pixel into contiguous memory (height x width x 3); `swap` exchanges the first and third
/// byte.
void copy_frame(const std::uint8_t *frame, std::ptrdiff_t row_stride, Size size, bool swap, std::uint8_t *image_hwc);

/// Bilinear resize from one size to another, equal to the byte to cv2.resize(frame, interpolation=cv2.INTER_LINEAR).
/// run() allocates nothing.
class Resizer {
public:
    Resizer(Size from, Size to);
    Resizer(Size from, Size to, const ResizeKernel &kernel); // with loops of one's choice, for tests
    Size from() const { return from_; }
    Size to() const { return to_; }

    /// `frame`: of size from(), `row_stride` bytes a row (may be negative); `image_hwc`: to() x 3, contiguous.
    void run(const std::uint8_t *frame, std::ptrdiff_t row_stride, bool swap, std::uint8_t *image_hwc);

private:
    struct RowTaps {
        std::int32_t upper, lower;
        std::int16_t weight_upper, weight_lower;
    };

    bool halves() const;
    void plan_columns();
    void plan_rows();

    Size from_;
    Size to_;
    const ResizeKernel *kernel_;
    std::vector<std::int32_t> column_left_;
    std::vector<std::int16_t> column_weights_;
    int readable_columns_ = 0;
    std::vector<RowTaps> rows_;
    std::array<std::vector<std::int16_t>, 2> sums_; // two stretched rows of the frame
};

} // namespace isa_core

// cv2.resize(INTER_LINEAR) for uint8, in its own fixed point: OpenCV 4.10 and 5.0 give the same bytes
// (modules/imgproc/src/resize.cpp tells the arithmetic; tests/test_native_pixels.py holds it against cv2).
//
// A row is stretched first (weights of 11 bits, sums of up to 20), then two stretched rows are blended:
//     (((w0 * (s0 >> 4)) >> 16) + ((w1 * (s1 >> 4)) >> 16) + 2) >> 2
// s >> 4 fits int16, so it is what a stretched row keeps.  Half of both sides is another rule: the mean of 2 x 2.
#include "resize.hpp"

#include <cmath>
#include <cstring>

#include "resize_kernel.hpp"

namespace isa_core {

namespace {

void swap_pixels(const std::uint8_t *frame, std::size_t pixels, std::uint8_t *image) {
    for (std::size_t i = 0; i < 3 * pixels; i += 3) {
        image[i] = frame[i + 2];
        image[i + 1] = frame[i + 1];
        image[i + 2] = frame[i];
    }
}

void stretch_row(const std::uint8_t *row, const ColumnTaps &taps, bool swap, std::int16_t *sums) {
    const int first = swap ? 2 : 0;
    const int third = 2 - first;
    for (int x = 0; x < taps.width_to; ++x) {
        const std::uint8_t *left = row + 3 * static_cast<std::ptrdiff_t>(taps.left[x]);
        const std::uint8_t *right = taps.left[x] + 1 < taps.width_from ? left + 3 : left; // weight 0 in the last pixel
        const std::int16_t *weights = taps.weights + static_cast<std::ptrdiff_t>(x) * 8;
        const auto sum = [&](int channel) {
            return static_cast<std::int16_t>((left[channel] * weights[0] + right[channel] * weights[1]) >> 4);
        };
        sums[0] = sum(first);
        sums[1] = sum(1);
        sums[2] = sum(third);
        sums += 3;
    }
}

void blend_rows(const std::int16_t *upper, const std::int16_t *lower, std::int16_t weight_upper,
                std::int16_t weight_lower, int width, std::uint8_t *image) {
    for (std::ptrdiff_t i = 0; i < 3 * static_cast<std::ptrdiff_t>(width); ++i) {
        const int sum = ((weight_upper * upper[i]) >> 16) + ((weight_lower * lower[i]) >> 16);
        image[i] = static_cast<std::uint8_t>((sum + 2) >> 2);
    }
}

void halve_rows(const std::uint8_t *upper, const std::uint8_t *lower, int width, bool swap, std::uint8_t *image) {
    const int first = swap ? 2 : 0;
    const int third = 2 - first;
    for (int x = 0; x < width; ++x) {
        const auto mean = [&](int c) {
            return static_cast<std::uint8_t>((upper[c] + upper[c + 3] + lower[c] + lower[c + 3] + 2) >> 2);
        };
        image[0] = mean(first);
        image[1] = mean(1);
        image[2] = mean(third);
        upper += 6;
        lower += 6;
        image += 3;
    }
}

const ResizeKernel kPortable = {swap_pixels, stretch_row, blend_rows, halve_rows};

struct Position {
    int first;
    float part; // of the next pixel
};

// Double and float as in OpenCV, whose scale is the reciprocal of a quotient.
Position position_of(int index, int from, int to) {
    const double scale = 1.0 / (static_cast<double>(to) / from);
    const float exact = static_cast<float>((index + 0.5) * scale - 0.5);
    const float below = std::floor(exact);
    return {static_cast<int>(below), exact - below};
}

// To the nearest, halves to even (cvRound); the weights of a pair may sum to 2047 or 2049.
std::int16_t weight_of(float part) {
    return static_cast<std::int16_t>(std::lrint(part * static_cast<float>(kWeightOne)));
}

int clamp_index(int index, int count) {
    return index < 0 ? 0 : index < count ? index : count - 1;
}

} // namespace

const ResizeKernel &resize_kernel(Simd level) noexcept {
#if defined(ISA_X86_KERNELS)
    if (level != Simd::portable)
        return kResizeAvx2;
#endif
    (void)level;
    return kPortable;
}

void copy_frame(const std::uint8_t *frame, std::ptrdiff_t row_stride, Size size, bool swap, std::uint8_t *image_hwc,
                const ResizeKernel &kernel) {
    std::size_t pixels = static_cast<std::size_t>(size.width);
    int rows = size.height;
    const std::ptrdiff_t row_bytes = 3 * static_cast<std::ptrdiff_t>(size.width);
    if (row_stride == row_bytes) { // one long row
        pixels *= static_cast<std::size_t>(rows);
        rows = 1;
    }
    for (int y = 0; y < rows; ++y) {
        const std::uint8_t *row = frame + y * row_stride;
        if (swap)
            kernel.swap_pixels(row, pixels, image_hwc + y * row_bytes);
        else
            std::memcpy(image_hwc + y * row_bytes, row, 3 * pixels);
    }
}

void copy_frame(const std::uint8_t *frame, std::ptrdiff_t row_stride, Size size, bool swap, std::uint8_t *image_hwc) {
    copy_frame(frame, row_stride, size, swap, image_hwc, resize_kernel(simd()));
}

Resizer::Resizer(Size from, Size to) : Resizer(from, to, resize_kernel(simd())) {}

Resizer::Resizer(Size from, Size to, const ResizeKernel &kernel) : from_(from), to_(to), kernel_(&kernel) {
    if (from_ == to_ || halves())
        return;
    plan_columns();
    plan_rows();
    for (std::vector<std::int16_t> &sums : sums_)
        sums.resize(column_left_.size() * kSumsPerPixel);
}

bool Resizer::halves() const {
    return from_.height % 2 == 0 && from_.width % 2 == 0 && from_.height / 2 == to_.height &&
           from_.width / 2 == to_.width;
}

void Resizer::plan_columns() {
    const std::size_t columns = static_cast<std::size_t>(to_.width);
    const std::size_t padded = (columns + kColumnBlock - 1) / kColumnBlock * kColumnBlock;
    column_left_.resize(padded);
    column_weights_.resize(padded * 8);
    int readable = 0;
    for (int x = 0; x < to_.width; ++x) {
        Position position = position_of(x, from_.width, to_.width);
        // Beyond the frame's centres of pixels a column takes the whole of the outermost one.
        if (position.first < 0 || position.first >= from_.width - 1)
            position = {clamp_index(position.first, from_.width), 0.0F};
        const std::size_t i = static_cast<std::size_t>(x);
        column_left_[i] = position.first;
        for (std::size_t k = 0; k < 8; k += 2) {
            column_weights_[8 * i + k] = weight_of(1.0F - position.part);
            column_weights_[8 * i + k + 1] = weight_of(position.part);
        }
        if (from_.width - position.first >= 6) // 18 bytes
            readable = x + 1;
    }
    readable_columns_ = readable / kColumnBlock * kColumnBlock;
}

void Resizer::plan_rows() {
    rows_.reserve(static_cast<std::size_t>(to_.height));
    for (int y = 0; y < to_.height; ++y) {
        // Other than a column, a row keeps its weights at the border: 2048 or one beside it, for the same pixels.
        const Position position = position_of(y, from_.height, to_.height);
        rows_.push_back({clamp_index(position.first, from_.height), clamp_index(position.first + 1, from_.height),
                         weight_of(1.0F - position.part), weight_of(position.part)});
    }
}

void Resizer::run(const std::uint8_t *frame, std::ptrdiff_t row_stride, bool swap, std::uint8_t *image_hwc) {
    if (from_ == to_) {
        copy_frame(frame, row_stride, from_, swap, image_hwc, *kernel_);
        return;
    }
    const std::ptrdiff_t image_row = 3 * static_cast<std::ptrdiff_t>(to_.width);
    if (halves()) {
        for (int y = 0; y < to_.height; ++y) {
            const std::uint8_t *upper = frame + 2 * y * row_stride;
            kernel_->halve_rows(upper, upper + row_stride, to_.width, swap, image_hwc + y * image_row);
        }
        return;
    }
    const ColumnTaps taps = {from_.width, to_.width, column_left_.data(), column_weights_.data(), readable_columns_};
    std::array<int, 2> held = {-1, -1}; // rows of the frame that sums_ has
    const auto sums_of = [&](int row, int other) -> const std::int16_t * {
        for (std::size_t i = 0; i < 2; ++i)
            if (held[i] == row)
                return sums_[i].data();
        const std::size_t free = held[0] == other ? 1 : 0;
        kernel_->stretch_row(frame + row * row_stride, taps, swap, sums_[free].data());
        held[free] = row;
        return sums_[free].data();
    };
    for (int y = 0; y < to_.height; ++y) {
        const RowTaps &row = rows_[static_cast<std::size_t>(y)];
        const std::int16_t *upper = sums_of(row.upper, row.lower);
        const std::int16_t *lower = sums_of(row.lower, row.upper);
        kernel_->blend_rows(upper, lower, row.weight_upper, row.weight_lower, to_.width, image_hwc + y * image_row);
    }
}

} // namespace isa_core

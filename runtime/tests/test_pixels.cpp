// Frame copy, resize, colorize and overlay: every set of vector instructions that this processor has, byte by byte.
// tests/test_native_pixels.py holds the same against OpenCV and the Python runtime.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <random>
#include <vector>

#include <isa/isa.h>

#include "check.hpp"
#include "cpu.hpp"
#include "palette.hpp"
#include "palette_kernel.hpp"
#include "resize.hpp"
#include "resize_kernel.hpp"

namespace {

std::atomic<int> allocations{0};

} // namespace

// Not inlined: GCC would warn that free() belongs to malloc(), not to new.
[[gnu::noinline]] void *operator new(std::size_t size) {
    ++allocations;
    if (void *memory = std::malloc(size == 0 ? 1 : size))
        return memory;
    throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void *memory) noexcept {
    std::free(memory);
}
[[gnu::noinline]] void operator delete(void *memory, std::size_t) noexcept {
    std::free(memory);
}

namespace {

using isa_core::Simd;
using isa_core::Size;
using Bytes = std::vector<std::uint8_t>;

constexpr std::uint8_t kGuard = 0xA5;

std::vector<Simd> levels() {
    std::vector<Simd> all;
    for (int level = 0; level <= static_cast<int>(isa_core::simd()); ++level)
        all.push_back(static_cast<Simd>(level));
    return all;
}

std::mt19937 &generator() {
    static std::mt19937 numbers(7);
    return numbers;
}

int draw(int least, int most) {
    return std::uniform_int_distribution<int>(least, most)(generator());
}

Bytes random_bytes(std::size_t count) {
    Bytes bytes(count);
    std::generate(bytes.begin(), bytes.end(), [] { return static_cast<std::uint8_t>(draw(0, 255)); });
    return bytes;
}

enum class Rows { contiguous, padded, upside_down };
constexpr Rows kRows[] = {Rows::contiguous, Rows::padded, Rows::upside_down};

/// Rows of bytes in memory that ends with the last row's last byte, so that AddressSanitizer sees each byte too far.
class Plane {
public:
    Plane(int height, std::size_t row_bytes, Rows rows)
        : height_(static_cast<std::size_t>(height)), row_bytes_(row_bytes),
          step_(rows == Rows::contiguous ? row_bytes : row_bytes + 7), upside_down_(rows == Rows::upside_down),
          memory_((height_ - 1) * step_ + row_bytes, kGuard) {}

    std::ptrdiff_t stride() const {
        return upside_down_ ? -static_cast<std::ptrdiff_t>(step_) : static_cast<std::ptrdiff_t>(step_);
    }
    std::uint8_t *top() { return memory_.data() + (upside_down_ ? (height_ - 1) * step_ : 0); }
    std::uint8_t *row(std::size_t y) { return top() + static_cast<std::ptrdiff_t>(y) * stride(); }

    void fill(const Bytes &bytes) {
        for (std::size_t y = 0; y < height_; ++y)
            std::copy_n(bytes.data() + y * row_bytes_, row_bytes_, row(y));
    }
    Bytes bytes() {
        Bytes all;
        for (std::size_t y = 0; y < height_; ++y)
            all.insert(all.end(), row(y), row(y) + row_bytes_);
        return all;
    }
    bool guards_stand() const {
        for (std::size_t y = 0; y + 1 < height_; ++y)
            for (std::size_t i = y * step_ + row_bytes_; i < (y + 1) * step_; ++i)
                if (memory_[i] != kGuard)
                    return false;
        return true;
    }

private:
    std::size_t height_, row_bytes_, step_;
    bool upside_down_;
    Bytes memory_;
};

std::size_t row_bytes(int width) {
    return 3 * static_cast<std::size_t>(width);
}

std::size_t picture_bytes(Size size) {
    return row_bytes(size.width) * static_cast<std::size_t>(size.height);
}

Bytes exchanged(Bytes pixels) {
    for (std::size_t i = 0; i + 2 < pixels.size(); i += 3)
        std::swap(pixels[i], pixels[i + 2]);
    return pixels;
}

/// A result in the middle of guard bytes.
struct Guarded {
    explicit Guarded(std::size_t count) : memory(count + 128, kGuard) {}
    std::uint8_t *data() { return memory.data() + 64; }
    Bytes bytes() const { return Bytes(memory.begin() + 64, memory.end() - 64); }
    bool guards_stand() const {
        const auto is_guard = [](std::uint8_t byte) { return byte == kGuard; };
        return std::all_of(memory.begin(), memory.begin() + 64, is_guard) &&
               std::all_of(memory.end() - 64, memory.end(), is_guard);
    }
    Bytes memory;
};

Bytes resized(const Bytes &frame, Size from, Size to, bool swap, Simd level, Rows rows = Rows::contiguous) {
    Plane plane(from.height, row_bytes(from.width), rows);
    plane.fill(frame);
    Guarded image(picture_bytes(to));
    isa_core::Resizer resizer(from, to, isa_core::resize_kernel(level));
    resizer.run(plane.top(), plane.stride(), swap, image.data());
    CHECK(image.guards_stand());
    return image.bytes();
}

} // namespace

TEST("a frame is copied from rows of any stride, in its order or the other") {
    for (const int width : {1, 2, 5, 6, 7, 10, 11, 12, 16, 33, 100})
        for (const int height : {1, 3})
            for (const Rows rows : kRows)
                for (const Simd level : levels()) {
                    const Size size = {height, width};
                    const Bytes frame = random_bytes(picture_bytes(size));
                    Plane plane(height, row_bytes(width), rows);
                    plane.fill(frame);
                    for (const bool swap : {false, true}) {
                        Guarded image(picture_bytes(size));
                        isa_core::copy_frame(plane.top(), plane.stride(), size, swap, image.data(),
                                             isa_core::resize_kernel(level));
                        CHECK(image.bytes() == (swap ? exchanged(frame) : frame));
                        CHECK(image.guards_stand());
                    }
                }
}

TEST("a resize gives the bytes that OpenCV 5.0 gave") {
    // cv2.resize of numpy.arange(0, 18 * 14, 14, dtype=uint8).reshape(2, 3, 3) to 3 x 5,
    // and of its first row to 2 x 2
    const Bytes frame = {0, 14, 28, 42, 56, 70, 84, 98, 112, 126, 140, 154, 168, 182, 196, 210, 224, 238};
    const Bytes expected_3x5 = {0,   14,  28,  17,  31,  45,  42,  56,  70,  67,  81,  95,  84,  98,  112,
                                63,  77,  91,  80,  94,  108, 105, 119, 133, 130, 144, 158, 147, 161, 175,
                                126, 140, 154, 143, 157, 171, 168, 182, 196, 193, 207, 221, 210, 224, 238};
    const Bytes expected_2x2 = {10, 24, 38, 73, 87, 101, 10, 24, 38, 73, 87, 101};
    // ... and of 2 x 2 pixels to their mean, whose half is rounded up
    const Bytes four = {0, 255, 10, 1, 255, 20, 0, 254, 30, 1, 254, 41};
    const Bytes expected_mean = {1, 255, 25};
    for (const Simd level : levels()) {
        CHECK(resized(frame, {2, 3}, {3, 5}, false, level) == expected_3x5);
        CHECK(resized(Bytes(frame.begin(), frame.begin() + 9), {1, 3}, {2, 2}, false, level) == expected_2x2);
        CHECK(resized(four, {2, 2}, {1, 1}, false, level) == expected_mean);
    }
}

TEST("a resize is the same with all vector instructions, for rows of any stride, and per channel") {
    std::vector<std::pair<Size, Size>> sizes = {{{20, 40}, {10, 20}}, {{20, 42}, {10, 21}}, {{2, 2}, {1, 1}},
                                                {{40, 20}, {40, 10}}, {{1, 1}, {9, 30}},    {{1, 200}, {3, 7}},
                                                {{30, 1}, {7, 25}},   {{17, 33}, {17, 33}}, {{9, 5}, {31, 300}}};
    for (int width = 1; width <= 40; ++width)
        sizes.push_back({{4, 2 * width}, {2, width}}); // the mean of 2 x 2
    for (int i = 0; i < 150; ++i)
        sizes.push_back({{draw(1, 40), draw(1, 60)}, {draw(1, 40), draw(1, 60)}});
    for (const auto &[from, to] : sizes) {
        const Bytes frame = random_bytes(picture_bytes(from));
        const Bytes expected = resized(frame, from, to, false, Simd::portable);
        for (const Simd level : levels())
            for (const Rows rows : kRows) {
                CHECK(resized(frame, from, to, false, level, rows) == expected);
                CHECK(resized(frame, from, to, true, level, rows) == exchanged(expected));
            }
    }
}

TEST("a resize to the same size is a copy, and one of a plain picture is plain") {
    const Size from = {21, 37};
    const Bytes frame = random_bytes(picture_bytes(from));
    for (const Simd level : levels()) {
        CHECK(resized(frame, from, from, false, level) == frame);
        for (const Size to : {Size{50, 90}, Size{7, 11}, Size{40, 8}})
            CHECK(resized(Bytes(picture_bytes(from), 255), from, to, false, level) == Bytes(picture_bytes(to), 255));
    }
}

TEST("a second run of a Resizer allocates nothing and repeats the first") {
    for (const Size to : {Size{33, 70}, Size{10, 20}, Size{20, 40}}) {
        const Size from = {20, 40};
        const Bytes frame = random_bytes(picture_bytes(from));
        Bytes first(picture_bytes(to));
        Bytes second(picture_bytes(to));
        isa_core::Resizer resizer(from, to);
        const int before = allocations;
        resizer.run(frame.data(), 120, false, first.data());
        resizer.run(frame.data(), 120, false, second.data());
        CHECK_EQUAL(allocations.load(), before);
        CHECK(first == second);
    }
}

namespace {

struct Painting {
    Size size;
    Bytes frame, labels, palette_rgb;
    std::size_t colours() const { return palette_rgb.size() / 3; }
};

Painting random_painting(Size size, int colours) {
    Painting painting = {size, random_bytes(picture_bytes(size)), random_bytes(picture_bytes(size) / 3),
                         random_bytes(3 * static_cast<std::size_t>(colours))};
    // labels of the palette, its border, and beyond it
    for (std::uint8_t &label : painting.labels)
        if (draw(0, 3) > 0)
            label = static_cast<std::uint8_t>(draw(0, std::min(colours, 255)));
    return painting;
}

Bytes expected_colours(const Painting &painting, int order) {
    Bytes colours;
    for (const std::uint8_t label : painting.labels)
        for (std::size_t c = 0; c < 3; ++c) {
            const std::size_t channel = order == ISA_ORDER_RGB ? c : 2 - c;
            colours.push_back(label < painting.colours() ? painting.palette_rgb[3u * label + channel]
                                                         : std::uint8_t{0});
        }
    return colours;
}

std::uint8_t expected_blend(std::uint8_t value, std::uint8_t colour, double alpha) {
    if (alpha == 0.5)
        return static_cast<std::uint8_t>((value >> 1) + (colour >> 1) + (colour & 1));
    const float product = static_cast<float>(colour) * static_cast<float>(alpha);
    const float sum = std::fma(static_cast<float>(value), static_cast<float>(1 - alpha), product);
    return static_cast<std::uint8_t>(std::lrint(sum));
}

Bytes expected_overlay(const Painting &painting, int frame_order, int order, double alpha) {
    const bool turned = frame_order != ISA_ORDER_MODEL && (frame_order == ISA_ORDER_RGB) != (order == ISA_ORDER_RGB);
    const Bytes frame = turned ? exchanged(painting.frame) : painting.frame;
    Bytes picture = expected_colours(painting, order);
    for (std::size_t i = 0; i < picture.size(); ++i)
        picture[i] = expected_blend(frame[i], picture[i], alpha);
    return picture;
}

isa_labels labels_of(Plane &plane, Size size) {
    return {plane.top(), plane.stride(), size.height, size.width};
}

isa_picture picture_of(Plane &plane, Size size, int order) {
    return {plane.top(), plane.stride(), size.height, size.width, order};
}

isa_frame frame_of(Plane &plane, Size size, int order) {
    return {plane.top(), plane.stride(), size.height, size.width, order};
}

void check_painting(const Painting &painting, Rows rows, int frame_order, int order, double alpha) {
    const Size size = painting.size;
    Plane labels(size.height, static_cast<std::size_t>(size.width), rows);
    labels.fill(painting.labels);
    Plane frame(size.height, row_bytes(size.width), rows);
    frame.fill(painting.frame);
    const Bytes colours = expected_colours(painting, order);
    const Bytes blend = expected_overlay(painting, frame_order, order, alpha);
    for (const Simd level : levels()) {
        Plane picture(size.height, row_bytes(size.width), rows);
        isa_core::colorize(labels_of(labels, size), painting.palette_rgb.data(), painting.colours(),
                           picture_of(picture, size, order), level);
        CHECK(picture.bytes() == colours);
        isa_core::overlay(frame_of(frame, size, frame_order), labels_of(labels, size), painting.palette_rgb.data(),
                          painting.colours(), alpha, picture_of(picture, size, order), level);
        CHECK(picture.bytes() == blend);
        CHECK(picture.guards_stand());
    }
    CHECK(frame.bytes() == painting.frame);
    CHECK(labels.bytes() == painting.labels);
}

} // namespace

TEST("labels are painted and laid over a frame for palettes of every size, black beyond") {
    for (const int colours : {1, 2, 15, 16, 17, 19, 31, 32, 33, 63, 64, 65, 127, 128, 129, 150, 255, 256})
        for (const double alpha : {0.5, 0.3})
            check_painting(random_painting({3, 141}, colours), Rows::contiguous, ISA_ORDER_BGR, ISA_ORDER_BGR, alpha);
}

TEST("rows of every width are painted to their last byte and no further") {
    for (int width = 1; width <= 140; ++width)
        for (const Rows rows : kRows)
            check_painting(random_painting({2, width}, width % 2 == 0 ? 19 : 100), rows, ISA_ORDER_BGR, ISA_ORDER_BGR,
                           width % 3 == 0 ? 0.7 : 0.5);
    check_painting(random_painting({2, 1024 + 1000}, 19), Rows::padded, ISA_ORDER_RGB, ISA_ORDER_BGR, 0.5);
}

TEST("a frame's order is the picture's unless it says otherwise") {
    for (const int frame_order : {ISA_ORDER_MODEL, ISA_ORDER_BGR, ISA_ORDER_RGB})
        for (const int order : {ISA_ORDER_MODEL, ISA_ORDER_BGR, ISA_ORDER_RGB})
            for (const double alpha : {0.5, 0.25})
                check_painting(random_painting({5, 50}, 19), Rows::padded, frame_order, order, alpha);
}

TEST("an overlay rounds as a fused multiply-add does, for every pair of values") {
    Painting painting = {{256, 256}, Bytes(picture_bytes({256, 256})), Bytes(256 * 256), Bytes(3 * 256)};
    for (std::size_t i = 0; i < 256; ++i)
        for (std::size_t k = 0; k < 256; ++k) {
            painting.labels[256 * i + k] = static_cast<std::uint8_t>(k);
            for (std::size_t c = 0; c < 3; ++c) {
                painting.frame[3 * (256 * i + k) + c] = static_cast<std::uint8_t>(i);
                painting.palette_rgb[3 * k + c] = static_cast<std::uint8_t>(k);
            }
        }
    // with 0.1, 0.3, 0.7 and 0.9 many sums lie at a half, where a rounded product goes another way
    for (const double alpha : {0.0, 1.0, 0.5, 0.1, 0.3, 0.35, 1.0 / 3, 0.7, 0.9, 0.999, 1e-9, 1 - 1e-9, 1e-7})
        check_painting(painting, Rows::contiguous, ISA_ORDER_BGR, ISA_ORDER_BGR, alpha);
}

TEST("an overlay may be written into its frame") {
    for (const int width : {1, 31, 64, 100, 1100})
        for (const Rows rows : kRows)
            for (const double alpha : {0.5, 0.3})
                for (const Simd level : levels()) {
                    const Size size = {3, width};
                    const Painting painting = random_painting(size, 19);
                    Plane labels(size.height, static_cast<std::size_t>(width), rows);
                    labels.fill(painting.labels);
                    Plane frame(size.height, row_bytes(width), rows);
                    frame.fill(painting.frame);
                    isa_core::overlay(frame_of(frame, size, ISA_ORDER_BGR), labels_of(labels, size),
                                      painting.palette_rgb.data(), painting.colours(), alpha,
                                      picture_of(frame, size, ISA_ORDER_BGR), level);
                    CHECK(frame.bytes() == expected_overlay(painting, ISA_ORDER_BGR, ISA_ORDER_BGR, alpha));
                    CHECK(frame.guards_stand());
                }
}

TEST("colorize and overlay allocate nothing") {
    const Size size = {4, 100};
    const Painting painting = random_painting(size, 19);
    Plane labels(4, 100, Rows::contiguous);
    Plane frame(4, 300, Rows::contiguous);
    const isa_picture picture = picture_of(frame, size, ISA_ORDER_BGR);
    const int before = allocations;
    isa_core::colorize(labels_of(labels, size), painting.palette_rgb.data(), 19, picture);
    isa_core::overlay(frame_of(frame, size, ISA_ORDER_BGR), labels_of(labels, size), painting.palette_rgb.data(), 19,
                      0.5, picture);
    isa_core::overlay(frame_of(frame, size, ISA_ORDER_RGB), labels_of(labels, size), painting.palette_rgb.data(), 19,
                      0.4, picture);
    CHECK_EQUAL(allocations.load(), before);
}

int main(int argc, char **argv) {
    return check::run(argc, argv);
}

#include "palette.hpp"

#include <algorithm>
#include <cstring>

#include "palette_kernel.hpp"
#include "resize_kernel.hpp"

namespace isa_core {

namespace {

/// Pixels that are painted before they are blended: their colours and the turned frame stay in the first-level cache.
constexpr std::size_t kStripPixels = 1024;

bool is_rgb(std::int32_t order) {
    return order == ISA_ORDER_RGB;
}

void fill_table(ColourTable &table, const std::uint8_t *palette_rgb, std::size_t num_colours, bool rgb, bool halves) {
    std::memset(table.pixels, 0, sizeof table.pixels);
    std::memset(table.planes, 0, sizeof table.planes);
    table.colours = static_cast<int>(num_colours);
    for (std::size_t label = 0; label < num_colours; ++label) {
        for (std::size_t channel = 0; channel < 3; ++channel) {
            std::uint8_t value = palette_rgb[3 * label + (rgb ? channel : 2 - channel)];
            if (halves) // rounded up, where the frame's half is cut: 127 + 128 leaves no byte
                value = static_cast<std::uint8_t>((value >> 1) + (value & 1));
            table.pixels[label][channel] = value;
            if (label < kPlaneColours)
                table.planes[channel][label] = value;
        }
    }
}

} // namespace

const PaletteKernel &palette_kernel(Simd level) noexcept {
#if defined(ISA_X86_KERNELS)
    if (level == Simd::avx512)
        return kPaletteAvx512;
    if (level == Simd::avx2)
        return kPaletteAvx2;
#endif
    (void)level;
    return kPalettePortable;
}

void colorize(const isa_labels &labels, const std::uint8_t *palette_rgb, std::size_t num_colours,
              const isa_picture &picture, Simd level) noexcept {
    ColourTable table;
    fill_table(table, palette_rgb, num_colours, is_rgb(picture.order), false);
    const PaletteKernel &kernel = palette_kernel(level);
    for (std::int32_t y = 0; y < labels.height; ++y)
        kernel.paint(labels.data + y * labels.row_stride, static_cast<std::size_t>(labels.width), table,
                     picture.data + y * picture.row_stride);
}

void overlay(const isa_frame &frame, const isa_labels &labels, const std::uint8_t *palette_rgb, std::size_t num_colours,
             double alpha, const isa_picture &picture, Simd level) noexcept {
    const bool halves = alpha == 0.5; // as Python: the sum of halves differs from the formula by one half at most
    const bool swap = frame.order != ISA_ORDER_MODEL && is_rgb(frame.order) != is_rgb(picture.order);
    ColourTable table;
    fill_table(table, palette_rgb, num_colours, is_rgb(picture.order), halves);
    const PaletteKernel &kernel = palette_kernel(level);
    const ResizeKernel &copies = resize_kernel(level);
    alignas(64) std::uint8_t colours[3 * kStripPixels];
    alignas(64) std::uint8_t turned[3 * kStripPixels];
    const std::size_t width = static_cast<std::size_t>(labels.width);
    for (std::int32_t y = 0; y < labels.height; ++y) {
        const std::uint8_t *frame_row = frame.data + y * frame.row_stride;
        const std::uint8_t *labels_row = labels.data + y * labels.row_stride;
        std::uint8_t *picture_row = picture.data + y * picture.row_stride;
        for (std::size_t x = 0; x < width; x += kStripPixels) {
            const std::size_t pixels = std::min(kStripPixels, width - x);
            kernel.paint(labels_row + x, pixels, table, colours);
            const std::uint8_t *strip = frame_row + 3 * x;
            if (swap) {
                copies.swap_pixels(strip, pixels, turned);
                strip = turned;
            }
            if (halves)
                kernel.add_halves(strip, colours, 3 * pixels, picture_row + 3 * x);
            else
                kernel.add_weighted(strip, static_cast<float>(1 - alpha), colours, static_cast<float>(alpha),
                                    3 * pixels, picture_row + 3 * x);
        }
    }
}

void colorize(const isa_labels &labels, const std::uint8_t *palette_rgb, std::size_t num_colours,
              const isa_picture &picture) noexcept {
    colorize(labels, palette_rgb, num_colours, picture, simd());
}

void overlay(const isa_frame &frame, const isa_labels &labels, const std::uint8_t *palette_rgb, std::size_t num_colours,
             double alpha, const isa_picture &picture) noexcept {
    overlay(frame, labels, palette_rgb, num_colours, alpha, picture, simd());
}

} // namespace isa_core

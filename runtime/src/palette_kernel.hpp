// The inner loops of colorize and overlay, one table of functions for each set of vector instructions.
#pragma once

#include <cstddef>
#include <cstdint>

#include <isa/isa.h>

#include "cpu.hpp"

namespace isa_core {

/// Planes have colours for this many labels at most: four registers of pshufb.
constexpr int kPlaneColours = 64;

/// What a label is painted with, in the picture's order of bytes.  Entries from `colours` on are black.
struct ColourTable {
    alignas(64) std::uint8_t pixels[256][4];           // the fourth byte is 0
    alignas(64) std::uint8_t planes[3][kPlaneColours]; // the same bytes of the first labels, channel by channel
    int colours;                                       // 1 to 256
};

/// Everything but 3 bytes a pixel, or the bytes that are named, is left alone: nothing is read or written beyond.
struct PaletteKernel {
    /// picture = the colours of the labels.
    void (*paint)(const std::uint8_t *labels, std::size_t pixels, const ColourTable &table, std::uint8_t *picture);

    /// picture = (frame >> 1) + half_colours, byte by byte; picture may be frame.
    void (*add_halves)(const std::uint8_t *frame, const std::uint8_t *half_colours, std::size_t bytes,
                       std::uint8_t *picture);

    /// picture = frame * frame_weight + colours * colour_weight, in float: the second product is rounded, the first
    /// one goes into the sum as it is (a fused multiply-add), the sum is rounded to the nearest integer, halves to
    /// even.  picture may be frame.
    void (*add_weighted)(const std::uint8_t *frame, float frame_weight, const std::uint8_t *colours,
                         float colour_weight, std::size_t bytes, std::uint8_t *picture);
};

/// The loops for a level, which the processor must have.
const PaletteKernel &palette_kernel(Simd level) noexcept;

extern const PaletteKernel kPalettePortable;
extern const PaletteKernel kPaletteAvx2;
extern const PaletteKernel kPaletteAvx512;

/// colorize and overlay with loops of one's choice.
void colorize(const isa_labels &labels, const std::uint8_t *palette_rgb, std::size_t num_colours,
              const isa_picture &picture, Simd level) noexcept;
void overlay(const isa_frame &frame, const isa_labels &labels, const std::uint8_t *palette_rgb, std::size_t num_colours,
             double alpha, const isa_picture &picture, Simd level) noexcept;

} // namespace isa_core

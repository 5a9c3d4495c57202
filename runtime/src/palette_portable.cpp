#include "palette_kernel.hpp"

#include <cstring>

namespace isa_core {

namespace {

void paint(const std::uint8_t *labels, std::size_t pixels, const ColourTable &table, std::uint8_t *picture) {
    if (pixels == 0)
        return;
    const std::size_t last = pixels - 1;
    for (std::size_t i = 0; i < last; ++i) // one store a pixel; the next one overwrites the fourth byte
        std::memcpy(picture + 3 * i, table.pixels[labels[i]], 4);
    std::memcpy(picture + 3 * last, table.pixels[labels[last]], 3);
}

// picture[i] = blend(frame[i], colours[i]).  A picture that is the frame gets a loop of its own, of two arrays that do
// not overlap: compilers make vectors of both.
template <typename Blend>
void blend_bytes(const std::uint8_t *frame, const std::uint8_t *colours, std::size_t bytes, std::uint8_t *picture,
                 Blend blend) {
    if (frame == picture) {
        for (std::size_t i = 0; i < bytes; ++i)
            picture[i] = blend(picture[i], colours[i]);
    } else {
        for (std::size_t i = 0; i < bytes; ++i)
            picture[i] = blend(frame[i], colours[i]);
    }
}

void add_halves(const std::uint8_t *frame, const std::uint8_t *half_colours, std::size_t bytes, std::uint8_t *picture) {
    blend_bytes(frame, half_colours, bytes, picture, [](std::uint8_t value, std::uint8_t half_colour) {
        return static_cast<std::uint8_t>((value >> 1) + half_colour);
    });
}

float multiply_add(std::uint8_t value, float weight, float sum) {
#if defined(__FP_FAST_FMAF)
    return __builtin_fmaf(static_cast<float>(value), weight, sum);
#else
    // Without the instruction: the product is exact in double, and the sum is too unless one weight is below 2^-21;
    // then it lies nowhere near a half, and rounds to the same integer.
    return static_cast<float>(value * static_cast<double>(weight) + static_cast<double>(sum));
#endif
}

void add_weighted(const std::uint8_t *frame, float frame_weight, const std::uint8_t *colours, float colour_weight,
                  std::size_t bytes, std::uint8_t *picture) {
    blend_bytes(frame, colours, bytes, picture, [=](std::uint8_t value, std::uint8_t colour) {
        const float sum = multiply_add(value, frame_weight, static_cast<float>(colour) * colour_weight);
        // Added to a float below 2^22 it leaves no bits for a fraction: rounded to the nearest, halves to even.
        const float whole = 12582912.0F; // 1.5 * 2^23
        return static_cast<std::uint8_t>(static_cast<int>((sum + whole) - whole));
    });
}

} // namespace

const PaletteKernel kPalettePortable = {paint, add_halves, add_weighted};

} // namespace isa_core

// Compiled for AVX2 and FMA: it may include nothing with inline functions that another file would then share.
#include "palette_kernel.hpp"

#include <immintrin.h>

#include <cstring>

namespace isa_core {

namespace {

inline __m256i load(const void *address) {
    return _mm256_loadu_si256(static_cast<const __m256i *>(address));
}

inline void store(void *address, __m256i value) {
    _mm256_storeu_si256(static_cast<__m256i *>(address), value);
}

inline __m256i both_halves(const void *address) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(static_cast<const __m128i *>(address)));
}

// In each half, byte k of a channel to where it lies in the pixels: 3 k + channel, modulo 16.
alignas(16) constexpr std::int8_t kSpread[3][16] = {
    {0, 11, 6, 1, 12, 7, 2, 13, 8, 3, 14, 9, 4, 15, 10, 5},
    {5, 0, 11, 6, 1, 12, 7, 2, 13, 8, 3, 14, 9, 4, 15, 10},
    {10, 5, 0, 11, 6, 1, 12, 7, 2, 13, 8, 3, 14, 9, 4, 15},
};

// Bytes 0, 3, 6, ... of 16; the masks of the other channels begin one and two bytes later.
alignas(16) constexpr std::int8_t kEveryThird[18] = {-1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0, -1, 0, 0};

// The tables of a palette of fewer than 16 * kRegisters colours, in registers: pshufb looks up 32 labels at a time.
template <int kRegisters> class PlanePainter {
public:
    explicit PlanePainter(const ColourTable &table) : last_(_mm256_set1_epi8(static_cast<char>(16 * kRegisters - 1))) {
        for (int channel = 0; channel < 3; ++channel) {
            for (int part = 0; part < kRegisters; ++part)
                planes_[channel][part] = both_halves(table.planes[channel] + 16 * part);
            spread_[channel] = both_halves(kSpread[channel]);
        }
        second_ = both_halves(kEveryThird + 2);
        third_ = both_halves(kEveryThird + 1);
    }

    void paint_32(const std::uint8_t *labels, std::uint8_t *picture) const {
        // The last entry is black: there all labels beyond the palette go.
        const __m256i index = _mm256_min_epu8(load(labels), last_);
        const __m256i bit_4 = _mm256_slli_epi16(index, 3); // as the sign that blendv asks
        const __m256i bit_5 = _mm256_slli_epi16(index, 2);
        __m256i spread[3];
        for (int channel = 0; channel < 3; ++channel) {
            const __m256i(&plane)[kRegisters] = planes_[channel];
            __m256i found = _mm256_shuffle_epi8(plane[0], index);
            if constexpr (kRegisters > 1)
                found = _mm256_blendv_epi8(found, _mm256_shuffle_epi8(plane[1], index), bit_4);
            if constexpr (kRegisters > 2) {
                const __m256i upper = _mm256_blendv_epi8(_mm256_shuffle_epi8(plane[2], index),
                                                         _mm256_shuffle_epi8(plane[3], index), bit_4);
                found = _mm256_blendv_epi8(found, upper, bit_5);
            }
            spread[channel] = _mm256_shuffle_epi8(found, spread_[channel]);
        }
        // Each half has 48 bytes of pixels, in three pieces of 16: piece p's byte j is of channel (16 p + j) mod 3.
        const __m256i pieces[3] = {mix(spread[0], spread[1], spread[2]), mix(spread[1], spread[2], spread[0]),
                                   mix(spread[2], spread[0], spread[1])};
        store(picture, _mm256_permute2x128_si256(pieces[0], pieces[1], 0x20));
        store(picture + 32, _mm256_blend_epi32(pieces[2], pieces[0], 0xF0));
        store(picture + 64, _mm256_permute2x128_si256(pieces[1], pieces[2], 0x31));
    }

private:
    // Bytes 0, 3, ... of the first, 1, 4, ... of the second, 2, 5, ... of the third.
    __m256i mix(__m256i first, __m256i second, __m256i third) const {
        return _mm256_blendv_epi8(_mm256_blendv_epi8(first, second, second_), third, third_);
    }

    __m256i planes_[3][kRegisters];
    __m256i spread_[3];
    __m256i second_, third_; // where mix() takes its second and third argument
    __m256i last_;
};

template <int kRegisters>
void paint_from_planes(const std::uint8_t *labels, std::size_t pixels, const ColourTable &table,
                       std::uint8_t *picture) {
    const PlanePainter<kRegisters> painter(table);
    std::size_t i = 0;
    for (; i + 32 <= pixels; i += 32)
        painter.paint_32(labels + i, picture + 3 * i);
    if (i < pixels) {
        std::uint8_t last_labels[32] = {};
        std::uint8_t last_pixels[96];
        std::memcpy(last_labels, labels + i, pixels - i);
        painter.paint_32(last_labels, last_pixels);
        std::memcpy(picture + 3 * i, last_pixels, 3 * (pixels - i));
    }
}

void paint_from_pixels(const std::uint8_t *labels, std::size_t pixels, const ColourTable &table,
                       std::uint8_t *picture) {
    std::size_t i = 0;
    for (; i + 4 <= pixels; i += 2) { // a store of 8 bytes for two pixels, of which the next one mends the rest
        std::uint64_t first = 0;
        std::uint64_t second = 0;
        std::memcpy(&first, table.pixels[labels[i]], 4);
        std::memcpy(&second, table.pixels[labels[i + 1]], 4);
        const std::uint64_t two = first | second << 24;
        std::memcpy(picture + 3 * i, &two, 8);
    }
    for (; i < pixels; ++i)
        std::memcpy(picture + 3 * i, table.pixels[labels[i]], 3);
}

void paint(const std::uint8_t *labels, std::size_t pixels, const ColourTable &table, std::uint8_t *picture) {
    if (table.colours < 16)
        paint_from_planes<1>(labels, pixels, table, picture);
    else if (table.colours < 32)
        paint_from_planes<2>(labels, pixels, table, picture);
    else if (table.colours < 64)
        paint_from_planes<4>(labels, pixels, table, picture);
    else
        paint_from_pixels(labels, pixels, table, picture);
}

void add_halves(const std::uint8_t *frame, const std::uint8_t *half_colours, std::size_t bytes, std::uint8_t *picture) {
    const __m256i seven_bits = _mm256_set1_epi8(127);
    std::size_t i = 0;
    for (; i + 32 <= bytes; i += 32) {
        const __m256i half = _mm256_and_si256(_mm256_srli_epi16(load(frame + i), 1), seven_bits);
        store(picture + i, _mm256_add_epi8(half, load(half_colours + i)));
    }
    for (; i < bytes; ++i)
        picture[i] = static_cast<std::uint8_t>((frame[i] >> 1) + half_colours[i]);
}

struct Weights {
    __m256 frame, colour;
};

inline __m256 eight_floats(const std::uint8_t *bytes) {
    const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i *>(bytes));
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(eight));
}

inline __m256i weighted_8(const std::uint8_t *frame, const std::uint8_t *colours, const Weights &weights) {
    const __m256 colour = _mm256_mul_ps(eight_floats(colours), weights.colour);
    return _mm256_cvtps_epi32(_mm256_fmadd_ps(eight_floats(frame), weights.frame, colour));
}

inline __m256i weighted_32(const std::uint8_t *frame, const std::uint8_t *colours, const Weights &weights) {
    const __m256i low =
        _mm256_packs_epi32(weighted_8(frame, colours, weights), weighted_8(frame + 8, colours + 8, weights));
    const __m256i high = _mm256_packs_epi32(weighted_8(frame + 16, colours + 16, weights),
                                            weighted_8(frame + 24, colours + 24, weights));
    // packing works in each half: eights of the four groups alternate
    const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    return _mm256_permutevar8x32_epi32(_mm256_packus_epi16(low, high), in_order);
}

void add_weighted(const std::uint8_t *frame, float frame_weight, const std::uint8_t *colours, float colour_weight,
                  std::size_t bytes, std::uint8_t *picture) {
    const Weights weights = {_mm256_set1_ps(frame_weight), _mm256_set1_ps(colour_weight)};
    std::size_t i = 0;
    for (; i + 32 <= bytes; i += 32)
        store(picture + i, weighted_32(frame + i, colours + i, weights));
    if (i < bytes) {
        std::uint8_t last_frame[32] = {};
        std::uint8_t last_colours[32] = {};
        std::memcpy(last_frame, frame + i, bytes - i);
        std::memcpy(last_colours, colours + i, bytes - i);
        store(last_frame, weighted_32(last_frame, last_colours, weights));
        std::memcpy(picture + i, last_frame, bytes - i);
    }
}

} // namespace

const PaletteKernel kPaletteAvx2 = {paint, add_halves, add_weighted};

} // namespace isa_core

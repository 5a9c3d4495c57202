// Compiled for AVX-512 F, BW, DQ and VL: it may include nothing with inline functions that another file would share.
#include "palette_kernel.hpp"

#include <immintrin.h>

namespace isa_core {

namespace {

inline __mmask64 first_bytes(std::size_t count) {
    return count >= 64 ? ~__mmask64{0} : (__mmask64{1} << count) - 1;
}

inline __mmask64 first_bytes_from(std::size_t count, std::size_t start) {
    return count <= start ? 0 : first_bytes(count - start);
}

// Pixels from as many pairs of registers: one vpermi2d chooses within a pair, a bit of the index between halves.
template <int kPairs> inline __m512i looked_up(const __m512i *pixels, __m512i index) {
    if constexpr (kPairs == 1) {
        return _mm512_permutex2var_epi32(pixels[0], index, pixels[1]);
    } else {
        const __mmask16 upper = _mm512_test_epi32_mask(index, _mm512_set1_epi32(16 * kPairs));
        return _mm512_mask_mov_epi32(looked_up<kPairs / 2>(pixels, index), upper,
                                     looked_up<kPairs / 2>(pixels + kPairs, index));
    }
}

// A palette of fewer than 32 * kPairs colours in registers, which hold 16 pixels each.
template <int kPairs> class PixelPainter {
public:
    explicit PixelPainter(const ColourTable &table) : last_(_mm_set1_epi8(static_cast<char>(32 * kPairs - 1))) {
        for (int part = 0; part < 2 * kPairs; ++part)
            pixels_[part] = _mm512_loadu_si512(table.pixels[16 * part]);
    }

    void paint_64(const std::uint8_t *labels, std::uint8_t *picture) const {
        __m512i quarters[4];
        for (int k = 0; k < 4; ++k)
            quarters[k] = colours_of(_mm_loadu_si128(reinterpret_cast<const __m128i *>(labels + 16 * k)));
        __m512i joined[3];
        join(quarters, joined);
        for (int k = 0; k < 3; ++k)
            _mm512_storeu_si512(picture + 64 * k, joined[k]);
    }

    void paint_fewer(const std::uint8_t *labels, std::size_t pixels, std::uint8_t *picture) const {
        __m512i quarters[4];
        for (std::size_t k = 0; k < 4; ++k) {
            const __mmask16 there = static_cast<__mmask16>(first_bytes_from(pixels, 16 * k));
            quarters[k] = colours_of(_mm_maskz_loadu_epi8(there, labels + 16 * k));
        }
        __m512i joined[3];
        join(quarters, joined);
        for (std::size_t k = 0; k < 3; ++k)
            _mm512_mask_storeu_epi8(picture + 64 * k, first_bytes_from(3 * pixels, 64 * k), joined[k]);
    }

private:
    // 16 pixels of 4 bytes.
    __m512i colours_of(__m128i labels) const {
        // The last entry is black (unless there are 256 colours): there all labels beyond the palette go.
        const __m512i index = _mm512_cvtepu8_epi32(_mm_min_epu8(labels, last_));
        return looked_up<kPairs>(pixels_, index);
    }

    // Four times 16 pixels of 4 bytes as 192 bytes: within each 16 bytes first, then by words of 4 bytes.
    static void join(const __m512i (&quarters)[4], __m512i (&joined)[3]) {
        const __m512i without_fourth =
            _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
        __m512i packed[4];
        for (int k = 0; k < 4; ++k)
            packed[k] = _mm512_shuffle_epi8(quarters[k], without_fourth);
        const __m512i words_0 = _mm512_setr_epi32(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 16, 17, 18, 20);
        const __m512i words_1 = _mm512_setr_epi32(5, 6, 8, 9, 10, 12, 13, 14, 16, 17, 18, 20, 21, 22, 24, 25);
        const __m512i words_2 = _mm512_setr_epi32(10, 12, 13, 14, 16, 17, 18, 20, 21, 22, 24, 25, 26, 28, 29, 30);
        joined[0] = _mm512_permutex2var_epi32(packed[0], words_0, packed[1]);
        joined[1] = _mm512_permutex2var_epi32(packed[1], words_1, packed[2]);
        joined[2] = _mm512_permutex2var_epi32(packed[2], words_2, packed[3]);
    }

    __m512i pixels_[2 * kPairs];
    __m128i last_;
};

template <int kPairs>
void paint_from_registers(const std::uint8_t *labels, std::size_t pixels, const ColourTable &table,
                          std::uint8_t *picture) {
    const PixelPainter<kPairs> painter(table);
    std::size_t i = 0;
    for (; i + 64 <= pixels; i += 64)
        painter.paint_64(labels + i, picture + 3 * i);
    if (i < pixels)
        painter.paint_fewer(labels + i, pixels - i, picture + 3 * i);
}

void paint(const std::uint8_t *labels, std::size_t pixels, const ColourTable &table, std::uint8_t *picture) {
    if (table.colours < 32)
        paint_from_registers<1>(labels, pixels, table, picture);
    else if (table.colours < 64)
        paint_from_registers<2>(labels, pixels, table, picture);
    else if (table.colours < 128)
        paint_from_registers<4>(labels, pixels, table, picture);
    else
        paint_from_registers<8>(labels, pixels, table, picture);
}

void add_halves(const std::uint8_t *frame, const std::uint8_t *half_colours, std::size_t bytes, std::uint8_t *picture) {
    const __m512i seven_bits = _mm512_set1_epi8(127);
    const auto sum = [&](__m512i frame_64, __m512i colours_64) {
        return _mm512_add_epi8(_mm512_and_si512(_mm512_srli_epi16(frame_64, 1), seven_bits), colours_64);
    };
    std::size_t i = 0;
    for (; i + 64 <= bytes; i += 64)
        _mm512_storeu_si512(picture + i, sum(_mm512_loadu_si512(frame + i), _mm512_loadu_si512(half_colours + i)));
    if (i < bytes) {
        const __mmask64 there = first_bytes(bytes - i);
        _mm512_mask_storeu_epi8(
            picture + i, there,
            sum(_mm512_maskz_loadu_epi8(there, frame + i), _mm512_maskz_loadu_epi8(there, half_colours + i)));
    }
}

void add_weighted(const std::uint8_t *frame, float frame_weight, const std::uint8_t *colours, float colour_weight,
                  std::size_t bytes, std::uint8_t *picture) {
    const __m512 weight = _mm512_set1_ps(frame_weight);
    const __m512 weight_of_colours = _mm512_set1_ps(colour_weight);
    const auto sum = [&](__m128i frame_16, __m128i colours_16) {
        const __m512 colour = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(colours_16)), weight_of_colours);
        return _mm512_cvtps_epi32(_mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(frame_16)), weight, colour));
    };
    const auto load_16 = [](const std::uint8_t *address) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i *>(address));
    };
    // packing works in each 16 bytes: fours of the four groups alternate
    const __m512i in_order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    std::size_t i = 0;
    for (; i + 64 <= bytes; i += 64) {
        __m512i sums[4];
        for (std::size_t k = 0; k < 4; ++k)
            sums[k] = sum(load_16(frame + i + 16 * k), load_16(colours + i + 16 * k));
        const __m512i packed =
            _mm512_packus_epi16(_mm512_packs_epi32(sums[0], sums[1]), _mm512_packs_epi32(sums[2], sums[3]));
        _mm512_storeu_si512(picture + i, _mm512_permutexvar_epi32(in_order, packed));
    }
    for (; i < bytes; i += 16) {
        const __mmask16 there = static_cast<__mmask16>(first_bytes(bytes - i));
        const __m512i sums = sum(_mm_maskz_loadu_epi8(there, frame + i), _mm_maskz_loadu_epi8(there, colours + i));
        _mm_mask_storeu_epi8(picture + i, there, _mm512_cvtusepi32_epi8(sums));
    }
}

} // namespace

const PaletteKernel kPaletteAvx512 = {paint, add_halves, add_weighted};

} // namespace isa_core

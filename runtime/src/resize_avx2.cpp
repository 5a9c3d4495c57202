// Compiled for AVX2: it may include nothing with inline functions that another file would then share.
#include "resize_kernel.hpp"

#include <immintrin.h>

#include <cstring>

namespace isa_core {

namespace {

// Two unaligned halves as one register; the second needs no shuffle port.
inline __m256i load_two(const void *low, const void *high) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(static_cast<const __m128i *>(low))),
                                   _mm_loadu_si128(static_cast<const __m128i *>(high)), 1);
}

inline __m256i load(const void *address) {
    return _mm256_loadu_si256(static_cast<const __m256i *>(address));
}

inline void store(void *address, __m256i value) {
    _mm256_storeu_si256(static_cast<__m256i *>(address), value);
}

inline __m256i both_halves(__m128i value) {
    return _mm256_broadcastsi128_si256(value);
}

// 12 bytes from each half's begin, one behind the other; 4 bytes more are written.
inline void store_24(std::uint8_t *image, __m256i pixels) {
    _mm_storeu_si128(reinterpret_cast<__m128i *>(image), _mm256_castsi256_si128(pixels));
    _mm_storeu_si128(reinterpret_cast<__m128i *>(image + 12), _mm256_extracti128_si256(pixels, 1));
}

void swap_pixels(const std::uint8_t *frame, std::size_t pixels, std::uint8_t *image) {
    // 16 bytes are five pixels and one byte, which the next store mends.
    const __m128i order = _mm_setr_epi8(2, 1, 0, 5, 4, 3, 8, 7, 6, 11, 10, 9, 14, 13, 12, 15);
    std::size_t i = 0;
    for (; i + 6 <= pixels; i += 5) {
        const __m128i five = _mm_loadu_si128(reinterpret_cast<const __m128i *>(frame + 3 * i));
        _mm_storeu_si128(reinterpret_cast<__m128i *>(image + 3 * i), _mm_shuffle_epi8(five, order));
    }
    for (; i < pixels; ++i) {
        image[3 * i] = frame[3 * i + 2];
        image[3 * i + 1] = frame[3 * i + 1];
        image[3 * i + 2] = frame[3 * i];
    }
}

// Sums of two columns: in each half (left, right) of the three channels as pairs of 16 bits, times the weights.
inline __m256i two_columns(const std::uint8_t *a, const std::uint8_t *b, const std::int16_t *weights, __m256i pairs) {
    const __m256i neighbours = _mm256_shuffle_epi8(load_two(a, b), pairs);
    return _mm256_srli_epi32(_mm256_madd_epi16(neighbours, load(weights)), 4);
}

// Eight columns; the order of their sums is 0 2 1 3 4 6 5 7, which blend_rows undoes.
template <typename PixelAt>
inline void stretch_block(PixelAt pixel_at, const std::int16_t *weights, __m256i pairs, std::int16_t *sums) {
    const __m256i c01 = two_columns(pixel_at(0), pixel_at(1), weights, pairs);
    const __m256i c23 = two_columns(pixel_at(2), pixel_at(3), weights + 16, pairs);
    const __m256i c45 = two_columns(pixel_at(4), pixel_at(5), weights + 32, pairs);
    const __m256i c67 = two_columns(pixel_at(6), pixel_at(7), weights + 48, pairs);
    store(sums, _mm256_packs_epi32(c01, c23));
    store(sums + 16, _mm256_packs_epi32(c45, c67));
}

void stretch_row(const std::uint8_t *row, const ColumnTaps &taps, bool swap, std::int16_t *sums) {
    const __m256i pairs = both_halves(swap ? _mm_setr_epi8(2, -1, 5, -1, 1, -1, 4, -1, 0, -1, 3, -1, -1, -1, -1, -1)
                                           : _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
    std::ptrdiff_t x = 0;
    for (; x < taps.readable; x += kColumnBlock) {
        const std::int32_t *left = taps.left + x;
        stretch_block([&](int i) { return row + 3 * static_cast<std::ptrdiff_t>(left[i]); }, taps.weights + 8 * x,
                      pairs, sums + kSumsPerPixel * x);
    }
    // 16 bytes from here on would leave the row: each column's pixels are copied to where they do not.
    alignas(32) std::uint8_t pixels[kColumnBlock][16] = {};
    for (; x < taps.width_to; x += kColumnBlock) {
        for (int i = 0; i < kColumnBlock; ++i) {
            const std::int32_t left = taps.left[x + i];
            std::memcpy(pixels[i], row + 3 * static_cast<std::ptrdiff_t>(left), 3);
            if (left + 1 < taps.width_from)
                std::memcpy(pixels[i] + 3, row + 3 * static_cast<std::ptrdiff_t>(left) + 3, 3);
        }
        stretch_block([&](int i) { return pixels[i]; }, taps.weights + 8 * x, pairs, sums + kSumsPerPixel * x);
    }
}

void blend_rows(const std::int16_t *upper, const std::int16_t *lower, std::int16_t weight_upper,
                std::int16_t weight_lower, int width, std::uint8_t *image) {
    const __m256i w0 = _mm256_set1_epi16(weight_upper);
    const __m256i w1 = _mm256_set1_epi16(weight_lower);
    const __m256i two = _mm256_set1_epi16(2);
    const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i without_padding = both_halves(_mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
    const auto four = [&](std::ptrdiff_t i) {
        const __m256i sum =
            _mm256_add_epi16(_mm256_mulhi_epi16(load(upper + i), w0), _mm256_mulhi_epi16(load(lower + i), w1));
        return _mm256_srai_epi16(_mm256_add_epi16(sum, two), 2);
    };
    const auto eight = [&](std::ptrdiff_t x) {
        const std::ptrdiff_t i = kSumsPerPixel * x;
        const __m256i pixels = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(four(i), four(i + 16)), in_order);
        return _mm256_shuffle_epi8(pixels, without_padding);
    };
    std::ptrdiff_t x = 0;
    for (; x + kColumnBlock + 2 <= width; x += kColumnBlock)
        store_24(image + 3 * x, eight(x));
    for (; x < width; x += kColumnBlock) {
        std::uint8_t last[32];
        store_24(last, eight(x));
        const std::ptrdiff_t left = width - x;
        std::memcpy(image + 3 * x, last, static_cast<std::size_t>(3 * (left < kColumnBlock ? left : kColumnBlock)));
    }
}

void halve_rows(const std::uint8_t *upper, const std::uint8_t *lower, int width, bool swap, std::uint8_t *image) {
    // Four pixels are two of the result: six pairs of neighbours, in each half.
    const __m256i pairs = both_halves(swap ? _mm_setr_epi8(2, 5, 1, 4, 0, 3, 8, 11, 7, 10, 6, 9, -1, -1, -1, -1)
                                           : _mm_setr_epi8(0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11, -1, -1, -1, -1));
    const __m256i ones = _mm256_set1_epi8(1);
    const __m256i two = _mm256_set1_epi16(2);
    // The halves are 24 bytes apart, so that packing leaves 12 bytes of neighbours in each.
    const __m256i without_gaps = both_halves(_mm_setr_epi8(0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, -1, -1, -1, -1));
    const auto row_sums = [&](const std::uint8_t *row) {
        return _mm256_maddubs_epi16(_mm256_shuffle_epi8(load_two(row, row + 24), pairs), ones);
    };
    const auto four = [&](std::ptrdiff_t i) {
        const __m256i sum = _mm256_add_epi16(row_sums(upper + i), row_sums(lower + i));
        return _mm256_srli_epi16(_mm256_add_epi16(sum, two), 2);
    };
    std::ptrdiff_t x = 0;
    for (; x + 8 + 2 <= width; x += 8) { // reads 4 bytes more than eight pixels' and writes 4 more
        const __m256i eight = _mm256_packus_epi16(four(6 * x), four(6 * x + 12));
        store_24(image + 3 * x, _mm256_shuffle_epi8(eight, without_gaps));
    }
    for (; x < width; ++x) {
        for (int c = 0; c < 3; ++c) {
            const std::ptrdiff_t i = 6 * x + (swap ? 2 - c : c);
            image[3 * x + c] = static_cast<std::uint8_t>((upper[i] + upper[i + 3] + lower[i] + lower[i + 3] + 2) >> 2);
        }
    }
}

} // namespace

const ResizeKernel kResizeAvx2 = {swap_pixels, stretch_row, blend_rows, halve_rows};

} // namespace isa_core

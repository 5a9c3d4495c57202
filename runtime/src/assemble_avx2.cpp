// The assembler with AVX2 and FMA: compiled with their flags, called only where the processor has them.
#include "assemble_kernel.hpp"

#include <immintrin.h>

namespace isa_core {
namespace {

struct Avx2 {
    static constexpr int kWidth = 8;
    static constexpr int kRows = 4;
    using Floats = __m256;
    using Labels = __m256i;

    static Floats load(const float *from) { return _mm256_loadu_ps(from); }
    static void store(float *to, Floats values) { _mm256_storeu_ps(to, values); }
    static Floats all(float value) { return _mm256_set1_ps(value); }
    static Floats times(Floats w, Floats x) { return _mm256_mul_ps(w, x); }
    static Floats fused(Floats w, Floats x, Floats sum) { return _mm256_fmadd_ps(w, x, sum); }
    static Floats smaller(Floats a, Floats b) { return _mm256_min_ps(a, b); }
    static Floats larger(Floats a, Floats b) { return _mm256_max_ps(a, b); }
    static Floats magnitude(Floats a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0F), a); }
    static float largest_lane(Floats a) {
        __m128 most = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
        most = _mm_max_ps(most, _mm_movehl_ps(most, most));
        return _mm_cvtss_f32(_mm_max_ss(most, _mm_movehdup_ps(most)));
    }
    static unsigned at_least(Floats a, Floats b) {
        return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ)));
    }

    static int append(int32_t *to, int first, unsigned lanes) {
        int count = 0;
        for (; lanes != 0; lanes &= lanes - 1)
            to[count++] = first + __builtin_ctz(lanes);
        return count;
    }

    static Floats most_bits(Floats a, Floats b) {
        return _mm256_castsi256_ps(_mm256_max_epu32(_mm256_castps_si256(a), _mm256_castps_si256(b)));
    }
    static bool below_infinity(Floats a) {
        // without their signs the bits are positive integers
        return _mm256_movemask_epi8(_mm256_cmpgt_epi32(_mm256_set1_epi32(0x7F800000), _mm256_castps_si256(a))) == -1;
    }

    static Labels label(int number) { return _mm256_set1_epi32(number); }
    static void challenge(Floats next, Labels label, Floats &best, Labels &winner) {
        const __m256i better = _mm256_castps_si256(_mm256_cmp_ps(next, best, _CMP_GT_OQ));
        best = _mm256_max_ps(next, best);
        // labels come in rising order, so the last better one is the largest
        winner = _mm256_max_epi32(winner, _mm256_and_si256(better, label));
    }
    static void store_labels(uint8_t *to, Labels labels, int columns) {
        const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(labels), _mm256_extracti128_si256(labels, 1));
        const __m128i bytes = _mm_packus_epi16(words, words);
        if (columns >= 8) {
            _mm_storel_epi64(reinterpret_cast<__m128i *>(to), bytes);
            return;
        }
        alignas(16) uint8_t lanes[16];
        _mm_store_si128(reinterpret_cast<__m128i *>(lanes), bytes);
        for (int i = 0; i < columns; ++i)
            to[i] = lanes[i];
    }
    static void fill_labels(uint8_t *to, uint8_t label, int columns) {
        if (columns == kTileCols) {
            _mm_storeu_si128(reinterpret_cast<__m128i *>(to), _mm_set1_epi8(static_cast<char>(label)));
            return;
        }
        for (int i = 0; i < columns; ++i)
            to[i] = label;
    }

    /// Picks half a tile's columns out of a row of the grid: out of one register where they are near each other.
    struct Source {
        const float *row;
        Floats cells;
    };
    struct Picker {
        Picker(const ColumnTile &tile, int part)
            : near_(tile.half_span[part / kWidth] <= kWidth), skipped_(tile.half_first[part / kWidth] - tile.first) {}
        Source source(const float *row) const { return {row, _mm256_loadu_ps(row + skipped_)}; }
        Floats at(const Source &source, const int32_t *places) const {
            const __m256i place = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(places));
            return near_ ? _mm256_permutevar8x32_ps(source.cells, _mm256_sub_epi32(place, _mm256_set1_epi32(skipped_)))
                         : _mm256_i32gather_ps(source.row, place, 4);
        }
        bool near_;
        int skipped_;
    };

#include "assemble_turn.inc"
};

} // namespace
} // namespace isa_core

#include "assemble_kernel.inc"

namespace isa_core {

const AssembleKernels kAssembleAvx2 = {label_picture<Avx2>, full_logits<Avx2>, finite<Avx2>};

} // namespace isa_core

// The assembler with AVX-512: compiled with its flags, called only where the processor has it.
#include "assemble_kernel.hpp"

#include <immintrin.h>

#if defined(__GNUC__) && !defined(__clang__)
// GCC 12's own header makes its undefined vectors as `__m512 y = y` and warns of them (GCC bug 105593)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

namespace isa_core {
namespace {

struct Avx512 {
    static constexpr int kWidth = 16;
    static constexpr int kRows = 8;
    using Floats = __m512;
    using Labels = __m512i;

    static Floats load(const float *from) { return _mm512_loadu_ps(from); }
    static void store(float *to, Floats values) { _mm512_storeu_ps(to, values); }
    static Floats all(float value) { return _mm512_set1_ps(value); }
    static Floats times(Floats w, Floats x) { return _mm512_mul_ps(w, x); }
    static Floats fused(Floats w, Floats x, Floats sum) { return _mm512_fmadd_ps(w, x, sum); }
    static Floats smaller(Floats a, Floats b) { return _mm512_min_ps(a, b); }
    static Floats larger(Floats a, Floats b) { return _mm512_max_ps(a, b); }
    static Floats magnitude(Floats a) { return _mm512_andnot_ps(_mm512_set1_ps(-0.0F), a); }
    static float largest_lane(Floats a) { return _mm512_reduce_max_ps(a); }
    static unsigned at_least(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }

    static int append(int32_t *to, int first, unsigned lanes) {
        const __m512i numbers = _mm512_add_epi32(
            _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), _mm512_set1_epi32(first));
        _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(static_cast<__mmask16>(lanes), numbers));
        return __builtin_popcount(lanes);
    }

    static Floats most_bits(Floats a, Floats b) {
        return _mm512_castsi512_ps(_mm512_max_epu32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
    }
    static bool below_infinity(Floats a) {
        return _mm512_cmplt_epu32_mask(_mm512_castps_si512(a), _mm512_set1_epi32(0x7F800000)) == 0xFFFF;
    }

    static Labels label(int number) { return _mm512_set1_epi32(number); }
    static void challenge(Floats next, Labels label, Floats &best, Labels &winner) {
        const __mmask16 better = _mm512_cmp_ps_mask(next, best, _CMP_GT_OQ);
        best = _mm512_max_ps(next, best);
        winner = _mm512_mask_mov_epi32(winner, better, label);
    }
    static void store_bytes(uint8_t *to, __m128i bytes, int columns) {
        if (columns >= kTileCols)
            _mm_storeu_si128(reinterpret_cast<__m128i *>(to), bytes);
        else
            _mm_mask_storeu_epi8(to, static_cast<__mmask16>((1U << columns) - 1U), bytes);
    }
    static void store_labels(uint8_t *to, Labels labels, int columns) {
        store_bytes(to, _mm512_cvtepi32_epi8(labels), columns);
    }
    static void fill_labels(uint8_t *to, uint8_t label, int columns) {
        store_bytes(to, _mm_set1_epi8(static_cast<char>(label)), columns);
    }

    /// Picks a tile's columns out of a row of the grid: out of one register where they are near each other.
    struct Source {
        const float *row;
        Floats cells;
    };
    struct Picker {
        Picker(const ColumnTile &tile, int) : near_(tile.span <= kWidth) {}
        Source source(const float *row) const { return {row, _mm512_loadu_ps(row)}; }
        Floats at(const Source &source, const int32_t *places) const {
            const __m512i place = _mm512_loadu_si512(places);
            return near_ ? _mm512_permutexvar_ps(place, source.cells) : _mm512_i32gather_ps(place, source.row, 4);
        }
        bool near_;
    };

#include "assemble_turn.inc"
};

} // namespace
} // namespace isa_core

#include "assemble_kernel.inc"

namespace isa_core {

const AssembleKernels kAssembleAvx512 = {label_picture<Avx512>, full_logits<Avx512>, finite<Avx512>};

} // namespace isa_core

// The assembler for processors without wider vectors, and for other architectures.
#include "assemble_kernel.hpp"

#include <cmath>
#include <cstring>

namespace isa_core {
namespace {

/// Four floats at a time, which compilers turn into whatever vectors their target has.
template <bool kFused> struct Portable {
    static constexpr int kWidth = 4;
    static constexpr int kRows = 2;
    struct Floats {
        float lane[kWidth];
    };
    struct Labels {
        int32_t lane[kWidth];
    };

    template <typename Function> static Floats each(const Function &function) {
        Floats made;
        for (int i = 0; i < kWidth; ++i)
            made.lane[i] = function(i);
        return made;
    }

    static Floats load(const float *from) {
        return each([&](int i) { return from[i]; });
    }
    static void store(float *to, const Floats &values) { std::memcpy(to, values.lane, sizeof(values.lane)); }
    static Floats all(float value) {
        return each([&](int) { return value; });
    }
    static Floats times(const Floats &w, const Floats &x) {
        return each([&](int i) { return w.lane[i] * x.lane[i]; });
    }
    static Floats fused(const Floats &w, const Floats &x, const Floats &sum) {
        if constexpr (kFused)
            return each([&](int i) { return std::fma(w.lane[i], x.lane[i], sum.lane[i]); });
        else
            return each([&](int i) { return w.lane[i] * x.lane[i] + sum.lane[i]; });
    }
    static Floats smaller(const Floats &a, const Floats &b) {
        return each([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
    }
    static Floats larger(const Floats &a, const Floats &b) {
        return each([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
    }
    static Floats magnitude(const Floats &a) {
        return each([&](int i) { return std::fabs(a.lane[i]); });
    }
    static float largest_lane(const Floats &a) {
        float most = a.lane[0];
        for (const float lane : a.lane)
            most = lane > most ? lane : most;
        return most;
    }
    static unsigned at_least(const Floats &a, const Floats &b) {
        unsigned lanes = 0;
        for (int i = 0; i < kWidth; ++i)
            lanes |= (a.lane[i] >= b.lane[i] ? 1U : 0U) << i;
        return lanes;
    }
    static int append(int32_t *to, int first, unsigned lanes) {
        int count = 0;
        for (int i = 0; i < kWidth; ++i)
            if ((lanes >> i & 1U) != 0)
                to[count++] = first + i;
        return count;
    }

    static uint32_t bits(float value) {
        uint32_t made = 0;
        std::memcpy(&made, &value, sizeof(made));
        return made;
    }
    static Floats most_bits(const Floats &a, const Floats &b) {
        return each([&](int i) { return bits(a.lane[i]) > bits(b.lane[i]) ? a.lane[i] : b.lane[i]; });
    }
    static bool below_infinity(const Floats &a) {
        bool below = true;
        for (const float lane : a.lane)
            below = below && bits(lane) < 0x7F800000U;
        return below;
    }

    static Labels label(int number) {
        Labels made;
        for (int32_t &lane : made.lane)
            lane = number;
        return made;
    }
    static void challenge(const Floats &next, const Labels &label, Floats &best, Labels &winner) {
        for (int i = 0; i < kWidth; ++i) {
            const bool better = next.lane[i] > best.lane[i];
            best.lane[i] = better ? next.lane[i] : best.lane[i];
            winner.lane[i] = better ? label.lane[i] : winner.lane[i];
        }
    }
    static void store_labels(uint8_t *to, const Labels &labels, int columns) {
        for (int i = 0; i < (columns < kWidth ? columns : kWidth); ++i)
            to[i] = static_cast<uint8_t>(labels.lane[i]);
    }
    static void fill_labels(uint8_t *to, uint8_t label, int columns) {
        std::memset(to, label, static_cast<size_t>(columns));
    }

    /// Picks a part of a tile's columns out of a row of the grid.
    using Source = const float *;
    struct Picker {
        Picker(const ColumnTile &, int) {}
        Source source(const float *row) const { return row; }
        Floats at(Source row, const int32_t *places) const {
            return each([&](int i) { return row[places[i]]; });
        }
    };

    /// A row of the grid, class by class, to columns of classes.
    static void turn(const float *from, size_t pitch, size_t classes, size_t lanes, float *to) {
        for (size_t c = 0; c < classes; ++c)
            for (size_t x = 0; x < pitch; ++x)
                to[x * lanes + c] = from[c * pitch + x];
    }
};

} // namespace
} // namespace isa_core

#include "assemble_kernel.inc"

namespace isa_core {

const AssembleKernels kAssemblePortable = {label_picture<Portable<true>>, full_logits<Portable<true>>,
                                           finite<Portable<true>>};
const AssembleKernels kAssembleUnfused = {label_picture<Portable<false>>, full_logits<Portable<false>>,
                                          finite<Portable<false>>};

} // namespace isa_core

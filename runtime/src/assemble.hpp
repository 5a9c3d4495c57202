// Logits at the head's stride to labels of the frame's size: isa_deploy/runtime/assemble.py in C++, the same labels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "resample.hpp"

namespace isa_core {

/// Whether all values are finite.
bool all_finite(const float *values, std::size_t count);

/// Makes labels of grids of logits of one geometry.  Everything that does not depend on the logits is prepared in the
/// constructor; labels() allocates nothing.
class Assembler {
public:
    /// `rows`, `cols`: the maps from the grid's axes to the labels' height and width; `classes`: 1 to 256.
    Assembler(const AxisMap &rows, const AxisMap &cols, int classes);
    ~Assembler();
    Assembler(Assembler &&) noexcept;
    Assembler &operator=(Assembler &&) noexcept;

    int height() const; ///< of the labels
    int width() const;
    int grid_rows() const; ///< of the logits
    int grid_cols() const;
    int classes() const;

    /// Writes the winning class of every pixel (of equal logits the lower class).  `logits_chw`: classes x grid_rows
    /// x grid_cols, contiguous, finite.  `labels_hw`: height x width with `row_stride` bytes between rows (may be
    /// negative).
    void labels(const float *logits_chw, std::uint8_t *labels_hw, std::ptrdiff_t row_stride);

private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace isa_core

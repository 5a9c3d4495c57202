// An AssemblePlan that owns its memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "assemble_kernel.hpp"
#include "cpu.hpp"
#include "resample.hpp"

namespace isa_core {

/// Everything of an assembler that does not depend on the logits, and its scratch.
class OwnedPlan {
public:
    OwnedPlan(const AxisMap &rows, const AxisMap &cols, int classes);
    OwnedPlan(const OwnedPlan &) = delete;
    OwnedPlan &operator=(const OwnedPlan &) = delete;

    const AssemblePlan &view() const { return view_; }

private:
    void cut_columns(const AxisMap &cols);
    void cut_rows(const AxisMap &rows);
    void keep_rows();

    AssemblePlan view_{};
    std::vector<ColumnTile> tiles_;
    std::vector<float> col_weights_;
    std::vector<std::int32_t> col_places_;
    std::vector<std::int32_t> tile_inputs_;
    std::vector<RowRun> runs_;
    std::vector<float> row_weights_;
    std::vector<std::int32_t> row_inputs_;
    std::vector<std::int32_t> row_slots_;
    std::vector<std::uint8_t> row_fresh_;
    std::size_t slots_ = 0;
    std::vector<std::int32_t> candidates_;
    std::vector<float> scratch_;
};

/// The kernels for these instructions.  The processor must have them.
const AssembleKernels &assemble_kernels(Simd simd) noexcept;

} // namespace isa_core

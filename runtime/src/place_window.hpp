// Windows' logits side by side.
#pragma once

#include <cstddef>
#include <cstring>

#include "size.hpp"

namespace isa_core {

/// Writes a window's logits to their place in the grid of all windows, classes x (down * h) x (across * w).
inline void place_window(const float *logits_chw, int classes, Size cells, int row, int col, int across, int down,
                         float *grid_chw) {
    const auto h = static_cast<std::size_t>(cells.height), w = static_cast<std::size_t>(cells.width);
    const std::size_t grid_w = w * static_cast<std::size_t>(across);
    const std::size_t grid_h = h * static_cast<std::size_t>(down);
    for (std::size_t c = 0; c < static_cast<std::size_t>(classes); ++c) {
        const std::size_t top = c * grid_h + h * static_cast<std::size_t>(row);
        for (std::size_t y = 0; y < h; ++y)
            std::memcpy(grid_chw + (top + y) * grid_w + w * static_cast<std::size_t>(col), logits_chw + (c * h + y) * w,
                        w * sizeof(float));
    }
}

} // namespace isa_core

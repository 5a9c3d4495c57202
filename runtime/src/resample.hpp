// Everything between the logits and a frame's labels as one linear map an axis: isa_deploy/runtime/resample.py in C++.
// Equal to it to the last bit of the weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tiling.hpp"

namespace isa_core {

/// A sparse matrix `outputs x inputs` of one axis with the same number of taps in every row:
/// out[i] = sum over t of weight[i * taps + t] * in[index[i * taps + t]]; unused taps have weight 0.
struct AxisMap {
    int inputs = 0;
    int outputs = 0;
    int taps = 0;
    std::vector<std::int32_t> index;
    std::vector<double> weight;

    /// The map that applies `first` and then this one.
    AxisMap after(const AxisMap &first) const;
};

/// Bilinear resize of one axis as torch.nn.functional.interpolate does it, positions in float32.
AxisMap bilinear(int inputs, int outputs, bool align_corners);

/// From windows' logits, side by side, to their average over an axis of `length` pixels.
AxisMap average_windows(const std::vector<Span> &spans, int cells, int length, bool align_corners);

/// From windows' logits, side by side, to their weighted mean over `pixels`.  `weights`: one for each pixel of each
/// window; `window`: from one window's logits to its pixels.  Throws Error(ISA_ERROR_INPUT) where a pixel is under no
/// window.
AxisMap weigh_windows(const std::vector<Span> &spans, const std::vector<std::vector<double>> &weights,
                      const AxisMap &window, Span pixels);

} // namespace isa_core

// From a frame's size to what the network is shown, and back: isa_deploy/runtime/geometry.py and preprocess.py in C++.
#pragma once

#include <string>
#include <vector>

#include "manifest.hpp"
#include "resample.hpp"
#include "size.hpp"

namespace isa_core {

/// At which size a frame is shown: the model's test scale, as it is, or a given size.
struct ResizeRule {
    enum class Kind { test, none, fixed } kind = Kind::test;
    Size size; ///< with `fixed`
};

/// "test", "none" or "HEIGHTxWIDTH".  Throws Error(ISA_ERROR_INPUT) for anything else.
ResizeRule parse_resize(const std::string &text);

/// The size of a frame scaled, keeping its ratio, to fit a box without orientation (mmcv's rescale_size).
Size fit_size(Size frame, Size box);

/// Height and width at which the network sees a frame.
Size network_size(Size frame, const ResizeRule &rule, const std::optional<ResizeSpec> &spec);

/// The windows of one size at every crossing of a row span and a column span.
struct WindowGrid {
    std::vector<Span> rows;
    std::vector<Span> cols;
};

/// The sizes, windows and maps of one engine.  The manifest must outlive it.
class Geometry {
public:
    Geometry(const Manifest &manifest, ResizeRule resize);

    /// Whether the graph sees the whole of a frame of this size at once.
    bool graph_covers(Size frame) const;
    /// The size at which the network sees a frame.  Throws Error(ISA_ERROR_INPUT) where it cannot take that.
    Size shown_size(Size frame) const;
    /// Throws Error(ISA_ERROR_INPUT) where the graph cannot take a picture of this size in one pass.
    void check_window(Size window) const;
    /// The windows that cover a frame of the size that the network is shown.
    WindowGrid windows(Size shown) const;

    struct Maps {
        AxisMap rows;
        AxisMap cols;
    };
    /// Windows' logits to the network's size, then to the frame's.
    Maps frame_maps(Size shown, Size frame) const;
    /// From the logits of one call of the graph to the pixels that it was given.
    Maps call_maps(Size shown) const;

private:
    AxisMap axis_map(const std::vector<Span> &spans, int length, int frame) const;

    const Manifest &manifest_;
    ResizeRule resize_;
};

} // namespace isa_core

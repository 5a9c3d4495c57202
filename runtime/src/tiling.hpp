// From sizes to windows, and from windows to the pixels that each decides: isa_deploy/runtime/tiling.py in C++.
// Both are held to tests/cases/windows.json.
#pragma once

#include <vector>

namespace isa_core {

/// A window's first pixel and the pixel after its last, along one axis.
struct Span {
    int start = 0;
    int stop = 0;
    int length() const { return stop - start; }
    friend bool operator==(Span a, Span b) { return a.start == b.start && a.stop == b.stop; }
};

enum class CutMode { slide, tiles, blend };

/// mmsegmentation's sliding windows along one axis of `length` pixels (EncoderDecoder.slide_inference): they start
/// every `stride` pixels, the last one is moved back to the border, and a picture smaller than the crop is one window
/// of its own size. Throws Error(ISA_ERROR_INPUT) for sizes below 1 and a stride longer than the crop.
std::vector<Span> slide_spans(int length, int crop, int stride);

/// One axis of a picture, cut: windows of one length that rise, and as many blocks, which partition the axis; the
/// labels of block i are complete when windows 0 to i were seen.
struct AxisCut {
    std::vector<Span> windows;
    std::vector<Span> blocks;
    CutMode mode = CutMode::tiles;
    int overlap = 0;

    int length() const { return blocks.back().stop; }
    int window() const { return windows.front().length(); }
    /// The windows, first and one after the last, that have a say in a block's labels.
    Span windows_of(int block) const;
    /// The weight of each pixel of a window, 0 to 1; it is divided by the sum over all windows.
    std::vector<double> weights(int window) const;
};

/// Cuts an axis of `length` pixels into windows of `window` pixels that overlap by `overlap` at least.
/// Throws Error(ISA_ERROR_INPUT) for sizes that make no sense.
AxisCut cut_axis(int length, int window, int overlap, CutMode mode);

} // namespace isa_core

#include "tiling.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "error.hpp"

namespace isa_core {

namespace {

constexpr double kHalfPi = 1.57079632679489661923; // the double nearest to pi, halved, as numpy's pi / 2

// A manifest can ask for a window at every pixel; nobody's machine runs this many, and Python would run out of memory.
constexpr std::int64_t kMaxSpans = std::int64_t{1} << 20;

} // namespace

std::vector<Span> slide_spans(int length, int crop, int stride) {
    if (length < 1 || crop < 1 || stride < 1)
        fail_input("length ", length, ", crop ", crop, " and stride ", stride, " must be at least 1");
    if (stride > crop)
        fail_input("a stride of ", stride, " leaves gaps between windows of ", crop);
    const std::int64_t beyond = std::int64_t{length} - crop + stride - 1;
    const std::int64_t count = std::max<std::int64_t>(beyond, 0) / stride + 1;
    if (count > kMaxSpans)
        fail_input(count, " windows of ", crop, " pixels in a row are too many (the most is ", kMaxSpans,
                   "); use a longer stride than ", stride);
    std::vector<Span> spans;
    spans.reserve(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t stop = std::min<std::int64_t>(i * stride + crop, length);
        spans.push_back({static_cast<int>(std::max<std::int64_t>(stop - crop, 0)), static_cast<int>(stop)});
    }
    return spans;
}

Span AxisCut::windows_of(int block) const {
    int first = block;
    if (mode != CutMode::tiles) {
        const int start = blocks[static_cast<std::size_t>(block)].start;
        while (first > 0 && windows[static_cast<std::size_t>(first - 1)].stop > start)
            --first;
    }
    return {first, block + 1};
}

std::vector<double> AxisCut::weights(int window_number) const {
    const int pixels = window();
    if (mode == CutMode::slide)
        return std::vector<double>(static_cast<std::size_t>(pixels), 1.0);
    std::vector<double> weights(static_cast<std::size_t>(pixels), 0.0);
    const auto number = static_cast<std::size_t>(window_number);
    if (mode == CutMode::tiles) {
        const int start = windows[number].start;
        std::fill(weights.begin() + (blocks[number].start - start), weights.begin() + (blocks[number].stop - start),
                  1.0);
        return weights;
    }
    // Flanks of a raised cosine, as wide as the usual overlap: those of two neighbours add up to 1.  numpy brings a
    // sine of its own, whose last bit is another one now and then.
    const double flank = std::max(overlap, 1);
    for (int i = 0; i < pixels; ++i) {
        const double pixel = i + 0.5;
        const double edge = std::min(pixel, pixels - pixel);
        const double sine = std::sin(kHalfPi * std::min(edge / flank, 1.0));
        weights[static_cast<std::size_t>(i)] = sine * sine;
    }
    return weights;
}

AxisCut cut_axis(int length, int window, int overlap, CutMode mode) {
    if (overlap < 0 || overlap >= window)
        fail_input("windows of ", window, " pixels cannot overlap by ", overlap);
    AxisCut cut;
    cut.windows = slide_spans(length, window, window - overlap);
    cut.mode = mode;
    cut.overlap = overlap;
    cut.blocks.reserve(cut.windows.size());
    int start = 0;
    for (std::size_t i = 0; i + 1 < cut.windows.size(); ++i) {
        const int after = cut.windows[i + 1].start;
        const int middle = after + (cut.windows[i].stop - after) / 2;
        const int border = mode == CutMode::tiles ? middle : after;
        cut.blocks.push_back({start, border});
        start = border;
    }
    cut.blocks.push_back({start, length});
    return cut;
}

} // namespace isa_core

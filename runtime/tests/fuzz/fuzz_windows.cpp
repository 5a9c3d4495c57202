// Any sizes as windows, blocks and the maps between them.
#include <algorithm>
#include <cmath>
#include <vector>

#include "error.hpp"
#include "fuzz_input.hpp"
#include "resample.hpp"
#include "tiling.hpp"

using fuzz::require;
using isa_core::AxisCut;
using isa_core::AxisMap;
using isa_core::CutMode;
using isa_core::Span;

namespace {

constexpr int kLongest = 300;
constexpr std::size_t kMostWindows = 24;

void check_windows(const std::vector<Span> &windows, int length, int crop) {
    require(!windows.empty() && windows.front().start == 0 && windows.back().stop == length,
            "windows begin and end with the axis");
    for (std::size_t i = 0; i < windows.size(); ++i) {
        require(windows[i].length() == std::min(crop, length), "windows are of one length");
        require(i == 0 || windows[i].start > windows[i - 1].start, "windows rise");
        require(i == 0 || windows[i].start <= windows[i - 1].stop, "windows leave no gap");
    }
}

void check_mean(const AxisMap &map, int inputs, int outputs) {
    require(map.inputs == inputs && map.outputs == outputs && map.taps >= 1,
            "a map has the sizes that it was made for");
    const std::size_t taps = static_cast<std::size_t>(map.taps);
    const std::size_t entries = static_cast<std::size_t>(outputs) * taps;
    require(map.index.size() == entries && map.weight.size() == entries, "a map has all of its taps");
    for (std::size_t row = 0; row < entries; row += taps) {
        double sum = 0;
        for (std::size_t i = row; i < row + taps; ++i) {
            require(map.index[i] >= 0 && map.index[i] < inputs, "a tap reads one of the inputs");
            require(map.weight[i] >= 0 && map.weight[i] <= 1 + 1e-9, "a weight is 0 to 1");
            sum += map.weight[i];
        }
        require(std::abs(sum - 1) < 1e-9, "the weights of a pixel add up to 1");
    }
}

void check_cut(const AxisCut &cut, int length, int window, int cells, bool align_corners) {
    check_windows(cut.windows, length, window);
    require(cut.blocks.size() == cut.windows.size(), "there are as many blocks as windows");
    require(cut.length() == length && cut.window() == std::min(window, length), "a cut knows its sizes");
    if (cut.windows.size() > kMostWindows)
        return;
    const AxisMap one = isa_core::bilinear(cells, cut.window(), align_corners);
    check_mean(one, cells, cut.window());
    int begin = 0;
    for (std::size_t i = 0; i < cut.blocks.size(); ++i) {
        const Span block = cut.blocks[i];
        require(block.start == begin && block.stop >= begin, "blocks partition the axis");
        begin = block.stop;
        const Span numbers = cut.windows_of(static_cast<int>(i));
        require(numbers.start >= 0 && numbers.start < numbers.stop && numbers.stop == static_cast<int>(i) + 1,
                "a block is complete with its own window");
        if (block.length() == 0)
            continue;
        std::vector<Span> spans;
        std::vector<std::vector<double>> weights;
        for (int number = numbers.start; number < numbers.stop; ++number) {
            spans.push_back(cut.windows[static_cast<std::size_t>(number)]);
            weights.push_back(cut.weights(number));
            require(weights.back().size() == static_cast<std::size_t>(cut.window()), "every pixel has a weight");
            for (const double weight : weights.back())
                require(weight >= 0 && weight <= 1, "a pixel's weight is 0 to 1");
        }
        check_mean(isa_core::weigh_windows(spans, weights, one, block), cells * static_cast<int>(spans.size()),
                   block.length());
    }
    require(begin == length, "blocks reach the end of the axis");
}

/// Sizes of no bound: an answer, or an error of the input.
void check_any_sizes(fuzz::Input &input) {
    const int length = input.take<std::int32_t>(), crop = input.take<std::int32_t>(), step = input.take<std::int32_t>();
    try {
        check_windows(isa_core::slide_spans(length, crop, step), length, crop);
    } catch (const isa_core::Error &error) {
        require(error.status() == ISA_ERROR_INPUT, "sizes that make no sense are an error of the input");
    }
    try {
        const AxisCut cut = isa_core::cut_axis(length, crop, step, CutMode::blend);
        check_windows(cut.windows, length, crop);
    } catch (const isa_core::Error &error) {
        require(error.status() == ISA_ERROR_INPUT, "sizes that make no sense are an error of the input");
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    fuzz::Input input(data, size);
    const int kind = input.between(0, 3);
    if (kind == 3) {
        check_any_sizes(input);
        return 0;
    }
    const auto mode = static_cast<CutMode>(kind);
    const bool align_corners = input.between(0, 1) == 1;
    const int length = input.between(1, kLongest);
    const int window = input.between(1, kLongest);
    const int overlap = input.between(0, window - 1);
    const int cells = input.between(1, 100);
    const int shown = input.between(1, kLongest);
    check_cut(isa_core::cut_axis(length, window, overlap, mode), length, window, cells, align_corners);

    const std::vector<Span> spans = isa_core::slide_spans(length, window, window - overlap);
    if (spans.size() <= kMostWindows) {
        const int inputs = cells * static_cast<int>(spans.size());
        const AxisMap average = isa_core::average_windows(spans, cells, length, align_corners);
        check_mean(average, inputs, length);
        check_mean(isa_core::bilinear(length, shown, align_corners).after(average), inputs, shown);
    }
    // pixels that may lie under no window
    const Span wanted{input.between(0, kLongest - 1), 0};
    const Span some{wanted.start, wanted.start + input.between(1, kLongest)};
    const AxisMap one = isa_core::bilinear(cells, spans.front().length(), align_corners);
    const std::vector<double> weight(static_cast<std::size_t>(spans.front().length()), 1.0);
    try {
        check_mean(isa_core::weigh_windows({spans.front()}, {weight}, one, some), cells, some.length());
        require(some.stop <= spans.front().stop, "a pixel without a window is refused");
    } catch (const isa_core::Error &error) {
        require(error.status() == ISA_ERROR_INPUT && some.stop > spans.front().stop,
                "a pixel under a window is not refused");
    }
    return 0;
}

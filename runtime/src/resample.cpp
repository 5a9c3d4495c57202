#include "resample.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "error.hpp"

namespace isa_core {

namespace {

// Pixels of all windows of an axis together, and taps of a map: what a manifest with a stride of a pixel asks for is
// refused before it is allocated.  65536 pixels under 64 windows each stay below it.
constexpr std::int64_t kMaxWindowPixels = std::int64_t{1} << 22;
constexpr std::int64_t kMaxTaps = std::int64_t{1} << 27;

struct Tap {
    std::int32_t index;
    double weight;
};

/// Rows of taps on their way to an AxisMap: those of a row that read the same input are added up, in the order in which
/// they came, and every row gets as many taps as the fullest one.
class TapRows {
public:
    explicit TapRows(int outputs) { starts_.reserve(static_cast<std::size_t>(outputs) + 1); }

    /// Adds the next row; `taps` is used up.
    void add(std::vector<Tap> &taps) {
        std::stable_sort(taps.begin(), taps.end(), [](const Tap &a, const Tap &b) { return a.index < b.index; });
        const std::size_t start = merged_.size();
        for (const Tap &tap : taps) {
            if (merged_.size() > start && merged_.back().index == tap.index)
                merged_.back().weight += tap.weight;
            else
                merged_.push_back(tap);
        }
        starts_.push_back(start);
        fullest_ = std::max(fullest_, merged_.size() - start);
    }

    AxisMap map(int inputs) && {
        AxisMap made;
        made.inputs = inputs;
        made.outputs = static_cast<int>(starts_.size());
        made.taps = static_cast<int>(fullest_);
        if (static_cast<std::int64_t>(starts_.size()) * static_cast<std::int64_t>(fullest_) > kMaxTaps)
            fail_input("a map of ", made.outputs, " pixels with ", made.taps,
                       " logits each is too large; use a longer stride or a smaller frame");
        made.index.resize(starts_.size() * fullest_);
        made.weight.assign(starts_.size() * fullest_, 0.0);
        starts_.push_back(merged_.size());
        for (std::size_t row = 0; row + 1 < starts_.size(); ++row) {
            // an unused tap repeats the row's first input, so that it is always a valid index near the others
            std::fill_n(made.index.begin() + static_cast<std::ptrdiff_t>(row * fullest_), fullest_,
                        merged_[starts_[row]].index);
            for (std::size_t tap = starts_[row]; tap < starts_[row + 1]; ++tap) {
                made.index[row * fullest_ + tap - starts_[row]] = merged_[tap].index;
                made.weight[row * fullest_ + tap - starts_[row]] = merged_[tap].weight;
            }
        }
        return made;
    }

private:
    std::vector<Tap> merged_;
    std::vector<std::size_t> starts_;
    std::size_t fullest_ = 0;
};

/// weigh_windows, with the weight of pixel `inside` of window `number` as share(number, inside).
template <typename Share>
AxisMap weigh(const std::vector<Span> &spans, const Share &share, const AxisMap &window, Span pixels) {
    const auto length = static_cast<std::size_t>(std::max(pixels.length(), 0));
    std::int64_t covered = 0;
    for (const Span span : spans) {
        if (span.length() != window.outputs)
            fail_input("a window of ", span.length(), " pixels among windows of ", window.outputs);
        covered += std::max(std::min(span.stop, pixels.stop) - std::max(span.start, pixels.start), 0);
    }
    if (spans.size() > 1 && covered > kMaxWindowPixels)
        fail_input(spans.size(), " windows of ", window.outputs, " pixels over ", pixels.length(),
                   " overlap too much (more than ", kMaxWindowPixels, " pixels together); use a longer stride");
    if (static_cast<std::int64_t>(spans.size()) * window.inputs > INT32_MAX)
        fail_input(spans.size(), " windows with ", window.inputs, " logits each are too many; use a longer stride");

    // which windows lie over a pixel, in rising order
    std::vector<std::int32_t> first(length + 1, 0);
    const auto each_covered = [&](const auto &visit) {
        for (std::size_t number = 0; number < spans.size(); ++number)
            for (int at = std::max(spans[number].start, pixels.start), stop = std::min(spans[number].stop, pixels.stop);
                 at < stop; ++at)
                visit(static_cast<std::size_t>(at - pixels.start), static_cast<std::int32_t>(number));
    };
    each_covered([&](std::size_t pixel, std::int32_t) { ++first[pixel + 1]; });
    std::partial_sum(first.begin(), first.end(), first.begin());
    std::vector<std::int32_t> windows(static_cast<std::size_t>(first.back()));
    std::vector<std::int32_t> next(first.begin(), first.end() - 1);
    each_covered(
        [&](std::size_t pixel, std::int32_t number) { windows[static_cast<std::size_t>(next[pixel]++)] = number; });

    TapRows rows(pixels.length());
    std::vector<Tap> taps;
    const auto per_pixel = static_cast<std::size_t>(window.taps);
    for (std::size_t pixel = 0; pixel < length; ++pixel) {
        taps.clear();
        double total = 0;
        for (auto i = static_cast<std::size_t>(first[pixel]); i < static_cast<std::size_t>(first[pixel + 1]); ++i) {
            const auto number = static_cast<std::size_t>(windows[i]);
            const auto inside =
                pixel + static_cast<std::size_t>(pixels.start) - static_cast<std::size_t>(spans[number].start);
            const double part = share(number, inside);
            total += part;
            for (std::size_t tap = inside * per_pixel; tap < (inside + 1) * per_pixel; ++tap)
                taps.push_back(
                    {window.index[tap] + static_cast<std::int32_t>(number) * window.inputs, window.weight[tap] * part});
        }
        if (!(total > 0))
            fail_input("pixel ", pixels.start + static_cast<int>(pixel), " lies under no window");
        for (Tap &tap : taps)
            tap.weight /= total;
        // a tap without weight repeats the row's heaviest one, so that it asks for no other logits
        const Tap heaviest =
            *std::max_element(taps.begin(), taps.end(), [](const Tap &a, const Tap &b) { return a.weight < b.weight; });
        for (Tap &tap : taps)
            if (tap.weight == 0)
                tap.index = heaviest.index;
        rows.add(taps);
    }
    return std::move(rows).map(static_cast<int>(spans.size()) * window.inputs);
}

} // namespace

AxisMap AxisMap::after(const AxisMap &first) const {
    if (first.outputs != inputs)
        fail_input("a map of ", inputs, " inputs cannot follow one of ", first.outputs, " outputs");
    const auto mine = static_cast<std::size_t>(taps);
    const auto theirs = static_cast<std::size_t>(first.taps);
    TapRows rows(outputs);
    std::vector<Tap> row;
    for (std::size_t out = 0; out < static_cast<std::size_t>(outputs); ++out) {
        row.clear();
        for (std::size_t tap = out * mine; tap < (out + 1) * mine; ++tap) {
            const std::size_t start = static_cast<std::size_t>(index[tap]) * theirs;
            for (std::size_t inner = start; inner < start + theirs; ++inner)
                row.push_back({first.index[inner], weight[tap] * first.weight[inner]});
        }
        rows.add(row);
    }
    return std::move(rows).map(first.inputs);
}

AxisMap bilinear(int inputs, int outputs, bool align_corners) {
    if (inputs < 1 || outputs < 1)
        fail_input("an axis of ", inputs, " cannot be resized to ", outputs, ": both must be at least 1");
    if (outputs > kMaxTaps / 2)
        fail_input("an axis of ", outputs, " pixels is too long; the most is ", kMaxTaps / 2);
    AxisMap map;
    map.inputs = inputs;
    map.outputs = outputs;
    map.taps = 2;
    map.index.resize(2 * static_cast<std::size_t>(outputs));
    map.weight.resize(2 * static_cast<std::size_t>(outputs));
    // float32 as in torch's CPU kernel: at 2048 columns the rounding of a position is 1e-4 of a pixel
    float step = static_cast<float>(inputs) / static_cast<float>(outputs);
    if (align_corners)
        step = outputs > 1 ? static_cast<float>(inputs - 1) / static_cast<float>(outputs - 1) : 0.0F;
    for (int out = 0; out < outputs; ++out) {
        const auto number = static_cast<float>(out);
        const float position = align_corners ? number * step : std::max(step * (number + 0.5F) - 0.5F, 0.0F);
        const auto low =
            static_cast<std::int32_t>(std::min<std::int64_t>(static_cast<std::int64_t>(position), inputs - 1));
        const float fraction = std::min(std::max(position - static_cast<float>(low), 0.0F), 1.0F);
        const auto tap = 2 * static_cast<std::size_t>(out);
        map.index[tap] = low;
        map.index[tap + 1] = low < inputs - 1 ? low + 1 : low;
        map.weight[tap] = 1.0 - static_cast<double>(fraction);
        map.weight[tap + 1] = static_cast<double>(fraction);
    }
    return map;
}

AxisMap average_windows(const std::vector<Span> &spans, int cells, int length, bool align_corners) {
    const AxisMap window = bilinear(cells, spans.front().length(), align_corners);
    return weigh(spans, [](std::size_t, std::size_t) { return 1.0; }, window, {0, length});
}

AxisMap weigh_windows(const std::vector<Span> &spans, const std::vector<std::vector<double>> &weights,
                      const AxisMap &window, Span pixels) {
    if (weights.size() != spans.size())
        fail_input(spans.size(), " windows have ", weights.size(), " lists of weights");
    for (const std::vector<double> &list : weights)
        if (list.size() != static_cast<std::size_t>(window.outputs))
            fail_input("a window of ", window.outputs, " pixels has ", list.size(), " weights");
    return weigh(
        spans, [&](std::size_t number, std::size_t inside) { return weights[number][inside]; }, window, pixels);
}

} // namespace isa_core

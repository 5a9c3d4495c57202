// Any labels, palettes, strides and logits as pictures and label maps, in memory of exactly their size.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <memory>
#include <vector>

#include "assemble.hpp"
#include "fuzz_input.hpp"
#include "palette.hpp"
#include "resample.hpp"

using fuzz::require;
using isa_core::AxisMap;

namespace {

constexpr int kLargestSide = 70; // two of the widest vectors and some pixels
constexpr std::uint8_t kUntouched = 0xA5;

/// Rows of bytes with a stride of either sign, and nothing before the first byte or after the last.
class Plane {
public:
    Plane(int height, int row_bytes, int padding, bool upwards)
        : height_(height), row_bytes_(row_bytes),
          size_(static_cast<std::size_t>(height - 1) * static_cast<std::size_t>(row_bytes + padding) +
                static_cast<std::size_t>(row_bytes)),
          bytes_(new std::uint8_t[size_]), stride_(upwards ? -(row_bytes + padding) : row_bytes + padding) {
        std::fill_n(bytes_.get(), size_, kUntouched);
    }

    std::uint8_t *data() { return stride_ < 0 ? bytes_.get() - (height_ - 1) * stride_ : bytes_.get(); }
    std::ptrdiff_t stride() const { return stride_; }
    std::uint8_t *row(int y) { return data() + y * stride_; }

    void fill(fuzz::Input &input) {
        for (int y = 0; y < height_; ++y)
            for (int x = 0; x < row_bytes_; ++x)
                row(y)[x] = input.left() > 0 ? input.take<std::uint8_t>() : static_cast<std::uint8_t>(x * 7 + y);
    }

    /// Whether no byte between the rows was written.
    bool padding_is_untouched() {
        for (int y = 0; y + 1 < height_; ++y) {
            const std::uint8_t *lower = stride_ < 0 ? row(y + 1) : row(y);
            for (std::ptrdiff_t x = row_bytes_; x < std::abs(stride_); ++x)
                if (lower[x] != kUntouched)
                    return false;
        }
        return true;
    }

private:
    int height_;
    int row_bytes_;
    std::size_t size_;
    std::unique_ptr<std::uint8_t[]> bytes_;
    std::ptrdiff_t stride_;
};

void paint(fuzz::Input &input) {
    const int height = input.between(1, kLargestSide), width = input.between(1, kLargestSide);
    const int ways = input.between(0, 255);
    Plane labels_plane(height, width, input.between(0, 9), (ways & 1) != 0);
    Plane frame_plane(height, 3 * width, input.between(0, 9), (ways & 2) != 0);
    Plane picture_plane(height, 3 * width, input.between(0, 9), (ways & 4) != 0);
    const bool in_place = (ways & 8) != 0;
    const auto num_colours = static_cast<std::size_t>(input.between(1, 256));
    const int picture_order = (ways & 16) != 0 ? ISA_ORDER_RGB : ISA_ORDER_BGR;
    const int frame_order = in_place || (ways & 32) != 0 ? picture_order : ISA_ORDER_RGB;
    const int alpha_kind = input.between(0, 3);
    const double alpha = alpha_kind == 0 ? 0 : alpha_kind == 1 ? 1 : input.take<std::uint16_t>() / 65535.0;
    const std::unique_ptr<std::uint8_t[]> palette(new std::uint8_t[3 * num_colours]);
    for (std::size_t i = 0; i < 3 * num_colours; ++i)
        palette[i] = input.left() > 0 ? input.take<std::uint8_t>() : static_cast<std::uint8_t>(i * 31);
    frame_plane.fill(input);
    labels_plane.fill(input);
    const isa_labels labels{labels_plane.data(), labels_plane.stride(), height, width};
    const isa_frame frame{frame_plane.data(), frame_plane.stride(), height, width, frame_order};
    const isa_picture picture{picture_plane.data(), picture_plane.stride(), height, width, picture_order};

    const auto colour_of = [&](int x, int y, int channel) {
        const std::size_t label = labels_plane.row(y)[x];
        const auto of_rgb = static_cast<std::size_t>(picture_order == ISA_ORDER_RGB ? channel : 2 - channel);
        return label < num_colours ? palette[3 * label + of_rgb] : std::uint8_t{0};
    };
    isa_core::colorize(labels, palette.get(), num_colours, picture);
    require(picture_plane.padding_is_untouched(), "nothing is written between the rows");
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < 3 * width; ++x)
            require(picture_plane.row(y)[x] == colour_of(x / 3, y, x % 3), "a pixel has its class's colour");

    std::vector<std::uint8_t> before; // the frame in the picture's order
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < 3 * width; ++x)
            before.push_back(frame_plane.row(y)[frame_order == picture_order ? x : x - x % 3 + 2 - x % 3]);
    Plane &out = in_place ? frame_plane : picture_plane;
    const isa_picture target{out.data(), out.stride(), height, width, picture_order};
    isa_core::overlay(frame, labels, palette.get(), num_colours, alpha, target);
    require(out.padding_is_untouched(), "nothing is written between the rows");
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < 3 * width; ++x) {
            const double was = before[static_cast<std::size_t>(y * 3 * width + x)];
            const double wanted = was * (1 - alpha) + colour_of(x / 3, y, x % 3) * alpha;
            require(std::abs(out.row(y)[x] - wanted) <= 0.501, "an overlay lies between frame and colour");
        }
}

AxisMap any_map(fuzz::Input &input, int outputs) {
    const bool align_corners = input.between(0, 1) == 1;
    const int cells = input.between(1, 9);
    if (input.between(0, 1) == 0)
        return isa_core::bilinear(cells, outputs, align_corners);
    const int crop = input.between(1, outputs);
    const int stride = std::max(input.between(1, crop), (outputs + 3) / 4 < crop ? (outputs + 3) / 4 : crop);
    const auto spans = isa_core::slide_spans(outputs, crop, stride);
    const AxisMap average = isa_core::average_windows(spans, cells, outputs, align_corners);
    if (average.inputs > 64)
        return isa_core::bilinear(cells, outputs, align_corners);
    return average;
}

double tap_sum(const AxisMap &rows, const AxisMap &cols, const float *grid, int y, int x) {
    double sum = 0;
    for (int i = 0; i < rows.taps; ++i)
        for (int j = 0; j < cols.taps; ++j) {
            const auto row = static_cast<std::size_t>(y * rows.taps + i);
            const auto col = static_cast<std::size_t>(x * cols.taps + j);
            sum += rows.weight[row] * cols.weight[col] * double{grid[rows.index[row] * cols.inputs + cols.index[col]]};
        }
    return sum;
}

void assemble(fuzz::Input &input) {
    const int height = input.between(1, kLargestSide), width = input.between(1, kLargestSide);
    const AxisMap rows = any_map(input, height), cols = any_map(input, width);
    const int kind = input.between(0, 3);
    const int classes = kind == 3 ? input.between(1, 256) : input.between(1, 24);
    const auto cells = static_cast<std::size_t>(rows.inputs) * static_cast<std::size_t>(cols.inputs);
    const std::size_t count = cells * static_cast<std::size_t>(classes);
    if (count > 200000)
        return;
    Plane labels(height, width, input.between(0, 9), input.between(0, 1) == 1);
    const std::unique_ptr<float[]> logits(new float[count]);
    bool finite = true;
    float largest = 0;
    for (std::size_t i = 0; i < count; ++i) {
        // any bits, or small numbers of which many are equal
        logits[i] = input.left() == 0 ? static_cast<float>(i % 5)
                    : kind == 0       ? input.take<float>()
                                      : static_cast<float>(input.take<std::int8_t>()) / 8;
        finite = finite && std::isfinite(logits[i]);
        largest = std::max(largest, std::abs(logits[i]));
    }
    require(isa_core::all_finite(logits.get(), count) == finite, "what is not finite is seen");
    for (std::size_t part = 0; part < std::min<std::size_t>(count, 70); ++part) {
        bool all = true;
        for (std::size_t i = 0; i < part; ++i)
            all = all && std::isfinite(logits[i]);
        require(isa_core::all_finite(logits.get(), part) == all, "what is not finite is seen at any place");
    }
    if (!finite)
        return;
    isa_core::Assembler assembler(rows, cols, classes);
    require(assembler.height() == height && assembler.width() == width && assembler.grid_rows() == rows.inputs &&
                assembler.grid_cols() == cols.inputs && assembler.classes() == classes,
            "an assembler has the sizes that it was made for");
    assembler.labels(logits.get(), labels.data(), labels.stride());
    require(labels.padding_is_untouched(), "nothing is written between the rows");
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x) {
            const int label = labels.row(y)[x];
            require(label < classes, "a label is a class");
            if (largest > FLT_MAX / 4 || classes > 24 || (x * 5 + y * 3) % 31 != 0)
                continue; // sums may round up to infinity; all of them would take too long
            double best = -DBL_MAX, chosen = 0;
            for (int one = 0; one < classes; ++one) {
                const double value = tap_sum(rows, cols, logits.get() + static_cast<std::size_t>(one) * cells, y, x);
                best = std::max(best, value);
                chosen = one == label ? value : chosen;
            }
            require(best - chosen <= 1e-5 * double{largest}, "the winning class has the largest logit");
        }
    std::vector<std::uint8_t> again(static_cast<std::size_t>(height) * static_cast<std::size_t>(width));
    assembler.labels(logits.get(), again.data(), width);
    for (int y = 0; y < height; ++y)
        require(std::equal(labels.row(y), labels.row(y) + width, again.begin() + std::ptrdiff_t{y} * width),
                "the labels of a second call are the same");
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    fuzz::Input input(data, size);
    if (input.between(0, 1) == 0)
        paint(input);
    else
        assemble(input);
    return 0;
}

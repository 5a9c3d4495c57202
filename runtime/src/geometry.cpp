#include "geometry.hpp"

#include <algorithm>
#include <cstdint>

#include "error.hpp"

namespace isa_core {

namespace {

constexpr std::int64_t kMaxNetworkPixels = std::int64_t{64} << 20; // 8192 x 8192: an R50 needs about 60 GB for it
constexpr std::size_t kMaxResizeText = 32;

std::int64_t pixels(Size size) {
    return std::int64_t{size.height} * size.width;
}

std::string words(Size size) {
    return text(size.height, "x", size.width);
}

/// A number of decimal digits alone, 1 to kMaxSide; else 0.
int side_of(const std::string &digits) {
    int side = 0;
    for (const char digit : digits) {
        if (digit < '0' || digit > '9')
            return 0;
        side = std::min(10 * side + (digit - '0'), kMaxSide + 1); // ten times that is no overflow yet
    }
    return side <= kMaxSide ? side : 0;
}

WindowGrid one_window(Size size) {
    return {{{0, size.height}}, {{0, size.width}}};
}

} // namespace

ResizeRule parse_resize(const std::string &text) {
    if (text == "test")
        return {ResizeRule::Kind::test, {}};
    if (text == "none")
        return {ResizeRule::Kind::none, {}};
    const std::size_t cross = text.find_first_of("xX");
    if (cross != std::string::npos && text.size() <= kMaxResizeText) {
        const Size size{side_of(text.substr(0, cross)), side_of(text.substr(cross + 1))};
        if (size.height > 0 && size.width > 0)
            return {ResizeRule::Kind::fixed, size};
    }
    fail_input("resize '", text, "' is none of: test, none, HEIGHTxWIDTH such as 512x1024");
}

Size fit_size(Size frame, Size box) {
    if (frame.height < 1 || frame.width < 1)
        fail_input("a frame of ", words(frame), " has no pixels");
    const double long_side = std::max(frame.height, frame.width);
    const double short_side = std::min(frame.height, frame.width);
    const double factor =
        std::min(std::max(box.height, box.width) / long_side, std::min(box.height, box.width) / short_side);
    return {std::max(static_cast<int>(frame.height * factor + 0.5), 1),
            std::max(static_cast<int>(frame.width * factor + 0.5), 1)};
}

Size network_size(Size frame, const ResizeRule &rule, const std::optional<ResizeSpec> &spec) {
    if (rule.kind == ResizeRule::Kind::fixed)
        return rule.size;
    if (rule.kind == ResizeRule::Kind::none || !spec.has_value())
        return frame;
    return spec->keep_ratio ? fit_size(frame, spec->box) : spec->box;
}

Geometry::Geometry(const Manifest &manifest, ResizeRule resize) : manifest_(manifest), resize_(resize) {}

bool Geometry::graph_covers(Size frame) const {
    const std::optional<Size> &crop = manifest_.inference.crop;
    const bool window = crop.has_value() && frame.height <= crop->height && frame.width <= crop->width;
    return window || !manifest_.cuts_windows();
}

Size Geometry::shown_size(Size frame) const {
    if (frame.height < 1 || frame.width < 1)
        fail_input("a frame of ", words(frame), " has no pixels");
    const Size size = network_size(frame, resize_, manifest_.input.resize);
    if (pixels(size) > kMaxNetworkPixels)
        fail_input("a frame of ", words(frame), " comes to ", words(size), ", more than ", kMaxNetworkPixels >> 20,
                   " million pixels in one pass; use a smaller resize");
    const std::optional<Size> &fixed = manifest_.input.frame;
    if (fixed.has_value() && !manifest_.cuts_windows() && size != *fixed)
        fail_input("this engine takes ", words(*fixed), " only, and the frame of ", words(frame), " comes to ",
                   words(size), "; use resize ", words(*fixed), ", or export without --shape");
    return size;
}

void Geometry::check_window(Size window) const {
    if (pixels(window) > kMaxNetworkPixels)
        fail_input("a window of ", words(window), " is more than ", kMaxNetworkPixels >> 20,
                   " million pixels in one pass; use a smaller one");
    const std::optional<Size> &fixed = manifest_.input.frame;
    if (fixed.has_value() && window != *fixed)
        fail_input("this engine takes ", words(*fixed), " only, not windows of ", words(window),
                   "; use its size, or export without --shape");
}

WindowGrid Geometry::windows(Size shown) const {
    const InferenceSpec &inference = manifest_.inference;
    if (!inference.slide)
        return one_window(shown);
    if (!inference.crop.has_value() || !inference.stride.has_value())
        fail_manifest("inference: slide needs crop_hw and stride_hw");
    return {slide_spans(shown.height, inference.crop->height, inference.stride->height),
            slide_spans(shown.width, inference.crop->width, inference.stride->width)};
}

Geometry::Maps Geometry::frame_maps(Size shown, Size frame) const {
    const WindowGrid grid = windows(shown);
    return {axis_map(grid.rows, shown.height, frame.height), axis_map(grid.cols, shown.width, frame.width)};
}

Geometry::Maps Geometry::call_maps(Size shown) const {
    if (!manifest_.cuts_windows())
        return frame_maps(shown, shown);
    const WindowGrid grid = one_window(shown);
    return {axis_map(grid.rows, shown.height, shown.height), axis_map(grid.cols, shown.width, shown.width)};
}

AxisMap Geometry::axis_map(const std::vector<Span> &spans, int length, int frame) const {
    const int stride = manifest_.outputs.logits_stride;
    const bool align = manifest_.inference.align_corners;
    const int pixels_of_one = spans.front().length();
    const int cells = pixels_of_one / stride + (pixels_of_one % stride != 0 ? 1 : 0);
    AxisMap windows = average_windows(spans, cells, length, align);
    return frame == length ? windows : bilinear(length, frame, align).after(windows);
}

} // namespace isa_core

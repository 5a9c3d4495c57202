// Each header alone (ALONE_...), and both together with a program's own cv::Mat-like type: C++17 and C++20.
#if defined(ALONE_ISA_H)
#include <isa/isa.h>
namespace {
isa_open_options options = ISA_OPEN_OPTIONS_INIT;
}
const char *alone_isa_h() {
    return options.backend == nullptr ? isa_version() : nullptr;
}
#elif defined(ALONE_ISA_HPP)
#include <isa/isa.hpp>
bool alone_isa_hpp(isa::Segmenter &segmenter) {
    return segmenter.c() == nullptr;
}
#else
#include <isa/isa.hpp>

#include <isa/isa.h>

#include <cstring>
#include <type_traits>

#if !defined(SINGLE)
const char *alone_isa_h();
bool alone_isa_hpp(isa::Segmenter &segmenter);
#endif

namespace {

// What isa.hpp looks at of a cv::Mat.
struct Mat {
    int rows, cols;
    std::uint8_t *data;
    std::size_t step;
    int kind_channels;
    int depth() const { return 0; }
    int channels() const { return kind_channels; }
};

static_assert(std::is_nothrow_move_constructible_v<isa::Segmenter> && !std::is_copy_constructible_v<isa::Segmenter>);
static_assert(std::is_convertible_v<Mat, isa::Image> && !std::is_convertible_v<int, isa::Image>);
static_assert(std::is_trivially_copyable_v<isa_frame> && std::is_standard_layout_v<isa_model_info>);
static_assert(sizeof(isa_frame) == sizeof(isa_picture));

template <typename Call> isa_status status_of(const Call &call) {
    try {
        call();
    } catch (const isa::Error &error) {
        return error.status();
    }
    return ISA_OK;
}

} // namespace

int main() {
    std::uint8_t pixels[2 * 12] = {};
    Mat bgr{2, 3, pixels, 12, 3};
    Mat grey{2, 3, pixels, 12, 1};
    const isa::Image image(bgr);
    if (image.height() != 2 || image.width() != 3 || image.c().row_stride != 12 || image.c().order != ISA_ORDER_BGR)
        return 1;
    if (status_of([&] { isa::Image wrong(grey); }) != ISA_ERROR_INPUT)
        return 2;
    if (status_of([&] { isa::LabelsView wrong(bgr); }) != ISA_ERROR_INPUT)
        return 3;
    if (status_of([&] { isa::Segmenter missing("/nowhere/engine"); }) != ISA_ERROR_ENGINE)
        return 4;
    isa::Labels labels(2, 3);
    labels.data()[5] = 1;
    isa::colorize(labels, {0, 0, 0, 10, 20, 30}, bgr);
    if (pixels[12 + 6] != 30 || pixels[12 + 7] != 20 || pixels[12 + 8] != 10 || pixels[0] != 0)
        return 5;
    isa::overlay(bgr, labels, {0, 0, 0, 30, 20, 10}, bgr);
    if (pixels[12 + 6] != 20 || pixels[12 + 7] != 20 || pixels[12 + 8] != 20)
        return 6;
#if !defined(SINGLE)
    if (std::strcmp(alone_isa_h(), isa_version()) != 0)
        return 7;
#endif
    return 0;
}
#endif

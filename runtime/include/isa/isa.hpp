// isa.hpp: isa.h for C++17, header-only.
//
//     #include <isa/isa.hpp>
//
//     isa::Segmenter segmenter("r101_cityscapes");
//     cv::Mat frame = cv::imread("street.png");
//     isa::Labels labels = segmenter.segment(frame);
//     isa::overlay(frame, labels, segmenter.info(), frame);   // in place, half and half
//
// What fails throws isa::Error, whose what() is one line that says what to do.  Threads, memory and sizes are as in
// isa.h.
#ifndef ISA_ISA_HPP
#define ISA_ISA_HPP

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <isa/isa.h>

namespace isa {

/// An error of the library; status() is one of ISA_ERROR_...
class Error : public std::runtime_error {
public:
    Error(isa_status status, const char *message) : std::runtime_error(message), status_(status) {}
    isa_status status() const noexcept { return status_; }

private:
    isa_status status_;
};

enum class Order : std::int32_t { model = ISA_ORDER_MODEL, bgr = ISA_ORDER_BGR, rgb = ISA_ORDER_RGB };

namespace detail {

inline void check(isa_status status) {
    if (status != ISA_OK)
        throw Error(status, isa_last_error());
}

/// Whether a type is a cv::Mat, or has what is looked at of one.  OpenCV itself is not needed.
template <typename T, typename = void> struct is_mat : std::false_type {};
template <typename T>
struct is_mat<T,
              std::void_t<decltype(std::declval<const T &>().rows), decltype(std::declval<const T &>().cols),
                          decltype(static_cast<const std::uint8_t *>(std::declval<const T &>().data)),
                          decltype(static_cast<std::size_t>(std::declval<const T &>().step)),
                          decltype(std::declval<const T &>().depth()), decltype(std::declval<const T &>().channels())>>
    : std::true_type {};

/// Whether its data is on a GPU, as a cv::cuda::GpuMat's is, which has all of the above.
template <typename T, typename = void> struct is_on_gpu : std::false_type {};
template <typename T>
struct is_on_gpu<T, std::void_t<decltype(std::declval<const T &>().cudaPtr())>> : std::true_type {};

template <typename T> using if_mat = std::enable_if_t<is_mat<T>::value && !is_on_gpu<T>::value, int>;

/// The bytes of a row of a matrix of 8-bit values (depth 0, CV_8U) with so many channels.
template <typename Mat> std::ptrdiff_t checked_step(const Mat &mat, int channels) {
    if (mat.data == nullptr)
        throw Error(ISA_ERROR_INPUT, "an empty matrix has no pixels: check that its file was read, or make it first");
    if (mat.depth() != 0 || mat.channels() != channels)
        throw Error(ISA_ERROR_INPUT, channels == 3 ? "a matrix that is not CV_8UC3: convert it to 8 bits and 3 channels"
                                                   : "a matrix that is not CV_8UC1: labels are 8 bits and 1 channel");
    return static_cast<std::ptrdiff_t>(static_cast<std::size_t>(mat.step));
}

} // namespace detail

/// A frame to read, where it lies.  A view: what it was made of must stay.
class Image {
public:
    /// `row_stride`: bytes from one row to the next; 0: rows without a gap.
    Image(const std::uint8_t *data, int height, int width, Order order = Order::bgr, std::ptrdiff_t row_stride = 0)
        : frame_{data, row_stride != 0 ? row_stride : 3 * static_cast<std::ptrdiff_t>(width), height, width,
                 static_cast<std::int32_t>(order)} {}

    /// A cv::Mat of type CV_8UC3, or a part of one.
    template <typename Mat, detail::if_mat<Mat> = 0>
    Image(const Mat &mat, Order order = Order::bgr) // NOLINT: a frame is an image
        : Image(static_cast<const std::uint8_t *>(mat.data), mat.rows, mat.cols, order, detail::checked_step(mat, 3)) {}

    int height() const { return frame_.height; }
    int width() const { return frame_.width; }
    const isa_frame &c() const { return frame_; }

private:
    isa_frame frame_;
};

/// A picture to write, where it lies.
class Picture {
public:
    Picture(std::uint8_t *data, int height, int width, Order order = Order::bgr, std::ptrdiff_t row_stride = 0)
        : picture_{data, row_stride != 0 ? row_stride : 3 * static_cast<std::ptrdiff_t>(width), height, width,
                   static_cast<std::int32_t>(order)} {}

    /// A cv::Mat of type CV_8UC3 that is there already (not an empty one).
    template <typename Mat, detail::if_mat<Mat> = 0>
    Picture(Mat &mat, Order order = Order::bgr) // NOLINT: a matrix is a picture
        : Picture(static_cast<std::uint8_t *>(mat.data), mat.rows, mat.cols, order, detail::checked_step(mat, 3)) {}

    isa_picture &c() { return picture_; }

private:
    isa_picture picture_;
};

/// A label map where it lies: memory of a program's own, or a cv::Mat of type CV_8UC1.
class LabelsView {
public:
    LabelsView(std::uint8_t *data, int height, int width, std::ptrdiff_t row_stride = 0)
        : labels_{data, row_stride != 0 ? row_stride : static_cast<std::ptrdiff_t>(width), height, width} {}

    template <typename Mat, detail::if_mat<Mat> = 0>
    LabelsView(Mat &mat) // NOLINT: a matrix is a label map
        : LabelsView(static_cast<std::uint8_t *>(mat.data), mat.rows, mat.cols, detail::checked_step(mat, 1)) {}

    isa_labels &c() { return labels_; }

private:
    isa_labels labels_;
};

/// A label map of its own: one byte a pixel, row by row.
class Labels {
public:
    Labels() = default;
    Labels(int height, int width) : height_(height), width_(width) {
        if (height < 0 || width < 0)
            throw Error(ISA_ERROR_INPUT, "labels with a negative side: height and width are 1 or more");
        bytes_.resize(static_cast<std::size_t>(height) * static_cast<std::size_t>(width));
    }

    int height() const { return height_; }
    int width() const { return width_; }
    std::uint8_t *data() { return bytes_.data(); }
    const std::uint8_t *data() const { return bytes_.data(); }
    /// The class of a pixel.
    std::uint8_t at(int y, int x) const {
        if (y < 0 || y >= height_ || x < 0 || x >= width_)
            throw Error(ISA_ERROR_INPUT, "a pixel that is not in the labels: y is below height, x below width");
        return bytes_[static_cast<std::size_t>(y) * static_cast<std::size_t>(width_) + static_cast<std::size_t>(x)];
    }
    LabelsView view() { return {data(), height_, width_}; }
    operator LabelsView() { return view(); } // NOLINT: labels are a label map
    /// To be read, by colorize and overlay; Segmenter::segment takes no constant labels.
    operator LabelsView() const { // NOLINT: labels are a label map
        return {const_cast<std::uint8_t *>(data()), height_, width_};
    }

private:
    int height_ = 0;
    int width_ = 0;
    std::vector<std::uint8_t> bytes_;
};

/// isa_open_options; empty strings and zeros are the defaults.
struct Options {
    std::string backend;
    std::string device;
    std::string precision;
    std::string resize;
    std::string schedule;
    std::string cache_dir;
    std::string backend_dir;
    int threads = 0;
    bool allow_engine_code = false;
};

/// isa_segment_options.
struct Tiling {
    enum class Mode : std::int32_t {
        model = ISA_TILING_MODEL,
        slide = ISA_TILING_SLIDE,
        tiles = ISA_TILING_TILES,
        blend = ISA_TILING_BLEND
    };
    Mode mode = Mode::model;
    int tile_height = 0;
    int tile_width = 0;
    int halo = -1;
    int batch = 0;
};

/// What was opened: isa_model_info with memory of its own.
struct Info {
    std::string architecture;
    std::string precision;
    std::string backend;
    std::string device;
    Order order = Order::bgr;
    std::vector<std::string> class_names;
    std::vector<std::uint8_t> palette_rgb; ///< three a class
    int fixed_batch = 0, fixed_height = 0, fixed_width = 0;
    int crop_height = 0, crop_width = 0, stride_height = 0, stride_width = 0;
};

/// An opened engine.  Move-only; one thread at a time.
class Segmenter {
public:
    explicit Segmenter(const std::string &path, const Options &options = {}) {
        const isa_open_options c = c_options(options);
        detail::check(isa_open(path.c_str(), &c, &segmenter_));
    }

    static Segmenter open(const std::string &path, const Options &options = {}) { return Segmenter(path, options); }

    /// A graph, or a plan with the text of its model.json, in memory.
    static Segmenter open_memory(const void *engine, std::size_t engine_size, const std::string &manifest_json = {},
                                 const Options &options = {}) {
        const isa_open_options c = c_options(options);
        Segmenter made;
        detail::check(isa_open_memory(engine, engine_size, manifest_json.empty() ? nullptr : manifest_json.data(),
                                      manifest_json.size(), &c, &made.segmenter_));
        return made;
    }

    Segmenter(Segmenter &&other) noexcept : segmenter_(std::exchange(other.segmenter_, nullptr)) {}
    Segmenter &operator=(Segmenter &&other) noexcept {
        Segmenter taken(std::move(other)); // a swap alone would leave this one's engine to the other
        std::swap(segmenter_, taken.segmenter_);
        return *this;
    }
    Segmenter(const Segmenter &) = delete;
    Segmenter &operator=(const Segmenter &) = delete;
    ~Segmenter() { isa_close(segmenter_); }

    /// The labels of a frame.
    Labels segment(const Image &image, const Tiling &tiling = {}) {
        Labels labels(image.height(), image.width());
        segment(image, labels.view(), tiling);
        return labels;
    }

    /// The labels of a frame into memory that is there, of the frame's size: no allocation.
    void segment(const Image &image, LabelsView labels, const Tiling &tiling = {}) {
        const isa_segment_options c = c_options(tiling);
        detail::check(isa_segment(segmenter_, &image.c(), &c, &labels.c()));
    }

    void segment(const Image &image, Labels &labels, const Tiling &tiling = {}) {
        segment(image, labels.view(), tiling);
    }
    void segment(const Image &image, const Labels &labels, const Tiling &tiling = {}) = delete;

    /// The labels of several frames of one size.
    std::vector<Labels> segment_batch(const std::vector<Image> &images, const Tiling &tiling = {}) {
        const isa_segment_options c = c_options(tiling);
        std::vector<isa_frame> frames;
        std::vector<Labels> answers;
        std::vector<isa_labels> labels;
        for (const Image &image : images) {
            frames.push_back(image.c());
            answers.emplace_back(image.height(), image.width());
            labels.push_back(answers.back().view().c());
        }
        detail::check(isa_segment_batch(segmenter_, frames.data(), frames.size(), &c, labels.data()));
        return answers;
    }

    /// Frames on the GPU, in the model's order: see isa_segment_device.  `labels` and `data` are device addresses.
    void segment_device(const void *data, int count, int height, int width, void *labels, void *cuda_stream,
                        std::ptrdiff_t row_stride = 0) {
        const isa_device_frames frames{sizeof(isa_device_frames),
                                       data,
                                       row_stride != 0 ? row_stride : 3 * static_cast<std::ptrdiff_t>(width),
                                       count,
                                       height,
                                       width,
                                       0};
        detail::check(isa_segment_device(segmenter_, &frames, labels, cuda_stream));
    }

    Info info() const {
        isa_model_info c{};
        c.struct_size = sizeof c;
        detail::check(isa_info(segmenter_, &c));
        Info made;
        made.architecture = c.architecture;
        made.precision = c.precision;
        made.backend = c.backend;
        made.device = c.device;
        made.order = static_cast<Order>(c.order);
        made.class_names.assign(c.class_names, c.class_names + c.num_classes);
        made.palette_rgb.assign(c.palette_rgb, c.palette_rgb + 3 * static_cast<std::ptrdiff_t>(c.num_classes));
        made.fixed_batch = c.fixed_batch;
        made.fixed_height = c.fixed_height;
        made.fixed_width = c.fixed_width;
        made.crop_height = c.crop_height;
        made.crop_width = c.crop_width;
        made.stride_height = c.stride_height;
        made.stride_width = c.stride_width;
        return made;
    }

    /// The C handle, which stays this object's; null after a move.
    isa_segmenter *c() const { return segmenter_; }

private:
    Segmenter() = default;

    static const char *or_null(const std::string &word) { return word.empty() ? nullptr : word.c_str(); }

    static isa_open_options c_options(const Options &options) {
        isa_open_options c = ISA_OPEN_OPTIONS_INIT;
        c.backend = or_null(options.backend);
        c.device = or_null(options.device);
        c.precision = or_null(options.precision);
        c.resize = or_null(options.resize);
        c.schedule = or_null(options.schedule);
        c.cache_dir = or_null(options.cache_dir);
        c.backend_dir = or_null(options.backend_dir);
        c.threads = options.threads;
        c.allow_engine_code = options.allow_engine_code ? 1 : 0;
        return c;
    }

    static isa_segment_options c_options(const Tiling &tiling) {
        return {sizeof(isa_segment_options),
                static_cast<std::int32_t>(tiling.mode),
                tiling.tile_height,
                tiling.tile_width,
                tiling.halo,
                tiling.batch,
                0};
    }

    isa_segmenter *segmenter_ = nullptr;
};

/// Paints labels in their classes' colours (three bytes red, green, blue a class).
inline void colorize(LabelsView labels, const std::vector<std::uint8_t> &palette_rgb, Picture picture) {
    detail::check(isa_colorize(&labels.c(), palette_rgb.data(), palette_rgb.size() / 3, &picture.c()));
}

inline void colorize(LabelsView labels, const Info &info, Picture picture) {
    colorize(labels, info.palette_rgb, picture);
}

/// Lays the classes' colours over a frame; the picture may be the frame itself.
inline void overlay(const Image &image, LabelsView labels, const std::vector<std::uint8_t> &palette_rgb,
                    Picture picture, double alpha = 0.5) {
    detail::check(
        isa_overlay(&image.c(), &labels.c(), palette_rgb.data(), palette_rgb.size() / 3, alpha, &picture.c()));
}

inline void overlay(const Image &image, LabelsView labels, const Info &info, Picture picture, double alpha = 0.5) {
    overlay(image, labels, info.palette_rgb, picture, alpha);
}

} // namespace isa

#endif

#include "segmenter.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "error.hpp"
#include "place_window.hpp"
#include "run.hpp"

namespace isa_core {

namespace {

/// Sizes whose maps and buffers are kept: a video has one, a folder of photographs a few.
constexpr std::size_t kPathsKept = 4;

constexpr double kGiB = 1 << 30;

/// Of the windows' logits of one frame.  A manifest may ask for any overlap; 8192 x 8192 in crops of 769 is 2 GiB.
constexpr double kMaxGridBytes = 8 * kGiB;

void copy_labels(const std::uint8_t *from_hw, Size size, const isa_labels &to) {
    const auto width = static_cast<std::size_t>(size.width);
    if (to.row_stride == size.width) {
        std::memcpy(to.data, from_hw, static_cast<std::size_t>(size.height) * width);
        return;
    }
    for (int y = 0; y < size.height; ++y)
        std::memcpy(to.data + y * to.row_stride, from_hw + static_cast<std::size_t>(y) * width, width);
}

} // namespace

Segmenter::Segmenter(Opened opened, ResizeRule resize)
    : manifest_(std::move(opened.manifest)), engine_(std::move(opened.engine)), geometry_(*manifest_, resize) {}

bool Segmenter::swaps(const isa_frame &frame) const {
    return frame.order != ISA_ORDER_MODEL && frame.order != (manifest_->input.rgb ? ISA_ORDER_RGB : ISA_ORDER_BGR);
}

Segmenter::Path &Segmenter::path_for(Size frame) {
    const auto known =
        std::find_if(paths_.begin(), paths_.end(), [&](const Path &path) { return path.frame == frame; });
    if (known != paths_.end()) {
        paths_.splice(paths_.begin(), paths_, known);
        return paths_.front();
    }
    Path path;
    path.frame = frame;
    path.shown = geometry_.shown_size(frame);
    path.graph_labels = engine_->info().fast_argmax != 0 && path.shown == frame && geometry_.graph_covers(frame);
    if (path.shown != frame)
        path.resizer = std::make_unique<Resizer>(frame, path.shown);
    if (!path.graph_labels) {
        const Geometry::Maps maps = geometry_.frame_maps(path.shown, frame);
        const auto classes = static_cast<int>(manifest_->classes.names.size());
        path.assembler = std::make_unique<Assembler>(maps.rows, maps.cols, classes);
        path.windows = geometry_.windows(path.shown);
        if (manifest_->cuts_windows()) {
            if (path.windows.rows.size() * path.windows.cols.size() > 1) {
                const double floats = static_cast<double>(classes) * maps.rows.inputs * maps.cols.inputs;
                if (floats * sizeof(float) > kMaxGridBytes)
                    fail_input("a frame of ", frame.height, "x", frame.width, " in ", path.windows.rows.size(), "x",
                               path.windows.cols.size(), " windows needs ", std::llround(floats * sizeof(float) / kGiB),
                               " GiB for their logits; use a smaller frame, or a tiling");
                path.grid_chw.resize(static_cast<std::size_t>(floats));
            }
            if (path.resizer)
                path.resized.resize(3 * static_cast<std::size_t>(path.shown.height) *
                                    static_cast<std::size_t>(path.shown.width));
        }
    }
    if (paths_.size() >= kPathsKept)
        paths_.pop_back();
    paths_.push_front(std::move(path));
    return paths_.front();
}

int Segmenter::batch_for(Size size, int images) {
    if (manifest_->input.batch)
        return *manifest_->input.batch;
    const int largest = engine_->largest_batch(size);
    return largest > 0 ? largest : images;
}

const float *Segmenter::checked_logits(const isa_engine_answer &answer, int n, int rows, int cols) const {
    const std::int64_t *const shape = answer.logits_shape;
    const auto classes = static_cast<std::int64_t>(manifest_->classes.names.size());
    if (answer.logits_nchw == nullptr || shape[0] <= n || shape[1] != classes || shape[2] != rows || shape[3] != cols)
        fail_engine("the engine gave logits of ", shape[2], "x", shape[3], " where its manifest promises ", rows, "x",
                    cols, "; export the model again");
    const auto count =
        static_cast<std::size_t>(classes) * static_cast<std::size_t>(rows) * static_cast<std::size_t>(cols);
    const float *const logits_chw = answer.logits_nchw + static_cast<std::size_t>(n) * count;
    if (!all_finite(logits_chw, count))
        fail_engine("the engine gave logits that are not finite: its file is damaged, or its type's range is too small "
                    "for this model; export it again, in float32");
    return logits_chw;
}

const std::uint8_t *Segmenter::checked_labels(const isa_engine_answer &answer, int n, Size size) const {
    const std::int64_t *const shape = answer.labels_shape;
    if (answer.labels_nhw == nullptr || shape[0] <= n || shape[1] != size.height || shape[2] != size.width)
        fail_engine("the engine gave labels of ", shape[1], "x", shape[2], " for a frame of ", size.height, "x",
                    size.width, "; export the model again");
    return answer.labels_nhw +
           static_cast<std::size_t>(n) * static_cast<std::size_t>(size.height) * static_cast<std::size_t>(size.width);
}

void Segmenter::segment(const isa_frame *frames, std::size_t count, const isa_labels *labels) {
    Path &path = path_for({frames[0].height, frames[0].width});
    if (!path.graph_labels && manifest_->cuts_windows()) {
        for (std::size_t i = 0; i < count; ++i)
            segment_cut(path, frames[i], labels[i]);
        return;
    }
    const auto fill = [&](int i, std::uint8_t *image_hwc) {
        const isa_frame &frame = frames[i];
        if (path.resizer)
            path.resizer->run(frame.data, frame.row_stride, swaps(frame), image_hwc);
        else
            copy_frame(frame.data, frame.row_stride, path.frame, swaps(frame), image_hwc);
    };
    const auto images = static_cast<int>(count);
    if (path.graph_labels) {
        run(images, images, path.shown, ISA_WANT_LABELS, fill, [&](int i, const isa_engine_answer &answer, int n) {
            copy_labels(checked_labels(answer, n, path.frame), path.frame, labels[i]);
        });
        return;
    }
    run(images, images, path.shown, ISA_WANT_LOGITS, fill, [&](int i, const isa_engine_answer &answer, int n) {
        Assembler &assembler = *path.assembler;
        assembler.labels(checked_logits(answer, n, assembler.grid_rows(), assembler.grid_cols()), labels[i].data,
                         labels[i].row_stride);
    });
}

void Segmenter::segment_cut(Path &path, const isa_frame &frame, const isa_labels &labels) {
    const std::uint8_t *shown = frame.data;
    std::ptrdiff_t row_stride = frame.row_stride;
    bool swap = swaps(frame);
    if (path.resizer) {
        path.resizer->run(frame.data, frame.row_stride, swap, path.resized.data());
        shown = path.resized.data();
        row_stride = 3 * static_cast<std::ptrdiff_t>(path.shown.width);
        swap = false;
    }
    const std::vector<Span> &rows = path.windows.rows, &cols = path.windows.cols;
    const auto across = static_cast<int>(cols.size()), down = static_cast<int>(rows.size());
    const Size window{rows[0].length(), cols[0].length()};
    Assembler &assembler = *path.assembler;
    const int cell_rows = assembler.grid_rows() / down, cell_cols = assembler.grid_cols() / across;
    const auto fill = [&](int i, std::uint8_t *image_hwc) {
        const Span row = rows[static_cast<std::size_t>(i / across)], col = cols[static_cast<std::size_t>(i % across)];
        copy_frame(shown + row.start * row_stride + 3 * static_cast<std::ptrdiff_t>(col.start), row_stride, window,
                   swap, image_hwc);
    };
    const float *grid_chw = path.grid_chw.data();
    // a row of windows at a time, which a GPU takes in batches
    run(down * across, across, window, ISA_WANT_LOGITS, fill, [&](int i, const isa_engine_answer &answer, int n) {
        const float *const logits_chw = checked_logits(answer, n, cell_rows, cell_cols);
        if (path.grid_chw.empty())
            assembler.labels(logits_chw, labels.data, labels.row_stride);
        else
            place_window(logits_chw, assembler.classes(), {cell_rows, cell_cols}, i / across, i % across, across, down,
                         path.grid_chw.data());
    });
    if (!path.grid_chw.empty())
        assembler.labels(grid_chw, labels.data, labels.row_stride);
}

void Segmenter::segment_device(const isa_device_frames &frames, void *labels, void *stream) {
    if (!engine_->takes_device_frames())
        fail_input("backend ", engine_->backend(),
                   " takes frames in the host's memory; open a TensorRT plan for frames on the GPU");
    const Size frame{frames.height, frames.width};
    if (geometry_.shown_size(frame) != frame || !geometry_.graph_covers(frame))
        fail_input("a frame of ", frame.height, "x", frame.width,
                   " on the GPU needs a resize or windows outside of the graph; open the engine with resize \"none\", "
                   "or export with --shape");
    const std::optional<int> &fixed = manifest_->input.batch;
    if (fixed && *fixed != frames.count)
        fail_input("this engine takes ", *fixed, " frames at once, not ", frames.count,
                   "; export without a batch in --shape");
    engine_->run_device({frames.data, frames.row_stride, frames.count, frames.height, frames.width, labels, stream});
}

} // namespace isa_core

// Frames in windows of the caller's choice: isa_deploy/runtime/tiled.py in C++, for frames that are in memory.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

#include "error.hpp"
#include "place_window.hpp"
#include "run.hpp"
#include "segmenter.hpp"

namespace isa_core {

namespace {

constexpr int kTile = 1024; ///< side of a tile where neither the caller nor the model names one
/// Measured (benchmarks/tiling.py): at these halos the labels at the seams agree with those of the whole picture as
/// often as the labels elsewhere.
constexpr int kLargeTile = 1024, kLargeTileHalo = 64, kSmallTileHalo = 128;
constexpr int kDeviceBatch = 4; ///< tiles at once where the backend names no number

struct TilePlan {
    AxisCut rows;
    AxisCut cols;
    int batch = 1;
};

CutMode cut_mode(std::int32_t tiling) {
    switch (tiling) {
    case ISA_TILING_SLIDE:
        return CutMode::slide;
    case ISA_TILING_TILES:
        return CutMode::tiles;
    case ISA_TILING_BLEND:
        return CutMode::blend;
    default:
        fail_input("tiling ", tiling,
                   " is none of ISA_TILING_MODEL, ISA_TILING_SLIDE, ISA_TILING_TILES, ISA_TILING_BLEND");
    }
}

int usual_halo(int side) {
    return side >= kLargeTile ? kLargeTileHalo : std::min(kSmallTileHalo, side / 4);
}

void check_tile(Size tile, int halo) {
    if (2 * static_cast<std::int64_t>(halo) >= std::min(tile.height, tile.width))
        fail_input("a halo of ", halo, " pixels on both sides leaves nothing of a tile of ", tile.height, "x",
                   tile.width, "; use a smaller halo or a larger tile");
}

/// Cuts a picture of a size for an engine.
TilePlan plan_tiles(const Manifest &manifest, Engine &engine, Size picture, const isa_segment_options &options) {
    const CutMode mode = cut_mode(options.tiling);
    const std::optional<Size> fixed = manifest.input.frame;
    const std::optional<Size> crop = manifest.inference.windows_in_graph ? std::nullopt : manifest.inference.crop;
    const bool named = options.tile_height != 0;
    const Size tile = named   ? Size{options.tile_height, options.tile_width}
                      : fixed ? *fixed
                      : crop  ? *crop
                              : Size{kTile, kTile};
    if (fixed && !crop) {
        if (tile != *fixed)
            fail_input("tiles of ", tile.height, "x", tile.width, ": this engine takes ", fixed->height, "x",
                       fixed->width, " only; leave the tile's size away");
        if (picture.height < fixed->height || picture.width < fixed->width)
            fail_input("a picture of ", picture.height, "x", picture.width, " is smaller than the ", fixed->height, "x",
                       fixed->width, " that this engine takes; use ISA_TILING_MODEL, or export without --shape");
    }
    if (crop && (tile.height > crop->height || tile.width > crop->width))
        fail_input("tiles of ", tile.height, "x", tile.width, " are larger than this model's crop of ", crop->height,
                   "x", crop->width, "; use the crop or less");
    int halo = options.halo;
    Size overlap;
    const std::optional<Size> &stride = manifest.inference.stride;
    if (halo < 0 && mode == CutMode::slide && stride && crop && tile == *crop) {
        overlap = {tile.height - stride->height, tile.width - stride->width};
        halo = std::min(overlap.height, overlap.width) / 2;
    } else {
        halo = halo < 0 ? usual_halo(std::min(tile.height, tile.width)) : halo;
        check_tile(tile, halo);
        overlap = {2 * halo, 2 * halo};
    }
    check_tile(tile, halo);
    int batch = options.batch != 0 ? options.batch : manifest.input.batch.value_or(engine.largest_batch(tile));
    batch = batch > 0 ? batch : kDeviceBatch;
    TilePlan plan{cut_axis(picture.height, tile.height, overlap.height, mode),
                  cut_axis(picture.width, tile.width, overlap.width, mode), batch};
    const std::size_t down = plan.rows.windows.size(), across = plan.cols.windows.size();
    if (down > INT32_MAX / across)
        fail_input(down, "x", across, " windows are too many; use larger tiles or a smaller halo");
    return plan;
}

/// The logits of the windows that a block may still need: those of the rows of windows that overlap the block's.
class WindowLogits {
public:
    WindowLogits(const TilePlan &plan, int classes, Size cells)
        : across_(static_cast<int>(plan.cols.windows.size())), classes_(classes), cells_(cells) {
        int deepest = 1;
        for (int row = 0; row < static_cast<int>(plan.rows.windows.size()); ++row)
            deepest = std::max(deepest, plan.rows.windows_of(row).length());
        kept_rows_ = deepest;
        count_ = static_cast<std::size_t>(classes) * static_cast<std::size_t>(cells.height) *
                 static_cast<std::size_t>(cells.width);
        const std::size_t windows = static_cast<std::size_t>(kept_rows_) * static_cast<std::size_t>(across_);
        if (windows > logits_.max_size() / count_)
            throw std::bad_alloc();
        logits_.resize(windows * count_);
    }

    void keep(int row, int col, const float *logits_chw) {
        std::memcpy(place(row, col), logits_chw, count_ * sizeof(float));
    }

    /// The windows of some rows and columns side by side.
    const std::vector<float> &grid(Span rows, Span cols) {
        grid_chw_.resize(static_cast<std::size_t>(rows.length()) * static_cast<std::size_t>(cols.length()) * count_);
        for (int row = rows.start; row < rows.stop; ++row)
            for (int col = cols.start; col < cols.stop; ++col)
                place_window(place(row, col), classes_, cells_, row - rows.start, col - cols.start, cols.length(),
                             rows.length(), grid_chw_.data());
        return grid_chw_;
    }

private:
    float *place(int row, int col) {
        const auto number = static_cast<std::size_t>(row % kept_rows_) * static_cast<std::size_t>(across_) +
                            static_cast<std::size_t>(col);
        return logits_.data() + number * count_;
    }

    int across_;
    int kept_rows_;
    int classes_;
    Size cells_;
    std::size_t count_;
    std::vector<float> logits_; ///< a ring of rows of windows
    std::vector<float> grid_chw_;
};

AxisMap block_map(const AxisCut &cut, int block, const AxisMap &window_map) {
    const Span numbers = cut.windows_of(block);
    std::vector<Span> spans;
    std::vector<std::vector<double>> weights;
    for (int number = numbers.start; number < numbers.stop; ++number) {
        spans.push_back(cut.windows[static_cast<std::size_t>(number)]);
        weights.push_back(cut.weights(number));
    }
    return weigh_windows(spans, weights, window_map, cut.blocks[static_cast<std::size_t>(block)]);
}

} // namespace

void Segmenter::segment_tiled(const isa_frame &frame, const isa_segment_options &options, const isa_labels &labels) {
    const Size picture{frame.height, frame.width};
    if ((options.tile_height == 0) != (options.tile_width == 0) || options.tile_height < 0 || options.tile_width < 0)
        fail_input("a tile of ", options.tile_height, "x", options.tile_width,
                   ": both sides are 1 or more, or both 0 for the usual size");
    if (options.halo < -1)
        fail_input("a halo of ", options.halo, " pixels: it must be 0 or more, or -1 for the usual one");
    if (options.batch < 0)
        fail_input("a batch of ", options.batch, " tiles: it must be 1 or more, or 0 for the usual number");
    const TilePlan plan = plan_tiles(*manifest_, *engine_, picture, options);
    const Size window{plan.rows.window(), plan.cols.window()};
    geometry_.check_window(window);

    const auto across = static_cast<int>(plan.cols.windows.size()), down = static_cast<int>(plan.rows.windows.size());
    const bool swap = swaps(frame);
    const auto span = [](const std::vector<Span> &spans, int i) { return spans[static_cast<std::size_t>(i)]; };
    const auto fill = [&](int i, std::uint8_t *image_hwc) {
        const Span row = span(plan.rows.windows, i / across), col = span(plan.cols.windows, i % across);
        copy_frame(frame.data + row.start * frame.row_stride + 3 * static_cast<std::ptrdiff_t>(col.start),
                   frame.row_stride, window, swap, image_hwc);
    };
    const auto block_labels = [&](int i) {
        return labels.data + span(plan.rows.blocks, i / across).start * labels.row_stride +
               span(plan.cols.blocks, i % across).start;
    };

    if (plan.rows.mode == CutMode::tiles && engine_->info().fast_argmax != 0) {
        // a tile's labels are its own: nothing has to be merged
        run(down * across, plan.batch, window, ISA_WANT_LABELS, fill,
            [&](int i, const isa_engine_answer &answer, int n) {
                const std::uint8_t *const tile_hw = checked_labels(answer, n, window);
                const Span rows = span(plan.rows.blocks, i / across), cols = span(plan.cols.blocks, i % across);
                const int top = span(plan.rows.windows, i / across).start,
                          left = span(plan.cols.windows, i % across).start;
                for (int y = rows.start; y < rows.stop; ++y)
                    std::memcpy(labels.data + y * labels.row_stride + cols.start,
                                tile_hw + static_cast<std::size_t>(y - top) * static_cast<std::size_t>(window.width) +
                                    (cols.start - left),
                                static_cast<std::size_t>(cols.length()));
            });
        return;
    }
    const Geometry::Maps window_maps = geometry_.call_maps(window);
    const auto classes = static_cast<int>(manifest_->classes.names.size());
    const Size cells{window_maps.rows.inputs, window_maps.cols.inputs};
    WindowLogits kept(plan, classes, cells);
    std::vector<AxisMap> by_col; // columns come again in every row
    for (int col = 0; col < across; ++col)
        by_col.push_back(block_map(plan.cols, col, window_maps.cols));
    AxisMap by_row;
    int row_of_map = -1;
    run(down * across, plan.batch, window, ISA_WANT_LOGITS, fill, [&](int i, const isa_engine_answer &answer, int n) {
        const int row = i / across, col = i % across;
        kept.keep(row, col, checked_logits(answer, n, cells.height, cells.width));
        if (row != row_of_map)
            by_row = block_map(plan.rows, row_of_map = row, window_maps.rows);
        const std::vector<float> &grid_chw = kept.grid(plan.rows.windows_of(row), plan.cols.windows_of(col));
        Assembler(by_row, by_col[static_cast<std::size_t>(col)], classes)
            .labels(grid_chw.data(), block_labels(i), labels.row_stride);
    });
}

} // namespace isa_core

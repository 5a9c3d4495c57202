// Labels as Python makes them, to the bit of every interpolated logit.
//
// Python interpolates with BLAS in float32: first the columns, whose results are rounded to float32, then the rows.  In
// OpenBLAS's kernels for AVX-512 each output of a product is a chain over the inputs in rising order, sum = fma(weight,
// input, sum) from zero, and so it is here; an input of weight zero adds nothing and is left out.  The weights are
// float64 until they are used, then float32.
//
// Where the last bit of a logit is another one all the same (found with numpy 2.4, OpenBLAS 0.3.31; a label can differ
// only where two classes are that close):
// - the kernels for AVX2 alone (Haswell, Zen) split sums of eight inputs and more, which 64 columns of an eightfold
//   enlargement have;
// - those for AVX-512 split sums of 32 inputs and more where there are few columns: a picture made smaller;
// - numpy multiplies a single row or column with gemv, which splits sums of four inputs and more (AVX2: of two): one
//   class with one row of logits, one row or column alone in the last strip of a frame;
// - without FMA, BLAS rounds product and sum each, in the same order: so does kAssembleUnfused, which is chosen there.
#include "assemble.hpp"

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

#include "assemble_plan.hpp"
#include "cpu.hpp"
#include "error.hpp"

namespace isa_core {

namespace {

constexpr int kMostClasses = 256; // a label is one byte
constexpr std::size_t kAlignment = 64 / sizeof(float);

/// The inputs of one output, rising, with weights that are not zero.
struct Reads {
    std::vector<std::int32_t> index;
    std::vector<float> weight;
};

Reads reads_of(const AxisMap &map, int output) {
    const auto taps = static_cast<std::size_t>(map.taps);
    const std::size_t start = static_cast<std::size_t>(output) * taps;
    std::vector<std::pair<std::int32_t, double>> sums;
    sums.reserve(taps);
    for (std::size_t tap = start; tap < start + taps; ++tap)
        sums.emplace_back(map.index[tap], map.weight[tap]);
    std::stable_sort(sums.begin(), sums.end(), [](const auto &a, const auto &b) { return a.first < b.first; });
    Reads reads;
    for (std::size_t i = 0; i < sums.size();) {
        double sum = 0;
        const std::int32_t index = sums[i].first;
        for (; i < sums.size() && sums[i].first == index; ++i)
            sum += sums[i].second;
        const auto weight = static_cast<float>(sum);
        if (weight != 0) {
            reads.index.push_back(index);
            reads.weight.push_back(weight);
        }
    }
    if (reads.index.empty()) {
        reads.index.push_back(sums.front().first);
        reads.weight.push_back(0);
    }
    return reads;
}

std::vector<std::int32_t> joined(const std::vector<std::int32_t> &a, const std::vector<std::int32_t> &b) {
    std::vector<std::int32_t> both;
    both.reserve(a.size() + b.size());
    std::set_union(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
    return both;
}

std::size_t padded(std::size_t count) {
    return (count + kAlignment - 1) / kAlignment * kAlignment;
}

/// Whether BLAS on this processor, and so this library, multiplies and adds with one rounding.
bool fuses() noexcept {
#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
    __builtin_cpu_init();
    return __builtin_cpu_supports("fma") != 0;
#else
    return true;
#endif
}

} // namespace

OwnedPlan::OwnedPlan(const AxisMap &rows, const AxisMap &cols, int classes) {
    if (classes < 1 || classes > kMostClasses)
        fail_input(classes, " classes: it must be 1 to ", kMostClasses);
    for (const AxisMap *map : {&rows, &cols})
        if (map->outputs < 1 || map->inputs < 1 || map->taps < 1)
            fail_input("an axis map of ", map->inputs, " inputs, ", map->outputs, " outputs and ", map->taps,
                       " taps is empty");
    view_.classes = classes;
    view_.class_lanes = (classes + kClassLanes - 1) / kClassLanes * kClassLanes;
    view_.grid_rows = rows.inputs;
    view_.grid_cols = cols.inputs;
    view_.height = rows.outputs;
    view_.width = cols.outputs;
    cut_columns(cols);
    cut_rows(rows);
    keep_rows();

    int row_taps = 0;
    for (const RowRun &run : runs_)
        row_taps = std::max(row_taps, run.taps);
    int col_taps = 0;
    for (const ColumnTile &tile : tiles_)
        col_taps = std::max(col_taps, tile.taps);
    // Each weight, and each product with its sum, is rounded by 2^-24 of the largest logit at most; two classes make it
    // twice that, and four times that is sure.  Never less than Python's margin.
    view_.doubt = std::max(0x1p-16F, 4 * static_cast<float>(2 * (row_taps + col_taps) + 4) * 0x1p-24F);

    const auto lanes = static_cast<std::size_t>(view_.class_lanes);
    view_.pitch = padded(static_cast<std::size_t>(view_.grid_cols)) | kAlignment;
    const std::size_t kept = slots_ * lanes * view_.pitch + kTileCols;
    const std::size_t cells = view_.pitch * lanes;
    const std::size_t bounds = slots_ * tiles_.size() * lanes;
    const std::size_t wide = static_cast<std::size_t>(classes) * static_cast<std::size_t>(row_taps) * kTileCols;
    scratch_.assign(kept + cells + 2 * bounds + wide + kAlignment, -std::numeric_limits<float>::infinity());
    candidates_.resize(lanes + kClassLanes);

    const std::size_t past = reinterpret_cast<std::uintptr_t>(scratch_.data()) / sizeof(float) % kAlignment;
    view_.kept = scratch_.data() + (kAlignment - past) % kAlignment;
    view_.cells = view_.kept + kept;
    view_.low = view_.cells + cells;
    view_.high = view_.low + bounds;
    view_.wide = view_.high + bounds;
    view_.candidates = candidates_.data();
    view_.tiles = tiles_.data();
    view_.tile_count = static_cast<int>(tiles_.size());
    view_.col_weights = col_weights_.data();
    view_.col_places = col_places_.data();
    view_.tile_inputs = tile_inputs_.data();
    view_.runs = runs_.data();
    view_.run_count = static_cast<int>(runs_.size());
    view_.row_weights = row_weights_.data();
    view_.row_inputs = row_inputs_.data();
    view_.row_slots = row_slots_.data();
    view_.row_fresh = row_fresh_.data();
}

void OwnedPlan::cut_columns(const AxisMap &cols) {
    for (int left = 0; left < cols.outputs; left += kTileCols) {
        Reads reads[kTileCols];
        std::vector<std::int32_t> inputs;
        std::size_t taps = 0;
        for (int i = 0; i < kTileCols; ++i) {
            reads[i] = reads_of(cols, std::min(left + i, cols.outputs - 1)); // the last one stands for those beyond
            inputs = joined(inputs, reads[i].index);
            taps = std::max(taps, reads[i].index.size());
        }
        ColumnTile tile{};
        tile.first = inputs.front();
        tile.span = inputs.back() - inputs.front() + 1;
        for (int half = 0; half < 2; ++half) {
            int first = inputs.back();
            int last = inputs.front();
            for (int i = 8 * half; i < 8 * half + 8; ++i) {
                first = std::min(first, reads[i].index.front());
                last = std::max(last, reads[i].index.back());
            }
            tile.half_first[half] = first;
            tile.half_span[half] = last - first + 1;
        }
        tile.taps = static_cast<int>(taps);
        tile.weights = col_weights_.size();
        tile.inputs = tile_inputs_.size();
        tile.input_count = static_cast<int>(inputs.size());
        for (std::size_t tap = 0; tap < taps; ++tap)
            for (const Reads &column : reads) {
                const bool used = tap < column.index.size();
                col_weights_.push_back(used ? column.weight[tap] : 0.0F);
                col_places_.push_back((used ? column.index[tap] : column.index.back()) - tile.first);
            }
        tile_inputs_.insert(tile_inputs_.end(), inputs.begin(), inputs.end());
        tiles_.push_back(tile);
    }
}

void OwnedPlan::cut_rows(const AxisMap &rows) {
    std::vector<Reads> reads;
    for (int top = 0; top < rows.outputs; top += static_cast<int>(reads.size())) {
        reads.clear();
        std::vector<std::int32_t> inputs;
        std::size_t most = 2;
        for (int row = top; row < rows.outputs && reads.size() < kMaxRunRows; ++row) {
            Reads next = reads_of(rows, row);
            std::vector<std::int32_t> both = joined(inputs, next.index);
            most = std::max(most, next.index.size());
            if (!reads.empty() && both.size() > most)
                break; // each of the rows would be charged for an input that it does not need
            inputs = std::move(both);
            reads.push_back(std::move(next));
        }
        RowRun run{};
        run.top = top;
        run.rows = static_cast<int>(reads.size());
        run.taps = static_cast<int>(inputs.size());
        run.inputs = row_inputs_.size();
        run.weights = row_weights_.size();
        row_inputs_.insert(row_inputs_.end(), inputs.begin(), inputs.end());
        row_weights_.resize(run.weights + inputs.size() * kMaxRunRows, 0.0F);
        for (std::size_t row = 0; row < reads.size(); ++row)
            for (std::size_t i = 0; i < reads[row].index.size(); ++i) {
                const auto found = std::lower_bound(inputs.begin(), inputs.end(), reads[row].index[i]);
                const auto tap = static_cast<std::size_t>(found - inputs.begin());
                row_weights_[run.weights + tap * kMaxRunRows + row] = reads[row].weight[i];
            }
        runs_.push_back(run);
    }
}

/// Plans where each run finds the bounds of its rows of the grid: those of the run before are still there.
void OwnedPlan::keep_rows() {
    for (const RowRun &run : runs_)
        slots_ = std::max(slots_, static_cast<std::size_t>(run.taps));
    std::vector<std::int32_t> kept(slots_, -1);
    std::vector<std::uint8_t> taken(slots_);
    row_slots_.assign(row_inputs_.size(), -1);
    row_fresh_.assign(row_inputs_.size(), 0);
    for (const RowRun &run : runs_) {
        std::fill(taken.begin(), taken.end(), std::uint8_t{0});
        const std::size_t stop = run.inputs + static_cast<std::size_t>(run.taps);
        for (std::size_t i = run.inputs; i < stop; ++i) {
            const auto found = std::find(kept.begin(), kept.end(), row_inputs_[i]);
            if (found != kept.end()) {
                row_slots_[i] = static_cast<std::int32_t>(found - kept.begin());
                taken[static_cast<std::size_t>(found - kept.begin())] = 1;
            }
        }
        for (std::size_t i = run.inputs; i < stop; ++i) {
            if (row_slots_[i] >= 0)
                continue;
            const auto slot = static_cast<std::size_t>(std::find(taken.begin(), taken.end(), 0) - taken.begin());
            row_slots_[i] = static_cast<std::int32_t>(slot);
            row_fresh_[i] = 1;
            kept[slot] = row_inputs_[i];
            taken[slot] = 1;
        }
    }
}

const AssembleKernels &assemble_kernels(Simd wanted) noexcept {
#if defined(ISA_X86_KERNELS)
    if (wanted == Simd::avx512)
        return kAssembleAvx512;
    if (wanted == Simd::avx2)
        return kAssembleAvx2;
#else
    static_cast<void>(wanted);
#endif
    return fuses() ? kAssemblePortable : kAssembleUnfused;
}

bool all_finite(const float *values, std::size_t count) {
    return assemble_kernels(simd()).all_finite(values, count);
}

struct Assembler::State {
    State(const AxisMap &rows, const AxisMap &cols, int classes) : plan(rows, cols, classes) {}

    OwnedPlan plan;
    const AssembleKernels &kernels = assemble_kernels(simd());
};

Assembler::Assembler(const AxisMap &rows, const AxisMap &cols, int classes)
    : state_(std::make_unique<State>(rows, cols, classes)) {}
Assembler::~Assembler() = default;
Assembler::Assembler(Assembler &&) noexcept = default;
Assembler &Assembler::operator=(Assembler &&) noexcept = default;

int Assembler::height() const {
    return state_->plan.view().height;
}
int Assembler::width() const {
    return state_->plan.view().width;
}
int Assembler::grid_rows() const {
    return state_->plan.view().grid_rows;
}
int Assembler::grid_cols() const {
    return state_->plan.view().grid_cols;
}
int Assembler::classes() const {
    return state_->plan.view().classes;
}

void Assembler::labels(const float *logits_chw, std::uint8_t *labels_hw, std::ptrdiff_t row_stride) {
    state_->kernels.labels(state_->plan.view(), logits_chw, labels_hw, row_stride);
}

} // namespace isa_core

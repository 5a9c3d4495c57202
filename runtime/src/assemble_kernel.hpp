// What the assembler's kernels work on: plain memory, prepared by assemble.cpp.
//
// The files that are compiled for wider vectors include this and no C++ library header with inline functions: of such a
// function the linker keeps one copy for the whole program, which might need instructions that the processor lacks.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace isa_core {

constexpr int kTileCols = 16;
constexpr int kMaxRunRows = 8;
constexpr int kClassLanes = 16; // classes are padded to a multiple of it

/// Sixteen columns of the labels (fewer at the right border) and the columns of the grid that they read.
struct ColumnTile {
    int first;         ///< the leftmost of the grid's columns
    int span;          ///< from the leftmost to the rightmost, both included
    int half_first[2]; ///< the same of eight columns each
    int half_span[2];
    int taps;
    size_t weights; ///< where its taps x 16 weights and indices begin
    size_t inputs;  ///< where the list of the grid's columns that it reads begins
    int input_count;
};

/// A few rows of the labels that read the same rows of the grid.
struct RowRun {
    int top;
    int rows;
    int taps;
    size_t inputs;  ///< where its rows of the grid begin, in row_inputs and the lists beside it
    size_t weights; ///< where its taps x 8 weights begin
};

struct AssemblePlan {
    int classes, class_lanes;
    int grid_rows, grid_cols;
    int height, width;
    /// By how much of the largest logit a class must be behind to be left out: more than the roundings of both sums.
    float doubt;

    const ColumnTile *tiles;
    int tile_count;
    const float *col_weights;  ///< tile, tap, column: an unused tap has weight 0
    const int32_t *col_places; ///< tile, tap, column: the grid's column less the tile's first
    const int32_t *tile_inputs;

    const RowRun *runs;
    int run_count;
    const float *row_weights; ///< run, tap, row
    const int32_t *row_inputs;
    const int32_t *row_slots; ///< where such a row of the grid is kept
    const uint8_t *row_fresh; ///< whether it is not there yet

    // scratch
    float *kept;         ///< slot, class, column: rows of the grid, `pitch` floats each; 16 more can be read
    float *cells;        ///< one row of the grid: column, class
    float *low;          ///< slot, tile, class: the smallest logit that the tile reads of that row
    float *high;         ///< the largest
    float *wide;         ///< class left, tap, column: logits at a tile's columns
    int32_t *candidates; ///< classes left, and room for 16 more
    size_t pitch;        ///< an odd multiple of 16: rows a power of two apart would share a few lines of the cache
};

/// One width of vectors.
struct AssembleKernels {
    void (*labels)(const AssemblePlan &plan, const float *logits_chw, uint8_t *labels_hw, ptrdiff_t row_stride);
    /// All logits at the labels' size, by the steps that make labels: for tests.
    void (*full_logits)(const AssemblePlan &plan, const float *logits_chw, float *full_chw);
    bool (*all_finite)(const float *values, size_t count);
};

extern const AssembleKernels kAssemblePortable; ///< std::fma for w * x + sum
extern const AssembleKernels kAssembleUnfused;  ///< a product and a sum, each rounded
extern const AssembleKernels kAssembleAvx2;
extern const AssembleKernels kAssembleAvx512;

} // namespace isa_core

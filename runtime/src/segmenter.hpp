// The opened engine and everything round it, from frames to label maps: isa_deploy/runtime/segmenter.py in C++.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <vector>

#include "assemble.hpp"
#include "geometry.hpp"
#include "opening.hpp"
#include "resize.hpp"

namespace isa_core {

/// Frames in, label maps out.  One thread at a time.
class Segmenter {
public:
    Segmenter(Opened opened, ResizeRule resize);

    const Manifest &manifest() const { return *manifest_; }
    const Engine &engine() const { return *engine_; }

    /// The labels of `count` frames of one size, as the model was tested.  The arguments were checked: pointers,
    /// strides, and that all sizes agree.  Throws Error.
    void segment(const isa_frame *frames, std::size_t count, const isa_labels *labels);

    /// The labels of frames that the network sees at their own size, in windows.  See segment().
    void segment_tiled(const isa_frame &frame, const isa_segment_options &options, const isa_labels &labels);

    /// See isa_segment_device.
    void segment_device(const isa_device_frames &frames, void *labels, void *stream);

private:
    /// Everything that is made once for a size of frame.
    struct Path {
        Size frame;
        Size shown;
        bool graph_labels = false;            ///< the graph's own labels are the frame's
        std::unique_ptr<Resizer> resizer;     ///< null where the frame is shown as it is
        std::unique_ptr<Assembler> assembler; ///< null with graph_labels
        WindowGrid windows;
        std::vector<std::uint8_t> resized; ///< of one frame, where windows are cut out of it
        std::vector<float> grid_chw;       ///< windows' logits side by side, where there are several
    };

    Path &path_for(Size frame);
    bool swaps(const isa_frame &frame) const;
    void segment_cut(Path &path, const isa_frame &frame, const isa_labels &labels);

    /// How many images of a size are given to the engine at once, of so many.
    int batch_for(Size size, int images);

    /// Gives images of one size to the engine, `group` of them belonging together, as many calls at once as it has
    /// slots. fill(i, image_hwc) writes image i; take(i, answer, n) reads the n-th of an answer's images.  In order.
    template <typename Fill, typename Take>
    void run(int images, int group, Size size, std::uint32_t want, Fill fill, Take take);

    const float *checked_logits(const isa_engine_answer &answer, int n, int rows, int cols) const;
    const std::uint8_t *checked_labels(const isa_engine_answer &answer, int n, Size size) const;

    std::unique_ptr<Manifest> manifest_;
    std::unique_ptr<Engine> engine_;
    Geometry geometry_;
    std::list<Path> paths_; ///< the one that was used last comes first
};

} // namespace isa_core

// One plan, opened: contexts, buffers and streams of its own over an engine that others may share.
//
// A frame's way: page-locked memory, the GPU (a stream of its own), the engine (another), the wanted outputs back (a
// third).  Two slots, so that the next frame is copied up while this one is computed.  Each slot keeps, for the shapes
// that it had last, a context, buffers and a CUDA graph: a captured graph holds the addresses, and changing the
// context that it was captured from would be undefined (NVIDIA's best practices for CUDA graphs).  Contexts run one
// after the other on one stream, so they share one piece of scratch memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "backend.h"
#include "tensorrt_cuda.hpp"
#include "tensorrt_engine.hpp"

namespace isa_tensorrt {

/// Frames that can be under way.
constexpr std::size_t kSlots = 2;

/// Everything for frames of one shape.  Nothing runs on it when it goes.
struct Lane {
    Shape shape{};
    DeviceMemory input;
    std::vector<trt::Dims> output_dims; ///< of the engine's outputs, in their order
    std::vector<std::size_t> output_bytes;
    std::vector<DeviceMemory> outputs;
    std::unique_ptr<trt::IExecutionContext> context;
    GraphExec graph;
    bool warm = false;
    int refused_captures = 0;
};

/// The lanes of the shapes that were used last, newest first.
using Lanes = std::vector<std::unique_ptr<Lane>>;

class Backend {
public:
    /// Throws Error where the plan cannot be run here.
    Backend(const isa_engine_request &request, Cuda gpu);
    Backend(const Backend &) = delete;
    Backend &operator=(const Backend &) = delete;
    ~Backend();

    const Cuda &cuda() const { return cuda_; }
    isa_engine_info info() const;
    std::int32_t largest_batch(std::int32_t h, std::int32_t w) const { return shared_->largest_batch(h, w); }

    std::uint8_t *input(std::size_t slot, std::int32_t n, std::int32_t h, std::int32_t w);
    void start(std::size_t slot, std::uint32_t want);
    isa_engine_answer wait(std::size_t slot);
    void run_device(const isa_device_call &call);

private:
    struct Slot {
        Shape shape{};        ///< of the frames in `input`; zeros before the first
        Lane *lane = nullptr; ///< the shape's, of `lanes`; null where it had to be given up
        Lanes lanes;
        PinnedMemory input;
        PinnedMemory labels;
        PinnedMemory logits;
        Event uploaded;
        Event computed;
        Event downloaded;
        std::uint32_t want = 0; ///< of the frames that are under way; 0: idle
        trt::Dims labels_dims{};
        trt::Dims logits_dims{};
    };

    /// What runs a lane's contexts: the slots' or the caller's stream, which know nothing of each other.
    enum class Path { host, device };

    Lane &slot_lane(Slot &slot);
    Lane &lane_of(Lanes &lanes, const Shape &shape, Path path);
    std::unique_ptr<Lane> make_lane(const Shape &shape, int profile, Path path);
    void prepare_context(Lane &lane, int profile, Path path);
    void grow_scratch(std::size_t needed, const Lane &lane, Path path);
    void give_all_up();
    void drop_lanes();
    void allocate_buffers(Lane &lane, Path path);
    void set_address(Lane &lane, const std::string &name, void *address);
    void enqueue(Lane &lane);
    void execute(Lane &lane, cudaStream_t stream);
    GraphExec capture(Lane &lane);
    void send(Slot &slot, Lane &lane);
    void check_runnable() const;
    void check_device_call(const isa_device_call &call) const;
    void enqueue_device(Lane &lane, const isa_device_call &call);
    void settle();
    void settle_device();
    void come_to_rest() noexcept;
    template <typename Visit> void each_lane(Path path, const Visit &visit);

    const Cuda cuda_;
    // the engine has to live until the last of its contexts is gone
    std::shared_ptr<SharedEngine> shared_;
    MessageLog::Sink log_;
    std::string precision_;
    std::string device_;
    std::vector<isa_tensor> tensors_;
    std::vector<const EngineTensor *> outputs_;
    int labels_ = -1; ///< which of the outputs
    int logits_ = -1;
    std::string unusable_; ///< why the named tensors cannot be run, where they cannot

    Stream upload_;
    Stream compute_;
    Stream download_;
    DeviceMemory scratch_;
    DeviceMemory device_scratch_;
    std::array<Slot, kSlots> slots_;
    Lanes device_lanes_;
    Event device_done_;           ///< stands behind the last frames on the GPU
    bool device_working_ = false; ///< `device_done_` was recorded, and nobody waited for it
    bool unsettled_ = false;      ///< something failed and may still run
    bool told_of_capture_ = false;
};

} // namespace isa_tensorrt

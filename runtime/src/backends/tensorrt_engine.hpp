// A deserialised plan, shared by every segmenter of this process that opens the same one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <NvInferRuntime.h>

#include "backend.h"
#include "tensorrt_cuda.hpp"
#include "tensorrt_log.hpp"

namespace isa_tensorrt {

namespace trt = nvinfer1;

/// The input's sides: batch, height, width, 3.
using Shape = std::array<std::int64_t, 4>;

/// "1x512x1024": batch, height and width of an input's shape.
std::string shape_words(const Shape &shape);

/// Bytes of a tensor.  Throws where a side is open, or where the bytes cannot be counted.
std::size_t tensor_bytes(const std::string &name, const trt::Dims &dims, std::size_t item_bytes);

struct EngineTensor {
    std::string name;
    bool is_input;
    trt::DataType type;
    std::string type_name;
    std::size_t item_bytes;
    trt::Dims dims; ///< -1 where free
};

/// The smallest, the best and the largest shape of the input.
struct Profile {
    trt::Dims least, best, most;
};

/// Held while a stream is captured, a plan loaded or a context made: a capture fails where another thread of the
/// process synchronises the device meanwhile, which the other two do.
std::mutex &one_at_a_time();

/// Engines are read by any number of threads; contexts are not (TensorRT's own rule).
class SharedEngine {
public:
    /// Throws Error where TensorRT refuses the plan.
    SharedEngine(const isa_engine_request &request, const Cuda &cuda);
    SharedEngine(const SharedEngine &) = delete;
    SharedEngine &operator=(const SharedEngine &) = delete;

    /// "TensorRT 10.16.1"
    static std::string title();

    MessageLog &log() { return log_; }
    const std::vector<EngineTensor> &tensors() const { return tensors_; }
    const std::string &input_name() const { return input_name_; }
    const std::vector<Profile> &profiles() const { return profiles_; }

    /// A context whose scratch memory is the caller's to allocate.
    std::unique_ptr<trt::IExecutionContext> create_context();

    /// The profile whose ranges hold `shape`, the one whose best shape is nearest in size; -1 where none does.
    int profile_for(const Shape &shape) const;

    /// How many frames of a size one call takes, where it also takes any fewer; 0, as for no limit, where it takes
    /// none: as many as there are may be what it takes.
    std::int32_t largest_batch(std::int32_t h, std::int32_t w) const;

private:
    void deserialize(const isa_engine_request &request, const Cuda &cuda);
    void read_tensors(const isa_engine_request &request);
    void read_profiles();

    // in the order in which they have to live: TensorRT's objects call the logger and the recorder while they are freed
    MessageLog log_;
    ErrorRecorder recorder_;
    std::unique_ptr<trt::IRuntime> runtime_;
    std::unique_ptr<trt::ICudaEngine> engine_;
    std::vector<EngineTensor> tensors_;
    std::string input_name_;
    std::vector<Profile> profiles_;
};

/// The engine of a plan: the one that another segmenter of this process has open, or a new one.  Plans are told apart
/// by their content, so that a file that was replaced is read again.
std::shared_ptr<SharedEngine> share_engine(const isa_engine_request &request, const Cuda &cuda);

} // namespace isa_tensorrt

#include "tensorrt_backend.hpp"

#include <algorithm>
#include <cstring>

#include "error.hpp"
#include "frames.hpp"

namespace isa_tensorrt {

namespace {

using isa_core::Error;
using isa_core::text;

constexpr std::size_t kShapesKept = 4; // in a slot; a video has one shape, a folder of photographs many
// A capture also fails where another library of the process synchronises the device meanwhile.
constexpr int kCaptureTries = 3;
constexpr std::size_t kAlignment = 256; // what TensorRT asks of every address (setTensorAddress); cudaMalloc gives it
constexpr std::int32_t kMaxOpenNames = 8;

bool aligned(const void *address) {
    return reinterpret_cast<std::uintptr_t>(address) % kAlignment == 0;
}

std::string range_words(const Profile &profile) {
    const auto words = [](const trt::Dims &dims) {
        std::string out;
        for (std::int32_t i = 0; i < std::min(dims.nbDims, 3); ++i)
            out += text(i == 0 ? "" : "x", dims.d[i]);
        return out;
    };
    const std::string least = words(profile.least);
    const std::string most = words(profile.most);
    return least == most ? least : text(least, " to ", most);
}

trt::Dims dims_of(const Shape &shape) {
    trt::Dims dims{};
    dims.nbDims = static_cast<std::int32_t>(shape.size());
    std::copy(shape.begin(), shape.end(), dims.d);
    return dims;
}

std::int32_t dtype_of(trt::DataType type) {
    return type == trt::DataType::kUINT8   ? ISA_DTYPE_UINT8
           : type == trt::DataType::kFLOAT ? ISA_DTYPE_FLOAT32
                                           : ISA_DTYPE_OTHER;
}

/// Calls a function unless it is told before that all went well.
template <typename Call> class Otherwise {
public:
    explicit Otherwise(const Call &call) : call_(call) {}
    ~Otherwise() {
        if (!well_)
            call_();
    }
    Otherwise(const Otherwise &) = delete;
    Otherwise &operator=(const Otherwise &) = delete;
    void all_went_well() { well_ = true; }

private:
    const Call &call_;
    bool well_ = false;
};

std::string none_of_ours(const std::string &name, const std::string &type) {
    return text(name, " is ", type, ", which none of ours is; build it from our graph");
}

} // namespace

Backend::Backend(const isa_engine_request &request, Cuda gpu)
    : cuda_(std::move(gpu)), shared_(share_engine(request, cuda_)), log_(request.log),
      precision_(request.graph_precision), device_(text("cuda:", cuda_.index(), " (", cuda_.name(), ")")) {
    for (const EngineTensor &each : shared_->tensors()) {
        isa_tensor described{};
        described.name = each.name.c_str();
        described.dtype_name = each.type_name.c_str();
        described.is_input = each.is_input ? 1 : 0;
        described.dtype = dtype_of(each.type);
        described.rank = each.dims.nbDims;
        std::copy_n(each.dims.d, std::clamp(each.dims.nbDims, 0, 8), described.shape);
        tensors_.push_back(described);
        const bool is_labels = !each.is_input && each.name == request.labels;
        const bool is_logits = !each.is_input && each.name == request.logits;
        if (is_labels)
            labels_ = static_cast<int>(outputs_.size());
        if (is_logits)
            logits_ = static_cast<int>(outputs_.size());
        if (!each.is_input)
            outputs_.push_back(&each);
        const bool fits = each.is_input || is_labels ? described.dtype == ISA_DTYPE_UINT8
                          : is_logits                ? described.dtype == ISA_DTYPE_FLOAT32
                                                     : described.dtype != ISA_DTYPE_OTHER;
        const bool ranks = (!each.is_input || each.dims.nbDims == 4) && (!is_labels || each.dims.nbDims == 3) &&
                           (!is_logits || each.dims.nbDims == 4);
        if (fits && ranks)
            continue;
        // the input and what the manifest names are held against it by the core, in its own words
        if (!each.is_input && !is_labels && !is_logits)
            isa_core::fail_engine(request.path, ": ", none_of_ours(each.name, each.type_name));
        unusable_ =
            text(request.path, ": ", none_of_ours(each.name, text(each.type_name, " of ", each.dims.nbDims, " axes")));
    }
    upload_ = cuda_.stream();
    compute_ = cuda_.stream();
    download_ = cuda_.stream();
    for (Slot &slot : slots_) {
        slot.uploaded = cuda_.event();
        slot.computed = cuda_.event();
        slot.downloaded = cuda_.waited_event();
    }
    device_done_ = cuda_.waited_event();
}

Backend::~Backend() {
    come_to_rest();
}

isa_engine_info Backend::info() const {
    isa_engine_info info{};
    info.precision = precision_.c_str();
    info.device = device_.c_str();
    info.fast_argmax = 1;
    info.slots = static_cast<std::int32_t>(kSlots);
    info.tensor_count = static_cast<std::int32_t>(tensors_.size());
    info.tensors = tensors_.data();
    return info;
}

// Waiting

void Backend::settle() {
    if (!unsettled_)
        return;
    for (const Stream *each : {&upload_, &compute_, &download_})
        cuda_.check(cudaStreamSynchronize(each->get()), "finish its work");
    settle_device();
    unsettled_ = false;
}

void Backend::settle_device() {
    if (!device_working_)
        return;
    cuda_.check(cudaEventSynchronize(device_done_.get()), "finish its work");
    device_working_ = false;
}

/// Lets everything come to its end, that memory in use can go.
void Backend::come_to_rest() noexcept {
    bool rests = true;
    for (const Stream *each : {&upload_, &compute_, &download_})
        if (each->get() != nullptr && cudaStreamSynchronize(each->get()) != cudaSuccess)
            rests = false;
    if (device_working_) {
        device_working_ = cudaEventSynchronize(device_done_.get()) != cudaSuccess;
        rests = rests && !device_working_;
    }
    if (!rests)
        (void)cudaGetLastError();
    // where that failed the GPU is lost, so nothing runs on it, or the next call tries again before anything else
    unsettled_ = !rests;
}

// Lanes

template <typename Visit> void Backend::each_lane(Path path, const Visit &visit) {
    if (path == Path::device) {
        for (const auto &lane : device_lanes_)
            visit(*lane);
        return;
    }
    for (Slot &slot : slots_)
        for (const auto &lane : slot.lanes)
            visit(*lane);
}

/// Gives back what frames of all shapes have on the GPU.  Answers that are under way arrive before; a slot that was
/// not started yet gets its lane again when it is.
void Backend::give_all_up() {
    unsettled_ = true;
    settle();
    drop_lanes();
}

/// Forgets all contexts and the memory that they work in.  Nothing of theirs is under way.
void Backend::drop_lanes() {
    for (Slot &slot : slots_) {
        slot.lane = nullptr;
        slot.lanes.clear();
    }
    device_lanes_.clear();
    scratch_ = {};
    device_scratch_ = {};
}

Lane &Backend::lane_of(Lanes &kept, const Shape &shape, Path path) {
    const auto found = std::find_if(kept.begin(), kept.end(), [&](const auto &lane) { return lane->shape == shape; });
    if (found != kept.end()) {
        std::rotate(kept.begin(), found, std::next(found));
        return *kept.front();
    }
    const int profile = shared_->profile_for(shape);
    if (profile < 0) {
        std::string ranges;
        for (const Profile &each : shared_->profiles())
            ranges += (ranges.empty() ? "" : ", ") + range_words(each);
        isa_core::fail_input("frames of ", shape_words(shape),
                             " (batch x height x width) are outside of what this plan was built for: ", ranges,
                             "; use --resize, or build it with --min-shape and --max-shape that hold them");
    }
    if (path == Path::device)
        settle_device(); // what goes, and what is moved, may still be worked on
    while (kept.size() >= kShapesKept)
        kept.pop_back();
    kept.reserve(kShapesKept);
    try {
        auto lane = make_lane(shape, profile, path);
        kept.insert(kept.begin(), std::move(lane));
    } catch (const Error &error) {
        if (error.status() != ISA_ERROR_OUT_OF_MEMORY)
            throw;
        // the buffers of other shapes go, and it is tried once more
        give_all_up();
        auto lane = make_lane(shape, profile, path);
        kept.insert(kept.begin(), std::move(lane));
    }
    return *kept.front();
}

Lane &Backend::slot_lane(Slot &slot) {
    if (slot.lane == nullptr)
        slot.lane = &lane_of(slot.lanes, slot.shape, Path::host);
    return *slot.lane;
}

std::unique_ptr<Lane> Backend::make_lane(const Shape &shape, int profile, Path path) {
    auto lane = std::make_unique<Lane>();
    lane->shape = shape;
    lane->context = shared_->create_context();
    prepare_context(*lane, profile, path);
    allocate_buffers(*lane, path);
    return lane;
}

/// A context's profile, input shape and scratch memory.
void Backend::prepare_context(Lane &lane, int profile, Path path) {
    trt::IExecutionContext &context = *lane.context;
    MessageLog &log = shared_->log();
    const auto at_rest = [this] { come_to_rest(); };
    Otherwise<decltype(at_rest)> otherwise(at_rest);
    log.clear();
    if (!context.setOptimizationProfileAsync(profile, compute_.get()))
        isa_core::fail_engine("TensorRT refused profile ", profile, ": ", log.reason());
    cuda_.check(cudaStreamSynchronize(compute_.get()), "finish its work");
    if (!context.setInputShape(shared_->input_name().c_str(), dims_of(lane.shape)))
        isa_core::fail_engine("TensorRT refused frames of ", shape_words(lane.shape), ": ", log.reason());
    log.clear();
    std::array<const char *, kMaxOpenNames> names{};
    const std::int32_t open = context.inferShapes(kMaxOpenNames, names.data());
    if (open < 0)
        isa_core::fail_engine("TensorRT cannot tell the shapes (", log.reason(), "); build the plan again");
    if (open > 0) {
        std::string words;
        for (std::int32_t i = 0; i < std::min(open, kMaxOpenNames); ++i)
            words += text(words.empty() ? "" : ", ", names[static_cast<std::size_t>(i)]);
        isa_core::fail_engine("the plan leaves the shapes of ", words, " open; build it from our graph");
    }
    for (const EngineTensor *each : outputs_) {
        const trt::Dims dims = context.getTensorShape(each->name.c_str());
        const bool is_open =
            dims.nbDims < 0 || std::any_of(dims.d, dims.d + dims.nbDims, [](auto side) { return side < 0; });
        if (is_open)
            isa_core::fail_engine("the plan's output ", each->name, " has an open shape for frames of ",
                                  shape_words(lane.shape), "; build it from our graph");
        lane.output_dims.push_back(dims);
        lane.output_bytes.push_back(tensor_bytes(each->name, dims, each->item_bytes));
    }
    const std::size_t needed = context.updateDeviceMemorySizeForShapes();
    if (needed == 0 && log.has_errors()) // 0 is also how it says that it failed
        isa_core::fail_engine("TensorRT cannot tell the memory it needs: ", log.reason(), "; build the plan again");
    DeviceMemory &scratch = path == Path::host ? scratch_ : device_scratch_;
    if (scratch.get() == nullptr || scratch.size < needed)
        grow_scratch(needed, lane, path);
    context.setDeviceMemoryV2(scratch.get(), static_cast<std::int64_t>(scratch.size));
    otherwise.all_went_well();
}

/// Larger scratch memory, for all contexts of a path.  Their graphs hold the old address: they are dropped.
void Backend::grow_scratch(std::size_t needed, const Lane &lane, Path path) {
    // the stream of the slots has come to rest since the new context was given its profile
    if (path == Path::device)
        settle_device();
    DeviceMemory &scratch = path == Path::host ? scratch_ : device_scratch_;
    scratch = {};
    const auto forget = [this] {
        // the contexts there are have no memory to work in any more; they are made anew when needed
        come_to_rest();
        drop_lanes();
    };
    Otherwise<decltype(forget)> otherwise(forget);
    scratch = cuda_.allocate(std::max<std::size_t>(needed, kAlignment),
                             text("the activations of ", shape_words(lane.shape), " frames"));
    otherwise.all_went_well();
    each_lane(path, [&](Lane &each) {
        each.graph.reset();
        each.warm = false;
        each.context->setDeviceMemoryV2(scratch.get(), static_cast<std::int64_t>(scratch.size));
    });
}

void Backend::allocate_buffers(Lane &lane, Path path) {
    const std::string purpose = text("frames of ", shape_words(lane.shape), " and their results");
    lane.outputs.resize(outputs_.size());
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
        // a caller's labels go where the caller says
        if (path == Path::device && static_cast<int>(i) == labels_)
            continue;
        lane.outputs[i] = cuda_.allocate(lane.output_bytes[i], purpose);
        set_address(lane, outputs_[i]->name, lane.outputs[i].get());
    }
    if (path == Path::device)
        return;
    lane.input = cuda_.allocate(tensor_bytes(shared_->input_name(), dims_of(lane.shape), 1), purpose);
    set_address(lane, shared_->input_name(), lane.input.get());
}

void Backend::set_address(Lane &lane, const std::string &name, void *address) {
    if (!lane.context->setTensorAddress(name.c_str(), address))
        isa_core::fail_engine("TensorRT refused the address ", address, " for ", name, "; build the plan again");
}

// Frames of the host's

void Backend::check_runnable() const {
    if (!unusable_.empty())
        throw Error(ISA_ERROR_ENGINE, unusable_);
}

std::uint8_t *Backend::input(std::size_t number, std::int32_t n, std::int32_t h, std::int32_t w) {
    check_runnable();
    settle();
    Slot &slot = slots_[number];
    if (slot.want != 0)
        isa_backends::misused(text("slot ", number, " was given frames while it is busy"));
    const Shape shape{n, h, w, 3};
    if (slot.lane == nullptr || slot.shape != shape) {
        slot.lane = nullptr;
        slot.shape = {};
        Lane &lane = lane_of(slot.lanes, shape, Path::host);
        const std::size_t bytes = tensor_bytes(shared_->input_name(), dims_of(shape), 1);
        if (slot.input.size < bytes) {
            slot.input = {};
            slot.input = cuda_.pin(bytes);
        }
        slot.shape = shape;
        slot.lane = &lane;
    }
    return static_cast<std::uint8_t *>(slot.input.get());
}

void Backend::start(std::size_t number, std::uint32_t want) {
    check_runnable();
    settle();
    Slot &slot = slots_[number];
    if (slot.want != 0 || slot.shape[0] == 0)
        isa_backends::misused(text("slot ", number, " was started while it is busy, or without frames"));
    const bool knows = want != 0 && (want & ~static_cast<std::uint32_t>(ISA_WANT_LABELS | ISA_WANT_LOGITS)) == 0 &&
                       ((want & ISA_WANT_LABELS) == 0 || labels_ >= 0) &&
                       ((want & ISA_WANT_LOGITS) == 0 || logits_ >= 0);
    if (!knows)
        isa_backends::misused(text("outputs ", want, " are wanted, which the plan has not"));
    Lane &lane = slot_lane(slot);
    const auto make_room = [&](PinnedMemory &memory, int output, trt::Dims &dims) {
        const std::size_t bytes = lane.output_bytes[static_cast<std::size_t>(output)];
        dims = lane.output_dims[static_cast<std::size_t>(output)];
        if (memory.get() != nullptr && memory.size >= bytes)
            return;
        memory = {};
        memory = cuda_.pin(bytes);
    };
    if ((want & ISA_WANT_LABELS) != 0)
        make_room(slot.labels, labels_, slot.labels_dims);
    if ((want & ISA_WANT_LOGITS) != 0)
        make_room(slot.logits, logits_, slot.logits_dims);
    // frames that are given up half way must leave nothing running on their slot
    const auto at_rest = [this] { come_to_rest(); };
    Otherwise<decltype(at_rest)> otherwise(at_rest);
    slot.want = want;
    const auto idle = [&slot] { slot.want = 0; };
    Otherwise<decltype(idle)> again(idle);
    send(slot, lane);
    again.all_went_well();
    otherwise.all_went_well();
}

/// Gives a slot's way to the GPU: the frames up, the engine, the wanted outputs back.
void Backend::send(Slot &slot, Lane &lane) {
    constexpr const char *kCopy = "copy a frame or its labels";
    constexpr const char *kRecord = "record an event";
    constexpr const char *kOrder = "order its work";
    cuda_.check(
        cudaMemcpyAsync(lane.input.get(), slot.input.get(), lane.input.size, cudaMemcpyHostToDevice, upload_.get()),
        kCopy);
    cuda_.check(cudaEventRecord(slot.uploaded.get(), upload_.get()), kRecord);
    cuda_.check(cudaStreamWaitEvent(compute_.get(), slot.uploaded.get(), 0), kOrder);
    enqueue(lane);
    cuda_.check(cudaEventRecord(slot.computed.get(), compute_.get()), kRecord);
    cuda_.check(cudaStreamWaitEvent(download_.get(), slot.computed.get(), 0), kOrder);
    const auto download = [&](const PinnedMemory &memory, int output) {
        const auto at = static_cast<std::size_t>(output);
        cuda_.check(cudaMemcpyAsync(memory.get(), lane.outputs[at].get(), lane.output_bytes[at], cudaMemcpyDeviceToHost,
                                    download_.get()),
                    kCopy);
    };
    if ((slot.want & ISA_WANT_LABELS) != 0)
        download(slot.labels, labels_);
    if ((slot.want & ISA_WANT_LOGITS) != 0)
        download(slot.logits, logits_);
    cuda_.check(cudaEventRecord(slot.downloaded.get(), download_.get()), kRecord);
}

isa_engine_answer Backend::wait(std::size_t number) {
    Slot &slot = slots_[number];
    if (slot.want == 0)
        isa_backends::misused(text("slot ", number, " was waited for and is idle"));
    const std::uint32_t want = slot.want;
    slot.want = 0;
    const auto at_rest = [this] { come_to_rest(); };
    Otherwise<decltype(at_rest)> otherwise(at_rest);
    cuda_.check(cudaEventSynchronize(slot.downloaded.get()), "finish its work");
    otherwise.all_went_well();
    isa_engine_answer answer{};
    if ((want & ISA_WANT_LABELS) != 0) {
        answer.labels_nhw = static_cast<const std::uint8_t *>(slot.labels.get());
        std::copy_n(slot.labels_dims.d, 3, answer.labels_shape);
    }
    if ((want & ISA_WANT_LOGITS) != 0) {
        answer.logits_nchw = static_cast<const float *>(slot.logits.get());
        std::copy_n(slot.logits_dims.d, 4, answer.logits_shape);
    }
    return answer;
}

/// The engine on a lane's frames: plainly at first, which readies its kernels, then as a CUDA graph.
void Backend::enqueue(Lane &lane) {
    if (!lane.graph && lane.warm && lane.refused_captures < kCaptureTries)
        lane.graph = capture(lane);
    if (lane.graph) {
        cuda_.check(cudaGraphLaunch(lane.graph.get(), compute_.get()), "launch a graph");
        return;
    }
    execute(lane, compute_.get());
    lane.warm = true;
}

void Backend::execute(Lane &lane, cudaStream_t stream) {
    MessageLog &log = shared_->log();
    log.clear();
    if (lane.context->enqueueV3(stream))
        return;
    const std::string memory = log.out_of_memory();
    if (!memory.empty())
        throw Error(ISA_ERROR_OUT_OF_MEMORY, text(SharedEngine::title(), " ran out of device memory on a frame (",
                                                  memory, "); use a smaller --resize, or end other programs"));
    isa_core::fail_engine(SharedEngine::title(), " failed on a frame (", log.reason(),
                          "); open the engine again, and build the plan again if it returns");
}

/// What a lane's context enqueues, as a CUDA graph, or nothing where it refuses to be captured.  Nothing is run.
GraphExec Backend::capture(Lane &lane) {
    GraphExec executable;
    {
        const std::lock_guard<std::mutex> lock(one_at_a_time());
        cuda_.check(cudaStreamBeginCapture(compute_.get(), cudaStreamCaptureModeThreadLocal), "begin a graph");
        const bool enqueued = lane.context->enqueueV3(compute_.get());
        cudaGraph_t captured = nullptr;
        const cudaError_t error = cudaStreamEndCapture(compute_.get(), &captured);
        const Graph graph(captured);
        cudaGraphExec_t made = nullptr;
        if (error == cudaSuccess && enqueued && graph &&
            cudaGraphInstantiateWithFlags(&made, graph.get(), 0) == cudaSuccess)
            executable = GraphExec(made);
    }
    if (executable)
        return executable;
    (void)cudaGetLastError();
    ++lane.refused_captures;
    if (lane.refused_captures == kCaptureTries && !told_of_capture_) {
        told_of_capture_ = true;
        log_(ISA_LOG_WARNING, text(SharedEngine::title(),
                                   " cannot put this engine into a CUDA graph; frames run without one, which costs the "
                                   "host more time for each")
                                  .c_str());
    }
    return executable;
}

// Frames on the GPU

void Backend::check_device_call(const isa_device_call &call) const {
    if (labels_ < 0)
        isa_backends::misused("labels are wanted, which the plan has not");
    if (call.n < 1 || call.h < 1 || call.w < 1)
        isa_core::fail_input("frames on a GPU must have pixels, not ", call.n, "x", call.h, "x", call.w);
    if (call.row_stride < static_cast<std::ptrdiff_t>(call.w) * 3)
        isa_core::fail_input("row_stride ", call.row_stride, " is less than the ",
                             static_cast<std::ptrdiff_t>(call.w) * 3,
                             " bytes of a row; give the bytes from row to row");
    const auto check_memory = [this](const void *address, const char *words, const char *instead) {
        const int found = cuda_.memory_gpu(address);
        if (found < 0)
            isa_core::fail_input("the ", words, " address ", address, " is no memory of a GPU; ", instead);
        if (found != cuda_.index())
            isa_core::fail_input("the ", words, " address is on GPU ", found, " and this engine on GPU ", cuda_.index(),
                                 "; open it with device ", found);
    };
    check_memory(call.image, "frame's", "use isa_segment for frames in the host's memory");
    check_memory(call.labels, "labels'", "give device memory of count * height * width bytes");
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    cuda_.check(cudaStreamIsCapturing(static_cast<cudaStream_t>(call.stream), &status), "tell whether it is captured");
    if (status != cudaStreamCaptureStatusNone)
        isa_core::fail_input("the stream is being captured into a CUDA graph, which would outlive this engine's "
                             "buffers; give it frames outside of the capture");
}

void Backend::run_device(const isa_device_call &call) {
    check_runnable();
    settle();
    check_device_call(call);
    Lane &lane = lane_of(device_lanes_, {call.n, call.h, call.w, 3}, Path::device);
    const trt::Dims &dims = lane.output_dims[static_cast<std::size_t>(labels_)];
    if (dims.nbDims != 3 || dims.d[0] != call.n || dims.d[1] != call.h || dims.d[2] != call.w)
        isa_core::fail_engine("the plan's labels are ", dims.d[0], "x", dims.d[1], "x", dims.d[2], " for frames of ",
                              shape_words(lane.shape), "; build it from our graph");
    const auto stream = static_cast<cudaStream_t>(call.stream);
    // also where the stream has the address of the last one: that one may be gone, and this one new
    if (device_working_)
        cuda_.check(cudaStreamWaitEvent(stream, device_done_.get(), 0), "order its work");
    const auto order = [this, stream] {
        // what was enqueued before it failed is waited for by whatever comes
        if (cudaEventRecord(device_done_.get(), stream) == cudaSuccess) {
            device_working_ = true;
        } else {
            (void)cudaGetLastError();
            if (cudaStreamSynchronize(stream) != cudaSuccess)
                (void)cudaGetLastError();
        }
    };
    Otherwise<decltype(order)> otherwise(order);
    enqueue_device(lane, call);
    cuda_.check(cudaEventRecord(device_done_.get(), stream), "record an event");
    device_working_ = true;
    otherwise.all_went_well();
}

void Backend::enqueue_device(Lane &lane, const isa_device_call &call) {
    const auto stream = static_cast<cudaStream_t>(call.stream);
    const std::size_t row = static_cast<std::size_t>(call.w) * 3;
    const std::string &input_name = shared_->input_name();
    if (static_cast<std::size_t>(call.row_stride) == row && aligned(call.image)) {
        if (!lane.context->setInputTensorAddress(input_name.c_str(), call.image))
            isa_core::fail_engine("TensorRT refused the address ", call.image, " for ", input_name,
                                  "; build the plan again");
    } else {
        if (lane.input.get() == nullptr)
            lane.input = cuda_.allocate(tensor_bytes(input_name, dims_of(lane.shape), 1),
                                        text("frames of ", shape_words(lane.shape), " in one piece"));
        const std::size_t rows = static_cast<std::size_t>(call.n) * static_cast<std::size_t>(call.h);
        cuda_.check(cudaMemcpy2DAsync(lane.input.get(), row, call.image, static_cast<std::size_t>(call.row_stride), row,
                                      rows, cudaMemcpyDeviceToDevice, stream),
                    "copy a frame");
        set_address(lane, input_name, lane.input.get());
    }
    const auto at = static_cast<std::size_t>(labels_);
    const bool direct = aligned(call.labels);
    if (!direct && lane.outputs[at].get() == nullptr)
        lane.outputs[at] =
            cuda_.allocate(lane.output_bytes[at], text("the labels of ", shape_words(lane.shape), " frames"));
    set_address(lane, outputs_[at]->name, direct ? call.labels : lane.outputs[at].get());
    execute(lane, stream);
    if (!direct)
        cuda_.check(cudaMemcpyAsync(call.labels, lane.outputs[at].get(), lane.output_bytes[at],
                                    cudaMemcpyDeviceToDevice, stream),
                    "copy the labels");
}

} // namespace isa_tensorrt

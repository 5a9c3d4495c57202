#include "openvino_model.hpp"

#include <fstream>
#include <iterator>
#include <sstream>
#include <utility>

#include "error.hpp"
#include "frames.hpp"
#include "shared_models.hpp"

namespace isa_backends {

namespace {

std::string numpy_name(const ov::element::Type &type) {
    if (type == ov::element::u8)
        return "uint8";
    if (type == ov::element::f32)
        return "float32";
    return type.get_type_name();
}

template <typename Port> void describe(const std::vector<Port> &ports, bool is_input, std::vector<GraphTensor> &found) {
    for (const Port &port : ports) {
        GraphTensor tensor;
        tensor.is_input = is_input;
        tensor.dtype_name = numpy_name(port.get_element_type());
        const ov::PartialShape &shape = port.get_partial_shape();
        if (shape.rank().is_static()) {
            for (const ov::Dimension &side : shape)
                tensor.shape.push_back(side.is_static() ? side.get_length() : -1);
        }
        for (const std::string &name : port.get_names()) {
            tensor.name = name;
            found.push_back(tensor);
        }
    }
}

/// Whether a graph keeps weights in files of their own, which its bytes then do not tell: the entry that names such a
/// file (onnx.proto: TensorProto.external_data, key "location").  A graph that has the word for another reason is
/// merely not cached.
bool has_external_weights(const std::string &bytes) {
    return bytes.find(std::string("\x0a\x08location")) != std::string::npos;
}

/// A file's bytes; nothing where it cannot be read, so that OpenVINO says why.
std::optional<std::string> file_bytes(const std::string &path) {
    std::ifstream in(path, std::ios::binary | std::ios::ate);
    const std::streamoff size = in ? static_cast<std::streamoff>(in.tellg()) : -1;
    if (size < 0)
        return std::nullopt;
    std::string bytes(static_cast<std::size_t>(size), '\0');
    in.seekg(0);
    if (!in.read(bytes.data(), size))
        return std::nullopt;
    return bytes;
}

std::string strip(const std::string &line) {
    const char *const blank = " \t\r\n\v\f";
    const std::size_t first = line.find_first_not_of(blank);
    return first == std::string::npos ? std::string() : line.substr(first, line.find_last_not_of(blank) - first + 1);
}

SharedModels<OpenVinoModel> &models() {
    static SharedModels<OpenVinoModel> all;
    return all;
}

} // namespace

const char *openvino_version() noexcept {
    return ov::get_openvino_version().buildNumber;
}

std::string openvino_reason(const std::exception &error) {
    std::istringstream lines(error.what());
    std::string last;
    for (std::string line; std::getline(lines, line);) {
        line = strip(line);
        if (!line.empty())
            last = std::move(line);
    }
    return last.empty() ? "RuntimeError" : last;
}

std::string OpenVinoSettings::words() const {
    return isa_core::text("input ", input.size(), " ", input, " labels ", labels.size(), " ", labels, " logits ",
                          logits.size(), " ", logits, " precision ", bf16 ? "bf16" : "f32", " hint ",
                          throughput ? "THROUGHPUT" : "LATENCY", " threads ", threads);
}

ov::AnyMap OpenVinoSettings::properties() const {
    ov::AnyMap found = {ov::hint::inference_precision(bf16 ? ov::element::bf16 : ov::element::f32),
                        ov::hint::performance_mode(throughput ? ov::hint::PerformanceMode::THROUGHPUT
                                                              : ov::hint::PerformanceMode::LATENCY)};
    if (threads > 0)
        found.insert(ov::inference_num_threads(threads));
    return found;
}

std::shared_ptr<ov::Core> openvino_core() {
    try {
        static const std::shared_ptr<ov::Core> core = std::make_shared<ov::Core>();
        return core;
    } catch (const ov::Exception &error) {
        throw isa_core::Error(ISA_ERROR_BACKEND_UNAVAILABLE,
                              isa_core::text("OpenVINO ", openvino_version(), " cannot be started (",
                                             openvino_reason(error), "); install it again"));
    }
}

bool cpu_has_bf16(ov::Core &core) {
    try {
        for (const std::string &word : core.get_property("CPU", ov::device::capabilities)) {
            if (word == "BF16")
                return true;
        }
        return false;
    } catch (const ov::Exception &error) {
        throw isa_core::Error(ISA_ERROR_BACKEND_UNAVAILABLE,
                              isa_core::text("OpenVINO ", openvino_version(), " has no CPU plugin that starts (",
                                             openvino_reason(error), "); install openvino with its CPU plugin"));
    }
}

std::shared_ptr<OpenVinoModel> open_openvino_model(const isa_engine_request &request, OpenVinoSettings settings) {
    const std::string identity = content_identity(request);
    const auto make = [&] { return std::make_shared<OpenVinoModel>(openvino_core(), settings, request.log); };
    const std::string key = isa_core::text(identity, "\n", settings.words(), "\ncache ", settings.cache_dir);
    // without a file there is nothing to share: loading says what is wrong
    const std::shared_ptr<OpenVinoModel> model = identity.empty() ? make() : models().get(key, make);
    model->load(request);
    return model;
}

OpenVinoModel::OpenVinoModel(std::shared_ptr<ov::Core> core, OpenVinoSettings settings, Log log)
    : core_(std::move(core)), settings_(std::move(settings)), log_(log) {}

void OpenVinoModel::load(const isa_engine_request &request) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (loaded_)
        return;
    path_ = request.path;
    from_memory_ = request.data != nullptr;
    std::optional<std::string> bytes;
    if (from_memory_)
        bytes.emplace(static_cast<const char *>(request.data), request.size);
    else if (!settings_.cache_dir.empty())
        bytes = file_bytes(path_);
    cacheable_ = !settings_.cache_dir.empty() && bytes && !has_external_weights(*bytes);
    if (cacheable_) {
        content_digest_ = content_digest(bytes->data(), bytes->size());
        // the outputs that frames will most likely be asked for; any of them tells the graph's tensors
        const std::uint32_t usual = settings_.bf16 ? ISA_WANT_LABELS : ISA_WANT_LOGITS;
        for (const std::uint32_t want : {usual, usual ^ (ISA_WANT_LABELS | ISA_WANT_LOGITS)}) {
            if (take_cached(want)) {
                if (from_memory_)
                    kept_ = std::move(bytes);
                loaded_ = true;
                return;
            }
        }
    }
    read_graph(from_memory_ || cacheable_ ? &*bytes : nullptr);
    loaded_ = true;
}

void OpenVinoModel::read_graph(const std::string *bytes) {
    try {
        // from the very bytes that were hashed, where they were
        graph_ = bytes != nullptr ? core_->read_model(*bytes, ov::Tensor()) : core_->read_model(path_);
    } catch (const std::runtime_error &error) {
        isa_core::fail_engine(path_, ": OpenVINO ", openvino_version(), " cannot read it (", openvino_reason(error),
                              "); copy or export it again");
    }
    std::vector<GraphTensor> found;
    describe(graph_->inputs(), true, found);
    describe(graph_->outputs(), false, found);
    if (!loaded_) // later, engines hold what they were told
        tensors_ = std::move(found);
}

std::string OpenVinoModel::cache_key(std::uint32_t want) const {
    // what compiling depends on: the graph, the settings, OpenVINO and the CPU's instructions
    std::string capabilities;
    for (const std::string &word : core_->get_property("CPU", ov::device::capabilities))
        capabilities += " " + word;
    return isa_core::text("graph ", content_digest_, "\n", settings_.words(), "\nwant ", want, "\nOpenVINO ",
                          openvino_version(), "\nCPU ", core_->get_property("CPU", ov::device::full_name), capabilities,
                          "\n");
}

bool OpenVinoModel::take_cached(std::uint32_t want) {
    const OpenVinoCache cache(settings_.cache_dir);
    const std::string key = cache_key(want);
    std::string damage;
    std::optional<CachedModel> cached;
    try {
        cached = cache.read(key, damage);
        if (!damage.empty())
            warn(damage);
        if (!cached)
            return false;
        const ov::AnyMap properties = settings_.properties();
#if OPENVINO_VERSION_MAJOR > 2025 || (OPENVINO_VERSION_MAJOR == 2025 && OPENVINO_VERSION_MINOR >= 3)
        compiled_[want] = core_->import_model(cached->blob, "CPU", properties);
#else
        const auto *const blob = static_cast<const char *>(cached->blob.data());
        std::istringstream in(std::string(blob, cached->blob.get_byte_size()));
        compiled_[want] = core_->import_model(in, "CPU", properties);
#endif
    } catch (const std::exception &error) {
        // also one that claims more than memory has
        warn(isa_core::text(cache.path_of(key), ": OpenVINO ", openvino_version(), " refuses it (",
                            openvino_reason(error), "); the model is compiled and cached again"));
        cache.forget(key);
        return false;
    }
    if (!loaded_)
        tensors_ = std::move(cached->tensors);
    return true;
}

ov::CompiledModel OpenVinoModel::compiled(std::uint32_t want) {
    if (want == 0 || want >= compiled_.size())
        misused(isa_core::text("outputs ", want, " were wanted"));
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!compiled_[want] && !(cacheable_ && graph_ == nullptr && take_cached(want)))
        compiled_[want] = compile(want);
    return *compiled_[want];
}

ov::CompiledModel OpenVinoModel::compile(std::uint32_t want) {
    if (graph_ == nullptr) { // other outputs than the cached ones
        if (!from_memory_)
            kept_ = file_bytes(path_);
        if (!kept_ || content_digest(kept_->data(), kept_->size()) != content_digest_)
            isa_core::fail_engine(path_, ": has changed since it was opened; open it again");
        read_graph(&*kept_);
        kept_.reset();
    }
    try {
        ov::OutputVector wanted;
        if ((want & ISA_WANT_LABELS) != 0)
            wanted.push_back(graph_->output(settings_.labels));
        if ((want & ISA_WANT_LOGITS) != 0)
            wanted.push_back(graph_->output(settings_.logits));
        const auto model = std::make_shared<ov::Model>(wanted, graph_->get_parameters());
        ov::CompiledModel compiled = core_->compile_model(model, "CPU", settings_.properties());
        if (cacheable_)
            put_in_cache(want, compiled);
        return compiled;
    } catch (const std::runtime_error &error) {
        isa_core::fail_engine(path_, ": OpenVINO ", openvino_version(), " cannot compile it (", openvino_reason(error),
                              "); export again");
    }
}

void OpenVinoModel::put_in_cache(std::uint32_t want, ov::CompiledModel &compiled) const {
    std::string problem;
    try {
        problem = OpenVinoCache(settings_.cache_dir).write(cache_key(want), tensors_, compiled);
    } catch (const std::exception &error) {
        problem = openvino_reason(error);
    }
    if (!problem.empty())
        warn(isa_core::text("the compiled model was not cached (", problem, "); the next start compiles it again"));
}

} // namespace isa_backends

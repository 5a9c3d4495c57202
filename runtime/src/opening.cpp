#include "opening.hpp"

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "error.hpp"
#include "file.hpp"
#include "loader.hpp"
#include "log.hpp"
#include "onnx_metadata.hpp"
#include "plan_command.hpp"

namespace isa_core {

namespace {

constexpr const char *kGraphFile = "model.onnx";
constexpr const char *kPlanFile = "model.plan";
constexpr const char *kManifestFile = "model.json";
constexpr const char *kMemory = "<memory>";

bool is_number(const std::string &word) {
    return !word.empty() && word.size() <= 4 &&
           std::all_of(word.begin(), word.end(), [](char letter) { return letter >= '0' && letter <= '9'; });
}

void check_options(const OpenOptions &options) {
    const std::string &precision = options.precision, &schedule = options.schedule, &device = options.device;
    if (precision != "auto" && precision != "fp32" && precision != "bf16")
        fail_input("precision '", precision, "' is none of: auto, fp32, bf16");
    if (schedule != "latency" && schedule != "throughput")
        fail_input("schedule '", schedule, "' is none of: latency, throughput");
    if (device != "auto" && device != "cpu" && device != "cuda" && !is_number(device))
        fail_input("device '", device, "' is none of: auto, cpu, cuda, a GPU's number");
    if (options.threads < 0 || options.threads > 4096)
        fail_input("threads ", options.threads, ": 0 (the engine's choice) to 4096");
}

std::string folder_of(const std::string &path) {
    const std::size_t slash = path.rfind('/');
    if (slash == std::string::npos)
        return ".";
    return slash == 0 ? std::string("/") : path.substr(0, slash);
}

std::string name_of(const std::string &path) {
    const std::size_t slash = path.rfind('/');
    return slash == std::string::npos ? path : path.substr(slash + 1);
}

/// ".onnx" of "a/model.onnx"; empty where the name has no dot behind its first letter.
std::string suffix_of(const std::string &path) {
    const std::string name = name_of(path);
    const std::size_t dot = name.rfind('.');
    return dot == std::string::npos || dot == 0 ? std::string() : name.substr(dot);
}

std::string with_suffix(const std::string &path, const char *suffix) {
    return path.substr(0, path.size() - suffix_of(path).size()) + suffix;
}

bool is_plan(const std::string &path) {
    const std::string suffix = suffix_of(path);
    return suffix == ".plan" || suffix == ".engine";
}

Manifest plan_manifest(const std::string &plan) {
    const std::string beside = with_suffix(plan, ".json");
    if (path_kind(beside) != PathKind::file)
        fail_manifest(plan, ": has no manifest ", name_of(beside),
                      " beside it, which says how frames are prepared; copy it from where the plan was built, or from "
                      "the export's model.json");
    return read_manifest(beside);
}

/// Whether the backend of plans is here with its library and the GPU that is meant.
bool runs_plans(const OpenOptions &options) {
    isa_failure failure{};
    try {
        const isa_backend_api &api = load_backend("tensorrt", options.backend_dir);
        const std::string device = options.device == "auto" ? "cuda" : options.device;
        if (api.available(device.c_str(), &failure) == ISA_OK)
            return true;
        log(ISA_LOG_INFO, failure.message);
    } catch (const Error &error) {
        log(ISA_LOG_INFO, error.what());
    }
    return false;
}

/// The engine file that a path stands for: itself, or the best of a folder.
std::string find_engine(const std::string &path, const OpenOptions &options) {
    const PathKind kind = path_kind(path);
    if (kind == PathKind::folder || name_of(path) == kManifestFile) {
        const std::string folder = kind == PathKind::folder ? path : folder_of(path);
        const std::string graph = folder + "/" + kGraphFile, plan = folder + "/" + kPlanFile;
        const bool has_graph = path_kind(graph) == PathKind::file, has_plan = path_kind(plan) == PathKind::file;
        if (has_plan && (options.backend == "tensorrt" || !has_graph))
            return plan;
        // without its manifest a plan is nothing, and the graph carries one of its own
        if (has_plan && options.backend == "auto" && options.device != "cpu" &&
            path_kind(with_suffix(plan, ".json")) == PathKind::file && plan_manifest(plan).engine &&
            runs_plans(options))
            return plan;
        if (!has_graph)
            fail_engine(folder, ": holds no ", kGraphFile, " and no ", kPlanFile,
                        "; give a folder that isa-export wrote");
        return graph;
    }
    if (kind == PathKind::missing)
        fail_engine(path, ": no such file or folder; export one with isa-export --ckpt CHECKPOINT");
    if (kind == PathKind::other)
        fail_engine(path, ": is no file; give a model.onnx or model.plan of isa-export");
    const std::string suffix = suffix_of(path);
    if (suffix != ".onnx" && !is_plan(path))
        fail_engine(path, ": '", suffix, "' is no engine; give a .onnx or a .plan of isa-export, or its folder");
    return path;
}

const char *or_null(const std::string &word) {
    return word.empty() ? nullptr : word.c_str();
}

/// Opens an engine whose file is known to be what its manifest describes.
Opened open_engine(const isa_backend_api &api, const std::string &path, const void *data, std::size_t size,
                   Manifest manifest, const std::string &device, const OpenOptions &options, bool plan) {
    Opened opened;
    opened.manifest = std::make_unique<Manifest>(std::move(manifest));
    const Manifest &described = *opened.manifest;
    isa_plan_record record{};
    if (plan && described.engine) {
        const EngineSpec &spec = *described.engine;
        record = {spec.builder.c_str(),
                  spec.builder_version.c_str(),
                  spec.compute_capability ? spec.compute_capability->c_str() : nullptr,
                  spec.plan_sha256.c_str(),
                  spec.hardware_compatible,
                  spec.version_compatible};
    }
    isa_engine_request request{};
    request.path = path.c_str();
    request.data = data;
    request.size = size;
    request.plan = plan && described.engine ? &record : nullptr;
    request.input = described.input.name.c_str();
    request.labels = described.outputs.labels.c_str();
    request.logits = described.outputs.logits.c_str();
    request.graph_precision = described.precision.c_str();
    request.float_type = described.float_type().c_str();
    request.device = device.c_str();
    request.precision = options.precision.c_str();
    request.schedule = options.schedule.c_str();
    request.cache_dir = or_null(options.cache_dir);
    request.threads = options.threads;
    request.allow_engine_code = options.allow_engine_code ? 1 : 0;
    request.log = log;
    opened.engine = std::make_unique<Engine>(api, request);
    opened.engine->check_signature(path, described);
    return opened;
}

/// Refuses what no plan can do, before anything of it is read.
void check_plan_options(const std::string &path, const OpenOptions &options) {
    const std::string graph = path == kMemory ? std::string("a model.onnx") : with_suffix(name_of(path), ".onnx");
    if (options.backend == "openvino" || options.backend == "onnxruntime")
        fail_input(path, ": backend ", options.backend, " cannot run a plan; give the graph, ", graph);
    if (options.device == "cpu")
        fail_input(path, ": a plan runs on a GPU, not on device cpu; give the graph, ", graph);
}

void check_plan_precision(const std::string &path, const Manifest &manifest, const OpenOptions &options) {
    if (options.precision != "auto" && options.precision != manifest.float_type())
        fail_input(path, ": a plan computes in its own type, ", manifest.types(), ", not in ", options.precision,
                   "; export it in that one");
}

/// Refuses a plan that is not its manifest's, or not of the graph beside it.
void check_plan_bytes(const std::string &path, const void *data, std::size_t size, const Manifest &manifest) {
    if (!manifest.engine)
        return; // built by another tool from our graph: only TensorRT can tell
    const bool in_memory = path == kMemory;
    if (sha256(data, size) != manifest.engine->plan_sha256)
        fail_engine(path, ": is not the plan that ",
                    in_memory ? std::string("its manifest") : with_suffix(name_of(path), ".json"),
                    " describes (truncated, or of another build), its SHA-256 differs; copy both again, or build it "
                    "again: ",
                    plan_command(path));
    const std::string graph = with_suffix(path, ".onnx");
    if (!in_memory && path_kind(graph) == PathKind::file && file_sha256(graph) != manifest.engine->onnx_sha256)
        throw Error(ISA_ERROR_ENGINE_INCOMPATIBLE,
                    text(path, ": was built from another graph than ", name_of(graph),
                         " beside it, which has changed since; build it again: ", plan_command(path)));
}

/// Opens a plan that was checked.
Opened open_plan(const std::string &path, const void *data, std::size_t size, Manifest manifest,
                 const OpenOptions &options) {
    const std::string device = options.device == "auto" ? "cuda" : options.device;
    const isa_backend_api &api =
        load_backend(options.backend == "auto" ? "tensorrt" : options.backend, options.backend_dir);
    return open_engine(api, path, data, size, std::move(manifest), device, options, true);
}

const isa_backend_api &graph_backend(const OpenOptions &options) {
    if (options.backend != "auto")
        return load_backend(options.backend, options.backend_dir);
    const bool wants_gpu = options.device != "auto" && options.device != "cpu";
    std::string missing;
    for (const char *const name : {"openvino", "onnxruntime"}) {
        if (wants_gpu && std::string(name) == "openvino")
            continue;
        try {
            return load_backend(name, options.backend_dir);
        } catch (const Error &error) {
            missing += text(missing.empty() ? "" : "; ", error.what());
        }
    }
    throw Error(ISA_ERROR_BACKEND_UNAVAILABLE, text("no backend can run this graph here: ", missing));
}

/// Refuses what no graph can do, before anything of it is read.
void check_graph_options(const std::string &path, const OpenOptions &options) {
    if (options.backend == "tensorrt")
        fail_input(path, ": TensorRT runs plans; build one with ",
                   path == kMemory ? std::string("isa-export GRAPH --plan") : plan_command(path));
}

/// `data` null: the backend reads the path.
Opened open_graph(const std::string &path, const void *data, std::size_t size, Manifest manifest,
                  const OpenOptions &options) {
    const isa_backend_api &api = graph_backend(options);
    const std::string name = api.name;
    if (name == "onnxruntime" && options.precision != "auto" && options.precision != manifest.float_type())
        fail_input("ONNX Runtime computes in the graph's own type, ", manifest.types(), ", not in ", options.precision,
                   "; use backend openvino, or export in that precision");
    const std::string device = options.device == "auto" ? "cpu" : options.device;
    return open_engine(api, path, data, size, std::move(manifest), device, options, false);
}

} // namespace

Opened open_path(const std::string &path, const OpenOptions &options) {
    check_options(options);
    const std::string engine = find_engine(path, options);
    if (is_plan(engine)) {
        check_plan_options(engine, options);
        Manifest manifest = plan_manifest(engine);
        check_plan_precision(engine, manifest, options);
        const std::vector<std::uint8_t> bytes = read_plan_bytes(engine);
        check_plan_bytes(engine, bytes.data(), bytes.size(), manifest);
        return open_plan(engine, bytes.data(), bytes.size(), std::move(manifest), options);
    }
    check_graph_options(engine, options);
    Manifest manifest = read_onnx_manifest(engine);
    const std::string beside = folder_of(engine) + "/" + kManifestFile;
    // opened by its folder, the graph and the manifest beside it must tell the same
    if (engine != path && path_kind(beside) == PathKind::file && read_manifest(beside).canonical != manifest.canonical)
        fail_manifest(beside, ": describes another graph than ", name_of(engine), " beside it; export the model again");
    return open_graph(engine, nullptr, 0, std::move(manifest), options);
}

Opened open_bytes(const void *data, std::size_t size, const char *manifest_json, std::size_t manifest_size,
                  const OpenOptions &options) {
    check_options(options);
    if (manifest_json == nullptr) {
        check_graph_options(kMemory, options);
        return open_graph(kMemory, data, size, parse_onnx_manifest(data, size, kMemory), options);
    }
    check_plan_options(kMemory, options);
    Manifest manifest = parse_manifest({manifest_json, manifest_size}, kMemory);
    check_plan_precision(kMemory, manifest, options);
    check_plan_bytes(kMemory, data, size, manifest);
    return open_plan(kMemory, data, size, std::move(manifest), options);
}

} // namespace isa_core

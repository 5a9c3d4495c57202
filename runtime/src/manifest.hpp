// The contract between the exporter and this runtime: isa_deploy/manifest.py in C++.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "size.hpp"

namespace isa_core {

constexpr int kManifestFormat = 1;
constexpr std::size_t kMaxManifestBytes = std::size_t{1} << 20;
constexpr int kMaxSide = 65536;
constexpr int kMaxClasses = 256;      // a label is one byte
constexpr int kMaxCount = 2147483647; // of frames and layers
constexpr std::size_t kMaxKeptLayers = 1024;

struct ResizeSpec {
    Size box; ///< mmsegmentation's scale_wh: width and height of the box that the frame is fitted into
    bool keep_ratio = false;
    friend bool operator==(const ResizeSpec &a, const ResizeSpec &b) {
        return a.box == b.box && a.keep_ratio == b.keep_ratio;
    }
};

struct InputSpec {
    std::string name;
    bool rgb = false; ///< colour_order: RGB, else BGR
    std::optional<int> batch;
    std::optional<Size> frame; ///< the only height and width that the graph takes
    std::array<double, 3> mean{};
    std::array<double, 3> std{};
    std::optional<ResizeSpec> resize;
};

struct InferenceSpec {
    bool slide = false;         ///< mode: slide, else whole
    std::optional<Size> crop;   ///< with slide
    std::optional<Size> stride; ///< with slide
    bool align_corners = false;
    bool windows_in_graph = false;
};

struct ClassesSpec {
    std::vector<std::string> names;
    std::vector<std::uint8_t> palette_rgb; ///< three a class
};

struct OutputsSpec {
    std::string labels;
    std::string logits;
    int logits_stride = 8;
    std::optional<std::string> confidence;
};

/// How a graph was quantised to int8.
struct QuantisationSpec {
    std::string rest;              ///< the type of everything that is not int8: fp32, fp16, bf16
    std::string ranges;            ///< how the activations' ranges were chosen, in words
    int frames = 1;                ///< that it was calibrated with
    int layers = 0;                ///< convolutions in int8
    std::vector<std::string> kept; ///< convolutions and products that were left in `rest`
};

struct EngineSpec {
    std::string builder;
    std::string builder_version;
    std::optional<std::string> compute_capability;
    std::string onnx_sha256;
    std::string plan_sha256;
    bool hardware_compatible = false;
    bool version_compatible = false;
};

struct Manifest {
    std::string architecture;
    std::string precision; ///< of the graph's convolutions: fp32, fp16, bf16, int8
    std::string source_sha256;
    InputSpec input;
    InferenceSpec inference;
    ClassesSpec classes;
    OutputsSpec outputs;
    std::optional<QuantisationSpec> quantisation; ///< with int8, and with no other
    std::optional<EngineSpec> engine;
    std::string canonical; ///< the record without `engine` as normalised JSON: equal where two manifests are equal

    /// Whether sliding windows are cut outside of the graph.
    bool cuts_windows() const { return inference.slide && !inference.windows_in_graph; }

    /// The type of everything that is not int8, which is all of it where nothing is.
    const std::string &float_type() const { return quantisation ? quantisation->rest : precision; }

    /// The types that the graph computes in, in words: "fp16", or "int8 (rest fp32)".
    std::string types() const { return quantisation ? precision + " (rest " + quantisation->rest + ")" : precision; }
};

/// Reads and checks a manifest.  `origin` names the file in messages.  Throws Error(ISA_ERROR_MANIFEST) where the
/// text is no JSON, is nested too deeply, lacks or adds a field, breaks a bound, or was written by a newer isa-
/// deploy: whatever isa_deploy.manifest.Manifest.from_json refuses is refused.
Manifest parse_manifest(std::string_view json, const std::string &origin);

/// Reads a model.json.  Throws Error(ISA_ERROR_MANIFEST).
Manifest read_manifest(const std::string &path);

} // namespace isa_core

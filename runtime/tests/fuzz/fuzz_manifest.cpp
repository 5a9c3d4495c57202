// Any bytes as a model.json.
#include <string_view>

#include "fuzz_refusal.hpp"
#include "manifest.hpp"

using fuzz::require;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    const std::string_view json(reinterpret_cast<const char *>(data), size);
    try {
        const isa_core::Manifest manifest = isa_core::parse_manifest(json, "origin");
        const std::size_t classes = manifest.classes.names.size();
        require(classes >= 1 && classes <= 256, "a label is one byte");
        require(manifest.classes.palette_rgb.size() == 3 * classes, "every class has a colour");
        require(manifest.inference.slide == manifest.inference.crop.has_value() &&
                    manifest.inference.slide == manifest.inference.stride.has_value(),
                "windows have a size");
        require((manifest.precision == "int8") == manifest.quantisation.has_value(), "int8 says how, and nothing else");
        require(manifest.canonical == isa_core::parse_manifest(json, "another origin").canonical,
                "a manifest equals itself");
        require(nlohmann::json::parse(manifest.canonical).is_object(), "the canonical record is JSON");
    } catch (const isa_core::Error &error) {
        fuzz::check_refusal(error);
    }
    return 0;
}

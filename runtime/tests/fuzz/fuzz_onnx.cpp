// Any bytes as an ONNX file.
#include "fuzz_refusal.hpp"
#include "onnx_metadata.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    try {
        fuzz::require(!isa_core::parse_onnx_manifest(data, size, "origin").canonical.empty(),
                      "an accepted manifest has a record");
    } catch (const isa_core::Error &error) {
        fuzz::check_refusal(error);
    }
    return 0;
}

// The manifest out of an ONNX file, without an ONNX library: isa_deploy/runtime/onnx_metadata.py in C++.
#pragma once

#include <cstddef>
#include <string>

#include "manifest.hpp"

namespace isa_core {

/// The manifest in an ONNX file's metadata.  Reads lengths and the metadata alone, never the weights.  Throws
/// Error(ISA_ERROR_ENGINE) where it is no ONNX file or truncated, Error(ISA_ERROR_MANIFEST) where it has no manifest
/// or a bad one.
Manifest read_onnx_manifest(const std::string &path);

/// The same for a file's bytes in memory.
Manifest parse_onnx_manifest(const void *data, std::size_t size, const std::string &origin);

} // namespace isa_core

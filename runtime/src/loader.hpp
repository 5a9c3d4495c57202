// Backends: shared objects that are loaded when they are first needed.
#pragma once

#include <string>

#include "backend.h"

namespace isa_core {

/// The backend of a name ("openvino"), loaded once and kept.  `folder`: where libisa_NAME.so lies, or empty:
/// $ISA_BACKEND_DIR, else beside this library.  Throws Error(ISA_ERROR_BACKEND_UNAVAILABLE) where it, or the engine's
/// library that it needs, is missing.
const isa_backend_api &load_backend(const std::string &name, const std::string &folder);

} // namespace isa_core

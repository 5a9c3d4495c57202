// Files of unknown origin: looked at before they are read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace isa_core {

enum class PathKind { missing, file, folder, other };

/// What is at a path.  A pipe or a device is `other`: it would be waited for, for ever.
PathKind path_kind(const std::string &path);

/// The bytes of a plan, whole.  Throws Error(ISA_ERROR_ENGINE) where it cannot be read, is empty, or has more than 4
/// GiB.
std::vector<std::uint8_t> read_plan_bytes(const std::string &path);

/// SHA-256 as 64 hexadecimal digits (FIPS 180-4).
std::string sha256(const void *data, std::size_t size);

/// The same of a file, read piece by piece.  Throws Error(ISA_ERROR_ENGINE) where it cannot be read.
std::string file_sha256(const std::string &path);

} // namespace isa_core

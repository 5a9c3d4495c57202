// Messages to the function that the program set, or to nobody.
#pragma once

#include <cstdint>

#include <isa/isa.h>

namespace isa_core {

/// See isa_set_log.
void set_log(isa_log_function function, std::int32_t level, void *user);

/// Hands a message on, one at a time.
void log(std::int32_t level, const char *message);

} // namespace isa_core

// What every refusal of a file promises.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "error.hpp"
#include "fuzz_input.hpp"

namespace fuzz {

inline void check_refusal(const isa_core::Error &error) {
    const std::string message = error.what();
    require(error.status() == ISA_ERROR_MANIFEST || error.status() == ISA_ERROR_ENGINE, "the status is of a file");
    require(message.rfind("origin: ", 0) == 0, "a message begins with the file");
    require(message.size() < 1000, "a message does not quote half a file");
    for (const char byte : message)
        require(static_cast<unsigned char>(byte) >= 0x20, "a message is one line");
    (void)nlohmann::json(message).dump(); // throws, which ends the program, where it is no UTF-8
}

} // namespace fuzz

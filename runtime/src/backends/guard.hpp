// Where a backend's C++ ends: an exception becomes a status with a message.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <new>

#include "backend.h"
#include "error.hpp"

namespace isa_backends {

inline isa_status fail(isa_failure *failure, isa_status status, const char *message) noexcept {
    if (failure == nullptr)
        return status;
    failure->status = status;
    std::snprintf(failure->message, sizeof failure->message, "%s", message);
    // one line, whatever a library put into its words
    for (char *letter = failure->message; *letter != '\0'; ++letter) {
        if (*letter == '\n' || *letter == '\r')
            *letter = ' ';
    }
    return status;
}

/// Calls `body` and turns what it throws into a status.
template <typename Body> isa_status guarded(isa_failure *failure, const char *backend, const Body &body) noexcept {
    char words[1024];
    try {
        body();
        return ISA_OK;
    } catch (const isa_core::Error &error) {
        return fail(failure, error.status(), error.what());
    } catch (const std::bad_alloc &) {
        std::snprintf(words, sizeof words, "backend %s: out of memory; use smaller frames or fewer segmenters",
                      backend);
        return fail(failure, ISA_ERROR_OUT_OF_MEMORY, words);
    } catch (const std::exception &error) {
        std::snprintf(words, sizeof words, "backend %s: %s; this is a defect of isa-deploy, please report it", backend,
                      error.what());
        return fail(failure, ISA_ERROR_INTERNAL, words);
    } catch (...) {
        std::snprintf(words, sizeof words,
                      "backend %s: an exception of an unknown type; this is a defect of isa-deploy, please report it",
                      backend);
        return fail(failure, ISA_ERROR_INTERNAL, words);
    }
}

} // namespace isa_backends

// The library's one exception, and how its messages are put together.
#pragma once

#include <exception>
#include <locale>
#include <sstream>
#include <string>
#include <utility>

#include <isa/isa.h>

namespace isa_core {

/// What went wrong: a status of isa.h and one line that says what, with its value, and what to do.
/// Thrown inside the library only; api.cpp turns it into a status.
class Error : public std::exception {
public:
    Error(isa_status status, std::string message) : status_(status), message_(std::move(message)) {}

    const char *what() const noexcept override { return message_.c_str(); }
    isa_status status() const noexcept { return status_; }

private:
    isa_status status_;
    std::string message_;
};

/// Its arguments, one after the other, as one text.
template <typename... Part> std::string text(const Part &...part) {
    std::ostringstream out;
    out.imbue(std::locale::classic()); // the program's own may write 2048 as 2.048
    (out << ... << part);
    return out.str();
}

template <typename... Part> [[noreturn]] void fail_input(const Part &...part) {
    throw Error(ISA_ERROR_INPUT, text(part...));
}

template <typename... Part> [[noreturn]] void fail_manifest(const Part &...part) {
    throw Error(ISA_ERROR_MANIFEST, text(part...));
}

template <typename... Part> [[noreturn]] void fail_engine(const Part &...part) {
    throw Error(ISA_ERROR_ENGINE, text(part...));
}

} // namespace isa_core

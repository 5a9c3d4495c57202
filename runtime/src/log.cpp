#include "log.hpp"

#include <mutex>

namespace isa_core {

namespace {

// The program's, for the whole process: the engines' own loggers are process-wide too.
struct Sink {
    std::mutex mutex;
    isa_log_function function = nullptr;
    std::int32_t level = 0;
    void *user = nullptr;
};

Sink &sink() {
    static Sink *const made = new Sink; // never destroyed: an engine may log while the process ends
    return *made;
}

} // namespace

void set_log(isa_log_function function, std::int32_t level, void *user) {
    Sink &to = sink();
    const std::lock_guard<std::mutex> lock(to.mutex);
    to.function = function;
    to.level = level;
    to.user = user;
}

void log(std::int32_t level, const char *message) {
    Sink &to = sink();
    const std::lock_guard<std::mutex> lock(to.mutex);
    if (to.function == nullptr || level > to.level)
        return;
    try {
        to.function(level, message, to.user);
    } catch (...) { // NOLINT: it is the program's, and an engine in C is between here and there
    }
}

} // namespace isa_core

#include "tensorrt_log.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <exception>
#include <new>
#include <vector>

#include <isa/isa.h>

namespace isa_tensorrt {

namespace {

constexpr std::size_t kMaxErrors = 100;
constexpr std::size_t kMaxBytes = 600;
constexpr std::size_t kMaxReasons = 10;
constexpr std::size_t kMaxSinks = 4; // programs have one

// How TensorRT words it, in lower case.
constexpr std::array<const char *, 6> kOutOfMemory = {"out of memory",          "outofmemory",
                                                      "could not be allocated", "insufficient memory",
                                                      "memory is insufficient", "allocator error"};

// Without a driver every error is followed by a second one, from TensorRT's look at CUDA's last error.
constexpr const char *kNoDriverEcho = "catchCudaError";

bool speaks_of_memory(std::string line) {
    std::transform(line.begin(), line.end(), line.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return std::any_of(kOutOfMemory.begin(), kOutOfMemory.end(),
                       [&](const char *words) { return line.find(words) != std::string::npos; });
}

bool is_echo(const std::string &line) {
    return line.find(kNoDriverEcho) != std::string::npos;
}

void keep(std::deque<std::string> &lines, const std::string &line) {
    if (lines.size() < kMaxErrors && std::find(lines.begin(), lines.end(), line) == lines.end())
        lines.push_back(line);
}

class Logger final : public nvinfer1::ILogger {
public:
    void log(Severity severity, const char *message) noexcept override {
        // no exception may cross into TensorRT
        try {
            tell(severity, message);
        } catch (const std::exception &) {
            return; // a message that finds no memory is lost
        }
    }

    void add(MessageLog *log) {
        const std::lock_guard<std::mutex> lock(mutex_);
        logs_.push_back(log);
    }

    void remove(MessageLog *log) {
        const std::lock_guard<std::mutex> lock(mutex_);
        logs_.erase(std::find(logs_.begin(), logs_.end(), log));
    }

private:
    void tell(Severity severity, const char *message) {
        if (severity == Severity::kVERBOSE)
            return;
        const bool is_error = severity == Severity::kERROR || severity == Severity::kINTERNAL_ERROR;
        const std::int32_t level = is_error                         ? ISA_LOG_ERROR
                                   : severity == Severity::kWARNING ? ISA_LOG_WARNING
                                                                    : ISA_LOG_INFO;
        const std::string line = one_line(message);
        std::array<MessageLog::Sink, kMaxSinks> told{};
        std::size_t count = 0;
        {
            // what is said while several engines live goes into the log of each, and once to the program
            const std::lock_guard<std::mutex> lock(mutex_);
            for (MessageLog *const each : logs_) {
                const auto end = told.begin() + static_cast<std::ptrdiff_t>(count);
                if (count < kMaxSinks && std::find(told.begin(), end, each->sink()) == end)
                    told[count++] = each->sink();
                if (is_error)
                    each->note_error(line, false);
            }
        }
        // outside of the lock: a program may do in its log what makes TensorRT speak again
        for (std::size_t i = 0; i < count; ++i)
            told[i](level, line.c_str());
    }

    std::mutex mutex_;
    std::vector<MessageLog *> logs_;
};

Logger &the_logger() {
    // never destroyed: TensorRT's own library may log while the process ends
    alignas(Logger) static std::byte place[sizeof(Logger)];
    static Logger *const logger = ::new (static_cast<void *>(place)) Logger;
    return *logger;
}

} // namespace

std::string one_line(const char *text) {
    std::string line;
    bool gap = false;
    for (const char *at = text; *at != '\0'; ++at) {
        if (std::isspace(static_cast<unsigned char>(*at)) != 0) {
            gap = !line.empty();
            continue;
        }
        if (gap)
            line += ' ';
        gap = false;
        line += *at;
    }
    if (line.size() > kMaxBytes) {
        std::size_t end = kMaxBytes - 3;
        while (end > 0 && (static_cast<unsigned char>(line[end]) & 0xC0U) == 0x80U) // within a character of UTF-8
            --end;
        line.resize(end);
        line += "...";
    }
    return line;
}

MessageLog::MessageLog(Sink told) : sink_(told) {
    the_logger().add(this);
}

MessageLog::~MessageLog() {
    the_logger().remove(this);
}

void MessageLog::add_error(const char *text, bool out_of_memory) {
    const std::string line = one_line(text);
    sink_(ISA_LOG_ERROR, line.c_str());
    note_error(line, out_of_memory);
}

void MessageLog::note_error(const std::string &line, bool out_of_memory) {
    const std::lock_guard<std::mutex> lock(mutex_);
    keep(errors_, line);
    if (out_of_memory || speaks_of_memory(line))
        keep(memory_, line);
}

void MessageLog::clear() {
    const std::lock_guard<std::mutex> lock(mutex_);
    errors_.clear();
    memory_.clear();
}

bool MessageLog::has_errors() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return !errors_.empty();
}

std::string MessageLog::reason() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    const bool all_echoes = std::all_of(errors_.begin(), errors_.end(), is_echo);
    std::string words;
    std::size_t count = 0;
    for (const std::string &line : errors_) {
        if (is_echo(line) && !all_echoes)
            continue;
        if (++count <= kMaxReasons)
            words += (words.empty() ? "" : "; ") + line;
    }
    if (count == 0)
        return "it gives no reason";
    if (count > kMaxReasons)
        words += "; and " + std::to_string(count - kMaxReasons) + " more";
    return words;
}

std::string MessageLog::out_of_memory() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::string words;
    const std::size_t first = memory_.size() > kMaxReasons ? memory_.size() - kMaxReasons : 0;
    for (std::size_t i = first; i < memory_.size(); ++i)
        words += (words.empty() ? "" : "; ") + memory_[i];
    return words;
}

nvinfer1::ILogger &process_logger() {
    return the_logger();
}

std::int32_t ErrorRecorder::getNbErrors() const noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    return static_cast<std::int32_t>(reported_.size());
}

nvinfer1::ErrorCode ErrorRecorder::getErrorCode(std::int32_t index) const noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto at = static_cast<std::size_t>(index);
    return at < reported_.size() ? reported_[at].code : nvinfer1::ErrorCode::kSUCCESS;
}

nvinfer1::IErrorRecorder::ErrorDesc ErrorRecorder::getErrorDesc(std::int32_t index) const noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto at = static_cast<std::size_t>(index);
    return at < reported_.size() ? reported_[at].description.c_str() : "";
}

bool ErrorRecorder::hasOverflowed() const noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    return overflowed_;
}

void ErrorRecorder::clear() noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    reported_.clear();
    overflowed_ = false;
}

bool ErrorRecorder::reportError(nvinfer1::ErrorCode code, ErrorDesc description) noexcept {
    // no exception may cross into TensorRT
    try {
        log_.add_error(description, code == nvinfer1::ErrorCode::kFAILED_ALLOCATION);
        const std::lock_guard<std::mutex> lock(mutex_);
        if (reported_.size() < kMaxErrors)
            reported_.push_back({code, one_line(description)});
        else
            overflowed_ = true;
    } catch (const std::exception &) {
        return false; // an error that finds no memory is lost; the call that it was of fails all the same
    }
    return false; // not fatal in itself
}

} // namespace isa_tensorrt

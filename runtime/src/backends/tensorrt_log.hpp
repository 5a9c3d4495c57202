// What TensorRT says while it works, kept for one message in the end.
//
// TensorRT returns null or false and says why elsewhere: to the error recorder where one is set, else to the log.
// Both end in one MessageLog.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>

#include <NvInferRuntime.h>

namespace isa_tensorrt {

/// `text` without line breaks, cut to 600 bytes.
std::string one_line(const char *text);

/// Errors of one use of TensorRT as single lines, without repeats, bounded; passed on to the program's log too.
/// Written from any thread.
class MessageLog {
public:
    using Sink = void (*)(std::int32_t level, const char *message);

    /// From now until it is gone, what the process's logger is told is told to this too.
    explicit MessageLog(Sink told);
    ~MessageLog();
    MessageLog(const MessageLog &) = delete;
    MessageLog &operator=(const MessageLog &) = delete;

    /// Notes an error and passes it on.  `out_of_memory`: its code says so, whatever its words.
    void add_error(const char *text, bool out_of_memory);
    /// Notes an error, one line, that was passed on.
    void note_error(const std::string &line, bool out_of_memory);
    void clear();

    /// The errors in one line, the first ones where they are many.
    std::string reason() const;
    /// What was said of memory that could not be had, or nothing.
    std::string out_of_memory() const;
    bool has_errors() const;

    Sink sink() const { return sink_; }

private:
    const Sink sink_;
    mutable std::mutex mutex_;
    std::deque<std::string> errors_;
    std::deque<std::string> memory_;
};

/// The process's one logger: TensorRT keeps the first that it is given and ignores any other.  It prints nothing.
nvinfer1::ILogger &process_logger();

/// Takes the errors of what it is set on.  It outlives that.
class ErrorRecorder final : public nvinfer1::IErrorRecorder {
public:
    explicit ErrorRecorder(MessageLog &log) : log_(log) {}

    std::int32_t getNbErrors() const noexcept override;
    nvinfer1::ErrorCode getErrorCode(std::int32_t index) const noexcept override;
    ErrorDesc getErrorDesc(std::int32_t index) const noexcept override;
    bool hasOverflowed() const noexcept override;
    void clear() noexcept override;
    bool reportError(nvinfer1::ErrorCode code, ErrorDesc description) noexcept override;
    RefCount incRefCount() noexcept override { return ++references_; }
    RefCount decRefCount() noexcept override { return --references_; }

private:
    struct Reported {
        nvinfer1::ErrorCode code;
        std::string description;
    };

    MessageLog &log_;
    mutable std::mutex mutex_;
    std::deque<Reported> reported_; // a deque: what was given out stays where it is
    bool overflowed_ = false;
    std::atomic<RefCount> references_{0};
};

} // namespace isa_tensorrt

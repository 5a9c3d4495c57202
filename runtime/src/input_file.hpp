// A file that is open for reading at any place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace isa_core {

/// Why a file cannot be read, in the system's words.  Whoever reads the file makes an Error of it.
struct FileProblem {
    std::string reason;
};

/// A regular file; anything else is a FileProblem, and a pipe is not waited for.
class InputFile {
public:
    /// Throws FileProblem.
    explicit InputFile(const std::string &path);
    ~InputFile();
    InputFile(const InputFile &) = delete;
    InputFile &operator=(const InputFile &) = delete;

    /// When it was opened.
    std::uint64_t size() const { return size_; }

    /// Reads up to `count` bytes from a place on, fewer at the file's end alone; says how many.  Throws FileProblem.
    std::size_t read(std::uint64_t offset, void *bytes, std::size_t count) const;

private:
    int descriptor_ = -1;
    std::uint64_t size_ = 0;
};

} // namespace isa_core

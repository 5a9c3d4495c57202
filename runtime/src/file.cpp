#include "file.hpp"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "error.hpp"
#include "input_file.hpp"
#include "plan_command.hpp"
#include "sha256.hpp"

namespace isa_core {

namespace {

/// The largest ISANet's plan is under 0.5 GB; a plan is read into memory whole.
constexpr std::uint64_t kMaxPlanBytes = std::uint64_t{4} << 30;

constexpr std::size_t kChunk = std::size_t{1} << 18;

/// What one system call is asked for: Linux gives at most 2 GiB less a page, others refuse more than an int holds.
constexpr std::size_t kMaxRead = std::size_t{1} << 30;

std::string reason_of(int error) {
    return std::generic_category().message(error);
}

std::string shell_quoted(const std::string &word) {
    const char *safe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_";
    if (!word.empty() && word.find_first_not_of(safe) == std::string::npos)
        return word;
    std::string quoted = "'";
    for (const char byte : word)
        quoted += byte == '\'' ? std::string("'\"'\"'") : std::string(1, byte);
    return quoted + "'";
}

} // namespace

InputFile::InputFile(const std::string &path) {
    // without O_NONBLOCK, opening a pipe waits until somebody writes into it
    do
        descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    while (descriptor_ < 0 && errno == EINTR);
    if (descriptor_ < 0)
        throw FileProblem{reason_of(errno)};
    struct stat status{};
    const int error = ::fstat(descriptor_, &status) == 0 ? 0 : errno;
    if (error == 0 && S_ISREG(status.st_mode)) {
        size_ = static_cast<std::uint64_t>(std::max<std::int64_t>(status.st_size, 0));
        return;
    }
    ::close(descriptor_); // the destructor of what was never made does not run
    throw FileProblem{error != 0 ? reason_of(error) : S_ISDIR(status.st_mode) ? reason_of(EISDIR) : "Is no file"};
}

InputFile::~InputFile() {
    ::close(descriptor_);
}

std::size_t InputFile::read(std::uint64_t offset, void *bytes, std::size_t count) const {
    std::size_t done = 0;
    while (done < count) {
        const ssize_t got = ::pread(descriptor_, static_cast<char *>(bytes) + done, std::min(count - done, kMaxRead),
                                    static_cast<off_t>(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            throw FileProblem{reason_of(errno)};
        if (got == 0)
            break;
        done += static_cast<std::size_t>(got);
    }
    return done;
}

PathKind path_kind(const std::string &path) {
    struct stat status{};
    if (::stat(path.c_str(), &status) != 0)
        return PathKind::missing;
    return S_ISREG(status.st_mode) ? PathKind::file : S_ISDIR(status.st_mode) ? PathKind::folder : PathKind::other;
}

std::string plan_command(const std::string &plan) {
    const std::string graph = std::filesystem::path(plan).replace_extension(".onnx").string();
    return "isa-export " + (path_kind(graph) == PathKind::file ? shell_quoted(graph) : "GRAPH") + " --plan";
}

std::vector<std::uint8_t> read_plan_bytes(const std::string &path) {
    try {
        const InputFile file(path);
        if (file.size() == 0)
            fail_engine(path, ": the plan has 0 bytes; build it again: ", plan_command(path));
        if (file.size() > kMaxPlanBytes)
            fail_engine(path, ": the plan has ", file.size() >> 30U, " GiB, more than ", kMaxPlanBytes >> 30U,
                        "; it is none of ours");
        std::vector<std::uint8_t> plan(static_cast<std::size_t>(file.size()));
        plan.resize(file.read(0, plan.data(), plan.size())); // somebody may have cut it since: its SHA-256 tells
        return plan;
    } catch (const FileProblem &problem) {
        fail_engine(path, ": cannot read the plan (", problem.reason, "); check the path");
    }
}

std::string sha256(const void *data, std::size_t size) {
    Sha256 digest;
    digest.update(data, size);
    return digest.finish();
}

std::string file_sha256(const std::string &path) {
    try {
        const InputFile file(path);
        std::vector<std::uint8_t> chunk(kChunk);
        Sha256 digest;
        std::uint64_t offset = 0;
        while (const std::size_t got = file.read(offset, chunk.data(), chunk.size())) {
            digest.update(chunk.data(), got);
            offset += got;
        }
        return digest.finish();
    } catch (const FileProblem &problem) {
        fail_engine(path, ": cannot read the file (", problem.reason, "); check the path");
    }
}

} // namespace isa_core

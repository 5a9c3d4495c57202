// Opened files that several engines of the process use: weights and compiled code are there once.
#pragma once

#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "backend.h"
#include "error.hpp"
#include "sha256.hpp"

namespace isa_backends {

/// SHA-256 as 64 hexadecimal digits.
inline std::string sha256(const void *data, std::size_t size) {
    isa_core::Sha256 sum;
    sum.update(data, size);
    return sum.finish();
}

/// Names bytes that nobody can find others for: the SHA-256 of the SHA-256 of each MiB.  In pieces, so that several
/// cores can do it: a network of 140 MB would take one core without SHA instructions longer than its import.
inline std::string content_digest(const void *data, std::size_t size) {
    constexpr std::size_t kPiece = 1U << 20;
    constexpr std::size_t kDigits = 64;
    const std::size_t pieces = (size + kPiece - 1) / kPiece;
    std::string digests(pieces * kDigits, '0');
    std::atomic<std::size_t> next{0};
    std::atomic<bool> out_of_memory{false};
    const auto work = [&]() noexcept {
        const auto *const bytes = static_cast<const char *>(data);
        try {
            for (std::size_t i = next++; i < pieces; i = next++) {
                const std::string digest = sha256(bytes + i * kPiece, std::min(kPiece, size - i * kPiece));
                digest.copy(&digests[i * kDigits], kDigits);
            }
        } catch (const std::bad_alloc &) { // all that it can throw, and a thread must not
            out_of_memory = true;
        }
    };
    const std::size_t threads = std::min<std::size_t>({pieces, 8, std::max(1U, std::thread::hardware_concurrency())});
    std::vector<std::thread> others;
    others.reserve(threads);
    try {
        for (std::size_t i = 1; i < threads; ++i)
            others.emplace_back(work);
    } catch (const std::system_error &) { // no more threads to be had: those that are there do it
    }
    work();
    for (std::thread &each : others)
        each.join();
    if (out_of_memory)
        throw std::bad_alloc();
    return isa_core::text(size, " ", sha256(digests.data(), digests.size()));
}

/// What tells a file's content from another's without reading it, or names the bytes in memory.  Empty where there is
/// no such file.  ctime is what a program that sets mtime back cannot set.
inline std::string content_identity(const isa_engine_request &request) {
    if (request.data != nullptr)
        return "memory " + content_digest(request.data, request.size);
    struct stat found{};
    if (::stat(request.path, &found) != 0)
        return {};
    return isa_core::text("file ", found.st_dev, " ", found.st_ino, " ", found.st_size, " ", found.st_mtim.tv_sec, ".",
                          found.st_mtim.tv_nsec, " ", found.st_ctim.tv_sec, ".", found.st_ctim.tv_nsec);
}

/// Models by the identity of their content and their settings.  It keeps none alive.
template <typename Model> class SharedModels {
public:
    /// The model of a key, made by `make` where no engine has it.  Making is cheap: reading and compiling is for
    /// the model's own lock, so that another file need not wait.
    template <typename Make> std::shared_ptr<Model> get(const std::string &key, const Make &make) {
        const std::lock_guard<std::mutex> lock(mutex_);
        for (auto entry = models_.begin(); entry != models_.end();)
            entry = entry->second.expired() ? models_.erase(entry) : std::next(entry);
        std::weak_ptr<Model> &kept = models_[key];
        std::shared_ptr<Model> model = kept.lock();
        if (model == nullptr) {
            model = make();
            kept = model;
        }
        return model;
    }

private:
    std::mutex mutex_;
    std::map<std::string, std::weak_ptr<Model>> models_;
};

} // namespace isa_backends

// The frames of one slot in host memory, as an engine on the CPU reads them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>

#include "backend.h"
#include "error.hpp"

namespace isa_backends {

/// A batch of frames: n x h x w x 3 bytes.
struct FrameShape {
    std::int32_t n = 0;
    std::int32_t h = 0;
    std::int32_t w = 0;

    bool operator==(const FrameShape &other) const noexcept { return n == other.n && h == other.h && w == other.w; }
    bool operator!=(const FrameShape &other) const noexcept { return !(*this == other); }

    /// As Python prints it: "(1, 512, 1024, 3)".
    std::string words() const { return isa_core::text("(", n, ", ", h, ", ", w, ", 3)"); }

    /// The bytes that it takes.  Throws where there is nothing, or more than an array can have.
    std::size_t bytes() const {
        if (n <= 0 || h <= 0 || w <= 0)
            isa_core::fail_input("frames of shape ", words(), " hold no pixel; every side must be 1 or more");
        // three sides below 2^31 fit 2^93: divide, never multiply
        const std::size_t most = PTRDIFF_MAX / 3;
        const auto pixels = static_cast<std::size_t>(h) * static_cast<std::size_t>(w);
        if (pixels > most / static_cast<std::size_t>(n))
            isa_core::fail_input("frames of shape ", words(), " have too many bytes; use smaller ones");
        return pixels * static_cast<std::size_t>(n) * 3;
    }
};

/// Host memory for frames, aligned as vector instructions and caches like it.  It grows and never shrinks, so that
/// frames of changing sizes soon allocate nothing.
class FrameBuffer {
public:
    static constexpr std::size_t kAlignment = 64;

    /// Memory of `bytes` at least; what lay in it may be lost.
    std::uint8_t *reserve(std::size_t bytes) {
        if (bytes > size_) {
            if (bytes > PTRDIFF_MAX - kAlignment)
                throw std::bad_alloc();
            const std::size_t whole = (bytes + kAlignment - 1) / kAlignment * kAlignment;
            data_.reset();
            size_ = 0;
            data_.reset(static_cast<std::uint8_t *>(std::aligned_alloc(kAlignment, whole)));
            if (data_ == nullptr)
                throw std::bad_alloc();
            size_ = whole;
        }
        return data_.get();
    }

private:
    struct Free {
        void operator()(std::uint8_t *data) const noexcept { std::free(data); }
    };
    std::unique_ptr<std::uint8_t, Free> data_;
    std::size_t size_ = 0;
};

/// A call that the core must not make.
[[noreturn]] inline void misused(const std::string &what) {
    throw isa_core::Error(ISA_ERROR_INTERNAL,
                          isa_core::text(what, "; this is a defect of isa-deploy, please report it"));
}

/// A slot's number as an index.
inline std::size_t checked_slot(std::int32_t slot, std::size_t slots) {
    if (slot < 0 || static_cast<std::size_t>(slot) >= slots)
        misused(isa_core::text("slot ", slot, " of ", slots));
    return static_cast<std::size_t>(slot);
}

} // namespace isa_backends

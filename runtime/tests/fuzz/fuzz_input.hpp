// What fuzz targets share: numbers out of bytes of any kind, and a check that ends the program.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace fuzz {

/// Ends the program where a promise is broken, which both libFuzzer and the replay report with the input.
inline void require(bool kept, const char *promise) {
    if (!kept) {
        std::fprintf(stderr, "broken: %s\n", promise);
        std::abort();
    }
}

/// Bytes from front to back; zeros after the last.
class Input {
public:
    Input(const std::uint8_t *data, std::size_t size) : data_(data), left_(size) {}

    std::size_t left() const { return left_; }

    template <typename T> T take() {
        T value{};
        const std::size_t count = sizeof value < left_ ? sizeof value : left_;
        if (count > 0)
            std::memcpy(&value, data_, count);
        data_ += count;
        left_ -= count;
        return value;
    }

    /// `least` to `most`, both of which are reached.
    int between(int least, int most) {
        const std::uint32_t choices = static_cast<std::uint32_t>(most - least) + 1;
        const std::uint32_t number = choices <= 256 ? take<std::uint8_t>() : take<std::uint16_t>();
        return least + static_cast<int>(number % choices);
    }

private:
    const std::uint8_t *data_;
    std::size_t left_;
};

} // namespace fuzz

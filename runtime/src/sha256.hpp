// SHA-256 (FIPS 180-4), piece by piece.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace isa_core {

class Sha256 {
public:
    void update(const void *data, std::size_t size);

    /// The digest of all bytes so far as 64 hexadecimal digits.  Ends it: nothing may follow.
    std::string finish();

private:
    static constexpr std::size_t kBlock = 64;

    void compress(const std::uint8_t *blocks, std::size_t count);

    // FIPS 180-4, 5.3.3: the first 32 bits of the fractions of the square roots of the first 8 primes
    std::array<std::uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    std::array<std::uint8_t, kBlock> pending_{};
    std::uint64_t bytes_ = 0;
};

} // namespace isa_core

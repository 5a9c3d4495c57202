#include "sha256.hpp"

#include <algorithm>
#include <cstring>

namespace isa_core {

namespace {

// FIPS 180-4, 4.2.2: the first 32 bits of the fractions of the cube roots of the first 64 primes
constexpr std::array<std::uint32_t, 64> kRound = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

inline std::uint32_t rotate(std::uint32_t x, unsigned by) {
    return (x >> by) | (x << (32U - by));
}

inline std::uint32_t load_big_endian(const std::uint8_t *bytes) {
    return std::uint32_t{bytes[0]} << 24U | std::uint32_t{bytes[1]} << 16U | std::uint32_t{bytes[2]} << 8U |
           std::uint32_t{bytes[3]};
}

// FIPS 180-4, 4.1.2; names as there
inline std::uint32_t sum_0(std::uint32_t x) {
    return rotate(x, 2) ^ rotate(x, 13) ^ rotate(x, 22);
}
inline std::uint32_t sum_1(std::uint32_t x) {
    return rotate(x, 6) ^ rotate(x, 11) ^ rotate(x, 25);
}
inline std::uint32_t sigma_0(std::uint32_t x) {
    return rotate(x, 7) ^ rotate(x, 18) ^ x >> 3U;
}
inline std::uint32_t sigma_1(std::uint32_t x) {
    return rotate(x, 17) ^ rotate(x, 19) ^ x >> 10U;
}

} // namespace

void Sha256::compress(const std::uint8_t *blocks, std::size_t count) {
    for (; count > 0; --count, blocks += kBlock) {
        std::uint32_t w[64];
        for (std::size_t t = 0; t < 16; ++t)
            w[t] = load_big_endian(blocks + 4 * t);
        for (std::size_t t = 16; t < 64; ++t)
            w[t] = sigma_1(w[t - 2]) + w[t - 7] + sigma_0(w[t - 15]) + w[t - 16];
        std::uint32_t a = state_[0], b = state_[1], c = state_[2], d = state_[3];
        std::uint32_t e = state_[4], f = state_[5], g = state_[6], h = state_[7];
        for (std::size_t t = 0; t < 64; ++t) {
            const std::uint32_t t1 = h + sum_1(e) + ((e & f) ^ (~e & g)) + kRound[t] + w[t];
            const std::uint32_t t2 = sum_0(a) + ((a & b) ^ (a & c) ^ (b & c));
            h = g;
            g = f;
            f = e;
            e = d + t1;
            d = c;
            c = b;
            b = a;
            a = t1 + t2;
        }
        state_[0] += a;
        state_[1] += b;
        state_[2] += c;
        state_[3] += d;
        state_[4] += e;
        state_[5] += f;
        state_[6] += g;
        state_[7] += h;
    }
}

void Sha256::update(const void *data, std::size_t size) {
    if (size == 0) // `data` may be null then
        return;
    const auto *bytes = static_cast<const std::uint8_t *>(data);
    const std::size_t held = static_cast<std::size_t>(bytes_ % kBlock);
    bytes_ += size;
    if (held > 0) {
        const std::size_t taken = std::min(kBlock - held, size);
        std::memcpy(pending_.data() + held, bytes, taken);
        bytes += taken;
        size -= taken;
        if (held + taken < kBlock)
            return;
        compress(pending_.data(), 1);
    }
    compress(bytes, size / kBlock);
    std::memcpy(pending_.data(), bytes + size / kBlock * kBlock, size % kBlock);
}

std::string Sha256::finish() {
    // 5.1.1: a bit 1, zeros, and the length in bits as 64 bits
    const std::uint64_t bits = bytes_ * 8;
    std::array<std::uint8_t, 2 * kBlock> tail{0x80};
    const std::size_t held = static_cast<std::size_t>(bytes_ % kBlock);
    const std::size_t padding = (held < kBlock - 8 ? kBlock : 2 * kBlock) - held;
    for (std::size_t i = 0; i < 8; ++i)
        tail[padding - 1 - i] = static_cast<std::uint8_t>(bits >> (8 * i));
    update(tail.data(), padding);
    std::string digits;
    digits.reserve(64);
    for (const std::uint32_t word : state_)
        for (unsigned shift = 32; shift > 0; shift -= 4)
            digits += "0123456789abcdef"[word >> (shift - 4) & 15U];
    return digits;
}

} // namespace isa_core

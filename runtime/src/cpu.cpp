#include "cpu.hpp"

#include <cstdlib>
#include <cstring>

namespace isa_core {

namespace {

Simd detect() noexcept {
    Simd best = Simd::portable;
#if defined(ISA_X86_KERNELS)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        best = Simd::avx2;
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
            best = Simd::avx512;
    }
#endif
    const char *most = std::getenv("ISA_SIMD");
    if (most != nullptr && std::strcmp(most, "portable") == 0)
        return Simd::portable;
    if (most != nullptr && std::strcmp(most, "avx2") == 0 && best == Simd::avx512)
        return Simd::avx2;
    return best;
}

} // namespace

Simd simd() noexcept {
    static const Simd found = detect();
    return found;
}

} // namespace isa_core

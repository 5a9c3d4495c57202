// Which vector instructions this processor has.
#pragma once

namespace isa_core {

enum class Simd { portable = 0, avx2 = 1, avx512 = 2 };

/// The widest set that the processor, its operating system and this build have; no more than $ISA_SIMD ("portable",
/// "avx2", "avx512") says, which is for tests: results do not depend on it.  Asked once and remembered.
///
/// avx2 stands for AVX2 and FMA, avx512 for AVX-512 F, BW, DQ and VL beside them.
Simd simd() noexcept;

} // namespace isa_core

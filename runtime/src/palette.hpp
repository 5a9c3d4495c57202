// Label maps as pictures: isa_deploy/runtime/palette.py in C++, the same bytes.
#pragma once

#include <cstddef>
#include <cstdint>

#include <isa/isa.h>

namespace isa_core {

/// isa_colorize and isa_overlay after their arguments were checked by the caller: sizes agree, pointers are not null,
/// strides are long enough, num_colours is 1 to 256, alpha is 0 to 1.  They allocate nothing and do not throw.
void colorize(const isa_labels &labels, const std::uint8_t *palette_rgb, std::size_t num_colours,
              const isa_picture &picture) noexcept;
void overlay(const isa_frame &frame, const isa_labels &labels, const std::uint8_t *palette_rgb, std::size_t num_colours,
             double alpha, const isa_picture &picture) noexcept;

} // namespace isa_core

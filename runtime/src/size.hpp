// Height and width, in pixels or in cells of the logits.
#pragma once

namespace isa_core {

struct Size {
    int height = 0;
    int width = 0;

    friend bool operator==(Size a, Size b) { return a.height == b.height && a.width == b.width; }
    friend bool operator!=(Size a, Size b) { return !(a == b); }
};

} // namespace isa_core

// JSON of unknown origin as a tree that is safe to walk by recursion.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace isa_core {

/// Arrays and objects inside each other; a manifest has five.  The tree is destroyed by recursion.
constexpr std::size_t kMaxJsonDepth = 64;
/// A manifest has under 3000; each takes some hundred bytes.
constexpr std::size_t kMaxJsonValues = 65536;

struct JsonValue {
    enum class Kind { null, boolean, integer, real, string, array, object };

    Kind kind = Kind::null;
    bool flag = false;
    std::int64_t integer = 0; ///< the nearest that 64 bits hold; where that is another one, `text` has it as written
    double real = 0;          ///< of an integer too
    std::string text;
    std::vector<JsonValue> items;  ///< of an array; of an object the values
    std::vector<std::string> keys; ///< of an object, one for each of `items`; a key may be there more than once

    bool is(Kind wanted) const { return kind == wanted; }
    /// The value of a key; of several the last, which is Python's choice.  Null where there is none.
    const JsonValue *find(std::string_view key) const;
};

/// Reads a whole text.  Throws Error(ISA_ERROR_MANIFEST), with `origin` in its message, where it is no JSON in UTF-8 or
/// goes beyond a limit above.
JsonValue parse_json(std::string_view text, const std::string &origin);

/// Text out of such a file for a message: one line, and not too long.
std::string quotable(std::string_view text);

} // namespace isa_core

#include "json_tree.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include <nlohmann/json.hpp>

#include "error.hpp"

namespace isa_core {

namespace {

constexpr std::size_t kQuotedBytes = 80;

/// The id of nlohmann/json for a number that no double holds.
constexpr int kNumberOverflow = 406;

bool continues_character(char byte) {
    return (static_cast<unsigned char>(byte) & 0xC0U) == 0x80U;
}

/// Takes the parser's events.  The parser itself does not recurse, so a deep text is told of before it can do harm.
class TreeBuilder final : public nlohmann::json::json_sax_t {
public:
    TreeBuilder(std::string_view text, const std::string &origin) : text_(text), origin_(origin) {}

    JsonValue take() { return std::move(root_); }

    bool null() override {
        add(JsonValue{});
        return true;
    }

    bool boolean(bool value) override {
        JsonValue node;
        node.kind = JsonValue::Kind::boolean;
        node.flag = value;
        add(std::move(node));
        return true;
    }

    bool number_integer(std::int64_t value) override {
        add_integer(value, static_cast<double>(value), {});
        return true;
    }

    bool number_unsigned(std::uint64_t value) override {
        constexpr auto most = std::numeric_limits<std::int64_t>::max();
        const bool fits = value <= static_cast<std::uint64_t>(most);
        add_integer(fits ? static_cast<std::int64_t>(value) : most, static_cast<double>(value),
                    fits ? std::string() : std::to_string(value));
        return true;
    }

    bool number_float(double value, const std::string &token) override {
        if (token.find_first_of(".eE") == std::string::npos) { // an integer beyond 64 bits
            using Limits = std::numeric_limits<std::int64_t>;
            add_integer(value < 0 ? Limits::min() : Limits::max(), value, token);
            return true;
        }
        JsonValue node;
        node.kind = JsonValue::Kind::real;
        node.real = value;
        add(std::move(node));
        return true;
    }

    bool string(std::string &value) override {
        JsonValue node;
        node.kind = JsonValue::Kind::string;
        node.text = std::move(value);
        add(std::move(node));
        return true;
    }

    bool binary(nlohmann::json::binary_t &) override { return false; }

    bool start_object(std::size_t) override { return open(JsonValue::Kind::object); }
    bool start_array(std::size_t) override { return open(JsonValue::Kind::array); }
    bool end_object() override { return close(); }
    bool end_array() override { return close(); }

    bool key(std::string &name) override {
        open_.back()->keys.push_back(std::move(name));
        return true;
    }

    bool parse_error(std::size_t position, const std::string &, const nlohmann::json::exception &error) override {
        const std::string_view read = text_.substr(0, std::min(position > 0 ? position - 1 : 0, text_.size()));
        const std::size_t line = 1 + static_cast<std::size_t>(std::count(read.begin(), read.end(), '\n'));
        const std::size_t line_start = read.rfind('\n') == std::string_view::npos ? 0 : read.rfind('\n') + 1;
        std::size_t column = 1;
        for (const char byte : read.substr(line_start))
            column += continues_character(byte) ? 0 : 1;
        fail_manifest(origin_, ": the manifest is not JSON (",
                      error.id == kNumberOverflow ? "a number that is too large" : "a mistake", " at line ", line,
                      " column ", column, "); export the model again");
    }

private:
    void add_integer(std::int64_t value, double real, std::string token) {
        JsonValue node;
        node.kind = JsonValue::Kind::integer;
        node.integer = value;
        node.real = real;
        node.text = std::move(token);
        add(std::move(node));
    }

    JsonValue &add(JsonValue node) {
        if (++values_ > kMaxJsonValues)
            fail_manifest(origin_, ": the manifest holds more than ", kMaxJsonValues,
                          " values; export the model again");
        if (open_.empty()) {
            root_ = std::move(node);
            return root_;
        }
        // The parent may move its items, but of those only the last was ever open, and it is closed by now.
        open_.back()->items.push_back(std::move(node));
        return open_.back()->items.back();
    }

    bool open(JsonValue::Kind kind) {
        if (open_.size() == kMaxJsonDepth)
            fail_manifest(origin_, ": the manifest is nested more than ", kMaxJsonDepth,
                          " deep; export the model again");
        JsonValue node;
        node.kind = kind;
        open_.push_back(&add(std::move(node)));
        return true;
    }

    bool close() {
        open_.pop_back();
        return true;
    }

    std::string_view text_;
    const std::string &origin_;
    JsonValue root_;
    std::vector<JsonValue *> open_;
    std::size_t values_ = 0;
};

} // namespace

const JsonValue *JsonValue::find(std::string_view key) const {
    for (std::size_t i = keys.size(); i-- > 0;)
        if (keys[i] == key)
            return &items[i];
    return nullptr;
}

JsonValue parse_json(std::string_view text, const std::string &origin) {
    // The library takes a byte of 0 for the end of the text, and skips a byte order mark; both are mistakes to Python.
    if (text.find('\0') != std::string_view::npos)
        fail_manifest(origin, ": the manifest is not JSON (it holds a byte of 0); export the model again");
    if (text.substr(0, 3) == "\xEF\xBB\xBF")
        fail_manifest(origin, ": the manifest is not JSON (it begins with a byte order mark); export the model again");
    TreeBuilder builder(text, origin);
    if (!nlohmann::json::sax_parse(text.begin(), text.end(), &builder))
        fail_manifest(origin, ": the manifest is not JSON; export the model again");
    return builder.take();
}

std::string quotable(std::string_view text) {
    std::size_t length = std::min(text.size(), kQuotedBytes);
    while (length > 0 && length < text.size() && continues_character(text[length]))
        --length;
    std::string quoted(text.substr(0, length));
    for (char &byte : quoted)
        if (static_cast<unsigned char>(byte) < 0x20 || byte == 0x7F)
            byte = '?';
    return length < text.size() ? quoted + "..." : quoted;
}

} // namespace isa_core

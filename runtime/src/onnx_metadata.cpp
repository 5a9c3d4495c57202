#include "onnx_metadata.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <string_view>
#include <vector>

#include "error.hpp"
#include "file.hpp"
#include "input_file.hpp"

// An ONNX file is a protobuf message; metadata_props (field 14 of ModelProto, onnx.proto) are key-value entries at its
// top level.  The walk over that level jumps from length to length.

namespace isa_core {

namespace {

constexpr const char *kMetadataKey = "isa_deploy";
constexpr std::uint64_t kGraphField = 7;
constexpr std::uint64_t kMetadataField = 14;
constexpr unsigned kEntryKey = 1, kEntryValue = 2;
constexpr unsigned kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5; // protobuf's wire types
constexpr unsigned kVarintBytes = 10;
constexpr int kMaxFields = 10000;

/// A number of up to 10 bytes with 7 bits each, the lowest first.  Beyond 64 bits it counts as the largest, with its
/// own lowest three bits, which are a tag's wire type.
class VarintBits {
public:
    void add(unsigned byte_index, std::uint8_t byte) {
        const std::uint64_t bits = byte & 0x7FU;
        if (byte_index == kVarintBytes - 1 && bits > 1)
            value_ |= ~std::uint64_t{7};
        else
            value_ |= bits << (7 * byte_index);
    }
    std::uint64_t value() const { return value_; }

private:
    std::uint64_t value_ = 0;
};

/// The bytes of a file or of memory, read from front to back.
class Bytes {
public:
    Bytes(const void *data, std::size_t size) : data_(static_cast<const std::uint8_t *>(data)), size_(size) {}
    explicit Bytes(const InputFile &file) : file_(&file), size_(file.size()) {}

    std::uint64_t size() const { return size_; }
    std::uint64_t position() const { return position_; }
    /// May go beyond the end.
    void skip(std::uint64_t count) {
        const std::uint64_t most = std::numeric_limits<std::uint64_t>::max() - position_;
        position_ += std::min(count, most);
    }

    std::optional<std::uint8_t> next() {
        if (position_ >= size_)
            return std::nullopt;
        if (file_ == nullptr)
            return data_[position_++];
        if (position_ < window_start_ || position_ >= window_start_ + window_length_) {
            window_start_ = position_;
            window_length_ = file_->read(position_, window_.data(), window_.size());
            if (window_length_ == 0)
                return std::nullopt;
        }
        return window_[static_cast<std::size_t>(position_++ - window_start_)];
    }

    /// `count` bytes from here on; the position stays.  The caller has seen that so many are left.
    std::string_view peek(std::size_t count, std::vector<char> &memory) const {
        if (file_ == nullptr)
            return {reinterpret_cast<const char *>(data_) + position_, count};
        memory.resize(count);
        return {memory.data(), file_->read(position_, memory.data(), count)};
    }

private:
    const std::uint8_t *data_ = nullptr;
    const InputFile *file_ = nullptr;
    std::uint64_t size_;
    std::uint64_t position_ = 0;
    std::array<std::uint8_t, 512> window_{}; // tags and lengths are apart: more would be read for nothing
    std::uint64_t window_start_ = 0;
    std::uint64_t window_length_ = 0;
};

std::uint64_t read_varint(Bytes &bytes, const std::string &origin) {
    VarintBits bits;
    for (unsigned i = 0; i < kVarintBytes; ++i) {
        const std::optional<std::uint8_t> byte = bytes.next();
        if (!byte)
            fail_engine(origin, ": truncated or not an ONNX file; copy or export it again");
        bits.add(i, *byte);
        if (*byte < 0x80)
            return bits.value();
    }
    fail_engine(origin, ": not an ONNX file (a number of over 10 bytes); give a model.onnx of isa-export");
}

struct Entry {
    std::string_view key;
    std::string_view value;
};

/// Key and value of a StringStringEntryProto; empty where the bytes are something else.
Entry read_entry(std::string_view data) {
    Entry entry;
    std::size_t position = 0;
    const auto next = [&data, &position] { return static_cast<std::uint8_t>(data[position++]); };
    while (position < data.size()) {
        const unsigned tag = next();
        VarintBits length;
        for (unsigned i = 0; i < kVarintBytes && position < data.size(); ++i) {
            const std::uint8_t byte = next();
            length.add(i, byte);
            if (byte < 0x80)
                break;
        }
        if ((tag & 7U) != kBytes || length.value() > data.size() - position)
            return {};
        const std::string_view found = data.substr(position, static_cast<std::size_t>(length.value()));
        if (tag >> 3U == kEntryKey)
            entry.key = found;
        if (tag >> 3U == kEntryValue)
            entry.value = found;
        position += found.size();
    }
    return entry;
}

/// The manifest's text, or nothing where there is none.  It may lie in `memory`.
std::optional<std::string_view> find_manifest(Bytes &bytes, std::vector<char> &memory, const std::string &origin) {
    if (bytes.size() == 0)
        fail_engine(origin, ": the file has 0 bytes; export the model again");
    bool seen_graph = false;
    for (int i = 0; i < kMaxFields && bytes.position() < bytes.size(); ++i) {
        const std::uint64_t tag = read_varint(bytes, origin);
        const std::uint64_t field = tag >> 3U;
        const unsigned wire = tag & 7U;
        if (wire == kBytes) {
            const std::uint64_t length = read_varint(bytes, origin);
            const std::uint64_t left = bytes.size() - bytes.position();
            if (length > left)
                fail_engine(origin, ": truncated or not an ONNX file (field ", field, " claims ", length, " bytes, ",
                            left, " are left); copy or export it again");
            if (field == kMetadataField && length <= kMaxManifestBytes) {
                const Entry entry = read_entry(bytes.peek(static_cast<std::size_t>(length), memory));
                if (entry.key == kMetadataKey)
                    return entry.value;
            }
            seen_graph = seen_graph || field == kGraphField;
            bytes.skip(length);
        } else if (wire == kVarint) {
            read_varint(bytes, origin);
        } else if (wire == kFixed64) {
            bytes.skip(8);
        } else if (wire == kFixed32) {
            bytes.skip(4);
        } else {
            fail_engine(origin, ": not an ONNX file (protobuf wire type ", wire, "); give a model.onnx of isa-export");
        }
    }
    if (!seen_graph)
        fail_engine(origin, ": not an ONNX file (it holds no graph); give a model.onnx of isa-export");
    return std::nullopt;
}

Manifest manifest_of(Bytes bytes, const std::string &origin) {
    std::vector<char> memory;
    const std::optional<std::string_view> json = find_manifest(bytes, memory, origin);
    if (!json)
        fail_manifest(origin, ": this ONNX file carries no isa-deploy manifest; export it with isa-export, "
                              "which writes how frames are prepared into the file");
    return parse_manifest(*json, origin);
}

} // namespace

Manifest read_onnx_manifest(const std::string &path) {
    const PathKind kind = path_kind(path);
    if (kind == PathKind::folder || kind == PathKind::other)
        fail_engine(path, ": is no file; give a model.onnx of isa-export");
    try {
        const InputFile file(path);
        return manifest_of(Bytes(file), path);
    } catch (const FileProblem &problem) {
        fail_engine(path, ": cannot read the file (", problem.reason, "); check the path");
    }
}

Manifest parse_onnx_manifest(const void *data, std::size_t size, const std::string &origin) {
    return manifest_of(Bytes(data, size), origin);
}

} // namespace isa_core

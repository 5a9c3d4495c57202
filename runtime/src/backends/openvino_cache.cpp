#include "openvino_cache.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>
#include <type_traits>

#include "error.hpp"
#include "shared_models.hpp"

namespace isa_backends {

namespace {

constexpr std::array<char, 16> kMagic = {'i', 's', 'a', '-', 'o', 'p', 'e', 'n', 'v', 'i', 'n', 'o', '-', '1', 0, 0};
constexpr std::size_t kBlobAlignment = 64;
constexpr std::uint64_t kLongestDescription = 1U << 20;

/// The file: this, the key, the tensors as text, zeros up to a multiple of kBlobAlignment, the blob.
struct Header {
    std::array<char, 16> magic = kMagic;
    std::uint64_t key_size = 0;
    std::uint64_t tensors_size = 0;
    std::uint64_t blob_size = 0;
    std::uint64_t checksum = 0; ///< of everything behind the header
};
static_assert(sizeof(Header) == 48 && std::is_trivially_copyable_v<Header>, "it is written as it lies in memory");

std::size_t blob_offset(const Header &header) {
    const auto described = static_cast<std::size_t>(sizeof(Header) + header.key_size + header.tensors_size);
    return (described + kBlobAlignment - 1) / kBlobAlignment * kBlobAlignment;
}

/// Tells bytes that a disk, a copy or a crash has changed.  Each step is one to one, so a change of one word is always
/// seen; the shift carries high bits down, where the next product needs them.  Four chains, because a product takes
/// four cycles.  SHA-256 takes longer than the import of a small model, and a wilful change it would not hinder:
/// its sum would lie in the same file.
class Checksum {
public:
    /// Every piece but the last has a multiple of 32 bytes.
    void add(const void *data, std::size_t size) {
        const auto *bytes = static_cast<const unsigned char *>(data);
        for (; size >= 32; size -= 32, bytes += 32) {
            std::array<std::uint64_t, 4> words;
            std::memcpy(words.data(), bytes, sizeof words);
            for (std::size_t chain = 0; chain < 4; ++chain)
                step(chains_[chain], words[chain]);
        }
        for (; size > 0; --size, ++bytes)
            step(chains_[0], *bytes);
    }

    std::uint64_t value() const {
        std::uint64_t folded = kPrime;
        for (const std::uint64_t chain : chains_)
            step(folded, chain);
        return folded;
    }

private:
    static constexpr std::uint64_t kPrime = 0x9E3779B97F4A7C15U; // 2^64 over the golden ratio, odd

    static void step(std::uint64_t &chain, std::uint64_t word) {
        chain = (chain ^ word) * kPrime;
        chain ^= chain >> 32;
    }

    std::array<std::uint64_t, 4> chains_ = {1, 2, 3, 4};
};

/// An open file; closed at the end.
class Descriptor {
public:
    explicit Descriptor(int number) : number_(number) {}
    ~Descriptor() {
        if (number_ >= 0)
            ::close(number_);
    }
    Descriptor(const Descriptor &) = delete;
    Descriptor &operator=(const Descriptor &) = delete;
    Descriptor(Descriptor &&) = delete;
    Descriptor &operator=(Descriptor &&) = delete;

    int get() const { return number_; }

    bool read(void *data, std::size_t size) const {
        auto *bytes = static_cast<char *>(data);
        while (size > 0) {
            const ssize_t got = ::read(number_, bytes, std::min<std::size_t>(size, 1U << 30));
            if (got < 0 && errno == EINTR)
                continue;
            if (got <= 0)
                return false;
            bytes += got;
            size -= static_cast<std::size_t>(got);
        }
        return true;
    }

    bool write(const void *data, std::size_t size) const {
        const auto *bytes = static_cast<const char *>(data);
        while (size > 0) {
            const ssize_t put = ::write(number_, bytes, size);
            if (put < 0 && errno == EINTR)
                continue;
            if (put <= 0)
                return false;
            bytes += put;
            size -= static_cast<std::size_t>(put);
        }
        return true;
    }

private:
    int number_;
};

/// One line a tensor: "in uint8 4 -1 -1 -1 3 image".
std::string to_text(const std::vector<GraphTensor> &tensors) {
    std::ostringstream out;
    for (const GraphTensor &tensor : tensors) {
        out << (tensor.is_input ? "in " : "out ") << tensor.dtype_name << ' ' << tensor.shape.size();
        for (const std::int64_t side : tensor.shape)
            out << ' ' << side;
        out << ' ' << tensor.name << '\n';
    }
    return out.str();
}

bool from_text(const std::string &words, std::vector<GraphTensor> &tensors) {
    std::istringstream lines(words);
    for (std::string line; std::getline(lines, line);) {
        std::istringstream in(line);
        GraphTensor tensor;
        std::string kind;
        std::size_t rank = 0;
        if (!(in >> kind >> tensor.dtype_name >> rank) || rank > line.size())
            return false;
        tensor.is_input = kind == "in";
        tensor.shape.resize(rank);
        for (std::int64_t &side : tensor.shape)
            in >> side;
        if (!in || in.get() != ' ' || !std::getline(in, tensor.name))
            return false;
        tensors.push_back(std::move(tensor));
    }
    return !tensors.empty();
}

std::string last_error() {
    return std::error_code(errno, std::generic_category()).message();
}

/// Removes a file that was begun, unless it was finished.
struct Unfinished {
    std::string path;
    ~Unfinished() {
        if (!path.empty())
            ::unlink(path.c_str());
    }
};

} // namespace

std::string OpenVinoCache::path_of(const std::string &key) const {
    return folder_ + "/" + sha256(key.data(), key.size()).substr(0, 40) + ".isa-openvino";
}

std::optional<CachedModel> OpenVinoCache::read(const std::string &key, std::string &damage) const {
    damage.clear();
    const std::string path = path_of(key);
    // a pipe of that name must not be waited for
    const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (file.get() < 0)
        return std::nullopt;
    const auto damaged = [&](const char *why) {
        damage = isa_core::text(path, ": ", why, "; the model is compiled and cached again");
        return std::nullopt;
    };
    struct stat found{};
    if (::fstat(file.get(), &found) != 0 || !S_ISREG(found.st_mode) || found.st_size < 0)
        return damaged("is no file");
    const auto size = static_cast<std::uint64_t>(found.st_size);
    Header header;
    if (size < sizeof header || !file.read(&header, sizeof header) || header.magic != kMagic)
        return damaged("is no cached model of this version");
    if (header.key_size != key.size() || header.tensors_size > kLongestDescription || header.blob_size > size ||
        blob_offset(header) + header.blob_size != size)
        return damaged("is truncated, or of another model");
    std::string described(blob_offset(header) - sizeof header, '\0');
    CachedModel model;
    model.blob = ov::Tensor(ov::element::u8, {static_cast<std::size_t>(header.blob_size)});
    if (!file.read(described.data(), described.size()) || !file.read(model.blob.data(), model.blob.get_byte_size()))
        return damaged("cannot be read");
    Checksum sum, blob_sum;
    sum.add(described.data(), described.size());
    blob_sum.add(model.blob.data(), model.blob.get_byte_size());
    const std::uint64_t of_blob = blob_sum.value();
    sum.add(&of_blob, sizeof of_blob);
    if (sum.value() != header.checksum)
        return damaged("has changed since it was written");
    if (described.compare(0, key.size(), key) != 0 ||
        !from_text(described.substr(key.size(), static_cast<std::size_t>(header.tensors_size)), model.tensors))
        return damaged("is of another model");
    return model;
}

std::string OpenVinoCache::write(const std::string &key, const std::vector<GraphTensor> &tensors,
                                 ov::CompiledModel &model) const {
    const std::string path = path_of(key);
    std::error_code code;
    std::filesystem::create_directories(folder_, code);
    if (code)
        return isa_core::text(folder_, ": ", code.message());
    Header header;
    const std::string words = to_text(tensors);
    header.key_size = key.size();
    header.tensors_size = words.size();
    std::string described = key + words;
    described.resize(blob_offset(header) - sizeof header);

    const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
    Unfinished begun;
    const std::string temporary = isa_core::text(path, ".", ::getpid(), ".", now, ".tmp");
    {
        const Descriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
        if (file.get() < 0)
            return isa_core::text(temporary, ": ", last_error());
        begun.path = temporary;
        if (!file.write(&header, sizeof header) || !file.write(described.data(), described.size()))
            return isa_core::text(temporary, ": ", last_error());
    }
    {
        // not `app`: its first position is 0, and the blob has offsets
        std::fstream out(temporary, std::ios::binary | std::ios::in | std::ios::out | std::ios::ate);
        model.export_model(out);
        out.close();
        if (!out)
            return isa_core::text(temporary, ": cannot be written, perhaps the disk is full");
    }
    // read back: the sum comes first in the file, and the blob is too large to be kept beside the model
    const Descriptor file(::open(temporary.c_str(), O_RDWR | O_CLOEXEC));
    struct stat written{};
    if (file.get() < 0 || ::fstat(file.get(), &written) != 0)
        return isa_core::text(temporary, ": ", last_error());
    header.blob_size = static_cast<std::uint64_t>(written.st_size) - blob_offset(header);
    if (::lseek(file.get(), static_cast<off_t>(blob_offset(header)), SEEK_SET) < 0)
        return isa_core::text(temporary, ": ", last_error());
    Checksum sum, blob_sum;
    std::vector<char> piece(1U << 20);
    for (std::uint64_t left = header.blob_size; left > 0;) {
        const auto next = static_cast<std::size_t>(std::min<std::uint64_t>(left, piece.size()));
        if (!file.read(piece.data(), next))
            return isa_core::text(temporary, ": cannot be read back");
        blob_sum.add(piece.data(), next);
        left -= next;
    }
    sum.add(described.data(), described.size());
    const std::uint64_t of_blob = blob_sum.value();
    sum.add(&of_blob, sizeof of_blob);
    header.checksum = sum.value();
    if (::lseek(file.get(), 0, SEEK_SET) < 0 || !file.write(&header, sizeof header))
        return isa_core::text(temporary, ": ", last_error());
    if (std::rename(temporary.c_str(), path.c_str()) != 0)
        return isa_core::text(path, ": ", last_error());
    begun.path.clear();
    return {};
}

void OpenVinoCache::forget(const std::string &key) const noexcept {
    try {
        ::unlink(path_of(key).c_str());
    } catch (const std::exception &) { // out of memory: the next start looks at the file again
    }
}

} // namespace isa_backends

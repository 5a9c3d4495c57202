// A fuzz target without libFuzzer: all files of a folder, then a number of changed copies of them, always the same.
//     replay FOLDER [COPIES]
#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size);

/// Of the sanitizers' library; null in a build without them.
extern "C" void __sanitizer_set_death_callback(void (*callback)()) __attribute__((weak));

namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::size_t kLargest = std::size_t{1} << 16U;

/// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled", 2016)
class Random {
public:
    std::size_t below(std::size_t most) {
        state_ ^= state_ >> 12U;
        state_ ^= state_ << 25U;
        state_ ^= state_ >> 27U;
        return static_cast<std::size_t>((state_ * 0x2545F4914F6CDD1DU) >> 32U) % most;
    }

private:
    std::uint64_t state_ = 0x9E3779B97F4A7C15U;
};

Bytes part_of(const Bytes &bytes, Random &random) {
    if (bytes.empty())
        return {};
    const std::size_t first = random.below(bytes.size());
    const std::size_t count = 1 + random.below(std::min<std::size_t>(bytes.size() - first, 64));
    const auto begin = bytes.begin() + static_cast<std::ptrdiff_t>(first);
    return {begin, begin + static_cast<std::ptrdiff_t>(count)};
}

void change(Bytes &bytes, const std::vector<Bytes> &others, Random &random) {
    static constexpr std::uint8_t telling[] = {0,   1,   0x7F, 0x80, 0xFF, '"', '{', '}',
                                               '[', ']', ',',  '-',  '0',  '9', 'e', '\\'};
    const auto place = [&] { return bytes.begin() + static_cast<std::ptrdiff_t>(random.below(bytes.size() + 1)); };
    const std::size_t kind = random.below(7);
    if (kind <= 2 && bytes.empty())
        return;
    const std::size_t at = bytes.empty() ? 0 : random.below(bytes.size());
    if (kind == 0) {
        bytes[at] = static_cast<std::uint8_t>(bytes[at] ^ 1U << random.below(8));
    } else if (kind == 1) {
        bytes[at] = telling[random.below(std::size(telling))];
    } else if (kind == 2) {
        const std::size_t count = 1 + random.below(std::min<std::size_t>(bytes.size() - at, 64));
        const auto first = bytes.begin() + static_cast<std::ptrdiff_t>(at);
        bytes.erase(first, first + static_cast<std::ptrdiff_t>(count));
    } else if (kind == 3) {
        bytes.insert(place(), telling[random.below(std::size(telling))]);
    } else if (kind == 4) {
        const Bytes part = part_of(others[random.below(others.size())], random);
        bytes.insert(place(), part.begin(), part.end());
    } else if (kind == 5) {
        const Bytes part = part_of(others[random.below(others.size())], random);
        std::copy_n(part.begin(), std::min(part.size(), bytes.size() - at),
                    bytes.begin() + static_cast<std::ptrdiff_t>(at));
    } else {
        const Bytes part = part_of(bytes, random);
        for (std::size_t count = random.below(100); count > 0 && bytes.size() < kLargest; --count)
            bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(at), part.begin(), part.end());
    }
}

void run(const Bytes &bytes) {
    // memory of exactly this size: a vector's may be larger, which would hide a byte read too many
    const std::unique_ptr<std::uint8_t[]> exact(new std::uint8_t[bytes.size()]);
    std::copy(bytes.begin(), bytes.end(), exact.get());
    LLVMFuzzerTestOneInput(exact.get(), bytes.size());
}

std::string hex(const Bytes &bytes) {
    std::string digits;
    for (const std::uint8_t byte : bytes)
        for (const int half : {byte >> 4, byte & 15})
            digits += "0123456789abcdef"[half];
    return digits;
}

const Bytes *current = nullptr; // for the message when the target ends the program

void say_current() {
    if (current != nullptr)
        std::fprintf(stderr, "the input, in hexadecimal: %s\n", hex(*current).c_str());
}

extern "C" void say_current_and_exit(int) {
    say_current();
    std::_Exit(1);
}

} // namespace

int main(int argc, char **argv) {
    if (argc < 2) {
        std::fprintf(stderr, "replay FOLDER [COPIES]\n");
        return 2;
    }
    std::vector<std::filesystem::path> paths;
    std::error_code error;
    for (const auto &entry : std::filesystem::directory_iterator(argv[1], error))
        if (entry.is_regular_file())
            paths.push_back(entry.path());
    std::sort(paths.begin(), paths.end());
    if (paths.empty()) {
        std::fprintf(stderr, "%s holds no inputs\n", argv[1]);
        return 2;
    }
    std::vector<Bytes> inputs{Bytes{}};
    for (const auto &path : paths) {
        std::ifstream file(path, std::ios::binary);
        inputs.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    }
    std::signal(SIGABRT, say_current_and_exit);
    if (__sanitizer_set_death_callback != nullptr)
        __sanitizer_set_death_callback(say_current);
    for (const Bytes &input : inputs) {
        current = &input;
        run(input);
    }
    const long copies = argc > 2 ? std::strtol(argv[2], nullptr, 10) : 2000;
    Random random;
    Bytes copy;
    for (long i = 0; i < copies; ++i) {
        copy = inputs[random.below(inputs.size())];
        for (std::size_t changes = 1 + random.below(6); changes > 0; --changes)
            change(copy, inputs, random);
        current = &copy;
        run(copy);
    }
    std::fprintf(stderr, "%zu inputs and %ld changed copies of them\n", inputs.size(), copies);
    return 0;
}

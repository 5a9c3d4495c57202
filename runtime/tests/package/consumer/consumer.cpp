// The same in C++.
#include <cstdio>
#include <cstring>

#include <isa/isa.hpp>

int main() {
    try {
        const isa::Segmenter segmenter = isa::Segmenter::open("/nowhere/engine");
    } catch (const isa::Error &error) {
        std::printf("libisa %s: %s: %s\n", isa_version(), isa_status_name(error.status()), error.what());
        return error.status() == ISA_ERROR_ENGINE && std::strstr(error.what(), "/nowhere/engine") != nullptr ? 0 : 1;
    }
    return 1;
}

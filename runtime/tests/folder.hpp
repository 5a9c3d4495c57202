// A folder of a test's own.
#pragma once

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

#include <stdlib.h>

/// A new folder where the system keeps what is temporary; gone at the end, with all that is in it.
struct Folder {
    Folder() : path((std::filesystem::temp_directory_path() / "isa-test-XXXXXX").string()) {
        if (mkdtemp(path.data()) == nullptr)
            throw std::runtime_error("cannot make " + path);
    }
    ~Folder() { std::filesystem::remove_all(path); }
    Folder(const Folder &) = delete;
    Folder &operator=(const Folder &) = delete;

    /// Writes a file and gives its path.
    std::string write(const std::string &name, const std::string &bytes) const {
        const std::string file = path + "/" + name;
        std::ofstream(file, std::ios::binary) << bytes;
        return file;
    }

    std::string path;
};

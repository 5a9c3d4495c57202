// Where backends are looked for by a program that the library is part of: beside the program, whatever it was called
// by and wherever it stands.
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.hpp"
#include "error.hpp"
#include "folder.hpp"
#include "loader.hpp"

namespace {

/// Why there is no backend, in the words of a program that is this one, called `name` in another folder.
std::string refusal_of_program(const char *name, const std::string &folder) {
    int ends[2];
    if (pipe(ends) != 0)
        throw std::runtime_error("cannot make a pipe");
    const pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        if (chdir(folder.c_str()) == 0 && unsetenv("ISA_BACKEND_DIR") == 0)
            execl("/proc/self/exe", name, "--refusal", static_cast<char *>(nullptr));
        _exit(127);
    }
    close(ends[1]);
    std::string words;
    char part[512];
    for (ssize_t got = 0; (got = read(ends[0], part, sizeof part)) > 0;)
        words.append(part, static_cast<std::size_t>(got));
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    return words;
}

int tell_refusal() {
    try {
        isa_core::load_backend("openvino", "");
    } catch (const isa_core::Error &error) {
        std::puts(error.what());
        return 0;
    }
    return 1;
}

} // namespace

TEST("backends are looked for beside the program, not in the folder where it stands") {
    const Folder folder;
    folder.write("libisa_openvino.so", "code of somebody else");
    char program[4096];
    const ssize_t length = readlink("/proc/self/exe", program, sizeof program);
    CHECK(length > 0);
    const std::string path(program, static_cast<std::size_t>(length)), home = path.substr(0, path.rfind('/'));
    for (const std::string &name : {std::string("program"), std::string("./program"), folder.path + "/x"}) {
        const std::string words = refusal_of_program(name.c_str(), folder.path.c_str());
        if (words.find("there is no libisa_openvino.so in " + home + ";") == std::string::npos)
            check::failed(__FILE__, __LINE__, "called " + name + ": " + words);
    }
}

int main(int argc, char **argv) {
    if (argc == 2 && std::strcmp(argv[1], "--refusal") == 0)
        return tell_refusal();
    return check::run(argc, argv);
}

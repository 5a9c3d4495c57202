#include "loader.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <mutex>
#include <system_error>
#include <vector>

#include <dlfcn.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif

#include "error.hpp"
#include "file.hpp"

namespace isa_core {

namespace {

/// The folder of this library, or of the program that it is part of; empty where the system does not say.
std::string own_folder() {
    Dl_info info{};
    if (dladdr(reinterpret_cast<const void *>(&load_backend), &info) == 0 || info.dli_fname == nullptr)
        return {};
    std::string path = info.dli_fname;
#if defined(__linux__)
    // dladdr names the program by what it was called with, which need not be where it lies
    Dl_info program{};
    if (dladdr(reinterpret_cast<const void *>(getauxval(AT_PHDR)), &program) != 0 &&
        program.dli_fbase == info.dli_fbase) {
        std::error_code error;
        path = std::filesystem::read_symlink("/proc/self/exe", error).string();
    }
#endif
    const std::size_t slash = path.rfind('/');
    // never the folder where the program stands: somebody else may have put a library there
    return slash == std::string::npos ? std::string() : path.substr(0, slash);
}

/// An environment variable; null in a program that runs with more rights than its user, who would choose its code.
const char *environment(const char *name) {
#if defined(__linux__)
    return secure_getenv(name);
#else
    return std::getenv(name);
#endif
}

bool is_name(const std::string &name) {
    return !name.empty() && name.size() <= 32 && std::all_of(name.begin(), name.end(), [](char letter) {
        return (letter >= 'a' && letter <= 'z') || (letter >= '0' && letter <= '9') || letter == '_';
    });
}

std::string advice(const std::string &name) {
    if (name == "openvino")
        return "install OpenVINO and build the runtime with it (-DOpenVINO_DIR)";
    if (name == "tensorrt")
        return "install TensorRT and CUDA and build the runtime with them (-DTENSORRT_INCLUDE_DIR, -DTENSORRT_LIB_DIR)";
    if (name == "onnxruntime")
        return "install ONNX Runtime and build the runtime with it (-DONNXRUNTIME_INCLUDE_DIR, -DONNXRUNTIME_LIBRARY)";
    return "build it, or name another backend";
}

[[noreturn]] void unavailable(const std::string &message) {
    throw Error(ISA_ERROR_BACKEND_UNAVAILABLE, message);
}

const isa_backend_api &load(const std::string &name, const std::string &folder) {
    if (folder.empty())
        unavailable(text("backend ", name, ": the folder of its library cannot be found; set ISA_BACKEND_DIR"));
    const std::string path = folder + "/libisa_" + name + ".so";
    const bool here = path_kind(path) == PathKind::file;
    if (!here && name != "tensorrt" && name != "openvino" && name != "onnxruntime")
        fail_input("backend '", name, "' is none of: auto, tensorrt, openvino, onnxruntime");
    if (!here)
        unavailable(text("backend ", name, ": there is no libisa_", name, ".so in ", folder, "; ", advice(name),
                         ", or say where it is (backend_dir, ISA_BACKEND_DIR)"));
    // RTLD_LOCAL: engines bring libraries of their own (protobuf, TBB) that are nobody else's business
    void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        const char *reason = dlerror();
        unavailable(text("backend ", name, ": ", reason != nullptr ? reason : path,
                         "; install that library, or add its folder to LD_LIBRARY_PATH"));
    }
    // it stays loaded: an engine's library has threads and at-exit handlers that cannot be taken back
    void *const symbol = dlsym(library, ISA_BACKEND_SYMBOL);
    if (symbol == nullptr)
        unavailable(text(path, ": is no backend of isa-deploy (it has no ", ISA_BACKEND_SYMBOL, "); install it again"));
    const isa_backend_api *const api = reinterpret_cast<isa_backend_function>(symbol)();
    if (api == nullptr)
        unavailable(text(path, ": its engine's library cannot be used; ", advice(name)));
    if (api->abi != ISA_BACKEND_ABI)
        unavailable(text(path, ": speaks version ", api->abi, " of the backends' interface and this library version ",
                         ISA_BACKEND_ABI, "; install both from one release"));
    return *api;
}

} // namespace

const isa_backend_api &load_backend(const std::string &name, const std::string &folder) {
    if (!is_name(name))
        fail_input("backend '", name.substr(0, 40), "' is none of: auto, tensorrt, openvino, onnxruntime");
    const char *const named = environment("ISA_BACKEND_DIR");
    const std::string from = !folder.empty()                        ? folder
                             : named != nullptr && named[0] != '\0' ? std::string(named)
                                                                    : own_folder();
    static std::mutex mutex;
    static std::map<std::string, const isa_backend_api *> loaded;
    const std::lock_guard<std::mutex> lock(mutex);
    const isa_backend_api *&known = loaded[from + "/" + name];
    if (known == nullptr)
        known = &load(name, from);
    return *known;
}

} // namespace isa_core

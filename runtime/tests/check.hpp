// A test is a function with a sentence for a name; a failed check says what it saw and the test goes on.
#pragma once

#include <cstdio>
#include <cstring>
#include <exception>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

namespace check {

struct Test {
    const char *name;
    std::function<void()> body;
};

inline std::vector<Test> &tests() {
    static std::vector<Test> all;
    return all;
}

inline int &failures() {
    static int count = 0;
    return count;
}

inline bool add(const char *name, std::function<void()> body) {
    tests().push_back({name, std::move(body)});
    return true;
}

inline void failed(const char *file, int line, const std::string &what) {
    ++failures();
    std::fprintf(stderr, "    %s:%d: %s\n", file, line, what.c_str());
}

template <typename A, typename B> void equal(const char *file, int line, const char *words, const A &a, const B &b) {
    if (!(a == b)) {
        std::ostringstream out;
        out << words << ": " << a << " is not " << b;
        failed(file, line, out.str());
    }
}

/// Runs all tests, or those whose name contains argv[1], or with "-WORDS" those whose name does not; the exit status.
inline int run(int argc, char **argv) {
    int ran = 0;
    for (const Test &test : tests()) {
        const bool others = argc > 1 && argv[1][0] == '-';
        if (argc > 1 && (std::strstr(test.name, argv[1] + (others ? 1 : 0)) != nullptr) == others)
            continue;
        const int before = failures();
        try {
            test.body();
        } catch (const std::exception &error) {
            failed(test.name, 0, error.what());
        }
        std::fprintf(stderr, "%s  %s\n", failures() == before ? "ok    " : "FAILED", test.name);
        ++ran;
    }
    std::fprintf(stderr, "%d tests, %d checks failed\n", ran, failures());
    return failures() == 0 && ran > 0 ? 0 : 1;
}

} // namespace check

#define CHECK_JOIN_(a, b) a##b
#define CHECK_JOIN(a, b) CHECK_JOIN_(a, b)
#define TEST(name)                                                                                  \
    static void CHECK_JOIN(test_, __LINE__)();                                                      \
    static const bool CHECK_JOIN(added_, __LINE__) = check::add(name, CHECK_JOIN(test_, __LINE__)); \
    static void CHECK_JOIN(test_, __LINE__)()
#define CHECK(condition)                                   \
    do {                                                   \
        if (!(condition))                                  \
            check::failed(__FILE__, __LINE__, #condition); \
    } while (false)
#define CHECK_EQUAL(a, b) check::equal(__FILE__, __LINE__, #a " == " #b, (a), (b))
/// Checks that an expression throws isa_core::Error of a status, whose message contains `words`.
#define CHECK_FAILS(expression, wanted, words)                                                                      \
    do {                                                                                                            \
        try {                                                                                                       \
            (void)(expression);                                                                                     \
            check::failed(__FILE__, __LINE__, #expression " did not fail");                                         \
        } catch (const isa_core::Error &error) {                                                                    \
            CHECK_EQUAL(error.status(), static_cast<isa_status>(wanted));                                           \
            if (std::string(error.what()).find(words) == std::string::npos)                                         \
                check::failed(__FILE__, __LINE__, std::string("message lacks '") + (words) + "': " + error.what()); \
        }                                                                                                           \
    } while (false)

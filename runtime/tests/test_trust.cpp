// Files that nobody vouches for: every one is read, or refused with a status and one line of text.
#include <climits>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <pthread.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "check.hpp"
#include "error.hpp"
#include "file.hpp"
#include "json_tree.hpp"
#include "manifest.hpp"
#include "onnx_metadata.hpp"
#include "plan_command.hpp"
#include "sha256.hpp"
#include "tiling.hpp"

using isa_core::Manifest;
using isa_core::parse_manifest;
using isa_core::parse_onnx_manifest;
using Json = nlohmann::ordered_json;

namespace {

/// A folder that goes when the test ends.
class Folder {
public:
    Folder() {
        std::string name = (std::filesystem::temp_directory_path() / "isa_trust_XXXXXX").string();
        if (::mkdtemp(name.data()) == nullptr)
            throw std::runtime_error("no folder for the test's files");
        path_ = name;
    }
    ~Folder() { std::filesystem::remove_all(path_); }
    Folder(const Folder &) = delete;
    Folder &operator=(const Folder &) = delete;

    std::string path(const char *name) const { return (path_ / name).string(); }
    std::string file(const char *name, std::string_view content) const {
        std::ofstream(path(name), std::ios::binary) << content;
        return path(name);
    }
    std::string sparse_file(const char *name, std::uintmax_t size) const {
        file(name, "");
        std::filesystem::resize_file(path(name), size);
        return path(name);
    }
    std::string pipe(const char *name) const {
        if (::mkfifo(path(name).c_str(), 0600) != 0)
            throw std::runtime_error("no pipe for the test");
        return path(name);
    }

private:
    std::filesystem::path path_;
};

std::string content_of(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    if (!file)
        throw std::runtime_error("cannot read " + path);
    return {std::istreambuf_iterator<char>(file), {}};
}

std::string case_file(const std::string &name) {
    return std::string(ISA_TEST_CASES) + "/manifests/" + name;
}

std::string times(std::string_view text, std::size_t count) {
    std::string all;
    for (std::size_t i = 0; i < count; ++i)
        all += text;
    return all;
}

std::string with_replaced(std::string text, const std::string &words, const std::string &by) {
    const std::size_t place = text.find(words);
    if (place == std::string::npos)
        throw std::runtime_error("there is no " + words);
    return text.replace(place, words.size(), by);
}

/// The message with which something is refused; empty where it is not.
template <typename Function> std::string refusal(Function function) {
    try {
        function();
        return {};
    } catch (const isa_core::Error &error) {
        return error.what();
    }
}

// The table of tests/cases/manifests, which tests/test_native_manifest.py holds against Python.

constexpr const char *kPlaceholder = "put here as it is";

Json &inside(Json &record, const Json &path, std::size_t depth) {
    Json *place = &record;
    for (std::size_t i = 0; i < depth; ++i) {
        const auto part = path.at(i).get<std::string>();
        place = place->is_array() ? &place->at(std::stoul(part)) : &place->at(part);
    }
    return *place;
}

std::string from_hex(const std::string &digits) {
    std::string bytes;
    for (std::size_t i = 0; i + 1 < digits.size(); i += 2)
        bytes += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
    return bytes;
}

Json edited_value(const Json &edit) {
    if (edit.contains("raw") || edit.contains("hex"))
        return kPlaceholder;
    if (edit.contains("text"))
        return times(edit.at("text").get<std::string>(), edit.at("times").get<std::size_t>());
    if (edit.contains("item"))
        return std::vector<Json>(edit.at("times").get<std::size_t>(), edit.at("item"));
    return edit.at("value");
}

std::string manifest_text(const Json &one) {
    if (one.contains("text"))
        return one.at("text");
    Json record = Json::parse(content_of(case_file(one.at("base").get<std::string>() + ".json")));
    std::string literal, before, after;
    for (const Json &edit : one.value("edits", Json::array())) {
        before += edit.value("before", "");
        after += edit.value("after", "");
        if (!edit.contains("set") && !edit.contains("drop"))
            continue;
        const Json &path = edit.at(edit.contains("set") ? "set" : "drop");
        Json &parent = inside(record, path, path.size() - 1);
        const auto last = path.back().get<std::string>();
        if (edit.contains("drop"))
            parent.erase(last);
        else
            (parent.is_array() ? parent.at(std::stoul(last)) : parent[last]) = edited_value(edit);
        literal = edit.contains("raw") ? edit.at("raw").get<std::string>() : from_hex(edit.value("hex", ""));
    }
    std::string text = record.dump();
    if (!literal.empty())
        text = with_replaced(text, "\"" + std::string(kPlaceholder) + "\"", literal);
    return before + text + after;
}

// ONNX files by hand.

std::string varint(std::uint64_t value) {
    std::string bytes;
    for (; value >= 0x80; value >>= 7U)
        bytes += static_cast<char>(value | 0x80U);
    return bytes + static_cast<char>(value);
}

std::string tag(unsigned field, unsigned wire) {
    return varint(field << 3U | wire);
}

std::string field(unsigned number, const std::string &content) {
    return tag(number, 2) + varint(content.size()) + content;
}

std::string metadata(const std::string &key, const std::string &value) {
    return field(14, field(1, key) + field(2, value));
}

const std::string &manifest_json() {
    static const std::string text = Json::parse(content_of(case_file("whole.json"))).dump();
    return text;
}

const std::string &graph() {
    static const std::string bytes = field(7, "what would be nodes and weights");
    return bytes;
}

std::string onnx_file() {
    return tag(1, 0) + varint(8) + field(2, "a producer") + graph() + metadata("author", "somebody") +
           metadata("isa_deploy", manifest_json()) + field(8, "opset");
}

Manifest parse_onnx(const std::string &bytes) {
    // memory of exactly this size, so that a byte too many is seen
    const std::vector<char> exact(bytes.begin(), bytes.end());
    return parse_onnx_manifest(exact.data(), exact.size(), "m.onnx");
}

std::string on_a_small_stack(void (*body)()) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, std::size_t{256} << 10U);
    struct Call {
        void (*body)();
        std::string message;
    } call{body, {}};
    pthread_t thread{};
    const auto run = [](void *argument) -> void * {
        auto *its = static_cast<Call *>(argument);
        its->message = refusal(its->body);
        return nullptr;
    };
    if (pthread_create(&thread, &attributes, run, &call) != 0)
        throw std::runtime_error("no thread");
    pthread_join(thread, nullptr);
    pthread_attr_destroy(&attributes);
    return call.message;
}

bool contains(const std::string &text, const std::string &words) {
    return text.find(words) != std::string::npos;
}

} // namespace

TEST("what Python accepts is accepted, and what it refuses is refused with the same field") {
    const Json table = Json::parse(content_of(case_file("index.json")));
    CHECK(table.at("cases").size() > 100);
    for (const Json &one : table.at("cases")) {
        const auto says = one.at("says").get<std::string>();
        try {
            const Manifest manifest = parse_manifest(manifest_text(one), "m.json");
            if (!one.at("accepted").get<bool>())
                check::failed(__FILE__, __LINE__, says + ": was accepted");
            if (one.contains("equals_base")) {
                const std::string base = content_of(case_file(one.at("base").get<std::string>() + ".json"));
                if ((parse_manifest(base, "base").canonical == manifest.canonical) != one.at("equals_base").get<bool>())
                    check::failed(__FILE__, __LINE__, says + ": " + manifest.canonical);
            }
        } catch (const isa_core::Error &error) {
            const std::string message = error.what();
            if (one.at("accepted").get<bool>() || error.status() != ISA_ERROR_MANIFEST ||
                !contains(message, one.value("names", "m.json: ")) || message.rfind("m.json: ", 0) != 0 ||
                contains(message, "\n"))
                check::failed(__FILE__, __LINE__, says + ": " + message);
        }
    }
}

TEST("a manifest's fields are where they belong") {
    const Manifest whole = isa_core::read_manifest(case_file("whole.json"));
    CHECK_EQUAL(whole.architecture, "ISANet R50-D8");
    CHECK_EQUAL(whole.precision, "fp32");
    CHECK_EQUAL(whole.source_sha256, times("0123456789abcdef", 4));
    CHECK_EQUAL(whole.input.name, "image");
    CHECK(!whole.input.rgb && !whole.input.batch && !whole.input.frame);
    CHECK_EQUAL(whole.input.mean[0], 103.53);
    CHECK_EQUAL(whole.input.mean[2], 123.675);
    CHECK_EQUAL(whole.input.std[1], 57.12);
    CHECK(whole.input.resize && whole.input.resize->keep_ratio);
    CHECK(whole.input.resize->box == (isa_core::Size{1024, 2048}));
    CHECK(!whole.inference.slide && !whole.inference.crop && !whole.inference.stride);
    CHECK(!whole.inference.align_corners && !whole.inference.windows_in_graph && !whole.cuts_windows());
    CHECK(whole.classes.names == (std::vector<std::string>{"road", "sky"}));
    CHECK(whole.classes.palette_rgb == (std::vector<std::uint8_t>{128, 64, 128, 70, 130, 180}));
    CHECK_EQUAL(whole.outputs.labels, "labels");
    CHECK_EQUAL(whole.outputs.logits, "logits");
    CHECK_EQUAL(whole.outputs.logits_stride, 8);
    CHECK(!whole.outputs.confidence && !whole.engine);

    const Manifest slide = isa_core::read_manifest(case_file("slide.json"));
    CHECK(slide.input.rgb && slide.input.frame == (isa_core::Size{512, 1024}) && !slide.input.resize);
    CHECK(slide.inference.slide && slide.inference.align_corners && slide.inference.windows_in_graph);
    CHECK(slide.inference.crop == (isa_core::Size{512, 768}) && slide.inference.stride == (isa_core::Size{341, 512}));
    CHECK_EQUAL(slide.outputs.confidence.value(), "confidence");
    CHECK_EQUAL(slide.engine.value().builder, "tensorrt");
    CHECK_EQUAL(slide.engine->builder_version, "10.16.1.11");
    CHECK_EQUAL(slide.engine->compute_capability.value(), "8.9");
    CHECK_EQUAL(slide.engine->onnx_sha256, times("1", 64));
    CHECK_EQUAL(slide.engine->plan_sha256, times("a", 64));
    CHECK(!slide.engine->hardware_compatible && !slide.engine->version_compatible);
    const Manifest flags =
        parse_manifest(with_replaced(content_of(case_file("slide.json")), "\"hardware_compatible\": false",
                                     "\"hardware_compatible\": true"),
                       "m.json");
    CHECK(flags.engine->hardware_compatible && !flags.engine->version_compatible);
}

TEST("how a graph was quantised is told, and what its types are") {
    const Manifest int8 = isa_core::read_manifest(case_file("int8.json"));
    CHECK_EQUAL(int8.precision, "int8");
    CHECK_EQUAL(int8.quantisation.value().rest, "fp32");
    CHECK_EQUAL(int8.quantisation->ranges, "percentile 99.99");
    CHECK_EQUAL(int8.quantisation->frames, 128);
    CHECK_EQUAL(int8.quantisation->layers, 52);
    CHECK(int8.quantisation->kept == (std::vector<std::string>{"backbone/stem/0", "head/global_relation/MatMul"}));
    CHECK_EQUAL(int8.float_type(), "fp32");
    CHECK_EQUAL(int8.types(), "int8 (rest fp32)");

    const Manifest half = isa_core::read_manifest(case_file("slide.json"));
    CHECK(!half.quantisation);
    CHECK_EQUAL(half.float_type(), "fp16");
    CHECK_EQUAL(half.types(), "fp16");
}

TEST("a megabyte of open brackets or records is refused on a small stack") {
    CHECK(contains(on_a_small_stack([] { parse_manifest(std::string(1 << 20, '['), "m.json"); }), "nested more than"));
    CHECK(contains(on_a_small_stack([] { parse_manifest(times("{\"a\":", (1 << 20) / 5), "m.json"); }),
                   "nested more than"));
    CHECK(contains(on_a_small_stack([] { parse_manifest(times("[{\"a\":", (1 << 20) / 6), "m.json"); }),
                   "nested more than"));
    CHECK(contains(on_a_small_stack([] {
                       const std::string half(1 << 19, '[');
                       parse_manifest(half + std::string(1 << 19, ']'), "m.json");
                   }),
                   "nested more than"));
}

TEST("nesting is refused from the 65th level on and not before") {
    const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
    CHECK_FAILS(parse_manifest(nested(64), "m.json"), ISA_ERROR_MANIFEST, "is not a JSON object");
    CHECK_FAILS(parse_manifest(nested(65), "m.json"), ISA_ERROR_MANIFEST, "nested more than 64 deep");
}

TEST("a megabyte of numbers, of names or of one name is refused") {
    CHECK_FAILS(parse_manifest("[0" + times(",0", 520000) + "]", "m.json"), ISA_ERROR_MANIFEST,
                "more than 65536 values");
    CHECK_FAILS(parse_manifest("{\"a\":0" + times(",\"a\":0", 150000) + "}", "m.json"), ISA_ERROR_MANIFEST,
                "more than 65536 values");
    const std::string key(1 << 19, 'x');
    CHECK_FAILS(parse_manifest(with_replaced(manifest_json(), "{", "{\"" + key + "\": 1, "), "m.json"),
                ISA_ERROR_MANIFEST, "Extra inputs are not permitted");
    CHECK_FAILS(parse_manifest(with_replaced(manifest_json(), "103.53", std::string(1 << 19, '9')), "m.json"),
                ISA_ERROR_MANIFEST, "a number that is too large");
    std::string layers = "{";
    for (int i = 0; i < 30000; ++i)
        layers += "\"a\":1,";
    layers += "\"b\":-1}";
    CHECK_FAILS(parse_manifest(with_replaced(content_of(case_file("slide.json")), "\"Float\": 12",
                                             "\"c\": 1}, \"layer_precisions\": " + layers.substr(0, layers.size() - 1)),
                               "m.json"),
                ISA_ERROR_MANIFEST, "layer_precisions.b");
}

TEST("a manifest of a megabyte is read, and one of a byte more is not") {
    const std::string padded = manifest_json() + std::string(isa_core::kMaxManifestBytes - manifest_json().size(), ' ');
    CHECK_EQUAL(parse_manifest(padded, "m.json").classes.names.size(), std::size_t{2});
    CHECK_FAILS(parse_manifest(padded + " ", "m.json"), ISA_ERROR_MANIFEST,
                "the manifest has 1048577 bytes, more than 1048576");
    const Folder folder;
    CHECK_EQUAL(isa_core::read_manifest(folder.file("m.json", padded)).precision, "fp32");
    CHECK_FAILS(isa_core::read_manifest(folder.sparse_file("large.json", std::uintmax_t{1} << 40U)), ISA_ERROR_MANIFEST,
                "the manifest has 1048577 bytes");
}

TEST("every prefix of a manifest is refused") {
    for (const char *name : {"whole.json", "slide.json", "int8.json"}) {
        const std::string text = Json::parse(content_of(case_file(name))).dump();
        for (std::size_t length = 0; length < text.size(); ++length) {
            const std::vector<char> exact(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(length));
            const std::string message =
                refusal([&exact] { parse_manifest(std::string_view(exact.data(), exact.size()), "m.json"); });
            if (!contains(message, "is not JSON"))
                check::failed(__FILE__, __LINE__, std::to_string(length) + " bytes: " + message);
        }
    }
}

TEST("a message quotes a file's words in one line of whole characters") {
    const std::string message = refusal([] {
        const std::string key = "a\\n\\u001b\\u0000\\u007f" + times("\xC3\xA9", 500);
        parse_manifest(with_replaced(manifest_json(), "{", "{\"" + key + "\": 1, "), "m.json");
    });
    CHECK(message.rfind("m.json: manifest field a????\xC3\xA9", 0) == 0);
    CHECK(message.size() < 300);
    CHECK(contains(message, "\xC3\xA9...: Extra inputs are not permitted"));
    CHECK_EQUAL(isa_core::quotable(std::string(79, 'x') + "\xC3\xA9"), std::string(79, 'x') + "...");
    CHECK_EQUAL(isa_core::quotable(std::string(80, 'x')), std::string(80, 'x'));
}

TEST("where JSON is wrong is said by line and column") {
    CHECK_FAILS(parse_manifest("{\n  \"\xC3\xA9\": 1,\n  \"b\" 2}", "m.json"), ISA_ERROR_MANIFEST, "line 3 column 7");
    CHECK_FAILS(parse_manifest("{\"\xC3\xA9\" 1}", "m.json"), ISA_ERROR_MANIFEST, "line 1 column 6");
    CHECK_FAILS(parse_manifest("", "m.json"), ISA_ERROR_MANIFEST, "line 1 column 1)");
}

TEST("what is no manifest file is refused without waiting for it") {
    const Folder folder;
    CHECK_FAILS(isa_core::read_manifest(folder.path("none.json")), ISA_ERROR_MANIFEST,
                "none.json: cannot read the manifest (No such file or directory); export the model again");
    CHECK_FAILS(isa_core::read_manifest(folder.path("")), ISA_ERROR_MANIFEST, "is no file; give a model.json");
    CHECK_FAILS(isa_core::read_manifest(folder.pipe("pipe.json")), ISA_ERROR_MANIFEST, "is no file; give a model.json");
    CHECK_FAILS(isa_core::read_manifest("/dev/zero"), ISA_ERROR_MANIFEST, "is no file; give a model.json");
    CHECK_FAILS(isa_core::read_manifest(folder.file("empty.json", "")), ISA_ERROR_MANIFEST, "is not JSON");
}

TEST("the manifest is found in an ONNX file and in its bytes") {
    const Folder folder;
    const std::string canonical = parse_manifest(manifest_json(), "m.json").canonical;
    CHECK_EQUAL(parse_onnx(onnx_file()).canonical, canonical);
    CHECK_EQUAL(isa_core::read_onnx_manifest(folder.file("m.onnx", onnx_file())).canonical, canonical);
    CHECK_EQUAL(parse_onnx(metadata("isa_deploy", manifest_json()) + graph()).canonical, canonical);
    const std::string reversed = field(14, field(2, manifest_json()) + field(1, "isa_deploy"));
    CHECK_EQUAL(parse_onnx(graph() + reversed).canonical, canonical);
    const std::string fixed = tag(3, 1) + times("x", 8) + tag(4, 5) + times("x", 4);
    CHECK_EQUAL(parse_onnx(fixed + onnx_file()).canonical, canonical);
}

TEST("every truncation of an ONNX file is told, in a file as in memory") {
    const Folder folder;
    const std::string whole = onnx_file();
    const std::size_t complete = whole.size() - field(8, "opset").size(); // from there on the manifest is read
    for (std::size_t length = 0; length < complete; ++length) {
        const std::string cut = whole.substr(0, length);
        const std::string message = refusal([&cut] { parse_onnx(cut); });
        if (message.empty())
            check::failed(__FILE__, __LINE__, "read from " + std::to_string(length) + " bytes");
        const std::string path = folder.file("m.onnx", cut);
        const std::string from_file = refusal([&path] { isa_core::read_onnx_manifest(path); });
        CHECK_EQUAL(from_file, path + message.substr(std::string("m.onnx").size()));
    }
    CHECK_FAILS(parse_onnx(""), ISA_ERROR_ENGINE, "m.onnx: the file has 0 bytes; export the model again");
    CHECK_FAILS(parse_onnx(whole.substr(0, 1)), ISA_ERROR_ENGINE, "truncated or not an ONNX file; copy");
    CHECK_FAILS(parse_onnx(whole.substr(0, 2)), ISA_ERROR_ENGINE, "it holds no graph");
    CHECK_FAILS(parse_onnx(whole.substr(0, complete - 1)), ISA_ERROR_ENGINE,
                "truncated or not an ONNX file (field 14 claims");
}

TEST("lengths and numbers that an ONNX file only claims are refused") {
    const std::string most = times("\xFF", 9) + "\x01"; // 2^64 - 1
    CHECK_FAILS(parse_onnx(tag(7, 2) + most), ISA_ERROR_ENGINE,
                "(field 7 claims 18446744073709551615 bytes, 0 are left)");
    CHECK_FAILS(parse_onnx(tag(14, 2) + most + "x"), ISA_ERROR_ENGINE, "(field 14 claims");
    CHECK_FAILS(parse_onnx(tag(14, 2) + times("\xFF", 8) + "\x7F"), ISA_ERROR_ENGINE,
                "claims 9223372036854775807 bytes");
    CHECK_FAILS(parse_onnx(tag(7, 2) + times("\x80", 9) + "\x02"), ISA_ERROR_ENGINE, "(field 7 claims");
    CHECK_FAILS(parse_onnx(times("\xFF", 11)), ISA_ERROR_ENGINE, "a number of over 10 bytes");
    CHECK_FAILS(parse_onnx(tag(1, 3) + "x"), ISA_ERROR_ENGINE, "protobuf wire type 3");
    CHECK_FAILS(parse_onnx(times("\xFF", 9) + "\x7F"), ISA_ERROR_ENGINE, "protobuf wire type 7");
    CHECK_FAILS(parse_onnx(std::string("\x89PNG\r\n\x1A\n")), ISA_ERROR_ENGINE, "not an ONNX file");
    CHECK_FAILS(parse_onnx(tag(3, 1) + "cut"), ISA_ERROR_ENGINE, "it holds no graph");
    // an entry's own lengths: it is none, and the walk goes on
    const std::string carries_none = "carries no isa-deploy manifest; export it with isa-export";
    for (const std::string &entry :
         {tag(1, 2) + most, tag(1, 2) + varint(11) + "isa_deploy", tag(1, 0) + varint(1),
          field(1, "isa_deploy") + tag(2, 2), field(1, "isa_deplo"), std::string("\x0A"), tag(1, 2) + times("\xFF", 20),
          field(2, manifest_json()) + tag(1, 2) + most + "isa_deploy"})
        CHECK_FAILS(parse_onnx(graph() + field(14, entry)), ISA_ERROR_MANIFEST,
                    entry == field(1, "isa_deploy") + tag(2, 2) ? std::string("is not JSON") : carries_none);
    CHECK_FAILS(parse_onnx(graph() + metadata("isa_deploy", "")), ISA_ERROR_MANIFEST, "is not JSON");
    CHECK_FAILS(parse_onnx(graph() + metadata("isa_deploy", "[]")), ISA_ERROR_MANIFEST, "is not a JSON object");
    CHECK_FAILS(parse_onnx(graph() + metadata("isa_deploy", manifest_json() + times(" ", 1 << 20))), ISA_ERROR_MANIFEST,
                carries_none);
    CHECK_FAILS(parse_onnx(graph() + times(field(15, ""), 10000) + metadata("isa_deploy", manifest_json())),
                ISA_ERROR_MANIFEST, carries_none);
    CHECK_FAILS(parse_onnx(metadata("author", "somebody")), ISA_ERROR_ENGINE, "it holds no graph");
}

TEST("an ONNX file's weights are not read") {
    const Folder folder;
    const std::uint64_t weights = std::uint64_t{1} << 37U; // 128 GiB would take minutes
    const std::string head = tag(7, 2) + varint(weights);
    const std::string path = folder.sparse_file("m.onnx", head.size() + weights);
    {
        std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
        file << head;
        file.seekp(0, std::ios::end);
        file << metadata("isa_deploy", manifest_json());
    }
    CHECK_EQUAL(isa_core::read_onnx_manifest(path).architecture, "ISANet R50-D8");
}

TEST("what is no ONNX file is refused without waiting for it") {
    const Folder folder;
    CHECK_FAILS(isa_core::read_onnx_manifest(folder.path("none.onnx")), ISA_ERROR_ENGINE,
                "none.onnx: cannot read the file (No such file or directory); check the path");
    CHECK_FAILS(isa_core::read_onnx_manifest(folder.path("")), ISA_ERROR_ENGINE, "is no file; give a model.onnx");
    CHECK_FAILS(isa_core::read_onnx_manifest(folder.pipe("pipe.onnx")), ISA_ERROR_ENGINE,
                "is no file; give a model.onnx");
    CHECK_FAILS(isa_core::read_onnx_manifest("/dev/zero"), ISA_ERROR_ENGINE, "is no file; give a model.onnx");
    CHECK_FAILS(isa_core::read_onnx_manifest(folder.file("empty.onnx", "")), ISA_ERROR_ENGINE, "the file has 0 bytes");
}

TEST("a path is a file, a folder, something else or nothing") {
    const Folder folder;
    const auto kind = [](const std::string &path) { return static_cast<int>(isa_core::path_kind(path)); };
    using isa_core::PathKind;
    CHECK_EQUAL(kind(folder.file("a", "")), static_cast<int>(PathKind::file));
    CHECK_EQUAL(kind(folder.path("")), static_cast<int>(PathKind::folder));
    CHECK_EQUAL(kind(folder.pipe("p")), static_cast<int>(PathKind::other));
    CHECK_EQUAL(kind("/dev/null"), static_cast<int>(PathKind::other));
    CHECK_EQUAL(kind(folder.path("none")), static_cast<int>(PathKind::missing));
    CHECK_EQUAL(kind(folder.path("a/b")), static_cast<int>(PathKind::missing));
    CHECK_EQUAL(kind(""), static_cast<int>(PathKind::missing));
    CHECK_EQUAL(kind(std::string(100000, 'x')), static_cast<int>(PathKind::missing));
}

TEST("a plan is read whole, and one that is empty, too large or no file is refused before memory is taken") {
    const Folder folder;
    const std::vector<std::uint8_t> plan = isa_core::read_plan_bytes(folder.file("m.plan", std::string("a\0b", 3)));
    CHECK(plan == (std::vector<std::uint8_t>{'a', 0, 'b'}));
    CHECK_FAILS(isa_core::read_plan_bytes(folder.file("empty.plan", "")), ISA_ERROR_ENGINE,
                "the plan has 0 bytes; build it again: isa-export GRAPH --plan");
    CHECK_FAILS(isa_core::read_plan_bytes(folder.sparse_file("large.plan", (std::uintmax_t{4} << 30U) + 1)),
                ISA_ERROR_ENGINE, "the plan has 4 GiB, more than 4; it is none of ours");
    CHECK_FAILS(isa_core::read_plan_bytes(folder.path("none.plan")), ISA_ERROR_ENGINE,
                "cannot read the plan (No such file or directory); check the path");
    CHECK_FAILS(isa_core::read_plan_bytes(folder.path("")), ISA_ERROR_ENGINE, "cannot read the plan (Is a directory)");
    CHECK_FAILS(isa_core::read_plan_bytes(folder.pipe("pipe.plan")), ISA_ERROR_ENGINE,
                "cannot read the plan (Is no file)");
}

TEST("a plan's command names the graph beside it as a shell reads it") {
    const Folder folder;
    CHECK_EQUAL(isa_core::plan_command(folder.path("m.plan")), "isa-export GRAPH --plan");
    const std::string graph_file = folder.file("m.onnx", "x");
    CHECK_EQUAL(isa_core::plan_command(folder.path("m.plan")), "isa-export " + graph_file + " --plan");
    const std::string odd = folder.file("it's $(one).onnx", "x");
    CHECK_EQUAL(isa_core::plan_command(folder.path("it's $(one).plan")),
                "isa-export '" + with_replaced(odd, "'", "'\"'\"'") + "' --plan");
}

TEST("SHA-256 gives the digests of FIPS 180-4's examples") {
    const auto digest = [](const std::string &text) { return isa_core::sha256(text.data(), text.size()); };
    CHECK_EQUAL(isa_core::sha256(nullptr, 0), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK_EQUAL(digest("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK_EQUAL(digest("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    CHECK_EQUAL(digest("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmno"
                       "ijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu"),
                "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
    CHECK_EQUAL(digest(std::string(1000000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST("SHA-256 is the same in any pieces, of memory and of a file") {
    std::string text;
    for (int i = 0; i < 600000; ++i)
        text += static_cast<char>(i * 7 + i / 251);
    std::set<std::string> digests;
    for (std::size_t length = 0; length <= 200; ++length) {
        const std::string whole = isa_core::sha256(text.data(), length);
        digests.insert(whole);
        for (std::size_t first = 0; first <= length; ++first) {
            isa_core::Sha256 pieces;
            pieces.update(text.data(), first);
            pieces.update(text.data() + first, length - first);
            if (pieces.finish() != whole)
                check::failed(__FILE__, __LINE__, std::to_string(first) + " of " + std::to_string(length));
        }
    }
    CHECK_EQUAL(digests.size(), std::size_t{201});
    // all digests of 0 to 200 bytes, as Python's hashlib makes them
    std::string all;
    for (std::size_t length = 0; length <= 200; ++length)
        all += isa_core::sha256(text.data(), length);
    CHECK_EQUAL(isa_core::sha256(all.data(), all.size()),
                "020088e9c26b95faf20594b4a5301fc5493cad4e2e0e002a0233825ae81dbd5f");
    const Folder folder;
    for (const std::size_t size : {std::size_t{0}, std::size_t{262144}, std::size_t{262145}, text.size()})
        CHECK_EQUAL(isa_core::file_sha256(folder.file("f", text.substr(0, size))), isa_core::sha256(text.data(), size));
    CHECK_FAILS(isa_core::file_sha256(folder.path("none")), ISA_ERROR_ENGINE,
                "cannot read the file (No such file or directory); check the path");
    CHECK_FAILS(isa_core::file_sha256(folder.path("")), ISA_ERROR_ENGINE, "cannot read the file (Is a directory)");
    CHECK_FAILS(isa_core::file_sha256(folder.pipe("pipe")), ISA_ERROR_ENGINE, "cannot read the file (Is no file)");
}

TEST("sizes at the ends of int are cut into windows or refused") {
    using isa_core::cut_axis;
    using isa_core::CutMode;
    using isa_core::slide_spans;
    const std::vector<int> ends = {INT_MIN, INT_MIN + 1, -1, 0, 1, 2, 65536, INT_MAX - 1, INT_MAX};
    for (const int length : ends)
        for (const int window : ends)
            for (const int step : ends) {
                try {
                    const auto spans = slide_spans(length, window, step);
                    CHECK(!spans.empty() && spans.front().start == 0 && spans.back().stop == length);
                } catch (const isa_core::Error &error) {
                    CHECK_EQUAL(error.status(), isa_status{ISA_ERROR_INPUT});
                }
                for (const CutMode mode : {CutMode::slide, CutMode::tiles, CutMode::blend}) {
                    try {
                        const auto cut = cut_axis(length, window, step, mode);
                        CHECK(cut.blocks.front().start == 0 && cut.length() == length);
                    } catch (const isa_core::Error &error) {
                        CHECK_EQUAL(error.status(), isa_status{ISA_ERROR_INPUT});
                    }
                }
            }
}

int main(int argc, char **argv) {
    return check::run(argc, argv);
}

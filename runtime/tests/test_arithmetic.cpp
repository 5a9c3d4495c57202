// Windows, maps and labels: against the table that Python is held to as well (cases/windows.json), and plain sums.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <new>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "assemble.hpp"
#include "assemble_plan.hpp"
#include "check.hpp"
#include "cpu.hpp"
#include "error.hpp"
#include "geometry.hpp"
#include "resample.hpp"
#include "tiling.hpp"

#ifndef ISA_TEST_CASES
#define ISA_TEST_CASES "runtime/tests/cases"
#endif

static std::atomic<long> allocations{0};

void *operator new(std::size_t size) {
    ++allocations;
    if (void *memory = std::malloc(size > 0 ? size : 1))
        return memory;
    throw std::bad_alloc();
}
void *operator new(std::size_t size, const std::nothrow_t &) noexcept {
    ++allocations;
    return std::malloc(size > 0 ? size : 1);
}
void operator delete(void *memory) noexcept {
    std::free(memory);
}
void operator delete(void *memory, const std::nothrow_t &) noexcept {
    std::free(memory);
}
void operator delete(void *memory, std::size_t) noexcept {
    std::free(memory);
}

namespace isa_core {

static std::ostream &operator<<(std::ostream &out, Span span) {
    return out << span.start << "-" << span.stop;
}
static std::ostream &operator<<(std::ostream &out, Size size) {
    return out << size.height << "x" << size.width;
}

} // namespace isa_core

namespace {

using namespace isa_core;
using Json = nlohmann::json;

const Json &table() {
    static const Json read = [] {
        std::ifstream file(std::string(ISA_TEST_CASES) + "/windows.json");
        return Json::parse(file);
    }();
    return read;
}

CutMode mode_of(const std::string &name) {
    return name == "slide" ? CutMode::slide : name == "tiles" ? CutMode::tiles : CutMode::blend;
}

std::vector<std::string> words_of(const Json &text) {
    std::istringstream in(text.get<std::string>());
    std::vector<std::string> words;
    for (std::string word; in >> word;)
        words.push_back(word);
    return words;
}

std::vector<double> doubles_of(const Json &text) {
    std::vector<double> values;
    for (const std::string &word : words_of(text))
        values.push_back(std::strtod(word.c_str(), nullptr));
    return values;
}

std::vector<Span> spans_of(const Json &pairs) {
    std::vector<Span> spans;
    for (const Json &pair : pairs)
        spans.push_back({pair[0], pair[1]});
    return spans;
}

void check_spans(const std::string &what, const std::vector<Span> &made, const std::vector<Span> &wanted) {
    if (!(made == wanted))
        check::failed(__FILE__, __LINE__, what + ": other spans");
}

void check_map(const std::string &what, const AxisMap &made, const Json &wanted) {
    CHECK_EQUAL(what + text(" ", made.inputs, " ", made.outputs, " ", made.taps),
                what + text(" ", wanted["inputs"], " ", wanted["outputs"], " ", wanted["taps"]));
    std::vector<std::int32_t> index;
    for (const std::string &word : words_of(wanted["index"]))
        index.push_back(std::stoi(word));
    if (made.index != index)
        check::failed(__FILE__, __LINE__, what + ": other indices");
    if (made.weight != doubles_of(wanted["weight"]))
        check::failed(__FILE__, __LINE__, what + ": other weights");
}

AxisMap average_of(int length, int crop, int stride, int head, int frame, bool align) {
    const std::vector<Span> spans = slide_spans(length, crop, stride);
    const AxisMap map = average_windows(spans, (spans[0].length() + head - 1) / head, length, align);
    return frame == length ? map : bilinear(length, frame, align).after(map);
}

std::vector<float> random_logits(std::size_t count, unsigned seed, float scale = 4) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, scale);
    std::vector<float> logits(count);
    for (float &logit : logits)
        logit = normal(random);
    return logits;
}

std::size_t place(int a, int b, int length) {
    return static_cast<std::size_t>(a) * static_cast<std::size_t>(length) + static_cast<std::size_t>(b);
}

/// An axis resized by the definition: for every output a sum over all inputs, one after the other.
std::vector<float> resized(const AxisMap &map, const std::vector<float> &in, bool fused) {
    std::vector<float> out;
    for (int i = 0; i < map.outputs; ++i) {
        std::vector<double> weights(static_cast<std::size_t>(map.inputs), 0.0);
        for (int tap = 0; tap < map.taps; ++tap)
            weights[static_cast<std::size_t>(map.index[place(i, tap, map.taps)])] +=
                map.weight[place(i, tap, map.taps)];
        float sum = 0;
        for (std::size_t j = 0; j < weights.size(); ++j) {
            const auto weight = static_cast<float>(weights[j]);
            sum = fused ? std::fma(weight, in[j], sum) : weight * in[j] + sum;
        }
        out.push_back(sum);
    }
    return out;
}

std::vector<float> full_logits_of(const AxisMap &rows, const AxisMap &cols, int classes,
                                  const std::vector<float> &logits_chw, bool fused) {
    std::vector<float> full;
    for (int c = 0; c < classes; ++c) {
        std::vector<std::vector<float>> wide;
        for (int y = 0; y < rows.inputs; ++y) {
            const auto row =
                logits_chw.begin() + static_cast<std::ptrdiff_t>(place(c * rows.inputs + y, 0, cols.inputs));
            wide.push_back(resized(cols, {row, row + cols.inputs}, fused));
        }
        std::vector<std::vector<float>> columns;
        for (int x = 0; x < cols.outputs; ++x) {
            std::vector<float> column;
            for (const std::vector<float> &row : wide)
                column.push_back(row[static_cast<std::size_t>(x)]);
            columns.push_back(resized(rows, column, fused));
        }
        for (int y = 0; y < rows.outputs; ++y)
            for (const std::vector<float> &column : columns)
                full.push_back(column[static_cast<std::size_t>(y)]);
    }
    return full;
}

std::vector<std::uint8_t> winners_of(const std::vector<float> &full_chw, int classes) {
    const std::size_t pixels = full_chw.size() / static_cast<std::size_t>(classes);
    std::vector<std::uint8_t> labels(pixels);
    for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
        std::size_t best = 0;
        for (std::size_t c = 1; c < static_cast<std::size_t>(classes); ++c)
            if (full_chw[c * pixels + pixel] > full_chw[best * pixels + pixel])
                best = c;
        labels[pixel] = static_cast<std::uint8_t>(best);
    }
    return labels;
}

struct NamedKernels {
    const char *name;
    const AssembleKernels &kernels;
    bool fused;
};

std::vector<NamedKernels> all_kernels() {
    std::vector<NamedKernels> all = {{"portable", kAssemblePortable, true}, {"unfused", kAssembleUnfused, false}};
    if (simd() >= Simd::avx2)
        all.push_back({"avx2", assemble_kernels(Simd::avx2), true});
    if (simd() >= Simd::avx512)
        all.push_back({"avx512", assemble_kernels(Simd::avx512), true});
    return all;
}

/// Holds the labels, and the logits they come of, of all kernels against plain sums.
void check_labels(const std::string &what, const AxisMap &rows, const AxisMap &cols, int classes,
                  const std::vector<float> &logits_chw) {
    const OwnedPlan plan(rows, cols, classes);
    for (const bool fused : {true, false}) {
        const std::vector<float> wanted_logits = full_logits_of(rows, cols, classes, logits_chw, fused);
        const std::vector<std::uint8_t> wanted = winners_of(wanted_logits, classes);
        for (const NamedKernels &each : all_kernels()) {
            if (each.fused != fused)
                continue;
            std::vector<float> full(wanted_logits.size());
            each.kernels.full_logits(plan.view(), logits_chw.data(), full.data());
            if (full != wanted_logits)
                check::failed(__FILE__, __LINE__, what + ": other logits with " + each.name);
            std::vector<std::uint8_t> labels(wanted.size(), 255);
            each.kernels.labels(plan.view(), logits_chw.data(), labels.data(), cols.outputs);
            if (labels != wanted)
                check::failed(__FILE__, __LINE__, what + ": other labels with " + each.name);
        }
    }
}

Manifest sliding_manifest() {
    Manifest manifest;
    manifest.inference.slide = true;
    manifest.inference.crop = Size{33, 65};
    manifest.inference.stride = Size{21, 43};
    return manifest;
}

TEST("sliding windows are those of the table") {
    for (const Json &one : table()["slide_spans"])
        check_spans("slide_spans " + one["case"].dump(), slide_spans(one["case"][0], one["case"][1], one["case"][2]),
                    spans_of(one["spans"]));
}

TEST("cut axes are those of the table") {
    for (const Json &one : table()["cut_axis"]) {
        const Json &of = one["case"];
        const AxisCut cut = cut_axis(of[0], of[1], of[2], mode_of(of[3]));
        check_spans("windows " + of.dump(), cut.windows, spans_of(one["windows"]));
        check_spans("blocks " + of.dump(), cut.blocks, spans_of(one["blocks"]));
        std::vector<Span> windows_of;
        for (int block = 0; block < static_cast<int>(cut.blocks.size()); ++block)
            windows_of.push_back(cut.windows_of(block));
        check_spans("windows_of " + of.dump(), windows_of, spans_of(one["windows_of"]));
        CHECK_EQUAL(cut.length(), of[0].get<int>());
    }
}

TEST("windows' weights are those of the table, but for numpy's last bit of a sine") {
    for (const Json &one : table()["weights"]) {
        const Json &of = one["case"];
        const std::vector<double> made = cut_axis(of[0], of[1], of[2], mode_of(of[3])).weights(of[4]);
        const std::vector<double> wanted = doubles_of(one["weights"]);
        CHECK_EQUAL(made.size(), wanted.size());
        const double apart = of[3] == "blend" ? 4 * std::numeric_limits<double>::epsilon() : 0;
        for (std::size_t i = 0; i < std::min(made.size(), wanted.size()); ++i)
            CHECK(std::fabs(made[i] - wanted[i]) <= apart * wanted[i]);
    }
}

TEST("axis maps are those of the table to the last bit") {
    for (const Json &one : table()["bilinear"])
        check_map("bilinear " + one["case"].dump(), bilinear(one["case"][0], one["case"][1], one["case"][2]),
                  one["map"]);
    for (const Json &one : table()["average"]) {
        const Json &of = one["case"];
        check_map("average " + of.dump(), average_of(of[0], of[1], of[2], of[3], of[4], of[5]), one["map"]);
    }
    for (const Json &one : table()["weigh"]) {
        const Json &of = one["case"];
        const AxisCut cut = cut_axis(of[0], of[1], of[2], mode_of(of[3]));
        std::vector<std::vector<double>> weights;
        for (int window = 0; window < static_cast<int>(cut.windows.size()); ++window)
            weights.push_back(cut.weights(window));
        const int head = of[4];
        const AxisMap window = bilinear((cut.window() + head - 1) / head, cut.window(), of[7]);
        check_map("weigh " + of.dump(), weigh_windows(cut.windows, weights, window, {of[5], of[6]}), one["map"]);
    }
}

TEST("frames come to the sizes of the table") {
    for (const Json &one : table()["fit_size"]) {
        const Json &of = one["case"];
        CHECK_EQUAL(fit_size({of[0], of[1]}, {of[2], of[3]}), (Size{one["size"][0], one["size"][1]}));
    }
    for (const Json &one : table()["network_size"]) {
        const Json &of = one["case"];
        ResizeRule rule;
        if (of[1].is_array())
            rule = {ResizeRule::Kind::fixed, {of[1][0], of[1][1]}};
        else
            rule = parse_resize(of[1]);
        std::optional<ResizeSpec> spec;
        if (!of[2].is_null())
            spec = ResizeSpec{{of[2][0], of[2][1]}, of[2][2]};
        CHECK_EQUAL(network_size({of[0][0], of[0][1]}, rule, spec), (Size{one["size"][0], one["size"][1]}));
    }
}

TEST("sizes without pixels, gaps between windows and overlaps of whole windows are errors") {
    CHECK_FAILS(slide_spans(0, 5, 5), ISA_ERROR_INPUT, "length 0, crop 5 and stride 5 must be at least 1");
    CHECK_FAILS(slide_spans(10, 5, 6), ISA_ERROR_INPUT, "a stride of 6 leaves gaps between windows of 5");
    CHECK_FAILS(cut_axis(10, 5, 5, CutMode::tiles), ISA_ERROR_INPUT, "windows of 5 pixels cannot overlap by 5");
    CHECK_FAILS(cut_axis(10, 5, -1, CutMode::tiles), ISA_ERROR_INPUT, "cannot overlap by -1");
    CHECK_FAILS(average_windows({{0, 5}, {6, 11}}, 2, 11, false), ISA_ERROR_INPUT, "pixel 5 lies under no window");
    CHECK_FAILS(weigh_windows({{0, 4}}, {{1, 1, 0, 1}}, bilinear(1, 4, false), {1, 4}), ISA_ERROR_INPUT,
                "pixel 2 lies under no window");
    CHECK_FAILS(weigh_windows({{0, 4}}, {{1, 1, 1}}, bilinear(1, 4, false), {0, 4}), ISA_ERROR_INPUT, "3 weights");
    CHECK_FAILS(weigh_windows({{0, 4}}, {}, bilinear(1, 4, false), {0, 4}), ISA_ERROR_INPUT, "0 lists");
    CHECK_FAILS(bilinear(4, 8, false).after(bilinear(2, 5, false)), ISA_ERROR_INPUT,
                "4 inputs cannot follow one of 5 outputs");
    CHECK_FAILS(bilinear(0, 8, false), ISA_ERROR_INPUT, "at least 1");
    CHECK_FAILS(OwnedPlan(bilinear(2, 4, false), bilinear(2, 4, false), 257), ISA_ERROR_INPUT, "257 classes");
}

TEST("a manifest's windows at every pixel are refused before they are allocated") {
    constexpr int kMost = std::numeric_limits<int>::max();
    CHECK_FAILS(slide_spans(kMost, 1, 1), ISA_ERROR_INPUT, "2147483647 windows of 1 pixels");
    CHECK_EQUAL(slide_spans(kMost, kMost, kMost).size(), std::size_t{1});
    CHECK_EQUAL(slide_spans(kMost, 1 << 30, (1 << 30) - 1).back().stop, kMost);
    CHECK_FAILS(average_windows(slide_spans(65536, 32768, 1), 4096, 65536, false), ISA_ERROR_INPUT,
                "use a longer stride");
    CHECK_FAILS(average_windows(slide_spans(65536, 4096, 1), 1 << 20, 65536, false), ISA_ERROR_INPUT,
                "use a longer stride");
    CHECK_FAILS(bilinear(2, kMost, false), ISA_ERROR_INPUT, "too long");
    CHECK_EQUAL(average_windows(slide_spans(65536, 1024, 128), 128, 65536, false).outputs, 65536);
}

TEST("a rule for the size is test, none or two numbers from 1 to 65536") {
    CHECK(parse_resize("test").kind == ResizeRule::Kind::test);
    CHECK(parse_resize("none").kind == ResizeRule::Kind::none);
    CHECK_EQUAL(parse_resize("512x1024").size, (Size{512, 1024}));
    CHECK_EQUAL(parse_resize("00512X1").size, (Size{512, 1}));
    CHECK_EQUAL(parse_resize("65536x65536").size, (Size{65536, 65536}));
    for (const char *wrong : {"", "x", "512", "512x", "x512", "0x5", "5x0", "65537x1", "1x65537", "-5x5", "+5x5",
                              "5 x5", "5x5x5", "Test", "99999999999999999999x1", "1x000000000000000000000000000000001"})
        CHECK_FAILS(parse_resize(wrong), ISA_ERROR_INPUT,
                    text("resize '", wrong, "' is none of: test, none, HEIGHTxWIDTH such as 512x1024"));
}

TEST("a frame that the network cannot be shown is an error that says what to do") {
    Manifest manifest;
    manifest.input.resize = ResizeSpec{{256, 512}, true};
    CHECK_EQUAL(Geometry(manifest, {}).shown_size({361, 641}), (Size{256, 455}));
    CHECK_FAILS(Geometry(manifest, {}).shown_size({0, 5}), ISA_ERROR_INPUT, "a frame of 0x5 has no pixels");
    const Geometry plain(manifest, parse_resize("none"));
    CHECK_EQUAL(plain.shown_size({8192, 8192}), (Size{8192, 8192}));
    CHECK_FAILS(plain.shown_size({8192, 8193}), ISA_ERROR_INPUT,
                "a frame of 8192x8193 comes to 8192x8193, more than 64 million pixels in one pass; "
                "use a smaller resize");
    CHECK_FAILS(plain.shown_size({2147483647, 2147483647}), ISA_ERROR_INPUT, "64 million");
    CHECK_FAILS(plain.check_window({65536, 65536}), ISA_ERROR_INPUT,
                "a window of 65536x65536 is more than 64 million pixels in one pass; use a smaller one");
    manifest.input.frame = Size{512, 1024};
    CHECK_FAILS(plain.shown_size({10, 20}), ISA_ERROR_INPUT,
                "this engine takes 512x1024 only, and the frame of 10x20 comes to 10x20; use resize 512x1024, "
                "or export without --shape");
    CHECK_FAILS(plain.check_window({10, 20}), ISA_ERROR_INPUT,
                "this engine takes 512x1024 only, not windows of 10x20; use its size, or export without --shape");
    plain.check_window({512, 1024});
}

TEST("sliding windows are cut outside of the graph unless it does so or one window is enough") {
    Manifest manifest = sliding_manifest();
    const Geometry geometry(manifest, parse_resize("none"));
    CHECK(geometry.graph_covers({33, 65}));
    CHECK(!geometry.graph_covers({34, 65}));
    CHECK_EQUAL(geometry.windows({70, 100}).rows.size(), std::size_t{3});
    CHECK_EQUAL(geometry.windows({70, 100}).cols.back(), (Span{35, 100}));
    CHECK_EQUAL(geometry.frame_maps({70, 100}, {70, 200}).rows.inputs, 3 * 5);
    CHECK_EQUAL(geometry.frame_maps({70, 100}, {70, 200}).cols.outputs, 200);
    CHECK_EQUAL(geometry.call_maps({33, 65}).cols.inputs, 9);
    manifest.inference.windows_in_graph = true;
    CHECK(geometry.graph_covers({34, 65}));
    CHECK_EQUAL(geometry.call_maps({70, 100}).rows.inputs, 3 * 5);
}

TEST("labels and logits are those of plain sums, with all vectors and for all kinds of maps") {
    struct Case {
        const char *what;
        AxisMap rows, cols;
        int classes;
    };
    const std::vector<Case> cases = {
        {"eightfold", bilinear(5, 40, false), bilinear(9, 72, false), 19},
        {"eightfold, odd", bilinear(5, 33, true), bilinear(9, 65, true), 19},
        {"one row and one column", bilinear(1, 1, false), bilinear(1, 1, false), 3},
        {"one class", bilinear(2, 9, false), bilinear(3, 17, false), 1},
        {"two classes", bilinear(2, 9, false), bilinear(3, 17, false), 2},
        {"256 classes", bilinear(3, 20, false), bilinear(5, 35, false), 256},
        {"as it is", bilinear(11, 11, false), bilinear(23, 23, false), 5},
        {"smaller", bilinear(40, 7, false), bilinear(90, 11, true), 7},
        {"hardly larger", bilinear(20, 27, false), bilinear(33, 50, false), 16},
        {"windows", average_of(65, 33, 21, 8, 65, false), average_of(97, 33, 21, 8, 97, false), 17},
        {"windows, resized", average_of(65, 33, 21, 8, 81, false), average_of(97, 33, 21, 8, 60, true), 6},
        {"many windows", average_of(30, 9, 2, 4, 30, false), average_of(37, 9, 1, 4, 37, false), 4},
        {"twice resized", average_of(40, 40, 40, 8, 90, false), average_of(72, 72, 72, 8, 150, false), 19},
    };
    unsigned seed = 0;
    for (const Case &one : cases) {
        const auto count = static_cast<std::size_t>(one.classes) * place(one.rows.inputs, 0, one.cols.inputs);
        check_labels(one.what, one.rows, one.cols, one.classes, random_logits(count, ++seed));
        // integers, so that classes tie
        std::vector<float> few = random_logits(count, ++seed, 1);
        for (float &logit : few)
            logit = std::round(logit);
        check_labels(text(one.what, ", ties"), one.rows, one.cols, one.classes, few);
        // a class so far ahead that it is the only one left in most tiles
        std::vector<float> far = random_logits(count, ++seed, 0.01F);
        for (std::size_t i = 0; i < count; ++i)
            if (i % 3 != 0)
                far[i] += static_cast<float>(i * static_cast<std::size_t>(one.classes) / count % 5);
        check_labels(text(one.what, ", far apart"), one.rows, one.cols, one.classes, far);
    }
}

TEST("logits of any size that is finite make labels") {
    const AxisMap rows = bilinear(3, 24, false);
    const AxisMap cols = bilinear(5, 37, false);
    for (const float scale : {1e-44F, 1e-38F, 1e-20F, 1e20F, 1e37F}) {
        std::vector<float> logits = random_logits(19 * 15, 5, 1);
        for (float &logit : logits)
            logit *= scale;
        check_labels(text("logits near ", scale), rows, cols, 19, logits);
    }
    check_labels("all zero", rows, cols, 19, std::vector<float>(19 * 15, 0.0F));
    check_labels("all negative zero", rows, cols, 19, std::vector<float>(19 * 15, -0.0F));
    check_labels("all the lowest", rows, cols, 19, std::vector<float>(19 * 15, std::numeric_limits<float>::lowest()));
}

TEST("classes a rounding apart are not left out") {
    const AxisMap rows = bilinear(4, 32, false);
    const AxisMap cols = bilinear(7, 51, true);
    std::mt19937 random(3);
    for (const float base : {1.0F, -1.0F, 1000.0F}) {
        std::vector<float> logits(5 * 28);
        for (float &logit : logits) {
            logit = base;
            for (unsigned steps = random() % 4; steps > 0; --steps)
                logit = std::nextafter(logit, 2 * base);
        }
        check_labels(text("round ", base), rows, cols, 5, logits);
    }
}

TEST("of equal logits the lower class wins") {
    Assembler assembler(bilinear(2, 16, false), bilinear(3, 24, false), 200);
    std::vector<float> logits(200 * 6, 1.5F);
    std::fill(logits.begin(), logits.begin() + 7 * 6, 1.0F);
    std::vector<std::uint8_t> labels(16 * 24);
    assembler.labels(logits.data(), labels.data(), 24);
    CHECK(labels == std::vector<std::uint8_t>(16 * 24, 7));
}

TEST("labels are written where they belong, whatever the stride, and nowhere else") {
    constexpr int kHeight = 19;
    constexpr int kWidth = 37;
    constexpr int kStride = 50;
    const AxisMap rows = bilinear(3, kHeight, false);
    const AxisMap cols = bilinear(5, kWidth, false);
    const std::vector<float> logits = random_logits(6 * 15, 9);
    const OwnedPlan plan(rows, cols, 6);
    const std::vector<std::uint8_t> wanted = winners_of(full_logits_of(rows, cols, 6, logits, true), 6);
    for (const NamedKernels &each : all_kernels()) {
        for (const bool turned : {false, true}) {
            std::vector<std::uint8_t> memory(kHeight * kStride, 99);
            std::uint8_t *top = memory.data() + (turned ? (kHeight - 1) * kStride : 0);
            each.kernels.labels(plan.view(), logits.data(), top, turned ? -kStride : kStride);
            bool right = true;
            for (int y = 0; y < kHeight; ++y)
                for (int x = 0; x < kStride; ++x) {
                    const std::uint8_t seen = memory[place(turned ? kHeight - 1 - y : y, x, kStride)];
                    right = right && seen == (x < kWidth ? wanted[place(y, x, kWidth)] : 99);
                }
            if (!right)
                check::failed(__FILE__, __LINE__, text(each.name, turned ? ": turned" : ": plain"));
        }
    }
}

TEST("labels allocate nothing") {
    Assembler assembler(bilinear(8, 64, false), bilinear(16, 128, false), 19);
    const std::vector<float> logits = random_logits(19 * 128, 2);
    std::vector<std::uint8_t> labels(64 * 128);
    const long before = allocations;
    assembler.labels(logits.data(), labels.data(), 128);
    CHECK_EQUAL(allocations - before, 0L);
    CHECK_EQUAL(assembler.height(), 64);
    CHECK_EQUAL(assembler.width(), 128);
    CHECK_EQUAL(assembler.grid_rows(), 8);
    CHECK_EQUAL(assembler.grid_cols(), 16);
    CHECK_EQUAL(assembler.classes(), 19);
}

TEST("a second frame is not seen through the first one") {
    const AxisMap rows = average_of(65, 33, 21, 8, 65, false);
    const AxisMap cols = average_of(97, 33, 21, 8, 97, false);
    Assembler used(rows, cols, 9);
    const auto count = static_cast<std::size_t>(9) * place(rows.inputs, 0, cols.inputs);
    std::vector<std::uint8_t> first(65 * 97);
    used.labels(random_logits(count, 1, 1000).data(), first.data(), 97);
    const std::vector<float> logits = random_logits(count, 2);
    std::vector<std::uint8_t> again(65 * 97);
    used.labels(logits.data(), again.data(), 97);
    Assembler fresh(rows, cols, 9);
    std::vector<std::uint8_t> wanted(65 * 97);
    fresh.labels(logits.data(), wanted.data(), 97);
    CHECK(again == wanted);
}

TEST("one value that is not finite is found wherever it is") {
    for (const NamedKernels &each : all_kernels()) {
        for (const std::size_t count : {1U, 7U, 1023U, 1025U, 2500U}) {
            std::vector<float> values = random_logits(count, 4);
            values[0] = std::numeric_limits<float>::max();
            values[count - 1] = std::numeric_limits<float>::lowest();
            CHECK(each.kernels.all_finite(values.data(), count));
            for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                                    std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::quiet_NaN()})
                for (std::size_t at = 0; at < count; at += 1 + count / 100) {
                    const float good = values[at];
                    values[at] = bad;
                    CHECK(!each.kernels.all_finite(values.data(), count));
                    values[at] = good;
                }
        }
    }
    CHECK(all_finite(nullptr, 0));
}

} // namespace

int main(int argc, char **argv) {
    return check::run(argc, argv);
}

// isa.h and isa.hpp over the fake backend: everything but the engine.  ISA_FAKE_DIR: where libisa_fake.so lies.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <locale>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <stdlib.h>
#include <unistd.h>

#include <isa/isa.hpp>

#include "check.hpp"
#include "fake/fake_graph.hpp"
#include "folder.hpp"

// ---- every allocation of the process is counted, where no sanitizer has taken malloc over ----
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#if defined(__has_feature)
#if !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer)
#define COUNTS_ALLOCATIONS 1
#endif
#else
#define COUNTS_ALLOCATIONS 1
#endif
#endif

#ifdef COUNTS_ALLOCATIONS
static std::atomic<long> allocations{0};
extern "C" void *__libc_malloc(size_t size);
extern "C" void *__libc_calloc(size_t count, size_t size);
extern "C" void *__libc_realloc(void *old, size_t size);
extern "C" void *malloc(size_t size) {
    ++allocations;
    return __libc_malloc(size);
}
extern "C" void *calloc(size_t count, size_t size) {
    ++allocations;
    return __libc_calloc(count, size);
}
extern "C" void *realloc(void *old, size_t size) {
    ++allocations;
    return __libc_realloc(old, size);
}
#endif

namespace {

isa::Options fake_options() {
    isa::Options options;
    options.backend = "fake";
    const char *const folder = std::getenv("ISA_FAKE_DIR");
    options.backend_dir = folder != nullptr ? folder : ".";
    return options;
}

isa::Segmenter open(const fake::Model &model, isa::Options options = fake_options()) {
    const std::string bytes = model.bytes();
    return isa::Segmenter::open_memory(bytes.data(), bytes.size(), {}, options);
}

std::vector<std::uint8_t> noise(int height, int width, unsigned seed = 1) {
    std::mt19937 random(seed);
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(3 * height * width));
    for (auto &byte : bytes)
        byte = static_cast<std::uint8_t>(random());
    return bytes;
}

/// What the fake engine calls a pixel.
int fake_label(const std::uint8_t *bgr, int classes) {
    return (3 * bgr[0] + 5 * bgr[1] + 7 * bgr[2]) % classes;
}

int wrong_labels(const std::vector<std::uint8_t> &bgr, const std::uint8_t *labels, int classes) {
    int wrong = 0;
    for (std::size_t i = 0; i < bgr.size() / 3; ++i)
        wrong += labels[i] != fake_label(&bgr[3 * i], classes);
    return wrong;
}

#define CHECK_STATUS(call, wanted, words)                                                                           \
    do {                                                                                                            \
        CHECK_EQUAL((call), static_cast<isa_status>(wanted));                                                       \
        if (std::string(isa_last_error()).find(words) == std::string::npos)                                         \
            check::failed(__FILE__, __LINE__, std::string("message lacks '") + (words) + "': " + isa_last_error()); \
    } while (false)

#define CHECK_THROWS(expression, wanted, words)                                                                     \
    do {                                                                                                            \
        try {                                                                                                       \
            (void)(expression);                                                                                     \
            check::failed(__FILE__, __LINE__, #expression " did not throw");                                        \
        } catch (const isa::Error &error) {                                                                         \
            CHECK_EQUAL(error.status(), static_cast<isa_status>(wanted));                                           \
            if (std::string(error.what()).find(words) == std::string::npos)                                         \
                check::failed(__FILE__, __LINE__, std::string("message lacks '") + (words) + "': " + error.what()); \
        }                                                                                                           \
    } while (false)

} // namespace

TEST("a frame's labels are the engine's, pixel by pixel") {
    isa::Segmenter segmenter = open({});
    const auto frame = noise(33, 50);
    const isa::Labels labels = segmenter.segment({frame.data(), 33, 50});
    CHECK_EQUAL(wrong_labels(frame, labels.data(), 5), 0);
}

TEST("rows may lie apart, and backwards, and nothing between them is touched") {
    isa::Segmenter segmenter = open({});
    const int height = 9, width = 7, stride = 40, labels_stride = 11;
    const auto packed = noise(height, width);
    for (const bool backwards : {false, true}) {
        std::vector<std::uint8_t> rows(static_cast<std::size_t>(height * stride), 0xEE);
        std::vector<std::uint8_t> answer(static_cast<std::size_t>(height * labels_stride), 0xEE);
        for (int y = 0; y < height; ++y)
            std::memcpy(&rows[static_cast<std::size_t>((backwards ? height - 1 - y : y) * stride)],
                        &packed[static_cast<std::size_t>(3 * y * width)], 3 * width);
        const int last = backwards ? height - 1 : 0, sign = backwards ? -1 : 1;
        const isa_frame frame{&rows[static_cast<std::size_t>(last * stride)], sign * stride, height, width,
                              ISA_ORDER_BGR};
        isa_labels labels{&answer[static_cast<std::size_t>(last * labels_stride)], sign * labels_stride, height, width};
        CHECK_EQUAL(isa_segment(segmenter.c(), &frame, nullptr, &labels), ISA_OK);
        int wrong = 0;
        for (int y = 0; y < height; ++y)
            for (int x = 0; x < labels_stride; ++x) {
                const int wanted =
                    x < width ? fake_label(&packed[static_cast<std::size_t>(3 * (y * width + x))], 5) : 0xEE;
                wrong += labels.data[y * labels.row_stride + x] != wanted;
            }
        CHECK_EQUAL(wrong, 0);
    }
}

TEST("a frame in the other colour order is turned round") {
    for (const char *const order : {"BGR", "RGB"}) {
        fake::Model model;
        model.colour_order = order;
        isa::Segmenter segmenter = open(model);
        const auto frame = noise(20, 30);
        auto turned = frame;
        for (std::size_t i = 0; i < turned.size(); i += 3)
            std::swap(turned[i], turned[i + 2]);
        const bool rgb = std::string(order) == "RGB";
        CHECK(segmenter.info().order == (rgb ? isa::Order::rgb : isa::Order::bgr));
        const isa::Order own = rgb ? isa::Order::rgb : isa::Order::bgr, other = rgb ? isa::Order::bgr : isa::Order::rgb;
        CHECK_EQUAL(wrong_labels(frame, segmenter.segment({frame.data(), 20, 30, own}).data(), 5), 0);
        CHECK_EQUAL(wrong_labels(frame, segmenter.segment({frame.data(), 20, 30, isa::Order::model}).data(), 5), 0);
        CHECK_EQUAL(wrong_labels(turned, segmenter.segment({frame.data(), 20, 30, other}).data(), 5), 0);
    }
}

TEST("a batch of any number gives each frame its own labels, whatever the engine takes at once") {
    for (const char *const shape : {"[null, null, null]", "[3, null, null]", "[1, null, null]", "[4, 16, 24]"})
        for (const char *const setup : {"fast=1", "fast=1 slots=1", "fast=1 largest=2", "fast=1 slots=4 largest=1"}) {
            fake::Model model;
            model.shape_nhw = shape;
            model.setup = setup;
            isa::Segmenter segmenter = open(model);
            std::vector<std::vector<std::uint8_t>> frames;
            std::vector<isa::Image> images;
            for (unsigned i = 0; i < 7; ++i)
                frames.push_back(noise(16, 24, i));
            for (const auto &frame : frames)
                images.emplace_back(frame.data(), 16, 24);
            const auto answers = segmenter.segment_batch(images);
            for (std::size_t i = 0; i < frames.size(); ++i)
                CHECK_EQUAL(wrong_labels(frames[i], answers[i].data(), 5), 0);
        }
    isa::Segmenter segmenter = open({});
    CHECK(segmenter.segment_batch({}).empty());
}

TEST("tiles put together are the whole picture where a pixel's label is its own") {
    const auto frame = noise(70, 131);
    for (const char *const setup : {"fast=1", "fast=1 largest=1", "fast=1 largest=3 slots=1"}) {
        fake::Model model;
        model.setup = setup;
        isa::Segmenter segmenter = open(model);
        for (const int tile : {9, 32, 64, 200})
            for (const int halo : {-1, 0, 4})
                for (const int batch : {0, 1, 5}) {
                    const isa::Tiling tiling{isa::Tiling::Mode::tiles, tile, tile, halo, batch};
                    CHECK_EQUAL(wrong_labels(frame, segmenter.segment({frame.data(), 70, 131}, tiling).data(), 5), 0);
                }
    }
}

TEST("windows of one pixel more than the picture change nothing in slide, tiles and blend") {
    // one window over all of it: the three modes and the whole pass see the same logits
    fake::Model model;
    model.setup = "fast=0";
    isa::Segmenter segmenter = open(model);
    const auto frame = noise(40, 56);
    const isa::Labels whole = segmenter.segment({frame.data(), 40, 56});
    for (const auto mode : {isa::Tiling::Mode::slide, isa::Tiling::Mode::tiles, isa::Tiling::Mode::blend}) {
        const isa::Labels cut = segmenter.segment({frame.data(), 40, 56}, {mode, 41, 57, 0, 0});
        CHECK_EQUAL(std::memcmp(whole.data(), cut.data(), 40 * 56), 0);
    }
}

TEST("a sliding model's own windows are those of tiling slide") {
    fake::Model model;
    model.setup = "fast=0 largest=1";
    model.inference =
        R"({"mode": "slide", "crop_hw": [32, 48], "stride_hw": [24, 32], "align_corners": false, "windows_in_graph": false})";
    isa::Segmenter segmenter = open(model);
    const auto frame = noise(90, 121);
    const isa::Labels own = segmenter.segment({frame.data(), 90, 121});
    const isa::Labels cut = segmenter.segment({frame.data(), 90, 121}, {isa::Tiling::Mode::slide, 0, 0, -1, 0});
    CHECK_EQUAL(std::memcmp(own.data(), cut.data(), 90 * 121), 0);
    CHECK_EQUAL(segmenter.info().crop_width, 48);
}

#ifdef COUNTS_ALLOCATIONS
TEST("after the first frame of a size nothing is allocated") {
    fake::Model whole, logits, resized, slide;
    logits.setup = "fast=0";
    resized.setup = "fast=0";
    resized.resize = R"({"scale_wh": [64, 48], "keep_ratio": true})";
    slide.setup = "fast=0 largest=1";
    slide.inference =
        R"({"mode": "slide", "crop_hw": [32, 32], "stride_hw": [24, 24], "align_corners": false, "windows_in_graph": false})";
    for (const fake::Model &model : {whole, logits, resized, slide}) {
        isa::Segmenter segmenter = open(model);
        const auto large = noise(80, 100), small = noise(40, 60);
        isa::Labels large_labels(80, 100), small_labels(40, 60);
        const auto both = [&] {
            segmenter.segment({large.data(), 80, 100, isa::Order::rgb}, large_labels.view());
            segmenter.segment({small.data(), 40, 60}, small_labels.view());
        };
        both();
        both();
        const long before = allocations;
        for (int i = 0; i < 5; ++i)
            both();
        CHECK_EQUAL(allocations - before, 0);
    }
}

TEST("colours are laid over frames without an allocation") {
    const auto frame = noise(50, 61);
    std::vector<std::uint8_t> out(frame.size());
    std::vector<std::uint8_t> map(50 * 61, 3);
    const std::vector<std::uint8_t> palette(57, 90);
    const isa::Image image(frame.data(), 50, 61);
    const isa::LabelsView labels(map.data(), 50, 61);
    const isa::Picture picture(out.data(), 50, 61);
    isa::overlay(image, labels, palette, picture);
    const long before = allocations;
    isa::overlay(image, labels, palette, picture);
    isa::overlay(image, labels, palette, picture, 0.3);
    isa::colorize(labels, palette, picture);
    CHECK_EQUAL(allocations - before, 0);
}
#endif

TEST("threads with a segmenter each get their own labels") {
    const auto run = [](unsigned seed) {
        fake::Model model;
        model.setup = seed % 2 != 0 ? "fast=1" : "fast=0";
        isa::Segmenter segmenter = open(model);
        const auto frame = noise(40, 48, seed);
        const isa::Labels first = segmenter.segment({frame.data(), 40, 48});
        for (int i = 0; i < 20; ++i) {
            const isa::Labels again = segmenter.segment({frame.data(), 40, 48});
            if (std::memcmp(first.data(), again.data(), 40 * 48) != 0)
                return false;
            isa_frame none{};
            isa_labels nowhere{};
            if (isa_segment(segmenter.c(), &none, nullptr, &nowhere) != ISA_ERROR_INPUT)
                return false;
        }
        return seed % 2 == 0 || wrong_labels(frame, first.data(), 5) == 0;
    };
    std::atomic<int> right{0};
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < 4; ++i)
        threads.emplace_back([&, i] { right += run(i) ? 1 : 0; });
    for (std::thread &thread : threads)
        thread.join();
    CHECK_EQUAL(right.load(), 4);
}

TEST("an error message is of its thread") {
    CHECK_EQUAL(isa_info(nullptr, nullptr), ISA_ERROR_INPUT);
    const std::string mine = isa_last_error();
    std::thread([] { CHECK_EQUAL(isa_colorize(nullptr, nullptr, 0, nullptr), ISA_ERROR_INPUT); }).join();
    CHECK_EQUAL(mine, std::string(isa_last_error()));
}

TEST("an engine that fails says so in one line and can be used again") {
    const struct {
        const char *how;
        isa_status status;
        const char *words;
    } cases[] = {{"input", ISA_ERROR_INPUT, "not built for this size"},
                 {"start", ISA_ERROR_ENGINE, "does not start"},
                 {"wait", ISA_ERROR_ENGINE, "failed, as it was asked"},
                 {"nan", ISA_ERROR_ENGINE, "not finite"},
                 {"shape", ISA_ERROR_ENGINE, "where its manifest promises 3x4"}};
    for (const auto &each : cases)
        for (const char *const slots : {"1", "2", "3"}) {
            fake::Model model;
            model.setup = std::string("fast=0 largest=1 slots=") + slots + " fail=" + each.how;
            isa::Segmenter segmenter = open(model);
            const auto frame = noise(20, 30);
            const isa::Image image(frame.data(), 20, 30);
            for (int again = 0; again < 2; ++again) {
                CHECK_THROWS(segmenter.segment(image), each.status, each.words);
                CHECK_THROWS(segmenter.segment_batch({image, image, image, image}), each.status, each.words);
                CHECK_THROWS(segmenter.segment(image, {isa::Tiling::Mode::blend, 24, 32, 0, 0}), each.status, "");
            }
        }
    fake::Model model;
    model.setup = "fail=open";
    CHECK_THROWS(open(model), ISA_ERROR_ENGINE, "cannot be opened, as it was asked");
    model.setup = "fail=name";
    CHECK_THROWS(open(model), ISA_ERROR_ENGINE, "has no output 'logits', which its manifest names");
}

TEST("null pointers, wrong struct sizes and impossible frames are input errors") {
    isa::Segmenter segmenter = open({});
    std::vector<std::uint8_t> bytes(300);
    isa_frame frame{bytes.data(), 30, 10, 10, ISA_ORDER_BGR};
    isa_labels labels{bytes.data(), 10, 10, 10};
    isa_segmenter *none = nullptr;
    CHECK_STATUS(isa_open(nullptr, nullptr, &none), ISA_ERROR_INPUT, "path is null");
    CHECK_STATUS(isa_open("x", nullptr, nullptr), ISA_ERROR_INPUT, "nowhere");
    CHECK_STATUS(isa_open_memory(nullptr, 0, nullptr, 0, nullptr, &none), ISA_ERROR_INPUT, "0 bytes");
    CHECK_STATUS(isa_segment(nullptr, &frame, nullptr, &labels), ISA_ERROR_INPUT, "segmenter is null");
    CHECK_STATUS(isa_segment(segmenter.c(), nullptr, nullptr, &labels), ISA_ERROR_INPUT, "frames are null");
    CHECK_STATUS(isa_segment(segmenter.c(), &frame, nullptr, nullptr), ISA_ERROR_INPUT, "labels are null");
    isa_close(nullptr);

    const auto with = [&](auto change, const char *words) {
        isa_frame f = frame;
        isa_labels l = labels;
        change(f, l);
        CHECK_STATUS(isa_segment(segmenter.c(), &f, nullptr, &l), ISA_ERROR_INPUT, words);
    };
    with([](isa_frame &f, isa_labels &) { f.data = nullptr; }, "frame's data is null");
    with([](isa_frame &, isa_labels &l) { l.data = nullptr; }, "labels's data is null");
    with([](isa_frame &f, isa_labels &) { f.height = 0; }, "0x10 has no pixels");
    with([](isa_frame &f, isa_labels &) { f.width = -3; }, "10x-3 has no pixels");
    with([](isa_frame &f, isa_labels &) { f.row_stride = 29; }, "row_stride of 29 bytes is less than a row");
    with([](isa_frame &f, isa_labels &) { f.row_stride = -29; }, "row_stride of -29 bytes is less than a row");
    with([](isa_frame &f, isa_labels &) { f.row_stride = std::numeric_limits<std::ptrdiff_t>::min(); }, "no distance");
    with([](isa_frame &, isa_labels &l) { l.row_stride = 0; }, "row_stride of 0 bytes");
    with([](isa_frame &f, isa_labels &) { f.order = 3; }, "order 3 is none of");
    with([](isa_frame &, isa_labels &l) { l.width = 9; }, "must be of one size");
    with(
        [](isa_frame &f, isa_labels &l) {
            f.height = l.height = INT32_MAX;
            f.width = l.width = INT32_MAX;
            f.row_stride = l.row_stride = PTRDIFF_MAX / 4;
        },
        "million pixels");

    isa_segment_options options = ISA_SEGMENT_OPTIONS_INIT;
    const auto tiled = [&](auto change, const char *words) {
        isa_segment_options o = options;
        change(o);
        CHECK_STATUS(isa_segment(segmenter.c(), &frame, &o, &labels), ISA_ERROR_INPUT, words);
    };
    for (const std::size_t size : {std::size_t{0}, sizeof options - 1, std::size_t{5000}, ~std::size_t{0}})
        tiled([&](isa_segment_options &o) { o.struct_size = size; }, "struct_size is ");
    tiled([](isa_segment_options &o) { o.tiling = 4; }, "tiling 4 is none of");
    tiled([](isa_segment_options &o) { o.reserved = 7; }, "reserved is 7");
    tiled([](isa_segment_options &o) { o.tiling = -1; }, "tiling -1 is none of");
    tiled(
        [](isa_segment_options &o) {
            o.tiling = 2;
            o.tile_height = 8;
        },
        "a tile of 8x0");
    tiled(
        [](isa_segment_options &o) {
            o.tiling = 2;
            o.tile_height = o.tile_width = -8;
        },
        "a tile of -8x-8");
    tiled(
        [](isa_segment_options &o) {
            o.tiling = 2;
            o.halo = -2;
        },
        "a halo of -2");
    tiled(
        [](isa_segment_options &o) {
            o.tiling = 2;
            o.halo = INT32_MAX;
        },
        "leaves nothing of a tile");
    tiled(
        [](isa_segment_options &o) {
            o.tiling = 2;
            o.tile_height = o.tile_width = 8;
            o.halo = 4;
        },
        "leaves nothing");
    tiled(
        [](isa_segment_options &o) {
            o.tiling = 2;
            o.batch = -1;
        },
        "a batch of -1");
    // more windows than an int counts; it is refused before a pixel is read
    frame.height = frame.width = labels.height = labels.width = 100000;
    frame.row_stride = 3 * (labels.row_stride = 100000);
    tiled(
        [](isa_segment_options &o) {
            o.tiling = 2;
            o.tile_height = o.tile_width = 2;
            o.halo = 0;
        },
        "50000x50000 windows are too many");
    frame = {bytes.data(), 30, 10, 10, ISA_ORDER_BGR};
    labels = {bytes.data(), 10, 10, 10};

    struct {
        isa_segment_options known = ISA_SEGMENT_OPTIONS_INIT;
        std::int64_t newer = 0;
    } longer;
    longer.known.struct_size = sizeof longer;
    CHECK_EQUAL(isa_segment(segmenter.c(), &frame, &longer.known, &labels), ISA_OK);
    longer.newer = 1;
    CHECK_STATUS(isa_segment(segmenter.c(), &frame, &longer.known, &labels), ISA_ERROR_INPUT, "does not know");

    isa_model_info info{};
    CHECK_STATUS(isa_info(segmenter.c(), &info), ISA_ERROR_INPUT, "struct_size is 0");
    info.struct_size = sizeof info;
    CHECK_STATUS(isa_info(nullptr, &info), ISA_ERROR_INPUT, "segmenter is null");
    CHECK_STATUS(isa_info(segmenter.c(), nullptr), ISA_ERROR_INPUT, "info is null");

    isa_picture picture{bytes.data(), 30, 10, 10, ISA_ORDER_BGR};
    const std::uint8_t palette[6] = {1, 2, 3, 4, 5, 6};
    CHECK_STATUS(isa_overlay(&frame, &labels, palette, 2, 1.5, &picture), ISA_ERROR_INPUT, "alpha 1.5");
    CHECK_STATUS(isa_overlay(&frame, &labels, palette, 2, std::numeric_limits<double>::quiet_NaN(), &picture),
                 ISA_ERROR_INPUT, "alpha nan");
    CHECK_STATUS(isa_overlay(&frame, &labels, palette, 257, 0.5, &picture), ISA_ERROR_INPUT, "257 colours");
    CHECK_STATUS(isa_overlay(&frame, &labels, nullptr, 2, 0.5, &picture), ISA_ERROR_INPUT, "palette is null");
    CHECK_STATUS(isa_colorize(&labels, palette, 0, &picture), ISA_ERROR_INPUT, "0 colours");
    picture.width = 9;
    CHECK_STATUS(isa_colorize(&labels, palette, 2, &picture), ISA_ERROR_INPUT, "must be of one size");

    isa_device_frames device{sizeof(isa_device_frames), bytes.data(), 30, 1, 10, 10, 0};
    CHECK_STATUS(isa_segment_device(segmenter.c(), &device, bytes.data(), nullptr), ISA_ERROR_INPUT, "host's memory");
    device.struct_size = 8;
    CHECK_STATUS(isa_segment_device(segmenter.c(), &device, bytes.data(), nullptr), ISA_ERROR_INPUT,
                 "struct_size is 8");
}

TEST("windows whose logits would fill the memory are refused before they are made room for") {
    fake::Model model;
    model.classes = 256;
    model.setup = "fast=0";
    model.inference = R"({"mode": "slide", "crop_hw": [64, 64], "stride_hw": [1, 1], "align_corners": false, )"
                      R"("windows_in_graph": false})";
    isa::Segmenter segmenter = open(model);
    const auto frame = noise(512, 512);
    CHECK_THROWS(segmenter.segment({frame.data(), 512, 512}), ISA_ERROR_INPUT, "GiB for their logits");
}

TEST("constant labels can be read and painted") {
    const isa::Labels labels(4, 5);
    CHECK_EQUAL(static_cast<int>(labels.at(3, 4)), 0);
    CHECK_THROWS(labels.at(0, 5), ISA_ERROR_INPUT, "not in the labels");
    CHECK_THROWS(labels.at(-1, 0), ISA_ERROR_INPUT, "not in the labels");
    std::vector<std::uint8_t> picture(60, 9);
    isa::colorize(labels, std::vector<std::uint8_t>{1, 2, 3}, isa::Picture(picture.data(), 4, 5));
    CHECK_EQUAL(static_cast<int>(picture[59]), 1);
}

TEST("options that make no sense are refused with what there is") {
    const auto refused = [](auto change, isa_status status, const char *words) {
        isa::Options options = fake_options();
        change(options);
        CHECK_THROWS(open({}, options), status, words);
    };
    refused([](isa::Options &o) { o.backend = "openvno"; }, ISA_ERROR_INPUT, "none of: auto, tensorrt, openvino");
    refused([](isa::Options &o) { o.backend = "../fake"; }, ISA_ERROR_INPUT, "backend '../fake' is none of");
    refused([](isa::Options &o) { o.backend = "tensorrt"; }, ISA_ERROR_INPUT, "TensorRT runs plans");
    refused([](isa::Options &o) { o.precision = "int4"; }, ISA_ERROR_INPUT, "auto, fp32, bf16");
    refused([](isa::Options &o) { o.schedule = "fast"; }, ISA_ERROR_INPUT, "latency, throughput");
    refused([](isa::Options &o) { o.device = "tpu"; }, ISA_ERROR_INPUT, "auto, cpu, cuda, a GPU's number");
    refused([](isa::Options &o) { o.resize = "12"; }, ISA_ERROR_INPUT, "test, none, HEIGHTxWIDTH");
    refused([](isa::Options &o) { o.threads = -1; }, ISA_ERROR_INPUT, "threads -1");
    refused(
        [](isa::Options &o) {
            o.backend = "openvino";
            o.backend_dir = "/nowhere";
        },
        ISA_ERROR_BACKEND_UNAVAILABLE, "there is no libisa_openvino.so in /nowhere; install OpenVINO");
}

TEST("a backend that is no backend, or is not for this version, is refused") {
    Folder folder;
    folder.write("libisa_fake.so", "no shared object");
    isa::Options options = fake_options();
    options.backend_dir = folder.path;
    CHECK_THROWS(open({}, options), ISA_ERROR_BACKEND_UNAVAILABLE, "backend fake: ");
}

TEST("a folder is opened by its graph, and one whose manifest tells another story is refused") {
    Folder folder;
    const fake::Model model;
    folder.write("model.onnx", model.bytes());
    CHECK_EQUAL(isa::Segmenter(folder.path, fake_options()).info().class_names.size(), std::size_t{5});
    const std::string json = folder.write("model.json", model.manifest());
    CHECK_EQUAL(isa::Segmenter(json, fake_options()).info().class_names[4], std::string("class 4"));
    fake::Model other;
    other.colour_order = "RGB";
    folder.write("model.json", other.manifest());
    CHECK_THROWS(isa::Segmenter(folder.path, fake_options()), ISA_ERROR_MANIFEST, "describes another graph");
}

TEST("paths that lead nowhere are told apart") {
    Folder folder;
    CHECK_THROWS(isa::Segmenter("/nowhere/model.onnx"), ISA_ERROR_ENGINE, "no such file or folder");
    CHECK_THROWS(isa::Segmenter(folder.path), ISA_ERROR_ENGINE, "holds no model.onnx and no model.plan");
    CHECK_THROWS(isa::Segmenter(folder.write("a.txt", "x")), ISA_ERROR_ENGINE, "'.txt' is no engine");
    CHECK_THROWS(isa::Segmenter("/dev/zero"), ISA_ERROR_ENGINE, "is no file");
    CHECK_THROWS(isa::Segmenter(folder.write("a.onnx", "")), ISA_ERROR_ENGINE, "0 bytes");
    CHECK_THROWS(isa::Segmenter(folder.write("b.plan", "plan")), ISA_ERROR_MANIFEST, "has no manifest b.json");
}

TEST("a truncated graph is refused at every length") {
    const std::string bytes = fake::Model().bytes();
    for (std::size_t length = 0; length < bytes.size(); ++length) {
        isa_segmenter *segmenter = nullptr;
        const std::vector<char> part(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(length));
        isa_open_options options = ISA_OPEN_OPTIONS_INIT;
        const isa_status status = isa_open_memory(part.data(), length, nullptr, 0, &options, &segmenter);
        CHECK(status != ISA_OK && segmenter == nullptr);
    }
}

namespace {
/// A manifest of a plan that no bytes here are.
std::string plan_manifest() {
    std::string manifest = fake::Model().manifest();
    const std::string engine =
        R"("engine": {"builder": "tensorrt", "builder_version": "10.16.1", "compute_capability": "8.9", "onnx_sha256": ")" +
        std::string(64, 'b') + R"(", "plan_sha256": ")" + std::string(64, 'c') +
        R"(", "hardware_compatible": false, "version_compatible": false, "profiles": [], "layer_precisions": {}})";
    return manifest.replace(manifest.find(R"("engine": null)"), 14, engine);
}
} // namespace

TEST("a plan is held against its manifest before any library sees it") {
    const std::string manifest = plan_manifest();
    CHECK_THROWS(isa::Segmenter::open_memory("plan", 4, manifest), ISA_ERROR_ENGINE, "its SHA-256 differs");
    isa::Options options;
    options.backend = "openvino";
    CHECK_THROWS(isa::Segmenter::open_memory("plan", 4, manifest, options), ISA_ERROR_INPUT, "cannot run a plan");
    options = {};
    options.device = "cpu";
    CHECK_THROWS(isa::Segmenter::open_memory("plan", 4, manifest, options), ISA_ERROR_INPUT, "runs on a GPU");
}

TEST("a wish about a precision is one about what is not int8") {
    std::string manifest = plan_manifest();
    manifest.replace(manifest.find(R"("precision": "fp32")"), 19, R"("precision": "int8")");
    manifest.insert(manifest.find(R"("engine")"), R"("quantisation": {"rest": "bf16", "ranges": "mse", "frames": 64, )"
                                                  R"("layers": 9, "kept": []}, )");
    isa::Options options;
    options.precision = "fp32";
    CHECK_THROWS(isa::Segmenter::open_memory("plan", 4, manifest, options), ISA_ERROR_INPUT,
                 "a plan computes in its own type, int8 (rest bf16), not in fp32");
    options.precision = "bf16";
    CHECK_THROWS(isa::Segmenter::open_memory("plan", 4, manifest, options), ISA_ERROR_ENGINE, "its SHA-256 differs");
}

TEST("a plan or a graph that the wish cannot take is refused before its files are read, as in Python") {
    Folder folder;
    const std::string plan = folder.write("alone.plan", "plan"), graph = folder.write("bare.onnx", "no graph");
    isa::Options options;
    options.device = "cpu";
    CHECK_THROWS(isa::Segmenter(plan, options), ISA_ERROR_INPUT, "not on device cpu; give the graph, alone.onnx");
    options = {};
    options.backend = "openvino";
    CHECK_THROWS(isa::Segmenter(plan, options), ISA_ERROR_INPUT, "cannot run a plan; give the graph, alone.onnx");
    options.backend = "tensorrt";
    CHECK_THROWS(isa::Segmenter(graph, options), ISA_ERROR_INPUT, "TensorRT runs plans; build one with isa-export");
}

TEST("a plan of other bytes is told before a graph that has changed") {
    Folder folder;
    const std::string plan = folder.write("model.plan", "plan");
    folder.write("model.onnx", "another graph");
    folder.write("model.json", plan_manifest());
    CHECK_THROWS(isa::Segmenter(plan), ISA_ERROR_ENGINE, "is not the plan that model.json describes");
}

TEST("the log tells what engines tell, to who asked, up to a level") {
    std::vector<std::string> heard;
    isa_set_log([](std::int32_t, const char *message,
                   void *user) { static_cast<std::vector<std::string> *>(user)->push_back(message); },
                ISA_LOG_INFO, &heard);
    open({});
    isa_set_log([](std::int32_t, const char *message,
                   void *user) { static_cast<std::vector<std::string> *>(user)->push_back(message); },
                ISA_LOG_WARNING, &heard);
    open({});
    isa_set_log(nullptr, 0, nullptr);
    CHECK_EQUAL(heard.size(), std::size_t{1});
}

TEST("what a log function throws goes no further") {
    isa_set_log([](std::int32_t, const char *, void *) { throw std::runtime_error("the log is full"); }, ISA_LOG_INFO,
                nullptr);
    fake::Model model;
    const std::string bytes = model.bytes(), folder = fake_options().backend_dir;
    isa_open_options options = ISA_OPEN_OPTIONS_INIT;
    options.backend = "fake";
    options.backend_dir = folder.c_str();
    isa_segmenter *segmenter = nullptr;
    CHECK_EQUAL(isa_open_memory(bytes.data(), bytes.size(), nullptr, 0, &options, &segmenter), ISA_OK);
    isa_set_log(nullptr, 0, nullptr);
    isa_close(segmenter);
}

TEST("numbers in messages are plain in every locale of the program") {
    struct Grouped : std::numpunct<char> {
        char do_thousands_sep() const override { return '.'; }
        std::string do_grouping() const override { return "\3"; }
    };
    isa::Segmenter segmenter = open({});
    const std::locale before = std::locale::global(std::locale(std::locale::classic(), new Grouped));
    std::uint8_t pixel[3] = {};
    const isa_frame frame{pixel, 3, 4096, 2048, ISA_ORDER_BGR};
    isa_labels labels{pixel, 2048, 4096, 2048};
    CHECK_STATUS(isa_segment(segmenter.c(), &frame, nullptr, &labels), ISA_ERROR_INPUT, "2048 pixels (6144 bytes)");
    std::locale::global(before);
}

TEST("a segmenter moves, and what it was is empty") {
    isa::Segmenter first = open({});
    isa::Segmenter second = std::move(first);
    CHECK(first.c() == nullptr); // NOLINT: that is the test
    const auto frame = noise(8, 8);
    CHECK_THROWS(first.segment({frame.data(), 8, 8}), ISA_ERROR_INPUT, "segmenter is null");
    CHECK_EQUAL(wrong_labels(frame, second.segment({frame.data(), 8, 8}).data(), 5), 0);
    isa::Segmenter third = open({});
    third = std::move(second);
    CHECK(second.c() == nullptr); // NOLINT: its engine's memory would stay as long as it does
    isa::Segmenter &same = third;
    third = std::move(same);
    CHECK_EQUAL(wrong_labels(frame, third.segment({frame.data(), 8, 8}).data(), 5), 0);
}

namespace {
/// What is looked at of a cv::Mat.
struct Mat {
    int rows = 0, cols = 0, type = 3;
    std::uint8_t *data = nullptr;
    std::size_t step = 0;
    int depth() const { return 0; }
    int channels() const { return type; }
};

/// Of a cv::cuda::GpuMat, whose data is no address of the host's.
struct GpuMat : Mat {
    void *cudaPtr() const { return data; }
};
static_assert(std::is_convertible_v<Mat, isa::Image> && !std::is_convertible_v<GpuMat, isa::Image>);
} // namespace

TEST("what looks like a cv::Mat is an image, a picture or a label map") {
    isa::Segmenter segmenter = open({});
    auto bytes = noise(12, 20);
    std::vector<std::uint8_t> map(12 * 16);
    const Mat frame{12, 16, 3, bytes.data(), 60};
    Mat labels{12, 16, 1, map.data(), 16};
    segmenter.segment(frame, labels);
    CHECK_EQUAL(static_cast<int>(map[16 + 3]), fake_label(&bytes[60 + 9], 5));
    CHECK_THROWS(segmenter.segment(labels), ISA_ERROR_INPUT, "CV_8UC3");
    Mat picture = frame;
    isa::overlay(frame, labels, segmenter.info(), picture);
    Mat unread{0, 0, 1, nullptr, 0}; // what cv::imread gives for a file that is not there
    CHECK_THROWS(segmenter.segment(unread), ISA_ERROR_INPUT, "an empty matrix");
    CHECK_THROWS(segmenter.segment(frame, unread), ISA_ERROR_INPUT, "an empty matrix");
}

TEST("statuses have Python's names and the version is the header's") {
    CHECK_EQUAL(std::string(isa_status_name(ISA_ERROR_INPUT)), std::string("InputError"));
    CHECK_EQUAL(std::string(isa_status_name(ISA_ERROR_ENGINE_INCOMPATIBLE)), std::string("EngineIncompatibleError"));
    CHECK_EQUAL(std::string(isa_status_name(99)), std::string("unknown status"));
    CHECK_EQUAL(std::string(isa_version()), std::string("0.1.0"));
}

int main(int argc, char **argv) {
    return check::run(argc, argv);
}

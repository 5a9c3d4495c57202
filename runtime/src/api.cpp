// isa.h's functions: arguments checked, exceptions turned into statuses, and nothing else.
#include <atomic>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include <isa/isa.h>

#include "error.hpp"
#include "geometry.hpp"
#include "log.hpp"
#include "opening.hpp"
#include "palette.hpp"
#include "segmenter.hpp"

using namespace isa_core;

/// A Segmenter with what isa_info hands out.
struct isa_segmenter {
    isa_segmenter(Opened opened, ResizeRule resize) : segmenter(std::move(opened), resize) {
        for (const std::string &name : segmenter.manifest().classes.names)
            class_names.push_back(name.c_str());
    }

    Segmenter segmenter;
    std::vector<const char *> class_names;
    std::atomic_flag busy = ATOMIC_FLAG_INIT;
};

#define ISA_TEXT_(x) #x
#define ISA_TEXT(x) ISA_TEXT_(x)
#define ISA_VERSION_TEXT ISA_TEXT(ISA_VERSION_MAJOR) "." ISA_TEXT(ISA_VERSION_MINOR) "." ISA_TEXT(ISA_VERSION_PATCH)

namespace {

constexpr std::size_t kMaxStructSize = 4096; ///< of a struct of any later version; what lies beyond is not read

thread_local char last_error[2048] = "no call has failed in this thread";

isa_status failed(isa_status status, const char *message) noexcept {
    std::snprintf(last_error, sizeof last_error, "%s", message);
    for (char *c = last_error; *c != '\0'; ++c)
        if (*c == '\n' || *c == '\r')
            *c = ' '; // one line, whatever an engine's library or a file's name brought in
    return status;
}

/// Runs a function's body behind the wall that no exception passes.
template <typename Body> isa_status guarded(Body body) noexcept {
    try {
        body();
        return ISA_OK;
    } catch (const Error &error) {
        return failed(error.status(), error.what());
    } catch (const std::bad_alloc &) {
        return failed(ISA_ERROR_OUT_OF_MEMORY, "out of memory; use a smaller frame, smaller tiles or a smaller resize");
    } catch (const std::length_error &) {
        return failed(ISA_ERROR_OUT_OF_MEMORY, "out of memory; use a smaller frame, smaller tiles or a smaller resize");
    } catch (const std::exception &error) {
        char message[512];
        std::snprintf(message, sizeof message, "a defect of isa-deploy (%s); please report it", error.what());
        return failed(ISA_ERROR_INTERNAL, message);
    } catch (...) {
        return failed(ISA_ERROR_INTERNAL, "a defect of isa-deploy; please report it");
    }
}

/// Holds a segmenter for one call.
class Use {
public:
    explicit Use(isa_segmenter *segmenter) : segmenter_(segmenter) {
        if (segmenter == nullptr)
            fail_input("the segmenter is null; open one with isa_open");
        if (segmenter->busy.test_and_set(std::memory_order_acquire))
            fail_input("this segmenter is in use by another thread; open one for each thread");
    }
    ~Use() { segmenter_->busy.clear(std::memory_order_release); }
    Use(const Use &) = delete;
    Use &operator=(const Use &) = delete;

    Segmenter *operator->() { return &segmenter_->segmenter; }

private:
    isa_segmenter *segmenter_;
};

/// A caller's struct in this version's layout: what an older program lacks has its default, and what a newer one has
/// more must be zero, because it could not be obeyed.  A new field must lie beyond the sizeof of the version before,
/// not in the padding at its end, which an older program never wrote.
template <typename Struct> Struct read_struct(const Struct *given, const Struct &defaults, const char *name) {
    if (given == nullptr)
        return defaults;
    const std::size_t size = given->struct_size;
    // the first version's layouts are the smallest there are
    if (size < sizeof(Struct) || size > kMaxStructSize)
        fail_input(name, ".struct_size is ", size, ": set it to sizeof(", name, "), which is ", sizeof(Struct),
                   " here");
    const auto *bytes = reinterpret_cast<const unsigned char *>(given);
    for (std::size_t i = sizeof(Struct); i < size; ++i)
        if (bytes[i] != 0)
            fail_input(name, " of ", size, " bytes has a field that this library (", isa_version(),
                       ") does not know; use a newer library");
    return *given;
}

void set_if(std::string &to, const char *from) {
    if (from != nullptr)
        to = from;
}

OpenOptions open_options(const isa_open_options *given) {
    const isa_open_options read = read_struct(given, isa_open_options ISA_OPEN_OPTIONS_INIT, "isa_open_options");
    OpenOptions options;
    set_if(options.backend, read.backend);
    set_if(options.device, read.device);
    set_if(options.precision, read.precision);
    set_if(options.resize, read.resize);
    set_if(options.schedule, read.schedule);
    set_if(options.cache_dir, read.cache_dir);
    set_if(options.backend_dir, read.backend_dir);
    options.threads = read.threads;
    options.allow_engine_code = read.allow_engine_code != 0;
    return options;
}

void check_sides(const char *what, std::int32_t height, std::int32_t width) {
    if (height < 1 || width < 1)
        fail_input(what, " of ", height, "x", width, " has no pixels; height and width are 1 or more");
}

void check_order(const char *what, std::int32_t order) {
    if (order < ISA_ORDER_MODEL || order > ISA_ORDER_RGB)
        fail_input(what, "'s order ", order, " is none of ISA_ORDER_MODEL, ISA_ORDER_BGR, ISA_ORDER_RGB");
}

/// Rows must not overlap: a stride is a row's bytes or more, forwards or backwards.
void check_rows(const char *what, const void *data, std::ptrdiff_t row_stride, std::int32_t width, int pixel_bytes) {
    if (data == nullptr)
        fail_input(what, "'s data is null");
    const std::ptrdiff_t least = static_cast<std::ptrdiff_t>(width) * pixel_bytes;
    if (row_stride < least && row_stride > -least)
        fail_input(what, "'s row_stride of ", row_stride, " bytes is less than a row of ", width, " pixels (", least,
                   " bytes)");
    if (row_stride > PTRDIFF_MAX / 2 || row_stride < -(PTRDIFF_MAX / 2))
        fail_input(what, "'s row_stride of ", row_stride, " bytes is no distance in memory");
}

template <typename Picture> void check_pixels(const char *what, const Picture *picture) {
    if (picture == nullptr)
        fail_input("the ", what, " is null");
    check_sides(what, picture->height, picture->width);
    check_order(what, picture->order);
    check_rows(what, picture->data, picture->row_stride, picture->width, 3);
}

void check_labels(const isa_labels *labels) {
    if (labels == nullptr)
        fail_input("the labels are null");
    check_sides("labels", labels->height, labels->width);
    check_rows("labels", labels->data, labels->row_stride, labels->width, 1);
}

template <typename A, typename B> void check_same_size(const char *a_name, const A &a, const char *b_name, const B &b) {
    if (a.height != b.height || a.width != b.width)
        fail_input(a_name, " of ", a.height, "x", a.width, " and ", b_name, " of ", b.height, "x", b.width,
                   " (height x width): they must be of one size");
}

void check_palette(const std::uint8_t *palette_rgb, std::size_t num_colours) {
    if (palette_rgb == nullptr)
        fail_input("the palette is null; isa_info gives the model's");
    if (num_colours < 1 || num_colours > kMaxClasses)
        fail_input("a palette of ", num_colours, " colours: pass (red, green, blue) for 1 to 256 classes");
}

void segment(isa_segmenter *segmenter, const isa_frame *frames, std::size_t count, const isa_segment_options *given,
             isa_labels *labels) {
    Use use(segmenter);
    const isa_segment_options options =
        read_struct(given, isa_segment_options ISA_SEGMENT_OPTIONS_INIT, "isa_segment_options");
    if (options.reserved != 0)
        fail_input("isa_segment_options.reserved is ", options.reserved, ": it must be 0");
    if (count > INT32_MAX / 2)
        fail_input("a batch of ", count, " frames; give at most ", INT32_MAX / 2);
    if (count != 0 && (frames == nullptr || labels == nullptr))
        fail_input(frames == nullptr ? "the frames are null" : "the labels are null");
    for (std::size_t i = 0; i < count; ++i) {
        check_pixels("frame", &frames[i]);
        check_labels(&labels[i]);
        check_same_size("a frame", frames[i], "labels", labels[i]);
        if (frames[i].height != frames[0].height || frames[i].width != frames[0].width)
            fail_input("a batch needs frames of one size, not ", frames[0].height, "x", frames[0].width, " and ",
                       frames[i].height, "x", frames[i].width);
    }
    if (count == 0)
        return;
    if (options.tiling == ISA_TILING_MODEL) {
        use->segment(frames, count, labels);
        return;
    }
    for (std::size_t i = 0; i < count; ++i)
        use->segment_tiled(frames[i], options, labels[i]);
}

isa_status open_with(const isa_open_options *given, isa_segmenter **segmenter,
                     Opened (*open)(const void *how, const OpenOptions &options), const void *how) {
    if (segmenter != nullptr)
        *segmenter = nullptr;
    return guarded([&] {
        if (segmenter == nullptr)
            fail_input("there is nowhere to put the segmenter: its pointer is null");
        const OpenOptions options = open_options(given);
        const ResizeRule resize = parse_resize(options.resize);
        *segmenter = new isa_segmenter(open(how, options), resize);
    });
}

} // namespace

isa_status isa_open(const char *path, const isa_open_options *options, isa_segmenter **segmenter) {
    return open_with(
        options, segmenter,
        [](const void *how, const OpenOptions &read) {
            if (how == nullptr)
                fail_input("the path is null; give a folder of isa-export, or its model.onnx or model.plan");
            return open_path(static_cast<const char *>(how), read);
        },
        path);
}

isa_status isa_open_memory(const void *engine, size_t engine_size, const char *manifest_json, size_t manifest_size,
                           const isa_open_options *options, isa_segmenter **segmenter) {
    struct Bytes {
        const void *data;
        std::size_t size;
        const char *manifest_json;
        std::size_t manifest_size;
    } const bytes{engine, engine_size, manifest_json, manifest_size};
    return open_with(
        options, segmenter,
        [](const void *how, const OpenOptions &read) {
            const Bytes &given = *static_cast<const Bytes *>(how);
            if (given.data == nullptr || given.size == 0)
                fail_input("the engine has ", given.size, " bytes at ", given.data,
                           "; give the bytes of a model.onnx or model.plan");
            return open_bytes(given.data, given.size, given.manifest_json, given.manifest_size, read);
        },
        &bytes);
}

void isa_close(isa_segmenter *segmenter) {
    delete segmenter;
}

isa_status isa_info(const isa_segmenter *segmenter, isa_model_info *info) {
    return guarded([&] {
        if (segmenter == nullptr)
            fail_input("the segmenter is null; open one with isa_open");
        if (info == nullptr)
            fail_input("the info is null");
        const std::size_t size = info->struct_size;
        if (size < sizeof(isa_model_info) || size > kMaxStructSize)
            fail_input("isa_model_info.struct_size is ", size, ": set it to sizeof(isa_model_info), which is ",
                       sizeof(isa_model_info), " here");
        const Manifest &manifest = segmenter->segmenter.manifest();
        const isa_engine_info &engine = segmenter->segmenter.engine().info();
        isa_model_info made{};
        made.struct_size = size;
        made.architecture = manifest.architecture.c_str();
        made.precision = engine.precision;
        made.backend = segmenter->segmenter.engine().backend();
        made.device = engine.device;
        made.num_classes = static_cast<std::int32_t>(manifest.classes.names.size());
        made.order = manifest.input.rgb ? ISA_ORDER_RGB : ISA_ORDER_BGR;
        made.class_names = segmenter->class_names.data();
        made.palette_rgb = manifest.classes.palette_rgb.data();
        made.fixed_batch = manifest.input.batch.value_or(0);
        made.fixed_height = manifest.input.frame.value_or(Size{}).height;
        made.fixed_width = manifest.input.frame.value_or(Size{}).width;
        made.crop_height = manifest.inference.crop.value_or(Size{}).height;
        made.crop_width = manifest.inference.crop.value_or(Size{}).width;
        made.stride_height = manifest.inference.stride.value_or(Size{}).height;
        made.stride_width = manifest.inference.stride.value_or(Size{}).width;
        std::memset(info, 0, size); // what a newer program has more
        std::memcpy(info, &made, sizeof made);
    });
}

isa_status isa_segment(isa_segmenter *segmenter, const isa_frame *frame, const isa_segment_options *options,
                       isa_labels *labels) {
    return guarded([&] { segment(segmenter, frame, 1, options, labels); });
}

isa_status isa_segment_batch(isa_segmenter *segmenter, const isa_frame *frames, size_t count,
                             const isa_segment_options *options, isa_labels *labels) {
    return guarded([&] { segment(segmenter, frames, count, options, labels); });
}

isa_status isa_segment_device(isa_segmenter *segmenter, const isa_device_frames *frames, void *labels, void *stream) {
    return guarded([&] {
        Use use(segmenter);
        if (frames == nullptr)
            fail_input("the frames are null");
        const isa_device_frames read = read_struct(frames, isa_device_frames{}, "isa_device_frames");
        if (read.reserved != 0)
            fail_input("isa_device_frames.reserved is ", read.reserved, ": it must be 0");
        check_sides("frame", read.height, read.width);
        if (read.count < 1)
            fail_input("a batch of ", read.count, " frames: it must be 1 or more");
        if (read.data == nullptr || labels == nullptr)
            fail_input(read.data == nullptr ? "the frames' data is null" : "the labels are null");
        if (read.row_stride < 3 * static_cast<std::ptrdiff_t>(read.width))
            fail_input("the frames' row_stride of ", read.row_stride, " bytes is less than a row of ", read.width,
                       " pixels (", 3 * static_cast<std::ptrdiff_t>(read.width), " bytes)");
        use->segment_device(read, labels, stream);
    });
}

isa_status isa_colorize(const isa_labels *labels, const uint8_t *palette_rgb, size_t num_colours,
                        isa_picture *picture) {
    return guarded([&] {
        check_labels(labels);
        check_palette(palette_rgb, num_colours);
        check_pixels("picture", picture);
        check_same_size("labels", *labels, "a picture", *picture);
        colorize(*labels, palette_rgb, num_colours, *picture);
    });
}

isa_status isa_overlay(const isa_frame *frame, const isa_labels *labels, const uint8_t *palette_rgb, size_t num_colours,
                       double alpha, isa_picture *picture) {
    return guarded([&] {
        check_pixels("frame", frame);
        check_labels(labels);
        check_palette(palette_rgb, num_colours);
        check_pixels("picture", picture);
        check_same_size("a frame", *frame, "labels", *labels);
        check_same_size("a frame", *frame, "a picture", *picture);
        if (!(alpha >= 0 && alpha <= 1)) // NaN fails this too
            fail_input("alpha ", alpha, ": an overlay's opacity is 0 (the frame) to 1 (the colours)");
        overlay(*frame, *labels, palette_rgb, num_colours, alpha, *picture);
    });
}

const char *isa_last_error(void) {
    return last_error;
}

const char *isa_status_name(isa_status status) {
    switch (status) {
    case ISA_OK:
        return "OK";
    case ISA_ERROR_INPUT:
        return "InputError";
    case ISA_ERROR_MANIFEST:
        return "ManifestError";
    case ISA_ERROR_ENGINE:
        return "EngineError";
    case ISA_ERROR_ENGINE_INCOMPATIBLE:
        return "EngineIncompatibleError";
    case ISA_ERROR_BACKEND_UNAVAILABLE:
        return "BackendUnavailableError";
    case ISA_ERROR_OUT_OF_MEMORY:
        return "MemoryError";
    case ISA_ERROR_INTERNAL:
        return "InternalError";
    default:
        return "unknown status";
    }
}

const char *isa_version(void) {
    return ISA_VERSION_TEXT;
}

void isa_set_log(isa_log_function function, int32_t level, void *user) {
    set_log(function, level, user);
}

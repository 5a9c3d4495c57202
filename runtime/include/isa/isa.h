/* isa.h: ISANet segmentation in C.  One header, one library, no Python.
 *
 *     #include <isa/isa.h>
 *
 *     isa_segmenter *segmenter = NULL;
 *     if (isa_open("r101_cityscapes", NULL, &segmenter) != ISA_OK) {
 *         fprintf(stderr, "%s\n", isa_last_error());
 *         return 1;
 *     }
 *     isa_frame frame = {pixels, 3 * width, height, width, ISA_ORDER_BGR};   (what OpenCV gives)
 *     isa_labels labels = {malloc(height * width), width, height, width};    (one byte a pixel)
 *     if (isa_segment(segmenter, &frame, NULL, &labels) != ISA_OK) { ... }
 *     isa_close(segmenter);
 *
 * Threads.  A segmenter serves one thread at a time: give every thread its own.  Segmenters of the same file and
 * options share the engine's weights, so a second one is cheap.  isa_colorize, isa_overlay, isa_version and
 * isa_status_name may be called by any number of threads.  isa_set_log is for the start of the program.
 *
 * Memory.  The caller owns every buffer.  Nothing is kept of a frame after a call returns.  After the first
 * frame of a size (of the last four sizes), isa_segment allocates nothing outside of the engine's library, except with
 * a tiling of the caller's (isa_segment_options).
 *
 * Errors.  Every function that can fail returns an isa_status; isa_last_error() says in one line what was wrong,
 * with its value, and what to do.  No C++ exception leaves the library.  A null pointer, a wrong size or a file that
 * somebody has tampered with is an error like any other.
 *
 * Growing.  Structs that may grow begin with `struct_size`, which the caller sets to the sizeof that it was compiled
 * with (the *_INIT macros do): an older program runs with a newer library, whose new fields then have their defaults.
 */
#ifndef ISA_ISA_H
#define ISA_ISA_H

#include <stddef.h>
#include <stdint.h>

#if defined(ISA_STATIC)
#define ISA_API
#elif defined(_WIN32)
#if defined(ISA_BUILDING)
#define ISA_API __declspec(dllexport)
#else
#define ISA_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define ISA_API __attribute__((visibility("default")))
#else
#define ISA_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define ISA_VERSION_MAJOR 0
#define ISA_VERSION_MINOR 1
#define ISA_VERSION_PATCH 0

/* What became of a call: ISA_OK, or which kind of error, as in Python (isa_deploy.errors). */
typedef int32_t isa_status;
enum {
    ISA_OK = 0,
    ISA_ERROR_INPUT = 1,               /* InputError: a frame, an argument or a struct that cannot be used */
    ISA_ERROR_MANIFEST = 2,            /* ManifestError: missing, malformed, or of a newer isa-deploy */
    ISA_ERROR_ENGINE = 3,              /* EngineError: an engine that cannot be opened or run */
    ISA_ERROR_ENGINE_INCOMPATIBLE = 4, /* EngineIncompatibleError: built for another library or card */
    ISA_ERROR_BACKEND_UNAVAILABLE = 5, /* BackendUnavailableError: its library is not on this machine */
    ISA_ERROR_OUT_OF_MEMORY = 6,
    ISA_ERROR_INTERNAL = 7 /* a defect of this library; please report it */
};

/* An opened engine and what it needs for frames; made by isa_open, ended by isa_close. */
typedef struct isa_segmenter isa_segmenter;

/* How to open.  Null strings and zeros are the defaults. */
typedef struct isa_open_options {
    size_t struct_size;        /* sizeof(isa_open_options) */
    const char *backend;       /* "auto", "tensorrt", "openvino", "onnxruntime": default "auto" */
    const char *device;        /* "auto", "cpu", "cuda", or a GPU's number such as "1": default "auto" */
    const char *precision;     /* "auto", "fp32", "bf16" (OpenVINO's floating point): default "auto" */
    const char *resize;        /* "test" (the model's test scale), "none", "HEIGHTxWIDTH": default "test" */
    const char *schedule;      /* "latency" (all cores on one frame) or "throughput" (several segmenters, each
                                  in a thread of its own, share the cores): default "latency" */
    const char *cache_dir;     /* where OpenVINO keeps compiled models, so that the next start is fast; default: none */
    const char *backend_dir;   /* where the libisa_BACKEND.so files lie; default: $ISA_BACKEND_DIR, else beside
                                  this library */
    int32_t threads;           /* cores for an engine on the CPU; 0: its library's choice */
    int32_t allow_engine_code; /* not 0: a version-compatible plan may run the host code that it carries.
                                  Only for plans of people you trust. */
} isa_open_options;
/* clang-format off */
#define ISA_OPEN_OPTIONS_INIT {sizeof(isa_open_options), NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0}
/* clang-format on */

/* Order of a pixel's three bytes.  ISA_ORDER_MODEL is the order that the model was exported for (isa_model_info), which
 * costs nothing; the other one is turned round while the frame is copied. */
enum { ISA_ORDER_MODEL = 0, ISA_ORDER_BGR = 1, ISA_ORDER_RGB = 2 };

/* A frame to read: 3 bytes a pixel, 0 to 255. */
typedef struct isa_frame {
    const uint8_t *data;  /* the first pixel */
    ptrdiff_t row_stride; /* bytes from one row to the next: 3 * width or more, or negative for a picture that is
                             stored from its last row on (data is the top row all the same) */
    int32_t height;
    int32_t width;
    int32_t order; /* ISA_ORDER_... */
} isa_frame;

/* A picture to write: 3 bytes a pixel. */
typedef struct isa_picture {
    uint8_t *data;
    ptrdiff_t row_stride; /* as in isa_frame */
    int32_t height;
    int32_t width;
    int32_t order; /* ISA_ORDER_BGR, ISA_ORDER_RGB; ISA_ORDER_MODEL counts as BGR */
} isa_picture;

/* A label map: one byte a pixel, the number of its class.  To write in isa_segment, to read in isa_colorize. */
typedef struct isa_labels {
    uint8_t *data;
    ptrdiff_t row_stride; /* bytes: width or more, or negative as in isa_frame */
    int32_t height;       /* those of the frame */
    int32_t width;
} isa_labels;

/* How a frame goes through the network.
 * ISA_TILING_MODEL: as the model was tested (whole, or its own sliding windows, at its test scale).  The others show
 * the network the frame's own pixels: SLIDE overlaps windows and averages their logits, TILES throws the windows'
 * borders away, BLEND lets overlapping windows fade into each other. */
enum { ISA_TILING_MODEL = 0, ISA_TILING_SLIDE = 1, ISA_TILING_TILES = 2, ISA_TILING_BLEND = 3 };

typedef struct isa_segment_options {
    size_t struct_size;  /* sizeof(isa_segment_options) */
    int32_t tiling;      /* ISA_TILING_... */
    int32_t tile_height; /* both 0: the model's crop or fixed frame, else 1024 x 1024 */
    int32_t tile_width;
    int32_t halo;     /* pixels that a tile throws away on each side, and half of what neighbours overlap; -1: the
                            model's stride with SLIDE, else 64 for tiles of 1024 and more, and a quarter of the
                            side, at most 128, for smaller ones */
    int32_t batch;    /* windows in one call of the engine; 0: what suits the backend */
    int32_t reserved; /* 0 */
} isa_segment_options;
#define ISA_SEGMENT_OPTIONS_INIT {sizeof(isa_segment_options), ISA_TILING_MODEL, 0, 0, -1, 0, 0}

/* What was opened.  Strings and arrays are the segmenter's: valid until isa_close. */
typedef struct isa_model_info {
    size_t struct_size;             /* sizeof(isa_model_info), set by the caller */
    const char *architecture;       /* "ISANet-R101", as exported */
    const char *precision;          /* what it computes in: "fp32", "fp16", "bf16", "int8" */
    const char *backend;            /* "tensorrt", "openvino", "onnxruntime" */
    const char *device;             /* "cpu", or the GPU in words */
    int32_t num_classes;            /* 1 to 256 */
    int32_t order;                  /* ISA_ORDER_BGR or ISA_ORDER_RGB: what ISA_ORDER_MODEL stands for */
    const char *const *class_names; /* num_classes strings, UTF-8 */
    const uint8_t *palette_rgb;     /* num_classes times red, green, blue */
    int32_t fixed_batch;            /* frames in a call of the engine, 0 where any number will do */
    int32_t fixed_height;           /* the only size that the graph takes, 0 and 0 where any will do */
    int32_t fixed_width;
    int32_t crop_height; /* the sliding windows of the model, 0 where it takes whole frames */
    int32_t crop_width;
    int32_t stride_height;
    int32_t stride_width;
} isa_model_info;

/* Opens an artefact folder of isa-export, its model.onnx, its model.plan or its model.json.
 * `options` may be null.  On failure *segmenter is null. */
ISA_API isa_status isa_open(const char *path, const isa_open_options *options, isa_segmenter **segmenter);

/* Opens a graph (ONNX, `manifest_json` null: it carries its manifest) or a plan (with its manifest, the text
 * of model.json, of `manifest_size` bytes) that lies in memory.  Nothing of it is used after the call. */
ISA_API isa_status isa_open_memory(const void *engine, size_t engine_size, const char *manifest_json,
                                   size_t manifest_size, const isa_open_options *options, isa_segmenter **segmenter);

/* Waits for what the engine is at (isa_segment_device), then frees everything.  Null is allowed. */
ISA_API void isa_close(isa_segmenter *segmenter);

/* Says what was opened.  `info->struct_size` must be set. */
ISA_API isa_status isa_info(const isa_segmenter *segmenter, isa_model_info *info);

/* Writes the labels of a frame.  `labels` has the frame's height and width; `options` may be null.
 * The same bytes as Python's Segmenter.segment with the same engine. */
ISA_API isa_status isa_segment(isa_segmenter *segmenter, const isa_frame *frame, const isa_segment_options *options,
                               isa_labels *labels);

/* isa_segment for `count` frames of one size, in as few calls of the engine as it takes.  With an error no
 * labels can be relied on. */
ISA_API isa_status isa_segment_batch(isa_segmenter *segmenter, const isa_frame *frames, size_t count,
                                     const isa_segment_options *options, isa_labels *labels);

/* Frames that lie on the GPU of a TensorRT engine. */
typedef struct isa_device_frames {
    size_t struct_size;   /* sizeof(isa_device_frames) */
    const void *data;     /* device address: count x height rows of pixels, in the model's order */
    ptrdiff_t row_stride; /* bytes: 3 * width or more */
    int32_t count;        /* frames, one below the other: the next begins height * row_stride bytes on */
    int32_t height;
    int32_t width;
    int32_t reserved; /* 0 */
} isa_device_frames;

/* Gives frames on the GPU to the engine on a CUDA stream (a cudaStream_t) and returns; `labels`, a device address of
 * count * height * width bytes, is complete when the stream has come so far.  Another call for this segmenter must
 * be on the same stream, or after it was synchronised.  ISA_ERROR_INPUT where the engine does not run on
 * a GPU, and where the labels need more than the graph (a test scale, windows cut outside of it: open with
 * resize "none", export with --shape). */
ISA_API isa_status isa_segment_device(isa_segmenter *segmenter, const isa_device_frames *frames, void *labels,
                                      void *stream);

/* Paints labels in their classes' colours: `palette_rgb` has `num_colours` (1 to 256) times red, green, blue, such as
 * isa_model_info's; a label beyond it becomes black. */
ISA_API isa_status isa_colorize(const isa_labels *labels, const uint8_t *palette_rgb, size_t num_colours,
                                isa_picture *picture);

/* Lays the classes' colours over a frame: frame * (1 - alpha) + colour * alpha, to the nearest integer.
 * `alpha` is 0 (the frame) to 1 (the colours).  The frame's order is the picture's unless it says otherwise, and the
 * picture may be the frame's own memory if order and stride are the same. */
ISA_API isa_status isa_overlay(const isa_frame *frame, const isa_labels *labels, const uint8_t *palette_rgb,
                               size_t num_colours, double alpha, isa_picture *picture);

/* What went wrong in this thread's last call that failed: one line, UTF-8, never null, valid until the thread's next
 * call that fails. */
ISA_API const char *isa_last_error(void);

/* "InputError" for ISA_ERROR_INPUT, and so on: Python's name of an error. */
ISA_API const char *isa_status_name(isa_status status);

/* "0.1.0": of the library that runs, where ISA_VERSION_... are of the header. */
ISA_API const char *isa_version(void);

enum { ISA_LOG_ERROR = 1, ISA_LOG_WARNING = 2, ISA_LOG_INFO = 3 };

/* Called with each message up to a level, from any thread, one at a time.  It must not call this library, and what it
 * throws goes no further. */
typedef void (*isa_log_function)(int32_t level, const char *message, void *user);

/* Sends the library's and its engines' messages to `function` (null: to nobody, which is the default). */
ISA_API void isa_set_log(isa_log_function function, int32_t level, void *user);

#ifdef __cplusplus
}
#endif

#endif

/* What the core asks of an engine's library: a table of functions in a shared object of its own.
 *
 * libisa_NAME.so exports isa_backend().  It is loaded when it is first needed, so a program runs where its engine's
 * library is missing, and says so.  It is C, and part of no public header: core and backends are of one version,
 * which `abi` checks.  No exception crosses; a failure is a status with a message.
 */
#ifndef ISA_BACKEND_H
#define ISA_BACKEND_H

#include <isa/isa.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ISA_BACKEND_ABI 2
#define ISA_BACKEND_SYMBOL "isa_backend"
#define ISA_MAX_SLOTS 4

typedef struct isa_engine isa_engine; /* the backend's own */

/* Why a call failed.  The message is one line: what was wrong, with its value, and what to do. */
typedef struct isa_failure {
    isa_status status;
    char message[2048];
} isa_failure;

/* A number of a manifest's EngineSpec, for a plan. */
typedef struct isa_plan_record {
    const char *builder;            /* "tensorrt", "tensorrt_rtx" */
    const char *builder_version;    /* "10.16.1.11" */
    const char *compute_capability; /* "8.9"; null: every card from Ampere on */
    const char *plan_sha256;        /* 64 hexadecimal digits; held against the bytes by the core */
    int32_t hardware_compatible;
    int32_t version_compatible;
} isa_plan_record;

/* What to open.  Everything is valid during the call only. */
typedef struct isa_engine_request {
    const char *path; /* of the file, for the engine's library and for messages; in messages alone where
                                    `data` is not null ("<memory>" for isa_open_memory) */
    const void *data; /* the file's bytes, or null: read `path`.  Always given for a plan. */
    size_t size;
    const isa_plan_record *plan; /* null where nobody recorded what built it, and for a graph */
    const char *input;           /* names of the graph's tensors, from the manifest */
    const char *labels;
    const char *logits;
    const char *graph_precision; /* "fp32", "fp16", "bf16", "int8": of the graph itself */
    const char *float_type;      /* "fp32", "fp16", "bf16": of what is not int8 in the graph itself */
    const char *device;          /* "auto", "cpu", "cuda", "0", "1", ... */
    const char *precision;       /* "auto", "fp32", "bf16": of what is not int8 */
    const char *schedule;        /* "latency", "throughput" */
    const char *cache_dir;       /* or null */
    int32_t threads;             /* or 0 */
    int32_t allow_engine_code;
    void (*log)(int32_t level, const char *message); /* ISA_LOG_...; never null; may be kept */
} isa_engine_request;

enum { ISA_DTYPE_OTHER = 0, ISA_DTYPE_UINT8 = 1, ISA_DTYPE_FLOAT32 = 2 };

/* An input or output of the engine, as its library describes it: the core holds it against the manifest. */
typedef struct isa_tensor {
    const char *name;
    const char *dtype_name; /* as numpy names it where it can be, else the library's word */
    int32_t is_input;
    int32_t dtype;    /* ISA_DTYPE_... */
    int32_t rank;     /* sides beyond eight are not looked at */
    int64_t shape[8]; /* -1 where free */
} isa_tensor;

/* What was opened; strings and arrays are the engine's and live as long as it does. */
typedef struct isa_engine_info {
    const char *precision; /* what it computes in */
    const char *device;    /* "cpu", "cuda:0 (NVIDIA L4)" */
    int32_t fast_argmax;   /* whether the graph's own labels come sooner than its logits and the core's argmax */
    int32_t slots;         /* frames or batches that can be under way, 1 to ISA_MAX_SLOTS */
    int32_t tensor_count;
    const isa_tensor *tensors;
} isa_engine_info;

enum { ISA_WANT_LABELS = 1, ISA_WANT_LOGITS = 2 };

/* The answer of a slot: valid until the slot's next input().  What was not wanted is null. */
typedef struct isa_engine_answer {
    const uint8_t *labels_nhw; /* n x h x w, contiguous */
    int64_t labels_shape[3];
    const float *logits_nchw; /* n x c x h x w, contiguous */
    int64_t logits_shape[4];
} isa_engine_answer;

/* Frames on the GPU, and where their labels go. */
typedef struct isa_device_call {
    const void *image; /* n x h rows of 3 w bytes, `row_stride` bytes apart */
    ptrdiff_t row_stride;
    int32_t n, h, w;
    void *labels; /* n x h x w bytes */
    void *stream; /* cudaStream_t */
} isa_device_call;

typedef struct isa_backend_api {
    uint32_t abi; /* ISA_BACKEND_ABI */
    const char *name;
    const char *library; /* "OpenVINO 2026.4.1": for messages and the log */

    /* Whether engines can be opened for `device` on this machine: library, driver, card.  Opens nothing. */
    isa_status (*available)(const char *device, isa_failure *failure);

    isa_status (*open)(const isa_engine_request *request, isa_engine **engine, isa_engine_info *info,
                       isa_failure *failure);

    /* Waits for what is under way, then frees. */
    void (*close)(isa_engine *engine);

    /* The most frames of a size that are worth giving at once; 0: as many as there is memory for. */
    int32_t (*largest_batch)(isa_engine *engine, int32_t h, int32_t w);

    /* Where the core puts frames (uint8, n x h x w x 3, contiguous) for start().  The slot is idle.  Fails for a
     * size that the engine was not built for.  Allocates only where the slot's shape changes. */
    isa_status (*input)(isa_engine *engine, int32_t slot, int32_t n, int32_t h, int32_t w, uint8_t **image_nhwc,
                        isa_failure *failure);

    /* Starts the engine on a slot's input and returns, where it can.  `want`: ISA_WANT_... */
    isa_status (*start)(isa_engine *engine, int32_t slot, uint32_t want, isa_failure *failure);

    /* Waits for a slot that was started.  After a failure the slot is idle. */
    isa_status (*wait)(isa_engine *engine, int32_t slot, isa_engine_answer *answer, isa_failure *failure);

    /* Enqueues on the caller's stream and returns.  Null where there is no GPU to it. */
    isa_status (*run_device)(isa_engine *engine, const isa_device_call *call, isa_failure *failure);
} isa_backend_api;

/* The one symbol of a backend's shared object.  Null where the library cannot be used at all. */
typedef const isa_backend_api *(*isa_backend_function)(void);

#ifdef __cplusplus
}
#endif

#endif

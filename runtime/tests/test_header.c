/* isa.h alone, as C11, and the layout that programs were compiled with: a check that fails here is a change of the ABI
 * (see "Growing" in isa.h: fields are added at the end of structs that begin with struct_size, and nowhere else). */
#include <isa/isa.h>

#include <assert.h>
#include <string.h>

#define OFFSET(type, field, bytes) \
    static_assert(offsetof(type, field) == (bytes), "the ABI has changed: " #type "." #field)
#define SIZE(type, bytes) static_assert(sizeof(type) == (bytes), "the ABI has changed: " #type)

SIZE(isa_status, 4);
static_assert(ISA_OK == 0 && ISA_ERROR_INPUT == 1 && ISA_ERROR_MANIFEST == 2 && ISA_ERROR_ENGINE == 3 &&
                  ISA_ERROR_ENGINE_INCOMPATIBLE == 4 && ISA_ERROR_BACKEND_UNAVAILABLE == 5 &&
                  ISA_ERROR_OUT_OF_MEMORY == 6 && ISA_ERROR_INTERNAL == 7,
              "the ABI has changed: isa_status");
static_assert(ISA_ORDER_MODEL == 0 && ISA_ORDER_BGR == 1 && ISA_ORDER_RGB == 2, "the ABI has changed: ISA_ORDER");
static_assert(ISA_TILING_MODEL == 0 && ISA_TILING_SLIDE == 1 && ISA_TILING_TILES == 2 && ISA_TILING_BLEND == 3,
              "the ABI has changed: ISA_TILING");
static_assert(ISA_LOG_ERROR == 1 && ISA_LOG_WARNING == 2 && ISA_LOG_INFO == 3, "the ABI has changed: ISA_LOG");

#if UINTPTR_MAX == 0xffffffffffffffffu
OFFSET(isa_open_options, struct_size, 0);
OFFSET(isa_open_options, backend, 8);
OFFSET(isa_open_options, device, 16);
OFFSET(isa_open_options, precision, 24);
OFFSET(isa_open_options, resize, 32);
OFFSET(isa_open_options, schedule, 40);
OFFSET(isa_open_options, cache_dir, 48);
OFFSET(isa_open_options, backend_dir, 56);
OFFSET(isa_open_options, threads, 64);
OFFSET(isa_open_options, allow_engine_code, 68);
SIZE(isa_open_options, 72);

OFFSET(isa_frame, data, 0);
OFFSET(isa_frame, row_stride, 8);
OFFSET(isa_frame, height, 16);
OFFSET(isa_frame, width, 20);
OFFSET(isa_frame, order, 24);
SIZE(isa_frame, 32);

OFFSET(isa_picture, data, 0);
OFFSET(isa_picture, row_stride, 8);
OFFSET(isa_picture, height, 16);
OFFSET(isa_picture, width, 20);
OFFSET(isa_picture, order, 24);
SIZE(isa_picture, 32);

OFFSET(isa_labels, data, 0);
OFFSET(isa_labels, row_stride, 8);
OFFSET(isa_labels, height, 16);
OFFSET(isa_labels, width, 20);
SIZE(isa_labels, 24);

OFFSET(isa_segment_options, struct_size, 0);
OFFSET(isa_segment_options, tiling, 8);
OFFSET(isa_segment_options, tile_height, 12);
OFFSET(isa_segment_options, tile_width, 16);
OFFSET(isa_segment_options, halo, 20);
OFFSET(isa_segment_options, batch, 24);
OFFSET(isa_segment_options, reserved, 28);
SIZE(isa_segment_options, 32);

OFFSET(isa_model_info, struct_size, 0);
OFFSET(isa_model_info, architecture, 8);
OFFSET(isa_model_info, precision, 16);
OFFSET(isa_model_info, backend, 24);
OFFSET(isa_model_info, device, 32);
OFFSET(isa_model_info, num_classes, 40);
OFFSET(isa_model_info, order, 44);
OFFSET(isa_model_info, class_names, 48);
OFFSET(isa_model_info, palette_rgb, 56);
OFFSET(isa_model_info, fixed_batch, 64);
OFFSET(isa_model_info, fixed_height, 68);
OFFSET(isa_model_info, fixed_width, 72);
OFFSET(isa_model_info, crop_height, 76);
OFFSET(isa_model_info, crop_width, 80);
OFFSET(isa_model_info, stride_height, 84);
OFFSET(isa_model_info, stride_width, 88);
SIZE(isa_model_info, 96);

OFFSET(isa_device_frames, struct_size, 0);
OFFSET(isa_device_frames, data, 8);
OFFSET(isa_device_frames, row_stride, 16);
OFFSET(isa_device_frames, count, 24);
OFFSET(isa_device_frames, height, 28);
OFFSET(isa_device_frames, width, 32);
OFFSET(isa_device_frames, reserved, 36);
SIZE(isa_device_frames, 40);
#endif

int main(void) {
    /* the macros initialise every field, in the order of the fields */
    const isa_open_options open_options = ISA_OPEN_OPTIONS_INIT;
    const isa_segment_options segment_options = ISA_SEGMENT_OPTIONS_INIT;
    if (open_options.struct_size != sizeof open_options || open_options.backend != NULL || open_options.threads != 0)
        return 1;
    if (segment_options.struct_size != sizeof segment_options || segment_options.tiling != ISA_TILING_MODEL ||
        segment_options.halo != -1 || segment_options.batch != 0)
        return 2;
    if (strcmp(isa_status_name(ISA_ERROR_INPUT), "InputError") != 0)
        return 3;
    return isa_last_error() == NULL;
}

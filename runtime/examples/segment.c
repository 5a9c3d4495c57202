/* One picture: segment ENGINE INPUT.ppm OUTPUT.ppm
 * Reads a binary PPM (P6: convert street.png street.ppm), and writes it with the classes' colours laid over it. */
#include <stdio.h>
#include <stdlib.h>

#include <isa/isa.h>

#define MAX_SIDE 32768

static int fail(const char *path, const char *what) {
    fprintf(stderr, "%s: %s\n", path, what);
    return EXIT_FAILURE;
}

/* The pixels of a P6 file with 255 values, for free(); null where it is none.  Closes the file. */
static uint8_t *read_ppm(FILE *file, int *height, int *width) {
    uint8_t *pixels = NULL;
    /* exactly one blank before the pixels, whose first byte may look like one too; %n: it was there */
    int header = 0;
    if (fscanf(file, "P6 %5d %5d 255%*1[ \t\r\n]%n", width, height, &header) == 2 && header > 0 && *width > 0 &&
        *height > 0 && *width <= MAX_SIDE && *height <= MAX_SIDE) {
        const size_t bytes = 3 * (size_t)*width * (size_t)*height;
        pixels = malloc(bytes);
        if (pixels != NULL && fread(pixels, 1, bytes, file) != bytes) {
            free(pixels);
            pixels = NULL;
        }
    }
    fclose(file);
    return pixels;
}

static int write_ppm(const char *path, const uint8_t *pixels, int height, int width) {
    FILE *const file = fopen(path, "wb");
    if (file == NULL)
        return 0;
    const int header = fprintf(file, "P6\n%d %d\n255\n", width, height);
    const size_t bytes = 3 * (size_t)width * (size_t)height;
    const size_t written = fwrite(pixels, 1, bytes, file);
    return (fclose(file) == 0) & (header > 0) & (written == bytes);
}

int main(int argc, char **argv) {
    if (argc != 4)
        return fail(argv[0], "usage: segment ENGINE INPUT.ppm OUTPUT.ppm");
    int height = 0, width = 0;
    FILE *const input = fopen(argv[2], "rb");
    if (input == NULL)
        return fail(argv[2], "cannot be read; check the path");
    uint8_t *const pixels = read_ppm(input, &height, &width);
    if (pixels == NULL)
        return fail(argv[2], "is no binary PPM (P6, 255, no comments) of at most 32768 x 32768 pixels");
    uint8_t *const label_bytes = malloc((size_t)width * (size_t)height);

    const isa_frame frame = {pixels, 3 * (ptrdiff_t)width, height, width, ISA_ORDER_RGB};
    isa_labels labels = {label_bytes, width, height, width};
    isa_picture picture = {pixels, 3 * (ptrdiff_t)width, height, width, ISA_ORDER_RGB}; /* over the frame itself */
    isa_model_info info = {.struct_size = sizeof info};
    isa_segmenter *segmenter = NULL;
    int result = EXIT_SUCCESS;
    if (label_bytes == NULL)
        result = fail(argv[2], "there is not enough memory for its labels");
    else if (isa_open(argv[1], NULL, &segmenter) != ISA_OK || isa_info(segmenter, &info) != ISA_OK ||
             isa_segment(segmenter, &frame, NULL, &labels) != ISA_OK ||
             isa_overlay(&frame, &labels, info.palette_rgb, (size_t)info.num_classes, 0.5, &picture) != ISA_OK)
        result = fail("segment", isa_last_error());
    else if (!write_ppm(argv[3], pixels, height, width))
        result = fail(argv[3], "cannot be written");
    isa_close(segmenter);
    free(label_bytes);
    free(pixels);
    return result;
}

/* A program of somebody else: which library runs, and what it says of an engine that is not there. */
#include <stdio.h>
#include <string.h>

#include <isa/isa.h>

int main(void) {
    isa_segmenter *segmenter = NULL;
    const isa_status status = isa_open("/nowhere/engine", NULL, &segmenter);
    printf("libisa %s: %s: %s\n", isa_version(), isa_status_name(status), isa_last_error());
    isa_close(segmenter);
    return status == ISA_ERROR_ENGINE && segmenter == NULL && strstr(isa_last_error(), "/nowhere/engine") != NULL ? 0
                                                                                                                  : 1;
}

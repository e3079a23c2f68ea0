// Any bytes as what a decoder child says: a reply with its planes, or, after a first byte of 's', the packed state of a clip,
// from which frames are chosen.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "decoder/job.h"
#include "decoder/video_state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SLOT_BYTES 4096

// Every byte that the planes claim.
static unsigned touch(const planes *p)
{
    const int64_t sample = p->bits > 8 ? 2 : 1;
    unsigned sum = 0;
    for (int32_t y = 0; y < p->height; y++) sum += p->y[y * p->y_pitch] + p->y[y * p->y_pitch + p->width * sample - 1];
    for (int32_t y = 0; y < p->height / 2; y++) {
        const int64_t last = y * p->uv_pitch + p->width / 2 * p->uv_step * sample - 1;
        sum += p->u[last] + (p->v ? p->v[last] : 0);
    }
    return sum;
}

static unsigned read_reply(const uint8_t *data, size_t size)
{
    static uint8_t *slot; // of its own, so that a sanitizer sees its ends
    reply_message *m = malloc(sizeof *m);
    planes p;
    unsigned sum = 0;
    if (!slot) slot = calloc(1, SLOT_BYTES);
    if (m && slot && job_parse_reply(m, data, size)) {
        if (m->head.kind == REPLY_PLANES && job_planes(&p, &m->head, slot, SLOT_BYTES)) sum += touch(&p);
        for (size_t i = 0; m->head.kind == REPLY_STATE && i < m->data_size; i++) sum += m->data[i];
        if (m->head.kind == REPLY_ERROR || m->head.kind == REPLY_DONE) sum += (unsigned)strlen(m->text);
    }
    free(m);
    return sum;
}

static void read_state(const uint8_t *data, size_t size)
{
    const video_limits limits = {.max_pixels = 1 << 18};
    const video_choice choice = {.fps = 2, .min_frames = 4, .max_frames = 12};
    video *v;
    if (video_create(&v, &(av_origin){"fuzz", -1, NULL, 0}, &limits)) return;
    int64_t *indices;
    double *times;
    int32_t n;
    char *losses = NULL;
    if (!video_state_unpack(v, data, size)) {
        if (!video_choose(v, &choice, &indices, &times, &n)) {
            for (int32_t i = 0; i < n; i++) {
                if (indices[i] < 0 || indices[i] >= v->index.n) abort();
            }
            free(indices);
            free(times);
        }
        if (!video_losses(v, &losses)) free(losses);
    }
    video_close(&v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    // A copy where the bytes end with the block, and which is aligned as a received message is.
    const bool state = size && data[0] == 's';
    if (state) data++, size--;
    volatile unsigned used = 0; // so that everything is read
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy) return 0;
    if (size) memcpy(copy, data, size);
    if (state) read_state(copy, size);
    else used = read_reply(copy, size);
    free(copy);
    (void)used;
    return 0;
}

// A message as bytes: frames split at 0xff 0xfe, read as the server reads them, and the JSON of
// asks and plans as the planner reads it. Cancels and configuration lines are read from the same
// bytes.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/settings/options.h"
#include "daemon/request.h"
#include "daemon/status.h"
#include "ipc/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_FRAMES (WIRE_HEAD_FRAMES + SIGHT_PARTS_MAX + 2)

static size_t cut(wire_frame *frames, const uint8_t *data, size_t size)
{
    size_t n = 0, begin = 0;
    for (size_t i = 0; i + 1 < size && n + 1 < MAX_FRAMES; i++) {
        if (data[i] != 0xff || data[i + 1] != 0xfe) continue;
        frames[n++] = (wire_frame){data + begin, i - begin};
        begin = ++i + 1;
    }
    frames[n++] = (wire_frame){data + begin, size - begin};
    return n;
}

static void read_request(const wire_request *w)
{
    const generation_config defaults = {.temperature = 1, .top_p = 1, .repetition_penalty = 1};
    const request_limits limits = request_limits_default();
    request_part parts[SIGHT_PARTS_MAX];
    for (size_t i = 0; i < w->n_parts; i++) {
        parts[i] = (request_part){w->parts[i].data, w->parts[i].size};
    }
    const request_source source = {
        .json = w->json, .size = w->json_size, .parts = parts, .n_parts = w->n_parts};
    request *r = NULL;
    if (!request_parse(&r, &source, &limits, &defaults)) request_destroy(&r);
}

static void read_settings(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    if (!text) return;
    memcpy(text, data, size);
    text[size] = 0;
    options o;
    options_set_defaults(&o);
    if (options_read_text(&o, text, "fuzz")) (void)sight_error();
    options_done(&o);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    wire_frame frames[MAX_FRAMES];
    const size_t n = cut(frames, data, size);
    wire_request w;
    wire_event e;
    char id[SIGHT_ID_SIZE], who[IDENTITY_NAME_SIZE];
    if (wire_read_event(&e, frames, n)) (void)sight_error();
    if (wire_read_request(&w, frames, n)) {
        read_settings(data, size);
        return 0;
    }
    if (w.verb == SIGHT_CANCEL && status_read_cancel(id, who, w.json, w.json_size)) (void)sight_error();
    if (w.verb == SIGHT_ASK || w.verb == SIGHT_PLAN) read_request(&w);
    return 0;
}

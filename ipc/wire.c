#include "ipc/wire.h"

#include <string.h>

static const char *const verbs[SIGHT_VERB_COUNT] = {
    "ask", "cancel", "plan", "models", "status", "watch", "unwatch",
};

static const char *const events[SIGHT_EVENT_COUNT] = {
    "accepted", "progress", "warning", "delta", "done", "error", "alive",
};

const char *sight_verb_name(sight_verb verb)
{
    return (unsigned)verb < SIGHT_VERB_COUNT ? verbs[verb] : NULL;
}

const char *sight_event_name(sight_event_kind kind)
{
    return (unsigned)kind < SIGHT_EVENT_COUNT ? events[kind] : NULL;
}

static int find_word(const char *const *words, int n, const char *word, size_t size)
{
    int i = 0;
    while (i < n && (strlen(words[i]) != size || memcmp(words[i], word, size))) i++;
    return i;
}

sight_verb sight_verb_parse(const char *word, unsigned long size)
{
    return (sight_verb)find_word(verbs, SIGHT_VERB_COUNT, word, size);
}

sight_event_kind sight_event_parse(const char *word, unsigned long size)
{
    return (sight_event_kind)find_word(events, SIGHT_EVENT_COUNT, word, size);
}

int wire_id_is_good(const char *id, size_t size)
{
    if (size < 1 || size > SIGHT_ID_MAX) return 0;
    for (size_t i = 0; i < size; i++) {
        char c = id[i];
        int good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                   c == '-' || c == '_' || c == '.';
        if (!good) return 0;
    }
    return 1;
}

// The frames that both directions begin with: protocol and id.
static sight_err read_head(char id[SIGHT_ID_SIZE], const wire_frame *frames, size_t n)
{
    id[0] = 0;
    if (n < 1 || frames[0].size != strlen(SIGHT_PROTOCOL) ||
        memcmp(frames[0].data, SIGHT_PROTOCOL, frames[0].size)) {
        return sight_fail(SIGHT_E_PROTOCOL, "the first frame must be '%s'", SIGHT_PROTOCOL);
    }
    if (n < 2 || !wire_id_is_good(frames[1].data, frames[1].size)) {
        return sight_fail(SIGHT_E_PROTOCOL,
                          "the second frame must be a request id: 1 to %d letters, digits, '-', "
                          "'_' or '.'", SIGHT_ID_MAX);
    }
    memcpy(id, frames[1].data, frames[1].size);
    id[frames[1].size] = 0;
    return SIGHT_OK;
}

sight_err wire_read_request(wire_request *out, const wire_frame *frames, size_t n)
{
    *out = (wire_request){.verb = SIGHT_VERB_COUNT};
    sight_err err = read_head(out->id, frames, n);
    if (err) return err;
    if (n < 4) {
        return sight_fail(SIGHT_E_PROTOCOL, "%zu frames, must be %d or more: protocol, id, verb, "
                          "JSON", n, WIRE_HEAD_FRAMES);
    }
    if (n - WIRE_HEAD_FRAMES > SIGHT_PARTS_MAX) {
        return sight_fail(SIGHT_E_PROTOCOL, "%zu binary parts, the limit is %d",
                          n - WIRE_HEAD_FRAMES, SIGHT_PARTS_MAX);
    }
    out->verb = sight_verb_parse(frames[2].data, frames[2].size);
    if (out->verb == SIGHT_VERB_COUNT) {
        return sight_fail(SIGHT_E_PROTOCOL,
                          "the verb is none of ask, cancel, plan, models, status");
    }
    out->json = frames[3].data;
    out->json_size = frames[3].size;
    out->parts = frames + WIRE_HEAD_FRAMES;
    out->n_parts = n - WIRE_HEAD_FRAMES;
    if (out->verb == SIGHT_WATCH || out->verb == SIGHT_UNWATCH) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "'%s': cameras are not served by this version",
                          sight_verb_name(out->verb));
    }
    return SIGHT_OK;
}

sight_err wire_read_event(wire_event *out, const wire_frame *frames, size_t n)
{
    *out = (wire_event){.kind = SIGHT_EVENT_COUNT};
    sight_err err = read_head(out->id, frames, n);
    if (err) return err;
    if (n != WIRE_HEAD_FRAMES) {
        return sight_fail(SIGHT_E_PROTOCOL, "%zu frames in an event, must be %d", n,
                          WIRE_HEAD_FRAMES);
    }
    out->kind = sight_event_parse(frames[2].data, frames[2].size);
    if (out->kind == SIGHT_EVENT_COUNT) {
        return sight_fail(SIGHT_E_PROTOCOL, "an event that this client does not know");
    }
    out->json = frames[3].data;
    out->json_size = frames[3].size;
    return SIGHT_OK;
}

static void write_head(wire_frame *out, const char *id, const char *word, const char *json,
                       size_t json_size)
{
    out[0] = (wire_frame){SIGHT_PROTOCOL, strlen(SIGHT_PROTOCOL)};
    out[1] = (wire_frame){id, strlen(id)};
    out[2] = (wire_frame){word, strlen(word)};
    out[3] = (wire_frame){json, json_size};
}

void wire_write_request(wire_frame out[WIRE_HEAD_FRAMES], const char *id, sight_verb verb,
                        const char *json, size_t json_size)
{
    write_head(out, id, verbs[verb], json, json_size);
}

void wire_write_event(wire_frame out[WIRE_HEAD_FRAMES], const char *id, sight_event_kind kind,
                      const char *json, size_t json_size)
{
    write_head(out, id, events[kind], json, json_size);
}

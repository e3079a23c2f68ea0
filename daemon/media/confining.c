#include "daemon/media/confining.h"

#include <string.h>

#include "base/log.h"

sight_err confining_check(const char *word)
{
    if (!word || !strcmp(word, "auto") || !strcmp(word, "require") || !strcmp(word, "off")) return SIGHT_OK;
    return sight_fail(SIGHT_E_ARGUMENT, "confine is '%.40s', must be auto, require or off", word);
}

static void count(void *arg, decoder_event what, int32_t working)
{
    metrics *m = arg;
    metrics_set(m, METRIC_DECODER_CHILDREN, working);
    switch (what) {
    case DECODER_STARTED: metrics_add(m, METRIC_DECODER_STARTS, 1); break;
    case DECODER_TAKEN: break;
    case DECODER_DONE: metrics_add_to(m, METRIC_DECODER_ENDS, BY_ENDING_DONE, 0, 1); break;
    case DECODER_FAILED: metrics_add_to(m, METRIC_DECODER_ENDS, BY_ENDING_FAILED, 0, 1); break;
    case DECODER_CRASHED: metrics_add_to(m, METRIC_DECODER_ENDS, BY_ENDING_CRASHED, 0, 1); break;
    case DECODER_TIMED_OUT: metrics_add_to(m, METRIC_DECODER_ENDS, BY_ENDING_TIME, 0, 1); break;
    case DECODER_NO_MEMORY: metrics_add_to(m, METRIC_DECODER_ENDS, BY_ENDING_MEMORY, 0, 1); break;
    }
}

sight_err confining_open(decoders **out, options *o)
{
    const char *mode = o->confine ? o->confine : "auto";
    const bool off = !strcmp(mode, "off"), require = !strcmp(mode, "require");
    *out = NULL;
    if (off) {
        log_line(LOG_WARNING, "media are opened in this process itself (confine = off): a decoder's defect is the daemon's");
        return SIGHT_OK;
    }
    const decoders_options d = {.require = require, .memory_bytes = o->decoder_memory, .seconds = o->decoder_s,
                                .silence_s = o->decoder_silence_s, .tell = count, .tell_arg = o->engine.metrics};
    sight_err err = decoders_create(out, &d);
    if (err) return err;
    if (decoders_warning(*out)) log_line(LOG_WARNING, "%s", decoders_warning(*out));
    if (o->limits.gpu_decode) {
        log_line(LOG_WARNING, "clips are read in this process itself where a GPU decodes them (gpu-decode = yes)");
    }
    o->limits.decoders = *out;
    return SIGHT_OK;
}

json_t *confining_describe(decoders *d)
{
    if (!d) return json_pack("{s:b}", "process", 0);
    const decoders_status s = decoders_get_status(d);
    return json_pack("{s:b, s:b, s:b, s:b, s:i, s:I, s:I, s:I}", "process", 1, "seccomp", s.seccomp, "landlock",
                     s.landlock, "namespaces", s.namespaces, "working", s.working, "started", (json_int_t)s.started,
                     "crashed", (json_int_t)s.crashed, "timed_out", (json_int_t)s.timed_out);
}

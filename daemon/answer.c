#include "daemon/answer.h"

const char *answer_channel_name(answer_channel channel)
{
    static const char *const names[] = {"answer", "thinking", "tool"};
    return names[channel];
}

sight_err answer_init(answer *a, const tokenizer *tokens, const answer_options *options,
                      answer_sink *sink, void *arg)
{
    *a = (answer){.tokens = tokens, .sink = sink, .call = options->call, .arg = arg};
    a->think_open = tokenizer_find(tokens, "<think>");
    a->think_close = tokenizer_find(tokens, "</think>");
    a->tool_open = options->tools ? tokenizer_find(tokens, "<tool_call>") : -1;
    a->tool_close = options->tools ? tokenizer_find(tokens, "</tool_call>") : -1;
    // Without the closing id thinking could never end, so it is not begun.
    if (options->opens_thinking && a->think_close >= 0) a->channel = CHANNEL_THINKING;
    buf_init(&a->fresh);
    buf_init(&a->certain);
    return stop_init(&a->stops, options->stop, options->n_stop);
}

void answer_done(answer *a)
{
    stop_done(&a->stops);
    buf_done(&a->fresh);
    buf_done(&a->certain);
}

bool answer_failed(const answer *a)
{
    return buf_failed(&a->fresh) || buf_failed(&a->certain) || buf_failed(&a->stops.held);
}

static void emit(answer *a, const char *text, size_t n)
{
    if (a->trim) {
        while (n && (*text == '\n' || *text == '\r')) text++, n--;
        if (n) a->trim = false;
    }
    if (n) a->sink(a->arg, a->channel, text, n);
}

// Lets go of what is in fresh; true when a stop string was met.
static bool pass_on(answer *a)
{
    bool stopped = false;
    if (a->channel != CHANNEL_ANSWER) {
        emit(a, buf_text(&a->fresh), a->fresh.size);
    } else {
        stopped = stop_push(&a->stops, &a->certain, buf_text(&a->fresh), a->fresh.size);
        emit(a, buf_text(&a->certain), a->certain.size);
        buf_clear(&a->certain);
        a->over = stopped;
    }
    buf_clear(&a->fresh);
    return stopped;
}

// Everything held back belongs to the channel that ends.
static bool flush_channel(answer *a)
{
    token_stream_finish(&a->stream, &a->fresh);
    if (pass_on(a)) return true;
    if (a->channel == CHANNEL_ANSWER) {
        stop_flush(&a->stops, &a->certain);
        emit(a, buf_text(&a->certain), a->certain.size);
        buf_clear(&a->certain);
    }
    return false;
}

// The channel after this id, when the id is a border; -1 otherwise.
static int border(const answer *a, int32_t id)
{
    if (id < 0) return -1;
    if (id == a->think_open && a->channel == CHANNEL_ANSWER && a->think_close >= 0) {
        return CHANNEL_THINKING;
    }
    if (id == a->think_close && a->channel == CHANNEL_THINKING) return CHANNEL_ANSWER;
    if (id == a->tool_open && a->channel != CHANNEL_TOOL) return CHANNEL_TOOL;
    if (id == a->tool_close && a->channel == CHANNEL_TOOL) return a->around;
    return -1;
}

static void tell_call(const answer *a, bool opens)
{
    if (a->call) a->call(a->arg, opens);
}

static void enter(answer *a, answer_channel next)
{
    const answer_channel left = a->channel;
    if (left == CHANNEL_TOOL) tell_call(a, false);
    a->channel = next;
    a->trim = true;
    if (next != CHANNEL_TOOL) return;
    a->around = left;
    tell_call(a, true);
}

bool answer_push(answer *a, int32_t id)
{
    if (a->over) return true;
    const int next = border(a, id);
    if (next >= 0) {
        if (flush_channel(a)) return true;
        enter(a, (answer_channel)next);
        return false;
    }
    token_stream_push(&a->stream, a->tokens, &a->fresh, id, true);
    return pass_on(a);
}

void answer_finish(answer *a)
{
    if (!a->over) flush_channel(a);
    if (a->channel == CHANNEL_TOOL) enter(a, a->around); // cut off
}

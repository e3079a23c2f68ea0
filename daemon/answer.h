// daemon/answer.h - drawn ids to text in channels.
//
// Whole characters only; thinking and tool calls go to channels of their own, told apart by the ids
// of <think>, </think>, <tool_call>, </tool_call>, never by looking at text. Stop strings are
// looked for in the answer channel alone, so that thinking never ends an answer. A call may stand in the answer or in
// thinking.
// Threads: one at a time.
#ifndef SIGHT_DAEMON_ANSWER_H
#define SIGHT_DAEMON_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "text/stop.h"
#include "text/tokenizer.h"

typedef enum answer_channel { CHANNEL_ANSWER, CHANNEL_THINKING, CHANNEL_TOOL } answer_channel;

// The channel's word on the wire.
const char *answer_channel_name(answer_channel channel);

// Gets text as it becomes certain; text is UTF-8, n > 0.
typedef void answer_sink(void *arg, answer_channel channel, const char *text, size_t n);
// Hears that a call opens, before its text, and that it is over.
typedef void answer_call(void *arg, bool opens);

typedef struct answer {
    const tokenizer *tokens;
    int32_t think_open, think_close, tool_open, tool_close; // -1: the tokenizer has none
    answer_channel channel;
    answer_channel around; // a call
    bool over; // a stop string was met: nothing more is text
    bool trim; // newlines right after </think> are not part of the answer
    token_stream stream;
    stop stops;
    buf fresh, certain;
    answer_sink *sink;
    answer_call *call; // NULL: nobody hears
    void *arg;
} answer;

typedef struct answer_options {
    bool opens_thinking; // the prompt ends inside <think>
    bool tools;          // the request offers tools
    const char *const *stop;
    size_t n_stop;
    answer_call *call;   // NULL: not wanted
} answer_options;

// Borrows tokens. SIGHT_E_ARGUMENT, SIGHT_E_MEMORY (stop strings).
sight_err answer_init(answer *a, const tokenizer *tokens, const answer_options *options,
                      answer_sink *sink, void *arg);
// Takes one id; true when a stop string was met: the answer is over.
bool answer_push(answer *a, int32_t id);
// Ends the text: an unfinished character and a half-met stop string are let go.
void answer_finish(answer *a);
// Whether memory ran out on the way (text is missing then).
bool answer_failed(const answer *a);
void answer_done(answer *a);

#endif

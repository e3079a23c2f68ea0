#include "daemon/estimate.h"

#define MEMORY     0.9  // what an ended request counts after one more
#define REUSE_PART 0.05 // of what is read: less is the beginning that all prompts have

static void learn(estimate_rate *r, double tokens, double seconds)
{
    if (tokens <= 0 || seconds <= 0) return;
    r->tokens = MEMORY * r->tokens + tokens;
    r->seconds = MEMORY * r->seconds + seconds;
}

void estimate_learn(estimate *e, const estimate_work *did, int32_t reused, double seconds, double read_s, double encode_s,
                    bool whole)
{
    e->reused = MEMORY * e->reused + reused;
    learn(&e->read, did->read, read_s);
    learn(&e->encode, did->encoded, encode_s);
    learn(&e->answer, did->answer, seconds - read_s - encode_s);
    if (!whole || did->answer == 0) return;
    e->answers = MEMORY * e->answers + 1;
    e->lengths = MEMORY * e->lengths + did->answer;
}

bool estimate_reuses(const estimate *e)
{
    return e->reused > REUSE_PART * (e->reused + e->read.tokens);
}

double estimate_per_s(const estimate_rate *r)
{
    return r->seconds > 0 ? r->tokens / r->seconds : 0;
}

double estimate_length(const estimate *e, const estimate_work *work)
{
    const double mean = e->answers > 0 ? e->lengths / e->answers : work->answer;
    return mean < work->answer ? mean : work->answer;
}

static double seconds_of(const estimate_rate *r, double tokens)
{
    return r->tokens > 0 ? tokens * r->seconds / r->tokens : 0;
}

double estimate_seconds(const estimate *e, const estimate_work *work)
{
    if (e->answer.tokens == 0 || (work->read > 0 && e->read.tokens == 0)) return 0;
    if (work->encoded > 0 && e->encode.tokens == 0) return 0;
    return seconds_of(&e->read, work->read) + seconds_of(&e->encode, work->encoded) +
           seconds_of(&e->answer, estimate_length(e, work));
}

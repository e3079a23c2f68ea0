// daemon/estimate.h - how much of the engine's time a request will take, from what those before it have taken.
//
// Three rates of a model are kept: a token of a prompt read, a token of a picture encoded, a token of an answer (its part of
// steps that several answers share). Rates are what ended requests took in all, older ones counting less and less.
// Threads: one at a time.
#ifndef SIGHT_DAEMON_ESTIMATE_H
#define SIGHT_DAEMON_ESTIMATE_H

#include <stdbool.h>
#include <stdint.h>

// What was done, or is to do, in tokens.
typedef struct estimate_work {
    int32_t read;    // of the prompt, without what was read for an earlier request
    int32_t encoded; // of pictures and clips
    int32_t answer;  // drawn, or to be drawn at most
} estimate_work;

typedef struct estimate_rate {
    double seconds, tokens; // sums
} estimate_rate;

// Zeroed: nothing is known.
typedef struct estimate {
    estimate_rate read, encode, answer;
    double answers; // how many ended by themselves, and
    double lengths; // how long they were in all
    double reused;  // tokens of prompts that were read for earlier requests, lately
} estimate;

// A request has ended that took so many seconds of the engine's time, of these so many for reading and for encoding, and that found
// `reused` tokens of its prompt read. `whole`: its answer ended by itself.
void estimate_learn(estimate *e, const estimate_work *did, int32_t reused, double seconds, double read_s, double encode_s,
                    bool whole);
// Lately a good part of the prompts had been read for earlier requests: the next may be one of these.
bool estimate_reuses(const estimate *e);
// Seconds that a request will take; 0: nobody knows. An answer is as long as those before it were, at most what
// it may be.
double estimate_seconds(const estimate *e, const estimate_work *work);
// Tokens a second; 0: nobody knows.
double estimate_per_s(const estimate_rate *r);
// How long its answer will be.
double estimate_length(const estimate *e, const estimate_work *work);

#endif

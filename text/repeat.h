// text/repeat.h - noticing that an answer goes round in circles.
//
// Two signs, both over token ids. A period: the last tokens are the same stretch again and again. Few n-grams: of the last
// REPEAT_WINDOW tokens hardly any run of REPEAT_GRAM is new, as when only a number changes from line to line. Lists and tables
// that people want stay below both: a stretch may come REPEAT_TIMES - 1 times, and short ones for some two hundred
// tokens.
//
// Costs REPEAT_MAX_PERIOD comparisons a token. Threads: one at a time.
#ifndef SIGHT_TEXT_REPEAT_H
#define SIGHT_TEXT_REPEAT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define REPEAT_MAX_PERIOD 512
#define REPEAT_TIMES      6   // a stretch this often, and
#define REPEAT_LEAST      192 // this many tokens of it, are a circle
#define REPEAT_WINDOW     1024
#define REPEAT_GRAM       6
#define REPEAT_DISTINCT   25  // percent of the window's n-grams: fewer are a circle

typedef struct repeat repeat;

sight_err repeat_create(repeat **out); // SIGHT_E_MEMORY
void repeat_destroy(repeat **r);       // accepts NULL; leaves NULL
// Takes the next id; true: the answer goes round in circles.
bool repeat_push(repeat *r, int32_t id);

#endif

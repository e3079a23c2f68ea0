// text/grammar.h - answers that have a form: JSON of a schema, a choice, a regular expression.
//
// A grammar is compiled once per request (or taken again, grammar_same), and says for every place in an answer which tokens may come
// next. Places are found as they are met (a lazy automaton over sets of network places, text/grammar_net.h), and so are
// the masks over the vocabulary, by a walk over a trie of the tokens' bytes that leaves out what a whole
// branch has in common.
//
// A place is a number, so trying tokens ahead and going back costs nothing. Place 0 is the beginning.
//
// Threads: a vocabulary is any's, a grammar one's at a time.
#ifndef SIGHT_TEXT_GRAMMAR_H
#define SIGHT_TEXT_GRAMMAR_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "text/tokenizer.h"

typedef struct grammar grammar;
typedef struct grammar_vocabulary grammar_vocabulary;

// The tokens' bytes, sorted; once per tokenizer, which must outlive it. size: of the model's vocabulary, at least the
// tokenizer's. ends: ids that end an answer, allowed where it is whole; copied. Other added tokens are never part of a form.
// SIGHT_E_MEMORY.
sight_err grammar_vocabulary_create(grammar_vocabulary **out, const tokenizer *t, int32_t size,
                                    const int32_t *ends, int32_t n_ends);
void grammar_vocabulary_destroy(grammar_vocabulary **v); // accepts NULL; leaves NULL

typedef struct grammar_options {
    const char *what;    // names the request's field in sentences
    bool after_thinking; // lines' ends may come first, as models write them between thinking and answer
} grammar_options;

// Each borrows v. SIGHT_E_ARGUMENT (what is wrong, with the JSON pointer of the place in the schema),
// SIGHT_E_UNSUPPORTED (a keyword that is known and not enforced, by pointer), SIGHT_E_LIMIT (too large), SIGHT_E_MEMORY.
sight_err grammar_from_schema(grammar **out, grammar_vocabulary *v, const json_t *schema,
                              const grammar_options *o);
sight_err grammar_from_json_object(grammar **out, grammar_vocabulary *v, const grammar_options *o); // any
sight_err grammar_from_regex(grammar **out, grammar_vocabulary *v, const char *regex,
                             const grammar_options *o);
sight_err grammar_from_choice(grammar **out, grammar_vocabulary *v, const json_t *strings,
                              const grammar_options *o);
void grammar_destroy(grammar **g); // accepts NULL; leaves NULL

#define GRAMMAR_NOWHERE (-1)

// Where token id leads from a place; GRAMMAR_NOWHERE: it may not come there, or (grammar_status) an error. An id that ends
// the answer leads nowhere.
int32_t grammar_next(grammar *g, int32_t place, int32_t id);
bool grammar_may_end(const grammar *g, int32_t place);  // the answer is whole
bool grammar_must_end(grammar *g, int32_t place);       // and nothing may follow
// [vocabulary's size] 1 where a token may come: valid until it was asked for GRAMMAR_MASKS - 1 other places.
// NULL: an error. *serial: a number of these contents, never 0, of all grammars over a vocabulary.
#define GRAMMAR_MASKS 32
const uint8_t *grammar_mask(grammar *g, int32_t place, uint64_t *serial);
// Out of memory, or more places than GRAMMAR_MAX_PLACES. Sticks.
sight_err grammar_status(const grammar *g);

#define GRAMMAR_MAX_PLACES (1 << 18)

#endif

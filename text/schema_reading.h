// text/schema_reading.h - a JSON schema while a grammar is made of it: the place under way, and what is wrong there.
//
// Threads: one reading belongs to one thread.
#ifndef SIGHT_TEXT_SCHEMA_READING_H
#define SIGHT_TEXT_SCHEMA_READING_H

#include "text/grammar_parts.h"

#define READING_POINTER_BYTES   512
#define READING_MOST_REFERENCES 512

typedef struct schema_reference {
    const json_t *target; // borrowed from the schema
    int32_t rule;         // that its grammar is
} schema_reference;

typedef struct schema_reading {
    net *n;               // borrowed, as all pointers here
    form_rules *rules;
    const json_t *root;
    const char *what;     // names the request's field in sentences
    char pointer[READING_POINTER_BYTES]; // of the place under way (RFC 6901); longer ones are cut
    int depth;            // schemas inside each other
    schema_reference refs[READING_MOST_REFERENCES];
    int n_refs;
    sight_err err;        // the first; sticks, and nothing more is built
} schema_reading;

// The first call notes the error, with a sentence that names the place (key: a member of it, or NULL for itself).
// Always what matches nothing.
net_part reading_fail(schema_reading *s, sight_err code, const char *key, const char *why);

// Steps into a member, or item `index` of that member; returns what reading_leave goes back to.
size_t reading_enter(schema_reading *s, const char *key);
size_t reading_enter_item(schema_reading *s, const char *key, size_t index);
void reading_leave(schema_reading *s, size_t at);

// Refuses keys that are neither enforced here (a list that ends with NULL) nor mere words: false, and SIGHT_E_UNSUPPORTED.
bool reading_check_keys(schema_reading *s, const json_t *node, const char *const *enforced);
// A count under that key, or `without`. false: it is none (SIGHT_E_ARGUMENT), or over `most` (SIGHT_E_LIMIT).
bool reading_count(schema_reading *s, int32_t *out, const json_t *node, const char *key, int32_t without,
                   int32_t most);
// Two of them, `limit` at most each: 0 and NET_MANY where they are not given. false: as above, or max is below min.
bool reading_range(schema_reading *s, int32_t *min, int32_t *max, const json_t *node, const char *least,
                   const char *greatest, int32_t limit);

#endif

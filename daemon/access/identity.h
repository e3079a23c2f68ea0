// daemon/access/identity.h - who asks, and what they may.
//
// An identity is made when somebody is first heard of and lives as long as the daemon: equal pointers are the same one. Its name
// is the same after a restart, so what is kept on disk can be told apart by it: a key's name, "uid 1000" for a local user, "tcp"
// for whoever comes over an open loopback port. NULL is the process itself (trace, bench, tests): it may everything.
//
// Threads: reading (name, may, limits, refuse) any, after it was made; the table is its owner's, one thread.
#ifndef SIGHT_DAEMON_IDENTITY_H
#define SIGHT_DAEMON_IDENTITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define IDENTITY_NAME_SIZE 64
#define IDENTITY_ROOTS_MAX 8
#define IDENTITY_TCP       "tcp"

typedef struct identity identity;

typedef enum identity_right {
    RIGHT_ASK,
    RIGHT_PLAN,
    RIGHT_STATUS, // sees the requests of others in `status`
    RIGHT_PATHS,  // names media by their paths on the server's machine
    RIGHT_URLS,   // has media fetched
    RIGHT_ADMIN,  // what concerns everybody: all of `status`, ending the requests of others
    RIGHT_COUNT
} identity_right;

// The word in settings and key files: "ask", "plan", ...
const char *identity_right_name(identity_right right);

// What an identity may, and its ceilings; 0: only the server's own. Ceilings of the server are never raised by these.
typedef struct identity_terms {
    unsigned rights;             // a bit of each, 1u << right
    int32_t max_jobs;            // unfinished requests, over all of its connections
    int32_t max_running;         // of them worked on at once
    int32_t max_tokens;          // of an answer
    int64_t max_media_bytes;     // of one medium
    int32_t requests_per_minute; // asks and plans, in the mean; as many at once
    int32_t priority;            // the most urgent one it gets: 0 interactive, 1 camera, 2 batch
    char *roots[IDENTITY_ROOTS_MAX]; // folders it may name media in, in place of the server's; absolute
    size_t n_roots;                  // 0: the server's
} identity_terms;

#define IDENTITY_ALL_RIGHTS ((1u << RIGHT_COUNT) - 1)

// "uid 1000", a key's name; NULL: "".
const char *identity_name(const identity *who);
bool identity_may(const identity *who, identity_right right);
// Never NULL. Valid as long as a request of this identity is under way.
const identity_terms *identity_limits(const identity *who);
// Whether it is this process itself, its user or root: they can read what this process reads.
bool identity_is_self(const identity *who);
// SIGHT_E_PERMISSION with a sentence that names who and the right.
sight_err identity_refuse(const identity *who, identity_right right);
// "the key 'door'", "uid 1000", for sentences.
void identity_describe(char *out, size_t size, const identity *who);

// ---- for the service, on its thread ----

typedef struct identity_table identity_table;

// SIGHT_E_MEMORY.
sight_err identity_table_create(identity_table **out);
void identity_table_destroy(identity_table **t); // accepts NULL; leaves NULL; ends all its identities

// The identity of that name, made with these terms (copied) where it is new. is_key: for sentences.
// SIGHT_E_LIMIT: as many are known as may be. SIGHT_E_MEMORY.
sight_err identity_table_get(identity_table *t, identity **out, const char *name, bool is_key, const identity_terms *terms);
identity *identity_table_find(identity_table *t, const char *name); // NULL: not known
// Gives it other terms (copied). What a request under way has seen of the old ones stays valid until identity_table_sweep.
// SIGHT_E_MEMORY.
sight_err identity_table_set(identity_table *t, identity *who, const identity_terms *terms);
// Frees terms that were replaced. Only while no request is under way.
void identity_table_sweep(identity_table *t);

// Takes one request off what its rate allows now; false: *retry_after_s says when there is one again.
bool identity_spend(identity *who, double now_s, int *retry_after_s);

// ---- terms as text ----

// One term as settings and key files write it: "rights" ("ask plan paths", "all", "none"), "max-jobs", "max-running", "max-tokens",
// "max-media-bytes" (K, M, G may follow), "requests-per-minute", "priority" (interactive, camera, batch), "roots" ("/srv/a:/srv/b").
// where: of the value, for the sentence. SIGHT_E_NOT_FOUND: there is no such term; SIGHT_E_ARGUMENT; SIGHT_E_MEMORY.
sight_err identity_terms_put(identity_terms *t, const char *name, const char *value, const char *where);
sight_err identity_rights_parse(unsigned *out, const char *words, const char *where);
// A term as text, "" where it is the server's own. size: 4096 is always enough but for roots, which are then cut.
void identity_terms_print(char *out, size_t size, const identity_terms *t, const char *name);
// The names, NULL-ended.
extern const char *const identity_term_names[];
sight_err identity_terms_copy(identity_terms *out, const identity_terms *from); // SIGHT_E_MEMORY
void identity_terms_done(identity_terms *t);
bool identity_terms_equal(const identity_terms *a, const identity_terms *b);

#endif

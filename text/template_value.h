// text/template_value.h - the values a chat template computes with, and the memory they live in.
//
// Values are small and passed by copy; what they point to (text, items, pairs) belongs to an arena
// and is never changed once made, so slices share it. Namespaces alone are mutable. Semantics are
// Python's, as Jinja shows them. Internal to text/template*. Threads: a render has its own arena.
#ifndef SIGHT_TEXT_TEMPLATE_VALUE_H
#define SIGHT_TEXT_TEMPLATE_VALUE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define TRY(call)                                                                                  \
    do {                                                                                           \
        sight_err try_ = (call);                                                                   \
        if (try_) return try_;                                                                     \
    } while (0)

// ---- memory that is freed all at once ----

typedef struct tblock tblock;

typedef struct tarena { // zeroed but for max is empty
    tblock *blocks;
    size_t used, max; // bytes
} tarena;

// n zeroed bytes, aligned for any type. NULL past max or out of memory; tarena_failure says which.
void *tarena_alloc(tarena *a, size_t n);
sight_err tarena_failure(const tarena *a, size_t n);
void tarena_free(tarena *a);

// ---- values ----

typedef struct tstr { // bytes of UTF-8, not ended by a NUL
    const char *text;
    size_t n;
} tstr;

#define TSTR(literal) ((tstr){ literal, sizeof(literal) - 1 })

typedef enum tkind {
    T_ABSENT, // no value at all: an argument not given, a name not bound
    T_UNDEFINED,
    T_NONE,
    T_BOOL,
    T_INT,
    T_FLOAT,
    T_STRING,
    T_LIST,
    T_TUPLE,
    T_DICT,
    T_NAMESPACE,
    T_MACRO,
    T_LOOP,
    T_METHOD,  // a method taken from a value: x.strip
    T_FUNCTION // a global: range, namespace, ...
} tkind;

typedef struct tvalue tvalue;
typedef struct tpair tpair;

typedef struct tlist {
    const tvalue *items;
    size_t n;
} tlist;

typedef struct tdict { // in the order of insertion
    const tpair *pairs;
    size_t n;
} tdict;

struct tvalue {
    uint8_t kind;  // tkind
    bool lazy;     // a list that is a generator in Python: always true, has no length
    uint8_t owner; // T_UNDEFINED: the kind of value that lacks it; T_ABSENT for a plain name
    union {
        bool truth;
        int64_t i;
        double f;
        tstr s; // T_STRING; T_UNDEFINED: the name that was looked up
        tlist list; // also tuples
        tdict dict;
        struct tnamespace *ns;
        const struct tmacro *macro;
        struct tloop *loop;
        const struct tmethod *method;
        const struct tfunction *function;
    };
};

struct tpair {
    tvalue key, value;
};

typedef struct tnamespace {
    tpair *pairs;
    size_t n, capacity;
} tnamespace;

static inline tvalue tvalue_of(tkind kind)
{
    return (tvalue){ .kind = (uint8_t)kind };
}
static inline tvalue tvalue_bool(bool b)
{
    return (tvalue){ .kind = T_BOOL, .truth = b };
}
static inline tvalue tvalue_int(int64_t i)
{
    return (tvalue){ .kind = T_INT, .i = i };
}
static inline tvalue tvalue_float(double f)
{
    return (tvalue){ .kind = T_FLOAT, .f = f };
}
static inline tvalue tvalue_str(tstr s)
{
    return (tvalue){ .kind = T_STRING, .s = s };
}
static inline tvalue tvalue_list(tkind kind, const tvalue *items, size_t n)
{
    return (tvalue){ .kind = (uint8_t)kind, .list = { items, n } };
}

// Python's name of a value's type ("str", "NoneType").
const char *tvalue_type(const tvalue *v);
bool tvalue_is_number(const tvalue *v); // bool, int or float
// A bool's or int's value.
int64_t tvalue_to_int(const tvalue *v);
double tvalue_to_float(const tvalue *v);
bool tvalue_true(const tvalue *v);

bool tstr_equal(tstr a, tstr b);
int tstr_compare(tstr a, tstr b); // by code point
// Deep equality as Python's ==; false below TVALUE_MAX_DEPTH levels.
bool tvalue_equal(const tvalue *a, const tvalue *b);
// Python's <: -1, 0, 1 in *order. false when the types have no order.
bool tvalue_order(int *order, const tvalue *a, const tvalue *b);
// The value at key, or NULL. Linear: objects of requests are small.
const tvalue *tdict_find(tdict d, const tvalue *key);
const tvalue *tdict_find_text(tdict d, tstr key);

#define TVALUE_MAX_DEPTH 2100 // over the 2,048 levels that jansson reads

// A JSON value; strings are borrowed from it. SIGHT_E_LIMIT, SIGHT_E_MEMORY.
sight_err tvalue_from_json(tvalue *out, tarena *a, const json_t *json);

#endif

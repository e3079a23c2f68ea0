// text/template_run.h - one rendering of a template: its state, and what the evaluator's parts
// offer each other.
//
// Internal to text/template*. Threads: a run belongs to one.
#ifndef SIGHT_TEXT_TEMPLATE_RUN_H
#define SIGHT_TEXT_TEMPLATE_RUN_H

#include "base/buf.h"
#include "text/template_ast.h"
#include "text/template_text.h"

#define TRUN_MAX_STEPS  10000000
#define TRUN_MAX_OUTPUT ((size_t)64 << 20)
#define TRUN_MAX_MEMORY ((size_t)512 << 20)
#define TRUN_MAX_DEPTH  1000 // of expressions and statements within each other, over macro calls
#define TRUN_MAX_RANGE  100000 // as Jinja's sandbox

typedef struct tvar tvar;
struct tvar {
    int name;
    tvalue value;
    tvar *next;
};

typedef struct tscope {
    struct tscope *parent; // NULL: the globals
    tvar *vars;
} tscope;

typedef enum tflow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE } tflow;

typedef struct trun {
    const struct template *t;
    tarena arena;
    buf *out;        // where output goes now
    tscope *scope;   // NULL: the globals
    tvalue *globals; // [n_names], T_ABSENT where unbound
    tvalue body;     // what a block set or filter block has just rendered
    int64_t steps;
    int depth;
    int line; // of the call or operator at work, for errors
    bool too_long; // a text has met TRUN_MAX_OUTPUT
    tflow flow;
} trun;

typedef struct tmacro {
    const tnode *node; // N_MACRO
    tscope *scope;     // where it was defined
    tvalue caller;     // unused but for call blocks
} tmacro;

typedef struct tloop {
    const tvalue *items;
    size_t n, i;
} tloop;

// What stands in the brackets of a call.
typedef struct targument {
    tstr keyword; // empty: by position, and then before all keywords
    tvalue value;
} targument;

typedef struct targuments {
    const targument *items;
    size_t n, n_positional;
} targuments;

#define TARGUMENTS_MAX 8

// What bound functions get: values in the order of their parameter list, T_ABSENT where not given.
typedef sight_err tbound_fn(trun *r, tvalue *out, const tvalue *self, const tvalue *args);
typedef sight_err tfree_fn(trun *r, tvalue *out, const tvalue *self, const targuments *args);

typedef struct tfilter {
    const char *name;
    const char *parameters; // separated by spaces; those ending in '!' must be given
    tbound_fn *run;
    tfree_fn *run_free; // instead of run: takes any arguments
    int names;          // 1: its first, 2: its second argument names a test; 3: its first a filter
} tfilter;

typedef struct ttest {
    const char *name;
    int arguments; // exactly so many
    sight_err (*run)(trun *r, bool *out, const tvalue *v, const tvalue *args);
} ttest;

typedef struct tmethod_info {
    tkind kind; // of values that have it
    const char *name;
    const char *parameters;
    tbound_fn *run; // NULL: the sandbox of the reference refuses it too
    tfree_fn *run_free;
} tmethod_info;

typedef struct tmethod {
    const tmethod_info *info;
    tvalue self;
} tmethod;

typedef struct tfunction {
    const char *name;
    const char *parameters;
    tbound_fn *run;
    tfree_fn *run_free;
} tfunction;

// ---- template_eval.c ----

sight_err template_eval(trun *r, tvalue *out, const tnode *n);
// Calls a macro, method or function.
sight_err template_call(trun *r, tvalue *out, const tvalue *callee, const targuments *args);
// Spreads args over the parameter list; out has TARGUMENTS_MAX places. what: for errors.
sight_err template_bind(trun *r, tvalue *out, const char *parameters, const targuments *args,
                        const char *what);

// ---- template_statements.c ----

sight_err template_statements(trun *r, const tnode *list);
sight_err template_call_macro(trun *r, tvalue *out, const tmacro *m, const targuments *args);
tvalue template_lookup(const trun *r, int name);

// ---- template_support.c: steps, failures, text ----

// Counts n steps. SIGHT_E_LIMIT.
sight_err template_step(trun *r, size_t n);
sight_err template_deeper(trun *r); // pair with r->depth--
// SIGHT_E_ARGUMENT, "file:line: ...".
sight_err template_fail(const trun *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
// "'x' is undefined" and its like.
sight_err template_fail_undefined(const trun *r, const tvalue *v);
void *template_alloc(trun *r, size_t n);
sight_err template_no_memory(const trun *r, size_t n);
// Appends to a text that is being built, up to TRUN_MAX_OUTPUT.
void template_add(trun *r, buf *b, tstr s);
// Moves a built text into the arena; b is empty afterwards, also on failure.
sight_err template_take(trun *r, tvalue *out, buf *b);
// What a value consists of when gone through: items, keys, characters. "not iterable" otherwise.
sight_err template_iterate(trun *r, tlist *out, const tvalue *v);
// A list that grows; items are in the arena once taken.
typedef struct tgrow {
    tvalue *items;
    size_t n, capacity;
} tgrow;
sight_err template_push(trun *r, tgrow *g, tvalue v);

// ---- template_print.c ----

// As str(v): what output shows.
sight_err template_str(trun *r, tstr *out, const tvalue *v);
void template_add_str(trun *r, buf *b, const tvalue *v);
void template_add_float(trun *r, buf *b, double f); // shortest text that reads back the same
typedef struct tjson_style {
    tstr indent; // text NULL: all on one line
    tstr item_separator, key_separator;
    bool sort_keys, ascii;
} tjson_style;
// As Python's json.dumps.
sight_err template_json(trun *r, tvalue *out, const tvalue *v, const tjson_style *style);

// ---- template_operators.c ----

sight_err template_binary(trun *r, tvalue *out, toperator op, const tvalue *a, const tvalue *b);
sight_err template_compare(trun *r, bool *out, toperator op, const tvalue *a, const tvalue *b);
sight_err template_field(trun *r, tvalue *out, const tvalue *v, tstr name); // v.name
sight_err template_item(trun *r, tvalue *out, const tvalue *v, const tvalue *key); // v[key]
// parts: three, each an int or none.
sight_err template_slice(trun *r, tvalue *out, const tvalue *v, const tvalue *parts);

// ---- tables ----

const tfilter *template_filter_find(tstr name);
int template_filter_names(const tfilter *f); // tfilter.names
sight_err template_filter_run(trun *r, tvalue *out, const tfilter *f, const tvalue *v,
                              const targuments *args);
const ttest *template_test_find(tstr name);
sight_err template_test_run(trun *r, bool *out, const ttest *t, const tvalue *v,
                            const targuments *args);
const tmethod_info *template_method_find(tkind kind, tstr name);
bool template_method_known(tstr name); // of any type
const tfunction *template_function_find(tstr name);

extern const tfilter template_list_filters[]; // ended by a NULL name, as the next
extern const tmethod_info template_list_methods[];

#endif

// daemon/settings/settings.h - named values out of text: tables that say what a setting is called and where its value goes.
//
// For the settings of the whole daemon (daemon/settings/options.h) and of each of its models (daemon/models/model_set.h).
// Threads: any; no state.
#ifndef SIGHT_DAEMON_SETTINGS_H
#define SIGHT_DAEMON_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

#define OPTIONS_LIST_MAX 16
#define NO_LIMIT         9e15 // of numbers, below what a double holds exactly

// A setting that may be given several times.
typedef struct option_list {
    char *items[OPTIONS_LIST_MAX];
    size_t n;
} option_list;

// What its value is in C: char *, option_list, int32_t, int64_t (INT64, BYTES), double (SECONDS, REAL), bool.
typedef enum setting_kind { TEXT, LIST, INT32, INT64, BYTES, SECONDS, REAL, FLAG } setting_kind;

typedef struct setting {
    const char *name;
    setting_kind kind;
    size_t offset;   // of the value in its struct
    double min, max; // of numbers
    const char *value, *help;
} setting;

// The entry of that name, n bytes long; NULL: there is none.
const setting *settings_find(const setting *table, size_t size, const char *name, size_t n);
// base: the struct that the table's offsets are of. where begins the sentence of SIGHT_E_ARGUMENT. SIGHT_E_MEMORY.
sight_err settings_set(void *base, const setting *s, const char *value, const char *where);
// Frees texts and lists.
void settings_done(void *base, const setting *table, size_t size);
// Empties the lists of base that the other one has too, which is to take their place.
void settings_override(void *base, const void *other, const setting *table, size_t size);
// Whether both structs have the same value there, and changing it for the other's.
bool settings_equal(const void *a, const void *b, const setting *s);
void settings_swap(void *a, void *b, const setting *s);
// "name = value", or "# name =" where it has none.
void settings_print(FILE *to, const void *base, const setting *s);

// A number, for BYTES with K, M, G or T (powers of 1,024) behind it. NaN when it is none.
double settings_number(const char *text, setting_kind kind);
// A part of a memory: bytes (K, M, G may follow), or a percentage. SIGHT_E_ARGUMENT.
sight_err settings_share(int64_t *bytes, int32_t *percent, const char *text, const char *where);

#endif

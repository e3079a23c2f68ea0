// tests/daemon/printed.h - settings as they are printed.
#ifndef TESTS_DAEMON_PRINTED_H
#define TESTS_DAEMON_PRINTED_H

#include "support/test.h"

#include "daemon/settings/options.h"

static inline void print_settings(char *text, size_t size, const options *o)
{
    FILE *f = fmemopen(text, size, "w");
    assert_non_null(f);
    options_print_config(o, f);
    fclose(f);
}

// Fails the test unless printed settings, read again, print the same; and unless the print has these words.
static inline void assert_reads_back(const options *o, const char *words)
{
    options again;
    char text[16384], twice[16384];
    print_settings(text, sizeof text, o);
    options_set_defaults(&again);
    assert_ok(options_read_text(&again, text, "printed"));
    print_settings(twice, sizeof twice, &again);
    assert_string_equal(text, twice);
    assert_non_null(strstr(text, words));
    options_done(&again);
}

#endif

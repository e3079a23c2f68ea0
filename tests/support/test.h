// tests/support/test.h - what every test includes first: cmocka with its prerequisites, and helpers.
#ifndef TESTS_SUPPORT_TEST_H
#define TESTS_SUPPORT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

// Succeeds, or fails the test with the error's own sentence.
#define assert_ok(call)                                                                            \
    do {                                                                                           \
        sight_err err_ = (call);                                                                   \
        if (err_) fail_msg("%s: %s: %s", #call, sight_err_name(err_), sight_error());              \
    } while (0)

// Fails with exactly this code, and with a sentence that holds this text.
#define assert_fails(call, code, text)                                                             \
    do {                                                                                           \
        sight_err err_ = (call);                                                                   \
        if (err_ != (code))                                                                        \
            fail_msg("%s: got %s, expected %s", #call, sight_err_name(err_),                       \
                     sight_err_name(code));                                                        \
        if (!strstr(sight_error(), text))                                                          \
            fail_msg("%s: '%s' does not say '%s'", #call, sight_error(), text);                    \
    } while (0)

// xorshift64*: the same numbers everywhere.
typedef struct test_random {
    uint64_t state; // not 0
} test_random;

uint64_t test_random_bits(test_random *r);
float test_random_normal(test_random *r);                      // mean 0, variance 1
int64_t test_random_range(test_random *r, int64_t lo, int64_t hi); // both included

// A new empty folder, removed with everything in it at exit. The string lives until then.
const char *test_folder(void);
// Writes a file into a folder and gives its path (malloc).
char *test_write(const char *folder, const char *name, const void *data, size_t size);

#endif

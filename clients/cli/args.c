#include "clients/cli/args.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sight_err parse_number(const arg_option *o, double *out, const char *text)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end || !isfinite(v)) {
        return sight_fail(SIGHT_E_ARGUMENT, "--%s needs a number, not '%s'", o->name, text);
    }
    if (v < o->min || v > o->max) {
        return sight_fail(SIGHT_E_ARGUMENT, "--%s is %g, must be %g to %g", o->name, v, o->min,
                          o->max);
    }
    *out = v;
    return SIGHT_OK;
}

static sight_err parse_count(const arg_option *o, int64_t *out, const char *text)
{
    double v;
    sight_err err = parse_number(o, &v, text);
    if (err) return err;
    if (v != floor(v)) {
        return sight_fail(SIGHT_E_ARGUMENT, "--%s needs a whole number, not '%s'", o->name, text);
    }
    *out = (int64_t)v;
    return SIGHT_OK;
}

// Seconds, minutes:seconds or hours:minutes:seconds.
static sight_err parse_time(const arg_option *o, double *out, const char *text)
{
    double total = 0;
    const char *p = text;
    for (int fields = 1;; fields++) {
        char *end;
        double v = strtod(p, &end);
        bool digits = *p >= '0' && *p <= '9';
        if (!digits || !isfinite(v) || (*end && *end != ':') || fields > 3) {
            return sight_fail(SIGHT_E_ARGUMENT,
                              "--%s needs seconds, m:ss or h:mm:ss, not '%s'", o->name, text);
        }
        total = total * 60 + v;
        if (!*end) break;
        p = end + 1;
    }
    *out = total;
    return SIGHT_OK;
}

static sight_err add_to_list(const arg_option *o, const char *text)
{
    arg_list *list = o->out;
    if (list->n == ARG_LIST_MAX) {
        return sight_fail(SIGHT_E_ARGUMENT, "--%s may be given %d times at most", o->name,
                          ARG_LIST_MAX);
    }
    list->items[list->n++] = text;
    return SIGHT_OK;
}

static sight_err set_value(const arg_option *o, const char *text)
{
    switch (o->kind) {
    case ARG_FLAG: *(bool *)o->out = true; return SIGHT_OK;
    case ARG_TEXT: *(const char **)o->out = text; return SIGHT_OK;
    case ARG_NUMBER: return parse_number(o, o->out, text);
    case ARG_COUNT: return parse_count(o, o->out, text);
    case ARG_TIME: return parse_time(o, o->out, text);
    case ARG_LIST: return add_to_list(o, text);
    }
    return SIGHT_OK;
}

static const arg_option *find(const arg_spec *spec, const char *arg, size_t name_size)
{
    for (size_t i = 0; i < spec->n_options; i++) {
        const arg_option *o = &spec->options[i];
        if (arg[1] == '-') {
            if (strlen(o->name) == name_size - 2 && !memcmp(o->name, arg + 2, name_size - 2)) {
                return o;
            }
        } else if (name_size == 2 && o->letter && arg[1] == o->letter) {
            return o;
        }
    }
    return NULL;
}

// Reads the option at argv[*i] and, where it needs one, its value from argv[*i + 1].
static sight_err parse_option(const arg_spec *spec, int argc, char **argv, int *i)
{
    const char *arg = argv[*i], *equals = arg[1] == '-' ? strchr(arg, '=') : NULL;
    size_t name_size = equals ? (size_t)(equals - arg) : strlen(arg);
    const arg_option *o = find(spec, arg, name_size);
    if (!o) {
        return sight_fail(SIGHT_E_ARGUMENT, "there is no option %.*s (see sight %s --help)",
                          (int)name_size, arg, spec->command);
    }
    if (o->kind == ARG_FLAG) {
        if (equals) return sight_fail(SIGHT_E_ARGUMENT, "--%s takes no value", o->name);
        return set_value(o, NULL);
    }
    if (equals) return set_value(o, equals + 1);
    if (*i + 1 >= argc) {
        return sight_fail(SIGHT_E_ARGUMENT, "--%s needs a value (%s)", o->name, o->value);
    }
    return set_value(o, argv[++*i]);
}

sight_err args_parse(const arg_spec *spec, int argc, char **argv, int *n_positional,
                     bool *wants_help)
{
    int n = 0;
    bool options_over = false;
    *wants_help = false;
    for (int i = 0; i < argc; i++) {
        char *arg = argv[i];
        if (options_over || arg[0] != '-' || !arg[1]) {
            argv[n++] = arg;
        } else if (!strcmp(arg, "--")) {
            options_over = true;
        } else if (!strcmp(arg, "--help") || !strcmp(arg, "-h")) {
            *wants_help = true;
        } else {
            sight_err err = parse_option(spec, argc, argv, &i);
            if (err) return err;
        }
    }
    *n_positional = n;
    return SIGHT_OK;
}

void args_help(const arg_spec *spec)
{
    printf("usage: sight %s [OPTION...] %s\n\n%s\n", spec->command, spec->positional,
           spec->summary);
    if (spec->n_options) printf("\n");
    for (size_t i = 0; i < spec->n_options; i++) {
        const arg_option *o = &spec->options[i];
        char left[64], letter[4] = "";
        if (o->letter) snprintf(letter, sizeof letter, "-%c,", o->letter);
        snprintf(left, sizeof left, "%3s --%s%s%s", letter, o->name, o->value ? " " : "",
                 o->value ? o->value : "");
        printf(" %-28s %s\n", left, o->help);
    }
}

// text/template.h - a small, strict interpreter of the Jinja that chat templates use.
//
// Compiled once at load: syntax beyond what it runs is refused then, with the line. Values are
// jansson values; a template sees only what it is given. Threads: any, once compiled.
#ifndef SIGHT_TEXT_TEMPLATE_H
#define SIGHT_TEXT_TEMPLATE_H

#include <jansson.h>
#include <stddef.h>

#include "base/err.h"

typedef struct template template;

// what: the file's name for errors. SIGHT_E_UNSUPPORTED ("chat_template.jinja:12: ..."),
// SIGHT_E_MODEL, SIGHT_E_MEMORY.
sight_err template_compile(template **out, const char *text, size_t n, const char *what);
void template_destroy(template **t); // accepts NULL; leaves NULL

// Renders with the variables of one object; *out is malloced, *size bytes and a NUL.
// SIGHT_E_ARGUMENT: the template refused by raise_exception (its message is the line) or met a
// value of the wrong type; SIGHT_E_LIMIT: over 10,000,000 steps or 64 MiB of output.
sight_err template_render(const template *t, char **out, size_t *size, const json_t *variables);

#endif

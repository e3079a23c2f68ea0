// A chat template and what it renders: source, then after a NUL byte its variables as JSON.
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "text/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static json_t *parse_variables(const char *text, size_t n)
{
    json_error_t e;
    json_t *v = json_loadb(text, n, JSON_ALLOW_NUL, &e);
    if (json_is_object(v)) return v;
    json_decref(v);
    return json_pack("{s:[{s:s, s:s}, {s:s, s:[{s:s}]}], s:b, s:n}", "messages", "role", "user",
                     "content", " h\xc3\xa9 ", "role", "tool", "content", "type", "image",
                     "add_generation_prompt", 1, "tools");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    const char *end = size ? memchr(text, '\0', size) : NULL;
    size_t n = end ? (size_t)(end - text) : size, out_size;
    template *t;
    char *out;
    if (size > 65536 || template_compile(&t, text, n, "fuzz")) return 0;
    json_t *v = end ? parse_variables(end + 1, size - n - 1) : parse_variables("", 0);
    if (!template_render(t, &out, &out_size, v)) free(out);
    json_decref(v);
    template_destroy(&t);
    return 0;
}

// A call as a model writes it, pushed in pieces of the first byte's size.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "text/tool_calls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void begins(void *arg, const char *name)
{
    buf_clear(arg);
}

static void arguments(void *arg, const char *json, size_t n)
{
    buf_add(arg, json, n);
}

static void ends(void *arg)
{
    json_t *j = json_loads(buf_text(arg), 0, NULL);
    if (!json_is_object(j)) abort(); // pieces together are one object
    json_decref(j);
}

static void broken(void *arg, const char *text) {}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    buf heard;
    tool_calls *t = NULL;
    if (size < 1 || size > 65536) return 0;
    buf_init(&heard);
    const tool_sink sink = {begins, arguments, ends, broken, &heard};
    json_t *tools = json_loads("[{\"name\": \"look\", \"parameters\": {\"properties\": {\"at\": {\"type\": \"string\"}}}}]", 0, NULL);
    if (tool_calls_create(&t, tools, &sink)) abort();
    const size_t step = 1 + data[0] % 64;
    tool_calls_open(t);
    for (size_t i = 1; i < size; i += step) {
        tool_calls_push(t, (const char *)data + i, size - i < step ? size - i : step);
    }
    tool_calls_close(t);
    tool_calls_destroy(&t);
    json_decref(tools);
    buf_done(&heard);
    return 0;
}

#include "daemon/form.h"

#include <string.h>

static sight_err from_schema(grammar **out, grammar_vocabulary *v, const json_t *format, bool after_thinking)
{
    const grammar_options o = {"request: 'response_format.json_schema.schema'", after_thinking};
    const json_t *schema = json_object_get(json_object_get(format, "json_schema"), "schema");
    if (!schema) schema = json_object_get(format, "schema");
    if (!schema) {
        return sight_fail(SIGHT_E_ARGUMENT, "request: 'response_format' of type json_schema has no "
                          "'json_schema' with a 'schema'");
    }
    return grammar_from_schema(out, v, schema, &o);
}

static sight_err from_regex(grammar **out, grammar_vocabulary *v, const json_t *format, bool after_thinking)
{
    const grammar_options o = {"request: 'response_format.pattern'", after_thinking};
    const char *pattern = json_string_value(json_object_get(format, "pattern"));
    if (!pattern) return sight_fail(SIGHT_E_ARGUMENT, "%s must be a string", o.what);
    return grammar_from_regex(out, v, pattern, &o);
}

sight_err form_create(grammar **out, engine *e, const json_t *format, bool after_thinking)
{
    const char *type = json_string_value(json_object_get(format, "type"));
    const grammar_options choices = {"request: 'response_format.choices'", after_thinking};
    grammar_vocabulary *v = NULL;
    sight_err err = engine_forms(e, &v);
    if (err) return err;
    if (!strcmp(type, "json_object")) return grammar_from_json_object(out, v, &choices);
    if (!strcmp(type, "json_schema")) return from_schema(out, v, format, after_thinking);
    if (!strcmp(type, "regex")) return from_regex(out, v, format, after_thinking);
    if (!strcmp(type, "choice")) return grammar_from_choice(out, v, json_object_get(format, "choices"), &choices);
    return sight_fail(SIGHT_E_ARGUMENT, "request: 'response_format.type' is '%.40s', must be text, json_object, "
                      "json_schema, choice or regex", type);
}

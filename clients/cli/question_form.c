// The form that an answer is asked to have, from a command's options.
#include "base/json.h"
#include "clients/cli/question.h"

#define MAX_SCHEMA_BYTES ((size_t)4 << 20)

static sight_err schema_of(json_t **out, const char *path)
{
    json_t *schema = NULL;
    sight_err err = json_parse_file(&schema, path, MAX_SCHEMA_BYTES, SIGHT_E_ARGUMENT);
    if (err) return err;
    *out = json_pack("{s:s, s:{s:s, s:o}}", "type", "json_schema", "json_schema", "name", "answer", "schema",
                     schema);
    return SIGHT_OK;
}

static json_t *choices_of(const arg_list *list)
{
    json_t *choices = json_array();
    for (size_t i = 0; i < list->n; i++) {
        if (json_array_append_new(choices, json_string(list->items[i]))) {
            json_decref(choices);
            return NULL;
        }
    }
    return json_pack("{s:s, s:o}", "type", "choice", "choices", choices);
}

sight_err question_add_form(const question *q, json_t *request)
{
    const int asked = (q->schema != NULL) + (q->regex != NULL) + (q->choice.n > 0);
    json_t *form = NULL;
    if (asked == 0) return SIGHT_OK;
    if (asked > 1) {
        return sight_fail(SIGHT_E_ARGUMENT, "--schema, --choice and --regex: give one of them");
    }
    if (q->schema) {
        sight_err err = schema_of(&form, q->schema);
        if (err) return err;
    } else if (q->regex) {
        form = json_pack("{s:s, s:s}", "type", "regex", "pattern", q->regex);
    } else {
        form = choices_of(&q->choice);
    }
    if (!form) return sight_fail(SIGHT_E_ARGUMENT, "--choice or --regex is not valid UTF-8");
    json_object_set_new(request, "response_format", form);
    return SIGHT_OK;
}

// Whole grammars: what may come before an answer of the form, and the forms that are no schema.
#include "text/grammar_schema.h"

static sight_err make(grammar **out, grammar_vocabulary *v, net *n, net_part part, const grammar_options *o,
                      sight_err err)
{
    if (!err && !n->err) {
        net_part line = net_text(n, "\n", 1);
        line = net_optional(n, net_then(n, line, net_optional(n, net_text(n, "\n", 1))));
        n->root = net_rule(n);
        net_define(n, n->root, o->after_thinking ? net_then(n, line, part) : part);
    }
    if (!err) return grammar_create(out, v, n);
    net_done(n);
    return err;
}

sight_err grammar_from_schema(grammar **out, grammar_vocabulary *v, const json_t *root,
                              const grammar_options *o)
{
    net n = {0};
    form_rules rules = form_rules_none();
    sight_err err;
    const net_part part = build_schema(&n, &rules, root, o->what, &err);
    return make(out, v, &n, part, o, err);
}

sight_err grammar_from_json_object(grammar **out, grammar_vocabulary *v, const grammar_options *o)
{
    net n = {0};
    form_rules rules = form_rules_none();
    return make(out, v, &n, form_object(&n, &rules), o, SIGHT_OK);
}

sight_err grammar_from_regex(grammar **out, grammar_vocabulary *v, const char *regex,
                             const grammar_options *o)
{
    net n = {0};
    form_rules rules = form_rules_none();
    net_part part = {0, 0};
    sight_err err = regex_build(&n, &rules, &part, regex, false, CODING_PLAIN, o->what);
    return make(out, v, &n, part, o, err);
}

sight_err grammar_from_choice(grammar **out, grammar_vocabulary *v, const json_t *strings,
                              const grammar_options *o)
{
    net n = {0};
    if (json_array_size(strings) == 0) {
        return sight_fail(SIGHT_E_ARGUMENT, "%s must be a list of strings", o->what);
    }
    net_part all = net_never(&n);
    for (size_t i = 0; i < json_array_size(strings); i++) {
        const json_t *one = json_array_get(strings, i);
        if (!json_is_string(one) || json_string_length(one) == 0) {
            net_done(&n);
            return sight_fail(SIGHT_E_ARGUMENT, "%s[%zu] must be a string with something in it", o->what, i);
        }
        all = net_either(&n, all, net_text(&n, json_string_value(one), json_string_length(one)));
    }
    return make(out, v, &n, all, o, SIGHT_OK);
}

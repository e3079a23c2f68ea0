// text/grammar_schema.h - the grammar of each kind of JSON schema, for the files of grammar_schema and grammar.c.
//
// Each gives a part of the reading's net; what is wrong with the schema is noted in the reading (reading_fail).
// Threads: one net belongs to one thread.
#ifndef SIGHT_TEXT_GRAMMAR_SCHEMA_H
#define SIGHT_TEXT_GRAMMAR_SCHEMA_H

#include "text/schema_reading.h"

// A whole schema. rules belong to n. *err: SIGHT_OK, or as grammar_from_schema has it.
net_part build_schema(net *n, form_rules *rules, const json_t *root, const char *what, sight_err *err);
// Any schema inside it.
net_part build_node(schema_reading *s, const json_t *node);

// grammar_schema_scalars.c
net_part build_string(schema_reading *s, const json_t *node);
net_part build_integer(schema_reading *s, const json_t *node);
net_part build_number(schema_reading *s, const json_t *node);

// grammar_schema_containers.c
net_part build_array(schema_reading *s, const json_t *node);
net_part build_object(schema_reading *s, const json_t *node);

#endif

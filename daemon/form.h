// daemon/form.h - a request's response_format as a grammar for its sampler.
//
//   {"type": "json_object"}
//   {"type": "json_schema", "json_schema": {"name", "schema", "strict"}}, as OpenAI's API has it
//   {"type": "choice", "choices": ["yes", "no"]}
//   {"type": "regex", "pattern": "[0-9]+"}
//
// Threads: any; the grammar is the engine's afterwards.
#ifndef SIGHT_DAEMON_FORM_H
#define SIGHT_DAEMON_FORM_H

#include "daemon/engine.h"
#include "text/grammar.h"

// after_thinking: the answer comes behind a thinking part. SIGHT_E_ARGUMENT names the field, in a schema by JSON pointer;
// SIGHT_E_UNSUPPORTED, SIGHT_E_LIMIT, SIGHT_E_MEMORY.
sight_err form_create(grammar **out, engine *e, const json_t *format, bool after_thinking);

#endif

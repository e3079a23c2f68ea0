// daemon/media/confining.h - the settings of how media are opened, made into decoder children.
//
// Threads: children are made before there are others; describing, any.
#ifndef SIGHT_DAEMON_CONFINING_H
#define SIGHT_DAEMON_CONFINING_H

#include <jansson.h>

#include "daemon/settings/options.h"
#include "decoder/decoders.h"

// Whether that is a value of `confine`; NULL is auto. SIGHT_E_ARGUMENT.
sight_err confining_check(const char *word);

// Makes the children that a checked `confine` asks for and names them in o->limits; says in the log what is lacking. *out
// NULL: off. Codes of decoders_create.
sight_err confining_open(decoders **out, options *o);

// For `status`: {"process", "seccomp", "landlock", "namespaces" (true or false), "working", "started", "crashed",
// "timed_out"}. d NULL: no process. NULL: no memory.
json_t *confining_describe(decoders *d);

#endif

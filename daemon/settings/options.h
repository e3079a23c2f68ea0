// daemon/settings/options.h - every setting of sightd: command line, then configuration file, then defaults.
//
// The only place that reads settings. Names are the same in both places: `--max-frames 100` and
// `max-frames = 100`. Threads: any; plain data afterwards.
#ifndef SIGHT_DAEMON_OPTIONS_H
#define SIGHT_DAEMON_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "daemon/engine.h"
#include "daemon/media/fetch.h"
#include "daemon/access/gate.h"
#include "daemon/models/model_sections.h"
#include "daemon/request.h"
#include "daemon/scheduler.h"
#include "daemon/settings/settings.h"

typedef struct options {
    char *model;    // a folder, a GGUF file or a published name; NULL: the bundled one
    char *mmproj;   // of a GGUF model; NULL: the one beside it
    model_sections sections; // further models, and routers (daemon/models/model_set.h makes models of all this)
    char *default_model;     // for requests that name none; NULL: the first
    option_list lora; // adapters, in the order given
    option_list endpoints; // none: endpoint_own
    gate_options gate;
    char *device;   // as written, checked when read; NULL: auto. Looked for when the model is opened
    char *device_memory;       // as written
    char *simd, *kv, *weights, *fp8; // as written, checked when read
    char *drafts;              // as written
    char *cache; // folder of prepared weights, "none"; NULL: the default one
    char *store; // folder of what is kept over restarts; NULL: none
    int64_t store_bytes;
    engine_options engine; // its model is set by options_find_model's caller
    request_limits limits;
    bool urls;             // media are fetched
    option_list url_hosts; // as url_hosts_create takes them
    fetch_rules url;       // without its hosts and ca_file; max_bytes 0: max_media_bytes
    char *url_ca;          // a file; NULL: the system's certificates
    int32_t url_fetches;   // at once
    struct fetcher *fetcher; // made of these by main.c; NULL: nothing is fetched
    option_list media_roots; // folders; none: see ticket_set_who
    char *confine;             // "auto", "require", "off"
    int64_t decoder_memory;    // of a child that opens a medium
    double decoder_s, decoder_silence_s; // of its processor and of waiting for it; without a word from it
    scheduler_limits queue;
    int64_t max_message_bytes;
    int32_t send_queue;     // events kept for a client that reads slowly
    double max_request_s;   // from arrival to end
    double grace_s;         // for the running request when told to stop
    int32_t private_s;      // > 0: ends so long after its last client has gone
    char *log;              // "error", "warning", "info", "debug"
    char *log_format;       // "text", "json"
    char *metrics;          // ADDRESS:PORT; NULL: none
    double stuck_s;         // a turn of the engine loop may last
    bool help, version, check, check_config, print_config;
    int argc;    // as options_read took them, to read them again; borrowed
    char **argv;
} options;

// Reads argv and the configuration file. *out is zeroed before and released by options_done also
// after a failure. SIGHT_E_ARGUMENT (one sentence that names option or file and line, value and
// range), SIGHT_E_NOT_FOUND, SIGHT_E_IO.
sight_err options_read(options *out, int argc, char **argv);
void options_done(options *o);

// Reads `name = value` lines. what: the file's name in errors. For tests and fuzzing.
sight_err options_read_text(options *out, const char *text, const char *what);
void options_set_defaults(options *out);
// Settings that are words into what they mean; part of options_read. SIGHT_E_ARGUMENT.
sight_err options_check(options *o);

// The name of the first setting from *at on that differs, leaving *at behind it; NULL: none. Begin with *at 0.
const char *options_difference(const options *a, const options *b, size_t *at);
// Changes that setting's value in one for the other's. What is made of it (limits.drafts) is the caller's to see to.
void options_swap(options *a, options *b, const char *name);

// Makes the log as its settings say.
void options_apply_log(const options *o);

void options_print_help(FILE *to);
// Every setting with its value, as a configuration file.
void options_print_config(const options *o, FILE *to);

// The folder of the bundled model: beside the source tree of a build, else where it is installed.
// *out is malloced. SIGHT_E_NOT_FOUND.
sight_err options_bundled_model(char **out);

#endif

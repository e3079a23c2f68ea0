// clients/cli/connect.h - a connection to a daemon, started when there is none.
//
// Without --endpoint, --model, --lora, --weights and --device the user's daemon (or the system's service) answers where one runs;
// else a private daemon is started that ends some time after its last client. A private daemon
// listens on a socket of its own per model, adapters, form and device, so that another question finds it warm.
#ifndef SIGHT_CLI_CONNECT_H
#define SIGHT_CLI_CONNECT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "clients/cli/args.h"
#include "sight/client.h"

typedef struct connect_options {
    const char *endpoint; // NULL: $SIGHT_ENDPOINT; without that, find or start one
    const char *key;        // file of this user's secret key; NULL: $SIGHT_KEY, for tcp
    const char *server_key; // the server's public one, a file or 40 characters; NULL: $SIGHT_SERVER_KEY, for tcp
    const char *model;    // NULL: the daemon's default
    const char *mmproj;   // of a GGUF model; NULL: the one beside it
    arg_list lora;        // adapters of a private daemon
    int64_t threads;      // of a private daemon; 0: its default
    const char *weights;  // form of a private daemon's weights; NULL: its default
    const char *device;   // of a private daemon; NULL: its default
} connect_options;

// The options of a subcommand that connects, for its table.
#define CONNECT_ARGS(o)                                                                                            \
    {"endpoint", 'e', ARG_TEXT, &(o)->endpoint, "URL", "the daemon to ask", 0, 0},                                 \
    {"key", 0, ARG_TEXT, &(o)->key, "FILE", "your secret key, for a server with keys", 0, 0},                      \
    {"server-key", 0, ARG_TEXT, &(o)->server_key, "FILE|KEY", "that server's public key", 0, 0}

// Connects to a daemon that runs: the one at the endpoint, else the default one. Codes of sight_client_open.
sight_err connect_running(sight_client **out, const connect_options *options, int timeout_ms);

// Whether the daemon is reached through a network: then files go with the question, as it may not see this machine's.
bool connect_is_remote(const connect_options *options);

// SIGHT_E_NOT_FOUND (nothing at the endpoint, or no sightd program), SIGHT_E_MODEL and others with
// the private daemon's own last line when it could not start, and codes of sight_client_connect.
sight_err connect_open(sight_client **out, const connect_options *options);

#endif

#include "ipc/endpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "sight/client.h"

static sight_err write_endpoint(char *out, size_t size, const char *folder, const char *rest)
{
    char full[ENDPOINT_MAX];
    int n = snprintf(full, sizeof full, "ipc://%s%s", folder, rest);
    if (n < 0 || (size_t)n >= sizeof full || (size_t)n >= size) {
        return sight_fail(SIGHT_E_ARGUMENT, "the folder '%s' is too long for a socket", folder);
    }
    memcpy(out, full, (size_t)n + 1);
    return SIGHT_OK;
}

static const char *absolute_folder(const char *variable)
{
    const char *folder = getenv(variable);
    return folder && folder[0] == '/' ? folder : NULL;
}

static sight_err endpoint_of_user(char *out, size_t size)
{
    const char *folder = absolute_folder("XDG_RUNTIME_DIR");
    if (folder) return write_endpoint(out, size, folder, "/sightd/sightd.sock");
    if (geteuid() == 0) return write_endpoint(out, size, "/run", "/sightd/sightd.sock");
    char own[64];
    snprintf(own, sizeof own, "/tmp/sightd-%lu", (unsigned long)geteuid());
    return write_endpoint(out, size, own, "/sightd.sock");
}

sight_err endpoint_own(char *out, size_t size)
{
    const char *service = absolute_folder("RUNTIME_DIRECTORY");
    // systemd joins several with ':'; the first is ours.
    if (service && !strchr(service, ':')) return write_endpoint(out, size, service, "/sightd.sock");
    return endpoint_of_user(out, size);
}

sight_err sight_default_endpoint(char *out, size_t size)
{
    char own[ENDPOINT_MAX];
    struct stat st;
    sight_err err = endpoint_of_user(own, sizeof own);
    if (err) return err;
    const char *service = "/run/sightd/sightd.sock";
    if (stat(endpoint_path(own), &st) && !stat(service, &st)) {
        return write_endpoint(out, size, service, "");
    }
    return write_endpoint(out, size, endpoint_path(own), "");
}

const char *endpoint_path(const char *endpoint)
{
    return strncmp(endpoint, "ipc://", 6) ? NULL : endpoint + 6;
}

static sight_err check_ipc(const char *path)
{
    const size_t most = sizeof((struct sockaddr_un *)0)->sun_path - 1;
    if (path[0] != '/') {
        return sight_fail(SIGHT_E_ARGUMENT, "endpoint: 'ipc://%s' must hold an absolute path",
                          path);
    }
    if (strlen(path) > most) {
        return sight_fail(SIGHT_E_ARGUMENT,
                          "endpoint: the socket's path has %zu bytes, the system's limit is %zu",
                          strlen(path), most);
    }
    return SIGHT_OK;
}

static bool is_loopback(const char *host)
{
    return !strncmp(host, "127.0.0.1:", 10) || !strncmp(host, "[::1]:", 6);
}

static sight_err check_port(const char *endpoint, const char *host)
{
    const char *colon = strrchr(host, ':');
    const char *port = colon && colon > host ? colon + 1 : "";
    char *end;
    const long n = strtol(port, &end, 10);
    if (*port < '0' || *port > '9' || *end || n < 1 || n > 65535) {
        return sight_fail(SIGHT_E_ARGUMENT, "endpoint: '%s' needs a host and a port of 1 to 65535", endpoint);
    }
    return SIGHT_OK;
}

sight_err endpoint_check(const char *endpoint, bool keys)
{
    if (strlen(endpoint) >= ENDPOINT_MAX) {
        return sight_fail(SIGHT_E_ARGUMENT, "endpoint: longer than %d bytes", ENDPOINT_MAX - 1);
    }
    if (endpoint_path(endpoint)) return check_ipc(endpoint_path(endpoint));
    if (strncmp(endpoint, "tcp://", 6)) {
        return sight_fail(SIGHT_E_ARGUMENT,
                          "endpoint: '%s' must begin with ipc:// or tcp://", endpoint);
    }
    const char *host = endpoint + 6;
    if (!keys && !is_loopback(host)) {
        return sight_fail(SIGHT_E_UNSUPPORTED,
                          "endpoint: '%s' is open to the network, which is served with keys only: make some with `sight keys` "
                          "and give their folder as keys; without them there are 127.0.0.1 and [::1]", endpoint);
    }
    return check_port(endpoint, host);
}

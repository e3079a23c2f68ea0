#include "clients/c/probe.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static sight_err result(int fd, int failed, const char *endpoint)
{
    const int e = errno;
    if (fd >= 0) close(fd);
    if (!failed) return SIGHT_OK;
    if (e == ENOENT || e == ENOTDIR || e == ECONNREFUSED) {
        return sight_fail(SIGHT_E_NOT_FOUND, "no sightd serves '%s'", endpoint);
    }
    if (e == EACCES || e == EPERM) {
        return sight_fail(SIGHT_E_PERMISSION, "'%s' belongs to another user", endpoint);
    }
    return sight_fail(SIGHT_E_IO, "cannot connect to '%s': %s", endpoint, strerror(e));
}

static sight_err probe_ipc(const char *endpoint, const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (path[0] != '/' || strlen(path) >= sizeof a.sun_path) {
        return sight_fail(SIGHT_E_ARGUMENT, "endpoint: '%s' must hold an absolute path of at most "
                          "%zu bytes", endpoint, sizeof a.sun_path - 1);
    }
    strcpy(a.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return result(fd, fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a), endpoint);
}

// host:port or [v6]:port
static sight_err probe_tcp(const char *endpoint, const char *address)
{
    char host[256];
    const char *colon = strrchr(address, ':');
    if (!colon || colon == address || (size_t)(colon - address) >= sizeof host) {
        return sight_fail(SIGHT_E_ARGUMENT, "endpoint: '%s' must be tcp://host:port", endpoint);
    }
    size_t n = (size_t)(colon - address);
    const int brackets = address[0] == '[' && address[n - 1] == ']';
    snprintf(host, sizeof host, "%.*s", (int)n - 2 * brackets, address + brackets);
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list;
    int e = getaddrinfo(host, colon + 1, &hints, &list);
    if (e) {
        return sight_fail(SIGHT_E_ARGUMENT, "endpoint: '%s': %s", endpoint, gai_strerror(e));
    }
    int fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sight_err err = result(fd, fd < 0 || connect(fd, list->ai_addr, list->ai_addrlen), endpoint);
    freeaddrinfo(list);
    return err;
}

sight_err probe_endpoint(const char *endpoint)
{
    if (!strncmp(endpoint, "ipc://", 6)) return probe_ipc(endpoint, endpoint + 6);
    if (!strncmp(endpoint, "tcp://", 6)) return probe_tcp(endpoint, endpoint + 6);
    return sight_fail(SIGHT_E_ARGUMENT, "endpoint: '%s' must begin with ipc:// or tcp://",
                      endpoint);
}

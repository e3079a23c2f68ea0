#define _GNU_SOURCE // memfd_create
#include "daemon/media/fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "daemon/media/address.h"
#include "daemon/media/curl_library.h"

#define MAX_HEADER_BYTES 65536 // and of a redirect's page, which nobody reads
#define CONNECT_S        10.0 // at most, of the whole time
#define USER_AGENT       "sightd/" SIGHT_VERSION

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U // Linux 6.3
#endif

typedef struct fetching {
    const curl_library *lib;
    const fetch_rules *rules;
    const fetch_watch *watch;
    CURL *curl;
    double deadline_s;
    int fd;
    int64_t size;
    // Of the response under way.
    const url_parts *at;
    int64_t header_bytes;
    char encoding[32];     // Content-Encoding, "" or identity: none
    int64_t length;        // Content-Length; -1: not told
    int64_t skipped_bytes; // of a body that is not wanted
    bool skipped;          // and so much of it that it was left
    const char *refused; // what an address was that was not connected to
    sight_err err;     // what a callback ended it with; the sentence is this thread's last
    char reason[CURL_ERROR_SIZE];
} fetching;

sight_err fetch_check(const fetch_rules *r, const url_parts *u)
{
    if (url_hosts_allow(r->hosts, u)) return SIGHT_OK;
    return sight_fail(SIGHT_E_PERMISSION, "'%.300s' is not fetched: '%.200s' port %d is not among the server's url-hosts", u->shown,
                      u->host, u->port);
}

// ---- what libcurl calls ----

static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
    fetching *f = arg;
    const char *kind = address_not_public(&a->addr, a->addrlen);
    if (purpose != CURLSOCKTYPE_IPCXN || (kind && !f->rules->not_public)) {
        f->refused = kind ? kind : "not for a connection";
        return CURL_SOCKET_BAD;
    }
    return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

// The value of a header line of that name (with its colon), cut to the size. False: it is another.
static bool header_value(char *out, size_t size, const char *line, size_t n, const char *name)
{
    size_t at = strlen(name);
    if (n < at || strncasecmp(line, name, at)) return false;
    while (n > at && strchr(" \t\r\n", line[n - 1])) n--;
    while (at < n && (line[at] == ' ' || line[at] == '\t')) at++;
    snprintf(out, size, "%.*s", (int)(n - at), line + at);
    return true;
}

static void begin_response(fetching *f)
{
    f->encoding[0] = 0;
    f->length = -1;
}

static long status_of(const fetching *f)
{
    long status = 0;
    f->lib->getinfo(f->curl, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

static size_t take_header(char *line, size_t one, size_t n, void *arg)
{
    fetching *f = arg;
    n *= one;
    f->header_bytes += (int64_t)n;
    if (f->header_bytes > MAX_HEADER_BYTES) {
        f->err = sight_fail(SIGHT_E_LIMIT, "'%.300s' came with over %d bytes of headers", f->at->shown, MAX_HEADER_BYTES);
        return 0;
    }
    char length[24];
    if (n > 5 && !memcmp(line, "HTTP/", 5)) begin_response(f); // one may follow another
    header_value(f->encoding, sizeof f->encoding, line, n, "content-encoding:");
    if (header_value(length, sizeof length, line, n, "content-length:")) f->length = strtoll(length, NULL, 10);
    if (n > 2 || status_of(f) != 200 || f->length <= f->rules->max_bytes) return n;
    f->err = sight_fail(SIGHT_E_LIMIT, "'%.300s' has %lld bytes, the limit is %lld", f->at->shown, (long long)f->length,
                        (long long)f->rules->max_bytes);
    return 0;
}

static sight_err write_out(int fd, const char *bytes, size_t n)
{
    while (n) {
        const ssize_t put = write(fd, bytes, n);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return sight_fail(SIGHT_E_MEMORY, "no memory for what was fetched: %s", strerror(errno));
        bytes += put;
        n -= (size_t)put;
    }
    return SIGHT_OK;
}

static sight_err keep(fetching *f, const char *bytes, size_t n)
{
    if (f->encoding[0] && strcasecmp(f->encoding, "identity")) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "'%.300s' was sent with Content-Encoding '%s', which was not asked for", f->at->shown,
                          f->encoding);
    }
    if ((int64_t)n > f->rules->max_bytes - f->size) {
        return sight_fail(SIGHT_E_LIMIT, "'%.300s' has more than %lld bytes, the limit", f->at->shown,
                          (long long)f->rules->max_bytes);
    }
    sight_err err = f->watch->more ? f->watch->more(f->watch->arg, (int64_t)n, f->length) : SIGHT_OK;
    if (!err) err = write_out(f->fd, bytes, n);
    f->size += (int64_t)n;
    return err;
}

static size_t take_body(char *bytes, size_t one, size_t n, void *arg)
{
    fetching *f = arg;
    n *= one;
    if (status_of(f) != 200) { // libcurl tells where a redirect leads once its page has ended
        f->skipped_bytes += (int64_t)n;
        f->skipped = f->skipped_bytes > MAX_HEADER_BYTES;
        return f->skipped ? 0 : n;
    }
    f->err = keep(f, bytes, n);
    return f->err ? 0 : n;
}

static int look_up(void *arg, curl_off_t total, curl_off_t now, curl_off_t up_total, curl_off_t up_now)
{
    const fetching *f = arg;
    return f->watch->stop && f->watch->stop(f->watch->arg);
}

// ---- settings ----

static bool set_safety(const fetching *f)
{
    CURLcode (*set)(CURL *, CURLoption, ...) = f->lib->setopt;
    CURL *c = f->curl;
    int bad = 0;
#if LIBCURL_VERSION_NUM >= 0x075500
    bad |= (int)set(c, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    bad |= (int)set(c, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
    bad |= (int)set(c, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    bad |= (int)set(c, CURLOPT_OPENSOCKETDATA, f);
    bad |= (int)set(c, CURLOPT_FOLLOWLOCATION, 0L);
    bad |= (int)set(c, CURLOPT_PROXY, ""); // nor one from the environment
    bad |= (int)set(c, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    bad |= (int)set(c, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    bad |= (int)set(c, CURLOPT_SSL_VERIFYPEER, 1L);
    bad |= (int)set(c, CURLOPT_SSL_VERIFYHOST, 2L);
    if (f->rules->ca_file) bad |= (int)set(c, CURLOPT_CAINFO, f->rules->ca_file);
    bad |= (int)set(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    bad |= (int)set(c, CURLOPT_HTTP_CONTENT_DECODING, 0L);
    bad |= (int)set(c, CURLOPT_NOSIGNAL, 1L);
    bad |= (int)set(c, CURLOPT_USERAGENT, USER_AGENT);
#if LIBCURL_VERSION_NUM >= 0x075700
    (void)set(c, CURLOPT_QUICK_EXIT, 1L); // a name server that does not answer is not waited for
#endif
    return !bad;
}

static bool set_limits(const fetching *f)
{
    CURLcode (*set)(CURL *, CURLoption, ...) = f->lib->setopt;
    CURL *c = f->curl;
    int bad = 0;
    bad |= (int)set(c, CURLOPT_WRITEFUNCTION, take_body);
    bad |= (int)set(c, CURLOPT_WRITEDATA, f);
    bad |= (int)set(c, CURLOPT_HEADERFUNCTION, take_header);
    bad |= (int)set(c, CURLOPT_HEADERDATA, f);
    bad |= (int)set(c, CURLOPT_NOPROGRESS, 0L);
    bad |= (int)set(c, CURLOPT_XFERINFOFUNCTION, look_up);
    bad |= (int)set(c, CURLOPT_XFERINFODATA, f);
    bad |= (int)set(c, CURLOPT_ERRORBUFFER, f->reason);
    bad |= (int)set(c, CURLOPT_LOW_SPEED_LIMIT, (long)f->rules->slow_bytes_per_s);
    bad |= (int)set(c, CURLOPT_LOW_SPEED_TIME, (long)f->rules->slow_s);
    return !bad;
}

// ---- one response ----

static sight_err name_timeout(const fetching *f)
{
    if (clock_now_s() >= f->deadline_s - 0.01) { // libcurl counts in ms
        return sight_fail(SIGHT_E_TIMEOUT, "'%.300s' took longer than %g s, the server's limit (url-timeout)", f->at->shown,
                          f->rules->timeout_s);
    }
    if (!f->header_bytes) return sight_fail(SIGHT_E_TIMEOUT, "'%.300s' did not answer in time", f->at->shown);
    return sight_fail(SIGHT_E_TIMEOUT, "'%.300s' came slower than %d bytes a second for %d s", f->at->shown,
                      f->rules->slow_bytes_per_s, f->rules->slow_s);
}

static sight_err name_failure(const fetching *f, CURLcode code)
{
    const char *shown = f->at->shown;
    switch (code) {
    case CURLE_ABORTED_BY_CALLBACK: return sight_fail(SIGHT_E_CANCELLED, "the request was cancelled");
    case CURLE_OPERATION_TIMEDOUT: return name_timeout(f);
    case CURLE_OUT_OF_MEMORY: return sight_fail(SIGHT_E_MEMORY, "no memory to fetch '%.300s'", shown);
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
        if (!f->header_bytes) return sight_fail(SIGHT_E_IO, "'%.300s': the server closed the connection without an answer", shown);
        return sight_fail(SIGHT_E_IO, "'%.300s' ended after %lld bytes, before it was whole", shown, (long long)f->size);
    case CURLE_COULDNT_RESOLVE_HOST: return sight_fail(SIGHT_E_NOT_FOUND, "'%.300s': no host '%.200s' is known", shown, f->at->host);
    default:
        return sight_fail(SIGHT_E_IO, "'%.300s' cannot be fetched: %.300s", shown,
                          f->reason[0] ? f->reason : f->lib->strerror(code));
    }
}

static sight_err name_status(const fetching *f, long status)
{
    const char *shown = f->at->shown;
    if (status == 404 || status == 410) return sight_fail(SIGHT_E_NOT_FOUND, "'%.300s' is not there (status %ld)", shown, status);
    if (status == 401 || status == 403) {
        return sight_fail(SIGHT_E_PERMISSION, "'%.300s' is not given to this server (status %ld)", shown, status);
    }
    return sight_fail(SIGHT_E_IO, "'%.300s' was answered with status %ld", shown, status);
}

static bool is_redirect(long status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

// Gets f->at. *next: where it is redirected to (malloc); NULL: it has been read.
static sight_err get(fetching *f, char **next)
{
    CURLcode (*set)(CURL *, CURLoption, ...) = f->lib->setopt;
    const double left_s = f->deadline_s - clock_now_s();
    if (left_s <= 0.001) return name_timeout(f);
    const double connect_s = left_s < CONNECT_S ? left_s : CONNECT_S;
    f->header_bytes = f->skipped_bytes = 0;
    f->reason[0] = 0;
    begin_response(f);
    f->skipped = false;
    f->refused = NULL;
    if (set(f->curl, CURLOPT_URL, f->at->text) || set(f->curl, CURLOPT_TIMEOUT_MS, (long)(left_s * 1000)) ||
        set(f->curl, CURLOPT_CONNECTTIMEOUT_MS, (long)(connect_s * 1000))) {
        return sight_fail(SIGHT_E_MEMORY, "no memory to fetch '%.300s'", f->at->shown);
    }
    const CURLcode code = f->lib->perform(f->curl);
    if (f->err) return f->err;
    const long status = status_of(f);
    char *to = NULL;
    f->lib->getinfo(f->curl, CURLINFO_REDIRECT_URL, &to);
    if (code && !f->skipped && code != CURLE_ABORTED_BY_CALLBACK && f->refused && !f->header_bytes) {
        return sight_fail(SIGHT_E_PERMISSION, "'%.300s' is not fetched: '%.200s' is at an address that is %s (see url-private)",
                          f->at->shown, f->at->host, f->refused);
    }
    if (code && !f->skipped) return name_failure(f, code);
    if (status == 200) return SIGHT_OK;
    if (!is_redirect(status) || !to) return name_status(f, status);
    *next = strdup(to);
    return *next ? SIGHT_OK : sight_fail(SIGHT_E_MEMORY, "no memory for a URL");
}

// A redirect is a URL like the first, and does not lead from https to http.
static sight_err follow(fetching *f, url_parts *at, char **next)
{
    url_parts to = {0};
    sight_err err = url_parse(&to, *next);
    if (!err) err = fetch_check(f->rules, &to);
    if (!err && at->tls && !to.tls) {
        err = sight_fail(SIGHT_E_PERMISSION, "it leads from https to '%.300s'", to.shown);
    }
    free(*next);
    *next = NULL;
    if (err) {
        url_done(&to);
        return sight_fail_in(err, "'%.300s' was redirected", at->shown);
    }
    url_done(at);
    *at = to;
    return SIGHT_OK;
}

static sight_err get_all(fetching *f, url_parts *at)
{
    char *next = NULL;
    f->at = at;
    sight_err err = get(f, &next);
    for (int32_t i = 0; !err && next; i++) {
        if (i == f->rules->redirects) {
            free(next);
            return sight_fail(SIGHT_E_LIMIT, "'%.300s' was redirected over %d times (url-redirects)", at->shown, i);
        }
        err = follow(f, at, &next);
        if (!err) err = get(f, &next);
    }
    return err;
}

// ---- all of it ----

static int open_memory(void)
{
    int fd = memfd_create("sight media", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) fd = memfd_create("sight media", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return fd;
}

static sight_err seal(int fd)
{
    if (!fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)) return SIGHT_OK;
    return file_fail("seal", "what was fetched", errno);
}

static sight_err copy_url(url_parts *out, const url_parts *u)
{
    *out = *u;
    out->text = strdup(u->text);
    out->shown = strdup(u->shown);
    return out->text && out->shown ? SIGHT_OK : sight_fail(SIGHT_E_MEMORY, "no memory for a URL");
}

sight_err fetch_url(const curl_library *c, const fetch_rules *r, int *fd, const url_parts *u, const fetch_watch *w)
{
    fetching f = {.lib = c, .rules = r, .watch = w, .fd = -1, .deadline_s = clock_now_s() + r->timeout_s};
    url_parts at;
    sight_err err = copy_url(&at, u); // that of the last response
    if (!err) err = fetch_check(r, u);
    if (!err && (f.fd = open_memory()) < 0) err = file_fail("create", "memory for what is fetched", errno);
    if (!err && !(f.curl = c->init())) err = sight_fail(SIGHT_E_MEMORY, "no memory to fetch '%.300s'", u->shown);
    if (!err && !(set_safety(&f) && set_limits(&f))) {
        err = sight_fail(SIGHT_E_UNSUPPORTED, "the installed libcurl is too old to fetch with");
    }
    if (!err) err = get_all(&f, &at);
    if (!err) err = seal(f.fd);
    if (f.curl) c->cleanup(f.curl);
    url_done(&at);
    if (!err) *fd = f.fd;
    else if (f.fd >= 0) close(f.fd);
    return err;
}

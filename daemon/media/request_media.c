#include "daemon/media/request_media.h"

#include <ctype.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "daemon/media/base64.h"
#include "daemon/media/fetch.h"
#include "ipc/text.h"

#define MAX_WARNINGS 32
#define MAX_FPS      240.0

void request_warn(request *r, const char *format, ...)
{
    if (json_array_size(r->warnings) >= MAX_WARNINGS) return;
    char line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    json_array_append_new(r->warnings, text_json(line)); // a cut inside a character is mended
}

void request_warn_unknown(request *r, const json_t *object, const char *where,
                          const char *const *known)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        bool found = false;
        for (int i = 0; known[i] && !found; i++) found = !strcmp(known[i], key);
        if (!found) request_warn(r, "%s: unknown field '%.80s' is ignored", where, key);
    }
}

bool request_is_media_type(const char *type)
{
    return !strcmp(type, "image") || !strcmp(type, "video") || !strcmp(type, "image_url") ||
           !strcmp(type, "video_url");
}

// ---- times ----

// Digits with at most one point, to the end of text: a number without sign, exponent or name.
static bool plain_number(double *out, const char *text)
{
    if (!*text || strspn(text, "0123456789.") != strlen(text)) return false;
    if (!isdigit((unsigned char)text[0]) && !isdigit((unsigned char)text[1])) return false;
    const char *point = strchr(text, '.');
    if (point && strchr(point + 1, '.')) return false;
    *out = strtod(text, NULL);
    return isfinite(*out);
}

sight_err request_parse_time(double *out, const char *text, const char *field)
{
    char copy[64];
    double total = 0;
    bool good = strlen(text) < sizeof copy && *text && text[strlen(text) - 1] != ':';
    if (good) strcpy(copy, text);
    int n = 0;
    for (char *rest = copy; good && rest; n++) {
        char *colon = strchr(rest, ':');
        if (colon) *colon = 0;
        double v = 0;
        good = n < 3 && plain_number(&v, rest) && (n == 0 || v < 60) &&
               !(colon && strchr(rest, '.'));
        total = total * 60 + v;
        rest = colon ? colon + 1 : NULL;
    }
    if (!good || total > 1e7) {
        return sight_fail(SIGHT_E_ARGUMENT,
                          "%s is '%.40s', must be seconds, m:ss or h:mm:ss (\"90\", \"1:30.5\")",
                          field, text);
    }
    *out = total;
    return SIGHT_OK;
}

static sight_err get_time(const json_fields *f, double *out, const char *key)
{
    const json_t *v = json_object_get(f->object, key);
    if (!json_is_string(v)) return json_get_double(f, out, key, 0, 1e7);
    char field[160];
    snprintf(field, sizeof field, "%s: '%s'", f->what, key);
    return request_parse_time(out, json_string_value(v), field);
}

// ---- where the bytes are ----

static void set_name(request_media *m, const char *name)
{
    const char *slash = strrchr(name, '/');
    snprintf(m->name, sizeof m->name, "%s", slash && slash[1] ? slash + 1 : name);
}

static sight_err check_size(const request_reader *r, size_t size, const char *where)
{
    if ((int64_t)size <= r->limits->max_media_bytes) return SIGHT_OK;
    return sight_fail(SIGHT_E_LIMIT, "%s: the medium has %zu bytes, the server's limit is %lld",
                      where, size, (long long)r->limits->max_media_bytes);
}

static sight_err from_data_url(request_reader *r, request_media *m, const char *url,
                               const char *where)
{
    const char *comma = strchr(url, ',');
    if (!comma || comma - url < 7 || strncmp(comma - 7, ";base64", 7)) {
        return sight_fail(SIGHT_E_UNSUPPORTED,
                          "%s: a data URL must be base64 (data:...;base64,...)", where);
    }
    size_t n = strlen(comma + 1);
    sight_err err = check_size(r, n / 4 * 3, where);
    if (err) return err;
    uint8_t *bytes = malloc(base64_capacity(n));
    if (!bytes) return sight_fail(SIGHT_E_MEMORY, "%s: no memory for %zu bytes", where, n);
    int64_t size = base64_decode(bytes, comma + 1, n);
    if (size < 0) {
        free(bytes);
        return sight_fail(SIGHT_E_ARGUMENT, "%s: the data URL is not valid base64", where);
    }
    m->owned = bytes;
    m->bytes = bytes;
    m->size = (size_t)size;
    set_name(m, "data URL");
    return SIGHT_OK;
}

// Replaces %XX by its byte, in place; false at a bad or NUL escape.
static bool percent_decode(char *s)
{
    char *to = s;
    for (; *s; s++) {
        if (*s != '%') {
            *to++ = *s;
            continue;
        }
        if (!isxdigit((unsigned char)s[1]) || !isxdigit((unsigned char)s[2])) return false;
        const char hex[3] = {s[1], s[2], 0};
        *to = (char)strtol(hex, NULL, 16);
        if (!*to++) return false;
        s += 2;
    }
    *to = 0;
    return true;
}

static sight_err from_path(request_reader *r, request_media *m, const char *path,
                           const char *where)
{
    if (!r->limits->allow_paths) {
        return sight_fail(SIGHT_E_PERMISSION,
                          "%s: this server reads no files; send the bytes as an attachment", where);
    }
    if (!identity_may(r->source->who, RIGHT_PATHS)) return identity_refuse(r->source->who, RIGHT_PATHS);
    if (!*path) return sight_fail(SIGHT_E_ARGUMENT, "%s: the path is empty", where);
    if (strlen(path) > 4095) return sight_fail(SIGHT_E_ARGUMENT, "%s: the path is too long", where);
    if (path[0] != '/' && !r->base_dir) {
        return sight_fail(SIGHT_E_ARGUMENT,
                          "%s: '%.200s' is a relative path; send an absolute one, or 'base_dir'",
                          where, path);
    }
    size_t n = strlen(path) + (r->base_dir ? strlen(r->base_dir) : 0) + 2;
    m->path = malloc(n);
    if (!m->path) return sight_fail(SIGHT_E_MEMORY, "%s: no memory for a path", where);
    if (path[0] == '/') snprintf(m->path, n, "%s", path);
    else snprintf(m->path, n, "%s/%s", r->base_dir, path);
    set_name(m, path);
    return SIGHT_OK;
}

static sight_err from_file_url(request_reader *r, request_media *m, const char *url,
                               const char *where)
{
    const char *rest = url + strlen("file://");
    if (!strncmp(rest, "localhost/", 10)) rest += 9;
    char *path = strdup(rest);
    if (!path) return sight_fail(SIGHT_E_MEMORY, "%s: no memory for a path", where);
    sight_err err;
    if (path[0] != '/' || !percent_decode(path)) {
        err = sight_fail(SIGHT_E_ARGUMENT, "%s: '%.200s' is not a file URL of this machine", where,
                         url);
    } else {
        err = from_path(r, m, path, where);
    }
    free(path);
    return err;
}

// A scheme in front ("https:", "s3:"): letters, digits, +-. and then "://".
static bool has_scheme(const char *s)
{
    size_t n = 0;
    while (isalnum((unsigned char)s[n]) || (n && s[n] && strchr("+-.", s[n]))) n++;
    return n > 0 && !strncmp(s + n, "://", 3);
}

// Only noted here; what is wrong is said before anything is fetched.
static sight_err from_url(request_reader *r, request_media *m, const char *text, const char *where)
{
    url_parts u = {0};
    if (!r->limits->urls) {
        return sight_fail(SIGHT_E_UNSUPPORTED,
                          "%s: '%.200s' is a network address and sightd fetches nothing (the setting 'urls' is off); "
                          "download it and give its path or bytes", where, text);
    }
    if (!identity_may(r->source->who, RIGHT_URLS)) return identity_refuse(r->source->who, RIGHT_URLS);
    sight_err err = url_parse(&u, text);
    if (!err) err = fetch_check(r->limits->urls, &u);
    if (err) {
        url_done(&u);
        return sight_fail_in(err, "%s", where);
    }
    set_name(m, u.shown);
    m->url = u.text;
    u.text = NULL;
    url_done(&u);
    return SIGHT_OK;
}

static sight_err from_location(request_reader *r, request_media *m, const json_t *value,
                               const char *where)
{
    const char *s = json_string_value(value);
    if (strlen(s) != json_string_length(value)) {
        return sight_fail(SIGHT_E_ARGUMENT, "%s: the path holds a NUL character", where);
    }
    if (!strncmp(s, "data:", 5)) return from_data_url(r, m, s, where);
    if (!strncmp(s, "file://", 7)) return from_file_url(r, m, s, where);
    if (has_scheme(s)) {
        return from_url(r, m, s, where);
    }
    return from_path(r, m, s, where);
}

static sight_err from_attachment(request_reader *r, request_media *m, const json_t *index,
                                 const char *where)
{
    size_t n = r->source->n_parts;
    if (!json_is_integer(index) || json_integer_value(index) < 0 ||
        (uint64_t)json_integer_value(index) >= n) {
        return sight_fail(SIGHT_E_ARGUMENT,
                          "%s: 'attachment' must be 0 to %lld; the message has %zu binary part%s",
                          where, (long long)n - 1, n, n == 1 ? "" : "s");
    }
    const request_part *part = &r->source->parts[json_integer_value(index)];
    sight_err err = check_size(r, part->size, where);
    if (err) return err;
    m->bytes = part->size ? part->data : ""; // there, though empty
    m->size = part->size;
    snprintf(m->name, sizeof m->name, "attachment %lld", (long long)json_integer_value(index));
    return SIGHT_OK;
}

// The one of type's own field, "url", "path" and "attachment" that is there. An object under the
// type's field ({"image_url": {"url": ...}}) is poured into the part, where options are read.
static sight_err locate(request_reader *r, request_media *m, json_t *part, const char *type,
                        const char *where)
{
    const json_t *at = json_object_get(part, type);
    if (json_is_object(at)) {
        if (json_object_update_missing(part, (json_t *)at)) {
            return sight_fail(SIGHT_E_MEMORY, "%s: no memory", where);
        }
        at = NULL;
    }
    if (!at) at = json_object_get(part, "url");
    if (!at) at = json_object_get(part, "path");
    const json_t *attachment = json_object_get(part, "attachment");
    if (attachment && at) {
        return sight_fail(SIGHT_E_ARGUMENT, "%s: give a path or an attachment, not both", where);
    }
    if (attachment) return from_attachment(r, m, attachment, where);
    if (json_is_array(at)) {
        return sight_fail(SIGHT_E_UNSUPPORTED,
                          "%s: '%s' is a list; a clip is one file, frames go as pictures", where,
                          type);
    }
    if (!at) { // enough for the prompt's text; a task refuses it
        snprintf(m->name, sizeof m->name, "%s", where);
        return SIGHT_OK;
    }
    if (!json_is_string(at)) {
        return sight_fail(SIGHT_E_ARGUMENT,
                          "%s: '%s' must be a path, a file or data URL, or 'attachment' a number",
                          where, type);
    }
    return from_location(r, m, at, where);
}

// ---- what of them ----

static sight_err read_pixels(const request_reader *r, request_media *m, const json_fields *f)
{
    const int64_t most = r->limits->max_pixels;
    sight_err err = json_get_int(f, &m->min_pixels, "min_pixels", 1, most);
    if (!err) err = json_get_int(f, &m->max_pixels, "max_pixels", 1, most);
    if (!err && m->min_pixels && m->max_pixels && m->min_pixels > m->max_pixels) {
        err = sight_fail(SIGHT_E_ARGUMENT, "%s: 'min_pixels' %lld is over 'max_pixels' %lld",
                         f->what, (long long)m->min_pixels, (long long)m->max_pixels);
    }
    return err;
}

static sight_err read_range(const request_reader *r, request_media *m, const json_fields *f)
{
    sight_err err = get_time(f, &m->start_s, "start");
    if (!err) err = get_time(f, &m->end_s, "end");
    const bool end_given = json_object_get(f->object, "end") != NULL;
    if (!err && end_given && m->end_s <= m->start_s) {
        err = sight_fail(SIGHT_E_ARGUMENT, "%s: 'end' %g s is not after 'start' %g s", f->what,
                         m->end_s, m->start_s);
    }
    if (!err) err = json_get_double(f, &m->fps, "fps", 0, MAX_FPS);
    const json_t *fps = json_object_get(f->object, "fps");
    if (!err && json_is_number(fps) && m->fps <= 0) {
        err = sight_fail(SIGHT_E_ARGUMENT, "%s: 'fps' is 0, must be over 0 and at most %g", f->what,
                         MAX_FPS);
    }
    if (!err) err = json_get_int32(f, &m->frames, "frames", 1, r->limits->max_frames);
    return err;
}

static sight_err read_options(request_reader *r, request_media *m, const json_t *options,
                              const char *where)
{
    static const char *const picture[] = {"type", "image", "image_url", "url", "path", "attachment",
                                          "min_pixels", "max_pixels", "detail", NULL};
    static const char *const clip[] = {"type", "video", "video_url", "url", "path", "attachment",
                                       "min_pixels", "max_pixels", "start", "end", "fps", "frames",
                                       NULL};
    const json_fields f = {options, where, SIGHT_E_ARGUMENT};
    sight_err err = read_pixels(r, m, &f);
    if (!err && m->kind == MEDIA_VIDEO) err = read_range(r, m, &f);
    if (err) return err;
    request_warn_unknown(r->out, options, where, m->kind == MEDIA_VIDEO ? clip : picture);
    return SIGHT_OK;
}

sight_err request_read_media(request_reader *r, json_t *part, const char *where)
{
    request *q = r->out;
    if (q->n_media >= r->limits->max_media) {
        return sight_fail(SIGHT_E_LIMIT, "%s: more than %lld pictures and clips in one request",
                          where, (long long)r->limits->max_media);
    }
    const char *type = json_string_value(json_object_get(part, "type"));
    request_media *m = &q->media[q->n_media++]; // destroyed with the request from here on
    *m = (request_media){.kind = !strncmp(type, "video", 5) ? MEDIA_VIDEO : MEDIA_IMAGE, .fd = -1};
    sight_err err = locate(r, m, part, type, where);
    if (!err) err = read_options(r, m, part, where);
    if (err) return err;
    json_object_clear(part);
    if (json_object_set_new(part, "type",
                            json_string(m->kind == MEDIA_VIDEO ? "video" : "image"))) {
        return sight_fail(SIGHT_E_MEMORY, "%s: no memory", where);
    }
    return SIGHT_OK;
}

sight_err request_open_media(request *q, const request_limits *limits)
{
    for (int32_t i = 0; i < q->n_media; i++) {
        request_media *m = &q->media[i];
        if (!m->path || m->fd >= 0) continue;
        sight_err err = roots_open(limits->roots, &m->fd, m->path);
        if (err) return err;
    }
    return SIGHT_OK;
}

const char *request_media_blame(sight_err code)
{
    const bool medium = code == SIGHT_E_MEDIA || code == SIGHT_E_IO || code == SIGHT_E_NOT_FOUND || code == SIGHT_E_PERMISSION;
    return medium ? "medium" : NULL;
}

bool request_wants_fetching(const request *q)
{
    for (int32_t i = 0; i < q->n_media; i++) {
        if (q->media[i].url && q->media[i].fd < 0) return true;
    }
    return false;
}

void request_keep_files(media_files *out, const request *q)
{
    media_files_done(out);
    out->fds = malloc(((size_t)q->n_media + 1) * sizeof *out->fds);
    if (!out->fds) return;
    for (; out->n < q->n_media; out->n++) {
        const int fd = q->media[out->n].fd;
        out->fds[out->n] = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    }
}

void request_take_files(request *q, media_files *f)
{
    for (int32_t i = 0; f->n == q->n_media && i < f->n; i++) {
        if (q->media[i].fd >= 0) continue;
        q->media[i].fd = f->fds[i];
        f->fds[i] = -1;
    }
    media_files_done(f);
}

void media_files_done(media_files *f)
{
    for (int32_t i = 0; i < f->n; i++) {
        if (f->fds[i] >= 0) close(f->fds[i]);
    }
    free(f->fds);
    *f = (media_files){0};
}

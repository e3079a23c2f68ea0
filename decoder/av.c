#include "decoder/av.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libavutil/imgutils.h>
#include <libavutil/pixdesc.h>

#include "base/file.h"
#include "decoder/white.h"

#define IO_BUFFER 65536

static void silence(void)
{
    av_log_set_level(AV_LOG_QUIET);
}

void av_silence(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, silence);
}

const char *av_words(int error)
{
    static _Thread_local char text[AV_ERROR_MAX_STRING_SIZE];
    if (av_strerror(error, text, sizeof text)) snprintf(text, sizeof text, "error %d", error);
    return text;
}

static int read_source(void *opaque, uint8_t *to, int n)
{
    av_source *s = opaque;
    if (s->at >= s->size) return AVERROR_EOF;
    if (n > s->size - s->at) n = (int)(s->size - s->at);
    if (s->fd < 0) {
        memcpy(to, s->data + s->at, (size_t)n);
    } else {
        ssize_t got;
        do got = pread(s->fd, to, (size_t)n, s->at);
        while (got < 0 && errno == EINTR);
        if (got < 0) return AVERROR(errno);
        if (got == 0) return AVERROR_EOF; // became shorter while being read
        n = (int)got;
    }
    s->at += n;
    return n;
}

static int64_t seek_source(void *opaque, int64_t offset, int whence)
{
    av_source *s = opaque;
    whence &= ~AVSEEK_FORCE;
    if (whence == AVSEEK_SIZE) return s->size;
    if (whence == SEEK_CUR) offset += s->at;
    else if (whence == SEEK_END) offset += s->size;
    else if (whence != SEEK_SET) return AVERROR(EINVAL);
    if (offset < 0) return AVERROR(EINVAL);
    return s->at = offset;
}

static sight_err take_file(av_source *s, int fd, const av_origin *from)
{
    struct stat st;
    s->fd = fd;
    s->size = (int64_t)from->size;
    if (from->size) return SIGHT_OK;
    if (fstat(fd, &st)) return file_fail("read", from->name, errno);
    if (!S_ISREG(st.st_mode)) {
        return sight_fail(SIGHT_E_IO, "'%s' is %s, not a file", from->name,
                          S_ISDIR(st.st_mode) ? "a folder" : "a device or pipe");
    }
    s->size = st.st_size;
    return SIGHT_OK;
}

static sight_err open_file(av_source *s, const av_origin *from)
{
    int fd;
    sight_err err = file_open(&fd, from->name);
    if (err) return err;
    s->own_fd = true;
    return take_file(s, fd, &(av_origin){.name = from->name});
}

static sight_err fail_source(av_source *s, sight_err err)
{
    av_source_close(s);
    return err;
}

sight_err av_source_open(av_source *s, const av_origin *from)
{
    av_silence();
    *s = (av_source){.fd = -1, .data = from->bytes, .size = (int64_t)from->size};
    sight_err err = SIGHT_OK;
    if (from->fd >= 0) err = take_file(s, from->fd, from);
    else if (!from->bytes) err = open_file(s, from);
    if (err) return fail_source(s, err);
    uint8_t *buffer = av_malloc(IO_BUFFER);
    if (buffer) {
        s->io = avio_alloc_context(buffer, IO_BUFFER, 0, s, read_source, NULL, seek_source);
    }
    if (s->io) return SIGHT_OK;
    av_free(buffer);
    return fail_source(s, sight_fail(SIGHT_E_MEMORY, "no memory to read '%s'", from->name));
}

void av_source_close(av_source *s)
{
    if (s->io) {
        av_freep(&s->io->buffer);
        avio_context_free(&s->io);
    }
    if (s->fd >= 0 && s->own_fd) close(s->fd);
    s->fd = -1;
}

static int refuse_open(AVFormatContext *s, AVIOContext **io, const char *url, int flags,
                       AVDictionary **options)
{
    return AVERROR(EPERM);
}

// Formats whose files point at other files, or that are a device, a program or a library of its
// own rather than a container.
static bool reaches_out(const AVInputFormat *format)
{
    static const char *const names[] = {
        "hls", "dash", "concat", "imf", "sdp", "rtsp", "rtp", "sap", "webm_dash_manifest",
        "image2", "mpjpeg", "libgme", "libopenmpt", "libmodplug", "avisynth", "vapoursynth",
        "tty", "lavfi", "ffmetadata", "tedcaptions",
    };
    if (format->flags & AVFMT_NOFILE) return true;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!strcmp(format->name, names[i])) return true;
    }
    return false;
}

static sight_err pick_format(const AVInputFormat **out, av_source *s, const char *name,
                             const char *only)
{
    if (only) {
        *out = av_find_input_format(only);
        return *out ? SIGHT_OK
                    : sight_fail(SIGHT_E_UNSUPPORTED, "'%s' is %s, which this FFmpeg lacks", name,
                                 only);
    }
    int score = av_probe_input_buffer2(s->io, out, "", NULL, 0, 0);
    if (score < 0 || !*out) {
        return sight_fail(SIGHT_E_MEDIA, "'%s' is not a video (nor a picture) of a known kind",
                          name);
    }
    if (reaches_out(*out)) {
        return sight_fail(SIGHT_E_UNSUPPORTED,
                          "'%s' is of the kind %s, which points at other files: not read", name,
                          (*out)->name);
    }
    return SIGHT_OK;
}

static sight_err fail_open(const AVInputFormat *format, int error, const char *name)
{
    if (error == AVERROR(ENOMEM)) return sight_fail(SIGHT_E_MEMORY, "no memory to read '%s'", name);
    int n = (int)strcspn(format->name, ",");
    if (error == AVERROR_INVALIDDATA && !strncmp(format->name, "mov,", 4)) {
        return sight_fail(SIGHT_E_MEDIA,
                          "'%s' has no readable index (moov): it was cut off or never finished",
                          name);
    }
    return sight_fail(SIGHT_E_MEDIA, "'%s' is not a readable %.*s file: %s", name, n, format->name,
                      av_words(error));
}

sight_err av_container_open(AVFormatContext **out, av_source *s, const char *name,
                            const char *only_format)
{
    const AVInputFormat *format = NULL;
    sight_err err = pick_format(&format, s, name, only_format);
    if (err) return err;
    AVFormatContext *f = avformat_alloc_context();
    AVDictionary *options = NULL;
    av_dict_set(&options, "protocol_whitelist", "none", 0);
    if (!f) return sight_fail(SIGHT_E_MEMORY, "no memory to read '%s'", name);
    f->pb = s->io;
    f->io_open = refuse_open;
    f->flags |= AVFMT_FLAG_CUSTOM_IO;
    int error = avformat_open_input(&f, "", format, &options); // frees f when it fails
    av_dict_free(&options);
    if (error < 0) return fail_open(format, error, name);
    *out = f;
    return SIGHT_OK;
}

bool av_full_range(const AVFrame *f)
{
    const AVPixFmtDescriptor *kind = av_pix_fmt_desc_get(f->format);
    if (kind && kind->nb_components <= 2) return true; // grey, as FFmpeg itself takes it
    switch (f->format) {
    case AV_PIX_FMT_YUVJ411P:
    case AV_PIX_FMT_YUVJ420P:
    case AV_PIX_FMT_YUVJ422P:
    case AV_PIX_FMT_YUVJ440P:
    case AV_PIX_FMT_YUVJ444P: return true;
    default: return f->color_range == AVCOL_RANGE_JPEG;
    }
}

static sight_err reserve(av_converter *c, const AVFrame *f, bool alpha, const char *name)
{
    if (c->width != f->width || c->height != f->height) {
        av_freep(&c->rgb);
        av_freep(&c->rgba);
        c->width = f->width;
        c->height = f->height;
        // Swscale may write a little past a row's end: rows are padded, and so is the last.
        c->stride = ((int64_t)f->width * 3 + 127) / 64 * 64;
    }
    size_t pixels = (size_t)f->width * (size_t)f->height;
    if (!c->rgb) c->rgb = av_malloc((size_t)c->stride * (size_t)f->height + 64);
    if (alpha && !c->rgba) c->rgba = av_malloc(pixels * 4 + 64);
    if (c->rgb && (!alpha || c->rgba)) return SIGHT_OK;
    c->width = c->height = 0;
    return sight_fail(SIGHT_E_MEMORY, "no memory for a frame of %d x %d of '%s'", f->width,
                      f->height, name);
}

// Without FULL_CHR_H_INT swscale halves chroma across, which loses nothing where the source has
// half already, and is several times faster there.
static int conversion_flags(enum AVPixelFormat format)
{
    const AVPixFmtDescriptor *kind = av_pix_fmt_desc_get(format);
    if (kind && kind->log2_chroma_w > 0) return SWS_BICUBIC;
    return SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_FULL_CHR_H_INP;
}

static sight_err prepare_sws(av_converter *c, const AVFrame *f, enum AVPixelFormat to,
                             const char *name)
{
    if (!sws_isSupportedInput(f->format)) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "'%s' has pixels of the kind %s: not converted",
                          name, av_get_pix_fmt_name(f->format) ? av_get_pix_fmt_name(f->format)
                                                               : "unknown");
    }
    c->sws = sws_getCachedContext(c->sws, f->width, f->height, f->format, f->width, f->height, to,
                                  conversion_flags(f->format), NULL, NULL, NULL);
    if (!c->sws) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "'%s' has frames of %d x %d, not convertible",
                          name, f->width, f->height);
    }
    const int *matrix = sws_getCoefficients(f->colorspace); // unspecified: BT.601
    sws_setColorspaceDetails(c->sws, matrix, av_full_range(f), sws_getCoefficients(SWS_CS_DEFAULT), 1,
                             0, 1 << 16, 1 << 16);
    return SIGHT_OK;
}

sight_err av_convert(av_converter *c, const AVFrame *f, const char *name)
{
    const AVPixFmtDescriptor *kind = av_pix_fmt_desc_get(f->format);
    if (!kind || f->width < 1 || f->height < 1) {
        return sight_fail(SIGHT_E_MEDIA, "'%s' has a frame without pixels", name);
    }
    bool alpha = (kind->flags & AV_PIX_FMT_FLAG_ALPHA) || f->format == AV_PIX_FMT_PAL8;
    sight_err err = reserve(c, f, alpha, name);
    if (!err) err = prepare_sws(c, f, alpha ? AV_PIX_FMT_RGBA : AV_PIX_FMT_RGB24, name);
    if (err) return err;
    uint8_t *to[4] = {alpha ? c->rgba : c->rgb};
    int stride[4] = {alpha ? f->width * 4 : (int)c->stride};
    int rows = sws_scale(c->sws, (const uint8_t *const *)f->data, f->linesize, 0, f->height, to,
                         stride);
    if (rows != f->height) {
        return sight_fail(SIGHT_E_MEDIA, "'%s' has a frame that cannot be converted", name);
    }
    for (int y = 0; alpha && y < f->height; y++) {
        white_lay(c->rgb + y * c->stride, c->rgba + (int64_t)y * f->width * 4, f->width);
    }
    return SIGHT_OK;
}

void av_converter_done(av_converter *c)
{
    sws_freeContext(c->sws);
    av_freep(&c->rgb);
    av_freep(&c->rgba);
    *c = (av_converter){0};
}

// WebP, BMP, TIFF and the first frame of a GIF, by FFmpeg.
#include <string.h>

#include "decoder/av.h"
#include "decoder/image_parts.h"

static enum AVCodecID codec_of(image_format format)
{
    switch (format) {
    case IMAGE_WEBP: return AV_CODEC_ID_WEBP;
    case IMAGE_BMP: return AV_CODEC_ID_BMP;
    case IMAGE_TIFF: return AV_CODEC_ID_TIFF;
    default: return AV_CODEC_ID_GIF;
    }
}

static sight_err no_memory(const image_bytes *in)
{
    return sight_fail(SIGHT_E_MEMORY, "no memory to decode '%s'", in->what);
}

// The whole file is one packet for all but GIF, whose first block its demuxer cuts out.
static sight_err first_packet(AVPacket *packet, const image_bytes *in, image_format format)
{
    if (format != IMAGE_GIF) {
        if (in->size > INT32_MAX - AV_INPUT_BUFFER_PADDING_SIZE ||
            av_new_packet(packet, (int)in->size)) {
            return no_memory(in);
        }
        memcpy(packet->data, in->data, in->size);
        return SIGHT_OK;
    }
    av_source source = {.fd = -1};
    AVFormatContext *container = NULL;
    sight_err err = av_source_open(&source, &(av_origin){in->what, -1, in->data, in->size});
    if (!err) err = av_container_open(&container, &source, in->what, "gif");
    if (!err && av_read_frame(container, packet) < 0) {
        err = sight_fail(SIGHT_E_MEDIA, "'%s' is a GIF without a picture", in->what);
    }
    avformat_close_input(&container);
    av_source_close(&source);
    return err;
}

// WebP says how long it is; FFmpeg would fill what is missing.
static bool is_cut_off(const image_bytes *in, image_format format)
{
    if (format != IMAGE_WEBP) return false;
    const uint8_t *d = in->data;
    uint64_t says = d[4] | (uint32_t)d[5] << 8 | (uint32_t)d[6] << 16 | (uint64_t)d[7] << 24;
    return says + 8 > in->size;
}

static sight_err open_codec(AVCodecContext **out, const image_bytes *in, image_format format)
{
    const AVCodec *codec = avcodec_find_decoder(codec_of(format));
    if (!codec) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "'%s' is %s, which this FFmpeg does not decode",
                          in->what, image_format_name(format));
    }
    AVCodecContext *c = avcodec_alloc_context3(codec);
    if (!c) return no_memory(in);
    c->max_pixels = in->max_pixels;
    c->thread_count = 1;
    // For TIFF that would refuse unknown tags too.
    if (format != IMAGE_TIFF) c->err_recognition = AV_EF_EXPLODE | AV_EF_CRCCHECK;
    if (avcodec_open2(c, codec, NULL) < 0) {
        avcodec_free_context(&c);
        return no_memory(in);
    }
    *out = c;
    return SIGHT_OK;
}

static sight_err decode_one(AVFrame *picture, AVCodecContext *codec, const AVPacket *packet,
                            const image_bytes *in, image_format format)
{
    int error = avcodec_send_packet(codec, packet);
    if (error >= 0) error = avcodec_send_packet(codec, NULL);
    if (error >= 0) error = avcodec_receive_frame(codec, picture);
    if (error == AVERROR(ENOMEM)) return no_memory(in);
    if (error == AVERROR_PATCHWELCOME) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "'%s' is a kind of %s that is not read", in->what,
                          image_format_name(format));
    }
    if (error >= 0 && !(picture->flags & AV_FRAME_FLAG_CORRUPT) && !picture->decode_error_flags) {
        return SIGHT_OK;
    }
    return sight_fail(SIGHT_E_MEDIA, "'%s' is not a readable %s picture: %s", in->what,
                      image_format_name(format),
                      error < 0 ? av_words(error) : "its data is damaged");
}

// The fourth byte of a plain 32-bit BMP means nothing, whatever is in it.
static void drop_alpha_of_bmp(AVFrame *picture, const image_bytes *in, image_format format)
{
    bool plain = format == IMAGE_BMP && in->size > 34 && !memcmp(in->data + 30, "\0\0\0\0", 4);
    if (plain && picture->format == AV_PIX_FMT_BGRA) picture->format = AV_PIX_FMT_BGR0;
}

static sight_err copy_out(frame **out, const AVFrame *picture, const image_bytes *in)
{
    av_converter c = {0};
    frame *f = NULL;
    sight_err err = av_convert(&c, picture, in->what);
    if (!err) err = frame_create(&f, picture->width, picture->height);
    if (!err) {
        size_t row = (size_t)f->width * 3;
        for (int32_t y = 0; y < f->height; y++) {
            memcpy(f->rgb + (size_t)y * row, c.rgb + y * c.stride, row);
        }
        *out = f;
    }
    av_converter_done(&c);
    return err;
}

sight_err image_decode_av(frame **out, const image_bytes *in, image_format format)
{
    if (is_cut_off(in, format)) {
        return sight_fail(SIGHT_E_MEDIA, "'%s' is cut off in the middle", in->what);
    }
    av_silence();
    AVCodecContext *codec = NULL;
    AVPacket *packet = av_packet_alloc();
    AVFrame *picture = av_frame_alloc();
    sight_err err = packet && picture ? SIGHT_OK : no_memory(in);
    if (!err) err = first_packet(packet, in, format);
    if (!err) err = open_codec(&codec, in, format);
    if (!err) err = decode_one(picture, codec, packet, in, format);
    if (!err) drop_alpha_of_bmp(picture, in, format);
    if (!err) err = copy_out(out, picture, in);
    av_frame_free(&picture);
    av_packet_free(&packet);
    avcodec_free_context(&codec);
    return err;
}

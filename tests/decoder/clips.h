// tests/decoder/clips.h - clips whose frames carry their own number, made by the ffmpeg program.
//
// Frame k shows 12 cells, 4 x 3, white where bit i of k is set: any codec keeps that.
#ifndef TESTS_DECODER_CLIPS_H
#define TESTS_DECODER_CLIPS_H

#include "support/test.h"

#include <stdbool.h>
#include <unistd.h>

#include "base/buf.h"
#include "decoder/frame.h"

static inline bool clips_possible(void)
{
    return system("ffmpeg -version >/dev/null 2>&1") == 0;
}

// Raw RGB frames, once per folder and size; the path.
static inline const char *clips_raw(const char *folder, int width, int height, int n)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/raw-%dx%d-%d.rgb", folder, width, height, n);
    if (access(path, R_OK) == 0) return path;
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    uint8_t *rgb = malloc((size_t)width * (size_t)height * 3);
    for (int k = 0; k < n; k++) {
        for (int y = 0; y < height; y++) {
            for (int x = 0; x < width; x++) {
                int bit = y * 3 / height * 4 + x * 4 / width;
                memset(rgb + 3 * (y * width + x), k >> bit & 1 ? 235 : 20, 3);
            }
        }
        fwrite(rgb, 3, (size_t)width * (size_t)height, f);
    }
    free(rgb);
    fclose(f);
    return path;
}

// Encodes n numbered frames; arguments are ffmpeg's, output options and the file's name. The path
// of the result (malloc), or NULL when this ffmpeg cannot.
static inline char *clips_make(const char *folder, int width, int height, int n, const char *rate,
                               const char *arguments, const char *name)
{
    buf path, command;
    buf_init(&path);
    buf_init(&command);
    buf_printf(&path, "%s/%s", folder, name);
    buf_printf(&command,
               "ffmpeg -nostdin -y -loglevel error -f rawvideo -pix_fmt rgb24 -s %dx%d -r %s "
               "-i '%s' -threads 2 %s '%s' 2>'%s/log'",
               width, height, rate, clips_raw(folder, width, height, n), arguments,
               buf_text(&path), folder);
    int failed = system(buf_text(&command));
    buf_done(&command);
    if (!failed) return buf_take(&path);
    print_message("this ffmpeg cannot make %s\n", name);
    buf_done(&path);
    return NULL;
}

static inline int clips_number(const frame *f)
{
    int number = 0;
    for (int bit = 0; bit < 12; bit++) {
        int x = (2 * (bit % 4) + 1) * f->width / 8, y = (2 * (bit / 4) + 1) * f->height / 6;
        if (f->rgb[3 * (y * f->width + x) + 1] > 127) number |= 1 << bit;
    }
    return number;
}

#endif

// Still pictures of every kind that is read, written here with libjpeg, libpng or by hand, and bad
// ones.
#include "support/test.h"

#include <jpeglib.h>
#include <png.h>

#include "base/buf.h"
#include "base/file.h"
#include "decoder/image.h"

#define W 53
#define H 37

// A smooth picture: survives JPEG.
static void shade(uint8_t rgb[3], int x, int y)
{
    rgb[0] = (uint8_t)(x * 255 / (W - 1));
    rgb[1] = (uint8_t)(y * 255 / (H - 1));
    rgb[2] = (uint8_t)((x + y) * 255 / (W + H - 2));
}

static frame *decode(const void *bytes, size_t size)
{
    frame *f = NULL;
    image_info info;
    assert_ok(image_probe(&info, bytes, size, "picture", NULL));
    assert_ok(image_decode(&f, bytes, size, "picture", NULL));
    assert_int_equal(info.width, f->width);
    assert_int_equal(info.height, f->height);
    return f;
}

static void assert_near(const frame *f, int x, int y, int r, int g, int b, int slack)
{
    const uint8_t *p = f->rgb + 3 * (y * f->width + x);
    if (abs(p[0] - r) > slack || abs(p[1] - g) > slack || abs(p[2] - b) > slack) {
        fail_msg("pixel %d %d is %d %d %d, not %d %d %d", x, y, p[0], p[1], p[2], r, g, b);
    }
}

// ---- JPEG ----

typedef struct jpeg_kind {
    J_COLOR_SPACE from, to;
    int components;
    bool progressive;
    int orientation;
} jpeg_kind;

static void write_exif(struct jpeg_compress_struct *c, int orientation)
{
    uint8_t exif[] = "Exif\0\0MM\0*\0\0\0\10\0\1\1\22\0\3\0\0\0\1\0\0\0\0\0\0\0\0";
    exif[6 + 8 + 2 + 9] = (uint8_t)orientation;
    jpeg_write_marker(c, JPEG_APP0 + 1, exif, 6 + 26);
}

static unsigned char *make_jpeg(unsigned long *size, const jpeg_kind *k)
{
    struct jpeg_compress_struct c;
    struct jpeg_error_mgr errors;
    unsigned char *out = NULL;
    *size = 0;
    c.err = jpeg_std_error(&errors);
    jpeg_create_compress(&c);
    jpeg_mem_dest(&c, &out, size);
    c.image_width = W;
    c.image_height = H;
    c.input_components = k->components;
    c.in_color_space = k->from;
    jpeg_set_defaults(&c);
    jpeg_set_colorspace(&c, k->to);
    jpeg_set_quality(&c, 98, TRUE);
    if (k->progressive) jpeg_simple_progression(&c);
    jpeg_start_compress(&c, TRUE);
    if (k->orientation) write_exif(&c, k->orientation);
    for (int y = 0; y < H; y++) {
        uint8_t row[W * 4], *p = row;
        for (int x = 0; x < W; x++, p += k->components) {
            uint8_t rgb[3];
            shade(rgb, x, y);
            if (k->components == 1) p[0] = rgb[0];
            else memcpy(p, rgb, 3);
            if (k->components == 4) p[3] = 255; // inverted CMYK without black is RGB
        }
        JSAMPROW rows = row;
        jpeg_write_scanlines(&c, &rows, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    return out;
}

static void test_jpeg_kinds(void **state)
{
    static const jpeg_kind kinds[] = {
        {JCS_RGB, JCS_YCbCr, 3, false, 0}, {JCS_RGB, JCS_YCbCr, 3, true, 0},
        {JCS_RGB, JCS_RGB, 3, false, 0},   {JCS_GRAYSCALE, JCS_GRAYSCALE, 1, false, 0},
        {JCS_CMYK, JCS_CMYK, 4, false, 0}, {JCS_CMYK, JCS_YCCK, 4, false, 0},
        {JCS_CMYK, JCS_YCCK, 4, true, 0},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        unsigned long size;
        unsigned char *bytes = make_jpeg(&size, &kinds[i]);
        frame *f = decode(bytes, size);
        assert_int_equal(f->width, W);
        assert_int_equal(f->height, H);
        for (int y = 0; y < H; y += 9) {
            for (int x = 0; x < W; x += 13) {
                uint8_t c[3];
                shade(c, x, y);
                if (kinds[i].components == 1) c[1] = c[2] = c[0];
                assert_near(f, x, y, c[0], c[1], c[2], 12);
            }
        }
        frame_unref(&f);
        free(bytes);
    }
}

static void test_orientations(void **state)
{
    jpeg_kind kind = {JCS_RGB, JCS_YCbCr, 3, false, 0};
    unsigned long size;
    unsigned char *bytes = make_jpeg(&size, &kind);
    frame *plain = decode(bytes, size);
    free(bytes);
    for (int o = 1; o <= 8; o++) {
        kind.orientation = o;
        bytes = make_jpeg(&size, &kind);
        frame *f = decode(bytes, size);
        assert_int_equal(f->width, o >= 5 ? H : W);
        for (int y = 0; y < f->height; y++) {
            for (int x = 0; x < f->width; x++) {
                // EXIF: where row 0 and column 0 of what is stored are shown.
                const int at[9][2] = {{0, 0}, {x, y}, {W - 1 - x, y}, {W - 1 - x, H - 1 - y},
                                      {x, H - 1 - y}, {y, x}, {y, H - 1 - x},
                                      {W - 1 - y, H - 1 - x}, {W - 1 - y, x}};
                const uint8_t *p = plain->rgb + 3 * (at[o][1] * W + at[o][0]);
                assert_near(f, x, y, p[0], p[1], p[2], 0);
            }
        }
        frame_unref(&f);
        free(bytes);
    }
    frame_unref(&plain);
}

static void test_cut_off_jpeg(void **state)
{
    for (int progressive = 0; progressive < 2; progressive++) {
        jpeg_kind kind = {JCS_RGB, JCS_YCbCr, 3, progressive, 0};
        unsigned long size;
        unsigned char *bytes = make_jpeg(&size, &kind);
        for (unsigned long n = 1; n < size - 40; n += 61) {
            frame *f = NULL;
            assert_int_equal(image_decode(&f, bytes, n, "cut.jpg", NULL), SIGHT_E_MEDIA);
            assert_null(f);
            assert_non_null(strstr(sight_error(), "cut.jpg"));
        }
        free(bytes);
    }
}

// ---- PNG ----

typedef struct png_kind {
    int color, depth;
    bool interlaced, trns;
} png_kind;

static void on_write(png_structp png, png_bytep data, png_size_t n)
{
    buf_add(png_get_io_ptr(png), data, n);
}

static void on_flush(png_structp png)
{
}

static void png_row(uint8_t *row, const png_kind *k, int y)
{
    for (int x = 0; x < W; x++) {
        uint8_t c[4];
        shade(c, x, y);
        c[3] = (uint8_t)(x * 4);
        int channels = k->color == PNG_COLOR_TYPE_RGB ? 3 : k->color == PNG_COLOR_TYPE_RGBA ? 4
                     : k->color == PNG_COLOR_TYPE_GRAY_ALPHA ? 2 : 1;
        uint8_t one[4] = {c[0], c[1], c[2], c[3]};
        if (channels == 2) one[1] = c[3];
        if (k->color == PNG_COLOR_TYPE_PALETTE) one[0] = (uint8_t)((x + y) % 4);
        if (k->depth < 8) {
            int per = 8 / k->depth, v = (x + y) % (1 << k->depth);
            if (x % per == 0) row[x / per] = 0;
            row[x / per] |= (uint8_t)(v << (8 - k->depth - x % per * k->depth));
            continue;
        }
        for (int i = 0; i < channels; i++) {
            if (k->depth == 16) {
                row[2 * (x * channels + i)] = one[i];
                row[2 * (x * channels + i) + 1] = 0xee;
            } else {
                row[x * channels + i] = one[i];
            }
        }
    }
}

static void make_png(buf *out, const png_kind *k)
{
    buf_init(out);
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_set_write_fn(png, out, on_write, on_flush);
    png_set_IHDR(png, info, W, H, k->depth, k->color,
                 k->interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_color palette[4] = {{255, 0, 0}, {0, 255, 0}, {0, 0, 255}, {10, 20, 30}};
    png_byte alpha[4] = {255, 128, 0, 255};
    if (k->color == PNG_COLOR_TYPE_PALETTE) {
        png_set_PLTE(png, info, palette, 4);
        if (k->trns) png_set_tRNS(png, info, alpha, 4, NULL);
    } else if (k->trns) {
        png_color_16 clear = {.red = 0, .green = 0, .blue = 0, .gray = 0};
        png_set_tRNS(png, info, NULL, 0, &clear);
    }
    png_write_info(png, info);
    uint8_t rows[H][W * 8];
    png_bytep pointers[H];
    memset(rows, 0, sizeof rows);
    for (int y = 0; y < H; y++) {
        png_row(rows[y], k, y);
        pointers[y] = rows[y];
    }
    png_write_image(png, pointers);
    png_write_end(png, NULL);
    png_destroy_write_struct(&png, &info);
}

static int on_white(int v, int alpha)
{
    return (v * alpha + 255 * (255 - alpha) + 127) / 255;
}

static void expect_png(int want[3], const png_kind *k, int x, int y)
{
    uint8_t c[3];
    shade(c, x, y);
    int alpha = x * 4;
    static const int palette[4][4] = {{255, 0, 0, 255}, {0, 255, 0, 128}, {0, 0, 255, 0},
                                      {10, 20, 30, 255}};
    int i = (x + y) % 4, level = (x + y) % (1 << (k->depth < 8 ? k->depth : 1));
    for (int j = 0; j < 3; j++) {
        switch (k->color) {
        case PNG_COLOR_TYPE_RGB: want[j] = c[j]; break;
        case PNG_COLOR_TYPE_RGBA: want[j] = on_white(c[j], alpha); break;
        case PNG_COLOR_TYPE_GRAY_ALPHA: want[j] = on_white(c[0], alpha); break;
        case PNG_COLOR_TYPE_PALETTE:
            want[j] = on_white(palette[i][j], k->trns ? palette[i][3] : 255);
            break;
        default:
            want[j] = k->depth < 8 ? level * 255 / ((1 << k->depth) - 1) : c[0];
            if (k->trns && want[j] == 0) want[j] = 255;
        }
    }
}

static const png_kind png_kinds[] = {
    {PNG_COLOR_TYPE_RGB, 8, false, false},     {PNG_COLOR_TYPE_RGB, 8, true, false},
    {PNG_COLOR_TYPE_RGB, 16, false, false},    {PNG_COLOR_TYPE_RGBA, 8, false, false},
    {PNG_COLOR_TYPE_RGBA, 16, true, false},    {PNG_COLOR_TYPE_GRAY, 8, false, false},
    {PNG_COLOR_TYPE_GRAY, 16, false, false},   {PNG_COLOR_TYPE_GRAY, 1, false, false},
    {PNG_COLOR_TYPE_GRAY, 4, true, false},     {PNG_COLOR_TYPE_GRAY, 2, false, true},
    {PNG_COLOR_TYPE_GRAY_ALPHA, 8, false, false}, {PNG_COLOR_TYPE_GRAY_ALPHA, 16, true, false},
    {PNG_COLOR_TYPE_PALETTE, 8, false, false}, {PNG_COLOR_TYPE_PALETTE, 8, true, true},
    {PNG_COLOR_TYPE_PALETTE, 2, false, true},
};

static void test_png_kinds(void **state)
{
    for (size_t i = 0; i < sizeof png_kinds / sizeof *png_kinds; i++) {
        const png_kind *k = &png_kinds[i];
        buf b;
        make_png(&b, k);
        frame *f = decode(b.data, b.size);
        for (int y = 0; y < H; y++) {
            for (int x = 0; x < W; x++) {
                int want[3];
                expect_png(want, k, x, y);
                assert_near(f, x, y, want[0], want[1], want[2], 0);
            }
        }
        frame_unref(&f);
        for (size_t n = 0; n < b.size - 12; n += 37) {
            assert_int_equal(image_decode(&f, b.data, n, "cut.png", NULL), SIGHT_E_MEDIA);
        }
        buf_done(&b);
    }
}

// ---- refusals ----

static void put_be(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static void test_bombs(void **state)
{
    const png_kind kind = {PNG_COLOR_TYPE_RGB, 8, false, false};
    buf b;
    make_png(&b, &kind);
    uint8_t *bytes = (uint8_t *)b.data;
    frame *f = NULL;
    image_info info;
    put_be(bytes + 16, 20000);
    put_be(bytes + 20, 20000);
    assert_fails(image_decode(&f, bytes, b.size, "big.png", NULL), SIGHT_E_LIMIT, "20000 x 20000");
    assert_fails(image_probe(&info, bytes, b.size, "big.png", NULL), SIGHT_E_LIMIT, "limit");
    put_be(bytes + 16, 0xffffffff);
    put_be(bytes + 20, 0xffffffff);
    assert_fails(image_decode(&f, bytes, b.size, "big.png", NULL), SIGHT_E_LIMIT, "4294967295");
    put_be(bytes + 20, 0);
    assert_fails(image_decode(&f, bytes, b.size, "flat.png", NULL), SIGHT_E_MEDIA, "no pixels");
    image_limits limits = {.max_pixels = 100};
    put_be(bytes + 16, W);
    put_be(bytes + 20, H);
    assert_fails(image_decode(&f, bytes, b.size, "a.png", &limits), SIGHT_E_LIMIT, "limit is 100");
    limits = (image_limits){.max_bytes = 100};
    assert_fails(image_decode(&f, bytes, b.size, "a.png", &limits), SIGHT_E_LIMIT, "bytes");
    bytes[60] ^= 1;
    assert_fails(image_decode(&f, bytes, b.size, "bad.png", NULL), SIGHT_E_MEDIA, "bad.png");
    assert_null(f);
    buf_done(&b);
}

static void test_not_pictures(void **state)
{
    frame *f = NULL;
    static const char text[] = "just some text that is no picture at all";
    static const char heic[] = "\0\0\0\30ftypheic\0\0\0\0mif1heic";
    assert_fails(image_decode(&f, text, sizeof text, "a.txt", NULL), SIGHT_E_MEDIA, "a.txt");
    assert_fails(image_decode(&f, "", 0, "a", NULL), SIGHT_E_MEDIA, "empty");
    assert_fails(image_decode(&f, NULL, 0, "a", NULL), SIGHT_E_MEDIA, "empty");
    assert_fails(image_decode(&f, heic, sizeof heic, "a", NULL), SIGHT_E_UNSUPPORTED, "HEIF");
    static const char *const heads[] = {"\xff\xd8\xff", "\x89PNG\r\n\x1a\n", "GIF89a", "II*\0",
                                        "RIFF\x40\0\0\0WEBPVP8X", "BM"};
    static const size_t sizes[] = {3, 8, 6, 4, 16, 2};
    for (int i = 0; i < 6; i++) {
        for (size_t zeros = 0; zeros < 80; zeros += 7) {
            uint8_t bytes[100] = {0};
            memcpy(bytes, heads[i], sizes[i]);
            assert_int_not_equal(image_decode(&f, bytes, sizes[i] + zeros, "x", NULL), SIGHT_OK);
            assert_null(f);
        }
    }
}

static void test_one_pixel(void **state)
{
    // A 1 x 1 bottom-up 24-bit BMP.
    static const uint8_t bmp[] = {'B', 'M', 58, 0, 0, 0, 0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0, 1, 0,
                                  0, 0, 1, 0, 0, 0, 1, 0, 24, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0,
                                  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 30, 20, 10, 0};
    frame *f = decode(bmp, sizeof bmp);
    assert_int_equal(f->width, 1);
    assert_near(f, 0, 0, 10, 20, 30, 0);
    frame_unref(&f);
}

// ---- formats that FFmpeg decodes, made by its program ----

static void test_other_formats(void **state)
{
    if (system("ffmpeg -version >/dev/null 2>&1")) {
        print_message("no ffmpeg program: WebP, TIFF and GIF are not checked\n");
        return;
    }
    static const char *const kinds[][3] = {
        {"a.webp", "-lossless 1", "webp"}, {"lossy.webp", "-quality 95", "webp"},
        {"a.bmp", "", "bmp"}, {"a.tiff", "", "tiff"}, {"raw.tiff", "-compression_algo raw", "tiff"},
        {"a.gif", "", "gif"},
    };
    const char *folder = test_folder();
    const png_kind kind = {PNG_COLOR_TYPE_RGBA, 8, false, false};
    buf b;
    make_png(&b, &kind);
    char *source = test_write(folder, "source.png", b.data, b.size);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char path[256], command[1024], *bytes;
        size_t size;
        snprintf(path, sizeof path, "%s/%s", folder, kinds[i][0]);
        snprintf(command, sizeof command, "ffmpeg -nostdin -y -loglevel error -i '%s' %s '%s'",
                 source, kinds[i][1], path);
        if (system(command)) continue;
        print_message("%s\n", kinds[i][0]);
        assert_ok(file_read(&bytes, &size, path, 1 << 24));
        image_info info;
        assert_ok(image_probe(&info, bytes, size, path, NULL));
        assert_string_equal(info.format, kinds[i][2]);
        frame *f = decode(bytes, size);
        bool exact = i == 0 || i == 3 || i == 4;
        bool binary_alpha = i == 5 || i == 2; // GIF and BMP: checked where it is opaque
        for (int y = 3; y < H; y += 7) {
            for (int x = binary_alpha ? W - 3 : 3; x < W; x += 7) {
                int want[3];
                expect_png(want, &kind, x, y);
                assert_near(f, x, y, want[0], want[1], want[2], exact ? 1 : 60);
            }
        }
        frame_unref(&f);
        for (size_t n = 1; n < size * 9 / 10; n += 1 + size / 50) {
            sight_err err = image_decode(&f, bytes, n, path, NULL);
            if (err != SIGHT_E_MEDIA) {
                fail_msg("%s cut at %zu of %zu: %s", path, n, size, sight_err_name(err));
            }
        }
        free(bytes);
    }
    free(source);
    buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_jpeg_kinds),     cmocka_unit_test(test_orientations),
        cmocka_unit_test(test_cut_off_jpeg),   cmocka_unit_test(test_png_kinds),
        cmocka_unit_test(test_bombs),          cmocka_unit_test(test_not_pictures),
        cmocka_unit_test(test_one_pixel),      cmocka_unit_test(test_other_formats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

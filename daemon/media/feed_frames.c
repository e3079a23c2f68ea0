#include "daemon/media/feed_frames.h"

#include <stdlib.h>

#include "decoder/orient.h"
#include "decoder/resize_passes.h"

static frames_axis view_of(const resize_axis *a)
{
    return (frames_axis){a->n, a->taps, a->precision, a->first, a->count, a->weights};
}

static sight_err set_shape(frames *f, const task_media *m, const model_config *c, const planes *p,
                           const resize_axis *across, const resize_axis *down)
{
    const vision_config *v = &c->vision;
    frames_shape s = {.width = p->width,
                      .height = p->height,
                      .across = view_of(across),
                      .down = view_of(down),
                      .orientation = video_get_info(m->clip)->orientation,
                      .grid_w = m->plan.grid.w,
                      .patch = v->patch,
                      .merge = v->merge,
                      .temporal = v->temporal_patch};
    for (int i = 0; i < 3; i++) { // as vision/preprocess fuses it
        s.mean[i] = (float)c->video.mean[i] * 255;
        s.std[i] = (float)c->video.std[i] * 255;
    }
    return frames_set_shape(f, &s);
}

sight_err feed_frames_shape(frames *f, const task_media *m, const model_config *c, const planes *p)
{
    const bool swap = orient_swaps(video_get_info(m->clip)->orientation);
    resize_axis across = {0}, down = {0};
    sight_err err = resize_axis_init(&across, p->width, swap ? m->plan.height : m->plan.width);
    if (!err) err = resize_axis_init(&down, p->height, swap ? m->plan.width : m->plan.height);
    if (!err) err = set_shape(f, m, c, p, &across, &down);
    resize_axis_done(&across);
    resize_axis_done(&down);
    return err;
}

sight_err feed_frames_add(frames *f, float *rows, const planes *p, int slot, int slots)
{
    const planes_colours *c = &p->colours;
    const frames_picture picture = {.width = p->width, .height = p->height, .y = p->y, .u = p->u, .v = p->v,
                                    .y_pitch = p->y_pitch, .uv_pitch = p->uv_pitch,
                                    .uv_step = p->uv_step, .bits = p->bits, .shift = p->shift,
                                    .on_device = p->on_gpu,
                                    .colours = {c->luma_gain, c->luma_zero, c->v_to_r, c->u_to_g,
                                                c->v_to_g, c->u_to_b}};
    return frames_add(f, rows, &picture, slot, slots);
}

static sight_err note_place(void *arg, int32_t i, const planes *p, bool *taken)
{
    bool *on_gpu = arg;
    *on_gpu = p->on_gpu;
    *taken = true;
    return SIGHT_OK;
}

static sight_err drop(void *arg, int32_t i, frame *f)
{
    frame_unref(&f);
    return SIGHT_OK;
}

bool feed_frames_decodes(const task_media *m, device_id device)
{
    frames *f = NULL;
    bool on_gpu = false;
    if (device.kind == DEVICE_CPU || !video_may_use_gpu(m->clip) || frames_create(&f, device)) return false;
    const video_raw raw = {.sink = note_place, .cuda_context = frames_context(f), .cuda_stream = frames_stream(f)};
    if (raw.cuda_context) {
        char *warning = NULL;
        // What is wrong with the clip is told when it is read.
        if (video_read_raw(m->clip, m->indices, 1, m->plan.width, m->plan.height, drop, &on_gpu, &raw, &warning)) {
            on_gpu = false;
        }
        free(warning);
    }
    frames_destroy(&f);
    return on_gpu;
}

// A model over two GPUs. With the shim another library stands in NCCL's place, whose ranks meet in their threads; with
// real GPUs it is NCCL, where there are two of them.
#include "kernels/cuda/nccl.h"
#include "text/ranks.h"

#ifdef SIGHT_CUDA_SHIM
#include "shim.h"

// ---- in NCCL's place: sums in the order of ranks, by way of the host ----

struct nccl_comm {
    int rank, n;
    pthread_barrier_t *all;
    float **brought; // [n]
};

static pthread_barrier_t meeting;
static float *brought_by_all[RANKS];
static int fails_with; // 0: no failure

static int in_place_init(nccl_comm **comms, int n, const int *devices)
{
    if (n != RANKS || pthread_barrier_init(&meeting, NULL, (unsigned)n)) return 1;
    for (int i = 0; i < n; i++) {
        assert_int_equal(devices[i], i);
        comms[i] = calloc(1, sizeof **comms);
        assert_non_null(comms[i]);
        *comms[i] = (nccl_comm){i, n, &meeting, brought_by_all};
    }
    return 0;
}

static int in_place_destroy(nccl_comm *comm)
{
    if (comm->rank == 0) pthread_barrier_destroy(&meeting);
    free(comm);
    return 0;
}

static int in_place_abort(nccl_comm *comm)
{
    free(comm);
    return 0;
}

// What the rank brings, once it is there. NULL: in a recording, which waiting spoils, so that no graph comes of it.
static float *bring(nccl_comm *comm, const void *from, size_t n, cudaStream_t stream)
{
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    float *mine = malloc(n * sizeof *mine);
    if (mine && !cudaStreamIsCapturing(stream, &status) && status == cudaStreamCaptureStatusNone &&
        !cudaMemcpyAsync(mine, from, n * sizeof *mine, cudaMemcpyDeviceToHost, stream) &&
        !cudaStreamSynchronize(stream)) {
        comm->brought[comm->rank] = mine;
        pthread_barrier_wait(comm->all);
        return mine;
    }
    cudaStreamSynchronize(stream);
    free(mine);
    return NULL;
}

// Takes all [n] to the device when everybody has read what was brought.
static int leave(nccl_comm *comm, void *to, float *all, size_t n, float *mine, cudaStream_t stream)
{
    pthread_barrier_wait(comm->all);
    const cudaError_t e = cudaMemcpyAsync(to, all, n * sizeof *all, cudaMemcpyHostToDevice, stream);
    const cudaError_t waited = cudaStreamSynchronize(stream);
    free(all);
    free(mine);
    return e || waited ? 1 : fails_with;
}

static int in_place_reduce(const void *from, void *to, size_t n, int type, int op, nccl_comm *comm,
                           cudaStream_t stream)
{
    float *mine = bring(comm, from, n, stream);
    if (!mine) return 0;
    float *sum = malloc(n * sizeof *sum);
    for (size_t i = 0; sum && i < n; i++) {
        sum[i] = comm->brought[0][i];
        for (int r = 1; r < comm->n; r++) sum[i] += comm->brought[r][i];
    }
    return leave(comm, to, sum, n, mine, stream);
}

static int in_place_gather(const void *from, void *to, size_t n, int type, nccl_comm *comm, cudaStream_t stream)
{
    float *mine = bring(comm, from, n, stream);
    if (!mine) return 0;
    float *all = malloc((size_t)comm->n * n * sizeof *all);
    for (int r = 0; all && r < comm->n; r++) memcpy(all + (size_t)r * n, comm->brought[r], n * sizeof *all);
    return leave(comm, to, all, (size_t)comm->n * n, mine, stream);
}

static const char *in_place_error(int result)
{
    return "the link is down";
}

static const nccl_calls in_place = {in_place_init,   in_place_destroy, in_place_abort,
                                    in_place_reduce, in_place_gather,  in_place_error};
static const nccl_calls *const calls = &in_place;
#else
static const nccl_calls *const calls = NULL;
#endif

// ---- two GPUs beside the CPU ----

#define GREEDY 6 // tokens after the prompt

static void open_gpus(device *d, collective **group, const checkpoint *c, const golden_case *g)
{
    kernels *k[RANKS];
    for (int32_t i = 0; i < RANKS; i++) {
        const kernels_options o = {.threads = 1, .exact = true, .device = {DEVICE_CUDA, i},
                                   .device_bytes = (int64_t)512 << 20};
        d[i] = (device){.c = c, .g = g, .rank = i};
        assert_ok(kernels_create(&d[i].k, &o));
        k[i] = d[i].k;
    }
    assert_ok(collective_create_with(group, k, RANKS, calls));
    for (int32_t i = 0; i < RANKS; i++) d[i].group = *group;
}

static void check_case(const char *model, const char *name)
{
    checkpoint *c = golden_open(model);
    collective *group = NULL;
    golden_case g;
    device d[RANKS], alone = {.c = c, .g = &g, .k = golden_kernels(1, true)};
    golden_load(&g, model, name, checkpoint_config(c)); // text alone: no features
    if (g.n_greedy > GREEDY) g.n_greedy = GREEDY;
    open_gpus(d, &group, c, &g);
    run_device(&alone);
    run_devices(d);
    check_devices(d, &alone, &g, 1e-4); // as tests/text/test_model.c has it
    for (int i = 0; i < RANKS; i++) assert_ok(kernels_status(d[i].k));
    collective_destroy(&group);
    for (int i = 0; i < RANKS; i++) close_device(&d[i]);
    close_device(&alone);
    golden_free(&g);
    checkpoint_close(&c);
}

static void two_gpus_answer_as_the_cpu(void **state)
{
    check_case("hybrid", "text");
    check_case("qwen3vl", "text");
}

#ifdef SIGHT_CUDA_SHIM
static void what_a_link_says_is_told(void **state)
{
    checkpoint *c = golden_open("hybrid");
    collective *group = NULL;
    golden_case g;
    device d[RANKS];
    golden_load(&g, "hybrid", "text", checkpoint_config(c));
    open_gpus(d, &group, c, &g);
    fails_with = 3;
    run_devices(d);
    fails_with = 0;
    for (int i = 0; i < RANKS; i++) {
        assert_int_equal(d[i].err, SIGHT_E_INTERNAL);
        assert_non_null(strstr(d[i].error, "the link is down"));
        assert_int_equal(sequence_length(d[i].s), 0);
    }
    collective_destroy(&group);
    for (int i = 0; i < RANKS; i++) close_device(&d[i]);
    golden_free(&g);
    checkpoint_close(&c);
}

static void after_an_end_nothing_is_asked(void **state)
{
    checkpoint *c = golden_open("hybrid");
    collective *group = NULL;
    golden_case g;
    device d[RANKS];
    golden_load(&g, "hybrid", "text", checkpoint_config(c));
    open_gpus(d, &group, c, &g);
    collective_end(group);
    run_devices(d);
    for (int i = 0; i < RANKS; i++) assert_int_equal(d[i].err, SIGHT_E_INTERNAL);
    collective_destroy(&group);
    for (int i = 0; i < RANKS; i++) close_device(&d[i]);
    golden_free(&g);
    checkpoint_close(&c);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_gpus_answer_as_the_cpu),
#ifdef SIGHT_CUDA_SHIM
        cmocka_unit_test(what_a_link_says_is_told),
        cmocka_unit_test(after_an_end_nothing_is_asked),
#endif
    };
#ifdef SIGHT_CUDA_SHIM
    shim_set_devices(RANKS);
#endif
    if (device_gpus() < RANKS) {
        printf("skipped: a model over two GPUs needs two\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

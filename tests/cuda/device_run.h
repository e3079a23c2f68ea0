// tests/cuda/device_run.h - tests that need a GPU, or the shim: without one they are skipped, with the reason.
#ifndef TESTS_CUDA_DEVICE_RUN_H
#define TESTS_CUDA_DEVICE_RUN_H

#include "kernels/device.h"
#include "support/test.h"

#define device_run(tests, open, close) \
    (device_gpus() > 0 ? cmocka_run_group_tests(tests, open, close) \
                       : (printf("skipped: %s\n", device_without_gpu()), 77))

#endif

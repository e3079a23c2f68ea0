// The search for scales, with AVX-512.
#if defined(__x86_64__)
#define SEARCH_LOOPS search_loops_avx512
#include "kernels/cpu/packed_search_loops.h"
#else
typedef int packed_search_avx512;
#endif

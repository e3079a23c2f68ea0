// The search for scales, with AVX2.
#if defined(__x86_64__)
#define SEARCH_LOOPS search_loops_avx2
#include "kernels/cpu/packed_search_loops.h"
#else
typedef int packed_search_avx2;
#endif

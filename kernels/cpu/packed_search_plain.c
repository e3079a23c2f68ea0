// The search for scales, in portable C.
#define SEARCH_LOOPS search_loops_plain
#include "kernels/cpu/packed_search_loops.h"

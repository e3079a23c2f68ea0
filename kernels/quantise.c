// int8 and int4 made from float32 rows: which scale loses least.
#include <math.h>

#include "kernels/packed.h"
#include "kernels/tensor.h"

packed_format packed_format_int8(void)
{
    return (packed_format){.bits = 8, .offset = 128, .group = 32, .scales = PACKED_FLAT, .factor = 1};
}

packed_format packed_format_int4(void)
{
    return (packed_format){.bits = 4, .offset = 8, .group = 32, .scales = PACKED_FLAT, .factor = 1};
}

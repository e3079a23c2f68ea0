// base/sort.h - numbers in order, for medians. Threads: any.
#ifndef SIGHT_BASE_SORT_H
#define SIGHT_BASE_SORT_H

#include <stddef.h>

// Ascending; none is NaN.
void sort_doubles(double *v, size_t n);

#endif

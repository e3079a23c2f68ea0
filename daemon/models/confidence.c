#include "daemon/models/confidence.h"

#include <math.h>

void confidence_add(confidence *c, double logprob, int32_t choices)
{
    c->tokens++;
    if (choices < 2) return;
    c->counted++;
    c->log_sum += logprob;
}

double confidence_value(const confidence *c)
{
    if (c->tokens == 0) return NAN;
    if (c->counted == 0) return 1;
    const double value = exp(c->product ? c->log_sum : c->log_sum / c->counted);
    return value < 1 ? value : 1; // rounding
}

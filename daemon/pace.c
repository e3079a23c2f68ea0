#include "daemon/pace.h"

void pace_add(pace *p, double from, double to, double seconds)
{
    const double n = to - from, depth = (from + to) / 2;
    p->n += n;
    p->seconds += seconds;
    p->d += n * depth;
    p->dd += n * depth * depth;
    p->dt += seconds * depth;
}

double pace_rate(const pace *p)
{
    return p->seconds > 0 ? p->n / p->seconds : 0;
}

// Least squares; neither part may be negative.
double pace_left_s(const pace *p, double from, double to)
{
    if (p->n <= 0 || to <= from) return 0;
    const double spread = p->n * p->dd - p->d * p->d;
    double b = spread > 1e-9 * p->n * p->dd ? (p->n * p->dt - p->d * p->seconds) / spread : 0;
    if (b < 0) b = 0;
    double a = (p->seconds - b * p->d) / p->n;
    if (a < 0) {
        a = 0;
        b = p->d > 0 ? p->seconds / p->d : 0;
    }
    return (to - from) * (a + b * (from + to) / 2);
}

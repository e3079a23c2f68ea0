// daemon/pace.h - how long reading will still take, from how long it has taken.
//
// A token's time grows with the tokens before it, since attention looks at all of them: time per
// token is taken to be a + b depth, fitted to what was seen. Threads: one at a time.
#ifndef SIGHT_DAEMON_PACE_H
#define SIGHT_DAEMON_PACE_H

// Zeroed: nothing seen yet.
typedef struct pace {
    double n, seconds; // tokens and time in all
    double d, dd, dt;  // sums over tokens of depth, its square, and time by depth
} pace;

// Tokens from .. to - 1 were read in so many seconds.
void pace_add(pace *p, double from, double to, double seconds);
// Tokens a second so far; 0: nothing seen.
double pace_rate(const pace *p);
// Seconds that reading from .. to - 1 will take; 0: nothing seen.
double pace_left_s(const pace *p, double from, double to);

#endif

#!/usr/bin/env bash
# The kernels and base compile for arm64, with their NEON files, without a warning.
set -uo pipefail
cd "$(dirname "$0")/../.."
compiler=aarch64-linux-gnu-gcc
command -v $compiler >/dev/null || {
    echo "skipped: no $compiler (Debian: gcc-aarch64-linux-gnu)"
    exit 77
}
bad=0
for file in base/buf.c base/err.c base/file.c base/log.c base/threads.c kernels/*.c kernels/cpu/*.c; do
    case $file in
    *_neondot.c) machine=-march=armv8.2-a+dotprod ;;
    *_neoni8mm.c) machine=-march=armv8.2-a+dotprod+i8mm ;;
    *) machine= ;;
    esac
    $compiler $machine -std=c11 -D_POSIX_C_SOURCE=200809L -D_DEFAULT_SOURCE -I. -Iinclude -O1 -Wall -Wextra \
        -Wno-unused-parameter -Wno-format-truncation -ffp-contract=off -Werror -fsyntax-only "$file" || bad=1
done
[ $bad = 0 ] && echo "compiles for arm64"
exit $bad

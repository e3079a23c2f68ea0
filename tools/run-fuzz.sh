#!/bin/sh
# Builds the fuzz targets with clang's libFuzzer and ASan, and runs each for a while over its
# corpus.   usage: run-fuzz.sh BUILD SECONDS
set -eu
build=$1 seconds=$2
command -v clang >/dev/null || {
    echo "make fuzz needs clang and its runtime (Debian: clang libclang-rt-14-dev)" >&2
    exit 1
}
cmake -S . -B "$build" -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=None -DSIGHT_SANITIZE=ON \
    -DSIGHT_FUZZ=ON >/dev/null
for source in tests/fuzz/fuzz_*.c; do
    name=$(basename "$source" .c)
    cmake --build "$build" -j "$(nproc)" --target "$name" >/dev/null
    corpus=tests/fuzz/corpus/${name#fuzz_}
    work=$build/corpus/${name#fuzz_}
    mkdir -p "$work"
    echo "== $name, $seconds s"
    "$build/tests/$name" -max_total_time="$seconds" -rss_limit_mb=4096 -timeout=25 -verbosity=0 \
        -print_final_stats=1 "$work" "$corpus" 2>&1 | grep -E 'ERROR|SUMMARY|number_of_executed|crash-' || true
    ls "$build"/crash-* crash-* timeout-* oom-* leak-* 2>/dev/null && exit 1
done
echo "no finding"

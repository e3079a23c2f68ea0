#!/bin/sh
# Builds and runs all tests twice: as released (with CUDA where nvcc is), and under ASan and UBSan with CUDA's
# kernels on the processor; then those of the kernels and models for arm64 under qemu-user, where Debian's cross-compiler and arm64 libraries are installed
# (tools/install-deps.sh --arm64). Ends with the runner's own count over all.
# usage: run-tests.sh BUILD ASAN_BUILD ARM64_BUILD JOBS
set -eu
build=$1 asan_build=$2 arm64_build=$3 jobs=$4

compile() { # compile FOLDER FLAGS...
    folder=$1
    shift
    cmake -S . -B "$folder" "$@" >"$folder.log" 2>&1 || {
        cat "$folder.log"
        exit 1
    }
    rm -f "$folder.log"
    cmake --build "$folder" -j "$jobs" $targets | grep -vE '^\[ *[0-9]+%\] (Building|Linking|Built)|^g?make\[' || true
    cmake --build "$folder" -j "$jobs" $targets >/dev/null
}

run() { # run FOLDER NAME [PATTERN]: the tests of one build
    echo "== $2"
    status=0
    ctest --test-dir "$1" -R "${3:-.}" -j "$jobs" --output-on-failure >"$1/ctest.out" 2>&1 || status=$?
    grep -vE '^(Internal ctest|Test project)|Start +[0-9]+:' "$1/ctest.out" || true
    failed_of=$(sed -n 's/.* tests passed, \([0-9]*\) tests failed out of \([0-9]*\)/\1 \2/p' "$1/ctest.out")
    failed=${failed_of% *}
    total=${failed_of#* }
    skipped=$(grep -c '\*\*\*Skipped' "$1/ctest.out" || true)
    all_failed=$((all_failed + ${failed:-0}))
    all_skipped=$((all_skipped + skipped))
    all_passed=$((all_passed + ${total:-0} - ${failed:-0} - skipped))
    [ "$status" = 0 ] || worst=$status
}

targets=""
unset MAKEFLAGS # the outer make has its own
worst=0 all_failed=0 all_skipped=0 all_passed=0
compile "$build" -DCMAKE_BUILD_TYPE=Release -DSIGHT_TESTS=ON
run "$build" "release build"
compile "$asan_build" -DCMAKE_BUILD_TYPE=None -DSIGHT_SANITIZE=ON -DSIGHT_CUDA=SHIM -DSIGHT_TESTS=ON
ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1 \
    run "$asan_build" "under AddressSanitizer and UBSan"

# Each as room/name; the golden cases are in daemon/trace. Emulation is slow: what only combines ops is left out.
arm64_tests="kernels/linear kernels/packed kernels/output kernels/rows kernels/attention kernels/delta
kernels/low_rank kernels/simd text/cache text/output vision/tower daemon/trace"
if command -v aarch64-linux-gnu-gcc >/dev/null && command -v qemu-aarch64 >/dev/null &&
    [ -e /usr/lib/aarch64-linux-gnu/pkgconfig/jansson.pc ]; then
    pattern=""
    for test in $arm64_tests; do
        pattern="$pattern|^$test\$"
        targets="$targets --target test_${test#*/}_${test%/*}"
    done
    compile "$arm64_build" --toolchain cmake/arm64.cmake -DCMAKE_BUILD_TYPE=Release -DSIGHT_TESTS=ON
    run "$arm64_build" "arm64, emulated" "${pattern#|}"
else
    echo "== arm64: skipped, no cross-compiler, qemu-user or arm64 libraries"
    all_skipped=$((all_skipped + 1))
fi
echo "$all_passed passed, $all_failed failed, $all_skipped skipped"
exit "$worst"

#!/bin/sh
# Builds and runs all tests twice: as released, and under ASan and UBSan. Ends with the runner's
# own count over both.   usage: run-tests.sh BUILD ASAN_BUILD JOBS
set -eu
build=$1 asan_build=$2 jobs=$3

compile() { # compile FOLDER FLAGS...
    folder=$1
    shift
    cmake -S . -B "$folder" "$@" >"$folder.log" 2>&1 || {
        cat "$folder.log"
        exit 1
    }
    rm -f "$folder.log"
    cmake --build "$folder" -j "$jobs" | grep -vE '^\[ *[0-9]+%\] (Building|Linking|Built)' || true
    cmake --build "$folder" -j "$jobs" >/dev/null
}

run() { # run FOLDER NAME: the tests of one build; the counts go to $folder/counts
    echo "== $2"
    status=0
    ctest --test-dir "$1" -j "$jobs" --output-on-failure >"$1/ctest.out" 2>&1 || status=$?
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

unset MAKEFLAGS # the outer make has its own
worst=0 all_failed=0 all_skipped=0 all_passed=0
compile "$build" -DCMAKE_BUILD_TYPE=Release -DSIGHT_TESTS=ON
run "$build" "release build"
compile "$asan_build" -DCMAKE_BUILD_TYPE=None -DSIGHT_SANITIZE=ON -DSIGHT_TESTS=ON
ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=print_stacktrace=1 \
    run "$asan_build" "under AddressSanitizer and UBSan"
echo "$all_passed passed, $all_failed failed, $all_skipped skipped"
exit "$worst"

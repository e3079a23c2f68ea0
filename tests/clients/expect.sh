# tests/clients/expect.sh - for the scripts beside it: commands whose exit code and words are expected. Sourced.
failed=0

expect() { # expect CODE WORDS COMMAND...: exit code, and words in its output
    local code=$1 words=$2
    shift 2
    local out status
    out=$("$@" 2>&1 </dev/null)
    status=$?
    if [ "$status" != "$code" ] || [[ "$out" != *"$words"* ]]; then
        echo "FAILED: $* gave $status (expected $code), '$out' (expected '$words')"
        failed=$((failed + 1))
    fi
}

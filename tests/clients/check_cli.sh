#!/usr/bin/env bash
# The command line against the bundled model: answers, exit codes, sentences. A private daemon is
# started on the way, as for a new user.   usage: check_cli.sh BUILD
set -uo pipefail
build=$1
sight=$build/sight
folder=$(mktemp -d)
export XDG_RUNTIME_DIR=$folder NO_COLOR=1
trap 'pkill -f "$folder" 2>/dev/null; rm -rf "$folder"' EXIT
source "${BASH_SOURCE[0]%/*}/expect.sh"

mini=models/mini
clip=$mini/demo/clip-1.mp4
expect 0 "usage: sight" "$sight" --help
expect 2 "usage: sight" "$sight"
expect 2 "no command 'sing'" "$sight" sing
for command in ask chat plan status models keys bench tokenize prompt trace; do
    expect 0 "usage: sight $command" "$sight" $command --help
done
expect 2 "no question" "$sight" ask
expect 2 "there is no option --foo" "$sight" ask --foo x
expect 5 "" "$sight" status
expect 5 "" "$sight" ask -e "ipc://$folder/none.sock" hello
expect 3 "/no/such.png" "$sight" ask /no/such.png "what?"
expect 3 "is a folder" "$sight" ask "$folder" "what?"
: >"$folder/empty.mp4"
expect 3 "is empty" "$sight" ask "$folder/empty.mp4" "what?"
echo "this is text" >"$folder/text.mp4"
expect 3 "text.mp4" "$sight" ask "$folder/text.mp4" "what?"
expect 4 "" "$sight" ask --model "$folder" hello

answer=$("$sight" ask -q "$clip" "What moves?" </dev/null)
[ -n "$answer" ] || { echo "FAILED: no answer about $clip"; failed=$((failed + 1)); }
again=$(echo "What moves?" | "$sight" ask -q "$clip" -)
[ "$answer" = "$again" ] || { echo "FAILED: '$answer' and from stdin '$again'"; failed=$((failed + 1)); }
attached=$("$sight" ask -q --attach "$clip" "What moves?" </dev/null)
[ "$answer" = "$attached" ] || { echo "FAILED: '$answer' and attached '$attached'"; failed=$((failed + 1)); }
chatted=$(printf 'What moves?\n/quit\n' | "$sight" chat -q "$clip")
[ "$answer" = "$chatted" ] || { echo "FAILED: '$answer' and in a chat '$chatted'"; failed=$((failed + 1)); }
expect 2 "there is no model 'nobody'" "$sight" ask --use nobody "$clip" "What moves?"
expect 2 "there is no model 'nobody'" "$sight" plan --use nobody "$clip"
expect 3 "text.mp4" "$sight" plan "$folder/text.mp4"
expect 0 '"event": "done"' "$sight" ask --json "$clip" "What moves?"
expect 0 "8 frames" "$sight" plan "$clip"
expect 0 "4 frames" "$sight" plan --frames 4 "$clip"
expect 0 "[" "$sight" tokenize --model $mini "hello"
echo '["a", "b c"]' >"$folder/batch.json"
expect 0 "]," "$sight" tokenize --model $mini --batch "$folder/batch.json"
echo '{"messages": [{"role": "user", "content": "hi"}]}' >"$folder/request.json"
expect 0 "<|im_start|>user" "$sight" prompt --model $mini --request "$folder/request.json"
expect 2 "--request is missing" "$sight" prompt --model $mini
expect 0 "" "$sight" trace --model $mini --request "$folder/request.json" --out "$folder/trace.safetensors"
[ -s "$folder/trace.safetensors" ] || { echo "FAILED: no trace"; failed=$((failed + 1)); }
expect 1 "/no/such/folder" "$sight" trace --model $mini --request "$folder/request.json" --out /no/such/folder/t
expect 2 "--temperature is 200, must be 0 to 100" "$sight" ask --temperature 200 x
expect 2 "not both" "$sight" bench --shape 0.8b --model $mini

[ "$failed" = 0 ] && echo "the command line does what it says"
exit $((failed > 0))

#!/usr/bin/env bash
# sight keys: files, their modes, what is refused; and a daemon that is asked with what it made.   usage: check_keys.sh BUILD
set -uo pipefail
build=$(realpath "$1")
sight=$build/sight
folder=$(mktemp -d)
export XDG_RUNTIME_DIR=$folder XDG_CONFIG_HOME=$folder/config HOME=$folder NO_COLOR=1
daemon=
trap '[ -z "$daemon" ] || kill "$daemon" 2>/dev/null; rm -rf "$folder"' EXIT
source "${BASH_SOURCE[0]%/*}/expect.sh"

mode_is() { # mode_is MODE FILE
    [ "$(stat -c %a "$2")" = "$1" ] || { echo "FAILED: $2 has mode $(stat -c %a "$2"), expected $1"; failed=$((failed + 1)); }
}

model=$PWD/models/mini
keys=$folder/keys
cd "$folder" || exit 1
umask 077
if ! "$sight" keys server --folder "$keys" >"$folder/said" 2>&1; then
    grep -q "without CURVE" "$folder/said" && { echo "skipped: this libzmq has no CURVE"; exit 77; }
fi
grep -q "sight keys new" "$folder/said" || { echo "FAILED: no next step in $(cat "$folder/said")"; failed=$((failed + 1)); }
mode_is 644 "$keys/server.key"
mode_is 600 "$keys/server.key_secret"
expect 6 "is there already; --force" "$sight" keys server --folder "$keys"
expect 0 "--server-key server.key" "$sight" keys new door --folder "$keys" --max-tokens 20 --priority camera
mode_is 644 "$keys/door.key"
mode_is 600 door.key_secret
[ ! -e "$keys/door.key_secret" ] || { echo "FAILED: a client's secret in the server's folder"; failed=$((failed + 1)); }
before=$(cat "$keys/door.key")
expect 6 "is there already" "$sight" keys new door --folder "$keys"
[ "$before" = "$(cat "$keys/door.key")" ] || { echo "FAILED: door.key was changed"; failed=$((failed + 1)); }
expect 0 "max-tokens: 20" "$sight" keys show door --folder "$keys"
expect 0 "rights: ask plan" "$sight" keys show door --folder "$keys"
expect 0 "" "$sight" keys set door --folder "$keys" --ask --paths --max-tokens 0 --roots "$folder:/srv"
expect 0 "rights: ask paths" "$sight" keys show door --folder "$keys"
expect 0 "roots: $folder:/srv" "$sight" keys show door --folder "$keys"
[ "$(grep -c public-key <<<"$before")" = 1 ] && grep -qF "$(grep public-key <<<"$before")" "$keys/door.key" ||
    { echo "FAILED: set changed the key"; failed=$((failed + 1)); }
[[ "$("$sight" keys show door --folder "$keys")" != *max-tokens* ]] || { echo "FAILED: max-tokens stayed"; failed=$((failed + 1)); }
# A key that was made elsewhere: its secret half never comes here.
expect 0 "" "$sight" keys new away --folder "$folder/elsewhere"
expect 0 "'guest' may ask now" "$sight" keys new guest --folder "$keys" --public "$folder/elsewhere/away.key" --plan
expect 0 '"rights":"plan"' "$sight" keys list --json --folder "$keys"
expect 0 "guest" "$sight" keys list --folder "$keys"
expect 2 "no name for a key" "$sight" keys new ../evil --folder "$keys"
expect 2 "no key is named 'tcp'" "$sight" keys new tcp --folder "$keys"
expect 2 "the server's own (sight keys server)" "$sight" keys new server --folder "$keys"
expect 2 "needs the key's name" "$sight" keys new --folder "$keys"
expect 2 "no action 'sing'" "$sight" keys sing
expect 2 "which action" "$sight" keys
expect 2 "--max-jobs is 'x'" "$sight" keys new x --folder "$keys" --max-jobs x
expect 2 "--none and a right" "$sight" keys new x --folder "$keys" --none --ask
expect 2 "must be absolute" "$sight" keys new x --folder "$keys" --roots srv
expect 1 "nobody.key" "$sight" keys show nobody --folder "$keys"
expect 1 "nobody.key" "$sight" keys remove nobody --folder "$keys"
echo "hello" >"$keys/broken.key"
expect 2 "broken.key is no key file" "$sight" keys list --folder "$keys"
rm "$keys/broken.key"

port=$((10000 + RANDOM % 5900)) # below those that connections are given
"$build/sightd" --model "$model" --threads 1 --endpoint "ipc://$folder/s.sock" --endpoint "tcp://127.0.0.1:$port" --keys "$keys" \
    --log warning 2>"$folder/log" &
daemon=$!
to=(--endpoint "tcp://127.0.0.1:$port" --server-key "$keys/server.key")
for _ in $(seq 100); do
    "$sight" status "${to[@]}" --key door.key_secret >/dev/null 2>&1 && break
    sleep 0.1
done
expect 0 "" "$sight" ask -q "${to[@]}" --key door.key_secret -n 5 "What moves?"
# Files of this machine go along, the server's own need a right.
expect 3 "/no/such.png" "$sight" ask "${to[@]}" --key door.key_secret /no/such.png "what?"
expect 0 "" "$sight" ask -q "${to[@]}" --key door.key_secret -n 5 "$model/demo/clip-1.mp4" "What moves?"
expect 7 "lacks the right 'plan'" "$sight" plan "${to[@]}" --key door.key_secret "$model/demo/clip-1.mp4"
expect 7 "lacks the right 'ask'" "$sight" ask "${to[@]}" --key away.key_secret "What moves?"
expect 7 "with keys only" "$sight" ask --endpoint "tcp://127.0.0.1:$port" hello
expect 2 "without the server's public one" "$sight" ask --endpoint "tcp://127.0.0.1:$port" --key door.key_secret hello
export SIGHT_ENDPOINT=tcp://127.0.0.1:$port SIGHT_KEY=$folder/door.key_secret SIGHT_SERVER_KEY=$keys/server.key
expect 0 "idle" "$sight" status
expect 0 "idle" "$sight" status --endpoint "ipc://$folder/s.sock" # keys in the environment are for tcp
expect 0 "within a second" "$sight" keys remove door --folder "$keys"
for _ in $(seq 100); do
    "$sight" status >/dev/null 2>&1 || break
    sleep 0.1
done
expect 7 "does not know this key" "$sight" status

[ "$failed" = 0 ] && echo "sight keys does what it says"
exit $((failed > 0))

#!/usr/bin/env bash
# Bad files, options, folders and disks against one running daemon: each gets one sentence that
# names what is wrong, and the daemon answers a good question right after it.
# What goes wrong on the wire itself is in test_bad_requests.c.   usage: check_bad_input.sh BUILD
set -uo pipefail
for program in ffmpeg timeout; do
    command -v $program >/dev/null || { echo "skipped: no $program here"; exit 77; }
done
sight=$1/sight sightd=$1/sightd
mini=$PWD/models/mini
[ -f "$mini/model.safetensors" ] || { echo "skipped: no model in $mini"; exit 77; }
work=$(mktemp -d)
export XDG_RUNTIME_DIR=$work/run NO_COLOR=1
# Freed memory that a sanitizer holds back is no growth.
export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}quarantine_size_mb=16
mkdir -m 700 "$work/run"
daemon=0 other=0
cleanup() {
    [ $daemon = 0 ] || kill -9 $daemon 2>/dev/null
    [ $other = 0 ] || kill -9 $other 2>/dev/null
    [ -z "${full:-}" ] || umount "$full" 2>/dev/null
    rm -rf "$work"
}
trap cleanup EXIT
failed=0

fail() {
    echo "FAILED: $*"
    failed=$((failed + 1))
}

# ---- the files ----

make_file() { # make_file NAME FFMPEG-ARGUMENT...
    local name=$1
    shift
    ffmpeg -v error -nostdin -y "$@" "$work/$name" || fail "ffmpeg did not make $name"
}

cut_to() { # cut_to NAME PERCENT NEW-NAME
    head -c $(($(stat -c %s "$work/$1") * $2 / 100)) "$work/$1" >"$work/$3"
}

clip=(-pix_fmt yuv420p -c:v libx264 -g 10)
make_file whole.mp4 -f lavfi -i testsrc=s=128x96:r=10:d=12 "${clip[@]}" -movflags +faststart
make_file late.mp4 -f lavfi -i testsrc=s=128x96:r=10:d=4 "${clip[@]}"
make_file sound.mp4 -f lavfi -i sine=d=1 -c:a aac
make_file one.png -f lavfi -i color=red:s=16x16 -vf scale=1:1 -frames:v 1
make_file good.png -f lavfi -i testsrc=s=320x240 -frames:v 1

make_file wide.png -f lavfi -i color=red:s=3000x10 -frames:v 1
make_file wide.mkv -f lavfi -i color=red:s=3000x10:r=2:d=1 -c:v ffv1
make_file tiny.mkv -f lavfi -i color=red:s=16x16:r=2:d=1 -vf scale=1:1 -pix_fmt gray -c:v ffv1
cut_to whole.mp4 60 cut.mp4
cut_to late.mp4 60 noindex.mp4
cut_to good.png 50 cut.png
head -c 60 "$work/whole.mp4" >"$work/headless.mp4"
: >"$work/empty.mp4"
: >"$work/empty.png"
echo "only words, no film" >"$work/text.mp4"
echo "only words, no picture" >"$work/text.png"
mkdir "$work/folder.mp4"
mkfifo "$work/pipe.mp4"
truncate -s 1G "$work/huge.mp4"
# PNGs by their headers: 20,000 x 20,000 of one bit, and 60,000 x 60,000 RGB, 10 GB unpacked.
png_head='\x89PNG\r\n\x1a\n\0\0\0\rIHDR'
printf "$png_head"'\0\0\x4e\x20\0\0\x4e\x20\x01\0\0\0\0' >"$work/big.png"
printf "$png_head"'\0\0\xea\x60\0\0\xea\x60\x08\x02\0\0\0' >"$work/bomb.png"
tail -c +30 "$work/good.png" | tee -a "$work/big.png" >>"$work/bomb.png"

# ---- the daemon ----

endpoint=ipc://$work/run/sightd/sightd.sock
"$sightd" --endpoint "$endpoint" --model "$mini" --threads 1 >"$work/log" 2>&1 &
daemon=$!
for _ in $(seq 300); do "$sight" status >/dev/null 2>&1 && break; sleep 0.1; done
"$sight" status >/dev/null || { fail "sightd did not start: $(cat "$work/log")"; exit 1; }

serves() { # serves AFTER-WHAT
    local answer
    answer=$(timeout 60 "$sight" ask -q -n 4 "$work/good.png" "What colour?" </dev/null 2>&1)
    local status=$?
    [ $status = 0 ] && kill -0 $daemon 2>/dev/null && return
    fail "after $1 sightd does not serve: exit $status, '$answer'; $(tail -3 "$work/log")"
}

rss() { awk '/VmRSS/ {print int($2 / 1024)}' /proc/$daemon/status; }

# expect CODE WORDS COMMAND...: the exit code, WORDS (an extended regular expression) in what is
# said, one sentence only where it fails, and a daemon that serves on.
expect() {
    local code=$1 words=$2 out status
    shift 2
    out=$(timeout 60 "$@" 2>&1 </dev/null)
    status=$?
    local name="${*:2}"
    name=${name//$work\//}
    if [ $status != "$code" ] || ! grep -Eq -- "$words" <<<"$out"; then
        fail "$name gave $status (expected $code): '$out' (expected '$words')"
    elif [ "$code" != 0 ] && [ "$(wc -l <<<"$out")" != 1 ]; then
        fail "$name: not one sentence: $out"
    else
        echo "$name: ${out//$work\//}" | cut -c 1-300
    fi
    serves "$name"
}

ask() { expect "$1" "$2" "$sight" ask -n 4 "${@:3}" "What?"; }

serves "its start"
serves "its first question"
before=$(rss)

# ---- files ----

for how in "" --attach; do
    ask 3 "none.mp4.*No such file" $how "$work/none.mp4"
    ask 3 "folder.mp4' is a folder" $how "$work/folder.mp4"
    ask 3 "pipe.mp4' is a device or pipe" $how "$work/pipe.mp4"
    ask 3 "empty.mp4' is empty" $how "$work/empty.mp4"
    ask 3 "empty.png' is empty" $how "$work/empty.png"
done
ask 3 "text.mp4' is not a video.*known kind" "$work/text.mp4"
ask 3 "text.png' is not" "$work/text.png"
ask 3 "noindex.mp4'.*(cut off|never finished)" "$work/noindex.mp4"
ask 3 "headless.mp4'.*cut off" "$work/headless.mp4"
ask 3 "sound.mp4' has no picture track" "$work/sound.mp4"
ask 3 "cut.png'.*cut off" "$work/cut.png"
ask 0 "cut.mp4'.*only [0-9]+ of 120 frames can be read" "$work/cut.mp4"
ask 0 "" "$work/one.png"
ask 0 "" "$work/tiny.mkv"
ask 6 "big.png' has 20000 x 20000 pixels, the limit is 268435456" "$work/big.png"
ask 6 "bomb.png' has 60000 x 60000 pixels, the limit is 268435456" "$work/bomb.png"
ask 3 "wide.png'.*3000 x 10.*over 200 times" "$work/wide.png"
ask 3 "wide.mkv'.*3000 x 10.*over 200 times" "$work/wide.mkv"
ask 3 "huge.mp4' is not a video.*known kind" "$work/huge.mp4"
ask 6 "1073741824|10737[0-9]{5}|limit is 268435456" --attach "$work/huge.mp4"
expect 3 "none.mp4" "$sight" plan "$work/none.mp4"
expect 3 "none.mp4" "$sight" chat "$work/none.mp4"
expect 0 "cut.mp4" "$sight" plan "$work/cut.mp4"

# A file that may not be read. Root may read all, so another user's daemon is asked then.
cp "$work/good.png" "$work/secret.png"
if [ "$(id -u)" != 0 ]; then
    chmod 000 "$work/secret.png"
    ask 3 "secret.png.*Permission denied" "$work/secret.png"
elif command -v setpriv >/dev/null; then
    chmod 711 "$work"
    chmod 600 "$work/secret.png"
    mkdir "$work/other"
    cp -r "$mini" "$sightd" "$1/sight-decoder" "$work/other"
    chown -R 65534:65534 "$work/other"
    chmod -R u+rwX "$work/other"
    others=ipc://$work/other/run/sightd.sock
    (cd / && exec setpriv --reuid 65534 --regid 65534 --clear-groups "$work/other/sightd" \
        --endpoint "$others" --model "$work/other/mini" --threads 1) >"$work/other.log" 2>&1 &
    other=$!
    for _ in $(seq 300); do kill -0 $other && ! "$sight" status -e "$others" >/dev/null 2>&1 || break; sleep 0.1; done
    ask 3 "secret.png.*Permission denied" -e "$others" "$work/secret.png"
    expect 0 "" "$sight" ask -q -n 4 --attach -e "$others" "$work/secret.png" "What?"
    kill $other && wait $other
    other=0
else
    echo "skipped: unreadable files; this is root, and setpriv is missing"
fi

# ---- options ----

for value in 0 -1 nan inf 1e999 x; do
    ask 2 "--fps (is|needs).*" --fps $value "$work/late.mp4"
done
ask 2 "--fps is 1000, must be 1e-06 to 240" --fps 1000 "$work/late.mp4"
for value in nan -3 x 1:2:3:4 :; do
    ask 2 "--start needs .*'$value'" --start $value "$work/late.mp4"
done
ask 2 "--end 1 is not after --start 3" --start 3 --end 1 "$work/late.mp4"
ask 2 "--end 3 is not after --start 3" --start 3 --end 3 "$work/late.mp4"
ask 2 "late.mp4' lasts 4.000 s, the range starts at 90.000 s" --start 1:30 "$work/late.mp4"
ask 2 "--frames" --frames 0 "$work/late.mp4"
ask 2 "'frames' is 5000" --frames 5000 "$work/late.mp4"
for value in -1 nan 1000; do
    ask 2 "--temperature (is|needs)" --temperature $value "$work/good.png"
done
ask 2 "top.p'? is 0" --top-p 0 "$work/good.png"
ask 2 "--max-tokens is -1" --max-tokens -1 "$work/good.png"
ask 2 "--max-tokens is 0" --max-tokens 0 "$work/good.png"
ask 2 "'max_tokens' is 99999999" --max-tokens 99999999 "$work/good.png"
ask 2 "not valid UTF-8" --system $'\xff' "$work/good.png"
ask 2 "not valid UTF-8" --stop $'\xc3' "$work/good.png"
expect 2 "not valid UTF-8" "$sight" ask "$work/good.png" $'what \xff?'
expect 2 "http://localhost/a.mp4" "$sight" ask http://localhost/a.mp4 "What?"
many=()
for _ in $(seq 70); do many+=("$work/good.png"); done
expect 6 "more than 64 pictures" "$sight" ask "${many[@]}" "What?"
expect 2 "64 files" "$sight" ask --attach "${many[@]}" "What?"
head -c 300000 /dev/zero | tr '\0' 'x' >"$work/long.txt"
expect 6 "the prompt has [0-9]+ tokens.* limit is 4095" \
    bash -c '"$0" ask - <"$1"' "$sight" "$work/long.txt"
expect 2 "the question is empty" "$sight" ask -
printf 'what\0ever' >"$work/nul.txt"
expect 2 "NUL" bash -c '"$0" ask - <"$1"' "$sight" "$work/nul.txt"

# ---- models ----

broken_model() { # broken_model NAME: a copy of the bundled one, files linked
    mkdir "$work/$1"
    ln -s "$mini"/*.json "$mini"/*.jinja "$mini"/*.safetensors "$work/$1/"
}
load() { expect 4 "$1" "$sight" ask --model "$work/$2" hello; }

broken_model noweights; rm "$work/noweights/model.safetensors"
load "noweights.*safetensors" noweights
broken_model halfweights; rm "$work/halfweights/model.safetensors"
head -c 1000000 "$mini/model.safetensors" >"$work/halfweights/model.safetensors"
load "halfweights/model.safetensors" halfweights
broken_model emptyweights; rm "$work/emptyweights/model.safetensors"
: >"$work/emptyweights/model.safetensors"
load "emptyweights/model.safetensors.*empty" emptyweights
broken_model tokenless; rm "$work/tokenless/tokenizer.json"; : >"$work/tokenless/tokenizer.json"
load "tokenless/tokenizer.json.*empty" tokenless
broken_model notokens; rm "$work/notokens/tokenizer.json"
load "notokens/tokenizer.json" notokens
broken_model halfconfig; rm "$work/halfconfig/config.json"
head -c 300 "$mini/config.json" >"$work/halfconfig/config.json"
load "halfconfig'?.*config.json.*not valid JSON" halfconfig
broken_model shards; rm "$work/shards/model.safetensors"
cat >"$work/shards/model.safetensors.index.json" <<'J'
{"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors",
                                "b": "model-00002-of-00002.safetensors"}}
J
cp "$mini/model.safetensors" "$work/shards/model-00001-of-00002.safetensors"
load "shards'.*model-00002-of-00002.safetensors.* missing" shards
broken_model fetching
mv "$work"/fetching/model.safetensors{,.incomplete}
load "fetching.*(incomplete|not finished)" fetching
mkdir "$work/nothing"
load "nothing" nothing
load "nowhere" nowhere
expect 4 "Qwen/NoSuch" "$sight" ask --model Qwen/NoSuch hello

# ---- disks ----

echo '{"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}' >"$work/r.json"
trace=("$sight" trace --model "$mini" --request "$work/r.json" --out)
expect 1 "/dev/full" "${trace[@]}" /dev/full
expect 1 "none/t.safetensors.*No such file" "${trace[@]}" "$work/none/t.safetensors"
expect 1 "cannot write all" bash -c '"$0" plan "$1" >/dev/full' "$sight" "$work/late.mp4"
full=$work/full
mkdir "$full"
if mount -t tmpfs -o size=16k none "$full" 2>/dev/null; then
    expect 1 "full/t.safetensors.*No space left" "${trace[@]}" "$full/t.safetensors"
    [ -z "$(ls -A "$full")" ] || fail "a trace that found the disk full left $(ls -l "$full")"
else
    echo "no small file system can be mounted here: /dev/full alone was tried"
    full=
fi
echo '{"messages": 5}' >"$work/bad.json"
expect 2 "messages" "$sight" trace --model "$mini" --request "$work/bad.json" --out "$work/t"

# ---- daemons ----

expect 5 "another sightd .*$daemon" "$sightd" --endpoint "$endpoint" --model "$mini"
"$sight" ask -q --temperature 3 --seed 1 -n 3000 "$work/whole.mp4" "What?" \
    >/dev/null 2>&1 </dev/null &
asking=$!
sleep 0.5
kill -9 $asking 2>/dev/null
wait $asking 2>/dev/null
sleep 1
expect 0 '"requests": ?\[\]' "$sight" status --json
serves "a killed client"

serves "everything"
after=$(rss)
echo "memory of sightd: $before MiB before, $after MiB after"
[ "$after" -lt $((before + 200)) ] || fail "sightd grew from $before to $after MiB"
kill -TERM $daemon
for _ in $(seq 100); do kill -0 $daemon 2>/dev/null || break; sleep 0.1; done
wait $daemon
status=$?
daemon=0
[ $status = 0 ] || fail "sightd ended with $status: $(tail -20 "$work/log")"
grep -E "Sanitizer|runtime error" "$work/log" && fail "a sanitizer spoke"

[ $failed = 0 ] && echo "bad input gets a sentence, and the daemon serves on"
exit $((failed > 0))

#!/bin/sh
# Builds, starts sightd with the bundled model and asks about two clips and a picture whose seeds
# were never trained on, printing the true answer beside each.   usage: demo.sh BUILD
set -eu
build=$1
cd "$(dirname "$0")/.."

cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DSIGHT_TESTS=OFF >"$build.log" 2>&1 || {
    cat "$build.log"
    exit 1
}
rm -f "$build.log"
echo "building ..."
cmake --build "$build" -j "$(nproc)" --target sightd sight >/dev/null

folder=$(mktemp -d)
endpoint="ipc://$folder/sightd.sock"
"$build/sightd" --model models/mini --endpoint "$endpoint" 2>"$folder/log" &
daemon=$!
trap 'kill "$daemon" 2>/dev/null; wait "$daemon" 2>/dev/null; rm -rf "$folder"' EXIT
for _ in $(seq 100); do
    "$build/sight" status -e "$endpoint" >/dev/null 2>&1 && break
    kill -0 "$daemon" 2>/dev/null || {
        cat "$folder/log"
        exit 1
    }
    sleep 0.1
done

bold='' plain=''
if [ -t 1 ]; then
    bold=$(printf '\033[1m') plain=$(printf '\033[0m')
fi
right=0 asked=0 last=''
# questions.tsv: medium, question, true answer
while IFS="$(printf '\t')" read -r medium question truth; do
    if [ "$medium" != "$last" ]; then
        printf '\n%s%s%s\n' "$bold" "models/mini/demo/$medium" "$plain"
        last=$medium
    fi
    printf '  %s  ' "$question"
    "$build/sight" ask -q -e "$endpoint" "models/mini/demo/$medium" "$question" | tee "$folder/answer" | tr -d '\n'
    printf '   (true: %s)\n' "$truth"
    asked=$((asked + 1))
    [ "$(cat "$folder/answer")" != "$truth" ] || right=$((right + 1))
done <models/mini/demo/questions.tsv

printf '\n%d of %d answers are the true ones. The bundled model is small: 5 million parameters, trained on\n' "$right" "$asked"
printf 'drawn scenes only (models/mini/README.md). Ask about your own clip with a published checkpoint:\n'
printf '  %s ask --model Qwen/Qwen3.5-0.8B clip.mp4 "What happens?"\n' "$build/sight"

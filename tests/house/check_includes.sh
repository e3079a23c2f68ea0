#!/usr/bin/env bash
# Holds the table of ARCHITECTURE.md, "Who may include whom": every #include "room/..." in a room
# must be of a room that it may see.
set -euo pipefail
cd "$(dirname "$0")/../.."

declare -A may=(
    [include]="sight"
    [base]="base sight"
    [kernels]="kernels base sight cuda_on_cpu.h mma_on_cpu.h" # the test shim, in builds for it
    [checkpoint]="checkpoint kernels/tensor.h kernels/packed.h kernels/f8.h base sight"
    [decoder]="decoder base sight"
    [vision]="vision kernels checkpoint decoder/frame.h base sight"
    [text]="text kernels checkpoint base sight"
    [ipc]="ipc base sight"
    [daemon]="daemon ipc text vision decoder checkpoint kernels base sight"
    [clients/c]="clients/c ipc/wire.h ipc/key.h base sight"
    [clients/cli]="clients/cli ipc/key.h daemon text vision decoder checkpoint kernels base sight"
)

bad=0
for room in "${!may[@]}"; do
    [ -d "$room" ] || continue
    while IFS=: read -r file line text; do
        target=$(sed -E 's/.*#include "([^"]+)".*/\1/' <<<"$text")
        allowed=0
        for entry in ${may[$room]}; do
            case "$target" in "$entry" | "$entry"/*) allowed=1 ;; esac
        done
        if [ "$allowed" = 0 ]; then
            echo "$file:$line: $room may not include \"$target\""
            bad=$((bad + 1))
        fi
    done < <(grep -rnE '^ *# *include "' --include='*.c' --include='*.h' --include='*.cu' "$room")
done
[ "$bad" = 0 ] && echo "every include is allowed"
exit $((bad > 0))

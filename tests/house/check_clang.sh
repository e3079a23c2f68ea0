#!/usr/bin/env bash
# Every source compiles with clang without a warning, with the flags it is built with.
set -uo pipefail
build=$(realpath "$1")
cd "$(dirname "$0")/../.."
command -v clang >/dev/null || {
    echo "skipped: no clang"
    exit 77
}
# compile_commands.json has a "command" line per file; the compiler's name is replaced.
bad=0
while read -r command; do
    file=${command##* }
    case "$file" in *"/tests/"*) continue ;; esac
    case "$command" in *".cu "* | *.cu) continue ;; esac # nvcc's
    args=$(sed -E 's/^([^ ]*ccache )?[^ ]+ //; s/ -o [^ ]+ -c / -c /; s/-fsanitize[^ ]*|-Wno-format-truncation//g' <<<"$command")
    (cd "$build" && clang $args -fsyntax-only -Werror -Wno-unused-command-line-argument) || bad=1
done < <(sed -n 's/^ *"command": "\(.*\)",$/\1/p' "$build/compile_commands.json" | sed 's/\\"/"/g; s/\\\\//g' |
    sed 's/-DSIGHT_[A-Z_]*="[^"]*"/-DSIGHT_VERSION="" -DSIGHT_DATA_DIR="" -DSIGHT_LIBEXEC_DIR=""/g')
[ $bad = 0 ] && echo "compiles with clang"
exit $bad

#!/bin/sh
# Installs the Debian packages that building, testing and the demo need, where they are missing.
# Root, or a user with sudo. Prints nothing when all is there.
set -eu

packages="build-essential cmake pkg-config ffmpeg
libavformat-dev libavcodec-dev libavutil-dev libswscale-dev libjpeg62-turbo-dev libpng-dev
libzmq3-dev libjansson-dev libpcre2-dev libutf8proc-dev libcmocka-dev"

command -v dpkg-query >/dev/null || {
    echo "This is no Debian: install the equivalents of: $packages" >&2
    exit 0
}
missing=""
for p in $packages; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q '^install ok installed' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

as_root=""
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || {
        echo "Missing packages:$missing. Install them as root." >&2
        exit 1
    }
    as_root=sudo
fi
echo "Installing:$missing"
$as_root apt-get update -qq
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null

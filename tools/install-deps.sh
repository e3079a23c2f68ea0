#!/bin/sh
# Installs the Debian packages that building, testing and the demo need, where they are missing; with
# --arm64 those for cross-building to arm64 and running its tests.
# Root, or a user with sudo. Prints nothing when all is there.
set -eu

packages="build-essential cmake pkg-config ffmpeg
libavformat-dev libavcodec-dev libavutil-dev libswscale-dev libjpeg62-turbo-dev libpng-dev libseccomp-dev
libzmq3-dev libjansson-dev libpcre2-dev libutf8proc-dev libmicrohttpd-dev libcurl4-openssl-dev libcmocka-dev"

command -v dpkg-query >/dev/null || {
    echo "This is no Debian: install the equivalents of: $packages" >&2
    exit 0
}
if [ "${1:-}" = --arm64 ]; then
    # The libraries' development packages once more, of the other architecture.
    cross=""
    for p in $packages; do
        case $p in lib*-dev) cross="$cross $p:arm64" ;; esac
    done
    packages="gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user $cross"
fi
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
[ "${1:-}" != --arm64 ] || $as_root dpkg --add-architecture arm64
$as_root apt-get update -qq
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null

#!/bin/sh
# Boots a small Debian 12 in qemu with what a build installs, and runs tools/systemd-check.sh in it: the unit under a real systemd and kernel.
# Root; takes debootstrap, qemu-system-x86 and e2fsprogs, about 2 GB below FOLDER, which is kept and used again, and five minutes where the
# processor is emulated (QEMU_ACCEL=kvm: one).   usage: systemd-in-qemu.sh BUILD FOLDER
set -eu
build=$(realpath "$1")
mkdir -p "$2"
folder=$(realpath "$2")
cd "$(dirname "$0")/.."
root=$folder/root

if [ ! -e "$folder/bootstrapped" ]; then
    packages=systemd,systemd-sysv,dbus,kmod,udev,procps,initramfs-tools,linux-image-cloud-amd64
    packages=$packages,libavformat59,libavcodec59,libavutil57,libswscale6,libjpeg62-turbo,libpng16-16,libseccomp2,libzmq5
    packages=$packages,libjansson4,libpcre2-8-0,libutf8proc2,libmicrohttpd12,libcurl4
    rm -rf "$root"
    debootstrap --variant=minbase --include="$packages" bookworm "$root" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}"
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    touch "$folder/bootstrapped"
fi

DESTDIR=$root cmake --install "$build" >"$folder/install.log"
mkdir -p "$root/check"
cp tools/systemd-check.sh models/mini/demo/* "$root/check/"
echo sightd-check >"$root/etc/hostname"
echo '127.0.0.1 localhost sightd-check' >"$root/etc/hosts"
cat >"$root/etc/systemd/system/sightd-check.service" <<'UNIT'
[Unit]
After=multi-user.target
SuccessAction=poweroff-force
FailureAction=poweroff-force

[Service]
Type=oneshot
ExecStart=/bin/bash /check/systemd-check.sh /check
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0

[Install]
WantedBy=default.target
UNIT
ln -sf ../sightd-check.service "$root/etc/systemd/system/multi-user.target.wants/sightd-check.service"
ln -sf /dev/null "$root/etc/systemd/system/serial-getty@ttyS0.service" # the console is the check's
rm -f "$folder/disk.img"
mke2fs -q -t ext4 -d "$root" "$folder/disk.img" 2G

# No network; the disk's writes need not outlive the machine.
accel=${QEMU_ACCEL:-tcg}
cpu=max
[ "$accel" = tcg ] || cpu=host
timeout 1800 qemu-system-x86_64 -accel "$accel" -cpu $cpu -smp 1 -m 1500 -display none -no-reboot -nic none \
    -kernel "$root"/boot/vmlinuz-* -initrd "$root"/boot/initrd.img-* \
    -append "root=/dev/vda rw console=ttyS0 quiet mitigations=off systemd.show_status=no" \
    -drive "file=$folder/disk.img,format=raw,if=virtio,cache=unsafe" -serial stdio </dev/null | tee "$folder/console.log"
grep -q ' checks, 0 failed' "$folder/console.log"

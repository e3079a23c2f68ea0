#!/bin/bash
# Puts the installed service through its life under the running systemd: start, asking as other users, reload, watchdog, kill, drain, keys,
# store. For a throwaway machine, as root: it makes users (alice, bob) and overwrites /etc/sightd and the unit's drop-ins.
# tools/systemd-in-qemu.sh boots such a machine.   usage: systemd-check.sh DEMO  (the folder models/mini/demo)
set -u
demo=$1
failed=0 checks=0
conf=/etc/sightd/sightd.conf dropin=/etc/systemd/system/sightd.service.d/check.conf
media=/srv/sightd-check
service="-e ipc:///run/sightd/sightd.sock" # and no daemon of the user's own

# check WHAT COMMAND...: holds when the command does.
check() {
    local what=$1
    shift
    checks=$((checks + 1))
    if "$@"; then
        echo "ok      $what"
    else
        echo "FAILED  $what"
        journalctl -u sightd -o cat --no-pager | tail -5 | sed 's/^/        | /'
        failed=$((failed + 1))
    fi
}

# settings and drop-in from here on; a line each.
settings() {
    printf '%s\n' "confine = require" "simd = plain" "media-root = $media" "$@" >$conf # plain: what an emulated processor does fastest
}
unit() {
    mkdir -p "${dropin%/*}"
    printf '%s\n' "[Service]" "$@" >$dropin
    systemctl daemon-reload
}

show() { systemctl show -P "$1" sightd; }
log_has() { journalctl -u sightd -o cat --no-pager | grep -q "$1"; }
is() { [ "$1" = "$2" ] || { echo "        '$1' is not '$2'"; return 1; }; }
fails() { ! "$@" >/tmp/output 2>&1; }
quietly() { "$@" >/tmp/output 2>&1 || { sed 's/^/        /' /tmp/output; return 1; }; }

# The answer to a question, and that there is one.
ask() { # USER ARGUMENT...
    local user=$1
    shift
    (cd / && runuser -u "$user" -- sight ask -q "$@" 2>&1)
}
answers() { ask "$@" >/tmp/answer && [ -s /tmp/answer ] || { sed 's/^/        /' /tmp/answer; return 1; }; }
gives() { # WORDS USER ARGUMENT...: not whether it is asked well, but what is said
    local words=$1
    shift
    ask "$@" >/tmp/answer
    grep -q -- "$words" /tmp/answer || { sed 's/^/        /' /tmp/answer; return 1; }
}
again() { # OLD-PID: another process serves
    for _ in $(seq 120); do
        [ "$(show MainPID)" != "$1" ] && systemctl -q is-active sightd && return 0
        sleep 1
    done
    return 1
}
running() { # waits until a request is worked on
    for _ in $(seq 60); do
        sight status --json | grep -q '"state":"running"' && return 0
        sleep 0.5
    done
    return 1
}

for user in alice bob; do id $user >/dev/null 2>&1 || useradd -m $user; done
rm -rf ${conf%/*} ${dropin%/*} /root/keys
mkdir -p ${conf%/*} $media
cp "$demo"/* $media/
chmod -R a+rX $media
read -r what question truth < <(awk -F'\t' '$1 ~ /png$/ {gsub(" ", "_", $2); gsub(" ", "_", $3); print $1, $2, $3; exit}' "$demo/questions.tsv")
question=${question//_/ } truth=${truth//_/ }

# ---- the unit and the start ----
settings
unit
check "the unit is a good one" systemd-analyze verify --man=no "$(show FragmentPath)"
check "it is walled in (systemd-analyze security: under 2.0)" quietly systemd-analyze security --no-pager --threshold=20 sightd
check "start waits for READY" systemctl start sightd
check "it serves" log_has "serving 'mini' at ipc:///run/sightd/sightd.sock"
check "not as root, nor as a user of the system" fails getent -s files passwd "$(stat -c %u /run/sightd)"

# ---- asking ----
check "root asks" answers root "How are you?"
check "a picture, read by a confined child: '$truth'" gives "^$truth" root "$media/$what" "$question"
sight status --json | tr -d ' ' >/tmp/status
check "children have seccomp and Landlock" grep -q '"seccomp":true,"landlock":true' /tmp/status
check "none of them crashed" grep -q '"crashed":0,"timed_out":0' /tmp/status
check "status has a line" grep -q " running, " <(show StatusText) # perhaps that of some seconds ago
check "by default nobody else reaches the socket" fails ask alice $service "How are you?"

# ---- others ----
settings "socket-mode = 0666" "allow-uid = alice"
unit "RuntimeDirectoryMode=0711"
systemctl restart sightd
check "another user asks" answers alice $service "How are you?"
check "by her own name" log_has "identity=\"uid $(id -u alice)\""
check "a picture by path below media-root" gives "^$truth" alice $service "$media/$what" "$question"
check "one who is not listed is told so" gives "it is not in allow-uid" bob $service "How are you?"
settings "socket-mode = 0660" "socket-group = video"
unit "RuntimeDirectoryMode=0711" "SupplementaryGroups=video"
gpasswd -a alice video >/dev/null
systemctl restart sightd
check "the socket is the group's" is "$(stat -c '%G %a' /run/sightd/sightd.sock)" "video 660"
check "one of the group asks" answers alice $service "How are you?"
check "one who is not cannot" fails ask bob $service "How are you?"

# ---- reload ----
settings "max-frames = 77"
check "reload" systemctl reload sightd
sleep 2
check "what was reloaded counts" grep -q '"max_frames":77' <(sight status --json | tr -d ' ')
settings "max-frames = many"
check "a wrong setting fails the reload" fails systemctl reload sightd
check "and the daemon goes on" answers root "How are you?"

# ---- dying ----
settings "store = /var/lib/sightd/store" "grace = 120" # an emulated processor takes long
pid=$(show MainPID)
systemctl kill -s KILL sightd
check "kill -9: started again" again "$pid"
check "and it serves" answers root "How are you?"
pid=$(show MainPID)
kill -STOP "$pid"
check "a daemon that stands still is started again by the watchdog" again "$pid"
check "since it was the watchdog" log_has "atchdog timeout"
check "and it serves" answers root "How are you?"

# ---- stopping ----
ask root --max-tokens 40 --json "$media/$what" "$question" >/tmp/drained &
asked=$!
check "a request runs" running
systemctl stop sightd
wait $asked
check "a running request is answered before a stop" grep -q '"event": "done"' /tmp/drained
check "the stop is a clean one" is "$(show Result)" success
check "no child is left" fails test -e /sys/fs/cgroup/system.slice/sightd.service
systemctl start sightd
check "what was read before is found on disk after a restart" gives 'reused_media": 1' root -v "$media/$what" "$question"

# ---- keys ----
mkdir -p /root/keys
sight keys --secret /root/keys server >/dev/null
sight keys --secret /root/keys new door >/dev/null
settings "keys = /etc/sightd/keys" "endpoint = ipc:///run/sightd/sightd.sock" "endpoint = tcp://*:5570"
unit "LoadCredential=server.key_secret:/etc/sightd/keys/server.key_secret"
check "with keys, the server's own as a credential" systemctl restart sightd
door="-e tcp://127.0.0.1:5570 --key /root/keys/door.key_secret --server-key /etc/sightd/keys/server.key"
check "one with a key asks over tcp" answers root $door "How are you?"
check "one without is told so" gives "serves with keys only" root -e tcp://127.0.0.1:5570 "How are you?"
systemctl stop sightd

echo "systemd-check: $checks checks, $failed failed"
[ $failed = 0 ]

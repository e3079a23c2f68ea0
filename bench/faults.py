#!/usr/bin/env python3
"""What happens to a sightd under clients that misbehave and a machine that fails: every case prints what it saw.

    bench/faults.py --sight build [--model FOLDER] [--bad 10000] [--cases vanish,killed,...]

A case fails when a request that was taken in is neither answered nor refused with a sentence, when the daemon ends by
itself, or when it does not serve again within a second of a restart. Ends with the number of failed cases.
Needs pyzmq and ffmpeg; the case of a full disk needs to mount a tmpfs (root).
"""
import argparse
import glob
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time

import wire

LONG = {"messages": [{"role": "user", "content": "Count as far as you can."}], "max_tokens": 4000, "temperature": 1,
        "repetition_guard": False}
SHORT = {"messages": [{"role": "user", "content": "Hello."}], "max_tokens": 8, "temperature": 0}


class Failed(Exception):
    pass


def expect(good, words):
    if not good:
        raise Failed(words)


class Daemon:
    def __init__(self, args, folder, options=(), env=None):
        self.args, self.folder, self.options, self.env = args, folder, list(options), env
        self.endpoint = f"ipc://{folder}/run/sightd.sock"
        self.log = open(os.path.join(folder, "sightd.log"), "a")
        self.start()

    def start(self):
        command = [os.path.join(self.args.sight, "sightd"), "--endpoint", self.endpoint, "--log", "info",
                   *(["--model", self.args.model] if self.args.model else []), *self.options]
        self.process = subprocess.Popen(command, stderr=self.log, stdout=self.log, env=self.env)

    def until_served(self):
        """Seconds from the start to the end of the first answer."""
        start = time.monotonic()
        while not os.path.exists(self.endpoint[6:]):
            expect(self.process.poll() is None, f"the daemon ended with {self.process.returncode}")
            expect(time.monotonic() - start < 60, "the daemon has not begun to serve after a minute")
            time.sleep(0.005)
        self.answer()
        return time.monotonic() - start

    def connect(self, silence_s=30, **more):
        return wire.Client(self.endpoint, silence_s, **more)

    def answer(self, body=SHORT, parts=()):
        c = self.connect()
        try:
            return list(c.events("ask", body, parts))[-1][1]
        finally:
            c.close()

    def status(self):
        c = self.connect()
        try:
            return c.call("status")
        finally:
            c.close()

    def check(self):
        expect(self.process.poll() is None, f"the daemon ended with {self.process.returncode}")
        self.answer()

    def children(self, of=None):
        """Its processes and theirs, by whichever thread they were started."""
        pid, found = of or self.process.pid, []
        for path in glob.glob(f"/proc/{pid}/task/*/children"):
            try:
                with open(path) as f:
                    found += [int(child) for child in f.read().split()]
            except OSError:
                pass  # a thread that has ended
        return found + [grandchild for child in found for grandchild in self.children(child)]

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise Failed("the daemon did not end within a minute of SIGTERM") from None
        return self.process.returncode


def start_answers(d, number, body=LONG):
    """Connections with an answer under way each."""
    clients = [d.connect() for _ in range(number)]
    for c in clients:
        c.send("ask", body)
    for c in clients:
        while c.receive()[1] not in ("delta", "accepted"):
            pass
    return clients


def wait_idle(d, seconds=5):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        s = d.status()
        if not s["requests"]:
            return
        time.sleep(0.05)
    raise Failed(f"{len(s['requests'])} requests are still there after {seconds} s")


# ---- the cases ----

def vanish(d, args):
    """Clients that go away in the middle of an answer."""
    for _ in range(5):
        for c in start_answers(d, 8):
            c.close()
        start = time.monotonic()
        wait_idle(d)
    return f"40 clients gone, their requests with them (the last 8 within {time.monotonic() - start:.2f} s)"


def killed(d, args):
    """kill -9 of the daemon under 8 answers, and its restart."""
    clients = start_answers(d, 8)
    d.process.kill()
    d.process.wait()
    d.start()
    seconds = d.until_served()
    for c in clients:
        c.close()
    expect(seconds < 1, f"the first answer came {seconds:.2f} s after the restart")
    return f"the first answer came {seconds:.2f} s after the restart"


def children_killed(d, args):
    """kill -9 of the decoder's processes under questions about clips."""
    clip = make_clip(d.folder)
    ends = {"done": 0, "error": 0}

    def ask(number):
        c = d.connect()
        for i in range(6):
            body = {"messages": [{"role": "user", "content": [{"type": "video", "attachment": 0, "start": i % 3},
                                                              {"type": "text", "text": f"{number} {i}"}]}],
                    "max_tokens": 4, "temperature": 0}
            try:
                list(c.events("ask", body, [clip]))
                ends["done"] += 1
            except wire.Refused as e:
                ends["error"] += 1
                last.append(str(e))
        c.close()

    last, killed_ones = [], 0
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    while any(t.is_alive() for t in threads):
        for pid in d.children():
            try:
                os.kill(pid, signal.SIGKILL)
                killed_ones += 1
            except ProcessLookupError:
                pass  # it had done its work
        time.sleep(0.3)
    expect(sum(ends.values()) == 24, f"{ends} of 24")
    expect(killed_ones, "the daemon has no processes of its own to kill")
    return f"{killed_ones} killed; of 24 questions {ends['done']} answered, {ends['error']} refused" + (f" ({last[0]})" if last else "")


def bad_messages(d, args):
    """1,000 messages a second of noise, for 10 seconds, beside a client that means well."""
    rng, sent, stop = random.Random(1), 0, threading.Event()
    good = []

    def well_meaning():
        while not stop.is_set():
            start = time.monotonic()
            d.answer()
            good.append(time.monotonic() - start)

    t = threading.Thread(target=well_meaning)
    t.start()
    noise, refused = d.connect(), 0
    for second in range(10):
        begin = time.monotonic()
        for _ in range(1000):
            noise.socket.send_multipart(noise_frames(rng))
            sent += 1
            while noise.socket.poll(0):
                refused += noise.socket.recv_multipart()[2] == b"error"
        time.sleep(max(0, begin + 1 - time.monotonic()))
    while noise.socket.poll(500):
        refused += noise.socket.recv_multipart()[2] == b"error"
    stop.set()
    t.join()
    noise.close()
    expect(refused == sent, f"{sent} sent, {refused} refused")
    return f"{sent} refused; meanwhile {len(good)} answers, the slowest {max(good):.2f} s"


def noise_frames(rng):
    good = [b"SIGHT1", b"x%d" % rng.randrange(100), b"ask", b"{}"]
    frames = [bytes(rng.randrange(256) for _ in range(rng.randrange(20))) if rng.random() < 0.4 else f for f in good]
    return frames[:rng.randrange(1, 5)] + [os.urandom(rng.randrange(64)) for _ in range(rng.randrange(3))]


def slow_reader(d, args):
    """A client that asks and never reads, beside one that does."""
    slow = d.connect(receive_queue=1)
    for _ in range(8):
        slow.send("ask", LONG)
    slowest = 0
    for _ in range(20):
        start = time.monotonic()
        d.answer()
        slowest = max(slowest, time.monotonic() - start)
    slow.close()
    wait_idle(d)
    return f"20 answers to others, the slowest {slowest:.2f} s"


def bad_inputs(d, args):
    """Requests and media with bytes changed: each is answered or refused by name."""
    rng, ends, seen = random.Random(2), {"done": 0, "error": 0}, set()
    media = [("image", make_picture(d.folder, "png")), ("image", make_picture(d.folder, "jpg")), ("video", make_clip(d.folder))]
    c = d.connect(120)
    for i in range(args.bad):
        kind, data = media[i % 3]
        body = {"messages": [{"role": "user", "content": [{"type": kind, "attachment": 0}, {"type": "text", "text": "What?"}]}],
                "max_tokens": 1, "temperature": 0, "top_p": 0.9, "stop": ["x"]}
        text = json.dumps(body).encode()
        if i % 2:
            data = change(rng, data)
        else:
            text = change(rng, text)
        id = f"i{i}"
        c.socket.send_multipart([b"SIGHT1", id.encode(), b"ask" if i % 4 < 2 else b"plan", text, data])
        while True:
            got, what, end = c.receive()
            if got == id and what in ends:
                break
        ends[what] += 1
        if what == "error":
            expect(end["message"], f"an error without a sentence for input {i}")
            seen.add(end["code"])
            expect(end["code"] != "internal", f"input {i}: {end['message']}")
    c.close()
    return f"{args.bad} inputs: {ends['done']} answered, {ends['error']} refused ({', '.join(sorted(seen))})"


def change(rng, data):
    """Some bytes changed, cut out or doubled."""
    b = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(b) or 1)
        way = rng.randrange(4)
        if way == 0 and b:
            b[at] = rng.randrange(256)
        elif way == 1:
            del b[at:at + rng.randrange(1, 40)]
        elif way == 2:
            b[at:at] = b[at:at + rng.randrange(1, 40)]
        elif way == 3:
            del b[max(1, at):]
    return bytes(b)


def make_picture(folder, ext):
    return made(folder, f"picture.{ext}", "-frames:v", "1")


def make_clip(folder):
    return made(folder, "clip.mp4", "-t", "4", "-pix_fmt", "yuv420p", "-g", "10")


def made(folder, name, *options):
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        subprocess.run(["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=size=160x120:rate=10", *options, path], check=True)
    with open(path, "rb") as f:
        return f.read()


def full_disk(d, args):
    """A daemon whose folder for kept things has no room."""
    folder = os.path.join(d.folder, "full")
    os.makedirs(folder, exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True).returncode:
        return "not run: no tmpfs can be mounted here"
    try:
        run = os.path.join(d.folder, "second")
        os.makedirs(run, exist_ok=True)
        other = Daemon(args, run, ["--weights", "int8", "--store", os.path.join(folder, "store")], dict(os.environ, XDG_CACHE_HOME=folder))
        try:
            other.until_served()
            for i in range(8):
                other.answer(dict(SHORT, messages=[{"role": "user", "content": f"{i} " + "word " * 400}]))
            other.check()
        finally:
            code = other.stop()
        expect(code == 0, f"it ended with {code}")
    finally:
        subprocess.run(["umount", folder])
    return "served with prepared weights and kept states that could not be written"


CASES = {f.__name__: f for f in (vanish, slow_reader, bad_messages, bad_inputs, children_killed, full_disk, killed)}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--sight", required=True, help="the build folder with sightd")
    p.add_argument("--model", help="default: the bundled one")
    p.add_argument("--bad", type=int, default=10000, help="bad inputs")
    p.add_argument("--cases", default=",".join(CASES))
    p.add_argument("--option", action="append", default=[], help="for sightd; may be given again")
    args = p.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="sight-faults-") as folder:
        d = Daemon(args, folder, args.option)
        d.until_served()
        for name in args.cases.split(","):
            try:
                print(f"{name}: {CASES[name](d, args)}", flush=True)
                d.check()
            except (Failed, wire.Gone) as e:
                failed += 1
                print(f"{name}: FAILED: {e}", flush=True)
                if d.process.poll() is not None:
                    d.start()
                    d.until_served()
        code = d.stop()
        if code:
            failed += 1
            print(f"the daemon ended with {code}: FAILED")
            print(open(d.log.name).read()[-2000:])
    print(f"{failed} cases failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""What running answers notice of others: tokens a second of several at once, and how long a stream pauses meanwhile.

    bench/gaps.py --sight build [--model FOLDER] [--together 1,2,4,8] [--tokens 64] [--picture 1920x1080] [--words 3000]

First as many text questions as --together says are asked at the same moment, and their tokens counted. Then one stream
runs while a picture, and after that a long text, is taken in: the longest pause between two of its events is told, and the
most that the server's threads ran between two (what the pause would be if nothing else ran on the machine), beside those
without anybody else. The server is started here. Needs pyzmq and ffmpeg.
"""
import argparse
import glob
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time

import wire


def start(args, folder):
    endpoint = f"ipc://{folder}/run/sightd.sock"
    options = ["--endpoint", endpoint, "--threads", str(args.threads), "--log", "warning",
               "--max-running", "16", "--max-jobs-per-client", "32", *args.option]
    if args.model:
        options += ["--model", args.model]
    log = open(os.path.join(folder, "sightd.log"), "w")
    process = subprocess.Popen([os.path.join(args.sight, "sightd"), *options], stderr=log, stdout=log)
    while not os.path.exists(endpoint[6:]):
        if process.poll() is not None:
            sys.exit("sightd did not start: " + open(log.name).read())
        time.sleep(0.02)
    return process, endpoint


def request(content, tokens, **more):
    return {"messages": [{"role": "user", "content": content}], "max_tokens": tokens, "temperature": 0.7, "top_k": 20, "seed": 7,
            "enable_thinking": False, "repetition_guard": False, **more}


def ask(endpoint, body, out, i=0):
    """Fills out[i] with the done, the moments of its deltas, and when it began and ended."""
    client = wire.Client(endpoint, 300)
    begun, moments = time.monotonic(), []
    for kind, data in client.events("ask", body):
        if kind == "delta":
            moments.append(time.monotonic())
    out[i] = {"done": data, "moments": moments, "begun": begun, "ended": time.monotonic()}
    client.close()


def worked(pid):
    """Seconds that a process' threads have run, all together."""
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        try:
            with open(path) as file:
                total += int(file.read().split()[0])
        except OSError:
            pass
    return total * 1e-9


def together(process, args, endpoint, n, tokens):
    """Tokens a second of n answers at once, from the first token of the first to the end of the last; and tokens a second that the
    server's threads ran, from beginning to end."""
    out = [None] * n
    threads = [threading.Thread(target=ask, args=(endpoint, request(f"Write about the number {i + 10 * n}.", tokens), out, i))
               for i in range(n)]
    before = worked(process.pid)
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    busy = (worked(process.pid) - before) / args.threads
    begun = min(o["moments"][0] for o in out)
    ended = max(o["ended"] for o in out)
    drawn = sum(o["done"]["usage"]["completion_tokens"] for o in out)
    return drawn / (ended - begun), drawn / busy


def pause(moments, begin, end):
    """The longest time between two moments from begin to end, and the most that processors worked between two."""
    pairs = [(a, b) for a, b in zip(moments, moments[1:]) if b[0] > begin and a[0] < end]
    return max((b[0] - a[0] for a, b in pairs), default=0.0), max((b[1] - a[1] for a, b in pairs), default=0.0)


def beside(process, endpoint, args, body):
    """The longest pauses of a stream, before body is asked and until it is answered, and what became of body."""
    stream, other = [None], [None]
    client_body = request("Tell a very long story.", 4000)
    client = wire.Client(endpoint, 300)
    moments, stop = [], threading.Event()

    def listen():
        id = client.send("ask", client_body)
        while True:
            try:
                got, kind, data = client.receive(1000)
            except wire.Gone:
                continue
            if kind == "delta" and got == id:
                moments.append((time.monotonic(), worked(process.pid) / args.threads))
            if stop.is_set() and got == id:
                client.send("cancel", {"id": id})
                stop.clear()
            if kind in ("done", "error") and got == id:
                stream[0] = kind
                return

    thread = threading.Thread(target=listen)
    thread.start()
    while len(moments) < 8:
        if stream[0]:
            sys.exit(f"the stream ended ({stream[0]}) before anything could be measured: take a model whose answers are long")
        time.sleep(0.05)
    quiet_from = time.monotonic()
    time.sleep(args.quiet)
    quiet_to = time.monotonic()
    ask(endpoint, body, other)
    first = other[0]["moments"][0] if other[0]["moments"] else other[0]["ended"]
    time.sleep(0.3)
    stop.set()
    thread.join()
    return pause(moments, quiet_from, quiet_to), pause(moments, other[0]["begun"], first), first - other[0]["begun"], other[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sight", required=True, help="build folder")
    parser.add_argument("--model")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--together", default="1,2,4,8")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--picture", default="1920x1080", help="size; '': none")
    parser.add_argument("--words", type=int, default=3000, help="of the long text; 0: none")
    parser.add_argument("--quiet", type=float, default=3, help="seconds of the stream alone")
    parser.add_argument("--option", action="append", default=[], help="of sightd; may be given again")
    parser.add_argument("--json")
    args = parser.parse_args()
    numbers = {}
    with tempfile.TemporaryDirectory(prefix="sight-gaps-") as folder:
        picture = os.path.join(folder, "p.jpg")
        if args.picture:
            subprocess.run(["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", f"testsrc2=size={args.picture}", "-frames:v",
                            "1", picture], check=True)
        process, endpoint = start(args, folder)
        try:
            together(process, args, endpoint, 1, 16)
            for n in (int(n) for n in args.together.split(",") if n):
                numbers[f"tok_s_{n}"], numbers[f"tok_work_s_{n}"] = together(process, args, endpoint, n, args.tokens)
                print(f"{n} answers at once: {numbers[f'tok_s_{n}']:.1f} tok/s, {numbers[f'tok_work_s_{n}']:.1f} in a second of work "
                      f"on {args.threads} processors", flush=True)
            text = random.Random(3)
            words = " ".join(str(text.randrange(10 ** 4)) for _ in range(args.words))
            for name, body in (("picture", request([{"type": "image", "image": picture},
                                                    {"type": "text", "text": "What is it?"}], 4)),
                               ("text", request(words, 4))):
                if (name == "picture" and not args.picture) or (name == "text" and not args.words):
                    continue
                quiet, gap, first, other = beside(process, endpoint, args, body)
                usage = other["done"]["usage"]
                numbers[name] = {"quiet_gap_s": quiet[0], "quiet_work_s": quiet[1], "gap_s": gap[0], "gap_work_s": gap[1],
                                 "first_token_s": first, "prompt_tokens": usage["prompt_tokens"]}
                print(f"{name} of {usage['prompt_tokens']} tokens, answered after {first:.1f} s: the stream paused "
                      f"{gap[0] * 1e3:.0f} ms at most, {gap[1] * 1e3:.0f} ms of work on {args.threads} processors (alone "
                      f"{quiet[0] * 1e3:.0f} and {quiet[1] * 1e3:.0f} ms)", flush=True)
        finally:
            process.terminate()
            process.wait()
    if args.json:
        with open(args.json, "w") as file:
            json.dump(numbers, file, indent=1)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Many clients at once: how soon each hears something, how long streams pause, whether all get the same share.

    bench/load.py --sight build [--model FOLDER] [--clients 32] [--minutes 10] [--json OUT.json]
    bench/load.py --sight build --model FOLDER --llama LLAMA/build/bin --gguf GGUF_FOLDER --clients 8 --minutes 3

Each client is a thread with a connection of its own. It asks one question after another: about a text, a picture or a
clip, as --mix says, some of them again about a medium that it has asked about before (--again). All clients are
alike, so their shares can be compared. The server is started here, on the loopback, and its memory is read every
second. With --llama the same questions then go to llama-server (-np 4) with the same weights, for the ratio.
Needs pyzmq and ffmpeg.
"""
import argparse
import base64
import glob
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import wire

QUESTIONS = {"text": "Write a few sentences about the number {n}.", "picture": "What is in picture {n}?",
             "video": "What happens in clip {n}?"}


def make_media(folder, number, size):
    """Files of `number` pictures and clips that all differ."""
    made = {"picture": [], "video": []}
    for i in range(number):
        picture, clip = os.path.join(folder, f"{i}.jpg"), os.path.join(folder, f"{i}.mp4")
        look = f"hue=h={i * 360 / number:.0f},drawbox=x={8 + 7 * i}:y=20:w=40:h=40:color=white:t=fill"
        source = ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", f"testsrc2=size={size}:rate=10", "-vf", look]
        subprocess.run([*source, "-frames:v", "1", picture], check=True)
        subprocess.run([*source, "-t", "4", "-pix_fmt", "yuv420p", clip], check=True)
        made["picture"].append(picture)
        made["video"].append(clip)
    return made


# ---- the two servers ----

class Sight:
    def __init__(self, args, folder):
        self.endpoint = f"ipc://{folder}/run/sightd.sock"
        options = ["--endpoint", self.endpoint, "--threads", str(args.threads), "--log", "warning",
                   "--max-jobs-per-client", "4", *args.option]
        if args.model:
            options += ["--model", args.model]
        self.log = open(os.path.join(folder, "sightd.log"), "w")
        self.process = subprocess.Popen([os.path.join(args.sight, "sightd"), *options], stderr=self.log, stdout=self.log)
        while not os.path.exists(self.endpoint[6:]):
            if self.process.poll() is not None:
                sys.exit("sightd did not start: " + open(self.log.name).read())
            time.sleep(0.02)

    def connect(self):
        return wire.Client(self.endpoint)

    def ask(self, client, question, kind, path, tokens):
        """Yields the text of each delta, then the answer's number of tokens and what it was spared of reading."""
        content = [{"type": "text", "text": question}]
        parts = []
        if path:
            parts = [open(path, "rb").read()]
            content.insert(0, {"type": "image" if kind == "picture" else "video", "attachment": 0})
        body = {"messages": [{"role": "user", "content": content}], "max_tokens": tokens, "temperature": 0,
                "enable_thinking": False, "repetition_guard": False}
        for what, data in client.events("ask", body, parts):
            if what == "delta":
                yield data["text"]
            elif what == "done":
                yield data["usage"]["completion_tokens"], data["usage"]["reused_tokens"] > 0

    def close(self):
        self.process.terminate()
        return self.process.wait(30)


class Llama:
    PORT = 18080

    def __init__(self, args, folder):
        found = lambda pattern: [f for f in glob.glob(os.path.join(args.gguf, pattern))
                                 if "mmproj" not in f or "mmproj" in pattern][0]
        self.log = open(os.path.join(folder, "llama.log"), "w")
        self.process = subprocess.Popen(
            [os.path.join(args.llama, "llama-server"), "-m", found(f"*{args.form}.gguf"), "--mmproj", found("mmproj*.gguf"),
             "-t", str(args.threads), "-np", "4", "-c", "65536", "--video-fps", "2", "--host", "127.0.0.1", "--port",
             str(self.PORT)], stdout=self.log, stderr=self.log)
        while True:
            try:
                c = self.connect()
                c.request("GET", "/health")
                if c.getresponse().status == 200:
                    return
            except OSError:
                pass
            if self.process.poll() is not None:
                sys.exit("llama-server did not start: " + open(self.log.name).read()[-800:])
            time.sleep(0.2)

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.PORT, timeout=3600)

    def ask(self, client, question, kind, path, tokens):
        content = [{"type": "text", "text": question}]
        if path:
            word, mime = ("image_url", "image/jpeg") if kind == "picture" else ("video_url", "video/mp4")
            data = base64.b64encode(open(path, "rb").read()).decode()
            content.insert(0, {"type": word, word: {"url": f"data:{mime};base64,{data}"}})
        body = {"messages": [{"role": "user", "content": content}], "max_tokens": tokens, "temperature": 0, "stream": True,
                "cache_prompt": True, "chat_template_kwargs": {"enable_thinking": False},
                "stream_options": {"include_usage": True}}
        client.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        reply = client.getresponse()
        if reply.status != 200:
            raise RuntimeError(reply.read()[:200])
        usage = {}
        for line in reply:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            usage = event.get("usage") or usage
            if event.get("choices") and event["choices"][0]["delta"].get("content"):
                yield event["choices"][0]["delta"]["content"]
        cached = usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)
        yield usage.get("completion_tokens", 0), cached > 0

    def close(self):
        self.process.terminate()
        return self.process.wait(30)


def resident_mib(pid):
    try:
        with open(f"/proc/{pid}/status") as f:
            return next(int(line.split()[1]) / 1024 for line in f if line.startswith("VmRSS"))
    except (OSError, StopIteration):
        return 0.0


# ---- the clients ----

class Load:
    def __init__(self, server, args, media):
        self.server, self.args, self.media = server, args, media
        self.end = time.monotonic() + 60 * args.minutes
        self.lock = threading.Lock()
        self.answers, self.errors, self.memory = [], [], []

    def client(self, number):
        rng = random.Random(1000 * self.args.seed + number)
        kinds = list(self.args.mix)
        connection, mine = self.server.connect(), []
        while time.monotonic() < self.end:
            kind = rng.choices(kinds, [self.args.mix[k] for k in kinds])[0]
            path = None
            if kind != "text":
                again = [p for k, p in mine if k == kind]
                path = rng.choice(again) if again and rng.random() < self.args.again else rng.choice(self.media[kind])
                mine.append((kind, path))
            question = QUESTIONS[kind].format(n=rng.randrange(10 ** 6))
            try:
                self.note(number, kind, self.server.ask(connection, question, kind, path, self.args.tokens))
            except wire.Refused as e:
                if e.code != "busy":
                    self.fail(number, kind, e)
                time.sleep(min(e.retry_after_s or 1, 5))
            except Exception as e:  # of the network, of what came: all of them are counted
                self.fail(number, kind, e)
                connection = self.server.connect()
                time.sleep(0.5)

    def note(self, number, kind, pieces):
        start, heard, gaps, tokens, reused = time.monotonic(), None, [], 0, False
        for piece in pieces:
            now = time.monotonic()
            if isinstance(piece, tuple):
                tokens, reused = piece
                break
            if heard:
                gaps.append(now - heard)
            else:
                first = now - start
            heard = now
        if heard is None:  # an answer without a word
            first = time.monotonic() - start
        with self.lock:
            self.answers.append({"client": number, "kind": kind, "first": first, "gaps": gaps, "tokens": tokens,
                                 "reused": reused, "total": time.monotonic() - start, "at": time.monotonic()})

    def fail(self, number, kind, error):
        with self.lock:
            self.errors.append(f"client {number}, {kind}: {type(error).__name__}: {error}"[:200])

    def run(self):
        start = time.monotonic()
        threads = [threading.Thread(target=self.client, args=(i,)) for i in range(self.args.clients)]
        for t in threads:
            t.start()
        while any(t.is_alive() for t in threads):
            self.memory.append(resident_mib(self.server.process.pid))
            time.sleep(1)
        self.seconds = time.monotonic() - start
        return self.report()

    def report(self):
        gaps = [g for a in self.answers for g in a["gaps"]]
        per_client = [sum(a["tokens"] for a in self.answers if a["client"] == c) for c in range(self.args.clients)]
        third = max(1, len(self.memory) // 3)
        out = {"seconds": self.seconds, "answers": len(self.answers), "errors": len(self.errors), "first_errors": self.errors[:5],
               "tokens": sum(per_client), "tokens_per_s": sum(per_client) / self.seconds,
               "answers_per_s": len(self.answers) / self.seconds,
               "share_max_over_min": max(per_client) / max(1, min(per_client)),
               "first_s": points([a["first"] for a in self.answers]), "gap_s": points(gaps),
               "first_s_of": {k: points([a["first"] for a in self.answers if a["kind"] == k]) for k in self.args.mix},
               "reused": sum(a["reused"] for a in self.answers) / max(1, len(self.answers)),
               "memory_mib": {"peak": max(self.memory), "second_third": statistics.median(self.memory[third:2 * third] or [0]),
                              "last_third": statistics.median(self.memory[-third:])}}
        return out


def points(values):
    v = sorted(values)
    at = lambda q: v[min(len(v) - 1, int(q * len(v)))] if v else None
    return {"n": len(v), "p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "max": v[-1] if v else None}


def run_one(make, args, media, folder):
    server = make(args, folder)
    try:
        result = Load(server, args, media).run()
    finally:
        result_code = server.close()
    result["exit_code"] = result_code
    return result


def show(name, r):
    second = lambda p: f"{p['p50']:.3f} / {p['p95']:.3f} / {p['max']:.3f}" if p["n"] else "-"
    print(f"{name}: {r['answers']} answers, {r['errors']} errors in {r['seconds']:.0f} s; {r['tokens_per_s']:.1f} tokens/s, "
          f"{r['reused']:.0%} reused; largest share over smallest {r['share_max_over_min']:.2f}")
    print(f"  to the first token, p50 / p95 / max s: {second(r['first_s'])}")
    for kind, p in r["first_s_of"].items():
        print(f"    {kind}: {second(p)} ({p['n']})")
    print(f"  between two pieces of text: {second(r['gap_s'])}")
    m = r["memory_mib"]
    print(f"  memory MiB: peak {m['peak']:.0f}, median of the second third {m['second_third']:.0f}, of the last {m['last_third']:.0f}")
    for line in r["first_errors"]:
        print("  " + line)


def read_mix(text):
    mix = {k: float(v) for k, v in (part.split("=") for part in text.split(","))}
    if set(mix) - set(QUESTIONS):
        raise argparse.ArgumentTypeError(f"kinds are {', '.join(QUESTIONS)}")
    return mix


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--sight", required=True, help="the build folder with sightd")
    p.add_argument("--model", help="default: the bundled one")
    p.add_argument("--llama", help="the folder with llama-server, to ask it the same")
    p.add_argument("--gguf", help="for llama-server: *FORM.gguf and mmproj*.gguf")
    p.add_argument("--form", default="Q8_0", help="of llama-server's weights")
    p.add_argument("--clients", type=int, default=32)
    p.add_argument("--minutes", type=float, default=10)
    p.add_argument("--mix", type=read_mix, default="text=0.5,picture=0.3,video=0.2")
    p.add_argument("--again", type=float, default=0.3, help="part of the questions that are about a medium again")
    p.add_argument("--media", type=int, default=40, help="pictures and clips that there are")
    p.add_argument("--size", default="320x240", help="of these")
    p.add_argument("--tokens", type=int, default=48, help="of an answer")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--option", action="append", default=[], help="for sightd: --option=--max-running=8; may be given again")
    p.add_argument("--json", help="where to write the results")
    args = p.parse_args()
    with tempfile.TemporaryDirectory(prefix="sight-load-") as folder:
        media = make_media(folder, args.media, args.size)
        results = {"command": " ".join(sys.argv), "sight": run_one(Sight, args, media, folder)}
        show("sight", results["sight"])
        if args.llama:
            results["llama"] = run_one(Llama, args, media, folder)
            show("llama-server", results["llama"])
            ours, theirs = results["sight"], results["llama"]
            ratio = lambda a, b: a / b if a and b else None
            results["ratio"] = {"tokens_per_s": ratio(ours["tokens_per_s"], theirs["tokens_per_s"]),
                                "first_p95": ratio(theirs["first_s"]["p95"], ours["first_s"]["p95"]),
                                "longest_gap": ratio(theirs["gap_s"]["max"], ours["gap_s"]["max"])}
            print("ratios (over 1: sight is better):", json.dumps(results["ratio"]))
        if args.json:
            with open(args.json, "w") as f:
                json.dump(results, f, indent=1)


if __name__ == "__main__":
    main()

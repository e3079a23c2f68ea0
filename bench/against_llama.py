#!/usr/bin/env python3
"""Measures sight beside llama.cpp on the same machine and the same weights, in turn.

    bench/against_llama.py --sight build --llama LLAMA/build/bin --model FOLDER --gguf GGUF_FOLDER \\
        [--threads 2] [--rounds 5] [--works decode_bf16,prefill_512,...] [--json OUT.json]

FOLDER is a checkpoint of the 0.8B shape with its tokenizer; GGUF_FOLDER holds the same weights as llama.cpp
wants them: *bf16.gguf, *Q8_0.gguf, *Q4_K_M.gguf and mmproj*.gguf (its convert_hf_to_gguf.py and llama-quantize
make them). Rounds alternate, ours then theirs, and the median of each side is kept with the median of the
rounds' ratios (over 1: sight is faster, or smaller). Needs ffmpeg for the picture and the clips.
"""
import argparse
import glob
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HIGHER, LOWER = 1, -1  # which way is better


class Bench:
    def __init__(self, args):
        self.args = args
        self.folder = tempfile.mkdtemp(prefix="sight-bench-")
        self.pictures = {}

    # ---- what both sides look at ----

    def media(self, kind, width, height, seconds=0):
        ext = "mp4" if seconds else "png"
        path = os.path.join(self.folder, f"{kind}-{width}x{height}-{seconds}.{ext}")
        if not os.path.exists(path):
            source = f"testsrc2=size={width}x{height}:rate={25 if seconds else 1}"
            cut = ["-t", str(seconds), "-pix_fmt", "yuv420p", "-g", "50"] if seconds else ["-frames:v", "1"]
            subprocess.run(["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", source, *cut, path], check=True)
        return path

    def gguf(self, pattern):
        found = [f for f in glob.glob(os.path.join(self.args.gguf, pattern)) if "mmproj" not in f or "mmproj" in pattern]
        if not found:
            sys.exit(f"{self.args.gguf} holds no {pattern}")
        return found[0]

    # ---- ours ----

    def sight_bench(self, works, weights):
        command = [os.path.join(self.args.sight, "sight"), "bench", "--model", self.args.model, "--threads",
                   str(self.args.threads), "--weights", weights, "--only", works, "--json"]
        return json.loads(run(command).stdout)

    def sight_ask(self, media, options, watch=None):
        """One question with a daemon of its own: seconds to the end, and what watch saw of the daemon."""
        home = tempfile.mkdtemp(prefix="run-", dir=self.folder)
        env = dict(os.environ, XDG_RUNTIME_DIR=home)
        command = [os.path.join(self.args.sight, "sight"), "ask", "-m", self.args.model, "-t", str(self.args.threads),
                   "--json", *options, media, "Describe."]
        start = time.monotonic()
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        seen = watch(process, home) if watch else None
        out, errors = process.communicate()
        seconds = time.monotonic() - start
        peak = max((memory(pid)["VmHWM"] for pid in daemons(home)), default=0)
        for pid in daemons(home):
            os.kill(pid, 15)
        if process.returncode and not watch:
            sys.exit(f"{' '.join(command)}: {errors.strip()}")
        return seconds, peak, seen

    # ---- theirs ----

    def llama_bench(self, form, options):
        command = [self.llama("llama-bench"), "-m", self.gguf(f"*{form}.gguf"), "-t", str(self.args.threads), "-r", "1", "-o",
                   "json", *options]
        return json.loads(run(command).stdout)[0]["avg_ts"]

    def llama_batched(self, form):
        command = [self.llama("llama-batched-bench"), "-m", self.gguf(f"*{form}.gguf"), "-t", str(self.args.threads), "-c",
                   "4096", "-npp", "16", "-ntg", "32", "-npl", "8"]
        rows = [line.split("|") for line in run(command).stdout.splitlines() if re.match(r"\|\s+\d", line)]
        return float(rows[-1][8])

    def llama_mtmd(self, media, tokens, video=False):
        what = ["--video", media, "--video-fps", "2"] if video else ["--image", media]
        command = ["/usr/bin/time", "-v", self.llama("llama-mtmd-cli"), "-m", self.gguf("*bf16.gguf"), "--mmproj",
                   self.gguf("mmproj*.gguf"), *what, "-p", "Describe.", "-t", str(self.args.threads), "-n", str(tokens),
                   "-c", "8192", "--temp", "0", "-lv", "4"]
        start = time.monotonic()
        result = run(command)
        seconds = time.monotonic() - start
        text = result.stdout + result.stderr
        encode_ms = sum(float(ms) for ms in re.findall(r"encoding done in (\d+) ms", text))
        peak = int(re.search(r"Maximum resident set size \(kbytes\): (\d+)", text).group(1)) / 1024
        return seconds, encode_ms, peak

    def llama(self, program):
        return os.path.join(self.args.llama, program)


def run(command):
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(command)} ended with {result.returncode}: {result.stderr.strip()[-400:]}")
    return result


def memory(pid):
    """MiB of each Vm* and Rss* line of a process."""
    try:
        with open(f"/proc/{pid}/status") as f:
            return {m[1]: int(m[2]) / 1024 for m in map(re.compile(r"(\w+):\s+(\d+) kB").match, f) if m}
    except OSError:
        return {"VmHWM": 0, "RssAnon": 0, "VmRSS": 0}


def daemons(home):
    """The sightd processes that were started with that runtime folder."""
    found = []
    for folder in glob.glob("/proc/[0-9]*"):
        try:
            with open(folder + "/environ", "rb") as f:
                ours = f"XDG_RUNTIME_DIR={home}".encode() in f.read()
            if ours and os.path.basename(os.readlink(folder + "/exe")) == "sightd":
                found.append(int(os.path.basename(folder)))
        except OSError:
            pass
    return found


def memory_before_encode(process, home):
    """The most anonymous memory (MiB) the daemon had until its first frames were encoded."""
    import threading
    most, stop = [0.0], threading.Event()

    def poll():
        while not stop.wait(0.02):
            most[0] = max([most[0]] + [memory(pid).get("RssAnon", 0) for pid in daemons(home)])

    thread = threading.Thread(target=poll)
    thread.start()
    for line in process.stdout:
        event = json.loads(line)
        if event.get("data", {}).get("stage") == "encode" or event.get("event") in ("delta", "done", "error"):
            break
    stop.set()
    thread.join()
    process.kill()
    return most[0]


# ---- the works: name -> (words, unit, which way is better, ours, theirs) ----

def works(b):
    table = {}

    def bench_work(name, words, key, weights, theirs, way=HIGHER, unit="tok/s", works_name=None):
        ours = lambda: b.sight_bench(works_name or name.rsplit("_", 1)[0], weights)[key]
        table[name] = (words, unit, way, ours, theirs)

    forms = {"bf16": ("bf16", "bf16"), "int8": ("8-bit", "Q8_0"), "int4": ("4-bit", "Q4_K_M")}
    for form, (words, peer) in forms.items():
        bench_work(f"decode_{form}", f"decode {words}, depth 0, against {peer}", "decode_tok_s", form,
                   lambda peer=peer: b.llama_bench(peer, ["-p", "0", "-n", "48"]))
        bench_work(f"decode_4096_{form}", f"decode {words}, depth 4096, against {peer}", "decode_4096_tok_s", form,
                   lambda peer=peer: b.llama_bench(peer, ["-p", "0", "-n", "32", "-d", "4096"]))
    # The best of our forms against its best: 8-bit products for many rows, 4-bit ones for few.
    for n in (512, 2048):
        bench_work(f"prefill_{n}_best", f"prefill {n}, best (8-bit) against best (Q4_K_M)", f"prefill_{n}_tok_s", "int8",
                   lambda n=n: b.llama_bench("Q4_K_M", ["-p", str(n), "-n", "0"]))
    bench_work("batch8_decode_best", "8 sequences together, best (4-bit) against best (Q4_K_M)", "batch8_decode_tok_s", "int4",
               lambda: b.llama_batched("Q4_K_M"))
    for w, h in ((640, 480), (1920, 1080)):
        for form in ("bf16", "int8"):
            bench_work(f"vision_{w}x{h}_{form}", f"picture {w}x{h}, encode, {forms[form][0]} against bf16",
                       f"vision_{w}x{h}_ms", form, lambda w=w, h=h: b.llama_mtmd(b.media("picture", w, h), 1)[1], LOWER, "ms")
    one = ["-n", "1", "--temperature", "0", "--no-think"]
    clip = lambda: b.media("clip", 640, 480, 10)
    for form in forms:
        table[f"clip_{form}"] = (f"10 s clip at 2 fps, start to first token, {forms[form][0]}, against bf16", "s", LOWER,
                                 lambda form=form: b.sight_ask(clip(), [*one, "--fps", "2", "--weights", form])[0],
                                 lambda: b.llama_mtmd(clip(), 1, video=True)[0])
    table["memory_picture"] = ("peak memory with a picture 640x480, bf16", "MiB", LOWER,
                               lambda: b.sight_ask(b.media("picture", 640, 480), ["-n", "16", "--weights", "bf16"])[1],
                               lambda: b.llama_mtmd(b.media("picture", 640, 480), 16)[2])
    table["memory_video"] = ("5 minutes of video, memory over the weights before the first encode", "MiB", LOWER,
                             lambda: b.sight_ask(b.media("clip", 640, 480, 300), [*one, "--weights", "bf16"],
                                                 memory_before_encode)[2], None)
    return table


def measure(b, names):
    table, results = works(b), {}
    unknown = [n for n in names if n not in table]
    if unknown:
        sys.exit(f"no work {unknown[0]}; there are {', '.join(table)}")
    for name in names or table:
        words, unit, way, ours, theirs = table[name]
        mine, peers = [], []
        for _ in range(b.args.rounds):
            mine.append(ours())
            if theirs:
                peers.append(theirs())
        ratios = [m / p if way == HIGHER else p / m for m, p in zip(mine, peers)]
        results[name] = {"words": words, "unit": unit, "sight": statistics.median(mine), "rounds": mine}
        if peers:
            results[name].update(llama=statistics.median(peers), ratio=statistics.median(ratios), llama_rounds=peers)
        print(row(results[name]), flush=True)
        if b.args.json:
            with open(b.args.json, "w") as f:
                json.dump(results, f, indent=1)
    return results


def row(r):
    peer = f"{r['llama']:.4g} {r['unit']} | {r['ratio']:.2f}x" if "llama" in r else "- | -"
    return f"| {r['words']} | {r['sight']:.4g} {r['unit']} | {peer} |"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--sight", required=True, help="the build folder with sight and sightd")
    p.add_argument("--llama", required=True, help="the folder with llama-bench and llama-mtmd-cli")
    p.add_argument("--model", required=True)
    p.add_argument("--gguf", required=True)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--works", default="")
    p.add_argument("--json")
    args = p.parse_args()
    b = Bench(args)
    try:
        print("| work | sight | llama.cpp | ratio |\n|---|---|---|---|")
        measure(b, [w for w in args.works.split(",") if w])
    finally:
        shutil.rmtree(b.folder, ignore_errors=True)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Asks a running sightd about scenes of seeds that training never draws, and prints accuracy per kind of question.

    sightd --model models/mini --endpoint ipc:///tmp/mini.sock &
    tools/mini/evaluate.py --endpoint ipc:///tmp/mini.sock --scenes 200 [--markdown]

An answer counts when it is the true one to the letter. What is measured is the daemon's own path: files, decoder,
prompt, vision and text. The interval is Wilson's, 95 %.
"""
import argparse
import json
import math
import random
import sys
import tempfile

import zmq

import media
from scenes import TASKS, draw, seed_of


class Daemon:
    def __init__(self, endpoint):
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.connect(endpoint)
        self.n = 0

    def ask(self, request):
        self.n += 1
        name = f"e{self.n}".encode()
        self.socket.send_multipart([b"SIGHT1", name, b"ask", json.dumps(request).encode()])
        text = ""
        while True:
            _, identity, event, body = self.socket.recv_multipart()
            if identity != name:
                continue
            body = json.loads(body)
            if event == b"delta" and body["channel"] == "answer":
                text += body["text"]
            elif event == b"done":
                return text
            elif event == b"error":
                raise RuntimeError(body["message"])


def wilson(right, n, z=1.96):
    p, centre = right / n, right / n + z * z / (2 * n)
    spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (centre - spread) / (1 + z * z / n), (centre + spread) / (1 + z * z / n)


def question(path, kind, text, max_tokens=96):
    part = {"type": kind, kind: str(path)}
    return {"messages": [{"role": "user", "content": [part, {"type": "text", "text": text}]}],
            "temperature": 0, "max_tokens": max_tokens}


def scores(daemon, names, n_scenes, show):
    """{(task, kind): [right, asked]}"""
    out = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            tasks = TASKS[name]
            for i in range(n_scenes):
                task = tasks[i % len(tasks)]
                rng = random.Random(seed_of("evaluation", name, i))
                timing = media.natural_times(rng, task.n_frames) if task.kind == "clip" else None
                scene = draw(rng, task, timing and timing[2])
                path = media.write(scene, timing, folder, "scene")
                for q in scene.questions:
                    answer = daemon.ask(question(path, "video" if timing else "image", q.text))
                    score = out.setdefault((name, q.kind), [0, 0])
                    score[0] += answer == q.answer
                    score[1] += 1
                    if show and answer != q.answer:
                        print(f"{name}/{q.kind} scene {i}: {q.text!r} -> {answer!r}, true {q.answer!r}")
                if sys.stderr.isatty():
                    print(f"\r{name} {i + 1} of {n_scenes}  ", end="", file=sys.stderr)
    return out


def print_scores(out, markdown):
    if markdown:
        print("| task | question | accuracy | 95 % interval | asked |\n|---|---|---|---|---|")
    for (name, kind), (right, n) in sorted(out.items()):
        low, high = (100 * x for x in wilson(right, n))
        if markdown:
            print(f"| {name} | {kind} | {100 * right / n:.1f} % | {low:.1f} - {high:.1f} | {n} |")
        else:
            print(f"{name:8s} {kind:14s} {100 * right / n:5.1f} %  ({low:.1f} - {high:.1f}, n = {n})")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--scenes", type=int, default=100, help="per task")
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=TASKS)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--show-wrong", action="store_true")
    options = parser.parse_args()
    print_scores(scores(Daemon(options.endpoint), options.tasks, options.scenes, options.show_wrong), options.markdown)


if __name__ == "__main__":
    main()

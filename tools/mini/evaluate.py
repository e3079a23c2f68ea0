#!/usr/bin/env python3
"""Asks a running sightd about scenes of seeds that training never draws, and prints accuracy per kind of question.

    sightd --model models/mini --endpoint ipc:///tmp/mini.sock &
    tools/mini/evaluate.py --endpoint ipc:///tmp/mini.sock --scenes 200 [--markdown] [--json OUT.json]

An answer counts when it is the true one to the letter; a box when it covers the true one by more than half (intersection over
union); seconds within half a second, values off an axis within a tick; of a page the share of characters that are right (by edit distance).
What is measured is the daemon's own path: files, decoder, prompt, vision and text. The interval is Wilson's, 95 %. Of yes or no
the expected calibration error is told (ten bins of the daemon's `confidence`).
"""
import argparse
import json
import math
import random
import re
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
        """(answer, confidence: of the first token, None where the daemon does not say)."""
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
                return text, body.get("confidence")
            elif event == b"error":
                raise RuntimeError(body["message"])


def wilson(right, n, z=1.96):
    p, centre = right / n, right / n + z * z / (2 * n)
    spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (centre - spread) / (1 + z * z / n), (centre + spread) / (1 + z * z / n)


def request(paths, is_clip, q, max_tokens=320):
    """The messages of a question about the media, the turn before it included."""
    kind = "video" if is_clip else "image"
    media_parts = [{"type": kind, kind: str(path)} for path in paths]
    turns = [*(q.before or ()), q.text]
    messages = [{"role": "assistant" if i % 2 else "user",
                 "content": text if i else [*media_parts, {"type": "text", "text": text}]} for i, text in enumerate(turns)]
    return {"messages": messages, "temperature": 0, "max_tokens": max_tokens, "repetition_guard": False}


def numbers_of(text):
    return [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?", text)]


def overlap(a, b):
    """Intersection over union of two boxes as texts."""
    a, b = numbers_of(a), numbers_of(b)
    if len(a) != 4 or len(b) != 4:
        return 0
    area = lambda box: max(0, box[2] - box[0]) * max(0, box[3] - box[1])
    both = area([max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])])
    return both / max(1e-9, area(a) + area(b) - both)


def edits(a, b):
    """Levenshtein's distance."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


def score(name, q, answer):
    """1 or 0, or of a page's text how much of it."""
    if q.kind == "box":
        return float(overlap(answer, q.answer) > 0.5)
    if q.tolerance:
        said, true = numbers_of(answer), numbers_of(q.answer)
        return float(len(said) == 1 and abs(said[0] - true[0]) <= q.tolerance + 1e-6)
    if name == "page" and q.kind == "read":
        return max(0.0, 1 - edits(answer, q.answer) / len(q.answer))
    return float(answer == q.answer)


def scores(daemon, names, n_scenes, show):
    """{(task, kind): [score of each answer]}, and (confidence, score) of each yes or no."""
    out, sure = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            tasks = TASKS[name]
            for i in range(n_scenes):
                task = tasks[i % len(tasks)]
                rng = random.Random(seed_of("evaluation", name, i))
                timing = media.natural_times(rng, task.n_frames) if task.kind == "clip" else None
                scene = draw(rng, task, timing and timing[2])
                paths = media.write(scene, timing, folder, "scene")
                for q in scene.questions:
                    answer, confidence = daemon.ask(request(paths, bool(timing), q))
                    out.setdefault((name, q.kind), []).append(score(name, q, answer))
                    if q.kind == "yesno" and confidence is not None:
                        sure.append((confidence, out[name, q.kind][-1]))
                    if show and out[name, q.kind][-1] < 1:
                        print(f"{name}/{q.kind} scene {i}: {q.text!r} -> {answer!r}, true {q.answer!r}")
                if sys.stderr.isatty():
                    print(f"\r{name} {i + 1} of {n_scenes}  ", end="", file=sys.stderr)
    return out, sure


def calibration_error(sure, bins=10):
    """Expected calibration error: how far confidence is from being right, over bins of confidence."""
    of_bin = [[(c, r) for c, r in sure if min(bins - 1, int(c * bins)) == b] for b in range(bins)]
    return sum(abs(sum(c for c, _ in b) - sum(r for _, r in b)) for b in of_bin) / len(sure)


def print_scores(out, sure, markdown):
    if markdown:
        print("| task | question | accuracy | 95 % interval | asked |\n|---|---|---|---|---|")
    for (name, kind), values in sorted(out.items()):
        n, right = len(values), sum(values)
        low, high = (100 * x for x in wilson(right, n))
        if markdown:
            print(f"| {name} | {kind} | {100 * right / n:.1f} % | {low:.1f} - {high:.1f} | {n} |")
        else:
            print(f"{name:8s} {kind:14s} {100 * right / n:5.1f} %  ({low:.1f} - {high:.1f}, n = {n})")
    if sure:
        print(f"yes or no: expected calibration error {calibration_error(sure):.3f} (n = {len(sure)})")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--scenes", type=int, default=100, help="per task")
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=TASKS)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--show-wrong", action="store_true")
    parser.add_argument("--json", help="where to write all scores")
    options = parser.parse_args()
    out, sure = scores(Daemon(options.endpoint), options.tasks, options.scenes, options.show_wrong)
    print_scores(out, sure, options.markdown)
    if options.json:
        with open(options.json, "w") as f:
            json.dump(dict(scores={f"{name}/{kind}": v for (name, kind), v in out.items()}, yes_or_no=sure), f)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Asks sightd about scenes of seeds that training never draws, and prints accuracy per kind of question.

    tools/mini/evaluate.py --sightd build/sightd --model models/mini --answers 1000 --markdown
    tools/mini/evaluate.py --sightd build/sightd --model models/mini --daemon --weights int8
    tools/mini/evaluate.py --endpoint ipc:///tmp/mini.sock --tasks video still --wrong /tmp/wrong

An answer counts when it is the true one to the letter; a box when it covers the true one by more than half (intersection over
union); seconds within half a second, values off an axis within a tick; of a page the share of characters that are right (by edit distance).
What is measured is the daemon's own path: files, decoder, prompt, vision and text. The interval is Wilson's, 95 %. Of yes or no
the expected calibration error is told (ten bins of the daemon's `confidence`).
"""
import argparse
import collections
import contextlib
import json
import random
import sys
import tempfile
from pathlib import Path

import media
from asking import Sightd, request, started
from scenes import TASKS, draw, seed_of
from scoring import binned, calibration_error, score, wilson

SCENES_PER_ANSWER = 8  # so many scenes are drawn at most for each answer that is wanted of a rare kind
WRONG_PER_KIND = 2


class Asked:
    """A scene's question. left: how many answers about the scene are still to come, shared by its questions."""

    def __init__(self, name, number, q, scene, paths, left):
        self.name, self.number, self.q, self.scene, self.paths, self.left = name, number, q, scene, paths, left

    def done(self):
        self.left[0] -= 1
        for path in self.paths if not self.left[0] else ():
            path.unlink()


def questions(names, n_answers, folder):
    """(Asked, request) until there are n_answers of every kind of question, or a kind is too rare for that."""
    for name in names:
        asked, tasks = collections.Counter(), TASKS[name]
        useless = 0  # scenes in a row that had nothing to ask
        for i in range(n_answers * SCENES_PER_ANSWER):
            task = tasks[i % len(tasks)]
            rng = random.Random(seed_of("evaluation", name, i))
            timing = media.natural_times(rng, task.n_frames) if task.kind == "clip" else None
            scene = draw(rng, task, timing and timing[2])
            wanted = []
            for q in scene.questions:
                if asked[q.kind] < n_answers:
                    asked[q.kind] += 1
                    wanted.append(q)
            useless = 0 if wanted else useless + 1
            if useless > 200:
                break
            if wanted:
                paths, left = media.write(scene, timing, folder, f"{name}-{i}"), [len(wanted)]
                for q in wanted:
                    yield Asked(name, i, q, scene, paths, left), request(paths, bool(timing), q)
            if sys.stderr.isatty():
                print(f"\r{name}: {sum(asked.values())} questions  ", end="", file=sys.stderr)


def keep_wrong(folder, a, answer, kept):
    """A picture of what was seen (a clip's frames side by side), and the question with both answers."""
    from PIL import Image
    kind = f"{a.name}-{a.q.kind}"
    if kept[kind] >= WRONG_PER_KIND:
        return
    kept[kind] += 1
    folder.mkdir(parents=True, exist_ok=True)
    frames = a.scene.frames
    sheet = Image.new("RGB", (frames.shape[2] * len(frames), frames.shape[1]))
    for i, frame in enumerate(frames):
        sheet.paste(Image.fromarray(frame), (i * frames.shape[2], 0))
    sheet.save(folder / f"{kind}-{kept[kind]}.png")
    with open(folder / "wrong.tsv", "a") as f:
        f.write("\t".join((f"{kind}-{kept[kind]}.png", *(json.dumps(t) for t in (a.q.text, answer, a.q.answer)))) + "\n")


def ask_all(sightd, names, n_answers, show, wrong):
    """{(task, kind): [score of each answer]}, and (confidence, score) of each yes or no."""
    out, sure, kept = collections.defaultdict(list), [], collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        for a, answer, confidence in sightd.answers(questions(names, n_answers, folder)):
            right = score(a.name, a.q, answer)
            out[a.name, a.q.kind].append(right)
            if a.q.kind == "yesno" and confidence is not None:
                sure.append((confidence, right))
            if right < 1 and show:
                print(f"{a.name}/{a.q.kind} scene {a.number}: {a.q.text!r} -> {answer!r}, true {a.q.answer!r}")
            if right < 1 and wrong:
                keep_wrong(wrong, a, answer, kept)
            a.done()
    return out, sure


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


def plot_calibration(sure, path):
    """How often a yes or no is right, by how sure the model said it was."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    bins = binned(sure)
    figure, (above, below) = pyplot.subplots(2, 1, figsize=(5, 6), sharex=True, height_ratios=(3, 1))
    above.plot((0, 1), (0, 1), ":", color="grey")
    above.plot([c for c, _, _ in bins], [r for _, r, _ in bins], "o-")
    above.set(ylabel="right", xlim=(0, 1), ylim=(0, 1), title=f"yes or no, error {calibration_error(sure):.3f}")
    below.bar([c for c, _, _ in bins], [n for _, _, n in bins], width=0.05)
    below.set(xlabel="confidence", ylabel="answers")
    figure.savefig(path, dpi=80)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--endpoint", help="of a running sightd, on this machine")
    where.add_argument("--sightd", help="the program, started for this")
    parser.add_argument("--model", default=str(Path(__file__).parents[2] / "models" / "mini"), help="with --sightd")
    parser.add_argument("--answers", type=int, default=100, help="per kind of question")
    parser.add_argument("--at-once", type=int, default=8, help="questions on their way")
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=TASKS)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--show-wrong", action="store_true")
    parser.add_argument("--wrong", type=Path, help="a folder for pictures of what was answered wrong, with wrong.tsv")
    parser.add_argument("--json", help="where to write all scores")
    parser.add_argument("--calibration", help="where to draw the plot of yes or no")
    parser.add_argument("--daemon", nargs=argparse.REMAINDER, default=[], help="sightd's options, the last of the line")
    options = parser.parse_args()
    with started(options.sightd, options.model, options.daemon) if options.sightd else contextlib.nullcontext(options.endpoint) as endpoint:
        out, sure = ask_all(Sightd(endpoint, options.at_once), options.tasks, options.answers, options.show_wrong, options.wrong)
    print_scores(out, sure, options.markdown)
    if options.calibration and sure:
        plot_calibration(sure, options.calibration)
    if options.json:
        with open(options.json, "w") as f:
            json.dump(dict(scores={f"{name}/{kind}": v for (name, kind), v in out.items()}, yes_or_no=sure), f)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Writes a list of requests, with the true answers in them, about scenes that training never draws: what `sight compare`
reads to say what a form of the weights costs.   usage: compare.py FOLDER [SCENES]

    tools/mini/compare.py /tmp/scenes 20
    sight compare --model models/mini --weights int8 --requests /tmp/scenes/requests.json
"""
import json
import random
import sys
from pathlib import Path

import asking
import media
from scenes import TASKS, draw, seed_of


def request(paths, is_clip, q):
    asked = asking.request([path.name for path in paths], is_clip, q)["messages"]
    return {"messages": [*asked, {"role": "assistant", "content": q.answer}]}


def main(folder, n_scenes):
    folder.mkdir(parents=True, exist_ok=True)
    requests = []
    for name in TASKS:
        tasks = TASKS[name]
        for i in range(n_scenes):
            task = tasks[i % len(tasks)]
            rng = random.Random(seed_of("evaluation", name, i))
            timing = media.natural_times(rng, task.n_frames) if task.kind == "clip" else None
            scene = draw(rng, task, timing and timing[2])
            paths = media.write(scene, timing, folder, f"{name}-{i}")
            requests += [request(paths, bool(timing), q) for q in scene.questions]
    (folder / "requests.json").write_text(json.dumps(requests, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 20)

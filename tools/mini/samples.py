#!/usr/bin/env python3
"""Draws the demo's clips and picture from fixed seeds that neither training nor evaluation uses, with their questions
and true answers.   usage: samples.py FOLDER

The seeds are the first ones of their names: none was chosen for its answers.
"""
import random
import sys
from pathlib import Path

import media
from scenes import TASKS, draw, seed_of

# (file, task, kinds of question to ask about it: those that the model card rates at 90 % or more)
SAMPLES = [("clip-1", "video", ["moves", "direction", "colour", "count"]),
           ("clip-2", "video", ["moves", "direction", "shape", "count"]),
           ("picture", "still", ["shape", "colour", "what", "count"])]


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    asked = []
    for name, task_name, kinds in SAMPLES:
        task = TASKS[task_name][0]
        rng = random.Random(seed_of("demo", name))
        timing = media.natural_times(rng, task.n_frames) if task.kind == "clip" else None
        scene = draw(rng, task, timing and timing[2])
        codec = ("-c:v", "libx264", "-crf", "12", "-pix_fmt", "yuv444p")
        path, = media.write(scene, timing, folder, name, codec, "mp4")
        for kind in kinds:
            for q in [q for q in scene.questions if q.kind == kind][:1]:
                asked.append("\t".join((path.name, q.text, q.answer)))
    (folder / "questions.tsv").write_text("\n".join(asked) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

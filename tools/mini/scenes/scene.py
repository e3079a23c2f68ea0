"""What a scene is, which tasks there are, and drawing one by task and seed."""
import json
import random
import zlib
from dataclasses import dataclass, field

import numpy as np

NUMBERS = ["Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine"]


@dataclass
class Question:
    kind: str
    text: str
    answer: str
    before: tuple = None        # (question, answer) of the turn before, which this one goes on from
    tolerance: float = 0        # of a number in the answer, for it to count as right


class Questions:
    """Collects questions, each in one of several phrasings."""

    def __init__(self, rng):
        self.rng, self.asked = rng, []

    def ask(self, kind, phrasings, answer, before=None, tolerance=0):
        self.asked.append(Question(kind, self.rng.choice(phrasings), answer, before, tolerance))

    def ask_json(self, kind, what, value):
        """For an answer in JSON. what: "the total and the date"."""
        self.ask(kind, [f"Give {what} as JSON.", f"Answer in JSON: {what}.", f"Return {what} as a JSON object."], as_json(value))

    def cannot_see(self, phrasings, thing):
        """About something that is not there."""
        self.ask("unseen", phrasings, f"I cannot see {thing}.")

    def follow(self, kind, first_kind, phrasings, answer):
        """A second question after one of the first kind that was asked already."""
        first = [q for q in self.asked if q.kind == first_kind and not q.before]
        if first:
            chosen = self.rng.choice(first)
            self.ask(kind, phrasings, answer, (chosen.text, chosen.answer))


def as_json(value):
    """As json_dumps writes it everywhere: ", " and ": "."""
    return json.dumps(value, ensure_ascii=False)


def box_text(box, width, height):
    """Corners in thousandths of the picture, to ten: "[120, 340, 260, 480]"."""
    scaled = [box[0] / width, box[1] / height, box[2] / width, box[3] / height]
    return as_json([10 * min(100, max(0, round(100 * v))) for v in scaled])


@dataclass
class Scene:
    frames: np.ndarray          # uint8 [F, H, W, 3]
    times: list                 # seconds of the frame pairs; None for pictures
    questions: list
    # What is where, for the auxiliary loss in training:
    objects: list = field(default_factory=list)     # (pair, x, y, radius, colour, shape, direction), ids from 1
    characters: list = field(default_factory=list)  # (pair, x, y, character), ids from 1


@dataclass(frozen=True)
class Task:
    """Scenes of one kind and size; all of a batch share it. Sizes are multiples of 32."""
    kind: str                   # clip, picture, change (two pictures), document, table, bars, line or pie
    n_frames: int
    width: int
    height: int
    amount: int = 0             # lines of a document (0: a few characters), rows of a table, values of a chart

    @property
    def written(self):
        """Whether there is text to read."""
        return self.kind not in ("clip", "picture", "change")


# The plus sign marks sizes that are trained less; the evaluation reports them apart.
TASKS = {
    "video": [Task("clip", 8, 96, 96)],
    "video+": [Task("clip", 6, 96, 96), Task("clip", 12, 96, 96), Task("clip", 8, 128, 96), Task("clip", 8, 64, 64)],
    "still": [Task("picture", 1, 96, 96), Task("picture", 1, 128, 128)],
    "still+": [Task("picture", 1, 160, 128), Task("picture", 1, 64, 64), Task("picture", 1, 192, 192)],
    "change": [Task("change", 2, 96, 96), Task("change", 2, 128, 96)],
    "tiny": [Task("document", 1, 64, 32, 0)],
    "word": [Task("document", 1, 128, 32, 1), Task("document", 1, 192, 32, 1)],
    "doc": [Task("document", 1, 160, 64, 2), Task("document", 1, 160, 96, 3)],
    "doc+": [Task("document", 1, 192, 128, 4), Task("document", 1, 128, 64, 2)],
    "page": [Task("document", 1, 256, 192, 8), Task("document", 1, 256, 256, 11)],
    "table": [Task("table", 1, 192, 96, 3), Task("table", 1, 224, 128, 4)],
    "chart": [Task("bars", 1, 160, 96, 3), Task("bars", 1, 192, 128, 4)],
    "chart+": [Task("bars", 1, 192, 128, 5), Task("bars", 1, 128, 96, 2)],
    "line": [Task("line", 1, 192, 128, 4), Task("line", 1, 192, 128, 5)],
    "pie": [Task("pie", 1, 160, 128, 3), Task("pie", 1, 160, 128, 4)],
}


def seed_of(*parts):
    """A seed from words and numbers, the same on every machine."""
    return zlib.crc32(repr(parts).encode())


def draw(seed, task, times=None):
    """The scene of a seed (an int, or a random.Random to go on with). times: a clip's pair times, drawn when None."""
    from . import changes, charts, clips, documents, pictures, tables
    from .drawing import camera_noise
    rng = seed if isinstance(seed, random.Random) else random.Random(seed)
    if task.kind == "clip":
        if times is None:
            times = clips.pair_times(rng, task.n_frames)
        scene = clips.draw(rng, task.n_frames, task.width, task.height, times)
    elif task.kind in ("picture", "change"):
        scene = (pictures if task.kind == "picture" else changes).draw(rng, task.width, task.height)
    elif task.kind in ("document", "table"):
        scene = (documents if task.kind == "document" else tables).draw(rng, task.width, task.height, task.amount)
    else:
        scene = charts.draw(rng, task.kind, task.width, task.height, task.amount)
    scene.frames = camera_noise(rng, scene.frames)
    return scene

"""What a scene is, which tasks there are, and drawing one by task and seed."""
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


class Questions:
    """Collects questions, each in one of several phrasings."""

    def __init__(self, rng):
        self.rng, self.asked = rng, []

    def ask(self, kind, phrasings, answer):
        self.asked.append(Question(kind, self.rng.choice(phrasings), answer))


@dataclass
class Scene:
    frames: np.ndarray          # uint8 [F, H, W, 3]
    times: list                 # seconds of the frame pairs; None for a picture
    questions: list
    # What is where, for the auxiliary loss in training:
    objects: list = field(default_factory=list)     # (pair, x, y, radius, colour, shape, direction), ids from 1
    characters: list = field(default_factory=list)  # (pair, x, y, character), ids from 1


@dataclass(frozen=True)
class Task:
    """Scenes of one kind and size; all of a batch share it. Sizes are multiples of 32."""
    kind: str                   # clip, picture, document or chart
    n_frames: int
    width: int
    height: int
    amount: int = 0             # lines of a document (0: a few characters), bars of a chart


# The plus sign marks sizes that are trained less; the evaluation reports them apart.
TASKS = {
    "video": [Task("clip", 8, 96, 96)],
    "video+": [Task("clip", 6, 96, 96), Task("clip", 12, 96, 96), Task("clip", 8, 128, 96), Task("clip", 8, 64, 64)],
    "still": [Task("picture", 1, 96, 96), Task("picture", 1, 128, 128)],
    "still+": [Task("picture", 1, 160, 128), Task("picture", 1, 64, 64), Task("picture", 1, 192, 192)],
    "tiny": [Task("document", 1, 64, 32, 0)],
    "word": [Task("document", 1, 128, 32, 1)],
    "doc": [Task("document", 1, 160, 64, 2), Task("document", 1, 160, 96, 3)],
    "doc+": [Task("document", 1, 192, 128, 4), Task("document", 1, 128, 64, 2)],
    "chart": [Task("chart", 1, 160, 96, 3), Task("chart", 1, 192, 128, 4)],
    "chart+": [Task("chart", 1, 192, 128, 5), Task("chart", 1, 128, 96, 2)],
}


def seed_of(*parts):
    """A seed from words and numbers, the same on every machine."""
    return zlib.crc32(repr(parts).encode())


def draw(seed, task, times=None):
    """The scene of a seed (an int, or a random.Random to go on with). times: a clip's pair times, drawn when None."""
    from . import charts, clips, documents, pictures
    from .drawing import camera_noise
    rng = seed if isinstance(seed, random.Random) else random.Random(seed)
    if task.kind == "clip":
        if times is None:
            times = clips.pair_times(rng, task.n_frames)
        scene = clips.draw(rng, task.n_frames, task.width, task.height, times)
    elif task.kind == "picture":
        scene = pictures.draw(rng, task.width, task.height)
    elif task.kind == "document":
        scene = documents.draw(rng, task.width, task.height, task.amount)
    else:
        scene = charts.draw(rng, task.width, task.height, task.amount)
    scene.frames = camera_noise(rng, scene.frames)
    return scene

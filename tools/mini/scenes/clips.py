"""Clips: one shape moves along a lane (or none does); others stand still, appear or disappear."""
from dataclasses import dataclass

import numpy as np

from .drawing import COLOUR_NAMES, SHAPES, background, colour, put, with_article
from .pictures import ask_yes_or_no
from .scene import NUMBERS, Questions, Scene

DIRECTIONS = {
    "to the right": (1, 0), "to the left": (-1, 0), "up": (0, -1), "down": (0, 1),
    "up and to the right": (1, -1), "up and to the left": (-1, -1),
    "down and to the right": (1, 1), "down and to the left": (-1, 1),
}
DIRECTION_NAMES = list(DIRECTIONS)


@dataclass
class Actor:
    colour: str
    shape: str
    radius: int
    degrees: int
    rgb: tuple
    path: list              # (x, y) per frame
    event: str = ""         # "", "appears" or "disappears"
    event_frame: int = 0

    @property
    def name(self):
        return f"{self.colour} {self.shape}"

    def shown(self, frame):
        return not self.event or (frame >= self.event_frame) == (self.event == "appears")


def pair_times(rng, n_frames):
    """Seconds of the frame pairs of a clip that was sampled to n_frames: usually two frames a second."""
    rate = rng.choice([8, 10, 12, 15, 24, 25, 30])
    seconds = n_frames / 2 * (1 if rng.random() < 0.7 else rng.uniform(0.5, 2.0))
    total = max(n_frames, round(seconds * rate))
    chosen = np.linspace(0, total - 1, n_frames).round().astype(int)
    return [(chosen[i] + chosen[i + 1]) / rate / 2 for i in range(0, n_frames, 2)]


@dataclass
class Motion:
    """How the first actor moves: where to, how fast, and after which frame where to instead."""
    direction: str
    fast: bool = False
    slow: bool = False
    turn_frame: int = 0         # 0: it does not turn
    second: str = ""

    @property
    def words(self):
        return f"moves {self.direction}" + (f", then {self.second}," if self.turn_frame else "")


def _lane(rng, n, width, height, motion):
    """The moving shape's path across the picture, and the places beside its lane."""
    dx, dy = DIRECTIONS[motion.direction]
    span = rng.uniform(0.24, 0.36) if motion.slow else rng.uniform(0.58, 0.74) if motion.fast else rng.uniform(0.45, 0.72)
    lane = rng.randint(0, 2)
    along = lambda q, sign, size: size / 2 + sign * (q - 0.5) * span * size
    across = lambda size: size * (lane + 0.5) / 3 + rng.uniform(-0.04, 0.04) * size
    fixed_x, fixed_y = across(width), across(height)
    path = [(along(q, dx, width) if dx else fixed_x, along(q, dy, height) if dy else fixed_y)
            for q in np.linspace(0, 1, n)]
    free = [(i + 0.5) / 3 for i in range(3) if i != lane]
    if dx and dy:
        beside = [(0.15, 0.85), (0.85, 0.15)] if dx == dy else [(0.15, 0.15), (0.85, 0.85)]
    elif dx:
        beside = [(x, y) for x in (0.18, 0.5, 0.82) for y in free]
    else:
        beside = [(x, y) for y in (0.18, 0.5, 0.82) for x in free]
    return path, beside


def _bent(rng, n, width, height, motion):
    """A path with a corner at motion.turn_frame, through the middle half of the picture, and the corners that it leaves free."""
    dx, dy = DIRECTIONS[motion.direction]
    ex, ey = DIRECTIONS[motion.second]
    step = 0.62 / (n - 1)
    k = motion.turn_frame
    places = [(dx * min(f, k) + ex * max(0, f - k), dy * min(f, k) + ey * max(0, f - k)) for f in range(n)]
    middle = [(max(p[i] for p in places) + min(p[i] for p in places)) / 2 for i in (0, 1)]
    path = [(width * (0.5 + step * (x - middle[0])), height * (0.5 + step * (y - middle[1]))) for x, y in places]
    near = lambda corner: min((x / width - corner[0]) ** 2 + (y / height - corner[1]) ** 2 for x, y in path)
    return path, [c for c in ((0.13, 0.13), (0.87, 0.13), (0.13, 0.87), (0.87, 0.87)) if near(c) > 0.09]


def _motion(rng, n):
    direction = rng.choice(DIRECTION_NAMES[:4] if rng.random() < 0.75 else DIRECTION_NAMES[4:])
    pace = rng.random()
    if pace < 0.2 and n >= 6:  # turns by a right angle, on a frame pair's border
        direction = rng.choice(DIRECTION_NAMES[:4])
        across = DIRECTION_NAMES[2:4] if direction in DIRECTION_NAMES[:2] else DIRECTION_NAMES[:2]
        return Motion(direction, turn_frame=2 * rng.randint(1, n // 2 - 1), second=rng.choice(across))
    return Motion(direction, fast=pace > 0.7, slow=0.2 <= pace < 0.45)


def _cast(rng, n, width, height):
    """The actors (the first is the one that may move), its motion (None: it stays), and the background."""
    backdrop, names = background(rng, width, height)
    count = rng.choices([1, 2, 3], [0.35, 0.45, 0.2])[0]
    motion = _motion(rng, n)
    path, beside = (_bent if motion.turn_frame else _lane)(rng, n, width, height, motion)
    count = min(count, 1 + len(beside))
    colours, shapes = rng.sample(names, count), rng.sample(SHAPES, count)
    if rng.random() >= 0.9 and count > 1:
        path, motion = [path[n // 2]] * n, None
    places = rng.sample(beside, count - 1)
    actors = []
    for i in range(count):
        at = path if i == 0 else [(places[i - 1][0] * width, places[i - 1][1] * height)] * n
        actors.append(Actor(colours[i], shapes[i], rng.randint(int(0.085 * width), int(0.15 * width)),
                            2 * rng.randint(-4, 4), colour(rng, colours[i]), at))
    for i, actor in enumerate(actors):
        if (i > 0 and rng.random() < 0.65) or (i == 0 and not motion and rng.random() < 0.5):
            actor.event = rng.choice(["appears", "disappears"])
            actor.event_frame = 2 * rng.randint(1, n // 2 - 1)
    if count > 1 and all(a.event for a in actors):
        actors[0].event = ""
    return actors, motion, backdrop


def _ask_about_motion(q, mover, motion, when):
    if not motion:
        q.ask("moves", ["What moves?", "What is moving?", "Which object is moving?"], "Nothing moves.")
        return
    q.ask("moves", ["What moves?", "What is moving?", "What moves in the video?", "Which object is moving?",
                    "What object moves?", "Name the moving object."], with_article(mover.name) + ".")
    ways = [f"Which direction does the {mover.name} move?", f"Which way does the {mover.shape} go?",
            "Which direction does it move?", "In which direction is the object moving?",
            f"Where does the {mover.name} move?", "Which way does it move?"]
    if motion.turn_frame:
        q.ask("when", [f"When does the {mover.name} turn?", f"When does the {mover.shape} turn?", "At what time does it turn?"],
              f"At {when(motion.turn_frame)}.", tolerance=0.5)
        q.ask("turn", ["Which way does it move after it turns?", f"Where does the {mover.shape} move after its turn?"],
              f"It moves {motion.second}.")
        q.ask("direction", ways, f"It moves {motion.direction}, then {motion.second}.")
    else:
        q.ask("direction", ways, f"It moves {motion.direction}.")
        q.follow("second", "moves", ["Which way?", "And which way?", "Where to?"], f"It moves {motion.direction}.")
    if motion.fast or motion.slow:
        q.ask("speed", ["How fast does it move?", f"How fast does the {mover.shape} move?", f"How fast is the {mover.name}?"],
              "Quickly." if motion.fast else "Slowly.")
    q.ask("colour", ["What colour is the moving object?", "What color is the moving object?",
                     "What colour is the moving shape?", f"What color is the {mover.shape}?"], f"It is {mover.colour}.")
    q.ask("shape", ["What shape is the moving object?", "What shape is moving?",
                    f"What shape is the {mover.colour} object?"], f"It is a {mover.shape}.")
    q.follow("second", "moves", ["What colour is it?", "And its colour?"], f"It is {mover.colour}.")


def _ask_about_events(q, actors, when):
    for actor in actors:
        if not actor.event:
            continue
        verb = actor.event[:-1]
        q.ask("when", [f"When does the {actor.name} {verb}?", f"At what time does the {actor.name} {verb}?",
                       f"When does the {actor.shape} {verb}?"], f"At {when(actor.event_frame)}.", tolerance=0.5)
        if sum(a.event == actor.event for a in actors) == 1:
            q.ask("what_event", [f"What {actor.event}?", f"Which object {actor.event}?",
                                 f"What {actor.event} in the video?"], with_article(actor.name) + ".")
            q.follow("second", "what_event", ["When?", "At what time?"], f"At {when(actor.event_frame)}.")


def _ask_of_what_is_not(q, rng, actors, motion):
    """Yes or no, and questions about a shape that is not there."""
    kinds = [(a.colour, a.shape) for a in actors]
    ask_yes_or_no(q, rng, kinds)
    q.ask("yesno", ["Does anything move?", "Is anything moving?"], "Yes." if motion else "No.")
    event = rng.choice(["appear", "disappear"])
    q.ask("yesno", [f"Does anything {event}?"], "Yes." if any(a.event == event + "s" for a in actors) else "No.")
    absent = rng.choice([s for s in SHAPES if s not in {a.shape for a in actors}])
    q.cannot_see([f"When does the {absent} {event}?", f"Which way does the {absent} move?", f"What colour is the {absent}?"],
                 with_article(absent, capital=False))


def _description(actors, motion, when):
    def sentence(actor):
        if actor is actors[0] and motion:
            does = motion.words.rstrip(",")
        else:
            does = f"{actor.event} at {when(actor.event_frame)}" if actor.event else "stays still"
        return f"{with_article(actor.name)} {does}."
    others = sorted(actors[1:], key=lambda a: (a.event_frame if a.event else -1, a.path[0]))
    return " ".join(sentence(a) for a in [actors[0], *others])


def draw(rng, n_frames, width, height, times):
    """times: seconds of the frame pairs. Marks are (pair, x, y, radius, colour, shape, direction), ids from 1."""
    actors, motion, backdrop = _cast(rng, n_frames, width, height)
    frames, marks = [], []
    for f in range(n_frames):
        image = backdrop.copy()
        for i in reversed(range(len(actors))):
            a = actors[i]
            if not a.shown(f):
                continue
            x, y = a.path[f]
            put(image, a.shape, a.radius, a.degrees, a.rgb, x, y)
            if f % 2:
                turned = motion and motion.turn_frame and f > motion.turn_frame
                way = (motion.second if turned else motion.direction) if i == 0 and motion else None
                heading = 1 + DIRECTION_NAMES.index(way) if way else 0
                marks.append((f // 2, x, y, a.radius, 1 + COLOUR_NAMES.index(a.colour), 1 + SHAPES.index(a.shape), heading))
        frames.append(np.asarray(image))
    when = lambda frame: f"{times[frame // 2]:.1f} seconds"
    q = Questions(rng)
    _ask_about_motion(q, actors[0], motion, when)
    _ask_about_events(q, actors, when)
    _ask_of_what_is_not(q, rng, actors, motion)
    q.ask("count", ["How many objects are there?", "How many objects are in the video?", "How many shapes do you see?"],
          f"{NUMBERS[len(actors)]}.")
    q.ask("describe", ["Describe the video.", "Describe this video.", "What happens in the video?", "What happens?",
                       "What do you see?", "Describe what happens."], _description(actors, motion, when))
    things = [{"colour": a.colour, "shape": a.shape, "moves": bool(motion) and a is actors[0]} for a in actors]
    q.ask_json("json", "the objects and whether they move", things)
    return Scene(np.stack(frames), times, q.asked, objects=marks)

"""Still pictures of one to six shapes on a grid of three by three cells."""
import numpy as np

from .drawing import COLOUR_NAMES, SHAPES, background, colour, plural, put, with_article
from .scene import NUMBERS, Questions, Scene, box_text

CELLS = [["top left", "top", "top right"], ["left", "center", "right"], ["bottom left", "bottom", "bottom right"]]


def place(rng, names):
    """(colour, shape, row, column) of each shape; some pictures repeat kinds, for counting."""
    count = rng.choices([1, 2, 3, 4, 5, 6], [0.22, 0.26, 0.2, 0.14, 0.1, 0.08])[0]
    cells = rng.sample([(i, j) for i in range(3) for j in range(3)], count)
    repeated = rng.random() < 0.4 and count > 1
    kinds = [(rng.choice(names), rng.choice(SHAPES)) for _ in range(2 if repeated else count)]
    return [(*(rng.choice(kinds) if repeated else kinds[t]), *cell) for t, cell in enumerate(cells)]


def cell_answer(row, column):
    cell = CELLS[row][column]
    return "In the center." if cell == "center" else f"At the {cell}."


def listed(items):
    """"a red circle and a blue star", row by row."""
    names = [with_article(f"{c} {s}", capital=False) for c, s, *_ in sorted(items, key=lambda i: i[2:4])]
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1]


def _ask_about_each(q, rng, items, boxes):
    colours, shapes = [i[0] for i in items], [i[1] for i in items]
    for (c, s, row, column), box in zip(items, boxes):
        one_colour, one_shape = colours.count(c) == 1, shapes.count(s) == 1
        if one_shape:
            q.ask("colour", [f"What colour is the {s}?", f"What color is the {s}?", f"Which colour is the {s}?"],
                  f"The {s} is {c}.")
        if one_colour:
            q.ask("shape", [f"What shape is {c}?", f"What is the {c} shape?", f"Which shape is {c}?", f"What is {c}?"],
                  with_article(s) + ".")
        if one_colour or one_shape:
            thing = f"{c} {s}" if rng.random() < 0.5 else (s if one_shape else f"{c} shape")
            q.ask("where", [f"Where is the {thing}?", f"Where is the {thing} in the image?",
                            f"In which part of the image is the {thing}?"], cell_answer(row, column))
            q.ask("box", [f"Give the box of the {thing}.", f"Box of the {thing}?", f"Draw a box around the {thing}."], box)
        q.ask("what_at", [f"What is at the {CELLS[row][column]}?", f"What do you see at the {CELLS[row][column]}?"],
              with_article(f"{c} {s}") + ".")


def _ask_for_counts(q, rng, items):
    colours, shapes = [i[0] for i in items], [i[1] for i in items]
    q.ask("count", ["How many shapes are there?", "How many objects are there?", "How many shapes do you see?",
                    "Count the shapes."], f"{NUMBERS[len(items)]}.")
    s = rng.choice([*shapes, rng.choice(SHAPES)])
    q.ask("count_shape", [f"How many {plural(s)} are there?"], f"{NUMBERS[shapes.count(s)]}.")
    c = rng.choice([*colours, rng.choice(COLOUR_NAMES)])
    q.ask("count_colour", [f"How many {c} shapes are there?", f"How many shapes are {c}?"], f"{NUMBERS[colours.count(c)]}.")


def ask_yes_or_no(q, rng, kinds):
    """Half of the things asked about are there. The others share a colour or a shape with something."""
    if rng.random() < 0.5:
        c, s = rng.choice(kinds)
    elif rng.random() < 0.5:
        c, s = rng.choice(COLOUR_NAMES), rng.choice(kinds)[1]
    else:
        c, s = rng.choice(kinds)[0], rng.choice(SHAPES)
    thing = f"{with_article(c, capital=False)} {s}"
    q.ask("yesno", [f"Is there {thing}?", f"Do you see {thing}?", f"Does the picture show {thing}?"],
          "Yes." if (c, s) in kinds else "No.")


def _ask_about_nothing(q, rng, items):
    """Questions about a shape or a colour that is not there."""
    absent = [s for s in SHAPES if s not in {i[1] for i in items}]
    if absent and rng.random() < 0.7:
        s = rng.choice(absent)
        q.cannot_see([f"What colour is the {s}?", f"Where is the {s}?", f"Give the box of the {s}."], with_article(s, capital=False))
    else:
        c = rng.choice([c for c in COLOUR_NAMES if c not in {i[0] for i in items}])
        q.cannot_see([f"What shape is {c}?", f"Where is the {c} shape?", f"What is the {c} shape?"], f"anything {c}")


def draw(rng, width, height):
    image, names = background(rng, width, height)
    items = place(rng, names)
    side, marks, boxes = min(width, height), [], []
    for c, s, row, column in items:
        r = rng.randint(int(0.075 * side), int(0.145 * side))
        x = width * (column + 0.5) / 3 + rng.uniform(-0.04, 0.04) * width
        y = height * (row + 0.5) / 3 + rng.uniform(-0.04, 0.04) * height
        boxes.append(box_text(put(image, s, r, 2 * rng.randint(-4, 4), colour(rng, c), x, y), width, height))
        marks.append((0, x, y, r, 1 + COLOUR_NAMES.index(c), 1 + SHAPES.index(s), 0))
    q = Questions(rng)
    _ask_about_each(q, rng, items, boxes)
    if len(items) == 1:
        q.ask("what", ["What is this?", "What is in the image?", "What do you see?", "What shape is this?"],
              with_article(f"{items[0][0]} {items[0][1]}") + ".")
    _ask_for_counts(q, rng, items)
    ask_yes_or_no(q, rng, [i[:2] for i in items])
    _ask_about_nothing(q, rng, items)
    text = listed(items) + "."
    q.ask("describe", ["Describe the image.", "Describe this image.", "Describe the picture.", "What is in the picture?",
                       "List the shapes."], text[0].upper() + text[1:])
    shown = sorted(items, key=lambda i: i[2:4])
    q.ask_json("json", "the shapes with their colours", [{"colour": c, "shape": s} for c, s, *_ in shown])
    if len(items) == 1:
        q.follow("second", "colour", ["And where is it?", "Where is it?"], cell_answer(*items[0][2:]))
    q.follow("second", "count", ["Describe them.", "Which ones?", "What are they?"], text[0].upper() + text[1:])
    return Scene(np.asarray(image)[None], None, q.asked, objects=marks)

"""Still pictures of one to five shapes on a grid of three by three cells."""
import numpy as np

from .drawing import COLOUR_NAMES, SHAPES, background, colour, plural, put, with_article
from .scene import NUMBERS, Questions, Scene

CELLS = [["top left", "top", "top right"], ["left", "center", "right"], ["bottom left", "bottom", "bottom right"]]


def _place(rng, names):
    """(colour, shape, row, column) of each shape; some pictures repeat kinds, for counting."""
    count = rng.choices([1, 2, 3, 4, 5], [0.25, 0.3, 0.2, 0.15, 0.1])[0]
    cells = rng.sample([(i, j) for i in range(3) for j in range(3)], count)
    repeated = rng.random() < 0.4 and count > 1
    kinds = [(rng.choice(names), rng.choice(SHAPES)) for _ in range(2 if repeated else count)]
    return [(*(rng.choice(kinds) if repeated else kinds[t]), *cell) for t, cell in enumerate(cells)]


def _ask_about_each(q, rng, items):
    colours, shapes = [i[0] for i in items], [i[1] for i in items]
    for c, s, row, column in items:
        one_colour, one_shape, cell = colours.count(c) == 1, shapes.count(s) == 1, CELLS[row][column]
        if one_shape:
            q.ask("colour", [f"What colour is the {s}?", f"What color is the {s}?", f"Which colour is the {s}?"],
                  f"The {s} is {c}.")
        if one_colour:
            q.ask("shape", [f"What shape is {c}?", f"What is the {c} shape?", f"Which shape is {c}?", f"What is {c}?"],
                  with_article(s) + ".")
        if one_colour or one_shape:
            thing = f"{c} {s}" if rng.random() < 0.5 else (s if one_shape else f"{c} shape")
            q.ask("where", [f"Where is the {thing}?", f"Where is the {thing} in the image?",
                            f"In which part of the image is the {thing}?"],
                  "In the center." if cell == "center" else f"At the {cell}.")
        q.ask("what_at", [f"What is at the {cell}?", f"What do you see at the {cell}?"], with_article(f"{c} {s}") + ".")


def _ask_for_counts(q, rng, items):
    colours, shapes = [i[0] for i in items], [i[1] for i in items]
    q.ask("count", ["How many shapes are there?", "How many objects are there?", "How many shapes do you see?",
                    "Count the shapes."], f"{NUMBERS[len(items)]}.")
    s = rng.choice([*shapes, rng.choice(SHAPES)])
    q.ask("count_shape", [f"How many {plural(s)} are there?"], f"{NUMBERS[shapes.count(s)]}.")
    c = rng.choice([*colours, rng.choice(COLOUR_NAMES)])
    q.ask("count_colour", [f"How many {c} shapes are there?", f"How many shapes are {c}?"], f"{NUMBERS[colours.count(c)]}.")


def _ask_yes_or_no(q, rng, items):
    kinds = [i[:2] for i in items]
    if rng.random() < 0.5:
        c, s = rng.choice(kinds)
    elif rng.random() < 0.5:
        c, s = rng.choice(COLOUR_NAMES), rng.choice(kinds)[1]
    else:
        c, s = rng.choice(kinds)[0], rng.choice(SHAPES)
    thing = with_article(c, capital=False)
    q.ask("yesno", [f"Is there {thing} {s}?", f"Do you see {thing} {s}?"], "Yes." if (c, s) in kinds else "No.")


def draw(rng, width, height):
    image, names = background(rng, width, height)
    items = _place(rng, names)
    side, marks = min(width, height), []
    for c, s, row, column in items:
        r = rng.randint(int(0.075 * side), int(0.145 * side))
        x = width * (column + 0.5) / 3 + rng.uniform(-0.04, 0.04) * width
        y = height * (row + 0.5) / 3 + rng.uniform(-0.04, 0.04) * height
        put(image, s, r, 2 * rng.randint(-4, 4), colour(rng, c), x, y)
        marks.append((0, x, y, r, 1 + COLOUR_NAMES.index(c), 1 + SHAPES.index(s), 0))
    q = Questions(rng)
    _ask_about_each(q, rng, items)
    if len(items) == 1:
        q.ask("what", ["What is this?", "What is in the image?", "What do you see?", "What shape is this?"],
              with_article(f"{items[0][0]} {items[0][1]}") + ".")
    _ask_for_counts(q, rng, items)
    _ask_yes_or_no(q, rng, items)
    listed = [with_article(f"{c} {s}", capital=False) for c, s, _, _ in sorted(items, key=lambda i: i[2:])]
    text = ", ".join(listed[:-1]) + (" and " if len(listed) > 1 else "") + listed[-1] + "."
    q.ask("describe", ["Describe the image.", "Describe this image.", "Describe the picture.", "What is in the picture?",
                       "List the shapes."], text[0].upper() + text[1:])
    return Scene(np.asarray(image)[None], None, q.asked, objects=marks)

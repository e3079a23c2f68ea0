"""Two pictures of the same shapes, the second with one difference or none."""
import numpy as np

from .drawing import COLOUR_NAMES, SHAPES, background, colour, put, with_article
from .pictures import CELLS, cell_answer, place
from .scene import NUMBERS, Questions, Scene


def _change(rng, items, names):
    """(the second picture's items, kind, answer). Every shape has a cell of its own in both."""
    free = [(i, j) for i in range(3) for j in range(3) if (i, j) not in {t[2:] for t in items}]
    at = rng.randrange(len(items))
    c, s, row, column = items[at]
    alone = items.count(items[at]) == 1 and [t[:2] for t in items].count((c, s)) == 1
    kind = rng.choice(["nothing", "added", "gone", "moved", "colour", "shape"])
    if not alone or (kind == "gone" and len(items) == 1) or (kind in ("added", "moved") and not free):
        kind = "nothing"
    rest = items[:at] + items[at + 1:]
    if kind == "added":
        new = (rng.choice(names), rng.choice(SHAPES), *rng.choice(free))
        return [*items, new], kind, f"{with_article(f'{new[0]} {new[1]}')} was added."
    if kind == "gone":
        return rest, kind, f"The {c} {s} is gone."
    if kind == "moved":
        cell = rng.choice(free)
        where = cell_answer(*cell)[:-1].split(" ", 1)[1].lower()
        return [*rest, (c, s, *cell)], kind, f"The {c} {s} moved to {where}."
    if kind == "colour":
        other = rng.choice([n for n in names if n != c])
        return [*rest, (other, s, row, column)], kind, f"The {c} {s} turned {other}."
    if kind == "shape":
        other = rng.choice([n for n in SHAPES if n != s])
        return [*rest, (c, other, row, column)], kind, f"The {c} {s} became {with_article(other, capital=False)}."
    return items, "nothing", "Nothing changed."


def _paint(backdrop, items, looks, width, height, picture):
    """The picture and its marks. looks: radius, turn, colour and offset of a shape in its cell, so that what stays looks the same."""
    image, marks = backdrop.copy(), []
    for c, s, row, column in items:
        r, degrees, shades, dx, dy = looks[row, column]
        x, y = width * (column + 0.5) / 3 + dx, height * (row + 0.5) / 3 + dy
        put(image, s, r, degrees, shades[c], x, y)
        marks.append((picture, x, y, r, 1 + COLOUR_NAMES.index(c), 1 + SHAPES.index(s), 0))
    return np.asarray(image), marks


def draw(rng, width, height):
    backdrop, names = background(rng, width, height)
    items = place(rng, names)
    after, kind, answer = _change(rng, items, names)
    side, shades = min(width, height), {c: colour(rng, c) for c in COLOUR_NAMES}
    looks = {(i, j): (rng.randint(int(0.085 * side), int(0.145 * side)), 2 * rng.randint(-4, 4), shades,
                      rng.uniform(-0.03, 0.03) * width, rng.uniform(-0.03, 0.03) * height) for i in range(3) for j in range(3)}
    first, marks = _paint(backdrop, items, looks, width, height, 0)
    second, more = _paint(backdrop, after, looks, width, height, 1)
    q = Questions(rng)
    q.ask("change", ["What changed?", "What is different in the second picture?", "What changed between the pictures?"], answer)
    q.ask("yesno", ["Are the pictures the same?", "Is the second picture the same as the first?"], "Yes." if kind == "nothing" else "No.")
    for word, which in (("first", items), ("second", after)):
        q.ask("count", [f"How many shapes are in the {word} picture?"], f"{NUMBERS[len(which)]}.")
        c, s, row, column = rng.choice(which)
        q.ask("what_at", [f"What is at the {CELLS[row][column]} of the {word} picture?"], with_article(f"{c} {s}") + ".")
    q.follow("second", "yesno", ["What changed?", "What is different?"], answer)
    return Scene(np.stack([first, second]), None, q.asked, objects=marks + more)

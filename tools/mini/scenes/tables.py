"""Tables: named rows, named columns, numbers in them."""
import numpy as np

from .scene import NUMBERS, Questions, Scene, box_text
from .words import LABELS, money
from .writing import Page

_COLUMNS = [("Price", money), ("Count", lambda rng: str(rng.randint(1, 99))), ("Size", lambda rng: str(rng.randint(10, 400))),
            ("Cost", money), ("Year", lambda rng: f"20{rng.randint(10, 39)}"), ("Weight", lambda rng: f"{rng.randint(1, 99)}.{rng.randint(0, 9)}")]
_NAMES = [labels for labels in LABELS if not labels[0].isdigit() and len(labels[0]) > 1]


def _content(rng, n_rows):
    labels = rng.choice([names for names in _NAMES if len(names) >= n_rows])
    columns = rng.sample(_COLUMNS, rng.choice([1, 2, 2]))
    rows = rng.sample(labels, n_rows)
    return rows, [name for name, _ in columns], [[value(rng) for _, value in columns] for _ in rows]


def _lay_out(rng, page, rows, columns, cells):
    """Writes it; widths as the texts need them. The box of each cell by (row, column)."""
    n, size = len(rows), min(15, int(0.62 * (page.height - 6) / (len(rows) + 1)))
    size = max(10, min(size, int(size * 0.94 * (page.width - 12) / _width(page, rows, columns, cells, size))))
    gap = 0.9 * size
    pitch = min((page.height - 6) / (n + 1), 1.7 * size)
    x, y0, boxes = rng.uniform(3, 8), rng.uniform(2, max(2.1, page.height - 3 - pitch * (n + 1))), {}
    lined = rng.random() < 0.6
    right = rng.random() < 0.5
    for column, texts in enumerate([["", *rows]] + [[name, *(line[i] for line in cells)] for i, name in enumerate(columns)]):
        wide = max(page.length(t, size) for t in texts)
        for row, text in enumerate(texts):
            shift = wide - page.length(text, size) if right and column else 0
            if text:
                boxes[row - 1, column - 1] = page.write(text, x + shift, y0 + row * pitch, size)
        x += wide + gap
        if lined and column < len(columns):
            page.rule(x - gap / 2, y0, x - gap / 2, y0 + pitch * (n + 1))
    if lined or rng.random() < 0.5:
        page.rule(2, y0 + pitch - 1, x - gap, y0 + pitch - 1)
    return boxes


def _width(page, rows, columns, cells, size):
    texts = [rows] + [[name, *(line[i] for line in cells)] for i, name in enumerate(columns)]
    return sum(max(page.length(t, size) for t in column) + 0.9 * size for column in texts)


def _ask(q, rng, rows, columns, cells, box_of):
    ordinals = ["first", "second", "third", "fourth", "fifth"]
    for i, name in enumerate(rows):
        j = rng.randrange(len(columns))
        what, value = columns[j], cells[i][j]
        q.ask("cell", [f"What is the {what.lower()} of {name}?", f"What is in row {i + 1}, {what}?", f"{name}: {what.lower()}?",
                       f"What is in the {ordinals[i]} row under {what}?"], f"{value}.")
    i = rng.randrange(len(rows))
    q.ask("row", [f"What is in row {i + 1}?", f"Read row {i + 1}."], f"{rows[i]}, {', '.join(cells[i])}.")
    q.ask("count", ["How many rows are there?", "How many rows does the table have?"], f"{NUMBERS[len(rows)]}.")
    j = rng.randrange(len(columns))
    values = [float(line[j]) for line in cells]
    if len(set(values)) == len(values):
        q.ask("highest", [f"Which row has the highest {columns[j].lower()}?", f"What has the highest {columns[j].lower()}?"],
              f"{rows[int(np.argmax(values))]}.")
    q.ask("read", ["Read the table.", "What does the table say?", "Transcribe the table."],
          "\n".join([" | ".join(["", *columns]).strip()] + [" | ".join([name, *line]) for name, line in zip(rows, cells)]))
    i, j = rng.randrange(len(rows)), rng.randrange(len(columns))
    q.ask("box", [f"Give the box of the {columns[j].lower()} of {rows[i]}.", f"Box of {rows[i]}, {columns[j].lower()}?"], box_of(i, j))
    one = rng.randrange(len(rows))
    q.ask_json("json", f"the row of {rows[one]}", {"name": rows[one], **{c.lower(): v for c, v in zip(columns, cells[one])}})
    missing = rng.choice([n for names in _NAMES for n in names if n not in rows])
    q.cannot_see([f"What is the {columns[0].lower()} of {missing}?", f"{missing}: {columns[0].lower()}?"], missing)


def draw(rng, width, height, n_rows):
    rows, columns, cells = _content(rng, n_rows)
    page = Page(rng, width, height)
    boxes = _lay_out(rng, page, rows, columns, cells)
    image = page.finish()
    q = Questions(rng)
    _ask(q, rng, rows, columns, cells, lambda i, j: box_text(page.boxes[boxes[i, j]], width, height))
    return Scene(np.asarray(image)[None], None, q.asked, characters=page.marks)

"""Bar charts with labels below and values above the bars."""
import numpy as np
from PIL import Image, ImageDraw

from .documents import glyph_marks
from .drawing import COLOUR_NAMES, colour, font
from .scene import NUMBERS, Questions, Scene
from .words import LABELS


def _data(rng, n_bars):
    sets = [labels for labels in LABELS if len(labels) >= n_bars]
    chosen = rng.choice(sets)
    labels = rng.sample(chosen, n_bars)
    if rng.random() < 0.5:
        labels.sort(key=chosen.index)
    return labels, rng.sample(range(1, rng.choice([9, 20, 50, 99]) + 1), n_bars)


def _questions(rng, labels, values):
    q = Questions(rng)
    top, low, any_bar = int(np.argmax(values)), int(np.argmin(values)), rng.randrange(len(values))
    q.ask("highest", ["Which bar is highest?", "Which bar is the highest?", "Which is the tallest bar?",
                      "Which has the highest value?"], f"{labels[top]}.")
    q.ask("lowest", ["Which bar is lowest?", "Which bar is the lowest?", "Which is the shortest bar?",
                     "Which has the lowest value?"], f"{labels[low]}.")
    label = labels[any_bar]
    q.ask("value", [f"What is the value of {label}?", f"How much is {label}?", f"What value does {label} have?"],
          f"{values[any_bar]}.")
    q.ask("max_value", ["What is the highest value?", "What is the largest value?"], f"{values[top]}.")
    q.ask("count", ["How many bars are there?", "How many bars does the chart have?"], f"{NUMBERS[len(values)]}.")
    q.ask("read", ["Read the chart.", "Describe the chart.", "List the values.", "What does the chart show?"],
          ", ".join(f"{a} {b}" for a, b in zip(labels, values)) + ".")
    return q.asked


def draw(rng, width, height, n_bars):
    labels, values = _data(rng, n_bars)
    image = Image.new("RGB", (width, height), (rng.randint(235, 255),) * 3)
    pen = ImageDraw.Draw(image)
    used = font(rng.choice([0, 0, 1, 4, 4, 5]), rng.choice([11, 12, 13]))
    ink = (rng.randint(0, 60),) * 3
    base, top, left = height - 18, 18, rng.randint(6, 16)
    pitch = (width - left - 6) / n_bars
    one_colour = rng.choice([c for c in COLOUR_NAMES if c not in ("white", "yellow")]) if rng.random() < 0.5 else None
    colours = [c for c in COLOUR_NAMES if c != "white"]
    rng.shuffle(colours)
    pen.line([left - 3, base, width - 4, base], fill=ink)
    pen.line([left - 3, top - 8, left - 3, base], fill=ink)
    thickness, full = rng.uniform(0.5, 0.8), max(values) * rng.uniform(1.0, 1.15)
    ascent, descent = used.getmetrics()
    marks = []
    for i, (label, value) in enumerate(zip(labels, values)):
        x, y = left + pitch * (i + 0.5), base - (base - top) * value / full
        pen.rectangle([x - pitch * thickness / 2, y, x + pitch * thickness / 2, base],
                      fill=colour(rng, one_colour or colours[i]))
        pen.text((x, base + 2), label, fill=ink, font=used, anchor="ma")
        pen.text((x, y - 2), str(value), fill=ink, font=used, anchor="md")
        marks += glyph_marks(used, label, x - used.getlength(label) / 2, base + 2)
        marks += glyph_marks(used, str(value), x - used.getlength(str(value)) / 2, y - 2 - ascent - descent)
    return Scene(np.asarray(image)[None], None, _questions(rng, labels, values), characters=marks)

"""Charts of two to five values: bars, a line or a pie; values printed, or to be read off an axis; a title or none."""
import math

import numpy as np
from PIL import Image, ImageDraw

from .drawing import COLOUR_NAMES, colour, font
from .scene import NUMBERS, Questions, Scene
from .words import LABELS, WORDS
from .writing import glyph_marks

_PARTS = {"bars": "bar", "line": "point", "pie": "slice"}


class Sheet:
    """The chart's paper; keeps where characters stand."""

    def __init__(self, rng, width, height):
        self.width, self.height = width, height
        self.image = Image.new("RGB", (width, height), (rng.randint(235, 255),) * 3)
        self.pen = ImageDraw.Draw(self.image)
        self.font = font(rng.choice([0, 0, 1, 4, 4, 5]), rng.choice([11, 12, 13]))
        self.ink, self.pale = (rng.randint(0, 60),) * 3, (rng.randint(195, 220),) * 3
        self.marks = []

    def write(self, text, x, y, anchor):
        """anchor: of its middle ("m"), left ("l") or right ("r") and top ("a"), middle ("m") or bottom ("d")."""
        across, up = self.font.getlength(text), sum(self.font.getmetrics())
        self.pen.text((x, y), text, fill=self.ink, font=self.font, anchor=anchor)
        left = x - across * {"l": 0, "m": 0.5, "r": 1}[anchor[0]]
        top = y - up * {"a": 0, "m": 0.5, "d": 1}[anchor[1]]
        self.marks += glyph_marks(self.font, text, left, top)


def _data(rng, kind, n):
    sets = [labels for labels in LABELS if len(labels) >= n]
    chosen = rng.choice(sets)
    labels = rng.sample(chosen, n)
    if rng.random() < 0.5:
        labels.sort(key=chosen.index)
    if kind == "pie":  # percents, no two alike
        while True:
            cuts = sorted(rng.sample(range(5, 96), n - 1))
            values = [b - a for a, b in zip([0, *cuts], [*cuts, 100])]
            if min(values) >= 8 and len(set(values)) == n:
                return labels, values
    return labels, rng.sample(range(1, rng.choice([9, 20, 50, 99]) + 1), n)


def _questions(rng, kind, labels, values, title, tick):
    q, part = Questions(rng), _PARTS[kind]
    top, low = int(np.argmax(values)), int(np.argmin(values))
    any_one, other = rng.sample(range(len(values)), 2)
    shown = [str(v) for v in values]
    high, deep = {"bars": ("highest", "lowest"), "line": ("highest", "lowest"), "pie": ("largest", "smallest")}[kind]
    q.ask("highest", [f"Which {part} is {high}?", f"Which {part} is the {high}?", "Which has the highest value?",
                      *(["Which is the tallest bar?"] if kind == "bars" else [])], f"{labels[top]}.")
    q.ask("lowest", [f"Which {part} is {deep}?", f"Which {part} is the {deep}?", "Which has the lowest value?",
                     *(["Which is the shortest bar?"] if kind == "bars" else [])], f"{labels[low]}.")
    label = labels[any_one]
    q.ask("tick_value" if tick else "value",
          [f"What is the value of {label}?", f"How much is {label}?", f"What value does {label} have?"], f"{shown[any_one]}.",
          tolerance=tick)
    q.ask("count", [f"How many {part}s are there?", f"How many {part}s does the chart have?"], f"{NUMBERS[len(values)]}.")
    if not tick:
        q.ask("max_value", ["What is the highest value?", "What is the largest value?"], f"{shown[top]}.")
        q.ask("read", ["Read the chart.", "Describe the chart.", "List the values.", "What does the chart show?"],
              ", ".join(f"{a} {b}" for a, b in zip(labels, shown)) + ".")
        q.ask("difference", [f"What is the difference between {labels[any_one]} and {labels[other]}?",
                             f"By how much do {labels[any_one]} and {labels[other]} differ?"],
              f"{abs(values[any_one] - values[other])}.")
        q.ask_json("json", "the values", dict(zip(labels, values)))
        q.follow("second", "highest", ["And its value?", "What is its value?"], f"{shown[top]}.")
    else:
        q.follow("second", "highest", ["And the lowest?"], f"{labels[low]}.")
    a, b = labels[any_one], labels[other]
    q.ask("yesno", [f"Is {a} more than {b}?", f"Is {a} higher than {b}?"], "Yes." if values[any_one] > values[other] else "No.")
    if title:
        q.ask("title", ["What is the title?", "What is the chart called?", "Read the title."], f"{title}.")
    else:
        q.cannot_see(["What is the title?", "What is the chart called?"], "a title")
    missing = rng.choice([n for names in LABELS for n in names if n not in labels])
    q.cannot_see([f"What is the value of {missing}?", f"How much is {missing}?"], missing)
    return q.asked


def _axes(sheet, rng, values, step, top):
    """Draws them, with a tick every `step` (0: none); (left edge, base line, pixels of one unit)."""
    greatest = max(values)
    full = math.ceil(greatest / step) * step if step else greatest * rng.uniform(1.0, 1.15)
    base = sheet.height - 18
    left = 10 + sheet.font.getlength(str(full)) if step else rng.randint(6, 16)
    unit = (base - top) / full
    for value in range(0, full + 1, step) if step else ():
        y = base - value * unit
        sheet.pen.line([left - 3, y, sheet.width - 4, y], fill=sheet.pale)
        sheet.write(str(value), left - 5, y, "rm")
    sheet.pen.line([left - 3, base, sheet.width - 4, base], fill=sheet.ink)
    sheet.pen.line([left - 3, top - 8, left - 3, base], fill=sheet.ink)
    return left, base, unit


def _bars_or_line(sheet, rng, kind, labels, values, step, top):
    left, base, unit = _axes(sheet, rng, values, step, top)
    pitch, thickness = (sheet.width - left - 6) / len(values), rng.uniform(0.5, 0.8)
    shades = [c for c in COLOUR_NAMES if c != "white"]
    rng.shuffle(shades)
    one = rng.choice([c for c in shades if c != "yellow"]) if kind == "line" or rng.random() < 0.5 else None
    places = [(left + pitch * (i + 0.5), base - v * unit) for i, v in enumerate(values)]
    if kind == "line":
        sheet.pen.line(places, fill=colour(rng, one), width=rng.choice([1, 2]))
    for i, (x, y) in enumerate(places):
        if kind == "bars":
            sheet.pen.rectangle([x - pitch * thickness / 2, y, x + pitch * thickness / 2, base], fill=colour(rng, one or shades[i]))
        else:
            sheet.pen.ellipse([x - 2.5, y - 2.5, x + 2.5, y + 2.5], fill=colour(rng, one))
        sheet.write(labels[i], x, base + 2, "ma")
        if not step:
            sheet.write(str(values[i]), x, y - (2 if kind == "bars" else 4), "md")


def _pie(sheet, rng, labels, values, top):
    texts = [f"{label} {value}" for label, value in zip(labels, values)]
    widest = max(sheet.font.getlength(t) for t in texts)
    cx, cy = sheet.width / 2, (sheet.height + top) / 2
    r = 0.5 * min(sheet.height - top - 34, sheet.width - 2 * widest - 16)
    shades = rng.sample([c for c in COLOUR_NAMES if c != "white"], len(values))
    at = rng.uniform(0, 360)
    for text, value, shade in zip(texts, values, shades):
        turn = 3.6 * value
        sheet.pen.pieslice([cx - r, cy - r, cx + r, cy + r], at, at + turn, fill=colour(rng, shade), outline=sheet.ink)
        x, y = math.cos(math.radians(at + turn / 2)), math.sin(math.radians(at + turn / 2))
        side = "l" if x > 0.35 else "r" if x < -0.35 else "m"
        sheet.write(text, cx + (r + 4) * x, cy + (r + (4 if side != "m" else 9)) * y, side + "m")
        at += turn


def _fits(sheet, kind, labels):
    """Whether the labels stand beside each other, or beside a pie of some size."""
    widest = max(sheet.font.getlength(label) for label in labels)
    if kind == "pie":
        return sheet.width - 2 * (widest + 20) - 16 >= 36
    return widest + 3 <= (sheet.width - 36) / len(labels)


def draw(rng, kind, width, height, n):
    sheet = Sheet(rng, width, height)
    labels, values = _data(rng, kind, n)
    while not _fits(sheet, kind, labels):
        labels, values = _data(rng, kind, n)
    title = " ".join(rng.choice(WORDS) for _ in range(rng.choice([1, 2]))).capitalize() if height > 96 and rng.random() < 0.5 else None
    top = 18
    if title:
        sheet.write(title, width / 2, 2, "ma")
        top = 34
    ticks = kind != "pie" and rng.random() < 0.35
    step = next(s for s in (1, 2, 5, 10, 20, 25, 50) if max(values) / s <= 5) if ticks else 0
    if kind == "pie":
        _pie(sheet, rng, labels, values, top)
    else:
        _bars_or_line(sheet, rng, kind, labels, values, step, top)
    return Scene(np.asarray(sheet.image)[None], None, _questions(rng, kind, labels, values, title, step), characters=sheet.marks)

"""Printed lines on paper: amounts, dates, names, numbers and words, in eight fonts."""
import numpy as np
from PIL import Image, ImageDraw

from .drawing import FONTS, font
from .scene import Questions, Scene
from .words import FAMILY_NAMES, FIRST_NAMES, WORDS, date, invented, money, number, short

CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.:-"
CHARACTER_ID = {c: i + 1 for i, c in enumerate(CHARACTERS)}

# Facts that questions ask for: below which draw they come, their labels, their values.
_FACTS = [
    (0.16, "total", ["Total", "Total", "TOTAL", "Total:"], money),
    (0.30, "invoice", ["Invoice", "Invoice", "INVOICE", "Invoice No."], lambda rng: number(rng, 3, 5)),
    (0.40, "date", ["Date", "Date:"], date),
    (0.47, "customer", ["Customer", "Name:"], lambda rng: f"{rng.choice(FIRST_NAMES)} {rng.choice(FAMILY_NAMES)}"),
    (0.53, "order", ["Order"], lambda rng: number(rng, 3, 5)),
    (0.58, "room", ["Room"], lambda rng: number(rng, 1, 3)),
]
# Lines that nothing but reading asks for.
_FILLERS = [
    (0.68, lambda rng: f"{rng.choice(WORDS).capitalize()} {money(rng)}"),
    (0.75, lambda rng: f"{rng.randint(1, 20)} x {rng.choice(WORDS)}"),
    (0.83, lambda rng: " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 2))).capitalize()),
    (0.90, lambda rng: " ".join(invented(rng) for _ in range(rng.randint(1, 2)))),
    (0.95, lambda rng: number(rng, 2, 6)),
    (1.01, lambda rng: rng.choice(WORDS).upper()),
]
_QUESTIONS = {
    "total": (["What is the total?", "How much is the total?", "What is the total amount?"], "The total is {}."),
    "invoice": (["What is the invoice number?", "Which invoice is this?", "What is the number of the invoice?"],
                "The invoice number is {}."),
    "date": (["What is the date?", "Which date is printed?"], "The date is {}."),
    "customer": (["Who is the customer?", "What is the name of the customer?"], "The customer is {}."),
    "order": (["What is the order number?"], "The order number is {}."),
    "room": (["Which room is it?", "What is the room number?"], "Room {}."),
}


def glyph_marks(used_font, text, x, y):
    """(pair, centre x, centre y, id) of each known character of a text whose top left corner is (x, y)."""
    edges = [x + used_font.getlength(text[:i]) for i in range(len(text) + 1)]
    return [(0, (edges[i] + edges[i + 1]) / 2, y + 0.62 * used_font.size, CHARACTER_ID[c])
            for i, c in enumerate(text) if c in CHARACTER_ID]


def _line(rng, known):
    """A line of text, and the (key, value) it states, if any; a fact is stated once."""
    kind = rng.random()
    for below, key, labels, value_of in _FACTS:
        if kind < below and key not in known:
            value = value_of(rng)
            return f"{rng.choice(labels)} {value}", (key, value)
    for below, text_of in _FILLERS:
        if kind < below:
            return text_of(rng), None
    raise AssertionError


def _fitting_line(rng, known, font_index, size, room, tiny):
    """A line that fits into `room` pixels, in a font a little smaller where need be."""
    for _ in range(8):
        text, fact = (short(rng), None) if tiny else _line(rng, known)
        fitted = size
        while fitted > 10 and font(font_index, fitted).getlength(text) > room:
            fitted -= 1
        if font(font_index, fitted).getlength(text) <= room:
            return text, fact, font(font_index, fitted)
    return str(rng.randint(10, 99)), None, font(font_index, size)


def draw(rng, width, height, n_lines):
    tiny, n_lines = n_lines == 0, max(1, n_lines)
    dark = rng.random() < 0.12
    paper = tuple(rng.randint(0, 40) if dark else rng.randint(225, 255) for _ in range(3))
    ink = tuple(rng.randint(200, 255) if dark else rng.randint(0, 70) for _ in range(3))
    image = Image.new("RGB", (width, height), paper)
    pen = ImageDraw.Draw(image)
    font_index = rng.randrange(len(FONTS))
    size = rng.randint(11, min(20, int(0.8 * (height - 4) / n_lines))) if height / n_lines > 17 else 11
    pitch = min(size * (rng.uniform(1.15, 1.35) if n_lines > 1 else 1.2), (height - 4) / n_lines)
    y = 1 + rng.random() * max(0, height - 3 - pitch * n_lines)
    x = rng.randint(2, 10)
    facts, lines, marks = {}, [], []
    for _ in range(n_lines):
        text, fact, used = _fitting_line(rng, facts, font_index, size, width - x - 2, tiny)
        if fact:
            facts[fact[0]] = fact[1]
        lines.append(text)
        pen.text((x, y), text, fill=ink, font=used)
        marks += glyph_marks(used, text, x, y)
        y += pitch
    q = Questions(rng)
    q.ask("read", ["Read the text.", "Read the text.", "What does it say?", "What does the text say?",
                   "What is written here?", "Transcribe the text."], "\n".join(lines))
    for key, value in facts.items():
        phrasings, answer = _QUESTIONS[key]
        q.ask(key if key in ("total", "invoice") else "fact", phrasings, answer.format(value))
    return Scene(np.asarray(image)[None], None, q.asked, characters=marks)

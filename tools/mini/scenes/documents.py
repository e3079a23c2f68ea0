"""Lines on paper: amounts, dates, names, numbers and words, printed or as if by hand; a few characters up to half a page."""
import numpy as np

from .drawing import with_article
from .scene import Questions, Scene, box_text
from .words import FAMILY_NAMES, FIRST_NAMES, WORDS, date, invented, money, number, short
from .writing import Page

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
    (0.83, lambda rng: " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 3))).capitalize()),
    (0.90, lambda rng: " ".join(invented(rng) for _ in range(rng.randint(1, 3)))),
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
_THINGS = {"total": "total", "invoice": "invoice number", "date": "date", "customer": "customer", "order": "order number", "room": "room"}


def _prose(rng, page, size, room):
    """Words up to the end of the line, as in a text that runs on."""
    text = rng.choice(WORDS).capitalize() if rng.random() < 0.3 else rng.choice(WORDS)
    while True:
        longer = f"{text} {rng.choice(WORDS) if rng.random() < 0.85 else invented(rng)}"
        if page.length(longer, size) > room or len(longer) > 32:
            return text + ("." if rng.random() < 0.15 and page.length(text + ".", size) <= room else "")
        text = longer


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


def _fitting_line(rng, known, page, size, room, tiny):
    """A line that fits into `room` pixels, in a font a little smaller where need be: text, fact, size."""
    for _ in range(8):
        text, fact = (short(rng), None) if tiny else _line(rng, known)
        fitted = size
        while fitted > 10 and page.length(text, fitted) > room:
            fitted -= 1
        if page.length(text, fitted) <= room:
            return text, fact, fitted
    return str(rng.randint(10, 99)), None, size


def _ask(q, rng, facts, box_of):
    for key, (value, box) in facts.items():
        phrasings, answer = _QUESTIONS[key]
        kind = key if key in ("total", "invoice", "date") else "fact"
        q.ask(kind, phrasings, answer.format(value))
        q.ask("box", [f"Where is the {_THINGS[key]}?", f"Give the box of the {_THINGS[key]}."], box_of(box))
    if facts:
        keys = rng.sample(list(facts), min(len(facts), rng.choice([1, 2, 3])))
        q.ask_json("json", " and ".join(f"the {_THINGS[k]}" for k in keys), {k: facts[k][0] for k in keys})
        first, second = rng.choice(list(facts)), rng.choice(list(facts))
        kind = first if first in ("total", "invoice", "date") else "fact"
        if first != second:
            q.follow("second", kind, [f"And the {_THINGS[second]}?"], _QUESTIONS[second][1].format(facts[second][0]))
    absent = [key for key in _QUESTIONS if key not in facts]
    if absent:
        key = rng.choice(absent)
        q.cannot_see([*_QUESTIONS[key][0], f"Where is the {_THINGS[key]}?"], with_article(_THINGS[key], capital=False))
    asked = rng.choice(list(_QUESTIONS))
    q.ask("yesno", [f"Does it state the {_THINGS[asked]}?", f"Is the {_THINGS[asked]} given?"], "Yes." if asked in facts else "No.")


def draw(rng, width, height, n_lines):
    tiny, n_lines = n_lines == 0, max(1, n_lines)
    page = Page(rng, width, height)
    size = rng.randint(11, min(20, int(0.8 * (height - 4) / n_lines))) if height / n_lines > 17 else 11
    pitch = min(size * (rng.uniform(1.15, 1.35) if n_lines > 1 else 1.2), (height - 4) / n_lines)
    y = 1 + rng.random() * max(0, height - 3 - pitch * n_lines)
    x = rng.randint(2, 10)
    runs_on = n_lines > 5 and rng.random() < 0.5  # a text rather than a form
    facts, lines = {}, []
    for _ in range(n_lines):
        if runs_on:
            text, fact, fitted = _prose(rng, page, size, width - x - 4), None, size
        else:
            text, fact, fitted = _fitting_line(rng, facts, page, size, width - x - 4, tiny)
        box = page.write(text, x, y, fitted)
        if fact:
            facts[fact[0]] = fact[1], box
        lines.append(text)
        y += pitch
    image = page.finish()
    q = Questions(rng)
    q.ask("read", ["Read the text.", "Read the text.", "What does it say?", "What does the text say?",
                   "What is written here?", "Transcribe the text."], "\n".join(lines))
    if n_lines > 2:
        i = rng.randrange(n_lines)
        word = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh"][i]
        q.ask("line", [f"Read line {i + 1}.", f"What is in line {i + 1}?", f"What does the {word} line say?"], lines[i])
    if not tiny:
        _ask(q, rng, facts, lambda box: box_text(page.boxes[box], width, height))
    return Scene(np.asarray(image)[None], None, q.asked, characters=page.marks)

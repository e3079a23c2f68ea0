"""What is printed on documents and charts."""
WORDS = """apple baker bread bridge butter cable camera candle carpet chair cheese clock cloud coffee copper cotton dinner
doctor door engine farm field filter flower forest fruit garden glass green hammer honey hotel house ink iron island jacket
kettle key kitchen ladder lamp leather lemon letter light lunch market metal milk mirror monday motor music needle north
number oil onion orange paint paper park pencil pepper phone piano pillow pipe plant plastic plate pocket poster price pump
radio rice river road room rope salad salt school screen sea shirt shoe shop silver soap south spoon station steel stone
street sugar summer table tea ticket tiger tomato tower train tree truck tunnel valve village wall water west wheel window
winter wire wood wool yellow zone""".split()
FAMILY_NAMES = """Smith Jones Brown Taylor Wilson Davies Evans Thomas Roberts Walker Wright Green Hall Wood Clark Lewis
King Baker Moore Young""".split()
FIRST_NAMES = """Anna Ben Clara David Emma Felix Grace Henry Ida Jack Kate Leo Maria Nora Oscar Paul Rosa Sam Tina
Victor""".split()
LABELS = [line.split() for line in """Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec
A B C D E F G H
Mon Tue Wed Thu Fri Sat Sun
Q1 Q2 Q3 Q4
North South East West
Tea Milk Rice Salt Oil Corn Fish Meat
Rome Oslo Paris Bern Lima Cairo Delhi Tokyo
2019 2020 2021 2022 2023 2024
Cats Dogs Birds Cows Pigs Bees
Red Blue Gold Pink Gray""".splitlines()]


def number(rng, fewest_digits, most_digits):
    return str(rng.randint(10 ** (fewest_digits - 1), 10 ** most_digits - 1))


def money(rng):
    return f"{rng.randint(1, 999) if rng.random() < 0.8 else rng.randint(1000, 9999)}.{rng.randint(0, 99):02d}"


def date(rng):
    return f"20{rng.randint(10, 39)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"


def invented(rng):
    """A pronounceable word that is none."""
    syllables = "".join(rng.choice("bcdfghjklmnprstvwz") + rng.choice("aeiou") for _ in range(rng.randint(1, 3)))
    word = syllables + rng.choice(["", "n", "r", "s", "l", "t", "x"])
    return word.capitalize() if rng.random() < 0.4 else word


def short(rng):
    """One to six characters."""
    kind = rng.random()
    if kind < 0.45:
        return str(rng.randint(0, 10 ** rng.randint(1, 4) - 1))
    if kind < 0.6:
        return f"{rng.randint(0, 99)}.{rng.randint(0, 99):02d}"
    if kind < 0.75:
        return invented(rng)[:4]
    return rng.choice([label for labels in LABELS for label in labels] + WORDS + ["Total", "Date", "Room", "Order"])

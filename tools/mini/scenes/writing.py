"""Text on paper: printed or as if by hand, straight or slanted, sharp or blurred; and where each character came to stand."""
import math

from PIL import Image, ImageDraw, ImageFilter

from .drawing import FONTS, HAND_FONTS, font

CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.:-"
CHARACTER_ID = {c: i + 1 for i, c in enumerate(CHARACTERS)}


class Page:
    """A sheet that text is written on. After finish() the marks (0, x, y, character id) and the boxes that write() gave are
    those of the finished picture."""

    def __init__(self, rng, width, height, plain=False):
        self.rng, self.width, self.height = rng, width, height
        dark = rng.random() < 0.12
        far = 1.0 if plain or rng.random() < 0.75 else rng.uniform(0.45, 0.75)  # contrast
        paper = [rng.randint(0, 40) if dark else rng.randint(225, 255) for _ in range(3)]
        ink = [rng.randint(200, 255) if dark else rng.randint(0, 70) for _ in range(3)]
        self.paper = tuple(paper)
        self.ink = tuple(round(p + far * (i - p)) for p, i in zip(paper, ink))
        self.by_hand = not plain and rng.random() < 0.2
        self.font_index = rng.choice(HAND_FONTS) if self.by_hand else rng.randrange(len(FONTS))
        most = min(0.35, 12 / height)  # so that tall pages are not cut off
        self.slant = 0 if plain or rng.random() < 0.7 else rng.uniform(-most, most)
        self.turn = 0 if plain or rng.random() < 0.75 else math.radians(rng.uniform(-2.5, 2.5))
        self.blur = 0 if plain or rng.random() < 0.75 else rng.uniform(0.3, 0.8)
        self.image = Image.new("RGB", (width, height), self.paper)
        self.pen = ImageDraw.Draw(self.image)
        self.marks, self.boxes = [], []

    def font(self, size):
        return font(self.font_index, size)

    def length(self, text, size):
        """Pixels that a text takes across; of uneven writing the most."""
        return self.font(size).getlength(text) * (1.12 if self.by_hand else 1)

    def write(self, text, x, y, size):
        """Writes with its top left corner at (x, y); gives the number of its box."""
        used = self.font(size)
        end = self._write_by_hand(text, x, y, size) if self.by_hand else self._print(text, x, y, used)
        self.boxes.append((x, y + 0.12 * size, end, y + 1.15 * size))
        return len(self.boxes) - 1

    def _print(self, text, x, y, used):
        self.pen.text((x, y), text, fill=self.ink, font=used)
        self.marks += glyph_marks(used, text, x, y)
        return x + used.getlength(text)

    def _write_by_hand(self, text, x, y, size):
        """Character by character, none of them quite on the line."""
        rng = self.rng
        for c in text:
            used = self.font(max(9, size + rng.choice((-1, 0, 0, 1))))
            down = rng.uniform(-0.06, 0.06) * size
            self.pen.text((x, y + down), c, fill=self.ink, font=used)
            self.marks += glyph_marks(used, c, x, y + down)
            x += used.getlength(c) * rng.uniform(0.94, 1.1)
        return x

    def rule(self, *points):
        """A line between points, thin, in ink."""
        self.pen.line(points, fill=self.ink)

    def finish(self):
        """The picture, as it was held and seen."""
        if self.slant or self.turn:
            self._bend()
        if self.blur:
            self.image = self.image.filter(ImageFilter.GaussianBlur(self.blur))
        return self.image

    def _bend(self):
        """Shear, then turn, about the middle."""
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        a, b, c, d = cos, -sin - cos * self.slant, sin, cos - sin * self.slant
        mx, my = self.width / 2, self.height / 2
        there = lambda x, y: (a * (x - mx) + b * (y - my) + mx, c * (x - mx) + d * (y - my) + my)
        area = a * d - b * c
        back = (d / area, -b / area, -c / area, a / area)
        self.image = self.image.transform(
            self.image.size, Image.AFFINE, (back[0], back[1], mx - back[0] * mx - back[1] * my, back[2], back[3],
                                            my - back[2] * mx - back[3] * my), Image.BILINEAR, fillcolor=self.paper)
        self.marks = [(pair, *there(x, y), character) for pair, x, y, character in self.marks]
        self.boxes = [_around([there(x, y) for x in box[::2] for y in box[1::2]]) for box in self.boxes]


def _around(points):
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    return min(xs), min(ys), max(xs), max(ys)


def glyph_marks(used_font, text, x, y):
    """(pair, centre x, centre y, id) of each known character of a text whose top left corner is (x, y)."""
    edges = [x + used_font.getlength(text[:i]) for i in range(len(text) + 1)]
    return [(0, (edges[i] + edges[i + 1]) / 2, y + 0.62 * used_font.size, CHARACTER_ID[c])
            for i, c in enumerate(text) if c in CHARACTER_ID]

"""Colours, anti-aliased shapes, backgrounds, fonts and camera noise."""
import io
import os
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# hue in degrees, saturation, value
COLOURS = {
    "red": (0, 0.95, 0.85), "orange": (28, 1.0, 0.98), "yellow": (54, 0.95, 0.97), "green": (125, 0.85, 0.60),
    "blue": (222, 0.90, 0.85), "purple": (278, 0.75, 0.65), "pink": (325, 0.45, 0.98),
    "black": (0, 0, 0.06), "white": (0, 0, 0.98),
}
SHAPES = ["circle", "square", "triangle", "star", "cross", "diamond"]
COLOUR_NAMES = list(COLOURS)

# Where Debian has them, or all of them in the folder that SCENE_FONTS names.
_DEJAVU = os.environ.get("SCENE_FONTS", "/usr/share/fonts/truetype/dejavu") + "/"
_LIBERATION = os.environ.get("SCENE_FONTS", "/usr/share/fonts/truetype/liberation") + "/"
FONTS = [_DEJAVU + f"DejaVu{name}.ttf" for name in ("Sans", "Sans-Bold", "SansMono", "Serif")] + [
    _LIBERATION + f"Liberation{name}.ttf" for name in ("Sans-Regular", "Sans-Bold", "Mono-Regular", "Serif-Regular",
                                                       "Sans-Italic", "Serif-Italic", "SansNarrow-Regular")]
HAND_FONTS = [len(FONTS) - 2, len(FONTS) - 3]  # what writing by hand is made of, unevenly


def with_article(noun, capital=True):
    article = "an" if noun[0] in "aeiou" else "a"
    return f"{article.capitalize() if capital else article} {noun}"


def plural(shape):
    return "crosses" if shape == "cross" else shape + "s"


def rgb_of_hsv(hue, saturation, value):
    hue = (hue % 360) / 60
    i = int(hue)
    f = hue - i
    p, q, t = value * (1 - saturation), value * (1 - saturation * f), value * (1 - saturation * (1 - f))
    rgb = [(value, t, p), (q, value, p), (p, value, t), (p, q, value), (t, p, value), (value, p, q)][i % 6]
    return tuple(int(255 * min(1, max(0, x))) for x in rgb)


def colour(rng, name):
    """A shade of a named colour that people would still call by that name."""
    hue, saturation, value = COLOURS[name]
    if saturation == 0:
        return tuple(min(255, max(0, int(255 * value) + rng.randint(-12, 12))) for _ in range(3))
    return rgb_of_hsv(hue + rng.uniform(-6, 6), min(1, saturation * rng.uniform(0.88, 1.05)),
                      min(1, value * rng.uniform(0.85, 1.06)))


def _outline(shape, r):
    """The corners of a shape of radius r around the origin."""
    if shape == "square":
        q = 0.86 * r
        return [(-q, -q), (q, -q), (q, q), (-q, q)]
    if shape == "diamond":
        return [(0, -1.1 * r), (0.8 * r, 0), (0, 1.1 * r), (-0.8 * r, 0)]
    if shape == "triangle":
        return [(0, -r), (r, 0.8 * r), (-r, 0.8 * r)]
    if shape == "star":
        radii = [1.1 * (r if k % 2 == 0 else 0.42 * r) for k in range(10)]
        return [(q * np.sin(k * np.pi / 5), -q * np.cos(k * np.pi / 5)) for k, q in enumerate(radii)]
    t = 0.32 * r  # cross
    return [(-t, -r), (t, -r), (t, -t), (r, -t), (r, t), (t, t), (t, r), (-t, r), (-t, t), (-r, t), (-r, -t), (-t, -t)]


@lru_cache(4096)
def mask(shape, radius, degrees):
    """Coverage of a shape of that radius in pixels, drawn four times as large and averaged down."""
    scale = 4
    n = (2 * radius + 3) * scale
    centre, r = n / 2, radius * scale
    image = Image.new("L", (n, n), 0)
    pen = ImageDraw.Draw(image)
    if shape == "circle":
        pen.ellipse([centre - r, centre - r, centre + r, centre + r], fill=255)
    else:
        c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
        pen.polygon([(centre + x * c - y * s, centre + x * s + y * c) for x, y in _outline(shape, r)], fill=255)
    return image.resize((n // scale, n // scale), Image.BOX)


def put(image, shape, radius, degrees, rgb, x, y):
    """Lays a shape with its centre at (x, y) on the image; gives the box around it."""
    m = mask(shape, radius, degrees)
    left, top = round(x - m.width / 2), round(y - m.height / 2)
    image.paste(rgb, (left, top), m)
    box = m.point(lambda v: 255 * (v > 96)).getbbox()
    return left + box[0], top + box[1], left + box[2], top + box[3]


def background(rng, width, height):
    """A muted plain or shaded background, and the names of the colours that stand out on it."""
    names = list(COLOURS)
    kind = rng.random()
    if kind < 0.45:
        value = rng.uniform(0.72, 1.0)
        names.remove("white")
    elif kind < 0.75:
        value = rng.uniform(0.35, 0.62)
    else:
        value = rng.uniform(0, 0.22)
        names.remove("black")
    saturation, hue = rng.uniform(0, 0.18), rng.uniform(0, 360)
    first = rgb_of_hsv(hue, saturation, value)
    if rng.random() < 0.6:
        return Image.new("RGB", (width, height), first), names
    second = rgb_of_hsv(hue + rng.uniform(-40, 40), saturation, min(1, max(0, value + rng.uniform(-0.12, 0.12))))
    if rng.random() < 0.5:
        ramp = np.linspace(0, 1, width, dtype=np.float32)[None, :, None]
    else:
        ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    shade = np.asarray(first, np.float32) * (1 - ramp) + np.asarray(second, np.float32) * ramp
    return Image.fromarray(np.broadcast_to(shade, (height, width, 3)).astype(np.uint8)), names


@lru_cache(256)
def font(index, size):
    return ImageFont.truetype(FONTS[index], size)


def camera_noise(rng, frames):
    """Sensor noise on half of the scenes, JPEG damage on some. frames uint8 [F, H, W, 3]."""
    if rng.random() < 0.15:
        damaged = []
        for frame in frames:
            packed = io.BytesIO()
            Image.fromarray(frame).save(packed, "JPEG", quality=rng.randint(55, 92))
            damaged.append(np.asarray(Image.open(packed).convert("RGB")))
        frames = np.stack(damaged)
    if rng.random() < 0.5:
        strength = rng.randint(2, 12)
        grain = np.random.default_rng(rng.getrandbits(32)).integers(-strength, strength + 1, frames.shape, dtype=np.int16)
        frames = (frames.astype(np.int16) + grain).clip(0, 255).astype(np.uint8)
    return frames

"""Draws garments of ten kinds, recognisable and never twice the same, where Fashion-MNIST is not at hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from ._idx import CLASSES, SIDE, Labels, Pixels

SEED = 1703_0424
# each kind is cut to this many patterns; every image is one of them, distorted
PATTERNS = 32
# pixels of a pattern per pixel of an image
FINE = 3
# pixels of a drawing per pixel of an image
DRAWN = 6
CHUNK = 4_000

Floats = npt.NDArray[np.float32]
Points = Sequence[tuple[float, float]]


def draw(count: int, stream: int) -> tuple[Pixels, Labels]:
    """`count` images `(count, 28, 28)` and their labels; the same for the same `stream`, and others for another."""
    patterns = _patterns()
    random = np.random.default_rng([SEED, 1 + stream])
    labels = random.integers(0, CLASSES, count)
    images = np.empty((count, SIDE, SIDE), dtype=np.uint8)
    for start in range(0, count, CHUNK):
        part = slice(start, min(start + CHUNK, count))
        images[part] = _photographs(patterns, labels[part], random)
    return images, labels


def _photographs(patterns: Pixels, labels: Labels, random: np.random.Generator) -> Pixels:
    """One image per label: a pattern of that kind shifted, scaled, sheared, turned, textured, lit and noisy."""
    count = len(labels)

    def some(low: float, high: float) -> Floats:
        return random.uniform(low, high, (count, 1)).astype(np.float32)

    y, x = (np.mgrid[:SIDE, :SIDE].reshape(2, 1, -1) + 0.5 - SIDE / 2).astype(np.float32)
    turn, shear = some(-0.12, 0.12), some(-0.15, 0.15)
    wide, high = 1 / some(0.8, 1.1), 1 / some(0.85, 1.1)
    across = (wide * (x + (shear - turn) * y) + some(-2, 2) + SIDE / 2) * FINE
    down = (high * (y + turn * x) + some(-1.5, 1.5) + SIDE / 2) * FINE
    last = SIDE * FINE - 1
    column, row = np.clip(across, 0, last).astype(np.int32), np.clip(down, 0, last).astype(np.int32)
    which = labels * PATTERNS + random.integers(0, PATTERNS, count)
    index = (which.astype(np.int32)[:, None] * (last + 1) + row) * (last + 1) + column
    shade = patterns.reshape(-1)[index].astype(np.float32)
    # stripes along or across, a gradient of light, grain on the cloth and a little noise everywhere
    upright = random.random((count, 1)) < 0.5
    stripes = some(0, 0.35) ** 2 * 3 * np.sin(np.where(upright, across, down) * some(0.3, 1.2) + some(0, 6.3))
    light = some(0.35, 1.1) * (1 + some(-0.01, 0.01) * x + some(-0.01, 0.01) * y)
    grain = random.standard_normal((count, SIDE * SIDE), dtype=np.float32)
    shade *= light * (1 + stripes + 0.12 * grain)
    shade += 4 * grain * (shade > 0)
    pictures: Pixels = np.clip(shade, 0, 255).astype(np.uint8).reshape(count, SIDE, SIDE)
    return pictures


def _patterns() -> Pixels:
    """All patterns of all kinds, kind by kind: `(10 * PATTERNS, 84, 84)`."""
    random = np.random.default_rng([SEED, 0])
    drawn = [_pattern(kind, random) for kind in KINDS for _ in range(PATTERNS)]
    return np.stack(drawn)


def _pattern(kind: Callable[[_Pencil, Callable[[float], float]], None], random: np.random.Generator) -> Pixels:
    canvas = Image.new("L", (SIDE * DRAWN, SIDE * DRAWN))
    kind(_Pencil(canvas), lambda spread: float(random.uniform(-spread, spread)))
    # blurred to what a 28 x 28 image can show, so that looking up single points does not leave jagged edges
    small = canvas.filter(ImageFilter.GaussianBlur(DRAWN * 0.4)).resize(
        (SIDE * FINE, SIDE * FINE), Image.Resampling.BOX
    )
    return np.asarray(small, dtype=np.uint8)


class _Pencil:
    """Draws on a canvas whose unit is one pixel of the final image."""

    def __init__(self, canvas: Image.Image) -> None:
        self.on = ImageDraw.Draw(canvas)

    def area(self, points: Points, shade: int = 200) -> None:
        self.on.polygon([(DRAWN * x, DRAWN * y) for x, y in points], fill=shade)

    def mirrored(self, points: Points, shade: int = 200) -> None:
        """An area on the left, and its mirror image on the right."""
        self.area(points, shade)
        self.area([(SIDE - x, y) for x, y in points], shade)

    def line(self, points: Points, width: float = 1.0, shade: int = 90) -> None:
        self.on.line([(DRAWN * x, DRAWN * y) for x, y in points], fill=shade, width=round(DRAWN * width), joint="curve")

    def ellipse(self, left: float, top: float, right: float, bottom: float, shade: int = 200) -> None:
        self.on.ellipse((DRAWN * left, DRAWN * top, DRAWN * right, DRAWN * bottom), fill=shade)


Jitter = Callable[[float], float]


def _top(pencil: _Pencil, j: Jitter, hem: float, half: float, sleeve: float) -> tuple[float, float]:
    """Torso and sleeves of a garment for the upper body; returns its half width and its hem."""
    half, hem = half + j(0.8), hem + j(1)
    shoulder = 4 + j(0.5)
    pencil.mirrored(
        [(14, shoulder - 1), (11, shoulder - 1), (14 - half, shoulder + 1), (14 - half - j(0.5), hem), (14, hem)]
    )
    tip, out = shoulder + sleeve + j(1), 14 - half - 2.5 - sleeve * 0.12 + j(0.5)
    cuff = 2.2 + j(0.3)
    pencil.mirrored(
        [(14 - half + 1, shoulder + 0.5), (out, tip), (out + cuff, tip + 1), (14 - half + 1, shoulder + 6.5)]
    )
    return half, hem


def _t_shirt(pencil: _Pencil, j: Jitter) -> None:
    _top(pencil, j, hem=24, half=5.5, sleeve=5.5)
    pencil.ellipse(11.2, 0, 16.8, 5 + j(0.8), shade=0)


def _trouser(pencil: _Pencil, j: Jitter) -> None:
    waist, foot, top = 4.2 + j(0.5), 4.6 + j(1.2), 2.5 + j(0.7)
    gap, crotch = 0.8 + j(0.4), 10 + j(1)
    pencil.mirrored([(14, top), (14 - waist, top), (14 - foot, 26), (14 - gap, 26), (14, crotch)])
    pencil.line([(14 - waist, top + 1.2), (14 + waist, top + 1.2)], width=0.6)


def _pullover(pencil: _Pencil, j: Jitter) -> None:
    half, hem = _top(pencil, j, hem=23.5, half=5.5, sleeve=18)
    pencil.ellipse(11.5, 1, 16.5, 4.6, shade=70)
    pencil.line([(14 - half, hem - 1.5), (14 + half, hem - 1.5)], width=0.7, shade=120)


def _dress(pencil: _Pencil, j: Jitter) -> None:
    shoulder, waist, hem = 3 + j(0.5), 2.6 + j(0.5), 5 + j(1.5)
    middle = 11 + j(1.5)
    pencil.mirrored([(14, 3), (14 - shoulder, 1.8), (14 - waist, middle), (14 - hem, 26), (14, 26.5)])
    pencil.area([(12.2, 0), (15.8, 0), (14, 5 + j(1))], shade=0)
    pencil.line([(14 - waist, middle), (14 + waist, middle)], width=0.6)


def _coat(pencil: _Pencil, j: Jitter) -> None:
    _, hem = _top(pencil, j, hem=26, half=6.2, sleeve=19)
    pencil.line([(14, 8), (14 + j(0.3), hem)], width=0.9, shade=20)
    pencil.mirrored([(14, 9 + j(1)), (11.5, 2.5), (10, 5)], shade=110)
    pencil.mirrored([(9.5, 17.5), (12, 17.5), (12, 18.3), (9.5, 18.3)], shade=90)


def _sandal(pencil: _Pencil, j: Jitter) -> None:
    heel = 2 + j(1.8)
    pencil.line([(3, 20 - heel), (9, 20 - heel / 2), (25, 21.5)], width=1.4, shade=220)
    pencil.area([(3, 20 - heel), (6, 20 - heel), (4.5 + j(0.5), 22), (3, 22)], shade=200)
    for place in (8 + j(1), 14 + j(1.5), 20 + j(1)):
        pencil.line(
            [(place - 2, 20 - heel / 2), (place + 1, 13.5 + place * 0.2), (place + 3, 20.5)], width=0.9, shade=190
        )
    pencil.line([(4, 20 - heel), (4.5, 12 + j(1)), (9, 15)], width=0.8, shade=170)


def _shirt(pencil: _Pencil, j: Jitter) -> None:
    _, hem = _top(pencil, j, hem=25, half=5.4, sleeve=11 + j(6))
    pencil.mirrored([(14, 6.5), (11, 2), (10, 4.5), (12, 7)], shade=250)
    pencil.line([(14, 6), (14, hem)], width=0.4, shade=140)
    for height in np.arange(8, hem - 1, 3.2):
        pencil.ellipse(13.4, height, 14.6, height + 1.2, shade=255)


def _sneaker(pencil: _Pencil, j: Jitter) -> None:
    top = 13 + j(1)
    pencil.area(
        [(3, 20), (3, top + 1), (5, top), (8, top + 2), (12, top), (17, top + 3.5), (24, 17.5), (25.5, 20)], shade=190
    )
    pencil.line([(2.5, 20.8), (25.5, 20.8)], width=1.6, shade=250)
    for place in (12.5, 14.5, 16.5):
        pencil.line([(place, top + place * 0.2 - 1.2), (place - 2, top + 4.5)], width=0.6, shade=60)


def _bag(pencil: _Pencil, j: Jitter) -> None:
    left, top, bottom = 4 + j(1.5), 11 + j(2), 23.5 + j(1.5)
    pencil.mirrored([(14, top), (left + 1, top), (left, bottom), (14, bottom)], shade=190)
    high, inner = 4 + j(2), 9 + j(1)
    pencil.line([(inner, top), (inner + 1, high), (27 - inner, high), (28 - inner, top)], width=1.1, shade=160)
    pencil.line([(left + 0.5, top + 4), (28 - left - 0.5, top + 4)], width=0.6)
    pencil.ellipse(13, top + 3, 15, top + 5, shade=250)


def _ankle_boot(pencil: _Pencil, j: Jitter) -> None:
    top, shaft = 4.5 + j(1.5), 12.5 + j(1)
    pencil.area([(5, top), (shaft, top), (shaft + 0.5, 14), (22, 17.5), (24.5, 21), (24, 23), (4.5, 23)], shade=200)
    heel = 5 + j(1)
    pencil.area([(4, 22), (heel + 4, 22), (heel + 3.5, 25.5), (4.3, 25.5)], shade=150)
    pencil.area([(13, 22), (25, 22), (25, 24), (14, 23.6)], shade=150)
    pencil.line([(shaft - 2.5, top + 1), (shaft - 2, 13)], width=0.8)


KINDS = (_t_shirt, _trouser, _pullover, _dress, _coat, _sandal, _shirt, _sneaker, _bag, _ankle_boot)

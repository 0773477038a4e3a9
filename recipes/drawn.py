"""Lettering and regular lines on photographs: what few training photographs have, and what a network breaks first.

    python recipes/drawn.py OUT.tar COUNT DATA… [--fonts FOLDER…] [--seed N]

DATA: photographs as `realsrt train --data` takes them, files, folders and tars.

Writes COUNT images of 1024x1024 pixels as a WebDataset-format tar, to be given to `realsrt train` beside photographs:
signs with lettering, lettering straight on a photograph, and rulings (windows, blinds, bricks, fences, cables), each
seen a little turned and from the side, in the light of the photograph beneath. Everything is drawn at twice its size
and shrunk.

Fonts: all .ttf and .otf files of FOLDER, by default those of the system.
"""

import io
import os
import random
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from realsrt.errors import RealSRTError, UsageError
from realsrt.imaging.luma import luma_of
from realsrt.io.atomic import whole_or_absent
from realsrt.training.sources import entries

SIDE = 1024
FONTS = ("/usr/share/fonts", "/Library/Fonts", "C:/Windows/Fonts")
TALLEST, LEAST = 150, 22
"""Heights of letters, in pixels of the result: lower ones cannot be read once they are shrunk four times."""
ALPHABETS = (
    ("ABCDEFGHIJKLMNOPQRSTUVWXYZ", 4), ("abcdefghijklmnopqrstuvwxyzaeiounrst", 6), ("0123456789", 3),
    ("ÄÉÑÖÜßçàéèêîœ", 1), ("ΑΒΓΔΘΛΞΠΣΦΨΩαβγδεθλμπσφω", 1), ("БГДЖЗИЛПФЦЧШЭЮЯбгджзилфцчшэюя", 1),
)  # fmt: skip
Colour = tuple[int, int, int]


def word(rng: random.Random) -> str:
    (letters,) = rng.choices([letters for letters, _ in ALPHABETS], [weight for _, weight in ALPHABETS])
    text = "".join(rng.choices(letters, k=rng.randint(1, 10)))
    if letters[0] == "a" and rng.random() < 0.4:
        text = text.capitalize()
    return text + rng.choices(["", ".", ",", "-", ":", "!", "?", "/", "&", "%"], [20, *[1] * 9])[0]


def colours(rng: random.Random) -> tuple[Colour, Colour]:
    """A ground and an ink that differ in brightness by 70 levels or more."""
    while True:
        pair = [(rng.randrange(256), rng.randrange(256), rng.randrange(256)) for _ in range(2)]
        if rng.random() < 0.5:  # gray, nearly
            pair = [tuple(min(255, max(0, c[0] + rng.randint(-12, 12))) for _ in range(3)) for c in pair]
        if abs(luma_of(*pair[0]) - luma_of(*pair[1])) >= 70:
            return pair[0], pair[1]


def lettering(layer: Image.Image, rng: random.Random, fonts: Sequence[Path], ink: Colour) -> None:
    """Lines of one font, and of another now and then, over the whole layer."""
    draw, side = ImageDraw.Draw(layer), layer.width
    top = rng.randint(0, 80)
    font, outline = None, 0
    while top < side:
        if font is None or rng.random() < 0.3:
            size = round(2 * LEAST * (TALLEST / LEAST) ** (rng.random() ** 1.3))
            font = ImageFont.truetype(str(rng.choice(fonts)), size)
            outline = rng.choice([0, 0, 0, 0, max(1, size // 25)])
        left, line = rng.randint(-60, 200), ""
        while font.getlength(line) < side - left and rng.random() < 0.9:
            line += word(rng) + " "
        alpha = 255 if rng.random() < 0.8 else rng.randint(120, 255)
        if outline and rng.random() < 0.5:
            draw.text((left, top), line, (*ink, 0), font, stroke_width=outline, stroke_fill=(*ink, alpha))
        else:
            draw.text((left, top), line, (*ink, alpha), font, stroke_width=outline // 2)
        top += round(font.size * rng.uniform(1.05, 1.8))


def ruling(layer: Image.Image, rng: random.Random, ink: Colour) -> None:
    """Bars, panes, bricks or cables of one period over the whole layer."""
    draw, side = ImageDraw.Draw(layer), layer.width
    period = 2 * 8 * 10 ** rng.random()
    across, share = period * rng.uniform(0.4, 3), rng.uniform(0.15, 0.7)
    kind, shade = rng.choice(["bars", "panes", "bricks", "cables"]), rng.randint(0, 40)
    for row in range(int(side / across) + 2):
        shift = period / 2 if kind == "bricks" and row % 2 else 0
        for column in range(-1, int(side / period) + 2):
            x, y = column * period + shift, row * across
            tint = tuple(min(255, max(0, c + rng.randint(-shade, shade))) for c in ink)
            if kind == "bars":
                draw.rectangle((x, y, x + period * share, y + across), (*ink, 255))
            elif kind == "cables":
                draw.line((x, y, x + across * 0.3, y + across), (*ink, 255), max(1, round(period * share / 3)))
            else:
                gap = min(period, across) * (1 - share) / 2
                draw.rectangle((x + gap, y + gap, x + period - gap, y + across - gap), (*tint, 255))


def seen_from(layer: Image.Image, rng: random.Random) -> Image.Image:
    """The layer turned and seen from the side, in the middle of a free one: where it ends the photograph shows."""
    side, reach = layer.width, layer.width * rng.choice([0.02, 0.1, 0.22])
    corners = [(0, 0), (side, 0), (side, side), (0, side)]
    moved = [(x + rng.uniform(-reach, reach), y + rng.uniform(-reach, reach)) for x, y in corners]
    rows = []
    for (x, y), (u, v) in zip(corners, moved, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
    map_8 = np.linalg.solve(np.array(rows), np.array(moved).flatten())
    turned = layer.transform(layer.size, Image.Transform.PERSPECTIVE, tuple(map_8), Image.Resampling.BICUBIC)
    return turned.rotate(rng.gauss(0, 6) + rng.choice([0, 0, 0, 90]), Image.Resampling.BICUBIC)


def drawn(photograph: Image.Image, rng: random.Random, fonts: Sequence[Path]) -> Image.Image:
    """One image, RGB, SIDExSIDE."""
    photograph = cut(photograph, rng)
    ground, ink = colours(rng)
    sign = rng.random() < 0.6
    layer = Image.new("RGBA", (2 * SIDE, 2 * SIDE), (*ground, 255) if sign else (*ink, 0))
    if rng.random() < 0.7:
        lettering(layer, rng, fonts, ink)
    else:
        ruling(layer, rng, ink)
    layer = seen_from(layer, rng).resize((SIDE, SIDE), Image.Resampling.BOX)
    if rng.random() < 0.5:
        layer = layer.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.8)))
    below = np.asarray(photograph, np.float64) / 255
    pixels, alpha = np.split(np.asarray(layer, np.float64) / 255, [3], 2)
    light = luma_of(*np.split(below, 3, 2))
    light = (light / max(light.mean(), 0.05) - 1).clip(-1, 1)
    light = 1 + rng.uniform(0, 0.5) * light  # it falls on the sign, more or less
    out = below * (1 - alpha) + (pixels * light).clip(0, 1) * alpha
    return Image.fromarray((out * 255).round().astype(np.uint8))


def cut(photograph: Image.Image, rng: random.Random) -> Image.Image:
    """A square of it, half of its shorter side or more."""
    side = round(min(photograph.size) * rng.uniform(0.5, 1))
    left, top = rng.randint(0, photograph.width - side), rng.randint(0, photograph.height - side)
    box = (left, top, left + side, top + side)
    return photograph.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS, box=box)


def main(words: Sequence[str]) -> int:
    from argparse import ArgumentParser

    parser = ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=Path, metavar="OUT.tar")
    parser.add_argument("count", type=int)
    parser.add_argument("data", nargs="+", type=Path, metavar="DATA", help="files, folders and tars of photographs")
    parser.add_argument("--fonts", nargs="+", default=FONTS, help="folders")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(words)
    fonts = sorted(path for place in args.fonts for path in Path(place).rglob("*.[to]tf") if "Emoji" not in path.name)
    if not fonts:
        parser.error("no fonts: give a folder of .ttf or .otf files by --fonts")
    try:
        below, rng = list(entries(args.data)), random.Random(args.seed)
        if not below:
            raise UsageError("no photographs there")
        with (
            whole_or_absent(args.out) as descriptor,
            os.fdopen(os.dup(descriptor), "wb") as file,
            tarfile.open(fileobj=file, mode="w") as tar,
        ):
            for number in range(args.count):
                photograph = Image.fromarray(rng.choice(below).decode().transpose(1, 2, 0))
                drawn(photograph, rng, fonts).save(content := io.BytesIO(), "PNG")
                entry = tarfile.TarInfo(f"drawn{number:04d}.png")
                entry.size = content.tell()
                tar.addfile(entry, io.BytesIO(content.getvalue()))
    except RealSRTError as error:
        print(f"recipes/drawn.py: {error}", file=sys.stderr)
        return 2
    print(f"{args.count} images with {len(fonts)} fonts: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A picture with what a model says of it beside it."""

import io
from collections.abc import Sequence
from contextlib import suppress
from functools import cache

from PIL import Image, ImageDraw, ImageFont, ImageOps

from kennel_cli.prediction.answers import Prediction

GREEN, RED = (11, 125, 91), (199, 58, 49)  # as the reports have them
_BLUE, _INK, _SOFT, _WELL, _CARD = (47, 111, 206), (29, 34, 40), (89, 98, 109), (231, 233, 236), (255, 255, 255)
_SIDE = 480  # pixels of the longer side of the picture
_PANEL = 520  # width of the bars
_MARGIN, _GAP = 32, 36
_ROW, _BAR, _ROUND = 72, 16, 4  # height of a class, and of its bar; radius of the bar's corners
_HEAD = 84  # height of the true label
_TICK = ((0.0, 0.55), (0.36, 0.9), (1.0, 0.1))  # in a square; the font has neither glyph
_CROSS = (((0.08, 0.08), (0.92, 0.92)), ((0.08, 0.92), (0.92, 0.08)))
_WIDE_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "Arial.ttf", "arial.ttf")

Point = tuple[float, float]
Colour = tuple[int, int, int]


def draw_answer(data: bytes, predictions: Sequence[Prediction], true_label: str | None = None) -> Image.Image:
    """Return the image in a file's bytes with a bar for each prediction beside it, and the true label above them.

    The true label is green and has a tick when it is that of the first prediction; else red and has a cross.
    """
    picture = _framed(data)
    head = _HEAD if true_label is not None else 0
    bars = head + _ROW * len(predictions)
    height = max(picture.height, bars)
    canvas = Image.new("RGB", (picture.width + _PANEL + 2 * _MARGIN + _GAP, height + 2 * _MARGIN), _CARD)
    canvas.paste(picture, (_MARGIN, _MARGIN + (height - picture.height) // 2))
    left, top = _MARGIN + picture.width + _GAP, _MARGIN + (height - bars) // 2
    draw = ImageDraw.Draw(canvas)
    if true_label is not None:
        _draw_true_label(draw, (left, top), true_label, predictions[0].label == true_label)
    for place, prediction in enumerate(predictions):
        colour = _colour(place, prediction.label, true_label)
        _draw_bar(draw, (left, top + head + place * _ROW), prediction, colour)
    return canvas


def _framed(data: bytes) -> Image.Image:
    """Return the image upright, over white, and as large as its place."""
    with Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", (2 * _SIDE, 2 * _SIDE))
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I;16"):  # Pillow would take all above 255 for white
            upright = upright.convert("I").point(lambda value: value * (255 / 65535)).convert("L")
        layer = upright.convert("RGBA")
    scale = _SIDE / max(layer.size)
    size = (max(1, round(layer.width * scale)), max(1, round(layer.height * scale)))
    layer = layer.resize(size, Image.Resampling.LANCZOS)
    return Image.alpha_composite(Image.new("RGBA", size, "white"), layer).convert("RGB")


def _colour(place: int, label: str, true_label: str | None) -> Colour:
    if label == true_label:
        return GREEN
    return RED if place == 0 and true_label is not None else _BLUE


def _draw_true_label(draw: ImageDraw.ImageDraw, at: Point, label: str, is_right: bool) -> None:
    x, y = at
    colour = GREEN if is_right else RED
    draw.text((x, y), "true label", _SOFT, _font(18))
    _draw_mark(draw, (x, y + 31), 20, colour, is_right)
    font = _font(26, label)
    draw.text((x + 34, y + 41), _shortened(label, font, _PANEL - 34), colour, font, anchor="lm")


def _draw_mark(draw: ImageDraw.ImageDraw, at: Point, side: float, colour: Colour, is_right: bool) -> None:
    """Draw a tick or a cross into a square: who does not tell red from green reads it."""
    strokes = (_TICK,) if is_right else _CROSS
    for stroke in strokes:
        points = [(at[0] + x * side, at[1] + y * side) for x, y in stroke]
        draw.line(points, colour, 4, joint="curve")
        for x, y in points:
            draw.ellipse((x - 1.5, y - 1.5, x + 1.5, y + 1.5), colour)


def _draw_bar(draw: ImageDraw.ImageDraw, at: Point, prediction: Prediction, colour: Colour) -> None:
    x, y = at
    numbers, share = _font(22), f"{prediction.probability:.1%}"
    draw.text((x + _PANEL, y + 16), share, _INK, numbers, anchor="rm")
    room = _PANEL - numbers.getlength(share) - 24
    font = _font(22, prediction.label)
    draw.text((x, y + 16), _shortened(prediction.label, font, room), _INK, font, anchor="lm")
    top = y + 34
    draw.rounded_rectangle((x, top, x + _PANEL, top + _BAR), _ROUND, _WELL)
    width = max(2.0, _PANEL * min(1.0, prediction.probability))
    draw.rounded_rectangle((x, top, x + width, top + _BAR), min(_ROUND, width / 2), colour)


def _shortened(text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """Return as much of a text as there is room for, on one line."""
    text = " ".join(text.split())
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(f"{text}…") > room:
        text = text[:-1].rstrip()
    return f"{text}…"


@cache
def _font(size: int, text: str = "") -> ImageFont.FreeTypeFont:
    """Return a font for a text: Pillow's own, which knows no letter but English ones, or one of the machine's."""
    for name in () if text.isascii() else _WIDE_FONTS:
        with suppress(OSError):  # it is not there
            return ImageFont.truetype(name, size)
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # Pillow's own wheels have it
    return font

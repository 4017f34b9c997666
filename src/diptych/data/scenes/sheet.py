"""A contact sheet: pictures with everything that is said of them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from diptych.core.sample import Sample

_PICTURE, _TEXT, _MARGIN, _COLUMNS = 208, 360, 20, 2
_INK, _PALE, _PAPER, _LINE = (28, 30, 36), (120, 124, 134), (255, 255, 255), (226, 228, 233)


def contact_sheet(samples: Sequence[Sample]) -> Image.Image:
    """Pictures scaled up, their captions and one hard negative beside them."""
    rows = -(-len(samples) // _COLUMNS)
    cell_width, cell_height = _PICTURE + _TEXT + 3 * _MARGIN, _PICTURE + 2 * _MARGIN
    sheet = Image.new("RGB", (_COLUMNS * cell_width, rows * cell_height), _PAPER)
    for index, sample in enumerate(samples):
        row, column = divmod(index, _COLUMNS)
        _cell(sheet, sample, column * cell_width, row * cell_height)
        bottom = (row + 1) * cell_height - 1
        ImageDraw.Draw(sheet).line((0, bottom, sheet.width, bottom), fill=_LINE)
    return sheet


def _cell(sheet: Image.Image, sample: Sample, left: int, top: int) -> None:
    assert sample.image.pixels_HWC is not None
    picture = Image.fromarray(sample.image.pixels_HWC).resize((_PICTURE, _PICTURE), Image.Resampling.NEAREST)
    sheet.paste(picture, (left + _MARGIN, top + _MARGIN))
    draw = ImageDraw.Draw(sheet)
    x, y = left + _PICTURE + 2 * _MARGIN, top + _MARGIN - 3
    lines = [(text, _INK) for text in sample.texts]
    negatives = sample.meta.get("negatives") or {}
    lines += [(f"not: {pair['false']}", _PALE) for kind, pair in negatives.items() if kind != "order"][:1]
    for text, ink in lines:
        y = _paragraph(draw, text, x, y, ink)
    draw.text((x, top + _PICTURE + _MARGIN - 12), sample.key, fill=_PALE, font=ImageFont.load_default(11))


def _paragraph(draw: ImageDraw.ImageDraw, text: str, x: int, y: int, ink: tuple[int, int, int]) -> int:
    """Writes wrapped text; returns where the next one begins."""
    font = ImageFont.load_default(13)
    for number, line in enumerate(textwrap.wrap(text, 56)):
        draw.text((x, y), ("" if number else "· ") + line, fill=ink, font=font)
        y += 16
    return y + 4

"""A contact sheet: pictures with everything that is said of them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from diptych.core.sample import Sample

_PICTURE, _TEXT, _MARGIN, _COLUMNS = 208, 360, 20, 2
_LINE_HEIGHT, _GAP = 16, 4
_INK, _PALE, _PAPER, _RULE = (28, 30, 36), (120, 124, 134), (255, 255, 255), (226, 228, 233)

Paragraph = tuple[list[str], tuple[int, int, int]]
"""Lines and their colour."""


def contact_sheet(samples: Sequence[Sample]) -> Image.Image:
    """Pictures scaled up, their captions and one hard negative beside them; a row is as high as its text needs."""
    said = [_paragraphs(sample) for sample in samples]
    heights = [
        max(_PICTURE, *(_height(one) + _LINE_HEIGHT for one in said[begin : begin + _COLUMNS])) + 2 * _MARGIN
        for begin in range(0, len(samples), _COLUMNS)
    ]
    width = _PICTURE + _TEXT + 3 * _MARGIN
    sheet = Image.new("RGB", (_COLUMNS * width, sum(heights)), _PAPER)
    for index, sample in enumerate(samples):
        row, column = divmod(index, _COLUMNS)
        top = sum(heights[:row])
        _cell(sheet, sample, said[index], column * width, top, top + heights[row])
    return sheet


def _paragraphs(sample: Sample) -> list[Paragraph]:
    """The captions, and the first false one."""
    negatives = sample.meta.get("negatives") or {}
    false = [f"not: {pair['false']}" for kind, pair in negatives.items() if kind != "order"][:1]
    return [
        (textwrap.wrap(f"· {text}", 56), ink) for ink, texts in ((_INK, sample.texts), (_PALE, false)) for text in texts
    ]


def _height(paragraphs: Sequence[Paragraph]) -> int:
    return sum(len(lines) * _LINE_HEIGHT + _GAP for lines, _ in paragraphs)


def _cell(
    sheet: Image.Image, sample: Sample, paragraphs: Sequence[Paragraph], left: int, top: int, bottom: int
) -> None:
    assert sample.image.pixels_HWC is not None
    picture = Image.fromarray(sample.image.pixels_HWC).resize((_PICTURE, _PICTURE), Image.Resampling.NEAREST)
    sheet.paste(picture, (left + _MARGIN, top + _MARGIN))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    x, y = left + _PICTURE + 2 * _MARGIN, top + _MARGIN - 3
    for lines, ink in paragraphs:
        for line in lines:
            draw.text((x, y), line, fill=ink, font=font)
            y += _LINE_HEIGHT
        y += _GAP
    draw.text((x, bottom - _MARGIN - 12), sample.key, fill=_PALE, font=ImageFont.load_default(11))
    draw.line((left, bottom - 1, left + _PICTURE + _TEXT + 3 * _MARGIN, bottom - 1), fill=_RULE)

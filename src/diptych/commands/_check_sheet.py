"""A picture of a few samples as a model sees them: the view it is given, and the caption its tokens say."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from diptych.core.processor import Preview
from diptych.training.preflight.stage_check import StageCheck

_PICTURE, _TEXT, _MARGIN, _COLUMNS, _HEAD, _MOST = 208, 340, 20, 2, 56, 8
_INK, _PALE, _PAPER, _LINE = (28, 30, 36), (120, 124, 134), (255, 255, 255), (226, 228, 233)
_EXPLAINED = "The first batch as the model sees it: pictures after augmentation"
_CELL_WIDTH, _CELL_HEIGHT = _PICTURE + _TEXT + 3 * _MARGIN, _PICTURE + 2 * _MARGIN


def sheet(recipe: str, checks: Sequence[StageCheck]) -> Image.Image | None:
    """The first samples of each stage's first batch; None where no processor shows any."""
    shown = {check.stage: check.data.previews[:_MOST] for check in checks if _visible(check.data.previews)}
    if not shown:
        return None
    heights = [_HEAD + -(-len(some) // _COLUMNS) * _CELL_HEIGHT for some in shown.values()]
    paper = Image.new("RGB", (_COLUMNS * _CELL_WIDTH, sum(heights)), _PAPER)
    top = 0
    for (stage, some), height in zip(shown.items(), heights, strict=True):
        _section(paper, f"{recipe}, stage '{stage}'", some, top)
        top += height
    return paper


def _visible(previews: Sequence[Preview]) -> bool:
    return any(one.picture_HWC is not None or one.text for one in previews)


def _section(paper: Image.Image, title: str, previews: Sequence[Preview], top: int) -> None:
    draw = ImageDraw.Draw(paper)
    draw.text((_MARGIN, top + 14), title, fill=_INK, font=_font(15))
    texts = "captions read back from their tokens" if any(one.tokens for one in previews) else "their classes"
    draw.text((_MARGIN, top + 36), f"{_EXPLAINED}, {texts}", fill=_PALE, font=_font(11))
    top += _HEAD
    for index, preview in enumerate(previews):
        row, column = divmod(index, _COLUMNS)
        y = top + row * _CELL_HEIGHT
        draw.line((0, y, paper.width, y), fill=_LINE)
        _cell(paper, preview, column * _CELL_WIDTH + _MARGIN, y + _MARGIN)


def _cell(paper: Image.Image, preview: Preview, left: int, top: int) -> None:
    draw = ImageDraw.Draw(paper)
    size = "cached features, no picture"
    if preview.picture_HWC is not None:
        picture = Image.fromarray(preview.picture_HWC)
        size = f"{picture.width} x {picture.height}"
        scale = _PICTURE / max(picture.size)
        kernel = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
        paper.paste(picture.resize((round(picture.width * scale), round(picture.height * scale)), kernel), (left, top))
    else:
        draw.rectangle((left, top, left + _PICTURE, top + _PICTURE), outline=_LINE)
    x, y = left + _PICTURE + _MARGIN, top - 3
    for line in textwrap.wrap(preview.text, 46, max_lines=10, placeholder=" …") or ["(no text)"]:
        draw.text((x, y), line, fill=_INK, font=_font(13))
        y += 17
    if preview.tokens is not None:
        size += f" · {preview.tokens.used} tokens" + (", at the limit" * (preview.tokens.used >= preview.tokens.limit))
    foot = top + _PICTURE
    draw.text((x, foot - 30), size, fill=_PALE, font=_font(11))
    draw.text((x, foot - 14), textwrap.shorten(preview.key, 52, placeholder="…"), fill=_PALE, font=_font(11))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu, which matplotlib brings along: it has Greek, Cyrillic, Arabic and more, which Pillow's own has not."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)

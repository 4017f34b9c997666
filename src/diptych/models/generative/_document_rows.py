"""Interleaved documents as rows of tokens, cut where the room ends: between two parts, or between two words."""

from __future__ import annotations

from diptych.data.batches.documents import PICTURE, DocumentBatch, DocumentProcessor, Parts
from diptych.data.batches.image_text import ImageTextProcessor
from diptych.models.generative._document_layout import Layout
from diptych.models.generative._document_module import DocumentModel
from diptych.models.generative._picture_codes import codes_of


def pairs_of(processor: ImageTextProcessor | DocumentProcessor) -> ImageTextProcessor:
    """How a picture and a text are prepared, of a processor of either."""
    return processor.pairs if isinstance(processor, DocumentProcessor) else processor


def rows_of(batch: DocumentBatch, model: DocumentModel, end: int, room: int) -> list[list[int]]:
    """The tokens of each document and its end; no picture is cut.

    Args:
        end: the token after a document.
        room: tokens of a row at most.
    """
    codes = codes_of(model.tokenizer, batch.pixels_NCHW).tolist()
    rows, at = [], 0
    for parts, count in zip(batch.parts, batch.counts, strict=True):
        rows.append([*_row(parts, codes[at : at + count], model.layout, room - 1), end])
        at += count
    return rows


def _row(parts: Parts, codes: list[list[int]], layout: Layout, room: int) -> list[int]:
    row: list[int] = []
    pictures = iter(codes)
    for part in parts:
        shown = part == (PICTURE,)
        more = layout.picture(next(pictures)) if shown else list(part)
        if len(row) + len(more) > room:
            return row if shown else [*row, *more][:room]
        row += more
    return row

"""A memory of documents in training: pairs fill it, and some of what it holds is put before other pairs.

B batch, D width of the memory's vectors.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch.nn import functional as F

from diptych.core.seeding import unit_interval
from diptych.data.batches.image_text import ImageTextBatch
from diptych.data.neighbours import thinned
from diptych.data.words.tokenizer import pad_tokens
from diptych.models.generative._document_module import DocumentModel
from diptych.models.generative._memory import Memory
from diptych.models.generative._moved_parts import draws, untold
from diptych.models.generative._picture_codes import codes_of


def pictures_and_words(model: DocumentModel, batch: ImageTextBatch) -> tuple[list[list[int]], list[list[int]]]:
    """Each pair's picture and its text as tokens, the text without its start and its end."""
    codes = codes_of(model.tokenizer, batch.pixels_BCHW).tolist()
    texts = [row[1 : n - 1] for row, n in zip(batch.tokens_BT.tolist(), batch.lengths_B.tolist(), strict=True)]
    return [model.layout.picture(code) for code in codes], texts


def remember_pairs(model: DocumentModel, memory: Memory, batches: Iterable[ImageTextBatch], end: int) -> None:
    """Fills the memory with pairs, up to as many as it has room for.

    Args:
        end: the token that ends a document.
    """
    at = 0
    for batch in batches:
        moved = batch.to(memory.vectors_ND.device)
        vectors_BD = memory.of_texts(moved.tokens_BT, moved.lengths_B) + memory.of_pictures(moved.pixels_BCHW)
        pairs = zip(*pictures_and_words(model, moved), strict=True)
        rows = [[*said, *picture, end] for picture, said in pairs]
        at = memory.remember(at, batch.keys, F.normalize(vectors_BD, dim=-1), rows)
        if at == memory.room:
            break


def documents_before(memory: Memory, batch: ImageTextBatch, drop: float, pad: int) -> list[list[int]]:
    """The tokens of what stands before each pair: up to `rules.most` documents, as many as its seed draws.

    Args:
        drop: share of the pairs whose text is moved to the end, before which none stands.
        pad: the token of padding.
    """
    share = memory.rules.query_dropout
    rows = [row[:n] for row, n in zip(batch.tokens_BT.tolist(), batch.lengths_B.tolist(), strict=True)]
    asked = [
        [row[0], *thinned(row[1:-1], share, draws("query", seed)), row[-1]]
        for row, seed in zip(rows, batch.seeds, strict=True)
    ]
    tokens = [part.to(batch.tokens_BT.device) for part in pad_tokens(asked, pad)]
    queries_BD = F.normalize(memory.of_texts(*tokens) + memory.of_pictures(batch.pixels_BCHW), dim=-1)
    counts = [
        0 if untold(seed, drop) else int(unit_interval("how many documents", seed) * (memory.rules.most + 1))
        for seed in batch.seeds
    ]
    return memory.before(queries_BD, batch.keys, counts)

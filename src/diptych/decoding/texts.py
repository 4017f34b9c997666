"""Texts as a caller asks for them: the best by beam search, or written token by token."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from diptych.core.sampling import TextSampling
from diptych.decoding.beam import beam_search
from diptych.decoding.decoder import Decoder
from diptych.decoding.write import write


def written_texts(
    decoder: Decoder, rooms: Sequence[int], sampling: TextSampling, ends: Collection[int], seeds: Sequence[int]
) -> list[list[int]]:
    """The tokens that each row goes on with; the arguments are those of `write`.

    Args:
        seeds: one a row; read only where tokens are drawn.
    """
    if sampling.beams > 1:
        return beam_search(decoder, rooms, sampling, ends)
    return write(decoder, rooms, sampling, ends, seeds if sampling.temperature else ())

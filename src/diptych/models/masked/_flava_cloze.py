"""Words for masked places of texts, by the head that predicts words from both sides.

B texts, T tokens, P patches, L places of a text, Q tokens of a word, V vocabulary, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diptych.core.errors import DiptychError
from diptych.data.cloze import MASK, cloze_ids, word_ids
from diptych.data.image_text import ImageTextProcessor
from diptych.data.text import Tokenizer, pad_tokens
from diptych.models.masked._flava_module import Flava, words_of


def filled(
    model: Flava,
    processor: ImageTextProcessor,
    pixels_BCHW: Tensor,
    texts: list[str],
    choices: Sequence[Sequence[str]] | None,
) -> list[list[str]]:
    """The words of each text's places, in order; none for a text without any.

    Raises:
        DiptychError: a text does not fit, or a choice without any word or with one of no tokens.
    """
    if choices is None:
        return _freely(model, processor, pixels_BCHW, texts)
    tokens = [[_tokens_of(processor.tokenizer, word) for word in some] for some in choices]
    if empty := next((text for text, some in zip(texts, tokens, strict=True) if not some and MASK in text), None):
        raise DiptychError(f"no words to choose from for {empty!r}")
    best: list[list[tuple[float, str]]] = [[] for _ in texts]
    for pieces in sorted({len(ids) for some in tokens for ids in some}):
        with_it = [i for i, some in enumerate(tokens) if any(len(ids) == pieces for ids in some)]
        for i, log_p_LQV in zip(with_it, _log_p(model, processor, pixels_BCHW, texts, with_it, pieces), strict=True):
            words = [(word, ids) for word, ids in zip(choices[i], tokens[i], strict=True) if len(ids) == pieces]
            best[i] = _better(best[i], log_p_LQV, words)
    return [[word for _, word in places] for places in best]


def _freely(model: Flava, processor: ImageTextProcessor, pixels_BCHW: Tensor, texts: list[str]) -> list[list[str]]:
    """The likeliest token of every place."""
    tokenizer = processor.tokenizer
    found = []
    for log_p_L1V in _log_p(model, processor, pixels_BCHW, texts, list(range(len(texts))), 1):
        log_p_L1V[..., sorted(tokenizer.control_ids)] = -torch.inf
        ids = log_p_L1V[:, 0, : tokenizer.vocab_size].argmax(-1).tolist()
        found.append([tokenizer.decode([index]) for index in ids])
    return found


def _log_p(
    model: Flava, processor: ImageTextProcessor, pixels_BCHW: Tensor, texts: list[str], rows: list[int], pieces: int
) -> list[Tensor]:
    """Log-probabilities [L, Q, V] of every text among `rows`, each place `pieces` tokens wide."""
    tokenizer, longest, device = processor.tokenizer, processor.config.text.max_length, pixels_BCHW.device
    tokens_BT, lengths_B = pad_tokens(
        [cloze_ids(tokenizer, texts[row], longest, pieces) for row in rows], tokenizer.pad_id
    )
    tokens_BT, lengths_B = tokens_BT.to(device), lengths_B.to(device)
    chosen = pixels_BCHW[torch.tensor(rows, dtype=torch.int64, device=device)]
    states_BSD = model.fuse(chosen, model.nothing_hidden(len(rows), device), tokens_BT, lengths_B)
    words_BTD = words_of(states_BSD, model.config.vision.grid**2)
    found = []
    for tokens_T, states_TD in zip(tokens_BT, words_BTD, strict=True):
        places_MD = model.fusion.norm_post(states_TD[tokens_T == tokenizer.mask_id])
        log_p_MV = model.mmm_text(places_MD).float().log_softmax(-1)
        found.append(log_p_MV.reshape(len(log_p_MV) // pieces, pieces, log_p_MV.shape[-1]))
    return found


def _better(
    best: list[tuple[float, str]], log_p_LQV: Tensor, words: list[tuple[str, list[int]]]
) -> list[tuple[float, str]]:
    """For each place the likeliest word so far, by its tokens' mean log-probability; of equals the earlier one."""
    known = best or [(-float("inf"), "")] * len(log_p_LQV)
    result = []
    for place, log_p_QV in enumerate(log_p_LQV):
        score, word = known[place]
        for other, ids in words:
            mean = float(log_p_QV[torch.arange(len(ids)), torch.tensor(ids)].mean())
            if mean > score:
                score, word = mean, other
        result.append((score, word))
    return result


def _tokens_of(tokenizer: Tokenizer, word: str) -> list[int]:
    ids = word_ids(tokenizer, word)
    if not ids:
        raise DiptychError(f"{word!r} is no word to choose: it has no tokens")
    return ids

"""Hidden words: shares, kinds and independence, by counting."""

import pytest
import torch

from diptych.core.errors import ConfigError
from diptych.core.losses import IGNORED
from diptych.data.words.tokenizer import Tokenizer, pad_tokens
from diptych.data.words.word_masking import mask_words

TOKENIZER = Tokenizer.fit(["a red circle left of a blue square"] * 3, 320, mask=True)
assert TOKENIZER.mask_id is not None


def rows(count: int, words: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    """Random texts of `words` tokens between the control tokens."""
    body = torch.randint(4, TOKENIZER.vocab_size, (count, words), generator=torch.Generator().manual_seed(0))
    ids = [[0, *row, 1] for row in body.tolist()]
    return pad_tokens(ids, 2)


def test_shares_are_those_of_bert() -> None:
    tokens_BT, lengths_B = rows(4000)
    seeds = range(4000)
    masked = mask_words(seeds, tokens_BT, lengths_B, TOKENIZER, 0.15)
    asked = masked.labels_BT != IGNORED
    count = int(asked.sum())
    # At least one of 20: the mean is 20 p plus the chance of none, (1 - p)^20.
    assert count / (4000 * 20) == pytest.approx(0.15 + 0.85**20 / 20, abs=0.004)
    read, true = masked.tokens_BT[asked], masked.labels_BT[asked]
    assert float((read == TOKENIZER.mask_id).float().mean()) == pytest.approx(0.8, abs=0.015)
    assert float((read == true).float().mean()) == pytest.approx(0.1, abs=0.012)
    assert torch.equal(masked.tokens_BT[~asked], tokens_BT[~asked])
    assert torch.equal(true, tokens_BT[asked])
    put_in = read[(read != true) & (read != TOKENIZER.mask_id)]
    assert not set(put_in.tolist()) & TOKENIZER.control_ids
    assert len(put_in.unique()) > 0.9 * (TOKENIZER.vocab_size - 4)


def test_control_tokens_and_padding_are_never_hidden() -> None:
    tokens_BT, lengths_B = pad_tokens([[0, 9, 10, 1], [0, 9, 1], [0, 1]], 2)
    masked = mask_words([1, 2, 3], tokens_BT, lengths_B, TOKENIZER, 1.0)
    assert (masked.labels_BT != IGNORED).tolist() == [
        [False, True, True, False],
        [False, True, False, False],
        [False] * 4,
    ]


def test_every_text_that_has_a_token_is_asked_about_one() -> None:
    tokens_BT, lengths_B = rows(300, words=2)
    labels_BT = mask_words(range(300), tokens_BT, lengths_B, TOKENIZER, 0.01).labels_BT
    assert ((labels_BT != IGNORED).sum(1) >= 1).all()


def test_a_row_depends_on_its_seed_alone() -> None:
    tokens_BT, lengths_B = rows(6)
    together = mask_words([5, 6, 7, 8, 9, 10], tokens_BT, lengths_B, TOKENIZER)
    wider_BT = torch.cat([tokens_BT, torch.full((6, 9), 2)], 1)
    wider = mask_words([5, 6, 7, 8, 9, 10], wider_BT, lengths_B, TOKENIZER)
    assert torch.equal(wider.labels_BT[:, :22], together.labels_BT)
    assert torch.equal(wider.tokens_BT[:, :22], together.tokens_BT)
    alone = mask_words([8], tokens_BT[3:4], lengths_B[3:4], TOKENIZER)
    assert torch.equal(alone.labels_BT[0], together.labels_BT[3])
    assert not torch.equal(
        mask_words([8], tokens_BT[3:4], lengths_B[3:4], TOKENIZER, 0.5, "again").labels_BT,
        mask_words([8], tokens_BT[3:4], lengths_B[3:4], TOKENIZER, 0.5).labels_BT,
    )


def test_what_cannot_be_masked_is_refused() -> None:
    tokens_BT, lengths_B = rows(1)
    with pytest.raises(ConfigError, match="no mask token"):
        mask_words([0], tokens_BT, lengths_B, Tokenizer.fit(["a"], 300))
    with pytest.raises(ConfigError, match="share above 0"):
        mask_words([0], tokens_BT, lengths_B, TOKENIZER, 0.0)

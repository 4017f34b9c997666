"""Learned context: where each vector stands, and that words to start from are the hand-written prompt."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diptych.adapters.context import ContextConfig, LearnedContext, MetaNet, Place, slots
from diptych.core.errors import ConfigError, DataError
from diptych.layers.text_transformer import Padding, TextConfig, TextTransformer

HAND, NAMES = [5, 6, 7, 8], [[20], [21, 22, 23], [24, 25]]
START, END, PAD = 1, 2, 0


def tower(padding: Padding = "ignored", context: int = 16) -> TextTransformer:
    torch.manual_seed(0)
    config = TextConfig(
        32, context, width=12, depth=2, heads=3, hidden=24, causal=padding == "ignored", padding=padding
    )
    text = TextTransformer(config).double()
    for parameter in text.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return text


def rows(bodies: list[list[int]], head: int = 1, longest: int | None = None) -> tuple[Tensor, Tensor]:
    ids = [[START] * head + body + [END] for body in bodies]
    longest = longest or max(map(len, ids))
    padded = [row + [PAD] * (longest - len(row)) for row in ids]
    return torch.tensor(padded), torch.tensor([len(row) for row in ids])


@pytest.mark.parametrize("head", [0, 1])
@pytest.mark.parametrize("before", [0, 1, 3])
def test_slots_against_writing_the_rows_out(head: int, before: int) -> None:
    lengths, tokens, context = [head + 2, head + 4, head + 3], head + 5, 3
    found = slots(tokens, torch.tensor(lengths), context, before, head)
    for row, length in zip(found.tolist(), lengths, strict=True):
        vectors, name = list(range(tokens, tokens + context)), list(range(head, length - 1))
        rest = [length - 1, *range(length, tokens)]
        assert row == [*range(head), *vectors[:before], *name, *vectors[before:], *rest]


@pytest.mark.parametrize("padding", ["ignored", "constant"])
@pytest.mark.parametrize("head", [0, 1])
def test_words_to_start_from_are_the_hand_written_prompt(padding: Padding, head: int) -> None:
    text = tower(padding)
    context = LearnedContext(ContextConfig(words="any"), 12, head, start_MD=text.embedding(torch.tensor(HAND)))
    longest = 16 if padding == "constant" else None
    found = context(text, *rows(NAMES, head, longest))
    expected = text(*rows([HAND + name for name in NAMES], head, longest))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("place", "order"), [("end", "vvvvn"), ("middle", "vvnvv"), ("front", "nvvvv")])
def test_the_name_stands_where_it_is_said(place: Place, order: str) -> None:
    text = tower()
    context = LearnedContext(ContextConfig(words="any", place=place), 12, start_MD=text.embedding(torch.tensor(HAND)))
    before = order.index("n")
    written = [[*HAND[:before], *name, *HAND[before:]] for name in NAMES]
    torch.testing.assert_close(context(text, *rows(NAMES)), text(*rows(written)), rtol=0, atol=1e-12)


def test_parameters_are_those_of_the_formula() -> None:
    shared = LearnedContext(ContextConfig(5), 12)
    own = LearnedContext(ContextConfig(5, class_specific=True), 12, classes=3)
    assert [tuple(p.shape) for p in shared.parameters()] == [(5, 12)]
    assert [tuple(p.shape) for p in own.parameters()] == [(3, 5, 12)]
    meta = MetaNet(32, 12)
    assert sum(p.numel() for p in meta.parameters()) == 32 * 2 + 2 + 2 * 12 + 12


def test_noise_has_the_papers_spread() -> None:
    torch.manual_seed(0)
    vectors = LearnedContext(ContextConfig(64), 512).vectors
    assert abs(float(vectors.detach().std()) - 0.02) < 1e-3


def test_a_class_has_a_context_of_its_own() -> None:
    text = tower()
    own = LearnedContext(ContextConfig(4, class_specific=True), 12, classes=3).double()
    with torch.no_grad():
        own.vectors.normal_()
    before = own(text, *rows(NAMES), classes_N=torch.arange(3))
    with torch.no_grad():
        own.vectors[1, 2, 0] += 1
    changed = (own(text, *rows(NAMES), classes_N=torch.arange(3)) - before).abs().amax(1) > 1e-9
    assert changed.tolist() == [False, True, False]


def test_a_shift_is_added_to_every_vector() -> None:
    text = tower()
    context = LearnedContext(ContextConfig(4), 12).double()
    shift = torch.randn(3, 12, dtype=torch.float64)
    found = context(text, *rows(NAMES), shift)
    for index, name in enumerate(NAMES):
        moved = LearnedContext(ContextConfig(4), 12, start_MD=context.vectors.detach() + shift[index])
        torch.testing.assert_close(found[index : index + 1], moved(text, *rows([name])))


def test_padding_of_names_changes_nothing() -> None:
    text, context = tower(), LearnedContext(ContextConfig(4), 12).double()
    tokens, lengths = rows(NAMES, longest=9)
    noise = torch.where(torch.arange(9)[None] < lengths[:, None], tokens, 31)
    torch.testing.assert_close(context(text, noise, lengths), context(text, *rows(NAMES)), rtol=0, atol=1e-12)


def test_no_context_and_too_long_a_row_are_refused() -> None:
    with pytest.raises(ConfigError, match="1 or more"):
        ContextConfig(0)
    with pytest.raises(DataError, match="longer than the context of 6"):
        LearnedContext(ContextConfig(4), 12).double()(tower(context=6), *rows(NAMES))

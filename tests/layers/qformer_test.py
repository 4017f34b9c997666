"""The Q-Former against transformers' Blip2QFormerModel, all of it random; who may see whom in each objective."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from diptych.core.errors import ConfigError
from diptych.layers.qformer import QFormer, QFormerConfig

SIZES = QFormerConfig(4, 16, 3, 2, 24, 12, 2, 50, 20)
B, S, T = 3, 5, 6
LENGTHS = torch.tensor([6, 2, 4])


def theirs() -> Any:
    config = transformers.Blip2QFormerConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=24,
        encoder_hidden_size=12, cross_attention_frequency=2, use_qformer_text_input=True, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    model: Any = transformers.Blip2QFormerModel(config).double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(("orm.weight" in name) + 0.3 * torch.randn_like(parameter))
    return model


def names() -> list[tuple[str, tuple[str, ...]]]:
    """Our name of each weight, and those that stand one under another in it there."""
    found: list[tuple[str, tuple[str, ...]]] = [(f"norm.{kind}", (f"layernorm.{kind}",)) for kind in ("weight", "bias")]
    for layer in range(3):
        ours, here = f"blocks.{layer}", f"encoder.layer.{layer}"
        for kind in ("weight", "bias"):
            attention = f"{here}.attention"
            sides = tuple(f"{attention}.attention.{side}.{kind}" for side in ("query", "key", "value"))
            found += [
                (f"{ours}.attention.qkv.{kind}", sides),
                (f"{ours}.attention.out.{kind}", (f"{attention}.output.dense.{kind}",)),
                (f"{ours}.norm.{kind}", (f"{attention}.output.LayerNorm.{kind}",)),
                (f"{ours}.query_mlp.up.{kind}", (f"{here}.intermediate_query.dense.{kind}",)),
                (f"{ours}.query_mlp.down.{kind}", (f"{here}.output_query.dense.{kind}",)),
                (f"{ours}.query_norm.{kind}", (f"{here}.output_query.LayerNorm.{kind}",)),
                (f"{ours}.text_mlp.up.{kind}", (f"{here}.intermediate.dense.{kind}",)),
                (f"{ours}.text_mlp.down.{kind}", (f"{here}.output.dense.{kind}",)),
                (f"{ours}.text_norm.{kind}", (f"{here}.output.LayerNorm.{kind}",)),
            ]  # fmt: skip
            if layer % 2 == 0:
                cross = f"{here}.crossattention"
                pair = tuple(f"{cross}.attention.{side}.{kind}" for side in ("key", "value"))
                found += [
                    (f"{ours}.cross.query.{kind}", (f"{cross}.attention.query.{kind}",)),
                    (f"{ours}.cross.key_value.{kind}", pair),
                    (f"{ours}.cross.out.{kind}", (f"{cross}.output.dense.{kind}",)),
                    (f"{ours}.cross_norm.{kind}", (f"{cross}.output.LayerNorm.{kind}",)),
                ]
    return found


def both() -> tuple[QFormer, Any]:
    reference = theirs()
    model = QFormer(SIZES).double().eval()
    state, own = reference.state_dict(), {}
    for ours, parts in names():
        own[ours] = torch.cat([state.pop(part) for part in parts])
    assert not state, f"no entry for {sorted(state)}"
    kept = {
        name: one
        for name, one in model.state_dict().items()
        if name.split(".")[0] in ("queries_QD", "words", "positions_TD")
    }
    model.load_state_dict(own | kept)
    return model, reference


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(B, S, 12, generator=generator, dtype=torch.float64),
        torch.randint(50, (B, T), generator=generator),
    )


@pytest.mark.parity("blip2", "transformers Blip2QFormerModel", "the Q-Former's outputs, gradients", part=True)
def test_outputs_and_gradients_are_those_of_transformers() -> None:
    """Queries alone, text alone, both together; the gradient of every weight in all three."""
    ours, reference = both()
    image, tokens = inputs()
    inside = torch.arange(T) < LENGTHS[:, None]
    text = ours._text(tokens)
    found = [ours.see(image), ours.read(tokens, LENGTHS)[inside], ours.match(image, tokens, LENGTHS)]
    queries = ours.queries_QD.expand(B, -1, -1)
    together = torch.cat([torch.ones(B, 4, dtype=torch.bool), inside], dim=1).long()
    wanted = [
        reference(query_embeds=queries, encoder_hidden_states=image).last_hidden_state,
        reference(query_embeds=text, query_length=0, attention_mask=inside.long()).last_hidden_state[inside],
        reference(
            query_embeds=torch.cat([queries, text], dim=1), query_length=4, attention_mask=together,
            encoder_hidden_states=image,
        ).last_hidden_state[:, :4],
    ]  # fmt: skip
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)
    sum(one.square().sum() for one in found).backward(retain_graph=True)  # type: ignore[union-attr]
    gradients = {
        name: parameter.grad.clone() for name, parameter in ours.named_parameters() if parameter.grad is not None
    }
    sum(one.square().sum() for one in wanted).backward()  # type: ignore[union-attr]
    left = {name: parameter.grad for name, parameter in reference.named_parameters()}
    for name, parts in names():
        torch.testing.assert_close(gradients[name], torch.cat([left[part] for part in parts]), rtol=1e-7, atol=1e-8)


def changed(x: Tensor, place: int) -> Tensor:
    other = x.clone()
    other[:, place] = (other[:, place] + 7) % 50 if other.dtype == torch.int64 else other[:, place] + 1
    return other


def test_who_sees_whom() -> None:
    ours, _ = both()
    image, tokens = inputs()
    lengths = torch.full((B,), T)

    def moves(before: Tensor, after: Tensor) -> list[bool]:
        return [bool(one > 1e-9) for one in (before - after).abs().amax(dim=(0, 2))]

    # contrast: queries by the picture, the text by itself
    assert all(moves(ours.see(image), ours.see(changed(image, 2))))
    assert all(moves(ours.read(tokens, lengths), ours.read(changed(tokens, 5), lengths)))
    # matching: queries by both
    assert all(moves(ours.match(image, tokens, lengths), ours.match(image, changed(tokens, 5), lengths)))
    assert all(moves(ours.match(image, tokens, lengths), ours.match(changed(image, 0), tokens, lengths)))
    # writing: a token by the picture (through the queries) and by what came before it
    assert all(moves(ours.write(image, tokens), ours.write(changed(image, 0), tokens)))
    assert moves(ours.write(image, tokens), ours.write(image, changed(tokens, 3))) == [False] * 3 + [True] * 3
    # and the queries, in writing, by no text: what they hand over is what they are alone
    with torch.no_grad():
        alone = ours.see(image)
        hooked: list[Tensor] = []
        handle = ours.blocks[-1].register_forward_hook(lambda _, __, out: hooked.append(out[:, :4]))
        ours.write(image, tokens)
        handle.remove()
    torch.testing.assert_close(hooked[0], alone)


def test_padding_is_seen_by_nobody() -> None:
    ours, _ = both()
    image, tokens = inputs()
    other = tokens.clone()
    inside = torch.arange(T) < LENGTHS[:, None]
    other[~inside] = 3
    torch.testing.assert_close(ours.read(tokens, LENGTHS)[inside], ours.read(other, LENGTHS)[inside])
    torch.testing.assert_close(ours.match(image, tokens, LENGTHS), ours.match(image, other, LENGTHS))
    torch.testing.assert_close(ours.write(image, tokens)[inside], ours.write(image, other)[inside])


def test_without_a_vocabulary_there_are_queries_alone() -> None:
    bare = QFormer(replace(SIZES, vocabulary=0)).double()
    image, tokens = inputs()
    bare.see(image).square().sum().backward()
    assert all(parameter.grad is not None for parameter in bare.parameters() if parameter.requires_grad)
    with pytest.raises(AssertionError, match="reads no text"):
        bare.read(tokens, LENGTHS)
    with pytest.raises(ConfigError, match="do not fit the 20 positions"):
        both()[0].read(torch.zeros(1, 21, dtype=torch.int64), torch.tensor([21]))

"""Flamingo against IDEFICS of `transformers`, which is one on a Llama: logits, loss and gradients in float64.

Its resampler has ReLU where ours has GELU, so that one function is exchanged there; everything else is as it is. What a
word sees is given to IDEFICS as a mask, made here by a loop.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from tiny_public import randomise
from torch import Tensor, nn

from diptych.core.losses import IGNORED
from diptych.data.batches.conversation_batch import ConversationBatch
from diptych.layers.backbone_folder import tiny_vision_backbone
from diptych.layers.connectors import ConnectorConfig, Resampler
from diptych.layers.gated_cross_attention import GatedCrossConfig
from diptych.models.pretrained_backbone._crossed import Crossed
from diptych.models.pretrained_backbone._llama import llama_of
from diptych.models.pretrained_backbone._patch_features import PatchFeatures
from diptych.models.pretrained_backbone._prefixed import Trained
from diptych.objectives.autoregressive import next_token_loss

VOCABULARY, WIDTH, CHANNELS, FEATURES, QUERIES = 50, 32, 24, 7, 5
EVERY = 2
SOME_BLIND = [[2, 6], [0], []]
ALL_SEE = [[0, 6], [0], [0, 2]]
LENGTHS = [11, 9, 6]


def theirs() -> Any:
    config = transformers.IdeficsConfig(
        vocab_size=VOCABULARY, additional_vocab_size=0, hidden_size=WIDTH, intermediate_size=2 * WIDTH,
        num_hidden_layers=4, num_attention_heads=4, cross_layer_interval=EVERY, use_resampler=True, alpha_type="float",
        alpha_initializer="zeros", rms_norm_eps=1e-5, tie_word_embeddings=False, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, freeze_text_layers=False, freeze_vision_layers=False,
        vision_config={"embed_dim": CHANNELS, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24,
                       "image_size": 16, "patch_size": 8},
        perceiver_config={"use_resampler": True, "resampler_n_latents": QUERIES, "resampler_depth": 2,
                          "resampler_n_heads": 3, "resampler_head_dim": 8, "qk_layer_norms_perceiver": False},
        attn_implementation="eager",
    )  # fmt: skip
    torch.manual_seed(0)
    model: Any = transformers.IdeficsForVisionText2Text(config)
    randomise(model)
    for block in model.model.perceiver_resampler.blocks:
        block[1].act = nn.GELU()
    return model.double().eval()


def ours(reference: Any) -> Crossed:
    """Its weights, by name; not one is left over but those of its tower."""
    state = {name: tensor.clone() for name, tensor in reference.state_dict().items()}
    state = {name: tensor for name, tensor in state.items() if not name.startswith("model.vision_model.")}
    plain = {
        "hidden_size": WIDTH, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 2 * WIDTH,
        "rms_norm_eps": 1e-5, "vocab_size": VOCABULARY,
    }  # fmt: skip
    words = {
        n: state.pop(n) for n in list(state) if n.startswith(("model.layers.", "model.embed", "model.norm", "lm_"))
    }
    language = llama_of(plain, words, "IDEFICS")  # type: ignore[arg-type]
    resampler = ConnectorConfig("resampler", queries=QUERIES, depth=2, heads=3).build(FEATURES, CHANNELS, CHANNELS)
    config = GatedCrossConfig(EVERY, 4, WIDTH // 4, 2, "swiglu", "rms")
    tower = PatchFeatures(tiny_vision_backbone(CHANNELS, 16))
    module = Crossed(tower, resampler, language, config, CHANNELS).double()
    fill_resampler(module.connector, state)
    for place, (crossing, keys) in enumerate(zip(module.crossings, module.picture_keys, strict=True)):
        fill_crossing(
            crossing, keys, {n: state.pop(n) for n in list(state) if n.startswith(prefix(place))}, prefix(place)
        )
    assert not [name for name in state if "rotary" not in name], list(state)
    module.set_trained(Trained(language=True))
    return module.eval()


def prefix(place: int) -> str:
    return f"model.gated_cross_attn_layers.{place}."


def fill_crossing(crossing: nn.Module, keys: nn.Module, found: dict[str, Tensor], before: str) -> None:
    def pop(name: str) -> Tensor:
        return found.pop(before + name)

    pair = torch.cat([pop("cross_attn.k_proj.weight"), pop("cross_attn.v_proj.weight")])
    keys.load_state_dict({"key_value.weight": pair})
    crossing.load_state_dict({
        "attention_norm.weight": pop("input_layernorm.weight"),
        "mlp_norm.weight": pop("post_attention_layernorm.weight"),
        "query.weight": pop("cross_attn.q_proj.weight"),
        "out.weight": pop("cross_attn.o_proj.weight"),
        "mlp.up.weight": torch.cat([pop("mlp.gate_proj.weight"), pop("mlp.up_proj.weight")]),
        "mlp.down.weight": pop("mlp.down_proj.weight"),
        "attention_gate": pop("alpha_cross_attn"),
        "mlp_gate": pop("alpha_dense"),
    })  # fmt: skip
    assert not [name for name in found if "rotary" not in name], list(found)


def fill_resampler(resampler: nn.Module, state: dict[str, Tensor]) -> None:
    before = "model.perceiver_resampler."
    new = {"latents_QD": state.pop(f"{before}latents")}
    new |= {f"norm.{name}": state.pop(f"{before}layer_norm.{name}") for name in ("weight", "bias")}
    for block in range(2):
        there, here = f"{before}blocks.{block}.", f"blocks.{block}."
        for kind in ("weight", "bias"):
            new[f"{here}norm_features.{kind}"] = state.pop(f"{there}0.context_layer_norm.{kind}")
            new[f"{here}norm_latents.{kind}"] = state.pop(f"{there}0.latents_layer_norm.{kind}")
            new[f"{here}mlp.0.{kind}"] = state.pop(f"{there}1.ln.{kind}")
        new[f"{here}query.weight"] = state.pop(f"{there}0.q_proj.weight")
        new[f"{here}key_value.weight"] = torch.cat([state.pop(f"{there}0.{one}_proj.weight") for one in "kv"])
        new[f"{here}out.weight"] = state.pop(f"{there}0.output_proj.weight")
        new[f"{here}mlp.1.weight"] = state.pop(f"{there}1.fc.weight")
        new[f"{here}mlp.3.weight"] = state.pop(f"{there}1.c_proj.weight")
    resampler.load_state_dict(new)


def conversations(where_of: list[list[int]]) -> tuple[ConversationBatch, Tensor]:
    """Rows with pictures at these places; and what IDEFICS is told that each token sees [B, T, M]."""
    draws = torch.Generator().manual_seed(1)
    tokens = torch.randint(3, VOCABULARY, (3, 11), generator=draws)
    places, mask = torch.zeros(3, 11, dtype=torch.bool), torch.zeros(3, 11, 2, dtype=torch.long)
    for row, where in enumerate(where_of):
        for number, at in enumerate(where):
            places[row, at] = True
            end = where[number + 1] if number + 1 < len(where) else 11
            mask[row, at:end, number] = 1
    inside = torch.arange(11) < torch.tensor(LENGTHS)[:, None]
    labels = tokens.masked_fill(~inside | places, IGNORED)
    counts = tuple(len(where) for where in where_of)
    features = torch.randn(sum(counts), FEATURES, CHANNELS, generator=draws, dtype=torch.float64)
    batch = ConversationBatch(
        ("a", "b", "c"), tokens, labels, places, torch.tensor(LENGTHS), torch.zeros(0), counts, (0, 0, 0),
        features_NSC=features.requires_grad_(),
    )  # fmt: skip
    return batch, mask


@pytest.fixture(scope="module")
def both() -> tuple[Crossed, Any]:
    reference = theirs()
    return ours(reference), reference


def padded(batch: ConversationBatch, features_NSC: Tensor) -> Tensor:
    """As IDEFICS takes them: as many pictures in every row, zeros where there are fewer [B, M, S, C]."""
    rows, none = iter(features_NSC), torch.zeros(FEATURES, CHANNELS, dtype=torch.float64)
    found = [next(rows) if place < count else none for count in batch.counts for place in range(2)]
    return torch.stack(found).view(3, 2, FEATURES, CHANNELS)


def said_by_idefics(reference: Any, batch: ConversationBatch, features_NSC: Tensor, mask: Tensor) -> Tensor:
    inside = torch.arange(11) < torch.tensor(LENGTHS)[:, None]
    logits: Tensor = reference(
        input_ids=batch.tokens_BT, attention_mask=inside.long(), use_cache=False, image_attention_mask=mask,
        image_encoder_embeddings=padded(batch, features_NSC),
    ).logits  # fmt: skip
    return logits


@pytest.mark.parity("flamingo", "transformers IdeficsForVisionText2Text", "logits, loss, gradients")
@pytest.mark.parametrize("where", [SOME_BLIND, ALL_SEE], ids=["words before any picture", "pictures first"])
def test_logits_loss_and_gradients_are_those_of_idefics(both: tuple[Crossed, Any], where: list[list[int]]) -> None:
    """Gradients where pictures stand first: of a word that sees none IDEFICS' are no numbers."""
    module, reference = both
    module.zero_grad()
    reference.zero_grad()
    batch, mask = conversations(where)
    said = module(batch)
    found = next_token_loss(said.states_BAD, said.labels_BA, module.logits).cross_entropy
    assert batch.features_NSC is not None
    other = batch.features_NSC.detach().clone().requires_grad_()
    logits = said_by_idefics(reference, batch, other, mask)
    inside = torch.arange(11) < torch.tensor(LENGTHS)[:, None]
    torch.testing.assert_close(module.logits(said.states_BAD)[inside], logits[inside], rtol=1e-5, atol=1e-5)
    labels = batch.labels_BT[:, 1:].flatten()
    wanted = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels, ignore_index=IGNORED, reduction="sum")
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)  # rotary angles are float32 on both sides
    if where is SOME_BLIND:
        return
    found.backward()
    wanted.backward()
    same(batch.features_NSC.grad, other.grad)
    gradients_agree(module, reference.model)


def gradients_agree(module: Crossed, body: Any) -> None:
    """Of every trained weight of the gated blocks, and of the resampler's latents, which all of it is behind."""
    blocks = zip(module.gated_blocks(), module.picture_keys, body.gated_cross_attn_layers, strict=True)
    for crossing, keys, layer in blocks:
        attention, mlp = layer.cross_attn, layer.mlp
        same(crossing.attention_gate.grad, layer.alpha_cross_attn.grad)
        same(crossing.mlp_gate.grad, layer.alpha_dense.grad)
        same(crossing.query.weight.grad, attention.q_proj.weight.grad)
        pair = torch.cat([attention.k_proj.weight.grad, attention.v_proj.weight.grad])
        same(keys.key_value.weight.grad, pair)
        same(crossing.out.weight.grad, attention.o_proj.weight.grad)
        same(crossing.mlp.down.weight.grad, mlp.down_proj.weight.grad)
    assert isinstance(module.connector, Resampler)
    same(module.connector.latents_QD.grad, body.perceiver_resampler.latents.grad)


def same(found: Tensor | None, wanted: Tensor | None) -> None:
    assert found is not None and wanted is not None
    scale = max(float(wanted.abs().max()), 1e-9)
    torch.testing.assert_close(found / scale, wanted / scale, rtol=1e-4, atol=1e-5)


def test_a_mask_that_is_off_by_a_token_is_told(both: tuple[Crossed, Any]) -> None:
    """The comparison can fail: a word that looks at the picture before the last gives other logits."""
    module, reference = both
    batch, mask = conversations(ALL_SEE)
    assert batch.features_NSC is not None
    with torch.no_grad():
        found = module.logits(module(batch).states_BAD)
        moved = said_by_idefics(reference, batch, batch.features_NSC, mask.roll(1, dims=1))
    assert float((found - moved)[0].abs().max()) > 1e-2

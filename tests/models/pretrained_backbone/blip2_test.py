"""BLIP-2's first stage: heads and scores of transformers' Blip2ForImageTextRetrieval, and each objective by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from torch.nn import functional as F

from diptych.core.errors import ConfigError, DiptychError, TextTooLong
from diptych.core.sampling import TextSampling
from diptych.data.batches.image_text import ImageTextBatch
from diptych.data.loading.evaluation_batches import EvaluationBatches
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.models.pretrained_backbone import blip2
from diptych.objectives.best_query import best_query

SOURCE = Scenes("train", 12, SceneConfig(32, 1, words=0.0))


def task() -> blip2.Blip2Task:
    torch.manual_seed(0)
    made = blip2.tiny_tasks([SOURCE[index] for index in range(12)])["first_stage"]
    with torch.no_grad():
        for parameter in made.model.qformer.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made.eval()


def batch_of(made: blip2.Blip2Task) -> ImageTextBatch:
    return next(iter(EvaluationBatches(SOURCE, made.processor, 12, 1, 0.0)))


@pytest.mark.parity("blip2", "transformers Blip2ForImageTextRetrieval", "scores of contrast and matching")
def test_scores_are_those_of_transformers() -> None:
    """Contrast and matching, from the same features of pictures, every weight random."""
    ours = task().model.double()
    sizes = ours.config.qformer
    config = transformers.Blip2Config(
        vision_config={"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
                       "image_size": 32, "patch_size": 8},
        qformer_config={"vocab_size": sizes.vocabulary, "hidden_size": 64, "num_hidden_layers": 2,
                        "num_attention_heads": 2, "intermediate_size": 128, "encoder_hidden_size": 32,
                        "max_position_embeddings": 128, "use_qformer_text_input": True, "hidden_dropout_prob": 0.0,
                        "attention_probs_dropout_prob": 0.0},
        text_config={"model_type": "opt", "hidden_size": 16, "ffn_dim": 16, "num_hidden_layers": 1,
                     "num_attention_heads": 2, "vocab_size": 20, "word_embed_proj_dim": 16},
        num_query_tokens=4, image_text_hidden_size=32,
    )  # fmt: skip
    theirs: Any = transformers.Blip2ForImageTextRetrieval(config).double().eval()
    assert ours.qformer.words is not None and ours.qformer.positions_TD is not None
    with torch.no_grad():
        theirs.query_tokens.copy_(ours.qformer.queries_QD[None])
        theirs.embeddings.word_embeddings.weight.copy_(ours.qformer.words.weight)
        theirs.embeddings.position_embeddings.weight.copy_(ours.qformer.positions_TD)
        for mine, other in ((ours.image_head, theirs.vision_projection), (ours.text_head, theirs.text_projection),
                            (ours.match_head, theirs.itm_head)):  # fmt: skip
            other.load_state_dict(mine.state_dict())
        _fill(ours.qformer, theirs.qformer)
    image = torch.randn(2, 5, 32, dtype=torch.float64)
    tokens, lengths = torch.randint(3, 200, (3, 6)), torch.tensor([6, 4, 5])
    inside = (torch.arange(6) < lengths[:, None]).long()
    queries = theirs.qformer(query_embeds=theirs.query_tokens.expand(2, -1, -1), encoder_hidden_states=image)
    pictures = F.normalize(theirs.vision_projection(queries.last_hidden_state), dim=-1)
    words = theirs.embeddings(input_ids=tokens)
    said = theirs.qformer(query_embeds=words, query_length=0, attention_mask=inside).last_hidden_state[:, 0]
    texts = F.normalize(theirs.text_projection(said), dim=-1)
    wanted = (pictures[:, None] @ texts[None, :, :, None]).squeeze(-1).amax(-1)
    found = best_query(ours.image_vectors(image), ours.text_vectors(tokens, lengths))
    torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-8)

    both = theirs.embeddings(input_ids=tokens[:2], query_embeds=theirs.query_tokens.expand(2, -1, -1))
    mask = torch.cat([torch.ones(2, 4, dtype=torch.int64), inside[:2]], dim=1)
    told = theirs.qformer(query_embeds=both, query_length=4, attention_mask=mask, encoder_hidden_states=image)
    matches = theirs.itm_head(told.last_hidden_state[:, :4]).mean(1)
    torch.testing.assert_close(ours.matching(image, tokens[:2], lengths[:2]), matches, rtol=1e-7, atol=1e-8)


def _fill(ours: Any, theirs: Any) -> None:
    """Their Q-Former with our weights."""
    theirs.layernorm.load_state_dict(ours.norm.state_dict())
    for block, layer in zip(ours.blocks, theirs.encoder.layer, strict=True):
        for place, side in enumerate(("query", "key", "value")):
            part = getattr(layer.attention.attention, side)
            part.weight.copy_(block.attention.qkv.weight.chunk(3)[place])
            part.bias.copy_(block.attention.qkv.bias.chunk(3)[place])
        pairs = [(block.attention.out, layer.attention.output.dense), (block.norm, layer.attention.output.LayerNorm),
                 (block.query_mlp.up, layer.intermediate_query.dense), (block.query_mlp.down, layer.output_query.dense),
                 (block.query_norm, layer.output_query.LayerNorm), (block.text_mlp.up, layer.intermediate.dense),
                 (block.text_mlp.down, layer.output.dense), (block.text_norm, layer.output.LayerNorm)]  # fmt: skip
        if block.cross is not None:
            cross = layer.crossattention
            pairs += [(block.cross.query, cross.attention.query), (block.cross.out, cross.output.dense),
                      (block.cross_norm, cross.output.LayerNorm)]  # fmt: skip
            for place, side in enumerate(("key", "value")):
                part = getattr(cross.attention, side)
                part.weight.copy_(block.cross.key_value.weight.chunk(2)[place])
                part.bias.copy_(block.cross.key_value.bias.chunk(2)[place])
        for mine, other in pairs:
            other.load_state_dict(mine.state_dict())


def test_the_contrast_is_of_the_best_query_both_ways() -> None:
    made = task()
    batch = batch_of(made)
    loss = made.losses(batch)["contrast"]
    model = made.predictor()
    close = (
        model.score([SOURCE[i].image for i in range(12)], [SOURCE[i].texts[0] for i in range(12)]) / blip2.TEMPERATURE
    )
    labels = torch.arange(12)
    wanted = sum(F.cross_entropy(one, labels, label_smoothing=0.1) for one in (close, close.T)) / 2
    assert float(loss.sum.detach()) / loss.count == pytest.approx(float(wanted), rel=1e-4)


def test_writing_is_the_likelihood_of_each_caption() -> None:
    made = task()
    loss = made.losses(batch_of(made))["writing"]
    model = made.predictor()
    images, texts = [SOURCE[i].image for i in range(12)], [SOURCE[i].texts[0] for i in range(12)]
    found = model.text_likelihood(images, [""] * 12, texts)
    assert float(loss.sum.detach()) == pytest.approx(-float(found.log_N.sum()), rel=1e-4)
    assert loss.count == int(found.counts_N.sum())
    blind = model.text_likelihood([None] * 12, [""] * 12, texts)
    assert not torch.allclose(blind.log_N, found.log_N, rtol=1e-4)


def test_matching_is_told_own_pairs_from_hard_ones_that_are_others() -> None:
    made = task()
    batch = batch_of(made)
    rows = made.features(batch).features
    texts, pictures, found = made.hard_negatives(rows, 0, 12)
    assert bool(found.all())
    for place in range(12):
        for other in (int(texts[place]), int(pictures[place])):
            assert batch.keys[other] != batch.keys[place]
            assert SOURCE[other].texts[0] != SOURCE[place].texts[0]
    model = made.predictor()
    images, said = [SOURCE[i].image for i in range(12)], [SOURCE[i].texts[0] for i in range(12)]
    own = model.score_pairs(images, said)
    hard_text = model.score_pairs(images, [said[int(i)] for i in texts])
    hard_image = model.score_pairs([images[int(i)] for i in pictures], said)
    wanted = sum(float(F.softplus(one).sum()) for one in (-own, hard_text, hard_image))
    loss = made.losses(batch)["matching"]
    assert float(loss.sum.detach()) == pytest.approx(wanted, rel=1e-4) and loss.count == 36


def test_captions_are_written_word_by_word() -> None:
    made = task()
    model, words = made.predictor(), made.processor.tokenizer
    image = SOURCE[0].image
    (text,) = model.generate_text([[image, "a large"]], TextSampling(6))
    ids = [*words.encode(["a large"], 128)[0][:-1]]
    begun = len(ids)
    with torch.inference_mode():
        features = model._see([image])
        while len(ids) - begun < 6:
            logits = made.model.logits(made.model.written(features, torch.tensor([ids])))[0, -1]
            logits[made.model.begin] = -torch.inf
            token = int(logits.argmax())
            if token == words.end_id:
                break
            ids.append(token)
    assert text == words.decode(ids[begun:]).strip()


def test_what_does_not_fit_is_refused_with_both_numbers() -> None:
    made = task()
    tower, sizes = made.model.tower, made.config.qformer
    fewer: dict[str, Any] = {"vocabulary": sizes.vocabulary - 1}
    wrong = ((fewer, "takes one fewer"), ({"image_width": 24}, "are 32 wide"), ({"context": 32}, "the 32 positions"))
    for change, said in wrong:
        config = replace(made.config, qformer=replace(sizes, **change))
        with pytest.raises(ConfigError, match=said):
            blip2.Blip2Task(config, made.processor, tower)
    model = made.predictor()
    with pytest.raises(TextTooLong, match="leaves no room to go on in 128"):
        model.generate_text([[SOURCE[0].image, "red " * 140]])
    with pytest.raises(DiptychError, match="2 pictures"):
        model.generate_text([[SOURCE[0].image, SOURCE[1].image]])

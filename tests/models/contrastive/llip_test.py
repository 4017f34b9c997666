"""Llip: who may see whom, its verbs, its options, and what it is when there is one token."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.core.errors import ConfigError, DiptychError
from diptych.core.losses import total
from diptych.core.sample import Sample
from diptych.core.task import Features
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.loading.loader import evaluation_batches
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.data.words.tokenizer import Tokenizer
from diptych.evaluation.runner import evaluate
from diptych.models.contrastive import llip
from diptych.models.contrastive._options import Masking, PairOptions
from diptych.models.contrastive.llip import Config, LlipPredictor, LlipTask
from diptych.objectives.contrastive import sigmoid_loss
from diptych.objectives.llip import attention

SCENES = Scenes("test", 6, SceneConfig(size=32, min_objects=2))
TEXTS = ["a red square", "two blue circles", "a star above a green cross", "a small one on the left"]
TOKENIZER = Tokenizer.fit([*TEXTS, *(text for i in range(6) for text in SCENES[i].texts)], 300)
TINY = Config.tiny(TOKENIZER.vocab_size, image_size=32)


def task(config: Config = TINY, options: PairOptions | None = None, negatives: tuple[str, ...] = ()) -> LlipTask:
    torch.manual_seed(0)
    settings = ImageTextConfig(ImagePreprocessing(32, views=None), TextPreprocessing(64, negatives=negatives))
    made = LlipTask(config, ImageTextProcessor(settings, TOKENIZER), options)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # zeros and ones hide missing wiring
    return made


def predictor(config: Config = TINY) -> LlipPredictor:
    found = task(config).predictor()
    found.module.eval()
    return found


def pictures(count: int = 3) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def tokens(made: LlipTask, texts: list[str] = TEXTS) -> tuple[Tensor, Tensor]:
    return made.processor.tokens(texts)


def with_tokens(count: int, **changes: object) -> Config:
    return replace(TINY, vision=replace(TINY.vision, class_tokens=count), **changes)  # type: ignore[arg-type]


# The table of who may see whom: image <- image 1, image <- text 0 in the encoder and 1 in the score, text <- image 0,
# text_t <- text_>t 0.


def test_every_patch_reaches_every_mixture_token_and_no_other_picture_does() -> None:
    model = task().double().model
    pixels = pictures().double()
    before = model.encode_image(pixels)
    changed = pixels.clone()
    changed[1, :, :8, :8] += 0.5
    moved = (model.encode_image(changed) - before).abs().amax(-1) > 1e-9
    assert bool(moved[1].all())
    assert not bool(moved[[0, 2]].any())


def test_a_caption_changes_the_score_of_its_own_column_alone() -> None:
    """z_ij depends on i and j; the vector of a text on j."""
    found = predictor()
    before = found.score(pictures(), TEXTS)
    after = found.score(pictures(), [*TEXTS[:2], "something else", TEXTS[3]])
    changed = (after - before).abs() > 1e-5
    assert bool(changed[:, 2].all())
    assert not bool(changed[:, [0, 1, 3]].any())
    pixels = pictures()
    pixels[1] = 1 - pixels[1]
    assert ((found.score(pixels, TEXTS) - before).abs() > 1e-5).any(1).tolist() == [False, True, False]


def test_a_text_sees_what_comes_before_and_nothing_after_its_end() -> None:
    made = task().double()
    rows, lengths = tokens(made, ["a red square", "a red square and more words"])
    alone, _ = made.model.encode_text(rows, lengths)
    rows[0, lengths[0] :] = 5  # beyond the end
    assert torch.equal(made.model.encode_text(rows, lengths)[0], alone)
    rows[0, 1] = 7
    assert float((made.model.encode_text(rows, lengths)[0] - alone).detach().abs().max()) > 1e-6


def test_what_a_picture_is_mixed_to_differs_between_captions() -> None:
    made = task()
    key_NKE, value_NKE = made.model.encode_image(pictures()).chunk(2, -1)
    query_ME, _ = made.model.encode_text(*tokens(made)).chunk(2, -1)
    weights = attention(key_NKE, query_ME, made.config.mixing).detach()
    assert weights.shape == (3, 4, 4, 8)
    assert float(weights.std(1).mean()) > 0.01
    assert float(value_NKE.detach().std(1).mean()) > 0.1


def test_one_token_is_a_siglip_whose_picture_goes_through_two_more_linear_maps() -> None:
    made = task(with_tokens(1)).double()
    features = Features(image=made.model.encode_image(pictures(4).double()), text=made.model.encode_text(*tokens(made)))
    _, value_BKE = features["image"].chunk(2, -1)
    image_BE = F.normalize(made.model.out(value_BKE[:, 0]), dim=-1)
    text_BE = features["text"].chunk(2, -1)[1]
    expected = sigmoid_loss(image_BE, text_BE, made.model.log_scale.exp(), made.model.bias)
    part = made.losses_from(features)["contrastive"]
    assert part.count == 4
    torch.testing.assert_close(part.value, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(made.model.uniform(features["image"]), image_BE, rtol=1e-12, atol=1e-14)


def test_a_large_temperature_scores_with_the_uniform_mixture() -> None:
    listening, deaf = predictor(), predictor(replace(TINY, temperature=1e8))
    cosine = deaf.encode_image(pictures()) @ deaf.encode_text(TEXTS).T
    expected = deaf.module.log_scale.exp() * cosine + deaf.module.bias
    torch.testing.assert_close(deaf.score(pictures(), TEXTS), expected.detach(), rtol=1e-4, atol=1e-4)
    assert float((listening.score(pictures(), TEXTS) - expected).detach().abs().max()) > 0.1


def test_the_loss_asks_what_the_score_answers() -> None:
    made = task()
    found = made.predictor()
    found.module.eval()
    features = Features(image=made.model.encode_image(pictures(4)), text=made.model.encode_text(*tokens(made)))
    signs = 2 * torch.eye(4) - 1
    expected = -F.logsigmoid(signs * found.score(pictures(4), TEXTS)).sum() / 4
    torch.testing.assert_close(made.losses_from(features)["contrastive"].value.detach(), expected, rtol=1e-5, atol=1e-5)


def test_the_score_of_pairs_is_the_diagonal() -> None:
    found = predictor()
    rows = found.score(pictures(4), TEXTS)
    torch.testing.assert_close(found.score_pairs(pictures(4), TEXTS), rows.diagonal(), rtol=1e-5, atol=1e-5)
    assert found.how("score_pairs") == found.how("score") == "native"
    with pytest.raises(DiptychError, match="one text a visual"):
        found.score_pairs(pictures(3), TEXTS)


def test_nothing_is_scored_where_there_is_nothing() -> None:
    found = predictor()
    assert found.score(pictures(), []).shape == (3, 0)
    assert found.score([], TEXTS).shape == (0, 4)
    assert found.score_pairs([], []).shape == (0,)
    assert len(found.encode_image([])) == len(found.encode_text([])) == 0


def test_benchmarks_read_each_picture_once_and_rank_by_the_score(monkeypatch: pytest.MonkeyPatch) -> None:
    found = predictor()
    seen: list[int] = []
    encode = found.module.encode_image
    monkeypatch.setattr(found.module, "encode_image", lambda pixels: seen.append(len(pixels)) or encode(pixels))
    lone = Scenes("test", 12, SceneConfig(size=32, objects=1))
    evaluate(found, ["zero_shot_classification"], lone)
    assert sum(seen) == 12
    seen.clear()
    (result,) = evaluate(found, ["retrieval"], SCENES)
    assert sum(seen) == 6
    samples = [SCENES[i] for i in range(6)]
    texts, owner = [t for s in samples for t in s.texts], [i for i, s in enumerate(samples) for _ in s.texts]
    best = found.score([s.image for s in samples], texts).argmax(1).tolist()
    right = np.mean([owner[j] == i for i, j in enumerate(best)])
    assert result.metrics["image_to_text_r1"].value == pytest.approx(right)


def test_masked_patches_are_not_looked_at() -> None:
    made = task(options=PairOptions(Masking(image=0.5)))
    batch = batch_of(made)
    kept = made.kept_patches(batch)
    assert kept is not None and kept.shape == (6, 8)
    changed = replace(batch, pixels_BCHW=batch.pixels_BCHW.clone())
    dropped = next(patch for patch in range(16) if patch not in kept[0].tolist())
    row, column = divmod(dropped, 4)
    changed.pixels_BCHW[0, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 255
    before, after = made.features(batch).features, made.features(changed).features
    assert before["image"].shape == (6, 8, 128)
    assert torch.equal(before["image"], after["image"])


def test_hard_negatives_are_captions_of_no_picture() -> None:
    made = task(negatives=("swap_attribute",))
    rows = made.features(batch_of(made)).features
    assert made.travelling == ("text", "negative", "wanted")
    plain = float(made.losses_from(Features(image=rows["image"], text=rows["text"], negative=rows["negative"],
                                            wanted=torch.zeros(6, dtype=torch.bool)))["contrastive"].value)  # fmt: skip
    wanted = torch.tensor([True, False, True, True, False, True])
    found = made.losses_from(Features({**rows, "wanted": wanted}))["contrastive"].value
    alone = made.pair_losses(Features(image=rows["image"]), Features(text=rows["negative"][wanted], negative=rows[
        "negative"], wanted=torch.zeros(6, dtype=torch.bool)), own=False)["contrastive"].value  # fmt: skip
    torch.testing.assert_close(found, plain + alone, rtol=1e-5, atol=1e-5)


def batch_of(made: LlipTask) -> object:
    return next(iter(evaluation_batches(SCENES, made.processor, 6)))


def test_the_loss_at_initialisation_is_siglips() -> None:
    fresh = LlipTask(TINY, task().processor)
    assert fresh.summary() == {"scale": pytest.approx(10.0), "bias": -10.0}
    loss = float(total(fresh.losses(batch_of(fresh))).detach())  # type: ignore[arg-type]
    assert abs(loss - 10.0 - 5 * math.log1p(math.exp(-10))) < 8.0  # cosines of -1 to 1 times a scale of 10


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda: with_tokens(0), "class_tokens 0 with pooling 'cls': give 1 or more"),
        (lambda: replace(TINY, vision=replace(TINY.vision, class_tokens=1, pooling="map")), "pooling 'map'"),
        (lambda: replace(TINY, heads=5), "a joint width of 64 does not divide into 5 heads"),
        (lambda: replace(TINY, heads=0), "does not divide into 0 heads"),
        (lambda: replace(TINY, temperature=0.0), r"temperature 0.0 must be positive"),
        (lambda: task(options=PairOptions(same_text=True)), "same_text is for CLIP"),
        (lambda: task(options=PairOptions(Masking(image=0.99))), "of 16 patches leaves none"),
    ],
)
def test_what_cannot_be_is_refused(change: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        change()  # type: ignore[operator]


def test_each_token_has_a_matrix_of_its_own() -> None:
    made = task()
    assert made.model.key.weight.shape == (8, 96, 64)
    x_BKD = torch.randn(2, 8, 96)
    by_hand = torch.stack([x_BKD[:, k] @ made.model.key.weight[k] for k in range(8)], 1)
    torch.testing.assert_close(made.model.key(x_BKD), by_hand, rtol=1e-4, atol=1e-5)


def test_tiny_tasks_are_for_any_samples() -> None:
    samples = [Sample("a", (SCENES[0].image,), ("a text",))]
    assert set(llip.tiny_tasks(samples)) == {"contrastive"}

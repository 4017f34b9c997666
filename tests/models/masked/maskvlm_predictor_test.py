"""What a MaskVLM answers: matching scores, words, and patches that nothing of their own pixels goes into."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from maskvlm_toys import batch_of, random_task, scenes
from numpy.typing import NDArray
from torch import Tensor

from diptych.core.errors import ConfigError, DiptychError
from diptych.core.visual import Image
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.words.cloze import cloze_ids, word_ids
from diptych.data.words.tokenizer import Tokenizer
from diptych.models.masked.maskvlm import Config, MaskVlmPredictor, MaskVlmTask

TEXTS = ["red", "a small blue circle", "two things"]


def predictor() -> tuple[MaskVlmTask, MaskVlmPredictor]:
    task = random_task()
    task.float()
    made = task.predictor()
    made.module.eval()
    return task, made


def pictures(count: int = 3) -> list[Image]:
    return [sample.image for sample in scenes(count)]


def pixels_of(model: MaskVlmPredictor, images: list[Image]) -> NDArray[np.uint8]:
    found: NDArray[np.uint8] = model.processor.pixels(images).permute(0, 2, 3, 1).numpy()
    return found


def changed(image: Image, where_HW: NDArray[np.bool_], model: MaskVlmPredictor) -> Image:
    """The prepared picture with noise in some places."""
    pixels_HWC = pixels_of(model, [image])[0].copy()
    noise = np.random.default_rng(1).integers(0, 256, pixels_HWC.shape, np.uint8)
    pixels_HWC[where_HW] = noise[where_HW]
    return Image(pixels_HWC=pixels_HWC)


def test_a_pairs_score_is_the_difference_of_the_matching_logits() -> None:
    task, model = predictor()
    samples = [replace(sample, texts=(text,)) for sample, text in zip(scenes(3), TEXTS, strict=True)]
    batch = batch_of(task, samples)
    rows = task.features(replace(batch, pixels_BCHW=batch.pixels_BCHW.float())).features
    states = (rows["image_states"], rows["text_states"], rows["lengths"])
    logits_N2 = task.model.fusion.matching(*states).detach()
    found = model.score_pairs([sample.image for sample in samples], TEXTS)
    torch.testing.assert_close(found, logits_N2[:, 1] - logits_N2[:, 0], rtol=1e-4, atol=1e-4)


def test_pictures_that_come_again_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    _, model = predictor()
    first, second, _ = pictures()
    seen: list[int] = []
    tokens = model.module.vision.tokens

    def counted(image_BCHW: Tensor) -> Tensor:
        seen.append(len(image_BCHW))
        return tokens(image_BCHW)

    apart = torch.cat([model.score_pairs([i], [t]) for i, t in ((first, "red"), (second, "red"), (first, "blue"))])
    monkeypatch.setattr(model.module.vision, "tokens", counted)
    torch.testing.assert_close(
        model.score_pairs([first, second, first], ["red", "red", "blue"]), apart, rtol=1e-4, atol=1e-5
    )
    assert seen == [2]
    prepared = model.module.normalise(model.processor.pixels([first, second]))
    torch.testing.assert_close(model.score_pairs(prepared, ["red", "red"]), apart[:2], rtol=1e-4, atol=1e-5)


def test_words_are_those_of_the_highest_log_probability_at_the_mask() -> None:
    _, model = predictor()
    tokenizer, image = model.processor.tokenizer, pictures(1)[0]

    def chances(pieces: int) -> Tensor:
        """Log-probabilities [pieces, V] at the masks, one text alone."""
        module, ids = model.module, torch.tensor([cloze_ids(tokenizer, "a [MASK] circle", 64, pieces)])
        lengths = torch.tensor([ids.shape[1]])
        image_BTD = module.vision.tokens(module.normalise(model.processor.pixels([image])))
        fused = module.fusion.words(module.text.tokens(ids, lengths), lengths, image_BTD)
        return module.word_logits(fused[ids == tokenizer.mask_id]).log_softmax(-1).detach()

    scores = {}
    for word in ("x", "q", "zebra", "ox", "red"):
        ids = word_ids(tokenizer, word)
        scores[word] = float(torch.stack([chances(len(ids))[k, index] for k, index in enumerate(ids)]).mean())
    assert len({len(word_ids(tokenizer, word)) for word in scores}) >= 3
    assert model.fill_text([image], ["a [MASK] circle"], [list(scores)]) == [[max(scores, key=lambda w: scores[w])]]
    free_V = chances(1)[0]
    free_V[sorted(tokenizer.control_ids)] = -torch.inf
    assert model.fill_text([image], ["a [MASK] circle"]) == [[tokenizer.decode([int(free_V.argmax())])]]


def test_filled_patches_do_not_depend_on_the_pixels_that_were_there() -> None:
    _, model = predictor()
    image = pictures(1)[0]
    hidden_NRC = torch.zeros(1, 3, 3, dtype=torch.bool)  # cells of 10 2/3 pixels, across patches of 8
    hidden_NRC[0, 1, 2] = True
    touched = np.zeros((32, 32), bool)
    touched[8:24, 16:] = True  # the patches with a pixel of the cell: rows 11 to 21, columns 22 to 31
    cell = np.zeros((32, 32), bool)
    cell[11:22, 22:] = True
    (before,) = model.fill_image([image], ["a red circle"], hidden_NRC)
    (after,) = model.fill_image([changed(image, touched, model)], ["a red circle"], hidden_NRC)
    assert before.pixels_HWC is not None and after.pixels_HWC is not None
    assert np.array_equal(before.pixels_HWC[cell], after.pixels_HWC[cell])
    assert np.array_equal(before.pixels_HWC[~cell], pixels_of(model, [image])[0][~cell])
    (elsewhere,) = model.fill_image([changed(image, ~touched, model)], ["a red circle"], hidden_NRC)
    (otherwise,) = model.fill_image([image], ["two blue squares"], hidden_NRC)
    for other in (elsewhere, otherwise):
        assert other.pixels_HWC is not None and not np.array_equal(other.pixels_HWC[cell], before.pixels_HWC[cell])


def test_with_nothing_hidden_the_picture_comes_back_and_with_all_hidden_it_is_not_looked_at() -> None:
    _, model = predictor()
    images = pictures(2)
    same = model.fill_image(images, ["a", "b"], torch.zeros(2, 4, 4, dtype=torch.bool))
    assert all(
        np.array_equal(one.pixels_HWC, wanted) for one, wanted in zip(same, pixels_of(model, images), strict=True)
    )
    blind = model.fill_image(images, ["a", "a"], torch.ones(2, 4, 4, dtype=torch.bool))
    assert np.array_equal(blind[0].pixels_HWC, blind[1].pixels_HWC)


def test_painted_pixels_are_the_decoders_in_the_colours_of_the_picture() -> None:
    task, model = predictor()
    image = pictures(1)[0]
    hidden_NRC = torch.zeros(1, 4, 4, dtype=torch.bool)
    hidden_NRC[0, 2, 1] = True
    (filled,) = model.fill_image([image], ["red"], hidden_NRC)
    module, tokens = task.model, model.processor.tokens(["red"])
    states = module.vision.tokens(
        module.covered(module.normalise(model.processor.pixels([image])), hidden_NRC.flatten(1))
    )
    patch = module.predicted_pixels(states, module.text.tokens(*tokens), tokens[1])[0, 9].detach().view(3, 8, 8)
    settings = model.processor.config.image
    levels = (patch * torch.tensor(settings.std)[:, None, None] + torch.tensor(settings.mean)[:, None, None]) * 255
    assert filled.pixels_HWC is not None
    found = torch.tensor(filled.pixels_HWC[16:24, 8:16]).permute(2, 0, 1).float()
    torch.testing.assert_close(found, levels.clamp(0, 255), rtol=0, atol=0.51)


def test_bad_inputs_are_refused_with_what_is_wrong() -> None:
    _, model = predictor()
    images = pictures(2)
    cells = torch.zeros(2, 2, 2, dtype=torch.bool)
    for ask, sentence in (
        (lambda: model.score_pairs(images, ["a"]), "2 visuals and 1 texts"),
        (lambda: model.fill_text(images, ["a"]), "2 visuals and 1 texts"),
        (lambda: model.fill_image(images, ["a"], cells), "2 visuals and 1 texts"),
        (lambda: model.fill_image(images, ["a", "b"], cells[:1]), "hidden cells"),
        (lambda: model.fill_image(images, ["a", "b"], cells.float()), "hidden cells"),
        (lambda: model.fill_text(images[:1], ["[MASK] " + "word " * 80]), "fit"),
        (lambda: model.fill_text(images[:1], ["a [MASK]"], [[]]), "choices"),
    ):
        with pytest.raises(DiptychError, match=sentence):
            ask()
    assert model.score_pairs([], []).shape == (0,)
    assert model.fill_text([], []) == [] and model.fill_image([], [], cells[:0]) == []


def test_a_processor_that_does_not_fit_is_refused() -> None:
    def build(image: int = 32, length: int = 64, mask: bool = True, vocabulary: int = 300) -> None:
        tokenizer = Tokenizer.fit(["red blue"], 300, mask=mask)
        settings = ImageTextConfig(ImagePreprocessing(image), TextPreprocessing(length))
        MaskVlmPredictor.build(Config.tiny(vocabulary, image_size=32), ImageTextProcessor(settings, tokenizer))

    build()
    for arguments, sentence in (
        ({"image": 64}, "pictures of 32 pixels.*of 64"),
        ({"length": 65}, "texts of up to 65 tokens do not fit a context of 64"),
        ({"vocabulary": 100}, "tokens, the model 100 embeddings"),
        ({"mask": False}, "no mask token"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            build(**arguments)
    vision, text = Config.tiny().vision, Config.tiny().text
    with pytest.raises(ConfigError, match="pooling"):
        Config(replace(vision, pooling="mean"), text)
    with pytest.raises(ConfigError, match="causal"):
        Config(vision, replace(text, causal=True))

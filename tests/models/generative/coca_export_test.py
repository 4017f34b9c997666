"""CoCa as open_clip's folder: read back it is the same, and open_clip gives the same vectors, logits and texts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from tiny_public import CAPTIONS, assert_equal, photograph, pixels, randomise

from diptych.capabilities.export import export
from diptych.capabilities.load import load
from diptych.core.errors import ConfigError
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.vision_transformer import VisionConfig
from diptych.models.generative.coca import CocaPredictor
from diptych.models.generative.coca import Config as CocaConfig

LONGEST = 12
Pooling = Literal["shared", "parallel", "cascade"]


def as_open_clip(pooling: Pooling, vocabulary: int = 300) -> CocaConfig:
    sizes = CocaConfig.tiny(vocabulary, image_size=32)
    width = 96 if pooling != "shared" else 48
    vision = VisionConfig(32, 8, width, 2, 3, 128, pre_norm=True, patch_bias=False, eps=1e-5)
    sizes = replace(sizes, vision=vision, width=96, pooling=pooling, text_end="open_clip", reads_apart=True)
    return sizes.for_texts(LONGEST, 2)


def predictor(config: CocaConfig) -> CocaPredictor:
    """Of random weights; its tokenizer is fitted, and pads with its third token."""
    tokenizer = Tokenizer.fit(CAPTIONS, 300)
    config = config.with_vocabulary(tokenizer.vocab_size)
    words = TextPreprocessing(LONGEST, pad_to_max=config.text_end == "open_clip")
    processor = ImageTextProcessor(ImageTextConfig(ImagePreprocessing(32), words), tokenizer)
    module = CocaPredictor.build(config, processor)
    randomise(module)
    return CocaPredictor(config, processor, module.eval(), "my-coca")


@pytest.mark.parity("coca", "open_clip CoCa", "a folder of ours: tokens, vectors, logits")
@pytest.mark.parametrize("pooling", ["shared", "parallel", "cascade"])
def test_open_clip_loads_the_folder_and_gives_the_same(tmp_path: Path, pooling: Pooling) -> None:
    from open_clip_oracle import open_clip  # skips where it is not installed: this test alone

    ours = predictor(as_open_clip(pooling))
    folder = export(ours, tmp_path / "exported", "apache-2.0")
    theirs = open_clip.create_model(f"local-dir:{folder}").double().eval()
    texts = open_clip.get_tokenizer(f"local-dir:{folder}")(list(CAPTIONS))
    tokens_BT, lengths_B = ours.processor.tokens(CAPTIONS)
    assert torch.equal(texts, tokens_BT) and int(lengths_B.min()) < LONGEST

    module, images_BCHW = ours.module.double(), pixels(len(CAPTIONS), 32, 32)
    found = theirs(images_BCHW, texts)
    seen, read = module.see(images_BCHW), module.read(tokens_BT, lengths_B)
    assert_equal(seen.vector_BW, found["image_features"].reshape(len(CAPTIONS), -1))
    assert_equal(read.vector_BW, found["text_features"])
    assert_equal(module.logits(module.write(read.states_BTD[:, :-1], seen.memory_BQD)), found["logits"])


def test_read_back_it_is_the_same_model_to_the_bit(tmp_path: Path) -> None:
    ours = predictor(as_open_clip("shared"))
    again = load(export(ours, tmp_path / "exported", "apache-2.0"))
    assert isinstance(again, CocaPredictor) and again.config == ours.config
    assert again.processor.config.text == ours.processor.config.text
    assert again.processor.tokenizer.pad_id == ours.processor.tokenizer.pad_id == 2
    for name, tensor in ours.module.state_dict().items():
        assert torch.equal(tensor, again.module.state_dict()[name]), name
    pictures = [photograph(), photograph(seed=3)]
    assert torch.equal(again.encode_image(pictures), ours.encode_image(pictures))
    assert torch.equal(again.encode_text(CAPTIONS), ours.encode_text(CAPTIONS))
    assert again.generate_text([[picture] for picture in pictures]) == ours.generate_text([[one] for one in pictures])


def test_the_card_says_which_library_reads_it(tmp_path: Path) -> None:
    card = (export(predictor(as_open_clip("shared")), tmp_path / "exported", "mit") / "README.md").read_text()
    assert "library_name: open_clip" in card and "license: mit" in card
    assert 'open_clip.create_model_and_transforms("local-dir:this/folder")' in card


def test_what_open_clip_cannot_be_told_is_refused_by_the_options_that_would_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        export(predictor(replace(CocaConfig.tiny(image_size=32), width=96)), tmp_path / "exported")
    assert str(refused.value).endswith(
        "a model is trained with --model.text_end open_clip --model.reads_apart --model.vision.pooling cls "
        "--model.vision.pre_norm --model.vision.no-patch_bias"
    )
    assert not (tmp_path / "exported").exists()
    with pytest.raises(ConfigError, match=r"trained with --model.vision.width 96$"):
        export(predictor(replace(as_open_clip("shared"), pooling="cascade")), tmp_path / "exported")


def test_texts_that_are_not_padded_as_the_mask_takes_them_are_refused() -> None:
    config = as_open_clip("shared")
    with pytest.raises(ConfigError, match="reads texts that are padded to 12 tokens with 7"):
        predictor(replace(config, text=replace(config.text, pad_id=7)))

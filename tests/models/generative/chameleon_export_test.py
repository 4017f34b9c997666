"""Chameleon as transformers' folder: the library prepares and computes the same, and it is read back as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from PIL import Image as Pillow
from tiny_public import CAPTIONS, photograph, randomise

from diptych.capabilities.export import export
from diptych.capabilities.load import load
from diptych.core.errors import ConfigError
from diptych.core.sampling import ImageSampling, TextSampling
from diptych.core.visual import Image
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.causal_block import CausalConfig
from diptych.layers.conv_autoencoder import AutoencoderConfig
from diptych.layers.quantizer import QuantizerConfig
from diptych.models.generative._picture_codes import VitPictures, VqPictures
from diptych.models.generative.chameleon import ChameleonPredictor
from diptych.models.generative.chameleon import Config as ChameleonConfig
from diptych.models.image_tokenizer import vit_vqgan, vq

HF: Any = transformers
SIDE, CODES = 32, 24


def sizes() -> ChameleonConfig:
    autoencoder = AutoencoderConfig((32, 64, 32), blocks=1, latent=8, groups=32, attended=(1,))
    coder = vq.Config(autoencoder, QuantizerConfig(CODES, 6))
    trunk = CausalConfig(32, 2, 4, 48, key_heads=2, head_norm=True, rotary=5_000.0, eps=1e-6)
    return replace(ChameleonConfig.tiny(VqPictures(tokenizer=coder, image_size=SIDE)), trunk=trunk, context=160)


def predictor(config: ChameleonConfig) -> ChameleonPredictor:
    """Of random weights."""
    tokenizer = Tokenizer.fit(CAPTIONS, 300)
    image = ImagePreprocessing(SIDE, mean=vq.MEAN, std=vq.STD, views=None)
    processor = ImageTextProcessor(ImageTextConfig(image, TextPreprocessing(64)), tokenizer)
    config = config.with_vocabulary(tokenizer.vocab_size)
    module = ChameleonPredictor.build(config, processor)
    randomise(module)
    return ChameleonPredictor(config, processor, module.eval(), "my-chameleon")


def picture(seed: int = 2) -> Image:
    return Image(pixels_HWC=photograph(SIDE, SIDE, seed), name="noise")


@pytest.mark.parity(
    "chameleon", "transformers ChameleonForConditionalGeneration", "a folder of ours: documents, logits"
)
@pytest.mark.parametrize("after", [False, True], ids=["norms before", "norms after"])
def test_transformers_prepares_the_same_document_and_gives_the_same_logits(tmp_path: Path, after: bool) -> None:
    config = sizes()
    ours = predictor(replace(config, trunk=replace(config.trunk, norm_after=after)))
    folder = export(ours, tmp_path / "exported", "apache-2.0")
    theirs, found = HF.ChameleonForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not any(found[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    processor = HF.AutoProcessor.from_pretrained(folder, backend="pil")
    shown = [Pillow.fromarray(photograph(SIDE, SIDE, seed)) for seed in (2, 3)]
    given = processor(
        images=shown, text="a red dog<image>the cat<image>", return_for_text_completion=True, return_tensors="pt"
    )
    (row,) = ours.rows([["a red dog", picture(2), "the cat", picture(3)]])
    layout = ours.module.layout
    codes = [token for token in row if layout.is_code(token)]
    assert len(codes) == 128 and len(set(codes)) > 3
    assert given["input_ids"][0].tolist() == [layout.end_of_span if layout.is_code(token) else token for token in row]
    theirs, pixels = theirs.double(), given["pixel_values"].double()
    assert theirs.model.get_image_tokens(pixels).flatten().tolist() == codes
    ours.module.double()
    with torch.no_grad():
        logits = theirs(input_ids=given["input_ids"], pixel_values=pixels).logits
        mine = ours.module.logits(ours.module(torch.tensor([row])))
    kept = torch.ones(layout.size, dtype=torch.bool)
    kept[layout.first : layout.first + layout.codes] = False  # it rules those out
    torch.testing.assert_close(mine[..., kept], logits[..., kept], rtol=1e-5, atol=1e-5)  # its norms are in float32


@pytest.mark.parity("chameleon", "transformers ChameleonForConditionalGeneration", "a folder of ours: greedy texts")
def test_transformers_writes_the_same_texts(tmp_path: Path) -> None:
    ours = predictor(sizes())
    folder = export(ours, tmp_path / "exported")
    theirs = HF.ChameleonForConditionalGeneration.from_pretrained(folder).double()
    ours.module.double()
    processor = HF.AutoProcessor.from_pretrained(folder, backend="pil")
    given = processor(
        images=Pillow.fromarray(photograph(SIDE, SIDE)), text="<image>a", return_for_text_completion=True,
        return_tensors="pt",
    )  # fmt: skip
    length = given["input_ids"].shape[1]
    given["pixel_values"] = given["pixel_values"].double()
    said = theirs.generate(**given, max_new_tokens=12, do_sample=False)[0, length:]
    (expected,) = ours.generate_text([[picture(), "a"]], TextSampling(12))
    assert processor.decode(said, skip_special_tokens=True).strip() == expected


def test_read_back_it_is_the_same_model_and_makes_the_same_pictures(tmp_path: Path) -> None:
    ours = predictor(sizes())
    again = load(export(ours, tmp_path / "exported"))
    assert isinstance(again, ChameleonPredictor)
    for name, tensor in ours.module.state_dict().items():
        if not name.startswith("tokenizer.quantizer.") or name.endswith("codebook_KC"):
            assert torch.equal(tensor, again.module.state_dict()[name]), name
    assert again.processor.config.image.mean == ours.processor.config.image.mean
    prompt = [["a red dog", picture()]]
    assert again.rows(prompt) == ours.rows(prompt)
    assert again.generate_text(prompt, TextSampling(8)) == ours.generate_text(prompt, TextSampling(8))
    how = ImageSampling(guidance=2.0, temperature=1.0)
    made, before = (one.generate_image(["the cat"], 3, how)[0].pixels_HWC for one in (again, ours))
    assert (made == before).all()
    twice = load(export(again, tmp_path / "twice"))
    assert twice.generate_text(prompt, TextSampling(8)) == ours.generate_text(prompt, TextSampling(8))


def test_what_the_class_cannot_be_told_is_refused_by_the_options(tmp_path: Path) -> None:
    config = sizes()
    assert isinstance(config.codes, VqPictures)
    coder = config.codes.tokenizer
    small = replace(coder, autoencoder=AutoencoderConfig((16,), 1, 8, groups=8, attention=False, patch=4))
    flat = replace(config, trunk=replace(config.trunk, head_norm=False, rotary=0.0))
    flat = replace(flat, codes=replace(config.codes, tokenizer=small))
    with pytest.raises(ConfigError) as refused:
        export(predictor(flat), tmp_path / "exported")
    assert str(refused.value).endswith(
        "a model has --model.trunk.head_norm, --model.trunk.rotary 10000, "
        "--model.codes.tokenizer.autoencoder.patch 1, --model.codes.tokenizer.autoencoder.groups 32"
    )
    codes = VitPictures(tokenizer=vit_vqgan.Config.tiny(), image_size=SIDE)
    with pytest.raises(ConfigError, match="come from a ViT-VQGAN"):
        export(predictor(replace(config, codes=codes)), tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_the_card_says_how_it_is_read(tmp_path: Path) -> None:
    card = (export(predictor(sizes()), tmp_path / "exported", "mit") / "README.md").read_text()
    assert "license: mit" in card and "ChameleonForConditionalGeneration.from_pretrained" in card

"""LLaVA's export: `transformers` says of the same pictures and words what we say, and we read the folder back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image as Pillow
from tiny_public import randomise

from diptych.adapters.language import LanguageAdapterConfig
from diptych.capabilities.export import export
from diptych.capabilities.load import load
from diptych.core.errors import ConfigError
from diptych.core.sampling import TextSampling
from diptych.data.batches.conversation_reader import ConversationConfig
from diptych.data.batches.conversations import ConversationProcessor
from diptych.data.pixels.images import CLIP_MEAN, CLIP_STD, ImagePreprocessing
from diptych.data.words.chat import PlainTemplate
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.backbone_folder import tiny_vision_backbone
from diptych.layers.causal_block import CausalConfig
from diptych.layers.connectors import ConnectorConfig
from diptych.models.pretrained_backbone import llava
from diptych.models.pretrained_backbone._language_model import LanguageModel
from diptych.models.pretrained_backbone._llama import Llama, LlamaConfig
from diptych.models.pretrained_backbone._patch_features import PatchFeatures
from diptych.models.pretrained_backbone._transformers_lm import TransformersLm

HF: Any = transformers
SIDE = 16
TOKENIZER = Tokenizer.fit(["what is this? a red circle USER: ASSISTANT: two green squares"], 300)
QUESTIONS = ("what is this?", "a red circle? two?")


def language(kind: str, rows: int) -> LanguageModel:
    if kind != "qwen2":
        trunk = CausalConfig(32, 2, 4, 48, 2, eps=1e-5, rotary=10_000.0)
        return Llama(LlamaConfig(trunk, rows, 96, tied=kind == "tied"))
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = HF.Qwen2Config(**sizes, num_key_value_heads=4, vocab_size=rows, max_position_embeddings=96)
    return TransformersLm(HF.Qwen2ForCausalLM(config).eval())


def clip_tower() -> Any:
    config = HF.CLIPVisionConfig(
        hidden_size=24, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=SIDE, patch_size=8
    )
    return HF.CLIPVisionModel(config).eval()


def made(
    kind: str = "llama", extra: int = 0, backbone: Any = None, layer: int = -2, connector: str = "mlp",
    adapter: LanguageAdapterConfig | None = None,
) -> llava.LlavaPredictor:  # fmt: skip
    """A LLaVA of ours, every parameter random.

    Args:
        extra: rows of the language model beyond the tokenizer's.
    """
    image = ImagePreprocessing(SIDE, mean=CLIP_MEAN, std=CLIP_STD, views=None)
    end = str(TOKENIZER.backend.id_to_token(TOKENIZER.end_id))
    slots = ConversationConfig(image, 4, 2, 96)
    processor = ConversationProcessor(slots, TOKENIZER, PlainTemplate(system="S: ", end=end))
    tower = PatchFeatures(backbone or clip_tower(), False, image.mean, image.std, layer)
    config = llava.Config(
        ConnectorConfig(connector, queries=4, heads=4), layer, adapter=adapter or LanguageAdapterConfig()
    )  # type: ignore[arg-type]
    parts = (tower, language(kind, TOKENIZER.vocab_size + extra))
    module = llava.LlavaPredictor.build(config, processor, *parts)
    randomise(module)
    return llava.LlavaPredictor(config, processor, module.eval(), "small")


def picture(seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def inputs_of(folder: Path, question: str, seed: int) -> Any:
    """As the card says."""
    processor = HF.AutoProcessor.from_pretrained(folder)
    turns = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
    prompt = processor.apply_chat_template(turns, add_generation_prompt=True)
    return processor(Pillow.fromarray(picture(seed)), prompt, add_special_tokens=False, return_tensors="pt")


@torch.no_grad()
def last_logits(model: llava.LlavaPredictor, seed: int, question: str) -> torch.Tensor:
    """Of what is said first about a picture."""
    (row,) = model._vectors([model._opened([picture(seed), question])], [picture(seed)])
    out: torch.Tensor = model.module.logits(model.module.language(row[None], torch.tensor([len(row)])))[0, -1]
    return out


@pytest.mark.parametrize(("kind", "extra"), [("llama", 0), ("tied", 0), ("llama", 7), ("qwen2", 0)])
def test_transformers_says_the_same(kind: str, extra: int, tmp_path: Path) -> None:
    """The whole way on both sides: their template, processor, model and search."""
    ours = made(kind, extra)
    folder = export(ours, tmp_path / "public")
    model, found = HF.LlavaForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not any(found[what] for what in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    words, rows = TOKENIZER, TOKENIZER.vocab_size
    for seed, question in enumerate(QUESTIONS):
        inputs = inputs_of(folder, question, seed)
        read = ours._opened([picture(seed), question])
        assert [word for word, shown in zip(read.tokens, read.places, strict=True) if not shown] == [
            word for word in inputs["input_ids"][0].tolist() if word != model.config.image_token_id
        ]
        assert sum(read.places) == int((inputs["input_ids"] == model.config.image_token_id).sum()) == 4
        with torch.no_grad():
            logits = model(**inputs).logits[0, -1]
        torch.testing.assert_close(last_logits(ours, seed, question)[:rows], logits[:rows], rtol=1e-4, atol=1e-4)
        written = model.generate(**inputs, max_new_tokens=8, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        said = ours.generate_text([[picture(seed), question]], TextSampling(8))[0]
        assert words.decode([word for word in written.tolist() if word != words.end_id]).strip() == said


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_what_was_exported_is_read_back(kind: str, tmp_path: Path) -> None:
    ours = made(kind)
    again = load(export(ours, tmp_path / "public"))
    assert isinstance(again, llava.LlavaPredictor)
    images, answers = [picture(0), picture(1)], ["a red circle", "two green squares"]
    before = ours.text_likelihood(images, list(QUESTIONS), answers)
    after = again.text_likelihood(images, list(QUESTIONS), answers)
    assert torch.equal(before.counts_N, after.counts_N)
    # One token more to choose from, as likely as the padding.
    assert bool((after.log_N <= before.log_N + 1e-4).all())
    prompts = [["what is this?", images[0]], [images[1], "and", "this?"], ["a red", images[0], "circle?"]]
    assert [again._opened(one).tokens for one in prompts] == [ours._opened(one).tokens for one in prompts]
    assert again.generate_text(prompts, TextSampling(6)) == ours.generate_text(prompts, TextSampling(6))


def test_an_adapter_is_added_into_the_language_model(tmp_path: Path) -> None:
    ours = made(adapter=LanguageAdapterConfig("lora", rank=2))
    assert any("lora" in name for name in ours.module.state_dict())
    again = load(export(ours, tmp_path / "public"))
    assert not any("lora" in name for name in again.module.state_dict())
    assert isinstance(again, llava.LlavaPredictor)
    for seed, question in enumerate(QUESTIONS):
        expected, found = (last_logits(model, seed, question) for model in (ours, again))
        torch.testing.assert_close(found[: len(expected)], expected, rtol=1e-4, atol=1e-4)


def test_a_public_folder_comes_out_as_it_went_in(tmp_path: Path) -> None:
    first = export(made(), tmp_path / "first")
    second = export(str(first), tmp_path / "second")
    one, other = (HF.LlavaForConditionalGeneration.from_pretrained(folder).state_dict() for folder in (first, second))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_what_the_class_cannot_express_is_refused(tmp_path: Path) -> None:
    cases = {
        "a connector of two maps, and this model a 'resampler'": made(connector="resampler"),
        "before its last norm": made(backbone=tiny_vision_backbone(24, SIDE), layer=-1),
    }
    for said, model in cases.items():
        with pytest.raises(ConfigError, match=said):
            export(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_last_states_of_a_clip_and_any_tower_before_them_will_do(tmp_path: Path) -> None:
    for name, model in {"clip": made(layer=-1), "vit": made(backbone=tiny_vision_backbone(24, SIDE))}.items():
        again = load(export(model, tmp_path / name))
        said = [one.generate_text([["what?", picture(3)]], TextSampling(5)) for one in (model, again)]
        assert said[0] == said[1]

"""VisualBertForPreTraining folders: written, read again, and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_public import assert_equal
from tiny_visualbert import CONTEXT, HF, REGION_WIDTH, inputs, tiny_visualbert

from diptych.capabilities.export import export
from diptych.capabilities.load import load
from diptych.core.errors import CheckpointError, ConfigError, DataError
from diptych.data.batches.image_text import TextPreprocessing
from diptych.data.batches.region_text import RegionTextConfig, RegionTextProcessor
from diptych.data.pixels.images import ImagePreprocessing
from diptych.data.words.tokenizer import Tokenizer
from diptych.layers.bert import BertConfig
from diptych.layers.feature_map import ConvMapConfig
from diptych.models.early_fusion._visualbert_module import Seen, VisualBert
from diptych.models.early_fusion.visualbert import Config, VisualBertPredictor, weights_from


def test_what_is_exported_is_read_as_the_same_model(tmp_path: Path) -> None:
    predictor = small_predictor(box_geometry=False)
    folder = export(predictor, tmp_path / "out")
    theirs, info = HF.VisualBertForPreTraining.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    pictures = [torch.full((40, 30, 3), value, dtype=torch.uint8).numpy() for value in (0, 100, 250)]
    texts = ["a red dog", "blue", "a small cat under the red house"]
    features, counts = predictor.region_features(pictures)
    batch = HF.AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = theirs.eval()(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], visual_embeds=features,
            visual_attention_mask=(torch.arange(features.shape[1]) < counts[:, None]).long(),
        ).seq_relationship_logits  # fmt: skip
    torch.testing.assert_close(
        predictor.score_pairs(pictures, texts), logits[:, 0] - logits[:, 1], atol=1e-5, rtol=1e-4
    )
    again = load(folder)
    assert isinstance(again, VisualBertPredictor)
    torch.testing.assert_close(again.score_pairs(features, texts), logits[:, 0] - logits[:, 1], atol=1e-5, rtol=1e-4)
    assert again.processor.tokenizer.mask_id == predictor.processor.tokenizer.mask_id


def small_predictor(box_geometry: bool) -> VisualBertPredictor:
    tokenizer = Tokenizer.fit(["a red dog", "blue", "a small cat under the red house"] * 3, 300, mask=True)
    image = ImagePreprocessing(32, resize="squash", views=None)
    processor = RegionTextProcessor(RegionTextConfig(image, TextPreprocessing(20)), tokenizer)
    text = BertConfig(tokenizer.vocab_size, context=20, width=24, depth=2, heads=3, hidden=40)
    config = Config(text, region_width=13, features=ConvMapConfig(16), box_geometry=box_geometry)
    torch.manual_seed(0)
    module = VisualBertPredictor.build(config, processor).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return VisualBertPredictor(config, processor, module, "small")


def test_box_geometry_has_no_place_in_the_format(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="embeds no box geometry"):
        export(small_predictor(box_geometry=True), tmp_path / "out")


def test_a_public_model_is_given_features_and_says_so(tmp_path: Path) -> None:
    tiny_visualbert(tmp_path)
    predictor = weights_from(tmp_path)
    with pytest.raises(DataError, match=rf"no region extractor: give region features.*regions, {REGION_WIDTH}\]"):
        predictor.score_pairs([torch.zeros(8, 8, 3, dtype=torch.uint8).numpy()], ["a dog"])
    with pytest.raises(DataError, match=rf"float tensor \[N, regions, {REGION_WIDTH}\]: got torch.float32 \[1, 4, 7\]"):
        predictor.score_pairs(torch.zeros(1, 4, 7), ["a dog"])
    assert predictor.processor.config.text.max_length == CONTEXT


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_folder_that_leaves_out_the_defaults_is_read_with_those_of_transformers(tmp_path: Path) -> None:
    theirs, given = tiny_visualbert(tmp_path), inputs()
    plain = json.loads((tmp_path / "config.json").read_text())
    assert plain.pop("hidden_act") == "gelu" and plain.pop("layer_norm_eps") == 1e-12
    assert plain.pop("type_vocab_size") == 2
    (tmp_path / "config.json").write_text(json.dumps(plain))
    module: VisualBert = weights_from(tmp_path).module.double()
    with torch.no_grad():
        hidden = module(
            given.tokens_BT, given.lengths_B, Seen(given.features_BRF, given.counts_B), None, given.types_BT
        )
        assert_equal(module.match_logits(hidden[:, 0]), theirs(**given.theirs()).seq_relationship_logits)


def test_folders_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    tiny_visualbert(tmp_path)
    edit(tmp_path, bypass_transformer=True)
    with pytest.raises(ConfigError, match="bypass_transformer"):
        weights_from(tmp_path)
    edit(tmp_path, bypass_transformer=False, visual_embedding_dim=12)
    with pytest.raises(CheckpointError, match=r"embeddings\.projection\.weight is not of the shape"):
        weights_from(tmp_path)
    edit(tmp_path, visual_embedding_dim=REGION_WIDTH, vocab_size=12)
    with pytest.raises(CheckpointError, match="its tokenizer has 17 tokens, its weights 12"):
        weights_from(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="bert-base-uncased"):
        weights_from(tmp_path)


def test_tied_heads_that_older_files_hold_twice_must_be_equal(tmp_path: Path) -> None:
    tiny_visualbert(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    bias, words = weights["cls.predictions.bias"], weights["visual_bert.embeddings.word_embeddings.weight"]
    twice = weights | {"cls.predictions.decoder.bias": bias.clone(), "cls.predictions.decoder.weight": words.clone()}
    save_file(twice, tmp_path / "model.safetensors")
    weights_from(tmp_path)
    save_file(twice | {"cls.predictions.decoder.weight": words + 1}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="heads of their own are not read here"):
        weights_from(tmp_path)

"""FLAVA's export: `transformers` reads it as the same model, and so do we."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from flava_oracle import tiny_flava
from PIL import Image as Pillow
from safetensors.torch import load_file
from tiny_public import photograph, randomise

from diptych.capabilities.export import export
from diptych.capabilities.load import load
from diptych.core.errors import ConfigError
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.models.masked import flava
from diptych.models.masked._flava_predictor import FlavaPredictor, PublicFlavaPredictor

HF: Any = transformers
TEXTS = ["a red circle", "two squares to the left of a green triangle", "blue"]


@pytest.fixture(scope="module")
def ours() -> FlavaPredictor:
    """A FLAVA of ours with a codebook of ours, every parameter random."""
    scenes = Scenes("train", 8, SceneConfig(objects=1, size=32))
    task = flava.tiny_tasks([scenes[index] for index in range(8)])["mixed"]
    randomise(task.model)
    return task.eval().predictor()


@pytest.fixture(scope="module")
def folder(ours: FlavaPredictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(ours, tmp_path_factory.mktemp("flava") / "public")


def test_transformers_computes_the_same_from_the_same_picture_and_texts(ours: FlavaPredictor, folder: Path) -> None:
    """The whole way on both sides: their processors and model, our predictor."""
    model, found = HF.FlavaForPreTraining.from_pretrained(folder, output_loading_info=True)
    assert not any(found[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.image_codebook is None
    square = photograph(32, 32)
    images: Any = HF.AutoImageProcessor.from_pretrained(folder, backend="pil")
    tokens = HF.AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    picture = images(Pillow.fromarray(square), return_tensors="pt").pixel_values
    with torch.no_grad():
        pixels = picture.expand(3, -1, -1, -1)
        given = {"attention_mask": tokens.attention_mask, "pixel_values": pixels}
        image = model.flava.get_image_features(picture).pooler_output[:, 0]
        text = model.flava.get_text_features(tokens.input_ids, attention_mask=tokens.attention_mask).pooler_output
        states = model.flava(input_ids=tokens.input_ids, **given).multimodal_embeddings
        logits = model.itm_head(states)
    cosine = torch.nn.functional.cosine_similarity(image, text[:, 0])
    torch.testing.assert_close(ours.score([square], TEXTS)[0], cosine, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.score_pairs([square] * 3, TEXTS), logits[:, 1] - logits[:, 0], rtol=1e-4, atol=1e-4)


def test_what_was_exported_is_read_back_bit_for_bit(ours: FlavaPredictor, folder: Path) -> None:
    again = load(folder)
    assert type(again) is PublicFlavaPredictor and "fill_image" not in again.verbs
    after = again.module.state_dict()
    before = {name: one for name, one in ours.module.state_dict().items() if not name.startswith("codebook.")}
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    texts = ["a [MASK] circle", "blue [MASK]"]
    assert again.fill_text([photograph()] * 2, texts) == ours.fill_text([photograph()] * 2, texts)
    assert torch.equal(again.encode_image([photograph()]), ours.encode_image([photograph()]))


@pytest.mark.parametrize("codebook", [True, False])
def test_a_public_folder_comes_out_as_it_went_in(codebook: bool, tmp_path: Path) -> None:
    """Poolers and segments are what nothing reads, or what stands in the positions."""
    (tmp_path / "source").mkdir()
    tiny_flava(tmp_path / "source", codebook=codebook)
    out = export(str(tmp_path / "source"), tmp_path / "out")
    before, after = (load_file(place / "model.safetensors") for place in (tmp_path / "source", out))
    positions = "flava.text_model.embeddings.position_embeddings.weight"
    segment = before["flava.text_model.embeddings.token_type_embeddings.weight"][0]
    before[positions] = before[positions] + segment
    unread = (".pooler.dense.weight", ".pooler.dense.bias", "token_type_embeddings.weight")
    kept = [name for name in before if name.startswith("itm_head") or not name.endswith(unread)]
    assert len(kept) > 100 and before.keys() <= after.keys()
    assert all(torch.equal(before[name], after[name]) for name in kept)
    model = HF.FlavaForPreTraining.from_pretrained(out)
    assert (model.image_codebook is not None) is codebook
    found, expected = (load(place).score([photograph()], ["a dog"]) for place in (out, tmp_path / "source"))
    assert torch.equal(found, expected)


def test_what_flavaforpretraining_cannot_express_is_refused(
    ours: FlavaPredictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ours.config
    other_eps = replace(config, fusion=replace(config.fusion, eps=1e-3))
    on_a_backbone = replace(config, vision=replace(config.vision, backbone_channels=8))
    for changed, said in ((other_eps, "the same width, activation and eps"), (on_a_backbone, "pretrained backbone")):
        monkeypatch.setattr(ours.module, "config", changed)
        with pytest.raises(ConfigError, match=said):
            export(ours, tmp_path / "out")
    assert not (tmp_path / "out").exists()

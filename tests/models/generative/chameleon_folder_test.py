"""Folders of transformers' ChameleonForConditionalGeneration, all of it random: read as they are, and written from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_public import randomise

from diptych.capabilities.folder import write_model
from diptych.capabilities.load import load
from diptych.core.errors import CheckpointError, ConfigError
from diptych.core.sampling import ImageSampling, TextSampling
from diptych.core.visual import Image
from diptych.data.words.tokenizer import Tokenizer
from diptych.models._weight_tables import write
from diptych.models.generative.chameleon import ChameleonPredictor, weights_from
from diptych.models.image_tokenizer import vq
from diptych.models.image_tokenizer._chameleon import entries, sizes_of

CODES, SIDE = 12, 32
FIRST, MARKS = 300, (312, 313)
ORDER = [7, 2, 0, 11, 5, 3, 1, 9, 4, 10, 8, 6]
"""The code of each token of pictures."""


def name_of(code: int) -> str:
    """As their vocabulary spells it: a letter for each digit."""
    return "IMGIMG" + "".join("ABCDEFGHIJ"[int(digit)] for digit in str(code)) + "Z"


def folder_in(path: Path, swin: bool = False) -> Any:
    """Writes a folder; the model in float64."""
    vocabulary = {name_of(code): FIRST + place for place, code in enumerate(ORDER)}
    config = transformers.ChameleonConfig(
        vocab_size=320, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=160, swin_norm=swin, bos_token_id=0, eos_token_id=1,
        vq_config={"embed_dim": 6, "num_embeddings": CODES, "base_channels": 32, "num_res_blocks": 1,
                   "resolution": SIDE, "latent_channels": 8, "channel_multiplier": [1, 1, 1]},
        vocabulary_map={"<image>": 314, **vocabulary, "<racm3:break>": MARKS[0], "<eoss>": MARKS[1]},
    )  # fmt: skip
    model: Any = transformers.ChameleonForConditionalGeneration(config)
    randomise(model)
    model.eval().save_pretrained(path)
    Tokenizer.fit(["a red circle on a black background"], 300).write(path / "tokenizer.json")
    return model.double()


def picture(seed: int = 0) -> Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    return Image(pixels_HWC=pixels, name="noise")


@pytest.mark.parity("chameleon", "transformers ChameleonForConditionalGeneration", "codes, states, logits")
@pytest.mark.parametrize("swin", [False, True], ids=["norms before", "norms after"])
def test_codes_states_and_logits_of_documents_are_those_of_transformers(tmp_path: Path, swin: bool) -> None:
    theirs = folder_in(tmp_path, swin)
    ours = load(tmp_path)
    assert isinstance(ours, ChameleonPredictor)
    ours.module.double()
    rows = ours.rows([["a red circle", picture()], [picture(1), "on a black background", picture(2)]])
    for row, pictures in zip(rows, ([0], [1, 2]), strict=True):
        pixels = torch.stack([ours.processor.pixels([picture(seed)])[0] for seed in pictures])
        said = theirs.model.get_image_tokens(ours.module.tokenizer.normalise(pixels).double())
        codes = [token for token in row if FIRST <= token < FIRST + CODES]
        assert codes == said.flatten().tolist() and len(set(codes)) > 3
        assert row.count(MARKS[0]) == row.count(MARKS[1]) == len(pictures)
        tokens = torch.tensor([row])
        states = theirs.model(input_ids=tokens).last_hidden_state
        found = ours.module(tokens)
        torch.testing.assert_close(found, states, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(ours.module.logits(found), theirs.lm_head(states), rtol=1e-6, atol=1e-6)
        logits = theirs(input_ids=tokens).logits
        kept = torch.ones(320, dtype=torch.bool)
        kept[FIRST : FIRST + CODES] = False  # it overwrites those
        torch.testing.assert_close(ours.module.logits(found)[..., kept], logits[..., kept], rtol=1e-6, atol=1e-6)


@pytest.mark.parity("chameleon", "transformers ChameleonForConditionalGeneration", "greedy texts")
def test_greedy_texts_are_those_of_transformers(tmp_path: Path) -> None:
    theirs = folder_in(tmp_path)
    ours = weights_from(tmp_path)
    ours.module.double()
    words, rows = ours.processor.tokenizer, ours.rows([[picture(), "a red"], ["a circle"]])
    never = [words.pad_id, words.start_id, *MARKS]
    for prompt, row in zip(([picture(), "a red"], ["a circle"]), rows, strict=True):
        found = theirs.generate(
            torch.tensor([row]), max_new_tokens=12, do_sample=False, eos_token_id=words.end_id,
            pad_token_id=words.pad_id, suppress_tokens=never,
        )[0, len(row) :].tolist()  # fmt: skip
        assert ours.generate_text([prompt], TextSampling(12)) == [words.decode(found).strip()]


def test_pictures_are_read_without_a_decoder_and_made_with_one(tmp_path: Path) -> None:
    folder_in(tmp_path)
    ours = weights_from(tmp_path)
    likely = ours.image_likelihood(["a red circle", None], [picture(), picture()])
    assert bool(torch.isfinite(likely.log_N).all()) and likely.counts_N.tolist() == [64, 64]
    with pytest.raises(ConfigError, match="no decoder"):
        ours.generate_image(["a red circle"], 0)

    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    sizes, _ = sizes_of(config["vq_config"], tmp_path)
    torch.manual_seed(0)
    image = ours.processor.config.image
    whole = vq.VqModel(vq.Config(sizes.autoencoder, sizes.quantizer), image.mean, image.std)
    state = {name: one for name, one in whole.state_dict().items() if name.split(".")[0] in
             ("encoder", "decoder", "to_code", "from_code") or name == "quantizer.codebook_KC"}  # fmt: skip
    (tmp_path / "vqgan").mkdir()
    save_file(write(entries(sizes.autoencoder, decoder=True), state), tmp_path / "vqgan" / "model.safetensors")
    described = config["vq_config"] | {"model_type": "chameleon_vqgan"}
    (tmp_path / "vqgan" / "config.json").write_text(json.dumps(described), encoding="utf-8")
    making = weights_from(tmp_path)
    (made,) = making.generate_image(["a red circle"], [3], ImageSampling(guidance=2.0))
    codes = making.written_codes(["a red circle"], [3], ImageSampling(guidance=2.0))[0]
    order = torch.tensor(ORDER)
    shown = whole.decode(order[codes].view(1, 8, 8))[0].permute(1, 2, 0) * 255
    assert made.pixels_HWC.shape == (SIDE, SIDE, 3)
    torch.testing.assert_close(torch.tensor(made.pixels_HWC).float(), shown.clamp(0, 255).round(), rtol=0, atol=1)

    (tmp_path / "kept").mkdir()
    write_model(making, tmp_path / "kept")
    again = load(tmp_path / "kept")
    assert (again.generate_image(["a red circle"], 3)[0].pixels_HWC == making.generate_image(["a red circle"], 3)[
        0].pixels_HWC).all()  # fmt: skip


def test_folders_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    folder_in(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    weights = load_file(tmp_path / "model.safetensors")

    def refused(message: str, changes: dict[str, Any], error: type[Exception] = CheckpointError) -> None:
        (tmp_path / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")
        with pytest.raises(error, match=message):
            weights_from(tmp_path)

    vocabulary = dict(config["vocabulary_map"])
    refused("lacks <eoss>", {"vocabulary_map": {k: v for k, v in vocabulary.items() if k != "<eoss>"}})
    refused("do not lie together", {"vocabulary_map": vocabulary | {name_of(3): 9}})
    refused("do not count every code", {"vocabulary_map": vocabulary | {name_of(77): FIRST + CODES}})
    refused(
        "scaled rotary", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, ConfigError
    )
    refused("attention_bias True is not done", {"attention_bias": True}, ConfigError)
    refused("shape", {"intermediate_size": 40})
    del weights["lm_head.weight"]
    save_file(weights, tmp_path / "model.safetensors")
    refused("lacks the weight lm_head.weight", {})

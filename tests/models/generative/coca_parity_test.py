"""Our CoCa against open_clip's, where it is installed: every parameter random, float64."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_clip_oracle import open_clip
from safetensors.torch import save_file
from tiny_public import CAPTIONS, IMAGE_SIZE, assert_equal, pixels, randomise, write_tokenizer

from diptych.capabilities.load import load
from diptych.core.errors import ConfigError
from diptych.core.losses import IGNORED
from diptych.models._weight_tables import read
from diptych.models.generative import _coca_open_clip as public
from diptych.models.generative.coca import CocaPredictor
from diptych.objectives.autoregressive import next_token_loss
from diptych.objectives.contrastive import info_nce

CONTEXT = 12
CONFIG: dict[str, Any] = {
    "embed_dim": 18,
    "vision_cfg": {"image_size": IMAGE_SIZE, "patch_size": 4, "width": 20, "head_width": 4, "layers": 2,
                   "attentional_pool": True, "attn_pooler_queries": 5, "attn_pooler_heads": 3, "output_tokens": True},
    "text_cfg": {"context_length": CONTEXT, "vocab_size": 17, "width": 18, "heads": 3, "layers": 2,
                 "embed_cls": True, "output_tokens": True},
    "multimodal_cfg": {"context_length": CONTEXT, "vocab_size": 17, "width": 18, "heads": 3, "layers": 2},
}  # fmt: skip


def oracle(folder: Path, pool: bool | str) -> Any:
    """open_clip's model in float64, and its folder as the hub has it."""
    # With two poolers open_clip's norm before them has the width of what comes after them.
    sizes = {} if pool is True else {"width": 18, "head_width": 6}
    config = CONFIG | {"vision_cfg": CONFIG["vision_cfg"] | sizes | {"attentional_pool": pool}}
    model = open_clip.coca_model.CoCa(
        CONFIG["embed_dim"],
        multimodal_cfg=config["multimodal_cfg"],
        text_cfg=open_clip.model.CLIPTextCfg(**config["text_cfg"]),
        vision_cfg=open_clip.model.CLIPVisionCfg(**config["vision_cfg"]),
    )
    model.text_decoder.text_projection = torch.nn.Parameter(torch.empty(18, 17))  # its head is the vocabulary's
    model.eval()
    randomise(model)
    save_file({name: t.contiguous() for name, t in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    whole = {"model_cfg": config, "preprocess_cfg": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}}
    (folder / "open_clip_config.json").write_text(json.dumps(whole))
    write_tokenizer(folder, start=True, pad="!")
    return model.double()


@pytest.mark.parity("coca", "open_clip CoCa", "vectors, logits, losses, every gradient")
@pytest.mark.parametrize("pool", [True, "parallel", "cascade"])
def test_coca_has_open_clips_vectors_logits_losses_and_gradients(tmp_path: Path, pool: bool | str) -> None:
    theirs = oracle(tmp_path, pool)
    predictor = load(tmp_path)
    assert isinstance(predictor, CocaPredictor)
    module = predictor.module.double()
    tokens_BT, lengths_B = predictor.processor.tokens(CAPTIONS)
    assert tokens_BT.shape[1] == CONTEXT and int(lengths_B.min()) < CONTEXT - 2
    out = theirs(pixels(5), tokens_BT)
    pictures = out["image_features"].reshape(5, -1)  # of a pooler of its own open_clip keeps an axis of one query
    loss = sum(open_clip.loss.CoCaLoss(caption_loss_weight=2.0, clip_loss_weight=1.0)(
        pictures, out["text_features"], out["logits"], out["labels"], out["logit_scale"]
    ))  # fmt: skip
    loss.backward()

    seen, text = module.see(pixels(5)), module.read(tokens_BT, lengths_B)
    states = module.write(text.states_BTD[:, :-1], seen.memory_BQD)
    labels = tokens_BT[:, 1:].masked_fill(tokens_BT[:, 1:] == 0, IGNORED)
    caption = next_token_loss(states, labels, module.logits).cross_entropy / (labels != IGNORED).sum()
    ours = info_nce(seen.vector_BW, text.vector_BW, module.log_scale.exp()) + 2 * caption
    ours.backward()  # type: ignore[no-untyped-call]
    assert_equal(seen.vector_BW, pictures)
    assert_equal(text.vector_BW, out["text_features"])
    assert_equal(module.logits(states), out["logits"])
    assert_equal(ours, loss)
    gradients = {name: p.grad if p.grad is not None else torch.zeros_like(p) for name, p in theirs.named_parameters()}
    wanted = read(public.entries(predictor.config), public.unpacked(gradients), tmp_path)
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-7, atol=1e-9, msg=name)


@pytest.mark.parity("coca", "open_clip CoCa", "greedy captions")
def test_greedy_captions_are_those_of_the_uncached_model_of_open_clip(tmp_path: Path) -> None:
    theirs = oracle(tmp_path, True).float()
    predictor = load(tmp_path)
    tokenizer = predictor.processor.tokenizer
    arrays = [np.random.default_rng(seed).integers(0, 256, (IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8) for seed in range(3)]
    prepared = predictor.module.normalise(predictor.processor.pixels(arrays))
    for image, said in zip(prepared, predictor.generate_text([[one] for one in arrays]), strict=True):
        ids = [tokenizer.start_id]
        while len(ids) < CONTEXT and ids[-1] != tokenizer.end_id:
            logits = theirs(image[None], torch.tensor([ids]), output_labels=False)["logits"]
            ids.append(int(logits[0, -1].argmax()))
        assert said == tokenizer.decode(ids)


def test_switches_that_are_not_here_are_refused(tmp_path: Path) -> None:
    oracle(tmp_path, True)
    path = tmp_path / "open_clip_config.json"
    whole = json.loads(path.read_text())
    for side, change, said in (
        ("text_cfg", {"embed_cls": False}, "reads a text otherwise"),
        ("multimodal_cfg", {"heads": 6}, "both halves of CoCa's decoder are of one width"),
        ("vision_cfg", {"attentional_pool": False}, "attentional_pool = False is not done here"),
    ):
        changed = {**whole["model_cfg"], side: whole["model_cfg"][side] | change}
        path.write_text(json.dumps(whole | {"model_cfg": changed}))
        with pytest.raises(ConfigError, match=said):
            load(tmp_path)

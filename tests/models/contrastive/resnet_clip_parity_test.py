"""Our CLIP with a ResNet tower against open_clip's: every parameter and buffer random, float64, in both modes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip_oracle import open_clip
from safetensors.torch import save_file
from tiny_public import CAPTIONS, assert_equal, compare_gradients, pixels, write_tokenizer

from diptych.capabilities.load import load
from diptych.core.errors import ConfigError
from diptych.layers.modified_resnet import ResNetConfig
from diptych.models import _open_clip_tables as tables
from diptych.models._weight_tables import read
from diptych.models.contrastive.clip import Clip, ClipPredictor, export_to
from diptych.objectives.contrastive import info_nce

SIZE = 64
SIZES = {
    "embed_dim": 18,
    "vision_cfg": {"image_size": SIZE, "layers": [2, 1, 2, 1], "width": 4, "head_width": 16, "patch_size": None},
    "text_cfg": {"context_length": 12, "vocab_size": 17, "width": 24, "heads": 3, "layers": 2},
}


@pytest.fixture
def both(tmp_path: Path) -> tuple[Clip, Any, ClipPredictor]:
    """Our module, theirs and our predictor, of one folder, in float64."""
    theirs = open_clip.model.CLIP(**SIZES, quick_gelu=True)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, values in sorted(theirs.state_dict().items()):
            if not values.is_floating_point() or name == "attn_mask":
                continue
            noise = torch.randn(values.shape, generator=generator)
            norm = ".bn" in name or "downsample.1" in name
            if name.endswith("running_var"):
                values.copy_(0.5 + noise.square())
            elif name.endswith("weight") and norm:
                values.copy_(1 + 0.3 * noise)
            else:
                fan_in = values[0].numel() if values.ndim == 4 else 12
                values.copy_(noise * fan_in**-0.5)
    state = {name: values.contiguous() for name, values in theirs.state_dict().items()}
    save_file(state, tmp_path / "open_clip_model.safetensors")
    described = {"model_cfg": {**SIZES, "quick_gelu": True}, "preprocess_cfg": {"mean": [0.4, 0.5, 0.6]}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(described))
    write_tokenizer(tmp_path, start=True, pad="!")
    predictor = load(tmp_path)
    assert isinstance(predictor, ClipPredictor)
    assert predictor.config.vision == ResNetConfig(SIZE, stem=4, blocks=(2, 1, 2, 1), heads=8)
    return predictor.module.double(), theirs.double(), predictor


@pytest.mark.parity("clip", "open_clip CLIP with a ResNet", "logits, loss, every gradient, running statistics")
@pytest.mark.parametrize("training", [False, True])
def test_logits_loss_gradients_and_running_statistics_are_open_clips(
    both: tuple[Clip, Any, ClipPredictor], training: bool
) -> None:
    ours, theirs, predictor = both
    ours.train(training), theirs.train(training)
    tokens_BT, lengths_B = predictor.processor.tokens(CAPTIONS)
    padded = torch.nn.functional.pad(tokens_BT, (0, 12 - tokens_BT.shape[1]))
    images = pixels(5, SIZE, SIZE)
    image, text, scale = theirs(images, padded)
    expected = open_clip.loss.ClipLoss()(image, text, scale)
    expected.backward()

    found = ours(images, tokens_BT, lengths_B)
    loss = info_nce(found.image_BD, found.text_BD, ours.log_scale.exp())
    loss.backward()  # type: ignore[no-untyped-call]
    assert_equal(found.image_BD, image)
    assert_equal(found.text_BD, text)
    assert_equal(loss, expected)
    table = tables.open_clip_resnet_clip((2, 1, 2, 1), 2)
    compare_gradients(ours, theirs, [one for one in table if not _is_buffer(one.ours)])
    state = read(table, {k: v for k, v in theirs.state_dict().items() if k != "attn_mask"}, Path())
    for name, values in ours.state_dict().items():
        torch.testing.assert_close(values, state[name], rtol=1e-9, atol=1e-11, msg=name)
    moved = ours.state_dict()["vision.blocks.0.narrow.norm.num_batches_tracked"]
    assert int(moved) == int(training)


def test_every_block_and_both_ways_through_it_matter(both: tuple[Clip, Any, ClipPredictor]) -> None:
    """Mutations: without its average pools, its attention's mean query or a shortcut the tower says something else."""
    ours, _, _ = both
    ours.eval()
    images = pixels(2, SIZE, SIZE)
    with torch.no_grad():
        before = ours.encode_image(images)
        for name, values in ours.vision.named_parameters():
            kept = values.clone()
            values.mul_(1.3).add_(0.1)
            assert float((ours.encode_image(images) - before).abs().max()) > 1e-7 or name.endswith("qkv.bias"), name
            values.copy_(kept)


def test_transformers_has_no_such_model_and_says_so(both: tuple[Clip, Any, ClipPredictor], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no ResNet tower"):
        export_to(both[2], tmp_path)


def _is_buffer(name: str) -> bool:
    return name.endswith(("running_mean", "running_var", "num_batches_tracked"))

"""Our CLIP and SigLIP against open_clip's, where it is installed: every parameter random, float64."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip_oracle import open_clip
from safetensors.torch import save_file
from tiny_public import (
    CAPTIONS,
    IMAGE_SIZE,
    assert_equal,
    compare_gradients,
    pixels,
    randomise,
    write_tokenizer,
)

from diptych.capabilities.load import load
from diptych.core.errors import CheckpointError, ConfigError
from diptych.models import _open_clip_tables as tables
from diptych.models._weight_tables import read
from diptych.models.contrastive.clip import ClipPredictor
from diptych.models.contrastive.siglip import SiglipPredictor
from diptych.objectives.contrastive import info_nce, sigmoid_loss

CLIP = {
    "embed_dim": 18,
    "vision_cfg": {"image_size": IMAGE_SIZE, "patch_size": 4, "width": 20, "head_width": 4, "layers": 3},
    "text_cfg": {"context_length": 12, "vocab_size": 17, "width": 24, "heads": 3, "layers": 2},
}
SIGLIP = {
    "embed_dim": 48,
    "init_logit_bias": -10,
    "custom_text": True,
    "vision_cfg": {"image_size": IMAGE_SIZE, "timm_model_name": "vit_base_patch16_siglip_224", "timm_pool": "map",
                   "timm_proj": "none"},
    "text_cfg": {"context_length": 12, "vocab_size": 17, "width": 24, "heads": 3, "layers": 2, "no_causal_mask": True,
                 "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6},
                 "tokenizer_kwargs": {"clean": "canonicalize"}},
}  # fmt: skip


def changed(plain: dict[str, Any], side: str | None = None, **more: Any) -> dict[str, Any]:
    """A configuration with some switches of a side, or of the whole, set otherwise."""
    return plain | (more if side is None else {side: plain[side] | more})


def saved(model: Any, config: dict[str, Any], folder: Path, start: bool = True, **preprocess: Any) -> Any:
    """The folder as open_clip's hub repositories have it; the model in float64."""
    model.eval()
    randomise(model)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    described = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "interpolation": "bicubic"} | preprocess
    whole = {"model_cfg": config, "preprocess_cfg": described}
    (folder / "open_clip_config.json").write_text(json.dumps(whole))
    write_tokenizer(folder, start=start, pad="!")
    return model.double()


def tiny_clip(folder: Path, config: dict[str, Any] = CLIP) -> Any:
    return saved(open_clip.model.CLIP(**config), config, folder)


def tiny_siglip(folder: Path, patch: pytest.MonkeyPatch, name: str, heads: int) -> Any:
    """timm's tower by its name, with fewer layers and narrower ones."""
    create = open_clip.timm_model.timm.create_model

    def smaller(architecture: str, **given: Any) -> Any:
        return create(architecture, **given | {"embed_dim": 48, "depth": 2, "patch_size": 4, "img_size": IMAGE_SIZE})

    patch.setattr(open_clip.timm_model.timm, "create_model", smaller)
    config = changed(SIGLIP, "vision_cfg", timm_model_name=name)
    model: Any = open_clip.model.CustomTextCLIP(
        **{key: value for key, value in config.items() if key != "custom_text"}, init_logit_scale=2.0
    )
    assert model.visual.trunk.blocks[0].attn.num_heads == heads
    return saved(model, config, folder, start=False, resize_mode="squash")


@pytest.mark.parity("clip", "open_clip CLIP", "logits, loss, every gradient")
@pytest.mark.parametrize(("quick", "tanh"), [(False, False), (True, False), (False, True)])
def test_clip_has_open_clips_logits_loss_and_gradients(tmp_path: Path, quick: bool, tanh: bool) -> None:
    act = {"act_kwargs": {"approximate": "tanh"}, "norm_kwargs": {"eps": 1e-4}} if tanh else {}
    config = changed(changed(changed(CLIP, "vision_cfg", **act), "text_cfg", **act), quick_gelu=quick)
    theirs = tiny_clip(tmp_path, config)
    predictor = load(tmp_path)
    assert isinstance(predictor, ClipPredictor)
    module = predictor.module.double()
    tokens_BT, lengths_B = predictor.processor.tokens(CAPTIONS)
    padded = torch.nn.functional.pad(tokens_BT, (0, 12 - tokens_BT.shape[1]))  # open_clip always pads to the context
    image, text, scale = theirs(pixels(5), padded)
    loss = open_clip.loss.ClipLoss()(image, text, scale)
    loss.backward()

    found = module(pixels(5), tokens_BT, lengths_B)
    ours = info_nce(found.image_BD, found.text_BD, module.log_scale.exp())
    ours.backward()  # type: ignore[no-untyped-call]
    assert_equal(found.image_BD, image)
    assert_equal(found.text_BD, text)
    assert_equal(ours, loss)
    compare_gradients(module, theirs, tables.open_clip_clip(3, 2))


@pytest.mark.parity("siglip", "open_clip SigLIP", "logits, loss, every gradient")
@pytest.mark.parametrize(
    ("name", "heads"),
    [
        ("vit_base_patch16_siglip_224", 12),
        ("vit_base_patch32_siglip_256", 12),
        ("vit_large_patch16_siglip_384", 16),
        ("vit_large_patch16_siglip_512", 16),
        ("vit_so400m_patch14_siglip_224", 16),
        ("vit_so400m_patch16_siglip_256", 16),
        ("vit_giantopt_patch16_siglip_256", 16),
    ],
)
def test_siglip_has_open_clips_logits_loss_and_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, heads: int
) -> None:
    theirs = tiny_siglip(tmp_path, monkeypatch, name, heads)
    predictor = load(tmp_path)
    assert isinstance(predictor, SiglipPredictor)
    module = predictor.module.double()
    tokens_BT, lengths_B = predictor.processor.tokens(CAPTIONS)
    image, text, scale, bias = theirs(pixels(5), tokens_BT)
    loss = open_clip.loss.SigLipLoss()(image, text, scale, bias)
    loss.backward()

    found = module(pixels(5), tokens_BT, lengths_B)
    ours = sigmoid_loss(found.image_BD, found.text_BD, module.log_scale.exp(), module.bias)
    ours.backward()  # type: ignore[no-untyped-call]
    assert_equal(found.image_BD, image)
    assert_equal(found.text_BD, text)
    assert_equal(ours, loss)
    compare_gradients(module, theirs, tables.open_clip_siglip(2, 2))


@pytest.mark.parity("clip", "open_clip patch dropout", "features")
def test_a_tower_with_masked_patches_is_open_clips_with_the_same_patches_dropped(tmp_path: Path) -> None:
    """The draws differ, so theirs are drawn once more and handed to ours; gradients too."""
    theirs = tiny_clip(tmp_path, changed(CLIP, "vision_cfg", patch_dropout=0.5)).train()
    predictor = load(tmp_path)
    assert isinstance(predictor, ClipPredictor)
    module = predictor.module.double()
    torch.manual_seed(5)
    expected = theirs.encode_image(pixels(5), normalize=True)
    torch.manual_seed(5)
    kept_BK = torch.randn(5, 16).topk(8, dim=-1).indices
    found = module.encode_image(pixels(5), kept_BK)
    assert_equal(found, expected)
    expected.square().sum(1).sqrt()[:2].sum().add(expected[:, :3].sum()).backward()
    found.square().sum(1).sqrt()[:2].sum().add(found[:, :3].sum()).backward()  # type: ignore[no-untyped-call]
    entries = [entry for entry in tables.open_clip_clip(3, 2) if entry.ours.startswith(("vision.", "image_head"))]
    theirs_of_vision = {name: p.grad for name, p in theirs.named_parameters() if name.startswith("visual.")}
    assert all(gradient is not None for gradient in theirs_of_vision.values())
    gradients = read(entries, theirs_of_vision, tmp_path)  # type: ignore[arg-type]
    for name, gradient in gradients.items():
        torch.testing.assert_close(module.get_parameter(name).grad, gradient, rtol=1e-8, atol=1e-10, msg=name)
    assert_equal(module.encode_image(pixels(5)), theirs.eval().encode_image(pixels(5), normalize=True))


def test_every_siglip_tower_of_timm_is_read_with_its_own_heads_and_activation(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    from diptych.models.contrastive._open_clip import _timm_vision

    names = [name for name in timm.list_models("vit_*_siglip_*") if "_gap_" not in name]
    assert len(names) > 10
    shape = {"visual.trunk.patch_embed.proj.weight": torch.zeros(48, 3, 4, 4)}
    shape |= {"visual.trunk.blocks.0.mlp.fc1.weight": torch.zeros(96, 48)}
    for name in names:
        trunk = timm.create_model(name, embed_dim=48, depth=1, img_size=16, patch_size=4)
        found = _timm_vision({"vision_cfg": {"timm_model_name": name, "image_size": 16}}, shape)
        rows = torch.linspace(-3, 3, 50, dtype=torch.float64)
        assert found.heads == trunk.blocks[0].attn.num_heads, name
        assert torch.equal(found.activation(rows), trunk.blocks[0].mlp.act(rows)), name
        assert torch.equal(found.activation(rows), trunk.attn_pool.mlp.act(rows)), name
        assert found.eps == trunk.norm.eps, name


def test_siglips_texts_are_prepared_as_open_clip_prepares_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lower case, without punctuation; with the bare tokenizer these texts would be mostly unknown words."""
    tiny_siglip(tmp_path, monkeypatch, "vit_base_patch16_siglip_224", 12)
    predictor = load(tmp_path)
    assert isinstance(predictor, SiglipPredictor)
    tokenizer = open_clip.tokenizer.HFTokenizer(str(tmp_path), context_length=12, clean="canonicalize")
    texts = ["A Photo, of the_dog!", "red", r"the [small] \ dog^'s cat-house {on} 'a' BEACH.", "!", "  two \n green  "]
    assert torch.equal(predictor.processor.tokens(texts)[0], tokenizer(texts))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (changed(CLIP, "vision_cfg", pool_type="avg"), "pool_type = 'avg'"),
        (changed(CLIP, "vision_cfg", final_ln_after_pool=True), "final_ln_after_pool = True"),
        (changed(CLIP, "text_cfg", pool_type="last"), "pool_type = 'last'"),
        (changed(CLIP, "vision_cfg", timm_model_name="vit_tiny"), "has timm's tower"),
        (changed(SIGLIP, "vision_cfg", timm_model_name="vit_base_patch16_siglip_gap_224"), "timm's tower vit_base"),
        (changed(SIGLIP, "vision_cfg", timm_model_name="vit_small_patch16_224"), "timm's tower vit_small"),
    ],
)
def test_what_is_not_here_and_leaves_no_trace_in_the_weights_is_refused(
    tmp_path: Path, config: dict[str, Any], said: str
) -> None:
    tiny_clip(tmp_path)
    path = tmp_path / "open_clip_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_cfg": config}))
    with pytest.raises(ConfigError, match=said):
        load(tmp_path)


def test_other_ways_to_prepare_pictures_are_refused(tmp_path: Path) -> None:
    saved(open_clip.model.CLIP(**CLIP), CLIP, tmp_path, resize_mode="longest")
    with pytest.raises(ConfigError, match="resize_mode = 'longest' is not done here"):
        load(tmp_path)


def test_a_layer_more_than_the_configuration_says_is_refused(tmp_path: Path) -> None:
    tiny_clip(tmp_path)
    path = tmp_path / "open_clip_config.json"
    config = changed(CLIP, "text_cfg", layers=1)
    path.write_text(json.dumps({"model_cfg": config}))
    with pytest.raises(CheckpointError, match=r"no table knows: transformer\.resblocks\.1"):
        load(tmp_path)

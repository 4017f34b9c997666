"""ViT-VQGAN: the transformers by hand, lookup by angle, losses in closed form, who sees whom, bad input."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from diptych.core.errors import ConfigError, DataError
from diptych.core.seeding import seed_everything
from diptych.data.batches.pictures import PictureBatch, PictureProcessor
from diptych.data.loading.loader import evaluation_batches
from diptych.data.pixels.images import ImagePreprocessing
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.layers.vit_autoencoder import VitConfig, VitDecoder, VitEncoder
from diptych.models.image_tokenizer import vit_vqgan
from diptych.models.image_tokenizer.vit_vqgan import VitVqganTask


def task_of(name: str = "averaged") -> VitVqganTask:
    seed_everything("vit vqgan test", name)
    task = vit_vqgan.tiny_tasks([])[name]
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return task.double()


def scenes(task: VitVqganTask, count: int = 4) -> PictureBatch:
    source = Scenes("train", count, SceneConfig(size=32))
    batch: PictureBatch = next(iter(evaluation_batches(source, task.processor, count)))
    return batch


def test_every_part_in_closed_form() -> None:
    task = task_of()
    batch, model = scenes(task), task.model
    share = batch.pixels_BCHW.double() / 255
    with torch.no_grad():
        vectors = F.normalize(model.encoder(2 * share - 1), dim=1)
        codebook = F.normalize(model.quantizer.codebook_KC, dim=1)
        codes = (vectors.permute(0, 2, 3, 1) @ codebook.T).argmax(-1)  # the smallest angle
        chosen = codebook[codes].permute(0, 3, 1, 2)
        mu, log_scale = model.decoder(chosen).chunk(2, dim=1)
        losses = task.losses(batch)
    assert torch.equal(codes, model.codes(batch.pixels_BCHW))
    x, log_scale = 0.8 * share + 0.1, log_scale.clamp(min=-4)
    density = torch.exp(-(torch.logit(x) - mu).abs() / log_scale.exp()) / (2 * log_scale.exp() * x * (1 - x))
    made = 2 * (torch.sigmoid(mu) - 0.1) / 0.8 - 1
    expected = {
        "l2": (made - (2 * share - 1)).square().mean(),
        "logit_laplace": -density.log().mean(),
        "commitment": (vectors - chosen).square().mean(),
    }
    for part, value in expected.items():
        torch.testing.assert_close(losses[part].value, value, rtol=1e-5, atol=1e-6, msg=part)
    assert losses.keys() == {*expected, "perceptual"}
    assert [losses[part].weight for part in ("l2", "logit_laplace", "perceptual", "commitment")] == [1, 0.1, 0.1, 0.25]
    assert task.counts(batch) == dict.fromkeys(losses, 4.0)
    assert len(codes.unique()) > 3, "a test of one code tests nothing"


def test_codes_do_not_depend_on_the_length_of_vectors_and_codes() -> None:
    quantizer = task_of().model.quantizer
    vectors = torch.randn(50, 8, dtype=torch.float64)
    codes = quantizer.nearest(vectors)
    stretched = vectors * torch.rand(50, 1, dtype=torch.float64).add(0.1) * 7
    assert torch.equal(quantizer.nearest(stretched), codes)
    torch.testing.assert_close(quantizer.lookup(codes).norm(dim=-1), torch.ones(50, dtype=torch.float64))
    with torch.no_grad():
        quantizer.codebook_KC.mul_(torch.linspace(0.5, 3, 64)[:, None])
    assert torch.equal(quantizer.nearest(vectors), codes)


def test_the_gradient_passes_the_lookup_and_the_sphere() -> None:
    """Straight-through: the decoder's gradient at the code, then that of bringing the vector to length one."""
    quantizer = task_of().model.quantizer
    z = torch.randn(1, 8, 2, 2, dtype=torch.float64, requires_grad=True)
    probe = torch.randn(1, 8, 2, 2, dtype=torch.float64)
    (quantizer(z).vectors_BCHW * probe).sum().backward()
    other = z.detach().clone().requires_grad_()
    (F.normalize(other, dim=1) * probe).sum().backward()
    torch.testing.assert_close(z.grad, other.grad)
    assert float((z.grad * z.detach()).sum(1).abs().max()) < 1e-9  # type: ignore[operator]  # nothing along z


def test_by_averages_codes_go_to_the_direction_of_their_vectors() -> None:
    quantizer = task_of().model.quantizer
    z = torch.randn(2, 8, 4, 4, dtype=torch.float64, requires_grad=True)
    codes = quantizer(z).codes_Bhw
    quantizer.after_step()
    rows, which = F.normalize(z.detach(), dim=1).permute(0, 2, 3, 1).flatten(0, 2), codes.flatten()
    for code in which.unique():
        expected = F.normalize(rows[which == code].mean(0), dim=0)
        torch.testing.assert_close(quantizer.lookup(code), expected)


def test_the_transformers_by_hand() -> None:
    config = VitConfig(16, 4, width=12, depth=2, heads=3, hidden=20)
    encoder, decoder = VitEncoder(config, 5).double(), VitDecoder(config, 5, 6).double()
    for part in (encoder, decoder):
        for parameter in part.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    cells = images.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(2, 16, 48)
    x = cells @ encoder.patches.weight.flatten(1).T + encoder.patches.bias
    found = _blocks(encoder, x, config)
    torch.testing.assert_close(encoder(images), found.transpose(1, 2).reshape(2, 5, 4, 4))
    vectors = torch.randn(2, 5, 4, 4, dtype=torch.float64)
    made = _blocks(decoder, decoder.enter(vectors.flatten(2).transpose(1, 2)), config)
    square = made.reshape(2, 4, 4, 6, 4, 4).permute(0, 3, 1, 4, 2, 5).reshape(2, 6, 16, 16)
    torch.testing.assert_close(decoder(vectors), square)


def _blocks(side: VitEncoder | VitDecoder, x: torch.Tensor, config: VitConfig) -> torch.Tensor:
    x = x + side.blocks.positions_PD
    for block in side.blocks.transformer.blocks:
        y = block.norm1(x)  # type: ignore[operator]
        q, k, v = block.attention.qkv(y).unflatten(-1, (3, config.heads, -1)).permute(2, 0, 3, 1, 4)  # type: ignore[operator, union-attr]
        weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(config.width // config.heads), -1)
        x = x + block.attention.out((weights @ v).transpose(1, 2).flatten(2))  # type: ignore[operator, union-attr]
        x = x + block.mlp.down(F.gelu(block.mlp.up(block.norm2(x))))  # type: ignore[operator, union-attr]
    first, _, last = side.leave
    out: torch.Tensor = last(torch.tanh(first(side.blocks.norm(x))))
    return out


def test_every_patch_sees_every_other() -> None:
    encoder = task_of().model.encoder
    images = scenes(task_of()).pixels_BCHW[:1].double() / 127.5 - 1
    changed = images.clone()
    changed[..., :8, :8] += 0.5
    moved = (encoder(images) - encoder(changed)).abs().sum(1)[0]
    assert bool((moved > 1e-9).all())


def test_other_sizes_of_pictures_have_positions_between() -> None:
    model = task_of().model
    codes = model.codes(torch.zeros(1, 3, 16, 48, dtype=torch.float64))
    assert codes.shape == (1, 2, 6)
    assert model.decode(codes).shape == (1, 3, 16, 48)


def test_what_does_not_fit_is_refused() -> None:
    model = task_of().model
    with pytest.raises(DataError, match="codes 0 to 63, and 64 is none"):
        model.decode(torch.full((1, 4, 4), 64))
    with pytest.raises(ConfigError, match="20 x 24 pixels cannot be cut into patches of 8"):
        model.codes(torch.zeros(1, 3, 20, 24, dtype=torch.float64))
    with pytest.raises(ConfigError, match="36 x 36 pixels cannot be cut into patches of 8"):
        image = ImagePreprocessing(36, mean=vit_vqgan.MEAN, std=vit_vqgan.STD)
        VitVqganTask(task_of().config, PictureProcessor(image))
    with pytest.raises(ConfigError, match="try 32"):
        VitConfig(36, 8)


def test_public_sizes() -> None:
    config = vit_vqgan.Config.base()
    assert (config.quantizer.codes, config.quantizer.width, config.quantizer.l2) == (8192, 32, True)
    with torch.device("meta"):
        encoder = VitEncoder(config.vit, 32)
    blocks = sum(parameter.numel() for parameter in encoder.blocks.transformer.parameters())
    assert blocks == 12 * (4 * 768**2 + 2 * 768 * 3072 + 9 * 768 + 3072)

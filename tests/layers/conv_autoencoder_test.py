"""The convolutional encoder and decoder: sizes, who sees whom, recomputation. Values are in vq_parity_test."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diptych.core.errors import ConfigError
from diptych.layers.conv_autoencoder import AutoencoderConfig, ConvDecoder, ConvEncoder, SpatialAttention

PLAIN = AutoencoderConfig((8, 8, 12), blocks=1, latent=5, groups=4, attention=False)
PATCHED = AutoencoderConfig((8, 12), blocks=1, latent=5, groups=4, attention=False, patch=4)


def pictures(count: int = 2, height: int = 16, width: int = 24) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(("config", "factor"), [(PLAIN, 4), (PATCHED, 8)])
def test_the_factor_is_what_a_position_covers(config: AutoencoderConfig, factor: int) -> None:
    encoder, decoder = ConvEncoder(config).double(), ConvDecoder(config).double()
    latents = encoder(pictures())
    assert config.factor == factor
    assert latents.shape == (2, 5, *config.grid(16, 24)) == (2, 5, 16 // factor, 24 // factor)
    assert decoder(latents).shape == pictures().shape
    assert ConvEncoder(config, outputs=10).double()(pictures()).shape[1] == 10


def test_squares_of_pixels_become_channels_and_pixels_again_in_the_same_places() -> None:
    """A convolution in that copies its input and one out that copies back leave the picture as it was."""
    config = AutoencoderConfig((48,), blocks=1, latent=48, groups=4, attention=False, patch=4)
    encoder, decoder = ConvEncoder(config).double(), ConvDecoder(config).double()
    for part in (encoder, decoder):
        part.parts, part.norm_out = torch.nn.ModuleList(), torch.nn.Identity()  # type: ignore[assignment]
        for convolution in (part.conv_in, part.conv_out):
            torch.nn.init.dirac_(convolution.weight)
            torch.nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    images = pictures().abs()
    silu = torch.nn.functional.silu
    torch.testing.assert_close(decoder(encoder(images)), silu(silu(images)))
    # The first channel of the first position is the first pixel; the 48 of a position are its 4 x 4 square.
    latents = encoder(images)
    assert torch.equal(latents[:, 0, 0, 0], silu(images)[:, 0, 0, 0])
    assert torch.equal(latents[0, :, 1, 2].sort().values, silu(images)[0, :, 4:8, 8:12].flatten().sort().values)


def seen_by_the_last(config: AutoencoderConfig) -> Tensor:
    """Whether each pixel of the first row moves the latent of the upper right corner; group norms made pointwise."""
    encoder = ConvEncoder(config).double()
    for name, module in list(encoder.named_modules()):
        if isinstance(module, torch.nn.GroupNorm):
            parent = encoder.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], torch.nn.Identity())
    images = pictures(1, 16, 256).requires_grad_()
    encoder(images)[0, :, 0, -1].sum().backward()
    assert images.grad is not None
    return images.grad[0].abs().sum((0, 1)) > 0


def test_without_attention_a_position_sees_its_neighbourhood_and_with_it_everything() -> None:
    near = seen_by_the_last(PLAIN)
    assert near[-1] and not near[:100].any()
    assert seen_by_the_last(AutoencoderConfig((8, 8, 12), 1, 5, 4, attention=True)).all()


def test_attention_is_that_of_the_formula() -> None:
    attention = SpatialAttention(8, 4).double()
    x = torch.randn(2, 8, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    rows = attention.norm(x).flatten(2).transpose(1, 2)
    query, key, value = attention.qkv(rows).chunk(3, -1)
    weights = (query @ key.transpose(1, 2) / 8**0.5).softmax(-1)
    expected = x + attention.out(weights @ value).transpose(1, 2).reshape(x.shape)
    torch.testing.assert_close(attention(x), expected)


def test_halving_pads_at_the_right_and_lower_edge_only() -> None:
    """A picture that is shifted by two pixels gives the same positions, shifted by one."""
    config = AutoencoderConfig((4, 4), blocks=1, latent=4, groups=4, attention=False)
    halve = next(part for part in ConvEncoder(config).double().parts if type(part).__name__ == "Halve")
    x = torch.randn(1, 4, 8, 8, dtype=torch.float64)
    assert halve(x).shape == (1, 4, 4, 4)
    torch.testing.assert_close(halve(x)[..., :3, 1:], halve(x[..., 2:])[..., :3, :])


def test_recomputed_activations_give_the_same_gradients() -> None:
    encoder = ConvEncoder(PLAIN).double()
    gradients = []
    for on in (False, True):
        encoder.checkpointing = on
        encoder.zero_grad()
        encoder(pictures()).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in encoder.parameters() if parameter.grad is not None])
    assert len(gradients[0]) == len(list(encoder.parameters()))
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"channels": ()}, "must be given"),
        ({"blocks": 0}, "each at least 1"),
        ({"channels": (8, 10), "groups": 4}, "10 channels are not divisible into 4 groups"),
    ],
)
def test_sizes_that_make_no_network_are_refused(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        AutoencoderConfig(**fields)  # type: ignore[arg-type]


def test_a_picture_that_cannot_be_cut_into_cells_is_refused_with_the_numbers() -> None:
    with pytest.raises(ConfigError, match=r"16 x 20 pixels cannot be cut into cells of 8 x 8.*divisible by 8"):
        PATCHED.grid(16, 20)

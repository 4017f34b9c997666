"""Patches of pixels against those of ViT-MAE, and back again."""

import pytest
import torch
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from diptych.core.errors import ConfigError
from diptych.layers.pixel_patches import patchify, unpatchify
from diptych.layers.vision_transformer import PatchEmbedding


def test_patches_are_those_of_vit_mae_with_channels_first() -> None:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    decoder = {"decoder_hidden_size": 8, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 1}
    oracle = ViTMAEForPreTraining(
        ViTMAEConfig(image_size=24, patch_size=8, decoder_intermediate_size=8, **sizes, **decoder)
    )
    image_BCHW = torch.randn(2, 3, 24, 24)
    wanted_BPE = oracle.patchify(image_BCHW).unflatten(2, (8, 8, 3)).permute(0, 1, 4, 2, 3).flatten(2)
    assert torch.equal(patchify(image_BCHW, 8), wanted_BPE)


def test_patches_are_what_a_patch_embedding_reads() -> None:
    embed = PatchEmbedding(4, 5, bias=False)
    image_BCHW = torch.randn(2, 3, 8, 12)
    torch.testing.assert_close(patchify(image_BCHW, 4) @ embed.weight.flatten(1).T, embed(image_BCHW))


def test_pictures_come_back_whatever_their_shape() -> None:
    image_BCHW = torch.randn(2, 3, 8, 12)
    patches_BPE = patchify(image_BCHW, 4)
    assert patches_BPE.shape == (2, 6, 48)
    assert torch.equal(patches_BPE[1, 4], image_BCHW[1, :, 4:, 4:8].flatten())  # second row, second column
    assert torch.equal(unpatchify(patches_BPE, 4, 2, 3), image_BCHW)


def test_a_picture_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match="8x12 does not divide into patches of 5"):
        patchify(torch.zeros(1, 3, 8, 12), 5)

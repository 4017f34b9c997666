"""Our VQ model against transformers' ChameleonVQVAE with random parameters in float64; a whole VQGAN in its names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_public import assert_equal, compare_gradients, photograph, pixels, randomise
from transformers.models.chameleon.modeling_chameleon import ChameleonVQVAE

from diptych.capabilities.folder import read_model, write_model
from diptych.capabilities.load import load
from diptych.core.errors import CheckpointError, ConfigError
from diptych.models._weight_tables import write
from diptych.models.image_tokenizer import vq
from diptych.models.image_tokenizer._chameleon import ChameleonEncoderPredictor, entries, processor_of
from diptych.models.image_tokenizer.vq import VqPredictor, weights_from

SIZES: dict[str, dict[str, Any]] = {
    "attention in a stage": {"attn_resolutions": [8], "channel_multiplier": [1, 2]},
    "attention in the middle": {"channel_multiplier": [1, 1, 2], "num_res_blocks": 2},
    "no attention": {"attn_type": "none", "channel_multiplier": [1], "attn_resolutions": [16]},
}


def tiny_chameleon(folder: Path, name: str) -> Any:
    """A ChameleonVQVAE in float64, and its folder in float32."""
    sizes = {"num_res_blocks": 1, **SIZES[name]}
    config = transformers.ChameleonVQVAEConfig(
        embed_dim=5, num_embeddings=24, latent_channels=6, resolution=16, base_channels=64, **sizes
    )
    model: Any = ChameleonVQVAE(config)
    randomise(model)
    model.eval().save_pretrained(folder)
    return model.double()


@pytest.mark.parity("vq", "transformers ChameleonVQVAE", "vectors, codes, every gradient")
@pytest.mark.parametrize("name", SIZES)
def test_vectors_codes_and_every_gradient_are_those_of_transformers(tmp_path: Path, name: str) -> None:
    theirs = tiny_chameleon(tmp_path, name)
    predictor = weights_from(tmp_path)
    assert isinstance(predictor, ChameleonEncoderPredictor)
    ours = predictor.module.double()
    images = pixels(3, 16, 16)
    expected = theirs.encode(images)
    vectors = ours.to_code(ours.encoder(images))
    quantized = ours.quantizer(vectors)
    assert_equal(ours.encoder(images), expected.last_hidden_state)
    assert_equal(quantized.vectors_BCHW, expected.quantized_last_hidden_state)
    assert ours.codes(images).flatten().tolist() == expected.image_tokens.flatten().tolist()
    assert len(set(expected.image_tokens.flatten().tolist())) > 3, "a test of one code tests nothing"
    # beta on the codebook's side, as they have it
    assert_equal(quantized.commitment_B.mean() + 0.25 * quantized.codebook_B.mean(), expected.embedding_loss)
    probe = torch.randn(expected.quantized_last_hidden_state.shape, generator=torch.Generator().manual_seed(5)).double()
    later = theirs.post_quant_conv(expected.quantized_last_hidden_state)
    ((expected.quantized_last_hidden_state * probe).sum() + later.square().sum() + expected.embedding_loss).backward()
    found = ours.from_code(quantized.vectors_BCHW)
    loss = quantized.commitment_B.mean() + 0.25 * quantized.codebook_B.mean()
    ((quantized.vectors_BCHW * probe).sum() + found.square().sum() + loss).backward()  # type: ignore[no-untyped-call]
    for parameter in theirs.parameters():
        parameter.grad = _flat(parameter)
    compare_gradients(ours, theirs, entries(ours.config.autoencoder, decoder=False))


def _flat(parameter: Any) -> Any:
    """Attention's gradients, as those of matrices; other convolutions of 1 x 1 keep their shape in our table."""
    gradient = parameter.grad
    square = parameter.ndim == 4 and parameter.shape[2:] == (1, 1) and parameter.shape[0] == parameter.shape[1]
    if not square:
        return gradient
    parameter.data = parameter.data[:, :, 0, 0]
    return gradient[:, :, 0, 0]


def test_pixels_are_those_of_its_processor() -> None:
    picture = photograph(32, 32)
    processor = transformers.ChameleonImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, do_resize=False
    )
    expected = torch.as_tensor(np.asarray(processor(picture, return_tensors="np")["pixel_values"]))
    ours = processor_of(32)
    found = vq.VqModel(vq.Config.tiny(), ours.image.mean, ours.image.std).normalise(ours.pixels([picture]))
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-5)
    assert float(found.max()) <= 255 * 0.0078 - 1


def test_without_a_decoder_there_are_codes_and_no_pictures(tmp_path: Path) -> None:
    tiny_chameleon(tmp_path / "public", "attention in the middle")
    predictor = load(tmp_path / "public")
    assert isinstance(predictor, ChameleonEncoderPredictor)
    assert predictor.verbs == {"tokenize_image"}
    codes = predictor.tokenize_image([photograph()])
    assert codes.shape == (1, *predictor.module.grid(16)) == (1, 4, 4)
    with pytest.raises(ConfigError, match="have no decoder"):
        predictor.decode(codes)
    (tmp_path / "ours").mkdir()
    write_model(predictor, tmp_path / "ours")
    assert torch.equal(read_model(tmp_path / "ours").tokenize_image([photograph()]), codes)


@pytest.mark.parametrize("name", SIZES)
def test_with_a_decoder_it_is_a_whole_vq_model(tmp_path: Path, name: str) -> None:
    """The decoder's names are those of taming-transformers, where stages count from the picture."""
    theirs = tiny_chameleon(tmp_path, name)
    encoder = weights_from(tmp_path)
    config = encoder.module.config  # type: ignore[union-attr]
    whole = vq.VqModel(vq.Config(config.autoencoder, config.quantizer))
    randomise(whole, seed=4)
    wanted = {name: tensor for name, tensor in whole.state_dict().items() if name not in _OF_TRAINING}
    public = load_file(tmp_path / "model.safetensors")
    decoder = {n: t for n, t in write(entries(config.autoencoder, True), wanted).items() if n.startswith("decoder.")}
    decoder = {n: t[..., None, None] if ".attn" in n and t.ndim == 2 else t for n, t in decoder.items()}
    save_file(public | decoder, tmp_path / "model.safetensors")
    predictor = weights_from(tmp_path)
    assert isinstance(predictor, VqPredictor)
    module = predictor.module.double()
    with torch.no_grad():
        quantized = theirs.encode(pixels(2, 16, 16)).quantized_last_hidden_state
        expected = whole.double().decoder(theirs.post_quant_conv(quantized))
        assert_equal(module(pixels(2, 16, 16)).pixels_BCHW, expected)
    if name == "attention in the middle":
        assert "decoder.up.2.upsample.conv.weight" in decoder and "decoder.up.0.block.2.conv1.bias" in decoder
        assert "decoder.up.1.block.0.nin_shortcut.weight" in decoder


_OF_TRAINING = ("quantizer.usage_K", "quantizer.steps")


def test_what_is_not_done_or_missing_is_refused(tmp_path: Path) -> None:
    tiny_chameleon(tmp_path, "no attention")
    public = load_file(tmp_path / "model.safetensors")
    save_file({n: t for n, t in public.items() if n != "quant_conv.bias"}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"lacks the weight quant_conv\.bias"):
        weights_from(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"double_latent": false', '"double_latent": true'))
    with pytest.raises(ConfigError, match="double_latent True is not done here"):
        weights_from(tmp_path)

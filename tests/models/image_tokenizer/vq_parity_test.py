"""Our VQ model against diffusers' VQModel: every parameter random, float64."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_public import assert_equal, compare_gradients, insensitive, photograph, pixels, randomise
from torch import Tensor
from torch.nn import functional as F

from diptych.capabilities.export import export
from diptych.capabilities.load import load
from diptych.core.errors import CheckpointError, ConfigError
from diptych.core.losses import total
from diptych.data.batches.pictures import PictureBatch
from diptych.models.image_tokenizer import vq
from diptych.models.image_tokenizer._diffusers import entries
from diptych.models.image_tokenizer.vq import VqModel, VqPredictor, VqTask, weights_from

SIZES: dict[str, dict[str, Any]] = {
    "one stage": {"block_out_channels": (8,), "layers_per_block": 1, "latent_channels": 3},
    "attention": {"block_out_channels": (8, 16), "layers_per_block": 2, "latent_channels": 5, "vq_embed_dim": 4},
    "no attention": {
        "block_out_channels": (8, 8, 12), "layers_per_block": 1, "latent_channels": 6, "vq_embed_dim": 8,
        "mid_block_add_attention": False, "scaling_factor": 0.5,
    },
}  # fmt: skip
WEIGHTS = "diffusion_pytorch_model.safetensors"


def tiny_vq(folder: Path, name: str = "attention") -> Any:
    """A VQModel in float64, and its folder in float32."""
    sizes = SIZES[name]
    stages = len(sizes["block_out_channels"])
    model: Any = diffusers.VQModel(
        down_block_types=("DownEncoderBlock2D",) * stages, up_block_types=("UpDecoderBlock2D",) * stages,
        num_vq_embeddings=24, norm_num_groups=4, sample_size=16, **sizes,
    )  # fmt: skip
    randomise(model)
    model.eval().save_pretrained(folder)
    return model.double()


def both(folder: Path, name: str) -> tuple[VqModel, Any]:
    theirs = tiny_vq(folder, name)
    return weights_from(folder).module.double(), theirs


@pytest.mark.parity("vq", "diffusers VQModel", "vectors, codes, pictures")
@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 24, 16)])
def test_vectors_codes_and_pictures_are_those_of_diffusers(
    tmp_path: Path, name: str, shape: tuple[int, int, int]
) -> None:
    ours, theirs = both(tmp_path, name)
    images = pixels(*shape)
    with torch.no_grad():
        vectors = theirs.encode(images).latents
        quantized, _, (_, _, codes) = theirs.quantize(vectors)
        expected = theirs(images).sample
        found = ours(images)
        assert_equal(ours.encode(images), vectors)
        assert_equal(ours.encoder(images), theirs.encoder(images))
        assert_equal(ours.quantizer(vectors).vectors_BCHW, quantized)
        assert found.codes_Bhw.flatten().tolist() == codes.tolist() == ours.codes(images).flatten().tolist()
        assert len(set(codes.tolist())) > 3, "a test of one code tests nothing"
        assert_equal(found.pixels_BCHW, expected)
        assert_equal(ours.decode(found.codes_Bhw), (expected / 2 + 0.5).clamp(0, 1))
        assert_equal(ours.decode_vectors(vectors), theirs.decode(vectors, force_not_quantize=True).sample)


@pytest.mark.parity("vq", "diffusers VQModel", "loss, every gradient")
@pytest.mark.parametrize("name", SIZES)
def test_the_loss_and_the_gradient_of_every_parameter_are_those_of_diffusers(tmp_path: Path, name: str) -> None:
    """With beta where the paper has it, on the commitment: `legacy=False` there."""
    ours, theirs = both(tmp_path, name)
    theirs.quantize.legacy = False
    images = pixels(4, 16, 16)
    expected = _their_loss(theirs, images)
    expected.backward()
    task = _task(tmp_path, ours)
    found = total(task.losses(_batch(images)))
    found.backward()  # type: ignore[no-untyped-call]
    assert_equal(found, expected)
    compare_gradients(ours, theirs, entries(task.config.autoencoder))


def test_by_default_diffusers_has_beta_on_the_other_side(tmp_path: Path) -> None:
    ours, theirs = both(tmp_path, "attention")
    images = pixels(4, 16, 16)
    parts = _task(tmp_path, ours).losses(_batch(images))
    swapped = parts["reconstruction"].value + parts["commitment"].value + 0.25 * parts["codebook"].value
    assert theirs.quantize.legacy
    assert_equal(swapped, _their_loss(theirs, images))


def _their_loss(theirs: Any, images: Tensor) -> Tensor:
    out = theirs(images)
    loss: Tensor = F.mse_loss(out.sample, images) + out.commit_loss
    return loss


def _task(folder: Path, module: VqModel) -> VqTask:
    predictor = weights_from(folder)
    task = VqTask(predictor.config, predictor.processor)
    task.model = module
    return task


def _batch(images: Tensor) -> PictureBatch:
    return PictureBatch(tuple(map(str, range(len(images)))), images, seeds=tuple(range(len(images))))


def test_no_parameter_is_without_effect(tmp_path: Path) -> None:
    ours, _ = both(tmp_path, "attention")
    images = pixels(2, 16, 16)

    def outputs() -> Tensor:
        vectors = ours.encode(images)
        found = torch.cat([ours.decode_vectors(vectors).flatten(), ours.quantizer(vectors).commitment_B])
        return found.detach()

    assert insensitive(ours, outputs) == []


def test_load_finds_the_file_and_reads_the_names_of_older_folders(tmp_path: Path) -> None:
    theirs = tiny_vq(tmp_path)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(tmp_path / WEIGHTS)
    renamed = {}
    for name, tensor in state.items():
        for new, older in old.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{older}.")
        renamed[name] = tensor
    assert renamed.keys() != state.keys()
    save_file(renamed, tmp_path / WEIGHTS)
    predictor = load(tmp_path)
    assert isinstance(predictor, VqPredictor)
    assert predictor.verbs == {"reconstruct", "tokenize_image"}
    images = pixels(2, 16, 16)
    assert_equal(predictor.module.double()(images).pixels_BCHW, theirs(images).sample)


@pytest.mark.parametrize("name", SIZES)
def test_what_is_exported_is_what_diffusers_reads(tmp_path: Path, name: str) -> None:
    tiny_vq(tmp_path / "theirs", name)
    predictor = weights_from(tmp_path / "theirs")
    export(predictor, tmp_path / "ours")
    again: Any = diffusers.VQModel.from_pretrained(tmp_path / "ours")
    original: Any = diffusers.VQModel.from_pretrained(tmp_path / "theirs")
    changed = {k: v for k, v in again.config.items() if not k.startswith("_") and v != original.config[k]}
    assert changed.keys() <= {"vq_embed_dim"}  # None, which means as wide as the latent, is written as that width
    for key, tensor in original.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor), key


def test_pixels_are_prepared_as_the_model_takes_them(tmp_path: Path) -> None:
    theirs = tiny_vq(tmp_path)
    predictor = load(tmp_path)
    predictor.module.double()
    picture = photograph(16, 16)
    values = torch.from_numpy(picture).permute(2, 0, 1)[None].double() / 127.5 - 1
    with torch.no_grad():
        expected = ((theirs(values).sample / 2 + 0.5).clamp(0, 1) * 255).round()[0].permute(1, 2, 0)
    (found,) = predictor.reconstruct([picture])
    assert torch.equal(torch.tensor(found.pixels_HWC), expected.to(torch.uint8))


def _change(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"num_vq_embeddings": 32}, CheckpointError, r"32 codes of width 4.*shape \[24, 4\]"),
        ({"vq_embed_dim": 8}, CheckpointError, r"24 codes of width 8.*shape \[24, 4\]"),
        ({"block_out_channels": [16, 16]}, CheckpointError, "not of the shape|lacks|no table"),
        ({"norm_type": "spatial"}, ConfigError, "norm_type 'spatial' is not done here"),
        ({"down_block_types": ["AttnDownEncoderBlock2D"] * 2}, ConfigError, "AttnDownEncoderBlock2D"),
        ({"sample_size": 15}, ConfigError, "15 x 15 pixels cannot be cut .* divisible by 2"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(
    tmp_path: Path, fields: dict[str, Any], error: type[Exception], words: str
) -> None:
    tiny_vq(tmp_path)
    _change(tmp_path, **fields)
    with pytest.raises(error, match=words):
        load(tmp_path)


def test_an_empty_folder_and_a_folder_without_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no model"):
        load(tmp_path)
    tiny_vq(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match="no weights in"):
        load(tmp_path)


def test_what_diffusers_has_no_room_for_is_refused(tmp_path: Path) -> None:
    task = vq.tiny_tasks([])["averaged"]
    with pytest.raises(ConfigError, match="squares of 4 x 4"):
        export(task.predictor(), tmp_path / "patches")
    assert not (tmp_path / "patches").exists()

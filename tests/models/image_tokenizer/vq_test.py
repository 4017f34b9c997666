"""The VQ model and its task: losses in closed form, use by others when frozen, bad input. Parity is vq_parity_test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diptych.capabilities.folder import read_model, write_model
from diptych.core.errors import CheckpointError, ConfigError, DataError
from diptych.core.losses import total
from diptych.core.seeding import seed_everything
from diptych.data.batches.pictures import PictureBatch, PictureProcessor
from diptych.data.loading.loader import evaluation_batches
from diptych.data.pixels.images import ImagePreprocessing
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.layers.quantizer import QuantizerConfig
from diptych.models.image_tokenizer import vq
from diptych.models.image_tokenizer.vq import VqPredictor, VqTask


def task_of(name: str, **fields: Any) -> VqTask:
    seed_everything("vq test", name)
    plain = vq.tiny_tasks([])[name]
    task = VqTask(replace(plain.config, **fields), plain.processor)
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
        task.model.quantizer.codebook_KC.copy_(torch.randn_like(task.model.quantizer.codebook_KC))
    return task.double()


def scenes(task: VqTask, count: int = 6) -> PictureBatch:
    source = Scenes("train", count, SceneConfig(size=32))
    batch: PictureBatch = next(iter(evaluation_batches(source, task.processor, count)))
    return batch


@pytest.mark.parametrize("name", ["averaged", "gradient"])
@pytest.mark.parametrize("distance", ["l2", "l1"])
def test_every_part_is_a_mean_over_pictures_in_closed_form(name: str, distance: str) -> None:
    task = task_of(name, reconstruction=distance)
    batch = scenes(task)
    target = batch.pixels_BCHW.double() / 127.5 - 1
    model = task.model
    with torch.no_grad():
        vectors = model.encode(target)
        chosen = model.quantizer.lookup(model.codes(batch.pixels_BCHW)).permute(0, 3, 1, 2)
        difference = model.decode_vectors(chosen) - target
        losses = task.losses(batch)
    expected = {
        "reconstruction": (difference.abs() if distance == "l1" else difference.square()).mean(),
        "commitment": (vectors - chosen).square().mean(),
        "codebook": (vectors - chosen).square().mean(),
    }
    assert losses.keys() == expected.keys() - ({"codebook"} if name == "averaged" else set())
    for part, found in losses.items():
        torch.testing.assert_close(found.value, expected[part], rtol=1e-6, atol=1e-7, msg=part)
    assert task.counts(batch) == {part: found.count for part, found in losses.items()} == dict.fromkeys(losses, 6)
    assert losses["commitment"].weight == 0.25


def test_the_encoder_learns_by_the_decoders_gradient_at_the_codes() -> None:
    """Without commitment the gradient of the encoder's vectors is that of the decoder's input (straight-through)."""
    task = task_of("gradient")
    batch = scenes(task, 3)
    model = task.model
    target = batch.pixels_BCHW.double() / 127.5 - 1
    vectors = model.encode(target).detach().requires_grad_()
    (model.decode_vectors(model.quantizer(vectors).vectors_BCHW) - target).square().mean().backward()
    codes = model.quantizer.lookup(model.codes(target)).permute(0, 3, 1, 2).detach().requires_grad_()
    (model.decode_vectors(codes) - target).square().mean().backward()
    assert vectors.grad is not None and codes.grad is not None
    torch.testing.assert_close(vectors.grad, codes.grad)
    assert float(codes.grad.abs().max()) > 0


def test_the_averaged_codebook_is_trained_by_after_step_alone_and_is_saved(tmp_path: Path) -> None:
    task = task_of("averaged")
    quantizer = task.model.quantizer
    assert "model.quantizer.codebook_KC" not in dict(task.named_parameters())
    before = quantizer.codebook_KC.clone()
    total(task.losses(scenes(task))).backward()
    assert torch.equal(quantizer.codebook_KC, before)
    task.after_step()
    assert not torch.equal(quantizer.codebook_KC, before)
    saved = task.state_dict()
    for name in ("codebook_KC", "usage_K", "sums_KC", "steps"):
        assert f"model.quantizer.{name}" in saved
    fresh = task_of("averaged")
    fresh.load_state_dict(saved)
    for name, tensor in fresh.state_dict().items():
        assert torch.equal(tensor, saved[name]), name
    write_model(task.float().predictor(), tmp_path)
    again = read_model(tmp_path)
    assert torch.equal(again.module.quantizer.codebook_KC, quantizer.codebook_KC)  # type: ignore[union-attr]


def test_steps_do_not_depend_on_how_the_batch_is_cut() -> None:
    """Weights, codebook and restarts after four steps, at once and in micro-batches of 4 and 2."""
    states = [_trained(size) for size in (6, 4, 2)]
    for state in states[1:]:
        for name, tensor in states[0].items():
            torch.testing.assert_close(state[name], tensor, rtol=1e-7, atol=1e-9, msg=name)


def _trained(size: int) -> dict[str, Tensor]:
    from diptych.training.backward import backward

    config = QuantizerConfig(64, 8, restart_every=2, restart_below=0.5)
    task = task_of("averaged", quantizer=config)
    optimizer = torch.optim.SGD(task.parameters(), lr=0.01)
    for _ in range(4):
        optimizer.zero_grad()
        backward(task, scenes(task).split(size))
        optimizer.step()
        task.after_step()
    return {name: tensor.detach() for name, tensor in task.state_dict().items()}


def test_codes_and_pictures_for_others() -> None:
    """What a model that takes it frozen relies on: codes of uint8 and prepared pixels, pictures of codes, the grid."""
    task = task_of("averaged")
    model = task.model.eval().requires_grad_(False)
    batch = scenes(task)
    codes = model.codes(batch.pixels_BCHW)
    assert codes.dtype == torch.int64
    assert codes.shape == (6, *model.grid(32)) == (6, 4, 4)
    assert torch.equal(model.codes(batch.pixels_BCHW.double() / 127.5 - 1), codes)
    pixels = model.decode(codes)
    with torch.no_grad():
        expected = (model(batch.pixels_BCHW).pixels_BCHW + 1) / 2
    torch.testing.assert_close(pixels, expected.clamp(0, 1))
    assert model.vocabulary == 64
    assert model.codes(batch.pixels_BCHW[:0]).shape == (0, 4, 4)
    assert model.decode(codes[:0]).shape == (0, 3, 32, 32)


def test_the_predictor_says_what_the_model_does() -> None:
    task = task_of("averaged")
    predictor: VqPredictor = task.predictor()
    predictor.module.eval()
    images = [Scenes("train", 6, SceneConfig(size=32))[index].image for index in range(6)]
    batch = scenes(task)
    codes = predictor.tokenize_image(images)
    assert torch.equal(codes, task.model.codes(batch.pixels_BCHW))
    assert torch.equal(predictor.tokenize_image(batch.pixels_BCHW), codes)
    pixels = (task.model.decode(codes) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    for made, again, expected in zip(predictor.reconstruct(images), predictor.decode(codes), pixels, strict=True):
        assert np.array_equal(made.pixels_HWC, expected)  # type: ignore[arg-type]
        assert np.array_equal(again.pixels_HWC, expected)  # type: ignore[arg-type]
    seen = predictor.as_seen(images)
    assert all(
        np.array_equal(one.pixels_HWC, row)  # type: ignore[arg-type]
        for one, row in zip(seen, batch.pixels_BCHW.permute(0, 2, 3, 1).numpy(), strict=True)
    )
    assert predictor.tokenize_image([]).shape == (0, 4, 4)
    assert predictor.reconstruct([]) == []


@pytest.mark.parametrize("code", [64, -1])
def test_a_code_that_the_codebook_does_not_have_is_refused(code: int) -> None:
    predictor = task_of("averaged").predictor()
    codes = torch.zeros(2, 4, 4, dtype=torch.int64)
    codes[1, 2, 3] = code
    with pytest.raises(DataError, match=f"codes 0 to 63, and {code} is none"):
        predictor.decode(codes)


def test_a_picture_size_that_is_not_divisible_is_refused_before_training() -> None:
    config = vq.tiny_tasks([])["averaged"].config
    image = ImagePreprocessing(36, mean=vq.MEAN, std=vq.STD)
    with pytest.raises(ConfigError, match=r"36 x 36 pixels cannot be cut into cells of 8 x 8.*divisible by 8"):
        VqTask(config, PictureProcessor(image))
    with pytest.raises(ConfigError, match="20 x 24 pixels cannot be cut"):
        VqTask(config, PictureProcessor(replace(image, size=32))).model.codes(torch.zeros(1, 3, 20, 24))


def test_a_codebook_that_does_not_match_its_checkpoint_is_refused(tmp_path: Path) -> None:
    task = vq.tiny_tasks([])["averaged"]
    write_model(task.predictor(), tmp_path)
    description = tmp_path / "model.json"
    description.write_text(description.read_text().replace('"codes": 64', '"codes": 128'))
    with pytest.raises(CheckpointError, match=r"weights of another model: .*codebook_KC"):
        read_model(tmp_path)


def test_public_sizes() -> None:
    config = vq.Config.ldm_f4()
    assert config.autoencoder.grid(256, 256) == (64, 64)
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in vq.VqModel(config).parameters())
    assert parameters == 55_322_782
    assert vq.Config.tiny().autoencoder.grid(64, 64) == (8, 8)

"""The KL autoencoder and its task: losses in closed form, the measured scale, draws by seed, bad input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from diptych.capabilities.folder import read_model, write_model
from diptych.core.errors import ConfigError, DataError
from diptych.core.seeding import normal_like, seed_everything
from diptych.data.batches.pictures import PictureBatch, PictureProcessor
from diptych.data.loading.loader import evaluation_batches
from diptych.data.pixels.images import ImagePreprocessing
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.models.image_tokenizer import autoencoder_kl
from diptych.models.image_tokenizer._kl_module import Latent, MeasuredScale
from diptych.models.image_tokenizer.autoencoder_kl import MEAN, STD, AutoencoderKlTask
from diptych.training.backward import backward


def task_of(name: str = "measured") -> AutoencoderKlTask:
    seed_everything("autoencoder test", name)
    task = autoencoder_kl.tiny_tasks([])[name]
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return task.double()


def scenes(task: AutoencoderKlTask, count: int = 6) -> PictureBatch:
    source = Scenes("train", count, SceneConfig(size=32))
    batch: PictureBatch = next(iter(evaluation_batches(source, task.processor, count)))
    return batch


def test_every_part_in_closed_form() -> None:
    task = task_of()
    batch = scenes(task)
    model, target = task.model, batch.pixels_BCHW.double() / 127.5 - 1
    with torch.no_grad():
        mean, log_variance = model.encode(target)
        drawn = mean + log_variance.mul(0.5).exp() * normal_like(batch.seeds, mean.shape[1:]).double()
        made = model.decode(drawn)
        losses = task.losses(batch)
    nats = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum()
    torch.testing.assert_close(losses["l2"].value, (made - target).square().mean(), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(losses["kl"].value, nats / 6 / (3 * 32 * 32), rtol=1e-6, atol=1e-8)
    assert losses["kl"].weight == task.config.kl and losses.keys() == {"l2", "kl", "perceptual"}
    assert task.counts(batch) == dict.fromkeys(losses, 6.0)
    assert autoencoder_kl.Config.stable_diffusion().kl == 1e-6


def test_the_scale_makes_the_standard_deviation_of_latents_one() -> None:
    """A step of the same pictures over and over: the measured scale is 1 / their standard deviation."""
    task = task_of()
    batch = scenes(task)
    assert float(task.model.scale) == 1
    with torch.no_grad():
        mean, log_variance = task.model.encode(batch.pixels_BCHW)
        drawn = mean + log_variance.mul(0.5).exp() * normal_like(batch.seeds, mean.shape[1:]).double()
    for _ in range(3):
        task.losses(batch)
        task.after_step()
    torch.testing.assert_close(task.model.scale, 1 / drawn.std(correction=0), rtol=1e-6, atol=1e-8)
    scaled = task.model.latents(batch.pixels_BCHW, batch.seeds)
    assert abs(float(scaled.std(correction=0)) - 1) < 1e-6
    with torch.no_grad():
        task.losses(batch)  # a pass without gradients teaches nothing
    assert float(task.model.measured.step_3.abs().sum()) == 0


def test_the_measured_scale_is_a_moving_average_without_bias() -> None:
    scale = MeasuredScale()
    rows = [torch.tensor([0.0, 2.0]), torch.tensor([1.0, 5.0])]
    for row in rows:
        scale.see(row)
        scale.after_step()
    old, new = 0.99 * 0.01, 0.01
    mean = (old * 1 + new * 3) / (old + new)
    square = (old * 2 + new * 13) / (old + new)
    assert float(scale.factor) == pytest.approx((square - mean**2) ** -0.5, rel=1e-9)


def test_steps_do_not_depend_on_how_the_batch_is_cut() -> None:
    states = [_trained(size) for size in (6, 4, 1)]
    for state in states[1:]:
        for name, tensor in states[0].items():
            torch.testing.assert_close(state[name], tensor, rtol=1e-7, atol=1e-9, msg=name)


def _trained(size: int) -> dict[str, Tensor]:
    task = task_of()
    optimizer = torch.optim.SGD(task.model.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        backward(task, scenes(task).split(size))
        optimizer.step()
        task.after_step()
    return {name: tensor.detach() for name, tensor in task.state_dict().items()}


def test_draws_are_functions_of_their_own_seed_and_the_mode_needs_none() -> None:
    model, pixels = task_of().model, scenes(task_of()).pixels_BCHW
    drawn = model.latents(pixels, range(6))
    assert torch.equal(model.latents(pixels[:2], [5, 1])[1], model.latents(pixels[1:2], [1])[0])
    torch.testing.assert_close(model.latents(pixels[3:4], [3])[0], drawn[3])
    assert not torch.equal(model.latents(pixels, range(1, 7)), drawn)
    assert torch.equal(model.latents(pixels), model.latents(pixels))
    with torch.no_grad():
        mean, _ = model.encode(pixels)
    torch.testing.assert_close(model.latents(pixels), mean)  # the scale is 1 before training
    assert model.latents(pixels[:0]).shape == (0, 4, 4, 4)
    assert model.pixels(drawn[:0]).shape == (0, 3, 32, 32)


def test_pictures_go_through_latents_in_whole_numbers() -> None:
    predictor = task_of("adversarial").float().predictor()
    predictor.module.eval()
    images = [Scenes("train", 3, SceneConfig(size=32))[index].image for index in range(3)]
    pixels = predictor.processor.pixels(images)
    expected = (predictor.module.pixels(predictor.module.latents(pixels)) * 255).round().to(torch.uint8)
    for made, row in zip(predictor.reconstruct(images), expected.permute(0, 2, 3, 1).numpy(), strict=True):
        assert (made.pixels_HWC == row).all()  # type: ignore[union-attr]
    assert predictor.reconstruct([]) == []


def test_the_measured_scale_is_saved_and_loaded(tmp_path: Path) -> None:
    task = task_of().float()
    task.losses(scenes(task))
    task.after_step()
    write_model(task.predictor(), tmp_path)
    again = read_model(tmp_path)
    assert float(again.module.scale) == float(task.model.scale) != 1  # type: ignore[arg-type]


def test_what_does_not_fit_is_refused() -> None:
    model = task_of().model
    with pytest.raises(DataError, match="2 seeds for 1 pictures"):
        model.latents(torch.zeros(1, 3, 32, 32, dtype=torch.float64), [1, 2])
    with pytest.raises(DataError, match=r"latents are \[N, 4, h, w\], and these are \[1, 3, 4, 4\]"):
        model.pixels(torch.zeros(1, 3, 4, 4, dtype=torch.float64))
    with pytest.raises(ConfigError, match="20 x 24 pixels cannot be cut"):
        model.latents(torch.zeros(1, 3, 20, 24, dtype=torch.float64))
    with pytest.raises(ConfigError, match=r"latent.scaling -1.0 must be above 0"):
        Latent(scaling=-1.0)
    config = task_of().config
    small = PictureProcessor(ImagePreprocessing(36, mean=MEAN, std=STD))
    with pytest.raises(ConfigError, match="36 x 36 pixels cannot be cut"):
        AutoencoderKlTask(config, small)
    with pytest.raises(ConfigError, match="must not be negative"):
        replace(config, kl=-1.0)


def test_public_sizes() -> None:
    config = autoencoder_kl.Config.stable_diffusion()
    with torch.device("meta"):
        model = autoencoder_kl.AutoencoderKl(config.autoencoder, config.latent, MEAN, STD)
    assert sum(parameter.numel() for parameter in model.parameters()) == 83_653_863
    assert model.grid(512) == (64, 64)

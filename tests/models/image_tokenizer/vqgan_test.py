"""VQGAN's task: the losses of two phases in closed form, whose gradients are whose, the game's weight and start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.capabilities.export import export
from diptych.core.errors import ConfigError
from diptych.core.losses import total
from diptych.core.seeding import seed_everything
from diptych.data.batches.pictures import PictureBatch, PictureProcessor
from diptych.data.loading.loader import evaluation_batches
from diptych.data.pixels.images import ImagePreprocessing
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.layers.perceptual_network import RandomFeatures
from diptych.models.image_tokenizer import vqgan
from diptych.models.image_tokenizer.vqgan import VqganTask
from diptych.training.backward import backward
from diptych.training.optimizer import AdamWConfig
from diptych.training.state import TrainingState, write


def task_of(name: str = "adaptive", **game: Any) -> VqganTask:
    seed_everything("vqgan test", name)
    plain = vqgan.tiny_tasks([])[name]
    losses = plain.config.losses
    config = replace(plain.config, losses=replace(losses, adversarial=replace(losses.adversarial, **game)))
    task = VqganTask(config, plain.processor)
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        task.model.quantizer.codebook_KC.copy_(torch.randn_like(task.model.quantizer.codebook_KC))
    return task.double()


def scenes(task: VqganTask, count: int = 4) -> PictureBatch:
    source = Scenes("train", count, SceneConfig(size=32))
    batch: PictureBatch = next(iter(evaluation_batches(source, task.processor, count)))
    return batch


def gradients(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def pictures_of(task: VqganTask, batch: PictureBatch) -> tuple[Tensor, Tensor]:
    target = batch.pixels_BCHW.double() / 127.5 - 1
    return target, task.model(target).pixels_BCHW


def test_the_generators_parts_in_closed_form() -> None:
    task = task_of()
    assert task.discriminator is not None
    batch = scenes(task)
    losses = task.losses(batch, "generator")
    target, made = pictures_of(task, batch)
    network = RandomFeatures().double()
    looks = [
        (F.normalize(one, dim=1, eps=1e-6) - F.normalize(other, dim=1, eps=1e-6)).square().sum(1).mean()
        for one, other in zip(network(target), network(made), strict=True)
    ]
    torch.testing.assert_close(losses["l1"].value, (made - target).abs().mean(), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(losses["perceptual"].value, torch.stack(looks).mean(), rtol=1e-5, atol=1e-7)
    last = task.model.decoder.conv_out.weight
    game = -task.discriminator(made).mean()
    judged = losses["l1"].value + 0.1 * losses["perceptual"].value
    of_game = torch.autograd.grad(game, last, retain_graph=True)[0].norm()
    of_picture = torch.autograd.grad(judged, last)[0].norm()
    weight = (of_picture / (of_game + 1e-4)).clamp(0, 1e4)
    torch.testing.assert_close(losses["adversarial"].value, weight * game, rtol=1e-6, atol=1e-9)
    assert losses["adversarial"].weight == 0.02
    assert losses.keys() == {"l1", "perceptual", "commitment", "adversarial"}
    assert task.counts(batch, "generator") == dict.fromkeys(losses, 4.0)


def test_the_discriminators_part_in_closed_form() -> None:
    task = task_of()
    assert task.discriminator is not None
    batch = scenes(task)
    (part,) = task.losses(batch, "discriminator").values()
    target, made = pictures_of(task, batch)
    expected = 0.5 * (F.relu(1 - task.discriminator(target)).mean() + F.relu(1 + task.discriminator(made)).mean())
    torch.testing.assert_close(part.value, expected, rtol=1e-6, atol=1e-8)
    assert part.weight == 1 and task.counts(batch, "discriminator") == {"discriminator": 4.0}


def test_a_phase_has_gradients_for_its_own_parameters_alone() -> None:
    task = task_of()
    assert task.discriminator is not None
    backward(task, [scenes(task)], "generator")
    assert gradients(task.discriminator) == {}
    assert gradients(task.model).keys() == dict(task.model.named_parameters()).keys()
    task.zero_grad(set_to_none=True)
    backward(task, [scenes(task)], "discriminator")
    assert gradients(task.model) == {}
    assert gradients(task.discriminator).keys() == dict(task.discriminator.named_parameters()).keys()
    named = {phase: {name for g in groups for name in g.parameters} for phase, groups in task.trainable().items()}
    assert named["generator"] == set(dict(task.model.named_parameters()))
    assert named["discriminator"] == set(dict(task.discriminator.named_parameters()))


def test_the_game_moves_the_generator_as_hard_as_its_weight_says() -> None:
    """At the last layer the gradient of the game has `weight` times the norm of that of the reconstruction."""
    task = task_of(weight=0.5)
    batch, last = scenes(task), task.model.decoder.conv_out.weight
    losses = task.losses(batch, "generator")
    game = torch.autograd.grad(0.5 * losses["adversarial"].value, last, retain_graph=True)[0].norm()
    judged = losses["l1"].value + 0.1 * losses["perceptual"].value
    picture = torch.autograd.grad(judged, last)[0].norm()
    assert float(game / picture) == pytest.approx(0.5, rel=0.05)


def test_the_game_begins_after_its_start() -> None:
    task = task_of(start=2)
    batch = scenes(task)
    for _ in range(2):
        assert "adversarial" not in task.losses(batch, "generator")
        assert task.losses(batch, "discriminator")["discriminator"].weight == 0
        assert "adversarial" not in task.counts(batch, "generator")
        task.after_step()
    assert "adversarial" in task.losses(batch, "generator")
    assert task.losses(batch, "discriminator")["discriminator"].weight == 1
    assert int(task.state_dict()["steps"]) == 2


def test_only_a_weight_of_the_whole_batch_forbids_cutting_it() -> None:
    assert [task_of(name).divisible for name in ("adaptive", "fixed", "without")] == [False, True, True]
    assert task_of("without").phases == ("main",) and task_of("without").discriminator is None
    with pytest.raises(ConfigError, match="micro_batch"):
        backward(task_of(), scenes(task_of()).split(2), "generator")


def test_what_is_frozen_is_neither_trained_nor_saved() -> None:
    task = task_of()
    assert not any("perceptual" in name for name in task.state_dict())
    assert all(name.startswith(("model.", "discriminator.")) for name, _ in task.named_parameters())


def test_a_discriminator_learns_to_tell_and_the_generator_to_please_it() -> None:
    task = task_of("fixed", weight=1.0).float()
    assert task.discriminator is not None
    batch = scenes(task)
    optimizer = torch.optim.Adam(task.discriminator.parameters(), 2e-3)
    seen = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = total(task.losses(batch, "discriminator"))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        seen.append(float(loss.detach()))
    assert seen[-1] < 0.3 * seen[0]
    generator = torch.optim.Adam(task.model.parameters(), 2e-3)
    before = float(task.losses(batch, "generator")["adversarial"].value.detach())
    for _ in range(20):
        generator.zero_grad()
        task.losses(batch, "generator")["adversarial"].sum.backward()  # type: ignore[no-untyped-call]
        generator.step()
    assert float(task.losses(batch, "generator")["adversarial"].value.detach()) < before - 0.5


def test_a_run_goes_on_from_a_checkpoint_with_both_optimizers(tmp_path: Path) -> None:
    """Three steps, saved and restored into a fresh task, and two more: as five steps at once."""
    straight, first, second = (_Session(task_of(start=1)) for _ in range(3))
    straight.steps(5)
    first.steps(3)
    write(first.state.tensors(), tmp_path)
    second.state.restore(tmp_path)
    second.steps(2)
    expected = straight.state.tensors()
    found = second.state.tensors()
    assert found.keys() == expected.keys()
    assert {name.split("/")[1] for name in found if name.startswith("optimizer/")} == {"generator", "discriminator"}
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


class _Session:
    """A task and its optimizers, as the trainer holds them."""

    def __init__(self, task: VqganTask) -> None:
        self.task = task
        self.optimizers = {phase: AdamWConfig(lr=1e-3).build(groups) for phase, groups in task.trainable().items()}
        self.state = TrainingState.of(task, self.optimizers, None)

    def steps(self, count: int) -> None:
        for _ in range(count):
            for phase in self.task.phases:
                self.optimizers[phase].zero_grad()
                backward(self.task, [scenes(self.task)], phase)
                self.optimizers[phase].step()
            self.task.after_step()


def test_pictures_too_small_for_the_discriminator_are_refused() -> None:
    config = vqgan.Config.tiny()
    with pytest.raises(ConfigError, match="8 pixels is too small for 2 halvings"):
        VqganTask(config, PictureProcessor(ImagePreprocessing(8, mean=vqgan.MEAN, std=vqgan.STD)))


def test_a_trained_model_is_exported_as_a_vq_model(tmp_path: Any) -> None:
    import diffusers

    task = task_of("without").float()
    config = replace(task.config, autoencoder=replace(task.config.autoencoder, patch=1))
    predictor = VqganTask(config, task.processor).predictor()
    export(predictor, tmp_path / "out")
    theirs = diffusers.VQModel.from_pretrained(tmp_path / "out")
    images = scenes(task, 2).pixels_BCHW.float() / 127.5 - 1
    with torch.no_grad():
        torch.testing.assert_close(theirs.encode(images).latents, predictor.module.encode(images))


def test_public_sizes() -> None:
    config = vqgan.Config.imagenet_f16()
    assert config.autoencoder.grid(256, 256) == (16, 16)
    assert config.losses.adversarial.start == 250_001 and config.losses.adversarial.weight == 0.8

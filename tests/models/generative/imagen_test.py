"""Imagen: T5's states, noise on what is enlarged, who sees whom, stages by themselves, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from diptych.capabilities.folder import read_model, write_model
from diptych.core.errors import CheckpointError, ConfigError
from diptych.core.sampling import ImageSampling
from diptych.data.loading.loader import evaluation_batches
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.layers.frozen_text import T5Text
from diptych.models.generative import imagen
from diptych.objectives.diffusion import drawn_noise, noised

SOURCE = Scenes("train", 8, SceneConfig(32, 1))


@pytest.fixture(scope="module")
def task() -> imagen.ImagenTask:
    torch.manual_seed(0)
    made = imagen.tiny_tasks([SOURCE[index] for index in range(8)])["all"]
    with torch.no_grad():
        for parameter in made.model.unets.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made.eval()


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random T5 as `transformers` saves it."""
    folder = tmp_path_factory.mktemp("t5")
    torch.manual_seed(0)
    config = transformers.T5Config(vocab_size=400, d_model=24, d_kv=8, d_ff=32, num_layers=2, num_heads=3)
    transformers.T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.mark.parity("imagen", "transformers T5EncoderModel", "the text's states", part=True)
def test_states_are_those_of_t5_and_padding_touches_none(t5: Path) -> None:
    text = T5Text.read(t5)
    reference = transformers.T5EncoderModel.from_pretrained(t5).eval()
    tokens, lengths = torch.tensor([[5, 6, 7, 1], [8, 1, 0, 0]]), torch.tensor([4, 2])
    with torch.no_grad():
        wanted = reference(input_ids=tokens, attention_mask=(tokens != 0).long()).last_hidden_state
    found = text.tokens(tokens, lengths)
    torch.testing.assert_close(found[0], wanted[0])
    torch.testing.assert_close(found[1, :2], wanted[1, :2])
    torch.testing.assert_close(text.tokens(torch.tensor([[8, 1, 99, 98]]), torch.tensor([2]))[0, :2], found[1, :2])
    assert text.width == 24 and not any(parameter.requires_grad for parameter in text.parameters())


def test_a_folder_without_a_t5_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no T5"):
        T5Text.read(tmp_path)


def test_a_model_that_reads_by_t5_is_saved_and_read_with_it(task: imagen.ImagenTask, t5: Path, tmp_path: Path) -> None:
    stages = tuple(replace(stage, unet=replace(stage.unet, text=24, added=24)) for stage in task.config.stages)
    config = replace(task.config, stages=stages, t5=True, width=24)
    model = imagen.ImagenTask(config, task.processor, t5=T5Text.read(t5)).predictor()
    (tmp_path / "model").mkdir()
    write_model(model, tmp_path / "model")
    again = read_model(tmp_path / "model")
    told, wanted = again.tell(["a red circle"]), model.tell(["a red circle"])
    assert torch.equal(told.states_BTX, wanted.states_BTX) and torch.equal(told.mask_B1T, wanted.mask_B1T)
    with pytest.raises(ConfigError, match="give one, or switch it off"):
        imagen.ImagenTask(config, task.processor)
    with pytest.raises(ConfigError, match="states of width 24"):
        imagen.ImagenTask(replace(task.config, t5=True), task.processor, t5=T5Text.read(t5))


def test_padding_of_a_text_is_not_seen_by_the_u_nets(task: imagen.ImagenTask) -> None:
    model, rows = task.model, torch.randn(1, 3, 8, 8)
    tokens, lengths = torch.tensor([[0, 20, 30, 1]]), torch.tensor([4])
    with torch.no_grad():
        plain = model(0, rows, torch.tensor([5]), model.tell(tokens, lengths))
        padded = model(0, rows, torch.tensor([5]), model.tell(torch.tensor([[0, 20, 30, 1, 40, 41]]), lengths))
        other = model(0, rows, torch.tensor([5]), model.tell(torch.tensor([[0, 21, 30, 1]]), lengths))
    torch.testing.assert_close(padded, plain, rtol=1e-4, atol=1e-5)
    assert (other - plain).abs().max() > 1e-4


def test_what_is_enlarged_has_the_noise_of_its_level(task: imagen.ImagenTask) -> None:
    model = task.model
    smaller = torch.rand(2, 3, 8, 8)
    noise = drawn_noise([1, 2], torch.zeros(2, 3, 16, 16))
    found = model.enlarged(smaller, 1, torch.tensor([-1, 300]), noise)
    clean = torch.nn.functional.interpolate(smaller, size=(16, 16), mode="bilinear")
    assert torch.equal(found[0], clean[0])
    torch.testing.assert_close(found[1], noised(clean[1:], noise[1:], model.kept_S[300:301])[0])


def test_what_a_smaller_picture_lacks_is_asked_for_in_units_and_added_again(task: imagen.ImagenTask) -> None:
    model = task.model
    picture = torch.rand(2, 3, 16, 16) * 2 - 1
    smaller = model.at_size(picture, 0)
    detail = model.detail_of(picture, smaller, 1)
    torch.testing.assert_close(detail * task.config.detail, picture - model.larger(smaller, 1))
    torch.testing.assert_close(model.picture_of(detail, smaller, 1), picture)
    assert model.picture_of(detail + 100, smaller, 1).max() == 1
    whole = imagen.ImagenTask(replace(task.config, detail=0.0), task.processor).model
    assert whole.detail_of(picture, smaller, 1) is picture and whole.picture_of(picture, smaller, 1) is picture


@pytest.mark.parametrize("detail", [0.15, 0.0])
def test_a_stage_that_knows_the_answer_gives_the_picture(task: imagen.ImagenTask, detail: float) -> None:
    one = imagen.ImagenTask(replace(task.config, detail=detail), task.processor).predictor()
    picture = torch.rand(1, 3, 16, 16) * 2 - 1
    smaller = one.module.at_size(picture, 0)
    wanted = one.module.detail_of(picture, smaller, 1)

    def knowing(stage: int, rows: torch.Tensor, steps: torch.Tensor, *more: Any) -> torch.Tensor:
        kept = one.module.kept_S[steps].view(-1, 1, 1, 1)
        return (kept.sqrt() * rows - wanted) / (1 - kept).sqrt()  # v of these rows

    one.module.forward = knowing  # type: ignore[method-assign,assignment]
    made = one.enlarge(1, ["a red circle"], [1], ImageSampling(guidance=1.0, steps=4), smaller)
    torch.testing.assert_close(made, picture, rtol=0.0, atol=1e-3)


def test_levels_are_even_between_none_and_the_most(task: imagen.ImagenTask) -> None:
    levels = task._levels(list(range(4000)))
    assert levels.min() == -1 and 480 <= int(levels.max()) < 500
    assert abs(float(levels.float().mean()) - 249.5) < 8


def test_the_u_net_is_told_the_level_and_sees_the_smaller_picture(task: imagen.ImagenTask) -> None:
    model, told = task.model, task.predictor().tell(["a red circle"])
    rows, shown, step = torch.randn(1, 3, 16, 16), torch.randn(1, 3, 16, 16), torch.tensor([5])
    with torch.no_grad():
        plain = model(1, rows, step, told, shown, torch.tensor([10]))
        assert (model(1, rows, step, told, shown, torch.tensor([400])) - plain).abs().max() > 1e-4
        assert (model(1, rows, step, told, -shown, torch.tensor([10])) - plain).abs().max() > 1e-4


def test_one_stage_is_trained_and_the_others_stay(task: imagen.ImagenTask) -> None:
    one = imagen.ImagenTask(task.config, task.processor, stage=1, known=task.model.state_dict())
    trained = {name.split(".")[2] for group in one.trainable()["main"] for name in group.parameters}
    assert trained == {"1"} and all(
        name.startswith(("model.unets", "model.text_norms"))
        for group in one.trainable()["main"]
        for name in group.parameters
    )
    (batch,) = evaluation_batches(SOURCE, task.processor, 8)
    assert set(one.losses(batch)) == {"stage_1"}
    one.losses(batch)["stage_1"].sum.backward()
    assert all(parameter.grad is None for parameter in (*one.model.unets[0].parameters(), *one.model.text.parameters()))


def test_pictures_go_through_every_stage_and_guidance_of_one_is_one_pass(task: imagen.ImagenTask) -> None:
    model = task.predictor()
    calls: list[tuple[int, int]] = []
    forward = model.module.forward

    def counted(stage: int, rows: torch.Tensor, *more: Any) -> torch.Tensor:
        calls.append((stage, len(rows)))
        return forward(stage, rows, *more)

    model.module.forward = counted  # type: ignore[method-assign,assignment]
    pixels = model.pictures(["a red circle"], [1], ImageSampling(guidance=1.0, steps=2))
    assert pixels.shape == (1, 3, 32, 32) and calls == [(stage, 1) for stage in (0, 0, 1, 1, 2, 2)]
    calls.clear()
    model.pictures(["a red circle"], [1], ImageSampling(guidance=3.0, steps=1))
    assert calls == [(0, 2), (1, 2), (2, 2)]
    del model.module.forward


def test_a_cascade_that_is_none_is_refused(task: imagen.ImagenTask) -> None:
    config = task.config
    for change, said in (
        ({"stages": config.stages[:2]}, "at least three"),
        ({"stages": (config.stages[1], *config.stages[1:])}, "each larger"),
        ({"width": 48}, "vector of 48"),
        ({"level": 0.9}, "at most augment"),
        ({"detail": -0.1}, "detail -0.1"),
    ):
        with pytest.raises(ConfigError, match=said):
            replace(config, **change)

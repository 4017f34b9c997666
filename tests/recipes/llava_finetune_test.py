"""llava_finetune: what it trains of a base, what it measures, and bases that it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from diptych.adapters.language import LanguageAdapterConfig
from diptych.capabilities.folder import write_model
from diptych.core.errors import ConfigError
from diptych.core.seeding import seed_everything
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.models.contrastive import clip
from diptych.models.pretrained_backbone import llava
from diptych.recipes.llava_finetune import likelihood_on, llava_finetune

SOURCE = Scenes("train", 12, SceneConfig(32, 1, words=0.0))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    seed_everything("base", 0)
    model = llava.tiny_tasks([SOURCE[index] for index in range(12)])["average"].eval().predictor()
    write_model(model, folder)
    return folder


def test_an_adapter_and_the_connector_are_trained_and_begin_as_the_base(base: Path) -> None:
    run = replace(llava_finetune(), base=str(base), adapter=LanguageAdapterConfig("lora", 2, 4.0))
    task = run.task()
    names = {name for group in task.trainable()["main"] for name in group.parameters}
    connector = {name for name in names if name.startswith("model.connector.")}
    assert connector and names - connector and all(".lora_" in name for name in names - connector)
    whole = replace(run, adapter=LanguageAdapterConfig()).task()
    found, expected = (likelihood_on(SOURCE)(one.eval().predictor()) for one in (task, whole))
    assert found == pytest.approx(expected, rel=1e-5)


def test_the_measure_is_the_likelihood_of_an_answers_token(base: Path) -> None:
    model = replace(llava_finetune(), base=str(base), adapter=LanguageAdapterConfig()).task().eval().predictor()
    samples = [SOURCE[index] for index in range(12)]
    asked, said = ([sample.turns[turn].text for sample in samples] for turn in (0, 1))
    found = model.text_likelihood([sample.image for sample in samples], asked, said)
    expected = float(found.log_N.sum() / found.counts_N.sum())
    assert likelihood_on(SOURCE)(model) == {"log_likelihood": pytest.approx(expected, rel=1e-4)}


def test_other_bases_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs a trained model to start from"):
        llava_finetune().stages()
    write_model(clip.tiny_tasks([SOURCE[index] for index in range(12)])["contrastive"].predictor(), tmp_path)
    with pytest.raises(ConfigError, match="is a clip, and llava_finetune tunes a LLaVA"):
        replace(llava_finetune(), base=str(tmp_path)).task()

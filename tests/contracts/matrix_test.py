"""Every model there is meets every benchmark there is, at tiny size, or is refused by the name of what it lacks."""

import math
from pathlib import Path

import pytest
from contract import eight_samples
from storyteller import Storyteller

from diptych.capabilities.folder import write_model
from diptych.capabilities.predictor import Predictor
from diptych.capabilities.verbs import missing
from diptych.commands.list import matrix
from diptych.core import discovery
from diptych.core.errors import MissingVerb
from diptych.core.records.results import Result, read_result, read_samples
from diptych.core.sample import Sample
from diptych.core.seeding import seed_everything
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.evaluation.runner import evaluate

MODELS = {name: found for name, found in discovery.models().items() if found.literal("VERBS", ())}
BENCHMARKS = discovery.benchmarks()
ANSWERS = {(row["model"], name): row[name] for row in matrix() for name in BENCHMARKS}


def samples() -> list[Sample]:
    """A scene of every shape: the classes that the benchmarks' tiny data may ask for."""
    scenes = Scenes("train", config=SceneConfig(objects=1, size=32))
    by_class = {str(scenes[index].meta["class"]): scenes[index] for index in range(200)}
    return [*eight_samples(), *by_class.values()]


def predictors(model: str) -> dict[str, Predictor]:
    seed_everything("matrix", 0)
    tasks = MODELS[model].load().tiny_tasks(samples())
    return {name: task.predictor() for name, task in tasks.items()}


def test_the_matrix_has_every_model_and_benchmark() -> None:
    assert {"clip", "siglip", "vit_classifier", "visualbert", "flava", "maskvlm", "vq"} <= set(MODELS)
    assert {"retrieval", "zero_shot_classification", "linear_probe", "knn", "winoground"} <= set(BENCHMARKS)
    assert {"masked_words", "masked_patches"} <= set(BENCHMARKS)
    assert ANSWERS.keys() == {(model, benchmark) for model in MODELS for benchmark in BENCHMARKS}


def settings(benchmark: str, folder: Path) -> dict[str, dict[str, str]]:
    """What a benchmark must be told: the network whose features are compared."""
    if benchmark != "generated_distribution":
        return {}
    if not folder.exists():
        folder.mkdir()
        write_model(next(iter(predictors("clip").values())), folder)
    return {benchmark: {"features": str(folder)}}


@pytest.mark.parametrize("benchmark", BENCHMARKS)
@pytest.mark.parametrize("model", MODELS)
def test_a_model_meets_a_benchmark(model: str, benchmark: str, tmp_path: Path) -> None:
    source = BENCHMARKS[benchmark].load().tiny_data(tmp_path / "data")
    for task, predictor in predictors(model).items():
        predictor.module.eval()
        folder = tmp_path / task
        if ANSWERS[model, benchmark] == "yes":
            chosen = settings(benchmark, tmp_path / "encoder")
            (result,) = evaluate(predictor, [benchmark], source, folder=folder, settings=chosen)
            check(result, folder / benchmark)
        else:
            lacking = ANSWERS[model, benchmark].removeprefix("no ").partition(",")[0]  # the first is named
            with pytest.raises(MissingVerb, match=lacking) as refusal:
                evaluate(predictor, [benchmark], source, folder=folder)
            assert all(verb in str(refusal.value) for verb in predictor.verbs)
            assert not folder.exists()


class TellsOnly(Storyteller):
    VERBS = ("text_likelihood", "generate_text")


class PaintsOnly(Storyteller):
    VERBS = ("image_likelihood", "generate_image")


@pytest.mark.parametrize("model", [Storyteller, TellsOnly, PaintsOnly])
@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_a_made_up_generator_meets_a_benchmark(benchmark: str, model: type[Storyteller], tmp_path: Path) -> None:
    required = BENCHMARKS[benchmark].literal("REQUIRES", ())
    if missing(model.VERBS, required):
        pytest.skip("refused, as the others are")
    source = BENCHMARKS[benchmark].load().tiny_data(tmp_path / "data")
    chosen = settings(benchmark, tmp_path / "encoder")
    (result,) = evaluate(model(), [benchmark], source, folder=tmp_path / "out", settings=chosen)
    check(result, tmp_path / "out" / benchmark)


def check(result: Result, folder: Path) -> None:
    """Finite numbers, intervals that hold them, a line a sample, and the file says what was returned."""
    assert result.counts.evaluated > 0
    assert result.counts.failed == result.counts.skipped == 0
    assert all(math.isfinite(metric.value) for metric in result.metrics.values())
    bounded = [metric for metric in result.metrics.values() if metric.low is not None]
    assert bounded
    assert all(metric.low <= metric.value <= metric.high for metric in bounded)  # type: ignore[operator]
    with_chance = [metric for metric in result.metrics.values() if metric.chance is not None]
    assert with_chance and all(math.isfinite(metric.chance) for metric in with_chance)  # type: ignore[arg-type]
    assert all(0 <= metric.chance <= 1 for metric in with_chance if metric.unit == "share")  # type: ignore[operator]
    assert all(how for how in result.verbs.values()) and result.verbs
    keys = [record.key for record in read_samples(folder)]
    assert keys and len(set(keys)) == len(keys)
    assert read_result(folder) == result


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_a_model_without_verbs_is_refused_by_name(benchmark: str, tmp_path: Path) -> None:
    predictor = next(iter(predictors("clip").values()))

    class Mute(type(predictor)):  # type: ignore[misc]
        VERBS = ("continue_document",)  # which no benchmark asks for

    mute = Mute.__new__(Mute)
    mute.__dict__.update(predictor.__dict__)
    (lacking, *_) = missing(Mute.VERBS, BENCHMARKS[benchmark].literal("REQUIRES", ()))
    with pytest.raises(MissingVerb, match=f"has no verb '{lacking}': it offers continue_document"):
        evaluate(mute, [benchmark], BENCHMARKS[benchmark].load().tiny_data(tmp_path))

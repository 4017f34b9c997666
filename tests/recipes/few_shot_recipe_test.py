"""The recipe: every method from the command line on a tiny trained base, and what it refuses."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from diptych.capabilities.folder import write_model
from diptych.capabilities.load import load
from diptych.cli import main
from diptych.core.errors import ConfigError
from diptych.core.losses import total
from diptych.core.records.results import read_result
from diptych.core.seeding import seed_everything
from diptych.data.batches.image_text import ImagePreprocessing, ImageTextConfig, ImageTextProcessor, TextPreprocessing
from diptych.data.derived.few_shot import classes_of, shots
from diptych.data.derived.subset import Subset
from diptych.data.loading.loader import Loader, evaluation_batches
from diptych.data.pixels.decode import decode
from diptych.data.scenes.draw import SceneConfig
from diptych.data.scenes.source import Scenes
from diptych.data.words.tokenizer import Tokenizer
from diptych.evaluation.runner import evaluate
from diptych.models.contrastive import clip
from diptych.recipes.few_shot import RATES, few_shot

CLASSES = ("circle", "square", "triangle")
WORLD = SceneConfig(size=32, objects=1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP that has seen scenes for a few seconds."""
    source = Subset(Scenes("train", config=WORLD), range(512))
    tokenizer = Tokenizer.fit([text for index in range(200) for text in source[index].texts], 300)
    settings = ImageTextConfig(ImagePreprocessing(32, views=None), TextPreprocessing(64))
    seed_everything("few-shot base")
    config = clip.Config.tiny(tokenizer.vocab_size, image_size=32)
    task = clip.ClipTask(config, ImageTextProcessor(settings, tokenizer))
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-3)
    with Loader(source, task.processor, 64, 0) as loader:
        for _ in range(60):
            optimizer.zero_grad()
            total(task.losses(next(loader))).backward()
            optimizer.step()
    folder = tmp_path_factory.mktemp("base")
    write_model(task.eval().predictor(), folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of three shapes in class folders: four of each to train on, three to test."""
    folder = tmp_path_factory.mktemp("shapes")
    source, seen = Scenes("train", config=WORLD), Counter[str]()
    for index in range(200):
        sample = source[index]
        name = str(sample.meta["class"])
        if name not in CLASSES or seen[name] == 7:
            continue
        place = folder / ("train" if seen[name] < 4 else "test") / name
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(decode(sample.image)).save(place / f"{index}.png")
        seen[name] += 1
    return folder


def run(base: Path, data: Path, place: Path, *more: str) -> int:
    fixed = ["--data", str(data), "--base", str(base), "--run", str(place), "--threads", "1", "--shots", "2"]
    return main(["train", "few_shot", *fixed, "--budget.steps", "3", *more])


@pytest.mark.parametrize("method", RATES)
def test_every_method_from_the_command_line(
    method: str, base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = [] if method == "linear_probe" else ["--forgetting", str(data)]
    assert run(base, data, tmp_path / "run", "--method", method, *others) == 0
    printed = capsys.readouterr().out
    costs = json.loads((tmp_path / "run" / "costs.json").read_text())["stages"]["train"]
    assert f"{costs['trained']:,} trained, {costs['parameters'] - costs['trained']:,} frozen" in printed
    assert 0 < costs["trained"] < costs["parameters"]
    assert printed.count("95 % interval") == 1 + len(others) // 2
    kept = {str(path.parent.parent.relative_to(tmp_path)) for path in (tmp_path / "run").rglob("result.json")}
    elsewhere = {f"run/comparison/1-{data.name}/{side}" for side in ("base", "adapted")} if others else set()
    assert kept == {"run/evaluation", "run/comparison/test/base", *elsewhere}
    result = read_result(tmp_path / "run" / "evaluation" / "zero_shot_classification")
    assert result.counts.evaluated == 9
    assert load(tmp_path / "run").verbs >= {"encode_image", "score"}


def test_captions_are_retrieved_where_there_are_no_classes(base: Path, data: Path, tmp_path: Path) -> None:
    other = tmp_path / "captions"
    other.mkdir()
    lines = ["image,caption"]
    for index in range(4):
        sample = Scenes("train", config=WORLD)[index]
        Image.fromarray(decode(sample.image)).save(other / f"{index}.png")
        lines.append(f"{index}.png,{sample.texts[0]}")
    (other / "captions.csv").write_text("\n".join(lines), encoding="utf-8")
    assert run(base, data, tmp_path / "run", "--method", "lora", "--forgetting", str(other)) == 0
    assert (tmp_path / "run" / "comparison" / "1-captions" / "adapted" / "retrieval" / "result.json").is_file()
    assert run(base, data, tmp_path / "again", "--method", "cocoop", "--forgetting", str(other)) == 2
    assert not (tmp_path / "again" / "checkpoints").exists()


def test_lora_on_pairs_from_the_command_line_to_a_plain_model(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fixed = [
        "--base",
        str(base),
        "--data",
        "scenes?objects=1&size=32",
        "--run",
        str(tmp_path / "run"),
        "--threads",
        "1",
    ]
    few = ["--budget.steps", "3", "--batch_size", "8", "--evaluate_every", "0", "--lora.rank", "2"]
    assert main(["train", "clip_finetune", *fixed, *few]) == 0
    costs = json.loads((tmp_path / "run" / "costs.json").read_text())["stages"]["train"]
    assert f"{costs['trained']:,} trained" in capsys.readouterr().out
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "exported")]) == 0
    texts = ["a red circle", "a star"]
    torch.testing.assert_close(
        load(tmp_path / "exported").encode_text(texts), load(tmp_path / "run").encode_text(texts), rtol=0, atol=1e-5
    )


def test_what_cannot_be_is_refused_before_training(base: Path, data: Path, tmp_path: Path) -> None:
    assert run(base, data, tmp_path / "a", "--method", "linear_probe", "--forgetting", str(data)) == 2
    assert run(base, data, tmp_path / "b", "--shots", "5") == 2
    assert run(base, data, tmp_path / "c", "--test", "val") == 2
    with pytest.raises(ConfigError, match="--base RUN_OR_FOLDER"):
        few_shot().stages()


def test_context_learned_from_a_few_pictures_beats_the_hand_written_prompt(base: Path) -> None:
    source = Scenes("train", config=WORLD)
    places = classes_of(Subset(source, range(600, 900)))
    few = shots(Subset(source, range(600, 900)), 16, 0, places)
    task = replace(few_shot(), base=str(base)).task(list(places))
    rate, told = {"lr": 1e-2, "weight_decay": 0.0}, {"zero_shot_classification": {"templates": "{}"}}
    optimizer = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], **rate)
    batch = next(iter(evaluation_batches(few, task.processor, len(few))))
    accuracies = []
    for steps in (0, 40):  # the context begins as the words of the hand-written prompt
        for _ in range(steps):
            optimizer.zero_grad()
            total(task.losses(batch)).backward()
            optimizer.step()
        test = Scenes("test", 300, WORLD)
        (result,) = evaluate(task.predictor(), ["zero_shot_classification"], test, settings=told)
        accuracies.append(result.metrics["top1"].value)
    assert accuracies[1] > accuracies[0] + 0.05, accuracies
